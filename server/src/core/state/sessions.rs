//! Sessions of a core: opened, fed, polled, closed; what they ask goes on to whoever answers it.

use core::task::{Context, Poll};
use std::net::IpAddr;

use columba_engine::env::{Disk, Instant};
use columba_wire::{
    Code,
    frame::FrameError,
    v1::{ClientFrame, server_frame::Kind},
};

use super::{CoreState, Job, Slot, Verdict, wake_slot};
use crate::{
    core::{
        Output, PeerInfo,
        limits::{SESSIONS_MAX, UNAUTHENTICATED_MAX},
        message::{Ask, ChatMessage, CoreMessage, SessionId, SessionMessage, SessionRef, UserMessage},
    },
    rate::{TokenBuckets, address_key},
    session::{Session, SessionEnv, SessionOutput},
};

impl<D: Disk> CoreState<D> {
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
        let limited = self.limits_loopback || !peer.address.ip().to_canonical().is_loopback();
        self.sessions.insert(id, Slot { session: Session::new(me, peer, limited, self.now), waker: None });
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
        let (logins, begun, limits_loopback, now) =
            (&mut self.logins, &mut self.links.begun, self.limits_loopback, self.now);
        let mut env = SessionEnv {
            rng: &mut |out| secure_random(out, rng),
            registration: &self.registration,
            logins: &mut |ip| may_go_on(logins, ip, limits_loopback, now),
            links: &mut |ip| may_go_on(begun, ip, false, now),
        };
        let mut out = Vec::new();
        slot.session.handle_frame(self.now, self.wall, frame, &mut env, &mut out);
        wake_slot(slot);
        for output in out {
            self.handle_session_output(id, output);
        }
    }

    pub(super) fn handle_session_output(&mut self, id: SessionId, output: SessionOutput) {
        match output {
            SessionOutput::Send(chat, request) => {
                self.metrics.sends_total.add(1);
                if request.limited
                    && let Err(wait) = self.send_limits.take_sender(request.sender, self.now)
                {
                    return self.refuse_send(&request, wait);
                }
                self.route(CoreMessage::Chat(chat, ChatMessage::Send(request)));
            }
            SessionOutput::User(user, message) => self.route(CoreMessage::User(user, message)),
            SessionOutput::Ask(request_id, ask) => match self.refuse_early(id, &ask) {
                Some(refusal) => self.reply(id, SessionMessage::Reply(request_id, refusal)),
                None => self.jobs.push_back(Job::Request(id, request_id, ask)),
            },
            SessionOutput::Login(request_id, attempt) => self.jobs.push_back(Job::Login(id, request_id, attempt)),
            SessionOutput::Register(request_id, registration) => {
                self.jobs.push_back(Job::Register(id, request_id, registration));
            }
            SessionOutput::BeginLink(request_id, device) => self.jobs.push_back(Job::BeginLink(id, request_id, device)),
            SessionOutput::ApproveLink(request_id, approval) => {
                self.jobs.push_back(Job::ApproveLink(id, request_id, approval));
            }
            SessionOutput::Subscribe { request_id, before, after } => {
                let session = SessionRef { core: self.me, session: id };
                for user in before.iter().filter(|user| !after.contains(user)) {
                    self.route(CoreMessage::User(*user, UserMessage::Unsubscribe(session)));
                }
                self.jobs.push_back(Job::Subscribe(session, request_id, after));
            }
        }
    }

    /// The answer to what the user has asked too often.
    fn refuse_early(&mut self, id: SessionId, ask: &Ask) -> Option<Kind> {
        match ask {
            Ask::Link(..) => self.refuse_look(id),
            Ask::Signal(_) => self.refuse_signal(id),
            _ => None,
        }
    }

    fn refuse_look(&mut self, id: SessionId) -> Option<Kind> {
        let address = self.session(id)?.address()?;
        let wait = self.links.looked.take(address.user, 1, self.now).err()?;
        Some(Kind::Error(wait.to_error()))
    }

    pub(crate) fn reply(&mut self, id: SessionId, message: SessionMessage) {
        if let SessionMessage::Linked(address, handle) = message {
            return self.handle_verdict(id, 0, Verdict::Linked(address, handle));
        }
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
            Verdict::LinkCode(code) => {
                slot.session.handle_link_code(request_id, code);
                wake_slot(slot);
                return;
            }
            Verdict::Linked(address, handle) => slot.session.handle_linked(address, handle, self.now, self.wall),
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

    pub(crate) fn poll_session(
        &mut self,
        id: SessionId,
        takes_catch_up: bool,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Output> {
        let Some(slot) = self.sessions.get_mut(&id) else {
            return Poll::Ready(Output::Close);
        };
        if let Some(output) = slot.session.poll_output(takes_catch_up, now) {
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
}

/// Takes a token of an address; of this machine's only where those are counted too.
fn may_go_on(buckets: &mut TokenBuckets<IpAddr>, ip: IpAddr, counts_loopback: bool, now: Instant) -> bool {
    let ip = ip.to_canonical();
    (ip.is_loopback() && !counts_loopback) || buckets.take(address_key(ip), 1, now).is_ok()
}
