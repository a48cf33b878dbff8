//! Members of chats: fan-out cursor, delivered, everywhere and read watermarks. All four only grow. They are a part of
//! their chat's row.
//!
//! Invariants
//! - `covered`, `delivered` and `read` are at most the chat's `last_seq`; `everywhere` is at most `covered`.

use columba_wire::{ChatId, Code, MessageSeq, UserId};

use super::{
    State,
    chat::{Chat, ChatRow, Pending},
    codec::{Put as _, Take},
    command::Progress,
    effect::{Effect, Effects, Outcome},
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

/// Appends a member, in a chat's row.
pub(super) fn put_member(member: &Member, out: &mut Vec<u8>) {
    for seq in [member.covered, member.delivered, member.read, member.everywhere] {
        out.put_varint(seq.get());
    }
}

/// Takes a member off a chat's row.
pub(super) fn take_member(take: &mut Take) -> Result<Member> {
    Ok(Member {
        covered: take.take_short_seq()?,
        delivered: take.take_short_seq()?,
        read: take.take_short_seq()?,
        everywhere: take.take_short_seq()?,
    })
}

impl State {
    pub(super) fn apply_advance(&mut self, items: &[Progress], effects: &mut Effects) -> Outcome {
        for item in items {
            let is_member = self.get::<ChatRow>(&item.chat).is_some_and(|row| row.member(item.user).is_some());
            if !is_member {
                continue;
            }
            let settings = self.settings;
            let row = self.edit::<ChatRow>(item.chat).as_mut().expect("it is there");
            let Chat { last_seq, members, .. } = row.chat;
            let member = row.member_mut(item.user).expect("the user is a member");
            member.covered = member.covered.max(item.covered.min(last_seq));
            member.delivered = member.delivered.max(item.delivered.min(last_seq));
            member.everywhere = member.everywhere.max(item.everywhere.min(member.covered));
            let Member { covered, delivered, read, everywhere } = *member;
            effects.effects.push(Effect::Advanced {
                chat: item.chat,
                members,
                user: item.user,
                covered,
                delivered,
                everywhere,
                read,
            });
            settings.delete_delivered(item.chat, row);
            let behind = row.last_member(|member| member.covered) < last_seq;
            if row.chat.pending && !behind {
                row.chat.pending = false;
                self.active.insert::<Pending>(item.chat, None);
            }
        }
        Outcome::Done
    }

    pub(super) fn apply_mark_read(
        &mut self,
        chat: ChatId,
        user: UserId,
        seq: MessageSeq,
        effects: &mut Effects,
    ) -> Outcome {
        let known = self.get::<ChatRow>(&chat);
        let Some((last_seq, member)) = known.and_then(|row| Some((row.chat.last_seq, row.member(user)?))) else {
            return Outcome::Refused(Code::UnknownChat);
        };
        let read = seq.min(last_seq);
        if read > member.read {
            let row = self.edit::<ChatRow>(chat).as_mut().expect("it is there");
            let members = row.chat.members;
            let member = row.member_mut(user).expect("the user is a member");
            member.read = read;
            let delivered = member.delivered;
            effects.effects.push(Effect::ReadMoved { chat, members, user, delivered, read });
        }
        Outcome::Done
    }
}
