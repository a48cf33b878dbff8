//! [`Tree`]: a partition's files.

use core::cell::{Cell, RefCell};
use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use bytes::Bytes;

use super::{
    manifest::{self, FileMeta, MANIFEST_NAME, Manifest},
    plan::plan_merge,
    scan::{MergedCursor, ScanRange},
};
use crate::{
    env::{Disk, executor::yield_now},
    error::{Error, Result},
    ids::{FileId, LogIndex, Term},
    table::{
        reader::{BlockCache, Direction, Table},
        writer::TableWriter,
    },
};

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
    /// Bytes written by flushes and merges since the tree was opened.
    pub bytes_written_total: u64,
}

/// What a verification read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Files.
    pub files: usize,
    /// Bytes.
    pub bytes: u64,
}

/// The live files at one time, oldest first. Immutable: a change makes the next version.
struct Version<D: Disk> {
    tables: Vec<(FileMeta, Rc<Table<D::File>>)>,
    manifest: Manifest,
}

/// A partition's files. Clones share it. Belongs to one core.
pub struct Tree<D: Disk> {
    inner: Rc<Inner<D>>,
}

struct Inner<D: Disk> {
    disk: D,
    dir: PathBuf,
    version: RefCell<Rc<Version<D>>>,
    cache: BlockCache,
    next_file: Cell<FileId>,
    written: Cell<u64>,
    /// Whether a flush or merge is changing the version: one at a time.
    changing: Cell<bool>,
}

impl<D: Disk> Clone for Tree<D> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

/// How the names of table files begin.
const TABLE_PREFIX: &str = "table-";

fn table_name(id: FileId) -> String {
    format!("{TABLE_PREFIX}{:016x}", id.get())
}

impl<D: Disk> Tree<D> {
    /// Opens the tree in a directory, which exists, or begins an empty one. Files that no manifest names are removed.
    ///
    /// # Errors
    /// `DamagedFile`, `UnsupportedFormat`, `Io`.
    pub async fn open(disk: D, dir: PathBuf) -> Result<(Self, TreeReport)> {
        let manifest = match manifest::read(&disk, &dir).await? {
            Some(manifest) => manifest,
            None => begin(&disk, &dir).await?,
        };
        let mut tables = Vec::new();
        for meta in &manifest.files {
            let path = dir.join(table_name(meta.id));
            let file = disk.open(&path).await?;
            let table = Table::open(meta.id, path.clone(), file).await?;
            if (table.bytes(), table.rows(), table.checksum()) != (meta.bytes, meta.rows, meta.checksum) {
                return Err(Error::DamagedFile {
                    path,
                    reason: "it is not the file that the manifest names".to_owned(),
                });
            }
            tables.push((*meta, Rc::new(table)));
        }
        let mut report = TreeReport { files: tables.len(), orphans: Vec::new() };
        for entry in disk.list(&dir).await? {
            let live = manifest.files.iter().any(|meta| table_name(meta.id) == entry.name);
            if !live && entry.name != MANIFEST_NAME {
                disk.remove(&dir.join(&entry.name)).await?;
                report.orphans.push(entry.name);
            }
        }
        let next_file = Cell::new(manifest.next_file.max(FileId::new(1)));
        let version = RefCell::new(Rc::new(Version { tables, manifest }));
        let inner = Inner {
            disk,
            dir,
            version,
            cache: BlockCache::default(),
            next_file,
            written: Cell::new(0),
            changing: Cell::new(false),
        };
        Ok((Self { inner: Rc::new(inner) }, report))
    }

    fn version(&self) -> Rc<Version<D>> {
        Rc::clone(&self.inner.version.borrow())
    }

    /// How far the files hold the log.
    pub fn meta(&self) -> TreeMeta {
        let version = self.inner.version.borrow();
        let Manifest { applied, applied_term, extra, .. } = &version.manifest;
        TreeMeta { applied: *applied, applied_term: *applied_term, extra: extra.clone() }
    }

    /// The value of a key; `None` where there is none, or it is deleted.
    ///
    /// Cost: at most one block read per file; the filter spares most.
    ///
    /// # Errors
    /// `DamagedBlock`, `Io`.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        for (_, table) in self.version().tables.iter().rev() {
            if let Some(found) = table.get(key, &self.inner.cache).await? {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Rows of a range in order, until `rows_max` or about `bytes_max` of keys and values; at least one where one
    /// exists.
    ///
    /// # Errors
    /// `DamagedBlock`, `Io`.
    pub async fn scan(
        &self,
        range: ScanRange,
        direction: Direction,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let version = self.version();
        let tables = version.tables.iter().rev().map(|(_, table)| table);
        let mut cursor = MergedCursor::seek(tables, range, direction, &self.inner.cache).await?;
        let mut rows = Vec::new();
        let mut bytes = 0usize;
        while rows.len() < rows_max && (bytes < bytes_max || rows.is_empty()) {
            let Some((key, value)) = cursor.next(&self.inner.cache).await? else {
                break;
            };
            if let Some(value) = value {
                bytes = bytes.saturating_add(key.len() + value.len());
                rows.push((key, value));
            }
        }
        Ok(rows)
    }

    /// Writes rows, strictly ascending, to a new file that is newer than all others, and moves the meta with it.
    /// `None` is a deletion marker. Without rows only the meta moves.
    ///
    /// # Errors
    /// `NoSpace`, `Io`: nothing has changed.
    ///
    /// # Panics
    /// If a flush or merge is under way, or keys do not ascend.
    pub async fn flush(&self, rows: impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)>, meta: TreeMeta) -> Result<()> {
        let _changing = self.begin_change();
        let mut rows = rows.peekable();
        let mut added = None;
        if rows.peek().is_some() {
            let id = self.take_file_id();
            let written = self.write_file(id, async |writer| {
                for (key, value) in rows {
                    writer.push(&key, value.as_deref()).await?;
                }
                Ok(())
            });
            added = Some(written.await?);
        }
        let version = self.version();
        let mut tables = version.tables.clone();
        let id = added.as_ref().map(|(meta, _)| meta.id);
        tables.extend(added);
        let installed = self.install(tables, meta).await;
        self.remove_unless_installed(id, &installed).await;
        installed
    }

    /// Whether a flush or merge is under way.
    pub fn is_changing(&self) -> bool {
        self.inner.changing.get()
    }

    /// Whether there are enough files to merge some.
    pub fn wants_merge(&self) -> bool {
        !self.is_changing() && self.plan().is_some()
    }

    fn plan(&self) -> Option<core::ops::Range<usize>> {
        let version = self.inner.version.borrow();
        let sizes: Vec<_> = version.tables.iter().map(|(meta, _)| meta.bytes).collect();
        plan_merge(&sizes)
    }

    /// Merges the files that the plan names. Rows for which `keep` is false are dropped, and deletion markers where
    /// nothing older is left that they could hide.
    ///
    /// # Errors
    /// `DamagedBlock`, `NoSpace`, `Io`: nothing has changed.
    ///
    /// # Panics
    /// If a flush or merge is under way.
    pub async fn merge(&self, keep: impl Fn(&[u8], &[u8]) -> bool) -> Result<()> {
        let _changing = self.begin_change();
        let Some(range) = self.plan() else {
            return Ok(());
        };
        let version = self.version();
        let merged = &version.tables[range.clone()];
        let hides_nothing = range.start == 0;
        let everything = ScanRange { start: Vec::new(), end: vec![0xff; crate::limits::KEY_BYTES_MAX + 1] };
        // A cache of its own: a merge reads each block once, and must not push out what readers want.
        let cache = BlockCache::default();
        let newest_first = merged.iter().rev().map(|(_, table)| table);
        let mut cursor = MergedCursor::seek(newest_first, everything, Direction::Forward, &cache).await?;
        let mut rows = 0;
        let id = self.take_file_id();
        let written = self
            .write_file(id, async |writer| {
                while let Some((key, value)) = cursor.next(&cache).await? {
                    let wanted = match &value {
                        Some(value) => keep(&key, value),
                        None => !hides_nothing,
                    };
                    if wanted {
                        writer.push(&key, value.as_deref()).await?;
                        rows += 1;
                    }
                }
                Ok(())
            })
            .await?;
        let mut tables = version.tables[..range.start].to_vec();
        if rows > 0 {
            tables.push(written);
        }
        tables.extend_from_slice(&version.tables[range.end..]);
        let installed = self.install(tables, self.meta()).await;
        self.remove_unless_installed(Some(id), &installed).await;
        installed?;
        if rows == 0 {
            self.inner.disk.remove(&self.inner.dir.join(table_name(id))).await?;
        }
        for (meta, _) in merged {
            self.inner.disk.remove(&self.inner.dir.join(table_name(meta.id))).await?;
        }
        Ok(())
    }

    /// Counters.
    pub fn stats(&self) -> TreeStats {
        let version = self.inner.version.borrow();
        TreeStats {
            files: version.tables.len(),
            bytes: version.tables.iter().map(|(meta, _)| meta.bytes).sum(),
            rows: version.tables.iter().map(|(meta, _)| meta.rows).sum(),
            bytes_written_total: self.inner.written.get(),
        }
    }

    /// Reads and checks every byte of every live file. (That each is the file that the manifest names is checked when
    /// the tree is opened.)
    ///
    /// # Errors
    /// `DamagedBlock`, `DamagedFile`, `Io`.
    pub async fn verify(&self) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        for (meta, table) in &self.version().tables {
            table.verify().await?;
            report.files += 1;
            report.bytes += meta.bytes;
        }
        Ok(report)
    }

    fn take_file_id(&self) -> FileId {
        let id = self.inner.next_file.get();
        self.inner.next_file.set(id.next());
        id
    }

    fn begin_change(&self) -> Changing<'_> {
        assert!(!self.inner.changing.replace(true), "one flush or merge of a tree at a time");
        Changing(&self.inner.changing)
    }

    /// Writes a file, makes it and its name durable, and opens it. After an error the partial file is removed.
    async fn write_file(
        &self,
        id: FileId,
        fill: impl AsyncFnOnce(&mut TableWriter<D::File>) -> Result<()>,
    ) -> Result<(FileMeta, Rc<Table<D::File>>)> {
        let Inner { disk, dir, .. } = &*self.inner;
        let path = dir.join(table_name(id));
        let written = async {
            let file = disk.create(&path).await?;
            let mut writer = TableWriter::new(id, file);
            fill(&mut writer).await?;
            writer.finish().await
        };
        let written = match written.await {
            Ok(written) => written,
            Err(error) => {
                // It may not exist, or not be removable now: an orphan is removed at the next start.
                let _ = disk.remove(&path).await;
                return Err(error);
            }
        };
        disk.sync_dir(dir).await?;
        self.inner.written.set(self.inner.written.get() + written.bytes);
        let table = Table::open(id, path.clone(), disk.open(&path).await?).await?;
        let meta = FileMeta { id, bytes: written.bytes, rows: written.rows, checksum: written.checksum };
        assert!(table.bytes() == meta.bytes && table.rows() == meta.rows, "file {id} is what was written");
        Ok((meta, Rc::new(table)))
    }

    /// Where lack of space kept the manifest from being written, the new file goes again: the next try writes another.
    /// (After any other failure the manifest may name it.)
    async fn remove_unless_installed(&self, id: Option<FileId>, installed: &Result<()>) {
        if let (Some(id), Err(Error::NoSpace { .. })) = (id, installed) {
            // An orphan is removed at the next start.
            let _ = self.inner.disk.remove(&self.inner.dir.join(table_name(id))).await;
        }
    }

    async fn install(&self, tables: Vec<(FileMeta, Rc<Table<D::File>>)>, meta: TreeMeta) -> Result<()> {
        let manifest = Manifest {
            applied: meta.applied,
            applied_term: meta.applied_term,
            next_file: self.inner.next_file.get(),
            extra: meta.extra,
            files: tables.iter().map(|(meta, _)| *meta).collect(),
        };
        manifest::replace(&self.inner.disk, &self.inner.dir, &manifest).await?;
        *self.inner.version.borrow_mut() = Rc::new(Version { tables, manifest });
        yield_now().await;
        Ok(())
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

/// Marks a tree as changing for as long as it lives.
struct Changing<'a>(&'a Cell<bool>);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
