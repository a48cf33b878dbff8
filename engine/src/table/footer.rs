//! The last 4 KiB of a table file. Little-endian.
//!
//! | 0 magic 8 | 8 version u32 | 12 crc32 u32 | 16 file u64 | 24 chats at u64 | 32 filter at u64 | 40 index at u64 |
//! | 48 properties at u64 | 56 end u64 | 64 checksum of everything before u32 | 68 zero |
//!
//! The sections lie side by side in this order, each `[crc32 u32][content]`; behind the last one, at `end`, zeroes up
//! to the footer.

use std::path::Path;

use super::crc_beside_itself;
use crate::{
    error::{Error, Result},
    ids::FileId,
    limits::BLOCK_BYTES,
};

const MAGIC: &[u8; 8] = b"COLTABL1";
/// The version of table files that this program writes, and the newest it reads.
pub const TABLE_VERSION: u32 = 4;

/// A table file's footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The file it belongs to.
    pub file: FileId,
    /// Where the data ends and the list of chats begins.
    pub chats_at: u64,
    /// Where the filter begins.
    pub filter_at: u64,
    /// Where the index begins.
    pub index_at: u64,
    /// Where the properties begin.
    pub properties_at: u64,
    /// Where the last section ends.
    pub end: u64,
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
        for (n, at) in self.places().into_iter().enumerate() {
            out[24 + n * 8..32 + n * 8].copy_from_slice(&at.to_le_bytes());
        }
        out[64..68].copy_from_slice(&self.checksum.to_le_bytes());
        let sum = crc_beside_itself(&out);
        out[12..16].copy_from_slice(&sum.to_le_bytes());
        out
    }

    const fn places(&self) -> [u64; 5] {
        [self.chats_at, self.filter_at, self.index_at, self.properties_at, self.end]
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
        if crc_beside_itself(block) != u32_at(12) {
            return Err(damaged("the footer does not match its crc"));
        }
        if u32_at(8) != TABLE_VERSION {
            return Err(Error::UnsupportedFormat { path: path.to_owned(), found: u32_at(8), supported: TABLE_VERSION });
        }
        let footer = Self {
            file: FileId::new(u64_at(16)),
            chats_at: u64_at(24),
            filter_at: u64_at(32),
            index_at: u64_at(40),
            properties_at: u64_at(48),
            end: u64_at(56),
            checksum: u32_at(64),
        };
        let data = len.saturating_sub(BLOCK_BYTES as u64);
        let ascend = footer.places().windows(2).all(|pair| pair[0] <= pair[1]);
        if !ascend || footer.end > data || data - footer.end >= BLOCK_BYTES as u64 {
            return Err(damaged("the footer points outside the file"));
        }
        Ok(footer)
    }
}
