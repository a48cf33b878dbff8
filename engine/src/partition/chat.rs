//! Chats and their messages: the dense seq is given here, and nowhere else.
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
    dedup::{Known, Sender},
    effect::{Effect, Effects, Outcome, StoredMessage},
    receipt::Member,
    retention::{Retention, put_retention, take_retention},
    rows::{Layer, Row, RowMap},
};
use crate::{
    error::Result,
    planted::{self, Planted},
};

/// A 1:1 chat.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Marks a chat whose fan-out has work to do, so that a new leader finds it without reading every chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending;

impl Row for Chat {
    const KIND: u8 = 0x40;
    type Key = ChatId;

    fn map(layer: &Layer) -> &RowMap<Self> {
        &layer.chats
    }

    fn map_mut(layer: &mut Layer) -> &mut RowMap<Self> {
        &mut layer.chats
    }

    fn encode_key(key: &ChatId, out: &mut Vec<u8>) {
        out.put_chat(*key);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_user(self.members[0]);
        out.put_user(self.members[1]);
        out.put_seq(self.last_seq);
        out.put_u64(self.last_time_ms);
        out.put_u64(self.created_ms);
        out.put_u8(u8::from(self.pending));
        put_retention(self.retention, out);
        out.put_seq(self.deleted_up_to);
        out.put_u64(self.expired_before_ms);
    }

    fn decode(value: Bytes) -> Result<Self> {
        let mut take = Take::new(value, "chat row");
        let row = Self {
            members: [take.take_user()?, take.take_user()?],
            last_seq: take.take_seq()?,
            last_time_ms: take.take_u64()?,
            created_ms: take.take_u64()?,
            pending: take.take_u8()? == 1,
            retention: take_retention(&mut take)?,
            deleted_up_to: take.take_seq()?,
            expired_before_ms: take.take_u64()?,
        };
        take.finish()?;
        Ok(row)
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
        if ChatId::direct(sender.user, peer) != chat_id {
            return Outcome::Refused(Code::UnknownChat);
        }
        let known = match self.edit::<Sender>((chat_id, sender)) {
            Some(row) => row.known(client_seq),
            None => Known::New,
        };
        match known {
            Known::New => {}
            Known::Stored { .. } if planted::is(Planted::DuplicateStored) => {}
            Known::Stored { seq, time_ms } => return Outcome::Sent { seq, time_ms, duplicate: true },
            Known::Forgotten => return Outcome::Refused(Code::ClientSeqTooOld),
        }

        let chat = self.edit::<Chat>(chat_id).get_or_insert_with(|| Chat {
            members,
            last_seq: MessageSeq::ZERO,
            last_time_ms: 0,
            created_ms: time_ms,
            pending: false,
            retention: None,
            deleted_up_to: MessageSeq::ZERO,
            expired_before_ms: 0,
        });
        assert!(chat.members == members, "chat {chat_id} has other members than its id says");
        let mut seq = chat.last_seq.next();
        if planted::is(Planted::SeqReused) && seq.get().is_multiple_of(7) {
            seq = chat.last_seq;
        }
        chat.last_seq = seq;
        // Files hold messages by time, and are read by seq: both must grow together.
        let time_ms = time_ms.max(chat.last_time_ms);
        chat.last_time_ms = time_ms;
        let was_pending = core::mem::replace(&mut chat.pending, true);
        if !was_pending {
            *self.edit::<Pending>(chat_id) = Some(Pending);
            for user in members {
                self.edit::<Member>((chat_id, user)).get_or_insert_default();
            }
        }
        let row = self.edit::<Sender>((chat_id, sender)).get_or_insert_default();
        let before = row.variable_bytes();
        row.remember(client_seq, seq, time_ms);
        let after = row.variable_bytes();
        let copied_up = core::mem::take(&mut self.uncounted_bytes);
        self.active.count_change(before, after + copied_up);

        let message = StoredMessage { seq, sender, client_seq, time_ms, body };
        self.active.messages.push(chat_id, message.clone());
        effects.effects.push(Effect::Committed { chat: chat_id, members, message });
        Outcome::Sent { seq, time_ms, duplicate: false }
    }
}
