//! Users and their public keys, as the server gives them.

use bytes::Bytes;
use columba_wire::UserId;
pub use columba_wire::{
    Audience, Privacy, PrivacyChange,
    keys::{IdentityKey, KeyBundle, NewKeys, PreKey},
};

/// What a user tells about itself. Any bytes: show them with care.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// What the user is called.
    pub name: Bytes,
    /// A few words.
    pub about: Bytes,
    /// A reference to a picture.
    pub picture: Bytes,
}

/// What to change in one's own profile; `None` stays as it is. Each field has at most 512 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileChange {
    /// What the user is called.
    pub name: Option<Bytes>,
    /// A few words.
    pub about: Option<Bytes>,
    /// A reference to a picture.
    pub picture: Option<Bytes>,
}

/// One's own account, as the server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnAccount {
    /// What everybody may know.
    pub user: User,
    /// What others may know and do.
    pub privacy: Privacy,
    /// Grows with each change of privacy settings, contacts and blocked users.
    pub roster_version: u32,
}

/// Whom a user knows, and whom it has blocked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// The server's copy of the contacts, ascending.
    pub contacts: Vec<UserId>,
    /// Whom the user has blocked, ascending.
    pub blocked: Vec<UserId>,
    /// As in [`OwnAccount`].
    pub version: u32,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Who.
    pub user: UserId,
    /// Its handle.
    pub handle: String,
    /// What it tells about itself.
    pub profile: Profile,
    /// Grows with each change of the profile: of two answers the one with the higher number is the newer.
    pub profile_version: u32,
}
