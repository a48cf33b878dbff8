//! What was committed survives: every crash point of a scripted workload, random seeds, flipped bits.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    pin::pin,
};

use super::*;
use crate::{
    env::{
        Rng,
        executor::{block_on, run_interleaved, run_until_stalled},
        sim_disk::SimDisk,
    },
    error::Error,
    ids::{LogIndex, PartitionId, SegmentId, Term},
};

const SEGMENT: u64 = 64 * 1024;

fn config() -> JournalConfig {
    JournalConfig {
        dir: PathBuf::from("data/journal"),
        segment_bytes: SEGMENT,
        batch_bytes_max: 16 * 1024,
        segments_max: 64,
    }
}

/// What a test believes of each partition: entries by index, the newest state, what was truncated.
#[derive(Clone, Default, Debug)]
struct Model {
    entries: BTreeMap<u32, BTreeMap<u64, Vec<u8>>>,
    states: BTreeMap<u32, Vec<u8>>,
    truncated: BTreeMap<u32, u64>,
}

fn payload(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(rng.below(3000)).unwrap()];
    rng.fill(&mut bytes);
    bytes
}

/// One step: appends to a few partitions, commits, sometimes truncates and tidies. `durable` follows what is committed.
async fn step(journal: &Journal<SimDisk>, rng: &mut Rng, next: &mut Model, durable: &mut Model) -> Result<()> {
    for _ in 0..=rng.below(4) {
        let p = u32::try_from(rng.below(3)).unwrap();
        let log = next.entries.entry(p).or_default();
        let floor = next.truncated.get(&p).copied().unwrap_or(0);
        let last = log.keys().next_back().copied().unwrap_or(floor);
        // Sometimes a new leader replaces the tail.
        let index = if last > floor && rng.one_in(6) { last } else { last + 1 };
        let bytes = payload(rng);
        log.split_off(&index);
        log.insert(index, bytes.clone());
        journal.append_entry(PartitionId::new(p), Term::new(1), LogIndex::new(index), &bytes);
        let state = index.to_le_bytes().to_vec();
        journal.append_state(PartitionId::new(p), &state);
        next.states.insert(p, state);
    }
    journal.commit().await?;
    *durable = next.clone();
    if rng.one_in(3) {
        let p = u32::try_from(rng.below(3)).unwrap();
        if let Some(last) = next.entries.get(&p).and_then(|log| log.keys().next_back().copied()) {
            let up_to = last.saturating_sub(rng.below(3));
            journal.truncate(PartitionId::new(p), LogIndex::new(up_to));
            for model in [next, durable] {
                model.truncated.insert(p, up_to.max(model.truncated.get(&p).copied().unwrap_or(0)));
            }
        }
    }
    if rng.one_in(3) {
        journal.maintain().await?;
    }
    Ok(())
}

async fn run(disk: &SimDisk, seed: u64, steps: u32, durable: &mut Model, next: &mut Model) -> Result<()> {
    let (journal, _) = Journal::open(disk.clone(), config()).await?;
    let mut rng = Rng::from_seed(seed);
    *next = durable.clone();
    for _ in 0..steps {
        step(&journal, &mut rng, next, durable).await?;
    }
    Ok(())
}

/// Everything committed is there, and nothing but what was committed or was about to be.
fn check(disk: &SimDisk, durable: &Model, next: &Model, context: &str) {
    block_on(async {
        let (journal, recovered) = Journal::open(disk.clone(), config()).await.expect(context);
        for (p, log) in &durable.entries {
            let id = PartitionId::new(*p);
            let floor = durable.truncated.get(p).copied().unwrap_or(0);
            for (index, bytes) in log.iter().filter(|(index, _)| **index > floor) {
                let found = journal.read(id, LogIndex::new(*index), 1).await.expect(context);
                let replaced = next.entries.get(p).and_then(|log| log.get(index));
                let found = found.first().map(|entry| entry.payload.to_vec());
                assert!(
                    found.as_ref() == Some(bytes) || (found.is_some() && found.as_ref() == replaced),
                    "{context}: entry {index} of {p} is lost or changed"
                );
            }
        }
        for (p, state) in &durable.states {
            let found = recovered.partitions.get(&PartitionId::new(*p)).and_then(|found| found.state.clone());
            let found = found.map(|bytes| bytes.to_vec());
            assert!(
                found.as_ref() == Some(state) || found.as_ref() == next.states.get(p),
                "{context}: the state of {p} is lost"
            );
        }
    });
}

#[test]
fn committed_entries_survive_a_crash_at_every_disk_operation() {
    let operations = {
        let disk = SimDisk::new(1);
        let (mut durable, mut next) = (Model::default(), Model::default());
        block_on(run(&disk, 7, 40, &mut durable, &mut next)).unwrap();
        assert!(disk.files().len() > 2, "the workload spans segments");
        disk.operations()
    };
    for operation in 1..=operations {
        let disk = SimDisk::new(operation);
        disk.crash_at(operation);
        let (mut durable, mut next) = (Model::default(), Model::default());
        let finished = run_until_stalled(pin!(run(&disk, 7, 40, &mut durable, &mut next)));
        assert!(finished.is_none() && disk.has_crashed(), "operation {operation} is reached");
        let after = disk.after_crash();
        check(&after, &durable, &next, &format!("crash at operation {operation}"));
        // And once more from there: a crash while the recovered journal goes on.
        let before = durable.clone();
        after.crash_at(after.operations() + 1 + operation % 37);
        let mut resumed = reopened(&before, &after);
        let mut going = resumed.clone();
        let _ = run_until_stalled(pin!(run(&after, operation, 5, &mut resumed, &mut going)));
        let again = after.after_crash();
        check(&again, &resumed, &going, &format!("second crash after operation {operation}"));
    }
}

/// The model as the journal has it after a crash: what was about to be written may or may not be there.
fn reopened(durable: &Model, disk: &SimDisk) -> Model {
    let mut model = durable.clone();
    block_on(async {
        let copy = disk.snapshot();
        let (journal, recovered) = Journal::open(copy, config()).await.unwrap();
        for (id, found) in recovered.partitions {
            let log = model.entries.entry(id.get()).or_default();
            log.clear();
            let mut index = found.first;
            while found.last >= index && index > LogIndex::ZERO {
                let entry = journal.read(id, index, 1).await.unwrap().remove(0);
                log.insert(index.get(), entry.payload.to_vec());
                index = index.next();
            }
            let floor = if found.first > LogIndex::ZERO { found.first.get() - 1 } else { 0 };
            let known = model.truncated.entry(id.get()).or_default();
            *known = (*known).max(floor);
            if let Some(state) = found.state {
                model.states.insert(id.get(), state.to_vec());
            }
        }
    });
    model
}

#[test]
fn committed_entries_survive_random_crashes_of_the_workloads_of_any_seeds() {
    crate::seeds::for_each("a journal", 0..300, |seed| {
        let mut disk = SimDisk::new(seed);
        let mut rng = Rng::from_seed(seed);
        let (mut durable, mut next) = (Model::default(), Model::default());
        for round in 0..4 {
            disk.crash_at(1 + rng.below(120));
            let workload = rng.next_u64();
            let _ = run_until_stalled(pin!(run(&disk, workload, 60, &mut durable, &mut next)));
            disk = disk.after_crash();
            check(&disk, &durable, &next, &format!("seed {seed}, round {round}"));
            let resumed = reopened(&durable, &disk);
            durable = resumed.clone();
            next = resumed;
        }
    });
}

#[test]
fn a_flipped_bit_in_what_is_proven_durable_is_reported() {
    let disk = SimDisk::new(3);
    let (mut durable, mut next) = (Model::default(), Model::default());
    block_on(run(&disk, 11, 12, &mut durable, &mut next)).unwrap();
    block_on(async {
        let (journal, _) = Journal::open(disk.clone(), config()).await.unwrap();
        // A later batch proves those before it durable.
        journal.append_state(PartitionId::new(0), b"end");
        journal.commit().await.unwrap();
    });
    let (path, _) = disk.files().into_iter().find(|(path, _)| is_segment(path)).unwrap();
    let end = block_on(async {
        let file = crate::env::Disk::open(&disk, &path).await.unwrap();
        let image = crate::env::DiskFile::read(&file, 0, usize::try_from(SEGMENT).unwrap()).await.unwrap();
        let scanned = recovery::scan(&path, segment_id(&path), &Bytes::copy_from_slice(&image), None).unwrap();
        scanned.end
    });
    let mut rng = Rng::from_seed(5);
    for _ in 0..400 {
        let (byte, bit) = (rng.below(end), u8::try_from(rng.below(8)).unwrap());
        assert!(disk.flip_bit(&path, byte, bit));
        let found = block_on(Journal::open(disk.snapshot(), config()));
        assert!(
            found.is_err_and(|error| error.is_damage() || matches!(error, Error::UnsupportedFormat { .. })),
            "bit {bit} of byte {byte} went unnoticed"
        );
        assert!(disk.flip_bit(&path, byte, bit));
    }
}

fn is_segment(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seg-"))
}

fn segment_id(path: &Path) -> SegmentId {
    segment::parse_name(&path.file_name().unwrap().to_string_lossy()).unwrap().1
}

#[test]
fn a_full_disk_loses_nothing_and_the_batch_is_written_when_there_is_room() {
    let disk = SimDisk::new(9);
    disk.set_capacity(SEGMENT * 2);
    block_on(async {
        let (journal, _) = Journal::open(disk.clone(), config()).await.unwrap();
        let p = PartitionId::new(1);
        let mut index = 0;
        let refused = loop {
            index += 1;
            journal.append_entry(p, Term::new(1), LogIndex::new(index), &[7; 2000]);
            if let Err(error) = journal.commit().await {
                break error;
            }
        };
        assert!(matches!(refused, Error::NoSpace { .. }), "{refused}");
        assert_eq!(journal.last_index(p).get(), index - 1);
        assert!(matches!(journal.commit().await, Err(Error::NoSpace { .. })));
        disk.set_capacity(SEGMENT * 4);
        journal.commit().await.unwrap();
        assert_eq!(journal.last_index(p).get(), index);
        assert_eq!(journal.read(p, LogIndex::new(index), 1).await.unwrap()[0].payload.len(), 2000);
    });
}

#[test]
fn segments_are_recycled_once_nobody_needs_them() {
    let disk = SimDisk::new(2);
    block_on(async {
        let (journal, _) = Journal::open(disk.clone(), config()).await.unwrap();
        let p = PartitionId::new(4);
        for index in 1..=2000u64 {
            journal.append_entry(p, Term::new(1), LogIndex::new(index), &[1; 500]);
            journal.commit().await.unwrap();
            journal.truncate(p, LogIndex::new(index.saturating_sub(3)));
            journal.maintain().await.unwrap();
        }
        assert!(journal.segments_in_use() <= 2);
        assert!(disk.used() <= 5 * SEGMENT, "{} bytes for a journal of two segments", disk.used());
    });
}

/// Upkeep runs in the background and at the end of a flush: two at a time gave up segments in any order, and a crash
/// between them left a gap that looked like damage.
#[test]
fn a_crash_while_two_recycle_side_by_side_leaves_no_gap() {
    let p = PartitionId::new(4);
    for seed in 0..40 {
        for operation in 1.. {
            let disk = SimDisk::new(seed);
            let journal = block_on(async {
                let (journal, _) = Journal::open(disk.clone(), config()).await.unwrap();
                for index in 1..=400u64 {
                    journal.append_entry(p, Term::new(1), LogIndex::new(index), &[1; 500]);
                    journal.commit().await.unwrap();
                }
                journal
            });
            assert!(journal.segments_in_use() > 4, "there is something to recycle");
            journal.truncate(p, LogIndex::new(399));
            disk.crash_at(disk.operations() + operation);
            let upkeep = || async { journal.maintain().await.unwrap() };
            let ended = run_interleaved(&mut Rng::from_seed(seed), vec![Box::pin(upkeep()), Box::pin(upkeep())]);
            let opened = block_on(Journal::open(disk.after_crash(), config()));
            let (_, recovered) = opened.unwrap_or_else(|error| panic!("seed {seed}, operation {operation}: {error}"));
            assert_eq!(recovered.partitions[&p].last.get(), 400);
            if ended {
                break;
            }
        }
    }
}

#[test]
fn after_a_failed_durable_write_nothing_more_is_written() {
    let disk = SimDisk::new(4);
    block_on(async {
        let (journal, _) = Journal::open(disk.clone(), config()).await.unwrap();
        journal.append_state(PartitionId::new(0), b"a");
        journal.commit().await.unwrap();
        disk.set_faults(crate::env::sim_disk::Faults { write_error: 1, ..Default::default() });
        journal.append_state(PartitionId::new(0), b"b");
        assert!(journal.commit().await.is_err());
        disk.set_faults(crate::env::sim_disk::Faults::default());
        journal.append_state(PartitionId::new(0), b"c");
        assert!(matches!(journal.commit().await, Err(Error::JournalFailed)));
        let (_, recovered) = Journal::open(disk.clone(), config()).await.unwrap();
        let state = recovered.partitions[&PartitionId::new(0)].state.clone().unwrap();
        assert!(state == b"a"[..] || state == b"b"[..]);
    });
}

proptest::proptest! {
    #[test]
    fn garbage_is_judged_without_a_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..9000)) {
        let _ = check_image(&Bytes::from(bytes), SegmentId::new(1));
    }
}
