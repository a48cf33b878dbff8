//! Background work of a core: journal upkeep and flush, one at a time, and merges beside them; each yields in slices.
//!
//! Invariants
//! - The journal forgets an entry only after the flush that holds it is durable.
//! - A flush or merge that finds no space changes nothing and is tried again; anything else that fails ends the node,
//!   except damage found by a merge, which is reported and leaves the partition's files as they are.

use core::{future::poll_fn, task::Poll};
use std::{collections::BTreeSet, rc::Rc};

use columba_engine::{
    env::{Clock, Disk},
    limits::SEGMENTS_FLUSH_AT,
    partition::Partition,
};

use super::{Core, TIMEOUT_MAX, state::CoreState};
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
        futures_util::future::try_join3(jobs, self.run_upkeep(), self.run_merges()).await.map(|_| ())
    }

    async fn run_upkeep(&self) -> Result<()> {
        let mut blocked = false;
        loop {
            if self.state.borrow().shutting_down {
                return Ok(());
            }
            survive(self.journal.maintain().await, &mut blocked)?;
            if core::mem::take(&mut self.state.borrow_mut().flush_requested) {
                let idle = |partition: &&Partition<D>| partition.is_dirty() && !partition.is_changing();
                for partition in self.partitions.values().filter(idle) {
                    self.flush(partition, &mut blocked).await?;
                }
            }
            let pressed = self.journal.segments_in_use() >= SEGMENTS_FLUSH_AT;
            let pinning = self.journal.pinning().filter(|_| pressed);
            let due = self.partitions.values().find(|partition| {
                !partition.is_changing()
                    && (partition.wants_flush() || (pinning == Some(partition.id()) && partition.is_dirty()))
            });
            match due {
                Some(partition) => self.flush(partition, &mut blocked).await?,
                None => {
                    self.report();
                    self.pause(|state| state.flush_requested).await;
                }
            }
            if blocked {
                self.pause(|state| state.flush_requested).await;
            }
        }
    }

    /// One merge at a time, beside the flushes of the other partitions: a long merge must not hold up what makes room
    /// in the journal.
    async fn run_merges(&self) -> Result<()> {
        let mut blocked = false;
        let mut damaged = BTreeSet::new();
        loop {
            if self.state.borrow().shutting_down {
                return Ok(());
            }
            let due = self.partitions.values().find(|found| found.wants_merge() && !damaged.contains(&found.id()));
            let Some(partition) = due else {
                self.pause(|_| false).await;
                continue;
            };
            match partition.merge().await {
                Ok(()) => self.metrics.merges_total.add(1),
                Err(error) if error.is_damage() => {
                    tracing::error!(partition = %partition.id(), %error, "a merge met damage; the files are kept");
                    self.metrics.damage_total.add(1);
                    damaged.insert(partition.id());
                }
                Err(error) => survive(Err(error), &mut blocked)?,
            }
            if core::mem::take(&mut blocked) {
                self.pause(|_| false).await;
            }
        }
    }

    async fn flush(&self, partition: &Partition<D>, blocked: &mut bool) -> Result<()> {
        match partition.flush().await {
            Ok(report) => {
                self.journal.truncate(partition.id(), report.applied);
                self.metrics.flushes_total.add(1);
                *blocked = false;
                Ok(())
            }
            Err(error) => survive(Err(error), blocked),
        }
    }

    /// Asks for a flush of every partition: for tests, and for an operator who wants a quick start after a stop.
    pub fn request_flush(&self) {
        self.state.borrow_mut().flush_requested = true;
        super::wake(&self.wakers.background);
    }

    fn report(&self) {
        let (mut files, mut written) = (0, 0);
        for partition in self.partitions.values() {
            let (_, tree) = partition.stats();
            files += tree.files as u64;
            written += tree.bytes_written_total;
        }
        self.metrics.tree_files.set(files);
        self.metrics.tree_bytes_written_total.set(written);
        self.metrics.journal_segments.set(self.journal.segments_in_use() as u64);
    }

    /// Waits a while, or until the state says that it is over.
    async fn pause(&self, is_over: impl Fn(&CoreState<D>) -> bool) {
        let until = self.clock.now() + TIMEOUT_MAX;
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
}

fn survive(result: columba_engine::error::Result<()>, blocked: &mut bool) -> Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(columba_engine::Error::NoSpace { what }) => {
            tracing::warn!(what, "the disk is full: background work waits");
            *blocked = true;
            Ok(())
        }
        Err(error) => Err(Error::Engine(error)),
    }
}
