//! One Raft group: propose, tick, poll what is to be written, learn that it is durable, take what is committed.
//!
//! The driver's cycle, once per journal batch (see [`crate::CoreGroups`]):
//! `propose*` -> `poll_append` (entries go to the journal's open batch) -> the durable write -> `handle_persisted` ->
//! `take_committed` -> apply -> `handle_applied`.
//!
//! Invariants
//! - The commit index is written along with the next entries, never alone: a crash may forget it, and the next leader
//!   finds it again.
//! - `take_committed` yields entries in order of index, each once.

use bytes::Bytes;
use columba_engine::{
    env::Rng,
    ids::{LogIndex, PartitionId, Term},
    planted::{self, Planted},
};
use raft::{Config, RawNode, StateRole, eraftpb::Entry};

use crate::{
    error::{Error, Result},
    limits::{COMMITTED_BYTES_PER_READY_MAX, ELECTION_TICKS, HEARTBEAT_TICKS, UNCOMMITTED_BYTES_MAX},
    log::Log,
    recovery,
};

/// What a group writes to the journal.
pub trait Append {
    /// An entry of the log.
    fn entry(&mut self, partition: PartitionId, term: Term, index: LogIndex, payload: &[u8]);
    /// The group's hard state; the newest counts.
    fn state(&mut self, partition: PartitionId, payload: &[u8]);
}

/// A committed entry.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its place in the log.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// Commands; empty for an entry that a new leader makes.
    pub payload: Bytes,
}

/// One Raft group on this node.
pub struct Group {
    partition: PartitionId,
    raw: RawNode<Log>,
    rng: Rng,
    /// Ticks to hold back before the next election timeout runs, drawn when it begins.
    delay_ticks: Option<u64>,
    committed: Vec<Committed>,
    /// Number of the newest ready whose entries are in the journal's batch.
    appended: u64,
    /// Whether something appended is not durable yet.
    awaits_write: bool,
    /// The hard state to write with the next entries, where it has changed.
    unsaved_state: Option<[u8; recovery::HARD_STATE_BYTES]>,
}

impl Group {
    /// A group that goes on from its log; `applied` entries are in the partition.
    pub(crate) fn new(partition: PartitionId, node: u64, log: Log, applied: LogIndex, mut rng: Rng) -> Result<Self> {
        let config = Config {
            id: node,
            election_tick: ELECTION_TICKS,
            // raft-rs draws from the thread's generator: a range of one value leaves it no choice. What spreads
            // elections are ticks that `tick` holds back, drawn from the seeded generator.
            min_election_tick: ELECTION_TICKS,
            max_election_tick: ELECTION_TICKS + 1,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: applied.get(),
            max_size_per_msg: 1024 * 1024,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: COMMITTED_BYTES_PER_READY_MAX,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, log, &logger)?;
        let rng = rng.fork();
        Ok(Self {
            partition,
            raw,
            rng,
            delay_ticks: None,
            committed: Vec::new(),
            appended: 0,
            awaits_write: false,
            unsaved_state: None,
        })
    }

    /// The partition it replicates.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Whether this replica leads.
    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// The current term.
    pub fn term(&self) -> Term {
        Term::new(self.raw.raft.term)
    }

    /// Stands for election now, instead of waiting for the timeout: right where this is the only voter.
    ///
    /// # Errors
    /// `Raft`.
    pub fn campaign(&mut self) -> Result<()> {
        self.raw.campaign()?;
        Ok(())
    }

    /// Time passes. Where this replica does not lead, each election timeout begins with a random wait of up to
    /// `ELECTION_TICKS` more.
    pub fn tick(&mut self) {
        if !self.is_leader() && self.raw.raft.election_elapsed == 0 {
            let rng = &mut self.rng;
            let left = self.delay_ticks.get_or_insert_with(|| rng.below(ELECTION_TICKS as u64));
            if *left > 0 {
                *left -= 1;
                return;
            }
        }
        self.delay_ticks = None;
        self.raw.tick();
    }

    /// Proposes an entry; the leader only. Returns the index that it will have if it is committed.
    ///
    /// # Errors
    /// `NotLeader`, `TooMuchInFlight`. The entry is then not in the log.
    pub fn propose(&mut self, payload: Vec<u8>) -> Result<LogIndex> {
        if !self.is_leader() {
            return Err(Error::NotLeader(self.partition));
        }
        self.raw.propose(Vec::new(), payload).map_err(|error| match error {
            raft::Error::ProposalDropped => Error::TooMuchInFlight(self.partition),
            other => Error::Raft(other),
        })?;
        Ok(LogIndex::new(self.raw.raft.raft_log.last_index()))
    }

    /// Whether there is something to append, or something committed to take.
    pub fn has_ready(&self) -> bool {
        self.raw.has_ready() || !self.committed.is_empty()
    }

    /// Puts what is to be durable into the journal's open batch. Returns whether it put anything there.
    pub fn poll_append(&mut self, journal: &mut impl Append) -> bool {
        let mut wrote = false;
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            if let Some(state) = ready.hs() {
                self.unsaved_state = Some(recovery::encode_hard_state(state));
            }
            let must_write = ready.must_sync();
            for entry in ready.entries() {
                let (term, index) = (Term::new(entry.term), LogIndex::new(entry.index));
                journal.entry(self.partition, term, index, &entry.data);
            }
            if must_write && let Some(state) = self.unsaved_state.take() {
                journal.state(self.partition, &state);
            }
            self.raw.mut_store().append(ready.entries());
            self.appended = ready.number();
            let committed = ready.take_committed_entries();
            self.take(committed);
            self.raw.advance_append_async(ready);
            if must_write {
                wrote = true;
                self.awaits_write = !planted::is(Planted::AcknowledgeBeforeDurable);
            }
            if !self.awaits_write {
                // Nothing of it, nor of what came before, needs the disk. (Persisting a ready persists all before it.)
                self.raw.on_persist_ready(self.appended);
            }
        }
        wrote
    }

    /// Everything that [`Self::poll_append`] put into the journal up to the last call before the write is durable.
    pub fn handle_persisted(&mut self) {
        self.awaits_write = false;
        self.raw.on_persist_ready(self.appended);
        // What became committed by it is in the next ready; it holds no new entries unless some were proposed
        // meanwhile, and those wait there for the next batch.
    }

    fn take(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let (index, term) = (LogIndex::new(entry.index), Term::new(entry.term));
            self.committed.push(Committed { index, term, payload: entry.data });
        }
    }

    /// Committed entries, in order, each once.
    pub fn take_committed(&mut self) -> Vec<Committed> {
        core::mem::take(&mut self.committed)
    }

    /// The partition has applied up to here: the log in memory may forget it.
    pub fn handle_applied(&mut self, index: LogIndex) {
        self.raw.advance_apply_to(index.get());
        self.raw.mut_store().truncate(index);
    }
}
