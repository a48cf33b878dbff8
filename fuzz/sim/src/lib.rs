//! A node of real code in one thread on virtual time: engine, replication, cores and sessions on a simulated disk, with
//! simulated clients; faults by seed, and checkers for what was promised.
//!
//! | module | what it holds |
//! |---|---|
//! | [`world`] | the node: cores, their futures, time, crashes and restarts |
//! | [`client`] | a device: logs in, sends, acknowledges, disconnects, retries |
//! | [`check`] | what must hold, one function per promise |
//! | [`run`] | a seed: workload, faults, the quiet end, the verdict |
//! | [`crash`] | a scripted workload with a crash at every disk operation |
//! | [`rot`] | bits flipped at rest: reported, or without meaning |
//!
//! Invariants
//! - A seed decides everything: the same seed gives the same events, hash for hash.

#![forbid(unsafe_code)]

pub mod check;
pub mod client;
pub mod crash;
pub mod rot;
pub mod run;
pub mod world;
