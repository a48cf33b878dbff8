//! One budget of memory per core: memtables, rows, open tables and blocks share it.
//!
//! | part | share of the budget | beyond |
//! |---|---|---|
//! | active memtables of all partitions | five sixteenths | the largest is sealed and flushed |
//! | active and sealed memtables | nine sixteenths | writes wait, or are refused |
//! | rows known from files | a quarter | the older generation of a partition's is dropped |
//! | filters and indexes of open tables | what they take, up to three sixteenths | the coldest table is closed |
//! | blocks | what the others leave, and never less than an eighth | the coldest block is dropped |
//!
//! Invariants
//! - What is reported is what is counted: bytes of content plus a flat charge per entry, not the allocator's view.

use core::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// Memory of a core where nothing else is said, bytes.
pub const MEMORY_BYTES: usize = 512 * 1024 * 1024;
/// The least that a core works with, bytes.
pub const MEMORY_BYTES_MIN: usize = 4 * 1024 * 1024;

/// What a partition uses. Kept by the partition, read by the core.
#[derive(Debug, Default)]
pub struct Usage {
    /// Bytes of the active memtable.
    pub active: Cell<usize>,
    /// Bytes of the sealed one.
    pub sealed: Cell<usize>,
    /// Bytes of rows known from files.
    pub rows: Cell<usize>,
}

/// What a core uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// The budget.
    pub budget: usize,
    /// Active memtables.
    pub active: usize,
    /// Sealed memtables.
    pub sealed: usize,
    /// Rows known from files.
    pub rows: usize,
    /// Filters and indexes of open tables.
    pub tables: usize,
    /// Blocks.
    pub blocks: usize,
}

impl MemoryStats {
    /// In sum.
    pub const fn total(&self) -> usize {
        self.active + self.sealed + self.rows + self.tables + self.blocks
    }
}

/// The budget of a core.
#[derive(Debug)]
pub struct Memory {
    budget: usize,
    partitions: RefCell<Vec<Weak<Usage>>>,
}

impl Memory {
    /// A budget; at least [`MEMORY_BYTES_MIN`].
    pub fn new(budget: usize) -> Self {
        Self { budget: budget.max(MEMORY_BYTES_MIN), partitions: RefCell::default() }
    }

    /// The budget, bytes.
    pub const fn budget(&self) -> usize {
        self.budget
    }

    /// A partition's account.
    pub fn register(&self) -> Rc<Usage> {
        let usage = Rc::new(Usage::default());
        let mut partitions = self.partitions.borrow_mut();
        partitions.retain(|partition| partition.strong_count() > 0);
        partitions.push(Rc::downgrade(&usage));
        usage
    }

    fn sum(&self, part: impl Fn(&Usage) -> usize) -> usize {
        self.partitions.borrow().iter().filter_map(Weak::upgrade).map(|usage| part(&usage)).sum()
    }

    /// Bytes of active memtables.
    pub fn active(&self) -> usize {
        self.sum(|usage| usage.active.get())
    }

    /// Bytes of sealed memtables.
    pub fn sealed(&self) -> usize {
        self.sum(|usage| usage.sealed.get())
    }

    /// Bytes of rows known from files.
    pub fn rows(&self) -> usize {
        self.sum(|usage| usage.rows.get())
    }

    /// Bytes of active memtables at which the largest is flushed.
    pub const fn seal_at(&self) -> usize {
        self.budget / 16 * 5
    }

    /// Bytes of all memtables at which writes wait.
    pub const fn stall_at(&self) -> usize {
        self.budget / 16 * 9
    }

    /// Whether memtables have reached the bound at which writes wait for a flush.
    pub fn must_stall(&self) -> bool {
        self.active() + self.sealed() >= self.stall_at()
    }

    /// Bytes of rows that one partition may know beside its memtables.
    pub fn rows_max(&self) -> usize {
        self.budget / 4 / self.partitions.borrow().len().max(1)
    }

    /// Bytes for filters and indexes of open tables. A table that is closed for lack of room is read again, index and
    /// all, with the next read: so they come before blocks.
    pub const fn tables_max(&self) -> usize {
        self.budget / 16 * 3
    }

    /// Bytes for blocks now, beside open tables of so many bytes.
    pub fn blocks_max(&self, tables: usize) -> usize {
        let used = self.active() + self.sealed() + self.rows().min(self.budget / 4) + tables.min(self.tables_max());
        self.budget.saturating_sub(used).max(self.budget / 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_get_what_the_others_leave_and_never_less_than_an_eighth() {
        let memory = Memory::new(64 << 20);
        let (one, other) = (memory.register(), memory.register());
        assert_eq!(memory.blocks_max(0), 64 << 20);
        one.active.set(10 << 20);
        other.sealed.set(6 << 20);
        assert_eq!(memory.blocks_max(8 << 20), 40 << 20);
        assert!(!memory.must_stall());
        one.active.set(90 << 20);
        other.rows.set(90 << 20);
        assert_eq!(memory.blocks_max(90 << 20), 8 << 20);
        assert!(memory.must_stall());
        drop(one);
        assert_eq!((memory.active(), memory.sealed()), (0, 6 << 20));
    }
}
