//! The chat's side of delivery: a record per chat that has work to do.
//!
//! A record is made by a committed message, or at start from the chats marked pending; it goes when every member is
//! durably covered. It holds numbers, not messages: what is sent again is read again.
//!
//! Invariants
//! - `durable <= covered <= sent <= last` for each member; `last` is the chat's last message, or the last that is for
//!   the member.
//! - Who is let into a group is in the record with the message that says so, and who is put out stays in it until the
//!   message that says so is covered.
//! - What is deleted before a member had it counts as covered, once everything before it is.
//! - A chat without a record has every member durably covered up to its last message.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use columba_engine::{
    env::Instant,
    partition::{
        MessagePage,
        chat::{Chat, Members},
        command::Progress,
        effect::StoredMessage,
        group::Seat,
        receipt::Member,
    },
    planted::{self, Planted},
};
use columba_wire::{ChatId, MessageSeq, UserId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{ADVANCE_CHATS_MAX, FANOUT_WINDOW, LARGE_RESEND_AFTER, LATE_MAX, RESEND_AFTER};
use crate::core::message::Delivery;

/// The chats with work to do.
pub(crate) struct Fanout {
    chats: FxHashMap<ChatId, Record>,
    /// Members from which on a group is a large one.
    hinted_from: usize,
    /// Chats whose cursors moved since the last `Advance`.
    moved: BTreeSet<ChatId>,
    /// The same of large groups, which are made durable less often.
    moved_large: BTreeSet<ChatId>,
    /// Chats whose receipts moved since they were last told.
    receipts: BTreeSet<ChatId>,
    /// Watermarks of chats without a record: delivered, and what every device has. They are proposed before anything
    /// that is covered later.
    late: BTreeMap<(ChatId, UserId), (MessageSeq, MessageSeq)>,
    /// When to look at a chat again; in order of time, since the wait is the same for all. One entry for each chat of
    /// `checked`, which outlives the chat's record: records come and go faster.
    checks: VecDeque<(Instant, ChatId)>,
    checked: FxHashSet<ChatId>,
}

struct Record {
    last: MessageSeq,
    /// Ascending by user.
    members: Vec<MemberRecord>,
    /// The seats that `members` follows, of a group: their receipts are told in another way.
    seats: Option<Arc<[Seat]>>,
    /// Whether it is a group of many.
    is_large: bool,
    /// Whether a read of messages to deliver is under way.
    reading: bool,
}

/// A user, with the first and the last message that is for it.
type Range = (UserId, MessageSeq, MessageSeq);

struct MemberRecord {
    user: UserId,
    /// The message that let it in.
    from: MessageSeq,
    /// The last message that is for it; `MAX` where it is a member.
    until: MessageSeq,
    durable: MessageSeq,
    covered: MessageSeq,
    sent: MessageSeq,
    delivered: MessageSeq,
    delivered_durable: MessageSeq,
    everywhere: MessageSeq,
    everywhere_durable: MessageSeq,
    read: MessageSeq,
    /// When `covered` last moved, or delivery began.
    since: Instant,
}

impl MemberRecord {
    /// Everything up to `at` is durably covered.
    fn new((user, from, until): Range, at: MessageSeq, now: Instant) -> Self {
        Self {
            user,
            from,
            until,
            durable: at,
            covered: at,
            sent: at,
            delivered: MessageSeq::ZERO,
            delivered_durable: MessageSeq::ZERO,
            everywhere: MessageSeq::ZERO,
            everywhere_durable: MessageSeq::ZERO,
            read: MessageSeq::ZERO,
            since: now,
        }
    }

    /// Whether it is a member now.
    fn is_in(&self) -> bool {
        self.until == MessageSeq::MAX
    }

    /// The last message that is for it, in a chat whose last is this.
    fn last(&self, last: MessageSeq) -> MessageSeq {
        self.until.min(last)
    }

    /// Whether it may be sent more now.
    fn wants(&self, last: MessageSeq) -> bool {
        self.sent < self.last(last) && self.sent.get() - self.covered.get() < FANOUT_WINDOW
    }

    /// Whether there is something to make durable.
    fn has_moved(&self) -> bool {
        self.covered > self.durable
            || self.delivered > self.delivered_durable
            || self.everywhere > self.everywhere_durable
    }

    /// What its user's core is told: `messages` behind `prev`, of a chat in which nothing else is under way where it is
    /// `fresh`.
    fn delivery(
        &self,
        chat: ChatId,
        prev: MessageSeq,
        fresh: bool,
        is_large: bool,
        messages: Vec<StoredMessage>,
    ) -> Delivery {
        let (everywhere, hinted) = (self.everywhere, is_large && self.is_in());
        Delivery { chat, prev, everywhere, fresh, from: self.from, until: self.until, hinted, messages }
    }

    fn know_everywhere(&mut self, durable: MessageSeq) {
        self.everywhere = self.everywhere.max(durable);
        self.everywhere_durable = self.everywhere_durable.max(durable);
    }

    /// Takes what was read at `from..page.next`: behind what is deleted once everything before it is covered, and then
    /// what is there, as far as it is dense. Returns the messages and the seq before them.
    fn take_read(&mut self, from: MessageSeq, page: &MessagePage) -> Option<(MessageSeq, Vec<StoredMessage>)> {
        let wanted = self.sent.next();
        if wanted < from || wanted >= page.next {
            return None;
        }
        let above = page.messages.partition_point(|message| message.seq < wanted);
        let rest = &page.messages[above..];
        let first = rest.first().map_or(page.next, |message| message.seq);
        if first > wanted {
            if self.covered < self.sent {
                // What is under way comes first; its acknowledgement, or the next look, leads here again.
                return None;
            }
            self.covered = first.prev().min(self.until);
            self.sent = self.covered;
        }
        let (prev, until) = (self.sent, self.until.get().min(self.covered.get() + FANOUT_WINDOW));
        let dense = (first.get()..=until).zip(rest).take_while(|(seq, message)| message.seq.get() == *seq);
        let messages: Vec<_> = dense.map(|(_, message)| message.clone()).collect();
        self.sent = messages.last().map_or(prev, |newest| newest.seq);
        Some((prev, messages))
    }
}

impl Record {
    fn member(&self, user: UserId) -> Option<&MemberRecord> {
        Some(&self.members[self.place(user)?])
    }

    fn member_mut(&mut self, user: UserId) -> Option<&mut MemberRecord> {
        let place = self.place(user)?;
        Some(&mut self.members[place])
    }

    fn place(&self, user: UserId) -> Option<usize> {
        self.members.binary_search_by_key(&user, |member| member.user).ok()
    }

    /// Takes over who is in by the message `seq`, where that is news.
    fn follow(&mut self, members: &Members, seq: MessageSeq, now: Instant, hinted_from: usize) {
        match (members, &self.seats) {
            (Members::Group(seats), Some(known)) if Arc::ptr_eq(seats, known) => return,
            (Members::Group(seats), _) => self.seats = Some(Arc::clone(seats)),
            (Members::Direct(_), _) if !self.members.is_empty() => return,
            (Members::Direct(_), _) => {}
        }
        self.seat(members, seq, now, hinted_from);
    }

    /// Takes over who is in by the message `seq`. Who comes by it, or is new to the record, has what was before.
    fn seat(&mut self, members: &Members, seq: MessageSeq, now: Instant, hinted_from: usize) {
        self.is_large = members.users().take(hinted_from).count() == hinted_from;
        for range in members.ranges().filter(|(_, _, until)| *until >= seq) {
            let (user, from, until) = range;
            match self.members.binary_search_by_key(&user, |member| member.user) {
                Ok(place) if self.members[place].until < from => {
                    self.members[place] = MemberRecord::new(range, from.prev(), now);
                }
                Ok(place) => self.members[place].until = until,
                Err(place) => {
                    let skips = planted::is(Planted::NewcomerSkipped) && from == seq && seq.get() > 1;
                    let at = if skips { seq } else { seq.prev() };
                    self.members.insert(place, MemberRecord::new(range, at, now));
                }
            }
        }
        if planted::is(Planted::DeliversToRemoved) {
            self.members.iter_mut().for_each(|member| member.until = MessageSeq::MAX);
        }
    }
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
    /// No chats yet. Groups with so many members are large.
    pub(crate) fn new(hinted_from: usize) -> Self {
        Self {
            chats: FxHashMap::default(),
            hinted_from,
            moved: BTreeSet::new(),
            moved_large: BTreeSet::new(),
            receipts: BTreeSet::new(),
            late: BTreeMap::new(),
            checks: VecDeque::new(),
            checked: FxHashSet::default(),
        }
    }

    /// Takes up a pending chat after a start: whom it is for, and how far they are, in the same order.
    pub(crate) fn resume(
        &mut self,
        id: ChatId,
        chat: &Chat,
        of: &Members,
        progress: &[(UserId, Member)],
        now: Instant,
    ) {
        let both = of.ranges().zip(progress);
        // Who has left and has all that was for it is done with.
        let open = both.filter(|((_, _, until), (_, member))| *until == MessageSeq::MAX || member.covered < *until);
        let members: Vec<_> = open
            .map(|(range, (_, member))| MemberRecord {
                delivered: member.delivered,
                delivered_durable: member.delivered,
                everywhere: member.everywhere,
                everywhere_durable: member.everywhere,
                read: member.read,
                ..MemberRecord::new(range, member.covered, now)
            })
            .collect();
        let seats = if let Members::Group(seats) = of { Some(Arc::clone(seats)) } else { None };
        let is_large = members.len() >= self.hinted_from;
        self.chats.insert(id, Record { last: chat.last_seq, members, seats, is_large, reading: false });
        self.checked.insert(id);
        self.checks.push_back((now, id));
    }

    /// A message was committed: who gets it now. Members that are behind get it later, in order.
    pub(crate) fn handle_committed(
        &mut self,
        chat: ChatId,
        members: &Members,
        message: &StoredMessage,
        now: Instant,
        deliver: &mut Vec<(UserId, Delivery)>,
    ) {
        let seq = message.seq;
        let record = self.record_with(chat, members, seq, now);
        let is_large = record.is_large;
        for member in record.members.iter_mut().filter(|member| seq <= member.until) {
            if member.sent.next() == seq && seq.get() - member.covered.get() <= FANOUT_WINDOW {
                if member.covered == member.sent {
                    member.since = now;
                }
                let fresh = member.covered == member.sent;
                let prev = member.sent;
                member.sent = seq;
                deliver.push((member.user, member.delivery(chat, prev, fresh, is_large, vec![message.clone()])));
            }
        }
    }

    /// A message was committed by an earlier run of the node, and is applied once more at the start: what follows in
    /// the log may say that everybody has it. [`Self::behind`] tells in the end who does not.
    pub(crate) fn handle_replayed(&mut self, chat: ChatId, members: &Members, seq: MessageSeq, now: Instant) {
        self.record_with(chat, members, seq, now);
    }

    /// Chats with members that lack something.
    pub(crate) fn behind(&self) -> BTreeSet<ChatId> {
        let is_behind = |record: &Record| record.members.iter().any(|member| member.sent < member.last(record.last));
        self.chats.iter().filter(|(_, record)| is_behind(record)).map(|(chat, _)| *chat).collect()
    }

    /// The chat's record, with the message `seq` in it. Without a record everything before it is durably covered.
    fn record_with(&mut self, chat: ChatId, members: &Members, seq: MessageSeq, now: Instant) -> &mut Record {
        let (checks, checked) = (&mut self.checks, &mut self.checked);
        let record = self.chats.entry(chat).or_insert_with(|| {
            if checked.insert(chat) {
                checks.push_back((now + RESEND_AFTER, chat));
            }
            Record { last: seq.prev(), members: Vec::new(), seats: None, is_large: false, reading: false }
        });
        record.follow(members, seq, now, self.hinted_from);
        record.last = record.last.max(seq);
        record
    }

    /// How far a member has what it was delivered, where this is known better than from the files.
    pub(crate) fn delivered(&self, chat: ChatId, user: UserId) -> MessageSeq {
        let record = self.chats.get(&chat);
        let member = record.and_then(|record| record.member(user));
        let (late, _) = self.late.get(&(chat, user)).copied().unwrap_or_default();
        member.map_or(late, |member| member.delivered.max(late))
    }

    /// A member reported how far it is. Returns whether the chat may have more to send.
    pub(crate) fn handle_progress(
        &mut self,
        chat: ChatId,
        user: UserId,
        covered: MessageSeq,
        delivered: MessageSeq,
        everywhere: MessageSeq,
        now: Instant,
    ) -> bool {
        let found = self.chats.get_mut(&chat).and_then(|record| Some((record.place(user)?, record)));
        let Some((place, record)) = found else {
            // Everything of the chat that is for the member is durably covered; a device has caught up since. `covered`
            // is no news.
            self.note_late(chat, user, delivered, everywhere);
            return false;
        };
        let moved = if record.is_large { &mut self.moved_large } else { &mut self.moved };
        let is_group = record.seats.is_some();
        let member = &mut record.members[place];
        let last = member.last(record.last);
        if covered.min(last) > member.covered {
            member.covered = covered.min(last);
            member.sent = member.sent.max(member.covered);
            member.since = now;
            moved.insert(chat);
        }
        if delivered.min(last) > member.delivered {
            member.delivered = delivered.min(last);
            moved.insert(chat);
            if !is_group {
                self.receipts.insert(chat);
            }
        }
        if everywhere.min(last) > member.everywhere {
            member.everywhere = everywhere.min(last);
            moved.insert(chat);
        }
        member.sent < last
    }

    /// All of a member's devices have what it is covered for.
    pub(crate) fn handle_settled(&mut self, chat: ChatId, user: UserId) {
        let found = self.chats.get_mut(&chat).and_then(|record| Some((record.place(user)?, record)));
        let Some((place, record)) = found else {
            // What it is durably covered for is in the chat's row, and bounds this when it is applied. Nothing that is
            // covered later is proposed before it.
            return self.note_late(chat, user, MessageSeq::ZERO, MessageSeq::MAX);
        };
        let moved = if record.is_large { &mut self.moved_large } else { &mut self.moved };
        let member = &mut record.members[place];
        if member.covered > member.everywhere {
            member.everywhere = member.covered;
            moved.insert(chat);
        }
    }

    fn note_late(&mut self, chat: ChatId, user: UserId, delivered: MessageSeq, everywhere: MessageSeq) {
        if self.late.len() < LATE_MAX {
            let known = self.late.entry((chat, user)).or_default();
            *known = (known.0.max(delivered), known.1.max(everywhere));
        }
    }

    /// The member's host lacks what came before: begin again at the cursor. Returns whether there is work.
    pub(crate) fn handle_rewind(&mut self, chat: ChatId, user: UserId) -> bool {
        let Some(record) = self.chats.get_mut(&chat) else {
            return false;
        };
        let last = record.last;
        let Some(member) = record.member_mut(user) else {
            return false;
        };
        member.sent = member.covered;
        member.sent < member.last(last)
    }

    /// What to read for the members that are behind: the lowest run that any of them lacks.
    pub(crate) fn plan_read(&mut self, chat: ChatId) -> Option<(MessageSeq, MessageSeq)> {
        let record = self.chats.get_mut(&chat)?;
        if record.reading {
            return None;
        }
        let behind = record.members.iter().filter(|member| member.wants(record.last));
        let member = behind.min_by_key(|member| member.sent)?;
        let to = member.last(record.last).get().min(member.covered.get() + FANOUT_WINDOW);
        record.reading = true;
        Some((member.sent.next(), MessageSeq::new(to)))
    }

    /// What was read at `from..page.next`, for every member that continues with it. Nothing after a failed read.
    /// Returns whether there is more that may be read now.
    pub(crate) fn handle_read(
        &mut self,
        chat: ChatId,
        from: MessageSeq,
        page: &MessagePage,
        deliver: &mut Vec<(UserId, Delivery)>,
    ) -> bool {
        let Some(record) = self.chats.get_mut(&chat) else {
            return false;
        };
        record.reading = false;
        let is_large = record.is_large;
        let mut any = false;
        for member in &mut record.members {
            let covered = member.covered;
            let fresh = member.covered == member.sent;
            let Some((prev, messages)) = member.take_read(from, page) else {
                continue;
            };
            any = true;
            if member.covered > covered {
                self.moved.insert(chat);
            }
            if !messages.is_empty() {
                deliver.push((member.user, member.delivery(chat, prev, fresh, is_large, messages)));
            }
        }
        any && record.members.iter().any(|member| member.wants(record.last))
    }

    /// The cursors to make durable.
    pub(crate) fn take_moved(&mut self) -> Vec<Progress> {
        let mut items = Vec::new();
        while items.len() < ADVANCE_CHATS_MAX {
            let Some(((chat, user), (delivered, everywhere))) = self.late.pop_first() else {
                break;
            };
            items.push(Progress { chat, user, covered: MessageSeq::ZERO, delivered, everywhere });
        }
        while items.len() < ADVANCE_CHATS_MAX {
            let Some(chat) = self.moved.pop_first() else {
                break;
            };
            let Some(record) = self.chats.get(&chat) else {
                continue;
            };
            for member in &record.members {
                if member.has_moved() {
                    items.push(Progress {
                        chat,
                        user: member.user,
                        covered: member.covered,
                        delivered: member.delivered,
                        everywhere: member.everywhere,
                    });
                }
            }
        }
        items
    }

    /// An `Advance` could not be proposed: the chats are to be tried again.
    pub(crate) fn return_moved(&mut self, items: &[Progress]) {
        for item in items {
            // Of a late one `covered` is no news, though there may be a record by now.
            if item.covered == MessageSeq::ZERO {
                self.note_late(item.chat, item.user, item.delivered, item.everywhere);
            } else if self.chats.contains_key(&item.chat) {
                self.moved.insert(item.chat);
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
        everywhere: MessageSeq,
    ) -> bool {
        let Some(record) = self.chats.get_mut(&chat) else {
            return false;
        };
        let last = record.last;
        if let Some(member) = record.member_mut(user) {
            let covered = covered.min(member.last(last));
            member.covered = member.covered.max(covered);
            member.sent = member.sent.max(member.covered);
            member.durable = member.durable.max(covered);
            member.delivered_durable = member.delivered_durable.max(delivered);
            member.know_everywhere(everywhere);
        }
        self.forget_if_done(chat);
        true
    }

    /// What every device of the members has, by the files.
    pub(crate) fn know_everywhere(&mut self, chat: ChatId, progress: &[(UserId, Member)]) {
        let Some(record) = self.chats.get_mut(&chat) else {
            return;
        };
        for (user, known) in progress {
            if let Some(member) = record.member_mut(*user) {
                member.know_everywhere(known.everywhere);
            }
        }
    }

    fn forget_if_done(&mut self, chat: ChatId) {
        let Some(record) = self.chats.get(&chat) else {
            return;
        };
        let done = record.members.iter().all(|member| member.durable >= member.last(record.last));
        let is_moved = self.moved.contains(&chat) || self.moved_large.contains(&chat);
        if done && !is_moved && !self.receipts.contains(&chat) {
            self.chats.remove(&chat);
        }
    }

    /// A member has read further.
    pub(crate) fn handle_read_moved(&mut self, chat: ChatId, user: UserId, read: MessageSeq) {
        if let Some(record) = self.chats.get_mut(&chat)
            && let Some(member) = record.member_mut(user)
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

    /// The cursors of large groups are due too.
    pub(crate) fn release_large(&mut self) {
        self.moved.append(&mut self.moved_large);
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
            let resend_after = if record.is_large { LARGE_RESEND_AFTER } else { RESEND_AFTER };
            for member in &mut record.members {
                let late = now.saturating_since(member.since) >= resend_after;
                if member.covered < member.sent && late {
                    member.sent = member.covered;
                    member.since = now;
                }
            }
            if record.members.iter().any(|member| member.sent < member.last(record.last)) {
                read.push(chat);
            }
            self.forget_if_done(chat);
        }
        read
    }
}
