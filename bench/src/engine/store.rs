//! What the comparison asks of a storage engine ([`Store`]), which engines there are ([`Kind`]), and what each may use
//! ([`Settings`]).
//!
//! Invariants
//! - Every engine gets the same operations in the same batches, the same memory and the same block size.
//! - A batch written with `sync` is on disk when the call returns, whole or not at all after a crash.

use std::{fmt, path::Path};

use clap::ValueEnum;
use columba_wire::ChatId;
use serde::{Deserialize, Serialize};

use super::{append::AppendLog, log::DirectLog, workload::Op};

/// A storage engine, opened in a directory of its own. One thread uses it; what it does beside is its own affair.
pub(crate) trait Store {
    /// Writes the operations as one batch, in order; durable when it returns, if `sync`.
    ///
    /// # Errors
    /// What the engine says.
    fn write_batch(&mut self, ops: &[Op], sync: bool) -> anyhow::Result<()>;

    /// Shows seq and body of the newest `limit` messages of `chat`, newest first.
    ///
    /// # Errors
    /// What the engine says; also that it has no index.
    fn newest(&mut self, chat: ChatId, limit: usize, visit: &mut dyn FnMut(u64, &[u8])) -> anyhow::Result<()>;

    /// Moves everything to where it stays, and waits until nothing goes on in the background.
    ///
    /// # Errors
    /// What the engine says.
    fn settle(&mut self) -> anyhow::Result<()>;

    /// Whether a flush or a merge is under way now; `None` where the engine does not say.
    fn is_busy(&self) -> Option<bool> {
        None
    }

    /// What the engine counts itself, since it was opened.
    fn counters(&self) -> Counters;

    /// Closes in order.
    ///
    /// # Errors
    /// What the engine says.
    fn close(self: Box<Self>) -> anyhow::Result<()>;
}

/// A new database that an engine fills in bulk: without its log, durable at the end.
pub(crate) trait BulkLoad {
    /// Takes a batch.
    ///
    /// # Errors
    /// What the engine says.
    fn load(&mut self, ops: &[Op]) -> anyhow::Result<()>;

    /// Makes all of it durable, moves it to where it stays, and closes.
    ///
    /// # Errors
    /// What the engine says.
    fn finish(self: Box<Self>) -> anyhow::Result<Counters>;
}

/// An engine's own figures; what it does not count is absent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Bytes it wrote: log and files, compaction included.
    pub(crate) written_bytes: Option<u64>,
    /// Bytes of memory it says it holds.
    pub(crate) memory_bytes: Option<u64>,
    /// Microseconds for which it held up writes.
    pub(crate) stall_us: Option<u64>,
    /// Batches that a plain log holds; engines do not count them.
    pub(crate) batches: Option<u64>,
    /// Anything else, for the reader of the JSON.
    pub(crate) note: String,
}

/// What an engine may use. Decided once for all of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// All memtables of the engine together.
    pub(crate) write_buffer_bytes: u64,
    /// Its cache of blocks, indexes and filters.
    pub(crate) cache_bytes: u64,
    /// A block of a file, before compression.
    pub(crate) block_bytes: u32,
    /// How peers compress blocks.
    pub(crate) compression: Compression,
    /// Reads go around the page cache where the engine can do that.
    pub(crate) direct_reads: bool,
    /// Segments that the plain log prepares before it starts.
    pub(crate) log_segments: u64,
    /// Whether the plain log starts over in its first segment when it has filled the last.
    pub(crate) log_recycles: bool,
}

/// How peers compress blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    /// Not at all: bodies are random, as encrypted ones would be.
    None,
    /// LZ4: saves some of keys and headers.
    Lz4,
}

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Columba's engine, embedded.
    Columba,
    /// RocksDB.
    #[cfg(feature = "peers")]
    Rocksdb,
    /// Fjall.
    #[cfg(feature = "peers")]
    Fjall,
    /// A floor: a log of zeroed segments, one direct durable write a batch.
    Log,
    /// A floor: a file that grows, appended to and synced.
    Append,
}

impl Kind {
    /// Whether it is a competitor, not Columba and not a floor.
    pub(crate) const fn is_peer(self) -> bool {
        match self {
            #[cfg(feature = "peers")]
            Self::Rocksdb | Self::Fjall => true,
            Self::Columba | Self::Log | Self::Append => false,
        }
    }

    /// Whether it finds a chat's messages.
    pub(crate) const fn has_index(self) -> bool {
        !matches!(self, Self::Log | Self::Append)
    }

    /// Whether its reads go around the page cache; otherwise its files are dropped from there before each cold read.
    pub(crate) const fn reads_directly(self) -> bool {
        match self {
            #[cfg(feature = "peers")]
            Self::Rocksdb => true,
            #[cfg(feature = "peers")]
            Self::Fjall => false,
            Self::Columba | Self::Log => true,
            Self::Append => false,
        }
    }

    /// Whether a file of its directory is its log: what a crash leaves to be replayed, kept or recycled.
    pub(crate) fn is_log(self, path: &Path) -> bool {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match self {
            #[cfg(feature = "peers")]
            Self::Rocksdb => extension == "log",
            #[cfg(feature = "peers")]
            Self::Fjall => extension == "jnl",
            Self::Columba => path.parent().is_some_and(|dir| dir.ends_with("journal")),
            Self::Log | Self::Append => extension == "segment",
        }
    }

    /// Opens it in `dir`, which exists, or recovers what is there.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) fn open(self, dir: &Path, settings: &Settings) -> anyhow::Result<Box<dyn Store>> {
        Ok(match self {
            #[cfg(feature = "peers")]
            Self::Rocksdb => Box::new(super::rocks::Rocks::open(dir, settings)?),
            #[cfg(feature = "peers")]
            Self::Fjall => Box::new(super::fjall::Fjall::open(dir, settings)?),
            Self::Columba => Box::new(super::columba::Columba::open(dir, settings)?),
            Self::Log => Box::new(DirectLog::open(dir, settings)?),
            Self::Append => Box::new(AppendLog::open(dir)?),
        })
    }
}

impl Kind {
    /// Begins a bulk load in `dir`, which is empty; `None` where it has no way to.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) fn load(self, dir: &Path, settings: &Settings) -> anyhow::Result<Option<Box<dyn BulkLoad>>> {
        Ok(match self {
            #[cfg(feature = "peers")]
            Self::Rocksdb => Some(Box::new(super::rocks::Rocks::begin_load(dir, settings)?)),
            #[cfg(feature = "peers")]
            Self::Fjall => None,
            Self::Columba => Some(Box::new(super::columba::ColumbaLoad::begin(dir, settings)?)),
            Self::Log | Self::Append => None,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(feature = "peers")]
            Self::Rocksdb => "rocksdb",
            #[cfg(feature = "peers")]
            Self::Fjall => "fjall",
            Self::Columba => "columba",
            Self::Log => "log (floor)",
            Self::Append => "append (floor)",
        })
    }
}
