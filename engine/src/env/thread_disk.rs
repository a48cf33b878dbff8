//! (D) `ThreadDisk`: blocking calls on threads of its own. The fallback where io_uring is forbidden, and the helper
//! that does what io_uring has no good operation for.
//!
//! Three lanes, so that nothing quick waits behind something slow: durable writes, reads, and everything else
//! (creating, appending, syncing, names). Within a lane operations run in order.
//!
//! Invariants
//! - The queue of a lane holds at most [`LANE_OPERATIONS_MAX`]; a caller beyond that gives way until there is room.
//! - A dropped future detaches: its operation still runs, with its buffer.

#![expect(clippy::disallowed_methods, reason = "a driver: this is the disk that the others are told to use")]

use core::sync::atomic::{AtomicU64, Ordering};
use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
};

use rustix::io::ReadWriteFlags;
use tokio::sync::oneshot;

use super::{AlignedBuf, DirEntry, Disk, DiskFile, executor::yield_now};
use crate::{
    error::{Error, Result},
    limits::BLOCK_BYTES,
};

/// Operations that wait in a lane.
pub const LANE_OPERATIONS_MAX: usize = 1024;
/// Bytes written at a time while a file is filled with zeroes.
const ZERO_BYTES: usize = 256 * 1024;

type Job = Box<dyn FnOnce() + Send>;

/// A disk served by threads. Clones share them; they end with the last clone.
#[derive(Clone)]
pub struct ThreadDisk {
    lanes: Arc<Lanes>,
}

struct Lanes {
    write: SyncSender<Job>,
    read: SyncSender<Job>,
    slow: SyncSender<Job>,
}

/// A file on it.
#[derive(Clone)]
pub struct ThreadFile {
    lanes: Arc<Lanes>,
    pub(super) handle: Arc<Handle>,
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

impl ThreadDisk {
    /// Starts the threads.
    ///
    /// # Errors
    /// `Io` where a thread cannot be started.
    pub fn new() -> Result<Self> {
        let lanes = Lanes { write: lane("disk-write")?, read: lane("disk-read")?, slow: lane("disk-slow")? };
        Ok(Self { lanes: Arc::new(lanes) })
    }

    fn file(&self, handle: Handle) -> ThreadFile {
        ThreadFile { lanes: Arc::clone(&self.lanes), handle: Arc::new(handle) }
    }

    async fn slow<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        run(&self.lanes.slow, work).await
    }
}

fn lane(name: &str) -> Result<SyncSender<Job>> {
    let (sender, receiver) = sync_channel::<Job>(LANE_OPERATIONS_MAX);
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        while let Ok(job) = receiver.recv() {
            job();
        }
    });
    started.map_err(|source| Error::Io { operation: "start a thread for", path: PathBuf::from(name), source })?;
    Ok(sender)
}

/// Runs work in a lane and waits for it.
async fn run<T: Send + 'static>(lane: &SyncSender<Job>, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = oneshot::channel();
    let mut job: Job = Box::new(move || {
        // The other side may be gone: a dropped future detaches.
        let _ = sender.send(work());
    });
    loop {
        match lane.try_send(job) {
            Ok(()) => break,
            Err(TrySendError::Full(again)) => job = again,
            Err(TrySendError::Disconnected(_)) => unreachable!("a lane lives as long as its disk"),
        }
        yield_now().await;
    }
    receiver.await.expect("a lane runs every job it takes")
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
    fn open(path: &Path, create: bool) -> Result<Self> {
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

    fn create_zeroed(path: &Path, len: u64) -> Result<Self> {
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

    fn write_durable(&self, offset: u64, buf: &[u8]) -> Result<()> {
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

    fn read(&self, offset: u64, len: usize) -> Result<AlignedBuf> {
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
    fn append(&self, bytes: &[u8]) -> Result<()> {
        let at = self.len.load(Ordering::Acquire);
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

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Disk for ThreadDisk {
    type File = ThreadFile;

    async fn create_dir_all(&self, path: &Path) -> Result<()> {
        let path = path.to_owned();
        self.slow(move || std::fs::create_dir_all(&path).map_err(|error| io_error("create directory", &path, error)))
            .await
    }

    async fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        let dir = dir.to_owned();
        self.slow(move || {
            let list = || -> io::Result<Vec<DirEntry>> {
                let mut entries = Vec::new();
                for entry in std::fs::read_dir(&dir)? {
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
            list().map_err(|error| io_error("list", &dir, error))
        })
        .await
    }

    async fn create_zeroed(&self, path: &Path, len: u64) -> Result<ThreadFile> {
        let path = path.to_owned();
        Ok(self.file(self.slow(move || Handle::create_zeroed(&path, len)).await?))
    }

    async fn create(&self, path: &Path) -> Result<ThreadFile> {
        let path = path.to_owned();
        Ok(self.file(self.slow(move || Handle::open(&path, true)).await?))
    }

    async fn open(&self, path: &Path) -> Result<ThreadFile> {
        let path = path.to_owned();
        Ok(self.file(self.slow(move || Handle::open(&path, false)).await?))
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.slow(move || std::fs::rename(&from, &to).map_err(|error| io_error("rename", &from, error))).await
    }

    async fn remove(&self, path: &Path) -> Result<()> {
        let path = path.to_owned();
        self.slow(move || std::fs::remove_file(&path).map_err(|error| io_error("remove", &path, error))).await
    }

    async fn sync_dir(&self, dir: &Path) -> Result<()> {
        let dir = dir.to_owned();
        self.slow(move || {
            let sync = || File::open(&dir)?.sync_all();
            sync().map_err(|error| io_error("sync directory", &dir, error))
        })
        .await
    }
}

impl DiskFile for ThreadFile {
    fn len(&self) -> u64 {
        self.handle.len.load(Ordering::Acquire)
    }

    async fn write_durable(&self, offset: u64, buf: AlignedBuf) -> (Result<()>, AlignedBuf) {
        assert!(offset + buf.len() as u64 <= self.len(), "a durable write lies inside the file");
        let handle = Arc::clone(&self.handle);
        run(&self.lanes.write, move || (handle.write_durable(offset, &buf), buf)).await
    }

    async fn append(&self, bytes: Vec<u8>) -> Result<()> {
        let handle = Arc::clone(&self.handle);
        run(&self.lanes.slow, move || handle.append(&bytes)).await
    }

    async fn sync(&self) -> Result<()> {
        let handle = Arc::clone(&self.handle);
        run(&self.lanes.slow, move || handle.buffered.sync_all().map_err(|error| io_error("sync", &handle.path, error)))
            .await
    }

    async fn read(&self, offset: u64, len: usize) -> Result<AlignedBuf> {
        let handle = Arc::clone(&self.handle);
        run(&self.lanes.read, move || handle.read(offset, len)).await
    }
}
