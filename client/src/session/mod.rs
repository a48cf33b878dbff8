//! The client's side of a session, over all its connections: no sockets, no clock, no files.
//!
//! | module | what it holds |
//! |---|---|
//! | [`outbox`] | messages without an answer, in order |
//! | [`cursor`] | per chat: what is new, what is a repetition, what is missing |
//! | [`requests`] | other requests without an answer |
//! | [`record`] | what must outlive the process |
//! | [`backoff`] | when to connect again |
//! | [`handshake`] | from the connection to the welcome |
//! | [`link`] | from a code to a device of an account |
//! | [`answer`] | what the server says in an open session |
//! | [`directory`] | users and keys: frames and values |
//! | [`signals`] | what is said at once or never: typing, calls |
//!
//! The driver gives it frames, calls and the time, carries out [`Output`]s, and takes frames with
//! [`Session::poll_frame`] when the socket has room. Time is what has passed since the driver began.
//!
//! Invariants
//! - Every record that was put out is durable before the next frame is taken: so a client seq is never given twice, and
//!   what is acknowledged is kept.
//! - Each message of a chat is handed out once per process, in order; once over all processes where the application
//!   takes it before a crash.
//! - Every call is answered once.

mod answer;
pub(crate) mod backoff;
pub(crate) mod cursor;
pub(crate) mod directory;
mod handshake;
mod link;
pub(crate) mod outbox;
pub(crate) mod record;
pub(crate) mod requests;
mod signals;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use columba_wire::{
    ChatId, ClientSeq, Code, DeviceId, MessageSeq, UserId,
    auth::Binding,
    limits::{AGENT_BYTES_MAX, BODY_BYTES_MAX, DEVICE_NAME_BYTES_MAX, HEARTBEAT_MS},
    v1::{self, ClientFrame, client_frame::Kind},
};
use ed25519_dalek::SigningKey;

use self::{
    backoff::Backoff,
    cursor::{Cursor, Progress},
    outbox::{Entry, Outbound, Outbox},
    record::{LogEntry, Record},
    requests::{Request, Requests},
    signals::Signals,
};
use crate::{
    error::Error,
    types::{
        Account, ChatInfo, ChatPage, ChatReceipts, Device, Event, Fingerprint, HistoryPage, Invitation, KeyBundle,
        LinkOffer, LinkRequest, Message, OwnAccount, Roster, Sent, Unsent, User,
    },
};

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token(pub(crate) u64);

/// What a session wants done, in order.
#[derive(Debug)]
pub(crate) enum Output {
    /// Keep this; durable before the next frame is taken.
    Record(Record),
    /// The account is known now: keep it.
    Account(Account),
    /// Tell the application.
    Event(Event),
    /// Answer a call.
    Reply(Token, Result<Reply, Error>),
    /// End the connection, then call [`Session::handle_disconnected`] with this.
    Disconnect(Error),
}

/// The answer to a call.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Done,
    Account(Account),
    Queued(ClientSeq),
    Sent(Sent),
    User(UserId),
    Person(User),
    OwnAccount(OwnAccount),
    Roster(Roster),
    KeysStored(u32),
    Keys(Vec<KeyBundle>),
    History(HistoryPage),
    Receipts(ChatReceipts),
    Chat(ChatInfo),
    Invitation(Invitation),
    Log(Vec<Message>),
    Names(BTreeMap<UserId, String>),
    Chats(Vec<ChatId>),
    ChatPage(ChatPage),
    Unsent(Vec<Unsent>),
    Certificate(Option<Fingerprint>),
    LinkOffer(LinkOffer),
    LinkRequest(LinkRequest),
    Device(DeviceId),
    Devices(Vec<Device>),
}

/// A send, as it is called.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) what: Outbound,
    /// How long to try. `None`: for ever; the call is answered at once with the number, and the outcome is an event.
    pub(crate) patience: Option<Duration>,
}

/// How this client calls itself.
#[derive(Debug)]
pub(crate) struct Names {
    /// To the server's operator.
    pub(crate) agent: String,
    /// To the account's other devices.
    pub(crate) device: String,
}

/// What an earlier run left.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) account: Option<Account>,
    /// The number of the next message.
    pub(crate) next_client_seq: u64,
    /// In order.
    pub(crate) outbox: Vec<(ClientSeq, Outbound)>,
    pub(crate) chats: BTreeMap<ChatId, Progress>,
    /// Whether every message that this device ever got is accounted for in `chats`.
    pub(crate) complete: bool,
}

/// See the module.
pub(crate) struct Session {
    key: SigningKey,
    agent: String,
    device_name: String,
    account: Option<Account>,
    complete: bool,
    phase: Phase,
    registration: Option<handshake::Registration>,
    linking: Option<link::Linking>,
    logins: Vec<(Token, Duration)>,
    next_client_seq: u64,
    outbox: Outbox,
    requests: Requests,
    signals: Signals,
    request_patience: Duration,
    chats: BTreeMap<ChatId, Cursor>,
    untaken: usize,
    acks: BTreeSet<ChatId>,
    watched: Vec<UserId>,
    urgent: VecDeque<ClientFrame>,
    outputs: VecDeque<Output>,
    backoff: Backoff,
    asked_wait: Duration,
    reconnect_at: Option<Duration>,
}

/// Where the connection is.
enum Phase {
    /// None. Whether one is wanted: [`Session::wants_connection`].
    Offline,
    /// Hello is out.
    Greeting { binding: Binding, until: Duration },
    /// Register, Login or BeginLink is out.
    Proving { until: Duration },
    /// A link code is shown.
    Linking { until: Duration, ping_at: Duration },
    /// After the welcome.
    Open { heard_at: Duration, ping_at: Duration, heartbeat: Duration },
    /// A disconnect was asked for; nothing counts until it is done.
    Ending,
    /// For ever.
    Ended,
}

impl Session {
    /// A session without a connection.
    pub(crate) fn new(key: SigningKey, names: Names, request_patience: Duration, kept: Kept) -> Self {
        let mut outbox = Outbox::default();
        let mut next_client_seq = kept.next_client_seq.max(1);
        // What was queued has an account that queued it.
        let me = kept.account.as_ref().map(Account::address);
        for ((client_seq, what), me) in kept.outbox.into_iter().zip(me.into_iter().cycle()) {
            next_client_seq = next_client_seq.max(client_seq.get() + 1);
            let chat = what.chat(me, client_seq);
            outbox.push(client_seq, Entry { what, chat, token: None, deadline: None, was_out: true });
        }
        Self {
            key,
            agent: cut(names.agent, AGENT_BYTES_MAX),
            device_name: cut(names.device, DEVICE_NAME_BYTES_MAX),
            account: kept.account,
            complete: kept.complete,
            phase: Phase::Offline,
            registration: None,
            linking: None,
            logins: Vec::new(),
            next_client_seq,
            outbox,
            requests: Requests::default(),
            signals: Signals::default(),
            request_patience,
            chats: kept.chats.into_iter().map(|(chat, progress)| (chat, Cursor::new(progress))).collect(),
            untaken: 0,
            acks: BTreeSet::new(),
            watched: Vec::new(),
            urgent: VecDeque::new(),
            outputs: VecDeque::new(),
            backoff: Backoff::default(),
            asked_wait: Duration::ZERO,
            reconnect_at: Some(Duration::ZERO),
        }
    }

    /// Whether it is over for good.
    pub(crate) fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// Whether the driver should connect now.
    pub(crate) fn wants_connection(&self, now: Duration) -> bool {
        matches!(self.phase, Phase::Offline) && self.has_purpose() && self.reconnect_at.is_some_and(|at| at <= now)
    }

    /// Whether there is anything to connect for.
    fn has_purpose(&self) -> bool {
        self.account.is_some() || self.registration.is_some() || self.linking.is_some()
    }

    /// A message is to be sent.
    pub(crate) fn handle_send(&mut self, now: Duration, token: Token, send: Outgoing) {
        let Outgoing { what, patience } = send;
        let Some(me) = self.account.as_ref().map(Account::address) else {
            return self.reply(token, Err(Error::NotRegistered));
        };
        if let Outbound::Message { body, .. } = &what
            && body.len() > BODY_BYTES_MAX
        {
            return self.reply(token, Err(Error::BodyTooLarge { bytes: body.len() }));
        }
        if self.outbox.is_full() {
            return self.reply(token, Err(Error::OutboxFull));
        }
        let client_seq = ClientSeq::new(self.next_client_seq);
        self.next_client_seq += 1;
        self.outputs.push_back(Output::Record(Record::queued(client_seq, &what)));
        let deadline = patience.map(|patience| now + patience);
        let waits = patience.is_some().then_some(token);
        let chat = what.chat(me, client_seq);
        self.signals.handle_own_message(chat);
        self.outbox.push(client_seq, Entry { what, chat, token: waits, deadline, was_out: false });
        if waits.is_none() {
            self.reply(token, Ok(Reply::Queued(client_seq)));
        }
    }

    /// The chats with messages.
    pub(crate) fn chats(&self) -> Vec<ChatId> {
        self.chats.keys().copied().collect()
    }

    /// The messages without an answer, in order.
    pub(crate) fn unsent(&self) -> Vec<Unsent> {
        self.outbox.messages().map(|(client_seq, to, body)| Unsent { client_seq, to, body: body.clone() }).collect()
    }

    /// The application has taken, and keeps, the messages of a chat up to `seq`.
    pub(crate) fn handle_taken(&mut self, chat: ChatId, seq: MessageSeq) {
        let Some(cursor) = self.chats.get_mut(&chat) else {
            return;
        };
        for message in cursor.handle_taken(seq) {
            self.untaken -= 1;
            self.acks.insert(chat);
            self.outputs.push_back(Output::Record(Record::Delivered(LogEntry::new(message))));
        }
    }

    /// A request other than a send.
    pub(crate) fn handle_request(&mut self, now: Duration, token: Token, kind: Kind) {
        if self.requests.is_full() {
            return self.reply(token, Err(Error::TooManyRequests));
        }
        if let Kind::SubscribePresence(subscribe) = &kind {
            self.watched = subscribe.user_ids.iter().filter_map(|id| UserId::try_from(&id[..]).ok()).collect();
        }
        let deadline = now + self.request_patience;
        self.requests.push(Request { token: Some(token), kind, deadline });
    }

    /// The application leaves. Frames that are still to be taken end with a Bye.
    pub(crate) fn handle_close(&mut self) {
        if self.is_open() {
            self.flush_acks();
            self.push_urgent(Kind::Bye(v1::Bye {}));
            self.phase = Phase::Ending;
        } else {
            self.urgent.clear();
            self.phase = Phase::Ended;
        }
    }

    /// The next frame for the server, when the socket has room for it.
    pub(crate) fn poll_frame(&mut self, now: Duration) -> Option<ClientFrame> {
        if let Some(urgent) = self.urgent.pop_front() {
            return Some(urgent);
        }
        if !self.is_open() {
            return None;
        }
        if let Some(chat) = self.acks.pop_first() {
            let ack = self.ack(chat);
            return Some(frame(request_number(self.requests.number()), ack));
        }
        if let Some((id, signal)) = self.signals.poll() {
            return Some(frame(request_number(id), Kind::SendSignal(signal)));
        }
        if let Some((id, kind)) = self.requests.poll() {
            return Some(frame(request_number(id), kind));
        }
        let (client_seq, entry) = self.outbox.poll(now)?;
        Some(frame(send_number(client_seq), Kind::Send(entry.what.to_frame(client_seq))))
    }

    fn ack(&self, chat: ChatId) -> Kind {
        let seq = self.chats[&chat].delivered().get();
        Kind::Ack(v1::Ack { chat_id: id_bytes(chat.as_bytes()), seq })
    }

    fn flush_acks(&mut self) {
        while let Some(chat) = self.acks.pop_first() {
            let ack = self.ack(chat);
            self.push_urgent(ack);
        }
    }

    /// A frame that needs no answer, before all others.
    fn push_urgent(&mut self, kind: Kind) {
        let number = request_number(self.requests.number());
        self.urgent.push_back(frame(number, kind));
    }

    /// The next thing to do.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self, now: Duration) -> Option<Duration> {
        let phase = match &self.phase {
            // Once it is due it is the driver's turn: see `wants_connection`.
            Phase::Offline if self.has_purpose() => self.reconnect_at.filter(|at| *at > now),
            Phase::Offline | Phase::Ending | Phase::Ended => None,
            Phase::Greeting { until, .. } | Phase::Proving { until } => Some(*until),
            Phase::Linking { until, ping_at } => Some(*until.min(ping_at)),
            Phase::Open { heard_at, ping_at, heartbeat } => Some((*ping_at).min(*heard_at + *heartbeat * 5 / 2)),
        };
        let outbox = self.outbox.poll_timeout(now, self.is_open());
        let logins = self.logins.iter().map(|(_, deadline)| *deadline).min();
        let registration = self.registration.as_ref().map(|registration| registration.deadline);
        let link = self.link_deadline();
        let signals = self.signals.poll_timeout();
        [phase, outbox, self.requests.poll_timeout(), signals, logins, registration, link].into_iter().flatten().min()
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        while let Some((client_seq, entry)) = self.outbox.poll_expired(now) {
            let reason =
                if entry.was_out { Error::OutcomeUnknown { client_seq } } else { Error::NotSent { client_seq } };
            self.give_up(client_seq, entry, reason);
        }
        while let Some(request) = self.requests.poll_expired(now) {
            if let Some(token) = request.token {
                self.reply(token, Err(Error::TimedOut(self.request_patience)));
            }
        }
        self.expire_signals(now);
        self.expire_logins(now);
        self.expire_link(now);
        match &mut self.phase {
            Phase::Offline | Phase::Ending | Phase::Ended => {}
            Phase::Greeting { until, .. } | Phase::Proving { until } => {
                if *until <= now {
                    self.disconnect(Error::Silent);
                }
            }
            Phase::Linking { .. } => self.wait_for_link(now),
            Phase::Open { heard_at, ping_at, heartbeat } => {
                if *heard_at + *heartbeat * 5 / 2 <= now {
                    self.disconnect(Error::Silent);
                } else if *ping_at <= now {
                    *ping_at = now + *heartbeat;
                    self.push_urgent(Kind::Ping(v1::Ping {}));
                }
            }
        }
    }

    /// The connection broke by itself. Where its end was decided already, that reason is on its way and counts: the
    /// server's last frame says more than that it closed.
    pub(crate) fn handle_lost(&mut self, now: Duration, reason: Error, random: u64) {
        if !matches!(self.phase, Phase::Ending) {
            self.handle_disconnected(now, reason, random);
        }
    }

    /// The connection is gone, or could not be made. `random` is any number, for the jitter.
    pub(crate) fn handle_disconnected(&mut self, now: Duration, reason: Error, random: u64) {
        if self.is_ended() {
            return;
        }
        self.urgent.clear();
        self.acks.clear();
        self.outbox.handle_disconnected();
        self.requests.handle_disconnected();
        self.drop_signals();
        if reason.is_final() {
            self.end(&reason);
            self.outputs.push_back(Output::Event(Event::Disconnected { reason, retry_in: None }));
            return;
        }
        self.interrupt_link(&reason);
        self.phase = Phase::Offline;
        let wait = self.backoff.next(core::mem::take(&mut self.asked_wait), random);
        self.reconnect_at = Some(now + wait);
        self.outputs.push_back(Output::Event(Event::Disconnected { reason, retry_in: Some(wait) }));
    }

    /// It is over: everyone who waits is told, what is not sent stays in the profile.
    pub(crate) fn end(&mut self, reason: &Error) {
        self.phase = Phase::Ended;
        if let Some(registration) = self.registration.take() {
            self.reply(registration.token, Err(reason.clone()));
        }
        self.fail_link(reason);
        self.drop_signals();
        for (token, _) in core::mem::take(&mut self.logins) {
            self.reply(token, Err(reason.clone()));
        }
        while let Some(request) = self.requests.poll_expired(Duration::MAX) {
            if let Some(token) = request.token {
                // That the account's devices are gone is the answer to this one.
                let is_done = matches!(request.kind, Kind::DeleteAccount(_))
                    && matches!(reason, Error::Goaway { code: Code::Revoked, .. });
                self.reply(token, if is_done { Ok(Reply::Done) } else { Err(Error::Closed) });
            }
        }
        while let Some((client_seq, entry)) = self.outbox.poll_expired(Duration::MAX) {
            let reason =
                if entry.was_out { Error::OutcomeUnknown { client_seq } } else { Error::NotSent { client_seq } };
            self.give_up(client_seq, entry, reason);
        }
    }

    /// A message will not be sent, or not again.
    fn give_up(&mut self, client_seq: ClientSeq, entry: Entry, reason: Error) {
        let unknown = matches!(reason, Error::OutcomeUnknown { .. });
        let chat = unknown.then_some(entry.chat);
        if let Some(chat) = chat {
            self.chats.entry(chat).or_default().progress.handle_unknown();
        }
        self.outputs.push_back(Output::Record(Record::Dropped { client_seq, chat }));
        match entry.token {
            Some(token) => self.reply(token, Err(reason)),
            None => self.outputs.push_back(Output::Event(Event::SendFailed { client_seq, reason })),
        }
    }

    fn disconnect(&mut self, reason: Error) {
        self.urgent.clear();
        self.phase = Phase::Ending;
        self.outputs.push_back(Output::Disconnect(reason));
    }

    fn reply(&mut self, token: Token, answer: Result<Reply, Error>) {
        self.outputs.push_back(Output::Reply(token, answer));
    }
}

fn frame(request_id: u64, kind: Kind) -> ClientFrame {
    ClientFrame { request_id, kind: Some(kind) }
}

/// Sends have even request numbers, from their client seq; other requests have odd ones.
fn send_number(client_seq: ClientSeq) -> u64 {
    client_seq.get() * 2
}

fn request_number(id: u64) -> u64 {
    id * 2 + 1
}

/// The begin of a text, of at most so many bytes.
fn cut(mut text: String, bytes_max: usize) -> String {
    text.truncate((0..=bytes_max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0));
    text
}

pub(crate) fn id_bytes(id: &[u8; 16]) -> Bytes {
    Bytes::copy_from_slice(id)
}

fn heartbeat_of(welcome: &v1::Welcome) -> Duration {
    let asked = if welcome.heartbeat_ms == 0 { HEARTBEAT_MS } else { welcome.heartbeat_ms };
    Duration::from_millis(u64::from(asked.clamp(100, 10 * HEARTBEAT_MS)))
}

#[cfg(test)]
mod tests;
