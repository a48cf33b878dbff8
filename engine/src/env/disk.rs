//! The trait [`Disk`]: what the engine asks of a disk, and what it may rely on.
//!
//! Invariants
//! - A completed [`DiskFile::write_durable`] survives a power cut, whole. Until it completes, any subset of its
//!   512-byte sectors may be on disk. Nothing else that was written is durable before [`DiskFile::sync`] completes.
//! - A file's *name* is durable after [`Disk::sync_dir`] of its directory (also after create, rename and remove).
//! - After any failed write or sync nothing may be assumed about the bytes it covered.
//! - Dropping a future detaches from the operation; the operation and its buffer live on until it completes.
//! - Offsets, lengths and buffers of durable writes and reads are multiples of `BLOCK_BYTES`.
//! - One owner at a time writes a byte range: operations on overlapping ranges are never in flight together.
//! - Futures are not `Send`: a disk belongs to its core. What is to run beside the core goes through [`Disk::aside`].

use std::{future::Future, path::Path};

use super::AlignedBuf;
use crate::error::Result;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The file's name.
    pub name: String,
    /// Its length, bytes.
    pub len: u64,
}

/// A disk: files under absolute or relative paths. Cheap to clone; clones share the disk.
pub trait Disk: Clone + 'static {
    /// An open file. Cheap to clone; clones share the file.
    type File: DiskFile;

    /// The same files for work beside the core: see [`Disk::aside`].
    type Aside: Disk;

    /// Makes a directory and its parents; no error where it exists. Not durable before `sync_dir` of the parent.
    fn create_dir_all(&self, path: &Path) -> impl Future<Output = Result<()>>;

    /// The files (not directories) of a directory, sorted by name. `Io` where it does not exist.
    fn list(&self, dir: &Path) -> impl Future<Output = Result<Vec<DirEntry>>>;

    /// Creates a file of `len` zero bytes, allocated and *written* (not only reserved), so that later durable writes
    /// into it change no metadata, and synced. The name is not durable before `sync_dir`. Truncates what was there.
    ///
    /// # Errors
    /// `NoSpace` (the partial file is removed), `Io`.
    fn create_zeroed(&self, path: &Path, len: u64) -> impl Future<Output = Result<Self::File>>;

    /// Creates an empty file that grows by `append`; truncates what was there.
    fn create(&self, path: &Path) -> impl Future<Output = Result<Self::File>>;

    /// Opens a file for reading and writing. `Io` with `NotFound` where there is none.
    fn open(&self, path: &Path) -> impl Future<Output = Result<Self::File>>;

    /// Renames over whatever is at `to`, atomically. Durable after `sync_dir` of the directory.
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = Result<()>>;

    /// Removes a file. Durable after `sync_dir`.
    fn remove(&self, path: &Path) -> impl Future<Output = Result<()>>;

    /// Takes completions that have arrived, so that who waits for them is woken. Cheap; to be called by work that keeps
    /// the thread busy, between its slices.
    fn drain(&self) {}

    /// Runs work that keeps a processor busy for long, and waits for its outcome: beside the core, on a thread of its
    /// own, where the disk is real. A simulated disk runs it in place, so that a seed decides in which order things
    /// happen. `name` is the thread's, at most 15 bytes.
    ///
    /// The work gives way after each block of data ([`crate::background::Slice::aside`]). Dropping the future ends it
    /// there and waits until it has ended: nothing is written any more when the drop returns.
    ///
    /// # Errors
    /// `Io` where no thread can be started.
    fn aside<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl AsyncFnOnce(Self::Aside) -> T + Send + 'static,
    ) -> impl Future<Output = Result<T>>;

    /// Makes the names of a directory durable.
    fn sync_dir(&self, dir: &Path) -> impl Future<Output = Result<()>>;
}

/// An open file.
pub trait DiskFile: Clone + 'static {
    /// Length, bytes.
    fn len(&self) -> u64;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes `buf` at `offset` and returns once it is durable: one write, one flush of it. The range must lie inside
    /// the file. Gives the buffer back for reuse, also after an error.
    ///
    /// # Errors
    /// `Io`, `NoSpace`: see the invariants above.
    fn write_durable(&self, offset: u64, buf: AlignedBuf) -> impl Future<Output = (Result<()>, AlignedBuf)>;

    /// Appends to a file made by `create`; `bytes` of any length. Not durable before `sync`.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    fn append(&self, bytes: Vec<u8>) -> impl Future<Output = Result<()>>;

    /// Makes all bytes and the length durable.
    fn sync(&self) -> impl Future<Output = Result<()>>;

    /// Reads `len` bytes at `offset`, both multiples of `BLOCK_BYTES`. Bytes past the end of the file come as zeroes.
    ///
    /// # Errors
    /// `Io`.
    fn read(&self, offset: u64, len: usize) -> impl Future<Output = Result<AlignedBuf>>;
}
