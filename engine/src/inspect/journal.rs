//! A journal's segments, batch by batch, past whatever is damaged.
//!
//! Invariants
//! - The verdict is that of recovery: where this finds no damage, the journal opens, and the other way round.
//! - One segment's image at a time is in memory.

use core::fmt;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::Damage;
use crate::{
    env::Disk,
    error::{Error, Result},
    ids::{LogIndex, PartitionId, SegmentId},
    journal::{
        index::{Index, Location},
        record::{BATCH_HEADER_BYTES, BatchHeader, Record, RecordKind, decode_record, record_bytes},
        segment::{BATCHES_AT, Link, check_header, parse_name},
    },
    limits::BLOCK_BYTES,
    tree::manifest::read_file,
};

/// Why a segment's batches end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// Nothing of this generation is behind the last batch.
    #[default]
    Clean,
    /// A batch that was not written whole: never acknowledged, dropped by recovery.
    Torn,
    /// It has no batch: made ready, and not used yet.
    Unused,
}

/// The entries of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// The first index.
    pub first: LogIndex,
    /// The last index.
    pub last: LogIndex,
    /// How many records, those that were replaced later included.
    pub records: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

impl Entries {
    fn add(&mut self, index: LogIndex, bytes: usize) {
        self.first = if self.records == 0 { index } else { self.first.min(index) };
        self.last = if self.records == 0 { index } else { self.last.max(index) };
        self.records += 1;
        self.bytes += bytes as u64;
    }
}

impl fmt::Display for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{} ({} records, {} bytes)", self.first, self.last, self.records, self.bytes)
    }
}

/// A segment.
#[derive(Clone, Debug, Default)]
pub struct SegmentInspection {
    /// Its generation.
    pub generation: SegmentId,
    /// Its length.
    pub bytes: u64,
    /// Whole batches.
    pub batches: u32,
    /// Records in them, the link not counted.
    pub records: u64,
    /// Hard states among them.
    pub states: u64,
    /// Entries, per partition.
    pub entries: BTreeMap<PartitionId, Entries>,
    /// The segment before it, as its link says: generation, end, batches.
    pub link: Option<(SegmentId, u64, u32)>,
    /// First byte behind the last whole batch.
    pub end: u64,
    /// Why it ends there.
    pub ends: End,
}

/// A journal.
#[derive(Clone, Debug, Default)]
pub struct JournalInspection {
    /// Its directory.
    pub dir: PathBuf,
    /// Segments, oldest first.
    pub segments: Vec<SegmentInspection>,
    /// Files that wait for use.
    pub spares: usize,
    /// What recovery would find of each partition: the entries that count.
    pub partitions: BTreeMap<PartitionId, Entries>,
    /// All damage.
    pub damages: Vec<Damage>,
}

impl fmt::Display for JournalInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (segments, spares) = (self.segments.len(), self.spares);
        writeln!(f, "journal {}: {segments} segments, {spares} spare", self.dir.display())?;
        for segment in &self.segments {
            let ends = match segment.ends {
                End::Clean => "nothing behind it",
                End::Torn => "a torn batch behind it, never acknowledged",
                End::Unused => "not used yet",
            };
            let SegmentInspection { generation, batches, records, states, end, .. } = segment;
            write!(f, "  segment {generation}: {batches} batches, {records} records, {states} states; ")?;
            writeln!(f, "ends at byte {end}, {ends}")?;
            for (partition, entries) in &segment.entries {
                writeln!(f, "    partition {partition}: entries {entries}")?;
            }
        }
        for (partition, entries) in &self.partitions {
            writeln!(f, "  partition {partition}: entries {entries} count")?;
        }
        self.damages.iter().try_for_each(|damage| writeln!(f, "  {damage}"))
    }
}

/// Looks at a journal.
///
/// # Errors
/// `Io` where the directory cannot be listed.
pub async fn inspect_journal<D: Disk>(disk: &D, dir: &Path) -> Result<JournalInspection> {
    let mut found = JournalInspection { dir: dir.to_owned(), ..JournalInspection::default() };
    let mut index = Index::default();
    let mut scans: Vec<(PathBuf, Scan)> = Vec::new();
    for entry in disk.list(dir).await? {
        let Some((is_segment, generation)) = parse_name(&entry.name) else { continue };
        if !is_segment {
            found.spares += 1;
            continue;
        }
        let path = dir.join(&entry.name);
        match read_file(disk, &path).await {
            Ok(image) => {
                let scan = scan(&path, generation, &Bytes::from(image), &mut |_, _, _| true);
                scans.push((path, scan));
            }
            Err(error) => found.damages.push(Damage::of(&path, 0, &error)),
        }
    }
    scans.sort_by_key(|(_, scan)| scan.segment.generation);
    judge(&mut found, &mut scans);
    for (path, scan) in &scans {
        for (partition, at, len, offset) in &scan.found {
            let location = Location { segment: scan.segment.generation, offset: *offset, len: *len };
            if index.insert(*partition, *at, location) {
                found.partitions.entry(*partition).or_default().add(*at, record_payload(*len));
            } else {
                let reason = format!("entry {at} of partition {partition} leaves a gap");
                found.damages.push(Damage::new(path, u64::from(*offset), reason));
            }
        }
    }
    for (partition, entries) in &mut found.partitions {
        if let Some((first, last)) = index.bounds(*partition) {
            (entries.first, entries.last) = (first, last);
        }
    }
    found.segments = scans.into_iter().map(|(_, scan)| scan.segment).collect();
    found.damages.sort();
    Ok(found)
}

/// Looks at one segment file by itself: what its links would prove is not known then.
///
/// # Errors
/// `Malformed` where the file's name is not that of a segment; `Io`.
pub async fn inspect_segment<D: Disk>(disk: &D, path: &Path) -> Result<JournalInspection> {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(parse_name);
    let (_, generation) = name.ok_or(Error::Malformed { what: "segment", reason: "its name is not that of one" })?;
    let image = Bytes::from(read_file(disk, path).await?);
    let Scan { segment, damages, .. } = scan(path, generation, &image, &mut |_, _, _| true);
    let dir = path.parent().unwrap_or(path).to_owned();
    let partitions = segment.entries.clone();
    Ok(JournalInspection { dir, segments: vec![segment], spares: 0, partitions, damages })
}

fn record_payload(len: u32) -> usize {
    len as usize - record_bytes(0)
}

/// What the links between segments prove.
fn judge(found: &mut JournalInspection, scans: &mut [(PathBuf, Scan)]) {
    let mut wanted: Option<Link> = None;
    let mut unused = Vec::new();
    for n in (0..scans.len()).rev() {
        let (path, scan) = &scans[n];
        let generation = scan.segment.generation;
        if let Some(link) = wanted {
            if generation > link.segment {
                // Made ready, and passed over after a crash.
                unused.push(n);
                continue;
            }
            if generation < link.segment && link.segment != SegmentId::ZERO {
                let reason = format!("segment {} is missing, and this one before it is not", link.segment);
                found.damages.push(Damage::new(path, 0, reason));
            } else if scan.segment.end != link.end || scan.segment.batches != link.batches {
                let reason = format!(
                    "the next segment says that {} batches up to byte {} were durable; {} are whole",
                    link.batches, link.end, scan.segment.batches
                );
                found.damages.push(Damage::new(path, scan.segment.end, reason));
            }
        }
        found.damages.extend(scan.damages.iter().cloned());
        match scan.link {
            Some(link) => wanted = Some(link),
            None if wanted.is_none() && scan.segment.batches == 0 => unused.push(n),
            // Its first batch is damaged: what the segments before it must have is not known.
            None => wanted = None,
        }
    }
    for n in unused {
        let scan = &mut scans[n].1;
        if scan.segment.batches == 0 && scan.segment.ends == End::Clean {
            scan.segment.ends = End::Unused;
        }
        scan.found.clear();
    }
}

/// A segment's records, with damage on the way.
#[derive(Default)]
pub(crate) struct Scan {
    pub(crate) segment: SegmentInspection,
    link: Option<Link>,
    /// Entries: partition, index, bytes of the record, place.
    found: Vec<(PartitionId, LogIndex, u32, u32)>,
    damages: Vec<Damage>,
}

/// Reads what can be read of a segment's image; `each` is told of every record, with batch and place, and says whether
/// to go on with the batch.
pub(crate) fn scan(
    path: &Path,
    generation: SegmentId,
    image: &Bytes,
    each: &mut dyn FnMut(u32, u64, &Record) -> bool,
) -> Scan {
    let mut scan = Scan::default();
    (scan.segment.generation, scan.segment.bytes) = (generation, image.len() as u64);
    if let Err(error) = check_header(path, image, generation) {
        scan.damages.push(Damage::of(path, 0, &error));
    }
    let mut at = usize::try_from(BATCHES_AT).expect("one block");
    scan.segment.end = BATCHES_AT;
    while at + BLOCK_BYTES <= image.len() {
        let header = BatchHeader::decode(&image[at..], generation);
        let header = header.filter(|header| header.is_whole(&image[at..], generation));
        let Some(header) = header.filter(|header| header.number >= scan.segment.batches) else {
            at += BLOCK_BYTES;
            continue;
        };
        let end = usize::try_from(scan.segment.end).expect("inside the image");
        if header.number != scan.segment.batches || at != end {
            // A later batch is whole: what lies before it was durable.
            let (from, to) = (scan.segment.batches, header.number);
            let reason = format!("batches {from} up to {to} are not whole, and a later one is");
            scan.damages.push(Damage::new(path, scan.segment.end, reason));
        }
        if !read_batch(&mut scan, image, at, &header, each) {
            scan.damages.push(Damage::new(path, at as u64, "its records do not add up"));
        }
        scan.segment.batches = header.number + 1;
        at += header.bytes.next_multiple_of(BLOCK_BYTES);
        scan.segment.end = at as u64;
    }
    let end = usize::try_from(scan.segment.end).expect("inside the image").min(image.len());
    let behind = image[end..].chunks(BLOCK_BYTES).any(|block| BatchHeader::decode(block, generation).is_some());
    scan.segment.ends = if behind { End::Torn } else { End::Clean };
    scan
}

/// Whether all its records are what they say.
fn read_batch(
    scan: &mut Scan,
    image: &Bytes,
    at: usize,
    header: &BatchHeader,
    each: &mut dyn FnMut(u32, u64, &Record) -> bool,
) -> bool {
    let end = at + header.bytes;
    let mut next = at + BATCH_HEADER_BYTES;
    for n in 0..header.records {
        if next > end {
            return false;
        }
        let Some(record) = decode_record(&image.slice(next..end), scan.segment.generation) else {
            return false;
        };
        let len = record_bytes(record.payload.len());
        if (record.kind == RecordKind::Link) != (header.number == 0 && n == 0) {
            return false;
        }
        if !each(header.number, next as u64, &record) {
            return true;
        }
        match record.kind {
            RecordKind::Link => match Link::decode(&record.payload) {
                Some(link) => {
                    scan.segment.link = Some((link.segment, link.end, link.batches));
                    scan.link = Some(link);
                }
                None => return false,
            },
            RecordKind::State => scan.segment.states += 1,
            RecordKind::Entry => {
                let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
                scan.found.push((record.partition, record.index, place(len), place(next)));
                scan.segment.entries.entry(record.partition).or_default().add(record.index, record.payload.len());
            }
        }
        scan.segment.records += u64::from(record.kind != RecordKind::Link);
        next += len;
    }
    next == end
}
