//! The Columba node: cores, sessions, delivery, and the fronts for QUIC, WebSocket and HTTP.
//!
//! | module | what it holds |
//! |---|---|
//! | [`core`] | one core: its partitions, its commit loop, rings to the others, the thread that drives it |
//! | [`session`] | a device's session: frames in, frames out, time |
//! | [`delivery`] | fan-out, live sessions, receipts, presence |
//! | [`front`] | (D) the transports: sockets to frames and back |
//! | [`node`] | (D) a whole node: data directory, listeners, threads, shutdown |
//! | [`cli`], [`config`], [`logging`] | commands, configuration, log |
//! | [`inspect`] | (D) `columba inspect` and `columba repair` |
//! | [`registration`], [`rate`] | who may register; token buckets |
//! | [`metrics`] | counters, and their form for Prometheus |
//! | [`limits`], [`error`] | every bound; what can go wrong |
//!
//! Everything but `main` is a library, so that the simulator runs the same code. Of the modules only those marked (D)
//! know a runtime, sockets or the real clock.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod core;
pub mod delivery;
pub mod error;
pub mod front;
pub mod inspect;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod rate;
pub mod registration;
pub mod session;

pub use error::Error;
