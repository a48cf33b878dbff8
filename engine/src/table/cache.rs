//! Decoded blocks and chats' newest pages in memory, shared by all tables of a core: scan-resistant, within a budget of
//! bytes.
//!
//! The policy is `quick_cache`'s (S3-FIFO with a clock): what is read once in passing leaves before what was asked for
//! twice. Merges and verification do not go through it at all. A read of a chat's newest messages takes blocks that are
//! there, and leaves its page instead of those that it had to read.
//!
//! Invariants
//! - The weight of all blocks and pages is at most the capacity, as soon as an insert or [`BlockCache::set_capacity`]
//!   returns.

use core::cell::{Cell, RefCell};
use std::{hash::BuildHasherDefault, rc::Rc};

use columba_wire::ChatId;
use quick_cache::{OptionsBuilder, Weighter, unsync::Cache};
use rustc_hash::FxHasher;

use super::{block::Block, columns::MessageBlock, page::Page};
use crate::{ids::FileId, limits::TABLE_BLOCK_BYTES};

/// What is kept, and of which tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CacheKey {
    /// Tree, file, offset.
    Block(u32, FileId, u64),
    /// Tree, chat.
    Page(u32, ChatId),
}

/// What is kept.
#[derive(Clone)]
pub(crate) enum Cached {
    Rows(Rc<Block>),
    Messages(Rc<MessageBlock>),
    Page(Rc<Page>),
}

/// Bytes charged for a block or page beside its own.
const ENTRY_BYTES: usize = 96;
/// The part of the capacity for what was asked for twice. What is asked for a second time within the rest of it is one
/// of those from then on.
const HOT_PART: f64 = 0.9;

#[derive(Clone)]
struct Bytes;

impl Weighter<CacheKey, Cached> for Bytes {
    fn weight(&self, _key: &CacheKey, cached: &Cached) -> u64 {
        let bytes = match cached {
            Cached::Rows(block) => block.memory_bytes(),
            Cached::Messages(block) => block.memory_bytes(),
            Cached::Page(page) => page.memory_bytes(),
        };
        (bytes + ENTRY_BYTES) as u64
    }
}

/// What the cache did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockCacheStats {
    /// Blocks and pages found.
    pub hits: u64,
    /// Blocks read from disk for a reader.
    pub misses: u64,
    /// Bytes now.
    pub bytes: usize,
}

/// The cache.
pub struct BlockCache {
    cache: RefCell<Cache<CacheKey, Cached, Bytes, BuildHasherDefault<FxHasher>>>,
    hits: Cell<u64>,
    misses: Cell<u64>,
}

impl BlockCache {
    /// A cache of at most `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        let options = OptionsBuilder::new()
            // As many as it remembers to have dropped, to know what is asked for twice.
            .estimated_items_capacity((capacity / TABLE_BLOCK_BYTES).max(1024))
            .hot_allocation(HOT_PART)
            .ghost_allocation(1.0)
            .weight_capacity(capacity as u64)
            .build()
            .expect("every option is set");
        let cache = Cache::with_options(options, Bytes, BuildHasherDefault::default(), Default::default());
        Self { cache: RefCell::new(cache), hits: Cell::new(0), misses: Cell::new(0) }
    }

    /// Changes the capacity; the coldest leave where there are too many.
    pub fn set_capacity(&self, capacity: usize) {
        let mut cache = self.cache.borrow_mut();
        if cache.capacity() != capacity as u64 {
            cache.set_capacity(capacity as u64);
        }
    }

    /// A chat's page; that there is none does not count as a miss, its blocks will.
    pub(crate) fn page(&self, tree: u32, chat: ChatId) -> Option<Rc<Page>> {
        let Some(Cached::Page(page)) = self.cache.borrow().get(&CacheKey::Page(tree, chat)).cloned() else {
            return None;
        };
        self.hits.set(self.hits.get() + 1);
        Some(page)
    }

    pub(crate) fn get(&self, key: &CacheKey) -> Option<Cached> {
        let found = self.cache.borrow().get(key).cloned();
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.set(counter.get() + 1);
        found
    }

    pub(crate) fn insert(&self, key: CacheKey, cached: Cached) {
        self.cache.borrow_mut().insert(key, cached);
    }

    /// Counters.
    pub fn stats(&self) -> BlockCacheStats {
        let bytes = usize::try_from(self.cache.borrow().weight()).expect("bytes in memory");
        BlockCacheStats { hits: self.hits.get(), misses: self.misses.get(), bytes }
    }
}
