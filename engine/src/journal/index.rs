//! Where each partition's entries lie. 16 bytes an entry, from the first that is not flushed to the last that is
//! durable.
//!
//! Invariants
//! - A partition's entries are dense: `first, first + 1, ...`; an entry with an index that is there replaces the tail.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::{LogIndex, PartitionId, SegmentId};

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) segment: SegmentId,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// The entries of one partition.
#[derive(Debug, Default)]
struct PartitionIndex {
    first: u64,
    entries: VecDeque<Location>,
}

/// The entries of all partitions.
#[derive(Debug, Default)]
pub(crate) struct Index {
    partitions: BTreeMap<PartitionId, PartitionIndex>,
}

impl Index {
    /// A durable entry. False where it does not continue what is there: a gap.
    pub(crate) fn insert(&mut self, partition: PartitionId, index: LogIndex, location: Location) -> bool {
        let log = self.partitions.entry(partition).or_default();
        if log.entries.is_empty() || index.get() < log.first {
            log.entries.clear();
            log.first = index.get();
        }
        let at = usize::try_from(index.get() - log.first).unwrap_or(usize::MAX);
        if at > log.entries.len() {
            return false;
        }
        log.entries.truncate(at);
        log.entries.push_back(location);
        true
    }

    /// Entries up to an index are in files.
    pub(crate) fn truncate(&mut self, partition: PartitionId, up_to: LogIndex) {
        if let Some(log) = self.partitions.get_mut(&partition) {
            while log.first <= up_to.get() && log.entries.pop_front().is_some() {
                log.first += 1;
            }
        }
    }

    /// The partitions that ever had entries here.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.partitions.keys().copied()
    }

    /// First and last index of a partition; `None` where it has no entries.
    pub(crate) fn bounds(&self, partition: PartitionId) -> Option<(LogIndex, LogIndex)> {
        let log = self.partitions.get(&partition).filter(|log| !log.entries.is_empty())?;
        Some((LogIndex::new(log.first), LogIndex::new(log.first + log.entries.len() as u64 - 1)))
    }

    /// Where an entry lies.
    pub(crate) fn get(&self, partition: PartitionId, index: LogIndex) -> Option<Location> {
        let log = self.partitions.get(&partition)?;
        let at = index.get().checked_sub(log.first)?;
        log.entries.get(usize::try_from(at).ok()?).copied()
    }

    /// The partition whose oldest entry lies in the oldest segment, and that segment.
    pub(crate) fn oldest(&self) -> Option<(PartitionId, SegmentId)> {
        let fronts = self.partitions.iter().filter_map(|(id, log)| Some((*id, log.entries.front()?.segment)));
        fronts.min_by_key(|(_, segment)| *segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u64) -> Location {
        Location { segment: SegmentId::new(segment), offset: 0, len: 0 }
    }

    #[test]
    fn an_overwrite_replaces_the_tail_and_a_gap_is_told() {
        let (mut index, p) = (Index::default(), PartitionId::new(1));
        for n in 5..=8 {
            assert!(index.insert(p, LogIndex::new(n), at(n)));
        }
        assert!(!index.insert(p, LogIndex::new(10), at(1)));
        assert!(index.insert(p, LogIndex::new(6), at(99)));
        assert_eq!(index.bounds(p), Some((LogIndex::new(5), LogIndex::new(6))));
        index.truncate(p, LogIndex::new(5));
        assert_eq!(index.get(p, LogIndex::new(6)), Some(at(99)));
        assert_eq!(index.get(p, LogIndex::new(5)), None);
        assert_eq!(index.oldest(), Some((p, SegmentId::new(99))));
    }
}
