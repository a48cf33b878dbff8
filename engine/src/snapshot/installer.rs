//! [`Installer`]: pieces of a snapshot to a partition, over crashes, beside a partition that is still served.
//!
//! | name in the partition's directory | what it is |
//! |---|---|
//! | `incoming` | the header of the snapshot that is being received |
//! | `incoming-<id>.part` | the file under way |
//! | `incoming-<id>` | a file that is whole, durable and verified |
//! | `install` | a manifest: the installation is decided on, and only names are left to be changed |
//!
//! ```text
//! begin: incoming -> pieces: incoming-<id>.part -> verified: incoming-<id> ... -> all: install  (no way back)
//!   -> each incoming-<id> renamed to table-<id> -> install renamed to manifest -> open removes what it does not name
//! ```
//!
//! The directory may have a partition, open and in use until [`Installer::finish`]: none of these names is a table's.
//! File ids are the sender's and part of every block's crc, and may be those of files that are there: hence other names
//! up to the end. Every opening of the directory first completes what was decided on, so a crash in the middle of the
//! renames leaves nothing half: before `install` there is what was there before, behind it there is the snapshot.
//!
//! Invariants
//! - A file counts only when its bytes match the checksum of the header, were read back from the disk and verified
//!   block by block, and say of themselves what the header says of them.
//! - `install` is made after every file and its name are durable. It needs no more space from then on.
//! - A partition never goes back: a snapshot older than what is there is refused.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::SnapshotHeader;
use crate::{
    background::Pacer,
    env::{Disk, DiskFile as _},
    error::{Error, Result},
    ids::FileId,
    limits::{BLOCK_BYTES, SNAPSHOT_PIECE_BYTES},
    table::{meta::FileMeta, reader::Table, walk::Walk},
    tree::{
        manifest::{self, MANIFEST_NAME, Manifest},
        table_name,
    },
};

/// The header of what is being received.
pub const INCOMING_NAME: &str = "incoming";
const INCOMING_NEW_NAME: &str = "incoming.new";
/// A manifest whose files are all there: an installation that was decided on.
pub const INSTALL_NAME: &str = "install";
const INSTALL_NEW_NAME: &str = "install.new";

fn whole_name(id: FileId) -> String {
    format!("{INCOMING_NAME}-{:016x}", id.get())
}

fn part_name(id: FileId) -> String {
    format!("{}.part", whole_name(id))
}

/// The next piece that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of which file.
    pub file: FileId,
    /// From which byte on.
    pub offset: u64,
    /// Bytes of the file that are not here.
    pub left: u64,
}

/// Receives a snapshot into a partition's directory.
pub struct Installer<D: Disk> {
    disk: D,
    dir: PathBuf,
    pacer: Pacer,
    header: SnapshotHeader,
    whole: BTreeSet<FileId>,
    /// Of the first file that is not whole.
    part: Option<Part<D::File>>,
}

struct Part<F> {
    file: F,
    bytes: u64,
    checksum: crc32fast::Hasher,
}

impl<F> Part<F> {
    const fn new(file: F, checksum: crc32fast::Hasher) -> Self {
        Self { file, bytes: 0, checksum }
    }

    /// Notes the next bytes of a file with this length.
    fn note(&mut self, bytes: &[u8], file_bytes: u64) {
        let covered = (file_bytes - BLOCK_BYTES as u64).saturating_sub(self.bytes);
        let covered = usize::try_from(covered).unwrap_or(usize::MAX).min(bytes.len());
        self.checksum.update(&bytes[..covered]);
        self.bytes += bytes.len() as u64;
    }
}

impl<D: Disk> Installer<D> {
    /// Begins to receive a snapshot into a directory, which exists. What was received of another one is removed, but
    /// for files that are the same in both.
    ///
    /// # Errors
    /// `Malformed` where the directory has a partition that is ahead of the snapshot; `NoSpace`, `Io`.
    pub async fn begin(disk: D, dir: PathBuf, header: SnapshotHeader, pacer: Pacer) -> Result<Self> {
        complete(&disk, &dir).await?;
        check_not_ahead(&disk, &dir, &header).await?;
        let known = read_header(&disk, &dir).await?;
        let is_same = |file: &FileMeta| known.as_ref().and_then(|known| known.file(file.id)) == Some(file);
        let kept = header.files().iter().filter(|file| is_same(file));
        let kept: BTreeSet<_> = kept.flat_map(|file| [whole_name(file.id), part_name(file.id)]).collect();
        for entry in disk.list(&dir).await? {
            let ours = entry.name.starts_with(INCOMING_NAME) || entry.name == INSTALL_NEW_NAME;
            if ours && entry.name != INCOMING_NAME && !kept.contains(&entry.name) {
                disk.remove(&dir.join(&entry.name)).await?;
            }
        }
        // Nothing of the other snapshot may come back under the new header.
        disk.sync_dir(&dir).await?;
        manifest::replace_file(&disk, &dir, (INCOMING_NEW_NAME, INCOMING_NAME), header.encode()).await?;
        Self::go_on(disk, dir, header, pacer).await
    }

    /// Goes on with what was under way before a restart; `None` where nothing was. What is in [`Self::header`] must
    /// then be what is still offered, else [`Self::begin`] again.
    ///
    /// # Errors
    /// `Io`.
    pub async fn resume(disk: D, dir: PathBuf, pacer: Pacer) -> Result<Option<Self>> {
        complete(&disk, &dir).await?;
        match read_header(&disk, &dir).await? {
            Some(header) => Self::go_on(disk, dir, header, pacer).await.map(Some),
            None => Ok(None),
        }
    }

    async fn go_on(disk: D, dir: PathBuf, header: SnapshotHeader, pacer: Pacer) -> Result<Self> {
        let names = disk.list(&dir).await?;
        let is_there = |name: String, bytes: u64| names.iter().any(|entry| entry.name == name && entry.len == bytes);
        let whole = header.files().iter().filter(|file| is_there(whole_name(file.id), file.bytes));
        let whole = whole.map(|file| file.id).collect();
        let mut installer = Self { disk, dir, pacer, header, whole, part: None };
        if let Some(Wanted { file, .. }) = installer.wanted() {
            let name = part_name(file);
            if names.iter().any(|entry| entry.name == name) {
                installer.part = installer.recover_part(file).await?;
            }
        }
        Ok(installer)
    }

    /// What is being received.
    pub const fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// Files that are whole.
    pub fn whole(&self) -> impl Iterator<Item = FileId> + '_ {
        self.whole.iter().copied()
    }

    /// Bytes that are here, of all files.
    pub fn bytes(&self) -> u64 {
        let whole = self.header.files().iter().filter(|file| self.whole.contains(&file.id));
        whole.map(|file| file.bytes).sum::<u64>() + self.part.as_ref().map_or(0, |part| part.bytes)
    }

    /// The piece that is accepted next: files come in order of id, each from its beginning. `None`: all is here.
    pub fn wanted(&self) -> Option<Wanted> {
        let file = self.header.files().iter().find(|file| !self.whole.contains(&file.id))?;
        let offset = self.part.as_ref().map_or(0, |part| part.bytes);
        Some(Wanted { file: file.id, offset, left: file.bytes - offset })
    }

    /// Takes a piece: the one that is wanted, of whole disk blocks, at most [`SNAPSHOT_PIECE_BYTES`]. With the last one
    /// the file is made durable, read back and verified.
    ///
    /// # Errors
    /// `Malformed`: another piece is wanted; nothing has changed. `NoSpace`: the piece may be tried again.
    /// `DamagedFile`, `DamagedBlock`: the file was sent or kept wrongly, and is wanted again from its beginning, as
    /// after `Io`.
    pub async fn accept(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> Result<()> {
        let refused = |reason| Error::Malformed { what: "piece of a snapshot", reason };
        let wanted = self.wanted().ok_or(refused("nothing is wanted"))?;
        if (file, offset) != (wanted.file, wanted.offset) {
            return Err(refused("another one is wanted"));
        }
        if bytes.is_empty() || !bytes.len().is_multiple_of(BLOCK_BYTES) || bytes.len() > SNAPSHOT_PIECE_BYTES {
            return Err(refused("its length is not that of a piece"));
        }
        if bytes.len() as u64 > wanted.left {
            return Err(refused("it goes beyond the end of its file"));
        }
        if self.part.is_none() {
            let created = self.disk.create(&self.dir.join(part_name(file))).await?;
            self.part = Some(Part::new(created, crc32fast::Hasher::new()));
        }
        let part = self.part.as_mut().expect("it was there or was just made");
        if let Err(error) = part.file.append(bytes.to_vec()).await {
            if !matches!(error, Error::NoSpace { .. }) {
                // What is in the file is unknown.
                self.part = None;
            }
            return Err(error);
        }
        let file_bytes = wanted.offset + wanted.left;
        part.note(bytes, file_bytes);
        if part.bytes == file_bytes {
            let part = self.part.take().expect("it is here");
            self.complete_file(file, part).await?;
        }
        Ok(())
    }

    async fn complete_file(&mut self, id: FileId, part: Part<D::File>) -> Result<()> {
        let path = self.dir.join(part_name(id));
        let verified = self.verify(id, &path, part).await;
        if let Err(error) = verified {
            // Where it cannot be removed it is overwritten.
            let _ = self.disk.remove(&path).await;
            return Err(error);
        }
        self.disk.rename(&path, &self.dir.join(whole_name(id))).await?;
        self.whole.insert(id);
        Ok(())
    }

    async fn verify(&self, id: FileId, path: &Path, part: Part<D::File>) -> Result<()> {
        let damaged = |reason: &str| Error::DamagedFile { path: path.to_owned(), reason: reason.to_owned() };
        let meta = self.header.file(id).expect("what is wanted is in the header");
        if part.checksum.finalize() != meta.checksum {
            return Err(damaged("what was received does not match its checksum"));
        }
        part.file.sync().await?;
        let table = Table::open(0, id, path.to_owned(), self.disk.open(path).await?).await?;
        if table.meta() != *meta {
            return Err(damaged("what was received is not what the header names"));
        }
        table.verify(&mut self.pacer.slice()).await
    }

    /// What a crash has left of the file under way: its blocks are checked one by one, and those that are whole are
    /// copied, for a file cannot be cut. Where there is no room for that it begins anew.
    async fn recover_part(&self, id: FileId) -> Result<Option<Part<D::File>>> {
        let path = self.dir.join(part_name(id));
        let copy_path = self.dir.join(format!("{}.copy", whole_name(id)));
        let meta = self.header.file(id).expect("what is wanted is in the header");
        let file = self.disk.open(&path).await?;
        let block = BLOCK_BYTES as u64;
        let prefix = Walk::new(file.clone(), id, meta.bytes - block).whole_prefix().await? / block * block;
        if prefix == 0 {
            self.disk.remove(&path).await?;
            return Ok(None);
        }
        let mut part = Part::new(self.disk.create(&copy_path).await?, crc32fast::Hasher::new());
        let mut slice = self.pacer.slice();
        while part.bytes < prefix {
            let len = usize::try_from(prefix - part.bytes).unwrap_or(usize::MAX).min(SNAPSHOT_PIECE_BYTES);
            let bytes = file.read(part.bytes, len).await?;
            match part.file.append(bytes.to_vec()).await {
                Ok(()) => part.note(&bytes, meta.bytes),
                Err(Error::NoSpace { .. }) => {
                    self.disk.remove(&copy_path).await?;
                    self.disk.remove(&path).await?;
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
            slice.checkpoint().await;
        }
        self.disk.rename(&copy_path, &path).await?;
        Ok(Some(part))
    }

    /// Puts the snapshot in the place of what is there. A partition of this directory must be closed: no clone of it,
    /// no view and no snapshot is left. The journal then has to go on above the snapshot
    /// ([`crate::journal::Journal`]'s `restart`, where its last entry is below).
    ///
    /// # Errors
    /// `Malformed` where not all is here, or the partition is ahead by now; `NoSpace`: nothing has changed, and this
    /// may be called again. After `Io` the next opening of the directory shows what came of it.
    pub async fn finish(&self) -> Result<()> {
        if self.wanted().is_some() {
            return Err(Error::Malformed { what: "snapshot", reason: "not all of it is here" });
        }
        check_not_ahead(&self.disk, &self.dir, &self.header).await?;
        self.disk.sync_dir(&self.dir).await?;
        let decided = self.header.manifest.encode();
        manifest::replace_file(&self.disk, &self.dir, (INSTALL_NEW_NAME, INSTALL_NAME), decided).await?;
        complete(&self.disk, &self.dir).await
    }
}

async fn read_header<D: Disk>(disk: &D, dir: &Path) -> Result<Option<SnapshotHeader>> {
    if !disk.list(dir).await?.iter().any(|entry| entry.name == INCOMING_NAME) {
        return Ok(None);
    }
    let path = dir.join(INCOMING_NAME);
    // A damaged one is as none: what it named is sent again.
    Ok(SnapshotHeader::decode(&path, &manifest::read_file(disk, &path).await?).ok())
}

async fn check_not_ahead<D: Disk>(disk: &D, dir: &Path, header: &SnapshotHeader) -> Result<()> {
    match manifest::read(disk, dir).await {
        Ok(Some(manifest)) if manifest.applied > header.applied() => {
            Err(Error::Malformed { what: "snapshot", reason: "the partition is ahead of it" })
        }
        Ok(_) => Ok(()),
        // A damaged partition is what a snapshot is good for.
        Err(error) if error.is_damage() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Completes an installation that was decided on; nothing to do where there is none. To be called before a directory's
/// manifest is read.
pub(crate) async fn complete<D: Disk>(disk: &D, dir: &Path) -> Result<()> {
    let names = disk.list(dir).await?;
    let is_there = |name: &str| names.iter().any(|entry| entry.name == name);
    if !is_there(INSTALL_NAME) {
        return Ok(());
    }
    let path = dir.join(INSTALL_NAME);
    let manifest = Manifest::decode(&path, &manifest::read_file(disk, &path).await?)?;
    for file in &manifest.files {
        let to = dir.join(table_name(file.id));
        if is_there(&whole_name(file.id)) {
            disk.rename(&dir.join(whole_name(file.id)), &to).await?;
        } else if !names.iter().any(|entry| entry.name == table_name(file.id) && entry.len == file.bytes) {
            let reason = "a snapshot's installation names it, and it is missing".to_owned();
            return Err(Error::DamagedFile { path: to, reason });
        }
    }
    disk.sync_dir(dir).await?;
    disk.rename(&path, &dir.join(MANIFEST_NAME)).await?;
    disk.sync_dir(dir).await?;
    if is_there(INCOMING_NAME) {
        disk.remove(&dir.join(INCOMING_NAME)).await?;
    }
    Ok(())
}
