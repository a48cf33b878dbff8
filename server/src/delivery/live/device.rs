//! A device with a session: what was pushed to it and not acknowledged, and what is held until it has caught up.
//!
//! Invariants
//! - `unacked_messages` and `unacked_bytes` are the sums over `unacked`, `held_bytes` that over `held`.

use std::collections::VecDeque;

use columba_engine::partition::effect::StoredMessage;
use columba_wire::{ChatId, MessageSeq, limits::UNACKED_MAX};
use rustc_hash::FxHashMap;

use crate::{
    core::message::SessionRef,
    delivery::{HELD_BYTES_MAX, HELD_MAX, UNACKED_BYTES_MAX},
};

/// A device with a session.
pub(super) struct DeviceLive {
    pub(super) session: SessionRef,
    pub(super) live: bool,
    /// Pushed and not acknowledged, over all chats.
    pub(super) unacked: FxHashMap<ChatId, VecDeque<(MessageSeq, usize)>>,
    pub(super) unacked_messages: usize,
    pub(super) unacked_bytes: usize,
    /// Inbox entries handed to the session and not acknowledged: position, chat, last seq, whether it is done.
    pub(super) entries: VecDeque<(u64, ChatId, MessageSeq, bool)>,
    /// Messages that came while the device was syncing, or had too much unacknowledged: pushed in order once it is
    /// live, as there is room.
    pub(super) held: VecDeque<(ChatId, StoredMessage)>,
    pub(super) held_bytes: usize,
    /// Whether it is live and not told so yet.
    pub(super) owes_synced: bool,
    /// Whether a sync job runs, or is asked for.
    pub(super) syncing: bool,
}

impl DeviceLive {
    pub(super) fn has_room(&self) -> bool {
        self.unacked_messages < UNACKED_MAX && (self.unacked_bytes < UNACKED_BYTES_MAX || self.unacked_messages == 0)
    }

    pub(super) fn may_hold(&self) -> bool {
        self.held.len() < HELD_MAX && self.held_bytes < HELD_BYTES_MAX
    }

    pub(super) fn count_push(&mut self, chat: ChatId, seq: MessageSeq, bytes: usize) {
        self.unacked.entry(chat).or_default().push_back((seq, bytes));
        self.unacked_messages += 1;
        self.unacked_bytes += bytes;
    }

    /// The first message of the chat that the device was or will be pushed, and has not acknowledged.
    pub(super) fn first_pending(&self, chat: ChatId) -> Option<MessageSeq> {
        let unacked = self.unacked.get(&chat).and_then(|queue| queue.front()).map(|(seq, _)| *seq);
        unacked.or_else(|| self.held.iter().find(|(held, _)| *held == chat).map(|(_, message)| message.seq))
    }

    /// What of the chat the device has for certain, if everything up to `at` was delivered to it or is in its inbox. Of
    /// one whose inbox is not read to its end nothing is.
    pub(super) fn has(&self, chat: ChatId, at: MessageSeq) -> MessageSeq {
        if self.live { self.first_pending(chat).map_or(at, |seq| seq.prev().min(at)) } else { MessageSeq::ZERO }
    }

    /// Returns the highest seq of the chat that was pushed in this session and is acknowledged by this.
    pub(super) fn count_ack(&mut self, chat: ChatId, seq: MessageSeq) -> Option<MessageSeq> {
        let queue = self.unacked.get_mut(&chat)?;
        let mut highest = None;
        while let Some((pushed, bytes)) = queue.front().copied() {
            if pushed > seq {
                break;
            }
            queue.pop_front();
            self.unacked_messages -= 1;
            self.unacked_bytes -= bytes;
            highest = Some(pushed);
        }
        if queue.is_empty() {
            self.unacked.remove(&chat);
        }
        highest
    }
}
