//! Messages in memory: one run per chat, appended in order of seq.
//!
//! Invariants
//! - A run is dense: its messages are `first, first + 1, ...`; `apply` appends, a seal takes whole runs.

use std::collections::VecDeque;

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, MessageSeq};
use rustc_hash::FxHashMap;

use super::{
    codec::{Put as _, Take},
    effect::StoredMessage,
};
use crate::error::Result;

/// First byte of a message's key.
pub(crate) const MESSAGE_KIND: u8 = 0x10;
/// Bytes a message takes in memory beside its body.
const MESSAGE_OVERHEAD_BYTES: usize = 112;

/// The messages of one layer.
#[derive(Default)]
pub(crate) struct Messages {
    runs: FxHashMap<ChatId, VecDeque<StoredMessage>>,
    bytes: usize,
}

impl Messages {
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the chat's next message.
    pub(crate) fn push(&mut self, chat: ChatId, message: StoredMessage) {
        let run = self.runs.entry(chat).or_default();
        if !crate::planted::is(crate::planted::Planted::SeqReused)
            && let Some(last) = run.back()
        {
            assert!(message.seq == last.seq.next(), "chat {chat}: seq {} after {}", message.seq, last.seq);
        }
        self.bytes += message.body.len() + MESSAGE_OVERHEAD_BYTES;
        run.push_back(message);
    }

    /// Appends the runs of a newer layer.
    pub(crate) fn absorb(&mut self, newer: Self) {
        self.bytes += newer.bytes;
        let mut runs: Vec<_> = newer.runs.into_iter().collect();
        for (chat, run) in runs.drain(..) {
            self.runs.entry(chat).or_default().extend(run);
        }
    }

    /// The messages `from..=to` that are here, ascending.
    pub(crate) fn range(&self, chat: ChatId, from: MessageSeq, to: MessageSeq) -> impl Iterator<Item = &StoredMessage> {
        let run = self.runs.get(&chat);
        let first = run.and_then(|run| run.front()).map_or(MessageSeq::MAX, |message| message.seq);
        let skip = usize::try_from(from.get().saturating_sub(first.get())).unwrap_or(usize::MAX);
        let skip = if first == MessageSeq::MAX { usize::MAX } else { skip };
        run.into_iter().flat_map(|run| run.iter()).skip(skip).take_while(move |message| message.seq <= to)
    }

    /// All messages encoded, ascending by chat and seq.
    pub(crate) fn encoded(&self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> + '_ {
        let mut chats = Vec::with_capacity(self.runs.len());
        chats.extend(self.runs.keys().copied());
        chats.sort_unstable();
        chats.into_iter().flat_map(move |chat| {
            let run = self.runs.get(&chat).expect("the chat is from this map");
            run.iter().map(move |message| (message_key(chat, message.seq), Some(encode_message(message))))
        })
    }
}

/// Key of a message in files.
pub(crate) fn message_key(chat: ChatId, seq: MessageSeq) -> Vec<u8> {
    let mut key = Vec::with_capacity(25);
    key.push(MESSAGE_KIND);
    key.extend_from_slice(chat.as_bytes());
    key.extend_from_slice(&seq.get().to_be_bytes());
    key
}

fn encode_message(message: &StoredMessage) -> Vec<u8> {
    let mut out = Vec::with_capacity(48 + message.body.len());
    out.put_seq(message.seq);
    out.put_device(message.sender);
    out.put_u64(message.client_seq.get());
    out.put_u64(message.time_ms);
    out.put_bytes(&message.body);
    out
}

/// Reads a message's value.
pub(crate) fn decode_message(value: Bytes) -> Result<StoredMessage> {
    let mut take = Take::new(value, "message row");
    let message = StoredMessage {
        seq: take.take_seq()?,
        sender: take.take_device()?,
        client_seq: ClientSeq::new(take.take_u64()?),
        time_ms: take.take_u64()?,
        body: take.take_bytes()?,
    };
    take.finish()?;
    Ok(message)
}
