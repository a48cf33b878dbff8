//! A hot inbox as a queue: after millions of appends and trims a read costs what it cost at the beginning.

use std::path::PathBuf;

use columba_engine::{
    env::{Disk as _, clock::ManualClock, executor::block_on, sim_disk::SimDisk},
    ids::{PartitionId, Term},
    memory::MEMORY_BYTES_MIN,
    partition::{
        Partition,
        command::{Command, InboxAppend},
        effect::Effects,
    },
    tree::{Shared, TreeConfig},
};
use columba_wire::{ChatId, DeviceAddress, DeviceId, MessageSeq, UserId};

/// Appends where `ENGINE_INBOX_APPENDS` says nothing else; the claim is about ten million.
const APPENDS: u64 = 1_000_000;
/// Entries that the device has not acknowledged yet.
const BACKLOG: u64 = 1000;
/// Entries appended, read and trimmed at a time.
const BATCH: u64 = 100;
/// Batches between two flushes: a few memtables of backlog lie in files at any time.
const BATCHES_PER_FLUSH: u64 = 7;
/// Chats that the entries refer to.
const CHATS: u64 = 50;

struct Queue {
    partition: Partition<SimDisk>,
    shared: Shared<columba_engine::env::sim_disk::SimFile>,
    device: DeviceAddress,
    effects: Effects,
    appended: u64,
    trimmed: u64,
}

impl Queue {
    async fn open() -> Self {
        let (disk, dir) = (SimDisk::new(1), PathBuf::from("inbox"));
        disk.create_dir_all(&dir).await.expect("the disk is whole");
        let shared = Shared::new(MEMORY_BYTES_MIN, ManualClock::default());
        let id = PartitionId::new(0);
        let partition = Partition::open(disk, dir, id, TreeConfig::default(), shared.clone()).await;
        let device = DeviceAddress { user: UserId::from_bytes([7; 16]), device: DeviceId::FIRST };
        let partition = partition.expect("the disk is whole");
        Self { partition, shared, device, effects: Effects::default(), appended: 0, trimmed: 0 }
    }

    async fn apply(&mut self, command: Command) {
        let mut entry = Vec::new();
        command.encode_into(&mut entry);
        let (partition, index) = (&self.partition, self.partition.applied().next());
        partition.apply_entry(index, Term::new(1), entry.into(), &mut self.effects).await.expect("the disk is whole");
        self.effects.clear();
        partition.evict();
    }

    async fn append(&mut self) {
        let items = (0..BATCH).map(|n| {
            let number = self.appended + n;
            let chat = ChatId::from_bytes(u128::from(number % CHATS).to_be_bytes());
            let seq = MessageSeq::new(number / CHATS + 1);
            InboxAppend { device: self.device, chat, from: seq, to: seq }
        });
        self.apply(Command::AppendInbox(items.collect())).await;
        self.appended += BATCH;
    }

    /// Blocks that a read of the oldest batch looks at, found in memory or on the disk.
    async fn read(&self) -> u64 {
        let touched = || self.shared.block_stats().hits + self.shared.block_stats().misses;
        let before = touched();
        let entries = self.partition.inbox(self.device, 0, usize::try_from(BATCH).expect("few")).await;
        let entries = entries.expect("the disk is whole");
        assert!(entries.iter().map(|entry| entry.position).eq(self.trimmed + 1..=self.trimmed + BATCH));
        touched() - before
    }

    async fn trim(&mut self) {
        self.trimmed += BATCH;
        self.apply(Command::TrimInbox { device: self.device, position: self.trimmed, chats: vec![] }).await;
    }

    async fn upkeep(&self) {
        self.partition.flush().await.expect("the disk is whole");
        while self.partition.wants_compaction() {
            self.partition.compact().await.expect("the disk is whole");
        }
    }
}

#[test]
fn a_hot_inbox_is_read_at_the_end_for_what_it_cost_at_the_beginning() {
    let appends = std::env::var("ENGINE_INBOX_APPENDS").map_or(APPENDS, |appends| appends.parse().expect("a number"));
    let batches = appends / BATCH;
    // Of the first and the last tenth.
    let mut touched = [0; 2];
    block_on(async {
        let mut queue = Queue::open().await;
        while queue.appended < BACKLOG {
            queue.append().await;
        }
        for batch in 0..batches {
            queue.append().await;
            if batch % BATCHES_PER_FLUSH == BATCHES_PER_FLUSH - 1 {
                queue.upkeep().await;
            }
            let blocks = queue.read().await;
            if batch < batches / 10 {
                touched[0] += blocks;
            } else if batch >= batches - batches / 10 {
                touched[1] += blocks;
            }
            queue.trim().await;
        }
        let stats = queue.partition.tree().stats();
        let mean = touched.map(|blocks| (blocks * 1000 / (batches / 10)) as f64 / 1000.0);
        println!("{appends} appends and trims: {} blocks a read in the first tenth, {} in the last", mean[0], mean[1]);
        println!(
            "{} files of {} bytes are left; {} bytes flushed, {} merged",
            stats.files, stats.bytes, stats.flushed_bytes_total, stats.merged_bytes_total
        );
        assert!(touched[0] > batches / 10 / 2, "reads do look at files: {touched:?}");
        assert!(touched[1] * 10 <= touched[0] * 11, "a read costs more at the end: {touched:?}");
    });
}
