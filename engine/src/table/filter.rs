//! A Bloom filter over key prefixes: the kind byte and the 16-byte id that every key begins with.
//!
//! 10 bits a prefix and 7 probes: about 1 % of the questions about absent ids read a block in vain.
//!
//! Invariants
//! - A prefix that was added is never denied.

use crate::background::Slice;

/// Bytes of a key that the filter sees.
pub const PREFIX_BYTES: usize = 17;
const BITS_PER_PREFIX: usize = 10;
const PROBES: u64 = 7;
const HASHES_PER_CHECKPOINT: usize = 1024;

/// The part of a key that the filter sees.
pub fn prefix(key: &[u8]) -> &[u8] {
    &key[..key.len().min(PREFIX_BYTES)]
}

/// A stable 64-bit hash: FNV-1a with a final mix. Part of the file format.
pub fn hash(prefix: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in prefix {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ hash >> 29
}

/// Builds the bits for these hashes, piece by piece.
pub async fn build(hashes: &[u64], slice: &mut Slice) -> Vec<u8> {
    let bits = (hashes.len() * BITS_PER_PREFIX).max(64).next_multiple_of(8);
    let mut bytes = vec![0u8; bits / 8];
    for piece in hashes.chunks(HASHES_PER_CHECKPOINT) {
        for hash in piece {
            for bit in probes(*hash, bits) {
                bytes[bit / 8] |= 1 << (bit % 8);
            }
        }
        slice.checkpoint().await;
    }
    bytes
}

/// Whether a key may be there. An empty filter denies nothing.
pub fn may_contain(bits: &[u8], key: &[u8]) -> bool {
    bits.is_empty() || probes(hash(prefix(key)), bits.len() * 8).all(|bit| bits[bit / 8] & (1 << (bit % 8)) != 0)
}

fn probes(hash: u64, bits: usize) -> impl Iterator<Item = usize> {
    let step = hash.rotate_left(32) | 1;
    (0..PROBES).map(move |n| {
        let probe = hash.wrapping_add(n.wrapping_mul(step)) % bits as u64;
        usize::try_from(probe).expect("below the number of bits")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        background::Pacer,
        env::{clock::ManualClock, executor::block_on},
    };

    #[test]
    fn what_was_added_is_found_and_little_else() {
        let hashes: Vec<_> = (0..10_000u32).map(|n| hash(&n.to_le_bytes())).collect();
        let pacer = Pacer::new(ManualClock::default());
        let bits = block_on(build(&hashes, &mut pacer.slice()));
        assert!((0..10_000u32).all(|n| may_contain(&bits, &n.to_le_bytes())));
        let wrong = (10_000..30_000u32).filter(|n| may_contain(&bits, &n.to_le_bytes())).count();
        assert!(wrong < 600, "{wrong} of 20,000");
    }
}
