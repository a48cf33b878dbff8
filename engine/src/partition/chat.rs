//! Chats and their messages: the dense seq is given here, and nowhere else.
//!
//! A row holds everything of a chat but its messages: how far its members are, and what their devices sent last. A send
//! then looks at one place in memory, or reads one row.
//!
//! Invariants
//! - A chat's messages are `1..=last_seq`, each given once; their times never step back.
//! - `deleted_up_to <= last_seq`; it and `expired_before_ms` only grow.
//! - A chat is `pending`, and has a [`Pending`] row, as long as some member's fan-out cursor is below `last_seq`.

use std::sync::Arc;

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, Code, DeviceAddress, MessageSeq, UserId};

use super::{
    State,
    codec::{Put as _, Take},
    dedup::{Accepted, Known, LONG_WINDOWS_MAX, SENDERS_MAX, Sender, SenderId, WINDOWS_BYTES_MAX},
    effect::{Effect, Effects, Outcome, StoredMessage},
    group::{GROUP_BYTES_MAX, Group, GroupChange, Invite, Look, Role, Seat, not_there},
    receipt::{Member, put_member, take_member},
    retention::{Retention, put_retention_and_timer, take_retention_and_timer},
    rows::{Layer, Row, RowMap},
};
use crate::{
    error::Result,
    limits::VALUE_BYTES_MAX,
    message::{MessageKind, timed_body},
    planted::{self, Planted},
};

/// A chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chat {
    /// Seq of the newest message.
    pub last_seq: MessageSeq,
    /// Its time, milliseconds since 1970: no later message of the chat has a lower one, whatever clocks say.
    pub last_time_ms: u64,
    /// When its first message came, milliseconds since 1970.
    pub created_ms: u64,
    /// Whether the fan-out has work to do.
    pub pending: bool,
    /// How long its messages are kept; `None`: as the partition says.
    pub retention: Option<Retention>,
    /// Seconds after which what is written now disappears; 0: never.
    pub timer_s: u32,
    /// Messages up to here are deleted: every device of every member has them.
    pub deleted_up_to: MessageSeq,
    /// Messages before this are deleted, whatever retention says now.
    pub(super) expired_before_ms: u64,
}

/// Whom a chat's messages are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// Both users of a 1:1 chat, lower id first; twice the same in a chat with oneself.
    Direct([UserId; 2]),
    /// The seats of a group, ascending by user: its members, and some that have left.
    Group(Arc<[Seat]>),
}

impl Members {
    /// Each user with the first and the last message that is for it.
    pub fn ranges(&self) -> impl Iterator<Item = (UserId, MessageSeq, MessageSeq)> {
        let (direct, group) = match self {
            Self::Direct([low, high]) if low == high => (core::slice::from_ref(low), &[][..]),
            Self::Direct(both) => (&both[..], &[][..]),
            Self::Group(seats) => (&[][..], &seats[..]),
        };
        let direct = direct.iter().map(|user| (*user, MessageSeq::new(1), MessageSeq::MAX));
        direct.chain(group.iter().map(|seat| (seat.user, seat.from, seat.until)))
    }

    /// Those who are members now.
    pub fn users(&self) -> impl Iterator<Item = UserId> {
        self.ranges().filter(|(_, _, until)| *until == MessageSeq::MAX).map(|(user, _, _)| user)
    }
}

/// A chat as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatView {
    /// The chat.
    pub chat: Chat,
    /// The first message that is for the member.
    pub from: MessageSeq,
    /// Those who are members now, each with how far it is.
    pub members: Vec<(UserId, Member)>,
    /// What a group has beside.
    pub group: Option<(Look, Arc<[Seat]>)>,
    /// Its link, where there is one and the member may know it.
    pub invite: Option<Invite>,
}

/// Whom a member of a chat reaches now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Whom the chat's messages are for.
    pub members: Members,
    /// Whether the member may write: neither a block nor its role in a group for announcements forbids it.
    pub may_write: bool,
    /// Whether the other one of a 1:1 chat is deleted.
    pub is_alone: bool,
}

/// A chat with what belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct ChatRow {
    pub(crate) chat: Chat,
    people: People,
    /// Which of a 1:1 chat's users have blocked the other, in their order: then nobody sends.
    blocked: [bool; 2],
    /// Which of them are deleted: then nobody sends either.
    gone: [bool; 2],
    /// Devices that have sent to it, in order of their first message.
    senders: Vec<Sender>,
}

/// The members of a chat, and how far they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum People {
    /// Both users, lower id first, and in their order how far they are; of a chat with oneself the second is not used.
    Direct([UserId; 2], [Member; 2]),
    Group(Box<Group>),
}

const _: () = assert!(WINDOWS_BYTES_MAX + GROUP_BYTES_MAX + 256 <= VALUE_BYTES_MAX, "a chat is one row");

/// Marks a chat whose fan-out has work to do, so that a new leader finds it without reading every chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending;

impl ChatRow {
    pub(super) fn new(people: People, created_ms: u64) -> Self {
        let chat = Chat {
            last_seq: MessageSeq::ZERO,
            last_time_ms: created_ms,
            created_ms,
            pending: false,
            retention: None,
            timer_s: 0,
            deleted_up_to: MessageSeq::ZERO,
            expired_before_ms: 0,
        };
        Self { chat, people, blocked: [false; 2], gone: [false; 2], senders: Vec::new() }
    }

    /// Whom its messages are for.
    pub(crate) fn members(&self) -> Members {
        match &self.people {
            People::Direct(users, _) => Members::Direct(*users),
            People::Group(group) => Members::Group(Arc::clone(&group.seats)),
        }
    }

    pub(crate) fn group(&self) -> Option<&Group> {
        match &self.people {
            People::Direct(..) => None,
            People::Group(group) => Some(group),
        }
    }

    pub(super) fn group_mut(&mut self) -> Option<&mut Group> {
        match &mut self.people {
            People::Direct(..) => None,
            People::Group(group) => Some(group),
        }
    }

    /// Whether one of a 1:1 chat's users has blocked the other.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked != [false; 2]
    }

    /// Whether one of a 1:1 chat's users is deleted.
    pub(crate) fn has_gone(&self) -> bool {
        self.gone != [false; 2]
    }

    /// A user of a 1:1 chat is deleted: it has what it is covered for. Whether nobody is left.
    pub(super) fn leave(&mut self, user: UserId) -> bool {
        let People::Direct(users, progress) = &mut self.people else {
            return false;
        };
        for place in (0..2).filter(|place| users[*place] == user) {
            self.gone[place] = true;
            progress[place].everywhere = progress[place].covered;
        }
        self.gone == [true; 2]
    }

    /// The first message that is for a member; `None` where the user is none. A 1:1 chat without a message is not
    /// there for anybody: its row may only say that one has blocked the other.
    pub(crate) fn first_of(&self, user: UserId) -> Option<MessageSeq> {
        match &self.people {
            People::Direct(users, _) => {
                (self.chat.last_seq > MessageSeq::ZERO && users.contains(&user)).then_some(MessageSeq::new(1))
            }
            People::Group(group) => group.member(user).map(|seat| seat.from),
        }
    }

    /// The chat as a member sees it; `None` where the user is none.
    pub(crate) fn view_of(&self, user: UserId) -> Option<ChatView> {
        let from = self.first_of(user)?;
        let members = self.members().users().filter_map(|user| Some((user, *self.member(user)?))).collect();
        let group = self.group().map(|group| (group.look.clone(), Arc::clone(&group.seats)));
        let invite = self.group().and_then(|group| group.invite_for(user));
        Some(ChatView { chat: self.chat, from, members, group, invite })
    }

    /// Whom a member reaches; `None` where the user is none.
    pub(crate) fn reach_of(&self, user: UserId) -> Option<Reach> {
        self.first_of(user)?;
        let may_write = match self.group() {
            None => !self.is_blocked(),
            Some(group) => !group.look.announcements || group.member(user)?.role >= Role::Admin,
        };
        Some(Reach { members: self.members(), may_write, is_alone: self.has_gone() })
    }

    /// Whether a user of a 1:1 chat may change it so: the timer alone.
    pub(super) fn consider_timer(&self, user: UserId, change: GroupChange) -> core::result::Result<GroupChange, Code> {
        if self.first_of(user).is_none() || !matches!(change, GroupChange::SetTimer(_)) {
            return Err(not_there(&change));
        }
        if self.has_gone() {
            return Err(Code::UnknownUser);
        }
        if self.is_blocked() { Err(Code::NotAllowed) } else { Ok(change) }
    }

    /// How far somebody is who is a member, or was one not long ago; `None` where the user is neither.
    pub(crate) fn member(&self, user: UserId) -> Option<&Member> {
        match &self.people {
            People::Direct(users, progress) => Some(&progress[place_in(users, user)?]),
            People::Group(group) => Some(group.progress(group.place_of(user)?)),
        }
    }

    /// How far all are whom its messages are for, in the order of [`Members::ranges`].
    pub(crate) fn progress(&self) -> Vec<(UserId, Member)> {
        self.members().ranges().filter_map(|(user, ..)| Some((user, *self.member(user)?))).collect()
    }

    /// The same, to be changed.
    pub(crate) fn member_mut(&mut self, user: UserId) -> Option<&mut Member> {
        match &mut self.people {
            People::Direct(users, progress) => Some(&mut progress[place_in(users, user)?]),
            People::Group(group) => {
                let place = group.place_of(user)?;
                Some(group.progress_mut(place))
            }
        }
    }

    /// The last message that is for somebody, of those there are.
    pub(super) fn last_of(&self, user: UserId) -> MessageSeq {
        let seat = self.group().and_then(|group| Some(&group.seats[group.place_of(user)?]));
        seat.map_or(self.chat.last_seq, |seat| seat.until.min(self.chat.last_seq))
    }

    /// How far all are by this measure.
    pub(crate) fn lowest(&self, measure: impl Fn(&Member) -> MessageSeq) -> MessageSeq {
        match &self.people {
            // In a chat with oneself the first is used alone.
            People::Direct([low, high], [first, _]) if low == high => measure(first),
            People::Direct(_, [first, second]) => measure(first).min(measure(second)),
            People::Group(group) => group.lowest(self.chat.last_seq, measure),
        }
    }

    fn sender_id(&self, sender: DeviceAddress) -> Option<SenderId> {
        let member = match &self.people {
            People::Direct(users, _) => u32::try_from(place_in(users, sender.user)?).expect("two"),
            People::Group(group) => group.seats[group.place_of(sender.user)?].number,
        };
        Some(SenderId { member, device: sender.device })
    }

    fn known(&self, sender: SenderId, client_seq: ClientSeq) -> Known {
        self.senders.iter().find(|known| known.id == sender).map_or(Known::New, |known| known.known(client_seq))
    }

    /// What a send is answered that was carried out before, or may have been.
    pub(super) fn sent_before(&self, sender: DeviceAddress, client_seq: ClientSeq) -> Option<Outcome> {
        match self.known(self.sender_id(sender)?, client_seq) {
            Known::New => None,
            Known::Stored { .. } if planted::is(Planted::DuplicateStored) => None,
            Known::Stored { seq, time_ms } => Some(Outcome::Sent { seq, time_ms, duplicate: true }),
            Known::Forgotten => Some(Outcome::Refused(Code::ClientSeqTooOld)),
        }
    }

    fn remember(&mut self, sender: SenderId, accepted: Accepted) {
        let Some(known) = self.senders.iter_mut().find(|known| known.id == sender) else {
            if self.senders.len() == SENDERS_MAX {
                let oldest = self.senders.iter().enumerate().min_by_key(|(_, known)| known.last_seq());
                let (oldest, _) = oldest.expect("there are many");
                self.senders.remove(oldest);
            }
            // One device in the mean, and seldom many: no room for four at once.
            self.senders.reserve_exact(1);
            self.senders.push(Sender::new(sender, accepted));
            return;
        };
        let was_long = known.is_long();
        known.remember(accepted);
        if !was_long && self.senders.len() > LONG_WINDOWS_MAX {
            let long = || self.senders.iter().enumerate().filter(|(_, known)| known.is_long());
            if long().count() > LONG_WINDOWS_MAX {
                let (oldest, _) = long().min_by_key(|(_, known)| known.last_seq()).expect("there are many");
                self.senders[oldest].cut();
            }
        }
    }

    /// Nothing is known any more of what devices of these members of a group have sent.
    pub(super) fn forget_members(&mut self, numbers: &[u32]) {
        if !numbers.is_empty() {
            self.senders.retain(|known| !numbers.contains(&known.id.member));
        }
    }

    /// The planted bug `ApplyTwice`: nothing is known of what the device has sent.
    pub(super) fn forget(&mut self, sender: DeviceAddress) {
        let id = self.sender_id(sender);
        self.senders.retain(|known| Some(known.id) != id);
    }
}

fn place_in(users: &[UserId; 2], user: UserId) -> Option<usize> {
    users.iter().position(|member| *member == user)
}

impl Row for ChatRow {
    const KIND: u8 = 0x40;
    type Key = ChatId;

    fn map(layer: &Layer) -> &RowMap<Self> {
        &layer.chats
    }

    fn map_mut(layer: &mut Layer) -> &mut RowMap<Self> {
        &mut layer.chats
    }

    fn variable_bytes(&self) -> usize {
        let windows: usize = self.senders.iter().map(Sender::heap_bytes).sum();
        let group = self.group().map_or(0, Group::heap_bytes);
        self.senders.capacity() * size_of::<Sender>() + windows + group
    }

    fn encode_key(key: &ChatId, out: &mut Vec<u8>) {
        out.put_chat(*key);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let Self { chat, people, blocked, gone, senders } = self;
        let is_hidden =
            matches!(people, People::Direct(_, both) if both.iter().any(|member| member.shown < member.read));
        let [first, second] = *gone;
        let is_kept_otherwise = chat.retention.is_some() || chat.timer_s != 0;
        let flags = [chat.pending, is_kept_otherwise, self.group().is_some(), blocked[0], blocked[1], is_hidden];
        let flags = flags.into_iter().chain([first, second]);
        out.put_u8(flags.rev().fold(0, |bits, flag| bits << 1 | u8::from(flag)));
        out.put_varint(chat.last_seq.get());
        out.put_varint(chat.created_ms);
        out.put_varint(chat.last_time_ms - chat.created_ms);
        if is_kept_otherwise {
            put_retention_and_timer(chat.retention, chat.timer_s, out);
        }
        out.put_varint(chat.deleted_up_to.get());
        out.put_varint(chat.expired_before_ms);
        match people {
            People::Direct(users, progress) => {
                users.iter().for_each(|user| out.put_user(*user));
                progress.iter().for_each(|member| put_member(member, out));
                if is_hidden {
                    progress.iter().for_each(|member| out.put_varint(member.shown.get()));
                }
            }
            People::Group(group) => group.encode(out),
        }
        senders.iter().for_each(|sender| sender.encode(chat.last_time_ms, out));
    }

    fn decode(value: Bytes) -> Result<Self> {
        let mut take = Take::new(value, "chat row");
        let flags = take.take_u8()?;
        let (is_group, blocked) = (flags & 4 == 4, [flags & 8 == 8, flags & 16 == 16]);
        let gone = [flags & 64 == 64, flags & 128 == 128];
        if is_group && flags & (8 | 16 | 32 | 64 | 128) != 0 {
            return Err(take.malformed("a group has a flag of 1:1 chats"));
        }
        let (last_seq, created_ms) = (take.take_short_seq()?, take.take_varint()?);
        let last_time_ms = created_ms.checked_add(take.take_varint()?);
        let last_time_ms = last_time_ms.ok_or_else(|| take.malformed("a time overflows"))?;
        let (retention, timer_s) = if flags & 2 == 2 { take_retention_and_timer(&mut take)? } else { (None, 0) };
        let chat = Chat {
            last_seq,
            last_time_ms,
            created_ms,
            pending: flags & 1 == 1,
            retention,
            timer_s,
            deleted_up_to: take.take_short_seq()?,
            expired_before_ms: take.take_varint()?,
        };
        let people = if is_group {
            People::Group(Box::new(Group::take(&mut take, last_seq)?))
        } else {
            let users = [take.take_user()?, take.take_user()?];
            let mut both = [take_member(&mut take)?, take_member(&mut take)?];
            if flags & 32 == 32 {
                for member in &mut both {
                    member.shown = take.take_short_seq()?;
                    if member.shown > member.read {
                        return Err(take.malformed("more is shown than read"));
                    }
                }
            }
            People::Direct(users, both)
        };
        let mut senders: Vec<Sender> = Vec::new();
        while !take.is_empty() {
            let sender = Sender::take(&mut take, last_seq, last_time_ms)?;
            if senders.iter().any(|known| known.id == sender.id) {
                return Err(take.malformed("a sender is there twice"));
            }
            senders.push(sender);
        }
        Ok(Self { chat, people, blocked, gone, senders })
    }
}

impl Row for Pending {
    const KIND: u8 = 0x43;
    type Key = ChatId;

    fn map(layer: &Layer) -> &RowMap<Self> {
        &layer.pending
    }

    fn map_mut(layer: &mut Layer) -> &mut RowMap<Self> {
        &mut layer.pending
    }

    fn encode_key(key: &ChatId, out: &mut Vec<u8>) {
        out.put_chat(*key);
    }

    fn encode(&self, _out: &mut Vec<u8>) {}

    fn decode(value: Bytes) -> Result<Self> {
        Take::new(value, "pending row").finish()?;
        Ok(Self)
    }
}

/// The fields of a send.
pub(super) struct SendFields {
    pub(super) chat: ChatId,
    pub(super) peer: Option<UserId>,
    pub(super) sender: DeviceAddress,
    pub(super) client_seq: ClientSeq,
    pub(super) time_ms: u64,
    pub(super) body: Bytes,
}

/// A message without its place.
pub(super) struct NewMessage {
    pub(super) chat: ChatId,
    pub(super) sender: DeviceAddress,
    pub(super) client_seq: ClientSeq,
    pub(super) time_ms: u64,
    pub(super) kind: MessageKind,
    pub(super) body: Bytes,
}

impl State {
    pub(super) fn apply_send(&mut self, send: SendFields, effects: &mut Effects) -> Outcome {
        let SendFields { chat, peer, sender, client_seq, time_ms, body } = send;
        match (self.edit::<ChatRow>(chat), peer) {
            (Some(row), None) => {
                let Some(group) = row.group() else {
                    return Outcome::Refused(Code::UnknownChat);
                };
                let seat = group.member(sender.user).copied();
                let is_open = !group.look.announcements;
                if let Some(known) = row.sent_before(sender, client_seq) {
                    return known;
                }
                match seat {
                    None => return Outcome::Refused(Code::UnknownChat),
                    Some(seat) if seat.role < Role::Admin && !is_open => return Outcome::Refused(Code::NotAllowed),
                    Some(_) => {}
                }
            }
            (None, None) => return Outcome::Refused(Code::UnknownChat),
            (found, Some(peer)) => {
                let users = if sender.user <= peer { [sender.user, peer] } else { [peer, sender.user] };
                // A chat that is there has the members that its id is made from.
                let is_theirs = match found {
                    Some(row) => row.members() == Members::Direct(users),
                    None => ChatId::direct(sender.user, peer) == chat,
                };
                if !is_theirs {
                    return Outcome::Refused(Code::UnknownChat);
                }
                let people = People::Direct(users, [Member::default(); 2]);
                let row = found.get_or_insert_with(|| ChatRow::new(people, time_ms));
                if let Some(known) = row.sent_before(sender, client_seq) {
                    return known;
                }
                if row.has_gone() {
                    return Outcome::Refused(Code::UnknownUser);
                }
                if row.is_blocked() && !planted::is(Planted::BlockIgnored) {
                    return Outcome::Refused(Code::NotAllowed);
                }
            }
        }
        self.store_message(NewMessage { chat, sender, client_seq, time_ms, kind: MessageKind::Client, body }, effects)
    }

    /// Both users exist, and are not the same.
    pub(super) fn apply_block_chat(&mut self, by: UserId, other: UserId, blocked: bool, time_ms: u64) -> Outcome {
        if by == other {
            return Outcome::Refused(Code::InvalidArgument);
        }
        let users = if by <= other { [by, other] } else { [other, by] };
        let row = self.edit::<ChatRow>(ChatId::direct(by, other));
        if row.is_none() && !blocked {
            return Outcome::Done;
        }
        let people = People::Direct(users, [Member::default(); 2]);
        let row = row.get_or_insert_with(|| ChatRow::new(people, time_ms));
        row.blocked[place_in(&users, by).expect("one of them")] = blocked;
        Outcome::Done
    }

    /// Gives a message the chat's next seq, and a client's the chat's timer. Its sender is one of the chat's, and has
    /// not sent it before.
    pub(super) fn store_message(&mut self, message: NewMessage, effects: &mut Effects) -> Outcome {
        let NewMessage { chat, sender, client_seq, time_ms, kind, body } = message;
        let row = self.edit::<ChatRow>(chat).as_mut().expect("it is there");
        let sender_id = row.sender_id(sender).expect("the sender is a member");
        let mut seq = row.chat.last_seq.next();
        if planted::is(Planted::SeqReused) && seq.get().is_multiple_of(7) {
            seq = row.chat.last_seq;
        }
        row.chat.last_seq = seq;
        let (kind, body) = match (kind, row.chat.timer_s) {
            (MessageKind::Client, timer_s @ 1..) => (MessageKind::Timed, timed_body(timer_s, &body)),
            (kind, _) => (kind, body),
        };
        // Files hold messages by time, and are read by seq: both must grow together.
        let time_ms = time_ms.max(row.chat.last_time_ms);
        row.chat.last_time_ms = time_ms;
        let was_pending = core::mem::replace(&mut row.chat.pending, true);
        let before = row.variable_bytes();
        row.remember(sender_id, Accepted { client_seq, seq, time_ms });
        let (after, members) = (row.variable_bytes(), row.members());
        self.active.count_change(before, after + core::mem::take(&mut self.uncounted_bytes));
        if !was_pending {
            self.active.insert::<Pending>(chat, Some(Pending));
        }

        let message = StoredMessage { seq, sender, client_seq, time_ms, kind, body };
        self.active.messages.push(chat, &message);
        effects.effects.push(Effect::Committed { chat, members, message });
        Outcome::Sent { seq, time_ms, duplicate: false }
    }
}

#[cfg(test)]
mod tests {
    use columba_wire::DeviceId;

    use super::*;

    fn row() -> ChatRow {
        let user = |n| UserId::from_bytes([n; 16]);
        let people = People::Direct([user(1), user(2)], [Member::default(); 2]);
        let mut row = ChatRow::new(people, 1_790_000_000_000);
        for seq in 1..200u64 {
            let sender = DeviceAddress { user: user(1 + u8::from(seq % 3 == 0)), device: DeviceId::FIRST };
            row.chat.last_seq = MessageSeq::new(seq);
            row.chat.last_time_ms += 3_000 + seq % 5 * 100;
            let (seq, time_ms) = (row.chat.last_seq, row.chat.last_time_ms);
            let sender = row.sender_id(sender).unwrap();
            row.remember(sender, Accepted { client_seq: ClientSeq::new(seq.get()), seq, time_ms });
        }
        row.chat.retention = Some(Retention::History { days: Some(9) });
        row.chat.timer_s = 3600;
        row.member_mut(user(2)).unwrap().covered = MessageSeq::new(190);
        row.member_mut(user(1)).unwrap().read = MessageSeq::new(150);
        row.member_mut(user(1)).unwrap().shown = MessageSeq::new(120);
        row.blocked[1] = true;
        row
    }

    fn encoded(row: &ChatRow) -> Vec<u8> {
        let mut out = Vec::new();
        row.encode(&mut out);
        out
    }

    #[test]
    fn a_retry_is_known_after_the_chat_was_in_files() {
        let row = row();
        let again = ChatRow::decode(encoded(&row).into()).unwrap();
        assert_eq!((again.chat, &again.people, again.blocked), (row.chat, &row.people, row.blocked));
        assert_eq!(encoded(&again), encoded(&row));
        for (found, kept) in again.senders.iter().zip(&row.senders) {
            for seq in 1..201 {
                let client_seq = ClientSeq::new(seq);
                assert_eq!(again.known(found.id, client_seq), row.known(kept.id, client_seq));
            }
        }
    }

    #[test]
    fn a_row_that_is_cut_is_malformed_or_has_fewer_senders() {
        let bytes = encoded(&row());
        for len in 0..bytes.len() {
            let found = ChatRow::decode(Bytes::copy_from_slice(&bytes[..len]));
            assert!(found.is_err() || found.unwrap().senders.len() < 2, "{len} bytes");
        }
    }

    #[test]
    fn a_chat_without_a_message_reaches_nobody_and_a_block_stops_both() {
        let user = |n| UserId::from_bytes([n; 16]);
        let mut row = row();
        let reach = |row: &ChatRow, n| row.reach_of(user(n)).map(|reach| (reach.members, reach.may_write));
        let both = Members::Direct([user(1), user(2)]);
        for n in [1, 2] {
            assert_eq!(reach(&row, n), Some((both.clone(), false)));
        }
        row.blocked = [false; 2];
        assert_eq!(reach(&row, 1), Some((both, true)));
        assert_eq!(reach(&row, 3), None);
        row.chat.last_seq = MessageSeq::ZERO;
        assert_eq!(reach(&row, 1), None, "there is a row, and no chat");
    }

    #[test]
    fn in_a_chat_with_oneself_there_is_one_member() {
        let user = UserId::from_bytes([1; 16]);
        let mut row = ChatRow::new(People::Direct([user; 2], [Member::default(); 2]), 5);
        row.member_mut(user).unwrap().covered = MessageSeq::new(1);
        assert_eq!(row.lowest(|member| member.covered), MessageSeq::new(1));
    }
}
