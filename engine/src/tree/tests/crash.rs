//! A scripted life of a tree, with a crash at every disk operation of it: flushes, merges of every class, dropped
//! windows, new manifests, removed files; and a second crash while the tree is opened again.

use std::pin::pin;

use super::model::{Below, Harm, Model, Rows, check, flush, is_table, open, settle};
use crate::{
    env::{
        Rng,
        executor::{block_on, run_until_stalled},
        sim_disk::SimDisk,
    },
    error::Result,
    seeds,
    tree::plan::Plan,
};

/// Flushes of a life.
const FLUSHES: u64 = 14;

/// What is flushed, and what may go from then on.
struct Step {
    rows: Rows,
    below: Below,
}

/// What a life has done so far.
#[derive(Default)]
struct Done {
    /// Flushes that have returned.
    flushes: usize,
    /// Merges that were begun, by class, and drops.
    merges: [u64; 3],
    drops: u64,
}

async fn live(disk: &SimDisk, steps: &[Step], done: &mut Done) -> Result<()> {
    let tree = open(disk).await?;
    for (n, Step { rows, below }) in steps.iter().enumerate() {
        flush(&tree, rows, n as u64 + 1).await?;
        done.flushes = n + 1;
        let Done { merges, drops, .. } = &mut *done;
        let begun = |plan: &Plan| match plan {
            Plan::Drop(_) => *drops += 1,
            Plan::Merge(merge) => merges[merge.class as usize] += 1,
        };
        settle(&tree, below, begun).await?;
    }
    Ok(())
}

fn script(rng: &mut Rng) -> (Vec<Step>, Vec<Model>) {
    let mut models = vec![Model::default()];
    let mut steps = Vec::new();
    for n in 1..=FLUSHES {
        let now_ms = 1000 + n * 40;
        let (inbox_head, dead_before_ms) = (u8::try_from(n / 4).unwrap(), now_ms.saturating_sub(300));
        let mut next = models[models.len() - 1].clone();
        let rows = next.next_rows(rng, now_ms, inbox_head);
        next.apply(&rows);
        models.push(next);
        steps.push(Step { rows, below: Below { inbox_head, dead_before_ms } });
    }
    (steps, models)
}

/// A crash at each operation of a life, and what the files say then.
pub(super) fn crash_everywhere(seed: u64) {
    let mut rng = Rng::from_seed(seed);
    let (steps, models) = script(&mut rng);
    let (whole, mut all) = (SimDisk::new(0), Done::default());
    block_on(live(&whole, &steps, &mut all)).unwrap();
    let operations = whole.operations();
    for operation in 1..=operations {
        let (disk, mut done) = (SimDisk::new(operation), Done::default());
        disk.crash_at(operation);
        assert!(run_until_stalled(pin!(live(&disk, &steps, &mut done))).is_none(), "operation {operation} is reached");
        let mut after = disk.after_crash();
        // A second crash, while what the first one left is looked at.
        after.crash_at(1 + operation % 9);
        if run_until_stalled(pin!(open(&after))).is_none() {
            after = after.after_crash();
        }
        after.crash_at(u64::MAX);
        block_on(async {
            let tree = open(&after).await.unwrap_or_else(|error| panic!("operation {operation}: {error}"));
            let applied = usize::try_from(tree.meta().applied.get()).unwrap();
            let Done { flushes, .. } = done;
            assert!(applied == flushes || applied == flushes + 1, "operation {operation}: {applied} after {flushes}");
            let below = steps[..flushes].last().map_or(Below::default(), |step| step.below);
            check(&tree.view(), &models[applied], below, &mut rng, Harm::None).await;
            tree.verify().await.unwrap();
            let tables = after.files().iter().filter(|(path, _)| is_table(path)).count();
            assert_eq!(tables, tree.stats().files, "operation {operation}: orphans are removed");
        });
    }
}

#[test]
fn a_crash_at_any_operation_leaves_the_last_flush_or_the_one_under_way() {
    let (steps, _) = script(&mut Rng::from_seed(8));
    let mut done = Done::default();
    let disk = SimDisk::new(0);
    block_on(live(&disk, &steps, &mut done)).unwrap();
    let Done { merges, drops, .. } = done;
    assert!(drops > 0 && merges.iter().all(|merges| *merges > 0), "{drops} drops, merges {merges:?}");
    assert!(disk.operations() > 400, "{} operations", disk.operations());
    crash_everywhere(8);
}

#[test]
fn a_crash_at_any_operation_of_any_seed_leaves_a_whole_flush() {
    seeds::for_each("a crash everywhere", 0..2, crash_everywhere);
}
