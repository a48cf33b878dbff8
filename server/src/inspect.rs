//! (D) `columba inspect` and `columba repair`: what [`columba_engine::inspect`] and [`columba_engine::repair`] say, for
//! people or as JSON.
//!
//! Exit status: 0 whole or repaired, 1 damage or something to repair, 2 the command could not be carried out.
//!
//! Invariants
//! - `inspect` opens files to read them and changes nothing; beside a running node it warns.
//! - `repair` never works on a directory that a node holds; with `--write` it holds it itself.

use std::{
    fs::{OpenOptions, TryLockError},
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;
use columba_engine::{
    env::{clock::ManualClock, lock::DirLock, thread_disk::ThreadDisk},
    ids::{LogIndex, PartitionId},
    inspect::{
        self, Damage, DataInspection, DumpOptions, JournalInspection, Layout, PartitionInspection, TableInspection,
    },
    repair::{RepairOptions, RepairReport},
    table::meta::FileMeta,
};
use serde_json::{Value, json};

/// Flags of `inspect`.
#[derive(Clone, Debug, Args)]
pub struct InspectArgs {
    /// A data directory, a `journal` or `partition-...` directory, or a file of one.
    path: PathBuf,
    /// Read and check every byte of every table, not only footers.
    #[arg(long)]
    verify: bool,
    /// Print records of a journal or rows of a table too.
    #[arg(long)]
    dump: bool,
    /// Records or rows to print at most.
    #[arg(long, default_value_t = 100, value_name = "NUMBER")]
    limit: usize,
    /// Print the bodies of messages too.
    #[arg(long)]
    bodies: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Flags of `repair`.
#[derive(Clone, Debug, Args)]
pub struct RepairArgs {
    /// A data directory, or a `partition-...` directory.
    dir: PathBuf,
    /// Act; without it only what would be done is said.
    #[arg(long)]
    write: bool,
    /// Leave damaged tables out of a good manifest: what is in them is lost.
    #[arg(long)]
    drop_damaged: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was looked at.
enum Found {
    Data(DataInspection),
    Journal(JournalInspection),
    Partition(PartitionInspection),
    Table(TableInspection),
}

/// Carries out `inspect`.
pub fn inspect(args: &InspectArgs) -> ExitCode {
    end(run(inspect_path(args)))
}

/// Carries out `repair`.
pub fn repair(args: &RepairArgs) -> ExitCode {
    end(run(repair_all(args)))
}

fn run<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("make a runtime")?;
    runtime.block_on(work)
}

fn end(result: anyhow::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            say(&format!("columba: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// To standard error, which may be closed.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write to standard output")
}

/// The data directory that a path lies in: the nearest above it with a lock.
fn data_dir(path: &Path) -> Option<&Path> {
    path.ancestors().find(|dir| dir.join("lock").is_file() || dir.join("node.toml").is_file())
}

/// Whether a node holds the data directory; changes nothing.
fn is_held(dir: &Path) -> bool {
    let file = OpenOptions::new().read(true).open(dir.join("lock"));
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn layout(dir: &Path) -> Option<Layout> {
    let table = std::fs::read_to_string(dir.join("node.toml")).ok()?.parse::<toml::Table>().ok()?;
    let number = |name: &str| table.get(name)?.as_integer();
    let (cores, partitions) = (u16::try_from(number("cores")?).ok()?, u32::try_from(number("partitions")?).ok()?);
    Some(Layout { cores, partitions })
}

fn starts(path: &Path, prefix: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix))
}

async fn look(disk: &ThreadDisk, path: &Path, verify: bool) -> anyhow::Result<Found> {
    if path.is_file() {
        return Ok(if starts(path, "seg-") || starts(path, "spare-") {
            Found::Journal(inspect::inspect_segment(disk, path).await?)
        } else if starts(path, "table-") || starts(path, "incoming-") {
            Found::Table(inspect::inspect_table(disk, path).await)
        } else {
            Found::Partition(inspect::inspect_manifest(disk, path).await)
        });
    }
    anyhow::ensure!(path.is_dir(), "{} does not exist", path.display());
    Ok(if starts(path, "partition-") {
        Found::Partition(inspect::inspect_partition(disk, path, verify).await?)
    } else if starts(path, "journal") {
        Found::Journal(inspect::inspect_journal(disk, path).await?)
    } else {
        Found::Data(inspect::inspect_data(disk, path, layout(path), verify).await?)
    })
}

async fn inspect_path(args: &InspectArgs) -> anyhow::Result<bool> {
    let path = args.path.canonicalize().with_context(|| format!("look at {}", args.path.display()))?;
    if data_dir(&path).is_some_and(is_held) {
        say("columba: a node is running on this directory: what it is changing may look missing or torn");
    }
    let disk = ThreadDisk::new()?;
    let found = look(&disk, &path, args.verify).await?;
    let mut lines = Vec::new();
    if args.dump {
        let options = DumpOptions { limit: args.limit, bodies: args.bodies };
        match &found {
            Found::Journal(_) => {
                lines.extend(inspect::dump_journal(&disk, &path, options).await?.iter().map(ToString::to_string));
            }
            Found::Table(_) => {
                lines.extend(inspect::dump_table(&disk, &path, options).await?.iter().map(ToString::to_string));
            }
            Found::Partition(partition) => {
                for table in &partition.tables {
                    let options = DumpOptions { limit: options.limit.saturating_sub(lines.len()), ..options };
                    let rows = inspect::dump_table(&disk, &table.path, options).await.unwrap_or_default();
                    lines.extend(rows.iter().map(ToString::to_string));
                }
            }
            Found::Data(_) => anyhow::bail!("--dump is for a journal, a partition or a file of one"),
        }
    }
    let (text, mut value, is_whole) = match &found {
        Found::Data(data) => (data.to_string(), data_json(data), data.is_whole()),
        Found::Journal(journal) => (journal.to_string(), journal_json(journal), journal.damages.is_empty()),
        Found::Partition(partition) => (partition.to_string(), partition_json(partition), partition.is_whole()),
        Found::Table(table) => (table.to_string(), table_json(table), table.is_whole()),
    };
    if args.json {
        value["whole"] = json!(is_whole);
        if args.dump {
            value["dump"] = json!(lines);
        }
        print(&format!("{value}\n"))?;
    } else {
        let dump: String = lines.iter().map(|line| format!("{line}\n")).collect();
        print(&format!("{text}{dump}{}\n", if is_whole { "whole" } else { "DAMAGED" }))?;
    }
    Ok(is_whole)
}

/// Repairs one partition, or each of a data directory. True where nothing is left to be done.
async fn repair_all(args: &RepairArgs) -> anyhow::Result<bool> {
    let dir = args.dir.canonicalize().with_context(|| format!("repair {}", args.dir.display()))?;
    let data = data_dir(&dir).unwrap_or(&dir).to_owned();
    let disk = ThreadDisk::new()?;
    let _lock = if args.write {
        Some(DirLock::take(&data)?)
    } else {
        anyhow::ensure!(!is_held(&data), "a node is running on {}: stop it first", data.display());
        None
    };
    let partitions = if starts(&dir, "partition-") {
        vec![dir]
    } else {
        let found = inspect::inspect_data(&disk, &dir, layout(&dir), false).await?;
        found.partitions.into_iter().map(|partition| partition.dir).collect()
    };
    let mut is_done = true;
    let mut values = Vec::new();
    for partition in partitions {
        let journal = entries_of(&disk, &partition).await;
        let options = RepairOptions { write: args.write, drop_damaged: args.drop_damaged, journal };
        // Nothing here is paced: there is nobody else to be served.
        let report = columba_engine::repair::repair(&disk, &partition, ManualClock::default(), options).await?;
        is_done &= !report.needs_drop_damaged || report.written;
        is_done &= !report.is_needed || report.written;
        if args.json {
            values.push(report_json(&report));
        } else {
            print(&report.to_string())?;
        }
    }
    if args.json {
        print(&format!("{}\n", json!({ "done": is_done, "partitions": values })))?;
    }
    Ok(is_done)
}

/// The entries that the journal beside a partition has of it; `None` where that is not known for certain.
async fn entries_of(disk: &ThreadDisk, partition: &Path) -> Option<(LogIndex, LogIndex)> {
    let number = partition.file_name()?.to_str()?.strip_prefix("partition-")?.parse().ok()?;
    let journal = inspect::inspect_journal(disk, &partition.parent()?.join("journal")).await.ok()?;
    let entries = journal.partitions.get(&PartitionId::new(number))?;
    journal.damages.is_empty().then_some((entries.first, entries.last))
}

fn damages_json<'a>(damages: impl IntoIterator<Item = &'a Damage>) -> Value {
    let one = |damage: &Damage| json!({ "path": damage.path, "offset": damage.offset, "reason": damage.reason });
    damages.into_iter().map(one).collect()
}

fn file_json(file: &FileMeta) -> Value {
    let properties = &file.properties;
    json!({
        "id": file.id.get(), "bytes": file.bytes, "class": properties.class.name(), "level": properties.level,
        "window": properties.window, "rows": properties.rows, "term": properties.term.get(),
        "applied": [properties.applied_low.get(), properties.applied_high.get()],
        "times_ms": [properties.time_low, properties.time_high],
    })
}

fn table_json(table: &TableInspection) -> Value {
    json!({
        "path": table.path, "bytes": table.bytes, "file": table.meta.as_ref().map(file_json),
        "replaces": table.replaces.iter().map(|id| id.get()).collect::<Vec<_>>(), "blocks": table.blocks,
        "blocks_whole": table.blocks_whole, "rows_whole": table.rows_whole, "filter_bytes": table.filter_bytes,
        "chats": table.chats.as_ref().map(Vec::len), "checksum_matches": table.checksum_matches,
        "damages": damages_json(&table.damages),
    })
}

fn partition_json(partition: &PartitionInspection) -> Value {
    let manifest = partition.manifest.as_ref().map(|manifest| {
        json!({
            "applied": manifest.applied.get(), "term": manifest.applied_term.get(),
            "next_file": manifest.next_file.get(), "files": manifest.files.iter().map(file_json).collect::<Vec<_>>(),
        })
    });
    json!({
        "dir": partition.dir, "manifest": manifest, "missing": partition.missing,
        "tables": partition.tables.iter().map(table_json).collect::<Vec<_>>(),
        "orphans": partition.orphans.iter().map(table_json).collect::<Vec<_>>(),
        "others": partition.others.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        "damages": damages_json(&partition.damages),
    })
}

fn journal_json(journal: &JournalInspection) -> Value {
    let entries = |of: &std::collections::BTreeMap<PartitionId, inspect::journal::Entries>| -> Value {
        let one = |(id, found): (&PartitionId, &inspect::journal::Entries)| {
            json!({
                "partition": id.get(), "first": found.first.get(), "last": found.last.get(),
                "records": found.records, "bytes": found.bytes,
            })
        };
        of.iter().map(one).collect()
    };
    let segments = journal.segments.iter().map(|segment| {
        json!({
            "generation": segment.generation.get(), "bytes": segment.bytes, "batches": segment.batches,
            "records": segment.records, "states": segment.states, "end": segment.end,
            "ends": format!("{:?}", segment.ends).to_lowercase(), "entries": entries(&segment.entries),
        })
    });
    json!({
        "dir": journal.dir, "segments": segments.collect::<Vec<_>>(), "spares": journal.spares,
        "entries": entries(&journal.partitions), "damages": damages_json(&journal.damages),
    })
}

fn data_json(data: &DataInspection) -> Value {
    json!({
        "journals": data.journals.iter().map(journal_json).collect::<Vec<_>>(),
        "partitions": data.partitions.iter().map(partition_json).collect::<Vec<_>>(),
        "damages": damages_json(&data.damages),
    })
}

fn report_json(report: &RepairReport) -> Value {
    json!({
        "dir": report.dir, "manifest_is_whole": report.manifest_is_whole, "needed": report.is_needed,
        "written": report.written, "needs_drop_damaged": report.needs_drop_damaged,
        "applied": report.applied.get(), "term": report.term.get(), "settings_lost": report.settings_lost,
        "kept": report.kept.iter().map(file_json).collect::<Vec<_>>(),
        "dropped": report.dropped.iter().map(|(id, why)| json!({ "file": id.get(), "why": why })).collect::<Vec<_>>(),
        "lost": report.lost.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "renamed": report.renamed.iter().map(|(from, to)| json!([from, to])).collect::<Vec<_>>(),
        "damages": damages_json(&report.damaged),
    })
}
