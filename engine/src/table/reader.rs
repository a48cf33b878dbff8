//! Reads of a table file: blocks, point reads of rows, verification.
//!
//! Index and filter are in memory while the file is open: about 60 bytes per 16 KiB of rows, and 10 bits per id. Blocks
//! lie side by side without padding, so a read covers the disk blocks around those it wants, and neighbours come with
//! one read.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    rc::Rc,
};

use bytes::Bytes;

use super::{
    block::Block,
    cache::{BlockCache, BlockKey, CachedBlock},
    chats::{ChatRange, parse_chats},
    columns::MessageBlock,
    filter,
    footer::Footer,
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

/// Where a block lies.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    pub(crate) first_key: Bytes,
    pub(crate) offset: u64,
    pub(crate) bytes: usize,
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
    blocks: Vec<Handle>,
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
        let blocks = parse_index(&index, footer.chats_at).ok_or_else(|| damaged("the index is malformed"))?;
        if blocks.first().is_some_and(|block| block.first_key != properties.first_key) {
            return Err(damaged("its first block does not begin with its first key"));
        }
        Ok(Self { id, tree, path, file, footer, properties, replaces, filter, blocks })
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
        const HANDLE_BYTES: usize = size_of::<Handle>();
        let index: usize = self.blocks.iter().map(|handle| handle.first_key.len() + HANDLE_BYTES).sum();
        self.filter.len() + index + size_of::<Self>()
    }

    /// Data blocks.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Bytes of data per row, on average; at least 1.
    pub(crate) fn row_bytes_mean(&self) -> u64 {
        (self.footer.chats_at / self.properties.rows.max(1)).max(1)
    }

    /// First key of a block.
    pub(crate) fn first_key(&self, block: usize) -> &Bytes {
        &self.blocks[block].first_key
    }

    /// Bytes of a block on disk.
    pub(crate) fn block_bytes(&self, block: usize) -> usize {
        self.blocks[block].bytes
    }

    /// Whether a key with this prefix may be there.
    pub(crate) fn may_contain(&self, key: &[u8]) -> bool {
        filter::may_contain(&self.filter, key)
    }

    /// The block that may hold `key`: the last one that begins at or below it.
    pub(crate) fn block_of(&self, key: &[u8]) -> Option<usize> {
        self.blocks.partition_point(|handle| &handle.first_key[..] <= key).checked_sub(1)
    }

    /// Blocks that may hold keys from `start` to `end`, both included.
    pub(crate) fn blocks_of(&self, start: &[u8], end: &[u8]) -> Range<usize> {
        let first = self.block_of(start).unwrap_or(0);
        let behind = self.blocks.partition_point(|handle| &handle.first_key[..] <= end);
        first.min(behind)..behind
    }

    fn key(&self, block: usize) -> BlockKey {
        (self.tree, self.id, self.blocks[block].offset)
    }

    /// Bytes of neighbouring blocks, with one read.
    async fn read_blocks(&self, blocks: Range<usize>) -> Result<(u64, Bytes)> {
        let start = self.blocks[blocks.start].offset;
        let last = &self.blocks[blocks.end - 1];
        let end = last.offset + last.bytes as u64;
        Ok((start, read_exact(&self.file, start, place(end - start)).await?))
    }

    fn exact(&self, block: usize, start: u64, span: &Bytes) -> Bytes {
        let Handle { offset, bytes, .. } = self.blocks[block];
        let at = place(offset - start);
        // A copy: a block that stays in the cache must not keep its neighbours' bytes.
        Bytes::copy_from_slice(&span[at..at + bytes])
    }

    /// A block of rows, from the cache or the disk.
    ///
    /// # Errors
    /// `DamagedBlock`, `Io`.
    pub async fn rows(&self, block: usize, cache: &BlockCache) -> Result<Rc<Block>> {
        assert!(self.properties.class != Class::Messages, "a file of messages has no rows");
        if let Some(CachedBlock::Rows(found)) = cache.get(&self.key(block)) {
            return Ok(found);
        }
        let (start, bytes) = self.read_blocks(block..block + 1).await?;
        let decoded = Rc::new(Block::decode(self.exact(block, start, &bytes), self.id, start)?);
        cache.insert(self.key(block), CachedBlock::Rows(Rc::clone(&decoded)));
        Ok(decoded)
    }

    /// Neighbouring blocks of messages, from the cache or with one read of those that lack, the outermost included.
    ///
    /// # Errors
    /// `DamagedBlock`, `Io`.
    pub async fn messages(&self, blocks: Range<usize>, cache: &BlockCache) -> Result<Vec<Rc<MessageBlock>>> {
        assert!(self.properties.class == Class::Messages, "only files of messages have messages");
        let mut found: Vec<_> = blocks
            .clone()
            .map(|block| match cache.get(&self.key(block)) {
                Some(CachedBlock::Messages(found)) => Some(found),
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
                    let exact = self.exact(block, start, &bytes);
                    let decoded = Rc::new(MessageBlock::decode(exact, self.id, self.blocks[block].offset)?);
                    cache.insert(self.key(block), CachedBlock::Messages(Rc::clone(&decoded)));
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
        let mut first_keys = self.blocks.iter().map(|handle| &handle.first_key);
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
            if first_keys.next().is_none_or(|first_key| key[..] != first_key[..]) {
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
        if block == table.blocks.len() {
            return Ok(None);
        }
        if !self.ahead.contains(&block) {
            let mut end = block + 1;
            let mut bytes = table.blocks[block].bytes;
            while end < table.blocks.len() && bytes + table.blocks[end].bytes <= TABLE_READ_AHEAD_BYTES {
                bytes += table.blocks[end].bytes;
                end += 1;
            }
            slice.pause();
            (self.start, self.bytes) = table.read_blocks(block..end).await?;
            slice.restart();
            self.ahead = block..end;
        }
        self.next += 1;
        let Handle { offset, bytes, .. } = table.blocks[block];
        let at = place(offset - self.start);
        Ok(Some((offset, self.bytes.slice(at..at + bytes))))
    }
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

/// Reads an index whose blocks lie side by side from 0 up to `data_end`.
pub(crate) fn parse_index(index: &Bytes, data_end: u64) -> Option<Vec<Handle>> {
    let mut blocks: Vec<Handle> = Vec::new();
    let mut at = 0;
    let mut end = 0u64;
    while at < index.len() {
        let key = u16::from_le_bytes(*index.get(at..)?.first_chunk::<2>()?) as usize;
        let first_key = index.get(at + 2..at + 2 + key).map(|_| index.slice(at + 2..at + 2 + key))?;
        at += 2 + key;
        let offset = u64::from_le_bytes(*index.get(at..)?.first_chunk::<8>()?);
        let bytes = u32::from_le_bytes(*index.get(at + 8..)?.first_chunk::<4>()?) as usize;
        at += 12;
        if offset != end || bytes == 0 || blocks.last().is_some_and(|before| before.first_key >= first_key) {
            return None;
        }
        end = end.checked_add(bytes as u64)?;
        blocks.push(Handle { first_key, offset, bytes });
    }
    (end == data_end && !blocks.is_empty()).then_some(blocks)
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
    let blocks = parse_index(&index, footer.chats_at).ok_or_else(|| damaged("the index is malformed"))?;
    let properties = section(footer.properties_at, footer.end);
    let properties = properties.ok_or_else(|| damaged("the properties do not match their crc"))?;
    let (properties, _, _) = Properties::decode(&properties).ok_or_else(|| damaged("the properties are malformed"))?;
    for handle in blocks {
        let at = place(handle.offset);
        let bytes = image.slice(at..at + handle.bytes);
        match properties.class {
            Class::Messages => MessageBlock::decode(bytes, footer.file, handle.offset).map(drop)?,
            Class::Inbox | Class::State => Block::decode(bytes, footer.file, handle.offset).map(drop)?,
        }
    }
    Ok(properties)
}
