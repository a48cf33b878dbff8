//! The node: cores with their futures, virtual time, crashes and restarts.
//!
//! Every future is polled while something wakes it; when all of them wait, time moves on. Messages between cores are
//! handed over at once. A crash drops every future where it stands, and the disk decides what it kept.

use core::{future::Future, pin::Pin, task::Context, time::Duration};
use std::{
    path::PathBuf,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use columba_engine::{
    env::{Rng, clock::ManualClock, clock::WallTime, sim_disk::SimDisk},
    ids::CoreId,
    partition::retention::Retention,
};
use columba_server::{
    core::{BindingOffer, Core, CoreOptions, PeerInfo, SessionHandle, Transport},
    delivery::HINTED_FROM_MEMBERS,
};

/// The core as simulated.
pub type SimCore = Core<SimDisk, ManualClock>;
/// A session on it.
pub type SimSession = SessionHandle<SimDisk, ManualClock>;

/// How much time passes when nothing else happens.
pub const STEP: Duration = Duration::from_millis(10);

/// Why a node stopped or did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The disk crashed.
    Crash,
    /// The node ended itself, with this error.
    Failed(String),
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

struct Task {
    future: Pin<Box<dyn Future<Output = Result<(), String>>>>,
    flag: Arc<Flag>,
    ended: bool,
}

/// A running node.
pub struct World {
    /// Its disk.
    pub disk: SimDisk,
    /// Its clock, which lives through restarts.
    pub clock: ManualClock,
    /// Its cores.
    pub cores: Vec<Rc<SimCore>>,
    tasks: Vec<Task>,
    message_flag: Arc<Flag>,
}

/// How a node is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Cores.
    pub cores: u16,
    /// Partitions.
    pub partitions: u32,
    /// Bytes of a journal segment.
    pub segment_bytes: u64,
    /// How long messages are kept.
    pub retention: Retention,
    /// Members from which on a group is a large one.
    pub hinted_from_members: usize,
}

impl Layout {
    /// Small enough for segments to turn over within a test.
    pub const SMALL: Self = Self {
        cores: 2,
        partitions: 3,
        segment_bytes: 256 * 1024,
        retention: Retention::History { days: None },
        hinted_from_members: HINTED_FROM_MEMBERS,
    };
}

fn seeded_random(out: &mut [u8], seeded: &mut Rng) {
    seeded.fill(out);
}

impl World {
    /// A clock for a node's whole life.
    pub fn new_clock() -> ManualClock {
        ManualClock::new(WallTime::from_millis(1_700_000_000_000))
    }

    /// Starts a node on a disk.
    ///
    /// # Errors
    /// `Crash` where the disk crashed meanwhile; `Failed` with what recovery says.
    pub fn start(disk: SimDisk, clock: ManualClock, layout: Layout, seed: u64) -> Result<Self, Stop> {
        let mut cores = Vec::new();
        for n in 0..layout.cores {
            let mut options = CoreOptions::new(CoreId::new(n), layout.cores, layout.partitions, PathBuf::from("data"));
            options.seed = seed ^ u64::from(n);
            options.segment_bytes = layout.segment_bytes;
            options.retention = layout.retention;
            options.hinted_from_members = layout.hinted_from_members;
            options.secure_random = seeded_random;
            let open = Core::open(disk.clone(), clock.clone(), options, Arc::default());
            match columba_engine::env::executor::run_until_stalled(core::pin::pin!(open)) {
                None => return Err(Stop::Crash),
                Some(Err(error)) => return Err(Stop::Failed(error.to_string())),
                Some(Ok(core)) => cores.push(core),
            }
        }
        let mut tasks = Vec::new();
        for core in &cores {
            let (commit, background) = (Rc::clone(core).run_commit(), Rc::clone(core).run_background());
            tasks.push(Task::new(async move { commit.await.map_err(|error| error.to_string()) }));
            tasks.push(Task::new(async move { background.await.map_err(|error| error.to_string()) }));
        }
        Ok(Self { disk, clock, cores, tasks, message_flag: Arc::new(Flag(AtomicBool::new(true))) })
    }

    /// A connection to a core, as of a transport with streams, and without TLS.
    pub fn connect(&self, core: usize) -> Option<SimSession> {
        let peer = PeerInfo {
            address: "127.0.0.1:1".parse().expect("an address"),
            transport: Transport::Quic,
            binding: BindingOffer { exporter: None, certificate: None, plain: true },
        };
        self.cores[core % self.cores.len()].connect(peer).ok()
    }

    /// Runs until everything waits for time.
    ///
    /// # Errors
    /// `Crash`, `Failed`: the node has stopped.
    pub fn run(&mut self) -> Result<(), Stop> {
        loop {
            let mut progressed = self.exchange();
            for task in &mut self.tasks {
                if task.ended || !task.flag.0.swap(false, Ordering::AcqRel) {
                    continue;
                }
                progressed = true;
                let waker = Waker::from(Arc::clone(&task.flag));
                if let core::task::Poll::Ready(result) = task.future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    task.ended = true;
                    result.map_err(Stop::Failed)?;
                }
                if self.disk.has_crashed() {
                    return Err(Stop::Crash);
                }
            }
            if !progressed {
                return Ok(());
            }
        }
    }

    fn exchange(&mut self) -> bool {
        let waker = Waker::from(Arc::clone(&self.message_flag));
        let mut any = false;
        for from in 0..self.cores.len() {
            loop {
                let polled = self.cores[from].poll_message(&mut Context::from_waker(&waker));
                let core::task::Poll::Ready((to, message)) = polled else {
                    break;
                };
                any = true;
                self.cores[usize::from(to.get())].handle_message(self.cores[from].id(), message);
            }
        }
        any
    }

    /// Lets time pass, and everything that follows from it happen.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn advance(&mut self, by: Duration) -> Result<(), Stop> {
        self.clock.advance(by);
        for core in &self.cores {
            core.handle_timeout();
        }
        self.run()
    }

    /// Runs a future of the caller's beside the node's own, to its end.
    ///
    /// # Errors
    /// As [`Self::run`]; `Failed` where the future waits for what never comes.
    pub fn run_with<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Stop> {
        let mut future = core::pin::pin!(future);
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&flag));
        for _ in 0..100_000 {
            if flag.0.swap(false, Ordering::AcqRel)
                && let core::task::Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return Ok(output);
            }
            if self.disk.has_crashed() {
                return Err(Stop::Crash);
            }
            self.run()?;
            if !flag.0.load(Ordering::Acquire) {
                self.advance(STEP)?;
            }
        }
        Err(Stop::Failed("a future of the test waits for ever".to_owned()))
    }

    /// Cuts the power: every future stops where it stands, and the disk keeps what it keeps.
    pub fn crash(self) -> (SimDisk, ManualClock) {
        let disk = self.disk.after_crash();
        (disk, self.clock.clone())
    }
}

impl Task {
    fn new(future: impl Future<Output = Result<(), String>> + 'static) -> Self {
        Self { future: Box::pin(future), flag: Arc::new(Flag(AtomicBool::new(true))), ended: false }
    }
}
