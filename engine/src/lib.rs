//! The storage engine of Columba: journal, trees, and the partition state machine. It knows nothing of sockets.
//!
//! | module | what it holds |
//! |---|---|
//! | [`env`] | the world: [`env::Disk`], clock, seeded generator, aligned buffers; real and simulated |
//! | [`journal`] | a core's only write-ahead log: group commit, segments, recovery |
//! | [`table`] | immutable sorted files: blocks, index, reader, writer |
//! | [`tree`] | a partition's live files: manifest, reads, flush, merge |
//! | [`partition`] | the deterministic state machine: `apply(command) -> effects` |
//! | [`ids`], [`limits`], [`error`] | newtypes, bounds, and what can go wrong |

#![deny(unsafe_code)]

pub mod env;
pub mod error;
pub mod ids;
pub mod journal;
pub mod limits;
pub mod partition;
pub mod planted;
pub mod table;
pub mod tree;

pub use error::Error;
