//! The tree against plain maps: random flushes, merges, restarts, crashes at every operation, full disks.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    pin::pin,
};

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, DeviceId, MessageSeq, UserId};

use super::{plan::Plan, *};
use crate::{
    env::{
        Disk as _, Rng,
        clock::ManualClock,
        executor::{block_on, run_until_stalled},
        sim_disk::SimDisk,
    },
    error::{Error, Result},
    ids::{LogIndex, Term},
    memory::MEMORY_BYTES_MIN,
    message::StoredMessage,
    table::meta::Class,
};

/// What a tree must answer.
#[derive(Clone, Default)]
struct Model {
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    inbox: BTreeMap<Vec<u8>, Vec<u8>>,
    messages: BTreeMap<(ChatId, MessageSeq), StoredMessage>,
    /// The last seq and time of each chat.
    chats: BTreeMap<ChatId, (u64, u64)>,
    /// Inbox entries with a second byte below it are below their watermark.
    inbox_head: u8,
    /// Messages before it are past their retention.
    dead_before_ms: u64,
}

/// What one flush writes.
#[derive(Clone, Default)]
struct Rows {
    state: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    inbox: BTreeMap<Vec<u8>, Vec<u8>>,
    messages: BTreeMap<(ChatId, MessageSeq), StoredMessage>,
}

/// What may go, by the model.
#[derive(Clone, Copy)]
struct Below {
    inbox_head: u8,
    dead_before_ms: u64,
}

impl Keep for Below {
    fn keeps_message(&self, _chat: ChatId, _seq: MessageSeq, time_ms: u64) -> bool {
        time_ms >= self.dead_before_ms
    }

    fn keeps_inbox(&self, key: &[u8]) -> bool {
        key[1] >= self.inbox_head
    }
}

impl Model {
    fn below(&self) -> Below {
        Below { inbox_head: self.inbox_head, dead_before_ms: self.dead_before_ms }
    }

    fn apply(&mut self, rows: &Rows) {
        for (key, value) in &rows.state {
            match value {
                Some(value) => self.state.insert(key.clone(), value.clone()),
                None => self.state.remove(key),
            };
        }
        self.inbox.extend(rows.inbox.clone());
        for (key, message) in &rows.messages {
            self.messages.insert(*key, message.clone());
            self.chats.insert(key.0, (message.seq.get(), message.time_ms));
        }
    }

    /// Rows of the next flush; `now_ms` grows from flush to flush.
    fn next_rows(&self, rng: &mut Rng, now_ms: u64) -> Rows {
        let mut rows = Rows::default();
        for _ in 0..rng.below(40) {
            let mut key = vec![0x40; 17];
            key.extend_from_slice(&rng.below(200).to_be_bytes());
            let len = if rng.one_in(20) { 40_000 } else { usize::try_from(rng.below(900)).unwrap() };
            let mut value = vec![0; len];
            rng.fill(&mut value);
            rows.state.insert(key, (!rng.one_in(5)).then_some(value));
        }
        for _ in 0..rng.below(20) {
            let position = rng.next_u64().to_be_bytes();
            let key = [&[0x20, self.inbox_head + u8::try_from(rng.below(3)).unwrap()][..], &position].concat();
            rows.inbox.insert(key, position.to_vec());
        }
        for _ in 0..rng.below(8) {
            let chat = ChatId::from_bytes([u8::try_from(rng.below(12)).unwrap(); 16]);
            let (mut seq, mut time) = self.chats.get(&chat).copied().unwrap_or((0, 0));
            if rows.messages.range((chat, MessageSeq::ZERO)..).next().is_some_and(|((other, _), _)| *other == chat) {
                continue;
            }
            let most = if rng.one_in(4) { 200 } else { 5 };
            for _ in 0..=rng.below(most) {
                seq += 1;
                time = time.max(now_ms + rng.below(60));
                let user = UserId::from_bytes([u8::try_from(rng.below(3)).unwrap(); 16]);
                let mut body = vec![0; usize::try_from(rng.below(400)).unwrap()];
                rng.fill(&mut body);
                let message = StoredMessage {
                    seq: MessageSeq::new(seq),
                    sender: DeviceAddress { user, device: DeviceId::FIRST },
                    client_seq: ClientSeq::new(rng.next_u64()),
                    time_ms: time,
                    body: Bytes::from(body),
                };
                rows.messages.insert((chat, message.seq), message);
            }
        }
        rows
    }
}

fn dir() -> PathBuf {
    PathBuf::from("data/partition")
}

async fn open(disk: &SimDisk) -> Result<Tree<SimDisk>> {
    disk.create_dir_all(&dir()).await?;
    let shared = Shared::new(MEMORY_BYTES_MIN, ManualClock::default());
    Ok(Tree::open(disk.clone(), dir(), TreeConfig { window_ms: 100 }, shared).await?.0)
}

fn meta(applied: u64) -> TreeMeta {
    TreeMeta { applied: LogIndex::new(applied), applied_term: Term::new(1), extra: Bytes::from_static(b"x") }
}

async fn flush(tree: &Tree<SimDisk>, rows: &Rows, applied: u64) -> Result<()> {
    tree.flush(meta(applied), async |writer| {
        for ((chat, _), message) in &rows.messages {
            writer.message(*chat, message).await?;
        }
        for (key, value) in &rows.inbox {
            writer.inbox(key, value).await?;
        }
        for (key, value) in &rows.state {
            writer.state(key, value.as_deref()).await?;
        }
        Ok(())
    })
    .await
}

async fn settle(tree: &Tree<SimDisk>, keep: &Below) -> Result<()> {
    for steps in 0.. {
        let Some(plan) = tree.plan(keep.dead_before_ms) else {
            return Ok(());
        };
        assert!(steps < 100, "plans end");
        tree.compact(&plan, keep).await?;
    }
    unreachable!("the loop ends by return or panic")
}

async fn check(tree: &Tree<SimDisk>, model: &Model, rng: &mut Rng) {
    let all = |kind: u8| ScanRange { start: vec![kind], end: vec![kind + 1] };
    let rows = tree.scan(Class::State, &all(0x40), usize::MAX, usize::MAX).await.unwrap();
    assert!(
        rows.iter().map(|(key, value)| (&key[..], &value[..])).eq(model.state.iter().map(|(k, v)| (&k[..], &v[..])))
    );
    let rows = tree.scan(Class::Inbox, &all(0x20), usize::MAX, usize::MAX).await.unwrap();
    let live = |key: &[u8]| model.below().keeps_inbox(key);
    let found = rows.iter().map(|(key, value)| (&key[..], &value[..])).filter(|(key, _)| live(key));
    assert!(found.eq(model.inbox.iter().map(|(k, v)| (&k[..], &v[..])).filter(|(key, _)| live(key))));
    for _ in 0..20 {
        let key = [&[0x40; 17][..], &rng.below(200).to_be_bytes()].concat();
        assert_eq!(tree.get(&key).await.unwrap().as_deref(), model.state.get(&key).map(|value| &value[..]));
        let end = [&[0x40; 17][..], &rng.below(200).to_be_bytes()].concat();
        let range = ScanRange { start: key.clone().min(end.clone()), end: key.max(end) };
        let limit = usize::try_from(1 + rng.below(5)).unwrap();
        let found = tree.scan(Class::State, &range, limit, usize::MAX).await.unwrap();
        let expected = model.state.range(range.start.clone()..range.end.clone()).take(limit);
        assert!(found.iter().map(|(key, _)| &key[..]).eq(expected.map(|(key, _)| &key[..])));
    }
    for _ in 0..20 {
        let chat = ChatId::from_bytes([u8::try_from(rng.below(13)).unwrap(); 16]);
        let last = model.chats.get(&chat).map_or(0, |(seq, _)| *seq);
        let from = MessageSeq::new(1 + rng.below(last + 2));
        let to = MessageSeq::new(from.get() + rng.below(last + 2));
        let count_max = usize::try_from(1 + rng.below(70)).unwrap();
        let range = MessageRange { chat, from, to, count_max, bytes_max: usize::MAX };
        let alive = |message: &&StoredMessage| message.time_ms >= model.dead_before_ms;
        let stored = || model.messages.range((chat, from)..=(chat, to)).map(|(_, message)| message);
        // What is dead may still be there, and is then below all that is alive.
        let newest = tree.newest_messages(&range).await.unwrap();
        assert!(newest.iter().filter(alive).eq(stored().rev().take(count_max).filter(alive)));
        let whole = MessageRange { count_max: usize::MAX, ..range };
        let oldest = tree.oldest_messages(&whole).await.unwrap();
        assert!(oldest.iter().filter(alive).eq(stored().filter(alive)));
        let page = tree.oldest_messages(&range).await.unwrap();
        assert!(page.iter().eq(oldest.iter().take(count_max)));
    }
}

/// Flushes, merges, moves of watermarks and restarts, each time against the model.
fn run(seed: u64, flushes: u64) {
    let disk = SimDisk::new(seed);
    let mut rng = Rng::from_seed(seed);
    let mut model = Model::default();
    block_on(async {
        let mut tree = open(&disk).await.unwrap();
        let mut now_ms = 1000;
        for n in 1..=flushes {
            now_ms += rng.below(60);
            let rows = model.next_rows(&mut rng, now_ms);
            model.apply(&rows);
            flush(&tree, &rows, n).await.unwrap();
            if rng.one_in(8) {
                model.inbox_head += 1;
            }
            if rng.one_in(8) {
                model.dead_before_ms = now_ms.saturating_sub(300);
            }
            if rng.one_in(3) {
                settle(&tree, &model.below()).await.unwrap();
            }
            if rng.one_in(6) {
                tree = open(&disk).await.unwrap();
            }
            assert_eq!(tree.meta(), meta(n));
            check(&tree, &model, &mut rng).await;
        }
        settle(&tree, &model.below()).await.unwrap();
        check(&tree, &model, &mut rng).await;
        tree.verify().await.unwrap();
        tree.collect_garbage().await.unwrap();
        assert_eq!(disk.files().len(), tree.stats().files + 1, "what is not live is removed");
    });
}

#[test]
fn a_tree_answers_like_maps_over_flushes_merges_and_restarts() {
    for seed in 0..30 {
        run(seed, 40);
    }
}

/// A workload; `done` counts the flushes that have returned.
async fn workload(disk: &SimDisk, done: &mut u64, flushes: &[Rows]) -> Result<()> {
    let tree = open(disk).await?;
    for (n, rows) in flushes.iter().enumerate() {
        flush(&tree, rows, n as u64 + 1).await?;
        *done = n as u64 + 1;
        settle(&tree, &Below { inbox_head: 0, dead_before_ms: 0 }).await?;
    }
    Ok(())
}

/// A crash at each operation of a workload, then what the files say.
pub(super) fn crash_everywhere(seed: u64, flushes: usize, step: usize) {
    let mut rng = Rng::from_seed(seed);
    let mut models = vec![Model::default()];
    let mut all = Vec::new();
    for n in 0..flushes {
        let mut next = models.last().unwrap().clone();
        let rows = next.next_rows(&mut rng, 1000 + n as u64 * 40);
        next.apply(&rows);
        all.push(rows);
        models.push(next);
    }
    let whole = SimDisk::new(0);
    block_on(workload(&whole, &mut 0, &all)).unwrap();
    for operation in (1..=whole.operations()).step_by(step) {
        let disk = SimDisk::new(operation);
        disk.crash_at(operation);
        let mut done = 0;
        assert!(run_until_stalled(pin!(workload(&disk, &mut done, &all))).is_none());
        let after = disk.after_crash();
        block_on(async {
            let tree = open(&after).await.unwrap_or_else(|error| panic!("operation {operation}: {error}"));
            let applied = tree.meta().applied.get();
            assert!(applied == done || applied == done + 1, "operation {operation}: {applied} after {done}");
            check(&tree, &models[usize::try_from(applied).unwrap()], &mut rng).await;
            tree.verify().await.unwrap();
            assert_eq!(after.files().len(), tree.stats().files + 1, "orphans are removed");
        });
    }
}

#[test]
fn a_crash_at_any_operation_leaves_the_last_flush_or_the_one_under_way() {
    crash_everywhere(8, 14, 1);
}

#[test]
fn a_full_disk_changes_nothing_and_the_flush_may_be_tried_again() {
    let disk = SimDisk::new(3);
    let mut rng = Rng::from_seed(3);
    block_on(async {
        let tree = open(&disk).await.unwrap();
        let mut model = Model::default();
        let first = model.next_rows(&mut rng, 1000);
        model.apply(&first);
        flush(&tree, &first, 1).await.unwrap();
        let second = model.next_rows(&mut rng, 1050);
        let before = disk.files();
        // Every point at which space can end: the tables' blocks, their footers, the manifest.
        let mut refusals = 0;
        for room in (0..).step_by(2048) {
            disk.set_capacity(disk.used() + room);
            let flushed = flush(&tree, &second, 2).await;
            let Err(error) = flushed else { break };
            assert!(matches!(error, Error::NoSpace { .. }), "{error}");
            refusals += 1;
            assert_eq!(tree.meta(), meta(1));
            assert!(disk.files().iter().all(|file| before.contains(file) || file.0.ends_with("manifest.new")));
            check(&tree, &model, &mut rng).await;
        }
        assert!(refusals > 3);
        model.apply(&second);
        check(&tree, &model, &mut rng).await;
    });
}

#[test]
fn tables_without_a_manifest_and_a_manifest_without_tables_are_reported() {
    let disk = SimDisk::new(4);
    block_on(async {
        let tree = open(&disk).await.unwrap();
        let rows = Model::default().next_rows(&mut Rng::from_seed(4), 1000);
        flush(&tree, &rows, 1).await.unwrap();
        drop(tree);
        let whole = disk.snapshot();
        disk.remove(&dir().join("manifest")).await.unwrap();
        let files = disk.files();
        assert!(matches!(open(&disk).await, Err(Error::DamagedFile { .. })));
        assert_eq!(disk.files(), files, "nothing is taken for an orphan");
        let table = whole.files().into_iter().map(|(path, _)| path).find(|path| !path.ends_with("manifest")).unwrap();
        whole.remove(&table).await.unwrap();
        assert!(matches!(open(&whole).await, Err(Error::DamagedFile { .. })));
    });
}

#[test]
fn a_window_past_its_retention_is_dropped_without_reading_or_writing_a_message() {
    let disk = SimDisk::new(5);
    let mut rng = Rng::from_seed(5);
    block_on(async {
        let tree = open(&disk).await.unwrap();
        let mut model = Model::default();
        for n in 1..=20 {
            let mut rows = model.next_rows(&mut rng, n * 100);
            (rows.state, rows.inbox) = Default::default();
            model.apply(&rows);
            flush(&tree, &rows, n).await.unwrap();
        }
        settle(&tree, &model.below()).await.unwrap();
        model.dead_before_ms = 1200;
        let before = (tree.stats(), tree.shared().tables_open());
        let Some(Plan::Drop(dropped)) = tree.plan(model.dead_before_ms) else { panic!("there is something to drop") };
        let compacted = tree.compact(&Plan::Drop(dropped.clone()), &model.below()).await.unwrap();
        assert_eq!((compacted.bytes_written, compacted.files_removed), (0, dropped.len()));
        assert_eq!(tree.stats().merged_bytes_total, before.0.merged_bytes_total);
        assert!(compacted.bytes_removed > 0 && tree.stats().bytes + compacted.bytes_removed == before.0.bytes);
        check(&tree, &model, &mut rng).await;
    });
}

#[test]
fn a_view_stays_as_it_is_and_its_files_stay_as_long_as_it_does() {
    let disk = SimDisk::new(6);
    let mut rng = Rng::from_seed(6);
    block_on(async {
        let tree = open(&disk).await.unwrap();
        let mut model = Model::default();
        for n in 1..=3 {
            let rows = model.next_rows(&mut rng, 1000);
            model.apply(&rows);
            flush(&tree, &rows, n).await.unwrap();
        }
        let (view, then) = (tree.view(), model.clone());
        for n in 4..=20 {
            let rows = model.next_rows(&mut rng, 1000);
            model.apply(&rows);
            flush(&tree, &rows, n).await.unwrap();
            settle(&tree, &model.below()).await.unwrap();
        }
        assert_eq!(view.meta(), meta(3));
        let all = ScanRange { start: vec![0x40], end: vec![0x41] };
        let rows = view.scan(Class::State, &all, usize::MAX, usize::MAX).await.unwrap();
        assert!(
            rows.iter().map(|(key, value)| (&key[..], &value[..])).eq(then.state.iter().map(|(k, v)| (&k[..], &v[..])))
        );
        for chat in (0..12).map(|n| ChatId::from_bytes([n; 16])) {
            let (from, to) = (MessageSeq::new(1), MessageSeq::MAX);
            let range = MessageRange { chat, from, to, count_max: usize::MAX, bytes_max: usize::MAX };
            let expected = then.messages.range((chat, from)..=(chat, to)).map(|(_, message)| message);
            assert!(view.oldest_messages(&range).await.unwrap().iter().eq(expected));
        }
        let live: BTreeSet<_> = tree.version().files().map(|file| file.id()).collect();
        assert!(view.files().iter().any(|file| !live.contains(&file.id)), "the view needs files that are replaced");
        assert!(disk.files().len() > tree.stats().files + 1);
        drop(view);
        tree.collect_garbage().await.unwrap();
        assert_eq!(disk.files().len(), tree.stats().files + 1);
    });
}

#[test]
fn a_damaged_file_is_quarantined_and_everything_else_goes_on() {
    let disk = SimDisk::new(7);
    let mut rng = Rng::from_seed(7);
    block_on(async {
        let tree = open(&disk).await.unwrap();
        let mut model = Model::default();
        for n in 1..=8 {
            let rows = model.next_rows(&mut rng, 1000);
            model.apply(&rows);
            flush(&tree, &rows, n).await.unwrap();
        }
        let version = tree.version();
        let damaged = version.messages.last().unwrap();
        let path = dir().join(format!("table-{:016x}", damaged.id().get()));
        assert!(disk.flip_bit(&path, 100, 3));
        let plan = tree.plan(0).unwrap();
        assert!(
            tree.compact(&plan, &model.below()).await.is_err_and(|error| error.is_damage())
                || !matches!(&plan,
            Plan::Merge(merge) if merge.class == Class::Messages)
        );
        let error = tree.verify().await.unwrap_err();
        assert!(error.is_damage(), "{error}");
        assert_eq!(tree.stats().quarantined, 1);
        settle(&tree, &model.below()).await.unwrap();
        assert!(tree.version().files().any(|file| file.id() == damaged.id()), "it is kept");
    });
}
