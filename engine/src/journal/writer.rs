//! [`Journal`]: group commit, reads, and the upkeep of segments.
//!
//! `append_*` encodes into the open batch; [`Journal::commit`] writes everything appended so far with one durable
//! write, while what is appended meanwhile collects in the next batch. Two buffers take turns: nothing is allocated
//! per record.
//!
//! Cost of a commit beside the durable write itself: one crc over each record and one over the batch.

mod open;

use core::cell::RefCell;
use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    rc::Rc,
};

use bytes::Bytes;

use self::open::recover;
use super::{
    index::{Index, Location},
    record::{BATCH_HEADER_BYTES, RecordKind, decode_record, encode_record, record_bytes, seal_batch},
    segment::{BATCHES_AT, Link, encode_header, parse_name, segment_path, spare_path},
};
use crate::{
    env::{AlignedBuf, Disk, DiskFile as _, executor::Turn},
    error::{Error, Result},
    ids::{LogIndex, PartitionId, SegmentId, Term},
    limits::{BATCH_BYTES_MAX, BLOCK_BYTES, ENTRY_BYTES_MAX, SEGMENT_BYTES, SEGMENTS_MAX, SEGMENTS_SPARE},
};

/// Bytes read at a time for entries.
const READ_BYTES: usize = 256 * 1024;

/// How a journal is laid out.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Where its files are.
    pub dir: PathBuf,
    /// Bytes of a segment, a multiple of a block.
    pub segment_bytes: u64,
    /// Bytes of a batch, at most a quarter of a segment.
    pub batch_bytes_max: usize,
    /// Segments in use beyond which no new one is made: `NoSpace`.
    pub segments_max: usize,
}

impl JournalConfig {
    /// The limits of a node, in a directory.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, segment_bytes: SEGMENT_BYTES, batch_bytes_max: BATCH_BYTES_MAX, segments_max: SEGMENTS_MAX }
    }
}

/// An entry of a partition's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its term.
    pub term: Term,
    /// Its index.
    pub index: LogIndex,
    /// What it holds.
    pub payload: Bytes,
}

/// What recovery found.
#[derive(Debug)]
pub struct Recovered {
    /// Per partition.
    pub partitions: BTreeMap<PartitionId, RecoveredPartition>,
    /// In sum.
    pub report: RecoveryReport,
}

/// What recovery found of one partition. Its entries are read with [`Journal::read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredPartition {
    /// The newest hard state.
    pub state: Option<Bytes>,
    /// First entry; `ZERO` where there is none.
    pub first: LogIndex,
    /// Last entry; `ZERO` where there is none.
    pub last: LogIndex,
}

/// A batch at the end that was not written whole, and so was never acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// In which segment.
    pub segment: SegmentId,
    /// Where it begins.
    pub offset: u64,
}

/// What recovery found, in sum.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// Segments in use.
    pub segments: usize,
    /// Whole batches.
    pub batches: u64,
    /// Records.
    pub records: u64,
    /// A torn batch at the end, dropped.
    pub torn_tail: Option<TornTail>,
}

/// Counters since the journal was opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct JournalStats {
    /// Durable writes of batches.
    pub writes: u64,
    /// Bytes of batches, padding included.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// Segments in use.
    pub segments: usize,
}

/// The journal of a core. Clones share it.
pub struct Journal<D: Disk> {
    inner: Rc<Inner<D>>,
}

impl<D: Disk> Clone for Journal<D> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

struct Inner<D: Disk> {
    disk: D,
    config: JournalConfig,
    state: RefCell<State<D>>,
    /// Makes a ready segment: one at a time, or generations would get out of order.
    making: Turn,
    /// Recycles segments: one at a time, because a segment must not be gone while one before it is there.
    recycling: Turn,
}

struct State<D: Disk> {
    index: Index,
    states: BTreeMap<PartitionId, Bytes>,
    last_appended: BTreeMap<PartitionId, LogIndex>,
    /// Segments in use, oldest first; the last is written to.
    segments: VecDeque<Segment<D>>,
    /// Segments with header and name, to be written next.
    ready: VecDeque<Segment<D>>,
    /// Files that wait for use, by the id in their name.
    spares: VecDeque<SegmentId>,
    next_id: SegmentId,
    open: Batch,
    full: VecDeque<Batch>,
    unused: Vec<AlignedBuf>,
    /// The last segment was found at the start: it is not written to again.
    sealed: bool,
    committing: bool,
    failed: bool,
    stats: JournalStats,
}

struct Segment<D: Disk> {
    id: SegmentId,
    file: D::File,
    end: u64,
    batches: u32,
}

/// Records that wait to be written.
struct Batch {
    buf: AlignedBuf,
    entries: Vec<(PartitionId, LogIndex, u32, u32)>,
    records: u64,
}

impl Batch {
    fn new(mut buf: AlignedBuf) -> Self {
        buf.set_len(BATCH_HEADER_BYTES);
        Self { buf, entries: Vec::new(), records: 0 }
    }

    fn is_empty(&self) -> bool {
        self.records == 0
    }
}

impl<D: Disk> Journal<D> {
    /// Opens the journal in a directory, or begins one; judges what it finds.
    ///
    /// # Errors
    /// `DamagedFile`, `DamagedBatch`: nothing is changed. `Io`, `NoSpace`.
    pub async fn open(disk: D, config: JournalConfig) -> Result<(Self, Recovered)> {
        assert!(config.batch_bytes_max as u64 <= config.segment_bytes / 4, "a batch is at most a quarter of a segment");
        disk.create_dir_all(&config.dir).await?;
        if let Some(parent) = config.dir.parent() {
            disk.sync_dir(parent).await?;
        }
        let mut ids = Vec::new();
        let mut spares = VecDeque::new();
        let mut next_id = SegmentId::new(1);
        for entry in disk.list(&config.dir).await? {
            let Some((is_segment, id)) = parse_name(&entry.name) else {
                continue;
            };
            next_id = next_id.max(id.next());
            if is_segment {
                ids.push(id);
            } else if entry.len == config.segment_bytes {
                spares.push_back(id);
            } else {
                disk.remove(&spare_path(&config.dir, id)).await?;
            }
        }
        let mut state = State {
            index: Index::default(),
            states: BTreeMap::new(),
            last_appended: BTreeMap::new(),
            segments: VecDeque::new(),
            ready: VecDeque::new(),
            spares,
            next_id,
            open: Batch::new(AlignedBuf::zeroed(BLOCK_BYTES)),
            full: VecDeque::new(),
            unused: Vec::new(),
            sealed: true,
            committing: false,
            failed: false,
            stats: JournalStats::default(),
        };
        let report = recover(&disk, &config, &ids, &mut state).await?;
        let mut partitions = BTreeMap::new();
        let known: Vec<_> = state.states.keys().copied().chain(state.index.partitions()).collect();
        for id in known {
            let (first, last) = state.index.bounds(id).unwrap_or_default();
            state.last_appended.insert(id, last);
            let found = RecoveredPartition { state: state.states.get(&id).cloned(), first, last };
            partitions.insert(id, found);
        }
        let state = RefCell::new(state);
        let inner = Inner { disk, config, state, making: Turn::default(), recycling: Turn::default() };
        let journal = Self { inner: Rc::new(inner) };
        Ok((journal, Recovered { partitions, report }))
    }

    /// Appends an entry to the open batch. Durable once a commit that began later has returned.
    ///
    /// # Panics
    /// If the payload is too long, or the entry leaves a gap.
    pub fn append_entry(&self, partition: PartitionId, term: Term, index: LogIndex, payload: &[u8]) {
        assert!(payload.len() <= ENTRY_BYTES_MAX, "an entry of {} bytes is too long", payload.len());
        let mut state = self.inner.state.borrow_mut();
        if let Some(last) = state.last_appended.insert(partition, index) {
            assert!(last == LogIndex::ZERO || index <= last.next(), "journal gap in {partition}: {index} after {last}");
        }
        let (offset, len) = state.append(&self.inner.config, RecordKind::Entry, partition, term, index, payload);
        state.open.entries.push((partition, index, offset, len));
    }

    /// Appends a partition's hard state to the open batch: the newest counts.
    pub fn append_state(&self, partition: PartitionId, payload: &[u8]) {
        let mut state = self.inner.state.borrow_mut();
        state.states.insert(partition, Bytes::copy_from_slice(payload));
        state.append(&self.inner.config, RecordKind::State, partition, Term::ZERO, LogIndex::ZERO, payload);
    }

    /// Bytes that wait to be written.
    pub fn pending_bytes(&self) -> usize {
        let state = self.inner.state.borrow();
        let open = if state.open.is_empty() { 0 } else { state.open.buf.len() };
        open + state.full.iter().map(|batch| batch.buf.len()).sum::<usize>()
    }

    /// Makes everything appended so far durable: one durable write (more only beyond `batch_bytes_max`).
    ///
    /// # Errors
    /// `NoSpace`: no segment could be made; nothing was written, everything waits, and this may be called again.
    /// `JournalFailed` and `Io`: the journal takes no more writes until it is opened again.
    ///
    /// # Panics
    /// If another commit is under way.
    pub async fn commit(&self) -> Result<()> {
        {
            let mut state = self.inner.state.borrow_mut();
            if state.failed {
                return Err(Error::JournalFailed);
            }
            assert!(!core::mem::replace(&mut state.committing, true), "one commit at a time");
            if !state.open.is_empty() {
                let unused = state.unused.pop().unwrap_or_else(|| AlignedBuf::zeroed(BLOCK_BYTES));
                let batch = core::mem::replace(&mut state.open, Batch::new(unused));
                state.full.push_back(batch);
            }
        }
        let result = self.write_batches().await;
        let mut state = self.inner.state.borrow_mut();
        state.committing = false;
        if let Err(error) = &result
            && !matches!(error, Error::NoSpace { .. })
        {
            state.failed = true;
        }
        result
    }

    async fn write_batches(&self) -> Result<()> {
        let count = self.inner.state.borrow().full.len();
        for _ in 0..count {
            let next = self.inner.state.borrow().full.front().map(|batch| batch.buf.len());
            let Some(bytes) = next else {
                return Ok(());
            };
            if !self.inner.state.borrow().fits(&self.inner.config, bytes) {
                self.make_ready().await?;
                self.inner.state.borrow_mut().turn_over(&self.inner.config);
            }
            self.write_batch().await?;
        }
        Ok(())
    }

    async fn write_batch(&self) -> Result<()> {
        let (file, offset, batch) = {
            let mut state = self.inner.state.borrow_mut();
            let mut batch = state.full.pop_front().expect("write_batches has looked");
            let segment = state.segments.back().expect("turn_over has made one");
            seal_batch(&mut batch.buf, segment.id, segment.batches);
            (segment.file.clone(), segment.end, batch)
        };
        let Batch { buf, entries, records } = batch;
        let (result, buf) = file.write_durable(offset, buf).await;
        let mut state = self.inner.state.borrow_mut();
        if let Err(error) = result {
            // Whatever the reason, lack of space included: the batch has left the queue, and what it left is unknown.
            state.failed = true;
            return Err(error);
        }
        let segment = state.segments.back_mut().expect("segments stay while one is written to");
        segment.end += buf.len() as u64;
        segment.batches += 1;
        let id = segment.id;
        for (partition, index, at, len) in entries {
            let offset = u32::try_from(offset).expect("segments are below 4 GiB") + at;
            let fits = state.index.insert(partition, index, Location { segment: id, offset, len });
            assert!(fits, "journal gap in {partition} at {index}");
        }
        state.stats.writes += 1;
        state.stats.bytes += buf.len() as u64;
        state.stats.records += records;
        if state.unused.len() < 2 {
            state.unused.push(buf);
        }
        Ok(())
    }

    /// Has a segment ready to be written next.
    async fn make_ready(&self) -> Result<()> {
        let _turn = self.inner.making.take().await;
        if !self.inner.state.borrow().ready.is_empty() {
            return Ok(());
        }
        self.make_segment().await
    }

    async fn make_segment(&self) -> Result<()> {
        let Inner { disk, config, .. } = &*self.inner;
        let (spare, id) = {
            let mut state = self.inner.state.borrow_mut();
            if state.segments.len() >= config.segments_max {
                return Err(Error::NoSpace { what: "a journal segment: too many are in use" });
            }
            let id = state.next_id;
            state.next_id = id.next();
            (state.spares.pop_front(), id)
        };
        let (file, from) = match spare {
            Some(spare) => {
                let path = spare_path(&config.dir, spare);
                (disk.open(&path).await?, path)
            }
            None => {
                let path = spare_path(&config.dir, id);
                (disk.create_zeroed(&path, config.segment_bytes).await?, path)
            }
        };
        file.write_durable(0, encode_header(id)).await.0?;
        disk.rename(&from, &segment_path(&config.dir, id)).await?;
        disk.sync_dir(&config.dir).await?;
        let segment = Segment { id, file, end: BATCHES_AT, batches: 0 };
        self.inner.state.borrow_mut().ready.push_back(segment);
        Ok(())
    }

    /// The partition's files hold its log further than the journal does (the journal's end was lost after a flush):
    /// what is appended next follows `applied`.
    pub fn restart(&self, partition: PartitionId, applied: LogIndex) {
        let mut state = self.inner.state.borrow_mut();
        state.index.truncate(partition, applied);
        state.last_appended.insert(partition, applied);
    }

    /// Bytes that can be written without making a new segment.
    pub fn room_bytes(&self) -> u64 {
        let state = self.inner.state.borrow();
        let segment_bytes = self.inner.config.segment_bytes;
        let active = state.segments.back().filter(|_| !state.sealed);
        let rest = active.map_or(0, |segment| segment_bytes - segment.end);
        let in_use = state.segments.len() + state.ready.len();
        let spares = state.spares.len().min(self.inner.config.segments_max.saturating_sub(in_use));
        rest + (state.ready.len() + spares) as u64 * (segment_bytes - BATCHES_AT)
    }

    /// Entries up to an index are in the partition's files: the journal may forget them.
    pub fn truncate(&self, partition: PartitionId, up_to: LogIndex) {
        self.inner.state.borrow_mut().index.truncate(partition, up_to);
    }

    /// Entries of a partition from an index on, in order, until about `bytes_max`; at least one where it exists.
    ///
    /// Cost: one read of 256 KiB for each run of entries that lie so close together.
    ///
    /// # Errors
    /// `DamagedBatch` where a record does not match its crc; `Io`.
    pub async fn read(&self, partition: PartitionId, from: LogIndex, bytes_max: usize) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let (mut next, mut bytes) = (from, 0);
        let mut window: Option<(SegmentId, usize, Bytes)> = None;
        while bytes < bytes_max {
            let found = {
                let state = self.inner.state.borrow();
                state.index.get(partition, next).map(|location| {
                    let segment = state.segments.iter().find(|segment| segment.id == location.segment);
                    (location, segment.expect("a segment stays while an entry needs it").file.clone())
                })
            };
            let Some((location, file)) = found else {
                break;
            };
            let (offset, len) = (location.offset as usize, location.len as usize);
            let inside = window.as_ref().filter(|(segment, start, image)| {
                *segment == location.segment && *start <= offset && offset + len <= *start + image.len()
            });
            let (start, image) = match inside {
                Some((_, start, image)) => (*start, image.clone()),
                None => {
                    let start = offset / BLOCK_BYTES * BLOCK_BYTES;
                    let least = (offset + len).next_multiple_of(BLOCK_BYTES) - start;
                    let image = Bytes::copy_from_slice(&file.read(start as u64, least.max(READ_BYTES)).await?);
                    window = Some((location.segment, start, image.clone()));
                    (start, image)
                }
            };
            let record = decode_record(&image.slice(offset - start..offset - start + len), location.segment);
            let record = record.filter(|record| {
                record.kind == RecordKind::Entry && record.partition == partition && record.index == next
            });
            let Some(record) = record else {
                return Err(Error::DamagedBatch {
                    segment: location.segment,
                    offset: u64::from(location.offset),
                    reason: format!("the record of entry {next} of partition {partition} does not match its crc"),
                });
            };
            bytes += record.payload.len() + record_bytes(0);
            entries.push(Entry { term: record.term, index: record.index, payload: record.payload });
            next = next.next();
        }
        Ok(entries)
    }

    /// First durable entry of a partition that is not forgotten; `ZERO` where there is none.
    pub fn first_index(&self, partition: PartitionId) -> LogIndex {
        self.inner.state.borrow().index.bounds(partition).map_or(LogIndex::ZERO, |(first, _)| first)
    }

    /// Last durable entry of a partition; `ZERO` where there is none.
    pub fn last_index(&self, partition: PartitionId) -> LogIndex {
        self.inner.state.borrow().index.bounds(partition).map_or(LogIndex::ZERO, |(_, last)| last)
    }

    /// Upkeep: recycles segments that nobody needs, and has the next one ready before it is needed.
    ///
    /// # Errors
    /// `NoSpace`: survivable, to be tried again. `Io`.
    pub async fn maintain(&self) -> Result<()> {
        self.recycle().await?;
        self.make_ready().await
    }

    async fn recycle(&self) -> Result<()> {
        let Inner { disk, config, .. } = &*self.inner;
        let _turn = self.inner.recycling.take().await;
        let mut renamed = false;
        loop {
            let (id, keep) = {
                let mut state = self.inner.state.borrow_mut();
                let needed = state.index.oldest().map(|(_, segment)| segment);
                let (Some(oldest), true) = (state.segments.front().map(|oldest| oldest.id), state.segments.len() > 1)
                else {
                    break;
                };
                if needed.is_some_and(|needed| needed <= oldest) {
                    break;
                }
                state.segments.pop_front();
                (oldest, state.ready.len() + state.spares.len() < SEGMENTS_SPARE)
            };
            let path = segment_path(&config.dir, id);
            if keep {
                disk.rename(&path, &spare_path(&config.dir, id)).await?;
                self.inner.state.borrow_mut().spares.push_back(id);
            } else {
                disk.remove(&path).await?;
            }
            renamed = true;
        }
        if renamed {
            disk.sync_dir(&config.dir).await?;
        }
        Ok(())
    }

    /// Segments that hold something needed, and the one that is written to.
    pub fn segments_in_use(&self) -> usize {
        self.inner.state.borrow().segments.len()
    }

    /// The partition whose entries keep the oldest segment from being recycled: it should flush.
    pub fn pinning(&self) -> Option<PartitionId> {
        self.inner.state.borrow().index.oldest().map(|(partition, _)| partition)
    }

    /// Counters.
    pub fn stats(&self) -> JournalStats {
        let state = self.inner.state.borrow();
        JournalStats { segments: state.segments.len(), ..state.stats }
    }
}

impl<D: Disk> State<D> {
    /// Appends a record; returns its offset in the batch and its length.
    fn append(
        &mut self,
        config: &JournalConfig,
        kind: RecordKind,
        partition: PartitionId,
        term: Term,
        index: LogIndex,
        payload: &[u8],
    ) -> (u32, u32) {
        let len = record_bytes(payload.len());
        // A segment's first batch gains a link and every partition's state: there is always room for them.
        if self.open.buf.len() + len > config.batch_bytes_max && !self.open.is_empty() {
            let unused = self.unused.pop().unwrap_or_else(|| AlignedBuf::zeroed(BLOCK_BYTES));
            let batch = core::mem::replace(&mut self.open, Batch::new(unused));
            self.full.push_back(batch);
        }
        let offset = u32::try_from(self.open.buf.len()).expect("batches are far below 4 GiB");
        encode_record(&mut self.open.buf, kind, partition, term, index, payload);
        self.open.records += 1;
        (offset, u32::try_from(len).expect("records are far below 4 GiB"))
    }

    fn fits(&self, config: &JournalConfig, bytes: usize) -> bool {
        let padded = bytes.next_multiple_of(BLOCK_BYTES) as u64;
        !self.sealed && self.segments.back().is_some_and(|segment| segment.end + padded <= config.segment_bytes)
    }

    /// Goes over to the ready segment: the next batch begins with the link and every partition's newest state.
    fn turn_over(&mut self, config: &JournalConfig) {
        let last = self.segments.back();
        let link = Link {
            segment: last.map_or(SegmentId::ZERO, |last| last.id),
            end: last.map_or(0, |last| last.end),
            batches: last.map_or(0, |last| last.batches),
        };
        let segment = self.ready.pop_front().expect("make_ready has made it");
        self.segments.push_back(segment);
        self.sealed = false;
        let old = self.full.front_mut().expect("a batch waits to be written");
        let mut first = Batch::new(AlignedBuf::zeroed(old.buf.len() + BLOCK_BYTES));
        let none = PartitionId::ZERO;
        encode_record(&mut first.buf, RecordKind::Link, none, Term::ZERO, LogIndex::ZERO, &link.encode());
        for (partition, state) in &self.states {
            encode_record(&mut first.buf, RecordKind::State, *partition, Term::ZERO, LogIndex::ZERO, state);
        }
        let shift = u32::try_from(first.buf.len() - BATCH_HEADER_BYTES).expect("far below 4 GiB");
        first.buf.extend_from_slice(&old.buf[BATCH_HEADER_BYTES..]);
        first.records = old.records + 1 + self.states.len() as u64;
        first.entries = core::mem::take(&mut old.entries);
        for (_, _, offset, _) in &mut first.entries {
            *offset += shift;
        }
        assert!(
            first.buf.len() as u64 <= config.segment_bytes - BATCHES_AT,
            "a batch with every state fits into an empty segment"
        );
        *old = first;
    }
}
