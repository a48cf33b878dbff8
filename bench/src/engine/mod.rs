//! `columba-bench engine`: storage engines on one chat workload, side by side in one run.
//!
//! | module | what it holds |
//! |---|---|
//! | [`workload`] | the stream of operations, the same for every engine |
//! | [`rows`] | keys and values of it |
//! | [`store`] | the trait [`store::Store`], the engines, what each may use |
//! | `columba` | Columba's engine, embedded |
//! | `rocks`, `fjall` | the peers, with the feature `peers` |
//! | [`log`], [`append`], [`batch`] | floors of a write: plain logs without an index |
//! | [`read_floor`] | the floor of a read |
//! | [`phase`], [`reads`] | what is measured, in a process of its own each time |
//! | [`child`] | those processes |
//! | [`usage`] | what a process and a directory came to |
//! | [`tables`] | the outcome, for people |
//!
//! Fairness: what is the same for all
//! - Operations and batches; a batch is atomic, and durable before the next is written where that is asked for.
//! - Memory: write buffers and block cache add up to one budget. Block size, and no compression unless asked for.
//! - One thread that writes and reads; the machine, and the turn: rates go round by round from engine to engine.
//!
//! Fairness: what differs
//! - Each engine's own file opens with it. In short: peers work in the background on threads of their own and may use
//!   the page cache, which no figure of memory counts; Fjall has no direct reads and no filters for prefixes.
//! - The floors do less than an engine must: they have no index, and what they wrote is never moved.
//! - In bulk no engine writes a log: RocksDB with its log off and one flush at the end, Columba with its loader.
//! - A crash is a killed process, not a cut of the power: what was written but not synced survives it.
//!
//! Invariants
//! - Every figure comes from a child process that opens one engine and nothing else.
//! - Each engine's directory is gone before the next engine's full load begins; free space is checked at the start.

mod append;
mod batch;
pub(crate) mod child;
mod columba;
#[cfg(feature = "peers")]
mod fjall;
mod log;
mod phase;
mod read_floor;
mod reads;
#[cfg(feature = "peers")]
mod rocks;
mod rows;
mod store;
mod tables;
mod usage;
mod workload;

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use clap::ValueEnum as _;
use serde::Serialize;

use self::{
    child::{Child, measure},
    phase::{Bulk, Load, Phase, Rate, Reopen, Spec},
    read_floor::ReadFloor,
    reads::{Mixed, ReadPlan, Reads},
    rows::LOGICAL_BYTES,
    store::{Compression, Kind, Settings},
    workload::Shape,
};
use crate::{
    node,
    raw::RawFile,
    report::{Machine, Percentiles, median, write_json},
};

/// Free space to start with, for each byte of messages: an engine's files while it compacts, its logs, the floors.
const FREE_PER_LOGICAL: u64 = 5;
/// Free space beyond that: segments and logs of the timed rates.
const FREE_BYTES: u64 = 4 << 30;
/// Raw durable writes of the floor.
const RAW_WRITES: u64 = 2_000;
/// Bytes of an inbox entry and a trim in a plain log.
const INBOX_OP_BYTES_MAX: u64 = 96;
/// Segments of the plain log where it recycles them.
const RATE_SEGMENTS: u64 = 4;
/// Cache for each chat of the warm reads: two blocks, and as much again for indexes, filters and uneven shards.
const WARM_BYTES_PER_CHAT: u64 = 64 << 10;

/// Write buffers where nothing is written.
const READ_WRITE_BUFFER_BYTES: u64 = 8 << 20;

/// What to measure.
#[derive(clap::Args, Serialize)]
pub(crate) struct Options {
    /// RocksDB and Fjall as well; needs the cargo feature `peers`.
    #[arg(long)]
    peers: bool,
    /// Only these engines.
    #[arg(long, value_delimiter = ',')]
    engines: Vec<Kind>,
    /// A minute's worth: 200,000 messages in 5,000 chats, one round. For development; the figures say little.
    #[arg(long)]
    quick: bool,
    /// Chats [default: 100000].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    chats: Option<u32>,
    /// Messages of the full load [default: 5000000].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1_000..=1_000_000_000))]
    messages: Option<u64>,
    /// Exponent of the chats' popularity.
    #[arg(long, default_value_t = 0.99)]
    zipf: f64,
    /// One inbox entry for as many messages.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    inbox_every: u64,
    /// Entries at which an inbox is trimmed.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    inbox_trim: u32,
    /// Start of the random generator.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Memory of an engine, MiB: half for write buffers, half for the block cache.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(32..=65_536))]
    memory_mib: u64,
    /// Block of a peer's file, KiB.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=512))]
    block_kib: u32,
    /// How peers compress blocks.
    #[arg(long, value_enum, default_value_t = Compression::None)]
    compression: Compression,
    /// Messages of a durable batch, for the timed rates.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=4096))]
    batch: Vec<u64>,
    /// Messages of a batch that is not synced.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..=4096))]
    unsynced_batch: u64,
    /// Seconds of each timed rate [default: 2].
    #[arg(long)]
    seconds: Option<f64>,
    /// Rounds of the timed rates; medians are taken over them [default: 3].
    #[arg(long)]
    rounds: Option<usize>,
    /// Messages of a durable batch of the full load.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4096))]
    load_batch: u64,
    /// Messages between the settled load and the crash [default: a twentieth of all, at most 150000].
    #[arg(long)]
    crash_messages: Option<u64>,
    /// Reads of each kind [default: 10000].
    #[arg(long)]
    reads: Option<u64>,
    /// Chats of the warm reads; fewer where the cache would not hold them with room to spare.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    warm_chats: u64,
    /// Cache for the reads, percent of the messages' bytes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    cache_percent: u64,
    /// Messages written between reads [default: a tenth of all].
    #[arg(long)]
    mixed_messages: Option<u64>,
    /// Directory for data, on the disk to be measured; otherwise below the target directory.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Writes everything here as well.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Options {
    fn messages(&self) -> u64 {
        self.messages.unwrap_or(if self.quick { 200_000 } else { 5_000_000 })
    }

    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 }).max(1)
    }

    fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(if self.quick { 0.5 } else { 2.0 })
    }

    fn crash_messages(&self) -> u64 {
        // All of it fits the memtable, where it is when the process dies.
        self.crash_messages.unwrap_or((self.messages() / 20).min(150_000))
    }

    fn logical_bytes(&self) -> u64 {
        self.messages() * LOGICAL_BYTES as u64
    }

    fn shape(&self) -> Shape {
        let chats = self.chats.unwrap_or(if self.quick { 5_000 } else { 100_000 });
        Shape {
            chats: usize::try_from(chats).expect("32 bits fit"),
            zipf: self.zipf,
            inbox_every: self.inbox_every,
            inbox_trim: self.inbox_trim,
            seed: self.seed,
        }
    }

    /// To write with: the whole budget.
    fn write_settings(&self, log_segments: u64, log_recycles: bool) -> Settings {
        let memory_bytes = self.memory_mib << 20;
        Settings {
            write_buffer_bytes: memory_bytes / 2,
            cache_bytes: memory_bytes / 2,
            block_bytes: self.block_kib << 10,
            compression: self.compression,
            direct_reads: false,
            log_segments,
            log_recycles,
        }
    }

    /// To write and read with: a cache for a part of the data.
    fn mixed_settings(&self) -> Settings {
        let cache_bytes = (self.logical_bytes() * self.cache_percent / 100).max(1 << 20);
        Settings { cache_bytes, direct_reads: true, ..self.write_settings(1, false) }
    }

    /// To read with: nothing is written, so an engine with one budget for all must not have that for write buffers.
    fn read_settings(&self) -> Settings {
        Settings { write_buffer_bytes: READ_WRITE_BUFFER_BYTES, ..self.mixed_settings() }
    }

    fn kinds(&self) -> Vec<Kind> {
        let wanted = |kind: &Kind| self.engines.is_empty() || self.engines.contains(kind);
        let all = Kind::value_variants().iter().copied().filter(|kind| self.peers || !kind.is_peer());
        all.filter(wanted).collect()
    }
}

/// A timed rate: messages of a batch, and whether it is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Row {
    batch: u64,
    sync: bool,
}

/// What an engine came to.
#[derive(Serialize)]
struct Findings {
    kind: Kind,
    /// Medians over the rounds.
    rates: Vec<(Row, Rate)>,
    load: Option<Load>,
    bulk: Option<Bulk>,
    reopen: Option<Reopen>,
    reads: Option<Reads>,
    mixed: Option<Mixed>,
}

#[derive(Serialize)]
struct Report<'a> {
    machine: &'a Machine,
    command: Vec<String>,
    options: &'a Options,
    logical_bytes_per_message: usize,
    /// Raw durable writes of a batch's size, before the loads and after.
    raw: [Percentiles; 2],
    engines: &'a [Findings],
    rounds: &'a [(Kind, Row, Rate)],
}

/// Measures, prints, writes.
///
/// # Errors
/// The feature for peers is missing, there is too little room, or an engine failed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if options.peers && !cfg!(feature = "peers") {
        bail!(
            "this program was built without RocksDB and Fjall: \
             cargo run --release -p columba-bench --features peers -- engine --peers"
        );
    }
    let parent = match &options.dir {
        Some(dir) => dir.clone(),
        None => node::target_dir()?.join("bench"),
    };
    std::fs::create_dir_all(&parent)?;
    let dir = tempfile::Builder::new().prefix("engine-").tempdir_in(&parent)?;
    let space = rustix::fs::statvfs(dir.path())?;
    let (free, needed) = (space.f_bavail * space.f_frsize, options.logical_bytes() * FREE_PER_LOGICAL + FREE_BYTES);
    ensure!(free >= needed, "{free} bytes are free at {}; this takes up to {needed}", dir.path().display());
    node::pass_on_signals()?;
    let machine = Machine::here(dir.path());
    println!("{}\n", machine.line());

    let mut results = options.kinds().into_iter().map(Findings::none).collect::<Vec<_>>();
    let rounds = measure_rates(options, dir.path(), &mut results)?;
    let mut raw = RawFile::create(dir.path(), "raw")?;
    let batch_bytes = usize::try_from(options.load_batch)? * LOGICAL_BYTES;
    let raw_before = raw.measure(batch_bytes, RAW_WRITES, 0)?.percentiles();
    let floor = dir.path().join("read-floor");
    ReadFloor::create(&floor, options.logical_bytes())?;
    for result in &mut results {
        measure_load_and_reads(options, dir.path(), &floor, result)?;
    }
    let raw_after = raw.measure(batch_bytes, RAW_WRITES, 0)?.percentiles();
    let raw = [raw_before, raw_after];
    tables::print(options, &raw, &results);
    if let Some(path) = &options.json {
        let report = Report {
            machine: &machine,
            command: std::env::args().skip(1).collect(),
            options,
            logical_bytes_per_message: LOGICAL_BYTES,
            raw,
            engines: &results,
            rounds: &rounds,
        };
        write_json(path, &report)?;
    }
    Ok(())
}

impl Findings {
    const fn none(kind: Kind) -> Self {
        Self { kind, rates: Vec::new(), load: None, bulk: None, reopen: None, reads: None, mixed: None }
    }
}

/// Timed rates, round by round; in each round the engines take turns at each batch size.
fn measure_rates(options: &Options, dir: &Path, results: &mut [Findings]) -> anyhow::Result<Vec<(Kind, Row, Rate)>> {
    let synced = options.batch.iter().map(|&batch| Row { batch, sync: true });
    let rows = synced.chain([Row { batch: options.unsynced_batch, sync: false }]).collect::<Vec<_>>();
    let mut rates = Vec::new();
    for round in 1..=options.rounds() {
        for &row in &rows {
            for kind in results.iter().map(|result| result.kind) {
                let Row { batch, sync } = row;
                let durable = if sync { "synced" } else { "not synced" };
                eprintln!("round {round} of {}: {kind}, batches of {batch}, {durable}", options.rounds());
                let dir = fresh(dir, kind)?;
                let spec = Spec {
                    kind,
                    dir: dir.clone(),
                    shape: options.shape(),
                    settings: options.write_settings(RATE_SEGMENTS, true),
                    phase: Phase::Rate { batch, sync, seconds: options.seconds() },
                };
                rates.push((kind, row, measure::<Rate>(&spec)?));
                std::fs::remove_dir_all(&dir)?;
            }
        }
    }
    for result in results {
        for &row in &rows {
            let of = |(kind, of, rate): &(Kind, Row, Rate)| (*kind == result.kind && *of == row).then(|| rate.clone());
            let rounds = rates.iter().filter_map(of).collect::<Vec<_>>();
            result.rates.push((row, median(&rounds)?));
        }
    }
    Ok(rates)
}

/// The full load of one engine, a crash, the start after it, reads alone and between writes.
fn measure_load_and_reads(options: &Options, dir: &Path, floor: &Path, result: &mut Findings) -> anyhow::Result<()> {
    let kind = result.kind;
    let (messages, batch) = (options.messages(), options.load_batch);
    let dir = fresh(dir, kind)?;
    let written = messages + options.crash_messages();
    let inbox_bytes = INBOX_OP_BYTES_MAX.div_ceil(options.inbox_every);
    let batch_bytes = batch * (LOGICAL_BYTES as u64 + inbox_bytes) + batch::HEADER_BYTES as u64;
    let segments = log::segments(written.div_ceil(batch), batch_bytes);
    let spec = |settings, phase| Spec { kind, dir: dir.clone(), shape: options.shape(), settings, phase };
    let write_settings = options.write_settings(segments, false);

    eprintln!("{kind}: {messages} messages in batches of {batch}, a crash after {} more", options.crash_messages());
    let phase = Phase::Load { messages, batch, crash_messages: options.crash_messages() };
    let mut child = Child::start(&spec(write_settings.clone(), phase))?;
    result.load = Some(child.answer()?);
    let found: u64 = child.answer()?;
    ensure!(found == written, "{kind} wrote {found} messages instead of {written}");
    drop(child);

    eprintln!("{kind}: open after the crash");
    let batches = messages.div_ceil(batch) + options.crash_messages().div_ceil(batch);
    result.reopen = Some(measure(&spec(write_settings, Phase::Reopen { written, batches }))?);

    if kind.has_index() {
        let read_settings = options.read_settings();
        let plan = ReadPlan {
            written,
            reads: options.reads.unwrap_or(if options.quick { 1_000 } else { 10_000 }).max(1),
            warm_chats: options.warm_chats.min(read_settings.cache_bytes / WARM_BYTES_PER_CHAT).max(1),
            mixed_messages: options.mixed_messages.unwrap_or(messages / 10),
            batch,
            floor: floor.to_owned(),
        };
        eprintln!("{kind}: {} reads of each kind", plan.reads);
        result.reads = Some(measure(&spec(read_settings, Phase::Read(plan.clone())))?);
        eprintln!("{kind}: {} messages with a read after each batch", plan.mixed_messages);
        result.mixed = Some(measure(&spec(options.mixed_settings(), Phase::Mix(plan)))?);
    }
    std::fs::remove_dir_all(&dir)?;

    if kind.has_index() {
        eprintln!("{kind}: {messages} messages in bulk");
        std::fs::create_dir(&dir)?;
        let phase = Phase::Bulk { messages, batch: options.unsynced_batch };
        result.bulk = measure(&spec(options.write_settings(0, false), phase))?;
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(())
}

/// An empty directory for `kind`.
fn fresh(dir: &Path, kind: Kind) -> anyhow::Result<PathBuf> {
    let name = serde_json::to_value(kind)?;
    let dir = dir.join(name.as_str().unwrap_or_default());
    std::fs::create_dir(&dir)?;
    Ok(dir)
}
