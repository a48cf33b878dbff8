//! Opening a journal: from the segments in its directory to the state it goes on with.
//!
//! Invariants
//! - One segment's image at a time is in memory.
//! - Where damage is found nothing was changed but the names of segments that were never used.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{JournalConfig, RecoveryReport, Segment, State, TornTail};
use crate::{
    env::Disk,
    error::{Error, Result},
    ids::SegmentId,
    journal::{
        index::Location,
        record::RecordKind,
        recovery::{ScannedSegment, scan},
        segment::{BATCHES_AT, Link, segment_path, spare_path},
    },
    limits::BLOCK_BYTES,
};

/// Bytes read at a time.
const SCAN_BYTES: usize = 1024 * 1024;

/// Reads all segments, judges them, and fills the journal's state with what counts.
pub(super) async fn recover<D: Disk>(
    disk: &D,
    config: &JournalConfig,
    ids: &[SegmentId],
    state: &mut State<D>,
) -> Result<RecoveryReport> {
    let mut report = RecoveryReport::default();
    // From the newest to the oldest: each used segment's link says where the one before it must end.
    let mut known_end: Option<Link> = None;
    let mut scanned: VecDeque<(SegmentId, D::File, ScannedSegment)> = VecDeque::new();
    for id in ids.iter().rev() {
        let path = segment_path(&config.dir, *id);
        let file = disk.open(&path).await?;
        let image = read_whole(&file).await?;
        if let Some(link) = known_end
            && link.segment != *id
        {
            if *id < link.segment {
                let reason = "the segment is missing, and one before it is not".to_owned();
                return Err(Error::DamagedFile { path: segment_path(&config.dir, link.segment), reason });
            }
            // Between a segment and the one its link names: made ready, and passed over after a crash.
            retire(disk, config, state, *id).await?;
            continue;
        }
        let mut found = scan(&path, *id, &image, known_end)?;
        forget_payloads(&mut found);
        match found.link {
            None if known_end.is_none() => {
                if found.torn {
                    report.torn_tail = Some(TornTail { segment: *id, offset: found.end });
                }
                retire(disk, config, state, *id).await?;
            }
            None => {
                let reason = "it holds no whole batch, but the next segment says it does".to_owned();
                return Err(Error::DamagedBatch { segment: *id, offset: BATCHES_AT, reason });
            }
            Some(link) => {
                if known_end.is_none() && found.torn {
                    report.torn_tail = Some(TornTail { segment: *id, offset: found.end });
                }
                known_end = Some(link);
                scanned.push_front((*id, file, found));
            }
        }
    }
    for (id, file, found) in scanned {
        report.segments += 1;
        report.batches += u64::from(found.batches);
        report.records += found.records.len() as u64;
        for item in found.records {
            let partition = item.record.partition;
            match item.record.kind {
                RecordKind::State => {
                    state.states.insert(partition, item.record.payload);
                }
                RecordKind::Entry => {
                    let location = Location { segment: id, offset: item.offset, len: item.len };
                    if !state.index.insert(partition, item.record.index, location) {
                        return Err(Error::DamagedBatch {
                            segment: id,
                            offset: u64::from(item.offset),
                            reason: format!("entry {} of partition {partition} leaves a gap", item.record.index),
                        });
                    }
                }
                RecordKind::Link => {}
            }
        }
        state.segments.push_back(Segment { id, file, end: found.end, batches: found.batches });
    }
    // What is written next goes into a new segment (`sealed`), whose link fixes where this one ended: a torn batch
    // stays behind it for good, and can never look like damage later.
    disk.sync_dir(&config.dir).await?;
    Ok(report)
}

/// Entries are read again when they are needed: one segment's image at a time is in memory, not all.
fn forget_payloads(scanned: &mut ScannedSegment) {
    for found in &mut scanned.records {
        let payload = &mut found.record.payload;
        *payload = if found.record.kind == RecordKind::State { Bytes::copy_from_slice(payload) } else { Bytes::new() };
    }
}

/// A segment that was never used becomes a spare: its generation is not used again.
async fn retire<D: Disk>(disk: &D, config: &JournalConfig, state: &mut State<D>, id: SegmentId) -> Result<()> {
    disk.rename(&segment_path(&config.dir, id), &spare_path(&config.dir, id)).await?;
    state.spares.push_back(id);
    Ok(())
}

async fn read_whole<F: crate::env::DiskFile>(file: &F) -> Result<Bytes> {
    let len = usize::try_from(file.len()).expect("segments fit in memory");
    let mut image = Vec::with_capacity(len);
    while image.len() < len {
        let piece = SCAN_BYTES.min((len - image.len()).next_multiple_of(BLOCK_BYTES));
        let read = file.read(image.len() as u64, piece).await?;
        let wanted = piece.min(len - image.len());
        image.extend_from_slice(&read[..wanted]);
    }
    Ok(Bytes::from(image))
}
