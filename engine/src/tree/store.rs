//! [`Tree`]: a partition's files, and the change from one version of them to the next.

use core::cell::{Cell, RefCell};
use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use bytes::Bytes;

use super::{
    manifest::{self, MANIFEST_NAME, MANIFEST_NEW_NAME, Manifest},
    new_files::NewFiles,
    plan::{Plan, PlanFile, plan_compaction},
    tables::Shared,
    version::{LiveFile, Version},
};
use crate::{
    env::{Disk, executor::Turn},
    error::{Error, Result},
    ids::{FileId, LogIndex, Term},
    limits::WINDOW_MS,
    table::{
        meta::{Class, FileMeta},
        reader::Table,
    },
};

/// How a tree is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeConfig {
    /// Milliseconds of creation time that share message files. May change from start to start: it counts for what is
    /// flushed from then on.
    pub window_ms: u64,
}

impl Default for TreeConfig {
    fn default() -> Self {
        Self { window_ms: WINDOW_MS }
    }
}

/// How far a tree's files hold the log, and the owner's bytes beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeMeta {
    /// The last log entry that the files hold.
    pub applied: LogIndex,
    /// Its term.
    pub applied_term: Term,
    /// The owner's bytes, at most 4 KiB.
    pub extra: Bytes,
}

/// What opening a tree found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeReport {
    /// Live files.
    pub files: usize,
    /// Files that no manifest named: left by a crash, removed.
    pub orphans: Vec<String>,
}

/// Counters of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeStats {
    /// Live files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Their rows, deletion markers included.
    pub rows: u64,
    /// Files in which damage was found.
    pub quarantined: usize,
    /// State files of level 0: what every point read looks through.
    pub level_0: usize,
    /// Bytes written by flushes since the tree was opened.
    pub flushed_bytes_total: u64,
    /// Bytes written by merges since the tree was opened.
    pub merged_bytes_total: u64,
    /// Bytes of manifests written since the tree was opened.
    pub manifest_bytes_total: u64,
    /// Bytes of files that were dropped or replaced since the tree was opened.
    pub removed_bytes_total: u64,
}

impl core::ops::AddAssign for TreeStats {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.rows += other.rows;
        self.quarantined += other.quarantined;
        self.level_0 += other.level_0;
        self.flushed_bytes_total += other.flushed_bytes_total;
        self.merged_bytes_total += other.merged_bytes_total;
        self.manifest_bytes_total += other.manifest_bytes_total;
        self.removed_bytes_total += other.removed_bytes_total;
    }
}

/// A partition's files. Clones share it. Belongs to one core.
pub struct Tree<D: Disk> {
    inner: Rc<Inner<D>>,
}

struct Inner<D: Disk> {
    disk: D,
    config: TreeConfig,
    shared: Shared<D::File>,
    /// This tree's number among those of the core.
    number: u32,
    version: RefCell<Rc<Version>>,
    /// Files that are no longer live, until no reader has them.
    garbage: RefCell<Vec<Rc<LiveFile>>>,
    new_files: NewFiles,
    /// Grows with each change of version, and where damage was found: a plan holds for one of its values.
    changes: Cell<u64>,
    /// The plan of the last call, and what it was made for.
    planned: RefCell<Option<(u64, u64, Option<Plan>)>>,
    flushing: Cell<bool>,
    merging: Cell<bool>,
    installing: Turn,
    totals: Cell<TreeStats>,
}

impl<D: Disk> Clone for Tree<D> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

/// How the names of table files begin.
pub(crate) const TABLE_PREFIX: &str = "table-";

/// The name of a table file.
pub(crate) fn table_name(id: FileId) -> String {
    format!("{TABLE_PREFIX}{:016x}", id.get())
}

/// Whether it is one: not what a repair has put aside.
pub(crate) fn is_table_name(name: &str) -> bool {
    let id = name.strip_prefix(TABLE_PREFIX).and_then(|id| u64::from_str_radix(id, 16).ok());
    id.is_some_and(|id| table_name(FileId::new(id)) == name)
}

impl<D: Disk> Tree<D> {
    /// Opens the tree in a directory, which exists, or begins an empty one. Files that no manifest names are removed;
    /// an installation of a snapshot that was decided on is completed.
    /// Tables are looked for, and opened when they are first read.
    ///
    /// # Errors
    /// `DamagedFile`, `UnsupportedFormat`, `Io`.
    pub async fn open(
        disk: D,
        dir: PathBuf,
        config: TreeConfig,
        shared: Shared<D::File>,
    ) -> Result<(Self, TreeReport)> {
        assert!(config.window_ms > 0, "a window has a length");
        crate::snapshot::complete(&disk, &dir).await?;
        let manifest = match manifest::read(&disk, &dir).await? {
            Some(manifest) => manifest,
            None => begin(&disk, &dir).await?,
        };
        let mut report = TreeReport { files: manifest.files.len(), orphans: Vec::new() };
        let mut found = 0;
        for entry in disk.list(&dir).await? {
            let live = entry.name.strip_prefix(TABLE_PREFIX).and_then(|id| u64::from_str_radix(id, 16).ok());
            let live = live.and_then(|id| manifest.files.binary_search_by_key(&FileId::new(id), |file| file.id).ok());
            match live.map(|n| &manifest.files[n]).filter(|file| table_name(file.id) == entry.name) {
                Some(file) if file.bytes == entry.len => found += 1,
                Some(file) => {
                    let reason = format!("it has {} bytes, and {} in the manifest", entry.len, file.bytes);
                    return Err(Error::DamagedFile { path: dir.join(entry.name), reason });
                }
                None if entry.name == MANIFEST_NAME => {}
                None if entry.name == MANIFEST_NEW_NAME || is_table_name(&entry.name) => {
                    disk.remove(&dir.join(&entry.name)).await?;
                    report.orphans.push(entry.name);
                }
                // Not the tree's: a snapshot that is being received, what a repair has put aside, or a person's.
                None => {}
            }
        }
        if found != manifest.files.len() {
            let names = disk.list(&dir).await?;
            let missing = manifest.files.iter().find(|file| !names.iter().any(|name| name.name == table_name(file.id)));
            let path = dir.join(table_name(missing.expect("one is missing").id));
            return Err(Error::DamagedFile { path, reason: "the manifest names it, and it is missing".to_owned() });
        }
        Ok((Self::assemble(disk, dir, config, shared, manifest), report))
    }

    /// The tree of a manifest whose files are there. Changes nothing.
    pub(crate) fn assemble(
        disk: D,
        dir: PathBuf,
        config: TreeConfig,
        shared: Shared<D::File>,
        manifest: Manifest,
    ) -> Self {
        let number = shared.next_tree();
        let new_files = NewFiles::new(number, dir, manifest.next_file.max(FileId::new(1)));
        let files = manifest.files.iter().cloned().map(LiveFile::new).collect();
        let inner = Inner {
            disk,
            config,
            number,
            shared,
            version: RefCell::new(Rc::new(Version::new(manifest, files))),
            garbage: RefCell::default(),
            new_files,
            changes: Cell::new(0),
            planned: RefCell::new(None),
            flushing: Cell::new(false),
            merging: Cell::new(false),
            installing: Turn::default(),
            totals: Cell::default(),
        };
        Self { inner: Rc::new(inner) }
    }

    pub(crate) fn version(&self) -> Rc<Version> {
        Rc::clone(&self.inner.version.borrow())
    }

    /// How it is laid out.
    pub fn config(&self) -> &TreeConfig {
        &self.inner.config
    }

    /// What it shares with the other trees of its core.
    pub fn shared(&self) -> &Shared<D::File> {
        &self.inner.shared
    }

    /// Its number among the trees of the core.
    pub(super) fn number(&self) -> u32 {
        self.inner.number
    }

    pub(crate) fn disk(&self) -> &D {
        &self.inner.disk
    }

    pub(crate) fn dir(&self) -> &Path {
        self.inner.new_files.dir()
    }

    /// How far the files hold the log.
    pub fn meta(&self) -> TreeMeta {
        let version = self.inner.version.borrow();
        let Manifest { applied, applied_term, extra, .. } = &version.manifest;
        TreeMeta { applied: *applied, applied_term: *applied_term, extra: extra.clone() }
    }

    /// A live file's table: kept open, or opened now.
    ///
    /// # Errors
    /// `DamagedFile`, `Io`.
    pub(crate) async fn table(&self, file: &LiveFile) -> Result<Rc<Table<D::File>>> {
        let Inner { disk, new_files, shared, number, .. } = &*self.inner;
        if let Some(table) = shared.table(*number, file.id()) {
            return Ok(table);
        }
        let table = Rc::new(self.watch(file, new_files.open(disk, &file.meta).await)?);
        shared.keep_table(*number, &table);
        Ok(table)
    }

    /// Counters.
    pub fn stats(&self) -> TreeStats {
        let version = self.inner.version.borrow();
        let sum = |part: fn(&FileMeta) -> u64| version.files().map(|file| part(&file.meta)).sum();
        TreeStats {
            files: version.manifest.files.len(),
            bytes: sum(|file| file.bytes),
            rows: sum(|file| file.properties.rows),
            quarantined: version.files().filter(|file| file.quarantined.get()).count(),
            level_0: self.level_0(),
            ..self.inner.totals.get()
        }
    }

    fn count(&self, change: impl FnOnce(&mut TreeStats)) {
        let mut totals = self.inner.totals.get();
        change(&mut totals);
        self.inner.totals.set(totals);
    }

    /// Whether a flush is under way.
    pub fn is_flushing(&self) -> bool {
        self.inner.flushing.get()
    }

    /// Whether a merge is under way.
    pub fn is_merging(&self) -> bool {
        self.inner.merging.get()
    }

    pub(super) fn new_files(&self) -> &NewFiles {
        &self.inner.new_files
    }

    /// State files of level 0: what every point read looks through.
    pub fn level_0(&self) -> usize {
        self.inner.version.borrow().state[0].len()
    }

    /// Quarantines a file in which damage was found.
    pub(super) fn watch<T>(&self, file: &LiveFile, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && error.is_damage()
            && !file.quarantined.replace(true)
        {
            self.inner.changes.set(self.inner.changes.get() + 1);
        }
        result
    }

    /// The next step of compaction, if there is any: see [`plan_compaction`]. Made anew only where files have changed.
    pub fn plan(&self, dead_before_ms: u64) -> Option<Plan> {
        let changes = self.inner.changes.get();
        let mut planned = self.inner.planned.borrow_mut();
        if let Some((for_changes, for_dead_before_ms, plan)) = &*planned
            && (*for_changes, *for_dead_before_ms) == (changes, dead_before_ms)
        {
            return plan.clone();
        }
        let version = self.version();
        let files: Vec<_> =
            version.files().map(|file| PlanFile { meta: &file.meta, quarantined: file.quarantined.get() }).collect();
        let plan = plan_compaction(&files, dead_before_ms);
        *planned = Some((changes, dead_before_ms, plan.clone()));
        plan
    }

    pub(super) fn begin_flush(&self) -> Held<'_> {
        assert!(!self.inner.flushing.replace(true), "one flush of a tree at a time");
        Held(&self.inner.flushing)
    }

    pub(super) fn begin_merge(&self) -> Held<'_> {
        assert!(!self.inner.merging.replace(true), "one merge of a tree at a time");
        Held(&self.inner.merging)
    }

    /// Makes `added` live in the place of `removed`, whose data is durable, and moves the meta.
    ///
    /// # Errors
    /// `NoSpace` (the added files are removed), `Io`: the version is the one before.
    pub(super) async fn replace(
        &self,
        removed: &[Rc<LiveFile>],
        added: Vec<FileMeta>,
        meta: Option<TreeMeta>,
    ) -> Result<()> {
        let ids: Vec<_> = added.iter().map(|file| file.id).collect();
        let bytes: u64 = added.iter().map(|file| file.bytes).sum();
        let is_flush = meta.is_some();
        let replaced = self.install(removed, added, meta).await;
        if let Err(Error::NoSpace { .. }) = &replaced {
            // The next try writes others. (After any other failure the manifest may name them.)
            self.inner.new_files.remove(&self.inner.disk, &ids).await;
        }
        replaced?;
        self.count(|totals| {
            if is_flush {
                totals.flushed_bytes_total += bytes;
            } else {
                totals.merged_bytes_total += bytes;
            }
            totals.removed_bytes_total += removed.iter().map(|file| file.meta.bytes).sum::<u64>();
        });
        self.inner.garbage.borrow_mut().extend(removed.iter().cloned());
        Ok(())
    }

    async fn install(&self, removed: &[Rc<LiveFile>], added: Vec<FileMeta>, meta: Option<TreeMeta>) -> Result<()> {
        let Inner { disk, new_files, installing, .. } = &*self.inner;
        let _turn = installing.take().await;
        let before = self.version();
        let is_removed = |file: &Rc<LiveFile>| removed.iter().any(|removed| removed.id() == file.id());
        let mut files: Vec<_> = before.files().filter(|file| !is_removed(file)).cloned().collect();
        assert!(files.len() + removed.len() == before.manifest.files.len(), "what is replaced was live");
        files.extend(added.into_iter().map(LiveFile::new));
        let TreeMeta { applied, applied_term, extra } = meta.unwrap_or_else(|| self.meta());
        let next_file = new_files.next();
        let manifest = Manifest { applied, applied_term, next_file, extra, files: Vec::new() };
        let version = Version::new(manifest, files);
        disk.sync_dir(new_files.dir()).await?;
        let written = manifest::replace(disk, new_files.dir(), &version.manifest).await?;
        self.count(|totals| totals.manifest_bytes_total += written);
        *self.inner.version.borrow_mut() = Rc::new(version);
        self.inner.changes.set(self.inner.changes.get() + 1);
        Ok(())
    }

    /// Removes the files that are no longer live and that nobody reads.
    ///
    /// # Errors
    /// `Io`.
    pub async fn collect_garbage(&self) -> Result<()> {
        loop {
            let unread = {
                let mut garbage = self.inner.garbage.borrow_mut();
                let unread = garbage.iter().position(|file| Rc::strong_count(file) == 1);
                unread.map(|n| garbage.swap_remove(n))
            };
            let Some(file) = unread else {
                return Ok(());
            };
            self.inner.shared.forget_table(self.inner.number, file.id());
            self.inner.disk.remove(&self.dir().join(table_name(file.id()))).await?;
        }
    }

    /// How many files of a class are live.
    pub fn files_of(&self, class: Class) -> usize {
        self.version().files().filter(|file| file.meta.properties.class == class).count()
    }
}

/// The first manifest of a directory, written before anything else is: a directory with tables and without a manifest
/// has lost it, and must not be taken for an empty one.
async fn begin<D: Disk>(disk: &D, dir: &Path) -> Result<Manifest> {
    if let Some(table) = disk.list(dir).await?.iter().find(|entry| entry.name.starts_with(TABLE_PREFIX)) {
        let reason = format!("it is missing, and {} is there", table.name);
        return Err(Error::DamagedFile { path: dir.join(MANIFEST_NAME), reason });
    }
    let manifest = Manifest::default();
    manifest::replace(disk, dir, &manifest).await?;
    Ok(manifest)
}

/// Marks something as under way for as long as it lives.
pub(super) struct Held<'a>(&'a Cell<bool>);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
