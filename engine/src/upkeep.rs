//! What background work is due: decisions of a core over its partitions, for every driver the same.
//!
//! | due | when |
//! |---|---|
//! | flush | a memtable is full; the core's memtables together are, then the largest; the journal is long, then the one that keeps its oldest segment |
//! | compaction | a partition has a plan; those with most files of level 0 first |
//!
//! A driver that has timers also flushes what is old (`MEMTABLE_AGE_MAX_MS`), so that a start has little to apply
//! again.
//!
//! Invariants
//! - A partition is flushed by one flush and merged by one merge at a time; both may go on beside each other.

use crate::{env::Disk, journal::Journal, limits::SEGMENTS_FLUSH_AT, memory::Memory, partition::Partition};

/// The partition that should be flushed next.
pub fn flush_due<'a, D: Disk>(
    partitions: impl Iterator<Item = &'a Partition<D>> + Clone,
    journal: &Journal<D>,
    memory: &Memory,
) -> Option<&'a Partition<D>> {
    let idle = partitions.filter(|partition| !partition.is_flushing() && partition.is_dirty());
    if let Some(full) = idle.clone().find(|partition| partition.wants_flush()) {
        return Some(full);
    }
    if memory.active() >= memory.seal_at()
        && let Some(largest) = idle.clone().max_by_key(|partition| partition.active_bytes())
    {
        return Some(largest);
    }
    let pinning = journal.pinning().filter(|_| journal.segments_in_use() >= SEGMENTS_FLUSH_AT)?;
    idle.clone().find(|partition| partition.id() == pinning)
}

/// The partition whose files should be merged or dropped next.
pub fn compaction_due<'a, D: Disk>(partitions: impl Iterator<Item = &'a Partition<D>>) -> Option<&'a Partition<D>> {
    let due = partitions.filter(|partition| partition.wants_compaction());
    due.max_by_key(|partition| (partition.tree().level_0(), core::cmp::Reverse(partition.id())))
}
