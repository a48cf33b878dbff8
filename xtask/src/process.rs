//! Starting other programs: the command is printed first, its output passed on, and the tests in it counted.
//!
//! Invariants
//! - A child never sees the variables that `cargo run` set for xtask itself: build scripts that watch them would run
//!   again on every change between `cargo xtask` and plain `cargo`.
//! - A program that does not start is an error with its name; one that fails is an error with its exit code.

use std::{
    ffi::{OsStr, OsString},
    io::{BufRead as _, BufReader, Read, Write as _},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    thread,
};

use anyhow::{Context as _, Result, bail};

/// Tests that ran, as their runners counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
}

impl Counts {
    /// Adds another count.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// How a program that ran to its end went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished {
    /// Its exit status.
    pub(crate) status: ExitStatus,
    /// What its output counted.
    pub(crate) counts: Counts,
}

/// A program about to be started.
pub(crate) struct Program {
    command: Command,
    variables: Vec<(String, String)>,
}

impl Program {
    /// `name` with `arguments`, to run in `directory`.
    pub(crate) fn new<A: AsRef<OsStr>>(name: impl AsRef<OsStr>, arguments: &[A], directory: &Path) -> Self {
        let mut command = Command::new(name);
        command.args(arguments).current_dir(directory).stdin(Stdio::null());
        forget_own_variables(&mut command);
        Self { command, variables: Vec::new() }
    }

    /// `cargo` with `arguments`, at the workspace's root.
    pub(crate) fn cargo<A: AsRef<OsStr>>(workspace: &crate::Workspace, arguments: &[A]) -> Self {
        Self::new("cargo", arguments, &workspace.root)
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: &[A]) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    pub(crate) fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        let value = value.into();
        self.command.env(name, &value);
        self.variables.push((name.to_owned(), value));
        self
    }

    /// Runs it with the terminal's own output; any end but success is an error.
    pub(crate) fn run(mut self) -> Result<()> {
        self.announce();
        let status = self.command.status().with_context(|| format!("cannot start {}", self.name()))?;
        if !status.success() {
            bail!("{} ended with {status}", self.name());
        }
        Ok(())
    }

    /// Runs it, passing its output on line by line and counting tests in it.
    pub(crate) fn run_counted(mut self) -> Result<Finished> {
        self.announce();
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().with_context(|| format!("cannot start {}", self.name()))?;
        let stdout = child.stdout.take().expect("stdout was piped above");
        let stderr = child.stderr.take().expect("stderr was piped above");
        let errors = thread::spawn(move || pass_on(stderr));
        let mut counts = pass_on(stdout);
        counts.add(errors.join().expect("pass_on does not panic"));
        let status = child.wait().with_context(|| format!("cannot wait for {}", self.name()))?;
        Ok(Finished { status, counts })
    }

    fn name(&self) -> String {
        self.command.get_program().to_string_lossy().into_owned()
    }

    fn announce(&self) {
        let variables = self.variables.iter().map(|(name, value)| format!("{name}={value} "));
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let words: Vec<_> = words.map(quoted).collect();
        println!("$ {}{}", variables.collect::<String>(), words.join(" "));
        // What a child prints goes around our buffer: the command must be out first.
        drop(std::io::stdout().flush());
    }
}

/// Whether `name` with `arguments` starts and succeeds, silently.
pub(crate) fn succeeds(name: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    forget_own_variables(&mut command);
    command.status().is_ok_and(|status| status.success())
}

/// Standard output of `name` with `arguments`.
pub(crate) fn capture(name: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
    forget_own_variables(&mut command);
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name} ended with {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} printed something that is not UTF-8"))
}

/// Whether this is a run in CI, where a tool that can be installed must be.
pub(crate) fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// Runs `apt-get` for one package, where this is a machine that has it and allows it.
pub(crate) fn apt_install(workspace: &crate::Workspace, package: &str) -> Result<()> {
    if !succeeds("apt-get", &["--version"]) || capture("id", &["-u"])?.trim() != "0" {
        bail!("{package} is missing, and only root on a Debian machine can have it installed from here");
    }
    Program::new("apt-get", &["-qq", "update"], &workspace.root).run()?;
    Program::new("apt-get", &["-qq", "install", "-y", "--no-install-recommends", package], &workspace.root)
        .variable("DEBIAN_FRONTEND", "noninteractive")
        .run()
}

fn forget_own_variables(command: &mut Command) {
    const EXACT: &[&str] = &["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_CRATE_NAME", "CARGO_BIN_NAME"];
    let own = |name: &OsString| {
        let name = name.to_string_lossy();
        EXACT.contains(&name.as_ref()) || name.starts_with("CARGO_PKG_") || name == "CARGO_PRIMARY_PACKAGE"
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| own(name)) {
        command.env_remove(name);
    }
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into_owned() } else { format!("'{word}'") }
}

/// Prints each line of a child's stream, and counts the tests that closing lines tell of.
fn pass_on(stream: impl Read) -> Counts {
    let mut counts = Counts::default();
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        // A stream that cannot be read further ends the copy; the child's exit status is what counts then.
        if reader.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            return counts;
        }
        let text = String::from_utf8_lossy(&line);
        counts.add(counts_of(&without_colour(text.trim_end())).unwrap_or_default());
        println!("{}", text.trim_end());
    }
}

/// What one line of a test runner counts: nextest's `Summary`, cargo's `test result`, Python's `Ran N tests` (which
/// does not say how many failed: the exit status does), or `N passed, N failed`.
fn counts_of(line: &str) -> Option<Counts> {
    let line = line.trim();
    if let Some((number, _)) = line.strip_prefix("Ran ").and_then(|rest| rest.split_once(" test")) {
        return number.parse().ok().map(|passed| Counts { passed, failed: 0 });
    }
    let nextest = line.starts_with("Summary [");
    let cargo = line.starts_with("test result: ");
    let plain = line.split_once(" passed, ").is_some_and(|(number, _)| number.parse::<u64>().is_ok());
    if !(nextest || cargo || plain) {
        return None;
    }
    let before = |word: &str| {
        let words: Vec<_> = line.split_whitespace().map(|word| word.trim_matches([',', ';', '(', ')'])).collect();
        let number = words.windows(2).filter(|pair| pair[1] == word).find_map(|pair| pair[0].parse().ok());
        number.unwrap_or(0u64)
    };
    let timed_out = if nextest { before("timed") + before("exec") } else { 0 };
    Some(Counts { passed: before("passed"), failed: before("failed") + timed_out })
}

fn without_colour(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_the_known_runners_are_counted() {
        let counts = |passed, failed| Some(Counts { passed, failed });
        let nextest = "     Summary [   1.2s] 12/14 tests run: 9 passed (1 slow), 2 failed, 1 timed out, 3 skipped";
        assert_eq!(counts_of(nextest), counts(9, 3));
        assert_eq!(counts_of("     Summary [   0.004s] 3 tests run: 3 passed, 0 skipped"), counts(3, 0));
        let cargo = "test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(counts_of(cargo), counts(4, 1));
        assert_eq!(counts_of("12 passed, 0 failed"), counts(12, 0));
        assert_eq!(counts_of("Ran 7 tests in 0.012s"), counts(7, 0));
        assert_eq!(counts_of("test a::sentence_that_says passed, failed ... ok"), None);
    }

    #[test]
    fn colour_does_not_hide_a_count() {
        assert_eq!(without_colour("\u{1b}[32;1m 3\u{1b}[0m passed"), " 3 passed");
    }
}
