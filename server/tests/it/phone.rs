//! A person with the SDK, who writes everything down: what was sent and where it is, and what came.

use core::time::Duration;
use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use columba_client::{
    ChatId, Client, ClientSeq, Event, Events, Options, UserId,
    options::{Profile, Transport, Trust},
    types::Sent,
};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use crate::node::{Node, PATIENCE};

/// What somebody has written down.
#[derive(Default)]
pub(crate) struct Diary {
    /// Bodies given to the client, by the message's number where the client has told it.
    pub(crate) queued: BTreeMap<ClientSeq, Bytes>,
    /// What is confirmed, and where it is.
    pub(crate) sent: BTreeMap<ClientSeq, Sent>,
    /// Messages without an outcome.
    pub(crate) open: usize,
    /// What came, in the order it came.
    pub(crate) came: Vec<(ChatId, u64, UserId, Bytes)>,
    /// What must never be told to anybody.
    pub(crate) faults: Vec<String>,
    /// Connections lost.
    pub(crate) disconnects: u64,
    /// Sessions ended and begun again by this person.
    pub(crate) absences: u64,
}

/// Settings of the SDK for a node.
pub(crate) fn options(node: &Node, transport: Transport, profile: Option<PathBuf>) -> Options {
    let server = if transport == Transport::PlainWebSocket { node.plain() } else { node.address() };
    let mut options = Options::new(server.to_string());
    options.transport = transport;
    options.trust = Trust::Certificates(node.certificate().to_owned());
    if let Some(directory) = profile {
        options.profile = Profile::Directory(directory);
    }
    options.send_timeout = Duration::from_secs(300);
    options.request_timeout = PATIENCE;
    options
}

/// Connects and registers with the SDK.
pub(crate) async fn register(node: &Node, transport: Transport, handle: &str) -> (Client, Events, UserId) {
    let (client, events) = Client::connect(options(node, transport, None)).await.unwrap();
    let account = client.register(handle, "").await.unwrap();
    (client, events, account.user)
}

/// How much somebody chats.
#[derive(Clone, Copy)]
pub(crate) struct Habits {
    /// Messages unanswered at a time.
    pub(crate) window: usize,
    /// Time between two messages.
    pub(crate) every: Duration,
    /// Time between two absences; none without.
    pub(crate) leaves_every: Option<Duration>,
}

/// Somebody who chats with one other person until told to stop.
pub(crate) struct Phone {
    /// The user.
    pub(crate) user: UserId,
    /// What was written down.
    pub(crate) diary: Arc<Mutex<Diary>>,
    talks: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Somebody who is registered, and says nothing yet.
pub(crate) struct NewPhone {
    options: Options,
    client: Client,
    events: Events,
    handle: String,
    /// The user.
    pub(crate) user: UserId,
}

impl NewPhone {
    /// Registers somebody; with a profile on disk where a directory is given.
    pub(crate) async fn register(node: &Node, transport: Transport, profile: Option<PathBuf>, handle: &str) -> Self {
        let options = options(node, transport, profile);
        let (client, events) = Client::connect(options.clone()).await.unwrap();
        let user = client.register(handle, "").await.unwrap().user;
        Self { options, client, events, handle: handle.to_owned(), user }
    }

    /// Begins to chat. `confirmed` counts what is sent, over all phones.
    pub(crate) fn talk_to(self, peer: UserId, habits: Habits, confirmed: Arc<AtomicU64>) -> Phone {
        let diary = Arc::new(Mutex::new(Diary::default()));
        let talks = Arc::new(AtomicBool::new(true));
        let user = self.user;
        let on_disk = matches!(self.options.profile, Profile::Directory(_));
        assert!(on_disk || habits.leaves_every.is_none(), "who leaves without a profile forgets what was not sent");
        let talk = Talk { phone: self, peer, habits, confirmed, diary: Arc::clone(&diary), talks: Arc::clone(&talks) };
        Phone { user, diary, talks, task: tokio::spawn(talk.run(on_disk)) }
    }
}

impl Phone {
    /// No more new messages; what is under way goes on.
    pub(crate) fn hush(&self) {
        self.talks.store(false, Ordering::Relaxed);
    }

    /// Looks into the diary.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Diary) -> T) -> T {
        look(&self.diary.lock().unwrap())
    }

    /// Whether everything is confirmed.
    pub(crate) fn has_sent_all(&self) -> bool {
        self.read(|diary| diary.open == 0)
    }
}

struct Talk {
    phone: NewPhone,
    peer: UserId,
    habits: Habits,
    confirmed: Arc<AtomicU64>,
    diary: Arc<Mutex<Diary>>,
    talks: Arc<AtomicBool>,
}

impl Talk {
    /// With a profile on disk messages are queued and their outcome is an event; without, each is sent and waited for.
    async fn run(mut self, on_disk: bool) {
        let mut ticks = interval(self.habits.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way: JoinSet<(Bytes, columba_client::Result<Sent>)> = JoinSet::new();
        let mut number = 0_u64;
        let mut leaves_at = self.habits.leaves_every.map(|every| Instant::now() + every);
        loop {
            tokio::select! {
                event = self.phone.events.next() => match event {
                    Some(event) => self.note(event),
                    None => return self.fault("the client ended".to_owned()),
                },
                Some(sent) = under_way.join_next(), if !under_way.is_empty() => match sent {
                    Ok((body, Ok(sent))) => {
                        self.diary.lock().unwrap().queued.insert(sent.client_seq, body);
                        self.note(Event::Sent(sent));
                    }
                    other => return self.fault(format!("a send failed: {other:?}")),
                },
                _ = ticks.tick() => {
                    let open = self.diary.lock().unwrap().open;
                    if open < self.habits.window && self.talks.load(Ordering::Relaxed) {
                        number += 1;
                        self.diary.lock().unwrap().open += 1;
                        let body = Bytes::from(format!("{} {number}", self.phone.handle));
                        let client = self.phone.client.clone();
                        let to = self.peer;
                        if on_disk {
                            let client_seq = client.queue(to, body.clone()).await.expect("there is room in the outbox");
                            self.diary.lock().unwrap().queued.insert(client_seq, body);
                        } else {
                            under_way.spawn(async move { (body.clone(), client.send(to, body).await) });
                        }
                    }
                    if leaves_at.is_some_and(|at| at <= Instant::now()) && self.talks.load(Ordering::Relaxed) {
                        self.leave().await;
                        leaves_at = self.habits.leaves_every.map(|every| Instant::now() + every);
                    }
                }
            }
        }
    }

    /// Closes the client, is away for a while, and comes back with the same profile.
    async fn leave(&mut self) {
        self.phone.client.close().await;
        // Messages that nobody took are not acknowledged: they come again. The rest is told only once.
        let mut rest = VecDeque::new();
        while let Some(event) = self.phone.events.next().await {
            rest.push_back(event);
        }
        for event in rest.into_iter().filter(|event| !matches!(event, Event::Message(_) | Event::Disconnected { .. })) {
            self.note(event);
        }
        self.diary.lock().unwrap().absences += 1;
        sleep(self.habits.leaves_every.unwrap_or_default() / 3).await;
        match Client::connect(self.phone.options.clone()).await {
            Ok((client, events)) => (self.phone.client, self.phone.events) = (client, events),
            Err(error) => self.fault(format!("the profile is lost: {error}")),
        }
    }

    fn note(&self, event: Event) {
        let mut diary = self.diary.lock().unwrap();
        match event {
            Event::Message(message) => {
                diary.came.push((message.chat, message.seq.get(), message.sender, message.body));
            }
            Event::Sent(sent) => {
                match diary.sent.insert(sent.client_seq, sent) {
                    None => diary.open -= 1,
                    Some(before) => diary.faults.push(format!("sent twice: {before:?} and {sent:?}")),
                }
                self.confirmed.fetch_add(1, Ordering::Relaxed);
            }
            Event::Disconnected { retry_in: Some(_), .. } => diary.disconnects += 1,
            Event::Disconnected { reason, retry_in: None } => diary.faults.push(format!("gave up: {reason}")),
            fault @ (Event::Gap { .. } | Event::SendFailed { .. } | Event::LinkFailed { .. } | Event::Revoked) => {
                diary.faults.push(format!("{fault:?}"))
            }
            Event::Connected { .. }
            | Event::CertificatePinned { .. }
            | Event::Synced
            | Event::Receipt(_)
            | Event::Linked(_)
            | Event::Presence(_)
            | Event::AccountChanged(_)
            | Event::Typing { .. }
            | Event::Signal(_)
            | Event::KeysLow { .. } => {}
        }
    }

    fn fault(&self, what: String) {
        self.diary.lock().unwrap().faults.push(format!("{}: {what}", self.phone.handle));
    }
}
