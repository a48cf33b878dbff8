//! A database against a plain model: random commands, flushes, merges, crashes and restarts.

use core::pin::pin;
use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
};

use columba_wire::DeviceId;

use super::{subscribe::Notice, *};
use crate::env::{
    Rng,
    clock::{ManualClock, WallTime},
    executor::{block_on, run_until_stalled},
    sim_disk::SimDisk,
};

const USERS: u8 = 6;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn user(n: u8) -> UserId {
    UserId::from_bytes([n; 16])
}

fn device(n: u8) -> DeviceAddress {
    DeviceAddress { user: user(n), device: DeviceId::FIRST }
}

/// What is durable, and what may be.
#[derive(Clone, Default)]
struct Model {
    chats: BTreeMap<ChatId, Vec<Stored>>,
    sent: BTreeMap<(ChatId, DeviceAddress, u64), u64>,
    inboxes: BTreeMap<DeviceAddress, Inbox>,
    next_client_seq: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    sender: DeviceAddress,
    client_seq: u64,
    body: Bytes,
    time_ms: u64,
}

#[derive(Clone, Default)]
struct Inbox {
    entries: VecDeque<(u64, ChatId, u64, u64)>,
    head: u64,
    tail: u64,
    up_to: BTreeMap<ChatId, u64>,
}

#[derive(Clone, Debug)]
enum Step {
    Send { from: u8, to: u8, client_seq: u64, body: Bytes, time_ms: u64 },
    Append { to: u8, chat: ChatId, from_seq: u64, to_seq: u64 },
    Trim { of: u8, position: u64 },
}

impl Model {
    fn random_step(&mut self, rng: &mut Rng, now_ms: u64) -> Step {
        let one = |rng: &mut Rng| u8::try_from(rng.below(u64::from(USERS))).unwrap();
        match rng.below(10) {
            0..6 => {
                let again = rng.one_in(12) && self.next_client_seq > 0;
                let client_seq = if again { rng.below(self.next_client_seq) + 1 } else { self.next_client_seq + 1 };
                self.next_client_seq = self.next_client_seq.max(client_seq);
                let most = if rng.one_in(20) { 20_000 } else { 200 };
                let mut body = vec![0; usize::try_from(rng.below(most)).unwrap()];
                rng.fill(&mut body);
                Step::Send { from: one(rng), to: one(rng), client_seq, body: body.into(), time_ms: now_ms }
            }
            6..9 => {
                let (to, other) = (one(rng), one(rng));
                let from_seq = rng.below(30) + 1;
                Step::Append {
                    to,
                    chat: ChatId::direct(user(to), user(other)),
                    from_seq,
                    to_seq: from_seq + rng.below(3),
                }
            }
            _ => Step::Trim { of: one(rng), position: rng.below(40) },
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Send { from, to, client_seq, body, time_ms } => {
                let chat = ChatId::direct(user(*from), user(*to));
                let key = (chat, device(*from), *client_seq);
                let floor = self.forgotten_below(chat, device(*from));
                if self.sent.contains_key(&key) || *client_seq <= floor {
                    return;
                }
                let messages = self.chats.entry(chat).or_default();
                let time_ms = messages.last().map_or(0, |last| last.time_ms).max(*time_ms);
                let stored = Stored { sender: device(*from), client_seq: *client_seq, body: body.clone(), time_ms };
                messages.push(stored);
                self.sent.insert(key, messages.len() as u64);
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
        }
    }

    /// The highest client seq that left the window of 64.
    fn forgotten_below(&self, chat: ChatId, sender: DeviceAddress) -> u64 {
        let sent = self.chats.get(&chat).into_iter().flatten().filter(|message| message.sender == sender);
        let sent: Vec<_> = sent.map(|message| message.client_seq).collect();
        let left = sent.len().saturating_sub(columba_wire::limits::DEDUP_WINDOW);
        sent[..left].iter().copied().max().unwrap_or(0)
    }
}

type Db = Database<SimDisk, ManualClock>;

fn options() -> Options {
    let mut journal = JournalConfig::new(PathBuf::new());
    (journal.segment_bytes, journal.batch_bytes_max) = (512 * 1024, 128 * 1024);
    Options { partitions: 2, memory_bytes: 4 << 20, window_ms: 1000, journal }
}

async fn open(disk: &SimDisk, clock: &ManualClock) -> Result<Db> {
    Ok(Database::open(disk.clone(), clock.clone(), PathBuf::from("db"), options()).await?.0)
}

fn queue(db: &Db, clock: &ManualClock, step: &Step) {
    match step.clone() {
        Step::Send { from, to, client_seq, body, time_ms } => {
            clock.set_wall(WallTime::from_millis(time_ms));
            db.send(Send { sender: device(from), to: user(to), client_seq: ClientSeq::new(client_seq), body });
        }
        Step::Append { to, chat, from_seq, to_seq } => {
            db.append_inbox(device(to), chat, MessageSeq::new(from_seq), MessageSeq::new(to_seq));
        }
        Step::Trim { of, position } => db.trim_inbox(device(of), position),
    }
}

async fn check(db: &Db, model: &Model, rng: &mut Rng) {
    for (chat, messages) in &model.chats {
        let last = messages.len() as u64;
        let expect = |seq: u64, found: &StoredMessage| {
            let stored = &messages[usize::try_from(seq - 1).unwrap()];
            let found_is = Stored {
                sender: found.sender,
                client_seq: found.client_seq.get(),
                body: found.body.clone(),
                time_ms: found.time_ms,
            };
            assert_eq!((found.seq.get(), &found_is), (seq, stored), "chat {chat}");
        };
        let count = usize::try_from(rng.below(60) + 1).unwrap();
        let newest = db.newest(*chat, count).await.unwrap();
        assert_eq!(newest.len(), count.min(messages.len()));
        newest.iter().zip((1..=last).rev()).for_each(|(found, seq)| expect(seq, found));
        let before = MessageSeq::new(rng.below(last) + 1);
        let page = db.before(*chat, before, 10).await.unwrap();
        assert_eq!(page.len() as u64, (before.get() - 1).min(10));
        page.iter().zip((1..before.get()).rev()).for_each(|(found, seq)| expect(seq, found));
        let one = rng.below(last) + 1;
        expect(one, &db.message(*chat, MessageSeq::new(one)).await.unwrap().unwrap());
        assert_eq!(db.message(*chat, MessageSeq::new(last + 1)).await.unwrap(), None);
        let mut next = MessageSeq::new(rng.below(last) + 1);
        while next.get() <= last {
            let page = db.range(*chat, next, MessageSeq::MAX, 2000).await.unwrap();
            assert!(!page.messages.is_empty() && page.next > next, "chat {chat}: nothing at {next} of {last}");
            page.messages.iter().zip(next.get()..).for_each(|(found, seq)| expect(seq, found));
            next = page.next;
        }
    }
    for (device, inbox) in &model.inboxes {
        let found = db.inbox(*device, 0, usize::MAX).await.unwrap();
        let found = found.iter().map(|entry| (entry.position, entry.chat, entry.from.get(), entry.to.get()));
        assert!(found.eq(inbox.entries.iter().copied()), "inbox of {device}");
    }
}

/// Commands in commits of random size, with flushes, merges and restarts between them; at a random operation the disk
/// crashes, and what was confirmed must be there again.
pub(super) fn run(seed: u64, commits: usize) {
    let mut rng = Rng::from_seed(seed);
    let clock = ManualClock::default();
    let mut disk = SimDisk::new(seed);
    let mut model = Model::default();
    let mut now_ms = 100 * DAY_MS;
    let mut left = commits;
    while left > 0 {
        if rng.one_in(2) {
            disk.crash_at(disk.operations() + 1 + rng.below(200));
        }
        // What was confirmed, and what was under way when the disk crashed: it may be there, whole.
        let mut under_way: Vec<Step> = Vec::new();
        let ended = {
            let mut life = pin!(async {
                let db = open(&disk, &clock).await.unwrap();
                check(&db, &model, &mut rng).await;
                while left > 0 {
                    left -= 1;
                    now_ms += rng.below(400);
                    for _ in 0..=rng.below(12) {
                        let step = model.random_step(&mut rng, now_ms);
                        queue(&db, &clock, &step);
                        under_way.push(step);
                    }
                    db.commit().await.unwrap();
                    under_way.drain(..).for_each(|step| model.apply(&step));
                    match rng.below(12) {
                        0 => db.flush().await.unwrap(),
                        1 => db.compact().await.unwrap(),
                        2 => check(&db, &model, &mut rng).await,
                        3 if rng.one_in(4) => return,
                        _ => {}
                    }
                }
            });
            run_until_stalled(life.as_mut())
        };
        if ended.is_none() {
            assert!(disk.has_crashed(), "seed {seed}: it waits for what never comes");
            disk = disk.after_crash();
            // Entries of two partitions are one batch: all of it is there, or nothing.
            let mut with = model.clone();
            under_way.iter().for_each(|step| with.apply(step));
            let lives = block_on(async {
                let db = open(&disk, &clock).await.unwrap();
                let mut count = 0;
                for partition in db.partitions() {
                    for chat in with.chats.keys() {
                        count += partition.chat(*chat).await.unwrap().map_or(0, |chat| chat.last_seq.get());
                    }
                }
                count
            });
            let total = |model: &Model| model.chats.values().map(|chat| chat.len() as u64).sum::<u64>();
            if under_way.is_empty() || lives == total(&with) && total(&with) > total(&model) {
                model = with;
            } else {
                assert_eq!(lives, total(&model), "seed {seed}: more or less than what was confirmed");
                // Where only inboxes were under way it cannot be told: the inboxes say.
                let other = block_on(async {
                    let db = open(&disk, &clock).await.unwrap();
                    let mut same = true;
                    for (device, inbox) in &model.inboxes {
                        same &= db.inbox(*device, 0, usize::MAX).await.unwrap().len() == inbox.entries.len();
                    }
                    !same
                });
                if other {
                    model = with;
                }
            }
        }
    }
    disk.crash_at(u64::MAX);
    block_on(async {
        let db = open(&disk, &clock).await.unwrap();
        check(&db, &model, &mut rng).await;
        db.flush().await.unwrap();
        db.compact().await.unwrap();
        check(&db, &model, &mut rng).await;
        for partition in db.partitions() {
            partition.verify().await.unwrap();
        }
        db.close().await.unwrap();
    });
}

#[test]
fn a_database_answers_like_a_model_over_crashes_flushes_merges_and_restarts() {
    for seed in 0..40 {
        run(seed, 60);
    }
}

#[test]
fn reads_see_each_commit_that_has_returned_and_nothing_else() {
    let (disk, clock) = (SimDisk::new(1), ManualClock::default());
    block_on(async {
        let db = open(&disk, &clock).await.unwrap();
        let chat = ChatId::direct(user(1), user(2));
        let send = |n| Send { sender: device(1), to: user(2), client_seq: ClientSeq::new(n), body: Bytes::from("x") };
        let mut subscription = db.subscribe(Some(chat));
        let ticket = db.send(send(1));
        assert_eq!(db.newest(chat, 10).await.unwrap(), []);
        assert_eq!(db.outcome(&ticket).await.unwrap(), None);
        db.commit().await.unwrap();
        assert_eq!(db.newest(chat, 10).await.unwrap().len(), 1);
        assert!(matches!(db.outcome(&ticket).await.unwrap(), Some(Outcome::Sent { duplicate: false, .. })));
        let again = db.send(send(1));
        db.commit().await.unwrap();
        let Some(Outcome::Sent { seq, duplicate: true, .. }) = db.outcome(&again).await.unwrap() else {
            panic!("it is known")
        };
        assert_eq!(seq, MessageSeq::new(1));
        assert!(matches!(subscription.try_next(), Some(Notice::Message { message, .. }) if message.seq == seq));
        assert_eq!(subscription.try_next(), None);
    });
}

#[test]
fn what_everybody_has_is_not_even_written_to_files() {
    let (disk, clock) = (SimDisk::new(1), ManualClock::default());
    block_on(async {
        let db = open(&disk, &clock).await.unwrap();
        db.set_retention(None, Some(Retention::UntilDelivered { days: 30 }));
        let chat = ChatId::direct(user(1), user(2));
        for n in 1..=50 {
            let body = Bytes::from(vec![7; 1000]);
            db.send(Send { sender: device(1), to: user(2), client_seq: ClientSeq::new(n), body });
        }
        for user in [user(1), user(2)] {
            let seq = MessageSeq::new(40);
            db.advance(Progress { chat, user, covered: seq, delivered: seq, everywhere: seq });
        }
        db.commit().await.unwrap();
        let newest = db.newest(chat, 100).await.unwrap();
        assert_eq!((newest.len(), newest[9].seq.get()), (10, 41));
        db.flush().await.unwrap();
        let messages = db.stats().tree;
        assert!(messages.bytes < 30_000, "50 messages of 1,000 bytes, 40 of them read: {} bytes", messages.bytes);
        assert_eq!(db.newest(chat, 100).await.unwrap(), newest);
    });
}

#[test]
fn a_file_that_everybody_has_is_dropped_whole() {
    let (disk, clock) = (SimDisk::new(1), ManualClock::default());
    block_on(async {
        let db = open(&disk, &clock).await.unwrap();
        db.set_retention(None, Some(Retention::UntilDelivered { days: 30 }));
        let chats: Vec<_> = (2..5).map(|n| (n, ChatId::direct(user(1), user(n)))).collect();
        for (n, _) in &chats {
            db.send(Send {
                sender: device(1),
                to: user(*n),
                client_seq: ClientSeq::new(u64::from(*n)),
                body: "x".into(),
            });
        }
        db.commit().await.unwrap();
        db.flush().await.unwrap();
        let everybody_has = |(n, chat): &(u8, ChatId)| {
            for user in [user(1), user(*n)] {
                let (chat, seq) = (*chat, MessageSeq::new(1));
                db.advance(Progress { chat, user, covered: seq, delivered: seq, everywhere: seq });
            }
        };
        let sweep = async || {
            let mut dropped = 0;
            for partition in db.partitions() {
                let mut after = crate::ids::FileId::ZERO;
                while let Some((file, is_dropped)) = partition.sweep(after).await.unwrap() {
                    after = file;
                    dropped += usize::from(is_dropped);
                }
            }
            dropped
        };
        let files = || db.partitions().iter().map(|one| one.tree().files_of(crate::table::meta::Class::Messages)).sum();
        let before: usize = files();
        assert_eq!(sweep().await, 0, "nobody has anything");
        chats.iter().for_each(everybody_has);
        db.commit().await.unwrap();
        assert_eq!(db.newest(chats[0].1, 1).await.unwrap(), []);
        let written = db.stats().tree.merged_bytes_total;
        assert_eq!((sweep().await, files()), (before, 0));
        assert_eq!(db.stats().tree.merged_bytes_total, written, "and nothing is rewritten");
    });
}

#[test]
fn a_subscriber_who_does_not_listen_is_told_what_it_missed() {
    let (disk, clock) = (SimDisk::new(1), ManualClock::default());
    block_on(async {
        let db = open(&disk, &clock).await.unwrap();
        let mut subscription = db.subscribe(None);
        let total = subscribe::SUBSCRIPTION_MESSAGES_MAX as u64 + 10;
        for n in 1..=total {
            db.send(Send { sender: device(1), to: user(2), client_seq: ClientSeq::new(n), body: Bytes::new() });
            if n % 4096 == 0 {
                db.commit().await.unwrap();
            }
        }
        db.commit().await.unwrap();
        assert_eq!(db.newest(ChatId::direct(user(1), user(2)), 1).await.unwrap().len(), 1);
        let mut heard = 0;
        loop {
            match subscription.next().await {
                Notice::Message { message, .. } => {
                    heard += 1;
                    assert_eq!(message.seq.get(), heard);
                }
                Notice::Missed(missed) => {
                    assert_eq!(heard + missed, total);
                    break;
                }
            }
        }
    });
}
