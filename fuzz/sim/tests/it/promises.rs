//! What was acknowledged survives whatever the disk does; a few seeds of what `cargo xtask sim` runs by thousands.

use columba_sim::{crash, rot, run};

fn check(seed: u64) -> run::Coverage {
    run::run(seed, false)
        .unwrap_or_else(|failure| panic!("{failure:#?}\nreplay: cargo xtask sim --seed {seed} --trace"))
}

#[test]
fn acknowledged_messages_survive_a_crash_at_every_disk_operation() {
    let operations = crash::operations().unwrap();
    assert!(operations > 200, "the script does {operations} operations");
    for operation in 1..=operations {
        let crashed = crash::crash_at(operation).unwrap_or_else(|broken| panic!("{broken:#?}"));
        assert!(crashed, "operation {operation} was not reached");
    }
}

#[test]
fn acknowledged_messages_survive_random_faults() {
    let (mut acknowledged, mut keys) = (0, 0);
    for seed in 1_000_000..1_000_040 {
        let coverage = check(seed);
        acknowledged += coverage.acknowledged;
        keys += coverage.keys;
    }
    assert!(keys > 100, "{keys} keys were given");
    assert!(acknowledged > 1000, "{acknowledged} messages were acknowledged");
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in [3, 17, 2024] {
        assert_eq!(check(seed).hash, check(seed).hash, "seed {seed}");
    }
}

#[test]
fn a_flipped_bit_is_reported_or_means_nothing() {
    let mut sum = rot::Rot::default();
    for seed in 0..3 {
        let rot = rot::run(seed, 100).unwrap_or_else(|broken| panic!("{broken:#?}"));
        sum.refused += rot.refused;
        sum.found += rot.found;
        sum.harmless += rot.harmless;
    }
    println!("{sum:?}");
    assert!(sum.refused > 0 && sum.found > 0 && sum.harmless > 0, "{sum:?}");
}
