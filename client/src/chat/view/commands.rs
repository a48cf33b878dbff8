//! What the user typed.

use columba_wire::{ChatId, UserId, ids::handle_is_valid};

use super::{Ask, Leaving, Link, Telling, Then, Typed, View};
use crate::{
    chat::{
        command::{self, Command, HELP},
        text::{clock, messages, printable, short_id},
    },
    types::{Fingerprint, Presence, Recipient},
};

impl View {
    /// Takes a line of standard input.
    pub(in crate::chat) fn handle_typed(&mut self, typed: Typed) {
        match typed {
            Typed::Line(line) => match command::parse(&line) {
                Ok(Some(command)) => self.handle_command(command),
                Ok(None) => {}
                Err(complaint) => self.trouble(complaint),
            },
            Typed::TooLong => self.trouble(command::too_long()),
            Typed::End => {
                let unstored = self.ticks.unstored();
                if unstored > 0 {
                    self.notice(format!("waiting for {} to be stored; Ctrl-C leaves at once", messages(unstored)));
                }
                self.leaving = Some(Leaving::Drain);
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Say(text) => self.say(text),
            Command::Tell(body) => self.tell(&body),
            Command::Show(count) => self.show(count),
            Command::With(handle) => self.with(handle),
            Command::History(count) => self.history(count),
            Command::Who => self.who(),
            Command::Chats => self.chats(),
            Command::Read => self.read(),
            Command::Name(handle) => self.name(handle),
            Command::Devices => self.ask(Ask::Devices),
            Command::Link { code, approves } => self.link(code, approves),
            Command::Rename { number, name } => self.ask(Ask::Rename { number, name }),
            Command::Revoke(number) => self.ask(Ask::Revoke { number }),
            Command::DeleteAccount(handle) => {
                self.deletes = true;
                self.ask(Ask::DeleteAccount { handle });
            }
            Command::Whois(handle) => self.whois(handle),
            Command::Profile(change) => self.set_profile(change),
            Command::Members => self.show_members(),
            Command::Group(command) => self.group(command),
            Command::Roster(command) => self.change_roster(command),
            Command::Me => self.ask(Ask::Certificate),
            Command::Help => HELP.iter().for_each(|line| self.notice((*line).to_owned())),
            Command::Quit => self.leaving = Some(Leaving::Quit),
        }
    }

    /// Chooses somebody; whom the profile does not know the server is asked for.
    pub(super) fn with(&mut self, handle: String) {
        // Whatever follows is not for the one before.
        self.peer = None;
        if handle.starts_with('#') {
            return match self.groups.find(&handle) {
                Some(chat) => self.choose_group(chat),
                None => self.trouble(format!("no one group is called {handle} here; /chats shows them")),
            };
        }
        match self.people.find(&handle) {
            Some(user) => self.choose(user),
            None if handle_is_valid(&handle) => {
                self.choosing = true;
                self.ask(Ask::Find { handle, then: Then::Choose });
            }
            None => self.not_a_handle(&handle),
        }
    }

    /// From now on lines are for this person.
    pub(super) fn choose(&mut self, user: UserId) {
        let Some(me) = self.me.as_ref().map(|me| me.user) else {
            return;
        };
        let chat = ChatId::direct(me, user);
        self.set_peer(Recipient::User(user), chat);
        let name = self.people.name(user);
        let notes = if user == me { ", which is you: notes" } else { "" };
        self.notice(format!("writing to {name}{notes}"));
        if let Some(person) = self.people.meet(user) {
            person.unread = 0;
            // The present state is told anew.
            person.presence = None;
            let newest = person.newest;
            self.mark_shown(chat, newest);
        }
        self.ask(Ask::Log { chat });
        self.ask(Ask::Watch { user });
        if self.is_online() {
            self.ask(Ask::Receipts { chat, shown: false });
        }
    }

    fn history(&mut self, limit: u32) {
        match self.peer {
            Some(peer) => self.ask(Ask::History { chat: peer.chat, before: peer.oldest, limit }),
            None => self.nobody(),
        }
    }

    fn who(&mut self) {
        let Some(peer) = self.peer else {
            return self.nobody();
        };
        if let Recipient::User(user) = peer.to {
            let name = self.people.name(user);
            self.notice(format!("{name} is {user}"));
            match self.people.get(user).and_then(|person| person.presence) {
                Some(presence) => self.notice(presence_line(&name, presence, self.now_ms)),
                None => self.notice(format!("whether {name} is online is not known")),
            }
        }
        self.ask(Ask::Receipts { chat: peer.chat, shown: true });
    }

    fn chats(&mut self) {
        let mut lines = Vec::new();
        for (name, user, person) in self.people.by_name() {
            if self.is_me(user) {
                continue;
            }
            let unread = if person.unread > 0 { format!(", {} unread", person.unread) } else { String::new() };
            let chosen = if self.peer.is_some_and(|peer| peer.to == Recipient::User(user)) { ", chosen" } else { "" };
            let id = if self.people.has_name(user) { format!(" ({})", short_id(user)) } else { String::new() };
            lines.push(format!("{name}{id}{unread}{chosen}"));
        }
        for (name, chat, group) in self.groups.by_name() {
            let unread = if group.unread > 0 { format!(", {} unread", group.unread) } else { String::new() };
            let chosen = if self.peer.is_some_and(|peer| peer.chat == chat) { ", chosen" } else { "" };
            lines.push(format!("{name}, {} members{unread}{chosen}", group.members.len()));
        }
        if lines.is_empty() {
            lines.push("nobody yet: /with HANDLE".to_owned());
        }
        lines.into_iter().for_each(|line| self.notice(line));
    }

    /// Marks all that was shown as read.
    fn read(&mut self) {
        let Some(me) = self.me.as_ref().map(|me| me.user) else {
            return;
        };
        for (user, newest) in self.people.take_unread() {
            self.mark_shown(ChatId::direct(me, user), newest);
        }
        for (chat, newest) in self.groups.take_unread() {
            self.mark_shown(chat, newest);
        }
        let mut open = 0;
        for reading in self.reading.values_mut().filter(|reading| reading.shown > reading.told) {
            open += 1;
            reading.telling = Telling::Idle;
        }
        self.notice(match open {
            0 => "everything shown is read".to_owned(),
            _ if self.is_online() => "marked as read".to_owned(),
            _ => "offline: it will be marked as read when there is a connection".to_owned(),
        });
    }

    fn name(&mut self, handle: String) {
        if !handle_is_valid(&handle) {
            return self.not_a_handle(&handle);
        }
        self.ask(Ask::Find { handle, then: Then::Learn });
    }

    /// What `/me` says.
    pub(super) fn print_me(&mut self, certificate: Option<Fingerprint>) {
        let Some(me) = self.me.clone() else {
            return;
        };
        self.notice(format!("{}, device {} of user {}", me.handle, me.device, me.user));
        let link = match &self.link {
            Link::Open { carrier, .. } => format!("connected over {carrier}"),
            Link::Offline(reason) if reason.is_empty() => "offline".to_owned(),
            Link::Offline(reason) => format!("offline: {reason}"),
        };
        self.notice(format!("server {}: {link}", printable(self.server.as_bytes())));
        if let Some(certificate) = certificate {
            self.notice(format!("certificate SHA-256 {certificate}"));
        }
    }

    pub(super) fn nobody(&mut self) {
        self.trouble("nobody is chosen: /with HANDLE first".to_owned());
    }

    pub(super) fn not_a_handle(&mut self, text: &str) {
        let text = printable(text.as_bytes());
        self.trouble(format!("{text} is no handle: 3 to 32 of a-z 0-9 _ . -, first a letter or digit"));
    }
}

/// Whether somebody is there, in words.
pub(super) fn presence_line(name: &str, presence: Presence, now_ms: u64) -> String {
    match (presence.online, presence.last_seen_ms) {
        (true, _) => format!("{name} is online"),
        (false, Some(at)) => format!("{name} was last seen {}", clock(at, now_ms)),
        (false, None) => format!("{name} is offline"),
    }
}
