//! Messages between cores and to this one: sends to chats, deliveries to users, frames to sessions.
//!
//! Invariants
//! - A message waits for room, and is never dropped; what may wait is bounded by holding back the sessions' input.

use columba_engine::{
    env::{Disk, Instant, clock::WallTime},
    ids::CoreId,
    partition::roster::Sight,
};
use columba_wire::{
    ChatId, Code, DeviceAddress, UserId,
    v1::{self, server_frame::Kind},
};

use super::{CoreState, Job, Wait, deliver_frame, fill, id_bytes, wake_slot};
use crate::{
    core::{
        jobs,
        limits::REMOTE_WAITING_MAX,
        message::{Answer, ChatMessage, CoreMessage, SessionId, SessionMessage, SessionRef, Ticket, UserMessage, Way},
        wake,
    },
    delivery::{
        live::{Live, LiveOutput},
        presence,
    },
    session::Session,
};

impl<D: Disk> CoreState<D> {
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

    pub(super) fn send(&mut self, to: CoreId, message: CoreMessage) {
        if to == self.me {
            self.local.push_back(message);
        } else {
            self.remote.push_back((to, message));
        }
    }

    pub(crate) fn route_session(&mut self, session: SessionRef, message: SessionMessage) {
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
        let message = self.remote.pop_front();
        if self.holds_input && self.remote.len() <= REMOTE_WAITING_MAX / 2 {
            self.holds_input = false;
            self.sessions.values_mut().for_each(wake_slot);
        }
        message
    }

    /// Whether a session may be read from now.
    pub(crate) fn wants_input(&mut self, id: SessionId) -> bool {
        self.holds_input |= self.remote.len() >= REMOTE_WAITING_MAX;
        !self.holds_input && self.session(id).is_some_and(Session::wants_input)
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
                self.jobs.push_back(Job::Answer(jobs::asker(ticket), ticket, ask));
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

    pub(super) fn handle_chat(&mut self, chat: ChatId, message: ChatMessage) {
        match message {
            ChatMessage::Send(request) => self.handle_send(chat, request),
            ChatMessage::Progress { user, covered, delivered, everywhere } => {
                if self.fanout.handle_progress(chat, user, covered, delivered, everywhere, self.now) {
                    self.jobs.push_back(Job::Pump(chat));
                }
            }
            ChatMessage::Settled { user } => self.fanout.handle_settled(chat, user),
            ChatMessage::Rewind { user } => {
                if self.fanout.handle_rewind(chat, user) {
                    self.jobs.push_back(Job::Pump(chat));
                }
            }
        }
    }

    pub(super) fn handle_user(&mut self, user: UserId, message: UserMessage) {
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
                    user_id: about.map(|about| id_bytes(about.as_bytes())).unwrap_or_default(),
                    delivered_seq: delivered.get(),
                    read_seq: read.get(),
                };
                for session in self.live.sessions(user) {
                    self.route_session(session, SessionMessage::Hint(Kind::Receipt(receipt.clone())));
                }
            }
            UserMessage::Signal(signal) => self.push_signal(user, &signal),
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

    pub(super) fn carry_out_live(&mut self, outputs: &mut Vec<LiveOutput>) {
        for output in outputs.drain(..) {
            match output {
                LiveOutput::Push(session, way, chat, message) => {
                    self.metrics.delivers_total.add(1);
                    let deliver = Kind::Deliver(deliver_frame(chat, &message, self.wall));
                    self.route_session(session, SessionMessage::Push(way, deliver));
                }
                LiveOutput::Synced(session) => {
                    self.route_session(session, SessionMessage::Push(Way::CatchUp, Kind::Synced(v1::Synced {})));
                }
                LiveOutput::Replaced(session) => {
                    self.route_session(session, SessionMessage::Goaway(Code::Replaced, 0));
                }
                LiveOutput::Revoked(session) => {
                    self.route_session(session, SessionMessage::Goaway(Code::Revoked, 0));
                }
                LiveOutput::Progress { chat, user, covered, delivered, everywhere } => {
                    let progress = ChatMessage::Progress { user, covered, delivered, everywhere };
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
                LiveOutput::Trim(device, position, chat) => {
                    let (trim, chats) = self.trims.entry(device).or_default();
                    *trim = position.max(*trim);
                    chats.insert(chat);
                }
                LiveOutput::Presence(user, online) => self.handle_presence(user, online),
            }
        }
    }

    pub(super) fn handle_presence(&mut self, user: UserId, online: bool) {
        self.metrics.presence_changes_total.add(1);
        if !online {
            self.presence.handle_offline(user, self.wall);
        }
        for (session, sight) in self.presence.watchers(user) {
            // Who may not see that the user is online learns of nothing when it comes; when it goes, of when that was.
            if sight.online || (sight.last_seen && !online) {
                self.push_presence(session, user, sight, self.wall.as_millis());
            }
        }
    }

    /// Subscribes a session to a user's presence, and tells the present one; the files say when it was last seen.
    pub(crate) fn subscribe(
        &mut self,
        session: SessionRef,
        user: UserId,
        watcher: UserId,
        known: presence::Known,
        stored_ms: u64,
    ) {
        self.presence.subscribe(user, session, watcher, known);
        self.tell_presence(user, &[session], stored_ms);
    }

    /// Tells those of the sessions that watch a user its present presence.
    pub(crate) fn tell_presence(&mut self, user: UserId, sessions: &[SessionRef], stored_ms: u64) {
        let last_seen_ms = self.presence.last_seen(user).map_or(stored_ms, WallTime::as_millis);
        for (session, sight) in self.presence.watchers(user) {
            if sessions.contains(&session) {
                self.push_presence(session, user, sight, last_seen_ms);
            }
        }
    }

    fn push_presence(&mut self, session: SessionRef, user: UserId, sight: Sight, last_seen_ms: u64) {
        let online = sight.online && self.live.is_online(user);
        let last_seen_ms = if sight.last_seen && !online { last_seen_ms } else { 0 };
        let devices_version = self.presence.known(user).map_or(0, |known| known.devices_version);
        let frame = presence::frame(user, online, last_seen_ms, devices_version);
        self.route_session(session, SessionMessage::Hint(Kind::Presence(frame)));
    }
}
