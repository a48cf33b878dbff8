//! `cargo xtask engine-seeds A..B`: the model tests of the engine over a range of seeds, optimised, on every core.

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    Workspace,
    process::{Program, succeeds},
};

/// Which seeds to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Seeds from A up to, not including, B.
    #[arg(value_name = "A..B", default_value = "0..5000")]
    seeds: String,
    /// Only the tests whose names contain this: `tree`, `database`, `journal`.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// Crash points of a whole life take as long as hundreds of seeds: of those fewer are enough.
const CRASH_LIVES: u64 = 50;

/// Runs the engine's seeds, then a share of them with a crash at every operation, then ten million inbox entries.
///
/// # Errors
/// Where the tests do not build, the range is none, or a seed fails.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let Some((from, to)) = range(&options.seeds) else {
        bail!("{} is not a range A..B", options.seeds);
    };
    let only = options.only.as_ref().map_or_else(String::new, |name| format!(" and test({name})"));
    let lives = format!("{from}..{}", to.min(from + CRASH_LIVES));
    // Each test uses every core: one at a time.
    chosen(workspace, &format!("test(seeds) and not test(crash::){only}"), &options.seeds)?.run()?;
    chosen(workspace, &format!("test(any_seed) and test(crash::){only}"), &lives)?.run()?;
    if options.only.is_none() {
        let inbox = chosen(workspace, "test(a_hot_inbox)", &options.seeds)?;
        inbox.variable("ENGINE_INBOX_APPENDS", "10000000").run()?;
    }
    Ok(())
}

fn chosen(workspace: &Workspace, filter: &str, seeds: &str) -> Result<Program> {
    if !succeeds("cargo", &["nextest", "--version"]) {
        bail!("the tests are chosen with cargo-nextest, which is missing: cargo install --locked cargo-nextest");
    }
    let runner = ["nextest", "run", "--release", "-p", "columba-engine", "--no-capture", "-E", filter];
    Ok(Program::cargo(workspace, &runner).variable("ENGINE_SEEDS", seeds))
}

fn range(seeds: &str) -> Option<(u64, u64)> {
    let (from, to) = seeds.split_once("..")?;
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    (from < to).then_some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_a_beginning_and_an_end_behind_it() {
        assert_eq!(range("5..9"), Some((5, 9)));
        for none in ["5", "9..5", "5..", "..9", "5..=9"] {
            assert_eq!(range(none), None);
        }
    }
}
