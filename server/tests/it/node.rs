//! A node as a process.

use core::{future::Future, net::SocketAddr, time::Duration};
use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{BufRead as _, BufReader},
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use serde::Deserialize;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use crate::http::Http;

/// The longest that anything may take which should take a moment. Machines of a CI are slow, and shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Lines of the log that a failed test shows.
const LOG_LINES_SHOWN: usize = 60;

/// Runs a test on a runtime of its own; no test takes longer than `limit`.
pub(crate) fn run(limit: Duration, test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        timeout(limit, test).await.unwrap_or_else(|_| panic!("the test is not over after {limit:?}"));
    });
    // A task that is blocked must not hold the verdict back.
    runtime.shutdown_background();
}

/// Looks until there is something to see, for at most `limit`.
pub(crate) async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        sleep(LOOK_EVERY).await;
    }
}

/// Waits for something that should come in a moment.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Lets this process have as many descriptors as it may; how many, where there is a bound.
pub(crate) fn raise_descriptors() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    limit.current
}

/// How a node is started.
pub(crate) struct Setup {
    dir: tempfile::TempDir,
    data_dir: PathBuf,
    wrapper: Vec<String>,
    listen: String,
    flags: Vec<String>,
    envs: Vec<(String, String)>,
}

/// A node with one core, on free ports, with nothing stored.
pub(crate) fn setup() -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let flags = vec!["--cores".to_owned(), "1".to_owned()];
    Setup { dir, data_dir, wrapper: Vec::new(), listen: "127.0.0.1:0".to_owned(), flags, envs: Vec::new() }
}

impl Setup {
    /// Another number of cores.
    pub(crate) fn cores(mut self, cores: u16) -> Self {
        self.flags[1] = cores.to_string();
        self
    }

    /// Another key of the configuration.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.flags.extend(["--set".to_owned(), format!("{key}={value}")]);
        self
    }

    /// A variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.envs.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another data directory.
    pub(crate) fn data_dir(mut self, dir: &Path) -> Self {
        self.data_dir = dir.to_owned();
        self
    }

    /// A program that starts the node.
    pub(crate) fn wrapped(mut self, program: &[&str]) -> Self {
        self.wrapper = program.iter().map(|part| (*part).to_owned()).collect();
        self
    }

    /// A port that stays free while the node is down: outside of those that the kernel gives to clients.
    pub(crate) fn fixed_port(mut self) -> Self {
        self.listen = free_address().to_string();
        self
    }

    /// Starts it, and waits until it serves.
    pub(crate) async fn start(self) -> Node {
        let mut node = Node { setup: self, child: None, ready: None };
        node.start().await;
        node
    }

    fn command(&self) -> Command {
        let columba = env!("CARGO_BIN_EXE_columba").to_owned();
        let mut argv = self.wrapper.iter().chain([&columba]);
        let mut command = Command::new(argv.next().unwrap());
        command.args(argv).args(["serve", "--json-ready", "--listen", &self.listen]);
        command.args(["--listen-plain", "127.0.0.1:0", "--data-dir"]).arg(&self.data_dir).args(&self.flags);
        command.envs(self.envs.iter().cloned());
        command
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("node.log")
    }
}

fn free_address() -> SocketAddr {
    for _ in 0..100 {
        let port = 10_000 + u16::try_from(getrandom::u32().unwrap() % 20_000).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port among a hundred");
}

/// The line of `--json-ready`.
#[derive(Debug, Deserialize)]
struct Ready {
    listening: SocketAddr,
    plain: SocketAddr,
    certificate: PathBuf,
    pid: u32,
}

/// A node; killed when dropped. A test that fails shows the end of its log.
pub(crate) struct Node {
    setup: Setup,
    child: Option<Child>,
    ready: Option<Ready>,
}

impl Node {
    /// Starts a node that is down, on its own data and port, and waits until it serves.
    pub(crate) async fn start(&mut self) {
        let ready = self.spawn();
        let line = soon("the node serves", ready).await.unwrap_or_else(|_| panic!("the node did not start"));
        self.handle_ready(&line);
    }

    /// Starts the process; the line comes when it serves, or never.
    pub(crate) fn spawn(&mut self) -> oneshot::Receiver<String> {
        assert!(self.child.is_none(), "the node runs");
        let log = OpenOptions::new().create(true).append(true).open(self.setup.log_path()).unwrap();
        let mut command = self.setup.command();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        self.child = Some(child);
        let (sender, receiver) = oneshot::channel();
        thread::spawn(move || {
            let mut line = String::new();
            if out.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                let _ = sender.send(line);
            }
        });
        receiver
    }

    /// Takes what [`Self::spawn`] has given.
    pub(crate) fn handle_ready(&mut self, line: &str) {
        let ready: Ready = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
        // From now on at the same port.
        self.setup.listen = ready.listening.to_string();
        self.ready = Some(ready);
    }

    fn ready(&self) -> &Ready {
        self.ready.as_ref().expect("the node was started")
    }

    /// Where TLS WebSocket, HTTP and QUIC are.
    pub(crate) fn address(&self) -> SocketAddr {
        self.ready().listening
    }

    /// Where plain WebSocket and HTTP are.
    pub(crate) fn plain(&self) -> SocketAddr {
        self.ready().plain
    }

    /// Its certificate, PEM.
    pub(crate) fn certificate(&self) -> &Path {
        &self.ready().certificate
    }

    /// Where its data is.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.setup.data_dir
    }

    /// A variable of the environment, from the next start on.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.setup.envs.push((name.to_owned(), value.to_owned()));
    }

    /// As `kill -9`, and gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        let pid = Pid::from_raw(i32::try_from(self.ready().pid).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the node runs");
        let status = until("the node ends", PATIENCE, async || child.try_wait().unwrap()).await;
        self.ready = None;
        status
    }

    /// All of its log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.setup.log_path()).unwrap_or_default()
    }

    /// Resident memory, bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.ready().pid)).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kilobytes * 1024
    }

    /// A page of its plain listener: status and body.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        let get = async { Http::plain(self).await.request("GET", path, "", b"").await };
        let answer = soon(path, get).await.unwrap_or_else(|| panic!("no page: {path}"));
        (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
    }

    /// Its metrics by name, without `columba_`; summed over the cores.
    pub(crate) async fn metrics(&self) -> Metrics {
        let (status, body) = self.page("/metrics").await;
        assert_eq!(status, 200, "{body}");
        let mut sums = BTreeMap::new();
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no metric: {line:?}"));
            let name = name.split('{').next().unwrap().trim_start_matches("columba_").to_owned();
            let value: u64 = value.parse().unwrap_or_else(|_| panic!("no number: {line:?}"));
            *sums.entry(name).or_default() += value;
        }
        Metrics(sums)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("the node's log, its end:");
            for line in &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..] {
                eprintln!("  {line}");
            }
        }
    }
}

/// What a node has counted.
pub(crate) struct Metrics(BTreeMap<String, u64>);

impl Metrics {
    /// One of them.
    pub(crate) fn get(&self, name: &str) -> u64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no metric {name}"))
    }

    /// How much one of them has grown since.
    pub(crate) fn since(&self, before: &Self, name: &str) -> u64 {
        self.get(name) - before.get(name)
    }
}
