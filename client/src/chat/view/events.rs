//! What the client tells.

use core::time::Duration;

use columba_wire::{ChatId, ClientSeq, Code, UserId};

use super::{Ask, Leaving, Link, Telling, View, commands::presence_line};
use crate::{
    chat::{args::reason, words::words},
    error::Error,
    limits::{CHAT_GROUPS_MAX, CHAT_RECEIPTS_MAX, CHAT_RETRY_SHOWN, TYPING_LAPSES},
    types::{Carrier, Content, Event, Message, Presence, Receipt, Recipient},
};

impl View {
    /// Takes an event.
    pub(in crate::chat) fn handle_event(&mut self, event: Event) {
        match event {
            Event::Connected { carrier } => self.handle_connected(carrier),
            Event::Disconnected { reason, retry_in } => self.handle_disconnected(reason, retry_in),
            Event::CertificatePinned { fingerprint } => self.notice(format!(
                "from now on only the certificate seen first is trusted: SHA-256 {fingerprint}; compare it with the \
                 server's to be sure that nobody listens in"
            )),
            Event::Synced => self.handle_synced(),
            Event::Message(message) => self.handle_message(&message),
            Event::Gap { chat, after, before } => {
                let name = self.name_of_chat(chat);
                self.trouble(format!(
                    "messages {} to {} of the chat with {name} did not come: asking again; else /history may have them",
                    after.next(),
                    before.prev(),
                ));
            }
            Event::Sent(sent) => self.handle_sent(&sent),
            Event::SendFailed { client_seq, reason } => self.handle_send_failed(client_seq, &reason),
            Event::Receipt(receipt) => self.handle_receipt(&receipt),
            Event::Presence(presence) => self.handle_presence(presence),
            Event::Linked(account) => self.handle_linked(account),
            Event::LinkFailed { reason } => self.handle_link_failed(&reason),
            // The answer tells it.
            Event::Revoked if self.deletes => {}
            Event::Revoked => self.trouble("this device was revoked from another one".to_owned()),
            Event::AccountChanged(account) => self.handle_account_changed(&account),
            Event::Typing { chat, user, on } => self.handle_typing(chat, user, on),
            // Nobody calls from a terminal.
            Event::Signal(_) => {}
            // There is no encryption here that needs them.
            Event::KeysLow { .. } => {}
        }
    }

    fn handle_connected(&mut self, carrier: Carrier) {
        self.link = Link::Open { carrier, synced: false };
        for reading in self.reading.values_mut() {
            reading.telling = Telling::Idle;
        }
        self.notice(format!("connected over {carrier}"));
    }

    fn handle_disconnected(&mut self, error: Error, retry_in: Option<Duration>) {
        let reason = reason(&error);
        let Some(retry_in) = retry_in else {
            self.link = Link::Offline(reason);
            match error {
                Error::Goaway { code: Code::Revoked, .. } if self.deletes => self.leaving = Some(Leaving::Quit),
                error => self.ended = Some(error),
            }
            return;
        };
        // The first attempts follow each other closely; one line of them is enough.
        let is_news = self.link != Link::Offline(reason.clone());
        if is_news || retry_in >= CHAT_RETRY_SHOWN {
            let seconds = retry_in.as_millis().div_ceil(1000);
            self.notice(format!("offline: {reason}; retrying in {seconds} s"));
        }
        self.link = Link::Offline(reason);
    }

    fn handle_synced(&mut self) {
        self.was_synced = true;
        let Link::Open { synced, .. } = &mut self.link else {
            return;
        };
        if core::mem::replace(synced, true) {
            return;
        }
        for chat in core::mem::take(&mut self.unknown_chats).into_iter().take(CHAT_GROUPS_MAX) {
            self.ask(Ask::Chat { chat });
        }
        let chosen = self.peer.map(|peer| peer.chat);
        let others = self.ticks.unread_chats().filter(|chat| Some(*chat) != chosen);
        let chats: Vec<_> = chosen.into_iter().chain(others).take(CHAT_RECEIPTS_MAX).collect();
        for chat in chats {
            self.ask(Ask::Receipts { chat, shown: false });
        }
    }

    fn handle_message(&mut self, message: &Message) {
        let is_group = self.meet_group(message);
        self.print_message(message);
        let (chat, sender) = (message.chat, message.sender);
        let is_chosen = self.peer.is_some_and(|peer| peer.chat == chat);
        if is_chosen {
            self.mark_shown(chat, message.seq);
            self.mark_on_screen(chat, message.seq);
        }
        if self.is_me(sender) {
            return;
        }
        if is_group {
            if let Some(group) = self.groups.get_mut(chat) {
                group.newest = group.newest.max(message.seq);
                group.unread += u32::from(!is_chosen);
            }
        } else if let Some(person) = self.people.meet(sender) {
            person.newest = person.newest.max(message.seq);
            person.unread += u32::from(!is_chosen);
            self.hint(sender);
        }
    }

    /// Tells once how to answer a stranger.
    fn hint(&mut self, sender: UserId) {
        if self.people.has_name(sender) || !self.hinted.insert(sender) {
            return;
        }
        let id = self.people.name(sender);
        self.notice(format!("{id} has no name here: /with HANDLE finds people by their handles, /with {id} answers"));
    }

    fn handle_send_failed(&mut self, client_seq: ClientSeq, error: &Error) {
        let reason = reason(error);
        let unknown = matches!(error, Error::OutcomeUnknown { .. });
        let what = if unknown { "may be in the chat or not; /history tells" } else { "was not sent" };
        match self.ticks.handle_failed(client_seq) {
            Some(failed) => {
                let name = self.name_of(failed.to);
                let text = words(&Content::parse(&failed.body));
                self.trouble(format!("{} to {name} {what} ({reason}): {text}", failed.number));
            }
            None => self.trouble(format!("a message of an earlier run {what} ({reason})")),
        }
    }

    fn handle_receipt(&mut self, receipt: &Receipt) {
        if !receipt.user.is_some_and(|user| self.is_me(user)) {
            self.ticks.handle_receipt(receipt.chat, receipt.delivered, receipt.read);
        }
    }

    /// Somebody writes to the chosen chat: a line, for a person at a terminal. A script has no use for it.
    fn handle_typing(&mut self, chat: ChatId, user: UserId, on: bool) {
        let is_chosen = self.peer.is_some_and(|peer| peer.chat == chat);
        if !on || !is_chosen || self.echo || self.is_me(user) {
            return;
        }
        let now_ms = self.now_ms;
        self.writing.retain(|_, shown_ms| Duration::from_millis(now_ms.saturating_sub(*shown_ms)) < TYPING_LAPSES);
        if self.writing.contains_key(&(chat, user)) {
            return;
        }
        self.writing.insert((chat, user), now_ms);
        let name = self.people.name(user);
        self.notice(format!("{name} is writing"));
    }

    fn handle_presence(&mut self, presence: Presence) {
        let name = self.people.name(presence.user);
        let is_chosen = self.peer.is_some_and(|peer| peer.to == Recipient::User(presence.user));
        let Some(person) = self.people.meet(presence.user).filter(|_| is_chosen) else {
            return;
        };
        let before = person.presence.replace(presence);
        let seen = |presence: Presence| (presence.online, presence.last_seen_ms);
        if before.map(seen) != Some(seen(presence)) {
            self.notice(presence_line(&name, presence, self.now_ms));
        }
        if before.is_some_and(|before| before.devices_version < presence.devices_version) {
            self.notice(format!("{name} has added or removed a device"));
        }
    }
}
