//! The tree against a map: random flushes, merges, restarts, crashes at every operation, full disks.

use std::{collections::BTreeMap, path::PathBuf, pin::pin};

use bytes::Bytes;

use super::*;
use crate::{
    env::{
        Disk as _, Rng,
        executor::{block_on, run_until_stalled},
        sim_disk::SimDisk,
    },
    error::{Error, Result},
    ids::{LogIndex, Term},
};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;
type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

fn dir() -> PathBuf {
    PathBuf::from("data/partition")
}

async fn open(disk: &SimDisk) -> Result<Tree<SimDisk>> {
    disk.create_dir_all(&dir()).await?;
    Ok(Tree::open(disk.clone(), dir()).await?.0)
}

fn random_rows(rng: &mut Rng) -> Rows {
    (0..rng.below(60))
        .map(|_| {
            let mut key = vec![0x10; 17];
            key.extend_from_slice(&rng.below(300).to_be_bytes());
            let len = if rng.one_in(20) { 40_000 } else { usize::try_from(rng.below(2000)).unwrap() };
            let mut value = vec![0; len];
            rng.fill(&mut value);
            (key, (!rng.one_in(5)).then_some(value))
        })
        .collect()
}

fn apply(model: &mut Model, rows: &Rows) {
    for (key, value) in rows {
        match value {
            Some(value) => model.insert(key.clone(), value.clone()),
            None => model.remove(key),
        };
    }
}

fn meta(applied: u64) -> TreeMeta {
    TreeMeta { applied: LogIndex::new(applied), applied_term: Term::new(1), extra: Bytes::from_static(b"x") }
}

async fn check(tree: &Tree<SimDisk>, model: &Model, rng: &mut Rng) {
    let everything = ScanRange { start: vec![], end: vec![0xff] };
    for direction in [Direction::Forward, Direction::Backward] {
        let rows = tree.scan(everything.clone(), direction, usize::MAX, usize::MAX).await.unwrap();
        let mut rows: Vec<_> = rows.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        if direction == Direction::Backward {
            rows.reverse();
        }
        assert!(rows.iter().map(|(key, value)| (key, value)).eq(model.iter()), "{direction:?}");
    }
    for _ in 0..20 {
        let mut key = vec![0x10; 17];
        key.extend_from_slice(&rng.below(300).to_be_bytes());
        assert_eq!(tree.get(&key).await.unwrap().map(|value| value.to_vec()), model.get(&key).cloned());
        let mut end = vec![0x10; 17];
        end.extend_from_slice(&rng.below(300).to_be_bytes());
        let range = ScanRange { start: key.clone().min(end.clone()), end: key.max(end) };
        let limit = usize::try_from(1 + rng.below(5)).unwrap();
        let forward = tree.scan(range.clone(), Direction::Forward, limit, usize::MAX).await.unwrap();
        let expected = model.range(range.start.clone()..range.end.clone()).take(limit);
        assert!(forward.iter().map(|(key, _)| &key[..]).eq(expected.map(|(key, _)| &key[..])));
        let backward = tree.scan(range.clone(), Direction::Backward, limit, usize::MAX).await.unwrap();
        let expected = model.range(range.start..range.end).rev().take(limit);
        assert!(backward.iter().map(|(key, _)| &key[..]).eq(expected.map(|(key, _)| &key[..])));
    }
}

#[test]
fn a_tree_answers_like_a_map_over_flushes_merges_and_restarts() {
    for seed in 0..30 {
        let disk = SimDisk::new(seed);
        let mut rng = Rng::from_seed(seed);
        let mut model = Model::new();
        block_on(async {
            let mut tree = open(&disk).await.unwrap();
            for n in 1..40 {
                let rows = random_rows(&mut rng);
                apply(&mut model, &rows);
                tree.flush(rows.into_iter(), meta(n)).await.unwrap();
                if tree.wants_merge() {
                    tree.merge(|_, _| true).await.unwrap();
                }
                if rng.one_in(6) {
                    tree = open(&disk).await.unwrap();
                }
                assert_eq!(tree.meta(), meta(n));
                check(&tree, &model, &mut rng).await;
            }
            tree.verify().await.unwrap();
            assert!(tree.stats().files < 12);
        });
    }
}

/// A workload; `done` counts the flushes that have returned.
async fn workload(disk: &SimDisk, done: &mut u64, flushes: &[Rows]) -> Result<()> {
    let tree = open(disk).await?;
    for (n, rows) in flushes.iter().enumerate() {
        tree.flush(rows.clone().into_iter(), meta(n as u64 + 1)).await?;
        *done = n as u64 + 1;
        if tree.wants_merge() {
            tree.merge(|_, _| true).await?;
        }
    }
    Ok(())
}

#[test]
fn a_crash_at_any_operation_leaves_the_last_flush_or_the_one_under_way() {
    let mut rng = Rng::from_seed(8);
    let flushes: Vec<_> = (0..14).map(|_| random_rows(&mut rng)).collect();
    let mut models = vec![Model::new()];
    for rows in &flushes {
        let mut next = models.last().unwrap().clone();
        apply(&mut next, rows);
        models.push(next);
    }
    let whole = SimDisk::new(0);
    block_on(workload(&whole, &mut 0, &flushes)).unwrap();
    for operation in 1..=whole.operations() {
        let disk = SimDisk::new(operation);
        disk.crash_at(operation);
        let mut done = 0;
        assert!(run_until_stalled(pin!(workload(&disk, &mut done, &flushes))).is_none());
        let after = disk.after_crash();
        block_on(async {
            let tree = open(&after).await.unwrap_or_else(|error| panic!("operation {operation}: {error}"));
            let applied = tree.meta().applied.get();
            assert!(applied == done || applied == done + 1, "operation {operation}: {applied} after {done}");
            check(&tree, &models[usize::try_from(applied).unwrap()], &mut rng).await;
            tree.verify().await.unwrap();
            let files = after.files().len();
            assert_eq!(files, tree.stats().files + 1, "orphans are removed");
        });
    }
}

#[test]
fn a_full_disk_changes_nothing_and_the_flush_may_be_tried_again() {
    let disk = SimDisk::new(3);
    let mut rng = Rng::from_seed(3);
    block_on(async {
        let tree = open(&disk).await.unwrap();
        let (first, second) = (random_rows(&mut rng), random_rows(&mut rng));
        let mut model = Model::new();
        apply(&mut model, &first);
        tree.flush(first.into_iter(), meta(1)).await.unwrap();
        let before = disk.files();
        // Every point at which space can end: the table's blocks, its footer, the manifest.
        let mut refusals = 0;
        for room in (0..).step_by(512) {
            disk.set_capacity(disk.used() + room);
            let flushed = tree.flush(second.clone().into_iter(), meta(2)).await;
            let Err(error) = flushed else { break };
            assert!(matches!(error, Error::NoSpace { .. }), "{error}");
            refusals += 1;
            assert_eq!(tree.meta(), meta(1));
            assert!(disk.files().iter().all(|file| before.contains(file) || file.0.ends_with("manifest.new")));
            check(&tree, &model, &mut rng).await;
        }
        assert!(refusals > 3);
        apply(&mut model, &second);
        check(&tree, &model, &mut rng).await;
    });
}

#[test]
fn tables_without_a_manifest_are_reported_and_never_taken_for_orphans() {
    let disk = SimDisk::new(4);
    block_on(async {
        let tree = open(&disk).await.unwrap();
        tree.flush(random_rows(&mut Rng::from_seed(4)).into_iter(), meta(1)).await.unwrap();
        drop(tree);
        disk.remove(&dir().join("manifest")).await.unwrap();
        let files = disk.files();
        assert!(matches!(open(&disk).await, Err(Error::DamagedFile { .. })));
        assert_eq!(disk.files(), files);
    });
}

#[test]
fn a_merge_drops_what_is_no_longer_kept() {
    let disk = SimDisk::new(5);
    block_on(async {
        let tree = open(&disk).await.unwrap();
        for n in 0..6u8 {
            let rows = (0..10u8).map(|row| (vec![0x20, n, row], Some(vec![row])));
            tree.flush(rows, meta(u64::from(n) + 1)).await.unwrap();
        }
        assert!(tree.wants_merge());
        tree.merge(|_, value| value[0] >= 8).await.unwrap();
        let everything = ScanRange { start: vec![], end: vec![0xff] };
        assert_eq!(tree.scan(everything, Direction::Forward, 1000, usize::MAX).await.unwrap().len(), 12);
        assert_eq!((tree.stats().files, tree.stats().rows), (1, 12));
    });
}
