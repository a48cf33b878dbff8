//! Open tables of a core, and what its trees share beside them. Files are opened when they are read.
//!
//! Invariants
//! - At most [`TABLES_OPEN_MAX`] tables are kept open, and no more than the budget allows for their filters and
//!   indexes; a reader that holds one keeps it open beyond that.

use core::cell::{Cell, RefCell};
use std::{hash::BuildHasherDefault, rc::Rc};

use quick_cache::{OptionsBuilder, Weighter, unsync::Cache};
use rustc_hash::FxHasher;

use crate::{
    background::Pacer,
    env::{Clock, DiskFile},
    ids::FileId,
    limits::TABLES_OPEN_MAX,
    memory::{Memory, MemoryStats},
    table::{
        cache::{BlockCache, BlockCacheStats},
        reader::Table,
    },
};

type TableKey = (u32, FileId);

#[derive(Clone)]
struct Cost {
    least: u64,
}

impl<F: DiskFile> Weighter<TableKey, Rc<Table<F>>> for Cost {
    fn weight(&self, _key: &TableKey, table: &Rc<Table<F>>) -> u64 {
        (table.memory_bytes() as u64).max(self.least)
    }
}

type TableCache<F> = Cache<TableKey, Rc<Table<F>>, Cost, BuildHasherDefault<FxHasher>>;

/// What the trees of a core share: budget, caches, pace. Clones share it.
pub struct Shared<F: DiskFile> {
    inner: Rc<Inner<F>>,
}

struct Inner<F: DiskFile> {
    memory: Memory,
    pacer: Pacer,
    blocks: BlockCache,
    tables: RefCell<TableCache<F>>,
    next_tree: Cell<u32>,
}

impl<F: DiskFile> Clone for Shared<F> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

impl<F: DiskFile> Shared<F> {
    /// For a core with this budget of bytes and this clock.
    pub fn new(memory_bytes: usize, clock: impl Clock) -> Self {
        let memory = Memory::new(memory_bytes);
        let capacity = memory.tables_max() as u64;
        let options = OptionsBuilder::new()
            .estimated_items_capacity(TABLES_OPEN_MAX)
            .weight_capacity(capacity)
            .build()
            .expect("every option is set");
        let cost = Cost { least: capacity / TABLES_OPEN_MAX as u64 };
        let tables = Cache::with_options(options, cost, BuildHasherDefault::default(), Default::default());
        let inner = Inner {
            blocks: BlockCache::new(memory.blocks_max(0)),
            memory,
            pacer: Pacer::new(clock),
            tables: RefCell::new(tables),
            next_tree: Cell::new(0),
        };
        Self { inner: Rc::new(inner) }
    }

    /// The budget.
    pub fn memory(&self) -> &Memory {
        &self.inner.memory
    }

    /// The pace of background work.
    pub fn pacer(&self) -> &Pacer {
        &self.inner.pacer
    }

    pub(crate) fn blocks(&self) -> &BlockCache {
        &self.inner.blocks
    }

    /// Gives the blocks what the memtables leave. To be called now and then, and after each seal and flush.
    pub fn rebalance(&self) {
        let tables = usize::try_from(self.inner.tables.borrow().weight()).expect("bytes in memory");
        self.inner.blocks.set_capacity(self.inner.memory.blocks_max(tables));
    }

    pub(crate) fn next_tree(&self) -> u32 {
        let tree = self.inner.next_tree.get();
        self.inner.next_tree.set(tree + 1);
        tree
    }

    pub(crate) fn table(&self, tree: u32, file: FileId) -> Option<Rc<Table<F>>> {
        self.inner.tables.borrow().get(&(tree, file)).cloned()
    }

    pub(crate) fn keep_table(&self, tree: u32, table: &Rc<Table<F>>) {
        self.inner.tables.borrow_mut().insert((tree, table.id()), Rc::clone(table));
        self.rebalance();
    }

    pub(crate) fn forget_table(&self, tree: u32, file: FileId) {
        self.inner.tables.borrow_mut().remove(&(tree, file));
    }

    /// Tables that are kept open.
    pub fn tables_open(&self) -> usize {
        self.inner.tables.borrow().len()
    }

    /// What blocks were found and read.
    pub fn block_stats(&self) -> BlockCacheStats {
        self.inner.blocks.stats()
    }

    /// What is used of the budget.
    pub fn memory_stats(&self) -> MemoryStats {
        let memory = &self.inner.memory;
        MemoryStats {
            budget: memory.budget(),
            active: memory.active(),
            sealed: memory.sealed(),
            rows: memory.rows(),
            tables: self.inner.tables.borrow().iter().map(|(_, table)| table.memory_bytes()).sum(),
            blocks: self.inner.blocks.stats().bytes,
        }
    }
}
