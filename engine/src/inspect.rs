//! What a directory holds, and what of it is damaged: offline, read-only, as values to be printed.
//!
//! | module | what it holds |
//! |---|---|
//! | here | [`Damage`], [`DataInspection`]: a whole data directory |
//! | [`journal`] | segments, batches, entries per partition |
//! | [`partition`] | manifest, files per class and level, what is missing or left over |
//! | [`table`] | one table file: sections, blocks, checksums |
//! | [`dump`] | records and rows, in words |
//!
//! Invariants
//! - Nothing is written, created, renamed or removed.
//! - Damage ends nothing: it is noted with file and byte, and the next batch, block or file is looked at.
//! - Beside a running node what is read may be on its way: a file that goes meanwhile is reported as missing.

pub mod dump;
pub mod journal;
pub mod partition;
pub mod table;
#[cfg(test)]
mod tests;

use core::fmt;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

pub use self::{
    dump::{DumpOptions, dump_journal, dump_table},
    journal::{JournalInspection, inspect_journal, inspect_segment},
    partition::{PartitionInspection, inspect_manifest, inspect_partition},
    table::{TableInspection, inspect_table},
};
use crate::{
    env::Disk,
    error::{Error, Result},
    ids::PartitionId,
};

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// In which file.
    pub path: PathBuf,
    /// From which byte on.
    pub offset: u64,
    /// What is wrong.
    pub reason: String,
}

impl Damage {
    pub(crate) fn new(path: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self { path: path.to_owned(), offset, reason: reason.into() }
    }

    /// Of an error met while a file was read.
    pub(crate) fn of(path: &Path, offset: u64, error: &Error) -> Self {
        let reason = match error {
            Error::DamagedBatch { reason, .. }
            | Error::DamagedBlock { reason, .. }
            | Error::DamagedFile { reason, .. } => reason.clone(),
            other => other.to_string(),
        };
        Self::new(path, offset, reason)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DAMAGE {} at byte {}: {}", self.path.display(), self.offset, self.reason)
    }
}

/// How a node laid out its directory: what its `node.toml` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Cores.
    pub cores: u16,
    /// Partitions of all cores.
    pub partitions: u32,
}

/// A whole data directory.
#[derive(Clone, Debug, Default)]
pub struct DataInspection {
    /// Its journals: one for each core, or one in all.
    pub journals: Vec<JournalInspection>,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionInspection>,
    /// Damage that shows only where journal and files are compared, or a directory is missing.
    pub damages: Vec<Damage>,
}

impl DataInspection {
    /// All damage.
    pub fn damages(&self) -> impl Iterator<Item = &Damage> {
        let journals = self.journals.iter().flat_map(|journal| &journal.damages);
        let partitions = self.partitions.iter().flat_map(PartitionInspection::all_damages);
        journals.chain(partitions).chain(&self.damages)
    }

    /// Whether no damage was found.
    pub fn is_whole(&self) -> bool {
        self.damages().next().is_none()
    }

    /// What a tool ends with: 0 whole, 1 damage.
    pub fn exit_status(&self) -> u8 {
        u8::from(!self.is_whole())
    }
}

impl fmt::Display for DataInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for journal in &self.journals {
            write!(f, "{journal}")?;
        }
        for partition in &self.partitions {
            write!(f, "{partition}")?;
        }
        for damage in &self.damages {
            writeln!(f, "{damage}")?;
        }
        let damages = self.damages().count();
        let (journals, partitions) = (self.journals.len(), self.partitions.len());
        match damages {
            0 => writeln!(f, "whole: {journals} journals, {partitions} partitions"),
            _ => writeln!(f, "damaged: {damages} places in {journals} journals and {partitions} partitions"),
        }
    }
}

/// Looks at a whole data directory: of a node (`core-<n>/...`), or of a database used as a library. Without a layout,
/// directories are looked for until one is missing; `verify` reads every byte of every file.
///
/// # Errors
/// `Io` where the directory has neither.
pub async fn inspect_data<D: Disk>(
    disk: &D,
    dir: &Path,
    layout: Option<Layout>,
    verify: bool,
) -> Result<DataInspection> {
    let mut found = DataInspection::default();
    let mut cores = Vec::new();
    let is_node = layout.is_some() || disk.list(&dir.join("core-0/journal")).await.is_ok();
    if is_node {
        let mut core = 0;
        loop {
            let at = dir.join(format!("core-{core}"));
            let wanted = layout.is_some_and(|layout| core < u32::from(layout.cores));
            let is_there = disk.list(&at.join("journal")).await.is_ok();
            if !is_there && wanted {
                found.damages.push(Damage::new(&at.join("journal"), 0, "the directory is missing"));
            } else if !is_there {
                break;
            }
            cores.push(at);
            core += 1;
        }
    } else {
        disk.list(&dir.join("journal")).await?;
        cores.push(dir.to_owned());
    }
    let stride = u32::try_from(cores.len()).expect("there are few cores");
    for (core, at) in (0..).zip(&cores) {
        let journal = inspect_journal(disk, &at.join("journal")).await.unwrap_or_default();
        let mut number = core;
        loop {
            let at = at.join(format!("partition-{number:05}"));
            let wanted = layout.is_some_and(|layout| number < layout.partitions);
            match inspect_partition(disk, &at, verify).await {
                Ok(partition) => {
                    found.damages.extend(gap(&journal, PartitionId::new(number), &partition));
                    found.partitions.push(partition);
                }
                Err(_) if wanted => found.damages.push(Damage::new(&at, 0, "the directory is missing")),
                Err(_) => break,
            }
            number += stride;
        }
        found.journals.push(journal);
    }
    found.partitions.sort_by(|a, b| a.dir.file_name().cmp(&b.dir.file_name()));
    Ok(found)
}

/// Entries that are neither in the journal nor in files.
fn gap(journal: &JournalInspection, id: PartitionId, partition: &PartitionInspection) -> Option<Damage> {
    let log = journal.partitions.get(&id)?;
    let applied = partition.manifest.as_ref()?.applied;
    let is_gap = log.last > applied && log.first > applied.next();
    is_gap.then(|| {
        let reason = format!("the files hold the log up to entry {applied}, and the journal begins with {}", log.first);
        Damage::new(&partition.dir, 0, reason)
    })
}

/// Counts by name, for printing in order.
pub(crate) fn join_counts<K: fmt::Display + Ord, V: fmt::Display>(counts: &BTreeMap<K, V>) -> String {
    let parts: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    parts.join(", ")
}
