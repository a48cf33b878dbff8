//! (D) `BlockingDisk`: system calls that return when they are done, for threads that may wait. What
//! [`super::thread_disk`] runs in its lanes, and what work beside a core uses ([`super::aside`]).
//!
//! Invariants
//! - Its futures are ready when they are first polled.

#![expect(clippy::disallowed_methods, reason = "a driver: this is the disk that the others are told to use")]

use core::sync::atomic::{AtomicU64, Ordering};
use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::io::ReadWriteFlags;

use super::{AlignedBuf, DirEntry, Disk, DiskFile, aside};
use crate::{
    error::{Error, Result},
    limits::BLOCK_BYTES,
};

/// Bytes written at a time while a file is filled with zeroes.
const ZERO_BYTES: usize = 256 * 1024;

/// A disk of blocking calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockingDisk;

/// A file on it.
#[derive(Clone)]
pub struct BlockingFile {
    handle: Arc<Handle>,
}

/// Open descriptors of a file.
pub(super) struct Handle {
    /// For durable writes and reads: past the page cache, where the file system allows that.
    pub(super) direct: File,
    /// For appends and syncs.
    buffered: File,
    len: AtomicU64,
    path: PathBuf,
}

/// The engine's error for the system's.
pub(super) fn io_error(operation: &'static str, path: &Path, source: io::Error) -> Error {
    match source.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => Error::NoSpace { what: operation },
        _ => Error::Io { operation, path: path.to_owned(), source },
    }
}

/// The same for a durable write, where lack of space is no better than any other failure: it lies inside a file that
/// has its blocks, so it means that the file system moves them (copy on write, a quota), and what was written is
/// unknown.
pub(super) fn write_error(path: &Path, source: io::Error) -> Error {
    Error::Io { operation: "write", path: path.to_owned(), source }
}

impl Handle {
    pub(super) fn open(path: &Path, create: bool) -> Result<Self> {
        let failed = |source| io_error("open", path, source);
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let buffered = if create {
            options.clone().create(true).truncate(true).open(path).map_err(failed)?
        } else {
            options.open(path).map_err(failed)?
        };
        let direct = match options.custom_flags(libc::O_DIRECT).open(path) {
            Ok(file) => file,
            // Some file systems (tmpfs) know no direct I/O: the page cache then, with the same durability.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => buffered.try_clone().map_err(failed)?,
            Err(error) => return Err(failed(error)),
        };
        let len = AtomicU64::new(buffered.metadata().map_err(failed)?.len());
        Ok(Self { direct, buffered, len, path: path.to_owned() })
    }

    pub(super) fn create_zeroed(path: &Path, len: u64) -> Result<Self> {
        let handle = Self::open(path, true)?;
        // Past the page cache where that is possible, piece by piece: one sync of 64 MiB of dirty pages would keep
        // every durable write of the core waiting behind it.
        let fill = || -> io::Result<()> {
            let zeroes = AlignedBuf::zeroed(ZERO_BYTES);
            let mut at = 0;
            while at < len {
                let piece = usize::try_from(len - at).unwrap_or(ZERO_BYTES).min(ZERO_BYTES);
                let file = if piece.is_multiple_of(BLOCK_BYTES) { &handle.direct } else { &handle.buffered };
                file.write_all_at(&zeroes[..piece], at)?;
                at += piece as u64;
            }
            handle.buffered.sync_all()
        };
        match fill() {
            Ok(()) => {
                handle.len.store(len, Ordering::Release);
                Ok(handle)
            }
            Err(error) => {
                // It is of no use: whether it could be removed shows at the next start.
                let _ = std::fs::remove_file(path);
                Err(io_error("fill with zeroes", path, error))
            }
        }
    }

    pub(super) fn write_durable(&self, offset: u64, buf: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let rest = [IoSlice::new(&buf[done..])];
            match rustix::io::pwritev2(&self.direct, &rest, offset + done as u64, ReadWriteFlags::DSYNC) {
                Ok(0) => return Err(write_error(&self.path, io::ErrorKind::WriteZero.into())),
                Ok(bytes) => done += bytes,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(write_error(&self.path, error.into())),
            }
        }
        Ok(())
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> Result<AlignedBuf> {
        let mut buf = AlignedBuf::zeroed(len);
        let mut done = 0;
        while done < len {
            match rustix::io::pread(&self.direct, &mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(bytes) => done += bytes,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(io_error("read", &self.path, error.into())),
            }
            // A direct read that ends inside a block has met the end of the file.
            if !done.is_multiple_of(BLOCK_BYTES) {
                break;
            }
        }
        Ok(buf)
    }

    /// Whole blocks go past the page cache: a table that is synced at its end with all its pages dirty would keep the
    /// journal's writes waiting behind it.
    pub(super) fn append(&self, bytes: &[u8]) -> Result<()> {
        let at = self.len();
        let is_whole = |number: u64| number.is_multiple_of(BLOCK_BYTES as u64);
        let written = if is_whole(at) && is_whole(bytes.len() as u64) {
            self.direct.write_all_at(&AlignedBuf::padded(bytes), at)
        } else {
            self.buffered.write_all_at(bytes, at)
        };
        written.map_err(|error| io_error("append to", &self.path, error))?;
        self.len.store(at + bytes.len() as u64, Ordering::Release);
        Ok(())
    }

    /// Makes bytes and length durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.buffered.sync_all().map_err(|error| io_error("sync", &self.path, error))
    }

    /// Length, bytes.
    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

pub(super) fn create_dir_all(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| io_error("create directory", path, error))
}

/// The files of a directory by name.
pub(super) fn list(dir: &Path) -> Result<Vec<DirEntry>> {
    let list = || -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                entries.push(DirEntry { name, len: metadata.len() });
            }
        }
        entries.sort_unstable();
        Ok(entries)
    };
    list().map_err(|error| io_error("list", dir, error))
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|error| io_error("rename", from, error))
}

pub(super) fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).map_err(|error| io_error("remove", path, error))
}

pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    let sync = || File::open(dir)?.sync_all();
    sync().map_err(|error| io_error("sync directory", dir, error))
}

impl Disk for BlockingDisk {
    type File = BlockingFile;
    type Aside = Self;

    async fn aside<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl AsyncFnOnce(Self) -> T + Send + 'static,
    ) -> Result<T> {
        aside::run(name, work).await
    }

    async fn create_dir_all(&self, path: &Path) -> Result<()> {
        create_dir_all(path)
    }

    async fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        list(dir)
    }

    async fn create_zeroed(&self, path: &Path, len: u64) -> Result<BlockingFile> {
        Ok(BlockingFile { handle: Arc::new(Handle::create_zeroed(path, len)?) })
    }

    async fn create(&self, path: &Path) -> Result<BlockingFile> {
        Ok(BlockingFile { handle: Arc::new(Handle::open(path, true)?) })
    }

    async fn open(&self, path: &Path) -> Result<BlockingFile> {
        Ok(BlockingFile { handle: Arc::new(Handle::open(path, false)?) })
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        rename(from, to)
    }

    async fn remove(&self, path: &Path) -> Result<()> {
        remove(path)
    }

    async fn sync_dir(&self, dir: &Path) -> Result<()> {
        sync_dir(dir)
    }
}

impl DiskFile for BlockingFile {
    fn len(&self) -> u64 {
        self.handle.len()
    }

    async fn write_durable(&self, offset: u64, buf: AlignedBuf) -> (Result<()>, AlignedBuf) {
        assert!(offset + buf.len() as u64 <= self.len(), "a durable write lies inside the file");
        (self.handle.write_durable(offset, &buf), buf)
    }

    async fn append(&self, bytes: Vec<u8>) -> Result<()> {
        self.handle.append(&bytes)
    }

    async fn sync(&self) -> Result<()> {
        self.handle.sync()
    }

    async fn read(&self, offset: u64, len: usize) -> Result<AlignedBuf> {
        self.handle.read(offset, len)
    }
}
