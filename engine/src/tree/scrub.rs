//! Verification of files: every checksum, at a bounded rate, in the background.
//!
//! Rot is found where nobody reads, before the other copies have it too. A file in which damage is found is
//! quarantined: its other blocks are still read, no merge takes it, and the replica's peers are asked.
//!
//! Invariants
//! - A scrub reads past the cache, one piece ahead, and no faster than it is told.

use core::time::Duration;
use std::rc::Rc;

use super::{Tree, version::LiveFile};
use crate::{env::Disk, error::Result, ids::FileId};

/// What a verification read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Files.
    pub files: usize,
    /// Bytes.
    pub bytes: u64,
}

/// How long a scrub waits after this many bytes, to keep to its rate.
pub fn pause_after(bytes: u64, bytes_per_second: u64) -> Duration {
    Duration::from_micros(bytes.saturating_mul(1_000_000) / bytes_per_second.max(1))
}

impl<D: Disk> Tree<D> {
    /// Reads and checks every byte of every live file.
    ///
    /// # Errors
    /// `DamagedBlock`, `DamagedFile`, `Io`: of the first file that has any.
    pub async fn verify(&self) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        let files: Vec<_> = self.version().files().cloned().collect();
        for file in &files {
            self.verify_live(file).await?;
            report.files += 1;
            report.bytes += file.meta.bytes;
        }
        Ok(report)
    }

    /// Reads and checks the live file with the lowest id above `after`: its id and bytes, or `None` behind the last
    /// one.
    ///
    /// # Errors
    /// `DamagedBlock`, `DamagedFile`: the file is quarantined now. `Io`.
    pub async fn verify_next(&self, after: FileId) -> (Option<FileId>, Result<u64>) {
        let next = self.version().files().filter(|file| file.id() > after).min_by_key(|file| file.id()).cloned();
        let Some(file) = next else {
            return (None, Ok(0));
        };
        let verified = self.verify_live(&file).await.map(|()| file.meta.bytes);
        (Some(file.id()), verified)
    }

    async fn verify_live(&self, file: &Rc<LiveFile>) -> Result<()> {
        let verified = async {
            let table = self.table(file).await?;
            table.verify(&mut self.shared().pacer().slice()).await
        };
        self.watch(file, verified.await)
    }
}
