//! Messages in memory: one run per chat, appended in order of seq.
//!
//! Invariants
//! - A run is dense: its messages are `first, first + 1, ...`; `apply` appends, a seal takes whole runs.

use std::collections::VecDeque;

use columba_wire::{ChatId, MessageSeq};

use super::{effect::StoredMessage, sharded::ShardedMap};

/// A body is a slice of its entry, which stays whole: what a command has beside the body.
const COMMAND_HEAD_BYTES: usize = 80;
/// A run's slot in a table that is half full in the mean.
const RUN_BYTES: usize = 2 * (size_of::<(ChatId, VecDeque<StoredMessage>)>() + 1);

/// The messages of one layer.
#[derive(Default)]
pub(crate) struct Messages {
    runs: ShardedMap<ChatId, VecDeque<StoredMessage>>,
    /// Of bodies, runs and their slots.
    bytes: usize,
}

impl Messages {
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes + self.runs.len() * RUN_BYTES
    }

    /// Appends the chat's next message.
    pub(crate) fn push(&mut self, chat: ChatId, message: StoredMessage) {
        let run = self.runs.get_or_insert_with(chat, VecDeque::new);
        if !crate::planted::is(crate::planted::Planted::SeqReused)
            && let Some(last) = run.back()
        {
            assert!(message.seq == last.seq.next(), "chat {chat}: seq {} after {}", message.seq, last.seq);
        }
        if run.capacity() == 0 {
            // Most chats of a layer have one message, or many.
            run.reserve_exact(1);
            self.bytes += slot_bytes(run);
        }
        let before = slot_bytes(run);
        self.bytes += message.body.len() + COMMAND_HEAD_BYTES;
        run.push_back(message);
        self.bytes += slot_bytes(run) - before;
    }

    /// Appends the runs of a newer layer.
    pub(crate) fn absorb(&mut self, newer: Self) {
        self.bytes += newer.bytes;
        for (chat, newer) in newer.runs.into_shards().flatten() {
            let slots = slot_bytes(&newer);
            let run = self.runs.get_or_insert_with(chat, VecDeque::new);
            let before = slot_bytes(run);
            run.extend(newer);
            self.bytes = self.bytes + slot_bytes(run) - before - slots;
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

    /// The runs by chat.
    pub(crate) fn runs(&self) -> &ShardedMap<ChatId, VecDeque<StoredMessage>> {
        &self.runs
    }
}

fn slot_bytes(run: &VecDeque<StoredMessage>) -> usize {
    run.capacity() * size_of::<StoredMessage>()
}
