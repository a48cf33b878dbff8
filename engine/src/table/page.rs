//! The newest messages of a chat, as a read over the files found them: what the cache keeps of such a read.
//!
//! A block holds messages of several chats, and a page comes from a block in each of several files. What is asked for
//! again is the page, not its neighbours: by itself it takes a fraction of the blocks' memory, and one lookup.
//!
//! Invariants
//! - A page has every message of its chat from `from` on that files hold of the log up to `applied`, and no others.
//!   Messages do not change: a page grows old only in that newer files may have newer messages.

use core::cell::Cell;

use bytes::{Bytes, BytesMut};
use columba_wire::MessageSeq;

use crate::{ids::LogIndex, message::StoredMessage};

/// A page.
#[derive(Debug)]
pub(crate) struct Page {
    applied: Cell<LogIndex>,
    from: MessageSeq,
    /// Newest first; at least one.
    messages: Vec<StoredMessage>,
    body_bytes: usize,
}

impl Page {
    /// Of messages in descending order, all that there are from `from` on. Bodies are copied to a place of their own,
    /// so that no block stays in memory for them.
    pub(crate) fn new(applied: LogIndex, from: MessageSeq, messages: &[StoredMessage]) -> Self {
        assert!(!messages.is_empty(), "a page has a message");
        let body_bytes = messages.iter().map(|message| message.body.len()).sum();
        let mut bodies = BytesMut::with_capacity(body_bytes);
        messages.iter().for_each(|message| bodies.extend_from_slice(&message.body));
        let mut bodies: Bytes = bodies.freeze();
        let copied = |message: &StoredMessage| StoredMessage { body: bodies.split_to(message.body.len()), ..*message };
        let messages = messages.iter().map(copied).collect();
        Self { applied: Cell::new(applied), from, messages, body_bytes }
    }

    /// The log entry up to which it is the newest.
    pub(crate) fn applied(&self) -> LogIndex {
        self.applied.get()
    }

    /// Notes that the files up to this log entry have no newer messages.
    pub(crate) fn confirm(&self, applied: LogIndex) {
        self.applied.set(applied);
    }

    /// Seq of its newest message.
    pub(crate) fn newest_seq(&self) -> MessageSeq {
        self.messages[0].seq
    }

    /// Bytes it takes in memory.
    pub(crate) const fn memory_bytes(&self) -> usize {
        self.body_bytes + self.messages.len() * size_of::<StoredMessage>() + size_of::<Self>()
    }

    /// Messages from `to` down to `from`, until there are `count_max` or `bytes_max` of bodies; `None` where it does
    /// not reach so far down.
    pub(crate) fn newest(
        &self,
        from: MessageSeq,
        to: MessageSeq,
        count_max: usize,
        bytes_max: usize,
    ) -> Option<Vec<StoredMessage>> {
        let above = self.messages.partition_point(|message| message.seq > to);
        let mut bytes = 0usize;
        let wanted = self.messages[above..].iter().take(count_max).take_while(|message| {
            let fits = message.seq >= from && bytes < bytes_max;
            bytes = bytes.saturating_add(message.body.len());
            fits
        });
        let wanted = wanted.count();
        let found = &self.messages[above..above + wanted];
        let found_bytes = found.iter().map(|message| message.body.len()).sum::<usize>();
        let is_whole = wanted == count_max || found_bytes >= bytes_max || self.from <= from;
        is_whole.then(|| found.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use columba_wire::{ClientSeq, DeviceAddress, DeviceId, UserId};
    use proptest::prelude::*;

    use super::*;
    use crate::message::MessageKind;

    fn message(seq: u64) -> StoredMessage {
        StoredMessage {
            seq: MessageSeq::new(seq),
            sender: DeviceAddress { user: UserId::from_bytes([1; 16]), device: DeviceId::FIRST },
            client_seq: ClientSeq::new(seq),
            time_ms: seq,
            kind: MessageKind::Client,
            body: vec![7; usize::try_from(seq % 5).unwrap()].into(),
        }
    }

    proptest! {
        #[test]
        fn a_page_answers_as_the_whole_chat_would_or_not_at_all(
            lowest in 1u64..30, newest in 30u64..60, from in 1u64..70, to in 1u64..70,
            count_max in 1usize..60, bytes_max in 1usize..200,
        ) {
            let all: Vec<_> = (1..=newest).rev().map(message).collect();
            let held = usize::try_from(newest - lowest + 1).unwrap();
            let page = Page::new(LogIndex::new(1), MessageSeq::new(lowest), &all[..held]);
            let (mut bytes, mut expected) = (0, Vec::new());
            for message in all.iter().filter(|message| (from..=to).contains(&message.seq.get())) {
                if expected.len() == count_max || bytes >= bytes_max {
                    break;
                }
                bytes += message.body.len();
                expected.push(message.clone());
            }
            let found = page.newest(MessageSeq::new(from), MessageSeq::new(to), count_max, bytes_max);
            match found {
                Some(found) => prop_assert_eq!(found, expected),
                None => prop_assert!(expected.last().is_none_or(|last| last.seq.get() < lowest)),
            }
        }
    }
}
