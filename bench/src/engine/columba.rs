//! Columba's engine, over its embedding API.
//!
//! - Journal and files are written with direct I/O on io_uring; reads are direct.
//! - One thread commits and reads; one flush and one merge at a time have a thread each beside it, of lower priority.
//!   Their outcomes are installed by the first, while a call waits for the disk, and in [`Store::settle`]. RocksDB and
//!   Fjall have two threads for their background.
//! - There is one budget of memory; it is the sum of what the others get for write buffers and cache.
//! - The engine finds the chat, and numbers messages and inbox entries by itself: it is told less, and must come to the
//!   same as the workload.
//! - There is no unsynced commit: where the others do not sync, this one does.
//! - An inbox is trimmed by moving its watermark.

use std::{cell::Cell, future::Future, path::Path, rc::Rc, time::Duration};

use bytes::Bytes;
use columba_engine::{
    database::{Database, Options, Send, load::Loader},
    env::{
        Clock, Instant,
        clock::{SystemClock, WallTime},
        uring::UringDisk,
    },
};
use columba_wire::ChatId;
use tokio::{runtime::Runtime, task::LocalSet};

use super::{
    store::{BulkLoad, Counters, Settings, Store},
    workload::{Message, Op},
};
use crate::clock::{SECOND_NS, now_ns};

/// How long nothing must be written for the database to count as settled.
const QUIET_NS: u64 = SECOND_NS / 2;
/// Nanoseconds to settle in, at most; beyond, it is measured as it is.
const SETTLE_NS_MAX: u64 = 300 * SECOND_NS;

/// The database, and the runtime that its tasks live on.
pub(crate) struct Columba {
    db: Database<UringDisk, WorkloadClock>,
    clock: WorkloadClock,
    note: String,
    tasks: LocalSet,
    runtime: Runtime,
}

/// A database that is filled in bulk.
pub(crate) struct ColumbaLoad {
    loader: Loader<UringDisk, WorkloadClock>,
    clock: WorkloadClock,
    tasks: LocalSet,
    runtime: Runtime,
}

/// Monotonic time is the machine's, wall time is the workload's: messages carry the same times in every engine.
#[derive(Clone, Default)]
struct WorkloadClock {
    system: SystemClock,
    wall_ms: Rc<Cell<u64>>,
}

impl Clock for WorkloadClock {
    fn now(&self) -> Instant {
        self.system.now()
    }

    fn wall(&self) -> WallTime {
        WallTime::from_millis(self.wall_ms.get())
    }
}

fn options(settings: &Settings) -> anyhow::Result<Options> {
    let memory_bytes = usize::try_from(settings.write_buffer_bytes + settings.cache_bytes)?;
    Ok(Options { memory_bytes, ..Options::default() })
}

fn send_of(message: &Message) -> Send {
    Send {
        sender: message.sender,
        to: message.to,
        client_seq: message.client_seq,
        body: Bytes::copy_from_slice(&message.body),
    }
}

impl Columba {
    /// Opens or recovers it.
    pub(crate) fn open(dir: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tasks = LocalSet::new();
        let clock = WorkloadClock::default();
        let options = options(settings)?;
        let (db, note) = tasks.block_on(&runtime, async {
            let (disk, driver) = UringDisk::new()?;
            tokio::task::spawn_local(driver.run());
            let (db, report) = Database::open(disk, clock.clone(), dir.to_owned(), options).await?;
            tokio::task::spawn_local(db.clone().run_background());
            anyhow::Ok((db, format!("{report:?}")))
        })?;
        Ok(Self { db, clock, note, tasks, runtime })
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.tasks.block_on(&self.runtime, work)
    }
}

impl Store for Columba {
    fn write_batch(&mut self, ops: &[Op], _sync: bool) -> anyhow::Result<()> {
        for op in ops {
            match op {
                Op::Message(message) => {
                    self.clock.wall_ms.set(message.time_ms);
                    // The ticket tells what became of it; the reads afterwards tell the same.
                    let _ = self.db.send(send_of(message));
                }
                Op::Append(append) => self.db.append_inbox(append.device, append.chat, append.seq, append.seq),
                Op::Trim(trim) => self.db.trim_inbox(trim.device, trim.through),
            }
        }
        Ok(self.wait(self.db.commit())?)
    }

    fn newest(&mut self, chat: ChatId, limit: usize, visit: &mut dyn FnMut(u64, &[u8])) -> anyhow::Result<()> {
        for message in self.wait(self.db.newest(chat, limit))? {
            visit(message.seq.get(), &message.body);
        }
        Ok(())
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        self.wait(async {
            self.db.flush().await?;
            let start = now_ns();
            let (mut quiet_since, mut written) = (start, self.db.stats().bytes_written_total);
            while now_ns() - quiet_since < QUIET_NS && now_ns() - start < SETTLE_NS_MAX {
                tokio::time::sleep(Duration::from_millis(20)).await;
                // A merge counts what it wrote when it is done.
                let is_busy = self.db.partitions().iter().any(|one| one.tree().is_merging() || one.wants_compaction());
                if is_busy || written != self.db.stats().bytes_written_total {
                    (quiet_since, written) = (now_ns(), self.db.stats().bytes_written_total);
                }
            }
            Ok(())
        })
    }

    fn is_busy(&self) -> Option<bool> {
        Some(self.db.partitions().iter().any(|one| one.is_flushing() || one.tree().is_merging()))
    }

    fn counters(&self) -> Counters {
        let stats = self.db.stats();
        Counters {
            written_bytes: Some(stats.bytes_written_total),
            memory_bytes: Some(stats.memory.total() as u64),
            stall_us: Some(stats.stalled_ns / 1_000),
            batches: None,
            note: format!("{}; {stats:?}", self.note),
        }
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.wait(self.db.clone().close())?)
    }
}

impl ColumbaLoad {
    /// Begins it.
    pub(crate) fn begin(dir: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tasks = LocalSet::new();
        let clock = WorkloadClock::default();
        let options = options(settings)?;
        let loader = tasks.block_on(&runtime, async {
            let (disk, driver) = UringDisk::new()?;
            tokio::task::spawn_local(driver.run());
            let loader = Loader::begin(disk, clock.clone(), dir.to_owned(), options).await?;
            tokio::task::spawn_local(loader.run_background());
            anyhow::Ok(loader)
        })?;
        Ok(Self { loader, clock, tasks, runtime })
    }
}

impl BulkLoad for ColumbaLoad {
    fn load(&mut self, ops: &[Op]) -> anyhow::Result<()> {
        for op in ops {
            match op {
                Op::Message(message) => drop(self.loader.send(send_of(message), message.time_ms)),
                Op::Append(append) => self.loader.append_inbox(append.device, append.chat, append.seq, append.seq),
                Op::Trim(trim) => self.loader.trim_inbox(trim.device, trim.through),
            }
        }
        Ok(self.tasks.block_on(&self.runtime, self.loader.apply())?)
    }

    fn finish(self: Box<Self>) -> anyhow::Result<Counters> {
        let Self { loader, clock, tasks, runtime } = *self;
        let db = tasks.block_on(&runtime, loader.finish())?;
        let mut columba = Box::new(Columba { db, clock, note: "loaded".to_owned(), tasks, runtime });
        columba.settle()?;
        let counters = columba.counters();
        columba.close()?;
        Ok(counters)
    }
}
