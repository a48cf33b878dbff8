//! Which chats a user is in, in the partition of the user: what a new device begins with.
//!
//! The chat's partition decides who is in. It notes it here before the message that says so counts as delivered to the
//! user, so that no crash between the two leaves a chat out.
//!
//! Invariants
//! - A note is never undone by an older one: a chat is as the newest seq says.

use std::collections::BTreeMap;

use bytes::Bytes;
use columba_wire::{ChatId, MessageSeq, UserId};

use super::{
    Partition, State,
    codec::{Put as _, Take},
    effect::{Effect, Effects, Outcome},
    rows::{Layer, Row, RowMap, file_key},
    user::User,
};
use crate::{
    env::Disk,
    error::{Error, Result},
    planted::{self, Planted},
    table::meta::Class,
    tree::ScanRange,
};

/// A chat of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserChat {
    /// The message that let the user in, or put it out.
    pub at: MessageSeq,
    /// Whether the user is in it.
    pub is_in: bool,
}

/// A user has come into a chat, or is out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatNote {
    /// The user.
    pub user: UserId,
    /// The chat.
    pub chat: ChatId,
    /// By which message, and which of both.
    pub now: UserChat,
}

impl Row for UserChat {
    const KIND: u8 = 0x36;
    type Key = (UserId, ChatId);

    fn map(layer: &Layer) -> &RowMap<Self> {
        &layer.user_chats
    }

    fn map_mut(layer: &mut Layer) -> &mut RowMap<Self> {
        &mut layer.user_chats
    }

    fn encode_key((user, chat): &Self::Key, out: &mut Vec<u8>) {
        out.put_user(*user);
        out.put_chat(*chat);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.at.get());
        out.put_u8(u8::from(self.is_in));
    }

    fn decode(value: Bytes) -> Result<Self> {
        let mut take = Take::new(value, "chat of a user");
        let row = Self { at: take.take_short_seq()?, is_in: take.take_bool()? };
        take.finish()?;
        Ok(row)
    }
}

impl State {
    pub(super) fn apply_note_chats(&mut self, notes: &[ChatNote], effects: &mut Effects) -> Outcome {
        for ChatNote { user, chat, now } in notes.iter().copied() {
            let exists = self.get::<User>(&user).is_some();
            // Of a user that is deleted its errand sees to the lists: this one is for a chat that took it in since.
            if (exists || now.is_in) && !planted::is(Planted::ChatNotNoted) {
                let row = self.edit::<UserChat>((user, chat));
                if row.is_none_or(|before| before.at < now.at) {
                    *row = Some(now);
                }
            }
            if !exists && now.is_in {
                self.begin_errand(user, effects);
            }
            effects.effects.push(Effect::ChatNoted { user, chat, at: now.at });
        }
        Outcome::Done
    }
}

impl<D: Disk> Partition<D> {
    /// The chats that a user is in, above `after`, ascending, at most `chats_max`.
    ///
    /// Cost: a look at every chat of any user that has changed since the last flush, and a scan of the user's rows.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn chats_of(
        &self,
        user: UserId,
        after: Option<ChatId>,
        chats_max: usize,
    ) -> Result<Vec<(ChatId, UserChat)>> {
        self.noted_chats(user, after, chats_max, |row| row.is_in).await
    }

    /// The same, of all chats that the user is in or was in, those that are wanted.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn noted_chats(
        &self,
        user: UserId,
        after: Option<ChatId>,
        chats_max: usize,
        wanted: impl Fn(&UserChat) -> bool,
    ) -> Result<Vec<(ChatId, UserChat)>> {
        let is_above = |chat: ChatId| after.is_none_or(|after| chat > after);
        let mut found = BTreeMap::new();
        {
            let state = self.inner.state.borrow();
            for layer in state.sealed.as_deref().into_iter().chain([&state.active]) {
                let rows = layer.user_chats.iter().filter(|((of, chat), _)| *of == user && is_above(*chat));
                found.extend(rows.map(|((_, chat), row)| (*chat, *row)));
            }
        }
        // Memory says which of those in files are not current: as many more are read as there may be of these.
        let rows_max = chats_max.saturating_add(found.len());
        let mut start = file_key::<UserChat>(&(user, after.unwrap_or(ChatId::from_bytes([0; 16]))));
        if after.is_some() {
            start.push(0);
        }
        let mut end = file_key::<UserChat>(&(user, ChatId::from_bytes([0xff; 16])));
        end.push(0);
        let mut chats = Vec::new();
        loop {
            let range = ScanRange { start: start.clone(), end: end.clone() };
            let rows = self.inner.tree.scan(Class::State, &range, rows_max, usize::MAX).await?;
            let is_last = rows.len() < rows_max;
            let mut read_to = None;
            for (key, value) in rows {
                let chat = key.get(17..).and_then(|chat| ChatId::try_from(chat).ok());
                let chat =
                    chat.ok_or(Error::Malformed { what: "chat of a user", reason: "its key has another form" })?;
                let row = UserChat::decode(value)?;
                found.entry(chat).or_insert(Some(row));
                read_to = Some(chat);
                start = [&key[..], &[0]].concat();
            }
            // What memory has behind the last row read waits for the rows before it.
            let ready = |chat: &ChatId| is_last || read_to.is_some_and(|read_to| *chat <= read_to);
            while let Some(entry) = found.first_entry().filter(|entry| ready(entry.key())) {
                let (chat, row) = entry.remove_entry();
                chats.extend(row.filter(&wanted).map(|row| (chat, row)));
                if chats.len() == chats_max {
                    return Ok(chats);
                }
            }
            if is_last {
                return Ok(chats);
            }
        }
    }
}

#[cfg(test)]
mod tests;
