//! In which chats a user is, on its way into the user's partition.

use columba_engine::partition::membership::{ChatNote, UserChat};
use columba_wire::{ChatId, MessageSeq, UserId};

use super::{Live, LiveOutput};

impl Live {
    /// The user comes into the chat, or goes, by the message that it receives next.
    pub(super) fn note(&mut self, user: UserId, chat: ChatId, now: UserChat) {
        if let Some(record) = self.users.get_mut(&user).and_then(|user| user.chats.get_mut(&chat)) {
            let first = record.noting.map_or(now.at, |(first, _)| first);
            record.noting = Some((first, now.at));
            self.notes.push(ChatNote { user, chat, now });
        }
    }

    /// It is noted, by this message or a later one.
    pub(crate) fn handle_noted(&mut self, user: UserId, chat: ChatId, at: MessageSeq, out: &mut Vec<LiveOutput>) {
        if let Some(record) = self.users.get_mut(&user).and_then(|user| user.chats.get_mut(&chat))
            && record.noting.is_some_and(|(_, last)| last <= at)
        {
            record.noting = None;
            self.report(user, chat, false, out);
        }
    }

    /// What is to be noted, in order. To be proposed at once, or given back.
    pub(crate) fn take_notes(&mut self) -> Vec<ChatNote> {
        core::mem::take(&mut self.notes)
    }

    /// Notes that could not be proposed: they wait for [`Live::unpark_appends`].
    pub(crate) fn park_notes(&mut self, notes: Vec<ChatNote>) {
        self.parked_notes.extend(notes);
    }
}
