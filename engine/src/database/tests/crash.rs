//! A scripted life of a database with tiny journal segments, and a crash at every disk operation of it: commits,
//! flushes, merges, recycled segments, in two partitions; and a second crash while it is opened again.

use std::pin::pin;

use super::model::{DAY_MS, Layout, Model, Step, check, open, queue, recovered};
use crate::{
    env::{
        Rng,
        clock::ManualClock,
        executor::{block_on, run_until_stalled},
        sim_disk::SimDisk,
    },
    error::Result,
    seeds,
};

const LAYOUT: Layout = Layout { partitions: 2, window_ms: DAY_MS, segment_bytes: 16 << 10 };
const COMMITS: usize = 30;

fn script(rng: &mut Rng) -> Vec<Vec<Step>> {
    let mut model = Model::new(LAYOUT);
    let mut now_ms = 100 * DAY_MS;
    let commits = (0..COMMITS).map(|_| {
        now_ms += DAY_MS / 8;
        let steps: Vec<_> = (0..=rng.below(8)).map(|_| model.random_step(rng, now_ms)).collect();
        model.commit(&steps, |_| true);
        steps
    });
    commits.collect()
}

/// `confirmed` counts the commits that have returned.
async fn live(disk: &SimDisk, commits: &[Vec<Step>], confirmed: &mut usize) -> Result<()> {
    let clock = ManualClock::default();
    let db = open(disk, &clock, LAYOUT).await?;
    for (n, steps) in commits.iter().enumerate() {
        steps.iter().for_each(|step| queue(&db, &clock, step));
        db.commit().await?;
        *confirmed = n + 1;
        if n % 4 == 3 {
            db.flush().await?;
        }
        if n % 12 == 11 {
            db.compact().await?;
        }
    }
    Ok(())
}

fn segments(disk: &SimDisk) -> Vec<u64> {
    let names = disk.files().into_iter().filter_map(|(path, _)| Some(path.file_name()?.to_str()?.to_owned()));
    names.filter_map(|name| u64::from_str_radix(name.strip_prefix("seg-")?, 16).ok()).collect()
}

fn crash_everywhere(seed: u64) {
    let commits = script(&mut Rng::from_seed(seed));
    let whole = SimDisk::new(0);
    block_on(live(&whole, &commits, &mut 0)).unwrap();
    let mut models = vec![Model::new(LAYOUT)];
    for steps in &commits {
        let mut next = models[models.len() - 1].clone();
        next.commit(steps, |_| true);
        models.push(next);
    }
    for operation in 1..=whole.operations() {
        let (disk, mut confirmed) = (SimDisk::new(operation), 0);
        disk.crash_at(operation);
        let ended = run_until_stalled(pin!(live(&disk, &commits, &mut confirmed)));
        assert!(ended.is_none(), "operation {operation} is reached");
        let mut after = disk.after_crash();
        let clock = ManualClock::default();
        // A second crash, while what the first one left is looked at.
        after.crash_at(1 + operation % 29);
        if run_until_stalled(pin!(open(&after, &clock, LAYOUT))).is_none() {
            after = after.after_crash();
        }
        after.crash_at(u64::MAX);
        let under_way = commits.get(confirmed).map_or(&[][..], |steps| &steps[..]);
        block_on(async {
            let opened = open(&after, &clock, LAYOUT).await;
            let db = opened.unwrap_or_else(|error| panic!("operation {operation}: {error}"));
            let model = recovered(&db, &models[confirmed], under_way);
            check(&db, &model, &mut Rng::from_seed(operation)).await;
            for partition in db.partitions() {
                partition.verify().await.unwrap();
            }
        });
    }
}

#[test]
fn what_was_confirmed_survives_a_crash_at_any_operation_of_a_life_that_recycles_segments() {
    let commits = script(&mut Rng::from_seed(3));
    let disk = SimDisk::new(0);
    block_on(live(&disk, &commits, &mut 0)).unwrap();
    let segments = segments(&disk);
    let newest = segments.iter().max().copied().unwrap_or_default();
    assert!(newest >= 6 && segments.len() <= 3, "segments {segments:?} are left: they are recycled");
    assert!(disk.operations() > 300, "{} operations", disk.operations());
    crash_everywhere(3);
}

#[test]
fn what_was_confirmed_survives_a_crash_at_any_operation_of_any_seed() {
    seeds::for_each("a database that crashes everywhere", 0..1, crash_everywhere);
}
