//! A version that is kept: what it says stays as it is, whatever is flushed, merged or dropped meanwhile.
//!
//! Invariants
//! - The files of a view stay on the disk until it is dropped; [`Tree::collect_garbage`] then removes what is no longer
//!   live.

use std::rc::Rc;

use bytes::Bytes;

use super::{
    MessageRange, ScanRange, Tree, TreeMeta,
    read::{get_in, newest_in, oldest_in, scan_in},
    version::Version,
};
use crate::{
    env::Disk,
    error::Result,
    message::StoredMessage,
    table::{
        meta::{Class, FileMeta},
        reader::Keep,
    },
};

/// A kept version of a tree.
pub struct View<D: Disk> {
    tree: Tree<D>,
    version: Rc<Version>,
}

impl<D: Disk> Tree<D> {
    /// Keeps the version of now.
    pub fn view(&self) -> View<D> {
        View { tree: self.clone(), version: self.version() }
    }
}

impl<D: Disk> View<D> {
    /// How far the files hold the log.
    pub fn meta(&self) -> TreeMeta {
        let manifest = &self.version.manifest;
        TreeMeta { applied: manifest.applied, applied_term: manifest.applied_term, extra: manifest.extra.clone() }
    }

    /// Its files.
    pub fn files(&self) -> &[FileMeta] {
        &self.version.manifest.files
    }

    /// The manifest that names them.
    pub(crate) fn manifest(&self) -> &super::manifest::Manifest {
        &self.version.manifest
    }

    pub(crate) fn tree(&self) -> &Tree<D> {
        &self.tree
    }

    /// As [`Tree::get`].
    ///
    /// # Errors
    /// `DamagedBlock`, `DamagedFile`, `Io`.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        get_in(&self.tree, &self.version, key).await
    }

    /// As [`Tree::scan`].
    ///
    /// # Errors
    /// `DamagedBlock`, `DamagedFile`, `Io`.
    pub async fn scan(
        &self,
        class: Class,
        range: &ScanRange,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        scan_in(&self.tree, &self.version, class, range, rows_max, bytes_max).await
    }

    /// As [`Tree::newest_messages`].
    ///
    /// # Errors
    /// `DamagedBlock`, `DamagedFile`, `Io`.
    pub async fn newest_messages(&self, range: &MessageRange) -> Result<Vec<StoredMessage>> {
        newest_in(&self.tree, &self.version.messages, range, Keep::Blocks).await
    }

    /// As [`Tree::oldest_messages`].
    ///
    /// # Errors
    /// `DamagedBlock`, `DamagedFile`, `Io`.
    pub async fn oldest_messages(&self, range: &MessageRange) -> Result<Vec<StoredMessage>> {
        oldest_in(&self.tree, &self.version, range).await
    }
}
