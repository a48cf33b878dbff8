//! What the server says, one function for each kind.

use core::time::Duration;

use columba_wire::{
    ChatId, ClientSeq, Code, DeviceId, MessageSeq, UserId,
    frame::FrameError,
    ids::handle_is_valid,
    limits::KEYS_LOW_AT,
    v1::{self, ServerFrame, client_frame::Kind as Asked, server_frame::Kind},
};

use super::{
    Output, Phase, Reply, Session,
    cursor::{Cursor, Verdict},
    directory::{parse_account, parse_keys, parse_roster, parse_user},
    link::{parse_devices, parse_link_info},
    record::Record,
};
use crate::{
    error::Error,
    limits::UNACKED_MESSAGES_MAX,
    types::{
        Carrier, ChatInfo, ChatPage, ChatReceipts, Event, GroupChange, HistoryPage, Invitation, Message, Presence,
        Receipt, Sent,
    },
};

impl Session {
    /// Takes a frame from the server. `carrier`: what brought it.
    pub(crate) fn handle_frame(&mut self, now: Duration, carrier: Carrier, frame: Result<ServerFrame, FrameError>) {
        match &mut self.phase {
            Phase::Offline | Phase::Ending | Phase::Ended => return,
            Phase::Open { heard_at, .. } => *heard_at = now,
            Phase::Greeting { .. } | Phase::Proving { .. } | Phase::Linking { .. } => {}
        }
        let ServerFrame { request_id, kind } = match frame {
            Ok(frame) => frame,
            Err(FrameError::NoKind) => return,
            Err(error) => return self.disconnect(Error::Protocol(error.to_string())),
        };
        let Some(kind) = kind else {
            return;
        };
        match kind {
            Kind::Challenge(challenge) => self.handle_challenge(&challenge),
            Kind::Registered(registered) => self.handle_registered(&registered),
            Kind::Welcome(welcome) => {
                if self.handle_welcome(now, &welcome) {
                    self.tell(Event::Connected { carrier });
                    self.handle_keys_left(welcome.one_time_keys);
                }
            }
            Kind::Pong(_) => {}
            Kind::Goaway(goaway) => self.handle_goaway(goaway),
            Kind::Error(error) => self.handle_error(now, request_id, error),
            Kind::Sent(sent) => self.handle_sent(&sent),
            Kind::Deliver(deliver) => self.handle_deliver(deliver),
            Kind::Receipt(receipt) => match parse_receipt(&receipt) {
                Some(receipt) => self.tell(Event::Receipt(receipt)),
                None => self.disconnect(bad_ids()),
            },
            Kind::Presence(presence) => match UserId::try_from(&presence.user_id[..]) {
                Ok(user) => {
                    let last_seen_ms = (!presence.online && presence.last_seen_ms > 0).then_some(presence.last_seen_ms);
                    let v1::Presence { online, devices_version, .. } = presence;
                    self.tell(Event::Presence(Presence { user, online, last_seen_ms, devices_version }));
                }
                Err(_) => self.disconnect(bad_ids()),
            },
            Kind::Synced(_) => {
                self.backoff.reset();
                self.tell(Event::Synced);
            }
            Kind::History(history) => {
                let page = parse_history(history).map(Reply::History);
                self.answer(request_id, page);
            }
            Kind::Receipts(receipts) => {
                let members = receipts.members.iter().map(parse_receipt).collect::<Option<Vec<_>>>();
                let last = MessageSeq::new(receipts.last_seq);
                self.answer(request_id, members.map(|members| Reply::Receipts(ChatReceipts { last, members })));
            }
            Kind::Chat(chat) => self.answer(request_id, ChatInfo::parse(chat).map(Reply::Chat)),
            Kind::Invite(invite) => self.answer(request_id, Invitation::parse(invite).map(Reply::Invitation)),
            Kind::Chats(chats) => self.answer(request_id, ChatPage::parse(chats).map(Reply::ChatPage)),
            Kind::UserFound(found) => self.handle_user_found(request_id, found),
            Kind::Done(_) => self.answer(request_id, Some(Reply::Done)),
            Kind::LinkCode(code) => self.handle_link_code(now, &code),
            Kind::Linked(linked) => self.handle_linked(now, linked),
            Kind::LinkInfo(info) => self.answer(request_id, parse_link_info(info).map(Reply::LinkRequest)),
            Kind::DeviceAdded(added) => {
                self.answer(request_id, DeviceId::new(added.device_id).ok().map(Reply::Device));
            }
            Kind::Devices(devices) => self.answer(request_id, parse_devices(devices).map(Reply::Devices)),
            Kind::User(user) => {
                let user = parse_user(user);
                if let Some(user) = user.as_ref().filter(|user| handle_is_valid(&user.handle)) {
                    let named = Record::Named { user: user.user, handle: user.handle.clone() };
                    self.outputs.push_back(Output::Record(named));
                }
                self.answer(request_id, user.map(Reply::Person));
            }
            Kind::Account(account) => match parse_account(account) {
                Some(account) if request_id == 0 => self.tell(Event::AccountChanged(account)),
                account => self.answer(request_id, account.map(Reply::OwnAccount)),
            },
            Kind::Contacts(contacts) => self.answer(request_id, parse_roster(&contacts).map(Reply::Roster)),
            Kind::KeysStored(stored) => self.answer(request_id, Some(Reply::KeysStored(stored.one_time_keys))),
            Kind::Keys(keys) => self.answer(request_id, parse_keys(&keys).map(Reply::Keys)),
            Kind::Signal(signal) => self.handle_signalled(now, signal),
            Kind::KeysLow(low) => self.handle_keys_left(low.one_time_keys),
        }
    }

    fn handle_keys_left(&mut self, one_time_keys: u32) {
        if usize::try_from(one_time_keys).is_ok_and(|left| left < KEYS_LOW_AT) {
            self.tell(Event::KeysLow { one_time_keys });
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Answers a request of ours. Others are of an earlier connection, or given up.
    fn answer(&mut self, request_id: u64, reply: Option<Reply>) {
        let Some(reply) = reply else {
            return self.disconnect(bad_ids());
        };
        if request_id % 2 == 1
            && let Some(signaller) = self.signals.remove(request_id / 2)
        {
            return signaller.into_iter().for_each(|token| self.reply(token, Ok(reply.clone())));
        }
        if request_id % 2 == 1
            && let Some(request) = self.requests.remove(request_id / 2)
            && let Some(token) = request.token
        {
            self.reply(token, Ok(reply));
        }
    }

    fn handle_user_found(&mut self, request_id: u64, found: v1::UserFound) {
        let Ok(user) = UserId::try_from(&found.user_id[..]) else {
            return self.disconnect(bad_ids());
        };
        // The server's word: what is kept is at least a handle, and not long.
        if handle_is_valid(&found.handle) {
            self.outputs.push_back(Output::Record(Record::Named { user, handle: found.handle }));
        }
        self.answer(request_id, Some(Reply::User(user)));
    }

    fn handle_sent(&mut self, sent: &v1::Sent) {
        let Ok(chat) = ChatId::try_from(&sent.chat_id[..]) else {
            return self.disconnect(bad_ids());
        };
        let client_seq = ClientSeq::new(sent.client_seq);
        let Some(entry) = self.outbox.remove(client_seq) else {
            // Given up in the meantime, and counted as unknown.
            return;
        };
        self.outbox.handle_accepted();
        let sent = Sent { client_seq, chat, seq: MessageSeq::new(sent.seq), time_ms: sent.time_ms };
        let cursor = self.cursor(chat, sent.seq);
        if entry.what.is_join() {
            cursor.progress.come_at(sent.seq);
        }
        cursor.progress.handle_own(sent.seq);
        self.outputs.push_back(Output::Record(Record::Sent { client_seq, chat, seq: sent.seq, time_ms: sent.time_ms }));
        match entry.token {
            Some(token) => self.reply(token, Ok(Reply::Sent(sent))),
            None => self.tell(Event::Sent(sent)),
        }
    }

    /// The cursor of a chat; where it is new, and this device was there before this profile, it begins at `seq`.
    fn cursor(&mut self, chat: ChatId, seq: MessageSeq) -> &mut Cursor {
        let cursor = self.chats.entry(chat).or_default();
        if !self.complete {
            cursor.progress.begin_at(seq);
        }
        cursor
    }

    fn handle_deliver(&mut self, deliver: v1::Deliver) {
        let Some(message) = parse_message(deliver) else {
            return self.disconnect(bad_ids());
        };
        let Some(me) = self.account.as_ref().map(|account| account.user).filter(|_| self.is_open()) else {
            return self.disconnect(Error::Protocol("a message before the welcome".to_owned()));
        };
        if self.untaken >= UNACKED_MESSAGES_MAX {
            return self.disconnect(Error::Protocol("more unacknowledged messages than allowed".to_owned()));
        }
        let chat = message.chat;
        self.cursor(chat, message.seq);
        let cursor = self.chats.get_mut(&chat).expect("it was just made");
        if message.change.as_ref().is_some_and(|change| change.begins_for(me, message.sender)) {
            cursor.progress.come_at(message.seq);
        }
        let outbox = &self.outbox;
        match cursor.handle_deliver(message.clone(), || outbox.unanswered_in(chat)) {
            Verdict::Duplicate { kept } => {
                if kept {
                    self.acks.insert(chat);
                }
                return;
            }
            Verdict::New => {}
            Verdict::Gap { after } => {
                // Nothing behind it is acknowledged, so the server gets a second chance to deliver it all.
                self.tell(Event::Gap { chat, after, before: message.seq });
                return self.disconnect(Error::Protocol(format!("nothing between {after} and {} came", message.seq)));
            }
        }
        self.untaken += 1;
        self.end_typing(chat, message.sender);
        self.tell(Event::Message(message));
    }

    fn handle_goaway(&mut self, goaway: v1::Goaway) {
        self.asked_wait = Duration::from_millis(u64::from(goaway.reconnect_after_ms));
        let code = code(goaway.code);
        if code == Code::Revoked {
            self.tell(Event::Revoked);
        }
        self.disconnect(Error::Goaway { code, message: goaway.message });
    }

    fn handle_error(&mut self, now: Duration, request_id: u64, error: v1::Error) {
        let code = code(error.code);
        let retry_after = Duration::from_millis(u64::from(error.retry_after_ms));
        if !self.is_open() {
            return self.handle_login_refused(code, error.message, retry_after);
        }
        if request_id == 0 {
            self.asked_wait = retry_after;
            return self.disconnect(Error::Goaway { code, message: error.message });
        }
        if request_id % 2 == 1 {
            if let Some(signaller) = self.signals.remove(request_id / 2) {
                let refused = Error::Refused { code, message: error.message };
                return signaller.into_iter().for_each(|token| self.reply(token, Err(refused.clone())));
            }
            let Some(request) = self.requests.remove(request_id / 2) else {
                return;
            };
            if matches!(request.kind, Asked::SubscribePresence(_)) && !code.is_retryable() {
                self.watched.clear();
            }
            if let Some(token) = request.token {
                self.reply(token, Err(Error::Refused { code, message: error.message }));
            }
            return;
        }
        let client_seq = ClientSeq::new(request_id / 2);
        if code.is_retryable() {
            self.outbox.handle_refused(now, client_seq, retry_after);
            return;
        }
        if let Some(entry) = self.outbox.remove(client_seq) {
            let reason = match code {
                Code::ClientSeqTooOld => Error::OutcomeUnknown { client_seq },
                _ => Error::Refused { code, message: error.message },
            };
            self.give_up(client_seq, entry, reason);
        }
    }

    /// Login or registration failed. What may succeed later is tried again; a registration's caller decides itself.
    fn handle_login_refused(&mut self, code: Code, message: String, retry_after: Duration) {
        self.asked_wait = retry_after;
        let error = Error::Refused { code, message };
        if self.account.is_some() || code == Code::UnsupportedVersion {
            return self.disconnect(error);
        }
        if self.linking.is_some() {
            self.fail_link(&error);
            return self.disconnect(Error::ConnectionLost(format!("link refused: {code}")));
        }
        if let Some(registration) = self.registration.take_if(|_| !code.is_retryable()) {
            self.reply(registration.token, Err(error));
        }
        self.disconnect(Error::ConnectionLost(format!("registration refused: {code}")));
    }
}

/// A code's number; those of a newer server are treated as a fault of the server.
fn code(number: u32) -> Code {
    Code::from_number(number).unwrap_or(Code::Internal)
}

pub(super) fn bad_ids() -> Error {
    Error::Protocol("ids of the wrong form".to_owned())
}

fn parse_message(deliver: v1::Deliver) -> Option<Message> {
    Some(Message {
        chat: ChatId::try_from(&deliver.chat_id[..]).ok()?,
        seq: MessageSeq::new(deliver.seq),
        sender: UserId::try_from(&deliver.sender_user[..]).ok()?,
        time_ms: deliver.time_ms,
        disappears_ms: match deliver.timer_s {
            0 => None,
            timer_s => Some(deliver.time_ms.saturating_add(u64::from(timer_s) * 1000)),
        },
        body: deliver.body,
        change: match deliver.change {
            None => None,
            Some(change) => Some(GroupChange::parse(*change)?),
        },
    })
}

fn parse_receipt(receipt: &v1::Receipt) -> Option<Receipt> {
    Some(Receipt {
        chat: ChatId::try_from(&receipt.chat_id[..]).ok()?,
        user: match &receipt.user_id[..] {
            [] => None,
            user => Some(UserId::try_from(user).ok()?),
        },
        delivered: MessageSeq::new(receipt.delivered_seq),
        read: MessageSeq::new(receipt.read_seq),
    })
}

fn parse_history(history: v1::History) -> Option<HistoryPage> {
    let messages = history.messages.into_iter().map(parse_message).collect::<Option<_>>()?;
    Some(HistoryPage { messages, complete: history.complete })
}
