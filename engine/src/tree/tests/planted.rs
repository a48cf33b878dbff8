//! The bugs of merges, filters and manifests that are planted here are caught by the seeds; without them the same seeds
//! pass.

use super::{crash, seeds::run};
use crate::{
    planted::{Planted, plant},
    seeds::outcome,
};

/// Seeds that must be enough.
const SEEDS: u64 = 200;

/// The first seed by which a bug is caught.
fn caught(bug: Planted) -> Option<u64> {
    let found = (0..SEEDS).find_map(|seed| {
        plant(Some(bug));
        let ended = outcome(|| run(seed));
        plant(None);
        ended.err().map(|reason| (seed, reason))
    });
    let (seed, reason) = found?;
    println!("{bug:?} is caught by seed {seed}: {reason}");
    Some(seed)
}

#[test]
fn planted_bugs_of_the_tree_are_caught_within_200_seeds_and_the_seeds_pass_without_them() {
    for bug in [Planted::RowLostInMerge, Planted::StaleFilter, Planted::ManifestBeforeData] {
        let seed = caught(bug).unwrap_or_else(|| panic!("{bug:?} is not caught by {SEEDS} seeds"));
        (0..=seed).for_each(run);
    }
}

#[test]
fn planted_manifest_before_data_is_caught_by_crashes_at_every_operation() {
    plant(Some(Planted::ManifestBeforeData));
    let ended = outcome(|| crash::crash_everywhere(8));
    plant(None);
    println!("caught: {}", ended.expect_err("a manifest that names what is not durable is found"));
}
