//! Decoded blocks in memory, shared by all tables of a core: scan-resistant, within a budget of bytes.
//!
//! The policy is `quick_cache`'s (S3-FIFO with a clock): a block that is read once in passing leaves before one that
//! was asked for twice. Merges and verification do not go through it at all.
//!
//! Invariants
//! - The weight of all blocks is at most the capacity, as soon as an insert or [`BlockCache::set_capacity`] returns.

use core::cell::{Cell, RefCell};
use std::{hash::BuildHasherDefault, rc::Rc};

use quick_cache::{OptionsBuilder, Weighter, unsync::Cache};
use rustc_hash::FxHasher;

use super::{block::Block, columns::MessageBlock};
use crate::ids::FileId;

/// Where a block lies: tree, file, offset.
pub(crate) type BlockKey = (u32, FileId, u64);

/// A decoded block.
#[derive(Clone)]
pub(crate) enum CachedBlock {
    Rows(Rc<Block>),
    Messages(Rc<MessageBlock>),
}

/// Bytes charged for a block beside its own.
const ENTRY_BYTES: usize = 96;
/// Blocks that the cache is laid out for at first; it grows beyond.
const ITEMS_ESTIMATE: usize = 1024;

#[derive(Clone)]
struct Bytes;

impl Weighter<BlockKey, CachedBlock> for Bytes {
    fn weight(&self, _key: &BlockKey, block: &CachedBlock) -> u64 {
        let bytes = match block {
            CachedBlock::Rows(block) => block.memory_bytes(),
            CachedBlock::Messages(block) => block.memory_bytes(),
        };
        (bytes + ENTRY_BYTES) as u64
    }
}

/// What the cache did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockCacheStats {
    /// Blocks found.
    pub hits: u64,
    /// Blocks read from disk for a reader.
    pub misses: u64,
    /// Bytes now.
    pub bytes: usize,
}

/// The cache.
pub struct BlockCache {
    cache: RefCell<Cache<BlockKey, CachedBlock, Bytes, BuildHasherDefault<FxHasher>>>,
    hits: Cell<u64>,
    misses: Cell<u64>,
}

impl BlockCache {
    /// A cache of at most `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(ITEMS_ESTIMATE)
            .weight_capacity(capacity as u64)
            .build()
            .expect("every option is set");
        let cache = Cache::with_options(options, Bytes, BuildHasherDefault::default(), Default::default());
        Self { cache: RefCell::new(cache), hits: Cell::new(0), misses: Cell::new(0) }
    }

    /// Changes the capacity; the coldest blocks leave where there are too many.
    pub fn set_capacity(&self, capacity: usize) {
        let mut cache = self.cache.borrow_mut();
        if cache.capacity() != capacity as u64 {
            cache.set_capacity(capacity as u64);
        }
    }

    pub(crate) fn get(&self, key: &BlockKey) -> Option<CachedBlock> {
        let found = self.cache.borrow().get(key).cloned();
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.set(counter.get() + 1);
        found
    }

    pub(crate) fn insert(&self, key: BlockKey, block: CachedBlock) {
        self.cache.borrow_mut().insert(key, block);
    }

    /// Counters.
    pub fn stats(&self) -> BlockCacheStats {
        let bytes = usize::try_from(self.cache.borrow().weight()).expect("bytes in memory");
        BlockCacheStats { hits: self.hits.get(), misses: self.misses.get(), bytes }
    }
}
