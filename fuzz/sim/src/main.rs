//! `columba-sim`: runs seeds of the simulator.
#![expect(clippy::print_stdout, reason = "a program that reports on standard output")]
#![expect(clippy::disallowed_methods, reason = "it tells how long the run took")]

use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Parser;
use columba_sim::{crash, run};

/// Runs a Columba node on virtual time under faults, and checks what it promised.
#[derive(Parser)]
struct Arguments {
    /// Seeds to run: A..B, without B.
    #[arg(long, value_parser = parse_range)]
    seeds: Option<core::ops::Range<u64>>,
    /// One seed to run.
    #[arg(long)]
    seed: Option<u64>,
    /// Print what happens, line by line.
    #[arg(long)]
    trace: bool,
    /// Crash at every operation of the scripted workload.
    #[arg(long)]
    crash_points: bool,
}

fn parse_range(text: &str) -> Result<core::ops::Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("seeds are given as A..B")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    Ok(number(from)?..number(to)?)
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.crash_points {
        return crash_points();
    }
    let seeds = match (arguments.seed, arguments.seeds) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(seeds)) => seeds,
        (None, None) => 0..100,
    };
    let began = Instant::now();
    let mut sum = run::Coverage::default();
    let mut failed = 0u64;
    let count = seeds.end.saturating_sub(seeds.start);
    for seed in seeds {
        match run::run(seed, arguments.trace) {
            Ok(coverage) => {
                if seed % 100 == 0 {
                    let again = run::run(seed, false).ok().map(|coverage| coverage.hash);
                    if again != Some(coverage.hash) {
                        failed += 1;
                        println!("seed {seed}: FAILED\n  two runs of the seed differ");
                    }
                }
                add(&mut sum, &coverage);
            }
            Err(failure) => {
                failed += 1;
                println!("seed {}: FAILED", failure.seed);
                for line in failure.broken.iter().take(12) {
                    println!("  {line}");
                }
                println!("  replay: cargo xtask sim --seed {} --trace", failure.seed);
            }
        }
    }
    let hours = sum.virtual_ms as f64 / 3_600_000.0;
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    println!("{sum:#?}");
    println!("{hours:.2} simulated hours in {minutes:.2} minutes");
    for (name, count) in unseen(&sum) {
        if count == 0 {
            println!("never seen: {name}");
        }
    }
    println!("{} passed, {failed} failed", count - failed);
    if failed > 0 {
        bail!("{failed} seeds failed");
    }
    Ok(())
}

fn crash_points() -> anyhow::Result<()> {
    let operations = crash::operations().map_err(|broken| anyhow::anyhow!("{broken:?}"))?;
    for operation in 1..=operations {
        crash::crash_at(operation).map_err(|broken| anyhow::anyhow!("{broken:?}")).context("a crash point")?;
    }
    println!("a crash at each of {operations} disk operations: nothing was lost");
    Ok(())
}

fn unseen(sum: &run::Coverage) -> [(&'static str, u64); 15] {
    [
        ("crashes", sum.crashes),
        ("failed writes and syncs", sum.failures),
        ("writes that had to wait", sum.held),
        ("flushes", sum.flushes),
        ("refusals for lack of space", sum.no_space),
        ("inbox entries", sum.inbox_entries),
        ("chats that all devices of a member are known to have", sum.settled),
        ("jumps of clocks", sum.jumps),
        ("accounts that were ended", sum.deleted),
        ("changes of groups received", sum.group_changes),
        ("sends that a block refused", sum.blocked),
        ("recognised retries", sum.duplicates),
        ("sectors lost", sum.disk.sectors_lost),
        ("sectors kept", sum.disk.sectors_kept),
        ("names lost", sum.disk.names_lost),
    ]
}

fn add(sum: &mut run::Coverage, one: &run::Coverage) {
    sum.acknowledged += one.acknowledged;
    sum.received += one.received;
    sum.crashes += one.crashes;
    sum.failures += one.failures;
    sum.held += one.held;
    sum.flushes += one.flushes;
    sum.no_space += one.no_space;
    sum.inbox_entries += one.inbox_entries;
    sum.settled += one.settled;
    sum.jumps += one.jumps;
    sum.deleted += one.deleted;
    sum.group_changes += one.group_changes;
    sum.blocked += one.blocked;
    sum.duplicates += one.duplicates;
    sum.virtual_ms += one.virtual_ms;
    sum.disk.write_errors += one.disk.write_errors;
    sum.disk.sync_errors += one.disk.sync_errors;
    sum.disk.no_space += one.disk.no_space;
    sum.disk.sectors_kept += one.disk.sectors_kept;
    sum.disk.sectors_lost += one.disk.sectors_lost;
    sum.disk.names_lost += one.disk.names_lost;
    sum.hash ^= one.hash;
}
