//! Contacts, blocked users, and what others may know.

use columba_wire::{Audience, Privacy, UserId};

use super::{Answer, Ask, View};
use crate::{
    chat::{args::reason, command::RosterCommand},
    error::Result,
    types::Roster,
};

impl View {
    pub(super) fn change_roster(&mut self, command: RosterCommand) {
        self.ask(Ask::Roster { command });
    }

    pub(super) fn handle_roster_answer(&mut self, answer: RosterAnswer) {
        let RosterAnswer { command, result } = answer;
        let told = match result {
            Ok(told) => told,
            Err(error) => {
                let what = match &command {
                    RosterCommand::Block { handle, blocked: true } => format!("{handle} was not blocked"),
                    RosterCommand::Block { handle, blocked: false } => format!("{handle} is still blocked"),
                    RosterCommand::Show => "no contacts".to_owned(),
                    RosterCommand::Contacts { .. } => "your contacts were not changed".to_owned(),
                    RosterCommand::Privacy(_) => "your privacy settings".to_owned(),
                };
                return self.trouble(format!("{what}: {}", reason(&error)));
            }
        };
        match (command, told) {
            (RosterCommand::Block { handle, blocked }, _) => {
                let now = if blocked { "is blocked" } else { "is not blocked any more" };
                self.notice(format!("{handle} {now}"));
            }
            (_, RosterTold::Privacy(privacy)) => self.show_privacy(privacy),
            (_, RosterTold::Roster(roster)) => self.show_roster(&roster),
            (_, RosterTold::Done) => self.notice("your contacts are stored".to_owned()),
        }
    }

    fn show_roster(&mut self, roster: &Roster) {
        for (what, users) in [("contacts", &roster.contacts), ("blocked", &roster.blocked)] {
            let names: Vec<_> = users.iter().map(|user| self.name_or_ask(*user)).collect();
            let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
            self.notice(format!("{what}: {names}"));
        }
    }

    fn name_or_ask(&mut self, user: UserId) -> String {
        if !self.people.has_name(user) {
            self.ask(Ask::Handle { user });
        }
        self.people.name(user)
    }

    fn show_privacy(&mut self, privacy: Privacy) {
        let who = |audience| match audience {
            Audience::Everyone => "everyone",
            Audience::Contacts => "your contacts",
            Audience::Nobody => "nobody",
        };
        self.notice(format!("when you were last online: {}", who(privacy.last_seen)));
        self.notice(format!("that you are online: {}", who(privacy.online)));
        self.notice(format!("may let you into groups: {}", who(privacy.groups)));
        let receipts = if privacy.read_receipts_off { "not told, but in groups" } else { "told" };
        self.notice(format!("what you have read: {receipts}"));
    }
}

/// What became of a [`RosterCommand`].
#[derive(Debug)]
pub(in crate::chat) struct RosterAnswer {
    pub(in crate::chat) command: RosterCommand,
    pub(in crate::chat) result: Result<RosterTold>,
}

/// What the server says.
#[derive(Debug)]
pub(in crate::chat) enum RosterTold {
    Done,
    Roster(Roster),
    Privacy(Privacy),
}

impl From<RosterAnswer> for Answer {
    fn from(answer: RosterAnswer) -> Self {
        Self::Roster(answer)
    }
}
