//! Link codes: what a person carries from a new device to one that is logged in, by hand or as a QR code.
//!
//! | form | example |
//! |---|---|
//! | in frames | `7KQ29XWD`: 40 random bits, 8 characters of Crockford's base32 |
//! | to people | `7KQ2-9XWD` |
//! | in a QR code | `columba:link/7KQ29XWD/` and the SHA-256 of the device key in hex |

use core::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::ids::InvalidId;

/// Crockford's base32: no I, L, O and U, which are read as others.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a code.
const LEN: usize = 8;
const SCHEME: &str = "columba:link/";
const NOT_A_CODE: InvalidId = InvalidId { kind: "link code", expected: "8 of 0-9 A-Z, like 7KQ2-9XWD" };

/// A link code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkCode([u8; LEN]);

impl LinkCode {
    /// The code of 40 random bits.
    pub fn from_random(bytes: [u8; 5]) -> Self {
        let bits = bytes.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        let mut code = [0; LEN];
        for (at, out) in code.iter_mut().enumerate() {
            let digit = bits >> (5 * (LEN - 1 - at)) & 31;
            *out = ALPHABET[usize::try_from(digit).expect("below 32")];
        }
        Self(code)
    }

    /// As frames hold it.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).expect("its alphabet is ASCII")
    }

    /// What a QR code holds: the code, and whose it is.
    pub fn to_scanned(&self, device_key: &[u8; 32]) -> String {
        format!("{SCHEME}{}/{}", self.as_str(), HEXLOWER.encode(&key_hash(device_key)))
    }
}

/// What a person typed or a machine read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenCode {
    /// The code.
    pub code: LinkCode,
    /// The SHA-256 of the device key, where it was read by a machine.
    pub key_hash: Option<[u8; 32]>,
}

impl GivenCode {
    /// Whether a device with this key is the one that showed the code, as far as it said so.
    pub fn is_of(&self, device_key: &[u8; 32]) -> bool {
        self.key_hash.is_none_or(|hash| hash == key_hash(device_key))
    }
}

fn key_hash(device_key: &[u8; 32]) -> [u8; 32] {
    Sha256::digest(device_key).into()
}

impl fmt::Display for LinkCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = self.as_str().split_at(LEN / 2);
        write!(f, "{first}-{second}")
    }
}

impl fmt::Debug for LinkCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LinkCode {
    type Err = InvalidId;

    /// Case, spaces and dashes do not matter; characters that look alike are the same.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let mut code = [0; LEN];
        let mut len = 0;
        for given in text.bytes().filter(|byte| !matches!(byte, b' ' | b'-')) {
            let byte = match given.to_ascii_uppercase() {
                b'I' | b'L' => b'1',
                b'O' => b'0',
                byte => byte,
            };
            if len == LEN || !ALPHABET.contains(&byte) {
                return Err(NOT_A_CODE);
            }
            code[len] = byte;
            len += 1;
        }
        if len < LEN { Err(NOT_A_CODE) } else { Ok(Self(code)) }
    }
}

impl FromStr for GivenCode {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let Some(scanned) = text.trim().strip_prefix(SCHEME) else {
            return Ok(Self { code: text.parse()?, key_hash: None });
        };
        let (code, hex) = scanned.split_once('/').ok_or(NOT_A_CODE)?;
        let hash = HEXLOWER.decode(hex.as_bytes()).ok().and_then(|hash| hash.try_into().ok());
        Ok(Self { code: code.parse()?, key_hash: Some(hash.ok_or(NOT_A_CODE)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_however_it_was_typed() {
        let code = LinkCode::from_random([0x3c, 0xee, 0x24, 0xf7, 0x8c]);
        assert_eq!((code.as_str(), code.to_string()), ("7KQ29XWC", "7KQ2-9XWC".to_owned()));
        for typed in ["7KQ29XWC", "7kq2-9xwc", " 7kq2 9xwc "] {
            assert_eq!(typed.parse::<LinkCode>().unwrap(), code);
        }
        assert_eq!("iLoO-1100".parse::<LinkCode>().unwrap().as_str(), "11001100");
    }

    #[test]
    fn every_bit_counts() {
        let codes: std::collections::BTreeSet<_> =
            (0..40).map(|bit| LinkCode::from_random((1u64 << bit).to_be_bytes()[3..].try_into().unwrap())).collect();
        assert_eq!(codes.len(), 40);
        assert_eq!(LinkCode::from_random([0; 5]).as_str(), "00000000");
        assert_eq!(LinkCode::from_random([0xff; 5]).as_str(), "ZZZZZZZZ");
        assert_eq!(LinkCode::from_random([0, 0, 0, 0, 33]).as_str(), "00000011");
    }

    #[test]
    fn a_scanned_code_is_of_its_device_alone() {
        let code = LinkCode::from_random([1, 2, 3, 4, 5]);
        let given: GivenCode = code.to_scanned(&[7; 32]).parse().unwrap();
        assert_eq!(given.code, code);
        assert!(given.is_of(&[7; 32]) && !given.is_of(&[8; 32]));
        let typed: GivenCode = code.to_string().parse().unwrap();
        assert!(typed.is_of(&[8; 32]), "who types cannot know");
    }

    #[test]
    fn what_is_no_code_is_none() {
        let not_hex = format!("columba:link/12345678/{}", "+1".repeat(32));
        let (half, short) = ("columba:link/12345678", "columba:link/12345678/00");
        for text in ["", "1234567", "123456789", "1234567U", "1234567ä", half, short, &not_hex] {
            assert!(text.parse::<GivenCode>().is_err(), "{text}");
        }
    }
}
