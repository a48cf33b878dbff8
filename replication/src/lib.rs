//! Raft groups of Columba's partitions, over a core's shared journal.
//!
//! | module | what it holds |
//! |---|---|
//! | [`group`] | one Raft group around `raft::RawNode`: propose, tick, poll, persisted |
//! | [`log`] | raft-rs storage: the part of the log that is not applied yet, in memory |
//! | [`core_groups`] | all groups of a core: one batch to the journal, one durable write for all |
//! | [`recovery`] | from journal and files to a running group |
//! | [`error`], [`limits`] | what can go wrong, and the bounds |
//!
//! Invariants
//! - An entry counts as persisted only after the journal's durable write that holds it has completed.
//! - Deterministic under a seed: election timeouts come from the seeded generator, never from the thread's.

#![forbid(unsafe_code)]

pub mod core_groups;
pub mod error;
pub mod group;
pub mod limits;
pub mod log;
pub mod recovery;

pub use core_groups::CoreGroups;
pub use error::Error;
pub use group::{Committed, Group};
