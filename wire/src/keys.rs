//! The bytes that a device signs with its device key for each of its public keys in the key directory. Whoever fetches
//! a key checks the signature, so that a server cannot slip in one of its own without the device key.
//!
//! | field | bytes |
//! |---|---|
//! | context: `columba/1 identity key`, `columba/1 fallback key` or `columba/1 one-time key`, then a zero byte | 23 |
//! | user id, device id big-endian | 20 |
//! | of a pre-key: its id, big-endian | 8 |
//! | X25519 public key | 32 |

use crate::DeviceAddress;

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
    append_address(address, &mut out);
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
    append_address(address, &mut out);
    out.extend_from_slice(&id.get().to_be_bytes());
    out.extend_from_slice(key);
    out
}

fn append_address(address: DeviceAddress, out: &mut Vec<u8>) {
    out.extend_from_slice(address.user.as_bytes());
    out.extend_from_slice(&address.device.get().to_be_bytes());
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
