//! A device with a session: what was pushed to it and not acknowledged, and what is held until it has caught up.
//!
//! Invariants
//! - `unacked_messages` and `unacked_bytes` are the sums over `unacked`, `held_bytes` that over `held`.
//! - What of a chat is unacknowledged took one way, so it arrives in order whatever the two do to each other.

use std::collections::VecDeque;

use columba_engine::partition::effect::StoredMessage;
use columba_wire::{ChatId, MessageSeq, limits::UNACKED_MAX};
use rustc_hash::FxHashMap;

use super::Behind;
use crate::{
    core::message::{SessionRef, Way},
    delivery::{CATCH_UP_BYTES_MAX, CATCH_UP_MAX, HELD_BYTES_MAX, HELD_MAX, UNACKED_BYTES_MAX},
};

/// What of a chat was pushed and not acknowledged: seqs and bytes, ascending and never empty.
pub(super) struct Unacked {
    queue: VecDeque<(MessageSeq, usize)>,
    way: Way,
}

/// A device with a session.
pub(super) struct DeviceLive {
    pub(super) session: SessionRef,
    pub(super) live: bool,
    /// Pushed and not acknowledged, over all chats.
    unacked: FxHashMap<ChatId, Unacked>,
    unacked_messages: usize,
    unacked_bytes: usize,
    /// Inbox entries handed to the session and not acknowledged: position, chat, last seq, whether it is done.
    pub(super) entries: VecDeque<(u64, ChatId, MessageSeq, bool)>,
    /// Messages that came while the device was syncing and their chat was behind, or had too much unacknowledged:
    /// pushed in order once it is live, as there is room.
    pub(super) held: VecDeque<(ChatId, StoredMessage)>,
    pub(super) held_bytes: usize,
    /// Whether it is live and not told so yet.
    pub(super) owes_synced: bool,
    /// Whether a sync job runs, or is asked for.
    pub(super) syncing: bool,
    /// Which chats are behind while it is syncing.
    pub(super) behind: Behind,
}

impl DeviceLive {
    pub(super) fn new(session: SessionRef) -> Self {
        Self {
            session,
            live: false,
            unacked: FxHashMap::default(),
            unacked_messages: 0,
            unacked_bytes: 0,
            entries: VecDeque::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            owes_synced: false,
            syncing: false,
            behind: Behind::default(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.unacked_messages < UNACKED_MAX && (self.unacked_bytes < UNACKED_BYTES_MAX || self.unacked_messages == 0)
    }

    /// Whether it may be pushed more of what waited: not so much that there is no room for what is live.
    pub(super) fn has_room_to_catch_up(&self) -> bool {
        self.unacked_messages < CATCH_UP_MAX && (self.unacked_bytes < CATCH_UP_BYTES_MAX || self.unacked_messages == 0)
    }

    /// Whether the next message of the chat may be pushed, as far as order is concerned.
    pub(super) fn takes(&self, chat: ChatId) -> bool {
        if self.live { self.held.is_empty() } else { self.behind.is_clear_of(chat) }
    }

    pub(super) fn hold(&mut self, chat: ChatId, message: StoredMessage) {
        self.held_bytes += message.body.len();
        self.held.push_back((chat, message));
        if !self.live {
            self.behind.add(chat);
        }
    }

    pub(super) fn may_hold(&self) -> bool {
        self.held.len() < HELD_MAX && self.held_bytes < HELD_BYTES_MAX
    }

    /// Counts a push. Returns the way that it takes: the one wanted, or that of what of the chat is under way.
    pub(super) fn count_push(&mut self, chat: ChatId, seq: MessageSeq, bytes: usize, wanted: Way) -> Way {
        let unacked = self.unacked.entry(chat).or_insert_with(|| Unacked { queue: VecDeque::new(), way: wanted });
        unacked.queue.push_back((seq, bytes));
        self.unacked_messages += 1;
        self.unacked_bytes += bytes;
        unacked.way
    }

    /// Whether something of the chat was pushed and is not acknowledged.
    pub(super) fn has_unacked(&self, chat: ChatId) -> bool {
        self.unacked.contains_key(&chat)
    }

    /// The last message of the chat that was pushed and is not acknowledged.
    pub(super) fn last_unacked(&self, chat: ChatId) -> Option<MessageSeq> {
        self.unacked.get(&chat)?.queue.back().map(|(seq, _)| *seq)
    }

    /// The last one of these up to `to`.
    pub(super) fn last_unacked_up_to(&self, chat: ChatId, to: MessageSeq) -> Option<MessageSeq> {
        self.unacked.get(&chat)?.queue.iter().rev().map(|(seq, _)| *seq).find(|seq| *seq <= to)
    }

    /// The first message of the chat that the device was or will be pushed, and has not acknowledged.
    pub(super) fn first_pending(&self, chat: ChatId) -> Option<MessageSeq> {
        let unacked = self.unacked.get(&chat).and_then(|unacked| unacked.queue.front()).map(|(seq, _)| *seq);
        unacked.or_else(|| self.held.iter().find(|(held, _)| *held == chat).map(|(_, message)| message.seq))
    }

    /// What of the chat the device has for certain, if everything up to `at` was delivered to it or is in its inbox. Of
    /// one whose inbox is not read to its end nothing is.
    pub(super) fn has(&self, chat: ChatId, at: MessageSeq) -> MessageSeq {
        if self.live { self.first_pending(chat).map_or(at, |seq| seq.prev().min(at)) } else { MessageSeq::ZERO }
    }

    /// Returns the highest seq of the chat that was pushed in this session and is acknowledged by this.
    pub(super) fn count_ack(&mut self, chat: ChatId, seq: MessageSeq) -> Option<MessageSeq> {
        let Unacked { queue, .. } = self.unacked.get_mut(&chat)?;
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
