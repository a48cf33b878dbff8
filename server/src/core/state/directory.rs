//! What follows from changes of accounts and keys, and who may take keys.

use std::sync::Arc;

use columba_engine::{env::Disk, partition::roster::Roster};
use columba_wire::{
    DeviceAddress, UserId,
    v1::{self, server_frame::Kind},
};

use super::{CoreState, Job};
use crate::{core::message::SessionMessage, rate::RetryAfterMs};

impl<D: Disk> CoreState<D> {
    pub(super) fn handle_user_changed(&mut self, by: DeviceAddress) {
        if self.live.is_online(by.user) {
            self.jobs.push_back(Job::TellAccount(by));
        }
    }

    pub(super) fn handle_roster_changed(&mut self, user: UserId, roster: Arc<Roster>) {
        let affected = self.presence.handle_roster(user, roster);
        if !affected.is_empty() {
            self.jobs.push_back(Job::TellPresence(user, affected));
        }
    }

    pub(super) fn handle_keys_low(&mut self, device: DeviceAddress, one_time_keys: u32) {
        if let Some(session) = self.live.session_of(device) {
            self.route_session(session, SessionMessage::Hint(Kind::KeysLow(v1::KeysLow { one_time_keys })));
        }
    }

    /// Counts that `asker` takes keys of `user`.
    pub(crate) fn take_key_token(&mut self, asker: UserId, user: UserId) -> Result<(), RetryAfterMs> {
        let verdict = self.key_limits.take(asker, user, self.now);
        self.metrics.rate_limited_total.add(u64::from(verdict.is_err()));
        verdict
    }
}
