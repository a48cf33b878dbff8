//! Rows or messages in ascending order to a table file.
//!
//! Invariants
//! - Keys ascend strictly: checked, since a file that is not sorted answers wrongly for ever.
//! - Nothing is visible before [`TableWriter::finish`] has made every byte durable.

use bytes::Bytes;
use columba_wire::{ChatId, MessageSeq};

use crate::{
    background::Slice,
    env::DiskFile,
    error::Result,
    ids::{FileId, LogIndex, Term},
    limits::{BLOCK_BYTES, ROW_BLOCK_BYTES, TABLE_APPEND_BYTES, TABLE_BLOCK_BYTES},
    message::{StoredMessage, message_key},
    planted::{self, Planted},
};

use super::{
    block::{BlockBuilder, row_bytes},
    chats::ChatList,
    columns::MessageBlockBuilder,
    filter,
    footer::Footer,
    meta::{Class, FileMeta, Properties},
};

/// Bytes of a section that are handled between two checkpoints.
const SECTION_PIECE_BYTES: usize = 64 * 1024;

/// What a file is for: known before its first row.
#[derive(Clone, Debug)]
pub struct FileKind {
    /// Kind of rows.
    pub class: Class,
    /// How often its rows were merged, or the level.
    pub level: u8,
    /// Messages: the window.
    pub window: u64,
    /// First log entry whose rows may be in it.
    pub applied_low: LogIndex,
    /// Last one.
    pub applied_high: LogIndex,
    /// Its term.
    pub term: Term,
}

/// A table file that is being written.
pub struct TableWriter<F: DiskFile> {
    id: FileId,
    file: F,
    kind: FileKind,
    rows_block: BlockBuilder,
    messages_block: MessageBlockBuilder,
    block_first_key: Vec<u8>,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    last_message: Option<(ChatId, MessageSeq)>,
    /// What is not appended yet: begins at `offset - pending.len()`.
    pending: Vec<u8>,
    offset: u64,
    checksum: crc32fast::Hasher,
    index: Vec<u8>,
    hashes: Vec<u64>,
    chats: ChatList,
    rows: u64,
    times: (u64, u64),
}

impl<F: DiskFile> TableWriter<F> {
    /// Begins a file, which is empty.
    pub fn new(id: FileId, file: F, kind: FileKind) -> Self {
        Self {
            id,
            file,
            kind,
            rows_block: BlockBuilder::default(),
            messages_block: MessageBlockBuilder::default(),
            block_first_key: Vec::new(),
            first_key: Vec::new(),
            last_key: Vec::new(),
            last_message: None,
            pending: Vec::with_capacity(TABLE_APPEND_BYTES + 2 * TABLE_BLOCK_BYTES),
            offset: 0,
            checksum: crc32fast::Hasher::new(),
            index: Vec::new(),
            hashes: Vec::new(),
            chats: ChatList::default(),
            rows: 0,
            times: (u64::MAX, 0),
        }
    }

    /// Its id.
    pub const fn id(&self) -> FileId {
        self.id
    }

    /// Rows so far.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of closed blocks so far.
    pub const fn bytes(&self) -> u64 {
        self.offset
    }

    /// Adds a row; `None` is a deletion marker.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    ///
    /// # Panics
    /// If the key is not above the last one, or this is a file of messages.
    pub async fn push(&mut self, key: &[u8], value: Option<&[u8]>, slice: &mut Slice) -> Result<()> {
        assert!(self.kind.class != Class::Messages, "messages have their own form");
        assert!(self.rows == 0 || key > &self.last_key[..], "file {}: keys ascend", self.id);
        let bytes = row_bytes(key.len(), value.map_or(0, <[u8]>::len));
        if !self.rows_block.is_empty() && self.rows_block.len() + bytes > ROW_BLOCK_BYTES {
            self.close_rows(slice).await?;
        }
        if self.rows_block.is_empty() {
            self.block_first_key.clear();
            self.block_first_key.extend_from_slice(key);
        }
        if self.rows == 0 || filter::prefix(key) != filter::prefix(&self.last_key) {
            self.hashes.push(filter::hash(filter::prefix(key)));
        }
        if self.rows == 0 {
            self.first_key.extend_from_slice(key);
        }
        self.rows_block.push(key, value);
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.rows += 1;
        Ok(())
    }

    /// Adds a message.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    ///
    /// # Panics
    /// If it is not above the last one, or this is not a file of messages.
    pub async fn push_message(
        &mut self,
        chat: ChatId,
        message: &StoredMessage<impl AsRef<[u8]>>,
        slice: &mut Slice,
    ) -> Result<()> {
        assert!(self.kind.class == Class::Messages, "a file of messages holds nothing else");
        let key = (chat, message.seq);
        assert!(self.last_message.is_none_or(|last| key > last), "file {}: messages ascend", self.id);
        let new_chat = self.last_message.is_none_or(|(last, _)| last != chat);
        let grown = self.messages_block.bytes() + message.body.as_ref().len();
        // A chat that begins near the end of a block gets a new one: its newest page is then in one block more often.
        let full = grown > TABLE_BLOCK_BYTES || (new_chat && grown > TABLE_BLOCK_BYTES - TABLE_BLOCK_BYTES / 8);
        if !self.messages_block.is_empty() && full {
            self.close_messages(slice).await?;
        }
        if self.messages_block.is_empty() {
            self.block_first_key = message_key(chat, message.seq);
        }
        if new_chat {
            self.hashes.push(filter::hash(filter::prefix(&message_key(chat, message.seq))));
        }
        if self.rows == 0 {
            self.first_key = message_key(chat, message.seq);
        }
        self.chats.push(chat, message.seq);
        self.messages_block.push(chat, message);
        self.times = (self.times.0.min(message.time_ms), self.times.1.max(message.time_ms));
        self.last_message = Some(key);
        self.rows += 1;
        Ok(())
    }

    async fn close_rows(&mut self, slice: &mut Slice) -> Result<()> {
        let block = self.rows_block.finish(self.id, self.offset);
        self.add_block(&block, slice).await
    }

    async fn close_messages(&mut self, slice: &mut Slice) -> Result<()> {
        let block = self.messages_block.finish(self.id, self.offset);
        self.add_block(&block, slice).await
    }

    async fn add_block(&mut self, block: &[u8], slice: &mut Slice) -> Result<()> {
        let key = &self.block_first_key;
        self.index.extend_from_slice(&u16::try_from(key.len()).expect("keys are short").to_le_bytes());
        self.index.extend_from_slice(key);
        self.index.extend_from_slice(&self.offset.to_le_bytes());
        self.index.extend_from_slice(&u32::try_from(block.len()).expect("far below 4 GiB").to_le_bytes());
        self.add(block);
        self.write_pending(TABLE_APPEND_BYTES, slice).await?;
        slice.checkpoint().await;
        Ok(())
    }

    fn add(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        self.offset += bytes.len() as u64;
    }

    /// Adds `[crc][bytes]`, piece by piece; returns where it begins.
    async fn add_section(&mut self, bytes: &[u8], slice: &mut Slice) -> Result<u64> {
        let at = self.offset;
        let mut crc = crc32fast::Hasher::new();
        for piece in bytes.chunks(SECTION_PIECE_BYTES) {
            crc.update(piece);
            slice.checkpoint().await;
        }
        self.add(&crc.finalize().to_le_bytes());
        for piece in bytes.chunks(SECTION_PIECE_BYTES) {
            self.add(piece);
            self.write_pending(TABLE_APPEND_BYTES, slice).await?;
            slice.checkpoint().await;
        }
        Ok(at)
    }

    /// Appends whole blocks of the disk where at least `least` bytes wait; what is beyond waits on.
    async fn write_pending(&mut self, least: usize, slice: &mut Slice) -> Result<()> {
        if self.pending.len() < least.max(1) {
            return Ok(());
        }
        let whole = self.pending.len() / BLOCK_BYTES * BLOCK_BYTES;
        let rest = self.pending.split_off(whole);
        let mut next = Vec::with_capacity(self.pending.capacity());
        next.extend_from_slice(&rest);
        let piece = core::mem::replace(&mut self.pending, next);
        self.checksum.update(&piece);
        slice.pause();
        let appended = self.file.append(piece).await;
        slice.restart();
        appended
    }

    /// Completes the file and makes it durable. Its name is not durable yet. `replaces` are the files it was merged
    /// from.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    ///
    /// # Panics
    /// If it has no rows.
    pub async fn finish(mut self, replaces: &[FileId], slice: &mut Slice) -> Result<FileMeta> {
        assert!(self.rows > 0, "file {}: a file has rows", self.id);
        if !self.rows_block.is_empty() {
            self.close_rows(slice).await?;
        }
        if !self.messages_block.is_empty() {
            self.close_messages(slice).await?;
        }
        if let Some((chat, seq)) = self.last_message {
            self.last_key = message_key(chat, seq);
        }
        let is_messages = self.kind.class == Class::Messages;
        let properties = Properties {
            class: self.kind.class,
            level: self.kind.level,
            window: self.kind.window,
            rows: self.rows,
            applied_low: self.kind.applied_low,
            applied_high: self.kind.applied_high,
            term: self.kind.term,
            time_low: if is_messages { self.times.0 } else { 0 },
            time_high: self.times.1,
            first_key: Bytes::copy_from_slice(&self.first_key),
            last_key: Bytes::copy_from_slice(&self.last_key),
        };
        let chats = core::mem::take(&mut self.chats).finish();
        let chats_at = self.add_section(&chats, slice).await?;
        let filter = filter::build(&self.hashes, slice).await;
        let filter_at = self.add_section(&filter, slice).await?;
        let index = core::mem::take(&mut self.index);
        let index_at = self.add_section(&index, slice).await?;
        let mut encoded = Vec::new();
        properties.encode(replaces, &mut encoded);
        let properties_at = self.add_section(&encoded, slice).await?;
        let end = self.offset;
        let padding = end.next_multiple_of(BLOCK_BYTES as u64) - end;
        self.add(&vec![0; usize::try_from(padding).expect("less than a block")]);
        self.write_pending(1, slice).await?;
        assert!(self.pending.is_empty(), "padded to whole blocks");
        let checksum = self.checksum.clone().finalize();
        let footer = Footer { file: self.id, chats_at, filter_at, index_at, properties_at, end, checksum };
        slice.pause();
        self.file.append(footer.encode()).await?;
        if !planted::is(Planted::ManifestBeforeData) {
            self.file.sync().await?;
        }
        slice.restart();
        Ok(FileMeta { id: self.id, bytes: self.offset + BLOCK_BYTES as u64, checksum, properties })
    }
}
