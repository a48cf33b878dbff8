//! What a database must answer: plain maps, and every read held against them.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
};

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, DeviceId, MessageSeq, UserId, limits::DEDUP_WINDOW};

use crate::{
    database::{Database, Options, Send},
    env::{
        Rng,
        clock::{ManualClock, WallTime},
        sim_disk::SimDisk,
    },
    error::Result,
    journal::JournalConfig,
    message::StoredMessage,
    partition::{command::Progress, retention::Retention},
};

const USERS: u8 = 6;
pub(super) const DAY_MS: u64 = 24 * 60 * 60 * 1000;

pub(super) type Db = Database<SimDisk, ManualClock>;

pub(super) fn user(n: u8) -> UserId {
    UserId::from_bytes([n; 16])
}

pub(super) fn device(n: u8) -> DeviceAddress {
    DeviceAddress { user: user(n), device: DeviceId::FIRST }
}

/// How a database of a test is laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) partitions: u32,
    pub(super) window_ms: u64,
    pub(super) segment_bytes: u64,
}

impl Layout {
    pub(super) fn options(self) -> Options {
        let mut journal = JournalConfig::new(PathBuf::new());
        (journal.segment_bytes, journal.batch_bytes_max) = (self.segment_bytes, self.batch_bytes_max());
        let Self { partitions, window_ms, .. } = self;
        Options { partitions, memory_bytes: 4 << 20, window_ms, journal }
    }

    pub(super) fn batch_bytes_max(self) -> usize {
        usize::try_from(self.segment_bytes / 4).unwrap()
    }

    /// Bytes of a body, so that a commit's entries fit into a segment.
    fn body_bytes_max(self) -> u64 {
        (self.segment_bytes / 32).min(20_000)
    }
}

pub(super) async fn open(disk: &SimDisk, clock: &ManualClock, layout: Layout) -> Result<Db> {
    Ok(Database::open(disk.clone(), clock.clone(), dir(), layout.options()).await?.0)
}

pub(super) fn dir() -> PathBuf {
    PathBuf::from("db")
}

/// What a database must answer.
#[derive(Clone)]
pub(super) struct Model {
    pub(super) layout: Layout,
    pub(super) chats: BTreeMap<ChatId, Chat>,
    pub(super) inboxes: BTreeMap<DeviceAddress, Inbox>,
    sent: BTreeMap<(ChatId, DeviceAddress, u64), u64>,
    next_client_seq: u64,
    /// By partition.
    settings: Vec<Settings>,
    /// Entries, by partition.
    pub(super) applied: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    sender: DeviceAddress,
    client_seq: u64,
    body: Bytes,
    time_ms: u64,
}

#[derive(Clone, Default)]
pub(super) struct Chat {
    members: [u8; 2],
    pub(super) messages: Vec<Stored>,
    /// Of each member: covered, everywhere.
    progress: BTreeMap<u8, (u64, u64)>,
    retention: Option<Retention>,
    deleted_up_to: u64,
    expired_before_ms: u64,
}

#[derive(Clone, Default)]
pub(super) struct Inbox {
    pub(super) entries: VecDeque<(u64, ChatId, u64, u64)>,
    head: u64,
    tail: u64,
    up_to: BTreeMap<ChatId, u64>,
}

#[derive(Clone, Default)]
struct Settings {
    retention: Retention,
    expired_at_ms: u64,
    expired_before_ms: u64,
}

/// A command.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Send { from: u8, to: u8, client_seq: u64, body: Bytes, time_ms: u64 },
    Append { to: u8, chat: ChatId, from_seq: u64, to_seq: u64 },
    Trim { of: u8, position: u64 },
    Advance { of: u8, other: u8, covered: u64, everywhere: u64 },
    Retain { chat: Option<ChatId>, retention: Option<Retention> },
    Expire { now_ms: u64 },
}

fn expired_before_ms(retention: Retention, now_ms: u64) -> u64 {
    retention.days().map_or(0, |days| now_ms.saturating_sub(u64::from(days) * DAY_MS))
}

impl Settings {
    fn expire(&mut self) {
        self.expired_before_ms = self.expired_before_ms.max(expired_before_ms(self.retention, self.expired_at_ms));
    }
}

impl Model {
    pub(super) fn new(layout: Layout) -> Self {
        let partitions = usize::try_from(layout.partitions).unwrap();
        Self {
            layout,
            chats: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            sent: BTreeMap::new(),
            next_client_seq: 0,
            settings: vec![Settings::default(); partitions],
            applied: vec![0; partitions],
        }
    }

    pub(super) fn random_step(&mut self, rng: &mut Rng, now_ms: u64) -> Step {
        let one = |rng: &mut Rng| u8::try_from(rng.below(u64::from(USERS))).unwrap();
        match rng.below(24) {
            0..14 => {
                let again = rng.one_in(12) && self.next_client_seq > 0;
                let client_seq = if again { rng.below(self.next_client_seq) + 1 } else { self.next_client_seq + 1 };
                self.next_client_seq = self.next_client_seq.max(client_seq);
                let most = if rng.one_in(20) { self.layout.body_bytes_max() } else { 200 };
                let mut body = vec![0; usize::try_from(rng.below(most)).unwrap()];
                rng.fill(&mut body);
                Step::Send { from: one(rng), to: one(rng), client_seq, body: body.into(), time_ms: now_ms }
            }
            14..19 => {
                let (to, other) = (one(rng), one(rng));
                let from_seq = rng.below(30) + 1;
                Step::Append {
                    to,
                    chat: ChatId::direct(user(to), user(other)),
                    from_seq,
                    to_seq: from_seq + rng.below(3),
                }
            }
            19 | 20 => Step::Trim { of: one(rng), position: rng.below(40) },
            21 => {
                let (of, other) = (one(rng), one(rng));
                let chat = self.chats.get(&ChatId::direct(user(of), user(other)));
                let last = chat.map_or(0, |chat| chat.messages.len() as u64);
                Step::Advance { of, other, covered: rng.below(last + 3), everywhere: rng.below(last + 3) }
            }
            22 => {
                let chat = (!rng.one_in(4)).then(|| ChatId::direct(user(one(rng)), user(one(rng))));
                let days = 1 + u32::try_from(rng.below(3)).unwrap();
                let retention = match rng.below(4) {
                    0 => None,
                    1 => Some(Retention::History { days: None }),
                    2 => Some(Retention::History { days: Some(days) }),
                    _ => Some(Retention::UntilDelivered { days }),
                };
                Step::Retain { chat, retention }
            }
            _ => Step::Expire { now_ms },
        }
    }

    fn partition_of(&self, placement_hash: u64) -> usize {
        usize::try_from(placement_hash % u64::from(self.layout.partitions)).unwrap()
    }

    /// The partitions that a command goes to.
    fn partitions_of(&self, step: &Step) -> core::ops::Range<usize> {
        let one = |hash| self.partition_of(hash)..self.partition_of(hash) + 1;
        match step {
            Step::Send { from, to: other, .. } | Step::Advance { of: from, other, .. } => {
                one(ChatId::direct(user(*from), user(*other)).placement_hash())
            }
            Step::Append { to: of, .. } | Step::Trim { of, .. } => one(user(*of).placement_hash()),
            Step::Retain { chat: Some(chat), .. } => one(chat.placement_hash()),
            Step::Retain { chat: None, .. } | Step::Expire { .. } => 0..self.settings.len(),
        }
    }

    /// Applies a commit in the partitions that have it.
    pub(super) fn commit(&mut self, steps: &[Step], is_in: impl Fn(usize) -> bool) {
        for partition in (0..self.settings.len()).filter(|partition| is_in(*partition)) {
            let mut entries = 0;
            for step in steps {
                if self.partitions_of(step).contains(&partition) {
                    self.apply(step, partition);
                    entries = 1;
                }
            }
            self.applied[partition] += entries;
        }
    }

    fn apply(&mut self, step: &Step, partition: usize) {
        match step {
            Step::Send { from, to, client_seq, body, time_ms } => {
                let id = ChatId::direct(user(*from), user(*to));
                let key = (id, device(*from), *client_seq);
                let floor = self.forgotten_below(id, device(*from));
                if self.sent.contains_key(&key) || *client_seq <= floor {
                    return;
                }
                let chat = self.chats.entry(id).or_insert_with(|| Chat { members: [*from, *to], ..Chat::default() });
                let time_ms = chat.messages.last().map_or(0, |last| last.time_ms).max(*time_ms);
                let stored = Stored { sender: device(*from), client_seq: *client_seq, body: body.clone(), time_ms };
                chat.messages.push(stored);
                self.sent.insert(key, chat.messages.len() as u64);
            }
            Step::Append { to, chat, from_seq, to_seq } => {
                let inbox = self.inboxes.entry(device(*to)).or_default();
                let up_to = inbox.up_to.entry(*chat).or_default();
                let from = (*from_seq).max(*up_to + 1);
                *up_to = (*up_to).max(*to_seq);
                if from <= *to_seq {
                    inbox.tail += 1;
                    inbox.entries.push_back((inbox.tail, *chat, from, *to_seq));
                }
            }
            Step::Trim { of, position } => {
                let inbox = self.inboxes.entry(device(*of)).or_default();
                inbox.head = inbox.head.max((*position).min(inbox.tail));
                let head = inbox.head;
                inbox.entries.retain(|(position, ..)| *position > head);
            }
            Step::Advance { of, other, covered, everywhere } => {
                let id = ChatId::direct(user(*of), user(*other));
                if let Some(chat) = self.chats.get_mut(&id) {
                    let last = chat.messages.len() as u64;
                    let progress = chat.progress.entry(*of).or_default();
                    progress.0 = progress.0.max((*covered).min(last));
                    progress.1 = progress.1.max((*everywhere).min(progress.0));
                    chat.delete_delivered(&self.settings[partition]);
                }
            }
            Step::Retain { chat: None, retention } => {
                self.settings[partition].retention = retention.unwrap_or_default();
                self.settings[partition].expire();
            }
            Step::Retain { chat: Some(id), retention } => {
                let settings = &self.settings[partition];
                if let Some(chat) = self.chats.get_mut(id) {
                    chat.expired_before_ms = chat.expired_before_ms(settings);
                    chat.retention = *retention;
                    chat.delete_delivered(settings);
                }
            }
            Step::Expire { now_ms } => {
                let settings = &mut self.settings[partition];
                settings.expired_at_ms = settings.expired_at_ms.max(*now_ms);
                settings.expire();
            }
        }
    }

    /// The highest client seq that left the window of 64.
    fn forgotten_below(&self, chat: ChatId, sender: DeviceAddress) -> u64 {
        let sent = self.chats.get(&chat).into_iter().flat_map(|chat| &chat.messages);
        let sent: Vec<_> = sent.filter(|sent| sent.sender == sender).map(|sent| sent.client_seq).collect();
        let left = sent.len().saturating_sub(DEDUP_WINDOW);
        sent[..left].iter().copied().max().unwrap_or(0)
    }

    /// The messages `from..=to` of a chat that are not dead.
    fn alive(&self, id: ChatId, from: u64, to: u64) -> Vec<(u64, &Stored)> {
        let chat = &self.chats[&id];
        let expired_before_ms = chat.expired_before_ms(&self.settings[self.partition_of(id.placement_hash())]);
        let messages = (1..).zip(&chat.messages).filter(|(seq, _)| (from..=to).contains(seq));
        messages.filter(|(seq, sent)| *seq > chat.deleted_up_to && sent.time_ms >= expired_before_ms).collect()
    }
}

impl Chat {
    fn expired_before_ms(&self, settings: &Settings) -> u64 {
        let now = match self.retention {
            None => settings.expired_before_ms,
            Some(retention) => expired_before_ms(retention, settings.expired_at_ms),
        };
        now.max(self.expired_before_ms)
    }

    fn delete_delivered(&mut self, settings: &Settings) {
        if let Retention::UntilDelivered { .. } = self.retention.unwrap_or(settings.retention) {
            let everywhere = self.members.iter().map(|member| self.progress.get(member).map_or(0, |(_, all)| *all));
            self.deleted_up_to = self.deleted_up_to.max(everywhere.min().unwrap());
        }
    }
}

/// Queues a command.
pub(super) fn queue(db: &Db, clock: &ManualClock, step: &Step) {
    match step.clone() {
        Step::Send { from, to, client_seq, body, time_ms } => {
            clock.set_wall(WallTime::from_millis(time_ms));
            db.send(Send { sender: device(from), to: user(to), client_seq: ClientSeq::new(client_seq), body });
        }
        Step::Append { to, chat, from_seq, to_seq } => {
            db.append_inbox(device(to), chat, MessageSeq::new(from_seq), MessageSeq::new(to_seq));
        }
        Step::Trim { of, position } => db.trim_inbox(device(of), position),
        Step::Advance { of, other, covered, everywhere } => {
            let (covered, everywhere) = (MessageSeq::new(covered), MessageSeq::new(everywhere));
            let chat = ChatId::direct(user(of), user(other));
            db.advance(Progress { chat, user: user(of), covered, delivered: everywhere, everywhere });
        }
        Step::Retain { chat, retention } => db.set_retention(chat, retention),
        Step::Expire { now_ms } => {
            clock.set_wall(WallTime::from_millis(now_ms));
            db.expire();
        }
    }
}

fn expect(id: ChatId, found: &[StoredMessage], expected: &[(u64, &Stored)]) {
    let stored = |message: &StoredMessage| Stored {
        sender: message.sender,
        client_seq: message.client_seq.get(),
        body: message.body.clone(),
        time_ms: message.time_ms,
    };
    let seqs = |messages: &[StoredMessage]| messages.iter().map(|message| message.seq.get()).collect::<Vec<_>>();
    let same = found.iter().map(|message| (message.seq.get(), stored(message)));
    assert!(
        same.eq(expected.iter().map(|(seq, stored)| (*seq, (*stored).clone()))),
        "chat {id}: found {:?}, expected {:?}",
        seqs(found),
        expected.iter().map(|(seq, _)| *seq).collect::<Vec<_>>()
    );
}

/// Reads every chat and inbox in every way.
pub(super) async fn check(db: &Db, model: &Model, rng: &mut Rng) {
    for (id, chat) in &model.chats {
        let (id, last) = (*id, chat.messages.len() as u64);
        let count = rng.below(60) + 1;
        let newest = db.newest(id, usize::try_from(count).unwrap()).await.unwrap();
        let mut expected = model.alive(id, (last + 1).saturating_sub(count), last);
        expected.reverse();
        expect(id, &newest, &expected);
        let before = rng.below(last) + 1;
        let page = db.before(id, MessageSeq::new(before), 10).await.unwrap();
        let mut expected = model.alive(id, before.saturating_sub(10), before - 1);
        expected.reverse();
        expect(id, &page, &expected);
        let one = rng.below(last + 1) + 1;
        let found: Vec<_> = db.message(id, MessageSeq::new(one)).await.unwrap().into_iter().collect();
        expect(id, &found, &model.alive(id, one, one));
        let first = rng.below(last) + 1;
        let (mut next, mut found) = (MessageSeq::new(first), Vec::new());
        while next.get() <= last {
            let page = db.range(id, next, MessageSeq::MAX, 2000).await.unwrap();
            assert!(page.next > next, "chat {id}: nothing at {next} of {last}");
            found.extend(page.messages);
            next = page.next;
        }
        expect(id, &found, &model.alive(id, first, last));
    }
    for (device, inbox) in &model.inboxes {
        let found = db.inbox(*device, 0, usize::MAX).await.unwrap();
        let found = found.iter().map(|entry| (entry.position, entry.chat, entry.from.get(), entry.to.get()));
        assert!(found.eq(inbox.entries.iter().copied()), "inbox of {device}");
    }
}

/// What is there after a crash: what was confirmed, and of the commit under way what its partitions say they have.
pub(super) fn recovered(db: &Db, confirmed: &Model, under_way: &[Step]) -> Model {
    let mut with = confirmed.clone();
    with.commit(under_way, |_| true);
    let applied: Vec<_> = db.partitions().iter().map(|partition| partition.applied().get()).collect();
    let mut model = confirmed.clone();
    model.commit(under_way, |partition| applied[partition] == with.applied[partition]);
    assert_eq!(model.applied, applied, "entries, after {:?} were confirmed", confirmed.applied);
    let bodies = under_way.iter().map(|step| if let Step::Send { body, .. } = step { body.len() + 150 } else { 150 });
    let bytes: usize = bodies.sum::<usize>() * confirmed.settings.len();
    if bytes < confirmed.layout.batch_bytes_max() / 2 {
        assert!(
            applied == with.applied || applied == confirmed.applied,
            "one write is there whole or not: {applied:?}"
        );
    }
    model
}
