//! Repairs after random lives: the manifest lost, leftovers of crashes, damage; and that garbage does no harm.

use std::pin::pin;

use super::*;
use crate::{
    env::{
        DiskFile as _, Rng,
        clock::ManualClock,
        executor::{block_on, run_until_stalled},
        sim_disk::SimDisk,
    },
    test_log::{Log, dir, live, open},
};

const WRITE: RepairOptions = RepairOptions { write: true, drop_damaged: false, journal: None };

fn run(disk: &SimDisk, options: RepairOptions) -> RepairReport {
    block_on(repair(disk, &dir(), ManualClock::default(), options)).unwrap()
}

fn lose_manifest(disk: &SimDisk, rng: &mut Rng) {
    let path = dir().join("manifest");
    if rng.one_in(2) {
        block_on(disk.remove(&path)).unwrap();
    } else {
        let len = disk.files().into_iter().find(|(name, _)| *name == path).unwrap().1;
        disk.flip_bit(&path, rng.below(len), 3);
    }
}

/// Opens what was repaired, applies the log again above it, and compares.
fn check(disk: &SimDisk, log: &mut Log, flushed: LogIndex, what: &str) -> LogIndex {
    block_on(async {
        let partition = open(disk, &dir()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let applied = partition.applied();
        assert!(applied <= flushed, "{what}: {applied} after {flushed}");
        let up_to = LogIndex::new(flushed.get() + 5);
        log.apply(&partition, up_to).await.unwrap();
        assert_eq!(partition.state_hash().await.unwrap(), log.hash_at(up_to), "{what}");
        live(log, &partition, 6, 9).await.unwrap();
        partition.verify().await.unwrap();
        assert_eq!(partition.state_hash().await.unwrap(), log.hash_at(partition.applied()), "{what}");
        applied
    })
}

#[test]
fn a_lost_manifest_is_made_again_and_nothing_is_missing() {
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let mut rng = Rng::from_seed(seed);
        let mut log = Log::new(seed, false);
        let flushed = block_on(async {
            let partition = open(&disk, &dir()).await.unwrap();
            live(&mut log, &partition, 1 + seed, seed).await.unwrap();
            partition.applied()
        });
        let expected = block_on(manifest::read(&disk, &dir())).unwrap().unwrap();
        lose_manifest(&disk, &mut rng);
        let before = disk.files();
        let dry = run(&disk, RepairOptions::default());
        assert_eq!(disk.files(), before, "a dry run changes nothing");
        assert!(dry.is_needed && !dry.written && dry.settings_lost);
        let report = run(&disk, WRITE);
        assert!(report.written && report.lost.is_empty() && report.dropped.is_empty(), "{report}");
        let made = block_on(manifest::read(&disk, &dir())).unwrap().unwrap();
        assert_eq!(made.files, expected.files, "seed {seed}: {report}");
        assert!(!run(&disk, WRITE).is_needed, "a second repair has nothing to do");
        check(&disk, &mut log, flushed, &format!("seed {seed}"));
    }
}

async fn workload(disk: &SimDisk, log: &mut Log, done: &mut LogIndex, flushes: u64) -> Result<()> {
    let partition = open(disk, &dir()).await?;
    let mut rng = Rng::from_seed(4);
    for _ in 0..flushes {
        let up_to = LogIndex::new(partition.applied().get() + 1 + rng.below(12));
        log.apply(&partition, up_to).await?;
        partition.flush().await?;
        *done = partition.applied();
        while partition.wants_compaction() {
            partition.compact().await?;
        }
    }
    Ok(())
}

#[test]
fn leftovers_of_a_crash_at_any_operation_are_told_apart_when_the_manifest_is_lost_too() {
    let mut log = Log::new(3, false);
    let whole = SimDisk::new(3);
    block_on(workload(&whole, &mut log, &mut LogIndex::new(0), 16)).unwrap();
    let (mut dropped, mut behind) = (0, 0);
    for operation in 1..whole.operations() {
        let disk = SimDisk::new(operation);
        disk.crash_at(operation);
        let mut done = LogIndex::ZERO;
        assert!(run_until_stalled(pin!(workload(&disk, &mut log, &mut done, 16))).is_none());
        let after = disk.after_crash();
        if !after.files().iter().any(|(path, _)| path.ends_with("manifest")) {
            continue;
        }
        let flushed = block_on(manifest::read(&after, &dir())).unwrap().unwrap().applied;
        block_on(after.remove(&dir().join("manifest"))).unwrap();
        if after.files().iter().all(|(path, _)| !path.to_string_lossy().contains("table-")) {
            continue;
        }
        let what = format!("operation {operation}");
        let report = run(&after, WRITE);
        dropped += report.dropped.len();
        // A flush that was complete but for its manifest counts: its entries are applied.
        let most = flushed.max(report.applied);
        assert!(report.applied >= flushed, "{what}: {report}");
        behind += u64::from(report.applied > flushed);
        // A file that was being written is not whole, and cannot be told from a damaged one.
        let torn = report.damaged.iter().filter(|damage| !damage.path.ends_with("manifest")).count();
        assert!(report.lost.is_empty() || torn > 0, "{what}: {report}");
        check(&after, &mut log, most, &what);
    }
    assert!(dropped > 50 && behind > 0, "{dropped} dropped, {behind} behind");
}

#[test]
fn a_crash_in_the_middle_of_a_repair_is_repaired() {
    let source = SimDisk::new(6);
    let mut log = Log::new(6, false);
    let flushed = block_on(async {
        let partition = open(&source, &dir()).await.unwrap();
        live(&mut log, &partition, 12, 6).await.unwrap();
        let view = partition.tree().view();
        live(&mut log, &partition, 12, 7).await.unwrap();
        drop(view);
        partition.applied()
    });
    block_on(source.remove(&dir().join("manifest"))).unwrap();
    let whole = source.snapshot();
    let report = run(&whole, WRITE);
    assert!(!report.renamed.is_empty(), "files that a reader kept are put aside: {report}");
    for operation in 1..=whole.operations() {
        let disk = source.snapshot();
        disk.crash_at(operation);
        let _ = run_until_stalled(pin!(repair(&disk, &dir(), ManualClock::default(), WRITE)));
        let after = disk.after_crash();
        run(&after, WRITE);
        check(&after, &mut log, flushed, &format!("operation {operation}"));
    }
}

#[test]
fn a_damaged_table_of_a_good_manifest_is_given_up_only_where_that_is_asked_for() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let mut log = Log::new(seed, false);
        let mut rng = Rng::from_seed(seed);
        block_on(async {
            let partition = open(&disk, &dir()).await.unwrap();
            live(&mut log, &partition, 9, seed).await.unwrap();
        });
        let files = block_on(manifest::read(&disk, &dir())).unwrap().unwrap().files;
        let file = &files[usize::try_from(rng.below(files.len() as u64)).unwrap()];
        let path = dir().join(table_name(file.id));
        assert!(disk.flip_bit(&path, rng.below(file.bytes), 1));
        let before = disk.files();
        let report = run(&disk, WRITE);
        assert!(!report.is_needed && report.needs_drop_damaged && !report.lost.is_empty(), "{report}");
        assert_eq!(disk.files(), before);
        let report = run(&disk, RepairOptions { drop_damaged: true, ..WRITE });
        assert!(report.written && !report.settings_lost && report.kept.len() == files.len() - 1, "{report}");
        let name = table_name(file.id);
        assert_eq!(report.renamed, [(name.clone(), format!("{name}.lost"))]);
        block_on(async {
            let partition = open(&disk, &dir()).await.unwrap();
            partition.verify().await.unwrap();
            assert!(disk.files().iter().any(|(path, _)| path.ends_with(format!("{name}.lost"))), "nothing is deleted");
        });
    }
}

#[test]
fn what_the_journal_still_has_is_made_again_and_what_it_has_not_is_told() {
    let (mut saved, mut lost) = (0, 0);
    for seed in 0..30 {
        let disk = SimDisk::new(seed);
        let mut log = Log::new(seed, false);
        let mut rng = Rng::from_seed(seed);
        let flushed = block_on(async {
            let partition = open(&disk, &dir()).await.unwrap();
            live(&mut log, &partition, 5, seed).await.unwrap();
            partition.applied()
        });
        let files = block_on(manifest::read(&disk, &dir())).unwrap().unwrap().files;
        let file = &files[usize::try_from(rng.below(files.len() as u64)).unwrap()];
        assert!(disk.flip_bit(&dir().join(table_name(file.id)), 40, 1));
        block_on(disk.remove(&dir().join("manifest"))).unwrap();
        let other = disk.snapshot();
        let journal = Some((LogIndex::new(1), flushed));
        let report = run(&disk, RepairOptions { journal, ..WRITE });
        assert!(report.lost.is_empty(), "seed {seed}: {report}");
        assert!(report.applied < file.properties.applied_low);
        check(&disk, &mut log, flushed, &format!("seed {seed}"));
        saved += 1;
        let report = run(&other, RepairOptions { journal: Some((flushed.next(), flushed.next())), ..WRITE });
        assert!(!report.lost.is_empty(), "seed {seed}: {report}");
        lost += 1;
        block_on(async { open(&other, &dir()).await.unwrap().verify().await.unwrap() });
    }
    assert!(saved > 0 && lost > 0);
}

#[test]
fn garbage_is_no_partition_and_no_panic() {
    let mut rng = Rng::from_seed(1);
    let source = SimDisk::new(8);
    let mut log = Log::new(8, true);
    block_on(async {
        let partition = open(&source, &dir()).await.unwrap();
        live(&mut log, &partition, 9, 8).await.unwrap();
    });
    for _ in 0..150 {
        let disk = source.snapshot();
        block_on(async {
            for (path, len) in disk.files() {
                match rng.below(5) {
                    0 => {
                        disk.flip_bit(&path, rng.below(len), 2);
                    }
                    1 => disk.remove(&path).await.unwrap(),
                    2 => {
                        let mut bytes = vec![0; usize::try_from(rng.below(9000)).unwrap()];
                        rng.fill(&mut bytes);
                        disk.create(&path).await.unwrap().append(bytes).await.unwrap();
                    }
                    _ => {}
                }
            }
            let journal = rng.one_in(2).then(|| (LogIndex::new(rng.below(50)), LogIndex::new(60)));
            let options = RepairOptions { write: true, drop_damaged: true, journal };
            let report = repair(&disk, &dir(), ManualClock::default(), options).await.unwrap();
            assert!(!report.to_string().is_empty());
            let partition = open(&disk, &dir()).await.unwrap();
            partition.verify().await.unwrap();
        });
    }
}
