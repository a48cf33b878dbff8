//! A device's session: frames in, frames out, and what it asks of the rest. No sockets, no clock, no waiting.
//!
//! | module | what it holds |
//! |---|---|
//! | [`handshake`] | hello, challenge, registration and login: what a stranger may do |
//! | [`devices`] | what it may ask about its user's devices |
//! | `people`, `keys` | requests about accounts and keys |
//! | `signals` | what is passed on and never stored |
//! | [`groups`] | changes of groups and chats, to and from frames |
//! | [`outbox`] | frames to write, bounded, with the stall clock |
//!
//! Catch-up is a job of the core ([`crate::core`], "sync"), since it waits for the disk.
//!
//! Invariants
//! - Before login nothing but the handshake is answered; anything else ends the connection.
//! - Each request with a number is answered once, by its kind or by an error.
//! - A frame that cannot be understood ends the session with a code; it never disturbs another.
//! - What waits to be written is bounded: pushes by the device's unacknowledged bound, replies by holding back input.

mod devices;
pub(crate) mod groups;
pub mod handshake;
mod keys;
pub mod outbox;
mod people;
mod signals;

use core::time::Duration;

use bytes::Bytes;
use columba_engine::{
    env::{Instant, clock::WallTime},
    partition::group::GroupChange,
};
use columba_wire::{
    ChatId, ClientSeq, Code, DeviceAddress, MessageSeq, UserId,
    frame::FrameError,
    limits::{
        BODY_BYTES_MAX, FRAME_BYTES_MAX, FRAME_BYTES_UNAUTHENTICATED_MAX, HEARTBEAT_DEADLINE_MS, HISTORY_PAGE_MAX,
        LINK_MS_MAX, LOGIN_MS_MAX, PRESENCE_SUBSCRIPTIONS_MAX, SENDS_IN_FLIGHT_MAX,
    },
    link::LinkCode,
    v1::{self, ClientFrame, client_frame::Kind as Request, server_frame::Kind},
    version,
};

pub(crate) use self::devices::Approval;
use self::{handshake::Handshake, outbox::Outbox};
use crate::{
    core::limits::REQUESTS_IN_FLIGHT_MAX,
    core::{
        Admitted, Output, PeerInfo,
        links::NewDevice,
        message::{
            Ask, Registration, SendContent, SendRefusal, SendRequest, SessionMessage, SessionRef, UserMessage, Way,
        },
    },
};

/// What a session asks of its core.
#[derive(Debug)]
pub(crate) enum SessionOutput {
    /// A message, or a change of a group, for a chat's core.
    Send(ChatId, SendRequest),
    /// A message for a user's core.
    User(UserId, UserMessage),
    /// A question whose answer becomes the reply to a request.
    Ask(u64, Ask),
    /// Check a login: the answer comes back through [`Session::handle_login`].
    Login(u64, handshake::LoginAttempt),
    /// Register: the answer comes back through [`Session::handle_registered`].
    Register(u64, Registration),
    /// Find a link code: it comes back through [`Session::handle_link_code`].
    BeginLink(u64, NewDevice),
    /// Approve a link: answered like a question.
    ApproveLink(u64, Approval),
    /// Tell the state of these users and changes from now on, instead of those before: answered like a question.
    Subscribe { request_id: u64, before: Vec<UserId>, after: Vec<UserId> },
}

/// A session.
pub(crate) struct Session {
    me: SessionRef,
    state: State,
    /// Whether rates are limited for it.
    limited: bool,
    pub(crate) outbox: Outbox,
    sends_in_flight: usize,
    requests_in_flight: usize,
    /// When it began to do what it must end with a login: at first, or as it began to wait for a link.
    opened_at: Instant,
    last_frame_at: Instant,
    subscriptions: Vec<UserId>,
    /// What both sides can do beyond the base, once it is open.
    capabilities: u64,
}

enum State {
    Handshake(Handshake),
    Open(DeviceAddress),
    Closed,
}

impl Session {
    pub(crate) fn new(me: SessionRef, peer: PeerInfo, limited: bool, now: Instant) -> Self {
        Self {
            me,
            state: State::Handshake(Handshake::new(peer)),
            limited,
            outbox: Outbox::default(),
            sends_in_flight: 0,
            requests_in_flight: 0,
            opened_at: now,
            last_frame_at: now,
            subscriptions: Vec::new(),
            capabilities: 0,
        }
    }

    /// The device, once it is logged in.
    pub(crate) fn address(&self) -> Option<DeviceAddress> {
        match &self.state {
            State::Open(address) => Some(*address),
            State::Handshake(_) | State::Closed => None,
        }
    }

    /// Whether rates are limited for it.
    pub(crate) fn is_limited(&self) -> bool {
        self.limited
    }

    /// Whose presence it is subscribed to.
    pub(crate) fn subscriptions(&self) -> &[UserId] {
        &self.subscriptions
    }

    /// Bytes that the next frame may have.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        match self.state {
            State::Open(_) => FRAME_BYTES_MAX,
            State::Handshake(_) | State::Closed => FRAME_BYTES_UNAUTHENTICATED_MAX,
        }
    }

    /// Whether it may read more now.
    pub(crate) fn wants_input(&self) -> bool {
        !self.outbox.is_full() && self.requests_in_flight < REQUESTS_IN_FLIGHT_MAX
    }

    /// Takes a frame.
    pub(crate) fn handle_frame(
        &mut self,
        now: Instant,
        wall: WallTime,
        frame: Result<ClientFrame, FrameError>,
        env: &mut SessionEnv<'_>,
        out: &mut Vec<SessionOutput>,
    ) {
        if self.outbox.is_closing() {
            return;
        }
        self.last_frame_at = now;
        let frame = match frame {
            Ok(frame) => frame,
            Err(error @ FrameError::TooLarge { .. }) => return self.fail(Code::FrameTooLarge, &error.to_string()),
            Err(FrameError::Malformed(_)) => return self.fail(Code::Malformed, "not a frame"),
            Err(FrameError::NoKind) => return self.fail(Code::Malformed, "frame without a known kind"),
        };
        let ClientFrame { request_id, kind } = frame;
        let Some(kind) = kind else {
            return self.fail(Code::Malformed, "frame without a known kind");
        };
        match &mut self.state {
            State::Handshake(handshake) => {
                let step = handshake.handle(request_id, kind, wall, env);
                if matches!(step, handshake::Step::Link(_)) {
                    self.opened_at = now;
                }
                self.carry_out(request_id, step, out);
            }
            State::Open(address) => {
                let address = *address;
                if let Err(code) = self.handle_request(address, request_id, kind, wall, out) {
                    self.refuse(request_id, code, "");
                }
            }
            State::Closed => {}
        }
    }

    fn carry_out(&mut self, request_id: u64, step: handshake::Step, out: &mut Vec<SessionOutput>) {
        match step {
            handshake::Step::Reply(kind) => self.outbox.push(request_id, kind),
            handshake::Step::Refuse(code, message) => self.refuse(request_id, code, message),
            handshake::Step::Fail(code, message) => {
                self.refuse(request_id, code, message);
                self.outbox.close();
            }
            handshake::Step::Login(attempt) => out.push(SessionOutput::Login(request_id, attempt)),
            handshake::Step::Register(registration) => out.push(SessionOutput::Register(request_id, registration)),
            handshake::Step::Link(device) => out.push(SessionOutput::BeginLink(request_id, device)),
        }
    }

    fn handle_request(
        &mut self,
        me: DeviceAddress,
        request_id: u64,
        request: Request,
        wall: WallTime,
        out: &mut Vec<SessionOutput>,
    ) -> Result<(), Code> {
        match request {
            Request::Send(send) => {
                let (chat, request) = self.check_send(me, request_id, send)?;
                self.sends_in_flight += 1;
                out.push(SessionOutput::Send(chat, request));
            }
            Request::Ack(ack) => {
                let chat = parse_chat(&ack.chat_id)?;
                let ack = UserMessage::Ack { session: self.me, device: me.device, chat, seq: MessageSeq::new(ack.seq) };
                out.push(SessionOutput::User(me.user, ack));
            }
            Request::Read(read) => {
                let chat = parse_chat(&read.chat_id)?;
                let ask = Ask::MarkRead { chat, user: me.user, seq: MessageSeq::new(read.seq), hidden: true };
                self.ask(request_id, ask, out);
            }
            Request::GetHistory(page) => {
                let chat = parse_chat(&page.chat_id)?;
                if page.limit == 0 || page.limit > HISTORY_PAGE_MAX {
                    return Err(Code::InvalidArgument);
                }
                let before = MessageSeq::new(page.before_seq);
                self.ask(request_id, Ask::History { chat, user: me.user, before, limit: page.limit }, out);
            }
            Request::GetReceipts(receipts) => {
                let chat = parse_chat(&receipts.chat_id)?;
                self.ask(request_id, Ask::Members { chat, user: me.user }, out);
            }
            Request::GetChat(get) => {
                let chat = parse_chat(&get.chat_id)?;
                self.ask(request_id, Ask::Chat { chat, user: me.user }, out);
            }
            Request::GetInvite(get) => self.ask(request_id, groups::get_invite(&get)?, out),
            Request::FindUser(find) => {
                if !columba_wire::ids::handle_is_valid(&find.handle) {
                    return Err(Code::InvalidArgument);
                }
                self.ask(request_id, Ask::FindHandle(find.handle), out);
            }
            Request::SubscribePresence(subscribe) => {
                if subscribe.user_ids.len() > PRESENCE_SUBSCRIPTIONS_MAX {
                    return Err(Code::TooManySubscriptions);
                }
                let users: Result<Vec<_>, _> = subscribe.user_ids.iter().map(|id| UserId::try_from(&id[..])).collect();
                let mut users = users.map_err(|_| Code::InvalidArgument)?;
                users.sort_unstable();
                users.dedup();
                let before = core::mem::replace(&mut self.subscriptions, users.clone());
                self.requests_in_flight += 1;
                out.push(SessionOutput::Subscribe { request_id, before, after: users });
            }
            Request::GetDevices(get) => self.ask(request_id, devices::get_devices(me.user, &get)?, out),
            Request::GetLink(link) => self.ask(request_id, devices::get_link(&link)?, out),
            Request::ApproveLink(approve) => {
                let approval = devices::approve(me.user, approve)?;
                self.requests_in_flight += 1;
                out.push(SessionOutput::ApproveLink(request_id, approval));
            }
            Request::RenameDevice(rename) => self.ask(request_id, devices::rename(me.user, rename)?, out),
            Request::RevokeDevice(revoke) => self.ask(request_id, devices::revoke(me.user, &revoke)?, out),
            Request::GetUser(get) => self.ask(request_id, people::get_user(&get)?, out),
            Request::GetAccount(v1::GetAccount {}) => self.ask(request_id, people::get_account(me), out),
            Request::SetProfile(set) => self.ask(request_id, people::set_profile(me, set)?, out),
            Request::SetPrivacy(set) => self.ask(request_id, people::set_privacy(me, set)?, out),
            Request::SetContacts(set) => self.ask(request_id, people::set_contacts(me, &set)?, out),
            Request::SetBlocked(set) => self.ask(request_id, people::set_blocked(me, &set)?, out),
            Request::GetContacts(v1::GetContacts {}) => self.ask(request_id, people::get_contacts(me), out),
            Request::GetChats(get) => self.ask(request_id, people::get_chats(me, &get)?, out),
            Request::DeleteAccount(delete) => self.ask(request_id, people::delete_account(me, delete)?, out),
            Request::PutKeys(put) => self.ask(request_id, keys::put_keys(me, &put)?, out),
            Request::GetKeys(get) => self.ask(request_id, keys::get_keys(me, &get, self.limited)?, out),
            Request::SendSignal(send) => self.ask(request_id, signals::send_signal(me, send)?, out),
            Request::Ping(v1::Ping {}) => {
                self.outbox.push(request_id, Kind::Pong(v1::Pong { server_time_ms: wall.as_millis() }));
            }
            Request::Bye(v1::Bye {}) => self.outbox.close(),
            Request::Hello(_) | Request::Register(_) | Request::Login(_) | Request::BeginLink(_) => {
                self.refuse(request_id, Code::Unexpected, "the session is open already");
                self.outbox.close();
            }
        }
        Ok(())
    }

    fn ask(&mut self, request_id: u64, ask: Ask, out: &mut Vec<SessionOutput>) {
        self.requests_in_flight += 1;
        out.push(SessionOutput::Ask(request_id, ask));
    }

    fn check_send(&self, me: DeviceAddress, request_id: u64, send: v1::Send) -> Result<(ChatId, SendRequest), Code> {
        if send.body.len() > BODY_BYTES_MAX {
            return Err(Code::BodyTooLarge);
        }
        if send.client_seq == 0 || send.client_seq == u64::MAX {
            return Err(Code::InvalidArgument);
        }
        let client_seq = ClientSeq::new(send.client_seq);
        let (chat, content) = match (&send.to_user[..], &send.chat_id[..], send.change) {
            (user, [], None) => {
                let user = UserId::try_from(user).map_err(|_| Code::InvalidArgument)?;
                (ChatId::direct(me.user, user), SendContent::ToUser(user, send.body))
            }
            ([], chat, None) => (parse_chat(chat)?, SendContent::ToGroup(send.body)),
            ([], chat, Some(change)) if send.body.is_empty() => {
                let change = groups::parse_change(me.user, *change)?;
                let is_new = matches!(change, GroupChange::Create { .. });
                let chat = match (chat, is_new) {
                    ([], true) => ChatId::group(me, client_seq),
                    (_, true) => return Err(Code::InvalidArgument),
                    (chat, false) => parse_chat(chat)?,
                };
                (chat, SendContent::Change(change))
            }
            _ => return Err(Code::InvalidArgument),
        };
        if self.sends_in_flight >= SENDS_IN_FLIGHT_MAX {
            return Err(Code::TooManyInFlight);
        }
        let (from, limited) = (self.me, self.limited);
        Ok((chat, SendRequest { from, request_id, sender: me, client_seq, content, limited }))
    }

    /// A message from elsewhere in the node.
    pub(crate) fn handle_message(&mut self, message: SessionMessage) {
        match message {
            SessionMessage::Reply(request_id, kind) => {
                self.requests_in_flight = self.requests_in_flight.saturating_sub(1);
                self.outbox.push(request_id, kind);
            }
            SessionMessage::Sent(request_id, answer) => {
                self.sends_in_flight = self.sends_in_flight.saturating_sub(1);
                match answer {
                    Ok(sent) => self.outbox.push(request_id, Kind::Sent(sent)),
                    Err(SendRefusal::Code(code)) => self.refuse(request_id, code, ""),
                    Err(SendRefusal::RateLimited(wait)) => self.outbox.push(request_id, Kind::Error(wait.to_error())),
                }
            }
            SessionMessage::Push(Way::Live, kind) => self.outbox.push(0, kind),
            SessionMessage::Push(Way::CatchUp, kind) => self.outbox.push_catch_up(kind),
            SessionMessage::Hint(kind) => self.outbox.push_hint(kind),
            SessionMessage::Linked(..) => debug_assert!(false, "the core takes it for a verdict"),
            SessionMessage::Goaway(code, reconnect_after_ms) => self.goaway(code, reconnect_after_ms),
        }
    }

    /// The verdict on a login. Returns the device where it is accepted.
    pub(crate) fn handle_login(
        &mut self,
        request_id: u64,
        accepted: Option<Admitted>,
        wall: WallTime,
    ) -> Option<DeviceAddress> {
        let State::Handshake(handshake) = &mut self.state else {
            return None;
        };
        let Some(admitted) = accepted else {
            let step = handshake.handle_failure(Code::Unauthenticated);
            self.carry_out(request_id, step, &mut Vec::new());
            return None;
        };
        self.capabilities = handshake.capabilities();
        Some(self.open(request_id, admitted, wall))
    }

    /// The verdict on a registration. Returns the device where it is accepted.
    pub(crate) fn handle_registered(
        &mut self,
        request_id: u64,
        outcome: Result<Admitted, Code>,
        wall: WallTime,
    ) -> Option<DeviceAddress> {
        let State::Handshake(handshake) = &mut self.state else {
            return None;
        };
        match outcome {
            Ok(admitted) => {
                self.capabilities = handshake.capabilities();
                let user_id = Bytes::copy_from_slice(admitted.device.user.as_bytes());
                let registered = v1::Registered { user_id, device_id: admitted.device.device.get() };
                self.outbox.push(request_id, Kind::Registered(registered));
                Some(self.open(0, admitted, wall))
            }
            Err(code) => {
                let step = handshake.handle_failure(code);
                self.carry_out(request_id, step, &mut Vec::new());
                None
            }
        }
    }

    /// The code of a device that waits to be linked, or why there is none.
    pub(crate) fn handle_link_code(&mut self, request_id: u64, code: Result<LinkCode, Code>) {
        let State::Handshake(handshake) = &mut self.state else {
            return;
        };
        match code {
            Ok(code) => {
                let expires_in_ms = u32::try_from(LINK_MS_MAX).expect("two minutes");
                self.outbox
                    .push(request_id, Kind::LinkCode(v1::LinkCode { code: code.as_str().to_owned(), expires_in_ms }));
            }
            Err(code) => {
                let step = handshake.handle_failure(code);
                self.carry_out(request_id, step, &mut Vec::new());
            }
        }
    }

    /// It was linked. Returns the device where it still waits for that.
    pub(crate) fn handle_linked(
        &mut self,
        address: DeviceAddress,
        handle: String,
        now: Instant,
        wall: WallTime,
    ) -> Option<DeviceAddress> {
        let State::Handshake(handshake) = &self.state else {
            return None;
        };
        if !handshake.is_linking() || self.outbox.is_closing() {
            return None;
        }
        self.capabilities = handshake.capabilities();
        let user_id = Bytes::copy_from_slice(address.user.as_bytes());
        self.outbox.push(0, Kind::Linked(v1::Linked { user_id, device_id: address.device.get(), handle }));
        self.last_frame_at = now;
        Some(self.open(0, Admitted { device: address, one_time_keys: 0 }, wall))
    }

    /// The device may speak from now on, and is told so.
    fn open(&mut self, request_id: u64, admitted: Admitted, wall: WallTime) -> DeviceAddress {
        let address = admitted.device;
        self.outbox.push_welcome(request_id, handshake::welcome(admitted, wall));
        self.state = State::Open(address);
        address
    }

    /// When time alone changes something.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let idle = match self.state {
            State::Handshake(_) if self.is_linking() => self.opened_at + Duration::from_millis(LINK_MS_MAX),
            State::Handshake(_) => self.opened_at + Duration::from_millis(LOGIN_MS_MAX),
            State::Open(_) => self.last_frame_at + Duration::from_millis(HEARTBEAT_DEADLINE_MS),
            State::Closed => return None,
        };
        Some(self.outbox.stalls_at().map_or(idle, |stall| stall.min(idle)))
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.outbox.is_closing() || self.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        if self.outbox.stalls_at().is_some_and(|at| at <= now) {
            self.goaway(Code::TooSlow, 1_000);
            self.outbox.abandon();
        } else if self.address().is_some() {
            self.goaway(Code::HeartbeatTimeout, 0);
        } else if self.is_linking() {
            self.fail(Code::LinkUnknown, "the link code has expired");
        } else {
            self.fail(Code::LoginTimeout, "no login in time");
        }
    }

    fn is_linking(&self) -> bool {
        matches!(&self.state, State::Handshake(handshake) if handshake.is_linking())
    }

    /// The node is going away.
    pub(crate) fn goaway(&mut self, code: Code, reconnect_after_ms: u32) {
        let message = code.name().to_owned();
        self.outbox.push(0, Kind::Goaway(v1::Goaway { code: code.number(), message, reconnect_after_ms }));
        self.outbox.close();
    }

    fn refuse(&mut self, request_id: u64, code: Code, message: &str) {
        let message = if message.is_empty() { code.name() } else { message };
        let retry_after_ms = match code {
            Code::NoSpace | Code::Overloaded | Code::RateLimited => 1_000,
            Code::Unavailable | Code::TooManyInFlight => 100,
            _ => 0,
        };
        let error = v1::Error { code: code.number(), message: message.to_owned(), retry_after_ms };
        self.outbox.push(request_id, Kind::Error(error));
    }

    fn fail(&mut self, code: Code, message: &str) {
        self.refuse(0, code, message);
        self.outbox.close();
    }

    /// The next thing for the front, which takes frames of the catch-up or does not now.
    pub(crate) fn poll_output(&mut self, takes_catch_up: bool, now: Instant) -> Option<Output> {
        self.outbox.poll(takes_catch_up, now)
    }

    /// Whether what waited for the device goes by a stream of its own.
    pub(crate) fn has_catch_up_stream(&self) -> bool {
        self.capabilities & version::CATCH_UP_STREAM != 0
    }

    /// The connection is gone.
    pub(crate) fn close(&mut self) -> Option<DeviceAddress> {
        let address = self.address();
        self.state = State::Closed;
        address
    }
}

/// What a session needs from its core while it handles a frame.
pub(crate) struct SessionEnv<'a> {
    pub(crate) rng: &'a mut dyn FnMut(&mut [u8]),
    pub(crate) registration: &'a crate::registration::RegistrationPolicy,
    pub(crate) logins: &'a mut dyn FnMut(std::net::IpAddr) -> bool,
    pub(crate) links: &'a mut dyn FnMut(std::net::IpAddr) -> bool,
}

fn parse_chat(bytes: &[u8]) -> Result<ChatId, Code> {
    ChatId::try_from(bytes).map_err(|_| Code::InvalidArgument)
}
