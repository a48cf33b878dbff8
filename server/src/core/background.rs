//! Background work of a core: journal upkeep and flushes, one at a time; compaction beside them; and a slow scrub of
//! all files. What is due is decided by [`columba_engine::upkeep`], and everything yields in slices.
//!
//! Invariants
//! - The journal forgets an entry only after the flush that holds it is durable.
//! - A flush or compaction that finds no space changes nothing and is tried again; anything else that fails ends the
//!   node, except damage of files: the file is quarantined and reported, and work goes on around it.

use core::{future::poll_fn, task::Poll, time::Duration};
use std::{collections::BTreeMap, rc::Rc};

use columba_engine::{
    env::{Clock, Disk, Instant},
    ids::{FileId, PartitionId},
    limits::MEMTABLE_AGE_MAX_MS,
    partition::Partition,
    tree::{TreeStats, scrub},
    upkeep,
};

use super::{
    Core, TIMEOUT_MAX,
    limits::{SCRUB_EVERY, SWEEP_EVERY},
    state::CoreState,
};
use crate::error::{Error, Result};

impl<D: Disk, C: Clock> Core<D, C> {
    /// Runs background work and jobs until the core is shut down.
    ///
    /// # Errors
    /// A failed durable write, `Io`: the node must exit.
    pub async fn run_background(self: Rc<Self>) -> Result<()> {
        let jobs = async {
            Rc::clone(&self).run_jobs().await;
            Ok(())
        };
        // Boxed: together they are as large as a few blocks of rows.
        let (upkeep, compactions) = (Box::pin(self.run_upkeep()), Box::pin(self.run_compactions()));
        let (sweeps, scrub) = (Box::pin(self.run_sweeps()), Box::pin(self.run_scrub()));
        futures_util::future::try_join5(jobs, upkeep, compactions, sweeps, scrub).await.map(|_| ())
    }

    async fn run_upkeep(&self) -> Result<()> {
        let mut blocked = false;
        let mut dirty_since = BTreeMap::new();
        loop {
            if self.state.borrow().shutting_down {
                return Ok(());
            }
            self.survive(self.journal.maintain().await, &mut blocked)?;
            if core::mem::take(&mut self.state.borrow_mut().flush_requested) {
                let idle = |partition: &&Partition<D>| partition.is_dirty() && !partition.is_flushing();
                for partition in self.partitions.values().filter(idle) {
                    self.flush(partition, &mut blocked).await?;
                }
            }
            self.report();
            for partition in self.partitions.values() {
                partition.free_discarded().await.map_err(Error::Engine)?;
            }
            let memory = self.shared.memory();
            // One that found no space is tried until there is some: till then nothing new is taken.
            let blocked_on = self.state.borrow().flush_blocked_on;
            let due = blocked_on
                .and_then(|id| self.partitions.get(&id))
                .or_else(|| upkeep::flush_due(self.partitions.values(), &self.journal, memory))
                .or_else(|| self.aged(&mut dirty_since));
            match due {
                Some(partition) => self.flush(partition, &mut blocked).await?,
                None => {
                    let is_full = || memory.active() >= memory.seal_at();
                    self.pause(TIMEOUT_MAX, |state| state.flush_requested || is_full()).await;
                }
            }
            if blocked {
                self.pause(TIMEOUT_MAX, |state| state.flush_requested).await;
            }
        }
    }

    /// A partition with something that was applied long ago and is not in files.
    fn aged(&self, dirty_since: &mut BTreeMap<PartitionId, Instant>) -> Option<&Partition<D>> {
        let now = self.clock.now();
        for partition in self.partitions.values() {
            if !partition.is_dirty() {
                dirty_since.remove(&partition.id());
                continue;
            }
            let since = *dirty_since.entry(partition.id()).or_insert(now);
            if now.saturating_since(since) >= Duration::from_millis(MEMTABLE_AGE_MAX_MS) && !partition.is_flushing() {
                dirty_since.remove(&partition.id());
                return Some(partition);
            }
        }
        None
    }

    /// One step of compaction at a time, beside the flushes: a long merge must not hold up what makes room in the
    /// journal.
    async fn run_compactions(&self) -> Result<()> {
        let mut blocked = false;
        loop {
            if self.state.borrow().shutting_down {
                return Ok(());
            }
            let Some(partition) = upkeep::compaction_due(self.partitions.values()) else {
                self.pause(TIMEOUT_MAX, |_| false).await;
                continue;
            };
            let compacted = partition.compact().await;
            if compacted.is_ok() {
                self.metrics.merges_total.add(1);
            }
            self.survive(compacted.map(drop), &mut blocked)?;
            if core::mem::take(&mut blocked) {
                self.pause(TIMEOUT_MAX, |_| false).await;
            }
        }
    }

    /// Drops message files that every device has, where chats keep messages until they are delivered.
    async fn run_sweeps(&self) -> Result<()> {
        loop {
            self.pause(SWEEP_EVERY, |_| false).await;
            for partition in self.partitions.values().filter(|partition| partition.wants_sweep()) {
                let mut after = FileId::ZERO;
                loop {
                    if self.state.borrow().shutting_down {
                        return Ok(());
                    }
                    match partition.sweep(after).await {
                        Ok(None) => break,
                        Ok(Some((file, dropped))) => {
                            after = file;
                            self.metrics.merges_total.add(u64::from(dropped));
                        }
                        // The others are looked at next time; the damaged one is quarantined then.
                        Err(error) => {
                            self.survive(Err(error), &mut false)?;
                            break;
                        }
                    }
                }
            }
            if self.state.borrow().shutting_down {
                return Ok(());
            }
        }
    }

    /// Reads every file again and again, no faster than [`CoreOptions::scrub_bytes_per_second`], each at most once in
    /// [`SCRUB_EVERY`].
    ///
    /// [`CoreOptions::scrub_bytes_per_second`]: super::CoreOptions::scrub_bytes_per_second
    async fn run_scrub(&self) -> Result<()> {
        let rate = self.options.scrub_bytes_per_second;
        if rate == 0 {
            return Ok(());
        }
        loop {
            let began = self.clock.now();
            for partition in self.partitions.values() {
                let mut after = FileId::ZERO;
                loop {
                    if self.state.borrow().shutting_down {
                        return Ok(());
                    }
                    let (file, verified) = partition.tree().verify_next(after).await;
                    let Some(file) = file else {
                        break;
                    };
                    after = file;
                    let bytes = *verified.as_ref().unwrap_or(&0);
                    self.metrics.scrubbed_bytes_total.add(bytes);
                    self.survive(verified.map(drop), &mut false)?;
                    self.pause(scrub::pause_after(bytes, rate), |_| false).await;
                }
            }
            let took = self.clock.now().saturating_since(began);
            self.pause(SCRUB_EVERY.saturating_sub(took).max(TIMEOUT_MAX), |_| false).await;
            if self.state.borrow().shutting_down {
                return Ok(());
            }
        }
    }

    async fn flush(&self, partition: &Partition<D>, blocked: &mut bool) -> Result<()> {
        let flushed = partition.flush().await;
        {
            let mut state = self.state.borrow_mut();
            if matches!(flushed, Err(columba_engine::Error::NoSpace { .. })) {
                state.flush_blocked_on.get_or_insert(partition.id());
            } else if state.flush_blocked_on == Some(partition.id()) {
                state.flush_blocked_on = None;
            }
        }
        match flushed {
            Ok(report) => {
                self.journal.truncate(partition.id(), report.applied);
                self.metrics.flushes_total.add(1);
                self.note_memory();
                *blocked = false;
                Ok(())
            }
            Err(error) => self.survive(Err(error), blocked),
        }
    }

    /// Asks for a flush of every partition: for tests, and for an operator who wants a quick start after a stop.
    pub fn request_flush(&self) {
        self.state.borrow_mut().flush_requested = true;
        super::wake(&self.wakers.background);
    }

    fn report(&self) {
        let mut tree = TreeStats::default();
        for partition in self.partitions.values() {
            tree += partition.stats().1;
        }
        self.shared.rebalance();
        let written = tree.flushed_bytes_total + tree.merged_bytes_total + tree.manifest_bytes_total;
        let (memory, blocks, pace) =
            (self.shared.memory_stats(), self.shared.block_stats(), self.shared.pacer().stats());
        let metrics = &self.metrics;
        metrics.tree_files.set(tree.files as u64);
        metrics.tree_bytes.set(tree.bytes);
        metrics.tree_files_quarantined.set(tree.quarantined as u64);
        metrics.tree_bytes_written_total.set(written);
        metrics.tree_bytes_removed_total.set(tree.removed_bytes_total);
        metrics.tables_open.set(self.shared.tables_open() as u64);
        metrics.memory_budget_bytes.set(memory.budget as u64);
        metrics.memory_memtable_bytes.set((memory.active + memory.sealed) as u64);
        metrics.memory_row_bytes.set(memory.rows as u64);
        metrics.memory_table_bytes.set(memory.tables as u64);
        metrics.memory_block_bytes.set(memory.blocks as u64);
        metrics.block_hits_total.set(blocks.hits);
        metrics.block_misses_total.set(blocks.misses);
        metrics.background_slices_total.set(pace.slices);
        metrics.background_busy_us_total.set(pace.busy_ns / 1000);
        metrics.background_longest_slice_us.set(pace.longest_ns / 1000);
        metrics.journal_segments.set(self.journal.segments_in_use() as u64);
    }

    /// Looks whether memtables have reached their bound: then new messages are refused until a flush has made room.
    pub(super) fn note_memory(&self) {
        let is_full = self.shared.memory().must_stall();
        let mut state = self.state.borrow_mut();
        if is_full && !state.memory_is_full {
            self.metrics.memory_stalls_total.add(1);
        }
        state.memory_is_full = is_full;
    }

    /// Waits a while, or until the state says that it is over.
    async fn pause(&self, length: Duration, is_over: impl Fn(&CoreState<D>) -> bool) {
        let until = self.clock.now() + length;
        poll_fn(|cx| {
            let state = self.state.borrow();
            if self.clock.now() >= until || state.shutting_down || is_over(&state) {
                return Poll::Ready(());
            }
            self.wakers.background.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Wakes what waits for time: the background and a blocked write. Part of [`Core::handle_timeout`].
    pub(crate) fn wake_waiters_for_time(&self) {
        super::wake(&self.wakers.background);
        super::wake(&self.wakers.commit);
    }

    fn survive(&self, result: columba_engine::error::Result<()>, blocked: &mut bool) -> Result<()> {
        match result {
            Ok(()) => Ok(()),
            Err(columba_engine::Error::NoSpace { what }) => {
                tracing::warn!(what, "the disk is full: background work waits");
                *blocked = true;
                Ok(())
            }
            Err(error) if error.is_damage() => {
                tracing::error!(%error, "background work met damage; the file is quarantined");
                self.metrics.damage_total.add(1);
                Ok(())
            }
            Err(error) => Err(Error::Engine(error)),
        }
    }
}
