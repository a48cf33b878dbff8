//! The background of a database: journal, flushes and merges; and writers that must wait for them.
//!
//! Invariants
//! - A writer waits only while memtables or journal are at their bound, and as long as a flush can help.

use core::time::Duration;

use super::Database;
use crate::{
    env::{Clock, Disk, executor::Signal},
    error::{Error, Result},
    ids::FileId,
    limits::SEGMENTS_MAX,
    partition::Partition,
    upkeep,
};

/// How often message files are looked through for those that every device has.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Notifies when it is dropped.
struct Told<'a>(&'a Signal);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.notify();
    }
}

impl<D: Disk, C: Clock> Database<D, C> {
    /// Does what is due in the background until the database is closed: to be run beside everything else of the thread.
    ///
    /// # Errors
    /// `Io`: writes will fail too. Lack of space and damage end nothing.
    pub async fn run_background(self) -> Result<()> {
        let ran = futures_util::future::try_join(self.run_flushes(), self.run_compactions()).await;
        self.inner.closing.set(true);
        self.inner.changed.notify();
        ran.map(|_| ())
    }

    async fn run_flushes(&self) -> Result<()> {
        loop {
            let seen = self.inner.changed.changes();
            if self.inner.closing.get() {
                return Ok(());
            }
            for partition in &self.inner.partitions {
                partition.free_discarded().await?;
            }
            let maintained = self.inner.journal.maintain().await;
            let blocked = survive(maintained)? | survive(self.flush_due().await)?;
            if blocked || !self.is_flush_due() {
                self.inner.changed.changed(seen).await;
            }
        }
    }

    fn is_flush_due(&self) -> bool {
        let memory = self.inner.shared.memory();
        upkeep::flush_due(self.inner.partitions.iter(), &self.inner.journal, memory).is_some()
    }

    async fn flush_due(&self) -> Result<()> {
        let memory = self.inner.shared.memory();
        let Some(partition) = upkeep::flush_due(self.inner.partitions.iter(), &self.inner.journal, memory) else {
            return Ok(());
        };
        self.flush_one(partition).await
    }

    /// Those who wait for a flush are told that it has ended, also where it failed or was given up.
    async fn flush_one(&self, partition: &Partition<D>) -> Result<()> {
        let flushed = {
            let _told = Told(&self.inner.flush_ended);
            partition.flush().await
        };
        self.inner.journal.truncate(partition.id(), flushed?.applied);
        self.inner.changed.notify();
        Ok(())
    }

    async fn run_compactions(&self) -> Result<()> {
        loop {
            let seen = self.inner.changed.changes();
            if self.inner.closing.get() {
                return Ok(());
            }
            let due = upkeep::compaction_due(self.inner.partitions.iter());
            let blocked = match due {
                None => {
                    survive(self.sweep_now_and_then().await)?;
                    true
                }
                Some(partition) => {
                    // After damage the next plan goes around the file.
                    survive(partition.compact().await.map(|_| ()))?
                }
            };
            if blocked {
                self.inner.changed.changed(seen).await;
            }
        }
    }

    async fn sweep_now_and_then(&self) -> Result<()> {
        let now = self.inner.clock.now();
        if now.saturating_since(self.inner.swept.get()) < SWEEP_EVERY {
            return Ok(());
        }
        self.inner.swept.set(now);
        self.sweep().await
    }

    /// Drops message files that every device has, where chats keep messages until they are delivered.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn sweep(&self) -> Result<()> {
        for partition in self.inner.partitions.iter().filter(|partition| partition.wants_sweep()) {
            let mut after = FileId::ZERO;
            while let Some((file, _)) = partition.sweep(after).await? {
                after = file;
            }
        }
        Ok(())
    }

    /// Waits where memtables or journal are full.
    pub(super) async fn wait_for_room(&self) -> Result<()> {
        let full = || {
            self.inner.shared.memory().must_stall()
                || self.inner.journal.segments_in_use() >= SEGMENTS_MAX && self.inner.journal.room_bytes() == 0
        };
        if !full() {
            return Ok(());
        }
        let began = self.inner.clock.now();
        while full() {
            let seen = self.inner.flush_ended.changes();
            let is_flushing = self.inner.partitions.iter().any(Partition::is_flushing);
            if is_flushing {
                self.inner.flush_ended.changed(seen).await;
            } else if self.is_flush_due() {
                // Without a background, or before its turn.
                self.flush_due().await?;
            } else {
                break;
            }
            // What the flush has emptied is room only once it is recycled.
            survive(self.inner.journal.maintain().await)?;
        }
        let waited = self.inner.clock.now().saturating_since(began);
        let (stalls, stalled_ns) = self.inner.stalls.get();
        let waited = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        self.inner.stalls.set((stalls + 1, stalled_ns.saturating_add(waited)));
        Ok(())
    }

    /// Flushes every partition: what was committed before is in files when this returns.
    ///
    /// # Errors
    /// `NoSpace`, `Io`; damage where rows had to be loaded to apply what is durable.
    pub async fn flush(&self) -> Result<()> {
        self.apply().await?;
        for partition in &self.inner.partitions {
            while partition.is_flushing() {
                let seen = self.inner.flush_ended.changes();
                self.inner.flush_ended.changed(seen).await;
            }
            if partition.is_dirty() {
                self.flush_one(partition).await?;
            }
        }
        self.inner.journal.maintain().await
    }

    /// Carries out every step of compaction that is due: for tools and tests; the background does so by itself.
    ///
    /// # Errors
    /// Damage, `NoSpace`, `Io`.
    pub async fn compact(&self) -> Result<()> {
        while let Some(partition) = upkeep::compaction_due(self.inner.partitions.iter()) {
            partition.compact().await?;
        }
        Ok(())
    }
}

/// Lack of space and damage are survived: whether the first is why work must wait.
fn survive(result: Result<()>) -> Result<bool> {
    match result {
        Ok(()) => Ok(false),
        Err(Error::NoSpace { what }) => {
            tracing::warn!(what, "the disk is full: background work waits");
            Ok(true)
        }
        Err(error) if error.is_damage() => {
            tracing::error!(%error, "background work met damage; the file is quarantined");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
