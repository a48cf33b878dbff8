//! Public keys in the key directory, and the bytes that a device signs with its device key for each of them. Whoever
//! fetches a key checks the signature, so that a server cannot slip in one of its own without the device key.
//!
//! | field | bytes |
//! |---|---|
//! | context: `columba/1 identity key`, `columba/1 fallback key` or `columba/1 one-time key`, then a zero byte | 23 |
//! | user id, device id big-endian | 20 |
//! | of a pre-key: its id, big-endian | 8 |
//! | X25519 public key | 32 |

use core::fmt;

use bytes::Bytes;

use crate::{DeviceAddress, DeviceId, v1};

/// Number of a pre-key, per device and kind: from 1, growing. 8 bytes, big-endian where it is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PreKeyId(u64);

impl PreKeyId {
    /// Below every key.
    pub const ZERO: Self = Self(0);

    /// The number as it is on the wire.
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number as it is on the wire.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// An X25519 public key that a device keeps for long, with the device key's signature of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IdentityKey {
    /// The key.
    pub key: [u8; 32],
    /// Ed25519, over [`identity_key_bytes`].
    pub signature: [u8; 64],
}

/// An X25519 public key for the beginning of a session, with the device key's signature of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PreKey {
    /// Its number, of its kind and device.
    pub id: PreKeyId,
    /// The key.
    pub key: [u8; 32],
    /// Ed25519, over [`pre_key_bytes`].
    pub signature: [u8; 64],
}

/// Keys of a device, for the server to hand out.
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

// A dump names keys; their bytes say nothing to anybody.
impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityKey").finish_non_exhaustive()
    }
}

impl fmt::Debug for PreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PreKey({})", self.id.get())
    }
}

impl IdentityKey {
    /// Of the fields of a frame; `None` where one has the wrong length.
    pub fn parse(key: &[u8], signature: &[u8]) -> Option<Self> {
        Some(Self { key: key.try_into().ok()?, signature: signature.try_into().ok()? })
    }
}

impl PreKey {
    /// Of a frame; `None` where a field has the wrong length.
    pub fn parse(frame: &v1::PreKey) -> Option<Self> {
        let IdentityKey { key, signature } = IdentityKey::parse(&frame.key, &frame.signature)?;
        Some(Self { id: PreKeyId::new(frame.id), key, signature })
    }

    /// As a frame.
    pub fn to_frame(&self) -> v1::PreKey {
        let Self { id, key, signature } = self;
        v1::PreKey { id: id.get(), key: Bytes::copy_from_slice(key), signature: Bytes::copy_from_slice(signature) }
    }
}

/// What kind of pre-key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreKeyKind {
    /// For any number of sessions.
    Fallback,
    /// For one session.
    OneTime,
}

/// The bytes signed for an identity key.
pub fn identity_key_bytes(address: DeviceAddress, key: &[u8; 32]) -> Vec<u8> {
    let mut out = b"columba/1 identity key\0".to_vec();
    out.extend_from_slice(&address.to_bytes());
    out.extend_from_slice(key);
    out
}

/// The bytes signed for a pre-key.
pub fn pre_key_bytes(kind: PreKeyKind, address: DeviceAddress, id: PreKeyId, key: &[u8; 32]) -> Vec<u8> {
    let context = match kind {
        PreKeyKind::Fallback => b"columba/1 fallback key\0",
        PreKeyKind::OneTime => b"columba/1 one-time key\0",
    };
    let mut out = context.to_vec();
    out.extend_from_slice(&address.to_bytes());
    out.extend_from_slice(&id.get().to_be_bytes());
    out.extend_from_slice(key);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeviceId, UserId};

    #[test]
    fn a_signature_is_good_for_one_key_of_one_kind_and_device() {
        let address = DeviceAddress { user: UserId::from_bytes([1; 16]), device: DeviceId::FIRST };
        let other = DeviceAddress { user: UserId::from_bytes([2; 16]), ..address };
        let (one, two) = (PreKeyId::new(1), PreKeyId::new(2));
        let signed = [
            identity_key_bytes(address, &[3; 32]),
            identity_key_bytes(other, &[3; 32]),
            pre_key_bytes(PreKeyKind::Fallback, address, one, &[3; 32]),
            pre_key_bytes(PreKeyKind::OneTime, address, one, &[3; 32]),
            pre_key_bytes(PreKeyKind::OneTime, address, two, &[3; 32]),
            pre_key_bytes(PreKeyKind::OneTime, address, one, &[4; 32]),
            pre_key_bytes(PreKeyKind::OneTime, other, one, &[3; 32]),
        ];
        for (at, bytes) in signed.iter().enumerate() {
            assert!(!signed[at + 1..].contains(bytes), "two keys sign the same bytes");
        }
        assert_eq!(signed[0].len(), 23 + 20 + 32);
        assert_eq!(signed[2].len(), 23 + 20 + 8 + 32);
    }
}
