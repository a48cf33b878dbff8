//! Members of chats: fan-out cursor, delivered, everywhere and read watermarks. All of them only grow. They are a part
//! of their chat's row.
//!
//! Invariants
//! - `covered`, `delivered` and `read` are at most the chat's `last_seq`; `everywhere` is at most `covered`, and
//!   `shown` at most `read`.

use columba_wire::{ChatId, Code, MessageSeq, UserId};

use super::{
    State,
    chat::{ChatRow, Pending},
    codec::{Put as _, Take},
    command::Progress,
    effect::{Effect, Effects, Outcome},
    group::Marks,
};
use crate::{
    error::Result,
    planted::{self, Planted},
};

/// How far a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The fan-out cursor: each device has acknowledged, or has in its inbox, everything up to here.
    pub covered: MessageSeq,
    /// A device has acknowledged everything up to here.
    pub delivered: MessageSeq,
    /// The user has read up to here.
    pub read: MessageSeq,
    /// What others may know of that: in a 1:1 chat a user may hide it.
    pub shown: MessageSeq,
    /// Every device has acknowledged, or sent itself, everything up to here.
    pub everywhere: MessageSeq,
}

/// Appends a member, in a chat's row, but for `shown`.
pub(super) fn put_member(member: &Member, out: &mut Vec<u8>) {
    for seq in [member.covered, member.delivered, member.read, member.everywhere] {
        out.put_varint(seq.get());
    }
}

/// Takes a member off a chat's row. What it has read is shown, where nothing else is said.
pub(super) fn take_member(take: &mut Take) -> Result<Member> {
    let (covered, delivered) = (take.take_short_seq()?, take.take_short_seq()?);
    let (read, everywhere) = (take.take_short_seq()?, take.take_short_seq()?);
    Ok(Member { covered, delivered, read, shown: read, everywhere })
}

impl State {
    pub(super) fn apply_advance(&mut self, items: &[Progress], effects: &mut Effects) -> Outcome {
        // What is of the whole chat is looked at once for all members that stand together: a group has many.
        for items in items.chunk_by(|item, next| item.chat == next.chat) {
            self.advance_chat(items[0].chat, items, effects);
        }
        Outcome::Done
    }

    fn advance_chat(&mut self, chat: ChatId, items: &[Progress], effects: &mut Effects) {
        let is_known = self.get::<ChatRow>(&chat).is_some_and(|row| {
            let is_member = |item: &Progress| row.member(item.user).is_some();
            items.iter().any(is_member)
        });
        if !is_known {
            return;
        }
        let settings = self.settings;
        let row = self.edit::<ChatRow>(chat).as_mut().expect("it is there");
        let members = row.members();
        let mut delivered_moved = false;
        let first = effects.effects.len();
        for item in items {
            let last = row.last_of(item.user);
            let Some(member) = row.member_mut(item.user) else {
                continue;
            };
            delivered_moved |= item.delivered.min(last) > member.delivered;
            member.covered = member.covered.max(item.covered.min(last));
            member.delivered = member.delivered.max(item.delivered.min(last));
            member.everywhere = member.everywhere.max(item.everywhere.min(member.covered));
            if planted::is(Planted::ReadLost) {
                (member.read, member.shown) = (MessageSeq::ZERO, MessageSeq::ZERO);
            }
            let (members, now) = (members.clone(), *member);
            effects.effects.push(Effect::Advanced { chat, members, user: item.user, now, marks: None });
        }
        if delivered_moved && let Some(Effect::Advanced { marks: told, .. }) = effects.effects[first..].last_mut() {
            *told = marks(row);
        }
        settings.delete_delivered(chat, row);
        let behind = row.lowest(|member| member.covered) < row.chat.last_seq;
        if row.chat.pending && !behind {
            row.chat.pending = false;
            self.active.insert::<Pending>(chat, None);
        }
    }

    pub(super) fn apply_mark_read(
        &mut self,
        chat: ChatId,
        user: UserId,
        seq: MessageSeq,
        hidden: bool,
        effects: &mut Effects,
    ) -> Outcome {
        let known = self.get::<ChatRow>(&chat);
        let Some((last_seq, hides, member)) = known.and_then(|row| {
            row.first_of(user)?;
            // A group cannot say that all have read where some hide it.
            let hides = row.group().is_none() && (hidden || row.is_blocked());
            Some((row.chat.last_seq, hides, row.member(user)?))
        }) else {
            return Outcome::Refused(Code::UnknownChat);
        };
        let read = seq.min(last_seq).max(member.read);
        let shown = if hides { member.shown } else { read };
        if (read, shown) != (member.read, member.shown) {
            let row = self.edit::<ChatRow>(chat).as_mut().expect("it is there");
            let member = row.member_mut(user).expect("the user is a member");
            let is_shown = shown > member.shown;
            (member.read, member.shown) = (read, shown);
            let now = *member;
            let (members, marks) = (row.members(), if is_shown { marks(row) } else { None });
            effects.effects.push(Effect::ReadMoved { chat, members, user, now, is_shown, marks });
        }
        Outcome::Done
    }
}

/// What the members of a group have and have read.
fn marks(row: &ChatRow) -> Option<(Marks, Marks)> {
    let group = row.group()?;
    Some((group.marks(|member| member.delivered), group.marks(|member| member.shown)))
}
