//! RocksDB, set up for this workload as its tuning guide and its large users do.
//!
//! - Two column families, messages and inbox; their memtables share the write buffers seven to one, two each.
//! - Bloom filters of ten bits over the prefix (chat, device), none over whole keys: nothing is looked up by whole key.
//!   The newest messages are a reverse iteration from the chat's end, with bounds, within the prefix.
//! - Leveled compaction, levels sized from the last one up, two background jobs; files of 64 MiB.
//! - Indexes and filters live in the block cache, so that it bounds memory; those of level 0 are pinned there.
//! - Log files are recycled, so that a sync need not write the file's length; `bytes_per_sync` spreads what flushes and
//!   compactions write. There is no `wal_bytes_per_sync`: each batch is synced anyway, or none shall be.
//! - An inbox is trimmed by `SingleDelete`s: each entry is written once, and eight deletions that annihilate their
//!   entries do better than a range tombstone for every eight, which all readers would have to look at.
//! - Reads of user and compaction are direct where the measurement asks for it, and buffered in the write
//!   measurements: there the page cache, which is not counted as memory, is on RocksDB's side.

use std::path::Path;

use anyhow::{Context as _, ensure};
use columba_wire::ChatId;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, FlushOptions, Options,
    ReadOptions, SliceTransform, WaitForCompactOptions, WriteBatch, WriteOptions, properties,
    statistics::{StatsLevel, Ticker},
};

use super::{
    rows::{self, CHAT_BYTES, DEVICE_BYTES, LOGICAL_BYTES},
    store::{BulkLoad, Compression, Counters, Settings, Store},
    workload::Op,
};

const MESSAGES: &str = "messages";
const INBOX: &str = "inbox";
const FILTER_BITS: f64 = 10.0;
const BACKGROUND_JOBS: i32 = 2;
/// Write buffers of a column family: one is written to, one flushed.
const WRITE_BUFFERS: i32 = 2;
/// Obsolete log files that are kept to be written again.
const RECYCLED_LOGS: usize = 2;
const BYTES_PER_SYNC: u64 = 1 << 20;

/// The database.
pub(crate) struct Rocks {
    db: DB,
    /// Holds the statistics.
    options: Options,
    cache: Cache,
}

impl Rocks {
    /// Opens or recovers it.
    pub(crate) fn open(dir: &Path, settings: &Settings) -> anyhow::Result<Self> {
        Self::open_recycling(RECYCLED_LOGS, dir, settings)
    }

    /// A new one, to be filled without a log: RocksDB refuses that where it recycles logs.
    pub(crate) fn begin_load(dir: &Path, settings: &Settings) -> anyhow::Result<Self> {
        Self::open_recycling(0, dir, settings)
    }

    fn open_recycling(recycled_logs: usize, dir: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let cache = Cache::new_lru_cache(usize::try_from(settings.cache_bytes)?);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_background_jobs(BACKGROUND_JOBS);
        options.set_recycle_log_file_num(recycled_logs);
        options.set_bytes_per_sync(BYTES_PER_SYNC);
        options.set_use_direct_reads(settings.direct_reads);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        // Counters only: no timers, no histograms.
        options.enable_statistics();
        options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
        let families = [(MESSAGES, CHAT_BYTES, 7), (INBOX, DEVICE_BYTES, 1)].map(|(name, prefix_bytes, eighths)| {
            let buffer_bytes = settings.write_buffer_bytes / 2 / 8 * eighths;
            anyhow::Ok(ColumnFamilyDescriptor::new(name, family(settings, &cache, prefix_bytes, buffer_bytes)?))
        });
        let families = families.into_iter().collect::<Result<Vec<_>, _>>()?;
        let db = DB::open_cf_descriptors(&options, dir, families)?;
        Ok(Self { db, options, cache })
    }

    fn column(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("both were made when the database was opened")
    }

    /// A figure that RocksDB knows, summed over both column families.
    fn property(&self, name: &properties::PropName) -> u64 {
        let of = |column| self.db.property_int_value_cf(self.column(column), name).ok().flatten().unwrap_or_default();
        of(MESSAGES) + of(INBOX)
    }
}

fn family(settings: &Settings, cache: &Cache, prefix_bytes: usize, buffer_bytes: u64) -> anyhow::Result<Options> {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(usize::try_from(settings.block_bytes)?);
    table.set_bloom_filter(FILTER_BITS, false);
    table.set_whole_key_filtering(false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_prefix_extractor(SliceTransform::create_fixed_prefix(prefix_bytes));
    options.set_write_buffer_size(usize::try_from(buffer_bytes)?);
    options.set_max_write_buffer_number(WRITE_BUFFERS);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_compression_type(match settings.compression {
        Compression::None => DBCompressionType::None,
        Compression::Lz4 => DBCompressionType::Lz4,
    });
    Ok(options)
}

impl Rocks {
    fn write(&self, ops: &[Op], options: &WriteOptions) -> anyhow::Result<()> {
        let (messages, inbox) = (self.column(MESSAGES), self.column(INBOX));
        let mut batch = WriteBatch::with_capacity_bytes(ops.len() * (LOGICAL_BYTES + 16));
        for op in ops {
            match op {
                Op::Message(message) => {
                    let key = rows::message_key(message.chat, message.seq.get());
                    batch.put_cf(messages, key, rows::message_value(message));
                }
                Op::Append(append) => {
                    let key = rows::inbox_key(append.device, append.position);
                    batch.put_cf(inbox, key, rows::inbox_value(append));
                }
                Op::Trim(trim) => {
                    for position in trim.from..=trim.through {
                        batch.single_delete_cf(inbox, rows::inbox_key(trim.device, position));
                    }
                }
            }
        }
        Ok(self.db.write_opt(batch, options)?)
    }
}

impl Store for Rocks {
    fn write_batch(&mut self, ops: &[Op], sync: bool) -> anyhow::Result<()> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.write(ops, &options)
    }

    fn newest(&mut self, chat: ChatId, limit: usize, visit: &mut dyn FnMut(u64, &[u8])) -> anyhow::Result<()> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(rows::message_key(chat, 0));
        // No readahead: it helps forward iteration only.
        options.set_prefix_same_as_start(true);
        let mut rows = self.db.raw_iterator_cf_opt(self.column(MESSAGES), options);
        rows.seek_for_prev(rows::message_key(chat, u64::MAX));
        for _ in 0..limit {
            let (Some(key), Some(value)) = (rows.key(), rows.value()) else { break };
            ensure!(key.starts_with(chat.as_bytes()), "a row of another chat");
            let (seq, body) = rows::message_of(key, value)?;
            visit(seq, body);
            rows.prev();
        }
        Ok(rows.status()?)
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&[self.column(MESSAGES), self.column(INBOX)], &options)?;
        self.db.wait_for_compact(&WaitForCompactOptions::default()).context("wait for compactions")
    }

    fn counters(&self) -> Counters {
        let ticker = |ticker| self.options.get_ticker_count(ticker);
        let log = ticker(Ticker::WalFileBytes);
        let (flush, compact) = (ticker(Ticker::FlushWriteBytes), ticker(Ticker::CompactWriteBytes));
        let memtables = self.property(properties::CUR_SIZE_ALL_MEM_TABLES);
        let cached = self.cache.get_usage() as u64;
        Counters {
            written_bytes: Some(log + flush + compact),
            memory_bytes: Some(memtables + cached),
            stall_us: Some(ticker(Ticker::StallMicros)),
            batches: None,
            note: format!("log {log}, flushes {flush}, compactions {compact} bytes"),
        }
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        self.db.cancel_all_background_work(true);
        Ok(())
    }
}

impl BulkLoad for Rocks {
    fn load(&mut self, ops: &[Op]) -> anyhow::Result<()> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.write(ops, &options)
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<Counters> {
        self.settle()?;
        let counters = self.counters();
        self.close()?;
        Ok(counters)
    }
}
