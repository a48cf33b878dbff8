//! The list of a message file's chats: for each the lowest and the highest seq. What decides whether the whole file is
//! below every watermark, without reading its messages.
//!
//! | count u32 | per chat, ascending: chat 16, first seq varint, last seq - first seq varint |
//!
//! Invariants
//! - Chats ascend strictly; a chat that comes back after another one is an error of the writer.

use bytes::Bytes;
use columba_wire::{ChatId, MessageSeq};

use super::columns::varint::{Columns, put_varint};

/// The list, being written.
#[derive(Default)]
pub(crate) struct ChatList {
    bytes: Vec<u8>,
    count: u32,
    open: Option<ChatRange>,
}

/// The seqs of a chat in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatRange {
    /// The chat.
    pub chat: ChatId,
    /// Its lowest seq in the file.
    pub first: MessageSeq,
    /// Its highest.
    pub last: MessageSeq,
}

const CHAT_BYTES_MIN: usize = 18;

impl ChatList {
    /// Notes the next message.
    pub(crate) fn push(&mut self, chat: ChatId, seq: MessageSeq) {
        match &mut self.open {
            Some(open) if open.chat == chat => open.last = seq,
            _ => {
                self.close();
                self.open = Some(ChatRange { chat, first: seq, last: seq });
            }
        }
    }

    fn close(&mut self) {
        let Some(range) = self.open.take() else {
            return;
        };
        self.bytes.extend_from_slice(range.chat.as_bytes());
        put_varint(&mut self.bytes, range.first.get());
        put_varint(&mut self.bytes, range.last.get() - range.first.get());
        self.count += 1;
    }

    /// The section's content.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.close();
        let mut out = self.count.to_le_bytes().to_vec();
        out.extend_from_slice(&self.bytes);
        out
    }
}

/// Reads the section's content. `None` where it is malformed.
pub(crate) fn parse_chats(bytes: &Bytes) -> Option<Vec<ChatRange>> {
    let count = u32::from_le_bytes(*bytes.first_chunk::<4>()?) as usize;
    if count > (bytes.len() - 4) / CHAT_BYTES_MIN {
        return None;
    }
    let mut rest = Columns::new(&bytes[4..]);
    let mut chats: Vec<ChatRange> = Vec::with_capacity(count);
    for _ in 0..count {
        let chat = ChatId::from_bytes(rest.array().ok()?);
        let first = rest.varint().ok()?;
        let last = first.checked_add(rest.varint().ok()?)?;
        if chats.last().is_some_and(|before| before.chat >= chat) {
            return None;
        }
        chats.push(ChatRange { chat, first: MessageSeq::new(first), last: MessageSeq::new(last) });
    }
    rest.is_empty().then_some(chats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_come_back_and_garbage_does_not() {
        let chat = |n: u8| ChatId::from_bytes([n; 16]);
        let mut list = ChatList::default();
        for (n, seq) in [(1, 5), (1, 6), (1, 900), (2, u64::MAX), (9, 1)] {
            list.push(chat(n), MessageSeq::new(seq));
        }
        let bytes = Bytes::from(list.finish());
        let ranges = parse_chats(&bytes).unwrap();
        let range =
            |n, first, last| ChatRange { chat: chat(n), first: MessageSeq::new(first), last: MessageSeq::new(last) };
        assert_eq!(ranges, [range(1, 5, 900), range(2, u64::MAX, u64::MAX), range(9, 1, 1)]);
        for len in 0..bytes.len() {
            assert!(parse_chats(&bytes.slice(..len)).is_none());
        }
        assert!(parse_chats(&Bytes::from(vec![0xff; 4096])).is_none());
        assert_eq!(parse_chats(&Bytes::from(ChatList::default().finish())).unwrap(), []);
    }
}
