//! A group at a fixed rate, open loop: one member sends, all others are there. What counts is when the last one has it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use columba_wire::{
    ChatId,
    frame::{decode_server, encode},
    v1::{ClientFrame, CreateGroup, GroupChange, Send, client_frame, group_change, server_frame},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::task::{JoinSet, LocalSet};

use super::{
    Device, Link, Service, Target, Transport,
    dialect::{Dialect, Event, Times},
    latency::{Acks, Schedule},
    login::{self, Identity},
    next_room,
};
use crate::{
    clock::{SECOND_NS, Ticker, now_ns},
    node::{Process, Usage},
    report::{Latency, Percentiles, number},
};

/// Registrations at a time.
const AT_A_TIME: usize = 32;
/// Seconds for what is on its way after the last send.
const SETTLE_SECONDS_MAX: u64 = 60;

/// How many, how much, how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupPlan {
    /// Members, the sender among them.
    pub(crate) members: usize,
    /// Messages a second.
    pub(crate) rate: u64,
    /// Seconds whose messages are not counted.
    pub(crate) warmup_seconds: u64,
    /// Seconds whose messages are.
    pub(crate) seconds: u64,
    /// Bytes of a body.
    pub(crate) body_bytes: usize,
}

/// What one run came to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct GroupResult {
    /// From the intended time of the send until the sender has the answer.
    pub(crate) sent: Percentiles,
    /// From the intended time of the send until a member has it, over all members.
    pub(crate) each: Percentiles,
    /// From the intended time of the send until the last member has it.
    pub(crate) last: Percentiles,
    /// Messages that came to a member more than once; allowed, and wasteful.
    pub(crate) repeated: u64,
    /// Of the load, for each message sent.
    pub(crate) load_cpu_us: f64,
    /// What the server spent for each message sent.
    pub(crate) server: Usage,
}

/// Who has what of the messages of a schedule.
struct Tracker {
    others: u64,
    schedule: Cell<Schedule>,
    /// How many have each message.
    counts: RefCell<Vec<u64>>,
    /// Messages that all have.
    complete: Cell<u64>,
    repeated: Cell<u64>,
    each: RefCell<Latency>,
    last: RefCell<Latency>,
}

impl Tracker {
    fn begin(&self, schedule: Schedule) {
        self.schedule.set(schedule);
        *self.counts.borrow_mut() = vec![0; usize::try_from(schedule.count).expect("a run is short")];
        self.complete.set(0);
        self.repeated.set(0);
        *self.each.borrow_mut() = Latency::new();
        *self.last.borrow_mut() = Latency::new();
    }

    fn handle_delivered(&self, due_ns: u64, now_ns: u64) -> anyhow::Result<()> {
        let schedule = self.schedule.get();
        let index = due_ns.saturating_sub(schedule.first_ns) / schedule.interval_ns;
        let mut counts = self.counts.borrow_mut();
        let count = usize::try_from(index).ok().and_then(|index| counts.get_mut(index)).context("an old message")?;
        *count += 1;
        ensure!(*count <= self.others, "a message has come to more members than there are");
        self.each.borrow_mut().record(now_ns - due_ns);
        if *count == self.others {
            self.last.borrow_mut().record(now_ns - due_ns);
            self.complete.set(self.complete.get() + 1);
        }
        Ok(())
    }
}

/// Makes a group, sends at the plan's rate, and measures until everybody has each message.
///
/// # Errors
/// A connection broke, the server refused, or messages went missing.
pub(crate) fn measure(
    target: &Target,
    server: &Process,
    service: Service,
    plan: GroupPlan,
) -> anyhow::Result<GroupResult> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(async {
        let mut devices = Box::pin(connect_all(target, service, plan.members)).await?;
        let sender = devices.swap_remove(0);
        let schedule = |seconds| Schedule {
            first_ns: now_ns() + SECOND_NS / 10,
            interval_ns: SECOND_NS / plan.rate,
            count: plan.rate * seconds,
            warmup: 0,
            body_bytes: plan.body_bytes,
        };
        let tracker = Rc::new(Tracker {
            others: devices.len() as u64,
            schedule: Cell::new(schedule(0)),
            counts: RefCell::default(),
            complete: Cell::new(0),
            repeated: Cell::new(0),
            each: RefCell::new(Latency::new()),
            last: RefCell::new(Latency::new()),
        });
        let mut listening = JoinSet::new();
        for device in devices {
            listening.spawn_local(listen(device, Rc::clone(&tracker)));
        }
        let sending = async {
            let mut sender = Sender { device: sender, next_seq: 2 };
            // Nothing is on its way between the two: the server may be asked what it spent.
            sender.send(schedule(plan.warmup_seconds), &tracker).await?;
            let (usage, load_cpu) = (server.usage()?, Process::own_cpu_us()?);
            let sent = sender.send(schedule(plan.seconds), &tracker).await?;
            let load_cpu = Process::own_cpu_us()? - load_cpu;
            let count = number(plan.rate * plan.seconds);
            anyhow::Ok(GroupResult {
                sent: sent.percentiles(),
                each: tracker.each.borrow().percentiles(),
                last: tracker.last.borrow().percentiles(),
                repeated: tracker.repeated.get(),
                load_cpu_us: load_cpu / count,
                server: server.usage()?.since(&usage).per(count),
            })
        };
        tokio::select! {
            result = sending => result,
            ended = listening.join_next() => match ended.context("nobody listens")?? {
                Ok(()) => bail!("a member has ended"),
                Err(error) => Err(error.context("a member")),
            },
        }
    }))
}

async fn connect_all(target: &Target, service: Service, members: usize) -> anyhow::Result<Vec<Device>> {
    if let Service::Echo { commit } = service {
        let room = next_room();
        let connect = async |_| {
            let (mut link, _) = Link::connect(target, Transport::Ws).await?;
            login::greet(&mut link, room, commit).await?;
            anyhow::Ok(Device { link, dialect: Dialect::Echo })
        };
        return stream::iter(0..members).map(connect).buffered(AT_A_TIME).try_collect().await;
    }
    let connect = async |_| {
        let (mut link, binding) = Link::connect(target, Transport::Ws).await?;
        let identity = login::register(&mut link, &binding).await?;
        anyhow::Ok((link, identity))
    };
    let registered: Vec<_> = stream::iter(0..members).map(connect).buffered(AT_A_TIME).try_collect().await?;
    let (mut links, people): (Vec<_>, Vec<_>) = registered.into_iter().unzip();
    let chat = make_group(&mut links[0], &people).await?;
    Ok(links.into_iter().map(|link| Device { link, dialect: Dialect::Group { chat } }).collect())
}

/// Makes a group of all of them, owned by the first, and waits for the answer.
async fn make_group(link: &mut Link, people: &[Identity]) -> anyhow::Result<ChatId> {
    let user_ids = people[1..].iter().map(|one| Bytes::copy_from_slice(one.address.user.as_bytes())).collect();
    let create = CreateGroup { name: "bench".into(), user_ids, ..CreateGroup::default() };
    let change = Some(Box::new(GroupChange { kind: Some(group_change::Kind::Create(create)) }));
    let send = Send { client_seq: 1, change, ..Send::default() };
    link.feed(encode(&ClientFrame { request_id: 1, kind: Some(client_frame::Kind::Send(send)) })).await?;
    link.flush().await?;
    let mut frames = Vec::new();
    loop {
        link.receive(&mut frames).await?;
        for frame in frames.drain(..) {
            match decode_server(frame)?.kind {
                Some(server_frame::Kind::Sent(sent)) => return Ok(ChatId::try_from(&sent.chat_id[..])?),
                Some(server_frame::Kind::Error(error)) => bail!("no group: {}", error.message),
                _ => {}
            }
        }
    }
}

struct Sender {
    device: Device,
    next_seq: u64,
}

impl Sender {
    /// Sends all of a schedule, and waits until everybody has everything. How long the answers took.
    async fn send(&mut self, schedule: Schedule, tracker: &Tracker) -> anyhow::Result<Latency> {
        tracker.begin(schedule);
        let first_seq = self.next_seq;
        let mut ticker = Ticker::new(schedule.first_ns, schedule.interval_ns)?;
        let (mut sent, mut frames) = (Latency::new(), Vec::new());
        let (mut next, mut answered) = (1, 0);
        let limit_ns = schedule.at(schedule.count) + SETTLE_SECONDS_MAX * SECOND_NS;
        while answered < schedule.count || tracker.complete.get() < schedule.count {
            ensure!(
                now_ns() < limit_ns,
                "{answered} of {} messages are answered, {} are with everybody",
                schedule.count,
                tracker.complete.get()
            );
            tokio::select! {
                tick = ticker.tick(), if next <= schedule.count => {
                    let (_, due) = tick?;
                    for _ in 0..due.min(schedule.count + 1 - next) {
                        let times = Times { due_ns: schedule.at(next), written_ns: now_ns() };
                        let frame = self.device.dialect.message(self.next_seq, times, schedule.body_bytes);
                        self.device.link.feed(frame).await?;
                        self.next_seq += 1;
                        next += 1;
                    }
                    self.device.link.flush().await?;
                }
                received = self.device.link.receive(&mut frames) => {
                    received?;
                    let now = now_ns();
                    for frame in frames.drain(..) {
                        if let Event::Sent { client_seq } = self.device.dialect.read(frame)? {
                            let number = client_seq.checked_sub(first_seq).context("an answer to an old message")? + 1;
                            sent.record(now - schedule.at(number));
                            answered += 1;
                        }
                    }
                }
                () = tokio::time::sleep(Duration::from_millis(5)), if next > schedule.count => {}
            }
        }
        Ok(sent)
    }
}

/// Takes and acknowledges what comes, for ever.
async fn listen(mut device: Device, tracker: Rc<Tracker>) -> anyhow::Result<()> {
    let (mut acks, mut frames) = (Acks::default(), Vec::new());
    loop {
        device.link.receive(&mut frames).await?;
        let now = now_ns();
        for frame in frames.drain(..) {
            let Event::Delivered { chat, seq, times } = device.dialect.read(frame)? else { continue };
            if acks.note(chat, seq) {
                tracker.handle_delivered(times.due_ns, now)?;
            } else {
                tracker.repeated.set(tracker.repeated.get() + 1);
            }
        }
        acks.feed(&mut device.link, &device.dialect).await?;
        device.link.flush().await?;
    }
}
