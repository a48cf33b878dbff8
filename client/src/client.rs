//! The client as an application sees it: calls, and a stream of events.

mod directory;
pub(crate) mod groups;
mod roster;
mod signals;

use core::time::Duration;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock},
};

use bytes::Bytes;
use columba_wire::{
    ChatId, ClientSeq, MessageSeq, UserId,
    limits::{BODY_BYTES_MAX, PRESENCE_SUBSCRIPTIONS_MAX},
    v1::{self, client_frame::Kind},
};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{
    driver::{Ask, Call, Driver},
    error::{Error, Result},
    limits::{CALLS_MAX, EVENTS_MAX},
    options::Options,
    session::{Outgoing, Reply, outbox::Outbound},
    types::{Account, ChatReceipts, Event, Fingerprint, HistoryPage, Message, MessageBody, Recipient, Sent, Unsent},
};

/// A device's connection to its server, over any number of actual connections.
///
/// Cheap to clone; the session ends when the last clone is dropped, or with [`Client::close`]. Calls may be made at any
/// time: while there is no connection they wait for one, as long as their time lasts.
#[derive(Clone, Debug)]
pub struct Client {
    calls: mpsc::Sender<Call>,
    taken: Arc<Taken>,
    account: Arc<OnceLock<Account>>,
    send_timeout: Duration,
}

/// What happens, in order. Take events as they come: what is not taken is not acknowledged.
#[derive(Debug)]
pub struct Events {
    events: mpsc::Receiver<Event>,
    taken: Arc<Taken>,
    automatic_ack: bool,
}

/// How far the application is, on its way to the driver. Coalesced: one mark for each chat.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    marks: Mutex<BTreeMap<ChatId, MessageSeq>>,
    changed: Notify,
}

impl Taken {
    fn mark(&self, chat: ChatId, seq: MessageSeq) {
        let mut marks = self.marks.lock().expect("nothing panics while it is held");
        let mark = marks.entry(chat).or_default();
        *mark = (*mark).max(seq);
        drop(marks);
        self.changed.notify_one();
    }

    /// All marks since the last time.
    pub(crate) fn take(&self) -> BTreeMap<ChatId, MessageSeq> {
        core::mem::take(&mut *self.marks.lock().expect("nothing panics while it is held"))
    }

    /// Waits for a mark.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Client {
    /// Opens the profile and begins to connect, in a task of the current tokio runtime.
    ///
    /// Returns before there is a connection: [`Self::login`] waits for the session of a known account,
    /// [`Self::register`] makes an account first.
    ///
    /// # Errors
    /// `Store`, `StoreInUse`, `StoreDamaged` for the profile; `InvalidOption` for the rest.
    pub async fn connect(options: Options) -> Result<(Self, Events)> {
        let (calls, calls_received) = mpsc::channel(CALLS_MAX);
        let (events_sent, events) = mpsc::channel(EVENTS_MAX);
        let taken = Arc::new(Taken::default());
        let account = Arc::new(OnceLock::new());
        let (send_timeout, automatic_ack) = (options.send_timeout, options.automatic_ack);
        let driver =
            Driver::open(options, calls_received, events_sent, Arc::clone(&taken), Arc::clone(&account)).await?;
        tokio::spawn(driver.run());
        let events = Events { events, taken: Arc::clone(&taken), automatic_ack };
        Ok((Self { calls, taken, account, send_timeout }, events))
    }

    /// The account, once there is one.
    pub fn account(&self) -> Option<Account> {
        self.account.get().cloned()
    }

    /// Makes an account with this handle, and logs in. Again under the same handle: the account there is.
    ///
    /// `credential` is the invite code or JWT that the server asks for, or empty.
    ///
    /// # Errors
    /// `InvalidHandle`, `AlreadyRegistered`, `Refused` (`HANDLE_TAKEN`, `REGISTRATION_REFUSED`, ...), `TimedOut`.
    pub async fn register(&self, handle: &str, credential: &str) -> Result<Account> {
        let ask = Ask::Register { handle: handle.to_owned(), credential: credential.to_owned() };
        match self.call(ask).await? {
            Reply::Account(account) => Ok(account),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until the session is open.
    ///
    /// # Errors
    /// `NotRegistered`, `TimedOut`, and what ends a session for good.
    pub async fn login(&self) -> Result<Account> {
        match self.call(Ask::Login).await? {
            Reply::Account(account) => Ok(account),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a message and waits until it is durable and has its place. Retried over reconnects, never stored twice.
    ///
    /// Messages keep the order in which they were called for. The body is sent as it is; other clients read it as text,
    /// unless it begins with a zero byte ([`crate::types::Content`]).
    ///
    /// # Errors
    /// `NotSent`: it is not in the chat. `OutcomeUnknown`: it may be, and is not tried any more. `Refused`,
    /// `OutboxFull`, `BodyTooLarge`.
    pub async fn send(&self, to: impl Into<Recipient>, body: impl Into<Bytes>) -> Result<Sent> {
        let what = Outbound::Message { to: to.into(), body: body.into() };
        let outgoing = Outgoing { what, patience: Some(self.send_timeout) };
        match self.call_send(outgoing).await? {
            Reply::Sent(sent) => Ok(sent),
            other => Err(unexpected(&other)),
        }
    }

    /// Queues a message, to be sent whenever that is possible: with a profile on disk, even by a later process.
    ///
    /// Its outcome comes as [`Event::Sent`] or [`Event::SendFailed`].
    ///
    /// # Errors
    /// `OutboxFull`, `BodyTooLarge`, `NotRegistered`.
    pub async fn queue(&self, to: impl Into<Recipient>, body: impl Into<Bytes>) -> Result<ClientSeq> {
        let what = Outbound::Message { to: to.into(), body: body.into() };
        let outgoing = Outgoing { what, patience: None };
        match self.call_send(outgoing).await? {
            Reply::Queued(client_seq) => Ok(client_seq),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a typed message: [`Self::send`] with what clients have agreed on.
    ///
    /// # Errors
    /// Those of [`Self::send`]; `InvalidOption` for what breaks a bound of the convention.
    pub async fn send_content(&self, to: impl Into<Recipient>, body: impl Into<MessageBody>) -> Result<Sent> {
        self.send(to, body.into().to_bytes()?).await
    }

    /// Queues a typed message: [`Self::queue`] with what clients have agreed on.
    ///
    /// # Errors
    /// Those of [`Self::queue`]; `InvalidOption` for what breaks a bound of the convention.
    pub async fn queue_content(&self, to: impl Into<Recipient>, body: impl Into<MessageBody>) -> Result<ClientSeq> {
        self.queue(to, body.into().to_bytes()?).await
    }

    async fn call_send(&self, outgoing: Outgoing) -> Result<Reply> {
        if let Outbound::Message { body, .. } = &outgoing.what
            && body.len() > BODY_BYTES_MAX
        {
            return Err(Error::BodyTooLarge { bytes: body.len() });
        }
        self.call(Ask::Send(outgoing)).await
    }

    /// The application has, and keeps, every message of the chat up to `seq`. For `automatic_ack: false`.
    pub fn ack(&self, chat: ChatId, seq: MessageSeq) {
        self.taken.mark(chat, seq);
    }

    /// The user has read the chat up to `seq`.
    ///
    /// # Errors
    /// `Refused`, `TimedOut`, `TooManyRequests`.
    pub async fn read(&self, chat: ChatId, seq: MessageSeq) -> Result<()> {
        self.done(Kind::Read(v1::Read { chat_id: chat_bytes(chat), seq: seq.get() })).await
    }

    /// Newest `limit` (1 to 100) messages of a chat below `before`, newest first. [`MessageSeq::MAX`] for the newest.
    ///
    /// # Errors
    /// `Refused`, `TimedOut`, `TooManyRequests`.
    pub async fn history(&self, chat: ChatId, before: MessageSeq, limit: u32) -> Result<HistoryPage> {
        let before_seq = if before == MessageSeq::MAX { 0 } else { before.get() };
        let page = v1::GetHistory { chat_id: chat_bytes(chat), before_seq, limit };
        match self.call(Ask::Request(Kind::GetHistory(page))).await? {
            Reply::History(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    /// The receipts of a chat as they stand.
    ///
    /// # Errors
    /// `Refused`, `TimedOut`, `TooManyRequests`.
    pub async fn receipts(&self, chat: ChatId) -> Result<ChatReceipts> {
        let ask = Ask::Request(Kind::GetReceipts(v1::GetReceipts { chat_id: chat_bytes(chat) }));
        match self.call(ask).await? {
            Reply::Receipts(receipts) => Ok(receipts),
            other => Err(unexpected(&other)),
        }
    }

    /// The user with this handle. It is kept in the profile: see [`Self::names`].
    ///
    /// # Errors
    /// `Refused` with `UNKNOWN_USER`, `InvalidHandle`, `TimedOut`, `TooManyRequests`.
    pub async fn find_user(&self, handle: &str) -> Result<UserId> {
        if !columba_wire::ids::handle_is_valid(handle) {
            return Err(Error::InvalidHandle(handle.to_owned()));
        }
        match self.call(Ask::Request(Kind::FindUser(v1::FindUser { handle: handle.to_owned() }))).await? {
            Reply::User(user) => Ok(user),
            other => Err(unexpected(&other)),
        }
    }

    /// Watches these users, at most 256, instead of those before. Their present state comes at once, as events.
    ///
    /// # Errors
    /// `Refused`, `TimedOut`, `TooManyRequests`.
    pub async fn subscribe_presence(&self, users: &[UserId]) -> Result<()> {
        if users.len() > PRESENCE_SUBSCRIPTIONS_MAX {
            return Err(Error::InvalidOption(format!("at most {PRESENCE_SUBSCRIPTIONS_MAX} users can be watched")));
        }
        let user_ids = users.iter().map(|user| Bytes::copy_from_slice(user.as_bytes())).collect();
        self.done(Kind::SubscribePresence(v1::SubscribePresence { user_ids })).await
    }

    /// Newest `limit` messages of a chat in the profile's log, oldest first. Empty without a profile on disk.
    ///
    /// # Errors
    /// `Closed`.
    pub async fn log(&self, chat: ChatId, limit: usize) -> Result<Vec<Message>> {
        match self.call(Ask::Log { chat, limit }).await? {
            Reply::Log(messages) => Ok(messages),
            other => Err(unexpected(&other)),
        }
    }

    /// The handles that this profile has learnt. Empty without a profile on disk.
    ///
    /// # Errors
    /// `Closed`.
    pub async fn names(&self) -> Result<BTreeMap<UserId, String>> {
        match self.call(Ask::Names).await? {
            Reply::Names(names) => Ok(names),
            other => Err(unexpected(&other)),
        }
    }

    /// The messages that have no answer yet, in order: those of this process, and what an earlier one left.
    ///
    /// # Errors
    /// `Closed`.
    pub async fn unsent(&self) -> Result<Vec<Unsent>> {
        match self.call(Ask::Unsent).await? {
            Reply::Unsent(messages) => Ok(messages),
            other => Err(unexpected(&other)),
        }
    }

    /// The certificate that the server showed last, or else the one that it must show, where that is a single one.
    ///
    /// # Errors
    /// `Closed`.
    pub async fn certificate(&self) -> Result<Option<Fingerprint>> {
        match self.call(Ask::Certificate).await? {
            Reply::Certificate(certificate) => Ok(certificate),
            other => Err(unexpected(&other)),
        }
    }

    /// Says good-bye and ends. Unanswered sends end with an error; queued messages stay in the profile.
    pub async fn close(&self) {
        // An error says that it is closed already.
        let _ = self.call(Ask::Close).await;
    }

    pub(crate) async fn done(&self, kind: Kind) -> Result<()> {
        self.done_by(Ask::Request(kind)).await
    }

    pub(crate) async fn done_by(&self, ask: Ask) -> Result<()> {
        match self.call(ask).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn call(&self, ask: Ask) -> Result<Reply> {
        let (answer, answered) = oneshot::channel();
        self.calls.send(Call { ask, answer }).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }
}

impl Events {
    /// The next event; `None` once the client has ended. May be dropped and called again: nothing is lost.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.events.recv().await?;
        self.mark(&event);
        Some(event)
    }

    /// The next event, if one is there.
    pub fn try_next(&mut self) -> Option<Event> {
        let event = self.events.try_recv().ok()?;
        self.mark(&event);
        Some(event)
    }

    fn mark(&self, event: &Event) {
        if let (true, Event::Message(message)) = (self.automatic_ack, event) {
            self.taken.mark(message.chat, message.seq);
        }
    }
}

fn chat_bytes(chat: ChatId) -> Bytes {
    Bytes::copy_from_slice(chat.as_bytes())
}

pub(crate) fn unexpected(reply: &Reply) -> Error {
    Error::Protocol(format!("an answer of another kind: {reply:?}"))
}
