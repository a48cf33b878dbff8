//! Repair: a manifest that is lost or damaged, made again from the tables; a damaged table, given up on request.
//!
//! Offline, on a directory that nobody has open. In a cluster there is something better: a snapshot of a peer
//! ([`crate::snapshot`]) has everything, also what is said here to be lost.
//!
//! | module | what it holds |
//! |---|---|
//! | here | [`repair`], [`RepairReport`] |
//! | `plan` | which tables make the partition, and up to which entry: a pure function |
//! | `contents` | whether chats have their messages; settings |
//!
//! Invariants
//! - Without [`RepairOptions::write`] nothing is changed.
//! - Nothing is deleted: files that are not used become `<name>.lost`, an old manifest `manifest.damaged`. They are
//!   renamed before the new manifest is durable, for opening removes tables that it does not name. A crash in the
//!   middle leaves a directory that a second repair brings to the same end.
//! - A good manifest is never replaced but to leave out damaged tables, and only where that is asked for.
//! - The settings of the partition (retention, expiry clock) are nowhere but in its manifest: with it they are lost,
//!   and messages are kept for ever until they are set again.

mod contents;
mod plan;
#[cfg(test)]
mod tests;

use core::fmt;
use std::path::{Path, PathBuf};

use columba_wire::{ChatId, MessageSeq};

use self::plan::{Broken, Candidate, Rebuild, plan_rebuild};
use crate::{
    env::{Clock, Disk},
    error::{Error, Result},
    ids::{FileId, LogIndex, Term},
    inspect::{Damage, PartitionInspection, TableInspection, dump::key_text, inspect_partition},
    memory::MEMORY_BYTES_MIN,
    snapshot::installer::INSTALL_NAME,
    table::meta::FileMeta,
    tree::{
        Shared, TABLE_PREFIX, Tree, TreeConfig, conflict, is_table_name,
        manifest::{self, MANIFEST_NAME, Manifest},
        table_name,
    },
};

/// What may be done.
#[derive(Clone, Copy, Debug, Default)]
pub struct RepairOptions {
    /// Act. Else only say what would be done.
    pub write: bool,
    /// Leave damaged tables out of a good manifest: their rows are lost.
    pub drop_damaged: bool,
    /// First and last entry that the journal has of this partition, where that is known: `ZERO` for none.
    pub journal: Option<(LogIndex, LogIndex)>,
}

/// Something that cannot be saved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LostRange {
    /// These messages are in no file. (Or they had expired: who knows without the settings.)
    Messages {
        /// Of this chat.
        chat: ChatId,
        /// The first.
        from: MessageSeq,
        /// The last.
        to: MessageSeq,
    },
    /// The row of this chat is lost or old: these messages are there, and nobody is shown them.
    Chat {
        /// The chat.
        chat: ChatId,
        /// The first.
        from: MessageSeq,
        /// The last.
        to: MessageSeq,
    },
    /// Rows with keys in this range, or newer versions of them.
    Keys {
        /// Which file had them.
        file: FileId,
        /// The first, in words; `None` where nothing is known of the file: a crash may have left it unfinished.
        first: Option<String>,
        /// The last.
        last: Option<String>,
    },
    /// These entries are neither in files nor in the journal. What has changed nothing but settings is in no file, so
    /// it may be that nothing is missing.
    Entries {
        /// The first.
        from: LogIndex,
        /// The last.
        to: LogIndex,
    },
}

impl fmt::Display for LostRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Messages { chat, from, to } => write!(f, "chat {chat}: messages {from} to {to} are in no file"),
            Self::Chat { chat, from, to } => {
                write!(f, "chat {chat}: its row is lost or old, messages {from} to {to} are not shown")
            }
            Self::Keys { file, first: Some(first), last: Some(last) } => write!(f, "file {file}: {first} to {last}"),
            Self::Keys { file, .. } => write!(f, "file {file}: what it had is not known; nothing, if a crash left it"),
            Self::Entries { from, to } => write!(f, "entries {from} to {to} are neither in files nor in the journal"),
        }
    }
}

/// What a repair did, or would do.
#[derive(Clone, Debug, Default)]
pub struct RepairReport {
    /// The partition.
    pub dir: PathBuf,
    /// Whether its manifest is whole.
    pub manifest_is_whole: bool,
    /// Files that are used.
    pub kept: Vec<FileMeta>,
    /// Whole files that are not used, and why.
    pub dropped: Vec<(FileId, String)>,
    /// All damage that was found.
    pub damaged: Vec<Damage>,
    /// The last entry that the files hold; the journal's entries above it are applied at the next start.
    pub applied: LogIndex,
    /// Its term, as far as files say: that of the entry, or of one before it.
    pub term: Term,
    /// What cannot be saved.
    pub lost: Vec<LostRange>,
    /// Whether the settings are lost: messages are then kept for ever.
    pub settings_lost: bool,
    /// What is renamed, to what.
    pub renamed: Vec<(String, String)>,
    /// Whether anything is to be done.
    pub is_needed: bool,
    /// Whether it is done.
    pub written: bool,
    /// Whether damaged tables wait for [`RepairOptions::drop_damaged`].
    pub needs_drop_damaged: bool,
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.manifest_is_whole { "whole" } else { "lost or damaged" };
        writeln!(f, "partition {}: the manifest is {state}", self.dir.display())?;
        self.damaged.iter().try_for_each(|damage| writeln!(f, "  {damage}"))?;
        if !self.is_needed {
            return if self.needs_drop_damaged {
                writeln!(f, "  damaged tables stay: --drop-damaged gives them up, with what is in them:")?;
                self.lost.iter().try_for_each(|lost| writeln!(f, "  would be lost: {lost}"))
            } else {
                writeln!(f, "  nothing to repair")
            };
        }
        writeln!(f, "  {} files, entries up to {} of term {}", self.kept.len(), self.applied, self.term)?;
        self.dropped.iter().try_for_each(|(file, reason)| writeln!(f, "  not used: file {file}: {reason}"))?;
        self.lost.iter().try_for_each(|lost| writeln!(f, "  LOST: {lost}"))?;
        if self.settings_lost {
            writeln!(f, "  LOST: retention and expiry clock; messages are kept for ever until they are set again")?;
        }
        self.renamed.iter().try_for_each(|(from, to)| writeln!(f, "  rename {from} to {to}"))?;
        if self.written { writeln!(f, "  done") } else { writeln!(f, "  nothing was changed: --write does it") }
    }
}

/// Repairs a partition's directory, which nobody has open, or says what would be done.
///
/// # Errors
/// `Malformed` where a snapshot's installation waits for the next start, which completes it; `UnsupportedFormat`;
/// `NoSpace`, `Io`.
pub async fn repair<D: Disk>(disk: &D, dir: &Path, clock: impl Clock, options: RepairOptions) -> Result<RepairReport> {
    let names: Vec<_> = disk.list(dir).await?.into_iter().map(|entry| entry.name).collect();
    if names.iter().any(|name| name == INSTALL_NAME) {
        return Err(Error::Malformed { what: "directory to repair", reason: "a start will complete an installation" });
    }
    if let Err(error @ Error::UnsupportedFormat { .. }) = manifest::read(disk, dir).await {
        return Err(error);
    }
    let found = inspect_partition(disk, dir, true).await?;
    let mut report = RepairReport { dir: dir.to_owned(), ..RepairReport::default() };
    report.damaged = found.all_damages().cloned().collect();
    let usable = found.manifest.as_ref().filter(|manifest| conflict(&manifest.files).is_none());
    report.manifest_is_whole = usable.is_some();
    let made = match usable {
        Some(manifest) => without_damaged(&found, manifest, &mut report),
        None => rebuild(disk, dir, clock, &found, options, &mut report).await?,
    };
    let Some(mut made) = made else { return Ok(report) };
    report.is_needed = !report.manifest_is_whole || options.drop_damaged;
    if !report.is_needed {
        return Ok(report);
    }
    let highest = names.iter().filter_map(|name| id_of(name)).max().unwrap_or(0);
    made.next_file = made.next_file.max(FileId::new(highest + 1));
    report.renamed = renames(&names, &made, report.manifest_is_whole);
    if options.write {
        for (from, to) in &report.renamed {
            disk.rename(&dir.join(from), &dir.join(to)).await?;
        }
        disk.sync_dir(dir).await?;
        manifest::replace(disk, dir, &made).await?;
        report.written = true;
    }
    Ok(report)
}

/// The id in a table's name, also where it is put aside.
fn id_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(TABLE_PREFIX)?.get(..16)?;
    u64::from_str_radix(digits, 16).ok().filter(|id| *id < u64::MAX)
}

fn renames(names: &[String], made: &Manifest, manifest_is_whole: bool) -> Vec<(String, String)> {
    let is_kept = |name: &str| made.files.iter().any(|file| table_name(file.id) == name);
    let free = |wanted: String| {
        let taken = |name: &String| names.contains(name);
        let others = (2..).map(|n| format!("{wanted}.{n}"));
        core::iter::once(wanted.clone()).chain(others).find(|name| !taken(name)).expect("names do not end")
    };
    let mut renamed = Vec::new();
    for name in names {
        if is_table_name(name) && !is_kept(name) {
            renamed.push((name.clone(), free(format!("{name}.lost"))));
        }
        if name == MANIFEST_NAME && !manifest_is_whole {
            renamed.push((name.clone(), free(format!("{name}.damaged"))));
        }
    }
    renamed
}

/// A good manifest without its damaged and missing tables; `None` where there are none.
fn without_damaged(found: &PartitionInspection, manifest: &Manifest, report: &mut RepairReport) -> Option<Manifest> {
    let of = |file: &FileMeta| found.tables.iter().find(|table| table.path.ends_with(table_name(file.id)));
    let is_whole = |file: &FileMeta| of(file).is_some_and(TableInspection::is_whole);
    (report.applied, report.term) = (manifest.applied, manifest.applied_term);
    let mut made = manifest.clone();
    made.files.retain(is_whole);
    report.kept = made.files.clone();
    for file in manifest.files.iter().filter(|file| !is_whole(file)) {
        lost_of(file.id, Some(file), of(file), &mut report.lost);
    }
    report.needs_drop_damaged = !report.lost.is_empty();
    report.needs_drop_damaged.then_some(made)
}

/// What a file had: its chats where their list is whole, else its range of keys.
fn lost_of(id: FileId, meta: Option<&FileMeta>, table: Option<&TableInspection>, lost: &mut Vec<LostRange>) {
    match table.and_then(|table| table.chats.as_ref()).filter(|chats| !chats.is_empty()) {
        Some(chats) => lost.extend(chats.iter().map(|range| LostRange::Messages {
            chat: range.chat,
            from: range.first,
            to: range.last,
        })),
        None => {
            let first = meta.map(|meta| key_text(&meta.properties.first_key));
            let last = meta.map(|meta| key_text(&meta.properties.last_key));
            lost.push(LostRange::Keys { file: id, first, last });
        }
    }
}

/// A manifest from what the tables say.
async fn rebuild<D: Disk>(
    disk: &D,
    dir: &Path,
    clock: impl Clock,
    found: &PartitionInspection,
    options: RepairOptions,
    report: &mut RepairReport,
) -> Result<Option<Manifest>> {
    let tables: Vec<_> = found.tables.iter().chain(&found.orphans).collect();
    let own_name = |table: &TableInspection, id| table.path.ends_with(table_name(id));
    let is_whole =
        |table: &TableInspection| table.is_whole() && table.meta.as_ref().is_some_and(|meta| own_name(table, meta.id));
    let name_id = |table: &TableInspection| table.path.file_name().and_then(|name| id_of(name.to_str()?));
    let (mut whole, mut broken) = (Vec::new(), Vec::new());
    for table in &tables {
        match (&table.meta, name_id(table)) {
            (Some(meta), _) if is_whole(table) => {
                whole.push(Candidate { meta: meta.clone(), replaces: table.replaces.clone() });
            }
            (meta, Some(id)) => broken.push(Broken { id: FileId::new(id), meta: meta.clone() }),
            // Not a table's name: whatever it is, it was never part of the partition.
            (_, None) => {}
        }
    }
    if tables.is_empty() && found.manifest.is_none() && found.damages.is_empty() {
        return Ok(None);
    }
    let journal = options.journal.filter(|(first, _)| *first > LogIndex::ZERO);
    let Rebuild { kept, dropped, lost, applied, term, lost_entries } = plan_rebuild(&whole, &broken, journal);
    (report.kept, report.dropped, report.applied, report.term) = (kept.clone(), dropped, applied, term);
    for id in lost {
        let table = tables.iter().find(|table| name_id(table) == Some(id.get())).copied();
        lost_of(id, table.and_then(|table| table.meta.as_ref()), table, &mut report.lost);
    }
    report.lost.extend(lost_entries.map(|(from, to)| LostRange::Entries { from, to }));
    report.settings_lost = true;
    let mut made = Manifest { applied, applied_term: term, files: kept, ..Manifest::default() };
    let mut ranges = Vec::new();
    for table in tables.iter().filter(|table| is_whole(table)) {
        let is_kept = table.meta.as_ref().is_some_and(|meta| made.files.iter().any(|file| file.id == meta.id));
        ranges.extend(table.chats.iter().flatten().filter(|_| is_kept).copied());
    }
    let shared = Shared::new(MEMORY_BYTES_MIN, clock);
    let tree = Tree::assemble(disk.clone(), dir.to_owned(), TreeConfig::default(), shared, made.clone());
    let contents = contents::check(&tree, &ranges).await?;
    report.lost.extend(contents.lost);
    report.lost.sort();
    report.lost.dedup();
    made.extra = contents.settings.encode();
    Ok(Some(made))
}
