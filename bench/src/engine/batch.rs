//! A batch of the plain logs: a header, then the operations one after another, then zeroes up to a block where asked.
//!
//! | 0 magic u32 | 4 body length u32 | 8 number of the batch u64 | 16 crc32 of what follows u32 | 20 body |
//!
//! Little-endian. The least that a log must write to be read again after a crash: it is a floor, not a format.
//!
//! Invariants
//! - Batches of a log are numbered from 1 without gaps, so a batch left over from an earlier round is never taken.

use super::{
    rows::{inbox_key, inbox_value, message_key, message_value},
    workload::Op,
};

const MAGIC: u32 = 0xC01B_BA7C;
/// Bytes in front of a batch's body.
pub(crate) const HEADER_BYTES: usize = 20;
/// Bytes of a batch, at most: a scan reads as many at once.
pub(crate) const BATCH_BYTES_MAX: usize = 4 << 20;

/// A place to write a batch to.
pub(crate) trait Sink {
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);
    /// Everything so far.
    fn bytes(&mut self) -> &mut [u8];
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn bytes(&mut self) -> &mut [u8] {
        self
    }
}

impl Sink for columba_engine::env::AlignedBuf {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn bytes(&mut self) -> &mut [u8] {
        self
    }
}

/// Encodes batch `number` into `out`, which is empty.
pub(crate) fn encode(number: u64, ops: &[Op], out: &mut impl Sink) {
    assert!(out.bytes().is_empty(), "a batch begins its buffer");
    out.put(&[0; HEADER_BYTES]);
    for op in ops {
        match op {
            Op::Message(message) => {
                out.put(&message_key(message.chat, message.seq.get()));
                out.put(&message_value(message));
            }
            Op::Append(append) => {
                out.put(&inbox_key(append.device, append.position));
                out.put(&inbox_value(append));
            }
            Op::Trim(trim) => {
                out.put(&inbox_key(trim.device, trim.from));
                out.put(&trim.through.to_be_bytes());
            }
        }
    }
    let bytes = out.bytes();
    assert!(bytes.len() <= BATCH_BYTES_MAX, "a batch of {} bytes", bytes.len());
    let body_bytes = u32::try_from(bytes.len() - HEADER_BYTES).expect("a batch has at most 4 MiB");
    let crc = crc32fast::hash(&bytes[HEADER_BYTES..]);
    bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[4..8].copy_from_slice(&body_bytes.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes[16..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// Length of batch `number`, header included, if `bytes` begin with it whole.
pub(crate) fn check(number: u64, bytes: &[u8]) -> Option<usize> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let found = bytes.get(8..16)?.try_into().ok().map(u64::from_le_bytes)?;
    if word(0)? != MAGIC || found != number {
        return None;
    }
    let end = HEADER_BYTES + usize::try_from(word(4)?).ok()?;
    (crc32fast::hash(bytes.get(HEADER_BYTES..end)?) == word(16)?).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::workload::{Shape, Workload};

    #[test]
    fn a_torn_batch_or_one_of_an_earlier_round_is_not_taken() {
        let shape = Shape { chats: 5, zipf: 1.0, inbox_every: 2, inbox_trim: 2, seed: 1 };
        let (mut ops, mut bytes) = (Vec::new(), Vec::new());
        Workload::new(&shape).next_batch(20, &mut ops);
        encode(9, &ops, &mut bytes);
        assert_eq!(check(9, &bytes), Some(bytes.len()));
        assert_eq!(check(10, &bytes), None);
        assert_eq!(check(9, &bytes[..bytes.len() - 1]), None);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(check(9, &bytes), None);
    }
}
