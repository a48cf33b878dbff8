//! Users and their public keys, as the server gives them.

use bytes::Bytes;
use columba_wire::{DeviceId, PreKeyId, UserId};

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

/// An X25519 public key that a device keeps for long, and its device key's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityKey {
    /// The key.
    pub key: [u8; 32],
    /// Ed25519, over [`columba_wire::keys::identity_key_bytes`].
    pub signature: [u8; 64],
}

/// An X25519 public key for the beginning of a session, and its device key's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreKey {
    /// Its number, of its kind and device.
    pub id: PreKeyId,
    /// The key.
    pub key: [u8; 32],
    /// Ed25519, over [`columba_wire::keys::pre_key_bytes`].
    pub signature: [u8; 64],
}

/// Keys of this device, for the server to hand out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewKeys {
    /// In the place of the one there is; the first upload needs one.
    pub identity: Option<IdentityKey>,
    /// For when no one-time key is left, in the place of an older one; the first upload needs one.
    pub fallback: Option<PreKey>,
    /// Each for one session. Ascending, with higher numbers than any before.
    pub one_time: Vec<PreKey>,
}

/// Keys of a device with which a session to it can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyBundle {
    /// The device.
    pub device: DeviceId,
    /// Its Ed25519 public key, by the server's word.
    pub device_key: [u8; 32],
    /// The long-lived one.
    pub identity: IdentityKey,
    /// A one-time key, or the fallback.
    pub pre_key: PreKey,
    /// Whether it is a one-time key.
    pub one_time: bool,
}
