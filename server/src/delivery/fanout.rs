//! The chat's side of delivery: a record per chat that has work to do.
//!
//! A record is made by a committed message, or at start from the chats marked pending; it goes when every member is
//! durably covered. It holds numbers, not messages: what is sent again is read again.
//!
//! Invariants
//! - `durable <= covered <= sent <= last` for each member.
//! - A chat without a record has every member durably covered up to its last message.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use columba_engine::{
    env::Instant,
    partition::{chat::Chat, command::Progress, effect::StoredMessage, receipt::Member},
};
use columba_wire::{ChatId, MessageSeq, UserId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{ADVANCE_CHATS_MAX, FANOUT_WINDOW, LATE_MAX, RESEND_AFTER};
use crate::core::message::Delivery;

/// The chats with work to do.
#[derive(Default)]
pub(crate) struct Fanout {
    chats: FxHashMap<ChatId, Record>,
    /// Chats whose cursors moved since the last `Advance`.
    moved: BTreeSet<ChatId>,
    /// Chats whose receipts moved since they were last told.
    receipts: BTreeSet<ChatId>,
    /// Delivered watermarks of chats without a record.
    late: BTreeMap<(ChatId, UserId), MessageSeq>,
    /// When to look at a chat again; in order of time, since the wait is the same for all. One entry for each chat of
    /// `checked`, which outlives the chat's record: records come and go faster.
    checks: VecDeque<(Instant, ChatId)>,
    checked: FxHashSet<ChatId>,
}

struct Record {
    last: MessageSeq,
    members: Vec<MemberRecord>,
    /// Whether a read of messages to deliver is under way.
    reading: bool,
}

struct MemberRecord {
    user: UserId,
    durable: MessageSeq,
    covered: MessageSeq,
    sent: MessageSeq,
    delivered: MessageSeq,
    delivered_durable: MessageSeq,
    read: MessageSeq,
    /// When `covered` last moved, or delivery began.
    since: Instant,
}

/// A receipt to tell a member about another.
pub(crate) struct ReceiptFor {
    pub(crate) chat: ChatId,
    pub(crate) to: UserId,
    pub(crate) about: UserId,
    pub(crate) delivered: MessageSeq,
    pub(crate) read: MessageSeq,
}

impl Fanout {
    /// Takes up a pending chat after a start.
    pub(crate) fn resume(&mut self, id: ChatId, chat: &Chat, members: &BTreeMap<UserId, Member>, now: Instant) {
        let members = members
            .iter()
            .map(|(user, member)| MemberRecord {
                user: *user,
                durable: member.covered,
                covered: member.covered,
                sent: member.covered,
                delivered: member.delivered,
                delivered_durable: member.delivered,
                read: member.read,
                since: now,
            })
            .collect();
        self.chats.insert(id, Record { last: chat.last_seq, members, reading: false });
        self.checked.insert(id);
        self.checks.push_back((now, id));
    }

    /// A message was committed: who gets it now. Members that are behind get it later, in order.
    pub(crate) fn handle_committed(
        &mut self,
        chat: ChatId,
        members: [UserId; 2],
        message: &StoredMessage,
        now: Instant,
        deliver: &mut Vec<(UserId, Delivery)>,
    ) {
        let seq = message.seq;
        let record = self.record_with(chat, members, seq, now);
        for member in &mut record.members {
            if member.sent.next() == seq && seq.get() - member.covered.get() <= FANOUT_WINDOW {
                if member.covered == member.sent {
                    member.since = now;
                }
                let fresh = member.covered == member.sent;
                let prev = member.sent;
                member.sent = seq;
                deliver.push((member.user, Delivery { chat, prev, fresh, messages: vec![message.clone()] }));
            }
        }
    }

    /// A message was committed by an earlier run of the node, and is applied once more at the start: what follows in
    /// the log may say that everybody has it. [`Self::behind`] tells in the end who does not.
    pub(crate) fn handle_replayed(&mut self, chat: ChatId, members: [UserId; 2], seq: MessageSeq, now: Instant) {
        self.record_with(chat, members, seq, now);
    }

    /// Chats with members that lack something.
    pub(crate) fn behind(&self) -> BTreeSet<ChatId> {
        let is_behind = |record: &Record| record.members.iter().any(|member| member.sent < record.last);
        self.chats.iter().filter(|(_, record)| is_behind(record)).map(|(chat, _)| *chat).collect()
    }

    /// The chat's record, with the message `seq` in it. Without a record everything before it is durably covered.
    fn record_with(&mut self, chat: ChatId, members: [UserId; 2], seq: MessageSeq, now: Instant) -> &mut Record {
        let (checks, checked) = (&mut self.checks, &mut self.checked);
        let record = self.chats.entry(chat).or_insert_with(|| {
            if checked.insert(chat) {
                checks.push_back((now + RESEND_AFTER, chat));
            }
            let mut users = members.to_vec();
            users.dedup();
            let at = seq.prev();
            let member = |user| MemberRecord {
                user,
                durable: at,
                covered: at,
                sent: at,
                delivered: MessageSeq::ZERO,
                delivered_durable: MessageSeq::ZERO,
                read: MessageSeq::ZERO,
                since: now,
            };
            Record { last: at, members: users.into_iter().map(member).collect(), reading: false }
        });
        record.last = record.last.max(seq);
        record
    }

    /// How far a member has what it was delivered, where this is known better than from the files.
    pub(crate) fn delivered(&self, chat: ChatId, user: UserId) -> MessageSeq {
        let record = self.chats.get(&chat);
        let member = record.and_then(|record| record.members.iter().find(|member| member.user == user));
        let late = self.late.get(&(chat, user)).copied().unwrap_or_default();
        member.map_or(late, |member| member.delivered.max(late))
    }

    /// A member reported how far it is. Returns whether the chat may have more to send.
    pub(crate) fn handle_progress(
        &mut self,
        chat: ChatId,
        user: UserId,
        covered: MessageSeq,
        delivered: MessageSeq,
        now: Instant,
    ) -> bool {
        let Some(record) = self.chats.get_mut(&chat) else {
            // Everything of the chat is durably covered; a device has caught up since. Only `delivered` is news.
            if self.late.len() < LATE_MAX {
                let known = self.late.entry((chat, user)).or_default();
                *known = (*known).max(delivered);
            }
            return false;
        };
        let last = record.last;
        let Some(member) = record.members.iter_mut().find(|member| member.user == user) else {
            return false;
        };
        if covered.min(last) > member.covered {
            member.covered = covered.min(last);
            member.sent = member.sent.max(member.covered);
            member.since = now;
            self.moved.insert(chat);
        }
        if delivered.min(last) > member.delivered {
            member.delivered = delivered.min(last);
            self.moved.insert(chat);
            self.receipts.insert(chat);
        }
        member.sent < last
    }

    /// The member's host lacks what came before: begin again at the cursor. Returns whether there is work.
    pub(crate) fn handle_rewind(&mut self, chat: ChatId, user: UserId) -> bool {
        let Some(record) = self.chats.get_mut(&chat) else {
            return false;
        };
        let last = record.last;
        let Some(member) = record.members.iter_mut().find(|member| member.user == user) else {
            return false;
        };
        member.sent = member.covered;
        member.sent < last
    }

    /// What to read for the members that are behind: the lowest run that any of them lacks.
    pub(crate) fn plan_read(&mut self, chat: ChatId) -> Option<(MessageSeq, MessageSeq)> {
        let record = self.chats.get_mut(&chat)?;
        if record.reading {
            return None;
        }
        let member = record
            .members
            .iter()
            .filter(|member| member.sent < record.last && member.sent.get() - member.covered.get() < FANOUT_WINDOW)
            .min_by_key(|member| member.sent)?;
        let to = record.last.get().min(member.covered.get() + FANOUT_WINDOW);
        record.reading = true;
        Some((member.sent.next(), MessageSeq::new(to)))
    }

    /// What was read, for every member that continues with it. Empty after a failed read. Returns whether there is
    /// more.
    pub(crate) fn handle_read(
        &mut self,
        chat: ChatId,
        messages: &[StoredMessage],
        deliver: &mut Vec<(UserId, Delivery)>,
    ) -> bool {
        let Some(record) = self.chats.get_mut(&chat) else {
            return false;
        };
        record.reading = false;
        let (Some(first), Some(last)) = (messages.first(), messages.last()) else {
            return false;
        };
        for member in &mut record.members {
            if member.sent.next() < first.seq || member.sent >= last.seq {
                continue;
            }
            let until = last.seq.get().min(member.covered.get() + FANOUT_WINDOW);
            let prev = member.sent;
            let wanted = |message: &&StoredMessage| message.seq > prev && message.seq.get() <= until;
            let messages: Vec<_> = messages.iter().filter(wanted).cloned().collect();
            let Some(newest) = messages.last() else {
                continue;
            };
            let fresh = member.covered == member.sent;
            member.sent = newest.seq;
            deliver.push((member.user, Delivery { chat, prev, fresh, messages }));
        }
        record
            .members
            .iter()
            .any(|member| member.sent < record.last && member.sent.get() - member.covered.get() < FANOUT_WINDOW)
    }

    /// The cursors to make durable.
    pub(crate) fn take_moved(&mut self) -> Vec<Progress> {
        let mut items = Vec::new();
        while items.len() < ADVANCE_CHATS_MAX {
            let Some(((chat, user), delivered)) = self.late.pop_first() else {
                break;
            };
            items.push(Progress { chat, user, covered: MessageSeq::ZERO, delivered });
        }
        while items.len() < ADVANCE_CHATS_MAX {
            let Some(chat) = self.moved.pop_first() else {
                break;
            };
            let Some(record) = self.chats.get(&chat) else {
                continue;
            };
            for member in &record.members {
                if member.covered > member.durable || member.delivered > member.delivered_durable {
                    items.push(Progress {
                        chat,
                        user: member.user,
                        covered: member.covered,
                        delivered: member.delivered,
                    });
                }
            }
        }
        items
    }

    /// An `Advance` could not be proposed: the chats are to be tried again.
    pub(crate) fn return_moved(&mut self, items: &[Progress]) {
        for item in items {
            if self.chats.contains_key(&item.chat) {
                self.moved.insert(item.chat);
            } else {
                self.late.insert((item.chat, item.user), item.delivered);
            }
        }
    }

    /// A member's cursor is durable. Returns whether the chat has a record, which then tells the receipts itself.
    pub(crate) fn handle_advanced(
        &mut self,
        chat: ChatId,
        user: UserId,
        covered: MessageSeq,
        delivered: MessageSeq,
    ) -> bool {
        let Some(record) = self.chats.get_mut(&chat) else {
            return false;
        };
        if let Some(member) = record.members.iter_mut().find(|member| member.user == user) {
            member.covered = member.covered.max(covered.min(record.last));
            member.sent = member.sent.max(member.covered);
            member.durable = member.durable.max(covered.min(record.last));
            member.delivered_durable = member.delivered_durable.max(delivered);
        }
        self.forget_if_done(chat);
        true
    }

    fn forget_if_done(&mut self, chat: ChatId) {
        let Some(record) = self.chats.get(&chat) else {
            return;
        };
        let done = record.members.iter().all(|member| member.durable >= record.last);
        if done && !self.moved.contains(&chat) && !self.receipts.contains(&chat) {
            self.chats.remove(&chat);
        }
    }

    /// A member has read further.
    pub(crate) fn handle_read_moved(&mut self, chat: ChatId, user: UserId, read: MessageSeq) {
        if let Some(record) = self.chats.get_mut(&chat)
            && let Some(member) = record.members.iter_mut().find(|member| member.user == user)
        {
            member.read = member.read.max(read);
        }
    }

    /// The receipts to tell.
    pub(crate) fn take_receipts(&mut self) -> Vec<ReceiptFor> {
        let mut out = Vec::new();
        for chat in core::mem::take(&mut self.receipts) {
            let members = self.chats.get(&chat).map_or(&[][..], |record| &record.members);
            for about in members.iter().filter(|member| member.delivered > MessageSeq::ZERO) {
                for to in members.iter().filter(|member| member.user != about.user) {
                    let (delivered, read) = (about.delivered, about.read);
                    out.push(ReceiptFor { chat, to: to.user, about: about.user, delivered, read });
                }
            }
            self.forget_if_done(chat);
        }
        out
    }

    /// Whether receipts wait to be told.
    pub(crate) fn has_receipts(&self) -> bool {
        !self.receipts.is_empty()
    }

    /// Whether cursors wait to be made durable.
    pub(crate) fn has_moved(&self) -> bool {
        !self.moved.is_empty() || !self.late.is_empty()
    }

    /// Chats that are due a look: members that stay uncovered begin again at the cursor. Returns chats to read for.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<ChatId> {
        let mut read = Vec::new();
        while let Some((at, chat)) = self.checks.front().copied() {
            if at > now {
                break;
            }
            self.checks.pop_front();
            let Some(record) = self.chats.get_mut(&chat) else {
                self.checked.remove(&chat);
                continue;
            };
            self.checks.push_back((now + RESEND_AFTER, chat));
            for member in &mut record.members {
                let late = now.saturating_since(member.since) >= RESEND_AFTER;
                if member.covered < member.sent && late {
                    member.sent = member.covered;
                    member.since = now;
                }
            }
            if record.members.iter().any(|member| member.sent < record.last) {
                read.push(chat);
            }
            self.forget_if_done(chat);
        }
        read
    }
}
