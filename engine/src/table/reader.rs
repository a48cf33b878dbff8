//! Reads of a table file: point reads, cursors in both directions, verification.
//!
//! Index and filter are in memory while the file is open: about 50 bytes per 32 KiB of rows, and 10 bits per id.

use core::cell::RefCell;
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    rc::Rc,
};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::{block::Block, filter, footer::Footer};
use crate::{
    env::{DiskFile, executor::yield_now},
    error::{Error, Result},
    ids::FileId,
    limits::BLOCK_BYTES,
};

/// Blocks kept in memory, shared by the files of a tree: first in, first out, within a budget of bytes.
#[derive(Default)]
pub struct BlockCache {
    inner: RefCell<CacheState>,
}

#[derive(Default)]
struct CacheState {
    blocks: FxHashMap<(FileId, u64), Rc<Block>>,
    order: VecDeque<(FileId, u64)>,
    bytes: usize,
}

impl BlockCache {
    fn get(&self, file: FileId, offset: u64) -> Option<Rc<Block>> {
        self.inner.borrow().blocks.get(&(file, offset)).cloned()
    }

    fn insert(&self, file: FileId, offset: u64, block: &Rc<Block>) {
        let mut state = self.inner.borrow_mut();
        let state = &mut *state;
        if state.blocks.insert((file, offset), Rc::clone(block)).is_none() {
            state.bytes += block.memory_bytes();
            state.order.push_back((file, offset));
        }
        while state.bytes > crate::limits::BLOCK_CACHE_BYTES {
            let Some(oldest) = state.order.pop_front() else {
                break;
            };
            if let Some(block) = state.blocks.remove(&oldest) {
                state.bytes -= block.memory_bytes();
            }
        }
    }
}

/// Where a block lies.
#[derive(Clone, Debug)]
struct Handle {
    first_key: Bytes,
    offset: u64,
    bytes: usize,
}

/// An open table file.
pub struct Table<F: DiskFile> {
    id: FileId,
    path: PathBuf,
    file: F,
    footer: Footer,
    filter: Bytes,
    blocks: Vec<Handle>,
}

impl<F: DiskFile> Table<F> {
    /// Opens a file: reads and checks footer, filter and index.
    ///
    /// # Errors
    /// `DamagedFile`, `UnsupportedFormat`, `Io`.
    pub async fn open(id: FileId, path: PathBuf, file: F) -> Result<Self> {
        let len = file.len();
        let damaged = |reason: &str| Error::DamagedFile { path: path.clone(), reason: reason.to_owned() };
        if len < BLOCK_BYTES as u64 || !len.is_multiple_of(BLOCK_BYTES as u64) {
            return Err(damaged("its length is not that of a table file"));
        }
        let block = file.read(len - BLOCK_BYTES as u64, BLOCK_BYTES).await?;
        let footer = Footer::decode(&path, &block, len)?;
        if footer.file != id {
            return Err(damaged("it is the footer of another file"));
        }
        let filter = read_section(&file, footer.filter).await?;
        let filter = check_section(&filter).ok_or_else(|| damaged("the filter does not match its crc"))?;
        let index = read_section(&file, footer.index).await?;
        let index = check_section(&index).ok_or_else(|| damaged("the index does not match its crc"))?;
        let blocks = parse_index(&index, footer.filter.0).ok_or_else(|| damaged("the index is malformed"))?;
        Ok(Self { id, path, file, footer, filter, blocks })
    }

    /// Its id.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Rows, deletion markers included.
    pub fn rows(&self) -> u64 {
        self.footer.rows
    }

    /// The whole-file checksum, as the footer has it.
    pub fn checksum(&self) -> u32 {
        self.footer.checksum
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.file.len()
    }

    async fn block(&self, n: usize, cache: &BlockCache) -> Result<Rc<Block>> {
        let handle = &self.blocks[n];
        if let Some(block) = cache.get(self.id, handle.offset) {
            return Ok(block);
        }
        let bytes = self.file.read(handle.offset, handle.bytes).await?;
        let block = Rc::new(Block::decode(Bytes::copy_from_slice(&bytes), self.id, handle.offset)?);
        cache.insert(self.id, handle.offset, &block);
        Ok(block)
    }

    /// The block that may hold `key`: the last one that begins at or below it.
    fn block_of(&self, key: &[u8]) -> Option<usize> {
        self.blocks.partition_point(|handle| &handle.first_key[..] <= key).checked_sub(1)
    }

    /// The row of a key: `None` where the file says nothing of it, `Some(None)` where it is deleted.
    ///
    /// Cost: at most one block read; none where the filter or the cache knows.
    ///
    /// # Errors
    /// `DamagedBlock`, `Io`.
    pub async fn get(&self, key: &[u8], cache: &BlockCache) -> Result<Option<Option<Bytes>>> {
        if !filter::may_contain(&self.filter, key) {
            return Ok(None);
        }
        let Some(n) = self.block_of(key) else {
            return Ok(None);
        };
        let block = self.block(n, cache).await?;
        let row = block.lower_bound(key);
        if row < block.len() && block.key(row) == key {
            return Ok(Some(block.value(row)));
        }
        Ok(None)
    }

    /// Reads and checks every byte. Yields after each block.
    ///
    /// # Errors
    /// `DamagedBlock`, `DamagedFile`, `Io`.
    pub async fn verify(&self) -> Result<()> {
        let mut checksum = crc32fast::Hasher::new();
        let mut offset = 0;
        for handle in &self.blocks {
            if handle.offset != offset {
                return Err(self.damaged("its blocks do not lie side by side"));
            }
            let bytes = self.file.read(handle.offset, handle.bytes).await?;
            checksum.update(&bytes);
            Block::decode(Bytes::copy_from_slice(&bytes), self.id, handle.offset)?;
            offset += handle.bytes as u64;
            yield_now().await;
        }
        let end = self.file.len() - BLOCK_BYTES as u64;
        while offset < end {
            let piece = usize::try_from((end - offset).min(1024 * 1024)).expect("at most 1 MiB");
            checksum.update(&self.file.read(offset, piece).await?);
            offset += piece as u64;
            yield_now().await;
        }
        if checksum.finalize() != self.footer.checksum {
            return Err(self.damaged("the whole-file checksum does not match"));
        }
        Ok(())
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::DamagedFile { path: self.path.clone(), reason: reason.to_owned() }
    }
}

async fn read_section<F: DiskFile>(file: &F, (at, bytes): (u64, u64)) -> Result<Bytes> {
    let bytes = usize::try_from(bytes).expect("sections lie inside their file");
    let read = file.read(at, bytes.next_multiple_of(BLOCK_BYTES)).await?;
    Ok(Bytes::copy_from_slice(&read[..bytes]))
}

fn check_section(section: &Bytes) -> Option<Bytes> {
    let crc = u32::from_le_bytes(*section.first_chunk::<4>()?);
    let bytes = section.slice(4..);
    (crc32fast::hash(&bytes) == crc).then_some(bytes)
}

fn parse_index(index: &Bytes, data_end: u64) -> Option<Vec<Handle>> {
    let mut blocks: Vec<Handle> = Vec::new();
    let mut at = 0;
    while at < index.len() {
        let key = u16::from_le_bytes(*index.get(at..)?.first_chunk::<2>()?) as usize;
        let first_key = index.get(at + 2..at + 2 + key).map(|_| index.slice(at + 2..at + 2 + key))?;
        at += 2 + key;
        let offset = u64::from_le_bytes(*index.get(at..)?.first_chunk::<8>()?);
        let bytes = u32::from_le_bytes(*index.get(at + 8..)?.first_chunk::<4>()?) as usize;
        at += 12;
        let aligned = offset.is_multiple_of(BLOCK_BYTES as u64) && bytes.is_multiple_of(BLOCK_BYTES) && bytes > 0;
        if !aligned || offset.checked_add(bytes as u64)? > data_end {
            return None;
        }
        if blocks.last().is_some_and(|before| before.first_key >= first_key) {
            return None;
        }
        blocks.push(Handle { first_key, offset, bytes });
    }
    Some(blocks)
}

/// Which way a cursor goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Backward,
}

/// A place in a table file, on a row.
pub struct Cursor<F: DiskFile> {
    table: Rc<Table<F>>,
    direction: Direction,
    block: usize,
    rows: Option<Rc<Block>>,
    row: usize,
}

impl<F: DiskFile> Cursor<F> {
    /// A cursor on the first row at or above `start` (forward), or the last row below `end` (backward).
    ///
    /// # Errors
    /// `DamagedBlock`, `Io`.
    pub async fn seek(
        table: Rc<Table<F>>,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        cache: &BlockCache,
    ) -> Result<Self> {
        let mut cursor = Self { table, direction, block: 0, rows: None, row: 0 };
        match direction {
            Direction::Forward => {
                cursor.load(cursor.table.block_of(start).unwrap_or(0), cache).await?;
                if let Some(rows) = &cursor.rows {
                    cursor.row = rows.lower_bound(start);
                    if cursor.row == rows.len() {
                        cursor.load(cursor.block + 1, cache).await?;
                    }
                }
            }
            Direction::Backward => {
                let below = cursor.table.blocks.partition_point(|handle| &handle.first_key[..] < end);
                if let Some(n) = below.checked_sub(1) {
                    cursor.load(n, cache).await?;
                    cursor.row = cursor.rows.as_ref().map_or(0, |rows| rows.lower_bound(end)).saturating_sub(1);
                }
            }
        }
        Ok(cursor)
    }

    async fn load(&mut self, n: usize, cache: &BlockCache) -> Result<()> {
        self.block = n;
        self.rows = None;
        if n < self.table.blocks.len() {
            let rows = self.table.block(n, cache).await?;
            self.row = match self.direction {
                Direction::Forward => 0,
                Direction::Backward => rows.len() - 1,
            };
            self.rows = Some(rows);
        }
        Ok(())
    }

    /// The row's key; `None` behind the end.
    pub fn key(&self) -> Option<&[u8]> {
        self.rows.as_ref().map(|rows| rows.key(self.row))
    }

    /// The row's key and value; `None` behind the end.
    pub fn row(&self) -> Option<(Bytes, Option<Bytes>)> {
        self.rows.as_ref().map(|rows| (rows.key_bytes(self.row), rows.value(self.row)))
    }

    /// Goes to the next row.
    ///
    /// # Errors
    /// `DamagedBlock`, `Io`.
    pub async fn advance(&mut self, cache: &BlockCache) -> Result<()> {
        let Some(rows) = &self.rows else {
            return Ok(());
        };
        match self.direction {
            Direction::Forward if self.row + 1 < rows.len() => self.row += 1,
            Direction::Forward => self.load(self.block + 1, cache).await?,
            Direction::Backward if self.row > 0 => self.row -= 1,
            Direction::Backward if self.block > 0 => self.load(self.block - 1, cache).await?,
            Direction::Backward => self.rows = None,
        }
        Ok(())
    }
}

/// Checks the image of a whole table file: for fuzzing and offline inspection. Returns its rows.
///
/// # Errors
/// `DamagedFile`, `DamagedBlock`, `UnsupportedFormat`.
pub fn check_image(image: &Bytes) -> Result<u64> {
    let path = Path::new("(image)");
    let damaged = |reason: &str| Error::DamagedFile { path: path.to_owned(), reason: reason.to_owned() };
    if image.len() < BLOCK_BYTES || !image.len().is_multiple_of(BLOCK_BYTES) {
        return Err(damaged("its length is not that of a table file"));
    }
    let end = image.len() - BLOCK_BYTES;
    let footer = Footer::decode(path, &image[end..], image.len() as u64)?;
    if crc32fast::hash(&image[..end]) != footer.checksum {
        return Err(damaged("the whole-file checksum does not match"));
    }
    let section = |(at, bytes): (u64, u64)| {
        let at = usize::try_from(at).ok()?;
        let bytes = usize::try_from(bytes).ok()?;
        check_section(&image.slice(at..at + bytes))
    };
    section(footer.filter).ok_or_else(|| damaged("the filter does not match its crc"))?;
    let index = section(footer.index).ok_or_else(|| damaged("the index does not match its crc"))?;
    let blocks = parse_index(&index, footer.filter.0).ok_or_else(|| damaged("the index is malformed"))?;
    let mut rows = 0;
    for handle in blocks {
        let at = usize::try_from(handle.offset).map_err(|_| damaged("a block lies outside the file"))?;
        rows += Block::decode(image.slice(at..at + handle.bytes), footer.file, handle.offset)?.len() as u64;
    }
    Ok(rows)
}
