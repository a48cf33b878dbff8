//! `cargo xtask sim`: seeds of the simulator, or one seed again with its trace.

use anyhow::{Result, bail};
use clap::Args;

use crate::{Workspace, process::Program, test::Verdict};

/// Which seeds to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Seeds from A up to, not including, B.
    #[arg(long, value_name = "A..B", default_value = "0..100", conflicts_with = "seed")]
    seeds: String,
    /// One seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints what happened, step by step.
    #[arg(long)]
    trace: bool,
    /// Optimised: a slower build, for many seeds.
    #[arg(long)]
    release: bool,
    /// Handed to the simulator as they are.
    #[arg(last = true)]
    more: Vec<String>,
}

/// Runs the simulator as asked.
///
/// # Errors
/// Where it does not build, or a seed fails.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut arguments = match options.seed {
        Some(seed) => vec!["--seed".to_owned(), seed.to_string()],
        None => vec!["--seeds".to_owned(), options.seeds.clone()],
    };
    if options.trace {
        arguments.push("--trace".to_owned());
    }
    arguments.extend(options.more.iter().cloned());
    simulator(workspace, options.release, &arguments)?.run()
}

/// Runs a range of seeds as a stage of `cargo xtask test`.
///
/// # Errors
/// Where the simulator does not build or start.
pub(crate) fn run_seeds(workspace: &Workspace, seeds: &str) -> Result<Verdict> {
    let arguments = ["--seeds".to_owned(), seeds.to_owned()];
    let finished = simulator(workspace, false, &arguments)?.run_counted()?;
    if finished.status.success() && finished.counts.passed == 0 {
        bail!("the simulator counted no seed");
    }
    Ok(finished.into())
}

/// The simulator, built. All programs of the workspace are built with it, so that its dependencies have the features
/// that they have in every other build.
fn simulator(workspace: &Workspace, release: bool, arguments: &[String]) -> Result<Program> {
    let profile: &[&str] = if release { &["--release"] } else { &[] };
    Program::cargo(workspace, &["build", "--quiet", "--workspace", "--bins"]).args(profile).run()?;
    let program = workspace.target.join(if release { "release" } else { "debug" }).join("columba-sim");
    Ok(Program::new(program, arguments, &workspace.root))
}
