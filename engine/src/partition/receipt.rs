//! Members of chats: fan-out cursor, delivered, everywhere and read watermarks. All four only grow.
//!
//! Invariants
//! - `covered`, `delivered` and `read` are at most the chat's `last_seq`; `everywhere` is at most `covered`.

use bytes::Bytes;
use columba_wire::{ChatId, Code, MessageSeq, UserId};

use super::{
    State,
    chat::{Chat, Pending},
    codec::{Put as _, Take},
    command::Progress,
    effect::{Effect, Effects, Outcome},
    rows::{Layer, Row, RowMap},
};
use crate::error::Result;

/// How far a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The fan-out cursor: each device has acknowledged, or has in its inbox, everything up to here.
    pub covered: MessageSeq,
    /// A device has acknowledged everything up to here.
    pub delivered: MessageSeq,
    /// The user has read up to here.
    pub read: MessageSeq,
    /// Every device has acknowledged, or sent itself, everything up to here.
    pub everywhere: MessageSeq,
}

impl Row for Member {
    const KIND: u8 = 0x42;
    type Key = (ChatId, UserId);

    fn map(layer: &Layer) -> &RowMap<Self> {
        &layer.members
    }

    fn map_mut(layer: &mut Layer) -> &mut RowMap<Self> {
        &mut layer.members
    }

    fn encode_key((chat, user): &Self::Key, out: &mut Vec<u8>) {
        out.put_chat(*chat);
        out.put_user(*user);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_seq(self.covered);
        out.put_seq(self.delivered);
        out.put_seq(self.read);
        out.put_seq(self.everywhere);
    }

    fn decode(value: Bytes) -> Result<Self> {
        let mut take = Take::new(value, "member row");
        let row = Self {
            covered: take.take_seq()?,
            delivered: take.take_seq()?,
            read: take.take_seq()?,
            everywhere: take.take_seq()?,
        };
        take.finish()?;
        Ok(row)
    }
}

impl State {
    pub(super) fn apply_advance(&mut self, items: &[Progress], effects: &mut Effects) -> Outcome {
        for item in items {
            let Some(chat) = self.get::<Chat>(&item.chat).cloned() else {
                continue;
            };
            if !chat.members.contains(&item.user) {
                continue;
            }
            let member = self.edit::<Member>((item.chat, item.user)).get_or_insert_default();
            member.covered = member.covered.max(item.covered.min(chat.last_seq));
            member.delivered = member.delivered.max(item.delivered.min(chat.last_seq));
            member.everywhere = member.everywhere.max(item.everywhere.min(member.covered));
            let Member { covered, delivered, read, everywhere } = *member;
            let members = chat.members;
            effects.effects.push(Effect::Advanced {
                chat: item.chat,
                members,
                user: item.user,
                covered,
                delivered,
                everywhere,
                read,
            });
            self.delete_delivered(item.chat);
            let behind = chat.members.iter().any(|user| {
                self.get::<Member>(&(item.chat, *user)).is_none_or(|member| member.covered < chat.last_seq)
            });
            if chat.pending && !behind {
                self.edit::<Chat>(item.chat).as_mut().expect("it is there").pending = false;
                *self.edit::<Pending>(item.chat) = None;
            }
        }
        Outcome::Done
    }

    pub(super) fn apply_mark_read(
        &mut self,
        chat_id: ChatId,
        user: UserId,
        seq: MessageSeq,
        effects: &mut Effects,
    ) -> Outcome {
        let Some(chat) = self.get::<Chat>(&chat_id).cloned() else {
            return Outcome::Refused(Code::UnknownChat);
        };
        if !chat.members.contains(&user) {
            return Outcome::Refused(Code::UnknownChat);
        }
        let member = self.edit::<Member>((chat_id, user)).get_or_insert_default();
        let read = member.read.max(seq.min(chat.last_seq));
        if read > member.read {
            member.read = read;
            let delivered = member.delivered;
            effects.effects.push(Effect::ReadMoved { chat: chat_id, members: chat.members, user, delivered, read });
        }
        Outcome::Done
    }
}
