//! What became of requests.

use std::collections::BTreeSet;

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, Code, MessageSeq, UserId};

use super::{Answer, Ask, Telling, Then, Tone, View};
use crate::{
    chat::{
        args::reason,
        text::clock,
        words::{answered, join, words},
    },
    error::{Error, Result},
    limits::CHAT_LOG_SHOWN,
    types::{Account, ChatReceipts, Content, HistoryPage, Message, Receipt, Recipient, Unsent},
};

impl View {
    /// Takes the answer to an [`Ask`].
    pub(in crate::chat) fn handle_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Registered(result) => self.handle_registered(result),
            Answer::Names(names) => names.iter().for_each(|(user, handle)| self.people.learn(*user, handle)),
            Answer::Chats(chats) => {
                let me = self.me.as_ref().map(|me| me.user);
                let direct: BTreeSet<_> = me
                    .into_iter()
                    .flat_map(|me| self.people.by_name().into_iter().map(move |(_, user, _)| ChatId::direct(me, user)))
                    .collect();
                self.unknown_chats = chats.into_iter().filter(|chat| !direct.contains(chat)).collect();
            }
            Answer::OwnChats(infos) => infos.into_iter().for_each(|info| self.handle_chat(Ok(info))),
            Answer::AccountDeleted(Ok(())) => self.notice("this account is deleted".to_owned()),
            Answer::AccountDeleted(Err(error)) => {
                self.deletes = false;
                self.trouble(format!("the account was not deleted: {}", reason(&error)));
            }
            Answer::Unsent(messages) => {
                messages.into_iter().for_each(|message| self.handle_unsent(message));
                if let Some(first) = self.first_peer.take() {
                    self.with(first);
                }
            }
            Answer::Certificate(certificate) => self.print_me(certificate),
            Answer::Queued { to, body, result } => self.handle_queued(to, body, result),
            Answer::Log { chat, messages } => self.handle_log(chat, &messages),
            Answer::Found { handle, then, result } => self.handle_found(handle, then, result),
            Answer::History { chat, result } => self.handle_history(chat, result),
            Answer::Receipts { chat, shown, result } => self.handle_receipts(chat, shown, result),
            Answer::Read { chat, seq, result } => self.handle_read(chat, seq, result.is_ok()),
            Answer::Watching => {}
            Answer::Devices(answer) => self.handle_devices_answer(answer),
            Answer::Whois { handle, result } => self.handle_whois(&handle, result),
            Answer::ProfileSet(result) => self.handle_profile_set(result),
            Answer::Chat(result) => self.handle_chat(result),
            Answer::Handle(result) => {
                if let Ok(user) = result {
                    self.people.learn(user.user, &user.handle);
                }
            }
            Answer::Group { command, result } => self.handle_group_changed(&command, result),
            Answer::Roster(answer) => self.handle_roster_answer(answer),
        }
    }

    fn handle_registered(&mut self, result: Result<Account>) {
        match result {
            Ok(account) => {
                self.notice(format!("registered as {}, user {}", account.handle, account.user));
                self.handle_account(account);
            }
            // The node is away; the events tell so.
            Err(Error::TimedOut(_)) => self.ask(Ask::Register { handle: self.handle.clone() }),
            Err(error) => self.ended = Some(error),
        }
    }

    fn handle_unsent(&mut self, message: Unsent) {
        let text = words(&Content::parse(&message.body));
        let number = self.ticks.queue(message.client_seq, message.to, message.body);
        let name = self.name_of(message.to);
        self.notice(format!("{number} to {name} was not sent before: {text}"));
    }

    fn handle_queued(&mut self, to: Recipient, body: Bytes, result: Result<ClientSeq>) {
        let content = Content::parse(&body);
        let client_seq = match result {
            Ok(client_seq) => client_seq,
            Err(error) => return self.trouble(format!("not sent ({}): {}", reason(&error), words(&content))),
        };
        let number = self.ticks.queue(client_seq, to, body);
        if !self.is_online() {
            self.ticks.wait(number);
        }
        if self.echo {
            let words = format!("{}{}", self.quotation(MessageSeq::MAX, answered(&content)), words(&content));
            let phrase = join(&self.handle, &content, &words);
            let line = format!("{} {number} {phrase}", clock(self.now_ms, self.now_ms));
            self.print(Tone::Message, line);
        }
    }

    fn handle_log(&mut self, chat: ChatId, messages: &[Message]) {
        if self.peer.is_none_or(|peer| peer.chat != chat) {
            return;
        }
        let Some(oldest) = messages.first().map(|message| message.seq) else {
            if self.is_online() {
                let limit = u32::try_from(CHAT_LOG_SHOWN).expect("a handful of messages");
                self.ask(Ask::History { chat, before: MessageSeq::MAX, limit });
            }
            return;
        };
        self.mark_on_screen(chat, oldest);
        self.print_page(messages.iter());
        self.mark_others_shown(chat, messages.iter());
    }

    fn handle_found(&mut self, handle: String, then: Then, result: Result<UserId>) {
        self.choosing &= then != Then::Choose;
        let user = match result {
            Ok(user) => user,
            Err(error) => {
                let what = match &error {
                    Error::Refused { code: Code::UnknownUser, .. } => {
                        format!("nobody is called {handle} (UNKNOWN_USER)")
                    }
                    _ => format!("{handle} was not found: {}", reason(&error)),
                };
                let chosen = if then == Then::Choose { "; nobody is chosen now" } else { "" };
                return self.trouble(format!("{what}{chosen}"));
            }
        };
        self.people.learn(user, &handle);
        match then {
            Then::Choose => self.choose(user),
            Then::Learn => self.notice(format!("{handle} is {user}")),
        }
    }

    fn handle_history(&mut self, chat: ChatId, result: Result<HistoryPage>) {
        if self.peer.is_none_or(|peer| peer.chat != chat) {
            return;
        }
        let page = match result {
            Ok(page) => page,
            Err(Error::Refused { code: Code::UnknownChat, .. }) => {
                return self.notice("no messages yet".to_owned());
            }
            Err(error) => return self.trouble(format!("no history: {}", reason(&error))),
        };
        if let Some(oldest) = page.messages.last() {
            self.mark_on_screen(chat, oldest.seq);
        }
        if page.complete {
            self.notice("here the chat begins".to_owned());
        }
        self.print_page(page.messages.iter().rev());
        self.mark_others_shown(chat, page.messages.iter());
    }

    fn mark_others_shown<'a>(&mut self, chat: ChatId, messages: impl Iterator<Item = &'a Message>) {
        if let Some(newest) = messages.filter(|message| !self.is_me(message.sender)).map(|message| message.seq).max() {
            self.mark_shown(chat, newest);
        }
    }

    fn handle_receipts(&mut self, chat: ChatId, shown: bool, result: Result<ChatReceipts>) {
        let receipts = match result {
            Ok(receipts) => receipts,
            Err(Error::Refused { code: Code::UnknownChat, .. }) if shown => {
                return self.notice("no messages yet".to_owned());
            }
            Err(error) if shown => return self.trouble(format!("no receipts: {}", reason(&error))),
            // They are asked for again after the next reconnect.
            Err(_) => return,
        };
        let others: Vec<_> =
            receipts.members.iter().filter(|member| !member.user.is_some_and(|user| self.is_me(user))).collect();
        // A message is delivered, or read, when everybody has it, or has read it.
        let all = |mark: fn(&Receipt) -> MessageSeq| others.iter().map(|member| mark(member)).min();
        if let (Some(delivered), Some(read)) = (all(|member| member.delivered), all(|member| member.read)) {
            self.ticks.handle_receipt(chat, delivered, read);
        }
        if shown {
            let line = |member: &Receipt| {
                let name = member.user.map(|user| self.people.name(user)).unwrap_or_default();
                let (delivered, read, last) = (member.delivered, member.read, receipts.last);
                format!("{name} has received up to message {delivered} of {last}, and read up to {read}")
            };
            let lines: Vec<_> = others.into_iter().map(line).collect();
            lines.into_iter().for_each(|line| self.notice(line));
        }
    }

    /// What could not be told is told with the next message or connection.
    fn handle_read(&mut self, chat: ChatId, seq: MessageSeq, is_told: bool) {
        let Some(reading) = self.reading.get_mut(&chat) else {
            return;
        };
        if is_told {
            reading.told = reading.told.max(seq);
        }
        reading.telling = if is_told { Telling::Idle } else { Telling::Failed };
    }
}
