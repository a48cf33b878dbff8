//! What follows from changes of accounts and keys, and who may take keys.

use std::{collections::btree_map::Entry, sync::Arc};

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

    /// Whoever watches a user learns that it has other devices now.
    pub(super) fn handle_devices(&mut self, user: UserId, version: u32) {
        let watchers = self.presence.handle_devices(user, version);
        if !watchers.is_empty() {
            self.jobs.push_back(Job::TellPresence(user, watchers));
        }
    }

    pub(super) fn handle_keys_low(&mut self, device: DeviceAddress, one_time_keys: u32) {
        if let Some(session) = self.live.session_of(device) {
            self.route_session(session, SessionMessage::Hint(Kind::KeysLow(v1::KeysLow { one_time_keys })));
        }
    }

    /// A deleted user's errand is to be carried out: now, or once more where that is under way.
    pub(crate) fn begin_errand(&mut self, user: UserId) {
        match self.errands.entry(user) {
            Entry::Occupied(mut running) => *running.get_mut() = true,
            Entry::Vacant(idle) => {
                idle.insert(false);
                self.jobs.push_back(Job::Errand(user));
            }
        }
    }

    /// It was carried out, or is to be tried again.
    pub(crate) fn end_errand(&mut self, user: UserId, is_done: bool) {
        let again = self.errands.remove(&user).unwrap_or_default();
        if !is_done {
            self.failed_errands.insert(user);
        } else if again {
            self.begin_errand(user);
        }
    }

    pub(super) fn retry_errands(&mut self) {
        for user in core::mem::take(&mut self.failed_errands) {
            self.begin_errand(user);
        }
    }

    /// Counts that `asker` takes keys of `user`.
    pub(crate) fn take_key_token(&mut self, asker: UserId, user: UserId) -> Result<(), RetryAfterMs> {
        let verdict = self.key_limits.take(asker, user, self.now);
        self.metrics.rate_limited_total.add(u64::from(verdict.is_err()));
        verdict
    }
}
