//! Everything of a core that changes without waiting: sessions, proposals, fan-out, live users, and the messages between
//! them. What must wait becomes a [`Job`].
//!
//! Invariants
//! - Methods here never wait; a call takes its time from [`CoreState::set_time`].
//! - Messages that a core sends itself are handled in order, before [`CoreState::settle`] returns.

use core::{
    cell::Cell,
    task::{Context, Poll, Waker},
    time::Duration,
};
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
        chat::Chat,
        command::{Command, Progress},
        effect::{Effect, Effects, Outcome, StoredMessage},
        receipt::Member,
    },
};
use columba_replication::CoreGroups;
use columba_wire::{
    ChatId, Code, DeviceAddress, MessageSeq, UserId,
    frame::FrameError,
    v1::{self, ClientFrame, server_frame::Kind},
};

use super::{
    CoreOptions, Output, PeerInfo, TIMEOUT_MAX,
    host::{Proposals, Waiter},
    message::{
        Answer, Ask, ChatMessage, CoreMessage, Delivery, Registration, SendRequest, SessionId, SessionMessage,
        SessionRef, Ticket, UserMessage,
    },
    router::Router,
    wake,
};
use crate::{
    core::limits::{
        ADMITTING_MAX, JOURNAL_ROOM_INTERNAL_PART, JOURNAL_ROOM_SENDS_PART, LOGIN_BURST, LOGINS_PER_SECOND,
        RATE_KEYS_MAX, SESSIONS_MAX, UNAUTHENTICATED_MAX,
    },
    delivery::{
        ADVANCE_EVERY, LAST_SEEN_EVERY, RECEIPT_EVERY,
        fanout::Fanout,
        live::{Live, LiveOutput},
        presence::{self, PresenceTable},
    },
    metrics::CoreMetrics,
    rate::TokenBuckets,
    registration::RegistrationPolicy,
    session::{Session, SessionEnv, SessionOutput, handshake::LoginAttempt},
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
    /// Tell a session a user's presence.
    Presence(SessionRef, UserId),
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
    presence: PresenceTable,
    local: VecDeque<CoreMessage>,
    remote: VecDeque<(CoreId, CoreMessage)>,
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) answers: BTreeMap<Ticket, Wait<Answer>>,
    pub(crate) outcomes: BTreeMap<u64, Wait<Result<Outcome, Code>>>,
    pub(crate) sync_wakers: BTreeMap<DeviceAddress, Waker>,
    pub(crate) admitting: BTreeMap<ChatId, VecDeque<SendRequest>>,
    trims: BTreeMap<DeviceAddress, u64>,
    next_advance: Instant,
    next_receipts: Instant,
    next_last_seen: Instant,
    next_tick: Instant,
    pub(crate) room: u64,
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
            groups,
            partitions,
            caught_up: BTreeSet::new(),
            catch_up_wakers: Vec::new(),
            proposals,
            sessions: BTreeMap::new(),
            unauthenticated: 0,
            next_id: 1,
            timeout_cursor: SessionId(0),
            fanout: Fanout::default(),
            live: Live::default(),
            presence: PresenceTable::default(),
            local: VecDeque::new(),
            remote: VecDeque::new(),
            jobs: VecDeque::new(),
            answers: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            sync_wakers: BTreeMap::new(),
            admitting: BTreeMap::new(),
            trims: BTreeMap::new(),
            next_advance: now + ADVANCE_EVERY,
            next_receipts: now + RECEIPT_EVERY,
            next_last_seen: now + LAST_SEEN_EVERY,
            next_tick: now + TIMEOUT_MAX,
            room: u64::MAX,
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

    /// An entry of this term was applied. The first of the present term comes behind everything older.
    pub(crate) fn handle_applied_term(&mut self, partition: PartitionId, term: Term) {
        if self.has_caught_up() || term != self.groups.group(partition).term() {
            return;
        }
        self.caught_up.insert(partition);
        if self.has_caught_up() {
            self.catch_up_wakers.drain(..).for_each(Waker::wake);
        }
    }

    /// A number that was not given before.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn resume_chat(&mut self, id: ChatId, chat: &Chat, members: &BTreeMap<UserId, Member>, now: Instant) {
        self.fanout.resume(id, chat, members, now);
    }

    // Sessions.

    pub(crate) fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id).map(|slot| &slot.session)
    }

    pub(crate) fn open_session(&mut self, peer: PeerInfo) -> Result<SessionId, Code> {
        if self.shutting_down {
            return Err(Code::Unavailable);
        }
        if self.sessions.len() >= SESSIONS_MAX || self.unauthenticated >= UNAUTHENTICATED_MAX {
            return Err(Code::TooManyConnections);
        }
        let id = SessionId(self.next_id());
        let me = SessionRef { core: self.me, session: id };
        self.sessions.insert(id, Slot { session: Session::new(me, peer, self.now), waker: None });
        self.unauthenticated += 1;
        self.metrics.sessions_open.set(self.sessions.len() as u64);
        Ok(id)
    }

    pub(crate) fn close_session(&mut self, id: SessionId) {
        let Some(mut slot) = self.sessions.remove(&id) else {
            return;
        };
        let session = SessionRef { core: self.me, session: id };
        for user in slot.session.subscriptions().to_vec() {
            self.route(CoreMessage::User(user, UserMessage::Unsubscribe(session)));
        }
        match slot.session.close() {
            Some(address) => {
                let detach = UserMessage::Detach { session, device: address.device };
                self.route(CoreMessage::User(address.user, detach));
            }
            None => self.unauthenticated -= 1,
        }
        self.metrics.sessions_open.set(self.sessions.len() as u64);
    }

    pub(crate) fn handle_frame(&mut self, id: SessionId, frame: Result<ClientFrame, FrameError>) {
        let Some(slot) = self.sessions.get_mut(&id) else {
            return;
        };
        let (rng, secure_random) = (&mut self.rng, self.secure_random);
        let (logins, now) = (&mut self.logins, self.now);
        let mut env = SessionEnv {
            rng: &mut |out| secure_random(out, rng),
            registration: &self.registration,
            logins: &mut |ip: IpAddr| ip.is_loopback() || logins.take(ip, 1, now).is_ok(),
        };
        let mut out = Vec::new();
        slot.session.handle_frame(self.now, self.wall, frame, &mut env, &mut out);
        wake_slot(slot);
        for output in out {
            self.handle_session_output(id, output);
        }
    }

    fn handle_session_output(&mut self, id: SessionId, output: SessionOutput) {
        match output {
            SessionOutput::Chat(chat, message) => {
                self.metrics.sends_total.add(1);
                self.route(CoreMessage::Chat(chat, message));
            }
            SessionOutput::User(user, message) => self.route(CoreMessage::User(user, message)),
            SessionOutput::Ask(request_id, ask) => self.jobs.push_back(Job::Request(id, request_id, ask)),
            SessionOutput::Login(request_id, attempt) => self.jobs.push_back(Job::Login(id, request_id, attempt)),
            SessionOutput::Register(request_id, registration) => {
                self.jobs.push_back(Job::Register(id, request_id, registration));
            }
            SessionOutput::Subscribe(request_id, before, after) => {
                let session = SessionRef { core: self.me, session: id };
                for user in before.iter().filter(|user| !after.contains(user)) {
                    self.route(CoreMessage::User(*user, UserMessage::Unsubscribe(session)));
                }
                for user in after {
                    self.route(CoreMessage::User(user, UserMessage::Subscribe(session)));
                }
                self.reply(id, SessionMessage::Reply(request_id, Kind::Done(v1::Done {})));
            }
        }
    }

    pub(crate) fn reply(&mut self, id: SessionId, message: SessionMessage) {
        if let Some(slot) = self.sessions.get_mut(&id) {
            slot.session.handle_message(message);
            wake_slot(slot);
        }
    }

    /// The verdict on a login or registration of a session.
    pub(crate) fn handle_verdict(&mut self, id: SessionId, request_id: u64, verdict: Verdict) {
        let Some(slot) = self.sessions.get_mut(&id) else {
            return;
        };
        let accepted = match verdict {
            Verdict::Login(accepted) => slot.session.handle_login(request_id, accepted, self.wall),
            Verdict::Registered(outcome) => slot.session.handle_registered(request_id, outcome, self.wall),
        };
        wake_slot(slot);
        let Some(address) = accepted else {
            self.metrics.login_failures_total.add(1);
            return;
        };
        self.metrics.logins_total.add(1);
        self.unauthenticated -= 1;
        let session = SessionRef { core: self.me, session: id };
        self.route(CoreMessage::User(address.user, UserMessage::Attach { session, device: address.device }));
    }

    pub(crate) fn poll_session(&mut self, id: SessionId, now: Instant, cx: &mut Context<'_>) -> Poll<Output> {
        let Some(slot) = self.sessions.get_mut(&id) else {
            return Poll::Ready(Output::Close);
        };
        if let Some(output) = slot.session.poll_output(now) {
            return Poll::Ready(output);
        }
        if slot.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            slot.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(crate) fn handle_written(&mut self, id: SessionId, bytes: usize, now: Instant) {
        if let Some(slot) = self.sessions.get_mut(&id) {
            let blocked = !slot.session.wants_input();
            slot.session.outbox.handle_written(bytes, now);
            if blocked && slot.session.wants_input() {
                wake_slot(slot);
            }
        }
    }

    // Messages between cores.

    /// Sends a message to the core that it is for.
    pub(crate) fn route(&mut self, message: CoreMessage) {
        let to = match &message {
            CoreMessage::Chat(chat, _) => self.router.core(self.router.chat(*chat)),
            CoreMessage::User(user, _) => self.router.core(self.router.user(*user)),
            CoreMessage::Ask(core, _, _) => *core,
            CoreMessage::Session(..) | CoreMessage::Answer(..) => self.me,
        };
        self.send(to, message);
    }

    fn send(&mut self, to: CoreId, message: CoreMessage) {
        if to == self.me {
            self.local.push_back(message);
        } else {
            self.remote.push_back((to, message));
        }
    }

    fn route_session(&mut self, session: SessionRef, message: SessionMessage) {
        if session.core == self.me {
            self.reply(session.session, message);
        } else {
            self.remote.push_back((session.core, CoreMessage::Session(session.session, message)));
        }
    }

    pub(crate) fn send_answer(&mut self, to: CoreId, ticket: Ticket, answer: Answer) {
        self.send(to, CoreMessage::Answer(ticket, Box::new(answer)));
    }

    pub(crate) fn take_remote(&mut self) -> Option<(CoreId, CoreMessage)> {
        self.remote.pop_front()
    }

    /// Handles what the core sent itself, and wakes whoever has something to do.
    pub(crate) fn settle(&mut self) {
        loop {
            while let Some(message) = self.local.pop_front() {
                self.dispatch(message);
            }
            if self.live.has_appends() {
                self.propose_appends();
            }
            if self.local.is_empty() {
                break;
            }
        }
        if !self.jobs.is_empty() {
            wake(&self.wakers.jobs);
        }
        if !self.remote.is_empty() {
            wake(&self.wakers.remote);
        }
        if self.groups.has_ready() || self.proposals.values().any(|proposals| !proposals.is_empty()) {
            wake(&self.wakers.commit);
        }
    }

    /// Handles a message to this core.
    pub(crate) fn dispatch(&mut self, message: CoreMessage) {
        match message {
            CoreMessage::Chat(chat, message) => self.handle_chat(chat, message),
            CoreMessage::User(user, message) => self.handle_user(user, message),
            CoreMessage::Session(id, message) => self.reply(id, message),
            CoreMessage::Ask(core, ticket, ask) => {
                debug_assert!(core == self.me, "questions go to the core they name");
                self.jobs.push_back(Job::Answer(super::jobs::asker(ticket), ticket, ask));
            }
            CoreMessage::Answer(ticket, answer) => fill(&mut self.answers, ticket, *answer),
        }
    }

    /// A new ticket; it carries this core's number, so that the answer finds back.
    pub(crate) fn new_ticket(&mut self) -> Ticket {
        let ticket = Ticket(u64::from(self.me.get()) << 48 | self.next_id());
        self.answers.insert(ticket, Wait::Pending(None));
        ticket
    }

    fn handle_chat(&mut self, chat: ChatId, message: ChatMessage) {
        match message {
            ChatMessage::Send(request) => self.handle_send(chat, request),
            ChatMessage::Progress { user, covered, delivered } => {
                if self.fanout.handle_progress(chat, user, covered, delivered, self.now) {
                    self.jobs.push_back(Job::Pump(chat));
                }
            }
            ChatMessage::Rewind { user } => {
                if self.fanout.handle_rewind(chat, user) {
                    self.jobs.push_back(Job::Pump(chat));
                }
            }
        }
    }

    fn handle_user(&mut self, user: UserId, message: UserMessage) {
        let mut out = core::mem::take(&mut self.live_out);
        match message {
            UserMessage::Attach { session, device } => {
                self.live.attach(DeviceAddress { user, device }, session, &mut out);
            }
            UserMessage::Detach { session, device } => {
                self.live.detach(DeviceAddress { user, device }, session, &mut out);
            }
            UserMessage::Ack { session, device, chat, seq } => {
                self.metrics.acks_total.add(1);
                self.live.ack(DeviceAddress { user, device }, session, chat, seq, self.now, &mut out);
            }
            UserMessage::Deliver(delivery) => self.live.deliver(user, delivery, self.now, &mut out),
            UserMessage::Receipt { chat, about, delivered, read } => {
                let receipt = v1::Receipt {
                    chat_id: id_bytes(chat.as_bytes()),
                    user_id: id_bytes(about.as_bytes()),
                    delivered_seq: delivered.get(),
                    read_seq: read.get(),
                };
                for session in self.live.sessions(user) {
                    self.route_session(session, SessionMessage::Push(Kind::Receipt(receipt.clone())));
                }
            }
            UserMessage::Subscribe(session) => {
                self.presence.subscribe(user, session);
                self.jobs.push_back(Job::Presence(session, user));
            }
            UserMessage::Unsubscribe(session) => self.presence.unsubscribe(user, session),
        }
        self.carry_out_live(&mut out);
        self.live_out = out;
    }

    pub(crate) fn with_live(&mut self, call: impl FnOnce(&mut Live, Instant, &mut Vec<LiveOutput>)) {
        let mut out = core::mem::take(&mut self.live_out);
        call(&mut self.live, self.now, &mut out);
        self.carry_out_live(&mut out);
        self.live_out = out;
    }

    fn carry_out_live(&mut self, outputs: &mut Vec<LiveOutput>) {
        for output in outputs.drain(..) {
            match output {
                LiveOutput::Push(session, chat, message) => {
                    self.metrics.delivers_total.add(1);
                    let deliver = Kind::Deliver(deliver_frame(chat, &message));
                    self.route_session(session, SessionMessage::Push(deliver));
                }
                LiveOutput::Synced(session) => {
                    self.route_session(session, SessionMessage::Push(Kind::Synced(v1::Synced {})));
                }
                LiveOutput::Replaced(session) => self.route_session(session, SessionMessage::Replaced),
                LiveOutput::Progress { chat, user, covered, delivered } => {
                    let progress = ChatMessage::Progress { user, covered, delivered };
                    self.route(CoreMessage::Chat(chat, progress));
                }
                LiveOutput::Rewind { chat, user } => {
                    self.route(CoreMessage::Chat(chat, ChatMessage::Rewind { user }));
                }
                LiveOutput::LoadDevices(user) => self.jobs.push_back(Job::LoadDevices(user)),
                LiveOutput::StartSync(device, session) => self.jobs.push_back(Job::Sync(device, session)),
                LiveOutput::WakeSync(device) => {
                    if let Some(waker) = self.sync_wakers.remove(&device) {
                        waker.wake();
                    }
                }
                LiveOutput::Trim(device, position) => {
                    let trim = self.trims.entry(device).or_default();
                    *trim = position.max(*trim);
                }
                LiveOutput::Presence(user, online) => self.handle_presence(user, online),
            }
        }
    }

    fn handle_presence(&mut self, user: UserId, online: bool) {
        self.metrics.presence_changes_total.add(1);
        if !online {
            self.presence.handle_offline(user, self.wall);
        }
        let frame = presence::frame(user, online, if online { 0 } else { self.wall.as_millis() });
        for session in self.presence.subscribers(user) {
            self.route_session(session, SessionMessage::Push(Kind::Presence(frame.clone())));
        }
    }

    /// Tells a session a user's presence, with what the files say of when it was last seen.
    pub(crate) fn tell_presence(&mut self, session: SessionRef, user: UserId, stored_ms: u64) {
        let online = self.live.is_online(user);
        let last_seen_ms = self.presence.last_seen(user).map_or(stored_ms, WallTime::as_millis);
        let frame = presence::frame(user, online, if online { 0 } else { last_seen_ms });
        self.route_session(session, SessionMessage::Push(Kind::Presence(frame)));
    }

    // Proposals.

    /// The partition, which is on this core.
    pub(crate) fn partition(&self, id: PartitionId) -> &Partition<D> {
        self.partitions.get(&id).expect("the router sends only what this core owns")
    }

    fn handle_send(&mut self, chat: ChatId, request: SendRequest) {
        if let Some(code) = self.refuses_sends() {
            return self.refuse_send(&request, code);
        }
        if let Some(waiting) = self.admitting.get_mut(&chat) {
            if waiting.len() >= ADMITTING_MAX {
                return self.refuse_send(&request, Code::Overloaded);
            }
            waiting.push_back(request);
            return;
        }
        let partition = self.router.chat(chat);
        let command = send_command(chat, &request, self.wall);
        if self.partition(partition).may_apply_send(&command) {
            self.propose_send(partition, chat, &request, &command);
            return;
        }
        if self.admitting.len() >= ADMITTING_MAX {
            return self.refuse_send(&request, Code::Overloaded);
        }
        self.admitting.insert(chat, VecDeque::from([request]));
        self.jobs.push_back(Job::Admit(chat));
    }

    fn refuses_sends(&self) -> Option<Code> {
        if self.shutting_down {
            return Some(Code::Unavailable);
        }
        (!self.has_room_for_clients()).then_some(Code::NoSpace)
    }

    /// Whether the journal has room for what clients ask.
    pub(crate) fn has_room_for_clients(&self) -> bool {
        self.room >= self.segment_bytes / JOURNAL_ROOM_SENDS_PART
    }

    pub(crate) fn refuse_send(&mut self, request: &SendRequest, code: Code) {
        match code {
            Code::NoSpace => self.metrics.refused_no_space_total.add(1),
            Code::Overloaded => self.metrics.refused_overload_total.add(1),
            _ => self.metrics.errors_total.add(1),
        }
        self.route_session(request.from, SessionMessage::Sent(request.request_id, Err(code)));
    }

    pub(crate) fn propose_send(
        &mut self,
        partition: PartitionId,
        chat: ChatId,
        request: &SendRequest,
        command: &Command,
    ) {
        let (session, request_id, client_seq) = (request.from, request.request_id, request.client_seq);
        let waiter = Waiter::Sent { session, request_id, client_seq, chat };
        if self.propose(partition, command, waiter).is_err() {
            self.refuse_send(request, Code::Overloaded);
        }
    }

    /// Adds a command to the next entry of a partition.
    pub(crate) fn propose(&mut self, partition: PartitionId, command: &Command, waiter: Waiter) -> Result<(), Waiter> {
        self.metrics.proposals_total.add(1);
        self.proposals.get_mut(&partition).expect("the partition is on this core").push(command, waiter)
    }

    /// Proposes what is not a client's: refused, and tried again later, only where the journal is all but full.
    fn propose_internal(&mut self, partition: PartitionId, command: &Command) -> bool {
        self.room >= self.segment_bytes / JOURNAL_ROOM_INTERNAL_PART
            && self.propose(partition, command, Waiter::None).is_ok()
    }

    fn propose_appends(&mut self) {
        let mut by_partition: BTreeMap<PartitionId, Vec<_>> = BTreeMap::new();
        let items = self.live.take_appends();
        if self.live.has_parked() {
            return self.live.park_appends(items);
        }
        for item in items {
            by_partition.entry(self.router.user(item.device.user)).or_default().push(item);
        }
        let mut refused = Vec::new();
        for (partition, items) in by_partition {
            let count = items.len() as u64;
            let command = Command::AppendInbox(items);
            if self.propose_internal(partition, &command) {
                self.metrics.inbox_appends_total.add(1);
                self.metrics.inbox_entries_total.add(count);
            } else if let Command::AppendInbox(items) = command {
                refused.extend(items);
            }
        }
        if !refused.is_empty() {
            // Kept out of `has_appends` until the next timeout, or this would try for ever.
            self.live.park_appends(refused);
        }
    }

    /// The waiters of an entry that could not be proposed.
    pub(crate) fn refuse_waiters(&mut self, waiters: Vec<Waiter>, code: Code) {
        for waiter in waiters {
            self.answer_waiter(waiter, Err(code));
        }
    }

    fn answer_waiter(&mut self, waiter: Waiter, outcome: Result<Outcome, Code>) {
        match waiter {
            Waiter::None => {}
            Waiter::Job(id) => fill(&mut self.outcomes, id, outcome),
            Waiter::Sent { session, request_id, client_seq, chat } => {
                let answer = match outcome {
                    Ok(Outcome::Sent { seq, time_ms, duplicate }) => {
                        self.metrics.sent_total.add(1);
                        self.metrics.duplicates_total.add(u64::from(duplicate));
                        let (client_seq, seq) = (client_seq.get(), seq.get());
                        Ok(v1::Sent { client_seq, chat_id: id_bytes(chat.as_bytes()), seq, time_ms, duplicate })
                    }
                    Ok(Outcome::Refused(code)) | Err(code) => Err(code),
                    Ok(Outcome::Done | Outcome::Claimed(_)) => Err(Code::Internal),
                };
                self.route_session(session, SessionMessage::Sent(request_id, answer));
            }
        }
    }

    /// An entry was applied: answer, deliver, go on.
    pub(crate) fn handle_effects(
        &mut self,
        partition: PartitionId,
        index: columba_engine::ids::LogIndex,
        effects: &mut Effects,
    ) {
        let waiters = self.proposals.get_mut(&partition).expect("it is on this core").take_waiters(index);
        self.metrics.entries_applied_total.add(1);
        self.metrics.commands_applied_total.add(effects.outcomes.len() as u64);
        if !waiters.is_empty() {
            assert!(waiters.len() == effects.outcomes.len(), "one outcome per command");
            for (waiter, outcome) in waiters.into_iter().zip(effects.outcomes.drain(..)) {
                self.answer_waiter(waiter, Ok(outcome));
            }
        }
        let mut deliver = Vec::new();
        for effect in effects.effects.drain(..) {
            match effect {
                Effect::Committed { chat, members, message } => {
                    self.fanout.handle_committed(chat, members, &message, self.now, &mut deliver);
                    self.route_deliveries(&mut deliver);
                }
                Effect::Advanced { chat, members, user, covered, delivered, read } => {
                    let has_record = self.fanout.handle_advanced(chat, user, covered, delivered);
                    if !has_record && delivered > MessageSeq::ZERO {
                        self.tell_receipt(chat, members, user, delivered, read);
                    }
                }
                Effect::ReadMoved { chat, members, user, delivered, read } => {
                    self.fanout.handle_read_moved(chat, user, read);
                    self.tell_receipt(chat, members, user, delivered, read);
                }
                Effect::Inboxed { device, chat, up_to } => {
                    self.with_live(|live, _now, out| live.handle_inboxed(device, chat, up_to, out));
                }
            }
        }
    }

    pub(crate) fn route_deliveries(&mut self, deliver: &mut Vec<(UserId, Delivery)>) {
        for (user, delivery) in deliver.drain(..) {
            self.route(CoreMessage::User(user, UserMessage::Deliver(delivery)));
        }
    }

    fn tell_receipt(
        &mut self,
        chat: ChatId,
        members: [UserId; 2],
        about: UserId,
        delivered: MessageSeq,
        read: MessageSeq,
    ) {
        for user in members.into_iter().filter(|user| *user != about) {
            self.route(CoreMessage::User(user, UserMessage::Receipt { chat, about, delivered, read }));
        }
    }

    // Time.

    /// How long the core may sleep.
    pub(crate) fn timeout(&self) -> Duration {
        if self.fanout.has_receipts() { RECEIPT_EVERY } else { TIMEOUT_MAX }
    }

    pub(crate) fn handle_timeout(&mut self, room: u64) {
        self.room = room;
        let now = self.now;
        if now >= self.next_tick {
            self.next_tick = now + TIMEOUT_MAX;
            self.groups.tick();
            self.handle_session_timeouts();
            self.live.unpark_appends();
            self.with_live(Live::handle_timeout_at);
            for chat in self.fanout.handle_timeout(now) {
                self.jobs.push_back(Job::Pump(chat));
            }
            self.propose_trims();
        }
        if now >= self.next_receipts {
            self.next_receipts = now + RECEIPT_EVERY;
            for receipt in self.fanout.take_receipts() {
                let (about, delivered, read) = (receipt.about, receipt.delivered, receipt.read);
                let message = UserMessage::Receipt { chat: receipt.chat, about, delivered, read };
                self.route(CoreMessage::User(receipt.to, message));
            }
        }
        if now >= self.next_advance || self.shutting_down {
            self.next_advance = now + ADVANCE_EVERY;
            self.propose_advances();
        }
        if now >= self.next_last_seen || self.shutting_down {
            self.next_last_seen = now + LAST_SEEN_EVERY;
            self.propose_last_seen();
        }
    }

    fn handle_session_timeouts(&mut self) {
        // A twentieth of the sessions at a time: each is looked at every two seconds.
        let count = (self.sessions.len() / 20).max(256);
        let now = self.now;
        let mut last = None;
        for (id, slot) in self.sessions.range_mut(self.timeout_cursor..).take(count) {
            slot.session.handle_timeout(now);
            if slot.session.outbox.has_output() {
                wake_slot(slot);
            }
            last = Some(*id);
        }
        self.timeout_cursor = match last {
            Some(SessionId(id)) => SessionId(id + 1),
            None => SessionId(0),
        };
    }

    fn propose_trims(&mut self) {
        for (device, position) in core::mem::take(&mut self.trims) {
            let command = Command::TrimInbox { device, position };
            if !self.propose_internal(self.router.user(device.user), &command) {
                self.trims.insert(device, position);
            }
        }
    }

    fn propose_advances(&mut self) {
        while self.fanout.has_moved() {
            let mut by_partition: BTreeMap<PartitionId, Vec<Progress>> = BTreeMap::new();
            let items = self.fanout.take_moved();
            if items.is_empty() {
                continue;
            }
            for item in items {
                by_partition.entry(self.router.chat(item.chat)).or_default().push(item);
            }
            let mut refused = false;
            for (partition, items) in by_partition {
                let command = Command::Advance(items);
                if self.propose_internal(partition, &command) {
                    self.metrics.fanout_advances_total.add(1);
                } else if let Command::Advance(items) = command {
                    self.fanout.return_moved(&items);
                    refused = true;
                }
            }
            if refused {
                break;
            }
        }
    }

    fn propose_last_seen(&mut self) {
        if !self.presence.has_unsaved() {
            return;
        }
        let mut by_partition: BTreeMap<PartitionId, Vec<(UserId, u64)>> = BTreeMap::new();
        for (user, at) in self.presence.take_unsaved() {
            by_partition.entry(self.router.user(user)).or_default().push((user, at));
        }
        for (partition, items) in by_partition {
            let command = Command::SetLastSeen(items);
            if !self.propose_internal(partition, &command)
                && let Command::SetLastSeen(items) = command
            {
                self.presence.return_unsaved(&items);
            }
        }
    }

    pub(crate) fn begin_shutdown(&mut self) {
        if core::mem::replace(&mut self.shutting_down, true) {
            return;
        }
        for slot in self.sessions.values_mut() {
            slot.session.goaway(Code::Unavailable, 1_000);
            wake_slot(slot);
        }
        self.handle_timeout(self.room);
    }

    /// Whether every command that was taken has its outcome.
    pub(crate) fn is_idle(&self) -> bool {
        self.proposals.values().all(Proposals::is_idle) && !self.groups.has_ready()
    }
}

/// The verdict on an attempt to get in.
pub(crate) enum Verdict {
    Login(Option<DeviceAddress>),
    Registered(Result<DeviceAddress, Code>),
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

fn id_bytes(bytes: &[u8; 16]) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(bytes)
}

/// The command of a send, at this time.
pub(crate) fn send_command(chat: ChatId, request: &SendRequest, wall: WallTime) -> Command {
    Command::Send {
        chat,
        peer: request.peer,
        sender: request.sender,
        client_seq: request.client_seq,
        time_ms: wall.as_millis(),
        body: request.body.clone(),
    }
}

/// A message as a frame.
pub(crate) fn deliver_frame(chat: ChatId, message: &StoredMessage) -> v1::Deliver {
    v1::Deliver {
        chat_id: id_bytes(chat.as_bytes()),
        seq: message.seq.get(),
        sender_user: id_bytes(message.sender.user.as_bytes()),
        sender_device: message.sender.device.get(),
        time_ms: message.time_ms,
        body: message.body.clone(),
    }
}
