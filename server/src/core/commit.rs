//! The commit loop: propose what came in, one durable write for all partitions, apply what is committed, answer.
//!
//! ```text
//!   propose -> poll_append -> durable write N      (what comes in meanwhile waits for batch N + 1)
//!                             | done
//!                             v
//!   handle_persisted -> poll_append (batch N + 1, and what N committed) -> start write N + 1 -> apply N, answer, push
//! ```
//!
//! The apply of a batch runs while the next write is on its way: the disk is never idle for it. There is no timer: a
//! batch is whatever is ready when the last write ends.
//!
//! Invariants
//! - One write at a time; entries are applied in order; nothing is answered before it is durable and applied.
//! - After a failed durable write the loop ends with an error, and the node exits: what the write left is unknown.

use core::{future::poll_fn, pin::pin, task::Poll};

use columba_engine::{
    env::{Clock, Disk},
    ids::PartitionId,
    partition::effect::Effects,
};
use columba_replication::{Committed, Error as GroupError};
use columba_wire::Code;

use super::{Core, TIMEOUT_MAX};
use crate::error::{Error, Result};

impl<D: Disk, C: Clock> Core<D, C> {
    /// Runs the commit loop until the core is shut down and everything taken is answered.
    ///
    /// # Errors
    /// A failed durable write, or damage met while applying: the node must exit.
    pub async fn run_commit(self: std::rc::Rc<Self>) -> Result<()> {
        let mut effects = Effects::default();
        loop {
            let committed = self.collect();
            self.shared.pacer().note_served();
            let write = async {
                if self.journal.pending_bytes() == 0 {
                    return Ok(());
                }
                self.write().await
            };
            let mut write = pin!(write);
            // Submit the write first; what it does not concern is applied while it is on its way.
            let early = poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await;
            self.apply(committed, &mut effects).await?;
            match early {
                Poll::Ready(result) => result?,
                Poll::Pending => write.await?,
            }
            self.handle_persisted();
            if self.is_done() {
                return Ok(());
            }
            self.wait_for_work().await;
        }
    }

    /// Proposes what came in, and puts what the groups want durable into the journal's batch.
    fn collect(&self) -> Vec<(PartitionId, Vec<Committed>)> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let mut refused = Vec::new();
        for (partition, proposals) in &mut state.proposals {
            while let Some(entry) = proposals.take_entry() {
                match state.groups.propose(*partition, entry.payload) {
                    Ok(index) => proposals.handle_proposed(index, entry.waiters),
                    Err(GroupError::TooMuchInFlight(_)) => refused.push((entry.waiters, Code::Overloaded)),
                    Err(error) => {
                        tracing::warn!(%partition, %error, "an entry was not proposed");
                        refused.push((entry.waiters, Code::Unavailable));
                    }
                }
            }
        }
        for (waiters, code) in refused {
            state.refuse_waiters(waiters, code);
        }
        state.groups.poll_append(&self.journal)
    }

    /// One durable write. Lack of space is survived: the batch waits, and is tried again.
    async fn write(&self) -> Result<()> {
        loop {
            let before = self.clock.now();
            match self.journal.commit().await {
                Ok(()) => {
                    let took = self.clock.now().saturating_since(before);
                    let stats = self.journal.stats();
                    self.metrics.journal_writes_total.set(stats.writes);
                    self.metrics.journal_bytes_total.set(stats.bytes);
                    self.metrics.journal_records_total.set(stats.records);
                    self.metrics.commit_us.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                    return Ok(());
                }
                Err(columba_engine::Error::NoSpace { what }) => {
                    tracing::warn!(what, "the disk is full: a batch waits; new messages are refused");
                    self.no_space_until_retry().await;
                }
                Err(error) => return Err(Error::Engine(error)),
            }
        }
    }

    async fn no_space_until_retry(&self) {
        self.with_state(|state| state.room = 0);
        let until = self.clock.now() + TIMEOUT_MAX;
        poll_fn(|cx| {
            if self.clock.now() >= until {
                return Poll::Ready(());
            }
            self.wakers.commit.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    async fn apply(&self, committed: Vec<(PartitionId, Vec<Committed>)>, effects: &mut Effects) -> Result<()> {
        for (id, entries) in committed {
            let partition = self.partitions.get(&id).expect("the group's partition is here");
            for entry in entries {
                effects.clear();
                partition.apply_entry(entry.index, entry.term, entry.payload, effects).await?;
                let mut state = self.state.borrow_mut();
                state.set_time(self.clock.now(), self.clock.wall());
                state.handle_effects(id, entry.index, effects);
                state.groups.handle_applied(id, entry.index);
                state.handle_applied_term(id, entry.term);
                state.settle();
            }
            partition.evict();
            self.note_memory();
        }
        Ok(())
    }

    fn handle_persisted(&self) {
        self.with_state(|state| state.groups.handle_persisted());
    }

    fn is_done(&self) -> bool {
        let state = self.state.borrow();
        state.shutting_down && state.is_idle() && self.journal.pending_bytes() == 0
    }

    async fn wait_for_work(&self) {
        poll_fn(|cx| {
            {
                let state = self.state.borrow();
                let proposals = state.proposals.values().any(|proposals| !proposals.is_empty());
                if proposals || state.groups.has_ready() || state.shutting_down {
                    return Poll::Ready(());
                }
            }
            self.wakers.commit.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
