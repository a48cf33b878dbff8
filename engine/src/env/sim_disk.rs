//! A disk in memory, with seeded faults and a crash at any operation.
//!
//! What is durable is kept apart from what is seen. A crash keeps the durable image, plus any subset of the 512-byte
//! sectors written and not synced, plus any prefix of the name changes not synced (a directory's journal keeps order).
//!
//! | fault | knob |
//! |---|---|
//! | crash in the middle of operation n | [`SimDisk::crash_at`]; then nothing completes any more |
//! | torn, lost, reordered writes | what a crash leaves of an operation under way, and of what was not synced |
//! | failed write, sync or read | [`Faults`], one in n; a failed write leaves any subset of its sectors |
//! | a sync that lies | [`Faults::lying_sync`]: reported done, and lost at the next crash |
//! | bit rot | [`SimDisk::flip_bit`] |
//! | no space | [`SimDisk::set_capacity`], at any time |
//!
//! Invariants
//! - The same seed and the same operations give the same faults and the same crash image.

#[cfg(test)]
mod tests;

use core::{
    cell::RefCell,
    future::poll_fn,
    task::{Poll, Waker},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{AlignedBuf, DirEntry, Disk, DiskFile, Rng};
use crate::{
    error::{Error, Result},
    limits::BLOCK_BYTES,
};

const SECTOR: usize = 512;

/// Which faults happen by chance: each field is "one in n operations", 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A durable write or append fails.
    pub write_error: u64,
    /// A sync fails, and what it covered is dropped.
    pub sync_error: u64,
    /// A read fails.
    pub read_error: u64,
    /// A sync reports success and does nothing.
    pub lying_sync: u64,
}

/// How often each fault happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Failed durable writes and appends.
    pub write_errors: u64,
    /// Failed syncs.
    pub sync_errors: u64,
    /// Failed reads.
    pub read_errors: u64,
    /// Syncs that lied.
    pub lying_syncs: u64,
    /// Operations refused for lack of space.
    pub no_space: u64,
    /// Sectors that a crash kept although they were not synced.
    pub sectors_kept: u64,
    /// Sectors that a crash dropped.
    pub sectors_lost: u64,
    /// Name changes that a crash dropped.
    pub names_lost: u64,
}

/// The simulated disk. Clones share it.
#[derive(Clone)]
pub struct SimDisk {
    inner: Rc<RefCell<Inner>>,
}

/// A file on it.
#[derive(Clone)]
pub struct SimFile {
    inner: Rc<RefCell<Inner>>,
    file: usize,
}

struct Inner {
    rng: Rng,
    faults: Faults,
    counts: FaultCounts,
    operations: u64,
    crash_at: Option<u64>,
    crashed: bool,
    capacity: u64,
    files: Vec<FileState>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    pending_names: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    /// Whether durable writes wait, and who to wake when they need not any more.
    holds_writes: bool,
    held: Vec<Waker>,
}

#[derive(Clone, Default)]
struct FileState {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl NameChange {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Create(path, _) | Self::Remove(path) | Self::Rename(_, path) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Create(path, file) => {
                names.insert(path.clone(), *file);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

impl FileState {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.seen.len() < end {
            self.seen.resize(end, 0);
        }
        self.seen[offset..end].copy_from_slice(bytes);
        self.unsynced.extend(offset / SECTOR..end.div_ceil(SECTOR));
    }

    fn persist_sector(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.seen.len());
        if start >= end {
            return;
        }
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[start..end].copy_from_slice(&self.seen[start..end]);
    }

    fn persist(&mut self, sectors: impl Iterator<Item = usize>) {
        for sector in sectors {
            self.persist_sector(sector);
            self.unsynced.remove(&sector);
        }
    }
}

/// What becomes of an operation.
enum Fate {
    Done,
    Crash,
    Fail,
    Lie,
}

impl SimDisk {
    /// An empty disk without faults, 1 TiB.
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            rng: Rng::from_seed(seed),
            faults: Faults::default(),
            counts: FaultCounts::default(),
            operations: 0,
            crash_at: None,
            crashed: false,
            capacity: 1 << 40,
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            dirs: BTreeSet::new(),
            holds_writes: false,
            held: Vec::new(),
        };
        Self { inner: Rc::new(RefCell::new(inner)) }
    }

    /// Sets which faults happen by chance.
    pub fn set_faults(&self, faults: Faults) {
        self.inner.borrow_mut().faults = faults;
    }

    /// Sets how many bytes all files together may have.
    pub fn set_capacity(&self, bytes: u64) {
        self.inner.borrow_mut().capacity = bytes;
    }

    /// Durable writes wait from now on, as on a slow or stuck disk; or those that wait are done. While they wait
    /// nothing of them is on the disk.
    pub fn hold_writes(&self, hold: bool) {
        let mut inner = self.inner.borrow_mut();
        inner.holds_writes = hold;
        if !hold {
            inner.held.drain(..).for_each(Waker::wake);
        }
    }

    /// Bytes that all files have.
    pub fn used(&self) -> u64 {
        self.inner.borrow().used()
    }

    /// Crashes in the middle of the operation with this number, counted from 1.
    pub fn crash_at(&self, operation: u64) {
        self.inner.borrow_mut().crash_at = Some(operation);
    }

    /// Crashes now: nothing completes any more.
    pub fn crash(&self) {
        self.inner.borrow_mut().crashed = true;
    }

    /// Whether it has crashed.
    pub fn has_crashed(&self) -> bool {
        self.inner.borrow().crashed
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.inner.borrow().operations
    }

    /// How often each fault happened, on this disk and those it was before its crashes.
    pub fn counts(&self) -> FaultCounts {
        self.inner.borrow().counts
    }

    /// The disk as it is found after the crash (or after a cut of power now).
    pub fn after_crash(&self) -> Self {
        let mut inner = self.inner.borrow_mut();
        inner.crashed = true;
        let mut names = inner.durable_names.clone();
        let pending = core::mem::take(&mut inner.pending_names);
        let keep = usize::try_from(inner.rng.below(pending.len() as u64 + 1)).expect("an index");
        inner.counts.names_lost += (pending.len() - keep) as u64;
        for change in &pending[..keep] {
            change.apply(&mut names);
        }
        let mut files = inner.files.clone();
        for file in &mut files {
            for sector in core::mem::take(&mut file.unsynced) {
                if inner.rng.one_in(2) {
                    file.persist_sector(sector);
                    inner.counts.sectors_kept += 1;
                } else {
                    inner.counts.sectors_lost += 1;
                }
            }
            file.seen = file.durable.clone();
        }
        let after = Inner {
            rng: inner.rng.fork(),
            faults: inner.faults,
            counts: inner.counts,
            operations: 0,
            crash_at: None,
            crashed: false,
            capacity: inner.capacity,
            files,
            durable_names: names.clone(),
            names,
            pending_names: Vec::new(),
            dirs: inner.dirs.clone(),
            holds_writes: false,
            held: Vec::new(),
        };
        Self { inner: Rc::new(RefCell::new(after)) }
    }

    /// A disk of its own with what this one shows now, all of it durable: to look without touching.
    pub fn snapshot(&self) -> Self {
        let inner = self.inner.borrow();
        let mut files = inner.files.clone();
        for file in &mut files {
            file.durable = file.seen.clone();
            file.unsynced.clear();
        }
        let copy = Inner {
            rng: inner.rng.clone(),
            faults: Faults::default(),
            counts: FaultCounts::default(),
            operations: 0,
            crash_at: None,
            crashed: false,
            capacity: inner.capacity,
            files,
            names: inner.names.clone(),
            durable_names: inner.names.clone(),
            pending_names: Vec::new(),
            dirs: inner.dirs.clone(),
            holds_writes: false,
            held: Vec::new(),
        };
        Self { inner: Rc::new(RefCell::new(copy)) }
    }

    /// Flips a bit of a file, durably. False where the file is shorter, or there is none.
    pub fn flip_bit(&self, path: &Path, byte: u64, bit: u8) -> bool {
        let mut inner = self.inner.borrow_mut();
        let Some(file) = inner.names.get(path).copied() else {
            return false;
        };
        let at = usize::try_from(byte).expect("files here fit in memory");
        let file = &mut inner.files[file];
        let (Some(seen), Some(durable)) = (file.seen.get_mut(at), file.durable.get_mut(at)) else {
            return false;
        };
        *seen ^= 1 << bit;
        *durable ^= 1 << bit;
        true
    }

    /// Every file with its length, sorted by path.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let inner = self.inner.borrow();
        inner.names.iter().map(|(path, file)| (path.clone(), inner.files[*file].seen.len() as u64)).collect()
    }

    async fn operate<T>(&self, operate: impl FnOnce(&mut Inner) -> Result<T>) -> Result<T> {
        operate_on(&self.inner, operate).await
    }
}

/// Waits while durable writes are held.
async fn released(inner: &Rc<RefCell<Inner>>) {
    poll_fn(|cx| {
        let mut inner = inner.borrow_mut();
        if !inner.holds_writes {
            return Poll::Ready(());
        }
        inner.held.push(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

/// Gives way once, so that what runs beside it does run beside it; then operates, or crashes, or waits for ever.
async fn operate_on<T>(inner: &Rc<RefCell<Inner>>, operate: impl FnOnce(&mut Inner) -> Result<T>) -> Result<T> {
    let mut waited = false;
    poll_fn(|cx| {
        if inner.borrow().crashed {
            return Poll::Pending;
        }
        if core::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    let result = {
        let mut inner = inner.borrow_mut();
        inner.operations += 1;
        operate(&mut inner)
    };
    if inner.borrow().crashed {
        core::future::pending::<()>().await;
    }
    result
}

impl Inner {
    fn used(&self) -> u64 {
        self.names.values().map(|file| self.files[*file].seen.len() as u64).sum()
    }

    fn crashes_now(&self) -> bool {
        self.crash_at == Some(self.operations)
    }

    fn fate(&mut self, one_in: u64, lying: u64) -> Fate {
        if self.crashes_now() {
            self.crashed = true;
            return Fate::Crash;
        }
        if one_in > 0 && self.rng.one_in(one_in) {
            return Fate::Fail;
        }
        if lying > 0 && self.rng.one_in(lying) {
            return Fate::Lie;
        }
        Fate::Done
    }

    fn room_for(&mut self, bytes: u64, what: &'static str) -> Result<()> {
        if self.used() + bytes > self.capacity {
            self.counts.no_space += 1;
            return Err(Error::NoSpace { what });
        }
        Ok(())
    }

    fn some_of(&mut self, sectors: core::ops::Range<usize>) -> Vec<usize> {
        // All, none, a prefix, or any subset: the disk's choice.
        match self.rng.below(4) {
            0 => sectors.collect(),
            1 => Vec::new(),
            2 => {
                let count = usize::try_from(self.rng.below(sectors.len() as u64 + 1)).expect("an index");
                sectors.take(count).collect()
            }
            _ => sectors.filter(|_| self.rng.one_in(2)).collect(),
        }
    }

    fn new_file(&mut self, path: &Path, state: FileState) -> usize {
        self.files.push(state);
        let file = self.files.len() - 1;
        self.change_name(NameChange::Create(path.to_owned(), file));
        file
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }

    /// A name change either happened before the crash, unsynced, or did not.
    fn name_fate(&mut self) -> bool {
        if self.crashes_now() {
            self.crashed = true;
            return self.rng.one_in(2);
        }
        true
    }
}

fn injected(operation: &'static str, path: &Path) -> Error {
    Error::Io { operation, path: path.to_owned(), source: io::Error::other("injected fault") }
}

fn not_found(operation: &'static str, path: &Path) -> Error {
    Error::Io { operation, path: path.to_owned(), source: io::Error::from(io::ErrorKind::NotFound) }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Aside = Self;

    async fn aside<T: Send + 'static>(
        &self,
        _name: &'static str,
        work: impl AsyncFnOnce(Self) -> T + Send + 'static,
    ) -> Result<T> {
        Ok(work(self.clone()).await)
    }

    async fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.operate(|inner| {
            inner.name_fate();
            inner.dirs.insert(path.to_owned());
            Ok(())
        })
        .await
    }

    async fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        self.operate(|inner| {
            inner.name_fate();
            if !inner.dirs.contains(dir) {
                return Err(not_found("list", dir));
            }
            let names = inner.names.iter().filter(|(path, _)| path.parent() == Some(dir));
            Ok(names
                .map(|(path, file)| DirEntry {
                    name: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
                    len: inner.files[*file].seen.len() as u64,
                })
                .collect())
        })
        .await
    }

    async fn create_zeroed(&self, path: &Path, len: u64) -> Result<SimFile> {
        let file = self
            .operate(|inner| {
                inner.room_for(len, "a new file")?;
                let bytes = vec![0; usize::try_from(len).expect("files here fit in memory")];
                if inner.name_fate() {
                    let state = FileState { seen: bytes.clone(), durable: bytes, unsynced: BTreeSet::new() };
                    return Ok(inner.new_file(path, state));
                }
                Ok(0)
            })
            .await?;
        Ok(SimFile { inner: Rc::clone(&self.inner), file })
    }

    async fn create(&self, path: &Path) -> Result<SimFile> {
        let file = self
            .operate(|inner| {
                if inner.name_fate() {
                    return Ok(inner.new_file(path, FileState::default()));
                }
                Ok(0)
            })
            .await?;
        Ok(SimFile { inner: Rc::clone(&self.inner), file })
    }

    async fn open(&self, path: &Path) -> Result<SimFile> {
        let file = self
            .operate(|inner| {
                inner.name_fate();
                inner.names.get(path).copied().ok_or_else(|| not_found("open", path))
            })
            .await?;
        Ok(SimFile { inner: Rc::clone(&self.inner), file })
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.operate(|inner| {
            if !inner.names.contains_key(from) {
                return Err(not_found("rename", from));
            }
            if inner.name_fate() {
                inner.change_name(NameChange::Rename(from.to_owned(), to.to_owned()));
            }
            Ok(())
        })
        .await
    }

    async fn remove(&self, path: &Path) -> Result<()> {
        self.operate(|inner| {
            if !inner.names.contains_key(path) {
                return Err(not_found("remove", path));
            }
            if inner.name_fate() {
                inner.change_name(NameChange::Remove(path.to_owned()));
            }
            Ok(())
        })
        .await
    }

    async fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.operate(|inner| {
            let faults = inner.faults;
            match inner.fate(faults.sync_error, 0) {
                Fate::Done | Fate::Lie => {
                    for change in core::mem::take(&mut inner.pending_names) {
                        if change.dir() == Some(dir) {
                            change.apply(&mut inner.durable_names);
                        } else {
                            inner.pending_names.push(change);
                        }
                    }
                    Ok(())
                }
                Fate::Crash => Ok(()),
                Fate::Fail => {
                    inner.counts.sync_errors += 1;
                    Err(injected("sync directory", dir))
                }
            }
        })
        .await
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> u64 {
        self.inner.borrow().files[self.file].seen.len() as u64
    }

    async fn write_durable(&self, offset: u64, buf: AlignedBuf) -> (Result<()>, AlignedBuf) {
        assert!(offset.is_multiple_of(BLOCK_BYTES as u64) && buf.len().is_multiple_of(BLOCK_BYTES), "unaligned write");
        assert!(offset + buf.len() as u64 <= self.len(), "a durable write lies inside the file");
        released(&self.inner).await;
        let result = operate_on(&self.inner, |inner| {
            let start = usize::try_from(offset).expect("files here fit in memory");
            let sectors = start / SECTOR..(start + buf.len()) / SECTOR;
            let faults = inner.faults;
            inner.files[self.file].write(start, &buf);
            match inner.fate(faults.write_error, faults.lying_sync) {
                Fate::Done => {
                    inner.files[self.file].persist(sectors);
                    Ok(())
                }
                Fate::Lie => {
                    inner.counts.lying_syncs += 1;
                    Ok(())
                }
                fate @ (Fate::Crash | Fate::Fail) => {
                    let some = inner.some_of(sectors.clone());
                    let file = &mut inner.files[self.file];
                    file.persist(some.into_iter());
                    for sector in sectors {
                        file.unsynced.remove(&sector);
                    }
                    if matches!(fate, Fate::Crash) {
                        return Ok(());
                    }
                    inner.counts.write_errors += 1;
                    Err(injected("write", Path::new("(simulated file)")))
                }
            }
        })
        .await;
        (result, buf)
    }

    async fn append(&self, bytes: Vec<u8>) -> Result<()> {
        operate_on(&self.inner, |inner| {
            inner.room_for(bytes.len() as u64, "an append")?;
            let at = inner.files[self.file].seen.len();
            inner.files[self.file].write(at, &bytes);
            let faults = inner.faults;
            match inner.fate(faults.write_error, 0) {
                Fate::Done | Fate::Lie | Fate::Crash => Ok(()),
                Fate::Fail => {
                    inner.counts.write_errors += 1;
                    Err(injected("append", Path::new("(simulated file)")))
                }
            }
        })
        .await
    }

    async fn sync(&self) -> Result<()> {
        operate_on(&self.inner, |inner| {
            let faults = inner.faults;
            match inner.fate(faults.sync_error, faults.lying_sync) {
                Fate::Done => {
                    let file = &mut inner.files[self.file];
                    let sectors = core::mem::take(&mut file.unsynced);
                    file.persist(sectors.into_iter());
                    Ok(())
                }
                Fate::Lie => {
                    inner.counts.lying_syncs += 1;
                    Ok(())
                }
                Fate::Crash => Ok(()),
                Fate::Fail => {
                    inner.counts.sync_errors += 1;
                    inner.files[self.file].unsynced.clear();
                    Err(injected("sync", Path::new("(simulated file)")))
                }
            }
        })
        .await
    }

    async fn read(&self, offset: u64, len: usize) -> Result<AlignedBuf> {
        operate_on(&self.inner, |inner| {
            let faults = inner.faults;
            if matches!(inner.fate(faults.read_error, 0), Fate::Fail) {
                inner.counts.read_errors += 1;
                return Err(injected("read", Path::new("(simulated file)")));
            }
            let mut out = AlignedBuf::zeroed(len);
            let file = &inner.files[self.file].seen;
            let start = usize::try_from(offset).expect("files here fit in memory").min(file.len());
            let end = (start + len).min(file.len());
            out[..end - start].copy_from_slice(&file[start..end]);
            Ok(out)
        })
        .await
    }
}
