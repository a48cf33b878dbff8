//! All groups of a core: what they append goes into one batch of the shared journal, and one durable write makes every
//! group of the core durable.
//!
//! Invariants
//! - A group takes part in a batch only after it was marked dirty; quiet groups cost nothing.
//! - [`CoreGroups::handle_persisted`] concerns the groups that appended since the last call, and no others.

use std::collections::{BTreeMap, BTreeSet};

use columba_engine::{
    env::Disk,
    ids::{LogIndex, PartitionId, Term},
    journal::Journal,
};

use crate::{
    error::Result,
    group::{Append, Committed, Group},
};

/// The groups of a core, by partition.
#[derive(Default)]
pub struct CoreGroups {
    groups: BTreeMap<PartitionId, Group>,
    dirty: BTreeSet<PartitionId>,
    appended: Vec<PartitionId>,
}

struct ToJournal<'a, D: Disk>(&'a Journal<D>);

impl<D: Disk> Append for ToJournal<'_, D> {
    fn entry(&mut self, partition: PartitionId, term: Term, index: LogIndex, payload: &[u8]) {
        self.0.append_entry(partition, term, index, payload);
    }

    fn state(&mut self, partition: PartitionId, payload: &[u8]) {
        self.0.append_state(partition, payload);
    }
}

impl CoreGroups {
    /// Adds a group and stands for election in it.
    ///
    /// # Errors
    /// `Raft`.
    pub fn insert(&mut self, mut group: Group) -> Result<()> {
        group.campaign()?;
        self.dirty.insert(group.partition());
        let before = self.groups.insert(group.partition(), group);
        assert!(before.is_none(), "a partition has one group");
        Ok(())
    }

    /// A group.
    ///
    /// # Panics
    /// If the partition is not on this core.
    pub fn group(&self, partition: PartitionId) -> &Group {
        self.groups.get(&partition).expect("the router sends only what this core owns")
    }

    /// Whether every group has a leader here.
    pub fn all_lead(&self) -> bool {
        self.groups.values().all(Group::is_leader)
    }

    /// Proposes an entry to a partition.
    ///
    /// # Errors
    /// `NotLeader`, `TooMuchInFlight`.
    ///
    /// # Panics
    /// If the partition is not on this core.
    pub fn propose(&mut self, partition: PartitionId, payload: Vec<u8>) -> Result<LogIndex> {
        let group = self.groups.get_mut(&partition).expect("the router sends only what this core owns");
        let index = group.propose(payload)?;
        self.dirty.insert(partition);
        Ok(index)
    }

    /// Time passes for every group that is not quiet. (A sole voter has nobody to send a heartbeat to.)
    pub fn tick(&mut self) {
        for (partition, group) in &mut self.groups {
            if !group.is_leader() {
                group.tick();
                self.dirty.insert(*partition);
            }
        }
    }

    /// Whether any group has something to append or to apply.
    pub fn has_ready(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Collects what the dirty groups append into the journal's open batch, and what is committed.
    pub fn poll_append<D: Disk>(&mut self, journal: &Journal<D>) -> Vec<(PartitionId, Vec<Committed>)> {
        let mut committed = Vec::new();
        for partition in core::mem::take(&mut self.dirty) {
            let group = self.groups.get_mut(&partition).expect("dirty groups are here");
            if group.poll_append(&mut ToJournal(journal)) {
                self.appended.push(partition);
            }
            let entries = group.take_committed();
            if !entries.is_empty() {
                committed.push((partition, entries));
            }
        }
        committed
    }

    /// The journal's write that holds everything polled so far is durable.
    pub fn handle_persisted(&mut self) {
        for partition in self.appended.drain(..) {
            let group = self.groups.get_mut(&partition).expect("groups stay");
            group.handle_persisted();
            if group.has_ready() {
                self.dirty.insert(partition);
            }
        }
    }

    /// The partition has applied up to here.
    pub fn handle_applied(&mut self, partition: PartitionId, index: LogIndex) {
        self.groups.get_mut(&partition).expect("groups stay").handle_applied(index);
    }
}
