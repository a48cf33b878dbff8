//! Blocks of a file without its index: they lie side by side from byte 0, and each says how long it is.
//!
//! For files that are not whole: one that is being received, or a damaged one.
//!
//! Invariants
//! - Any bytes give a block that matches its crc or none; no more is read or kept than the longest block needs.

use bytes::Bytes;
use columba_wire::{ChatId, MessageSeq};

use super::{block::Block, columns::MessageBlock, reader::read_exact};
use crate::{
    env::DiskFile,
    error::{Error, Result},
    ids::FileId,
    limits::{BLOCK_ROWS_BYTES_MAX, MESSAGE_COLUMNS_BYTES_MAX, TABLE_READ_AHEAD_BYTES, VALUE_BYTES_MAX},
    message::message_key,
};

/// Bytes of the longest block of either kind, generously.
pub(crate) const WALK_BLOCK_BYTES_MAX: usize = BLOCK_ROWS_BYTES_MAX + MESSAGE_COLUMNS_BYTES_MAX + VALUE_BYTES_MAX;
const MAGIC_ROWS: &[u8; 4] = b"CLB2";
const MAGIC_MESSAGES: &[u8; 4] = b"CLMB";
/// Bytes of a block up to its length.
const LENGTH_END: usize = 12;

/// A block of either kind.
pub(crate) enum AnyBlock {
    Rows(Block),
    Messages(MessageBlock),
}

impl AnyBlock {
    /// Decodes by magic.
    pub(crate) fn decode(bytes: Bytes, file: FileId, offset: u64) -> Result<Self> {
        if bytes.starts_with(MAGIC_MESSAGES) {
            MessageBlock::decode(bytes, file, offset).map(Self::Messages)
        } else {
            Block::decode(bytes, file, offset).map(Self::Rows)
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Rows(block) => block.len(),
            Self::Messages(block) => block.len(),
        }
    }

    pub(crate) fn key(&self, n: usize) -> Vec<u8> {
        match self {
            Self::Rows(block) => block.key(n).to_vec(),
            Self::Messages(block) => {
                let (chat, seq): (ChatId, MessageSeq) = block.key(n);
                message_key(chat, seq)
            }
        }
    }
}

/// A file's blocks, found without its index.
pub(crate) struct Walk<F: DiskFile> {
    file: F,
    id: FileId,
    end: u64,
    window_at: u64,
    window: Bytes,
}

impl<F: DiskFile> Walk<F> {
    /// Over the first `end` bytes of a file.
    pub(crate) fn new(file: F, id: FileId, end: u64) -> Self {
        let end = end.min(file.len());
        Self { file, id, end, window_at: 0, window: Bytes::new() }
    }

    /// These bytes; `None` where they go beyond the end.
    async fn bytes(&mut self, at: u64, len: usize) -> Result<Option<Bytes>> {
        if at.checked_add(len as u64).is_none_or(|end| end > self.end) {
            return Ok(None);
        }
        let holds = |from: u64, window: &Bytes| at >= from && at + len as u64 <= from + window.len() as u64;
        if !holds(self.window_at, &self.window) {
            let left = usize::try_from(self.end - at).unwrap_or(usize::MAX);
            self.window = read_exact(&self.file, at, len.max(TABLE_READ_AHEAD_BYTES).min(left)).await?;
            self.window_at = at;
        }
        let skip = usize::try_from(at - self.window_at).expect("inside the window");
        Ok(Some(self.window.slice(skip..skip + len)))
    }

    /// The block at this place and its length; the inner error says why there is none.
    pub(crate) async fn block(&mut self, at: u64) -> Result<Result<(AnyBlock, u64), Error>> {
        let file = self.id;
        let damaged = |reason: &str| Error::DamagedBlock { file, offset: at, reason: reason.to_owned() };
        let Some(head) = self.bytes(at, LENGTH_END).await? else {
            return Ok(Err(damaged("it is cut off")));
        };
        let len = u32::from_le_bytes(head[8..12].try_into().expect("4 bytes")) as usize;
        if !(head.starts_with(MAGIC_ROWS) || head.starts_with(MAGIC_MESSAGES)) {
            return Ok(Err(damaged("it has another magic")));
        }
        if !(LENGTH_END..=WALK_BLOCK_BYTES_MAX).contains(&len) {
            return Ok(Err(damaged("it has an impossible length")));
        }
        let Some(bytes) = self.bytes(at, len).await? else {
            return Ok(Err(damaged("it is cut off")));
        };
        Ok(AnyBlock::decode(bytes, self.id, at).map(|block| (block, len as u64)))
    }

    /// The next place from `at` on that begins like a block; `None` behind the last one.
    pub(crate) async fn next_magic(&mut self, mut at: u64) -> Result<Option<u64>> {
        while at + 4 <= self.end {
            let left = usize::try_from(self.end - at).unwrap_or(usize::MAX);
            let len = left.min(TABLE_READ_AHEAD_BYTES);
            let bytes = self.bytes(at, len).await?.expect("up to the end");
            let found = bytes.windows(4).position(|four| four == MAGIC_ROWS || four == MAGIC_MESSAGES);
            if let Some(found) = found {
                return Ok(Some(at + found as u64));
            }
            at += (len - 3) as u64;
        }
        Ok(None)
    }

    /// Up to where blocks lie side by side from byte 0.
    pub(crate) async fn whole_prefix(&mut self) -> Result<u64> {
        let mut at = 0;
        while let Ok((_, len)) = self.block(at).await? {
            at += len;
        }
        Ok(at)
    }
}
