//! Chats and their messages: the dense seq is given here, and nowhere else.
//!
//! A row holds everything of a chat but its messages: how far its members are, and what their devices sent last. A send
//! then looks at one place in memory, or reads one row.
//!
//! Invariants
//! - A chat's messages are `1..=last_seq`, each given once; their times never step back.
//! - `deleted_up_to <= last_seq`; it and `expired_before_ms` only grow.
//! - A chat is `pending`, and has a [`Pending`] row, as long as some member's fan-out cursor is below `last_seq`.

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, Code, DeviceAddress, MessageSeq, UserId};

use super::{
    State,
    codec::{Put as _, Take},
    dedup::{Accepted, Known, Sender, SenderId},
    effect::{Effect, Effects, Outcome, StoredMessage},
    receipt::{Member, put_member, take_member},
    retention::{Retention, put_retention, take_retention},
    rows::{Layer, Row, RowMap},
};
use crate::{
    error::Result,
    planted::{self, Planted},
};

/// A 1:1 chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chat {
    /// Both members, lower id first; twice the same in a chat with oneself.
    pub members: [UserId; 2],
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
    /// Messages up to here are deleted: every device of every member has them.
    pub deleted_up_to: MessageSeq,
    /// Messages before this are deleted, whatever retention says now.
    pub(super) expired_before_ms: u64,
}

/// A chat with what belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct ChatRow {
    pub(crate) chat: Chat,
    /// How far its members are, in their order; of a chat with oneself the second is not used.
    progress: [Member; 2],
    /// Devices that have sent to it, in order of their first message.
    senders: Vec<Sender>,
}

/// Marks a chat whose fan-out has work to do, so that a new leader finds it without reading every chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending;

impl ChatRow {
    fn new(members: [UserId; 2], created_ms: u64) -> Self {
        let chat = Chat {
            members,
            last_seq: MessageSeq::ZERO,
            last_time_ms: created_ms,
            created_ms,
            pending: false,
            retention: None,
            deleted_up_to: MessageSeq::ZERO,
            expired_before_ms: 0,
        };
        Self { chat, progress: [Member::default(); 2], senders: Vec::new() }
    }

    /// How far a member is; `None` where the user is none.
    pub(crate) fn member(&self, user: UserId) -> Option<&Member> {
        Some(&self.progress[self.place_of(user)?])
    }

    /// The same, to be changed.
    pub(crate) fn member_mut(&mut self, user: UserId) -> Option<&mut Member> {
        let place = self.place_of(user)?;
        Some(&mut self.progress[place])
    }

    /// How far the member is who is behind the others by this measure.
    pub(crate) fn last_member(&self, measure: impl Fn(&Member) -> MessageSeq) -> MessageSeq {
        let members = self.chat.members.iter().filter_map(|user| self.member(*user));
        members.map(measure).min().expect("a chat has members")
    }

    fn place_of(&self, user: UserId) -> Option<usize> {
        self.chat.members.iter().position(|member| *member == user)
    }

    fn sender_id(&self, sender: DeviceAddress) -> Option<SenderId> {
        Some(SenderId { member: self.place_of(sender.user)? == 1, device: sender.device })
    }

    fn known(&self, sender: SenderId, client_seq: ClientSeq) -> Known {
        self.senders.iter().find(|known| known.id == sender).map_or(Known::New, |known| known.known(client_seq))
    }

    fn remember(&mut self, sender: SenderId, accepted: Accepted) {
        match self.senders.iter_mut().find(|known| known.id == sender) {
            Some(known) => known.remember(accepted),
            None => {
                // One device in the mean, and never many: no room for four at once.
                self.senders.reserve_exact(1);
                self.senders.push(Sender::new(sender, accepted));
            }
        }
    }

    /// The planted bug `ApplyTwice`: nothing is known of what the device has sent.
    pub(super) fn forget(&mut self, sender: DeviceAddress) {
        let id = self.sender_id(sender);
        self.senders.retain(|known| Some(known.id) != id);
    }
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
        self.senders.capacity() * size_of::<Sender>() + windows
    }

    fn encode_key(key: &ChatId, out: &mut Vec<u8>) {
        out.put_chat(*key);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let Self { chat, progress, senders } = self;
        out.put_user(chat.members[0]);
        out.put_user(chat.members[1]);
        out.put_varint(chat.last_seq.get());
        out.put_varint(chat.created_ms);
        out.put_varint(chat.last_time_ms - chat.created_ms);
        out.put_u8(u8::from(chat.pending) | u8::from(chat.retention.is_some()) << 1);
        if chat.retention.is_some() {
            put_retention(chat.retention, out);
        }
        out.put_varint(chat.deleted_up_to.get());
        out.put_varint(chat.expired_before_ms);
        progress.iter().for_each(|member| put_member(member, out));
        senders.iter().for_each(|sender| sender.encode(chat.last_time_ms, out));
    }

    fn decode(value: Bytes) -> Result<Self> {
        let mut take = Take::new(value, "chat row");
        let members = [take.take_user()?, take.take_user()?];
        let (last_seq, created_ms) = (take.take_short_seq()?, take.take_varint()?);
        let last_time_ms = created_ms.checked_add(take.take_varint()?);
        let last_time_ms = last_time_ms.ok_or_else(|| take.malformed("a time overflows"))?;
        let flags = take.take_u8()?;
        if flags > 3 {
            return Err(take.malformed("a flag is unknown"));
        }
        let chat = Chat {
            members,
            last_seq,
            last_time_ms,
            created_ms,
            pending: flags & 1 == 1,
            retention: if flags & 2 == 2 { take_retention(&mut take)? } else { None },
            deleted_up_to: take.take_short_seq()?,
            expired_before_ms: take.take_varint()?,
        };
        let progress = [take_member(&mut take)?, take_member(&mut take)?];
        let mut senders: Vec<Sender> = Vec::new();
        while !take.is_empty() {
            let sender = Sender::take(&mut take, last_seq, last_time_ms)?;
            if senders.iter().any(|known| known.id == sender.id) {
                return Err(take.malformed("a sender is there twice"));
            }
            senders.push(sender);
        }
        Ok(Self { chat, progress, senders })
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
    pub(super) peer: UserId,
    pub(super) sender: DeviceAddress,
    pub(super) client_seq: ClientSeq,
    pub(super) time_ms: u64,
    pub(super) body: Bytes,
}

impl State {
    pub(super) fn apply_send(&mut self, send: SendFields, effects: &mut Effects) -> Outcome {
        let SendFields { chat: chat_id, peer, sender, client_seq, time_ms, body } = send;
        let members = if sender.user <= peer { [sender.user, peer] } else { [peer, sender.user] };
        let row = self.edit::<ChatRow>(chat_id);
        // A chat that is there has the members that its id is made from.
        let is_theirs = match row {
            Some(row) => row.chat.members == members,
            None => ChatId::direct(sender.user, peer) == chat_id,
        };
        if !is_theirs {
            return Outcome::Refused(Code::UnknownChat);
        }
        let row = row.get_or_insert_with(|| ChatRow::new(members, time_ms));
        let sender_id = row.sender_id(sender).expect("the sender is a member");
        match row.known(sender_id, client_seq) {
            Known::New => {}
            Known::Stored { .. } if planted::is(Planted::DuplicateStored) => {}
            Known::Stored { seq, time_ms } => return Outcome::Sent { seq, time_ms, duplicate: true },
            Known::Forgotten => return Outcome::Refused(Code::ClientSeqTooOld),
        }

        let mut seq = row.chat.last_seq.next();
        if planted::is(Planted::SeqReused) && seq.get().is_multiple_of(7) {
            seq = row.chat.last_seq;
        }
        row.chat.last_seq = seq;
        // Files hold messages by time, and are read by seq: both must grow together.
        let time_ms = time_ms.max(row.chat.last_time_ms);
        row.chat.last_time_ms = time_ms;
        let was_pending = core::mem::replace(&mut row.chat.pending, true);
        let before = row.variable_bytes();
        row.remember(sender_id, Accepted { client_seq, seq, time_ms });
        let after = row.variable_bytes();
        self.active.count_change(before, after + core::mem::take(&mut self.uncounted_bytes));
        if !was_pending {
            self.active.insert::<Pending>(chat_id, Some(Pending));
        }

        let message = StoredMessage { seq, sender, client_seq, time_ms, body };
        self.active.messages.push(chat_id, &message);
        effects.effects.push(Effect::Committed { chat: chat_id, members, message });
        Outcome::Sent { seq, time_ms, duplicate: false }
    }
}

#[cfg(test)]
mod tests {
    use columba_wire::DeviceId;

    use super::*;

    fn row() -> ChatRow {
        let user = |n| UserId::from_bytes([n; 16]);
        let mut row = ChatRow::new([user(1), user(2)], 1_790_000_000_000);
        for seq in 1..200u64 {
            let sender = DeviceAddress { user: user(1 + u8::from(seq % 3 == 0)), device: DeviceId::FIRST };
            row.chat.last_seq = MessageSeq::new(seq);
            row.chat.last_time_ms += 3_000 + seq % 5 * 100;
            let (seq, time_ms) = (row.chat.last_seq, row.chat.last_time_ms);
            let sender = row.sender_id(sender).unwrap();
            row.remember(sender, Accepted { client_seq: ClientSeq::new(seq.get()), seq, time_ms });
        }
        row.chat.retention = Some(Retention::History { days: Some(9) });
        row.member_mut(user(2)).unwrap().covered = MessageSeq::new(190);
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
        assert_eq!((again.chat, again.progress), (row.chat, row.progress));
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
    fn in_a_chat_with_oneself_there_is_one_member() {
        let user = UserId::from_bytes([1; 16]);
        let mut row = ChatRow::new([user; 2], 5);
        row.member_mut(user).unwrap().covered = MessageSeq::new(1);
        assert_eq!(row.last_member(|member| member.covered), MessageSeq::new(1));
    }
}
