//! Batches and records: the only durable copy of an entry until its partition is flushed. Little-endian.
//!
//! A batch is what one durable write holds, padded with zeroes to a block:
//!
//! | 0 magic u32 | 4 crc32 u32 | 8 generation u64 | 16 number u32 | 20 bytes u32 | 24 records u32 | 28 zero u32 | 32 records |
//!
//! A record:
//!
//! | 0 len u32 | 4 crc32 u32 | 8 kind u8 | 9 partition u32 | 13 term u64 | 21 index u64 | 29 payload |
//!
//! Invariants
//! - Both crcs cover every byte behind them and are seeded with the segment's generation: what is left over from
//!   before a segment was recycled is never valid.
//! - `number` counts the batches of a segment from 0; `bytes` is the length without padding.
//! - A batch is whole or torn. Sectors of one write land in any order, so a tail is judged per batch, not per record.

use bytes::Bytes;

use crate::{
    env::AlignedBuf,
    ids::{LogIndex, PartitionId, SegmentId, Term},
};

/// Bytes before the first record of a batch.
pub(crate) const BATCH_HEADER_BYTES: usize = 32;
/// Bytes before a record's payload.
pub(crate) const RECORD_HEADER_BYTES: usize = 29;
const BATCH_MAGIC: u32 = 0x4254_4c43;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RecordKind {
    /// An entry of a partition's Raft log.
    Entry = 1,
    /// A partition's hard state; the newest counts.
    State = 2,
    /// First record of a segment: where the segment before it ends.
    Link = 3,
}

impl RecordKind {
    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Entry),
            2 => Some(Self::State),
            3 => Some(Self::Link),
            _ => None,
        }
    }
}

/// A decoded record; its payload lies at `at` in what was decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: RecordKind,
    pub(crate) partition: PartitionId,
    pub(crate) term: Term,
    pub(crate) index: LogIndex,
    pub(crate) payload: Bytes,
}

fn crc(generation: SegmentId, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&generation.get().to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("batches are far below 4 GiB")
}

/// The bytes of a record with this payload.
pub(crate) const fn record_bytes(payload: usize) -> usize {
    RECORD_HEADER_BYTES + payload
}

/// Appends a record whose crc is filled in by [`seal_batch`].
pub(crate) fn encode_record(
    out: &mut AlignedBuf,
    kind: RecordKind,
    partition: PartitionId,
    term: Term,
    index: LogIndex,
    payload: &[u8],
) {
    let mut header = [0; RECORD_HEADER_BYTES];
    header[..4].copy_from_slice(&length(record_bytes(payload.len())).to_le_bytes());
    header[8] = kind as u8;
    header[9..13].copy_from_slice(&partition.get().to_le_bytes());
    header[13..21].copy_from_slice(&term.get().to_le_bytes());
    header[21..].copy_from_slice(&index.get().to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
}

/// Completes a batch: crcs, header, padding. `out` begins with room for the header; returns its length without padding.
pub(crate) fn seal_batch(out: &mut AlignedBuf, generation: SegmentId, number: u32) -> usize {
    let bytes = out.len();
    let mut at = BATCH_HEADER_BYTES;
    let mut records = 0u32;
    while at < bytes {
        let len = u32_at(out, at) as usize;
        let sum = crc(generation, &out[at + 8..at + len]);
        out[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
        at += len;
        records += 1;
    }
    out[..4].copy_from_slice(&BATCH_MAGIC.to_le_bytes());
    out[8..16].copy_from_slice(&generation.get().to_le_bytes());
    out[16..20].copy_from_slice(&number.to_le_bytes());
    out[20..24].copy_from_slice(&length(bytes).to_le_bytes());
    out[24..28].copy_from_slice(&records.to_le_bytes());
    out[28..32].fill(0);
    let sum = crc(generation, &out[8..bytes]);
    out[4..8].copy_from_slice(&sum.to_le_bytes());
    let padded = bytes.next_multiple_of(crate::limits::BLOCK_BYTES);
    out.set_len(padded);
    out[bytes..].fill(0);
    bytes
}

/// A batch header that a position holds, if its magic and generation are those of the segment.
pub(crate) struct BatchHeader {
    pub(crate) number: u32,
    pub(crate) bytes: usize,
    pub(crate) records: u32,
    crc: u32,
}

impl BatchHeader {
    pub(crate) fn decode(image: &[u8], generation: SegmentId) -> Option<Self> {
        if image.len() < BATCH_HEADER_BYTES || u32_at(image, 0) != BATCH_MAGIC || u64_at(image, 8) != generation.get() {
            return None;
        }
        Some(Self {
            number: u32_at(image, 16),
            bytes: u32_at(image, 20) as usize,
            records: u32_at(image, 24),
            crc: u32_at(image, 4),
        })
    }

    /// Whether the batch that begins at `image` is whole: crc over all of it, and zeroes up to the block's end.
    pub(crate) fn is_whole(&self, image: &[u8], generation: SegmentId) -> bool {
        let padded = self.bytes.next_multiple_of(crate::limits::BLOCK_BYTES);
        self.bytes >= BATCH_HEADER_BYTES
            && padded <= image.len()
            && crc(generation, &image[8..self.bytes]) == self.crc
            && image[self.bytes..padded].iter().all(|byte| *byte == 0)
    }
}

/// Decodes the record at the front of `bytes` and checks it. `None` where it is none, or damaged.
pub(crate) fn decode_record(bytes: &Bytes, generation: SegmentId) -> Option<Record> {
    if bytes.len() < RECORD_HEADER_BYTES {
        return None;
    }
    let len = u32_at(bytes, 0) as usize;
    if len < RECORD_HEADER_BYTES || len > bytes.len() || crc(generation, &bytes[8..len]) != u32_at(bytes, 4) {
        return None;
    }
    Some(Record {
        kind: RecordKind::from_number(bytes[8])?,
        partition: PartitionId::new(u32_at(bytes, 9)),
        term: Term::new(u64_at(bytes, 13)),
        index: LogIndex::new(u64_at(bytes, 21)),
        payload: bytes.slice(RECORD_HEADER_BYTES..len),
    })
}
