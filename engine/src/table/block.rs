//! A block of rows. Little-endian.
//!
//! | 0 magic u32 | 4 crc32 u32 | 8 bytes u32 | 12 rows u32 | 16 rows, padded with zeroes to 4 KiB |
//!
//! A row: `[key length u16][value length u32, or 0xffffffff for a deletion][key][value]`.
//!
//! Invariants
//! - The crc covers every byte behind it up to `bytes`, and is seeded with file id and offset.

use bytes::Bytes;

use crate::{
    error::{Error, Result},
    ids::FileId,
    limits::{BLOCK_BYTES, KEY_BYTES_MAX, VALUE_BYTES_MAX},
};

const MAGIC: u32 = 0x4b42_4c43;
/// Bytes before the first row.
pub const HEADER_BYTES: usize = 16;
const ROW_HEADER_BYTES: usize = 6;
const DELETED: u32 = u32::MAX;

/// Bytes that a row takes in a block.
pub const fn row_bytes(key: usize, value: usize) -> usize {
    ROW_HEADER_BYTES + key + value
}

/// A block that is being filled.
#[derive(Debug)]
pub struct BlockBuilder {
    bytes: Vec<u8>,
    rows: u32,
}

impl Default for BlockBuilder {
    fn default() -> Self {
        Self { bytes: vec![0; HEADER_BYTES], rows: 0 }
    }
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
        self.bytes.extend_from_slice(&u16::try_from(key.len()).expect("checked").to_le_bytes());
        let len = value.map_or(DELETED, |value| u32::try_from(value.len()).expect("checked"));
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.rows += 1;
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The block as it lies in its file; the builder begins anew.
    pub fn finish(&mut self, file: FileId, offset: u64) -> Vec<u8> {
        let mut block = core::mem::take(self).bytes_with_header();
        let sum = crc(file, offset, &block[8..]);
        block[4..8].copy_from_slice(&sum.to_le_bytes());
        block.resize(block.len().next_multiple_of(BLOCK_BYTES), 0);
        block
    }

    fn bytes_with_header(mut self) -> Vec<u8> {
        let len = u32::try_from(self.bytes.len()).expect("blocks are far below 4 GiB");
        self.bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        self.bytes[8..12].copy_from_slice(&len.to_le_bytes());
        self.bytes[12..16].copy_from_slice(&self.rows.to_le_bytes());
        self.bytes
    }
}

fn crc(file: FileId, offset: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&file.get().to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// A decoded block. Keys and values are slices of what was read.
#[derive(Clone, Debug)]
pub struct Block {
    bytes: Bytes,
    rows: Vec<u32>,
}

impl Block {
    /// Checks and decodes the block of `file` at `offset`.
    ///
    /// # Errors
    /// `DamagedBlock`.
    pub fn decode(bytes: Bytes, file: FileId, offset: u64) -> Result<Self> {
        Self::parse(bytes, file, offset).map_err(|reason| Error::DamagedBlock {
            file,
            offset,
            reason: reason.to_owned(),
        })
    }

    fn parse(bytes: Bytes, file: FileId, offset: u64) -> Result<Self, &'static str> {
        if bytes.len() < HEADER_BYTES {
            return Err("it is shorter than its header");
        }
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let len = u32_at(8) as usize;
        if u32_at(0) != MAGIC || len < HEADER_BYTES || len > bytes.len() {
            return Err("its header is not one");
        }
        if crc(file, offset, &bytes[8..len]) != u32_at(4) {
            return Err("its crc does not match");
        }
        if bytes[len..].iter().any(|byte| *byte != 0) {
            return Err("its padding is not zero");
        }
        let count = u32_at(12) as usize;
        if count == 0 || count > len / ROW_HEADER_BYTES {
            return Err("it counts no rows, or more than it can hold");
        }
        let mut rows = Vec::with_capacity(count);
        let mut at = HEADER_BYTES;
        for _ in 0..count {
            rows.push(u32::try_from(at).map_err(|_| "it is too long")?);
            if at + ROW_HEADER_BYTES > len {
                return Err("a row is cut off");
            }
            let key = u16::from_le_bytes(bytes[at..at + 2].try_into().expect("2 bytes")) as usize;
            let value = u32_at(at + 2);
            let value = if value == DELETED { 0 } else { value as usize };
            at = at.saturating_add(row_bytes(key, value));
            if at > len {
                return Err("a row is cut off");
            }
        }
        if at != len {
            return Err("bytes are left over");
        }
        Ok(Self { bytes: bytes.slice(..len), rows })
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
