//! Licences, sources and advisories of the dependencies, by cargo-deny and `deny.toml`.
//!
//! cargo-deny takes minutes to build, so it is installed only in CI or when asked for, and within a bound. The
//! database of advisories is a git repository that some machines cannot reach; then only the advisories are skipped.

use anyhow::Result;

use crate::{
    Workspace,
    process::{Counts, Program, in_ci, succeeds},
    test::Verdict,
};

/// Seconds to build cargo-deny. Beyond, the stage is skipped, and the next try goes on where this one ended.
const INSTALL_SECONDS_MAX: &str = "720";
/// Seconds to fetch the database of advisories.
const FETCH_SECONDS_MAX: &str = "60";

/// Runs the checks, where cargo-deny is there or may be installed.
///
/// # Errors
/// Where a check fails.
pub(crate) fn run(workspace: &Workspace, install: bool) -> Result<Verdict> {
    if !is_installed() {
        if !install && !in_ci() {
            return Ok(Verdict::Skipped("cargo-deny is not installed; `--install` does it".to_owned()));
        }
        // Unoptimised: it runs for seconds here, and builds in a fraction of the time.
        let builds = workspace.target.join("tools").display().to_string();
        let arguments = [INSTALL_SECONDS_MAX, "cargo", "install", "--locked", "--debug", "--quiet", "cargo-deny"];
        let installation = Program::new("timeout", &arguments, &workspace.root)
            .variable("CARGO_TARGET_DIR", builds)
            .variable("CARGO_PROFILE_DEV_DEBUG", "0");
        if let Err(error) = installation.run() {
            return Ok(Verdict::Skipped(format!("cargo-deny cannot be installed here: {error:#}")));
        }
    }
    Program::cargo(workspace, &["deny", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]).run()?;
    if !succeeds("timeout", &[FETCH_SECONDS_MAX, "cargo", "deny", "fetch", "db"]) {
        println!("skipped: advisories: their database cannot be fetched here");
        return Ok(Verdict::Passed(Counts { passed: 3, failed: 0 }));
    }
    Program::cargo(workspace, &["deny", "check", "--disable-fetch", "advisories"]).run()?;
    Ok(Verdict::Passed(Counts { passed: 4, failed: 0 }))
}

fn is_installed() -> bool {
    succeeds("cargo", &["deny", "--version"])
}
