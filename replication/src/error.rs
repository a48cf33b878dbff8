//! What can go wrong in replication.

use columba_engine::ids::{LogIndex, PartitionId};

/// An error of replication.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The partition has no leader here now.
    #[error("partition {0} has no leader here")]
    NotLeader(PartitionId),
    /// Too much is proposed and not committed yet.
    #[error("partition {0} has too much in flight")]
    TooMuchInFlight(PartitionId),
    /// The journal lacks entries that the files do not have.
    #[error("partition {partition}: the journal begins at entry {first}, the files end at {applied}")]
    LogGap {
        /// The partition.
        partition: PartitionId,
        /// First entry in the journal.
        first: LogIndex,
        /// Last entry in the files.
        applied: LogIndex,
    },
    /// The hard state in the journal is not one.
    #[error("partition {0}: the hard state in the journal is malformed")]
    HardState(PartitionId),
    /// raft-rs refused.
    #[error("raft: {0}")]
    Raft(#[from] raft::Error),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] columba_engine::Error),
}

/// The crate's result.
pub type Result<T, E = Error> = core::result::Result<T, E>;
