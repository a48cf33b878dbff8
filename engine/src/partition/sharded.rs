//! A hash map in 64 shards, so that growing one never moves everything at once.
//!
//! A table of 100,000 rows that doubles moves them all, for milliseconds, while the core answers nobody. Here one shard
//! doubles at a time, and a layer can be collected, written and dropped shard by shard.
//!
//! Invariants
//! - A key is in the shard that its hash names, and in no other. `len` is the sum over the shards.

use core::hash::{BuildHasher as _, Hash};

use rustc_hash::{FxBuildHasher, FxHashMap};

/// Shards of a map.
const SHARDS: usize = 64;

/// A hash map in shards. Its order is nobody's: what is replicated, written or sent is sorted first.
pub(crate) struct ShardedMap<K, V> {
    shards: Box<[FxHashMap<K, V>]>,
    len: usize,
}

impl<K, V> Default for ShardedMap<K, V> {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| FxHashMap::default()).collect(), len: 0 }
    }
}

impl<K: Eq + Hash, V> ShardedMap<K, V> {
    /// Upper bits of the hash, but not the uppermost seven: a table tells keys apart by those, and finds its slots by
    /// the lowest.
    fn shard_of(key: &K) -> usize {
        let hash = FxBuildHasher.hash_one(key);
        usize::try_from(hash >> 51 & (SHARDS as u64 - 1)).expect("six bits")
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.shards[Self::shard_of(key)].get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.shards[Self::shard_of(key)].get_mut(key)
    }

    /// Puts a value in, and returns the one that was there.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let before = self.shards[Self::shard_of(&key)].insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// The value of a key, which is made where there is none.
    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let len = &mut self.len;
        self.shards[Self::shard_of(&key)].entry(key).or_insert_with(|| {
            *len += 1;
            make()
        })
    }

    /// All of it, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards().flatten()
    }

    /// Shard by shard.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &FxHashMap<K, V>> {
        self.shards.iter()
    }

    /// Shard by shard, each to be dropped by itself.
    pub(crate) fn into_shards(self) -> impl Iterator<Item = FxHashMap<K, V>> {
        self.shards.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use columba_wire::UserId;
    use proptest::prelude::*;

    use super::*;

    fn user(n: u64) -> UserId {
        let mut bytes = [7; 16];
        bytes[8..].copy_from_slice(&n.to_be_bytes());
        UserId::from_bytes(bytes)
    }

    #[test]
    fn every_shard_gets_its_part() {
        let mut map = ShardedMap::default();
        for n in 0..64_000 {
            map.insert(user(n), n);
        }
        let sizes: Vec<_> = map.shards().map(FxHashMap::len).collect();
        assert_eq!(sizes.iter().sum::<usize>(), map.len());
        assert!(sizes.iter().all(|size| (800..1_200).contains(size)), "{sizes:?}");
    }

    proptest! {
        #[test]
        fn a_sharded_map_answers_like_a_map(
            steps in proptest::collection::vec((0u64..200, any::<u32>(), 0u8..4), 0..400),
        ) {
            let (mut map, mut model) = (ShardedMap::default(), std::collections::BTreeMap::new());
            for (key, value, step) in steps {
                match step {
                    0 => prop_assert_eq!(map.insert(user(key), value), model.insert(user(key), value)),
                    1 => {
                        let model = model.entry(user(key)).or_insert(value);
                        prop_assert_eq!(map.get_or_insert_with(user(key), || value), model);
                    }
                    2 => prop_assert_eq!(map.get_mut(&user(key)), model.get_mut(&user(key))),
                    _ => prop_assert_eq!(map.get(&user(key + 1)), model.get(&user(key + 1))),
                }
                prop_assert_eq!((map.get(&user(key)), map.len()), (model.get(&user(key)), model.len()));
            }
            let mut all: Vec<_> = map.iter().map(|(key, value)| (*key, *value)).collect();
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(model.iter().map(|(key, value)| (*key, *value))));
            prop_assert_eq!(map.into_shards().map(|shard| shard.len()).sum::<usize>(), model.len());
        }
    }
}
