//! `columba-bench journal`: a journal commit beside a raw durable write of the same size, turn by turn.
//!
//! Commit and raw write alternate, so that whatever else the machine does meets both alike. A commit is counted twice:
//! from `commit` alone, and from the first record's encoding.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::ValueEnum;
use columba_engine::{
    env::{Disk, probe},
    ids::{LogIndex, PartitionId, Term},
    journal::{Journal, JournalConfig},
};
use serde::{Deserialize, Serialize};
use tokio::task::LocalSet;

use crate::{
    clock::{SECOND_NS, Ticker, now_ns},
    load::BODY_BYTES,
    node,
    raw::RawFile,
    report::{Latency, Machine, Percentiles, Table, figure, median, ratio, write_json},
};

/// Commits between two rounds of the journal's own upkeep, which is not part of a commit.
const COMMITS_PER_UPKEEP: u64 = 64;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Ways to the disk.
    #[arg(long, value_delimiter = ',', default_value = "uring,thread")]
    disk: Vec<DiskKind>,
    /// Records of a batch.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    batch: Vec<u64>,
    /// Commits of each size in each run; the first twentieth is not counted.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(20..))]
    commits: u64,
    /// Commits a second of the paced part; 0 leaves it out.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(..=10_000))]
    rate: u64,
    /// Runs; medians are taken over them.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Directory for data, on the disk to be measured; otherwise below the target directory.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Writes everything here as well.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A way to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DiskKind {
    /// io_uring.
    Uring,
    /// A blocking thread.
    Thread,
}

impl fmt::Display for DiskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "uring",
            Self::Thread => "thread",
        })
    }
}

/// One batch size, one way to the disk, one pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scenario {
    disk: DiskKind,
    batch: u64,
    /// Commits a second; 0: back to back.
    rate: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Run {
    disk: DiskKind,
    batch: u64,
    rate: u64,
    /// Bytes of one commit's write, padding included.
    write_bytes: u64,
    /// `commit` alone.
    commit: Percentiles,
    /// The records' encoding and `commit`.
    append_and_commit: Percentiles,
    /// The raw durable write of as many bytes.
    raw: Percentiles,
}

#[derive(Serialize)]
struct Report<'a> {
    machine: &'a Machine,
    command: Vec<String>,
    record_bytes: usize,
    medians: Vec<Run>,
    runs: Vec<Run>,
}

/// Measures, prints, writes.
///
/// # Errors
/// The disk failed, or does not take direct writes.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let parent = match &options.dir {
        Some(dir) => dir.clone(),
        None => node::target_dir()?.join("bench"),
    };
    std::fs::create_dir_all(&parent)?;
    let dir = tempfile::Builder::new().prefix("journal-").tempdir_in(&parent)?;
    let machine = Machine::here(dir.path());
    println!("{}\n", machine.line());

    let scenarios = scenarios(options);
    let mut raw = RawFile::create(dir.path(), "raw")?;
    let mut runs = Vec::new();
    for n in 0..options.runs {
        for &scenario in &scenarios {
            let Scenario { disk, batch, rate } = scenario;
            eprintln!("run {} of {}: {disk}, {batch} records, {rate}/s", n + 1, options.runs);
            let dir = dir.path().join(format!("{disk}-{batch}-{rate}-{n}"));
            runs.push((scenario, measure(options, scenario, &dir, &mut raw)?));
            std::fs::remove_dir_all(&dir)?;
        }
    }
    let of = |scenario: &Scenario| {
        runs.iter().filter(|(of, _)| of == scenario).map(|(_, run)| run.clone()).collect::<Vec<_>>()
    };
    let medians = scenarios.iter().map(|scenario| median(&of(scenario))).collect::<anyhow::Result<Vec<_>>>()?;
    print(options, &medians);
    if let Some(path) = &options.json {
        let command = std::env::args().skip(1).collect();
        let runs = runs.into_iter().map(|(_, run)| run).collect();
        write_json(path, &Report { machine: &machine, command, record_bytes: BODY_BYTES, medians, runs })?;
    }
    Ok(())
}

fn scenarios(options: &Options) -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    for &disk in &options.disk {
        let burst = options.batch.iter().map(|&batch| Scenario { disk, batch, rate: 0 });
        scenarios.extend(burst);
        if options.rate > 0 {
            scenarios.push(Scenario { disk, batch: 1, rate: options.rate });
        }
    }
    scenarios
}

fn measure(options: &Options, scenario: Scenario, dir: &Path, raw: &mut RawFile) -> anyhow::Result<Run> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let backend = match scenario.disk {
            DiskKind::Uring => probe::Backend::Uring,
            DiskKind::Thread => probe::Backend::Thread,
        };
        std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let (disk, driver) = probe::open(backend, dir).await.context("open the disk")?;
        let driving = driver.map(|driver| tokio::task::spawn_local(driver.run()));
        let run = commit_and_write(options, scenario, disk, dir, raw).await;
        if let Some(driving) = driving {
            driving.abort();
        }
        run
    })
}

async fn commit_and_write<D: Disk>(
    options: &Options,
    scenario: Scenario,
    disk: D,
    dir: &Path,
    raw: &mut RawFile,
) -> anyhow::Result<Run> {
    disk.create_dir_all(dir).await?;
    let config = JournalConfig::new(dir.to_owned());
    let (journal, _) = Journal::open(disk, config).await?;
    let (partition, term) = (PartitionId::new(1), Term::new(1));
    let payload = [b'.'; BODY_BYTES];
    let mut index = LogIndex::ZERO;
    let (mut commit, mut whole, mut raw_write) = (Latency::new(), Latency::new(), Latency::new());
    let mut write_bytes = 0;
    let mut pace = match scenario.rate {
        0 => None,
        // A commit and a raw write take turns, each at the rate.
        rate => Some(Ticker::new(now_ns() + SECOND_NS / 100, SECOND_NS / (2 * rate))?),
    };
    for n in 0..options.commits {
        if n % COMMITS_PER_UPKEEP == 0 {
            journal.truncate(partition, index);
            journal.maintain().await?;
        }
        if let Some(pace) = &mut pace {
            pace.tick().await?;
        }
        let before = journal.stats().bytes;
        let start = now_ns();
        for _ in 0..scenario.batch {
            index = index.next();
            journal.append_entry(partition, term, index, &payload);
        }
        let appended = now_ns();
        journal.commit().await?;
        let end = now_ns();
        write_bytes = journal.stats().bytes - before;
        if let Some(pace) = &mut pace {
            pace.tick().await?;
        }
        let raw_ns = raw.timed_write(usize::try_from(write_bytes)?)?;
        if n >= options.commits / 20 {
            commit.record(end - appended);
            whole.record(end - start);
            raw_write.record(raw_ns);
        }
    }
    Ok(Run {
        disk: scenario.disk,
        batch: scenario.batch,
        rate: scenario.rate,
        write_bytes,
        commit: commit.percentiles(),
        append_and_commit: whole.percentiles(),
        raw: raw_write.percentiles(),
    })
}

fn print(options: &Options, medians: &[Run]) {
    println!(
        "Medians over {} runs of {} commits, records of {BODY_BYTES} bytes; microseconds. Both are durable.\n",
        options.runs, options.commits
    );
    let mut table = Table::new(&[
        "disk",
        "records",
        "pace",
        "KiB",
        "raw p50",
        "raw p99",
        "commit p50",
        "commit p99",
        "append + commit p50",
        "ratio p50",
        "ratio p99",
        "with append p50",
    ]);
    for run in medians {
        let cell = |value: f64| figure(Some(value), 0);
        table.row(vec![
            run.disk.to_string(),
            run.batch.to_string(),
            if run.rate == 0 { "back to back".to_owned() } else { format!("{}/s", run.rate) },
            (run.write_bytes / 1024).to_string(),
            cell(run.raw.p50_us),
            cell(run.raw.p99_us),
            cell(run.commit.p50_us),
            cell(run.commit.p99_us),
            cell(run.append_and_commit.p50_us),
            ratio(Some(run.commit.p50_us), run.raw.p50_us),
            ratio(Some(run.commit.p99_us), run.raw.p99_us),
            ratio(Some(run.append_and_commit.p50_us), run.raw.p50_us),
        ]);
    }
    table.print();
}
