//! (D) A phase in a child process: this binary again, with the hidden subcommand `engine-phase`.
//!
//! Invariants
//! - A child never outlives this process: the kernel kills it then, and [`Child`] does when dropped.

use std::{
    io::{BufRead as _, BufReader},
    process::{ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::phase::{self, Outcome, Spec};

/// What the hidden subcommand takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The task, as JSON.
    #[arg(long)]
    spec: String,
}

/// The child's side.
///
/// # Errors
/// As [`phase::run`].
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    phase::run(&serde_json::from_str(&arguments.spec)?)
}

/// Runs a phase to its end.
///
/// # Errors
/// The child failed; it said why on standard error.
pub(crate) fn measure<T: Outcome>(spec: &Spec) -> anyhow::Result<T> {
    let mut child = Child::start(spec)?;
    let outcome = child.answer()?;
    let status = child.process.wait()?;
    ensure!(status.success(), "{} ended with {status} after {:?}", spec.kind, spec.phase);
    Ok(outcome)
}

/// A child at work; killed, as by a crash, when dropped.
pub(crate) struct Child {
    process: std::process::Child,
    output: BufReader<ChildStdout>,
    what: String,
}

impl Child {
    /// Starts a phase.
    ///
    /// # Errors
    /// No process can be started.
    pub(crate) fn start(spec: &Spec) -> anyhow::Result<Self> {
        // Not by its path: a build meanwhile may have put another program there.
        let mut process = Command::new("/proc/self/exe")
            .args(["engine-phase", "--spec", &serde_json::to_string(spec)?])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start this program again")?;
        let output = BufReader::new(process.stdout.take().expect("stdout is piped"));
        Ok(Self { process, output, what: format!("{}: {:?}", spec.kind, spec.phase) })
    }

    /// Waits for its next answer.
    ///
    /// # Errors
    /// It ended instead, or said something else.
    pub(crate) fn answer<T: Outcome>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("{} answered {line:?}", self.what))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail where it ended already, which is what they are for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
