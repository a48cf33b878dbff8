//! The index of a file in memory: the first key of each block, and where the block lies.
//!
//! | per block | key length u16 | key | offset u64 | bytes u32 |
//!
//! A search compares the first eight bytes of the keys, which lie side by side, and whole keys only among those that
//! agree in them: a search over keys that are each somewhere else would wait for memory at every step.
//!
//! Invariants
//! - Keys ascend strictly; blocks lie side by side from byte 0 to the end of the data, and there is at least one.

use core::ops::Range;

use bytes::Bytes;

/// Where a block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) bytes: usize,
}

impl Place {
    /// Where the block behind it begins.
    pub(crate) const fn end(self) -> u64 {
        self.offset + self.bytes as u64
    }
}

/// The index.
pub(crate) struct Index {
    section: Bytes,
    /// Per block: the first eight bytes of its first key.
    heads: Vec<u64>,
    /// Per block: where the section tells of it.
    entries: Vec<u32>,
}

impl Index {
    /// Reads the section of a file whose data ends at `data_end`; `None` where it is malformed.
    pub(crate) fn parse(section: Bytes, data_end: u64) -> Option<Self> {
        u32::try_from(section.len()).ok()?;
        let mut index = Self { section, heads: Vec::new(), entries: Vec::new() };
        let (mut at, mut end) = (0, 0);
        while at < index.section.len() {
            let (key, place) = index.entry(at)?;
            let follows = index.entries.is_empty() || index.first_key(index.len() - 1) < key;
            if place.offset != end || place.bytes == 0 || !follows {
                return None;
            }
            let (head, key_bytes) = (head(key), key.len());
            end = place.offset.checked_add(place.bytes as u64)?;
            index.heads.push(head);
            index.entries.push(u32::try_from(at).expect("the section is not longer"));
            at += 2 + key_bytes + 12;
        }
        index.heads.shrink_to_fit();
        index.entries.shrink_to_fit();
        (end == data_end && index.len() > 0).then_some(index)
    }

    fn entry(&self, at: usize) -> Option<(&[u8], Place)> {
        let rest = self.section.get(at..)?;
        let (key_bytes, rest) = rest.split_first_chunk::<2>()?;
        let (key, rest) = rest.split_at_checked(u16::from_le_bytes(*key_bytes).into())?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let bytes = u32::from_le_bytes(*rest.first_chunk::<4>()?) as usize;
        Some((key, Place { offset: u64::from_le_bytes(*offset), bytes }))
    }

    fn checked_entry(&self, block: usize) -> (&[u8], Place) {
        self.entry(self.entries[block] as usize).expect("it was read when the file was opened")
    }

    /// Blocks.
    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes it takes in memory.
    pub(crate) const fn memory_bytes(&self) -> usize {
        self.section.len() + self.entries.len() * (size_of::<u64>() + size_of::<u32>())
    }

    /// First key of a block.
    pub(crate) fn first_key(&self, block: usize) -> &[u8] {
        self.checked_entry(block).0
    }

    /// Where a block lies.
    pub(crate) fn place(&self, block: usize) -> Place {
        self.checked_entry(block).1
    }

    /// The block that may hold `key`: the last one that begins at or below it.
    pub(crate) fn block_of(&self, key: &[u8]) -> Option<usize> {
        self.begin_up_to(key, self.alike(head(key))).checked_sub(1)
    }

    /// Blocks that may hold keys from `start` to `end`, both included.
    pub(crate) fn blocks_of(&self, start: &[u8], end: &[u8]) -> Range<usize> {
        let alike = self.alike(head(start));
        let first = self.begin_up_to(start, alike.clone()).saturating_sub(1);
        // Both ends of a chat agree in the first bytes: one search for both.
        let alike = if head(start) == head(end) { alike } else { self.alike(head(end)) };
        let behind = self.begin_up_to(end, alike);
        first.min(behind)..behind
    }

    /// The blocks whose first keys begin so.
    fn alike(&self, head: u64) -> Range<usize> {
        let low = self.heads.partition_point(|other| *other < head);
        // They are few: what lies further on is not touched.
        let mut reach = 1;
        while self.heads.get(low + reach - 1) == Some(&head) {
            reach *= 2;
        }
        let near = &self.heads[low..self.heads.len().min(low + reach - 1)];
        low..low + near.partition_point(|other| *other == head)
    }

    /// How many blocks begin at or below `key`, given those that are alike in the first bytes.
    fn begin_up_to(&self, key: &[u8], alike: Range<usize>) -> usize {
        let begins = |entry: &u32| self.entry(*entry as usize).is_some_and(|(first, _)| first <= key);
        alike.start + self.entries[alike].partition_point(begins)
    }
}

/// The first eight bytes, as a number that is in the order of the keys; a shorter key counts as if zeroes followed.
fn head(key: &[u8]) -> u64 {
    let mut head = [0; 8];
    let bytes = key.len().min(8);
    head[..bytes].copy_from_slice(&key[..bytes]);
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn section(keys: &[Vec<u8>], bytes: u32) -> Bytes {
        let mut section = Vec::new();
        for (n, key) in keys.iter().enumerate() {
            section.extend_from_slice(&u16::try_from(key.len()).unwrap().to_le_bytes());
            section.extend_from_slice(key);
            section.extend_from_slice(&(n as u64 * u64::from(bytes)).to_le_bytes());
            section.extend_from_slice(&bytes.to_le_bytes());
        }
        section.into()
    }

    #[test]
    fn what_is_cut_off_or_out_of_order_is_malformed() {
        let keys = [b"a".to_vec(), b"ab".to_vec(), b"b".to_vec()];
        let whole = section(&keys, 10);
        assert!(Index::parse(whole.clone(), 30).is_some());
        assert!(Index::parse(whole.clone(), 31).is_none());
        (0..whole.len()).for_each(|len| assert!(Index::parse(whole.slice(..len), 30).is_none()));
        assert!(Index::parse(section(&[b"b".to_vec(), b"a".to_vec()], 10), 20).is_none());
        assert!(Index::parse(section(&[b"a".to_vec(), b"a".to_vec()], 10), 20).is_none());
        assert!(Index::parse(section(&[b"a".to_vec()], 0), 0).is_none());
    }

    proptest! {
        #[test]
        fn a_search_answers_like_one_over_whole_keys(
            keys in proptest::collection::btree_set(proptest::collection::vec(0..2u8, 0..14), 1..200),
            start in proptest::collection::vec(0..2u8, 0..14),
            end in proptest::collection::vec(0..2u8, 0..14),
        ) {
            let keys: Vec<_> = keys.into_iter().collect();
            let index = Index::parse(section(&keys, 7), keys.len() as u64 * 7).unwrap();
            prop_assert!(keys.iter().enumerate().all(|(n, key)| index.first_key(n) == &key[..]));
            let up_to = |key: &Vec<u8>| keys.partition_point(|other| other <= key);
            prop_assert_eq!(index.block_of(&start), up_to(&start).checked_sub(1));
            let (first, behind) = (up_to(&start).saturating_sub(1), up_to(&end));
            prop_assert_eq!(index.blocks_of(&start, &end), first.min(behind)..behind);
        }
    }
}
