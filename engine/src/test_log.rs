//! A random log of one partition, for tests: every kind of command, and partitions that apply it.
//!
//! Invariants
//! - The same seed gives the same log.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, DeviceId, MessageSeq, UserId};

use crate::{
    background::Pacer,
    env::{Disk as _, Rng, clock::ManualClock, executor::block_on, sim_disk::SimDisk},
    error::Result,
    ids::{LogIndex, PartitionId, Term},
    memory::MEMORY_BYTES_MIN,
    partition::{
        Partition,
        command::{Command, InboxAppend, Progress},
        effect::Effects,
        retention::Retention,
    },
    tree::{Shared, TreeConfig},
};

const USERS: u64 = 5;
const WINDOW_MS: u64 = 1000;
pub(crate) const TERM: Term = Term::new(1);

pub(crate) fn dir() -> PathBuf {
    PathBuf::from("data/partition-00000")
}

pub(crate) fn pacer() -> Pacer {
    Pacer::new(ManualClock::default())
}

fn user(n: u64) -> UserId {
    UserId::from_bytes([u8::try_from(n).unwrap(); 16])
}

fn device(n: u64) -> DeviceAddress {
    DeviceAddress { user: user(n), device: DeviceId::FIRST }
}

pub(crate) fn chats() -> Vec<ChatId> {
    let mut chats: Vec<_> =
        (0..USERS).flat_map(|one| (one..USERS).map(move |other| ChatId::direct(user(one), user(other)))).collect();
    chats.sort_unstable();
    chats
}

pub(crate) fn devices() -> Vec<DeviceAddress> {
    (0..USERS).map(device).collect()
}

/// A log whose entries are made as they are asked for.
pub(crate) struct Log {
    rng: Rng,
    /// Whether messages are deleted.
    pub(crate) deletes: bool,
    now_ms: u64,
    client_seq: u64,
    pub(crate) entries: Vec<Bytes>,
}

impl Log {
    pub(crate) fn new(seed: u64, deletes: bool) -> Self {
        Self { rng: Rng::from_seed(seed), deletes, now_ms: 100 * 86_400_000, client_seq: 0, entries: Vec::new() }
    }

    fn command(&mut self) -> Command {
        let rng = &mut self.rng;
        let (one, other) = (rng.below(USERS), rng.below(USERS));
        let chat = ChatId::direct(user(one), user(other));
        match rng.below(if self.deletes { 16 } else { 13 }) {
            0..7 => {
                self.client_seq += 1;
                let most = if rng.one_in(20) { 20_000 } else { 200 };
                let mut body = vec![0; usize::try_from(rng.below(most)).unwrap()];
                rng.fill(&mut body);
                let (client_seq, time_ms) = (ClientSeq::new(self.client_seq), self.now_ms);
                Command::Send {
                    chat,
                    peer: Some(user(other)),
                    sender: device(one),
                    client_seq,
                    time_ms,
                    body: body.into(),
                }
            }
            7..10 => {
                let from = MessageSeq::new(rng.below(60) + 1);
                let append = InboxAppend { device: device(one), chat, from, to: MessageSeq::new(from.get() + 2) };
                Command::AppendInbox(vec![append])
            }
            10 => Command::TrimInbox { device: device(one), position: rng.below(30), chats: vec![chat] },
            11 => Command::SetLastSeen(vec![(user(one), self.now_ms)]),
            12 => {
                let seq = MessageSeq::new(rng.below(20));
                Command::MarkRead { chat, user: user(one), seq, hidden: seq.get().is_multiple_of(3) }
            }
            13 => {
                let seq = MessageSeq::new(rng.below(40));
                let progress = Progress { chat, user: user(one), covered: seq, delivered: seq, everywhere: seq };
                Command::Advance(vec![progress, Progress { user: user(other), ..progress }])
            }
            14 => {
                let retention = match rng.below(3) {
                    0 => Some(Retention::UntilDelivered { days: 20 }),
                    1 => Some(Retention::History { days: Some(u32::try_from(rng.below(30)).unwrap() + 1) }),
                    _ => None,
                };
                Command::SetRetention { chat: (!rng.one_in(10)).then_some(chat), retention }
            }
            _ => Command::Expire { now_ms: self.now_ms + 10 * 86_400_000 },
        }
    }

    /// The payload of an entry; those before it are made first.
    pub(crate) fn entry(&mut self, index: LogIndex) -> Bytes {
        while (self.entries.len() as u64) < index.get() {
            self.now_ms += self.rng.below(300);
            let mut payload = Vec::new();
            for _ in 0..self.rng.below(6) {
                self.command().encode_into(&mut payload);
            }
            self.entries.push(payload.into());
        }
        self.entries[usize::try_from(index.get()).unwrap() - 1].clone()
    }

    /// Applies what a partition lacks up to an index.
    pub(crate) async fn apply(&mut self, partition: &Partition<SimDisk>, up_to: LogIndex) -> Result<()> {
        let mut effects = Effects::default();
        while partition.applied() < up_to {
            let index = partition.applied().next();
            partition.apply_entry(index, TERM, self.entry(index), &mut effects).await?;
            partition.evict();
            effects = Effects::default();
        }
        Ok(())
    }

    /// The hash of a partition that has applied up to an index and never flushed.
    pub(crate) fn hash_at(&mut self, index: LogIndex) -> u64 {
        let disk = SimDisk::new(0);
        block_on(async {
            let partition = open(&disk, &dir()).await.unwrap();
            self.apply(&partition, index).await.unwrap();
            partition.state_hash().await.unwrap()
        })
    }
}

pub(crate) async fn open(disk: &SimDisk, dir: &Path) -> Result<Partition<SimDisk>> {
    disk.create_dir_all(dir).await?;
    let shared = Shared::new(MEMORY_BYTES_MIN, ManualClock::default());
    let config = TreeConfig { window_ms: WINDOW_MS };
    Partition::open(disk.clone(), dir.to_owned(), PartitionId::new(0), config, shared).await
}

/// Applies some entries at a time, flushes, and merges now and then: what a partition goes through.
pub(crate) async fn live(log: &mut Log, partition: &Partition<SimDisk>, flushes: u64, seed: u64) -> Result<()> {
    let mut rng = Rng::from_seed(seed);
    for _ in 0..flushes {
        let up_to = LogIndex::new(partition.applied().get() + 1 + rng.below(20));
        log.apply(partition, up_to).await?;
        partition.flush().await?;
        if rng.one_in(3) {
            while partition.wants_compaction() {
                partition.compact().await?;
            }
        }
    }
    Ok(())
}
