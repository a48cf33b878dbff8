//! A block of rows. Little-endian.
//!
//! | 0 magic u32 | 4 crc32 u32 | 8 bytes u32 | 12 rows u32 | 16 raw bytes u32 | 20 rows, zstd where shorter than raw |
//!
//! A row: `[key length u16][value length u32, or 0xffffffff for a deletion][key][value]`.
//!
//! Invariants
//! - The crc covers every byte behind it up to `bytes`, the end, and is seeded with file id and offset: [`seal`] and
//!   [`open`], for blocks of messages too.
//! - Rows are compressed or as they are: as long as `raw bytes` says, they are as they are.

use bytes::Bytes;

use super::{Damage, compress};
use crate::{
    error::{Error, Result},
    ids::FileId,
    limits::{BLOCK_ROWS_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX},
};

const MAGIC: u32 = u32::from_le_bytes(*b"CLB2");
/// Bytes before the first row.
pub const HEADER_BYTES: usize = 20;
/// Bytes of any block before what is its own: magic, crc, bytes.
const SEAL_BYTES: usize = 12;
const ROW_HEADER_BYTES: usize = 6;
const DELETED: u32 = u32::MAX;

/// Bytes that a row takes in a block, before compression.
pub const fn row_bytes(key: usize, value: usize) -> usize {
    ROW_HEADER_BYTES + key + value
}

/// A block that is being filled. It keeps its buffer from block to block.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    rows: Vec<u8>,
    count: u32,
}

impl BlockBuilder {
    /// Appends a row; `None` is a deletion marker.
    ///
    /// # Panics
    /// If key or value is over its limit.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        assert!(
            key.len() <= KEY_BYTES_MAX && value.is_none_or(|value| value.len() <= VALUE_BYTES_MAX),
            "a row is too long"
        );
        self.rows.extend_from_slice(&u16::try_from(key.len()).expect("checked").to_le_bytes());
        let len = value.map_or(DELETED, |value| u32::try_from(value.len()).expect("checked"));
        self.rows.extend_from_slice(&len.to_le_bytes());
        self.rows.extend_from_slice(key);
        self.rows.extend_from_slice(value.unwrap_or_default());
        self.count += 1;
    }

    /// Bytes so far, before compression.
    pub const fn len(&self) -> usize {
        HEADER_BYTES + self.rows.len()
    }

    /// Whether it has no rows.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The block as it lies in its file at `offset`; the builder begins anew.
    ///
    /// # Panics
    /// If it is empty, or its rows are over their limit.
    pub fn finish(&mut self, file: FileId, offset: u64) -> Vec<u8> {
        let raw = self.rows.len();
        assert!(self.count > 0, "a block has rows");
        assert!(raw <= BLOCK_ROWS_BYTES_MAX, "rows of {raw} bytes could not be read back");
        let mut block = Vec::with_capacity(HEADER_BYTES + raw);
        block.resize(HEADER_BYTES, 0);
        compress::append(&mut block, &self.rows);
        block[..4].copy_from_slice(&MAGIC.to_le_bytes());
        block[12..16].copy_from_slice(&self.count.to_le_bytes());
        block[16..20].copy_from_slice(&u32::try_from(raw).expect("at most 2 MiB").to_le_bytes());
        seal(&mut block, file, offset);
        self.rows.clear();
        self.count = 0;
        block
    }
}

/// Completes a block of `file` at `offset`: its length, then its crc.
pub(super) fn seal(block: &mut [u8], file: FileId, offset: u64) {
    let len = u32::try_from(block.len()).expect("blocks are far below 4 GiB");
    block[8..12].copy_from_slice(&len.to_le_bytes());
    let sum = crc(file, offset, &block[8..]);
    block[4..8].copy_from_slice(&sum.to_le_bytes());
}

/// Checks magic, length and crc of a block of `file` at `offset`; returns the `N` numbers that follow.
pub(super) fn open<const N: usize>(block: &[u8], magic: u32, file: FileId, offset: u64) -> Result<[usize; N], Damage> {
    if block.len() < SEAL_BYTES + 4 * N {
        return Err("it is shorter than its header");
    }
    let u32_at = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("4 bytes"));
    if u32_at(0) != magic {
        return Err("it has another magic");
    }
    if u32_at(8) as usize != block.len() {
        return Err("it has another length");
    }
    if crc(file, offset, &block[8..]) != u32_at(4) {
        return Err("its crc does not match");
    }
    Ok(core::array::from_fn(|n| u32_at(SEAL_BYTES + 4 * n) as usize))
}

fn crc(file: FileId, offset: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&file.get().to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// A decoded block. Keys and values are slices of what was read, or decompressed.
#[derive(Clone, Debug)]
pub struct Block {
    bytes: Bytes,
    rows: Vec<u32>,
}

impl Block {
    /// Checks and decodes the block of `file` at `offset`; `bytes` are exactly the block.
    ///
    /// # Errors
    /// `DamagedBlock`.
    pub fn decode(bytes: Bytes, file: FileId, offset: u64) -> Result<Self> {
        Self::parse(&bytes, file, offset).map_err(|reason| Error::DamagedBlock {
            file,
            offset,
            reason: reason.to_owned(),
        })
    }

    fn parse(block: &Bytes, file: FileId, offset: u64) -> Result<Self, Damage> {
        let [count, raw] = open(block, MAGIC, file, offset)?;
        let stored = block.slice(HEADER_BYTES..);
        if stored.len() > raw || raw > BLOCK_ROWS_BYTES_MAX {
            return Err("its rows are too long");
        }
        if count == 0 || count > raw / ROW_HEADER_BYTES {
            return Err("it counts no rows, or more than it can hold");
        }
        let bytes = if stored.len() == raw {
            stored
        } else {
            compress::decompress(&stored, raw).ok_or("its rows do not decompress")?.into()
        };
        let mut rows = Vec::with_capacity(count);
        let mut at = 0;
        for _ in 0..count {
            // First whether it lies in the block: the row before may say that it is longer than anything.
            let header = bytes.get(at..).and_then(|rest| rest.first_chunk::<ROW_HEADER_BYTES>());
            let [k0, k1, v0, v1, v2, v3] = *header.ok_or("a row is cut off")?;
            rows.push(u32::try_from(at).expect("below the limit of rows"));
            let value = u32::from_le_bytes([v0, v1, v2, v3]);
            let value = if value == DELETED { 0 } else { value as usize };
            at = at.saturating_add(row_bytes(u16::from_le_bytes([k0, k1]).into(), value));
        }
        if at != raw {
            return Err("its rows are not as long as their lengths");
        }
        Ok(Self { bytes, rows })
    }

    /// Rows in it.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.rows.len() * 4
    }

    fn row(&self, n: usize) -> (usize, usize, Option<usize>) {
        let at = self.rows[n] as usize;
        let key = u16::from_le_bytes(self.bytes[at..at + 2].try_into().expect("2 bytes")) as usize;
        let value = u32::from_le_bytes(self.bytes[at + 2..at + 6].try_into().expect("4 bytes"));
        (at + ROW_HEADER_BYTES, key, (value != DELETED).then_some(value as usize))
    }

    /// Key of row `n`.
    pub fn key(&self, n: usize) -> &[u8] {
        let (at, key, _) = self.row(n);
        &self.bytes[at..at + key]
    }

    /// Key of row `n`, as a slice that outlives the borrow.
    pub fn key_bytes(&self, n: usize) -> Bytes {
        let (at, key, _) = self.row(n);
        self.bytes.slice(at..at + key)
    }

    /// Value of row `n`; `None` for a deletion marker.
    pub fn value(&self, n: usize) -> Option<Bytes> {
        let (at, key, value) = self.row(n);
        value.map(|value| self.bytes.slice(at + key..at + key + value))
    }

    /// First row whose key is not below `key`.
    pub fn lower_bound(&self, key: &[u8]) -> usize {
        self.rows_partition(|row| row < key)
    }

    fn rows_partition(&self, below: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.rows.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if below(self.key(middle)) { low = middle + 1 } else { high = middle }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: FileId = FileId::new(7);
    const OFFSET: u64 = 12345;

    type Row = (Vec<u8>, Option<Vec<u8>>);

    fn build(rows: &[Row]) -> Vec<u8> {
        let mut builder = BlockBuilder::default();
        rows.iter().for_each(|(key, value)| builder.push(key, value.as_deref()));
        builder.finish(FILE, OFFSET)
    }

    fn decode(block: &[u8]) -> Result<Block> {
        Block::decode(Bytes::copy_from_slice(block), FILE, OFFSET)
    }

    fn rows_of(block: &Block) -> Vec<Row> {
        (0..block.len()).map(|n| (block.key(n).to_vec(), block.value(n).map(Into::into))).collect()
    }

    /// Rows that compress, or do not.
    fn sample(compressible: bool) -> Vec<Row> {
        let factor = if compressible { 0 } else { 0x9e37_79b9_7f4a_7c15_u64 };
        let number = |n: u64| factor.wrapping_mul(n + 1).to_le_bytes();
        let value = |n: u64| (0..8).flat_map(|part| number(n * 8 + part)).collect::<Vec<_>>();
        (0..12u64).map(|n| (number(n + 100).to_vec(), (n % 5 != 0).then(|| value(n)))).collect()
    }

    #[test]
    fn rows_are_compressed_where_that_saves_an_eighth() {
        for compressible in [false, true] {
            let rows = sample(compressible);
            let raw: usize =
                rows.iter().map(|(key, value)| row_bytes(key.len(), value.as_ref().map_or(0, Vec::len))).sum();
            let block = build(&rows);
            assert_eq!(block.len() < HEADER_BYTES + raw, compressible);
            assert_eq!(rows_of(&decode(&block).unwrap()), rows);
        }
    }

    #[test]
    fn each_flipped_bit_and_each_truncation_is_damage() {
        for compressible in [false, true] {
            let mut block = build(&sample(compressible));
            for at in 0..block.len() * 8 {
                block[at / 8] ^= 1 << (at % 8);
                assert!(decode(&block).is_err(), "bit {at} went unnoticed");
                block[at / 8] ^= 1 << (at % 8);
            }
            for len in 0..block.len() {
                assert!(decode(&block[..len]).is_err(), "{len} bytes of the block passed");
                let mut sealed = block[..len].to_vec();
                if len >= HEADER_BYTES {
                    seal(&mut sealed, FILE, OFFSET);
                }
                assert!(decode(&sealed).is_err(), "{len} bytes of the block passed with a crc");
            }
            block.push(0);
            assert!(decode(&block).is_err());
        }
    }

    #[test]
    fn a_block_of_another_place_is_damage() {
        let block = Bytes::from(build(&sample(true)));
        assert!(Block::decode(block.clone(), FileId::new(8), OFFSET).is_err());
        assert!(Block::decode(block, FILE, OFFSET + 1).is_err());
    }

    #[test]
    fn what_a_header_announces_is_not_reserved_before_it_is_checked() {
        for (at, expected) in [(12, "more than it can hold"), (16, "too long")] {
            let mut block = build(&sample(true));
            block[at..at + 4].fill(0xff);
            seal(&mut block, FILE, OFFSET);
            let error = decode(&block).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_longest_row_fits() {
        let rows = [(vec![1; KEY_BYTES_MAX], Some(vec![2; VALUE_BYTES_MAX]))];
        assert_eq!(rows_of(&decode(&build(&rows)).unwrap()), rows);
    }

    proptest! {
        #[test]
        fn rows_come_back(
            rows in proptest::collection::btree_map(
                proptest::collection::vec(0..4u8, 0..6),
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
                1..40,
            ),
            absent in proptest::collection::vec(0..4u8, 0..6),
        ) {
            let rows: Vec<Row> = rows.into_iter().collect();
            let block = decode(&build(&rows)).unwrap();
            prop_assert_eq!(&rows_of(&block), &rows);
            let expected = rows.partition_point(|(key, _)| *key < absent);
            prop_assert_eq!(block.lower_bound(&absent), expected);
        }

        #[test]
        fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), rows in 1..20u32) {
            prop_assert!(decode(&bytes).is_err());
            // Behind the crc: rows as they are.
            let mut block = vec![0; HEADER_BYTES];
            block[..4].copy_from_slice(&MAGIC.to_le_bytes());
            block[12..16].copy_from_slice(&rows.to_le_bytes());
            block[16..20].copy_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
            block.extend_from_slice(&bytes);
            seal(&mut block, FILE, OFFSET);
            let _ = decode(&block);
        }
    }
}
