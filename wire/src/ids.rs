//! Identifiers: byte forms, order, display. Checked where bytes come in, trusted afterwards.
//!
//! | type | bytes | form |
//! |---|---|---|
//! | `UserId` | 16 | random, given at registration |
//! | `ChatId` | 16 | 1:1: from both user ids ([`ChatId::direct`]); groups: from who made it ([`ChatId::group`]) |
//! | `DeviceId` | 4 | number within the user, 1 to 2^24 - 1, never reused |
//! | `MessageSeq` | 8 | place in the chat, dense, from 1 |
//! | `ClientSeq` | 8 | per device, grows with each new message, from 1 |

use core::fmt;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// Bytes that are not an identifier: wrong length, or zero where zero is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} must be {expected}")]
pub struct InvalidId {
    /// Which identifier was expected.
    pub kind: &'static str,
    /// What it must look like.
    pub expected: &'static str,
}

macro_rules! id16 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Wraps 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The byte form, as in frames and keys.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// A stable 64-bit hash of the id, for placement. The same on every node and in every version.
            pub fn placement_hash(&self) -> u64 {
                // The ids are uniform already (random or SHA-256), so the first eight bytes are a hash;
                // the multiplication guards against ids that a careless embedder counts up.
                let head = u64::from_be_bytes(self.0[..8].try_into().expect("8 of 16 bytes"));
                let tail = u64::from_be_bytes(self.0[8..].try_into().expect("8 of 16 bytes"));
                (head ^ tail.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = InvalidId;

            fn try_from(bytes: &[u8]) -> Result<Self, InvalidId> {
                let bytes = bytes.try_into().map_err(|_| InvalidId { kind: stringify!($name), expected: "16 bytes" })?;
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl core::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let bytes = HEXLOWER
                    .decode(text.as_bytes())
                    .map_err(|_| InvalidId { kind: stringify!($name), expected: "32 lower-case hex digits" })?;
                Self::try_from(bytes.as_slice())
            }
        }
    };
}

id16! {
    /// A person (or bot). 16 random bytes given at registration.
    UserId
}
id16! {
    /// A conversation: 1:1 or a group. 16 bytes.
    ChatId
}

impl ChatId {
    /// The 1:1 chat of two users: SHA-256 over "columba/1 direct", the lower id, the higher id; first 16 bytes.
    ///
    /// The order of the arguments does not matter. A chat with oneself is allowed ("notes").
    pub fn direct(a: UserId, b: UserId) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let mut hash = Sha256::new();
        hash.update(b"columba/1 direct");
        hash.update(low.as_bytes());
        hash.update(high.as_bytes());
        let digest = hash.finalize();
        Self(digest[..16].try_into().expect("16 of 32 bytes"))
    }

    /// The group that a device has made by the change with this client seq: SHA-256 over "columba/1 group", user id,
    /// device id and client seq, big-endian; first 16 bytes. So a retry makes the same group.
    pub fn group(creator: DeviceAddress, client_seq: ClientSeq) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"columba/1 group");
        hash.update(creator.to_bytes());
        hash.update(client_seq.get().to_be_bytes());
        let digest = hash.finalize();
        Self(digest[..16].try_into().expect("16 of 32 bytes"))
    }
}

/// A device within its user: a number from 1, never reused. 4 bytes, big-endian in keys; the first is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(u32);

impl DeviceId {
    /// The first device of a user.
    pub const FIRST: Self = Self(1);

    /// The last device that a user can have.
    pub const LAST: Self = Self((1 << 24) - 1);

    /// Checks the number.
    ///
    /// # Errors
    /// `InvalidId` for 0, and above [`Self::LAST`].
    pub const fn new(number: u32) -> Result<Self, InvalidId> {
        if number == 0 || number > Self::LAST.0 {
            return Err(InvalidId { kind: "DeviceId", expected: "a number from 1 to 16777215" });
        }
        Ok(Self(number))
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A device, in full: user and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceAddress {
    /// Whose device.
    pub user: UserId,
    /// Which one.
    pub device: DeviceId,
}

impl DeviceAddress {
    /// User and number, big-endian: as it is signed, and as it is in keys.
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(self.user.as_bytes());
        bytes[16..].copy_from_slice(&self.device.get().to_be_bytes());
        bytes
    }
}

impl fmt::Display for DeviceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.user, self.device)
    }
}

/// Position of a message in its chat: dense, from 1, given in `apply`, never reused. 8 bytes, big-endian in keys.
///
/// `MessageSeq::ZERO` is "before the first": the value of a watermark that has not moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageSeq(u64);

impl MessageSeq {
    /// Before the first message.
    pub const ZERO: Self = Self(0);
    /// Above every message.
    pub const MAX: Self = Self(u64::MAX);

    /// Wraps a number.
    pub const fn new(seq: u64) -> Self {
        Self(seq)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The seq after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The seq before this one; `ZERO` stays `ZERO`.
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for MessageSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A device's own number for a message: with the device, its idempotency key. From 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientSeq(u64);

impl ClientSeq {
    /// Wraps a number.
    pub const fn new(seq: u64) -> Self {
        Self(seq)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ClientSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Checks a handle: 3 to 32 bytes of `a-z 0-9 _ . -`, first a letter or digit.
pub fn handle_is_valid(handle: &str) -> bool {
    let bytes = handle.as_bytes();
    let allowed = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-');
    (crate::limits::HANDLE_BYTES_MIN..=crate::limits::HANDLE_BYTES_MAX).contains(&bytes.len())
        && bytes.iter().all(allowed)
        && bytes[0].is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_derive_the_same_direct_chat() {
        let (a, b) = (UserId::from_bytes([1; 16]), UserId::from_bytes([2; 16]));
        assert_eq!(ChatId::direct(a, b), ChatId::direct(b, a));
        assert_ne!(ChatId::direct(a, b), ChatId::direct(a, a));
    }

    #[test]
    fn ids_of_the_wrong_length_are_refused() {
        assert!(UserId::try_from(&[0u8; 15][..]).is_err());
        assert!(ChatId::try_from(&[0u8; 17][..]).is_err());
        assert!(DeviceId::new(0).is_err());
    }

    #[test]
    fn handles_are_checked() {
        for good in ["ada", "a.b-c_9", "0x0"] {
            assert!(handle_is_valid(good), "{good}");
        }
        for bad in ["", "ab", "Ada", "-ada", "a b c", "ä-umlaut", &"a".repeat(33)] {
            assert!(!handle_is_valid(bad), "{bad}");
        }
    }
}
