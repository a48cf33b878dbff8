//! raft-rs storage: the part of the log that may still be asked for, in memory; the rest is in the journal.
//!
//! Invariants
//! - Entries are `truncated + 1 ..= last`, dense. `truncated` is at or below the applied index.
//! - What raft-rs appends here is in the journal's open batch too, before anything depends on it.

use std::collections::VecDeque;

use columba_engine::ids::{LogIndex, Term};
use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{ConfState, Entry, HardState, Snapshot},
};

/// The log of one group.
#[derive(Debug)]
pub struct Log {
    hard_state: HardState,
    conf_state: ConfState,
    truncated: (u64, u64),
    entries: VecDeque<Entry>,
}

impl Log {
    /// A log whose entries up to `truncated` are applied and forgotten.
    pub fn new(hard_state: HardState, conf_state: ConfState, truncated: (LogIndex, Term)) -> Self {
        let (index, term) = truncated;
        Self { hard_state, conf_state, truncated: (index.get(), term.get()), entries: VecDeque::new() }
    }

    /// Appends entries; those with an index that is there replace the tail from it on.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else {
            return;
        };
        assert!(first.index > self.truncated.0, "entry {} is applied already", first.index);
        let keep = usize::try_from(first.index - self.truncated.0 - 1).expect("the log fits in memory");
        assert!(keep <= self.entries.len(), "log gap: {} after {}", first.index, self.last());
        self.entries.truncate(keep);
        self.entries.extend(entries.iter().cloned());
    }

    /// Forgets entries up to an applied index.
    pub(crate) fn truncate(&mut self, applied: LogIndex) {
        while let Some(front) = self.entries.front() {
            if front.index > applied.get() {
                break;
            }
            self.truncated = (front.index, front.term);
            self.entries.pop_front();
        }
    }

    fn last(&self) -> u64 {
        self.entries.back().map_or(self.truncated.0, |entry| entry.index)
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let budget = max_size.into().unwrap_or(u64::MAX);
        let mut bytes = 0u64;
        let mut out = Vec::new();
        let skip = usize::try_from(low - self.truncated.0 - 1).expect("the log fits in memory");
        for entry in self.entries.iter().skip(skip).take_while(|entry| entry.index < high) {
            bytes += entry.data.len() as u64 + 32;
            if bytes > budget && !out.is_empty() {
                break;
            }
            out.push(entry.clone());
        }
        Ok(out)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.truncated.0 {
            return Ok(self.truncated.1);
        }
        if index < self.truncated.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let at = usize::try_from(index - self.truncated.0 - 1).expect("the log fits in memory");
        self.entries.get(at).map(|entry| entry.term).ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
