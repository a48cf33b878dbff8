//! What a child process is asked to measure ([`Spec`]) and what it answers ([`Outcome`]), and the writing half of it.
//! The reading half is in [`super::reads`].
//!
//! Invariants
//! - A child opens one engine and nothing else: memory and bytes written of its process are the engine's, beside the
//!   workload's own few megabytes.
//! - Making up operations is not in any time; the rate is messages over the time spent in the engine's calls.

use std::{io::Write as _, path::PathBuf};

use anyhow::ensure;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    reads,
    store::{Counters, Kind, Settings, Store},
    usage::{self, CachedPages, Resident},
    workload::{Op, Shape, Workload},
};
use crate::{
    clock::{SECOND_NS, now_ns},
    report::{Latency, Percentiles, number},
};

/// Messages of a timed rate, at most: bounds the disk that a fast engine fills.
const RATE_MESSAGES_MAX: u64 = 4_000_000;

/// A task for a child.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// The engine.
    pub(crate) kind: Kind,
    /// Its directory.
    pub(crate) dir: PathBuf,
    /// The operations.
    pub(crate) shape: Shape,
    /// What the engine may use.
    pub(crate) settings: Settings,
    /// What to do.
    pub(crate) phase: Phase,
}

/// What to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Write batches into an empty database for some time. Answers [`Rate`].
    Rate {
        /// Messages of a batch.
        batch: u64,
        /// Whether each batch is durable.
        sync: bool,
        /// How long, in the engine's calls.
        seconds: f64,
    },
    /// Write all messages into an empty database, settle, answer [`Load`], write some more, and wait to be killed.
    Load {
        /// Messages.
        messages: u64,
        /// Messages of a batch.
        batch: u64,
        /// Messages after the answer.
        crash_messages: u64,
    },
    /// Load all messages into a new database in bulk, without a log, and settle. Answers [`Bulk`], or nothing.
    Bulk {
        /// Messages.
        messages: u64,
        /// Messages of a batch.
        batch: u64,
    },
    /// Open what a crash left, check that all of it is there, settle, close. Answers [`Reopen`].
    Reopen {
        /// Messages that were written.
        written: u64,
        /// Batches of them.
        batches: u64,
    },
    /// Read, nothing else going on. Answers [`reads::Reads`].
    Read(reads::ReadPlan),
    /// Read between batches that are written. Answers [`reads::Mixed`].
    Mix(reads::ReadPlan),
}

/// Messages a second.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rate {
    pub(crate) messages_per_s: f64,
    /// Of one batch.
    pub(crate) commit: Percentiles,
}

/// The whole workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) messages_per_s: f64,
    /// Of one batch; its maximum is the longest stall.
    pub(crate) commit: Percentiles,
    /// Of those that began and ended with no flush and no merge under way, and of those that did beside one; `None`
    /// where the engine does not say.
    pub(crate) commit_by_background: Option<[Percentiles; 2]>,
    pub(crate) messages: u64,
    /// Bytes that the process wrote until the last message was durable.
    pub(crate) written_bytes: u64,
    /// Bytes that it had written once it was settled.
    pub(crate) written_settled_bytes: u64,
    pub(crate) settle_s: f64,
    /// Blocks of the directory, settled.
    pub(crate) disk_bytes: u64,
    /// Those of them that hold the log.
    pub(crate) log_bytes: u64,
    /// Before the engine was opened: the program and the workload.
    pub(crate) resident_before_bytes: u64,
    pub(crate) resident: Resident,
    /// By the engine's own account.
    pub(crate) counters: Counters,
}

/// The same messages, loaded in bulk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Bulk {
    /// Until all of it is durable and settled.
    pub(crate) messages_per_s: f64,
    /// Bytes that the process wrote.
    pub(crate) written_bytes: u64,
    /// By the engine's own account.
    pub(crate) counters: Counters,
}

/// The first start after a crash.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reopen {
    /// Until it can be used.
    pub(crate) open_ms: f64,
    /// Messages that were looked for, and found, in chats of all popularities.
    pub(crate) checked: u64,
    pub(crate) resident: Resident,
    pub(crate) counters: Counters,
}

/// Carries out a task; the answer is one line on standard output.
///
/// # Errors
/// What the engine or the file system says, or something that was read is wrong.
pub(crate) fn run(spec: &Spec) -> anyhow::Result<()> {
    match &spec.phase {
        Phase::Rate { batch, sync, seconds } => answer(&rate(spec, *batch, *sync, *seconds)?),
        Phase::Load { messages, batch, crash_messages } => load(spec, *messages, *batch, *crash_messages),
        Phase::Bulk { messages, batch } => answer(&bulk(spec, *messages, *batch)?),
        Phase::Reopen { written, batches } => answer(&reopen(spec, *written, *batches)?),
        Phase::Read(plan) => answer(&reads::read(spec, plan)?),
        Phase::Mix(plan) => answer(&reads::mix(spec, plan)?),
    }
}

/// An answer, as the parent reads it.
pub(crate) trait Outcome: Serialize + DeserializeOwned {}
impl<T: Serialize + DeserializeOwned> Outcome for T {}

fn answer(outcome: &impl Outcome) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(outcome)?)?;
    Ok(out.flush()?)
}

/// Writes batches and times them.
pub(crate) struct Writer {
    ops: Vec<Op>,
    batch: u64,
    sync: bool,
    messages: u64,
    spent_ns: u64,
    latency: Latency,
    quiet: Latency,
    busy: Latency,
}

impl Writer {
    /// Batches of `batch` messages.
    pub(crate) fn new(batch: u64, sync: bool) -> Self {
        let [latency, quiet, busy] = core::array::from_fn(|_| Latency::new());
        Self { ops: Vec::new(), batch, sync, messages: 0, spent_ns: 0, latency, quiet, busy }
    }

    /// Writes the next batch, at most `max` messages of it.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) fn write(&mut self, store: &mut dyn Store, workload: &mut Workload, max: u64) -> anyhow::Result<()> {
        let messages = self.batch.min(max);
        workload.next_batch(messages, &mut self.ops);
        let was_busy = store.is_busy();
        let start = now_ns();
        store.write_batch(&self.ops, self.sync)?;
        let took = now_ns() - start;
        self.latency.record(took);
        match (was_busy, store.is_busy()) {
            (Some(false), Some(false)) => self.quiet.record(took),
            (Some(true), Some(true)) => self.busy.record(took),
            _ => {}
        }
        self.messages += messages;
        self.spent_ns += took;
        Ok(())
    }

    /// Messages a second of the engine's time.
    pub(crate) fn messages_per_s(&self) -> f64 {
        number(self.messages) * number(SECOND_NS) / number(self.spent_ns.max(1))
    }

    /// Of one batch.
    pub(crate) fn commit(&self) -> Percentiles {
        self.latency.percentiles()
    }

    /// Of one batch, with nothing in the background and beside something.
    fn commit_by_background(&self) -> [Percentiles; 2] {
        [self.quiet.percentiles(), self.busy.percentiles()]
    }
}

fn rate(spec: &Spec, batch: u64, sync: bool, seconds: f64) -> anyhow::Result<Rate> {
    let mut workload = Workload::new(&spec.shape);
    let mut store = spec.kind.open(&spec.dir, &spec.settings)?;
    let seconds_spent = |writer: &Writer| number(writer.spent_ns) / number(SECOND_NS);
    // A tenth goes before, so that files exist and caches are warm.
    let mut warm_up = Writer::new(batch, sync);
    while seconds_spent(&warm_up) < seconds / 10.0 && warm_up.messages < RATE_MESSAGES_MAX / 10 {
        warm_up.write(&mut *store, &mut workload, batch)?;
    }
    let mut writer = Writer::new(batch, sync);
    while seconds_spent(&writer) < seconds && writer.messages < RATE_MESSAGES_MAX {
        writer.write(&mut *store, &mut workload, batch)?;
    }
    store.close()?;
    Ok(Rate { messages_per_s: writer.messages_per_s(), commit: writer.commit() })
}

fn load(spec: &Spec, messages: u64, batch: u64, crash_messages: u64) -> anyhow::Result<()> {
    let mut workload = Workload::new(&spec.shape);
    let before = Resident::here()?;
    let mut store = spec.kind.open(&spec.dir, &spec.settings)?;
    let mut writer = Writer::new(batch, true);
    while workload.messages() < messages {
        let left = messages - workload.messages();
        writer.write(&mut *store, &mut workload, left)?;
    }
    let written_bytes = usage::written_bytes()?;
    let start = now_ns();
    store.settle()?;
    let settle_s = number(now_ns() - start) / number(SECOND_NS);
    answer(&Load {
        messages_per_s: writer.messages_per_s(),
        commit: writer.commit(),
        commit_by_background: store.is_busy().map(|_| writer.commit_by_background()),
        messages,
        written_bytes,
        written_settled_bytes: usage::written_bytes()?,
        settle_s,
        disk_bytes: usage::allocated_bytes(&spec.dir, |_| true)?,
        log_bytes: usage::allocated_bytes(&spec.dir, |path| spec.kind.is_log(path))?,
        resident_before_bytes: before.now_bytes,
        resident: Resident::here()?,
        counters: store.counters(),
    })?;
    while workload.messages() < messages + crash_messages {
        let left = messages + crash_messages - workload.messages();
        writer.write(&mut *store, &mut workload, left)?;
    }
    answer(&workload.messages())?;
    // The parent kills this process now: nothing is closed.
    loop {
        std::thread::park();
    }
}

/// `None` where the engine has no way to load in bulk.
fn bulk(spec: &Spec, messages: u64, batch: u64) -> anyhow::Result<Option<Bulk>> {
    let Some(mut load) = spec.kind.load(&spec.dir, &spec.settings)? else {
        return Ok(None);
    };
    let (mut workload, mut ops, mut spent_ns) = (Workload::new(&spec.shape), Vec::new(), 0);
    let before = usage::written_bytes()?;
    while workload.messages() < messages {
        workload.next_batch(batch.min(messages - workload.messages()), &mut ops);
        let start = now_ns();
        load.load(&ops)?;
        spent_ns += now_ns() - start;
    }
    let start = now_ns();
    let counters = load.finish()?;
    spent_ns += now_ns() - start;
    let messages_per_s = number(messages) * number(SECOND_NS) / number(spent_ns.max(1));
    Ok(Some(Bulk { messages_per_s, written_bytes: usage::written_bytes()? - before, counters }))
}

fn reopen(spec: &Spec, written: u64, batches: u64) -> anyhow::Result<Reopen> {
    CachedPages::of(&spec.dir).sync_and_drop()?;
    let start = now_ns();
    let mut store = spec.kind.open(&spec.dir, &spec.settings)?;
    let open_ms = number(now_ns() - start) / 1e6;
    let mut checked = 0;
    if spec.kind.has_index() {
        let mut workload = Workload::new(&spec.shape);
        workload.skip(written);
        checked = reads::check_everywhere(&mut *store, &workload)?;
    }
    let (resident, counters) = (Resident::here()?, store.counters());
    let found = counters.batches.unwrap_or(batches);
    ensure!(found == batches, "{} has {found} of {batches} batches after a crash", spec.kind);
    store.settle()?;
    store.close()?;
    Ok(Reopen { open_ms, checked, resident, counters })
}
