//! From journal and files to a running group.
//!
//! 1. The journal says which entries it has of the partition, and the newest hard state (term, vote, commit).
//! 2. Entries that are in the files already are skipped; those up to the commit index are applied, read in pieces.
//! 3. What is above the commit index goes into the group's log: the next leader decides.
//!
//! Invariants
//! - Effects of replayed entries are dropped: whom they concerned reconnects, or is found by its fan-out cursor.
//! - The files never hold what the journal does not (or did not before it was truncated): a gap is an error.

use columba_engine::{
    env::{Disk, Rng},
    ids::{LogIndex, PartitionId},
    journal::{Journal, RecoveredPartition},
    partition::{Partition, effect::Effects},
    planted::{self, Planted},
};
use raft::eraftpb::{ConfState, Entry, HardState};

use crate::{
    error::{Error, Result},
    group::Group,
    limits::RECOVERY_READ_BYTES,
    log::Log,
};

/// Bytes of an encoded hard state: term, vote, commit, little-endian.
pub const HARD_STATE_BYTES: usize = 24;

/// The hard state as in the journal.
pub(crate) fn encode_hard_state(state: &HardState) -> [u8; HARD_STATE_BYTES] {
    let mut out = [0; HARD_STATE_BYTES];
    out[..8].copy_from_slice(&state.term.to_le_bytes());
    out[8..16].copy_from_slice(&state.vote.to_le_bytes());
    out[16..].copy_from_slice(&state.commit.to_le_bytes());
    out
}

fn decode_hard_state(partition: PartitionId, bytes: &[u8]) -> Result<HardState> {
    let bytes: &[u8; HARD_STATE_BYTES] = bytes.try_into().map_err(|_| Error::HardState(partition))?;
    let field = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    Ok(HardState { term: field(0), vote: field(8), commit: field(16), ..HardState::default() })
}

/// Brings a partition up to date from the journal and starts its group, with this node as the only voter.
///
/// # Errors
/// `LogGap`, `HardState`, and what the engine finds damaged.
pub async fn open_group<D: Disk>(
    journal: &Journal<D>,
    partition: &Partition<D>,
    recovered: Option<&RecoveredPartition>,
    node: u64,
    rng: Rng,
) -> Result<Group> {
    let id = partition.id();
    let mut hard_state = match recovered.and_then(|recovered| recovered.state.as_deref()) {
        Some(bytes) => decode_hard_state(id, bytes)?,
        None => HardState::default(),
    };
    let (first, last) = recovered.map_or((LogIndex::ZERO, LogIndex::ZERO), |found| (found.first, found.last));
    let applied = partition.applied();
    if last > applied && first > applied.next() {
        return Err(Error::LogGap { partition: id, first, applied });
    }
    if LogIndex::ZERO < last && last < applied {
        // The end of the log is gone though its entries were applied and flushed: nothing is lost, and the log goes on
        // behind what the files hold.
        tracing::warn!(partition = %id, %last, %applied, "the journal ends before what the files hold");
        journal.restart(id, applied);
    }
    let commit = LogIndex::new(hard_state.commit).min(last).max(applied);
    hard_state.commit = commit.get();
    // The term of an entry in the files cannot be above the hard state's: it was written before or with the entry.
    hard_state.term = hard_state.term.max(partition.flushed().1.get());

    let mut effects = Effects::default();
    let mut term = partition.flushed().1;
    while partition.applied() < commit {
        for entry in journal.read(id, partition.applied().next(), RECOVERY_READ_BYTES).await? {
            if entry.index > commit {
                break;
            }
            term = entry.term;
            if planted::is(Planted::ApplyTwice) && entry.index == commit && entry.index > LogIndex::new(1) {
                partition.apply_again(entry.payload.clone(), &mut effects).await?;
            }
            partition.apply_entry(entry.index, entry.term, entry.payload, &mut effects).await?;
            effects.clear();
        }
        partition.evict();
        if partition.exceeds_memory() {
            match partition.flush().await {
                Ok(report) => journal.truncate(id, report.applied),
                // It is tried again in the background.
                Err(columba_engine::Error::NoSpace { what }) => tracing::warn!(what, "the disk is full at the start"),
                Err(error) => return Err(error.into()),
            }
        }
    }

    let conf_state = ConfState { voters: vec![node], ..ConfState::default() };
    let mut log = Log::new(hard_state, conf_state, (commit, term));
    let mut next = commit.next();
    while next <= last {
        let mut entries = Vec::new();
        for found in journal.read(id, next, RECOVERY_READ_BYTES).await? {
            next = found.index.next();
            let (term, index) = (found.term.get(), found.index.get());
            entries.push(Entry { term, index, data: found.payload, ..Entry::default() });
        }
        log.append(&entries);
    }
    Group::new(id, node, log, commit, rng)
}
