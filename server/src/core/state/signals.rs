//! Signals from session to session: counted where they come in, passed on by the chat's core, and pushed by the core of
//! each recipient.

use columba_engine::env::Disk;
use columba_wire::{UserId, v1::server_frame::Kind};

use super::CoreState;
use crate::core::message::{CoreMessage, SessionId, SessionMessage, Signal, UserMessage};

impl<D: Disk> CoreState<D> {
    /// The answer to a signal where the user has sent too many.
    pub(super) fn refuse_signal(&mut self, id: SessionId) -> Option<Kind> {
        let session = self.session(id).filter(|session| session.is_limited())?;
        let user = session.address()?.user;
        let wait = self.signals.take(user, 1, self.now).err()?;
        self.metrics.rate_limited_total.add(1);
        Some(Kind::Error(wait.to_error()))
    }

    /// Sends a signal to the cores of these users.
    pub(crate) fn pass_on(&mut self, signal: &Signal, users: Vec<UserId>) {
        self.metrics.signals_total.add(1);
        for user in users {
            self.route(CoreMessage::User(user, UserMessage::Signal(signal.clone())));
        }
    }

    /// Pushes a signal to the sessions of one whom it is for.
    pub(super) fn push_signal(&mut self, user: UserId, signal: &Signal) {
        for (device, session) in self.live.sessions_by_device(user) {
            if signal.is_for(user, device) {
                self.route_session(session, SessionMessage::Hint(Kind::Signal(signal.to_frame())));
            }
        }
    }
}
