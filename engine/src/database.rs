//! The engine as a library: one journal, some partitions, one thread. No Raft, no network.
//!
//! ```text
//! open -> send, append_inbox, trim_inbox ... -> commit -> newest, range, message, inbox, subscribe -> close
//! ```
//!
//! What is queued joins the open batch; [`Database::commit`] makes all of it durable with one write. While that write
//! is on its way, the commands of the commit before are applied: a read first applies what is durable and not applied
//! yet. So reads see every commit that has returned, and no other.
//!
//! | module | what it holds |
//! |---|---|
//! | here | options, opening, queueing, commit, reads |
//! | `upkeep` | the background: journal, flushes, merges; stalls |
//! | [`load`] | filling a new database in bulk, without a journal |
//! | [`subscribe`] | committed messages as they are applied, for each who asks |
//!
//! Invariants
//! - What [`Database::commit`] returned `Ok` for survives any crash.
//! - Commands are applied in the order in which they were queued, per partition.
//! - One process has a directory: take [`crate::env::lock::DirLock`] first.

pub mod load;
pub mod subscribe;
#[cfg(test)]
mod tests;
mod upkeep;

use core::cell::{Cell, OnceCell, RefCell};
use std::{collections::VecDeque, path::PathBuf, rc::Rc};

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, MessageSeq, UserId, limits::BODY_BYTES_MAX};

use self::subscribe::{Subscribers, Subscription};
use crate::{
    background::PacerStats,
    env::{
        Clock, Disk, Instant,
        executor::{Signal, Turn},
    },
    error::{Error, Result},
    ids::{LogIndex, PartitionId, Term},
    journal::{Journal, JournalConfig, JournalStats, RecoveryReport},
    limits::{ENTRY_BYTES_MAX, WINDOW_MS},
    memory::{MEMORY_BYTES, MemoryStats},
    message::StoredMessage,
    partition::{
        MessagePage, Partition,
        command::{Command, InboxAppend, Progress},
        effect::{Effects, Outcome},
        group::GroupChange,
        inbox::InboxEntry,
        retention::Retention,
    },
    table::cache::BlockCacheStats,
    tree::{Shared, TreeConfig, TreeStats},
};

/// Bytes of log that are read at a time when a database is opened.
const RECOVERY_READ_BYTES: usize = 4 * 1024 * 1024;
/// The only term there is without elections.
const TERM: Term = Term::new(1);

/// How a database is laid out.
#[derive(Clone, Debug)]
pub struct Options {
    /// Partitions; fixed when the directory is first used.
    pub partitions: u32,
    /// Memory for memtables and caches, bytes.
    pub memory_bytes: usize,
    /// Milliseconds of creation time that share message files.
    pub window_ms: u64,
    /// The journal's layout; `dir` is set by [`Database::open`].
    pub journal: JournalConfig,
}

impl Default for Options {
    fn default() -> Self {
        let journal = JournalConfig::new(PathBuf::new());
        Self { partitions: 1, memory_bytes: MEMORY_BYTES, window_ms: WINDOW_MS, journal }
    }
}

/// What opening a database found.
#[derive(Clone, Debug)]
pub struct OpenReport {
    /// What the journal's recovery found.
    pub journal: RecoveryReport,
    /// Entries that were in the journal and not in files.
    pub applied_entries: u64,
}

/// A message to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// From which device.
    pub sender: DeviceAddress,
    /// To whom: with the sender's user it names the chat.
    pub to: UserId,
    /// The device's own number for it: a repetition with the same number is not stored twice.
    pub client_seq: ClientSeq,
    /// At most [`BODY_BYTES_MAX`].
    pub body: Bytes,
}

/// Where the outcome of a queued command will be.
#[derive(Clone, Debug)]
pub struct Ticket {
    outcomes: Outcomes,
    /// Which one of them.
    number: usize,
}

/// The outcomes of an entry's commands, once it is applied. Where no ticket asks for them they are not kept.
type Outcomes = Rc<OnceCell<Vec<Outcome>>>;

/// Counters of a database.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// The journal's.
    pub journal: JournalStats,
    /// Of the files, over all partitions.
    pub tree: TreeStats,
    /// Bytes written to journal, files and manifests since it was opened.
    pub bytes_written_total: u64,
    /// What is used of the memory.
    pub memory: MemoryStats,
    /// Blocks found in the cache, and read.
    pub blocks: BlockCacheStats,
    /// Tables that are open.
    pub tables_open: usize,
    /// What background work took.
    pub background: PacerStats,
    /// Commits that had to wait for a flush.
    pub stalls: u64,
    /// How long they waited, nanoseconds.
    pub stalled_ns: u64,
}

/// A database. Cheap to clone; clones share it. Belongs to one thread.
pub struct Database<D: Disk, C: Clock> {
    inner: Rc<Inner<D, C>>,
}

struct Inner<D: Disk, C: Clock> {
    clock: C,
    journal: Journal<D>,
    partitions: Vec<Partition<D>>,
    shared: Shared<D::File>,
    queues: RefCell<Vec<Queue>>,
    /// Handed to the journal and not durable: more than one commit's where the disk was full.
    unwritten: RefCell<Vec<Entry>>,
    /// Durable and not applied.
    durable: RefCell<VecDeque<Entry>>,
    committing: Turn,
    applying: Turn,
    effects: RefCell<Effects>,
    subscribers: Subscribers,
    /// Something was committed, applied, flushed or closed.
    changed: Signal,
    /// A flush has ended, well or not. Not a change: the background would try at once what has just failed.
    flush_ended: Signal,
    closing: Cell<bool>,
    stalls: Cell<(u64, u64)>,
    /// When files were last looked through for those that every device has.
    swept: Cell<Instant>,
}

/// Commands of a partition that wait for the next commit.
#[derive(Default)]
struct Queue {
    /// Whole entries, then the open one, whose room is kept for the next.
    full: Vec<(Bytes, Outcomes)>,
    open: Vec<u8>,
    /// Commands of the open one.
    commands: usize,
    outcomes: Outcomes,
    last: LogIndex,
}

struct Entry {
    partition: usize,
    index: LogIndex,
    payload: Bytes,
    outcomes: Outcomes,
}

impl Queue {
    /// Queues a command; where its outcome will be.
    fn push(&mut self, command: &Command) -> Ticket {
        let before = self.open.len();
        command.encode_into(&mut self.open);
        if self.open.len() > ENTRY_BYTES_MAX {
            assert!(before > 0, "a command fits into an entry");
            self.close(before);
        }
        self.commands += 1;
        Ticket { outcomes: Rc::clone(&self.outcomes), number: self.commands - 1 }
    }

    /// The open entry ends here. Its copy is as long as it is: messages in memory are slices of it.
    fn close(&mut self, bytes: usize) {
        if bytes > 0 {
            let payload = Bytes::copy_from_slice(&self.open[..bytes]);
            self.full.push((payload, core::mem::take(&mut self.outcomes)));
            self.open.drain(..bytes);
            self.commands = 0;
        }
    }
}

impl<D: Disk, C: Clock> Clone for Database<D, C> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

impl<D: Disk, C: Clock> Database<D, C> {
    /// Opens the database in a directory, or begins one. What the journal has and the files have not is applied.
    ///
    /// # Errors
    /// Damage of the journal, of a manifest or of a file that was needed; `Io`, `NoSpace`.
    ///
    /// # Panics
    /// Without a partition.
    pub async fn open(disk: D, clock: C, dir: PathBuf, options: Options) -> Result<(Self, OpenReport)> {
        assert!(options.partitions > 0, "a database has a partition");
        let shared = Shared::new(options.memory_bytes, clock.clone());
        let drained = disk.clone();
        shared.pacer().drain_with(move || drained.drain());
        disk.create_dir_all(&dir).await?;
        load::refuse_unfinished(&disk, &dir).await?;
        let config = JournalConfig { dir: dir.join("journal"), ..options.journal };
        let (journal, recovered) = Journal::open(disk.clone(), config).await?;
        let mut partitions = Vec::new();
        let mut queues = Vec::new();
        let mut applied_entries = 0;
        for number in 0..options.partitions {
            let id = PartitionId::new(number);
            let dir = dir.join(format!("partition-{number:05}"));
            disk.create_dir_all(&dir).await?;
            let config = TreeConfig { window_ms: options.window_ms };
            let partition = Partition::open(disk.clone(), dir, id, config, shared.clone()).await?;
            if let Some(found) = recovered.partitions.get(&id) {
                if found.last > partition.applied() && found.first > partition.applied().next() {
                    let reason = format!("it begins with entry {}, after {}", found.first, partition.applied());
                    return Err(Error::DamagedFile { path: PathBuf::from("journal"), reason });
                }
                if LogIndex::ZERO < found.last && found.last < partition.applied() {
                    journal.restart(id, partition.applied());
                }
            }
            let mut effects = Effects::default();
            loop {
                let entries = journal.read(id, partition.applied().next(), RECOVERY_READ_BYTES).await?;
                if entries.is_empty() {
                    break;
                }
                for entry in entries {
                    partition.apply_entry(entry.index, entry.term, entry.payload, &mut effects).await?;
                    effects.clear();
                    applied_entries += 1;
                }
                partition.evict();
                if partition.exceeds_memory() {
                    let report = partition.flush().await?;
                    journal.truncate(id, report.applied);
                }
            }
            queues.push(Queue { last: partition.applied(), ..Queue::default() });
            partitions.push(partition);
        }
        disk.sync_dir(&dir).await?;
        match journal.maintain().await {
            // The first commit will say so.
            Ok(()) | Err(Error::NoSpace { .. }) => {}
            Err(error) => return Err(error),
        }
        let report = OpenReport { journal: recovered.report, applied_entries };
        let inner = Inner {
            clock,
            journal,
            partitions,
            shared,
            queues: RefCell::new(queues),
            unwritten: RefCell::default(),
            durable: RefCell::default(),
            committing: Turn::default(),
            applying: Turn::default(),
            effects: RefCell::default(),
            subscribers: Subscribers::default(),
            changed: Signal::default(),
            flush_ended: Signal::default(),
            closing: Cell::new(false),
            stalls: Cell::default(),
            swept: Cell::default(),
        };
        Ok((Self { inner: Rc::new(inner) }, report))
    }

    fn partition_of(&self, placement_hash: u64) -> usize {
        usize::try_from(placement_hash % self.inner.partitions.len() as u64).expect("below the number of partitions")
    }

    fn partition(&self, placement_hash: u64) -> &Partition<D> {
        &self.inner.partitions[self.partition_of(placement_hash)]
    }

    fn queue(&self, placement_hash: u64, command: &Command) -> Ticket {
        self.inner.queues.borrow_mut()[self.partition_of(placement_hash)].push(command)
    }

    /// Queues a message for the next commit. Its place in the chat is the ticket's outcome then.
    ///
    /// # Panics
    /// If the body is longer than [`BODY_BYTES_MAX`].
    pub fn send(&self, send: Send) -> Ticket {
        self.queue_send(send, self.inner.clock.wall().as_millis())
    }

    fn queue_send(&self, send: Send, time_ms: u64) -> Ticket {
        let Send { sender, to, client_seq, body } = send;
        assert!(body.len() <= BODY_BYTES_MAX, "a body of {} bytes is too long", body.len());
        let chat = ChatId::direct(sender.user, to);
        let command = Command::Send { chat, peer: Some(to), sender, client_seq, time_ms, body };
        self.queue(chat.placement_hash(), &command)
    }

    /// Queues a message to a group.
    ///
    /// # Panics
    /// If the body is longer than [`BODY_BYTES_MAX`].
    pub fn send_to_group(&self, group: ChatId, sender: DeviceAddress, client_seq: ClientSeq, body: Bytes) -> Ticket {
        assert!(body.len() <= BODY_BYTES_MAX, "a body of {} bytes is too long", body.len());
        let time_ms = self.inner.clock.wall().as_millis();
        let command = Command::Send { chat: group, peer: None, sender, client_seq, time_ms, body };
        self.queue(group.placement_hash(), &command)
    }

    /// Queues a change of a group, or the making of one, whose id is `ChatId::group` of sender and client seq.
    ///
    /// # Panics
    /// If the change is not valid.
    pub fn change_group(
        &self,
        group: ChatId,
        sender: DeviceAddress,
        client_seq: ClientSeq,
        change: GroupChange,
    ) -> Ticket {
        assert!(change.is_valid(), "a change of a group has ascending lists, within their bounds");
        let time_ms = self.inner.clock.wall().as_millis();
        let command = Command::ChangeGroup { chat: group, sender, client_seq, time_ms, change };
        self.queue(group.placement_hash(), &command)
    }

    /// Queues a reference to messages of a chat for a device's inbox. What the inbox has, or had, already is left out.
    pub fn append_inbox(&self, device: DeviceAddress, chat: ChatId, from: MessageSeq, to: MessageSeq) {
        let command = Command::AppendInbox(vec![InboxAppend { device, chat, from, to }]);
        self.queue(device.user.placement_hash(), &command);
    }

    /// Queues a move of a device's watermark: its inbox up to this position is done with.
    pub fn trim_inbox(&self, device: DeviceAddress, position: u64) {
        self.queue(device.user.placement_hash(), &Command::TrimInbox { device, position, chats: Vec::new() });
    }

    /// Queues a member's progress in a chat: what everybody has may be deleted, where the retention says so.
    pub fn advance(&self, progress: Progress) {
        self.queue(progress.chat.placement_hash(), &Command::Advance(vec![progress]));
    }

    /// Queues a change of retention: of a chat, or of all that have none of their own.
    pub fn set_retention(&self, chat: Option<ChatId>, retention: Option<Retention>) {
        let command = Command::SetRetention { chat, retention };
        match chat {
            Some(chat) => drop(self.queue(chat.placement_hash(), &command)),
            None => self.queue_everywhere(&command),
        }
    }

    /// Queues that time has passed: what is older than its retention is deleted.
    pub fn expire(&self) {
        let command = Command::Expire { now_ms: self.inner.clock.wall().as_millis() };
        self.queue_everywhere(&command);
    }

    fn queue_everywhere(&self, command: &Command) {
        for queue in &mut *self.inner.queues.borrow_mut() {
            queue.push(command);
        }
    }

    /// Makes everything queued so far durable, with one write. Waits for a flush where memory or journal are full.
    ///
    /// # Errors
    /// `NoSpace`: what was queued waits, and this may be called again. `Io`, `JournalFailed`: the database must be
    /// opened again. Damage, where rows had to be loaded to apply the commit before.
    pub async fn commit(&self) -> Result<()> {
        let _turn = self.inner.committing.take().await;
        self.wait_for_room().await?;
        self.inner.shared.pacer().note_served();
        let entries = self.take_queued();
        for Entry { partition, index, payload, .. } in &entries {
            let id = self.inner.partitions[*partition].id();
            self.inner.journal.append_entry(id, TERM, *index, payload);
        }
        self.inner.unwritten.borrow_mut().extend(entries);
        let (committed, applied) = futures_util::future::join(self.write(), self.apply()).await;
        // What could not be written for lack of space waits in the journal: it will be durable with the next commit,
        // and is not applied before.
        if committed.is_ok() {
            self.inner.durable.borrow_mut().extend(self.inner.unwritten.borrow_mut().drain(..));
        }
        self.inner.changed.notify();
        committed?;
        applied
    }

    /// Applies everything queued so far without making it durable: see [`load`].
    async fn apply_unlogged(&self) -> Result<()> {
        let _turn = self.inner.committing.take().await;
        self.wait_for_room().await?;
        self.inner.durable.borrow_mut().extend(self.take_queued());
        self.inner.changed.notify();
        self.apply().await
    }

    async fn write(&self) -> Result<()> {
        while self.inner.journal.pending_bytes() > 0 {
            self.inner.journal.commit().await?;
        }
        Ok(())
    }

    fn take_queued(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (partition, queue) in self.inner.queues.borrow_mut().iter_mut().enumerate() {
            queue.close(queue.open.len());
            for (payload, outcomes) in queue.full.drain(..) {
                queue.last = queue.last.next();
                entries.push(Entry { partition, index: queue.last, payload, outcomes });
            }
        }
        entries
    }

    /// Applies what is durable.
    async fn apply(&self) -> Result<()> {
        let _turn = self.inner.applying.take().await;
        self.inner.shared.pacer().note_served();
        // Taken for the while, and given back with its room: they are as many as a commit has commands.
        let mut effects = self.inner.effects.take();
        let applied = self.apply_durable(&mut effects).await;
        effects.clear();
        self.inner.effects.replace(effects);
        applied
    }

    async fn apply_durable(&self, effects: &mut Effects) -> Result<()> {
        loop {
            let next = self.inner.durable.borrow_mut().pop_front();
            let Some(Entry { partition, index, payload, outcomes }) = next else {
                return Ok(());
            };
            let partition = &self.inner.partitions[partition];
            if let Err(error) = partition.apply_entry(index, TERM, payload.clone(), effects).await {
                let number = usize::try_from(partition.id().get()).expect("partitions are numbered from 0");
                self.inner.durable.borrow_mut().push_front(Entry { partition: number, index, payload, outcomes });
                return Err(error);
            }
            if Rc::strong_count(&outcomes) > 1 {
                outcomes.set(core::mem::take(&mut effects.outcomes)).expect("an entry is applied once");
            }
            effects.outcomes.clear();
            self.inner.subscribers.publish(effects.effects.drain(..));
            partition.evict();
        }
    }

    /// The outcome of a queued command; `None` where it is not committed yet.
    ///
    /// # Errors
    /// As reads.
    pub async fn outcome(&self, ticket: &Ticket) -> Result<Option<Outcome>> {
        if ticket.outcomes.get().is_none() {
            self.apply().await?;
        }
        Ok(ticket.outcomes.get().map(|outcomes| outcomes[ticket.number].clone()))
    }

    /// The newest `count_max` messages of a chat, newest first.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn newest(&self, chat: ChatId, count_max: usize) -> Result<Vec<StoredMessage>> {
        self.apply().await?;
        self.partition(chat.placement_hash()).newest(chat, MessageSeq::MAX, count_max, usize::MAX).await
    }

    /// The newest `count_max` messages of a chat below a seq, newest first: the next page of history.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn before(&self, chat: ChatId, seq: MessageSeq, count_max: usize) -> Result<Vec<StoredMessage>> {
        self.apply().await?;
        self.partition(chat.placement_hash()).newest(chat, seq.prev(), count_max, usize::MAX).await
    }

    /// The messages `from..=to` of a chat, ascending, until about `bytes_max` of bodies.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn range(&self, chat: ChatId, from: MessageSeq, to: MessageSeq, bytes_max: usize) -> Result<MessagePage> {
        self.apply().await?;
        self.partition(chat.placement_hash()).messages(chat, from, to, bytes_max).await
    }

    /// One message.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn message(&self, chat: ChatId, seq: MessageSeq) -> Result<Option<StoredMessage>> {
        self.apply().await?;
        self.partition(chat.placement_hash()).message(chat, seq).await
    }

    /// Entries of a device's inbox above a position and above its watermark, in order.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn inbox(&self, device: DeviceAddress, position: u64, entries_max: usize) -> Result<Vec<InboxEntry>> {
        self.apply().await?;
        self.partition(device.user.placement_hash()).inbox(device, position, entries_max).await
    }

    /// Committed messages from now on, of one chat or of all.
    pub fn subscribe(&self, chat: Option<ChatId>) -> Subscription {
        self.inner.subscribers.add(chat)
    }

    /// The partitions, for tools and tests.
    pub fn partitions(&self) -> &[Partition<D>] {
        &self.inner.partitions
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let mut tree = TreeStats::default();
        for partition in &self.inner.partitions {
            tree += partition.tree().stats();
        }
        let journal = self.inner.journal.stats();
        let (stalls, stalled_ns) = self.inner.stalls.get();
        Stats {
            bytes_written_total: journal.bytes
                + tree.flushed_bytes_total
                + tree.merged_bytes_total
                + tree.manifest_bytes_total,
            journal,
            tree,
            memory: self.inner.shared.memory_stats(),
            blocks: self.inner.shared.block_stats(),
            tables_open: self.inner.shared.tables_open(),
            background: self.inner.shared.pacer().stats(),
            stalls,
            stalled_ns,
        }
    }

    /// Commits and flushes everything, and ends the background.
    ///
    /// # Errors
    /// As [`Self::commit`] and flushes.
    pub async fn close(self) -> Result<()> {
        self.commit().await?;
        self.apply().await?;
        self.inner.closing.set(true);
        self.inner.changed.notify();
        self.flush().await
    }
}
