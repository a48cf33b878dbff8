//! What can go wrong in the engine: one variant per thing a caller can act on.

use std::path::PathBuf;

use crate::ids::{FileId, SegmentId};

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk has no room. Survivable: nothing was changed; writes are refused until there is room.
    #[error("no space on the disk for {what}")]
    NoSpace {
        /// What was to be written.
        what: &'static str,
    },
    /// The operating system refused an operation.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has the directory.
    #[error("{path} is in use by {holder}")]
    DirInUse {
        /// The directory.
        path: PathBuf,
        /// Who has it, in its own words.
        holder: String,
    },
    /// A bulk load of this directory was not finished: it is no database. To be removed, and loaded again.
    #[error("{dir} holds a load that was not finished: remove it and load again")]
    UnfinishedLoad {
        /// The directory.
        dir: PathBuf,
    },
    /// A bulk load fills a new database, and there is one.
    #[error("{dir} holds a database already")]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// A durable write failed before; the journal takes no more writes until it is reopened and checked.
    #[error("the journal is closed after a failed durable write")]
    JournalFailed,
    /// A journal batch that had been durable is damaged.
    #[error("segment {segment}: batch at byte {offset} is damaged: {reason}")]
    DamagedBatch {
        /// The segment.
        segment: SegmentId,
        /// Where the batch begins.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A block of a table file is damaged.
    #[error("file {file}: block at byte {offset} is damaged: {reason}")]
    DamagedBlock {
        /// The file.
        file: FileId,
        /// Where the block begins.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A manifest or another small file is damaged.
    #[error("{path}: {reason}")]
    DamagedFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A format version this program does not know.
    #[error("{path}: format version {found}; this program reads up to {supported}")]
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version read here.
        supported: u32,
    },
    /// Bytes that are not a command, an entry or a row.
    #[error("not a {what}: {reason}")]
    Malformed {
        /// What was expected.
        what: &'static str,
        /// Why it is not that.
        reason: &'static str,
    },
}

impl Error {
    /// Whether stored data is damaged, as opposed to an operation that failed.
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::DamagedBatch { .. } | Self::DamagedBlock { .. } | Self::DamagedFile { .. })
    }

    /// Whether a step of background work that failed so has changed nothing, and others may follow it.
    pub const fn leaves_files(&self) -> bool {
        self.is_damage() || matches!(self, Self::NoSpace { .. })
    }
}

/// The engine's result.
pub type Result<T, E = Error> = core::result::Result<T, E>;
