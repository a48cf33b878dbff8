//! The bytes that a device signs to register, to log in, or to be linked. A signature is good for one nonce on one
//! connection.
//!
//! | field | bytes |
//! |---|---|
//! | context: `columba/1 login`, `columba/1 register` or `columba/1 link`, then a zero byte | 16, 19 or 15 |
//! | nonce of the `Challenge` | 32 |
//! | binding kind (the number of `ChannelBinding`) | 1 |
//! | binding data, empty for `NONE` | 0 or 32 |
//! | login: user id, device id big-endian | 20 |
//! | register: device key, handle | 32 + length of the handle |
//! | link: device key, name | 32 + length of the name |

use sha2::{Digest as _, Sha256};

use crate::{DeviceAddress, v1::ChannelBinding};

/// Label of the TLS exporter used as channel binding (RFC 9266).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 32;

/// What a connection's signature is bound to: the kind and its data (32 bytes, or none).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Which kind the client chose.
    pub kind: ChannelBinding,
    /// 32 bytes; `None` for [`ChannelBinding::None`].
    pub data: Option<[u8; 32]>,
}

impl Binding {
    /// For plain connections.
    pub const NONE: Self = Self { kind: ChannelBinding::None, data: None };

    /// 32 bytes of the TLS exporter with [`EXPORTER_LABEL`] and an empty context.
    pub const fn tls_exporter(secret: [u8; 32]) -> Self {
        Self { kind: ChannelBinding::TlsExporter, data: Some(secret) }
    }

    /// The server's own certificate, DER, as it presents it.
    pub fn server_certificate(der: &[u8]) -> Self {
        Self { kind: ChannelBinding::ServerCertificate, data: Some(Sha256::digest(der).into()) }
    }

    fn append_to(&self, out: &mut Vec<u8>) {
        let kind = match self.kind {
            ChannelBinding::None => 0,
            ChannelBinding::TlsExporter => 1,
            ChannelBinding::ServerCertificate => 2,
        };
        out.push(kind);
        if let Some(data) = &self.data {
            out.extend_from_slice(data);
        }
    }
}

/// The bytes signed by `Login`.
pub fn login_bytes(nonce: &[u8; NONCE_BYTES], binding: &Binding, address: DeviceAddress) -> Vec<u8> {
    let mut out = begin(b"columba/1 login\0", nonce, binding);
    out.extend_from_slice(&address.to_bytes());
    out
}

/// The bytes signed by `Register`.
pub fn register_bytes(nonce: &[u8; NONCE_BYTES], binding: &Binding, device_key: &[u8; 32], handle: &str) -> Vec<u8> {
    let mut out = begin(b"columba/1 register\0", nonce, binding);
    out.extend_from_slice(device_key);
    out.extend_from_slice(handle.as_bytes());
    out
}

/// The bytes signed by `BeginLink`.
pub fn link_bytes(nonce: &[u8; NONCE_BYTES], binding: &Binding, device_key: &[u8; 32], name: &str) -> Vec<u8> {
    let mut out = begin(b"columba/1 link\0", nonce, binding);
    out.extend_from_slice(device_key);
    out.extend_from_slice(name.as_bytes());
    out
}

fn begin(context: &[u8], nonce: &[u8; NONCE_BYTES], binding: &Binding) -> Vec<u8> {
    let mut out = context.to_vec();
    out.extend_from_slice(nonce);
    binding.append_to(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeviceId, UserId};

    const NONCE: [u8; NONCE_BYTES] = [7; NONCE_BYTES];

    #[test]
    fn a_signature_for_one_connection_is_worthless_on_another() {
        let address = DeviceAddress { user: UserId::from_bytes([1; 16]), device: DeviceId::FIRST };
        let bindings = [
            Binding::NONE,
            Binding::tls_exporter([0; 32]),
            Binding::tls_exporter([1; 32]),
            Binding::server_certificate(b"one"),
            Binding::server_certificate(b"two"),
        ];
        let signed: Vec<_> = bindings.iter().map(|binding| login_bytes(&NONCE, binding, address)).collect();
        for (at, bytes) in signed.iter().enumerate() {
            assert!(!signed[at + 1..].contains(bytes), "two bindings sign the same bytes");
        }
        assert_ne!(signed[0], login_bytes(&[8; NONCE_BYTES], &Binding::NONE, address));
    }

    #[test]
    fn a_login_signature_is_no_registration_and_neither_links_a_device() {
        let address = DeviceAddress { user: UserId::from_bytes([1; 16]), device: DeviceId::FIRST };
        let login = login_bytes(&NONCE, &Binding::NONE, address);
        let register = register_bytes(&NONCE, &Binding::NONE, &[1; 32], "ada");
        assert_eq!(login.len(), 16 + NONCE_BYTES + 1 + 20);
        assert_eq!(register.len(), 19 + NONCE_BYTES + 1 + 32 + 3);
        assert_ne!(login[..16], register[..16]);
        let link = link_bytes(&NONCE, &Binding::NONE, &[1; 32], "ada");
        assert_eq!(link.len(), 15 + NONCE_BYTES + 1 + 32 + 3);
        assert!(login[..15] != link[..15] && register[..15] != link[..15]);
    }
}
