//! The reading half of a child's work: the newest messages of a chat, cold and warm, alone and between writes.
//!
//! - *Cold*: the cache holds a small part of the data and nothing else does: reads are direct, or, where an engine has
//!   no direct reads, its files are dropped from the page cache before each. The cache itself stays as it is.
//! - *Warm*: the same few chats, read once before.
//! - Beside each cold read one raw read of the floor's file, turn by turn.
//! - *Between writes*: one read after each durable batch, on the thread that writes. What the engine does in the
//!   background goes on meanwhile, on its own threads, or between the slices of this one.
//!
//! Invariants
//! - Every message that comes is checked, outside the time: seq, number and the body's first bytes.

use std::path::PathBuf;

use anyhow::ensure;
use columba_engine::env::Rng;
use serde::{Deserialize, Serialize};

use super::{
    phase::{Spec, Writer},
    read_floor::ReadFloor,
    store::Store,
    usage::{CachedPages, Resident},
    workload::Workload,
};
use crate::{
    clock::now_ns,
    report::{Latency, Percentiles},
};

/// Messages of a read.
pub(crate) const NEWEST: usize = 50;
/// Chats that are looked at after a crash, at most.
const CHECKED_CHATS_MAX: usize = 5_000;

/// How much to read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReadPlan {
    /// Messages in the database.
    pub(crate) written: u64,
    /// Reads of each kind.
    pub(crate) reads: u64,
    /// Chats of the warm reads.
    pub(crate) warm_chats: u64,
    /// Messages to write between reads.
    pub(crate) mixed_messages: u64,
    /// Messages of a batch there.
    pub(crate) batch: u64,
    /// The floor's file.
    pub(crate) floor: PathBuf,
}

/// The newest messages, nothing else going on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reads {
    /// Cold, chats by popularity.
    pub(crate) popular: Percentiles,
    /// Cold, chats of at least fifty messages alike.
    pub(crate) uniform: Percentiles,
    /// Warm, chats of at least fifty messages alike.
    pub(crate) warm: Percentiles,
    /// Raw reads between the cold ones.
    pub(crate) floor: Percentiles,
    pub(crate) resident: Resident,
}

/// The newest messages between writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mixed {
    /// Cold, chats of at least fifty messages alike.
    pub(crate) read: Percentiles,
    /// One durable batch.
    pub(crate) commit: Percentiles,
    pub(crate) messages_per_s: f64,
    /// Raw reads in between.
    pub(crate) floor: Percentiles,
    pub(crate) resident: Resident,
}

/// Measures reads alone.
pub(crate) fn read(spec: &Spec, plan: &ReadPlan) -> anyhow::Result<Reads> {
    let mut workload = Workload::new(&spec.shape);
    workload.skip(plan.written);
    let mut reader = Reader::open(spec, plan, &workload)?;
    let mut store = spec.kind.open(&spec.dir, &spec.settings)?;
    let mut rng = Rng::from_seed(spec.shape.seed ^ 1);
    let (mut popular, mut uniform, mut warm) = (Latency::new(), Latency::new(), Latency::new());
    for _ in 0..plan.reads {
        let rank = workload.popularity().pick(&mut rng);
        popular.record(reader.cold(&mut *store, &workload, rank)?);
    }
    for _ in 0..plan.reads {
        let rank = reader.pick_long(&mut rng);
        uniform.record(reader.cold(&mut *store, &workload, rank)?);
    }
    let few = (0..plan.warm_chats).map(|_| reader.pick_long(&mut rng)).collect::<Vec<_>>();
    for &rank in &few {
        reader.timed(&mut *store, &workload, rank)?;
    }
    for &rank in few.iter().cycle().take(usize::try_from(plan.reads)?) {
        warm.record(reader.timed(&mut *store, &workload, rank)?);
    }
    let resident = Resident::here()?;
    store.close()?;
    Ok(Reads {
        popular: popular.percentiles(),
        uniform: uniform.percentiles(),
        warm: warm.percentiles(),
        floor: reader.floor_latency.percentiles(),
        resident,
    })
}

/// Measures reads between writes.
pub(crate) fn mix(spec: &Spec, plan: &ReadPlan) -> anyhow::Result<Mixed> {
    let mut workload = Workload::new(&spec.shape);
    workload.skip(plan.written);
    let mut reader = Reader::open(spec, plan, &workload)?;
    let mut store = spec.kind.open(&spec.dir, &spec.settings)?;
    let mut rng = Rng::from_seed(spec.shape.seed ^ 2);
    let mut writer = Writer::new(plan.batch, true);
    let mut read = Latency::new();
    while workload.messages() < plan.written + plan.mixed_messages {
        writer.write(&mut *store, &mut workload, plan.batch)?;
        let rank = reader.pick_long(&mut rng);
        read.record(reader.cold(&mut *store, &workload, rank)?);
    }
    let resident = Resident::here()?;
    store.close()?;
    Ok(Mixed {
        read: read.percentiles(),
        commit: writer.commit(),
        messages_per_s: writer.messages_per_s(),
        floor: reader.floor_latency.percentiles(),
        resident,
    })
}

/// Looks at the newest messages of chats from all over the popularity; how many messages came.
///
/// # Errors
/// One is missing or wrong.
pub(crate) fn check_everywhere(store: &mut dyn Store, workload: &Workload) -> anyhow::Result<u64> {
    let chats = workload.chats().len();
    let mut checked = 0;
    for rank in (0..chats).step_by(chats.div_ceil(CHECKED_CHATS_MAX)) {
        checked += Found::read(store, workload, rank)?.check(workload, rank)?;
    }
    Ok(checked)
}

/// What a read brought: seqs, and the first bytes of the bodies.
struct Found {
    rows: Vec<(u64, [u8; 8])>,
    took_ns: u64,
}

impl Found {
    fn read(store: &mut dyn Store, workload: &Workload, rank: usize) -> anyhow::Result<Self> {
        let mut rows = Vec::with_capacity(NEWEST);
        let start = now_ns();
        store.newest(workload.chats()[rank].id, NEWEST, &mut |seq, body| {
            rows.push((seq, body[..8].try_into().expect("8 bytes")));
        })?;
        Ok(Self { rows, took_ns: now_ns() - start })
    }

    fn check(&self, workload: &Workload, rank: usize) -> anyhow::Result<u64> {
        let newest = workload.messages_of(rank);
        let expected = (1..=newest).rev().take(NEWEST);
        ensure!(
            self.rows.iter().map(|(seq, _)| *seq).eq(expected),
            "chat {rank} has {newest} messages; what came is {:?}",
            self.rows.iter().map(|(seq, _)| seq).collect::<Vec<_>>(),
        );
        let wrong = self.rows.iter().find(|(seq, head)| *head != workload.body_head(rank, *seq));
        ensure!(wrong.is_none(), "chat {rank}: the body of {wrong:?} is another's");
        Ok(self.rows.len() as u64)
    }
}

/// Reads, beside the floor.
struct Reader {
    /// Chats of at least fifty messages when it began; all, where there are none.
    long: Vec<usize>,
    /// To be dropped before each cold read.
    pages: Option<CachedPages>,
    floor: ReadFloor,
    floor_latency: Latency,
}

impl Reader {
    fn open(spec: &Spec, plan: &ReadPlan, workload: &Workload) -> anyhow::Result<Self> {
        let chats = 0..workload.chats().len();
        let mut long = chats.clone().filter(|&rank| workload.messages_of(rank) >= NEWEST as u64).collect::<Vec<_>>();
        if long.is_empty() {
            long.extend(chats);
        }
        let mut pages = CachedPages::of(&spec.dir);
        pages.sync_and_drop()?;
        let pages = (!spec.kind.reads_directly()).then_some(pages);
        Ok(Self { long, pages, floor: ReadFloor::open(&plan.floor)?, floor_latency: Latency::new() })
    }

    fn pick_long(&self, rng: &mut Rng) -> usize {
        let at = rng.below(self.long.len() as u64);
        self.long[usize::try_from(at).expect("an index of the list")]
    }

    /// One read of the floor, then one of the engine: how long that took.
    fn cold(&mut self, store: &mut dyn Store, workload: &Workload, rank: usize) -> anyhow::Result<u64> {
        self.floor_latency.record(self.floor.timed_read()?);
        if let Some(pages) = &mut self.pages {
            pages.drop_clean()?;
        }
        self.timed(store, workload, rank)
    }

    fn timed(&self, store: &mut dyn Store, workload: &Workload, rank: usize) -> anyhow::Result<u64> {
        let found = Found::read(store, workload, rank)?;
        found.check(workload, rank)?;
        Ok(found.took_ns)
    }
}
