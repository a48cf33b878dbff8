//! From segment files to a verdict: clean, torn tail, or damage.
//!
//! | what is found | verdict |
//! |---|---|
//! | a segment's batches end where the next one's link says | clean |
//! | the last used segment ends in a batch that is not whole, nothing valid of it behind | torn tail: dropped |
//! | a batch that is not whole, and valid ones behind it, or a link that says it was whole | damage |
//! | a segment that a link names is not there; a header that is not valid | damage |
//! | a segment behind the last used one, without a whole first batch | never used: its first write was torn, or not made |
//!
//! A flipped bit in the very last batch cannot be told from a torn write by this node alone; a later batch or a link
//! proves a batch durable. Replicas settle it for the last one.
//!
//! Invariants
//! - Nothing is ever cut off silently: damage makes the journal refuse to open, and names segment and byte.

use std::path::Path;

use bytes::Bytes;

use super::{
    record::{BATCH_HEADER_BYTES, BatchHeader, Record, RecordKind, decode_record},
    segment::{BATCHES_AT, Link, check_header},
};
use crate::{
    error::{Error, Result},
    ids::SegmentId,
    limits::BLOCK_BYTES,
};

/// A record and where it lies in its segment.
pub(crate) struct Found {
    pub(crate) record: Record,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// The batches of one segment.
#[derive(Default)]
pub(crate) struct ScannedSegment {
    /// Where the segment before it ended; `None` where no batch is whole.
    pub(crate) link: Option<Link>,
    /// Records but the link, in order.
    pub(crate) records: Vec<Found>,
    /// First byte behind the last whole batch.
    pub(crate) end: u64,
    pub(crate) batches: u32,
    /// Whether something of this generation that is not whole lies at the end.
    pub(crate) torn: bool,
}

/// Scans a segment's image, up to `known_end` where the next segment's link gives it.
///
/// # Errors
/// `DamagedFile` for the header, `DamagedBatch` for what cannot be a torn tail.
pub(crate) fn scan(path: &Path, id: SegmentId, image: &Bytes, known_end: Option<Link>) -> Result<ScannedSegment> {
    check_header(path, image, id)?;
    let first = usize::try_from(BATCHES_AT).expect("one block");
    let limit = match known_end {
        Some(link) => usize::try_from(link.end).unwrap_or(usize::MAX).min(image.len()),
        None => image.len(),
    };
    let damaged = |offset: usize, reason: &str| Error::DamagedBatch {
        segment: id,
        offset: offset as u64,
        reason: reason.to_owned(),
    };
    let mut scanned = ScannedSegment::default();
    let mut at = first;
    while at + BLOCK_BYTES <= limit {
        let Some(header) = BatchHeader::decode(&image[at..limit], id) else {
            break;
        };
        if header.number != scanned.batches || !header.is_whole(&image[at..limit], id) {
            break;
        }
        read_records(&mut scanned, id, image, at, &header).ok_or_else(|| damaged(at, "its records do not add up"))?;
        at += header.bytes.next_multiple_of(BLOCK_BYTES);
        scanned.batches += 1;
    }
    scanned.end = at as u64;
    if let Some(link) = known_end {
        if scanned.end != link.end || scanned.batches != link.batches {
            return Err(damaged(at, "a durable batch is not whole"));
        }
        return Ok(scanned);
    }
    // Behind the end there may be what is left of one torn batch, but nothing whole, and nothing of a later number.
    let mut behind = at;
    while behind + BLOCK_BYTES <= image.len() {
        if let Some(header) = BatchHeader::decode(&image[behind..], id) {
            scanned.torn = true;
            if header.number > scanned.batches && header.is_whole(&image[behind..], id) {
                return Err(damaged(at, "it is not whole, and a later one is"));
            }
        }
        behind += BLOCK_BYTES;
    }
    Ok(scanned)
}

fn read_records(
    scanned: &mut ScannedSegment,
    id: SegmentId,
    image: &Bytes,
    at: usize,
    header: &BatchHeader,
) -> Option<()> {
    let end = at + header.bytes;
    let mut next = at + BATCH_HEADER_BYTES;
    for n in 0..header.records {
        let record = decode_record(&image.slice(next..end), id)?;
        let len = super::record::record_bytes(record.payload.len());
        let is_link = record.kind == RecordKind::Link;
        if is_link != (scanned.batches == 0 && n == 0) {
            return None;
        }
        if is_link {
            scanned.link = Some(Link::decode(&record.payload)?);
        } else {
            let (offset, len) = (u32::try_from(next).ok()?, u32::try_from(len).ok()?);
            scanned.records.push(Found { record, offset, len });
        }
        next += len;
    }
    (next == end).then_some(())
}
