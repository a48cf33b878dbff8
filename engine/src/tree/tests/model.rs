//! What a tree must answer: plain maps, and every read held against them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, DeviceId, MessageSeq, UserId};

use crate::{
    env::{Disk as _, Rng, clock::ManualClock, sim_disk::SimDisk},
    error::Result,
    ids::{LogIndex, Term},
    memory::MEMORY_BYTES_MIN,
    message::{MessageKind, StoredMessage},
    table::{block::Block, columns::MessageBlock, meta::Class},
    tree::{Keep, Living, MessageRange, ScanRange, Shared, Tree, TreeConfig, TreeMeta, View, plan::Plan},
};

/// What a tree must answer.
#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) state: BTreeMap<Vec<u8>, Bytes>,
    pub(super) inbox: BTreeMap<Vec<u8>, Bytes>,
    pub(super) messages: BTreeMap<(ChatId, MessageSeq), StoredMessage>,
    /// The last seq and time of each chat.
    pub(super) chats: BTreeMap<ChatId, (u64, u64)>,
}

/// What one flush writes.
#[derive(Clone, Default)]
pub(super) struct Rows {
    pub(super) state: BTreeMap<Vec<u8>, Option<Bytes>>,
    pub(super) inbox: BTreeMap<Vec<u8>, Bytes>,
    pub(super) messages: BTreeMap<(ChatId, MessageSeq), StoredMessage>,
}

/// What may go. It only rises.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Below {
    /// Inbox entries with a second byte below it are below their watermark.
    pub(super) inbox_head: u8,
    /// Messages before it are past their retention.
    pub(super) dead_before_ms: u64,
}

impl Below {
    pub(super) fn keeps_inbox(self, key: &[u8]) -> bool {
        key[1] >= self.inbox_head
    }
}

impl Keep for Below {
    async fn living_messages(&mut self, block: &MessageBlock) -> Living {
        Living::these((0..block.len()).map(|row| block.time_ms(row) >= self.dead_before_ms))
    }

    async fn living_entries(&mut self, block: &Block) -> Living {
        Living::these((0..block.len()).map(|row| self.keeps_inbox(block.key(row))))
    }
}

impl Model {
    pub(super) fn apply(&mut self, rows: &Rows) {
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
    pub(super) fn next_rows(&self, rng: &mut Rng, now_ms: u64, inbox_head: u8) -> Rows {
        let mut rows = Rows::default();
        for _ in 0..rng.below(40) {
            let len = if rng.one_in(20) { 40_000 } else { rng.below(900) };
            let value = (!rng.one_in(5)).then(|| random_bytes(rng, len));
            rows.state.insert(state_key(rng), value);
        }
        for _ in 0..rng.below(20) {
            let position = rng.next_u64().to_be_bytes();
            let key = [&[0x20, inbox_head + u8::try_from(rng.below(3)).unwrap()][..], &position].concat();
            rows.inbox.insert(key, Bytes::copy_from_slice(&position));
        }
        for _ in 0..rng.below(8) {
            let chat = chat(rng.below(12));
            let (mut seq, mut time) = self.chats.get(&chat).copied().unwrap_or((0, 0));
            if rows.messages.range((chat, MessageSeq::ZERO)..).next().is_some_and(|((other, _), _)| *other == chat) {
                continue;
            }
            let most = if rng.one_in(4) { 200 } else { 5 };
            for _ in 0..=rng.below(most) {
                seq += 1;
                time = time.max(now_ms + rng.below(60));
                let user = UserId::from_bytes([u8::try_from(rng.below(3)).unwrap(); 16]);
                let len = rng.below(400);
                let message = StoredMessage {
                    seq: MessageSeq::new(seq),
                    sender: DeviceAddress { user, device: DeviceId::FIRST },
                    client_seq: ClientSeq::new(rng.next_u64()),
                    time_ms: time,
                    kind: if rng.below(9) == 0 { MessageKind::Change } else { MessageKind::Client },
                    body: random_bytes(rng, len),
                };
                rows.messages.insert((chat, message.seq), message);
            }
        }
        rows
    }
}

fn random_bytes(rng: &mut Rng, len: u64) -> Bytes {
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    rng.fill(&mut bytes);
    bytes.into()
}

fn state_key(rng: &mut Rng) -> Vec<u8> {
    [&[0x40; 17][..], &rng.below(200).to_be_bytes()].concat()
}

pub(super) fn chat(n: u64) -> ChatId {
    ChatId::from_bytes([u8::try_from(n).unwrap(); 16])
}

pub(super) fn dir() -> PathBuf {
    PathBuf::from("data/partition")
}

pub(super) fn is_table(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("table-"))
}

pub(super) async fn open(disk: &SimDisk) -> Result<Tree<SimDisk>> {
    disk.create_dir_all(&dir()).await?;
    let shared = Shared::new(MEMORY_BYTES_MIN, ManualClock::default());
    Ok(Tree::open(disk.clone(), dir(), TreeConfig { window_ms: 100 }, shared).await?.0)
}

pub(super) fn meta(applied: u64) -> TreeMeta {
    TreeMeta { applied: LogIndex::new(applied), applied_term: Term::new(1), extra: Bytes::from_static(b"x") }
}

pub(super) async fn flush(tree: &Tree<SimDisk>, rows: &Rows, applied: u64) -> Result<()> {
    let rows = rows.clone();
    tree.flush(meta(applied), async move |writer| {
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

/// Carries out plans until there is none. Those that are begun are handed to `begun`.
pub(super) async fn settle(tree: &Tree<SimDisk>, keep: &Below, mut begun: impl FnMut(&Plan)) -> Result<()> {
    for steps in 0.. {
        let Some(plan) = tree.plan(keep.dead_before_ms) else {
            return Ok(());
        };
        assert!(steps < 100, "plans end");
        begun(&plan);
        tree.compact(&plan, *keep).await?;
    }
    unreachable!("the loop ends by return or panic")
}

/// What a read may do beside answering right.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    /// Nothing.
    None,
    /// Say that a file is damaged. An answer is right all the same.
    Damage,
}

impl Harm {
    /// The answer, where there must be one or is one.
    fn judge<T>(self, result: Result<T>) -> Option<T> {
        match result {
            Ok(answer) => Some(answer),
            Err(error) if self == Self::Damage && error.is_damage() => None,
            Err(error) => panic!("a read fails: {error}"),
        }
    }
}

/// Reads a version in every way. What is below `below` may be there or not.
pub(super) async fn check(view: &View<SimDisk>, model: &Model, below: Below, rng: &mut Rng, harm: Harm) {
    check_rows(view, model, below, rng, harm).await;
    for _ in 0..20 {
        let chat = chat(rng.below(13));
        let last = model.chats.get(&chat).map_or(0, |(seq, _)| *seq);
        let from = MessageSeq::new(1 + rng.below(last + 2));
        let to = MessageSeq::new(from.get() + rng.below(last + 2));
        let count_max = usize::try_from(1 + rng.below(70)).unwrap();
        let range = MessageRange { chat, from, to, count_max, bytes_max: usize::MAX };
        let alive = |message: &&StoredMessage| message.time_ms >= below.dead_before_ms;
        let stored = || model.messages.range((chat, from)..=(chat, to)).map(|(_, message)| message);
        // What is dead may still be there, and is then below all that is alive.
        if let Some(newest) = harm.judge(view.newest_messages(&range).await) {
            let expected = stored().rev().take(count_max).filter(alive);
            assert!(newest.iter().filter(alive).eq(expected), "chat {chat}: the newest of {from}..={to}");
        }
        let whole = MessageRange { count_max: usize::MAX, ..range };
        let oldest = harm.judge(view.oldest_messages(&whole).await);
        if let Some(oldest) = &oldest {
            assert!(oldest.iter().filter(alive).eq(stored().filter(alive)), "chat {chat}: the oldest of {from}..={to}");
        }
        if let (Some(page), Some(oldest)) = (harm.judge(view.oldest_messages(&range).await), oldest) {
            assert!(page.iter().eq(oldest.iter().take(count_max)), "chat {chat}: a page of {from}..={to}");
        }
    }
}

async fn check_rows(view: &View<SimDisk>, model: &Model, below: Below, rng: &mut Rng, harm: Harm) {
    let all = |kind: u8| ScanRange { start: vec![kind], end: vec![kind + 1] };
    if let Some(rows) = harm.judge(view.scan(Class::State, &all(0x40), usize::MAX, usize::MAX).await) {
        let expected = model.state.iter().map(|(key, value)| (&key[..], value));
        assert!(rows.iter().map(|(key, value)| (&key[..], value)).eq(expected), "all state rows");
    }
    if let Some(rows) = harm.judge(view.scan(Class::Inbox, &all(0x20), usize::MAX, usize::MAX).await) {
        let found = rows.iter().map(|(key, value)| (&key[..], value)).filter(|(key, _)| below.keeps_inbox(key));
        let expected = model.inbox.iter().map(|(key, value)| (&key[..], value));
        assert!(found.eq(expected.filter(|(key, _)| below.keeps_inbox(key))), "all inbox entries");
    }
    for _ in 0..20 {
        let (key, end) = (state_key(rng), state_key(rng));
        if let Some(found) = harm.judge(view.get(&key).await) {
            assert_eq!(found.as_ref(), model.state.get(&key), "row {key:?}");
        }
        let range = ScanRange { start: key.clone().min(end.clone()), end: key.max(end) };
        let limit = usize::try_from(1 + rng.below(5)).unwrap();
        if let Some(found) = harm.judge(view.scan(Class::State, &range, limit, usize::MAX).await) {
            let expected = model.state.range(range.start.clone()..range.end.clone()).take(limit);
            assert!(found.iter().map(|(key, _)| &key[..]).eq(expected.map(|(key, _)| &key[..])), "rows of {range:?}");
        }
    }
}
