//! What moves rows between memory and files: flush, compaction, and what is kept in memory beside the memtable.
//!
//! A flush seals the active layer and writes it in order of keys, beside the core: what is sealed does not change, and
//! stays readable. Its rows stay known afterwards, without being copied: the layer becomes the newer generation of
//! clean rows.
//!
//! Invariants
//! - One flush at a time; the sealed layer stays readable until its files are part of the tree.
//! - What is dead when it is written, or merged, is left out: the command that killed it is durable before it is
//!   applied, so a replay kills it again.

use core::{cmp::Reverse, hash::Hash};
use std::{collections::BinaryHeap, sync::Arc};

use columba_wire::MessageSeq;
use futures_util::future::join;

use super::{
    Partition, State,
    chat::{ChatRow, Pending},
    deletion::Errand,
    device::Device,
    inbox::{Inbox, InboxChat, encode_entry, entry_key},
    keys::DeviceKeys,
    living,
    membership::UserChat,
    profile::Profile,
    retention::Settings,
    roster::Roster,
    rows::{Layer, Row, RowMap, each_row, file_key},
    sharded::ShardedMap,
    user::{Handle, LastSeen, User},
};
use crate::{
    background::Slice,
    env::Disk,
    error::Result,
    ids::{FileId, LogIndex},
    limits::MEMTABLE_BYTES_MAX,
    table::{chats::ChatRange, meta::Class},
    tree::{Compacted, FlushWriter, TreeMeta, plan::Plan},
};

/// Rows up to which a flushed layer is copied into the clean ones; a larger one takes their place.
const KEEP_BY_COPY_ROWS: usize = 4096;

/// What a flush did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushReport {
    /// Every entry up to here is in files now: the journal may forget it.
    pub applied: LogIndex,
}

impl<D: Disk> Partition<D> {
    /// Bytes of what is applied and not sealed.
    pub fn active_bytes(&self) -> usize {
        self.inner.usage.active.get()
    }

    /// Whether the active layer has reached its size.
    pub fn wants_flush(&self) -> bool {
        !self.is_flushing() && self.active_bytes() >= MEMTABLE_BYTES_MAX
    }

    /// Whether memtables have reached what the core's budget allows: a start flushes then, before it applies more.
    pub fn exceeds_memory(&self) -> bool {
        let memory = self.inner.tree.shared().memory();
        self.wants_flush() || memory.active() >= memory.seal_at()
    }

    /// Whether a flush is under way.
    pub fn is_flushing(&self) -> bool {
        self.inner.state.borrow().sealed.is_some()
    }

    /// Whether anything is applied and not in files.
    pub fn is_dirty(&self) -> bool {
        self.applied() > self.flushed().0 || self.inner.has_left_rows.get()
    }

    /// Whether flushes write messages and inbox entries alone, as long as the rows fit: in a bulk load, of which
    /// nothing counts before its end, rows are written once then instead of with each flush that finds them changed.
    pub(crate) fn leave_rows(&self, leave: bool) {
        self.inner.leaves_rows.set(leave);
    }

    /// Writes what was applied so far to new files. Applies go on meanwhile. After an error, or where this is dropped
    /// before its end, the flush may be tried again: the sealed layer is kept, and joins the next try.
    ///
    /// # Errors
    /// `NoSpace` or `Io`; nothing is lost.
    ///
    /// # Panics
    /// If a flush is under way.
    pub async fn flush(&self) -> Result<FlushReport> {
        let (mut sealed, layer, settings, meta) = {
            let mut state = self.inner.state.borrow_mut();
            assert!(state.sealed.is_none(), "partition {}: one flush at a time", self.inner.id);
            let layer = Arc::new(core::mem::take(&mut state.active));
            state.sealed = Some(Arc::clone(&layer));
            let extra = state.settings.encode();
            let meta = TreeMeta { applied: state.applied, applied_term: state.applied_term, extra };
            (Sealed { partition: self, layer: Some(Arc::clone(&layer)) }, layer, state.settings, meta)
        };
        self.account();
        self.inner.tree.shared().rebalance();
        let applied = meta.applied;
        let leaves_rows = self.inner.leaves_rows.get() && layer.row_bytes() <= self.rows_left_max();
        let write = async move |writer: &mut FlushWriter<D::Aside>| {
            write_messages(&layer, &settings, writer).await?;
            if leaves_rows { Ok(()) } else { write_all_rows(&layer, writer).await }
        };
        self.inner.tree.flush(meta, write).await?;
        let discarded = {
            let mut layer = sealed.take().expect("it is taken once");
            let mut state = self.inner.state.borrow_mut();
            self.inner.has_left_rows.set(leaves_rows);
            if leaves_rows {
                let written = layer.take_unkeyed();
                state.unseal(layer);
                vec![written]
            } else {
                state.keep_clean(layer, self.inner.tree.shared().memory().rows_max())
            }
        };
        self.inner.discarded.borrow_mut().extend(discarded);
        self.flush_ended();
        Ok(FlushReport { applied })
    }

    /// Memory has another form, and whoever waits for that is told.
    fn flush_ended(&self) {
        self.account();
        self.inner.flushed.notify();
        self.inner.tree.shared().rebalance();
    }

    /// Half of what an active layer may have, so that messages have the rest.
    fn rows_left_max(&self) -> usize {
        self.inner.tree.shared().memory().seal_at() / 2
    }

    /// Waits until everything that is applied now is in files; flushes where nobody else does.
    ///
    /// # Errors
    /// `NoSpace` or `Io`; nothing is lost.
    pub async fn flush_applied(&self) -> Result<()> {
        let wanted = self.applied();
        while self.flushed().0 < wanted {
            let seen = self.inner.flushed.changes();
            if self.is_flushing() {
                self.inner.flushed.changed(seen).await;
            } else {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Whether there is a file to drop, or files to merge.
    pub fn wants_compaction(&self) -> bool {
        !self.inner.tree.is_merging() && self.inner.tree.plan(self.dead_before_ms()).is_some()
    }

    fn dead_before_ms(&self) -> u64 {
        self.settings().expired_before_every_chat_ms()
    }

    /// Carries out the next step of compaction: drops files that are past retention, or merges some; inbox entries
    /// below their watermark and dead messages are dropped on the way. Nothing to do where no step is due.
    ///
    /// # Errors
    /// Damage (the file is quarantined), `NoSpace`, `Io`; nothing is lost.
    ///
    /// # Panics
    /// If a step is under way.
    pub async fn compact(&self) -> Result<Compacted> {
        let Some(plan) = self.inner.tree.plan(self.dead_before_ms()) else {
            return Ok(Compacted::default());
        };
        self.carry_out(&plan).await
    }

    async fn carry_out(&self, plan: &Plan) -> Result<Compacted> {
        let (asking, asked) = living::channel(self.settings());
        let answer = asked.answer(|ask| self.inner.state.borrow().answer(ask));
        join(self.inner.tree.compact(plan, asking), answer).await.0
    }

    /// Whether some chat keeps messages until they are delivered: then [`Self::sweep`] may find files to drop.
    pub fn wants_sweep(&self) -> bool {
        self.settings().may_delete_delivered() && self.inner.tree.files_of(Class::Messages) > 0
    }

    /// Looks at the message file with the lowest id above `after`: where every message of it is at or below what all
    /// devices of its chat have, the file is dropped, unread. Returns the file, and whether it was dropped; `None`
    /// behind the last one.
    ///
    /// Cost: the file's list of chats, and a row for each chat up to the first that still needs something.
    ///
    /// # Errors
    /// Damage, `Io`; nothing is lost.
    pub async fn sweep(&self, after: FileId) -> Result<Option<(FileId, bool)>> {
        let Some((file, chats)) = self.inner.tree.chats_of_next(after).await? else {
            return Ok(None);
        };
        let mut slice = self.inner.tree.shared().pacer().slice();
        for ChatRange { chat, last, .. } in chats {
            let known =
                self.inner.state.borrow().lookup::<ChatRow>(&chat).map(|row| row.map(|row| row.chat.deleted_up_to));
            let deleted_up_to = match known {
                Some(row) => row,
                // Read past the rows in memory: a sweep must not push out what sends need.
                None => match self.inner.tree.get(&file_key::<ChatRow>(&chat)).await? {
                    Some(row) => Some(ChatRow::decode(row)?.chat.deleted_up_to),
                    None => None,
                },
            };
            if deleted_up_to.is_none_or(|up_to| up_to < last) {
                return Ok(Some((file, false)));
            }
            slice.checkpoint().await;
        }
        if self.inner.tree.is_merging() {
            return Ok(Some((file, false)));
        }
        self.carry_out(&Plan::Drop(vec![file])).await?;
        Ok(Some((file, true)))
    }

    /// Says what this partition uses of the core's memory.
    pub(super) fn account(&self) {
        let state = self.inner.state.borrow();
        let usage = &self.inner.usage;
        usage.active.set(state.active.bytes());
        usage.sealed.set(state.sealed.as_ref().map_or(0, |sealed| sealed.bytes()));
        usage.rows.set(state.clean.bytes() + state.older.bytes());
    }

    /// Frees what [`Self::evict`] and flushes have discarded, beside the core. To be called now and then.
    ///
    /// # Errors
    /// `Io` where no thread can be started.
    pub async fn free_discarded(&self) -> Result<()> {
        let discarded = self.inner.discarded.take();
        if discarded.is_empty() {
            return Ok(());
        }
        self.inner.tree.disk().aside("columba-free", async move |_| drop(discarded)).await
    }

    /// Drops rows kept from files where there are too many. To be called between applies.
    pub fn evict(&self) {
        let rows_max = self.inner.tree.shared().memory().rows_max();
        if self.inner.usage.rows.get() > rows_max {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let mut discarded = self.inner.discarded.borrow_mut();
            discarded.push(core::mem::replace(&mut state.older, core::mem::take(&mut state.clean)));
            if state.older.bytes() > rows_max {
                discarded.push(core::mem::take(&mut state.older));
            }
            state.seals += 1;
            self.inner.usage.rows.set(state.clean.bytes() + state.older.bytes());
        }
    }
}

/// The layer that a flush writes. Where the flush fails, or is dropped, it goes back under what was applied since.
struct Sealed<'a, D: Disk> {
    partition: &'a Partition<D>,
    layer: Option<Arc<Layer>>,
}

impl<D: Disk> Sealed<'_, D> {
    /// Ends the flush: nobody finds the layer as sealed any more.
    fn take(&mut self) -> Option<Layer> {
        let layer = self.layer.take()?;
        let mut state = self.partition.inner.state.borrow_mut();
        state.seals += 1;
        state.sealed = None;
        Some(Arc::try_unwrap(layer).ok().expect("no read holds a layer across a wait, and the flush has ended"))
    }
}

impl<D: Disk> Drop for Sealed<'_, D> {
    fn drop(&mut self) {
        if let Some(layer) = self.take() {
            self.partition.inner.state.borrow_mut().unseal(layer);
            self.partition.flush_ended();
        }
    }
}

/// Keys of a map in ascending order: sorted shard by shard, merged as they are taken.
struct SortedKeys<K> {
    shards: Vec<std::vec::IntoIter<K>>,
    next: BinaryHeap<Reverse<(K, usize)>>,
}

impl<K: Copy + Ord + Eq + Hash> SortedKeys<K> {
    async fn of<V>(map: &ShardedMap<K, V>, slice: &mut Slice) -> Self {
        let mut shards = Vec::new();
        let mut next = BinaryHeap::new();
        for (n, shard) in map.shards().enumerate() {
            let mut keys = Vec::with_capacity(shard.len());
            keys.extend(shard.keys().copied());
            keys.sort_unstable();
            let mut keys = keys.into_iter();
            next.extend(keys.next().map(|key| Reverse((key, n))));
            shards.push(keys);
            slice.checkpoint().await;
        }
        Self { shards, next }
    }
}

impl<K: Copy + Ord> Iterator for SortedKeys<K> {
    type Item = K;

    fn next(&mut self) -> Option<K> {
        let mut top = self.next.peek_mut()?;
        let Reverse((key, shard)) = *top;
        match self.shards[shard].next() {
            Some(following) => *top = Reverse((following, shard)),
            None => {
                std::collections::binary_heap::PeekMut::pop(top);
            }
        }
        Some(key)
    }
}

/// Writes messages and inbox entries of a sealed layer. What is dead by what it knows itself is left out: a chat's row
/// and an inbox's are in the same layer as what was appended to them.
async fn write_messages<D: Disk>(layer: &Layer, settings: &Settings, writer: &mut FlushWriter<D>) -> Result<()> {
    for chat in SortedKeys::of(layer.messages.runs(), writer.slice()).await {
        let row = ChatRow::map(layer).get(&chat).and_then(Option::as_ref);
        let floor = row.map(|row| settings.floor_of(&row.chat)).unwrap_or_default();
        let run = layer.messages.range(chat, MessageSeq::ZERO, MessageSeq::MAX);
        for message in run.filter(|message| !floor.is_dead(message.seq, message.time_ms)) {
            writer.message(chat, &message).await?;
        }
    }
    for device in SortedKeys::of(layer.inbox_entries.runs(), writer.slice()).await {
        let run = layer.inbox_entries.runs().get(&device).expect("the device is from this map");
        let inbox = Inbox::map(layer).get(&device).and_then(Option::as_ref);
        let head = inbox.map_or(0, |inbox| inbox.head);
        for entry in run.iter().filter(|entry| entry.position > head) {
            writer.inbox(&entry_key(device, entry.position), &encode_entry(entry)).await?;
        }
    }
    Ok(())
}

/// In order of kinds, which is the order of keys.
async fn write_all_rows<D: Disk>(layer: &Layer, writer: &mut FlushWriter<D>) -> Result<()> {
    macro_rules! write {
        ($($field:ident: $row:ty,)*) => { $(write_rows::<$row, D>(&layer.$field, writer).await?;)* };
    }
    each_row!(write);
    Ok(())
}

async fn write_rows<R: Row, D: Disk>(map: &RowMap<R>, writer: &mut FlushWriter<D>) -> Result<()> {
    if map.len() == 0 {
        return Ok(());
    }
    let mut value = Vec::new();
    for key in SortedKeys::of(map, writer.slice()).await {
        let row = map.get(&key).expect("the key is from this map");
        value.clear();
        if let Some(row) = row {
            row.encode(&mut value);
        }
        writer.state(&file_key::<R>(&key), row.is_some().then_some(&value)).await?;
    }
    Ok(())
}

impl State {
    /// Flushed rows are true of the files now, and stay known: a few are copied, a layer of many becomes the newer
    /// generation. Returns what is not needed any more.
    fn keep_clean(&mut self, mut sealed: Layer, rows_max: usize) -> Vec<Layer> {
        let written = sealed.take_unkeyed();
        let mut dropped = vec![written];
        if sealed.rows() <= KEEP_BY_COPY_ROWS {
            self.clean.absorb(sealed);
        } else {
            dropped.push(core::mem::replace(&mut self.older, core::mem::replace(&mut self.clean, sealed)));
        }
        if self.clean.bytes() + self.older.bytes() > rows_max {
            dropped.push(core::mem::take(&mut self.older));
        }
        if self.clean.bytes() > rows_max {
            dropped.push(core::mem::take(&mut self.clean));
        }
        dropped
    }

    /// What was sealed goes back under what was applied since: a flush has failed, or has left it.
    fn unseal(&mut self, mut sealed: Layer) {
        let newer = core::mem::take(&mut self.active);
        sealed.absorb(newer);
        self.active = sealed;
    }
}
