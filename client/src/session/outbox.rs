//! Messages without an answer, in order.
//!
//! Invariants
//! - What is sent is always the lowest client seq that waits; after a reconnect everything unanswered waits again, so
//!   it goes out in the old order, under the old numbers.
//! - At most `in_flight_max` are out at a time: the server recognises a retry of any of them.
//! - A refusal that allows a retry holds everything back: the refused message goes before newer ones. (Those out at
//!   that moment may still overtake it.)

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, limits::SENDS_IN_FLIGHT_MAX, v1};

use super::Token;
use super::id_bytes;
use crate::{
    limits::{OUTBOX_MESSAGES_MAX, RESEND_MAX, RESEND_MIN},
    types::{GroupChange, Recipient},
};

/// What a device sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outbound {
    Message {
        to: Recipient,
        body: Bytes,
    },
    /// Of this group; `None`: the one that it makes.
    Change {
        group: Option<ChatId>,
        change: GroupChange,
    },
}

impl Outbound {
    /// Whether the user comes into a group by it.
    pub(crate) fn is_join(&self) -> bool {
        matches!(self, Self::Change { change: GroupChange::Join { .. }, .. })
    }

    /// The chat that it is for.
    pub(crate) fn chat(&self, me: DeviceAddress, client_seq: ClientSeq) -> ChatId {
        match self {
            Self::Message { to, .. } => to.chat(me.user),
            Self::Change { group, .. } => group.unwrap_or_else(|| ChatId::group(me, client_seq)),
        }
    }

    /// As a frame has it.
    pub(crate) fn to_frame(&self, client_seq: ClientSeq) -> v1::Send {
        let client_seq = client_seq.get();
        match self {
            Self::Message { to: Recipient::User(user), body } => {
                v1::Send { client_seq, to_user: id_bytes(user.as_bytes()), body: body.clone(), ..v1::Send::default() }
            }
            Self::Message { to: Recipient::Group(group), body } => {
                v1::Send { client_seq, chat_id: id_bytes(group.as_bytes()), body: body.clone(), ..v1::Send::default() }
            }
            Self::Change { group, change } => v1::Send {
                client_seq,
                chat_id: group.map(|group| id_bytes(group.as_bytes())).unwrap_or_default(),
                change: Some(Box::new(change.to_frame())),
                ..v1::Send::default()
            },
        }
    }
}

/// A message without an answer.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) what: Outbound,
    /// The chat that it is for.
    pub(crate) chat: ChatId,
    /// Who waits for the answer; `None` where it is told as an event.
    pub(crate) token: Option<Token>,
    /// When it is given up.
    pub(crate) deadline: Option<Duration>,
    /// Whether it may have reached the server, now or in an earlier run.
    pub(crate) was_out: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    entries: BTreeMap<ClientSeq, Entry>,
    waiting: BTreeSet<ClientSeq>,
    deadlines: BTreeSet<(Duration, ClientSeq)>,
    in_flight_max: usize,
    held_until: Option<Duration>,
    refusals: u32,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            waiting: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            in_flight_max: SENDS_IN_FLIGHT_MAX,
            held_until: None,
            refusals: 0,
        }
    }
}

impl Outbox {
    /// Whether there is no room.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= OUTBOX_MESSAGES_MAX
    }

    /// Messages without an answer, in order; changes of groups left out.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (ClientSeq, Recipient, &Bytes)> {
        self.entries.iter().filter_map(|(client_seq, entry)| match &entry.what {
            Outbound::Message { to, body } => Some((*client_seq, *to, body)),
            Outbound::Change { .. } => None,
        })
    }

    /// Adds a message, to be sent when its turn comes.
    pub(crate) fn push(&mut self, client_seq: ClientSeq, entry: Entry) {
        assert!(
            self.entries.last_key_value().is_none_or(|(last, _)| *last < client_seq),
            "client seq {client_seq} is not above all others"
        );
        if let Some(deadline) = entry.deadline {
            self.deadlines.insert((deadline, client_seq));
        }
        self.waiting.insert(client_seq);
        self.entries.insert(client_seq, entry);
    }

    /// The next message to send.
    pub(crate) fn poll(&mut self, now: Duration) -> Option<(ClientSeq, &Entry)> {
        if self.held_until.is_some_and(|until| until > now) {
            return None;
        }
        if self.entries.len() - self.waiting.len() >= self.in_flight_max {
            return None;
        }
        let client_seq = self.waiting.pop_first()?;
        let entry = self.entries.get_mut(&client_seq).expect("what waits has an entry");
        entry.was_out = true;
        Some((client_seq, entry))
    }

    /// An answer came, or the message is given up.
    pub(crate) fn remove(&mut self, client_seq: ClientSeq) -> Option<Entry> {
        let entry = self.entries.remove(&client_seq)?;
        self.waiting.remove(&client_seq);
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, client_seq));
        }
        Some(entry)
    }

    /// The server took a message: it is not refusing any more.
    pub(crate) fn handle_accepted(&mut self) {
        self.refusals = 0;
    }

    /// The server refused, for now. Returns whether the message is one of ours.
    pub(crate) fn handle_refused(&mut self, now: Duration, client_seq: ClientSeq, retry_after: Duration) -> bool {
        if !self.entries.contains_key(&client_seq) {
            return false;
        }
        self.waiting.insert(client_seq);
        let wait = (RESEND_MIN * 2u32.saturating_pow(self.refusals.min(16))).min(RESEND_MAX).max(retry_after);
        // One burst of refusals counts once: everything that was out comes back at the same moment.
        if self.held_until.is_none_or(|until| until <= now) {
            self.refusals += 1;
        }
        self.held_until = Some(self.held_until.unwrap_or_default().max(now + wait));
        true
    }

    /// The connection is gone: everything waits again.
    pub(crate) fn handle_disconnected(&mut self) {
        self.waiting = self.entries.keys().copied().collect();
        self.held_until = None;
        self.refusals = 0;
    }

    /// The server's bound.
    pub(crate) fn set_in_flight_max(&mut self, in_flight_max: usize) {
        self.in_flight_max = in_flight_max.clamp(1, SENDS_IN_FLIGHT_MAX);
    }

    /// How many seqs of this chat those may have that are in it already: any number, where one of them may have let
    /// this user in, since what was before is not for it.
    pub(crate) fn unanswered_in(&self, chat: ChatId) -> u64 {
        let out = self.entries.values().filter(|entry| entry.was_out && entry.chat == chat);
        out.fold(0u64, |count, entry| count.saturating_add(if entry.what.is_join() { u64::MAX } else { 1 }))
    }

    /// A message whose deadline has passed.
    pub(crate) fn poll_expired(&mut self, now: Duration) -> Option<(ClientSeq, Entry)> {
        let (deadline, client_seq) = self.deadlines.first().copied()?;
        if deadline > now {
            return None;
        }
        let entry = self.remove(client_seq).expect("a deadline has an entry");
        Some((client_seq, entry))
    }

    /// When time alone changes something. `open`: whether anything can be sent.
    pub(crate) fn poll_timeout(&self, now: Duration, open: bool) -> Option<Duration> {
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        let held = self.held_until.filter(|until| open && *until > now && !self.waiting.is_empty());
        deadline.into_iter().chain(held).min()
    }
}
