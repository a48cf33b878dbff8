//! `cargo xtask fuzz`: each fuzz target for a bounded time, from a copy of its seeds.
//!
//! The copy keeps the tree clean: what libFuzzer finds interesting is thrown away, and an input worth keeping is added
//! to `fuzz/corpus` by hand. An input that crashes a target stays in `fuzz/artifacts`, which git ignores.
//!
//! The sanitizer needs unstable flags of the compiler; `RUSTC_BOOTSTRAP=1` allows them on the toolchain that builds
//! everything else, so no second one is needed.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    Workspace,
    process::{Program, apt_install, succeeds},
};

/// Seconds after which one input is a hang.
const INPUT_SECONDS_MAX: u32 = 10;
/// MiB of memory that a target may use; decoders of ours need a few.
const MEMORY_MIB_MAX: u32 = 1024;
/// Bytes of an input, at most: beyond the largest frame, so that its bound is met.
const INPUT_BYTES_MAX: u32 = 256 * 1024;

/// What to fuzz.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only these targets.
    targets: Vec<String>,
}

/// Runs the targets asked for, or all.
///
/// # Errors
/// Where cargo-fuzz cannot be had, a target does not build, or it finds something.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let all = targets(workspace)?;
    if let Some(unknown) = options.targets.iter().find(|name| !all.contains(*name)) {
        bail!("no fuzz target {unknown}; there are: {}", Vec::from_iter(all).join(", "));
    }
    let chosen = if options.targets.is_empty() { all } else { options.targets.iter().cloned().collect() };
    run_targets(workspace, &chosen, options.seconds)
}

/// Runs every target; how many there are.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_all(workspace: &Workspace, seconds: u32) -> Result<u64> {
    let all = targets(workspace)?;
    run_targets(workspace, &all, seconds)?;
    Ok(all.len().try_into().expect("a count of files"))
}

/// Manifest of the crate that holds the targets; it is a workspace of its own.
pub(crate) fn manifest(workspace: &Workspace) -> String {
    workspace.root.join("fuzz/Cargo.toml").display().to_string()
}

fn targets(workspace: &Workspace) -> Result<BTreeSet<String>> {
    let directory = workspace.root.join("fuzz/fuzz_targets");
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    Ok(names)
}

fn run_targets(workspace: &Workspace, targets: &BTreeSet<String>, seconds: u32) -> Result<()> {
    if !succeeds("cargo", &["fuzz", "--version"]) {
        Program::cargo(workspace, &["install", "--locked", "cargo-fuzz"]).run()?;
    }
    if !succeeds("c++", &["--version"]) {
        // libFuzzer is C++.
        apt_install(workspace, "g++")?;
    }
    let builds = workspace.target.join("fuzz").display().to_string();
    let places = ["--fuzz-dir", "fuzz", "--target-dir", &builds];
    cargo_fuzz(workspace, "build").args(&places).run()?;
    let limits = [
        format!("-max_total_time={seconds}"),
        format!("-timeout={INPUT_SECONDS_MAX}"),
        format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
        format!("-max_len={INPUT_BYTES_MAX}"),
        "-verbosity=0".to_owned(),
        "-print_final_stats=1".to_owned(),
    ];
    for target in targets {
        let seeds = workspace.root.join("fuzz/corpus").join(target);
        let copy = workspace.target.join("fuzz-corpus").join(target);
        copy_seeds(&seeds, &copy)?;
        let corpus = copy.display().to_string();
        let program = cargo_fuzz(workspace, "run").args(&places).args(&[target, &corpus, "--"]).args(&limits);
        program.run().with_context(|| format!("fuzz target {target}"))?;
        std::fs::remove_dir_all(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
    }
    Ok(())
}

fn cargo_fuzz(workspace: &Workspace, command: &str) -> Program {
    Program::cargo(workspace, &["fuzz", command]).variable("RUSTC_BOOTSTRAP", "1")
}

/// Copies the seeds of a target into a fresh directory. A target without seeds is an error: it would look at nothing.
fn copy_seeds(seeds: &Path, copy: &Path) -> Result<()> {
    if copy.exists() {
        std::fs::remove_dir_all(copy).with_context(|| format!("cannot remove {}", copy.display()))?;
    }
    std::fs::create_dir_all(copy).with_context(|| format!("cannot make {}", copy.display()))?;
    let mut copied = 0u32;
    for entry in std::fs::read_dir(seeds).with_context(|| format!("cannot list {}", seeds.display()))? {
        let entry = entry?;
        std::fs::copy(entry.path(), copy.join(entry.file_name()))
            .with_context(|| format!("cannot copy {}", entry.path().display()))?;
        copied += 1;
    }
    if copied == 0 {
        bail!("{} holds no seed", seeds.display());
    }
    Ok(())
}
