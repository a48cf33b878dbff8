//! Rows in ascending order to a table file.
//!
//! Invariants
//! - Keys ascend strictly: checked, since a file that is not sorted answers wrongly for ever.
//! - Nothing is visible before [`TableWriter::finish`] has made every byte durable.

use crate::{
    env::{DiskFile, executor::yield_now},
    error::Result,
    ids::FileId,
    limits::{BLOCK_BYTES, TABLE_BLOCK_BYTES},
};

use super::{
    block::{BlockBuilder, row_bytes},
    filter,
    footer::Footer,
};

/// Bytes appended at a time: also the length of a background slice.
const APPEND_BYTES: usize = 64 * 1024;

/// A table file that is being written.
pub struct TableWriter<F: DiskFile> {
    id: FileId,
    file: F,
    block: BlockBuilder,
    block_first_key: Vec<u8>,
    last_key: Vec<u8>,
    pending: Vec<u8>,
    offset: u64,
    checksum: crc32fast::Hasher,
    index: Vec<u8>,
    hashes: Vec<u64>,
    rows: u64,
}

/// A finished file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the whole file.
    pub bytes: u64,
    /// Rows, deletion markers included.
    pub rows: u64,
    /// crc32 of every byte before the footer.
    pub checksum: u32,
}

impl<F: DiskFile> TableWriter<F> {
    /// Begins a file, which is empty.
    pub fn new(id: FileId, file: F) -> Self {
        Self {
            id,
            file,
            block: BlockBuilder::default(),
            block_first_key: Vec::new(),
            last_key: Vec::new(),
            pending: Vec::new(),
            offset: 0,
            checksum: crc32fast::Hasher::new(),
            index: Vec::new(),
            hashes: Vec::new(),
            rows: 0,
        }
    }

    /// Adds a row; `None` is a deletion marker. Yields after each 64 KiB.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    ///
    /// # Panics
    /// If the key is not above the last one.
    pub async fn push(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        assert!(self.rows == 0 || key > &self.last_key[..], "file {}: keys ascend", self.id);
        let bytes = row_bytes(key.len(), value.map_or(0, <[u8]>::len));
        if !self.block.is_empty() && self.block.len() + bytes > TABLE_BLOCK_BYTES {
            self.close_block();
        }
        if self.block.is_empty() {
            self.block_first_key = key.to_vec();
        }
        if self.rows == 0 || filter::prefix(key) != filter::prefix(&self.last_key) {
            self.hashes.push(filter::hash(filter::prefix(key)));
        }
        self.block.push(key, value);
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.rows += 1;
        if self.pending.len() >= APPEND_BYTES {
            self.write_pending().await?;
            yield_now().await;
        }
        Ok(())
    }

    fn close_block(&mut self) {
        let at = self.offset;
        let block = self.block.finish(self.id, at);
        let key = &self.block_first_key;
        self.index.extend_from_slice(&u16::try_from(key.len()).expect("keys are short").to_le_bytes());
        self.index.extend_from_slice(key);
        self.index.extend_from_slice(&at.to_le_bytes());
        self.index.extend_from_slice(&u32::try_from(block.len()).expect("far below 4 GiB").to_le_bytes());
        self.add(&block);
    }

    fn add(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        self.offset += bytes.len() as u64;
    }

    /// Adds `[crc][bytes]` padded to a block; returns where it lies.
    fn add_section(&mut self, bytes: &[u8]) -> (u64, u64) {
        let at = self.offset;
        let mut section = crc32fast::hash(bytes).to_le_bytes().to_vec();
        section.extend_from_slice(bytes);
        let len = section.len() as u64;
        section.resize(section.len().next_multiple_of(BLOCK_BYTES), 0);
        self.add(&section);
        (at, len)
    }

    async fn write_pending(&mut self) -> Result<()> {
        self.checksum.update(&self.pending);
        self.file.append(core::mem::take(&mut self.pending)).await
    }

    /// Completes the file and makes it durable. Its name is not durable yet.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub async fn finish(mut self) -> Result<Written> {
        if !self.block.is_empty() {
            self.close_block();
        }
        let filter = filter::build(&self.hashes);
        let filter = self.add_section(&filter);
        let index = core::mem::take(&mut self.index);
        let index = self.add_section(&index);
        self.write_pending().await?;
        let checksum = self.checksum.clone().finalize();
        let footer = Footer { file: self.id, rows: self.rows, filter, index, checksum };
        self.file.append(footer.encode()).await?;
        self.file.sync().await?;
        Ok(Written { bytes: self.offset + BLOCK_BYTES as u64, rows: self.rows, checksum })
    }
}
