//! Own messages on their way: each has a short number, and is stored, delivered, read.
//!
//! Invariants
//! - A number is given once in a process, in order. A message keeps it until it is read or fails.
//! - A state never goes back; between two reports only the last one counts.

use core::fmt;
use std::collections::BTreeMap;

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, MessageSeq};

use crate::{
    limits::{CHAT_PEOPLE_MAX, CHAT_TICKS_MAX},
    types::{Recipient, Sent},
};

/// An own message, as the user sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number(u64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// In the profile only.
    Waiting,
    Stored,
    Delivered,
    Read,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waits for a connection",
            Self::Stored => "stored",
            Self::Delivered => "delivered",
            Self::Read => "read",
        })
    }
}

/// A message that is not stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unstored {
    pub(super) number: Number,
    pub(super) to: Recipient,
    pub(super) body: Bytes,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ticks {
    given: u64,
    unstored: BTreeMap<ClientSeq, Unstored>,
    chats: BTreeMap<ChatId, ChatTicks>,
    news: BTreeMap<Number, State>,
}

#[derive(Debug, Default)]
struct ChatTicks {
    /// Own messages that are not read yet.
    placed: BTreeMap<MessageSeq, (Number, State)>,
    /// How far the other one is, or all others.
    delivered: MessageSeq,
    read: MessageSeq,
}

impl ChatTicks {
    fn state_of(&self, seq: MessageSeq) -> State {
        if seq <= self.read {
            State::Read
        } else if seq <= self.delivered {
            State::Delivered
        } else {
            State::Stored
        }
    }
}

impl Ticks {
    fn number(&mut self) -> Number {
        self.given += 1;
        Number(self.given)
    }

    /// A message was queued.
    pub(super) fn queue(&mut self, client_seq: ClientSeq, to: Recipient, body: Bytes) -> Number {
        if let Some(known) = self.unstored.get(&client_seq) {
            return known.number;
        }
        let number = self.number();
        self.unstored.insert(client_seq, Unstored { number, to, body });
        number
    }

    /// There is no connection to send it over.
    pub(super) fn wait(&mut self, number: Number) {
        self.news.insert(number, State::Waiting);
    }

    /// Messages that are not stored yet.
    pub(super) fn unstored(&self) -> usize {
        self.unstored.len()
    }

    /// A message has its place. What it says, where that is known.
    pub(super) fn handle_sent(&mut self, sent: &Sent) -> Option<Bytes> {
        let unstored = self.unstored.remove(&sent.client_seq);
        let number = unstored.as_ref().map_or_else(|| self.number(), |unstored| unstored.number);
        self.place(sent.chat, sent.seq, number);
        unstored.map(|unstored| unstored.body)
    }

    /// A message will not get one.
    pub(super) fn handle_failed(&mut self, client_seq: ClientSeq) -> Option<Unstored> {
        let unstored = self.unstored.remove(&client_seq)?;
        self.news.remove(&unstored.number);
        Some(unstored)
    }

    /// An own message of an earlier run is shown: it gets a number unless it has one, or is read.
    pub(super) fn show(&mut self, chat: ChatId, seq: MessageSeq) -> Option<Number> {
        let known = self.chats.entry(chat).or_default();
        if let Some((number, _)) = known.placed.get(&seq) {
            return Some(*number);
        }
        if seq <= known.read {
            return None;
        }
        let number = self.number();
        self.place(chat, seq, number);
        // It has been said before that it is stored.
        if self.news.get(&number) == Some(&State::Stored) {
            self.news.remove(&number);
        }
        Some(number)
    }

    fn place(&mut self, chat: ChatId, seq: MessageSeq, number: Number) {
        let ticks = self.chats.entry(chat).or_default();
        let state = ticks.state_of(seq);
        self.news.insert(number, state);
        if state < State::Read {
            ticks.placed.insert(seq, (number, state));
        }
        if ticks.placed.len() > CHAT_TICKS_MAX {
            ticks.placed.pop_first();
        }
    }

    /// The other one got further.
    pub(super) fn handle_receipt(&mut self, chat: ChatId, delivered: MessageSeq, read: MessageSeq) {
        if self.chats.len() >= CHAT_PEOPLE_MAX && !self.chats.contains_key(&chat) {
            return;
        }
        let ticks = self.chats.entry(chat).or_default();
        ticks.delivered = ticks.delivered.max(delivered);
        ticks.read = ticks.read.max(read);
        let (upto, read) = (ticks.delivered.max(ticks.read), ticks.read);
        for (seq, (number, state)) in ticks.placed.range_mut(..=upto) {
            let now = if *seq <= read { State::Read } else { State::Delivered };
            if now > *state {
                *state = now;
                self.news.insert(*number, now);
            }
        }
        ticks.placed.retain(|_, (_, state)| *state < State::Read);
    }

    /// Chats with messages that are not read yet.
    pub(super) fn unread_chats(&self) -> impl Iterator<Item = ChatId> {
        self.chats.iter().filter(|(_, ticks)| !ticks.placed.is_empty()).map(|(chat, _)| *chat)
    }

    /// What is new, as lines: `#1 delivered`, `#2-#4 stored`.
    pub(super) fn take_lines(&mut self) -> Vec<String> {
        let mut runs: Vec<(Number, Number, State)> = Vec::new();
        for (number, state) in core::mem::take(&mut self.news) {
            match runs.last_mut() {
                Some((_, last, same)) if *same == state && last.0 + 1 == number.0 => *last = number,
                Some(_) | None => runs.push((number, number, state)),
            }
        }
        let line = |(first, last, state): (Number, Number, State)| {
            if first == last { format!("{first} {state}") } else { format!("{first}-{last} {state}") }
        };
        runs.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: Recipient = Recipient::User(columba_wire::UserId::from_bytes([2; 16]));
    const CHAT: ChatId = ChatId::from_bytes([1; 16]);

    fn seq(seq: u64) -> MessageSeq {
        MessageSeq::new(seq)
    }

    fn sent(client_seq: u64, at: u64) -> Sent {
        Sent { client_seq: ClientSeq::new(client_seq), chat: CHAT, seq: seq(at), time_ms: 0 }
    }

    fn queued(count: u64) -> Ticks {
        let mut ticks = Ticks::default();
        for client_seq in 1..=count {
            ticks.queue(ClientSeq::new(client_seq), BOB, Bytes::from(format!("text {client_seq}")));
        }
        ticks
    }

    #[test]
    fn ticks_are_coalesced_and_only_the_last_state_is_told() {
        let mut ticks = queued(4);
        assert!(ticks.take_lines().is_empty(), "a message on its way is no news");
        for n in 1..=4 {
            ticks.handle_sent(&sent(n, 10 + n));
        }
        ticks.handle_receipt(CHAT, seq(11), seq(0));
        assert_eq!(ticks.take_lines(), ["#1 delivered", "#2-#4 stored"]);
        ticks.handle_receipt(CHAT, seq(14), seq(13));
        assert_eq!(ticks.take_lines(), ["#1-#3 read", "#4 delivered"]);
        ticks.handle_receipt(CHAT, seq(14), seq(14));
        assert_eq!(ticks.take_lines(), ["#4 read"]);
        assert_eq!(ticks.unread_chats().count(), 0);
    }

    #[test]
    fn a_receipt_that_comes_late_or_twice_takes_nothing_back() {
        let mut ticks = queued(2);
        ticks.handle_receipt(CHAT, seq(5), seq(5));
        ticks.handle_sent(&sent(1, 5));
        ticks.handle_sent(&sent(2, 6));
        assert_eq!(ticks.take_lines(), ["#1 read", "#2 stored"], "the receipt came before the answer");
        ticks.handle_receipt(CHAT, seq(6), seq(2));
        ticks.handle_receipt(CHAT, seq(3), seq(1));
        assert_eq!(ticks.take_lines(), ["#2 delivered"]);
        ticks.handle_receipt(CHAT, seq(6), seq(2));
        assert!(ticks.take_lines().is_empty());
    }

    #[test]
    fn a_message_that_fails_is_given_back_with_its_text() {
        let mut ticks = queued(3);
        let failed = ticks.handle_failed(ClientSeq::new(2)).unwrap();
        assert_eq!((failed.number.to_string().as_str(), &failed.body[..]), ("#2", &b"text 2"[..]));
        assert_eq!(ticks.unstored(), 2);
        assert!(ticks.handle_failed(ClientSeq::new(2)).is_none());
        ticks.handle_sent(&sent(1, 1));
        ticks.handle_sent(&sent(3, 2));
        assert_eq!(ticks.take_lines(), ["#1 stored", "#3 stored"]);
    }

    #[test]
    fn own_messages_of_an_earlier_run_show_that_they_were_read_at_last() {
        let mut ticks = Ticks::default();
        ticks.handle_receipt(CHAT, seq(2), seq(1));
        assert!(ticks.show(CHAT, seq(1)).is_none(), "it was read: there is nothing more to tell");
        let shown = ticks.show(CHAT, seq(2)).unwrap();
        assert_eq!(ticks.show(CHAT, seq(2)), Some(shown));
        ticks.show(CHAT, seq(3));
        assert_eq!(ticks.take_lines(), ["#1 delivered"]);
        ticks.handle_receipt(CHAT, seq(3), seq(3));
        assert_eq!(ticks.take_lines(), ["#1-#2 read"]);
    }

    #[test]
    fn messages_that_are_never_read_do_not_fill_the_memory() {
        let mut ticks = Ticks::default();
        for n in 1..=2 * CHAT_TICKS_MAX as u64 {
            ticks.queue(ClientSeq::new(n), BOB, Bytes::new());
            ticks.handle_sent(&sent(n, n));
            ticks.take_lines();
        }
        assert_eq!(ticks.chats[&CHAT].placed.len(), CHAT_TICKS_MAX);
    }
}
