//! `cargo xtask test`: every check, in stages, each with its duration.
//!
//! All stages run even if one fails, so that one run tells everything; only what needs a build that failed is left out.
//! The last line is `N passed, N failed`: the tests that the runners counted, and one for each stage that counts none.
//!
//! Stages share their builds: one profile, and the features of the whole workspace, because cargo builds a dependency
//! again for every other set of features. So packages are chosen with a filter of the runner where it has one.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    Workspace, deny, fuzz, interop,
    process::{Counts, Finished, Program, succeeds},
    sim, tidy,
};

/// Seeds of the simulator in a run of all tests. More are run by hand: `cargo xtask sim --seeds A..B`.
const SIM_SEEDS: &str = "0..300";
/// Seconds for each fuzz target in a run of all tests: the seeds, and a look around them.
const FUZZ_SECONDS: u32 = 5;

/// What to test.
#[derive(Args)]
pub(crate) struct Options {
    /// Runs only this stage; may be given more than once.
    #[arg(long, value_name = "STAGE", value_parser = stage_names())]
    only: Vec<String>,
    /// Lists the stages.
    #[arg(long)]
    list: bool,
    /// Installs cargo-deny if it is missing, as CI does; takes minutes.
    #[arg(long)]
    install: bool,
}

/// How a stage ended.
pub(crate) enum Verdict {
    /// It did what it should; tests that it counted.
    Passed(Counts),
    /// It could not be done here, and why.
    Skipped(String),
    /// It failed, in which way, and the tests that it counted.
    Failed(String, Counts),
}

impl From<Finished> for Verdict {
    fn from(finished: Finished) -> Self {
        if finished.status.success() && finished.counts.failed == 0 {
            Self::Passed(finished.counts)
        } else {
            Self::Failed(format!("{}", finished.status), finished.counts)
        }
    }
}

struct Stage {
    name: &'static str,
    about: &'static str,
    /// Whether it makes no sense if the stage `build` failed.
    needs_build: bool,
    run: fn(&Workspace, &Options) -> Result<Verdict>,
}

const STAGES: &[Stage] = &[
    Stage { name: "tidy", about: "rules of the house", needs_build: false, run: run_tidy },
    Stage { name: "fmt", about: "format", needs_build: false, run: run_fmt },
    Stage { name: "deny", about: "licences and sources of dependencies", needs_build: false, run: run_deny },
    Stage { name: "clippy", about: "lints, warnings denied", needs_build: false, run: run_clippy },
    Stage { name: "build", about: "everything, tests included", needs_build: false, run: run_build },
    Stage { name: "unit", about: "unit, property and end-to-end tests", needs_build: true, run: run_unit },
    Stage { name: "doc", about: "examples in the documentation", needs_build: true, run: run_doc },
    Stage { name: "thread-disk", about: "engine and server without io_uring", needs_build: true, run: run_thread_disk },
    Stage { name: "sim", about: "seeds of the simulator", needs_build: true, run: run_sim },
    Stage { name: "planted", about: "planted bugs are caught", needs_build: true, run: run_planted },
    Stage { name: "interop", about: "the client in Python", needs_build: true, run: run_interop },
    Stage { name: "fuzz", about: "each fuzz target, briefly", needs_build: true, run: run_fuzz },
];

struct Row {
    name: &'static str,
    verdict: Verdict,
    took: Duration,
}

/// Runs the stages and prints the table. `false` where any failed.
///
/// # Errors
/// Never for a failing stage; that is the answer `false`.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    if options.list {
        for stage in STAGES {
            println!("{:12} {}", stage.name, stage.about);
        }
        return Ok(true);
    }
    let mut rows: Vec<Row> = Vec::new();
    for stage in chosen(options) {
        println!("\n== {}: {}", stage.name, stage.about);
        let started = Instant::now();
        let built = !rows.iter().any(|row| row.name == "build" && matches!(row.verdict, Verdict::Failed(..)));
        let verdict = if stage.needs_build && !built {
            Verdict::Skipped("the build failed".to_owned())
        } else {
            (stage.run)(workspace, options)
                .unwrap_or_else(|error| Verdict::Failed(format!("{error:#}"), Counts::default()))
        };
        match &verdict {
            Verdict::Passed(_) => {}
            Verdict::Skipped(reason) => println!("skipped: {reason}"),
            Verdict::Failed(reason, _) => println!("failed: {reason}"),
        }
        rows.push(Row { name: stage.name, verdict, took: started.elapsed() });
    }
    print_table(&rows);
    let (counts, skipped) = sum(&rows);
    let skipped = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    println!("\n{} passed, {} failed{skipped}", counts.passed, counts.failed);
    Ok(counts.failed == 0)
}

fn stage_names() -> Vec<&'static str> {
    STAGES.iter().map(|stage| stage.name).collect()
}

fn chosen(options: &Options) -> impl Iterator<Item = &'static Stage> {
    let wanted = |stage: &&Stage| options.only.is_empty() || options.only.iter().any(|name| name == stage.name);
    STAGES.iter().filter(wanted)
}

fn print_table(rows: &[Row]) {
    println!("\n{:12} {:>9} {:>7} {:>7}  result", "stage", "seconds", "passed", "failed");
    for row in rows {
        let (counts, result) = match &row.verdict {
            Verdict::Passed(counts) => (*counts, "ok".to_owned()),
            Verdict::Skipped(reason) => (Counts::default(), format!("skipped: {reason}")),
            Verdict::Failed(reason, counts) => (*counts, format!("FAILED: {reason}")),
        };
        let seconds = row.took.as_secs_f64();
        println!("{:12} {seconds:>9.1} {:>7} {:>7}  {result}", row.name, counts.passed, counts.failed);
    }
    let total: Duration = rows.iter().map(|row| row.took).sum();
    println!("{:12} {:>9.1}", "all", total.as_secs_f64());
}

/// Tests over all stages, and stages skipped. A stage without tests of its own is one; a failed stage is never without
/// a failure.
fn sum(rows: &[Row]) -> (Counts, usize) {
    let mut all = Counts::default();
    let mut skipped = 0;
    for row in rows {
        match &row.verdict {
            Verdict::Passed(counts) if *counts == Counts::default() => all.passed += 1,
            Verdict::Passed(counts) => all.add(*counts),
            Verdict::Skipped(_) => skipped += 1,
            Verdict::Failed(_, counts) => all.add(Counts { failed: counts.failed.max(1), ..*counts }),
        }
    }
    (all, skipped)
}

fn run_tidy(workspace: &Workspace, _: &Options) -> Result<Verdict> {
    tidy::run(workspace)?;
    Ok(Verdict::Passed(Counts::default()))
}

fn run_fmt(workspace: &Workspace, _: &Options) -> Result<Verdict> {
    let manifest = fuzz::manifest(workspace);
    Program::cargo(workspace, &["fmt", "--all", "--check"]).run()?;
    Program::cargo(workspace, &["fmt", "--check", "--manifest-path", &manifest]).run()?;
    Ok(Verdict::Passed(Counts::default()))
}

fn run_deny(workspace: &Workspace, options: &Options) -> Result<Verdict> {
    deny::run(workspace, options.install)
}

fn run_clippy(workspace: &Workspace, _: &Options) -> Result<Verdict> {
    Program::cargo(workspace, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).run()?;
    Ok(Verdict::Passed(Counts::default()))
}

fn run_build(workspace: &Workspace, _: &Options) -> Result<Verdict> {
    Program::cargo(workspace, &["build", "--workspace", "--all-targets"]).run()?;
    Ok(Verdict::Passed(Counts::default()))
}

fn run_unit(workspace: &Workspace, _: &Options) -> Result<Verdict> {
    let runner: &[&str] = if has_nextest() { &["nextest", "run", "--workspace"] } else { &CARGO_TEST_WORKSPACE };
    Ok(at_least_one(Program::cargo(workspace, runner).run_counted()?))
}

fn run_doc(workspace: &Workspace, _: &Options) -> Result<Verdict> {
    Ok(Program::cargo(workspace, &["test", "--workspace", "--doc"]).run_counted()?.into())
}

fn run_thread_disk(workspace: &Workspace, _: &Options) -> Result<Verdict> {
    let runner: &[&str] = if has_nextest() {
        &["nextest", "run", "--workspace", "-E", "package(columba-engine) + package(columba-server)"]
    } else {
        &["test", "--no-fail-fast", "-p", "columba-engine", "-p", "columba-server", "--lib", "--bins", "--tests"]
    };
    let program = Program::cargo(workspace, runner).variable("COLUMBA_DISK", "thread");
    Ok(at_least_one(program.run_counted()?))
}

fn run_sim(workspace: &Workspace, _: &Options) -> Result<Verdict> {
    sim::run_seeds(workspace, SIM_SEEDS)
}

fn run_planted(workspace: &Workspace, _: &Options) -> Result<Verdict> {
    let packages = ["-p", "columba-sim", "-p", "columba-engine", "--features", "planted-bugs"];
    // Of the engine only what plants something: the rest is the stage `unit`.
    let runner: &[&str] = if has_nextest() {
        &["nextest", "run", "-E", "package(columba-sim) + test(planted)"]
    } else {
        &["test", "--no-fail-fast"]
    };
    Ok(at_least_one(Program::cargo(workspace, runner).args(&packages).run_counted()?))
}

fn run_interop(workspace: &Workspace, _: &Options) -> Result<Verdict> {
    interop::run(workspace)
}

fn run_fuzz(workspace: &Workspace, _: &Options) -> Result<Verdict> {
    let targets = fuzz::run_all(workspace, FUZZ_SECONDS)?;
    if targets == 0 {
        bail!("there is no fuzz target");
    }
    Ok(Verdict::Passed(Counts { passed: targets, failed: 0 }))
}

/// Doc tests are a stage of their own.
const CARGO_TEST_WORKSPACE: [&str; 6] = ["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"];

/// nextest runs tests of all crates side by side; without it, cargo's own runner does the same one after the other.
fn has_nextest() -> bool {
    succeeds("cargo", &["nextest", "--version"])
}

/// A runner that found no test is a failure: a filter or feature has gone wrong.
fn at_least_one(finished: Finished) -> Verdict {
    if finished.status.success() && finished.counts == Counts::default() {
        return Verdict::Failed("no test ran".to_owned(), finished.counts);
    }
    finished.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(verdict: Verdict) -> Row {
        Row { name: "x", verdict, took: Duration::ZERO }
    }

    #[test]
    fn a_failed_stage_is_never_hidden_by_a_runner_that_counted_no_failure() {
        let rows = [
            row(Verdict::Passed(Counts { passed: 5, failed: 0 })),
            row(Verdict::Failed("crashed".to_owned(), Counts { passed: 2, failed: 0 })),
            row(Verdict::Passed(Counts::default())),
            row(Verdict::Skipped("not here".to_owned())),
        ];
        assert_eq!(sum(&rows), (Counts { passed: 8, failed: 1 }, 1));
    }
}
