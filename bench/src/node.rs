//! (D) Child processes: the node and the echo server. Started, awaited, asked what they spent, stopped.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    clock::{SECOND_NS, now_ns},
    load::Target,
    report::number,
    tls,
};

/// Nanoseconds for a graceful end; then the process is killed.
const STOP_NS_MAX: u64 = 15 * SECOND_NS;

/// How often is measured, with which servers, and where data and figures go.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RunOptions {
    /// Runs; each measures everything once, and medians are taken over runs.
    #[arg(long, default_value_t = 3)]
    pub(crate) runs: usize,
    /// Writes everything here as well.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Cores of the node; its own default otherwise.
    #[arg(long)]
    cores: Option<usize>,
    /// The node's binary; the release build beside this program otherwise.
    #[arg(long)]
    node: Option<PathBuf>,
    /// A further argument of the node, repeatable.
    #[arg(long = "node-arg", allow_hyphen_values = true)]
    node_args: Vec<String>,
    /// Directory for data, on the disk to be measured; otherwise below the target directory.
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl RunOptions {
    /// An empty directory for everything; removed when dropped.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn data_dir(&self, prefix: &str) -> anyhow::Result<tempfile::TempDir> {
        let parent = match &self.dir {
            Some(dir) => dir.clone(),
            None => target_dir()?.join("bench"),
        };
        std::fs::create_dir_all(&parent)?;
        Ok(tempfile::Builder::new().prefix(prefix).tempdir_in(&parent)?)
    }

    /// A node with its data in `dir`.
    ///
    /// # Errors
    /// There is no binary, or it does not start.
    pub(crate) fn start_node(&self, dir: &Path) -> anyhow::Result<Process> {
        let mut command = Command::new(binary(self.node.as_deref())?);
        command.arg("serve").arg("--data-dir").arg(dir.join("node"));
        command.args(["--listen", "127.0.0.1:0", "--listen-plain", "127.0.0.1:0", "--json-ready"]);
        if let Some(cores) = self.cores {
            command.args(["--cores", &cores.to_string()]);
        }
        command.args(&self.node_args);
        Process::start(command, &dir.join("node.log"), true)
    }
}

/// The floor's server, with its file in `dir`.
///
/// # Errors
/// It does not start.
pub(crate) fn start_echo(dir: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("echo-server").arg("--dir").arg(dir);
    Process::start(command, &dir.join("echo.log"), false)
}

/// The line that a server prints first, once it listens.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// TLS WebSocket by TCP, QUIC by UDP.
    pub(crate) listening: SocketAddr,
    /// Plain WebSocket.
    pub(crate) plain: SocketAddr,
    /// PEM file.
    pub(crate) certificate: PathBuf,
}

/// What a server spent, in all or for each delivered message.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Microseconds of CPU, user and kernel.
    pub(crate) cpu_us: f64,
    /// Durable writes of the journal.
    pub(crate) journal_writes: f64,
    /// Bytes of them, padding included.
    pub(crate) journal_bytes: f64,
    /// Messages pushed.
    pub(crate) delivers: f64,
    /// Entries written to inboxes: 0 while every recipient acknowledges at once.
    pub(crate) inbox_appends: f64,
}

impl Usage {
    fn map(&self, other: &Self, with: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            cpu_us: with(self.cpu_us, other.cpu_us),
            journal_writes: with(self.journal_writes, other.journal_writes),
            journal_bytes: with(self.journal_bytes, other.journal_bytes),
            delivers: with(self.delivers, other.delivers),
            inbox_appends: with(self.inbox_appends, other.inbox_appends),
        }
    }

    /// What came on top of `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        self.map(before, |now, then| now - then)
    }

    /// For each of `count`.
    pub(crate) fn per(&self, count: f64) -> Self {
        self.map(self, |total, _| total / count)
    }
}

/// A server process; stopped when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    metrics: Option<SocketAddr>,
    /// Where it listens.
    pub(crate) target: Target,
}

impl Process {
    /// Starts `command`, waits for its first line, and keeps what it logs in `log`.
    ///
    /// # Errors
    /// It ended, or said something else; the message holds the end of its log.
    pub(crate) fn start(mut command: Command, log: &Path, has_metrics: bool) -> anyhow::Result<Self> {
        let log_file = OpenOptions::new().create(true).append(true).open(log)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log_file);
        let mut child = command.spawn().with_context(|| format!("start {}", command.get_program().display()))?;
        running().extend(pid(&child));
        let mut output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let ready = (|| {
            let mut line = String::new();
            output.read_line(&mut line)?;
            let ready: Ready = serde_json::from_str(&line).with_context(|| format!("its first line is {line:?}"))?;
            let certificate = tls::certificate(&ready.certificate).context("its certificate")?;
            anyhow::Ok((Target { secure: ready.listening, plain: ready.plain, certificate }, ready.plain))
        })();
        // Nobody reads what it prints later; it must not wait for that either.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        match ready {
            Ok((target, plain)) => {
                Ok(Self { child, log: log.to_owned(), metrics: has_metrics.then_some(plain), target })
            }
            Err(error) => {
                stop(&mut child);
                Err(error.context(format!("{command:?} did not start; it logged\n{}", tail(log))))
            }
        }
    }

    /// Whether it still runs; the end of its log otherwise.
    ///
    /// # Errors
    /// It ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server ended ({status}); it logged\n{}", tail(&self.log));
        }
        Ok(())
    }

    /// What it has spent so far.
    ///
    /// # Errors
    /// It ended, or its metrics do not answer.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let cpu_us = cpu_us(&self.child.id().to_string())?;
        let Some(address) = self.metrics else {
            return Ok(Usage { cpu_us, ..Usage::default() });
        };
        let metrics = scrape(address)?;
        let sum = |name: &str| metrics.get(name).copied().unwrap_or_default();
        Ok(Usage {
            cpu_us,
            journal_writes: sum("columba_journal_writes_total"),
            journal_bytes: sum("columba_journal_bytes_total"),
            delivers: sum("columba_delivers_total"),
            inbox_appends: sum("columba_inbox_appends_total"),
        })
    }

    /// Memory of it, from now on counted for the peak.
    ///
    /// # Errors
    /// The kernel shows no `/proc`, or does not let the peak be reset.
    pub(crate) fn reset_memory_peak(&self) -> anyhow::Result<Memory> {
        let pid = self.child.id();
        // 5: sets the peak to what is resident now.
        OpenOptions::new().write(true).open(format!("/proc/{pid}/clear_refs"))?.write_all(b"5")?;
        self.memory()
    }

    /// Memory of it.
    ///
    /// # Errors
    /// It ended.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        Memory::of(&self.child.id().to_string())
    }

    /// Microseconds of CPU of this very process.
    ///
    /// # Errors
    /// The kernel shows no `/proc`.
    pub(crate) fn own_cpu_us() -> anyhow::Result<f64> {
        cpu_us("self")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// Memory of a process.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Resident now, MiB.
    pub(crate) resident_mib: f64,
    /// Resident at the most, MiB.
    pub(crate) peak_mib: f64,
}

impl Memory {
    /// Of a process by its number, or `self`.
    ///
    /// # Errors
    /// There is no such process.
    pub(crate) fn of(pid: &str) -> anyhow::Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let mib = |name: &str| -> anyhow::Result<f64> {
            let line = status.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name}"))?;
            let kib = line.split_whitespace().nth(1).with_context(|| format!("{name} has no number"))?;
            Ok(kib.parse::<f64>()? / 1024.0)
        };
        Ok(Self { resident_mib: mib("VmRSS:")?, peak_mib: mib("VmHWM:")? })
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().collect::<Vec<_>>();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

/// Children that run now: an interrupt of this program ends them too.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// From now on an interrupt or a request to end is passed on to the children before this program ends.
///
/// # Errors
/// What the kernel says.
pub(crate) fn pass_on_signals() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(guard);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        for &pid in &*running() {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
        std::process::exit(130);
    });
    Ok(())
}

fn running() -> MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock().expect("no thread panics while it holds the list")
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Asks to end, waits, kills.
fn stop(child: &mut Child) {
    if let Some(pid) = pid(child)
        && matches!(child.try_wait(), Ok(None))
        && kill_process(pid, Signal::TERM).is_ok()
    {
        let limit = now_ns() + STOP_NS_MAX;
        while now_ns() < limit && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let own = pid(child);
    running().retain(|&running| Some(running) != own);
    // Both fail where it ended already, which is what they are for.
    let _ = child.kill();
    let _ = child.wait();
}

/// User and kernel time of a process, to a hundredth of a second.
fn cpu_us(pid: &str) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold blanks and brackets: count fields from behind its last bracket.
    let (_, fields) = stat.rsplit_once(')').context("a process's stat has a name")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(number(ticks) * 1e6 / number(rustix::param::clock_ticks_per_second()))
}

/// The node's metrics, summed over labels.
fn scrape(address: SocketAddr) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "metrics: {}", answer.lines().next().unwrap_or_default());
    Ok(sum_by_name(&answer))
}

fn sum_by_name(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("columba_")) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let name = series.split('{').next().unwrap_or(series);
        if let Ok(value) = value.trim().parse::<f64>() {
            *sums.entry(name.to_owned()).or_insert(0.0) += value;
        }
    }
    sums
}

/// Where the node's binary is built: beside this program's own.
///
/// # Errors
/// This program does not know where it is.
pub(crate) fn target_dir() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().and_then(Path::parent).context("this program lies in a target directory")?.to_owned())
}

/// The node's binary: `given`, or the release build beside this program, brought up to date where cargo is at hand.
///
/// # Errors
/// It does not exist and cannot be built.
fn binary(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let target_dir = target_dir()?;
    let binary = target_dir.join("release/columba");
    if let Some(cargo) = std::env::var_os("CARGO") {
        let status = Command::new(cargo)
            .args(["build", "--release", "-p", "columba-server", "--target-dir"])
            .arg(&target_dir)
            .status()?;
        ensure!(status.success(), "the node does not build");
    }
    ensure!(binary.exists(), "no node at {}: build it with --release, or name one with --node", binary.display());
    Ok(binary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_cores() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# TYPE columba_sent_total counter\n\
                    columba_sent_total{core=\"0\"} 3\ncolumba_sent_total{core=\"1\"} 4\ncolumba_up 1\nother 9\n";
        let sums = sum_by_name(text);
        assert_eq!((sums["columba_sent_total"], sums["columba_up"], sums.len()), (7.0, 1.0, 2));
    }

    #[test]
    fn cpu_and_memory_of_this_process_can_be_read() {
        assert!(Process::own_cpu_us().unwrap() >= 0.0);
        let memory = Memory::of("self").unwrap();
        assert!(memory.peak_mib >= memory.resident_mib && memory.resident_mib > 0.0, "{memory:?}");
    }
}
