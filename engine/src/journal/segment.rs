//! Segment files: header, names, the link from one to the next.
//!
//! | block 0 | 0 magic 8 bytes | 8 version u32 | 12 crc32 u32 | 16 generation u64 | 24 zero |
//! | from block 1 | batches |
//!
//! A file is `seg-<generation>` while it is part of the journal, or ready to become the next part, and `spare-<id>`
//! while it waits for use. A segment is made ready (header durable, renamed, directory synced) before it is needed,
//! so that going over to it costs nothing but the next batch's own write.
//!
//! Invariants
//! - The first record of a segment's first batch is a link: which segment came before, and where that one ended.
//! - A generation is never reused, so nothing left in a recycled file is valid.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::{
    env::AlignedBuf,
    error::{Error, Result},
    ids::SegmentId,
    limits::BLOCK_BYTES,
};

/// Where batches begin.
pub(crate) const BATCHES_AT: u64 = BLOCK_BYTES as u64;
const MAGIC: &[u8; 8] = b"COLJRNL1";
/// The version of segments that this program writes, and the newest it reads.
pub const SEGMENT_VERSION: u32 = 1;

/// Where a segment ended, as the next one says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The segment before; `ZERO` at the beginning of a journal.
    pub(crate) segment: SegmentId,
    /// First byte behind its last batch.
    pub(crate) end: u64,
    /// Its batches.
    pub(crate) batches: u32,
}

impl Link {
    pub(crate) fn encode(self) -> [u8; 20] {
        let mut out = [0; 20];
        out[..8].copy_from_slice(&self.segment.get().to_le_bytes());
        out[8..16].copy_from_slice(&self.end.to_le_bytes());
        out[16..].copy_from_slice(&self.batches.to_le_bytes());
        out
    }

    pub(crate) fn decode(payload: &Bytes) -> Option<Self> {
        let payload: &[u8; 20] = payload[..].try_into().ok()?;
        Some(Self {
            segment: SegmentId::new(u64::from_le_bytes(payload[..8].try_into().ok()?)),
            end: u64::from_le_bytes(payload[8..16].try_into().ok()?),
            batches: u32::from_le_bytes(payload[16..].try_into().ok()?),
        })
    }
}

fn header_crc(generation: u64, version: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(MAGIC);
    hasher.update(&version.to_le_bytes());
    hasher.update(&generation.to_le_bytes());
    hasher.finalize()
}

/// The header block of a segment.
pub(crate) fn encode_header(generation: SegmentId) -> AlignedBuf {
    let mut block = AlignedBuf::zeroed(BLOCK_BYTES);
    block[..8].copy_from_slice(MAGIC);
    block[8..12].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
    block[12..16].copy_from_slice(&header_crc(generation.get(), SEGMENT_VERSION).to_le_bytes());
    block[16..24].copy_from_slice(&generation.get().to_le_bytes());
    block
}

/// Checks a segment's header block.
///
/// # Errors
/// `DamagedFile`, `UnsupportedFormat`.
pub(crate) fn check_header(path: &Path, block: &[u8], generation: SegmentId) -> Result<()> {
    let damaged = |reason: &str| Error::DamagedFile { path: path.to_owned(), reason: reason.to_owned() };
    if block.len() < BLOCK_BYTES || block[..8] != *MAGIC {
        return Err(damaged("it is not a journal segment"));
    }
    let field = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("4 bytes"));
    let found = u64::from_le_bytes(block[16..24].try_into().expect("8 bytes"));
    if field(12) != header_crc(found, field(8)) || block[24..BLOCK_BYTES].iter().any(|byte| *byte != 0) {
        return Err(damaged("its header does not match its crc"));
    }
    if field(8) > SEGMENT_VERSION {
        return Err(Error::UnsupportedFormat { path: path.to_owned(), found: field(8), supported: SEGMENT_VERSION });
    }
    if found != generation.get() {
        return Err(damaged("its generation is not the one of its name"));
    }
    Ok(())
}

/// The path of a segment.
pub(crate) fn segment_path(dir: &Path, id: SegmentId) -> PathBuf {
    dir.join(format!("seg-{:016x}", id.get()))
}

/// The path of a spare file.
pub(crate) fn spare_path(dir: &Path, id: SegmentId) -> PathBuf {
    dir.join(format!("spare-{:016x}", id.get()))
}

/// The id in a file's name: of a segment, or of a spare.
pub(crate) fn parse_name(name: &str) -> Option<(bool, SegmentId)> {
    let (is_segment, digits) = match name.strip_prefix("seg-") {
        Some(digits) => (true, digits),
        None => (false, name.strip_prefix("spare-")?),
    };
    let id = u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16)?;
    Some((is_segment, SegmentId::new(id)))
}
