//! A partition's files: an LSM tree shaped for chat.
//!
//! | module | what it holds |
//! |---|---|
//! | [`manifest`] | which files are live, durably and atomically |
//! | `version` | the live files at one time, in the order in which they are read |
//! | [`plan`] | which files to drop or merge next: a pure function |
//! | `store` | [`Tree`]: open, change of versions, counters |
//! | `flush` | a memtable to new files |
//! | [`compact`] | carries out plans |
//! | [`merge`] | files to new files |
//! | `new_files` | names and ids for what flushes and merges write |
//! | [`read`] | rows by key and range, messages of a chat |
//! | [`scrub`] | verification at a bounded rate |
//! | `tables` | what the trees of a core share: open tables, caches, budget |
//! | [`view`] | a version that is kept: snapshots |
//!
//! Three classes of rows grow old in three ways. Messages are written once, in files of their window of time, which are
//! merged a few times and then left alone, and dropped whole when nobody may read them any more. Inbox entries are
//! dropped by merges when their watermark has passed them, so nothing is deleted one by one. State rows are replaced
//! again and again: they are leveled.
//!
//! Invariants
//! - The order of things: a file's data durable, its name durable, the manifest that names it durable, only then is it
//!   visible; files that a manifest no longer names are removed after that, when no reader has them.
//! - Without space nothing changes: partial files are removed.

pub mod compact;
mod flush;
pub mod manifest;
pub mod merge;
mod new_files;
pub mod plan;
pub mod read;
pub mod scrub;
mod store;
mod tables;
mod version;
pub mod view;

#[cfg(test)]
mod tests;

pub use self::{
    compact::Compacted,
    flush::FlushWriter,
    merge::{Keep, Living},
    read::{MessageRange, ScanRange},
    scrub::VerifyReport,
    store::{Tree, TreeConfig, TreeMeta, TreeReport, TreeStats},
    tables::Shared,
    view::View,
};
pub(crate) use self::{
    store::{TABLE_PREFIX, is_table_name, table_name},
    version::conflict,
};
