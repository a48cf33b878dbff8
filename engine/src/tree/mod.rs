//! A partition's files: what is live, reads over all of it, flush and merge.
//!
//! | module | what it holds |
//! |---|---|
//! | [`manifest`] | which files are live, durably and atomically |
//! | [`plan`] | which files to merge: a pure function |
//! | `store` | [`Tree`]: open, get, scan, flush, merge, verify |
//! | `scan` | rows of several files as one sequence |
//!
//! Invariants
//! - The order of things: a file's data durable, its name durable, the manifest that names it durable, only then is it
//!   visible; files that a manifest no longer names are removed after that.
//! - Files are in order of age. For a key the newest file that has it decides; a deletion marker hides what is older.
//! - Without space nothing changes: the partial file is removed.

pub mod manifest;
pub mod plan;
mod scan;
mod store;

#[cfg(test)]
mod tests;

pub use self::{
    scan::ScanRange,
    store::{Tree, TreeMeta, TreeReport, TreeStats, VerifyReport},
};
pub use crate::table::reader::Direction;
