//! Links to groups: what a person passes on so that others can come in.
//!
//! | form | example |
//! |---|---|
//! | in frames | the group's id, and 16 random bytes that the group's admins choose |
//! | to people, in a QR code | `columba:group/` and both in URL-safe base64, 43 characters |

use core::{fmt, str::FromStr};

use data_encoding::BASE64URL_NOPAD;

use crate::ids::{ChatId, InvalidId};

const SCHEME: &str = "columba:group/";
const NOT_A_LINK: InvalidId = InvalidId { kind: "link to a group", expected: "columba:group/ and 43 characters" };

/// What lets somebody into a group: 16 random bytes. It is not printed: who has it can come in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InviteSecret([u8; 16]);

impl InviteSecret {
    /// Wraps 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The byte form, as in frames and rows.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl TryFrom<&[u8]> for InviteSecret {
    type Error = InvalidId;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidId> {
        let bytes = bytes.try_into().map_err(|_| InvalidId { kind: "secret of a link", expected: "16 bytes" })?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for InviteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteSecret(..)")
    }
}

/// A link to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InviteLink {
    /// Where it leads to.
    pub group: ChatId,
    /// What lets its holder in.
    pub secret: InviteSecret,
}

impl fmt::Display for InviteLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(self.group.as_bytes());
        bytes[16..].copy_from_slice(self.secret.as_bytes());
        write!(f, "{SCHEME}{}", BASE64URL_NOPAD.encode(&bytes))
    }
}

impl FromStr for InviteLink {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let encoded = text.trim().strip_prefix(SCHEME).ok_or(NOT_A_LINK)?;
        let bytes = BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| NOT_A_LINK)?;
        let (group, secret) = bytes.split_at_checked(16).ok_or(NOT_A_LINK)?;
        Ok(Self {
            group: ChatId::try_from(group).map_err(|_| NOT_A_LINK)?,
            secret: InviteSecret::try_from(secret).map_err(|_| NOT_A_LINK)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_again_and_its_secret_is_not_in_logs() {
        let link = InviteLink { group: ChatId::from_bytes([0xfb; 16]), secret: InviteSecret::from_bytes([0x3f; 16]) };
        let text = link.to_string();
        assert_eq!(text, "columba:group/-_v7-_v7-_v7-_v7-_v7-z8_Pz8_Pz8_Pz8_Pz8_Pz8");
        assert_eq!(format!(" {text}\n").parse(), Ok(link));
        assert_eq!(format!("{:?}", link.secret), "InviteSecret(..)");
        for wrong in
            ["", "columba:group/", "columba:link/7KQ29XWD", &text[1..], &text[..text.len() - 1], &format!("{text}A")]
        {
            assert_eq!(wrong.parse::<InviteLink>(), Err(NOT_A_LINK), "{wrong}");
        }
    }
}
