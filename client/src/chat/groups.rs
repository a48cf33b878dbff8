//! The groups this profile has met: names, members, what of them is unread.

use std::collections::BTreeMap;

use columba_wire::{ChatId, MessageSeq, UserId};

use super::text::printable;
use crate::{
    limits::CHAT_GROUPS_MAX,
    types::{ChatInfo, GroupChange, Role},
};

/// What is known of a group.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// As it can be printed.
    name: String,
    pub(super) announcements: bool,
    pub(super) members: BTreeMap<UserId, Role>,
    /// Messages shown while something else was chosen.
    pub(super) unread: u32,
    /// The newest message shown.
    pub(super) newest: MessageSeq,
    /// The newest change that is in here.
    changed_at: MessageSeq,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: BTreeMap<ChatId, Group>,
}

impl Groups {
    /// The entry of a group; `None` where there are too many.
    pub(super) fn meet(&mut self, chat: ChatId) -> Option<&mut Group> {
        if self.groups.len() >= CHAT_GROUPS_MAX && !self.groups.contains_key(&chat) {
            return None;
        }
        Some(self.groups.entry(chat).or_default())
    }

    /// What is known of a group.
    pub(super) fn get(&self, chat: ChatId) -> Option<&Group> {
        self.groups.get(&chat)
    }

    /// What is known of it, to be changed.
    pub(super) fn get_mut(&mut self, chat: ChatId) -> Option<&mut Group> {
        self.groups.get_mut(&chat)
    }

    /// Everything about a chat was told; one of two users is no group.
    pub(super) fn learn(&mut self, info: &ChatInfo) {
        let Some(look) = &info.group else {
            return;
        };
        let Some(group) = self.meet(info.chat) else {
            return;
        };
        group.name = printable(&look.name);
        group.announcements = look.announcements;
        group.members = info.members.iter().map(|member| (member.user, member.role)).collect();
        group.changed_at = group.changed_at.max(info.last);
    }

    /// A group has changed, by a message of this user. Changes that are known already are passed over.
    pub(super) fn handle_change(&mut self, chat: ChatId, seq: MessageSeq, by: UserId, change: &GroupChange) {
        let Some(group) = self.meet(chat).filter(|group| seq > group.changed_at) else {
            return;
        };
        group.changed_at = seq;
        match change {
            GroupChange::Create { look, members } => {
                group.name = printable(&look.name);
                group.announcements = look.announcements;
                group.members = members.iter().map(|user| (*user, Role::Member)).collect();
                group.members.insert(by, Role::Owner);
            }
            GroupChange::Add(users) => group.members.extend(users.iter().map(|user| (*user, Role::Member))),
            GroupChange::Remove(users) => group.members.retain(|user, _| !users.contains(user)),
            GroupChange::Leave { owner } => {
                group.members.remove(&by);
                group.members.extend(owner.map(|owner| (owner, Role::Owner)));
            }
            GroupChange::SetRole { user, role } => {
                if *role == Role::Owner {
                    group.members.insert(by, Role::Admin);
                }
                group.members.insert(*user, *role);
            }
            GroupChange::SetLook { name, announcements, .. } => {
                name.iter().for_each(|name| group.name = printable(name));
                announcements.iter().for_each(|only| group.announcements = *only);
            }
            GroupChange::Join { .. } => {
                group.members.insert(by, Role::Member);
            }
            GroupChange::SetInvite { .. }
            | GroupChange::EndInvite
            | GroupChange::SetTimer { .. }
            | GroupChange::Unknown => {}
        }
    }

    /// What a group is called here: a `#` and its name, or the first digits of its id.
    pub(super) fn name(&self, chat: ChatId) -> String {
        match self.groups.get(&chat).map(|group| group.name.as_str()) {
            Some(name) if !name.is_empty() => format!("#{name}"),
            Some(_) | None => format!("#{}", &chat.to_string()[..8]),
        }
    }

    /// The one group that is called so, or else whose id begins so.
    pub(super) fn find(&self, text: &str) -> Option<ChatId> {
        let text = text.strip_prefix('#').unwrap_or(text);
        let is_it = |chat: &ChatId, group: &Group| {
            group.name == text || (text.len() >= 8 && chat.to_string().starts_with(text))
        };
        let mut alike = self.groups.iter().filter(|(chat, group)| is_it(chat, group)).map(|(chat, _)| *chat);
        alike.next().filter(|_| alike.next().is_none())
    }

    /// All of them, by name.
    pub(super) fn by_name(&self) -> Vec<(String, ChatId, &Group)> {
        let mut groups: Vec<_> = self.groups.iter().map(|(chat, group)| (self.name(*chat), *chat, group)).collect();
        groups.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        groups
    }

    /// Takes what is unread: in which group, and up to which message.
    pub(super) fn take_unread(&mut self) -> Vec<(ChatId, MessageSeq)> {
        let mut unread = Vec::new();
        for (chat, group) in &mut self.groups {
            if core::mem::take(&mut group.unread) > 0 {
                unread.push((*chat, group.newest));
            }
        }
        unread
    }
}
