//! The chores of the workspace, as `cargo xtask NAME`. A driver: it starts other programs and reads the tree.
//!
//! | module | what it holds |
//! |---|---|
//! | [`test`] | `cargo xtask test`: every check in stages, with a table of results and durations |
//! | [`tidy`] | `cargo xtask tidy`: the rules of the house that no other tool checks |
//! | [`fuzz`] | `cargo xtask fuzz`: each fuzz target for a bounded time, on a copy of its seeds |
//! | [`sim`] | `cargo xtask sim`: seeds of the simulator |
//! | [`engine_seeds`] | `cargo xtask engine-seeds`: seeds of the engine's model tests |
//! | [`deny`] | licences, sources and advisories of the dependencies, where cargo-deny can be had |
//! | [`interop`] | the client in Python against a real node |
//! | [`process`] | starting programs: printed first, output passed on, tests counted |
//!
//! Invariants
//! - Whatever is skipped says so, with the reason; under `CI=true` only what the machine cannot have is skipped.
//! - `cargo xtask test` exits with 0 exactly when its last line says `0 failed`.
//! - Nothing is written outside the target directory, except tools that `cargo install` puts where it always does.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a chore talks to the terminal")]
#![expect(clippy::disallowed_methods, reason = "a driver: real files, real clock")]

mod deny;
mod engine_seeds;
mod fuzz;
mod interop;
mod process;
mod sim;
mod test;
mod tidy;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

/// Chores of the Columba workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Runs every check, in stages, and prints how each went and how long it took.
    Test(test::Options),
    /// Checks the rules of the house that no other tool checks.
    Tidy,
    /// Runs fuzz targets for a bounded time each.
    Fuzz(fuzz::Options),
    /// Runs seeds of the simulator.
    Sim(sim::Options),
    /// Runs seeds of the engine's model tests.
    EngineSeeds(engine_seeds::Options),
}

/// The workspace: where it is, and where its builds go.
pub(crate) struct Workspace {
    /// Directory of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target directory.
    pub(crate) target: PathBuf,
}

impl Workspace {
    fn find() -> Result<Self> {
        let metadata = process::capture("cargo", &["metadata", "--format-version", "1", "--no-deps", "--offline"])
            .context("cargo metadata")?;
        let root = json_string(&metadata, "workspace_root").context("cargo metadata names no workspace_root")?;
        let target = json_string(&metadata, "target_directory").context("cargo metadata names no target_directory")?;
        Ok(Self { root: root.into(), target: target.into() })
    }
}

/// Value of the first string field `name` in a text of JSON. Enough for two paths; no parser is worth linking for them.
fn json_string(json: &str, name: &str) -> Option<String> {
    let start = json.find(&format!("\"{name}\":\""))? + name.len() + 4;
    let length = json.get(start..)?.find('"')?;
    Some(json.get(start..start + length)?.replace("\\\\", "\\"))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = Workspace::find().and_then(|workspace| match arguments.chore {
        Chore::Test(options) => test::run(&workspace, &options),
        Chore::Tidy => tidy::run(&workspace).map(|()| true),
        Chore::Fuzz(options) => fuzz::run(&workspace, &options).map(|()| true),
        Chore::Sim(options) => sim::run(&workspace, &options).map(|_| true),
        Chore::EngineSeeds(options) => engine_seeds::run(&workspace, &options).map(|()| true),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_found_in_cargo_metadata() {
        let json = r#"{"packages":[],"target_directory":"/a/target","version":1,"workspace_root":"/a"}"#;
        assert_eq!(json_string(json, "target_directory").as_deref(), Some("/a/target"));
        assert_eq!(json_string(json, "workspace_root").as_deref(), Some("/a"));
        assert_eq!(json_string(json, "absent"), None);
    }
}
