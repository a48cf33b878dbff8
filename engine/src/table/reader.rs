//! Reads of a table file: blocks, point reads of rows, verification.
//!
//! Index and filter are in memory while the file is open: about 50 bytes per block, and 10 bits per id. Blocks lie side
//! by side without padding, so a read covers the disk blocks around those it wants, and neighbours come with one read.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    rc::Rc,
};

use bytes::Bytes;

use super::{
    block::Block,
    cache::{BlockCache, CacheKey, Cached},
    chats::{ChatRange, parse_chats},
    columns::MessageBlock,
    filter,
    footer::Footer,
    index::{Index, Place},
    meta::{Class, FileMeta, Properties},
};
use crate::{
    background::Slice,
    env::DiskFile,
    error::{Error, Result},
    ids::FileId,
    limits::{BLOCK_BYTES, TABLE_READ_AHEAD_BYTES},
};

/// Bytes read from a file's end when it is opened: footer and, in a small file, all else that is kept in memory.
const TAIL_BYTES: usize = 64 * 1024;

/// What the cache is to keep of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The blocks.
    Blocks,
    /// Nothing: the reader keeps what it made of them.
    Nothing,
}

/// An open table file.
pub struct Table<F: DiskFile> {
    id: FileId,
    /// Which tree's: part of its blocks' place in the cache.
    tree: u32,
    path: PathBuf,
    file: F,
    footer: Footer,
    properties: Properties,
    replaces: Vec<FileId>,
    filter: Bytes,
    index: Index,
}

impl<F: DiskFile> Table<F> {
    /// Opens a file: reads and checks footer, filter, index and properties. At most two reads.
    ///
    /// # Errors
    /// `DamagedFile`, `UnsupportedFormat`, `Io`.
    pub async fn open(tree: u32, id: FileId, path: PathBuf, file: F) -> Result<Self> {
        let len = file.len();
        let damaged = |reason: &str| Error::DamagedFile { path: path.clone(), reason: reason.to_owned() };
        if len < BLOCK_BYTES as u64 || !len.is_multiple_of(BLOCK_BYTES as u64) {
            return Err(damaged("its length is not that of a table file"));
        }
        let tail_bytes = usize::try_from(len).unwrap_or(usize::MAX).min(TAIL_BYTES);
        let tail_at = len - tail_bytes as u64;
        let tail = file.read(tail_at, tail_bytes).await?;
        let footer = Footer::decode(&path, &tail[tail_bytes - BLOCK_BYTES..], len)?;
        if footer.file != id {
            return Err(damaged("it is the footer of another file"));
        }
        let (from, to) = (footer.filter_at, footer.end);
        let sections = if from >= tail_at {
            Bytes::copy_from_slice(&tail[place(from - tail_at)..place(to - tail_at)])
        } else {
            read_exact(&file, from, place(to - from)).await?
        };
        let section = |at: u64, end: u64| check_section(&sections.slice(place(at - from)..place(end - from)));
        let filter = section(footer.filter_at, footer.index_at);
        let filter = filter.ok_or_else(|| damaged("the filter does not match its crc"))?;
        let index = section(footer.index_at, footer.properties_at);
        let index = index.ok_or_else(|| damaged("the index does not match its crc"))?;
        let properties = section(footer.properties_at, footer.end);
        let properties = properties.ok_or_else(|| damaged("the properties do not match their crc"))?;
        let (properties, replaces, taken) = Properties::decode(&properties)
            .filter(|(_, _, taken)| *taken == properties.len())
            .ok_or_else(|| damaged("the properties are malformed"))?;
        debug_assert!(taken > 0, "properties have a fixed part");
        let index = Index::parse(index, footer.chats_at).ok_or_else(|| damaged("the index is malformed"))?;
        if index.first_key(0) != &properties.first_key[..] {
            return Err(damaged("its first block does not begin with its first key"));
        }
        Ok(Self { id, tree, path, file, footer, properties, replaces, filter, index })
    }

    /// Its id.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it holds.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The files that it was merged from.
    pub fn replaces(&self) -> &[FileId] {
        &self.replaces
    }

    /// As a manifest would name it.
    pub fn meta(&self) -> FileMeta {
        let checksum = self.footer.checksum;
        FileMeta { id: self.id, bytes: self.file.len(), checksum, properties: self.properties.clone() }
    }

    /// Bytes of filter and index in memory.
    pub fn memory_bytes(&self) -> usize {
        self.filter.len() + self.index.memory_bytes() + size_of::<Self>()
    }

    /// Data blocks.
    pub fn blocks(&self) -> usize {
        self.index.len()
    }

    /// Bytes of data per row, on average; at least 1.
    pub(crate) fn row_bytes_mean(&self) -> u64 {
        (self.footer.chats_at / self.properties.rows.max(1)).max(1)
    }

    /// First key of a block.
    pub(crate) fn first_key(&self, block: usize) -> &[u8] {
        self.index.first_key(block)
    }

    /// Bytes of a block on disk.
    pub(crate) fn block_bytes(&self, block: usize) -> usize {
        self.index.place(block).bytes
    }

    /// Whether a key with this prefix may be there.
    pub(crate) fn may_contain(&self, key: &[u8]) -> bool {
        filter::may_contain(&self.filter, key)
    }

    /// The block that may hold `key`: the last one that begins at or below it.
    pub(crate) fn block_of(&self, key: &[u8]) -> Option<usize> {
        self.index.block_of(key)
    }

    /// Blocks that may hold keys from `start` to `end`, both included.
    pub(crate) fn blocks_of(&self, start: &[u8], end: &[u8]) -> Range<usize> {
        self.index.blocks_of(start, end)
    }

    fn key(&self, block: usize) -> CacheKey {
        CacheKey::Block(self.tree, self.id, self.index.place(block).offset)
    }

    /// Bytes of neighbouring blocks, with one read.
    async fn read_blocks(&self, blocks: Range<usize>) -> Result<(u64, Bytes)> {
        let start = self.index.place(blocks.start).offset;
        let end = self.index.place(blocks.end - 1).end();
        Ok((start, read_exact(&self.file, start, place(end - start)).await?))
    }

    /// A block of rows, from the cache or the disk.
    ///
    /// # Errors
    /// `DamagedBlock`, `Io`.
    pub async fn rows(&self, block: usize, cache: &BlockCache) -> Result<Rc<Block>> {
        assert!(self.properties.class != Class::Messages, "a file of messages has no rows");
        if let Some(Cached::Rows(found)) = cache.get(&self.key(block)) {
            return Ok(found);
        }
        let (start, bytes) = self.read_blocks(block..block + 1).await?;
        let decoded = Rc::new(Block::decode(copy(&bytes), self.id, start)?);
        cache.insert(self.key(block), Cached::Rows(Rc::clone(&decoded)));
        Ok(decoded)
    }

    /// Neighbouring blocks of messages, from the cache or with one read of those that lack, the outermost included.
    /// What is read is put into the cache where `keep` says so.
    ///
    /// # Errors
    /// `DamagedBlock`, `Io`.
    pub(crate) async fn messages(
        &self,
        blocks: Range<usize>,
        cache: &BlockCache,
        keep: Keep,
    ) -> Result<Vec<Rc<MessageBlock>>> {
        assert!(self.properties.class == Class::Messages, "only files of messages have messages");
        let mut found: Vec<_> = blocks
            .clone()
            .map(|block| match cache.get(&self.key(block)) {
                Some(Cached::Messages(found)) => Some(found),
                _ => None,
            })
            .collect();
        let lacks = |found: &Option<Rc<MessageBlock>>| found.is_none();
        if let (Some(first), Some(last)) = (found.iter().position(lacks), found.iter().rposition(lacks)) {
            let span = blocks.start + first..blocks.start + last + 1;
            let (start, bytes) = self.read_blocks(span.clone()).await?;
            for block in span {
                let slot = &mut found[block - blocks.start];
                if slot.is_none() {
                    let Place { offset, bytes: len } = self.index.place(block);
                    let at = place(offset - start);
                    let decoded = Rc::new(match keep {
                        Keep::Blocks => MessageBlock::decode(copy(&bytes[at..at + len]), self.id, offset)?,
                        Keep::Nothing => MessageBlock::decode(bytes.slice(at..at + len), self.id, offset)?,
                    });
                    if keep == Keep::Blocks {
                        cache.insert(self.key(block), Cached::Messages(Rc::clone(&decoded)));
                    }
                    *slot = Some(decoded);
                }
            }
        }
        Ok(found.into_iter().map(|block| block.expect("it was found or read")).collect())
    }

    /// The row of a key: `None` where the file says nothing of it, `Some(None)` where it is deleted.
    ///
    /// Cost: at most one block read; none where the filter or the cache knows.
    ///
    /// # Errors
    /// `DamagedBlock`, `Io`.
    pub async fn get(&self, key: &[u8], cache: &BlockCache) -> Result<Option<Option<Bytes>>> {
        if !self.may_contain(key) {
            return Ok(None);
        }
        let Some(n) = self.block_of(key) else {
            return Ok(None);
        };
        let block = self.rows(n, cache).await?;
        let row = block.lower_bound(key);
        if row < block.len() && block.key(row) == key {
            return Ok(Some(block.value(row)));
        }
        Ok(None)
    }

    /// The chats of a message file, with their seqs.
    ///
    /// # Errors
    /// `DamagedFile`, `Io`.
    pub async fn chats(&self) -> Result<Vec<ChatRange>> {
        let (from, to) = (self.footer.chats_at, self.footer.filter_at);
        let section = read_exact(&self.file, from, place(to - from)).await?;
        let content = check_section(&section).ok_or_else(|| self.damaged("the chats do not match their crc"))?;
        parse_chats(&content).ok_or_else(|| self.damaged("the list of chats is malformed"))
    }

    /// Reads and checks every byte.
    ///
    /// # Errors
    /// `DamagedBlock`, `DamagedFile`, `Io`.
    pub async fn verify(&self, slice: &mut Slice) -> Result<()> {
        let mut checksum = crc32fast::Hasher::new();
        let mut reader = BlockReader::default();
        let mut rows = 0;
        let mut first_keys = (0..self.blocks()).map(|block| self.first_key(block));
        while let Some((offset, bytes)) = reader.next(self, slice).await? {
            checksum.update(&bytes);
            let (count, key) = match self.properties.class {
                Class::Messages => {
                    let block = MessageBlock::decode(bytes, self.id, offset)?;
                    let (chat, seq) = block.key(0);
                    (block.len(), crate::message::message_key(chat, seq))
                }
                Class::Inbox | Class::State => {
                    let block = Block::decode(bytes, self.id, offset)?;
                    (block.len(), block.key(0).to_vec())
                }
            };
            if first_keys.next().is_none_or(|first_key| key[..] != *first_key) {
                return Err(self.damaged("the index names another first key than a block has"));
            }
            rows += count as u64;
            slice.checkpoint().await;
        }
        if rows != self.properties.rows {
            return Err(self.damaged("it has another number of rows than it says"));
        }
        let mut at = self.footer.chats_at;
        let end = self.file.len() - BLOCK_BYTES as u64;
        while at < end {
            let piece = place((end - at).min(TABLE_READ_AHEAD_BYTES as u64));
            slice.pause();
            let bytes = read_exact(&self.file, at, piece).await?;
            slice.restart();
            checksum.update(&bytes);
            at += piece as u64;
            slice.checkpoint().await;
        }
        if checksum.finalize() != self.footer.checksum {
            return Err(self.damaged("the whole-file checksum does not match"));
        }
        if self.properties.class == Class::Messages {
            self.chats().await?;
        }
        Ok(())
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::DamagedFile { path: self.path.clone(), reason: reason.to_owned() }
    }
}

/// All blocks of a table in order, read ahead in large pieces and not kept: for merges and verification.
#[derive(Default)]
pub(crate) struct BlockReader {
    next: usize,
    ahead: Range<usize>,
    start: u64,
    bytes: Bytes,
}

impl BlockReader {
    /// The next block: where it lies, and its bytes.
    pub(crate) async fn next<F: DiskFile>(
        &mut self,
        table: &Table<F>,
        slice: &mut Slice,
    ) -> Result<Option<(u64, Bytes)>> {
        let block = self.next;
        if block == table.blocks() {
            return Ok(None);
        }
        if !self.ahead.contains(&block) {
            let mut end = block + 1;
            let mut bytes = table.block_bytes(block);
            while end < table.blocks() && bytes + table.block_bytes(end) <= TABLE_READ_AHEAD_BYTES {
                bytes += table.block_bytes(end);
                end += 1;
            }
            slice.pause();
            (self.start, self.bytes) = table.read_blocks(block..end).await?;
            slice.restart();
            self.ahead = block..end;
        }
        self.next += 1;
        let Place { offset, bytes } = table.index.place(block);
        let at = place(offset - self.start);
        Ok(Some((offset, self.bytes.slice(at..at + bytes))))
    }
}

/// A block that stays in the cache must not keep what was read around it.
fn copy(block: &[u8]) -> Bytes {
    Bytes::copy_from_slice(block)
}

fn place(bytes: u64) -> usize {
    usize::try_from(bytes).expect("places inside a file that is read fit in memory")
}

/// Reads exactly these bytes: the disk blocks around them, and the rest cut off.
pub(crate) async fn read_exact<F: DiskFile>(file: &F, at: u64, bytes: usize) -> Result<Bytes> {
    let start = at / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
    let end = (at + bytes as u64).next_multiple_of(BLOCK_BYTES as u64);
    let read = file.read(start, place(end - start)).await?;
    let skip = place(at - start);
    Ok(Bytes::from_owner(read).slice(skip..skip + bytes))
}

pub(crate) fn check_section(section: &Bytes) -> Option<Bytes> {
    let crc = u32::from_le_bytes(*section.first_chunk::<4>()?);
    let bytes = section.slice(4..);
    (crc32fast::hash(&bytes) == crc).then_some(bytes)
}

/// Checks the image of a whole table file: for fuzzing and offline inspection. Returns what it holds.
///
/// # Errors
/// `DamagedFile`, `DamagedBlock`, `UnsupportedFormat`.
pub fn check_image(image: &Bytes) -> Result<Properties> {
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
    let section = |at: u64, end: u64| check_section(&image.slice(place(at)..place(end)));
    let chats = section(footer.chats_at, footer.filter_at);
    let chats = chats.ok_or_else(|| damaged("the chats do not match their crc"))?;
    parse_chats(&chats).ok_or_else(|| damaged("the list of chats is malformed"))?;
    section(footer.filter_at, footer.index_at).ok_or_else(|| damaged("the filter does not match its crc"))?;
    let index = section(footer.index_at, footer.properties_at);
    let index = index.ok_or_else(|| damaged("the index does not match its crc"))?;
    let index = Index::parse(index, footer.chats_at).ok_or_else(|| damaged("the index is malformed"))?;
    let properties = section(footer.properties_at, footer.end);
    let properties = properties.ok_or_else(|| damaged("the properties do not match their crc"))?;
    let (properties, _, _) = Properties::decode(&properties).ok_or_else(|| damaged("the properties are malformed"))?;
    for block in 0..index.len() {
        let Place { offset, bytes } = index.place(block);
        let bytes = image.slice(place(offset)..place(offset) + bytes);
        match properties.class {
            Class::Messages => MessageBlock::decode(bytes, footer.file, offset).map(drop)?,
            Class::Inbox | Class::State => Block::decode(bytes, footer.file, offset).map(drop)?,
        }
    }
    Ok(properties)
}
