//! Everything of a core that changes without waiting: sessions, proposals, fan-out, live users, and the messages
//! between them. What must wait becomes a [`Job`].
//!
//! Invariants
//! - Methods here never wait; a call takes its time from [`CoreState::set_time`].
//! - Messages that a core sends itself are handled in order, before [`CoreState::settle`] returns.

mod directory;
mod proposals;
mod routing;
mod sessions;
mod signals;
mod timeouts;

use core::{cell::Cell, task::Waker};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
};

use columba_engine::{
    env::{Disk, Instant, Rng, clock::WallTime},
    ids::{CoreId, PartitionId, Term},
    partition::{
        Partition,
        command::Command,
        effect::{Outcome, StoredMessage},
        group::{Marks, Seat},
        retention::Retention,
    },
};
use columba_replication::CoreGroups;
use columba_wire::{ChatId, Code, DeviceAddress, UserId, link::LinkCode, v1};

use super::{
    CoreOptions, TIMEOUT_MAX,
    host::Proposals,
    key_limits::KeyLimits,
    limits::{ERRAND_RETRY_EVERY, LOGIN_BURST, LOGINS_PER_SECOND, RATE_KEYS_MAX, SIGNAL_BURST, SIGNALS_PER_SECOND},
    links::{Links, NewDevice},
    message::{Answer, Ask, CoreMessage, Registration, SendContent, SendRequest, SessionId, SessionRef, Ticket},
    router::Router,
    send_limits::SendLimits,
};
use crate::{
    delivery::{
        ADVANCE_EVERY, GROUP_RECEIPT_EVERY, LARGE_ADVANCE_EVERY, LAST_SEEN_EVERY, RECEIPT_EVERY,
        fanout::Fanout,
        live::{Live, LiveOutput},
        presence::PresenceTable,
    },
    metrics::CoreMetrics,
    rate::TokenBuckets,
    registration::RegistrationPolicy,
    session::{Approval, Session, groups, handshake::LoginAttempt},
};

/// Whom to wake when there is something to do.
#[derive(Default)]
pub(crate) struct Wakers {
    pub(crate) commit: Cell<Option<Waker>>,
    pub(crate) jobs: Cell<Option<Waker>>,
    pub(crate) background: Cell<Option<Waker>>,
    pub(crate) remote: Cell<Option<Waker>>,
}

/// Work that must wait for something.
#[derive(Debug)]
pub(crate) enum Job {
    /// Load a chat's rows, check a new chat's peer, and then propose what waits for it.
    Admit(ChatId),
    /// Read messages for members that are behind.
    Pump(ChatId),
    /// Read a user's devices.
    LoadDevices(UserId),
    /// Catch a device up from its inbox.
    Sync(DeviceAddress, SessionRef),
    /// Answer a question.
    Answer(CoreId, Ticket, Box<Ask>),
    /// Ask for a session, and reply.
    Request(SessionId, u64, Ask),
    /// Check a login.
    Login(SessionId, u64, LoginAttempt),
    /// Register a user.
    Register(SessionId, u64, Registration),
    /// Subscribe a session to the presence of users, and reply.
    Subscribe(SessionRef, u64, Vec<UserId>),
    /// Find a code for a device that wants to be linked.
    BeginLink(SessionId, u64, NewDevice),
    /// Approve a link, and reply.
    ApproveLink(SessionId, u64, Approval),
    /// Carry out what is to be done about a user that is deleted.
    Errand(UserId),
    /// Find what earlier runs have left of that.
    ResumeErrands,
    /// Tell a user's devices that this one has changed the account.
    TellAccount(DeviceAddress),
    /// Tell sessions a user's presence, of which they may see more or less than before.
    TellPresence(UserId, Vec<SessionRef>),
}

/// What the members of a group have and have read.
struct GroupReceipt {
    seats: Arc<[Seat]>,
    delivered: Marks,
    read: Marks,
}

struct Slot {
    session: Session,
    waker: Option<Waker>,
}

/// A place for something that a job waits for.
pub(crate) enum Wait<T> {
    Pending(Option<Waker>),
    Ready(T),
}

/// The state of a core.
pub(crate) struct CoreState<D: Disk> {
    me: CoreId,
    pub(crate) router: Router,
    pub(crate) now: Instant,
    pub(crate) wall: WallTime,
    rng: Rng,
    secure_random: fn(&mut [u8], &mut Rng),
    registration: Rc<RegistrationPolicy>,
    logins: TokenBuckets<IpAddr>,
    pub(crate) links: Links,
    key_limits: KeyLimits,
    pub(crate) send_limits: SendLimits,
    /// Who has sent signals lately, on sessions of this core.
    signals: TokenBuckets<UserId>,
    limits_loopback: bool,
    pub(crate) groups: CoreGroups,
    partitions: BTreeMap<PartitionId, Partition<D>>,
    /// Partitions that have applied all that the journal held at the start.
    caught_up: BTreeSet<PartitionId>,
    pub(crate) catch_up_wakers: Vec<Waker>,
    pub(crate) proposals: BTreeMap<PartitionId, Proposals>,
    sessions: BTreeMap<SessionId, Slot>,
    unauthenticated: usize,
    next_id: u64,
    timeout_cursor: SessionId,
    pub(crate) fanout: Fanout,
    pub(crate) live: Live,
    pub(crate) presence: PresenceTable,
    local: VecDeque<CoreMessage>,
    remote: VecDeque<(CoreId, CoreMessage)>,
    /// Whether sessions are not read from because too much waits for other cores.
    holds_input: bool,
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) answers: BTreeMap<Ticket, Wait<Answer>>,
    pub(crate) outcomes: BTreeMap<u64, Wait<Result<Outcome, Code>>>,
    pub(crate) sync_wakers: BTreeMap<DeviceAddress, Waker>,
    pub(crate) admitting: BTreeMap<ChatId, VecDeque<SendRequest>>,
    /// How far inboxes are done with, and the chats that this was of.
    trims: BTreeMap<DeviceAddress, (u64, BTreeSet<ChatId>)>,
    next_advance: Instant,
    next_large_advance: Instant,
    next_receipts: Instant,
    /// What members of groups have, to be told to all of them.
    group_receipts: BTreeMap<ChatId, GroupReceipt>,
    next_group_receipts: Instant,
    next_last_seen: Instant,
    next_retention: Instant,
    /// Partitions to look at: whether they keep messages as they should, and what has expired.
    retention_due: BTreeSet<PartitionId>,
    retention: Retention,
    /// Users whose errands are under way; whether there is more to do than a running one may have seen.
    errands: BTreeMap<UserId, bool>,
    /// Users whose errands failed.
    failed_errands: BTreeSet<UserId>,
    /// When those are tried again.
    next_errands: Instant,
    next_tick: Instant,
    pub(crate) room: u64,
    /// Memtables have reached their bound.
    pub(crate) memory_is_full: bool,
    /// A partition whose flush found no space, until it does.
    pub(crate) flush_blocked_on: Option<PartitionId>,
    segment_bytes: u64,
    pub(crate) shutting_down: bool,
    pub(crate) flush_requested: bool,
    wakers: Rc<Wakers>,
    pub(crate) metrics: Arc<CoreMetrics>,
    live_out: Vec<LiveOutput>,
}

impl<D: Disk> CoreState<D> {
    #[expect(clippy::too_many_arguments, reason = "the parts of a core, once, at its making")]
    pub(crate) fn new(
        options: &CoreOptions,
        router: Router,
        groups: CoreGroups,
        partitions: BTreeMap<PartitionId, Partition<D>>,
        rng: Rng,
        wakers: Rc<Wakers>,
        metrics: &Arc<CoreMetrics>,
        now: Instant,
    ) -> Self {
        let proposals = partitions.keys().map(|id| (*id, Proposals::default())).collect();
        Self {
            me: options.core,
            router,
            now,
            wall: WallTime::default(),
            rng,
            secure_random: options.secure_random,
            registration: Rc::clone(&options.registration),
            logins: TokenBuckets::new(LOGIN_BURST, LOGINS_PER_SECOND, RATE_KEYS_MAX),
            links: Links::default(),
            key_limits: KeyLimits::default(),
            send_limits: SendLimits::default(),
            signals: TokenBuckets::new(SIGNAL_BURST, SIGNALS_PER_SECOND, RATE_KEYS_MAX),
            limits_loopback: options.limits_loopback,
            groups,
            partitions,
            caught_up: BTreeSet::new(),
            catch_up_wakers: Vec::new(),
            proposals,
            sessions: BTreeMap::new(),
            unauthenticated: 0,
            next_id: 1,
            timeout_cursor: SessionId(0),
            fanout: Fanout::new(options.hinted_from_members),
            live: Live::default(),
            presence: PresenceTable::default(),
            local: VecDeque::new(),
            remote: VecDeque::new(),
            holds_input: false,
            jobs: VecDeque::new(),
            answers: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            sync_wakers: BTreeMap::new(),
            admitting: BTreeMap::new(),
            trims: BTreeMap::new(),
            next_advance: now + ADVANCE_EVERY,
            next_large_advance: now + LARGE_ADVANCE_EVERY,
            next_receipts: now + RECEIPT_EVERY,
            group_receipts: BTreeMap::new(),
            next_group_receipts: now + GROUP_RECEIPT_EVERY,
            next_last_seen: now + LAST_SEEN_EVERY,
            next_retention: now,
            retention_due: BTreeSet::new(),
            retention: options.retention,
            errands: BTreeMap::new(),
            failed_errands: BTreeSet::new(),
            next_errands: now + ERRAND_RETRY_EVERY,
            next_tick: now + TIMEOUT_MAX,
            room: u64::MAX,
            memory_is_full: false,
            flush_blocked_on: None,
            segment_bytes: options.segment_bytes,
            shutting_down: false,
            flush_requested: false,
            wakers,
            metrics: Arc::clone(metrics),
            live_out: Vec::new(),
        }
    }

    pub(crate) fn set_time(&mut self, now: Instant, wall: WallTime) {
        self.now = now;
        self.wall = wall;
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.groups.all_lead() && self.has_caught_up() && !self.shutting_down
    }

    /// Whether every partition has applied what the journal held at the start. Before that its rows are those of the
    /// last flush: to answer from them would deny users and messages that are stored.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.caught_up.len() == self.partitions.len()
    }

    /// An entry of this term was applied. The first of the present term comes behind everything older. What is
    /// delivered from then on begins with what the earlier run left undone.
    pub(crate) fn handle_applied_term(&mut self, partition: PartitionId, term: Term) {
        if self.has_caught_up() || term != self.groups.group(partition).term() {
            return;
        }
        self.caught_up.insert(partition);
        if self.has_caught_up() {
            self.catch_up_wakers.drain(..).for_each(Waker::wake);
            self.jobs.extend(self.fanout.behind().into_iter().map(Job::Pump));
            self.jobs.push_back(Job::ResumeErrands);
            // Before anything that clients ask is applied by what held until now.
            self.propose_retention();
        }
    }

    /// A number that was not given before.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// A link code that nobody can guess.
    pub(crate) fn new_link_code(&mut self) -> LinkCode {
        let mut bytes = [0; 5];
        (self.secure_random)(&mut bytes, &mut self.rng);
        LinkCode::from_random(bytes)
    }
}

/// The verdict on an attempt to get in.
pub(crate) enum Verdict {
    Login(Option<Admitted>),
    Registered(Result<Admitted, Code>),
    /// Not yet: where it waits to be linked.
    LinkCode(Result<LinkCode, Code>),
    /// With its user's handle.
    Linked(DeviceAddress, String),
}

/// A device whose session is open now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admitted {
    pub(crate) device: DeviceAddress,
    /// One-time keys that it has left.
    pub(crate) one_time_keys: u32,
}

fn wake_slot(slot: &mut Slot) {
    if let Some(waker) = slot.waker.take() {
        waker.wake();
    }
}

fn fill<K: Ord, T>(waits: &mut BTreeMap<K, Wait<T>>, key: K, value: T) {
    if let Some(wait) = waits.get_mut(&key)
        && let Wait::Pending(Some(waker)) = core::mem::replace(wait, Wait::Ready(value))
    {
        waker.wake();
    }
}

/// An id as a frame holds it.
pub(crate) fn id_bytes(bytes: &[u8; 16]) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(bytes)
}

/// The command of a send, at this time.
pub(crate) fn send_command(chat: ChatId, request: &SendRequest, wall: WallTime) -> Command {
    let SendRequest { sender, client_seq, .. } = *request;
    let time_ms = wall.as_millis();
    let (peer, body) = match &request.content {
        SendContent::ToUser(peer, body) => (Some(*peer), body.clone()),
        SendContent::ToGroup(body) => (None, body.clone()),
        SendContent::Change(change) => {
            return Command::ChangeGroup { chat, sender, client_seq, time_ms, change: change.clone() };
        }
    };
    Command::Send { chat, peer, sender, client_seq, time_ms, body }
}

/// A message as a frame.
pub(crate) fn deliver_frame(chat: ChatId, message: &StoredMessage, now: WallTime) -> v1::Deliver {
    v1::Deliver {
        chat_id: id_bytes(chat.as_bytes()),
        seq: message.seq.get(),
        sender_user: id_bytes(message.sender.user.as_bytes()),
        sender_device: message.sender.device.get(),
        time_ms: message.time_ms,
        body: message.client_body(now.as_millis()),
        change: groups::change_of(message).map(Box::new),
        timer_s: message.timer_s().unwrap_or(0),
    }
}
