//! Fjall 3, set up for this workload.
//!
//! - Two keyspaces, messages and inbox; their memtables share the write buffers seven to one. Fjall rotates a memtable
//!   at its size and lets up to four wait for their flush, where RocksDB has two in all: it may hold more memory.
//! - No filters: Fjall's are over whole keys, and nothing is looked up by whole key; range scans cannot use them.
//! - Indexes are pinned in memory as by default (the first two levels), the others share the block cache.
//! - A durable batch is committed with `PersistMode::SyncData` (`fdatasync`), an unsynced one with `Buffer`.
//! - An inbox is trimmed by point removals: there is no range removal.
//! - There is no direct I/O: the measurements drop its files from the page cache.

use std::{path::Path, time::Duration};

use anyhow::ensure;
use columba_wire::ChatId;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode,
    config::{BlockSizePolicy, CompressionPolicy, FilterPolicy},
};

use super::{
    rows,
    store::{Compression, Counters, Settings, Store},
    workload::Op,
};
use crate::clock::{SECOND_NS, now_ns};

const WORKERS: usize = 2;
/// How long nothing must go on for the database to count as settled.
const QUIET_NS: u64 = SECOND_NS / 2;
/// Nanoseconds to settle in, at most; beyond, it is measured as it is.
const SETTLE_NS_MAX: u64 = 300 * SECOND_NS;

/// The database.
pub(crate) struct Fjall {
    db: Database,
    messages: Keyspace,
    inbox: Keyspace,
}

impl Fjall {
    /// Opens or recovers it.
    pub(crate) fn open(dir: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let db = Database::builder(dir)
            .cache_size(settings.cache_bytes)
            .worker_threads(WORKERS)
            .journal_compression(CompressionType::None)
            .open()?;
        let keyspace = |eighths| {
            let compression = match settings.compression {
                Compression::None => CompressionType::None,
                Compression::Lz4 => CompressionType::Lz4,
            };
            KeyspaceCreateOptions::default()
                .max_memtable_size(settings.write_buffer_bytes / 2 / 8 * eighths)
                .data_block_size_policy(BlockSizePolicy::all(settings.block_bytes))
                .data_block_compression_policy(CompressionPolicy::all(compression))
                .filter_policy(FilterPolicy::disabled())
        };
        let messages = db.keyspace("messages", || keyspace(7))?;
        let inbox = db.keyspace("inbox", || keyspace(1))?;
        Ok(Self { db, messages, inbox })
    }
}

impl Store for Fjall {
    fn write_batch(&mut self, ops: &[Op], sync: bool) -> anyhow::Result<()> {
        let mode = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.db.batch().durability(Some(mode));
        for op in ops {
            match op {
                Op::Message(message) => {
                    let key = rows::message_key(message.chat, message.seq.get());
                    batch.insert(&self.messages, key, rows::message_value(message));
                }
                Op::Append(append) => {
                    let key = rows::inbox_key(append.device, append.position);
                    batch.insert(&self.inbox, key, rows::inbox_value(append));
                }
                Op::Trim(trim) => {
                    for position in trim.from..=trim.through {
                        batch.remove(&self.inbox, rows::inbox_key(trim.device, position));
                    }
                }
            }
        }
        Ok(batch.commit()?)
    }

    fn newest(&mut self, chat: ChatId, limit: usize, visit: &mut dyn FnMut(u64, &[u8])) -> anyhow::Result<()> {
        for row in self.messages.prefix(chat.as_bytes()).rev().take(limit) {
            let (key, value) = row.into_inner()?;
            ensure!(key.starts_with(chat.as_bytes()), "a row of another chat");
            let (seq, body) = rows::message_of(&key, &value)?;
            visit(seq, body);
        }
        Ok(())
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        self.messages.rotate_memtable_and_wait()?;
        self.inbox.rotate_memtable_and_wait()?;
        let start = now_ns();
        let (mut quiet_since, mut completed) = (start, self.db.compactions_completed());
        while now_ns() - quiet_since < QUIET_NS && now_ns() - start < SETTLE_NS_MAX {
            std::thread::sleep(Duration::from_millis(20));
            let busy = self.db.active_compactions() + self.db.outstanding_flushes() > 0;
            if busy || completed != self.db.compactions_completed() {
                (quiet_since, completed) = (now_ns(), self.db.compactions_completed());
            }
        }
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }

    fn counters(&self) -> Counters {
        Counters {
            // It does not count what it writes.
            written_bytes: None,
            memory_bytes: Some(self.db.write_buffer_size() + self.db.cache_size()),
            stall_us: None,
            batches: None,
            note: format!(
                "{} compactions in {} ms, {} journals",
                self.db.compactions_completed(),
                self.db.time_compacting().as_millis(),
                self.db.journal_count(),
            ),
        }
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        self.db.persist(PersistMode::SyncAll)?;
        Ok(())
    }
}
