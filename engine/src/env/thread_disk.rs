//! (D) `ThreadDisk`: blocking calls on threads of its own. The fallback where io_uring is forbidden, and the helper
//! that does what io_uring has no good operation for.
//!
//! Three lanes, so that nothing quick waits behind something slow: durable writes, reads and what they must open, and
//! everything else (creating, appending, syncing, names). Within a lane operations run in order.
//!
//! Invariants
//! - The queue of a lane holds at most [`LANE_OPERATIONS_MAX`]; a caller beyond that gives way until there is room.
//! - A dropped future detaches: its operation still runs, with its buffer.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
};

use tokio::sync::oneshot;

use super::{
    AlignedBuf, DirEntry, Disk, DiskFile, aside,
    blocking::{self, BlockingDisk, Handle},
    executor::yield_now,
};
use crate::error::{Error, Result};

/// Operations that wait in a lane.
pub const LANE_OPERATIONS_MAX: usize = 1024;

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

impl Disk for ThreadDisk {
    type File = ThreadFile;
    type Aside = BlockingDisk;

    async fn aside<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl AsyncFnOnce(BlockingDisk) -> T + Send + 'static,
    ) -> Result<T> {
        aside::run(name, work).await
    }

    async fn create_dir_all(&self, path: &Path) -> Result<()> {
        let path = path.to_owned();
        self.slow(move || blocking::create_dir_all(&path)).await
    }

    async fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        let dir = dir.to_owned();
        self.slow(move || blocking::list(&dir)).await
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
        Ok(self.file(run(&self.lanes.read, move || Handle::open(&path, false)).await?))
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.slow(move || blocking::rename(&from, &to)).await
    }

    async fn remove(&self, path: &Path) -> Result<()> {
        let path = path.to_owned();
        self.slow(move || blocking::remove(&path)).await
    }

    async fn sync_dir(&self, dir: &Path) -> Result<()> {
        let dir = dir.to_owned();
        self.slow(move || blocking::sync_dir(&dir)).await
    }
}

impl DiskFile for ThreadFile {
    fn len(&self) -> u64 {
        self.handle.len()
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
        run(&self.lanes.slow, move || handle.sync()).await
    }

    async fn read(&self, offset: u64, len: usize) -> Result<AlignedBuf> {
        let handle = Arc::clone(&self.handle);
        run(&self.lanes.read, move || handle.read(offset, len)).await
    }
}
