//! Proposals of one partition: commands of a cycle become one entry, with whom to answer.
//!
//! Invariants
//! - A waiter is answered once: with the outcome of its command when that is applied, or with a refusal when the entry
//!   could not be proposed.
//! - What waits to be proposed is bounded by [`PROPOSAL_BYTES_MAX`]; beyond it commands are refused as overload.

use std::collections::{BTreeMap, VecDeque};

use columba_engine::{
    ids::LogIndex,
    limits::ENTRY_BYTES_MAX,
    partition::{command::Command, effect::Outcome},
};
use columba_wire::{ChatId, ClientSeq, Code};

use super::message::SessionRef;
use crate::core::limits::PROPOSAL_BYTES_MAX;

/// Who learns a command's outcome.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// Nobody.
    None,
    /// The session that sent a message.
    Sent { session: SessionRef, request_id: u64, client_seq: ClientSeq, chat: ChatId },
    /// A job on this core.
    Job(u64),
}

/// The proposals of one partition.
#[derive(Default)]
pub(crate) struct Proposals {
    open: Entry,
    full: VecDeque<Entry>,
    bytes: usize,
    proposed: BTreeMap<LogIndex, Vec<Waiter>>,
}

/// An entry that is being filled.
#[derive(Default)]
pub(crate) struct Entry {
    pub(crate) payload: Vec<u8>,
    pub(crate) waiters: Vec<Waiter>,
}

impl Proposals {
    /// Adds a command. Returns the waiter where there is no room.
    pub(crate) fn push(&mut self, command: &Command, waiter: Waiter) -> Result<(), Waiter> {
        let bytes = command.encoded_bytes_max();
        if self.bytes + bytes > PROPOSAL_BYTES_MAX {
            return Err(waiter);
        }
        if self.open.payload.len() + bytes > ENTRY_BYTES_MAX && !self.open.payload.is_empty() {
            self.full.push_back(core::mem::take(&mut self.open));
        }
        let before = self.open.payload.len();
        command.encode_into(&mut self.open.payload);
        self.open.waiters.push(waiter);
        self.bytes += self.open.payload.len() - before;
        Ok(())
    }

    /// Whether there is something to propose.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The next entry to propose.
    pub(crate) fn take_entry(&mut self) -> Option<Entry> {
        let entry = match self.full.pop_front() {
            Some(entry) => entry,
            None if self.open.payload.is_empty() => return None,
            None => core::mem::take(&mut self.open),
        };
        self.bytes -= entry.payload.len();
        Some(entry)
    }

    /// The entry has this index now.
    pub(crate) fn handle_proposed(&mut self, index: LogIndex, waiters: Vec<Waiter>) {
        let before = self.proposed.insert(index, waiters);
        assert!(before.is_none(), "entry {index} was proposed twice");
    }

    /// The entry is applied: who learns which outcome.
    pub(crate) fn take_waiters(&mut self, index: LogIndex) -> Vec<Waiter> {
        self.proposed.remove(&index).unwrap_or_default()
    }

    /// Whether nothing waits for its outcome.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_empty() && self.proposed.is_empty()
    }
}

/// The code that an outcome means to a client.
pub(crate) fn refusal(outcome: &Outcome) -> Option<Code> {
    match outcome {
        Outcome::Refused(code) => Some(*code),
        Outcome::Done
        | Outcome::Claimed(_)
        | Outcome::DeviceAdded(_)
        | Outcome::Sent { .. }
        | Outcome::KeysStored(_)
        | Outcome::Keys(_) => None,
    }
}
