//! The last 4 KiB of a table file. Little-endian.
//!
//! | 0 magic 8 | 8 version u32 | 12 crc32 u32 | 16 file u64 | 24 rows u64 | 32 filter at u64 | 40 filter bytes u64 |
//! | 48 index at u64 | 56 index bytes u64 | 64 checksum of everything before u32 | 68 zero |
//!
//! The filter and the index are `[crc32 u32][bytes]`, padded to 4 KiB; an index entry is
//! `[key length u16][first key][offset u64][bytes u32]`.

use std::path::Path;

use crate::{
    error::{Error, Result},
    ids::FileId,
    limits::BLOCK_BYTES,
};

const MAGIC: &[u8; 8] = b"COLTABL1";
/// The version of table files that this program writes, and the newest it reads.
pub const TABLE_VERSION: u32 = 1;

/// A table file's footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The file it belongs to.
    pub file: FileId,
    /// Rows, deletion markers included.
    pub rows: u64,
    /// Where the filter begins, and its bytes with the crc.
    pub filter: (u64, u64),
    /// Where the index begins, and its bytes with the crc.
    pub index: (u64, u64),
    /// crc32 of every byte before the footer.
    pub checksum: u32,
}

impl Footer {
    /// The footer block.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; BLOCK_BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&TABLE_VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.file.get().to_le_bytes());
        out[24..32].copy_from_slice(&self.rows.to_le_bytes());
        out[32..40].copy_from_slice(&self.filter.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.filter.1.to_le_bytes());
        out[48..56].copy_from_slice(&self.index.0.to_le_bytes());
        out[56..64].copy_from_slice(&self.index.1.to_le_bytes());
        out[64..68].copy_from_slice(&self.checksum.to_le_bytes());
        let sum = footer_crc(&out);
        out[12..16].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Checks and decodes a footer block of a file of `len` bytes.
    ///
    /// # Errors
    /// `DamagedFile`, `UnsupportedFormat`.
    pub fn decode(path: &Path, block: &[u8], len: u64) -> Result<Self> {
        let damaged = |reason: &str| Error::DamagedFile { path: path.to_owned(), reason: reason.to_owned() };
        if block.len() != BLOCK_BYTES || block[..8] != *MAGIC {
            return Err(damaged("it is not a table file"));
        }
        let u32_at = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("8 bytes"));
        if footer_crc(block) != u32_at(12) {
            return Err(damaged("the footer does not match its crc"));
        }
        if u32_at(8) > TABLE_VERSION {
            return Err(Error::UnsupportedFormat { path: path.to_owned(), found: u32_at(8), supported: TABLE_VERSION });
        }
        let footer = Self {
            file: FileId::new(u64_at(16)),
            rows: u64_at(24),
            filter: (u64_at(32), u64_at(40)),
            index: (u64_at(48), u64_at(56)),
            checksum: u32_at(64),
        };
        let end = len.saturating_sub(BLOCK_BYTES as u64);
        let inside = |(at, bytes): (u64, u64)| {
            at.is_multiple_of(BLOCK_BYTES as u64) && at.checked_add(bytes).is_some_and(|last| last <= end)
        };
        if !inside(footer.filter) || !inside(footer.index) {
            return Err(damaged("the footer points outside the file"));
        }
        Ok(footer)
    }
}

fn footer_crc(block: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..12]);
    hasher.update(&block[16..]);
    hasher.finalize()
}
