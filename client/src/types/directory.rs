//! Users and their public keys, as the server gives them.

use bytes::Bytes;
use columba_wire::UserId;
pub use columba_wire::keys::{IdentityKey, KeyBundle, NewKeys, PreKey};

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
