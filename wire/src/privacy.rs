//! What a user lets others know and do.

use crate::{
    limits::{BLOCKED_MAX, CONTACTS_MAX, FRAME_BYTES_MAX},
    v1,
};

const _: () = assert!((CONTACTS_MAX + BLOCKED_MAX) * (16 + 2) + 64 <= FRAME_BYTES_MAX, "`Contacts` fits into a frame");
const _: () = assert!(2 * CONTACTS_MAX * (16 + 2) + 64 <= FRAME_BYTES_MAX, "`SetContacts` fits into a frame");

/// Whom something is for. Who is blocked is in none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// Everybody with an account.
    #[default]
    Everyone,
    /// The user's contacts.
    Contacts,
    /// Nobody but the user.
    Nobody,
}

/// A user's privacy settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Privacy {
    /// Who may know when it was last online.
    pub last_seen: Audience,
    /// Who may know that it is online.
    pub online: Audience,
    /// Who may let it into groups.
    pub groups: Audience,
    /// Whether others are not told what it has read.
    pub read_receipts_off: bool,
}

/// What to change of privacy settings; `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrivacyChange {
    /// Who may know when it was last online.
    pub last_seen: Option<Audience>,
    /// Who may know that it is online.
    pub online: Option<Audience>,
    /// Who may let it into groups.
    pub groups: Option<Audience>,
    /// Whether others are not told what it has read.
    pub read_receipts_off: Option<bool>,
}

impl Privacy {
    /// The settings after a change.
    #[must_use]
    pub fn with(self, change: PrivacyChange) -> Self {
        Self {
            last_seen: change.last_seen.unwrap_or(self.last_seen),
            online: change.online.unwrap_or(self.online),
            groups: change.groups.unwrap_or(self.groups),
            read_receipts_off: change.read_receipts_off.unwrap_or(self.read_receipts_off),
        }
    }

    /// The settings as a frame.
    pub fn to_frame(self) -> v1::Privacy {
        v1::Privacy {
            last_seen: v1::Audience::from(self.last_seen).into(),
            online: v1::Audience::from(self.online).into(),
            groups: v1::Audience::from(self.groups).into(),
            read_receipts_off: self.read_receipts_off,
        }
    }

    /// What a frame says. An audience that this version does not know is taken for `Nobody`, the safe side.
    pub fn from_frame(frame: v1::Privacy) -> Self {
        let known = |number| v1::Audience::try_from(number).map_or(Audience::Nobody, Audience::from);
        Self {
            last_seen: known(frame.last_seen),
            online: known(frame.online),
            groups: known(frame.groups),
            read_receipts_off: frame.read_receipts_off,
        }
    }
}

impl PrivacyChange {
    /// What a frame asks for; `None` where it names an unknown audience.
    pub fn from_frame(frame: v1::SetPrivacy) -> Option<Self> {
        let known = |number: Option<i32>| match number {
            None => Some(None),
            Some(number) => v1::Audience::try_from(number).ok().map(|audience| Some(audience.into())),
        };
        Some(Self {
            last_seen: known(frame.last_seen)?,
            online: known(frame.online)?,
            groups: known(frame.groups)?,
            read_receipts_off: frame.read_receipts_off,
        })
    }

    /// The request for it.
    pub fn to_frame(self) -> v1::SetPrivacy {
        let number = |audience: Option<Audience>| audience.map(|audience| v1::Audience::from(audience).into());
        v1::SetPrivacy {
            last_seen: number(self.last_seen),
            online: number(self.online),
            groups: number(self.groups),
            read_receipts_off: self.read_receipts_off,
        }
    }
}

impl From<v1::Audience> for Audience {
    fn from(audience: v1::Audience) -> Self {
        match audience {
            v1::Audience::Everyone => Self::Everyone,
            v1::Audience::Contacts => Self::Contacts,
            v1::Audience::Nobody => Self::Nobody,
        }
    }
}

impl From<Audience> for v1::Audience {
    fn from(audience: Audience) -> Self {
        match audience {
            Audience::Everyone => Self::Everyone,
            Audience::Contacts => Self::Contacts,
            Audience::Nobody => Self::Nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_changes_survive_frames() {
        let change = PrivacyChange {
            last_seen: Some(Audience::Contacts),
            online: None,
            groups: Some(Audience::Nobody),
            read_receipts_off: Some(true),
        };
        assert_eq!(PrivacyChange::from_frame(change.to_frame()), Some(change));
        let privacy = Privacy::default().with(change);
        assert_eq!(Privacy::from_frame(privacy.to_frame()), privacy);
        assert_eq!(privacy.online, Audience::Everyone, "what is absent stays as it is");
    }

    #[test]
    fn an_unknown_audience_is_refused_in_a_change_and_nobody_in_settings() {
        let change = v1::SetPrivacy { online: Some(9), ..v1::SetPrivacy::default() };
        assert_eq!(PrivacyChange::from_frame(change), None);
        let privacy = Privacy::from_frame(v1::Privacy { online: 9, ..v1::Privacy::default() });
        assert_eq!(privacy.online, Audience::Nobody);
    }
}
