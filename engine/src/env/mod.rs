//! The world as the engine sees it: disk, clock, randomness. Everything else is pure.
//!
//! | module | what it holds |
//! |---|---|
//! | [`disk`] | the traits [`Disk`] and [`DiskFile`] |
//! | [`buffer`] | block-aligned buffers for direct I/O |
//! | [`lock`] | (D) one process at a time has a directory |
//! | [`aside`] | (D) long work on a thread of its own |
//! | [`blocking`] | (D) calls that return when they are done |
//! | [`thread_disk`] | (D) blocking threads, `pwritev2(RWF_DSYNC)` |
//! | [`uring`] | (D) io_uring, O_DIRECT |
//! | [`probe`] | (D) which of the two, decided at start and logged |
//! | [`sim_disk`] | in memory, with seeded faults and a crash at any operation |
//! | [`clock`] | [`Clock`] and [`Instant`] |
//! | [`rng`] | the seeded generator |
//! | [`executor`] | polls futures without a runtime |

pub mod aside;
pub mod blocking;
pub mod buffer;
pub mod clock;
pub mod disk;
pub mod executor;
pub mod lock;
pub mod probe;
pub mod rng;
pub mod sim_disk;
pub mod thread_disk;
pub mod uring;

#[cfg(test)]
mod disk_contract;

pub use buffer::AlignedBuf;
pub use clock::{Clock, Instant};
pub use disk::{DirEntry, Disk, DiskFile};
pub use rng::Rng;
