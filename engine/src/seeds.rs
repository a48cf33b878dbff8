//! Which seeds the model tests run, and how one that fails says its name.
//!
//! | `ENGINE_SEEDS` | what is run |
//! |---|---|
//! | not set | a fixed subset that each test names: what CI runs |
//! | `A..B` | the seeds from A up to, not including, B: `cargo xtask engine-seeds A..B` |
//!
//! Invariants
//! - A seed is run on one thread, and shares nothing with others: it fails alone as it fails among thousands.

use core::{
    any::Any,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs each seed, on as many threads as there are cores. `name` is what is run, for the message.
///
/// # Panics
/// Where a seed fails, with its number and its reason.
pub(crate) fn for_each(name: &str, subset: Range<u64>, run: impl Fn(u64) + Sync) {
    run_range(name, std::env::var("ENGINE_SEEDS").map_or(subset, |seeds| parse(&seeds)), run);
}

fn run_range(name: &str, seeds: Range<u64>, run: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            if let Err(reason) = outcome(|| run(seed)) {
                next.store(seeds.end, Ordering::Relaxed);
                panic!("{name}, seed {seed}: {reason}\nagain: ENGINE_SEEDS={seed}..{} on this test", seed + 1);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
}

/// Runs it; why it panicked, if it did.
pub(crate) fn outcome(run: impl FnOnce()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| reason(&*panic))
}

fn reason(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a reason").to_owned()
}

fn parse(seeds: &str) -> Range<u64> {
    let range = seeds.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.unwrap_or_else(|| panic!("ENGINE_SEEDS={seeds}: it is to be a range A..B"))
}

#[test]
#[should_panic(expected = "a scoped thread panicked")]
fn a_seed_that_fails_fails_the_test() {
    run_range("a test of tests", 0..3, |seed| assert_ne!(seed, 1));
}
