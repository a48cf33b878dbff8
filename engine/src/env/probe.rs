//! (D) Which disk driver a node uses: decided at start by trying, and logged.
//!
//! Container runtimes often forbid io_uring; the probe finds out by setting up a ring and making one durable write in
//! the data directory. The two drivers mean the same; only their cost differs.

use std::path::Path;

use super::{
    AlignedBuf, DirEntry, Disk, DiskFile, aside,
    blocking::BlockingDisk,
    thread_disk::{ThreadDisk, ThreadFile},
    uring::{UringDisk, UringDriver, UringFile},
};
use crate::{error::Result, limits::BLOCK_BYTES};

/// The environment variable that decides where the configuration says `auto`: for tests.
pub const BACKEND_VARIABLE: &str = "COLUMBA_DISK";

/// Which driver is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// io_uring where it works, else threads.
    #[default]
    Auto,
    /// io_uring, or fail.
    Uring,
    /// Threads.
    Thread,
}

impl core::str::FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "thread" => Ok(Self::Thread),
            _ => Err(format!("{text:?} is not a disk driver: auto, uring or thread")),
        }
    }
}

/// The disk that was chosen.
#[derive(Clone)]
pub enum AnyDisk {
    /// io_uring.
    Uring(UringDisk),
    /// Threads.
    Thread(ThreadDisk),
}

/// A file on it.
#[derive(Clone)]
pub enum AnyFile {
    /// io_uring.
    Uring(UringFile),
    /// Threads.
    Thread(ThreadFile),
}

/// Opens the wanted driver for this thread. Run the [`UringDriver`], where there is one, as a task beside everything
/// else. To be called inside the thread's runtime; `dir` exists.
///
/// # Errors
/// `Io` where `Uring` is demanded and does not work, or no thread can be started.
pub async fn open(backend: Backend, dir: &Path) -> Result<(AnyDisk, Option<UringDriver>)> {
    let wanted = match (backend, std::env::var(BACKEND_VARIABLE)) {
        (Backend::Auto, Ok(text)) => text.parse().unwrap_or_default(),
        _ => backend,
    };
    if wanted == Backend::Thread {
        tracing::info!(driver = "thread", "disk driver, as configured");
        return Ok((AnyDisk::Thread(ThreadDisk::new()?), None));
    }
    match try_uring(dir).await {
        Ok((disk, driver)) => {
            tracing::info!(driver = "io_uring", "disk driver");
            Ok((AnyDisk::Uring(disk), Some(driver)))
        }
        Err(error) if wanted == Backend::Auto => {
            tracing::warn!(driver = "thread", %error, "disk driver: io_uring does not work here");
            Ok((AnyDisk::Thread(ThreadDisk::new()?), None))
        }
        Err(error) => Err(error),
    }
}

async fn try_uring(dir: &Path) -> Result<(UringDisk, UringDriver)> {
    let (disk, driver) = UringDisk::new()?;
    let path = dir.join(format!(".probe-{}-{:?}", std::process::id(), std::thread::current().id()));
    let file = disk.create_zeroed(&path, BLOCK_BYTES as u64).await?;
    let write = file.write_durable(0, AlignedBuf::padded(b"probe"));
    // The driver is not running yet: the write's own polls drain the ring.
    let mut write = core::pin::pin!(write);
    let written = core::future::poll_fn(|cx| {
        let polled = write.as_mut().poll(cx);
        if polled.is_pending() {
            cx.waker().wake_by_ref();
        }
        polled
    })
    .await;
    disk.remove(&path).await?;
    written.0?;
    Ok((disk, driver))
}

macro_rules! delegate {
    ($self:ident, $kind:ident, $inner:ident => $call:expr) => {
        match $self {
            $kind::Uring($inner) => $call,
            $kind::Thread($inner) => $call,
        }
    };
}

impl Disk for AnyDisk {
    type File = AnyFile;
    type Aside = BlockingDisk;

    async fn aside<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl AsyncFnOnce(BlockingDisk) -> T + Send + 'static,
    ) -> Result<T> {
        aside::run(name, work).await
    }

    fn drain(&self) {
        delegate!(self, AnyDisk, disk => disk.drain());
    }

    async fn create_dir_all(&self, path: &Path) -> Result<()> {
        delegate!(self, AnyDisk, disk => disk.create_dir_all(path).await)
    }

    async fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        delegate!(self, AnyDisk, disk => disk.list(dir).await)
    }

    async fn create_zeroed(&self, path: &Path, len: u64) -> Result<AnyFile> {
        Ok(match self {
            Self::Uring(disk) => AnyFile::Uring(disk.create_zeroed(path, len).await?),
            Self::Thread(disk) => AnyFile::Thread(disk.create_zeroed(path, len).await?),
        })
    }

    async fn create(&self, path: &Path) -> Result<AnyFile> {
        Ok(match self {
            Self::Uring(disk) => AnyFile::Uring(disk.create(path).await?),
            Self::Thread(disk) => AnyFile::Thread(disk.create(path).await?),
        })
    }

    async fn open(&self, path: &Path) -> Result<AnyFile> {
        Ok(match self {
            Self::Uring(disk) => AnyFile::Uring(disk.open(path).await?),
            Self::Thread(disk) => AnyFile::Thread(disk.open(path).await?),
        })
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        delegate!(self, AnyDisk, disk => disk.rename(from, to).await)
    }

    async fn remove(&self, path: &Path) -> Result<()> {
        delegate!(self, AnyDisk, disk => disk.remove(path).await)
    }

    async fn sync_dir(&self, dir: &Path) -> Result<()> {
        delegate!(self, AnyDisk, disk => disk.sync_dir(dir).await)
    }
}

impl DiskFile for AnyFile {
    fn len(&self) -> u64 {
        delegate!(self, AnyFile, file => file.len())
    }

    async fn write_durable(&self, offset: u64, buf: AlignedBuf) -> (Result<()>, AlignedBuf) {
        delegate!(self, AnyFile, file => file.write_durable(offset, buf).await)
    }

    async fn append(&self, bytes: Vec<u8>) -> Result<()> {
        delegate!(self, AnyFile, file => file.append(bytes).await)
    }

    async fn sync(&self) -> Result<()> {
        delegate!(self, AnyFile, file => file.sync().await)
    }

    async fn read(&self, offset: u64, len: usize) -> Result<AlignedBuf> {
        delegate!(self, AnyFile, file => file.read(offset, len).await)
    }
}
