//! A storm in a group of 1,024: many write at once, most only listen, some are away, and the node is killed in the
//! middle. All of them end with the same order, without a gap.
//!
//! `STORM=full` is the real size, for a release build: 1,000 sessions and 10,000 messages. Without it there are fewer.

use core::{cell::Cell, net::SocketAddr, time::Duration};
use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use bytes::Bytes;
use columba_wire::{
    ChatId, Code, UserId,
    auth::Binding,
    limits::GROUP_MEMBERS_MAX,
    v1::{self, client_frame::Kind as Request, group_change::Kind as Change, server_frame::Kind},
};
use futures_util::{StreamExt as _, stream};
use tokio::{
    task::LocalSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    link::Link,
    node::{Metrics, raise_descriptors, run, setup, soon, until},
    raw::{Person, Raw, ack, id},
};

/// Sends of one member that may be unanswered.
const WINDOW: usize = 4;
/// Messages that a member takes before it acknowledges, or as many as came in [`ACK_AFTER`].
const ACK_EVERY: u64 = 64;
/// How long a member listens before it acknowledges.
const ACK_AFTER: Duration = Duration::from_millis(100);
/// Bytes of a message.
const BODY_BYTES: usize = 100;
/// Addresses of this machine that they come from.
const ADDRESSES: usize = 250;
/// Registrations at a time.
const AT_A_TIME: usize = 32;

/// How large it is.
#[derive(Clone, Copy, Debug)]
struct Size {
    online: usize,
    senders: usize,
    messages: u64,
}

fn size() -> Size {
    match std::env::var("STORM").as_deref() {
        Ok("full") => Size { online: 1_000, senders: 50, messages: 10_000 },
        _ => Size { online: 100, senders: 25, messages: 1_000 },
    }
}

/// What all members share.
struct Storm {
    chat: Cell<ChatId>,
    /// Where the node is, unless it is down.
    node: Cell<Option<SocketAddr>>,
    /// Sessions that there are at the begin, before anybody writes.
    here: Cell<usize>,
    /// Messages that nobody has begun to send.
    left: Cell<u64>,
    confirmed: Cell<u64>,
    /// What each seq is, by who saw it first: sender, and the number in its body.
    placed: RefCell<BTreeMap<u64, (UserId, u64)>>,
    /// Seq that the last message has.
    last: u64,
    complete: Cell<usize>,
    repeated: Cell<u64>,
}

impl Storm {
    fn place(&self, seq: u64, message: (UserId, u64)) {
        let before = *self.placed.borrow_mut().entry(seq).or_insert(message);
        assert_eq!(before, message, "{seq} is two messages");
    }
}

struct Member {
    is: Person,
    number: usize,
    is_sender: bool,
    next_client_seq: u64,
    unanswered: VecDeque<u64>,
    /// By seq: whether it has it. Its own by `Sent`.
    has: Vec<bool>,
    missing: u64,
    last: u64,
    is_complete: bool,
}

async fn connect(address: SocketAddr, number: usize) -> Raw {
    let from = SocketAddr::from(([127, 0, 2, u8::try_from(number % ADDRESSES + 1).unwrap()], 0));
    Raw::over(Link::connect_plain(address, from).await, Binding::NONE)
}

fn body(client_seq: u64) -> Bytes {
    let mut body = client_seq.to_be_bytes().to_vec();
    body.resize(BODY_BYTES, b'.');
    body.into()
}

impl Member {
    fn new(is: Person, number: usize, is_sender: bool, last: u64) -> Self {
        let has = vec![false; usize::try_from(last).unwrap() + 1];
        let (next_client_seq, unanswered) = (10, VecDeque::new());
        Self { is, number, is_sender, next_client_seq, unanswered, has, missing: last, last: 0, is_complete: false }
    }

    fn take(&mut self, seq: u64) {
        let has = &mut self.has[usize::try_from(seq).unwrap()];
        self.missing -= u64::from(!core::mem::replace(has, true));
    }

    fn send(&self, storm: &Storm, client_seq: u64) -> Request {
        let (chat_id, body) = (id(storm.chat.get().as_bytes()), body(client_seq));
        Request::Send(v1::Send { client_seq, chat_id, body, ..v1::Send::default() })
    }

    /// Comes, says its share, and listens until it has everything and the storm is over; comes back when cut off.
    async fn run(mut self, storm: Rc<Storm>, members: usize) {
        while storm.complete.get() < members {
            let Some(address) = storm.node.get() else {
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            let mut raw = connect(address, self.number).await;
            raw.try_login(&self.is).await.unwrap();
            storm.here.set(storm.here.get() + 1);
            for client_seq in self.unanswered.clone() {
                raw.request(self.send(&storm, client_seq)).await;
            }
            self.session(&mut raw, &storm, members).await;
        }
    }

    /// One session, until it ends or the storm is over.
    async fn session(&mut self, raw: &mut Raw, storm: &Storm, members: usize) {
        // Seqs of this session: what comes again is to be acknowledged again.
        let (mut unacked, mut delivered, mut acked) = (0, 0, 0);
        while storm.complete.get() < members {
            while self.is_sender && self.unanswered.len() < WINDOW && storm.left.get() > 0 {
                storm.left.set(storm.left.get() - 1);
                self.unanswered.push_back(self.next_client_seq);
                raw.request(self.send(storm, self.next_client_seq)).await;
                self.next_client_seq += 1;
            }
            match timeout(ACK_AFTER, raw.receive()).await {
                Ok(None) => return,
                Ok(Some(frame)) => {
                    unacked += 1;
                    if let Some(Kind::Deliver(deliver)) = &frame.kind {
                        delivered = deliver.seq.max(delivered);
                    }
                    if !self.handle(storm, frame.kind.expect("a kind that is known")) {
                        return;
                    }
                }
                Err(_) => unacked = ACK_EVERY,
            }
            if unacked >= ACK_EVERY && delivered > acked {
                raw.request(ack(storm.chat.get(), delivered)).await;
                (unacked, acked) = (0, delivered);
            }
            if self.missing == 0 && !core::mem::replace(&mut self.is_complete, true) {
                storm.complete.set(storm.complete.get() + 1);
            }
        }
    }

    /// Returns false where something is to be tried again: then a new session sends all that is unanswered.
    fn handle(&mut self, storm: &Storm, kind: Kind) -> bool {
        match kind {
            Kind::Deliver(deliver) => {
                let sender = UserId::try_from(&deliver.sender_user[..]).unwrap();
                assert!(sender != self.is.user(), "{}: its own message", self.is.handle);
                if deliver.seq <= self.last {
                    storm.repeated.set(storm.repeated.get() + 1);
                    return true;
                }
                let number = deliver.body.first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
                storm.place(deliver.seq, (sender, number));
                // What lies between is its own, of which it may not know yet where it is; the end will tell.
                assert!(
                    deliver.seq == self.last + 1 || self.is_sender,
                    "{}: {} after {}",
                    self.is.handle,
                    deliver.seq,
                    self.last
                );
                self.last = deliver.seq;
                self.take(deliver.seq);
            }
            Kind::Sent(sent) => {
                let Some(place) = self.unanswered.iter().position(|client_seq| *client_seq == sent.client_seq) else {
                    panic!("{}: an answer to nothing: {sent:?}", self.is.handle)
                };
                self.unanswered.remove(place);
                storm.place(sent.seq, (self.is.user(), sent.client_seq));
                storm.confirmed.set(storm.confirmed.get() + 1);
                self.take(sent.seq);
            }
            Kind::Error(error) => {
                let code = Code::from_number(error.code).unwrap();
                assert!(code.is_retryable(), "{}: {code}", self.is.handle);
                return false;
            }
            _ => {}
        }
        true
    }
}

async fn register(address: SocketAddr, number: usize) -> (Person, Raw) {
    let mut person = Person::new(&format!("member-{number}"));
    let mut raw = connect(address, number).await;
    raw.try_register(&mut person, "").await.unwrap();
    (person, raw)
}

/// Makes the group, with the first as its owner.
async fn make_group(raw: &mut Raw, people: &[Person]) -> ChatId {
    let user_ids = people[1..].iter().map(|person| id(person.user().as_bytes())).collect();
    let create = v1::CreateGroup { name: "storm".into(), user_ids, ..v1::CreateGroup::default() };
    let change = Some(Box::new(v1::GroupChange { kind: Some(Change::Create(create)) }));
    match raw.ask(Request::Send(v1::Send { client_seq: 1, change, ..v1::Send::default() })).await.unwrap() {
        Kind::Sent(sent) => ChatId::try_from(&sent.chat_id[..]).unwrap(),
        other => panic!("another answer to Send: {other:?}"),
    }
}

/// What the node spent, by its metrics.
fn spent(now: &Metrics, before: &Metrics, messages: u64) -> String {
    let names = ["journal_bytes_total", "journal_writes_total", "inbox_entries_total", "fanout_advances_total"];
    let each = names.map(|name| format!("{name} {:.2}", now.since(before, name) as f64 / messages as f64));
    format!("a message: {}", each.join(", "))
}

async fn storm(size: Size, kill: bool) {
    raise_descriptors();
    let began = Instant::now();
    let mut node = setup().cores(2).fixed_port().start().await;
    let plain = node.plain();
    let registered: Vec<_> =
        stream::iter(0..GROUP_MEMBERS_MAX).map(|number| register(plain, number)).buffered(AT_A_TIME).collect().await;
    let (people, mut sessions): (Vec<_>, Vec<_>) = registered.into_iter().unzip();
    let chat = make_group(&mut sessions[0], &people).await;
    drop(sessions);
    println!("{size:?}: registered, and in a group, after {:.1?}", began.elapsed());

    let storm = Rc::new(Storm {
        chat: Cell::new(chat),
        node: Cell::new(Some(plain)),
        here: Cell::new(0),
        left: Cell::new(0),
        confirmed: Cell::new(0),
        placed: RefCell::default(),
        last: size.messages + 1,
        complete: Cell::new(0),
        repeated: Cell::new(0),
    });
    let owner = people[0].user();
    storm.place(1, (owner, 0));
    let mut members: VecDeque<_> = people
        .into_iter()
        .enumerate()
        .map(|(number, is)| Member::new(is, number, (1..=size.senders).contains(&number), storm.last))
        .collect();
    // Who made the group gets no delivery of that.
    members[0].take(1);
    members[0].last = 1;
    let away = members.split_off(size.online);
    let (online, all) = (members.len(), members.len() + away.len());

    for member in members {
        tokio::task::spawn_local(member.run(Rc::clone(&storm), all));
    }
    let limit = Duration::from_secs(600);
    until("all are here", limit, async || (storm.here.get() == online).then_some(())).await;
    let (before, stormed) = (node.metrics().await, Instant::now());
    storm.left.set(size.messages);
    if kill {
        until("half of the storm is confirmed", limit, async || {
            (storm.confirmed.get() > size.messages / 2).then_some(())
        })
        .await;
        storm.node.set(None);
        node.kill();
        node.start().await;
        storm.node.set(Some(node.plain()));
    }
    let everybody = async |what: &str, count: usize| {
        until(what, limit, async || (storm.complete.get() >= count).then_some(())).await;
    };
    everybody("everybody who is there has everything", online).await;
    let took = stormed.elapsed();
    if !kill {
        println!("{}", spent(&node.metrics().await, &before, size.messages));
    }
    // Those who were away come back, all at once.
    let returned = Instant::now();
    for member in away {
        tokio::task::spawn_local(member.run(Rc::clone(&storm), all));
    }
    everybody("everybody who was away has everything", all).await;
    let (deliveries, caught_up) = (size.messages * (online as u64 - 1), size.messages * (all - online) as u64);
    println!(
        "{} messages to {online} sessions in {took:.1?}: {:.0} deliveries a second, {} repeated; {} to {} who were \
         away in {:.1?}; {:.1?} in all; killed: {kill}; memory {} MiB",
        size.messages,
        deliveries as f64 / took.as_secs_f64(),
        storm.repeated.get(),
        caught_up,
        all - online,
        returned.elapsed(),
        began.elapsed(),
        node.memory() >> 20,
    );
    let placed = storm.placed.take();
    assert!(placed.keys().copied().eq(1..=storm.last), "the order is dense");
    let mut distinct: Vec<_> = placed.values().collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), placed.len(), "no message has two places");
    assert_eq!(storm.confirmed.get(), size.messages);
    node.terminate();
    assert!(soon("the node ends", node.ended()).await.success());
}

#[test]
fn a_storm_in_a_group_of_1024_reaches_everybody_in_one_order() {
    run(Duration::from_secs(900), async { LocalSet::new().run_until(storm(size(), false)).await });
}

#[test]
fn a_storm_in_a_group_of_1024_survives_a_kill_in_the_middle() {
    run(Duration::from_secs(900), async { LocalSet::new().run_until(storm(size(), true)).await });
}
