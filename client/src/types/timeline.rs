//! What is to be shown of a chat: its messages with their edits, deletions, reactions and answers applied.
//!
//! Invariants
//! - It is a function of the messages that were put in, and of the roles told: neither their order nor how often one
//!   came plays a part. So messages are kept as they came, and what they come to is worked out when it is asked for.
//! - Whoever sends a message can change only what PROTOCOL.md (section 21) lets it change.
//! - At most [`TIMELINE_MESSAGES_MAX`] messages of [`TIMELINE_BYTES_MAX`] are kept, the newest. What was dropped, and
//!   what is older, is not taken again: with it the order of arrival would count.

use std::collections::{BTreeMap, BTreeSet};

use columba_wire::{ChatId, MessageSeq, UserId};

use super::{Content, GroupChange, Message, MessageKind, Role};
use crate::limits::{TIMELINE_BYTES_MAX, TIMELINE_MESSAGES_MAX};

/// Bytes that a message costs beside its body: itself, and its place in two maps.
const ENTRY_BYTES: usize = 512;

/// See the module. One for each chat that is on the screen.
#[derive(Clone, Debug)]
pub struct Timeline {
    chat: ChatId,
    entries: BTreeMap<MessageSeq, Entry>,
    /// The messages about a message.
    about: BTreeMap<MessageSeq, BTreeSet<MessageSeq>>,
    /// The messages that may change roles.
    changes: BTreeSet<MessageSeq>,
    /// The messages that disappear, by when.
    ends: BTreeSet<(u64, MessageSeq)>,
    /// The roles where no message tells them.
    roles: BTreeMap<UserId, Role>,
    /// Nothing below is taken.
    floor: MessageSeq,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    sender: UserId,
    time_ms: u64,
    disappears_ms: Option<u64>,
    says: Says,
    bytes: usize,
}

#[derive(Clone, Debug)]
enum Says {
    Content(Content),
    Change(GroupChange),
}

impl Entry {
    fn target(&self) -> Option<MessageSeq> {
        match &self.says {
            Says::Content(content) => content.target(),
            Says::Change(_) => None,
        }
    }
}

/// A message as it is to be shown now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineItem {
    /// Its place in the chat.
    pub seq: MessageSeq,
    /// Who sent it.
    pub sender: UserId,
    /// When the server took it, milliseconds since 1970.
    pub time_ms: u64,
    /// What it says now.
    pub shown: Shown,
    /// The message that it answers; [`Timeline::item`] has it where it is kept.
    pub reply_to: Option<MessageSeq>,
    /// Whether it said something else before.
    pub is_edited: bool,
    /// What others, and its sender, think of it: one for each user.
    pub reactions: BTreeMap<UserId, String>,
}

/// What a message says now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// This, with its edits in it: no reaction, edit or deletion.
    Content(Content),
    /// It changes the group.
    Change(GroupChange),
    /// Nothing any more.
    Deleted {
        /// Who has deleted it: its sender, or an admin of the group.
        by: UserId,
    },
}

impl Timeline {
    /// Of a chat, with nothing in it.
    pub fn new(chat: ChatId) -> Self {
        Self {
            chat,
            entries: BTreeMap::new(),
            about: BTreeMap::new(),
            changes: BTreeSet::new(),
            ends: BTreeSet::new(),
            roles: BTreeMap::new(),
            floor: MessageSeq::ZERO,
            bytes: 0,
            bytes_max: TIMELINE_BYTES_MAX,
        }
    }

    /// Which chat it is of.
    pub fn chat(&self) -> ChatId {
        self.chat
    }

    /// Takes a message: a new one, one of the history, one that was here already. In any order.
    ///
    /// Whether it is kept: not where it is of another chat, or older than what there is room for.
    pub fn insert(&mut self, message: &Message) -> bool {
        let seq = message.seq;
        if message.chat != self.chat || seq < self.floor {
            return false;
        }
        if self.entries.contains_key(&seq) {
            return true;
        }
        let (says, bytes) = match &message.change {
            Some(change) => (Says::Change(change.clone()), change_bytes(change)),
            None => (Says::Content(message.content()), message.body.len()),
        };
        let Message { sender, time_ms, disappears_ms, .. } = *message;
        let entry = Entry { sender, time_ms, disappears_ms, says, bytes: ENTRY_BYTES + bytes };
        if let Some(target) = entry.target() {
            self.about.entry(target).or_default().insert(seq);
        }
        if matches!(entry.says, Says::Change(_)) {
            self.changes.insert(seq);
        }
        self.ends.extend(disappears_ms.map(|at| (at, seq)));
        self.bytes += entry.bytes;
        self.entries.insert(seq, entry);
        self.shrink();
        seq >= self.floor
    }

    /// The roles of a group's members as they are now. They count where no message here tells another.
    pub fn set_roles(&mut self, roles: BTreeMap<UserId, Role>) {
        self.roles = roles;
    }

    fn shrink(&mut self) {
        while self.entries.len() > TIMELINE_MESSAGES_MAX || self.bytes > self.bytes_max {
            let Some((seq, _)) = self.entries.first_key_value() else {
                return;
            };
            let seq = *seq;
            self.floor = seq.next();
            self.remove(seq);
        }
    }

    fn remove(&mut self, seq: MessageSeq) {
        let Some(entry) = self.entries.remove(&seq) else {
            return;
        };
        self.bytes -= entry.bytes;
        self.changes.remove(&seq);
        if let Some(at) = entry.disappears_ms {
            self.ends.remove(&(at, seq));
        }
        if let Some(target) = entry.target()
            && let Some(about) = self.about.get_mut(&target)
        {
            about.remove(&seq);
            if about.is_empty() {
                self.about.remove(&target);
            }
        }
    }

    /// Messages that disappear by this time, milliseconds since 1970, are here no more.
    pub fn forget_disappeared(&mut self, now_ms: u64) {
        while let Some((_, seq)) = self.ends.first().copied().filter(|(at, _)| *at <= now_ms) {
            self.remove(seq);
        }
    }

    /// After how many milliseconds a message disappears that was sent at this place, as what is here before it says.
    pub fn timer_ms_at(&self, seq: MessageSeq) -> Option<u64> {
        let (_, before) = self.entries.range(..seq).rev().find(|(_, entry)| match &entry.says {
            Says::Content(_) => true,
            Says::Change(change) => matches!(change, GroupChange::SetTimer { .. }),
        })?;
        match &before.says {
            Says::Change(GroupChange::SetTimer { timer_s: 0 }) => None,
            Says::Change(GroupChange::SetTimer { timer_s }) => Some(u64::from(*timer_s) * 1000),
            _ => Some(before.disappears_ms?.saturating_sub(before.time_ms)),
        }
    }

    /// All that is to be shown, oldest first.
    pub fn items(&self) -> impl DoubleEndedIterator<Item = TimelineItem> {
        self.entries.keys().filter_map(|seq| self.item(*seq))
    }

    /// A message as it is to be shown. `None` where it is not here, or is about another one.
    pub fn item(&self, seq: MessageSeq) -> Option<TimelineItem> {
        let entry = self.entries.get(&seq).filter(|entry| entry.target().is_none())?;
        let mut item = TimelineItem {
            seq,
            sender: entry.sender,
            time_ms: entry.time_ms,
            shown: Shown::Change(GroupChange::Unknown),
            reply_to: None,
            is_edited: false,
            reactions: BTreeMap::new(),
        };
        let content = match &entry.says {
            Says::Change(change) => return Some(TimelineItem { shown: Shown::Change(change.clone()), ..item }),
            Says::Content(content) => content,
        };
        let mut content = content.clone();
        // Ascending: what comes later counts.
        for (about, kind) in self.about(seq) {
            match kind {
                MessageKind::Reaction { emoji, .. } if emoji.is_empty() => {
                    item.reactions.remove(&about.sender);
                }
                MessageKind::Reaction { emoji, .. } => {
                    item.reactions.insert(about.sender, emoji.clone());
                }
                MessageKind::Edit { text, .. } => item.is_edited |= edit(&mut content, text),
                MessageKind::Delete { .. } => {
                    let shown = Shown::Deleted { by: about.sender };
                    return Some(TimelineItem { shown, reactions: BTreeMap::new(), is_edited: false, ..item });
                }
                MessageKind::Text(_) | MessageKind::Media(_) | MessageKind::CallEvent(_) | MessageKind::Note(_) => {}
            }
        }
        if let Content::Typed(body) = &content {
            item.reply_to = body.reply_to.filter(|target| *target < seq);
        }
        Some(TimelineItem { shown: Shown::Content(content), ..item })
    }

    /// What was said about a message by those who may, ascending.
    fn about(&self, target: MessageSeq) -> impl Iterator<Item = (&Entry, &MessageKind)> {
        self.about.get(&target).into_iter().flatten().filter_map(move |seq| {
            let about = self.entries.get(seq)?;
            let Says::Content(Content::Typed(body)) = &about.says else {
                return None;
            };
            self.may(about.sender, &body.kind, *seq).then_some((about, &body.kind))
        })
    }

    /// Whether a user may say this about another message, as the message `seq`. Not where its target is not here.
    ///
    /// [`MessageSeq::MAX`] for one that is still to be sent.
    pub fn may(&self, user: UserId, kind: &MessageKind, seq: MessageSeq) -> bool {
        let Some(target) = kind.target() else {
            return true;
        };
        let Some(entry) = self.entries.get(&target).filter(|entry| target < seq && entry.target().is_none()) else {
            return false;
        };
        let Says::Content(content) = &entry.says else {
            return false;
        };
        match kind {
            MessageKind::Edit { .. } => entry.sender == user && can_be_edited(content),
            MessageKind::Delete { .. } => entry.sender == user || self.is_admin(user, seq),
            MessageKind::Reaction { .. }
            | MessageKind::Text(_)
            | MessageKind::Media(_)
            | MessageKind::CallEvent(_)
            | MessageKind::Note(_) => true,
        }
    }

    /// Whether a user was an admin or the owner of the group at this place.
    fn is_admin(&self, user: UserId, at: MessageSeq) -> bool {
        let told = self.changes.range(..at).rev().find_map(|seq| {
            let entry = self.entries.get(seq)?;
            match &entry.says {
                Says::Change(change) => role_after(change, entry.sender, user),
                Says::Content(_) => None,
            }
        });
        // In a 1:1 chat no change tells a role, and there is none.
        let role = told.unwrap_or_else(|| self.roles.get(&user).copied());
        matches!(role, Some(Role::Admin | Role::Owner))
    }
}

fn can_be_edited(content: &Content) -> bool {
    match content {
        Content::Plain(_) => true,
        Content::Typed(body) => matches!(body.kind, MessageKind::Text(_) | MessageKind::Media(_)),
        Content::NotUnderstood => false,
    }
}

/// Whether it says this now.
fn edit(content: &mut Content, text: &str) -> bool {
    match content {
        Content::Plain(plain) => *plain = text.to_owned().into(),
        Content::Typed(body) => match &mut body.kind {
            MessageKind::Text(before) => text.clone_into(before),
            MessageKind::Media(media) => text.clone_into(&mut media.caption),
            _ => return false,
        },
        Content::NotUnderstood => return false,
    }
    true
}

/// The role of a user after a change by somebody; `None` where the change says nothing about it.
fn role_after(change: &GroupChange, by: UserId, user: UserId) -> Option<Option<Role>> {
    match change {
        GroupChange::Create { .. } if user == by => Some(Some(Role::Owner)),
        // Who is not named is no member: before the group nobody was.
        GroupChange::Create { members, .. } => Some(members.contains(&user).then_some(Role::Member)),
        GroupChange::Add(users) => users.contains(&user).then_some(Some(Role::Member)),
        GroupChange::Join { .. } => (user == by).then_some(Some(Role::Member)),
        GroupChange::Remove(users) => users.contains(&user).then_some(None),
        GroupChange::Leave { .. } if user == by => Some(None),
        GroupChange::Leave { owner } => (*owner == Some(user)).then_some(Some(Role::Owner)),
        GroupChange::SetRole { user: named, role } if *named == user => Some(Some(*role)),
        GroupChange::SetRole { role: Role::Owner, .. } if user == by => Some(Some(Role::Admin)),
        GroupChange::SetRole { .. }
        | GroupChange::SetLook { .. }
        | GroupChange::SetInvite { .. }
        | GroupChange::EndInvite
        | GroupChange::SetTimer { .. }
        | GroupChange::Unknown => None,
    }
}

fn change_bytes(change: &GroupChange) -> usize {
    let users = |users: &[UserId]| size_of_val(users);
    match change {
        GroupChange::Create { look, members } => look.name.len() + look.picture.len() + users(members),
        GroupChange::Add(members) | GroupChange::Remove(members) => users(members),
        GroupChange::SetLook { name, picture, .. } => {
            [name, picture].into_iter().flatten().map(|part| part.len()).sum()
        }
        GroupChange::Leave { .. }
        | GroupChange::SetRole { .. }
        | GroupChange::SetInvite { .. }
        | GroupChange::EndInvite
        | GroupChange::Join { .. }
        | GroupChange::SetTimer { .. }
        | GroupChange::Unknown => 0,
    }
}

#[cfg(test)]
mod tests;
