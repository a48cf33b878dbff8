//! Groups: made, changed, chosen, shown.

use bytes::Bytes;
use columba_wire::{ChatId, Code, InviteLink, UserId};

use super::{Ask, Peer, View};
use crate::{
    chat::{
        args::reason,
        command::GroupCommand,
        text::{clock, printable, span},
    },
    error::{Error, Result},
    types::{ChatInfo, GroupChange, Message, Recipient, Role, Sent},
};

impl View {
    pub(super) fn group(&mut self, command: GroupCommand) {
        let group = match (&command, self.peer) {
            (GroupCommand::New { .. }, _) => None,
            (GroupCommand::Join(link), _) => Some(link.group),
            // The one that 1:1 chats have too.
            (GroupCommand::Timer(_), Some(peer)) => Some(peer.chat),
            (_, Some(Peer { to: Recipient::Group(group), .. })) => Some(group),
            _ => return self.trouble("no group is chosen: /with #NAME first".to_owned()),
        };
        self.ask(Ask::Group { group, command });
    }

    pub(super) fn show_members(&mut self) {
        match self.peer.map(|peer| peer.to) {
            Some(Recipient::Group(group)) => self.show_group(group),
            Some(Recipient::User(_)) | None => self.trouble("no group is chosen: /with #NAME first".to_owned()),
        }
    }

    /// From now on lines are for this group.
    pub(super) fn choose_group(&mut self, chat: ChatId) {
        self.set_peer(Recipient::Group(chat), chat);
        let name = self.groups.name(chat);
        let count = self.groups.get(chat).map_or(0, |group| group.members.len());
        self.notice(format!("writing to {name}, {count} members"));
        if let Some(group) = self.groups.get_mut(chat) {
            group.unread = 0;
            let newest = group.newest;
            self.mark_shown(chat, newest);
        }
        self.ask(Ask::Log { chat });
        if self.is_online() {
            self.ask(Ask::Receipts { chat, shown: false });
        }
    }

    fn show_group(&mut self, chat: ChatId) {
        let Some(group) = self.groups.get(chat) else {
            return;
        };
        let only = if group.announcements { "; only admins write" } else { "" };
        let mut members: Vec<_> = group.members.iter().map(|(user, role)| (self.people.name(*user), *role)).collect();
        members.sort();
        let members: Vec<_> = members.into_iter().map(|(name, role)| format!("{name}{}", role_text(role))).collect();
        let name = self.groups.name(chat);
        self.notice(format!("{name}{only}: {}", members.join(", ")));
    }

    /// What became of a change.
    pub(super) fn handle_group_changed(&mut self, command: &GroupCommand, result: Result<(Sent, GroupChange)>) {
        let (sent, change) = match result {
            Ok(done) => done,
            Err(error) => {
                let why = match &error {
                    Error::Refused { code: Code::NotAllowed, .. } => "your role does not allow it".to_owned(),
                    Error::Refused { code: Code::UnknownChat, .. } => "you are no member".to_owned(),
                    Error::Refused { code: Code::InviteUnknown, .. } => "the link leads nowhere, or no more".to_owned(),
                    Error::Refused { code: Code::TooMany, .. } => "the group is full".to_owned(),
                    Error::Refused { code: Code::InvalidArgument, .. } => "it is so already, or cannot be".to_owned(),
                    _ => reason(&error),
                };
                return self.trouble(match command {
                    GroupCommand::Timer(_) => format!("the timer was not changed: {why}"),
                    _ => format!("the group was not changed: {why}"),
                });
            }
        };
        let Some(me) = self.me.as_ref().map(|me| me.user) else {
            return;
        };
        let is_direct = self.is_direct_timer(sent.chat, me, &change);
        if !is_direct {
            self.groups.handle_change(sent.chat, sent.seq, me, &change);
        }
        let line = self.change_line(me, &change);
        let peer = self.peer.filter(|peer| is_direct && peer.chat == sent.chat);
        let name = peer.map_or_else(|| self.groups.name(sent.chat), |peer| self.name_of(peer.to));
        self.notice(format!("{name}: {line}"));
        self.mark_on_screen(sent.chat, sent.seq);
        if let GroupChange::SetInvite { secret: Some(secret), .. } = change {
            self.notice(format!("whoever has this comes in: {}", InviteLink { group: sent.chat, secret }));
        }
        let Sent { chat, seq, time_ms, .. } = sent;
        self.keep(&Message {
            chat,
            seq,
            sender: me,
            time_ms,
            disappears_ms: None,
            body: Bytes::new(),
            change: Some(change),
        });
        match command {
            GroupCommand::New { .. } => self.choose_group(sent.chat),
            GroupCommand::Join(_) => {
                self.ask(Ask::Chat { chat: sent.chat });
                self.choose_group(sent.chat);
            }
            GroupCommand::Leave => self.peer = None,
            _ => {}
        }
    }

    /// A chat was asked for because of a message, or at the start.
    pub(super) fn handle_chat(&mut self, result: Result<ChatInfo>) {
        // One that this user is not in any more has nothing to tell; others are asked for with their next message.
        let Ok(info) = result else {
            return;
        };
        self.groups.learn(&info);
        let strangers: Vec<_> = info.members.iter().map(|member| member.user).collect();
        self.learn_names(&strangers);
    }

    /// Asks for the handles of those who have none here.
    fn learn_names(&mut self, users: &[UserId]) {
        for user in users {
            if !self.people.has_name(*user) && self.hinted.insert(*user) {
                self.ask(Ask::Handle { user: *user });
            }
        }
    }

    /// Whether a message is one of a group, which is then known, or asked for.
    pub(super) fn meet_group(&mut self, message: &Message) -> bool {
        let Some(me) = self.me.as_ref().map(|me| me.user) else {
            return false;
        };
        if message.change.as_ref().is_some_and(|change| self.is_direct_timer(message.chat, message.sender, change)) {
            return false;
        }
        if let Some(change) = &message.change {
            self.groups.handle_change(message.chat, message.seq, message.sender, change);
            let mut users = vec![message.sender];
            if let GroupChange::Create { members, .. } | GroupChange::Add(members) = change {
                users.extend(members);
            }
            if change.begins_for(me, message.sender) && !matches!(change, GroupChange::Create { .. }) {
                // Who is in beside those who came with this user is not in the message.
                self.ask(Ask::Chat { chat: message.chat });
            }
            self.learn_names(&users);
            return true;
        }
        if self.groups.get(message.chat).is_some() {
            return true;
        }
        if message.sender == me || message.chat == ChatId::direct(me, message.sender) {
            return false;
        }
        self.groups.meet(message.chat);
        self.ask(Ask::Chat { chat: message.chat });
        true
    }

    /// Whether this is the one change that a 1:1 chat has.
    fn is_direct_timer(&self, chat: ChatId, by: UserId, change: &GroupChange) -> bool {
        let is_direct = |me: UserId| by == me || chat == ChatId::direct(me, by);
        matches!(change, GroupChange::SetTimer { .. })
            && self.groups.get(chat).is_none()
            && self.me.as_ref().is_some_and(|me| is_direct(me.user))
    }

    /// A change in words.
    pub(super) fn change_line(&self, by: UserId, change: &GroupChange) -> String {
        let names = |users: &[UserId]| {
            let names: Vec<_> = users.iter().map(|user| self.people.name(*user)).collect();
            names.join(", ")
        };
        let by = self.people.name(by);
        match change {
            GroupChange::Create { look, members } if members.is_empty() => {
                format!("{by} made the group {}", printable(&look.name))
            }
            GroupChange::Create { look, members } => {
                format!("{by} made the group {} with {}", printable(&look.name), names(members))
            }
            GroupChange::Add(users) => format!("{by} added {}", names(users)),
            GroupChange::Remove(users) => format!("{by} removed {}", names(users)),
            GroupChange::Leave { owner: None } => format!("{by} left"),
            GroupChange::Leave { owner: Some(owner) } => format!("{by} left; {} owns it now", self.people.name(*owner)),
            GroupChange::SetRole { user, role } => {
                let role = match role {
                    Role::Member => "a member",
                    Role::Admin => "an admin",
                    Role::Owner => "the owner",
                };
                format!("{by} made {} {role}", self.people.name(*user))
            }
            GroupChange::SetLook { name: Some(name), .. } => format!("{by} called it {}", printable(name)),
            GroupChange::SetLook { announcements: Some(true), .. } => format!("{by} lets only admins write"),
            GroupChange::SetLook { announcements: Some(false), .. } => format!("{by} lets everybody write"),
            GroupChange::SetLook { .. } => format!("{by} changed the picture"),
            GroupChange::SetInvite { expires_ms: None, .. } => format!("{by} made a link to the group"),
            GroupChange::SetInvite { expires_ms: Some(at), .. } => {
                format!("{by} made a link to the group, good until {}", clock(*at, 0))
            }
            GroupChange::SetTimer { timer_s: 0 } => format!("{by} lets what is written from now on stay"),
            GroupChange::SetTimer { timer_s } => {
                format!("{by} lets what is written from now on disappear after {}", span(*timer_s))
            }
            GroupChange::EndInvite => format!("{by} ended the link to the group"),
            GroupChange::Join { .. } => format!("{by} came in by the link"),
            GroupChange::Unknown => format!("{by} changed something that this version does not know"),
        }
    }

    /// How a recipient is called here.
    pub(super) fn name_of(&self, to: Recipient) -> String {
        match to {
            Recipient::User(user) => self.people.name(user),
            Recipient::Group(chat) => self.groups.name(chat),
        }
    }
}

const fn role_text(role: Role) -> &'static str {
    match role {
        Role::Member => "",
        Role::Admin => " (admin)",
        Role::Owner => " (owner)",
    }
}
