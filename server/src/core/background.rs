//! Background work of a core: journal upkeep, flush, merge. One thing at a time; each yields in slices by itself.
//!
//! Invariants
//! - The journal forgets an entry only after the flush that holds it is durable.
//! - A flush or merge that finds no space changes nothing and is tried again; anything else that fails ends the node,
//!   except damage found by a merge, which is reported and leaves the files as they are.

use core::{future::poll_fn, task::Poll};
use std::rc::Rc;

use columba_engine::{
    env::{Clock, Disk},
    limits::SEGMENTS_FLUSH_AT,
    partition::Partition,
};

use super::{Core, TIMEOUT_MAX};
use crate::error::{Error, Result};

impl<D: Disk, C: Clock> Core<D, C> {
    /// Runs background work and jobs until the core is shut down.
    ///
    /// # Errors
    /// A failed durable write, `Io`: the node must exit.
    pub async fn run_background(self: Rc<Self>) -> Result<()> {
        let jobs = Rc::clone(&self).run_jobs();
        let upkeep = self.run_upkeep();
        let (_, result) = futures_util::future::join(jobs, upkeep).await;
        result
    }

    async fn run_upkeep(&self) -> Result<()> {
        let mut blocked = false;
        loop {
            if self.state.borrow().shutting_down {
                return Ok(());
            }
            survive(self.journal.maintain().await, &mut blocked)?;
            if core::mem::take(&mut self.state.borrow_mut().flush_requested) {
                for partition in self.partitions.values().filter(|partition| partition.is_dirty()) {
                    self.flush(partition, &mut blocked).await?;
                }
            }
            let pressed = self.journal.segments_in_use() >= SEGMENTS_FLUSH_AT;
            let pinning = self.journal.pinning().filter(|_| pressed);
            let due = self
                .partitions
                .values()
                .find(|partition| partition.wants_flush() || (pinning == Some(partition.id()) && partition.is_dirty()));
            if let Some(partition) = due {
                self.flush(partition, &mut blocked).await?;
            } else if let Some(partition) = self.partitions.values().find(|partition| partition.wants_merge()) {
                match partition.merge().await {
                    Ok(()) => self.metrics.merges_total.add(1),
                    Err(error) if error.is_damage() => {
                        tracing::error!(partition = %partition.id(), %error, "a merge met damage; the files are kept");
                        self.metrics.damage_total.add(1);
                        self.pause().await;
                    }
                    Err(error) => survive(Err(error), &mut blocked)?,
                }
            } else {
                self.report();
                self.pause().await;
            }
            if blocked {
                self.pause().await;
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

    async fn pause(&self) {
        let until = self.clock.now() + TIMEOUT_MAX;
        poll_fn(|cx| {
            let state = self.state.borrow();
            if self.clock.now() >= until || state.shutting_down || state.flush_requested {
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
