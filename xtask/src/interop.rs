//! The client in Python, written from `wire/PROTOCOL.md` alone, against a real node over both transports.
//!
//! Its packages go into a virtual environment below the target directory, made once and renewed when its list of
//! requirements changes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{
    Workspace,
    process::{Program, apt_install, in_ci, succeeds},
    test::Verdict,
};

/// Where the client lives.
const CLIENT: &str = "wire/tests/interop";

/// Runs the client's tests.
///
/// # Errors
/// Where the environment cannot be made or the node not be built. On a developer's machine without Python the stage is
/// skipped instead.
pub(crate) fn run(workspace: &Workspace) -> Result<Verdict> {
    if !succeeds("python3", &["--version"])
        && let Err(error) = apt_install(workspace, "python3")
    {
        if in_ci() {
            return Err(error);
        }
        return Ok(Verdict::Skipped(format!("no python3: {error:#}")));
    }
    let python = environment(workspace)?;
    // Without a node first: the client's pure parts against the test vectors of the document.
    let pure = ["-m", "unittest", "test_pure"];
    let pure = python_program(&python, &pure, &workspace.root.join(CLIENT)).run_counted()?;
    if !pure.status.success() {
        return Ok(pure.into());
    }
    Program::cargo(workspace, &["build", "--quiet", "--workspace", "--bins"]).run()?;
    let node = workspace.target.join("debug/columba").display().to_string();
    let script = format!("{CLIENT}/interop.py");
    let mut finished = python_program(&python, &[&script, "--node", &node], &workspace.root).run_counted()?;
    if finished.status.success() && finished.counts.passed == 0 {
        bail!("{script} counted no test");
    }
    finished.counts.add(pure.counts);
    Ok(finished.into())
}

/// The environment's Python, writing nothing beside the sources.
fn python_program(python: &Path, arguments: &[&str], directory: &Path) -> Program {
    Program::new(python, arguments, directory).variable("PYTHONDONTWRITEBYTECODE", "1")
}

/// The environment's Python, with the client's requirements installed.
fn environment(workspace: &Workspace) -> Result<PathBuf> {
    let requirements = workspace.root.join(CLIENT).join("requirements.txt");
    let wanted =
        std::fs::read_to_string(&requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let directory = workspace.target.join("interop-venv");
    let python = directory.join("bin/python");
    // Written last: an environment without it was not finished.
    let installed = directory.join("requirements.txt");
    let current = std::fs::read_to_string(&installed).is_ok_and(|found| found == wanted);
    if current && succeeds(&python.display().to_string(), &["--version"]) {
        return Ok(python);
    }
    make_environment(workspace, &directory)?;
    let list = requirements.display().to_string();
    let arguments = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", &list];
    Program::new(&python, &arguments, &workspace.root).run()?;
    std::fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))?;
    Ok(python)
}

/// Debian's Python comes without what `venv` needs: then its package is installed, or else virtualenv is used.
fn make_environment(workspace: &Workspace, directory: &Path) -> Result<()> {
    let place = directory.display().to_string();
    let venv = || Program::new("python3", &["-m", "venv", "--clear", &place], &workspace.root).run();
    if venv().is_ok() {
        return Ok(());
    }
    if apt_install(workspace, "python3-venv").is_ok() && venv().is_ok() {
        return Ok(());
    }
    let user_install = ["-m", "pip", "install", "--quiet", "--user", "virtualenv"];
    Program::new("python3", &user_install, &workspace.root).run().context("neither venv nor virtualenv can be had")?;
    Program::new("python3", &["-m", "virtualenv", "--clear", &place], &workspace.root).run()
}
