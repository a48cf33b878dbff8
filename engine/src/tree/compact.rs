//! Carries out plans: drops files, and has files merged into new ones beside the core.
//!
//! Invariants
//! - What is live stays readable until the manifest that no longer names it is durable, and as long as anybody reads.
//! - Without space, or with damage in an input, nothing changes: partial files are removed, the inputs stay.

use std::rc::Rc;

use super::{
    Tree,
    merge::{Failed, Keep, MergeJob},
    plan::{Merge, Plan},
    version::LiveFile,
};
use crate::{
    env::Disk,
    error::Result,
    ids::FileId,
    table::{chats::ChatRange, meta::FileMeta},
};

/// What a step of compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Files that are no longer live.
    pub files_removed: usize,
    /// Bytes of them.
    pub bytes_removed: u64,
    /// Bytes written.
    pub bytes_written: u64,
}

impl<D: Disk> Tree<D> {
    /// Carries out a plan of [`Self::plan`]. Flushes go on beside it; of merges there is one at a time.
    ///
    /// # Errors
    /// `DamagedBlock` (the file is quarantined), `NoSpace`, `Io`: nothing has changed.
    ///
    /// # Panics
    /// If a merge is under way, or a file of the plan is not live.
    pub async fn compact(&self, plan: &Plan, keep: impl Keep) -> Result<Compacted> {
        let _merging = self.begin_merge();
        let version = self.version();
        let (Plan::Drop(ids) | Plan::Merge(Merge { inputs: ids, .. })) = plan;
        let find = |id: &FileId| {
            let found = version.files().find(|file| file.id() == *id);
            Rc::clone(found.expect("a plan names live files"))
        };
        let inputs: Vec<_> = ids.iter().map(find).collect();
        let written = match plan {
            Plan::Drop(_) => Vec::new(),
            Plan::Merge(merge) => self.merge_files(merge, &inputs, keep).await?,
        };
        let compacted = Compacted {
            files_removed: inputs.len(),
            bytes_removed: inputs.iter().map(|file| file.meta.bytes).sum(),
            bytes_written: written.iter().map(|file| file.bytes).sum(),
        };
        self.replace(&inputs, written, None).await?;
        drop((inputs, version));
        self.collect_garbage().await?;
        Ok(compacted)
    }

    async fn merge_files(&self, merge: &Merge, inputs: &[Rc<LiveFile>], keep: impl Keep) -> Result<Vec<FileMeta>> {
        let metas = inputs.iter().map(|file| file.meta.clone()).collect();
        let job = MergeJob::new(self.new_files().clone(), merge.clone(), metas, keep);
        let merged = self.disk().aside("columba-merge", async move |disk| job.run(&disk).await).await?;
        merged.map_err(|Failed { input, error }| match input {
            Some(n) => self.watch::<()>(&inputs[n], Err(error)).expect_err("it is an error"),
            None => error,
        })
    }

    /// The chats of the undamaged message file with the lowest id above `after`, and its id; `None` behind the last
    /// one.
    ///
    /// # Errors
    /// `DamagedFile` (the file is quarantined), `Io`.
    pub async fn chats_of_next(&self, after: FileId) -> Result<Option<(FileId, Vec<ChatRange>)>> {
        let version = self.version();
        let next = version.messages.iter().filter(|file| file.id() > after && !file.quarantined.get());
        let next = next.min_by_key(|file| file.id());
        let Some(file) = next else {
            return Ok(None);
        };
        let table = self.table(file).await?;
        let chats = self.watch(file, table.chats().await)?;
        Ok(Some((file.id(), chats)))
    }
}
