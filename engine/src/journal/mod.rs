//! A core's only write-ahead log: the Raft log of all its partitions, one durable write per batch.
//!
//! | module | what it holds |
//! |---|---|
//! | `record` | batches and records, byte by byte |
//! | `segment` | files: header, names, links, recycling |
//! | `index` | where each partition's entries lie |
//! | `recovery` | scanned segments to a verdict: clean, torn tail, damage |
//! | [`writer`] | [`Journal`]: group commit, reads, upkeep |
//!
//! Invariants
//! - What [`Journal::commit`] has returned `Ok` for survives any crash, whole and in order.
//! - After a failed durable write nothing more is written: what it left is unknown until the journal is opened again.
//! - Lack of space is met when a segment is made, never in a durable write: the batch waits, and nothing is lost.
//! - Damage is reported with segment and byte; nothing is cut off silently.

pub(crate) mod index;
pub(crate) mod record;
pub(crate) mod recovery;
pub(crate) mod segment;
pub mod writer;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use self::{
    segment::SEGMENT_VERSION,
    writer::{Entry, Journal, JournalConfig, JournalStats, Recovered, RecoveredPartition, RecoveryReport, TornTail},
};
use crate::{error::Result, ids::SegmentId};

/// Judges the image of a whole segment file, as recovery would: for fuzzing and offline inspection.
///
/// Returns batches and records found.
///
/// # Errors
/// `DamagedFile`, `DamagedBatch`, `UnsupportedFormat`.
pub fn check_image(image: &Bytes, generation: SegmentId) -> Result<(u32, usize)> {
    let scanned = recovery::scan(std::path::Path::new("(image)"), generation, image, None)?;
    Ok((scanned.batches, scanned.records.len()))
}
