//! (D) The thread of one core: a tokio current-thread runtime that drives the core's futures, its rings and its fronts.
//!
//! | task | what it drives |
//! |---|---|
//! | commit, background | the core's own loops |
//! | timeouts | `handle_timeout` when it is due, at least ten times a second |
//! | ring readers, ring writer | messages from and to other cores |
//! | fronts | listeners, and a task for each connection |
//! | disk | completions, where the back end needs a task |
//!
//! Invariants
//! - If a loop of the core ends before the node was asked to stop, the thread ends with an error and the node exits:
//!   a dead node is repaired, half a node is not.
//! - The writer takes a message from the core only when the ring has room for the one before: what waits is in the
//!   core, which bounds it.
//! - A core that has shut down goes on serving messages until all have: nobody waits for an answer in vain.

use core::{
    cell::Cell,
    future::poll_fn,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use std::{rc::Rc, sync::Arc};

use columba_engine::{
    env::{
        Clock as _,
        clock::SystemClock,
        probe::{self, AnyDisk, Backend},
    },
    ids::CoreId,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::{
    net::TcpListener,
    runtime,
    sync::{mpsc, watch},
    task::{JoinHandle, LocalSet, spawn_local, yield_now},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Core, CoreOptions, TIMEOUT_MAX,
    message::CoreMessage,
    ring::{RingReceiver, RingSender, ring},
};
use crate::{
    config::{Config, DiskChoice},
    error::{Error, Result},
    front::{
        self, Front, NodeShared,
        admission::{Lobby, Places},
        listen::CoreSockets,
        quic,
        tls::Tls,
    },
    limits::{CLOSE_MS_MAX, POLL_SESSIONS_MAX, RING_BATCH_MAX, RING_MESSAGES, SHUTDOWN_MS_MAX},
};

/// The core on the machine.
type RealCore = Core<AnyDisk, SystemClock>;

/// What a core tells its node.
#[derive(Debug)]
pub(crate) enum CoreEvent {
    /// Its partitions are recovered, led and applied; its listeners take connections.
    Ready,
    /// The thread ends.
    Ended(CoreId, Result<()>),
}

/// A core's ends of the rings.
pub(crate) struct Rings {
    /// By core; `None` for itself.
    to: Vec<Option<RingSender<CoreMessage>>>,
    from: Vec<(CoreId, RingReceiver<CoreMessage>)>,
}

/// A ring from every core to every other.
pub(crate) fn rings(cores: u16) -> Vec<Rings> {
    let mut all: Vec<_> = (0..cores).map(|_| Rings { to: Vec::new(), from: Vec::new() }).collect();
    for from in 0..cores {
        for to in 0..cores {
            if from == to {
                all[usize::from(from)].to.push(None);
                continue;
            }
            let (sender, receiver) = ring(RING_MESSAGES);
            all[usize::from(from)].to.push(Some(sender));
            all[usize::from(to)].from.push((CoreId::new(from), receiver));
        }
    }
    all
}

/// All that a core's thread begins with.
pub(crate) struct CoreSetup {
    pub(crate) core: CoreId,
    pub(crate) cores: u16,
    pub(crate) partitions: u32,
    pub(crate) config: Arc<Config>,
    pub(crate) sockets: CoreSockets,
    pub(crate) rings: Rings,
    pub(crate) shared: Arc<NodeShared>,
    pub(crate) tls: Tls,
    pub(crate) shutdown: watch::Receiver<bool>,
    pub(crate) events: mpsc::Sender<CoreEvent>,
    /// Cores whose commit loop has ended.
    pub(crate) finished: Arc<AtomicUsize>,
}

/// Runs a core on this thread until the node is asked to stop.
pub(crate) fn run(setup: CoreSetup) {
    let (core, events) = (setup.core, setup.events.clone());
    let result = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::System { what: "make a runtime".to_owned(), source })
        .and_then(|runtime| LocalSet::new().block_on(&runtime, run_core(setup)));
    // Nobody listens any more where the node gave up waiting.
    let _ = events.blocking_send(CoreEvent::Ended(core, result));
}

async fn run_core(setup: CoreSetup) -> Result<()> {
    let backend = match setup.config.disk {
        DiskChoice::Auto => Backend::Auto,
        DiskChoice::Uring => Backend::Uring,
        DiskChoice::Thread => Backend::Thread,
    };
    // Before the thread is pinned: threads of the disk must not inherit its one CPU.
    let (disk, driver) = probe::open(backend, &setup.config.data_dir).await?;
    if setup.config.pin_cores {
        pin(setup.core, setup.cores);
    }
    let driver: JoinHandle<Result<()>> = spawn_local(async move {
        match driver {
            Some(driver) => Ok(driver.run().await?),
            None => core::future::pending().await,
        }
    });
    let clock = SystemClock::new();
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).expect("the operating system has a random generator");
    let mut options = CoreOptions::new(setup.core, setup.cores, setup.partitions, setup.config.data_dir.clone());
    options.seed = u64::from_le_bytes(seed);
    options.registration = Rc::new(setup.config.registration.clone());
    options.retention = setup.config.retention;
    options.limits_loopback = setup.config.limits_loopback;
    options.memory_bytes = setup.config.memory_bytes.unwrap_or(options.memory_bytes);
    options.window_ms = setup.config.window_ms;
    options.scrub_bytes_per_second = setup.config.scrub_bytes_per_second;
    let metrics = Arc::clone(&setup.shared.metrics[usize::from(setup.core.get())]);
    let core = Core::open(disk, clock, options, Arc::clone(&metrics)).await?;

    let loops = Loops {
        commit: spawn_local(Rc::clone(&core).run_commit()),
        background: spawn_local(Rc::clone(&core).run_background()),
        driver,
    };
    spawn_local(run_timeouts(Rc::clone(&core), clock, Arc::clone(&setup.shared)));
    for (from, receiver) in setup.rings.from {
        spawn_local(run_reader(Rc::clone(&core), from, receiver));
    }
    spawn_local(run_writer(Rc::clone(&core), setup.rings.to));

    let shared = Arc::clone(&setup.shared);
    let share = setup.config.unauthenticated_max.div_ceil(usize::from(setup.cores));
    let front = Rc::new(Front {
        core: Rc::clone(&core),
        shared: setup.shared,
        metrics,
        tls: setup.tls,
        lobby: Lobby::new(share),
        poll_places: Places::new(POLL_SESSIONS_MAX),
        open: Cell::new(0),
    });
    let endpoint = start_fronts(&front, setup.sockets)?;
    spawn_local(announce(Rc::clone(&core), shared, setup.events));
    loops.run(&core, setup.shutdown).await?;

    setup.finished.fetch_add(1, Ordering::Relaxed);
    let all = usize::from(setup.cores);
    wait_until(SHUTDOWN_MS_MAX, || setup.finished.load(Ordering::Relaxed) >= all).await;
    wait_until(CLOSE_MS_MAX, || front.open.get() == 0).await;
    endpoint.close(quinn::VarInt::from_u32(0), b"shutdown");
    // Peers that do not answer are left.
    let _ = timeout(Duration::from_millis(CLOSE_MS_MAX / 4), endpoint.wait_idle()).await;
    Ok(())
}

/// Tells the node when the core is ready; whoever hears of it from the node finds `/readyz` of the same opinion.
async fn announce(core: Rc<RealCore>, shared: Arc<NodeShared>, events: mpsc::Sender<CoreEvent>) {
    while !core.is_ready() {
        sleep(Duration::from_millis(2)).await;
    }
    shared.ready[usize::from(core.id().get())].store(true, Ordering::Relaxed);
    let _ = events.send(CoreEvent::Ready).await;
}

/// The loops without which a core is dead.
struct Loops {
    commit: JoinHandle<Result<()>>,
    background: JoinHandle<Result<()>>,
    driver: JoinHandle<Result<()>>,
}

impl Loops {
    /// Runs until the commit loop has ended after a request to stop.
    async fn run(self, core: &Rc<RealCore>, mut shutdown: watch::Receiver<bool>) -> Result<()> {
        let Self { mut commit, mut background, mut driver } = self;
        let mut is_background_over = false;
        let mut is_stopping = false;
        loop {
            tokio::select! {
                ended = &mut commit => {
                    joined("commit loop", ended)?;
                    if !is_stopping {
                        return Err(ended_early(core.id(), "commit loop"));
                    }
                    if !is_background_over {
                        // A flush that is under way is durable or as if it had never begun: no need to wait for it.
                        background.abort();
                    }
                    return Ok(());
                }
                ended = &mut background, if !is_background_over => {
                    joined("background", ended)?;
                    if !is_stopping {
                        return Err(ended_early(core.id(), "background"));
                    }
                    is_background_over = true;
                }
                ended = &mut driver => {
                    joined("disk", ended)?;
                    return Err(ended_early(core.id(), "disk"));
                }
                _ = shutdown.changed(), if !is_stopping => {
                    is_stopping = true;
                    tracing::info!(core = %core.id(), "shutting down");
                    core.begin_shutdown();
                }
            }
        }
    }
}

fn ended_early(core: CoreId, what: &str) -> Error {
    Error::CoreFailed { core: core.get(), reason: format!("the {what} ended") }
}

fn joined(what: &str, ended: core::result::Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    match ended {
        Ok(result) => result,
        Err(error) => panic!("the {what} of a core is gone: {error}"),
    }
}

/// Polls a condition that is not worth a waker, for at most so long.
async fn wait_until(millis: u64, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_millis(millis);
    while !is_so() && Instant::now() < deadline {
        sleep(Duration::from_millis(5)).await;
    }
}

async fn run_timeouts(core: Rc<RealCore>, clock: SystemClock, shared: Arc<NodeShared>) {
    let ready = &shared.ready[usize::from(core.id().get())];
    loop {
        ready.store(core.is_ready(), Ordering::Relaxed);
        let wait = core.poll_timeout().map_or(TIMEOUT_MAX, |at| at.saturating_since(clock.now()).min(TIMEOUT_MAX));
        // The timer wheel ticks in milliseconds; and a timeout that is always due must not starve the rest.
        sleep(wait.max(Duration::from_millis(1))).await;
        core.handle_timeout();
    }
}

async fn run_reader(core: Rc<RealCore>, from: CoreId, mut receiver: RingReceiver<CoreMessage>) {
    while let Some(message) = poll_fn(|cx| receiver.poll_recv(cx)).await {
        core.handle_message(from, message);
        let mut taken = 1;
        while taken < RING_BATCH_MAX
            && let Some(message) = receiver.try_recv()
        {
            core.handle_message(from, message);
            taken += 1;
        }
        core.metrics().core_messages_total.add(taken as u64);
        yield_now().await;
    }
}

async fn run_writer(core: Rc<RealCore>, mut to: Vec<Option<RingSender<CoreMessage>>>) {
    loop {
        let (target, message) = poll_fn(|cx| core.poll_message(cx)).await;
        let sender = to[usize::from(target.get())].as_mut().expect("a core handles its own messages itself");
        sender.send(message).await;
    }
}

/// Starts the listeners. Returns the endpoint of QUIC, to be closed in the end.
fn start_fronts(front: &Rc<Front<AnyDisk, SystemClock>>, sockets: CoreSockets) -> Result<quinn::Endpoint> {
    let listener = |socket| {
        TcpListener::from_std(socket).map_err(|source| Error::System { what: "use a listener".to_owned(), source })
    };
    let acceptor = TlsAcceptor::from(Arc::clone(&front.tls.tcp));
    spawn_local(front::run_tcp(Rc::clone(front), listener(sockets.secure)?, Some(acceptor)));
    if let Some(plain) = sockets.plain {
        spawn_local(front::run_tcp(Rc::clone(front), listener(plain)?, None));
    }
    let endpoint = quic::endpoint(sockets.quic, &front.tls, front.core.id())?;
    spawn_local(quic::run(Rc::clone(front), endpoint.clone()));
    Ok(endpoint)
}

/// Keeps this thread on one CPU, where every core can have its own. A refusal costs speed, not correctness.
fn pin(core: CoreId, cores: u16) {
    let allowed = match sched_getaffinity(None) {
        Ok(allowed) => allowed,
        Err(error) => return tracing::warn!(%core, %error, "not pinned: the CPUs are not known"),
    };
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    if usize::from(cores) > cpus.len() {
        return tracing::info!(%core, cpus = cpus.len(), "not pinned: there are more cores than CPUs");
    }
    let cpu = cpus[usize::from(core.get())];
    let mut own = CpuSet::new();
    own.set(cpu);
    match sched_setaffinity(None, &own) {
        Ok(()) => tracing::debug!(%core, cpu, "pinned"),
        Err(error) => tracing::warn!(%core, cpu, %error, "not pinned"),
    }
}
