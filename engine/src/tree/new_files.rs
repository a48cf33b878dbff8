//! Files that are being written and not live yet: what a flush or a merge beside the core needs of its tree.
//!
//! Invariants
//! - No two files of a tree ever have the same id, whoever makes them.

use core::sync::atomic::{AtomicU64, Ordering};
use std::{path::PathBuf, sync::Arc};

use super::store::table_name;
use crate::{
    env::Disk,
    error::{Error, Result},
    ids::FileId,
    table::{
        meta::FileMeta,
        reader::Table,
        writer::{FileKind, TableWriter},
    },
};

/// A tree's directory and its next file's id. Clones share both.
#[derive(Clone, Debug)]
pub(crate) struct NewFiles {
    tree: u32,
    dir: Arc<PathBuf>,
    next: Arc<AtomicU64>,
}

impl NewFiles {
    pub(super) fn new(tree: u32, dir: PathBuf, next: FileId) -> Self {
        Self { tree, dir: Arc::new(dir), next: Arc::new(AtomicU64::new(next.get())) }
    }

    pub(super) fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// The id that the next file will have.
    pub(super) fn next(&self) -> FileId {
        FileId::new(self.next.load(Ordering::Relaxed))
    }

    /// Takes an id and notes it in `begun`, then begins its file.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub(super) async fn begin<D: Disk>(
        &self,
        disk: &D,
        kind: FileKind,
        begun: &mut Vec<FileId>,
    ) -> Result<TableWriter<D::File>> {
        let id = FileId::new(self.next.fetch_add(1, Ordering::Relaxed));
        begun.push(id);
        let file = disk.create(&self.dir.join(table_name(id))).await?;
        Ok(TableWriter::new(id, file, kind))
    }

    /// Removes files that never became live. What cannot be removed now is an orphan at the next start.
    pub(super) async fn remove<D: Disk>(&self, disk: &D, ids: &[FileId]) {
        for id in ids {
            let _ = disk.remove(&self.dir.join(table_name(*id))).await;
        }
    }

    /// Opens a live file.
    ///
    /// # Errors
    /// `DamagedFile`, `Io`.
    pub(super) async fn open<D: Disk>(&self, disk: &D, meta: &FileMeta) -> Result<Table<D::File>> {
        let path = self.dir.join(table_name(meta.id));
        let file = disk.open(&path).await?;
        let table = Table::open(self.tree, meta.id, path.clone(), file).await?;
        if table.meta() != *meta {
            return Err(Error::DamagedFile { path, reason: "it is not the file that the manifest names".to_owned() });
        }
        Ok(table)
    }
}
