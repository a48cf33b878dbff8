//! (D) Carries out what the session decides: connects, reads and writes frames, keeps the profile, keeps the time.
//!
//! | module | what it holds |
//! |---|---|
//! | [`connect`] | one attempt: names, QUIC, WebSocket, or long-polling |
//! | [`websocket`], [`quic`], [`poll`] | frames over a connection, or several |
//! | [`tls`] | which certificate is trusted |
//!
//! Invariants
//! - Records are on disk before the next frame is taken from the session, and before a call is answered.
//! - Reading and writing are polled together, so a server that waits for us to read never blocks us.
//! - Everything that waits is bounded: where the application does not take its events, the socket is not read.

mod connect;
mod poll;
mod quic;
mod tls;
mod websocket;

use core::{future::poll_fn, pin::Pin, time::Duration};
use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};

use columba_wire::{frame::FrameError, v1::ServerFrame};
use ed25519_dalek::SigningKey;
use rustc_hash::FxHashMap;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, Sleep},
};

use self::connect::{Connected, Link, Target};
use crate::{
    client::Taken,
    error::Error,
    limits::{CALLS_BATCH_MAX, CLOSE_TIMEOUT, EVENTS_MAX},
    options::{Options, Profile},
    session::{Kept, Names, Outgoing, Output, Reply, Session, Token, record::Record},
    store::Store,
    types::{Account, Carrier, Event, Recipient},
};

/// What a caller asks.
#[derive(Debug)]
pub(crate) enum Ask {
    Register { handle: String, credential: String },
    Login,
    BeginLink,
    Send(Outgoing),
    Request(columba_wire::v1::client_frame::Kind),
    Signal(columba_wire::v1::SendSignal),
    Typing { to: Recipient, on: bool },
    Log { chat: columba_wire::ChatId, limit: usize },
    Names,
    Chats,
    Unsent,
    Certificate,
    Close,
}

/// A call, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) ask: Ask,
    pub(crate) answer: oneshot::Sender<Result<Reply, Error>>,
}

/// See the module.
pub(crate) struct Driver {
    session: Session,
    store: Option<Store>,
    target: Target,
    began: Instant,
    connection: Connection,
    calls: mpsc::Receiver<Call>,
    waiting: FxHashMap<Token, oneshot::Sender<Result<Reply, Error>>>,
    next_token: u64,
    events: mpsc::Sender<Event>,
    held: VecDeque<Event>,
    taken: Arc<Taken>,
    account: Arc<OnceLock<Account>>,
    alarm: Pin<Box<Sleep>>,
}

enum Connection {
    None,
    Pending(Attempt),
    Open(Link, Carrier),
}

/// An attempt to connect; dropped, it ends.
struct Attempt(JoinHandle<Result<Connected, Error>>);

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What woke the driver.
enum Wake {
    Connected(Result<Connected, Error>),
    Frames(Result<(), Error>),
    Calls(usize),
    Taken,
    Alarm,
    EventsTaken,
}

impl Driver {
    /// Opens the profile.
    pub(crate) async fn open(
        options: Options,
        calls: mpsc::Receiver<Call>,
        events: mpsc::Sender<Event>,
        taken: Arc<Taken>,
        account: Arc<OnceLock<Account>>,
    ) -> Result<Self, Error> {
        let (key, kept, store) = match options.profile {
            Profile::Directory(directory) => {
                let server = options.server.clone();
                let open = move || {
                    let mut store = Store::open(&directory, &server)?;
                    store.forget_disappeared(now_ms())?;
                    Ok(store)
                };
                let store = blocking(open).await?;
                (store.key()?, store.kept(), Some(store))
            }
            Profile::Memory { device_key, account } => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed)
                    .map_err(|error| Error::InvalidOption(format!("no random numbers: {error}")))?;
                let kept = Kept { account, next_client_seq: microseconds(), ..Kept::default() };
                (SigningKey::from_bytes(&device_key.unwrap_or(seed)), kept, None)
            }
        };
        let names = Names { agent: options.agent, device: options.device_name };
        let pinned = store.as_ref().map(Store::pinned).transpose()?.flatten();
        let target = Target::new(&options.server, options.transport, options.trust, pinned)?;
        if let Some(known) = &kept.account {
            let _ = account.set(known.clone());
        }
        Ok(Self {
            session: Session::new(key, names, options.request_timeout, kept),
            store,
            target,
            began: Instant::now(),
            connection: Connection::None,
            calls,
            waiting: FxHashMap::default(),
            next_token: 0,
            events,
            held: VecDeque::new(),
            taken,
            account,
            alarm: Box::pin(tokio::time::sleep(Duration::ZERO)),
        })
    }

    /// Until the session ends.
    pub(crate) async fn run(mut self) {
        let mut calls = Vec::with_capacity(CALLS_BATCH_MAX);
        let mut frames = Vec::new();
        loop {
            if let Err(error) = self.carry_out().await {
                self.fail(error);
            }
            if self.session.is_ended() {
                return self.finish().await;
            }
            self.prepare();
            match self.wait(&mut calls, &mut frames).await {
                Wake::Connected(result) => self.handle_connected(result).await,
                Wake::Frames(result) => self.handle_frames(&mut frames, result),
                Wake::Calls(0) => return self.close(None).await,
                Wake::Calls(_) => {
                    for call in calls.drain(..) {
                        if matches!(call.ask, Ask::Close) {
                            return self.close(Some(call.answer)).await;
                        }
                        self.handle_call(call);
                    }
                }
                Wake::Taken => self.handle_taken(),
                Wake::Alarm => self.session.handle_timeout(self.now()),
                Wake::EventsTaken => {}
            }
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Fills the socket's queue, begins to connect, sets the alarm.
    fn prepare(&mut self) {
        let now = self.now();
        if let Connection::Open(link, _) = &mut self.connection {
            while link.has_room() {
                let Some(frame) = self.session.poll_frame(now) else {
                    break;
                };
                link.push(&frame);
            }
        }
        // An application that takes no events is not disturbed with more connections, each of which is an event.
        if self.held.is_empty() && self.session.wants_connection(now) && matches!(self.connection, Connection::None) {
            self.connection = Connection::Pending(Attempt(tokio::spawn(self.target.clone().connect())));
        }
        // An alarm that rings early does no harm, so it is moved forward only.
        if let Some(due) = self.session.poll_timeout(now) {
            let due = self.began + due.max(now);
            if self.alarm.is_elapsed() || due < self.alarm.deadline() {
                self.alarm.as_mut().reset(due);
            }
        }
    }

    async fn wait(&mut self, calls: &mut Vec<Call>, frames: &mut Vec<Result<ServerFrame, FrameError>>) -> Wake {
        let has_alarm = !self.alarm.is_elapsed();
        let reads = self.held.is_empty();
        let connection = &mut self.connection;
        tokio::select! {
            biased;
            wake = poll_fn(|cx| match connection {
                Connection::None => core::task::Poll::Pending,
                Connection::Pending(attempt) => Pin::new(&mut attempt.0).poll(cx).map(|joined| {
                    Wake::Connected(joined.unwrap_or_else(|error| Err(Error::ConnectionLost(error.to_string()))))
                }),
                Connection::Open(link, _) => link.poll(cx, reads, frames).map(Wake::Frames),
            }) => wake,
            count = self.calls.recv_many(calls, CALLS_BATCH_MAX) => Wake::Calls(count),
            () = self.taken.changed() => Wake::Taken,
            () = &mut self.alarm, if has_alarm => Wake::Alarm,
            permit = self.events.reserve(), if !reads => {
                match permit {
                    Ok(permit) => {
                        if let Some(event) = self.held.pop_front() {
                            permit.send(event);
                        }
                    }
                    // The application dropped its events: nobody waits for these.
                    Err(_) => self.held.clear(),
                }
                Wake::EventsTaken
            }
        }
    }

    async fn handle_connected(&mut self, result: Result<Connected, Error>) {
        self.connection = Connection::None;
        let connected = match result {
            Ok(connected) => connected,
            Err(error) => return self.session.handle_disconnected(self.now(), error, random()),
        };
        if let Some(fingerprint) = self.target.handle_connected(&connected) {
            let kept = self.with_store(move |store| store.set_pinned(fingerprint)).await;
            self.tell(Event::CertificatePinned { fingerprint });
            if let Err(error) = kept {
                return self.fail(error);
            }
        }
        self.connection = Connection::Open(connected.link, connected.carrier);
        self.session.handle_connected(self.now(), connected.binding);
    }

    fn handle_frames(&mut self, frames: &mut Vec<Result<ServerFrame, FrameError>>, result: Result<(), Error>) {
        let now = self.now();
        let Connection::Open(_, carrier) = self.connection else {
            return frames.clear();
        };
        for frame in frames.drain(..) {
            self.session.handle_frame(now, carrier, frame);
        }
        if let Err(error) = result {
            self.connection = Connection::None;
            self.session.handle_lost(now, error, random());
        }
    }

    fn handle_taken(&mut self) {
        for (chat, seq) in self.taken.take() {
            self.session.handle_taken(chat, seq);
        }
    }

    fn handle_call(&mut self, call: Call) {
        let now = self.now();
        let token = Token(self.next_token);
        self.next_token += 1;
        let local = match call.ask {
            Ask::Register { handle, credential } => {
                self.session.handle_register(now, token, handle, credential);
                None
            }
            Ask::Login => {
                self.session.handle_login(now, token);
                None
            }
            Ask::BeginLink => {
                self.session.handle_begin_link(now, token);
                None
            }
            Ask::Send(outgoing) => {
                self.session.handle_send(now, token, outgoing);
                None
            }
            Ask::Request(kind) => {
                self.session.handle_request(now, token, kind);
                None
            }
            Ask::Signal(signal) => {
                self.session.handle_signal(now, token, signal);
                None
            }
            Ask::Typing { to, on } => {
                self.session.handle_set_typing(now, token, to, on);
                None
            }
            Ask::Log { chat, limit } => {
                let log = self.store.as_mut().map(|store| store.log(chat, limit, now_ms()));
                Some(Reply::Log(log.unwrap_or_default()))
            }
            Ask::Names => Some(Reply::Names(self.store.as_ref().map(Store::names).unwrap_or_default())),
            Ask::Chats => Some(Reply::Chats(self.session.chats())),
            Ask::Unsent => Some(Reply::Unsent(self.session.unsent())),
            Ask::Certificate => Some(Reply::Certificate(self.target.certificate())),
            Ask::Close => Some(Reply::Done),
        };
        match local {
            // A caller that does not wait any more needs no answer.
            Some(reply) => drop(call.answer.send(Ok(reply))),
            None => drop(self.waiting.insert(token, call.answer)),
        }
    }

    /// Does what the session has decided.
    async fn carry_out(&mut self) -> Result<(), Error> {
        while let Some(first) = self.session.poll_output() {
            let mut records = Vec::new();
            let mut effects = Vec::new();
            let mut next = Some(first);
            while let Some(output) = next {
                match output {
                    Output::Record(record) => records.push(record),
                    Output::Account(account) => {
                        let _ = self.account.set(account.clone());
                        self.with_store(move |store| store.set_account(&account)).await?;
                    }
                    Output::Event(_) | Output::Reply(..) | Output::Disconnect(_) => effects.push(output),
                }
                next = self.session.poll_output();
            }
            let kept = self.commit(records).await;
            // Nothing that depends on a record may be said without it; at the end only errors are left to say.
            if kept.is_err() && !self.session.is_ended() {
                return kept;
            }
            for effect in effects {
                match effect {
                    Output::Event(event) => self.tell(event),
                    Output::Reply(token, answer) => {
                        if let Some(waiting) = self.waiting.remove(&token) {
                            // A caller that does not wait any more needs no answer.
                            drop(waiting.send(answer));
                        }
                    }
                    Output::Disconnect(reason) => {
                        self.connection = Connection::None;
                        self.session.handle_disconnected(self.now(), reason, random());
                    }
                    Output::Record(_) | Output::Account(_) => {}
                }
            }
            kept?;
        }
        Ok(())
    }

    async fn commit(&mut self, records: Vec<Record>) -> Result<(), Error> {
        if records.is_empty() || self.store.is_none() {
            return Ok(());
        }
        self.with_store(move |store| store.commit(records)).await
    }

    /// Works on the profile where blocking is allowed. Nothing where there is none.
    async fn with_store(
        &mut self,
        work: impl FnOnce(&mut Store) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let Some(mut store) = self.store.take() else {
            return Ok(());
        };
        let (store, result) = blocking(move || {
            let result = work(&mut store);
            Ok((store, result))
        })
        .await?;
        self.store = Some(store);
        result
    }

    fn tell(&mut self, event: Event) {
        let crowded = !self.held.is_empty() || self.events.capacity() < EVENTS_MAX / 2;
        let may_be_lost = match event {
            Event::Receipt(_) | Event::Presence(_) | Event::Signal(_) => true,
            Event::Typing { on, .. } => on,
            _ => false,
        };
        if crowded && may_be_lost {
            return;
        }
        if self.held.is_empty() {
            match self.events.try_send(event) {
                // An application that dropped its events does not want them.
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                Err(mpsc::error::TrySendError::Full(event)) => self.held.push_back(event),
            }
        } else {
            self.held.push_back(event);
        }
    }

    /// The profile failed: nothing can be promised any more.
    fn fail(&mut self, error: Error) {
        tracing::error!(%error, "the session ends");
        self.connection = Connection::None;
        self.session.handle_disconnected(self.now(), error, 0);
    }

    /// The application leaves.
    async fn close(mut self, answer: Option<oneshot::Sender<Result<Reply, Error>>>) {
        self.handle_taken();
        let carried_out = self.carry_out().await.is_ok();
        self.session.handle_close();
        let now = self.now();
        if let Connection::Open(mut link, _) = core::mem::replace(&mut self.connection, Connection::None)
            && carried_out
        {
            while let Some(frame) = self.session.poll_frame(now) {
                link.push(&frame);
            }
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, link.close()).await;
        }
        self.session.end(&Error::Closed);
        self.finish().await;
        if let Some(answer) = answer {
            drop(answer.send(Ok(Reply::Done)));
        }
    }

    /// The last answers and events. The profile is unlocked when this returns.
    async fn finish(&mut self) {
        if let Err(error) = self.carry_out().await {
            tracing::error!(%error, "the profile could not be kept");
        }
        self.store = None;
        for event in self.held.drain(..) {
            // Where the application takes nothing any more, nobody misses it.
            if self.events.try_send(event).is_err() {
                break;
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::Store { path: String::new(), reason: error.to_string() }))
}

/// Any number. Only the spread of reconnects depends on it.
fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}

/// Microseconds since 1970: above every number that an earlier process of the same device has given.
fn microseconds() -> u64 {
    u64::try_from(since_1970().as_micros()).unwrap_or(1)
}

/// Milliseconds since 1970: for display, and for what disappears.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "a driver: the clock on the wall")]
fn since_1970() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}
