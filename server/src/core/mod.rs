//! One core of a node: its partitions, its sessions, and the loop that makes what they ask durable.
//!
//! | module | what it holds |
//! |---|---|
//! | [`message`] | what cores say to each other |
//! | [`links`] | link codes of devices that wait to be linked |
//! | [`router`] | id -> partition -> core |
//! | `host` | proposals of a partition and who waits for them |
//! | `state` | everything of a core that changes without waiting: one borrow, no await |
//! | `commit` | the commit loop: propose, one durable write, apply, answer |
//! | `jobs` | what must wait: reads, registration, login, catch-up, people and keys |
//! | `key_limits` | how fast one-time keys may be taken |
//! | `background` | flush, merge, journal upkeep |
//! | [`ring`], [`runtime`] | (D) rings between cores; the thread with its reactor |
//!
//! A [`Core`] knows no runtime: the driver polls its futures, hands it frames, messages and time, and carries out its
//! outputs. The simulator does the same on virtual time.
//!
//! Invariants
//! - No `Sent` before the entry is durable and applied; no push before that either.
//! - Everything of a core runs on one thread; the state is borrowed for the length of a call, never across an await.
//! - A message between cores may wait, never be dropped: the driver stops taking them when a ring is full.

mod background;
mod commit;
mod host;
mod jobs;
mod key_limits;
pub mod limits;
pub mod links;
pub mod message;
pub mod ring;
pub mod router;
pub mod runtime;
mod send_limits;
mod state;

use core::{
    cell::RefCell,
    task::{Context, Poll, Waker},
    time::Duration,
};
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, rc::Rc, sync::Arc};

use columba_engine::{
    env::{Clock, Disk, Instant, Rng},
    ids::{CoreId, PartitionId},
    journal::{Journal, JournalConfig},
    limits::{BATCH_BYTES_MAX, SEGMENT_BYTES, SEGMENTS_MAX, WINDOW_MS},
    partition::{Partition, retention::Retention},
    tree::{Shared, TreeConfig},
};
use columba_replication::{CoreGroups, recovery::open_group};
use columba_wire::{
    Code,
    frame::FrameError,
    v1::{ClientFrame, ServerFrame},
};

pub(crate) use self::state::{Admitted, id_bytes};
use self::{
    message::{CoreMessage, SessionId, SessionRef},
    router::Router,
    state::{CoreState, Wakers},
};
use crate::{
    delivery::HINTED_FROM_MEMBERS,
    error::{Error, Result},
    metrics::CoreMetrics,
    registration::RegistrationPolicy,
};

/// This node's id in its Raft groups; a node alone is 1.
pub const NODE: u64 = 1;
/// The longest that a core sleeps without looking at the time.
pub const TIMEOUT_MAX: Duration = Duration::from_millis(100);

/// How a core is made.
pub struct CoreOptions {
    /// Which core of the node.
    pub core: CoreId,
    /// How many the node has.
    pub cores: u16,
    /// Partitions of the node, fixed at the first start.
    pub partitions: u32,
    /// Where the core's files are: journal and partitions in folders of it.
    pub data_dir: PathBuf,
    /// For election timeouts and the like; not for keys.
    pub seed: u64,
    /// Bytes of a journal segment; smaller in tests.
    pub segment_bytes: u64,
    /// Who may register.
    pub registration: Rc<RegistrationPolicy>,
    /// Whether rates are limited for clients on this machine as well.
    pub limits_loopback: bool,
    /// Members from which on a group is a large one: see [`crate::delivery`]. Less in tests.
    pub hinted_from_members: usize,
    /// How long messages are kept, in chats that say nothing themselves.
    pub retention: Retention,
    /// Memory for memtables and caches, bytes.
    pub memory_bytes: usize,
    /// How fast files are verified in the background; 0 for not at all.
    pub scrub_bytes_per_second: u64,
    /// Milliseconds of creation time that share message files.
    pub window_ms: u64,
    /// Fills a buffer with bytes fit for nonces and ids; the simulator's come from its seed.
    pub secure_random: fn(&mut [u8], &mut Rng),
}

impl CoreOptions {
    /// Options of a real core.
    pub fn new(core: CoreId, cores: u16, partitions: u32, data_dir: PathBuf) -> Self {
        Self {
            core,
            cores,
            partitions,
            data_dir,
            seed: 0,
            segment_bytes: SEGMENT_BYTES,
            registration: Rc::new(RegistrationPolicy::open_to_loopback()),
            limits_loopback: false,
            hinted_from_members: HINTED_FROM_MEMBERS,
            retention: Retention::default(),
            memory_bytes: limits::MEMORY_BYTES_DEFAULT,
            scrub_bytes_per_second: limits::SCRUB_BYTES_PER_SECOND,
            window_ms: WINDOW_MS,
            secure_random: system_random,
        }
    }
}

fn system_random(out: &mut [u8], _seeded: &mut Rng) {
    getrandom::fill(out).expect("the operating system has a random generator");
}

/// How a connection reached this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A WebSocket, over TLS or plain.
    WebSocket,
    /// QUIC.
    Quic,
    /// Requests, one after the other.
    Poll,
}

/// What the server itself computed for a connection: what a client's signature may be bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindingOffer {
    /// The TLS exporter's 32 bytes.
    pub exporter: Option<[u8; 32]>,
    /// SHA-256 of the certificate that was sent.
    pub certificate: Option<[u8; 32]>,
    /// Whether the connection is plain, so that there is nothing to bind to.
    pub plain: bool,
}

/// The other side of a connection.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Its address.
    pub address: SocketAddr,
    /// How it came.
    pub transport: Transport,
    /// What its signature may be bound to.
    pub binding: BindingOffer,
}

/// What a front must do next.
#[derive(Debug)]
pub enum Output {
    /// Write a frame.
    Frame(ServerFrame),
    /// Write a frame of what waited for the device: on its own stream where there is one.
    CatchUp(ServerFrame),
    /// Write what is left and close.
    Close,
}

/// One core of a node. Always behind an `Rc`.
pub struct Core<D: Disk, C: Clock> {
    clock: C,
    options: CoreOptions,
    metrics: Arc<CoreMetrics>,
    journal: Journal<D>,
    shared: Shared<D::File>,
    partitions: BTreeMap<PartitionId, Partition<D>>,
    state: RefCell<CoreState<D>>,
    wakers: Rc<Wakers>,
}

impl<D: Disk, C: Clock> Core<D, C> {
    /// Recovers a core from its files, or begins an empty one.
    ///
    /// # Errors
    /// Damage that recovery found, `Io`.
    pub async fn open(disk: D, clock: C, options: CoreOptions, metrics: Arc<CoreMetrics>) -> Result<Rc<Self>> {
        let router = Router::new(options.cores, options.partitions);
        let mut rng = Rng::from_seed(options.seed);
        let core_dir = options.data_dir.join(format!("core-{}", options.core));
        disk.create_dir_all(&core_dir).await?;
        disk.sync_dir(&options.data_dir).await?;
        let config = JournalConfig {
            dir: core_dir.join("journal"),
            segment_bytes: options.segment_bytes,
            batch_bytes_max: usize::try_from(options.segment_bytes / 4)
                .map_or(BATCH_BYTES_MAX, |quarter| quarter.min(BATCH_BYTES_MAX)),
            segments_max: SEGMENTS_MAX,
        };
        let (journal, recovered) = Journal::open(disk.clone(), config).await?;
        tracing::info!(core = %options.core, report = ?recovered.report, "journal recovered");

        let shared = Shared::new(options.memory_bytes, clock.clone());
        let drained = disk.clone();
        shared.pacer().drain_with(move || drained.drain());
        let tree = TreeConfig { window_ms: options.window_ms };
        let mut partitions = BTreeMap::new();
        let mut groups = CoreGroups::default();
        for id in router.partitions_of(options.core) {
            let dir = core_dir.join(format!("partition-{:05}", id.get()));
            disk.create_dir_all(&dir).await?;
            let partition = Partition::open(disk.clone(), dir, id, tree, shared.clone()).await?;
            let found = recovered.partitions.get(&id);
            let group = open_group(&journal, &partition, found, NODE, rng.fork()).await?;
            journal.truncate(id, partition.flushed().0);
            groups.insert(group)?;
            partitions.insert(id, partition);
        }
        disk.sync_dir(&core_dir).await?;

        let wakers = Rc::new(Wakers::default());
        let now = clock.now();
        let state =
            CoreState::new(&options, router, groups, partitions.clone(), rng, Rc::clone(&wakers), &metrics, now);
        let state = RefCell::new(state);
        let core = Rc::new(Self { clock, options, metrics, journal, shared, partitions, state, wakers });
        core.resume_fanout().await?;
        match core.journal.maintain().await {
            Ok(()) => {}
            Err(columba_engine::Error::NoSpace { what }) => tracing::warn!(what, "the disk is full at the start"),
            Err(error) => return Err(Error::Engine(error)),
        }
        core.handle_timeout();
        Ok(core)
    }

    async fn resume_fanout(&self) -> Result<()> {
        for partition in self.partitions.values() {
            for id in partition.pending_chats().await? {
                let Some(chat) = partition.chat(id).await? else {
                    continue;
                };
                let (Some(members), Some(progress)) = (partition.members(id).await?, partition.progress(id).await?)
                else {
                    continue;
                };
                self.state.borrow_mut().fanout.resume(id, &chat, &members, &progress, self.clock.now());
            }
        }
        Ok(())
    }

    /// Which core this is.
    pub fn id(&self) -> CoreId {
        self.options.core
    }

    /// Whether all partitions of the core have a leader here.
    pub fn is_ready(&self) -> bool {
        self.state.borrow().is_ready()
    }

    /// Counters.
    pub fn metrics(&self) -> &Arc<CoreMetrics> {
        &self.metrics
    }

    /// A partition of this core, for reads by checkers and inspection.
    pub fn partition(&self, id: PartitionId) -> Option<&Partition<D>> {
        self.partitions.get(&id)
    }

    /// The partitions of this core.
    pub fn partitions(&self) -> impl Iterator<Item = &Partition<D>> {
        self.partitions.values()
    }

    /// A new connection, not logged in.
    ///
    /// # Errors
    /// `TooManyConnections` or `Unavailable` (shutting down): close at once.
    pub fn connect(self: &Rc<Self>, peer: PeerInfo) -> core::result::Result<SessionHandle<D, C>, Code> {
        let session = self.with_state(|state| state.open_session(peer))?;
        Ok(SessionHandle { core: Rc::clone(self), session })
    }

    /// Runs what is due; to be called when [`Self::poll_timeout`]'s time has come, and at least every [`TIMEOUT_MAX`].
    pub fn handle_timeout(&self) {
        let room = self.journal.room_bytes();
        self.with_state(|state| state.handle_timeout(room));
        self.wake_waiters_for_time();
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.clock.now() + self.state.borrow().timeout())
    }

    /// A message from another core.
    pub fn handle_message(&self, _from: CoreId, message: CoreMessage) {
        self.with_state(|state| state.dispatch(message));
    }

    /// The next message to another core.
    pub fn poll_message(&self, cx: &mut Context<'_>) -> Poll<(CoreId, CoreMessage)> {
        if let Some(message) = self.state.borrow_mut().take_remote() {
            return Poll::Ready(message);
        }
        self.wakers.remote.set(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// Sessions are told and closed; new work is refused; [`Self::run_commit`] ends after the last write.
    pub fn begin_shutdown(&self) {
        self.with_state(CoreState::begin_shutdown);
        wake(&self.wakers.commit);
        wake(&self.wakers.background);
    }

    /// Borrows the state at the present time, and then carries out what followed from the call.
    fn with_state<T>(&self, call: impl FnOnce(&mut CoreState<D>) -> T) -> T {
        let mut state = self.state.borrow_mut();
        state.set_time(self.clock.now(), self.clock.wall());
        let result = call(&mut state);
        state.settle();
        result
    }
}

fn wake(slot: &core::cell::Cell<Option<Waker>>) {
    if let Some(waker) = slot.take() {
        waker.wake();
    }
}

/// A connection's hold on its session. Dropping it closes the session.
pub struct SessionHandle<D: Disk, C: Clock> {
    core: Rc<Core<D, C>>,
    session: SessionId,
}

impl<D: Disk, C: Clock> SessionHandle<D, C> {
    /// Takes a frame, in order of arrival; or why the bytes were none.
    pub fn handle_frame(&self, frame: core::result::Result<ClientFrame, FrameError>) {
        self.core.with_state(|state| state.handle_frame(self.session, frame));
    }

    /// The next thing to do for the front, which takes frames of the catch-up or does not now; wakes when there is
    /// more, or when input is wanted again.
    pub fn poll_output(&self, takes_catch_up: bool, cx: &mut Context<'_>) -> Poll<Output> {
        self.core.state.borrow_mut().poll_session(self.session, takes_catch_up, self.core.clock.now(), cx)
    }

    /// Whether what waited for the device goes by a stream of its own.
    pub fn has_catch_up_stream(&self) -> bool {
        self.core.state.borrow().session(self.session).is_some_and(crate::session::Session::has_catch_up_stream)
    }

    /// Bytes that the next frame may have.
    pub fn frame_bytes_max(&self) -> usize {
        self.core.state.borrow().session(self.session).map_or(0, crate::session::Session::frame_bytes_max)
    }

    /// So many bytes of frames have left for the socket.
    pub fn handle_written(&self, bytes: usize) {
        let now = self.core.clock.now();
        self.core.state.borrow_mut().handle_written(self.session, bytes, now);
    }

    /// Whether to read more from the socket now.
    pub fn wants_input(&self) -> bool {
        self.core.state.borrow_mut().wants_input(self.session)
    }

    /// The session, as others know it.
    pub fn session(&self) -> SessionRef {
        SessionRef { core: self.core.id(), session: self.session }
    }
}

impl<D: Disk, C: Clock> Drop for SessionHandle<D, C> {
    fn drop(&mut self) {
        self.core.with_state(|state| state.close_session(self.session));
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Self::Refused(code)
    }
}
