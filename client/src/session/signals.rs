//! Signals: sent while there is a session and never later; who is writing, and when that lapses.
//!
//! Invariants
//! - A signal goes out on the connection on which it was called for, or not at all; every call is answered once.
//! - To a chat at most one `on` goes out in [`TYPING_EVERY`], and an `off` only behind one.
//! - For each "is writing" that the application was told, it is told the end: by the other client, by a message, after
//!   [`TYPING_LAPSES`], or with the connection.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use columba_wire::{
    ChatId, UserId,
    v1::{self, SendSignal},
};

use super::{Reply, Session, Token, answer::bad_ids};
use crate::{
    error::Error,
    limits::{SIGNALS_MAX, TYPING_CHATS_MAX, TYPING_EVERY, TYPING_LAPSES, TYPING_USERS_MAX},
    types::{Event, Recipient, Signal, SignalBody, SignalTo},
};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Not taken by the socket yet, in order.
    waiting: VecDeque<(u64, SendSignal)>,
    /// Without an answer, by number: who waits, and how long. Numbers and deadlines grow together.
    unanswered: BTreeMap<u64, (Option<Token>, Duration)>,
    /// Chats to which this user wrote lately: when that was told last, and whether it holds.
    own: BTreeMap<ChatId, (Duration, bool)>,
    /// Who is writing, until when.
    others: BTreeMap<(ChatId, UserId), Duration>,
}

impl Signals {
    fn is_full(&self) -> bool {
        self.unanswered.len() >= SIGNALS_MAX
    }

    /// The next one to send, with its number.
    pub(super) fn poll(&mut self) -> Option<(u64, SendSignal)> {
        self.waiting.pop_front()
    }

    /// An answer came. Whether it is one of a signal, and who waits for it.
    pub(super) fn remove(&mut self, id: u64) -> Option<Option<Token>> {
        self.unanswered.remove(&id).map(|(token, _)| token)
    }

    /// Whether to tell that this user writes, or does no more.
    fn plan_typing(&mut self, now: Duration, chat: ChatId, on: bool) -> bool {
        self.own.retain(|_, (told_at, _)| *told_at + TYPING_LAPSES > now);
        let has_room = self.own.len() < TYPING_CHATS_MAX;
        match (self.own.get_mut(&chat), on) {
            (Some((told_at, holds)), true) => {
                let due = *told_at + TYPING_EVERY <= now;
                if due {
                    (*told_at, *holds) = (now, true);
                }
                due
            }
            (Some((_, holds)), false) => core::mem::take(holds),
            (None, true) if has_room => {
                self.own.insert(chat, (now, true));
                true
            }
            (None, _) => false,
        }
    }

    /// This user has sent a message: that it does not write any more goes without saying.
    pub(super) fn handle_own_message(&mut self, chat: ChatId) {
        if let Some((_, holds)) = self.own.get_mut(&chat) {
            *holds = false;
        }
    }

    /// Somebody writes, or does no more. Whether that is news.
    fn handle_typing(&mut self, now: Duration, chat: ChatId, user: UserId, on: bool) -> bool {
        let key = (chat, user);
        if !on {
            return self.others.remove(&key).is_some();
        }
        if self.others.len() >= TYPING_USERS_MAX && !self.others.contains_key(&key) {
            return false;
        }
        self.others.insert(key, now + TYPING_LAPSES).is_none()
    }

    /// When something here lapses.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let answer = self.unanswered.first_key_value().map(|(_, (_, deadline))| *deadline);
        answer.into_iter().chain(self.others.values().copied()).min()
    }
}

impl Session {
    /// The application signals somebody.
    pub(crate) fn handle_signal(&mut self, now: Duration, token: Token, signal: SendSignal) {
        if self.account.is_none() {
            return self.reply(token, Err(Error::NotRegistered));
        }
        if !self.is_open() {
            return self.reply(token, Err(Error::Offline));
        }
        if self.signals.is_full() {
            return self.reply(token, Err(Error::TooManyRequests));
        }
        self.push_signal(now, Some(token), signal);
    }

    /// The user writes to somebody, or does no more.
    pub(crate) fn handle_set_typing(&mut self, now: Duration, token: Token, to: Recipient, on: bool) {
        let Some(me) = self.account.as_ref().map(|account| account.user) else {
            return self.reply(token, Err(Error::NotRegistered));
        };
        // A chat with oneself has nobody who would wait for the message.
        let is_told = self.is_open() && !self.signals.is_full() && to != Recipient::User(me);
        if is_told && self.signals.plan_typing(now, to.chat(me), on) {
            let body: Bytes = SignalBody::Typing { on }.to_bytes();
            self.push_signal(now, None, SignalTo::from(to).to_frame(body));
        }
        self.reply(token, Ok(Reply::Done));
    }

    fn push_signal(&mut self, now: Duration, token: Option<Token>, signal: SendSignal) {
        let id = self.requests.number();
        self.signals.unanswered.insert(id, (token, now + self.request_patience));
        self.signals.waiting.push_back((id, signal));
    }

    /// Somebody has sent a signal.
    pub(super) fn handle_signalled(&mut self, now: Duration, frame: v1::Signal) {
        let Some((chat, sender, device, body)) = Signal::parse(frame) else {
            return self.disconnect(bad_ids());
        };
        match body {
            Some(SignalBody::Typing { on }) if self.signals.handle_typing(now, chat, sender, on) => {
                self.tell(Event::Typing { chat, user: sender, on });
            }
            Some(body @ SignalBody::Call(_)) => self.tell(Event::Signal(Signal { chat, sender, device, body })),
            // No news, of a newer version, or nonsense.
            Some(SignalBody::Typing { .. }) | None => {}
        }
    }

    /// A message of somebody has come: what was being written is there.
    pub(super) fn end_typing(&mut self, chat: ChatId, user: UserId) {
        if self.signals.others.remove(&(chat, user)).is_some() {
            self.tell(Event::Typing { chat, user, on: false });
        }
    }

    /// Time has passed.
    pub(super) fn expire_signals(&mut self, now: Duration) {
        while let Some(entry) = self.signals.unanswered.first_entry()
            && entry.get().1 <= now
        {
            let (id, (token, _)) = entry.remove_entry();
            self.signals.waiting.retain(|(waiting, _)| *waiting != id);
            if let Some(token) = token {
                self.reply(token, Err(Error::TimedOut(self.request_patience)));
            }
        }
        let lapsed: Vec<_> = self.signals.others.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key).collect();
        for (chat, user) in lapsed {
            self.end_typing(chat, user);
        }
    }

    /// The connection is gone, and what was to be said on it at once is worth nothing any more.
    pub(super) fn drop_signals(&mut self) {
        self.signals.waiting.clear();
        for (token, _) in core::mem::take(&mut self.signals.unanswered).into_values() {
            if let Some(token) = token {
                self.reply(token, Err(Error::Offline));
            }
        }
        for (chat, user) in core::mem::take(&mut self.signals.others).into_keys() {
            self.tell(Event::Typing { chat, user, on: false });
        }
    }
}
