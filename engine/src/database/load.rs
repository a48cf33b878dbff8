//! Filling a new database in bulk, without a journal: imports, restores.
//!
//! A message is then written to files once, instead of to the journal and to files, and rows (chats, windows of sends)
//! once at the end, as long as they fit into memory, instead of with each flush. The price is that nothing of it
//! survives a crash before [`Loader::finish`]: a mark in the directory says that it is being loaded, and as long as it
//! is there the directory is no database.
//!
//! Invariants
//! - A directory with the mark is refused ([`Error::UnfinishedLoad`]); the mark goes when every file is durable.

use std::path::{Path, PathBuf};

use columba_wire::{ChatId, DeviceAddress, MessageSeq};

use super::{Database, Options, Send, Stats, Ticket};
use crate::{
    env::{Clock, Disk, DiskFile as _},
    error::{Error, Result},
};

/// The mark's name.
pub(super) const LOADING_NAME: &str = "loading";

/// A database that is being filled.
pub struct Loader<D: Disk, C: Clock> {
    db: Database<D, C>,
    disk: D,
    dir: PathBuf,
}

/// Refuses a directory whose load was not finished.
pub(super) async fn refuse_unfinished<D: Disk>(disk: &D, dir: &Path) -> Result<()> {
    match disk.list(dir).await?.iter().any(|entry| entry.name == LOADING_NAME) {
        true => Err(Error::UnfinishedLoad { dir: dir.to_owned() }),
        false => Ok(()),
    }
}

impl<D: Disk, C: Clock> Loader<D, C> {
    /// Begins a database in a directory that has none.
    ///
    /// # Errors
    /// `NotEmpty` where there is one, `UnfinishedLoad`; `NoSpace`, `Io`.
    pub async fn begin(disk: D, clock: C, dir: PathBuf, options: Options) -> Result<Self> {
        let (db, _) = Database::open(disk.clone(), clock, dir.clone(), options).await?;
        if db.partitions().iter().any(|partition| partition.applied() > crate::ids::LogIndex::ZERO) {
            return Err(Error::NotEmpty { dir });
        }
        db.partitions().iter().for_each(|partition| partition.leave_rows(true));
        disk.create(&dir.join(LOADING_NAME)).await?.sync().await?;
        disk.sync_dir(&dir).await?;
        Ok(Self { db, disk, dir })
    }

    /// As [`Database::run_background`]: goes on after [`Self::finish`]. Without it [`Self::apply`] flushes, and nothing
    /// is merged.
    pub fn run_background(&self) -> impl Future<Output = Result<()>> + use<D, C> {
        self.db.clone().run_background()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.db.stats()
    }

    /// Queues a message that was sent at `time_ms`, milliseconds since 1970.
    ///
    /// # Panics
    /// As [`Database::send`].
    pub fn send(&self, send: Send, time_ms: u64) -> Ticket {
        self.db.queue_send(send, time_ms)
    }

    /// As [`Database::append_inbox`].
    pub fn append_inbox(&self, device: DeviceAddress, chat: ChatId, from: MessageSeq, to: MessageSeq) {
        self.db.append_inbox(device, chat, from, to);
    }

    /// As [`Database::trim_inbox`].
    pub fn trim_inbox(&self, device: DeviceAddress, position: u64) {
        self.db.trim_inbox(device, position);
    }

    /// Applies what is queued. Waits for a flush where memory is full.
    ///
    /// # Errors
    /// `NoSpace`, `Io`; damage where rows had to be loaded.
    pub async fn apply(&self) -> Result<()> {
        self.db.apply_unlogged().await
    }

    /// Makes everything durable: from now on it is a database like any other.
    ///
    /// # Errors
    /// `NoSpace`, `Io`: the load is not finished.
    pub async fn finish(self) -> Result<Database<D, C>> {
        self.apply().await?;
        self.db.partitions().iter().for_each(|partition| partition.leave_rows(false));
        self.db.flush().await?;
        self.disk.remove(&self.dir.join(LOADING_NAME)).await?;
        self.disk.sync_dir(&self.dir).await?;
        Ok(self.db)
    }
}
