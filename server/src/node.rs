//! (D) A whole node: its data directory, its sockets, and a thread for each core.
//!
//! Invariants
//! - One node at a time has a data directory: it holds a lock on `lock` in it until the process ends.
//! - The numbers of cores and partitions are those of the first start (`node.toml`): files lie by core and partition.

use core::sync::atomic::{AtomicBool, AtomicUsize};
use std::{
    fs::File,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use columba_engine::{env::lock::DirLock, ids::CoreId};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::{mpsc, watch};

use crate::{
    config::{Config, PARTITIONS_DEFAULT},
    core::runtime::{self, CoreEvent, CoreSetup},
    error::{Error, Result},
    front::{NodeShared, admission::Admission, listen, poll::Polls, tls::Tls},
    limits::{CORES_MAX, DESCRIPTORS_RESERVED},
    metrics::CoreMetrics,
};

/// Version of the layout of a data directory.
const LAYOUT: u64 = 1;
/// Bytes of stack of a core's thread.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// A running node.
pub struct Node {
    listening: SocketAddr,
    plain: Option<SocketAddr>,
    certificate: PathBuf,
    cores: u16,
    partitions: u32,
    shared: Arc<NodeShared>,
    shutdown: watch::Sender<bool>,
    events: mpsc::Receiver<CoreEvent>,
    threads: Vec<thread::JoinHandle<()>>,
    _lock: DirLock,
}

impl Node {
    /// Starts a node: takes the data directory, binds, and starts the threads. [`Self::ready`] says when it serves.
    ///
    /// # Errors
    /// The directory is in use or was made otherwise; an address cannot be bound; the certificate cannot be used.
    pub fn start(config: Config) -> Result<Self> {
        let descriptors = raise_descriptors();
        let dir = &config.data_dir;
        std::fs::create_dir_all(dir).map_err(|source| file_error("create", dir, source))?;
        let lock = DirLock::take(dir).map_err(|error| match error {
            columba_engine::Error::DirInUse { path, holder } => Error::DataDirInUse { path, holder },
            other => Error::Engine(other),
        })?;
        let (cores, partitions) = layout(&config)?;
        let tls = Tls::load(&config.certificate)?;
        let (sockets, listening, plain) = listen::bind(config.listen, config.listen_plain, cores)?;

        let mut connections = config.connections;
        let fitting = usize::try_from(descriptors.saturating_sub(DESCRIPTORS_RESERVED)).unwrap_or(usize::MAX);
        if connections.total_max > fitting {
            tracing::warn!(descriptors, connections = fitting, "fewer connections than configured: see `ulimit -n`");
            connections.total_max = fitting;
        }
        let shared = Arc::new(NodeShared {
            metrics: (0..cores).map(|_| Arc::new(CoreMetrics::default())).collect(),
            ready: (0..cores).map(|_| AtomicBool::new(false)).collect(),
            admission: Admission::new(connections),
            allowed_origins: config.allowed_origins.clone(),
            metrics_to_any: config.metrics_to_any,
            polls: Polls::new(connections),
        });
        let (shutdown, stopping) = watch::channel(false);
        let (event_sender, events) = mpsc::channel(usize::from(CORES_MAX) * 2);
        let finished = Arc::new(AtomicUsize::new(0));
        let config = Arc::new(config);
        let mut threads = Vec::new();
        for ((core, sockets), rings) in (0..cores).zip(sockets).zip(runtime::rings(cores)) {
            let setup = CoreSetup {
                core: CoreId::new(core),
                cores,
                partitions,
                config: Arc::clone(&config),
                sockets,
                rings,
                shared: Arc::clone(&shared),
                tls: tls.clone(),
                shutdown: stopping.clone(),
                events: event_sender.clone(),
                finished: Arc::clone(&finished),
            };
            let builder = thread::Builder::new().name(format!("core-{core}")).stack_size(STACK_BYTES);
            let thread = builder
                .spawn(move || runtime::run(setup))
                .map_err(|source| Error::System { what: "start a thread".to_owned(), source })?;
            threads.push(thread);
        }
        let certificate = tls.certificate_path;
        Ok(Self { listening, plain, certificate, cores, partitions, shared, shutdown, events, threads, _lock: lock })
    }

    /// Waits until all cores serve.
    ///
    /// # Errors
    /// Why a core could not start.
    pub async fn ready(&mut self) -> Result<()> {
        let mut waiting = self.cores;
        while waiting > 0 {
            match self.events.recv().await {
                Some(CoreEvent::Ready) => waiting -= 1,
                Some(CoreEvent::Ended(core, result)) => return Err(ended(core, result)),
                None => return Err(ended(CoreId::ZERO, Ok(()))),
            }
        }
        Ok(())
    }

    /// Waits for a core to fail: it does not return while all is well.
    pub async fn failure(&mut self) -> Error {
        loop {
            match self.events.recv().await {
                Some(CoreEvent::Ready) => {}
                Some(CoreEvent::Ended(core, result)) => return ended(core, result),
                None => return ended(CoreId::ZERO, Ok(())),
            }
        }
    }

    /// Stops in order: sessions are told, what was taken is made durable and answered, threads end.
    ///
    /// # Errors
    /// A core failed while it stopped.
    pub async fn stop(mut self) -> Result<()> {
        self.shutdown.send_replace(true);
        let mut running = self.threads.len();
        while running > 0 {
            match self.events.recv().await {
                Some(CoreEvent::Ended(core, Err(error))) => return Err(ended(core, Err(error))),
                Some(CoreEvent::Ended(_, Ok(()))) => running -= 1,
                Some(CoreEvent::Ready) => {}
                None => break,
            }
        }
        for thread in self.threads {
            // Cannot wait for long: the thread has said that it ends.
            let _ = thread.join();
        }
        Ok(())
    }

    /// Where TLS WebSocket, HTTP and QUIC are.
    pub fn listening(&self) -> SocketAddr {
        self.listening
    }

    /// Where plain WebSocket and HTTP are.
    pub fn plain(&self) -> Option<SocketAddr> {
        self.plain
    }

    /// The certificate, as PEM.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// How many cores.
    pub fn cores(&self) -> u16 {
        self.cores
    }

    /// How many partitions.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// Metrics and readiness.
    pub fn shared(&self) -> &Arc<NodeShared> {
        &self.shared
    }
}

fn ended(core: CoreId, result: Result<()>) -> Error {
    match result {
        Err(Error::CoreFailed { core, reason }) => Error::CoreFailed { core, reason },
        Err(error) => Error::CoreFailed { core: core.get(), reason: error.to_string() },
        Ok(()) => Error::CoreFailed { core: core.get(), reason: "ended unasked".to_owned() },
    }
}

/// Raises the limit of open descriptors to what the system allows. Returns what it is then.
fn raise_descriptors() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit = getrlimit(Resource::Nofile),
            Err(error) => tracing::warn!(%error, "the limit of open descriptors stays as it is"),
        }
    }
    limit.current.unwrap_or(u64::MAX)
}

/// The numbers of cores and partitions: as stored, or as configured at the first start.
fn layout(config: &Config) -> Result<(u16, u32)> {
    let path = config.data_dir.join("node.toml");
    let (cores, partitions) = match std::fs::read_to_string(&path) {
        Ok(text) => parse_layout(&path, &text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return first_layout(config, &path),
        Err(source) => return Err(file_error("read", &path, source)),
    };
    let fixed = |key, stored, wanted| Error::DataDirFixed { path: config.data_dir.clone(), key, stored, wanted };
    if let Some(wanted) = config.cores.filter(|wanted| *wanted != cores) {
        return Err(fixed("cores", u64::from(cores), u64::from(wanted)));
    }
    if let Some(wanted) = config.partitions.filter(|wanted| *wanted != partitions) {
        return Err(fixed("partitions", u64::from(partitions), u64::from(wanted)));
    }
    Ok((cores, partitions))
}

fn parse_layout(path: &Path, text: &str) -> Result<(u16, u32)> {
    let damaged = |reason: String| Error::ConfigFile { path: path.to_owned(), reason };
    let table = text.parse::<toml::Table>().map_err(|error| damaged(error.to_string()))?;
    let number = |name: &str| table.get(name).and_then(toml::Value::as_integer).and_then(|n| u64::try_from(n).ok());
    match number("layout") {
        Some(LAYOUT) => {}
        Some(other) => return Err(damaged(format!("layout {other}; this program knows {LAYOUT}"))),
        None => return Err(damaged("no layout in it".to_owned())),
    }
    let cores = number("cores").and_then(|cores| u16::try_from(cores).ok()).filter(|cores| *cores > 0);
    let partitions = number("partitions").and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0);
    cores.zip(partitions).ok_or_else(|| damaged("cores or partitions are missing".to_owned()))
}

fn first_layout(config: &Config, path: &Path) -> Result<(u16, u32)> {
    let partitions = config.partitions.unwrap_or(PARTITIONS_DEFAULT);
    let cpus = thread::available_parallelism().map_or(1, |cpus| u16::try_from(cpus.get()).unwrap_or(CORES_MAX));
    let most = u16::try_from(partitions).unwrap_or(CORES_MAX).min(CORES_MAX);
    let cores = config.cores.unwrap_or(cpus.min(most));
    if cores > most {
        let reason = format!("{cores} cores cannot share {partitions} partitions: each needs one");
        return Err(Error::Config { key: "cores".to_owned(), origin: "first start".to_owned(), reason });
    }
    let text = format!(
        "# Written at the first start; files lie by these numbers, so they cannot change.\n\
         layout = {LAYOUT}\ncores = {cores}\npartitions = {partitions}\n"
    );
    write_durable(path, &text).map_err(|source| file_error("write", path, source))?;
    Ok((cores, partitions))
}

#[expect(clippy::disallowed_methods, reason = "a driver: this file is no part of the engine")]
fn write_durable(path: &Path, text: &str) -> std::io::Result<()> {
    let part = path.with_extension("part");
    let mut file = File::create(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&part, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

fn file_error(operation: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn config(dir: &Path, flags: &[(&str, &str)]) -> Config {
        let mut settings = Settings::default();
        settings.merge_flag("data_dir", dir.to_str().unwrap()).unwrap();
        for (name, value) in flags {
            settings.merge_flag(name, value).unwrap();
        }
        settings.build().unwrap()
    }

    #[test]
    fn the_first_start_fixes_cores_and_partitions() {
        let dir = tempfile::tempdir().unwrap();
        let of = |flags: &[(&str, &str)]| layout(&config(dir.path(), flags));
        assert!(matches!(of(&[("cores", "5"), ("partitions", "4")]), Err(Error::Config { .. })));
        assert_eq!(of(&[("cores", "3"), ("partitions", "8")]).unwrap(), (3, 8));
        assert_eq!(of(&[]).unwrap(), (3, 8), "what is not said is as stored");
        assert_eq!(of(&[("cores", "3")]).unwrap(), (3, 8));
        let changed = of(&[("cores", "2")]).unwrap_err().to_string();
        assert!(changed.contains("cores = 3, which cannot change; the configuration says 2"), "{changed}");
        assert!(of(&[("partitions", "16")]).is_err());
    }
}
