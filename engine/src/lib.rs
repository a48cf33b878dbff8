//! The storage engine of Columba: journal, trees, and the partition state machine. It knows nothing of sockets.
//!
//! | module | what it holds |
//! |---|---|
//! | [`env`] | the world: [`env::Disk`], clock, seeded generator, aligned buffers; real and simulated |
//! | [`journal`] | a core's only write-ahead log: group commit, segments, recovery |
//! | [`table`] | immutable sorted files: blocks, index, reader, writer |
//! | [`tree`] | a partition's live files: manifest, reads, flush, merge |
//! | [`message`] | a message as stored, which tables and partitions share |
//! | [`background`], [`memory`] | slices of background work; a core's budget of memory |
//! | [`partition`] | the deterministic state machine: `apply(command) -> effects` |
//! | [`database`] | all of it as a library: open, send, commit, read, subscribe, close |
//! | [`snapshot`] | a partition as immutable files: kept, read, shipped, installed elsewhere |
//! | [`inspect`] | what a directory holds and what of it is damaged, offline and without a change |
//! | [`repair`] | a manifest from the tables, where one is lost |
//! | [`upkeep`] | what background work is due |
//! | [`ids`], [`limits`], [`error`] | newtypes, bounds, and what can go wrong |

#![deny(unsafe_code)]

pub mod background;
pub mod database;
pub mod env;
pub mod error;
pub mod ids;
pub mod inspect;
pub mod journal;
pub mod limits;
pub mod memory;
pub mod message;
pub mod partition;
pub mod planted;
pub mod repair;
#[cfg(test)]
pub(crate) mod seeds;
pub mod snapshot;
pub mod table;
#[cfg(test)]
mod test_log;
pub mod tree;
pub mod upkeep;

pub use error::Error;
