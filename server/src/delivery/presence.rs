//! Online and last seen, per user, on the core of the user's partition. In memory; last seen is persisted lazily.
//!
//! Invariants
//! - A user is online while a device of the user has a session; no heartbeat costs a write.
//! - `last_seen` only grows, and is written at most every [`super::LAST_SEEN_EVERY`] for all users of a partition at
//!   once.

use std::collections::{BTreeMap, BTreeSet};

use columba_engine::env::clock::WallTime;
use columba_wire::{UserId, v1};

use super::SUBSCRIBERS_MAX;
use crate::core::message::SessionRef;

/// Presence of the users of a core.
#[derive(Default)]
pub(crate) struct PresenceTable {
    subscribers: BTreeMap<UserId, BTreeSet<SessionRef>>,
    last_seen: BTreeMap<UserId, WallTime>,
    unsaved: BTreeSet<UserId>,
}

impl PresenceTable {
    /// A session wants to know.
    pub(crate) fn subscribe(&mut self, user: UserId, session: SessionRef) {
        let subscribers = self.subscribers.entry(user).or_default();
        if subscribers.len() >= SUBSCRIBERS_MAX {
            subscribers.pop_first();
        }
        subscribers.insert(session);
    }

    /// It does not any more.
    pub(crate) fn unsubscribe(&mut self, user: UserId, session: SessionRef) {
        if let Some(subscribers) = self.subscribers.get_mut(&user) {
            subscribers.remove(&session);
            if subscribers.is_empty() {
                self.subscribers.remove(&user);
            }
        }
    }

    /// Who wants to know about a user.
    pub(crate) fn subscribers(&self, user: UserId) -> Vec<SessionRef> {
        self.subscribers.get(&user).map(|sessions| sessions.iter().copied().collect()).unwrap_or_default()
    }

    /// The user went offline.
    pub(crate) fn handle_offline(&mut self, user: UserId, now: WallTime) {
        self.last_seen.insert(user, now);
        self.unsaved.insert(user);
    }

    /// When the user was last online, where this core knows.
    pub(crate) fn last_seen(&self, user: UserId) -> Option<WallTime> {
        self.last_seen.get(&user).copied()
    }

    /// What is to be made durable, ascending by user.
    pub(crate) fn take_unsaved(&mut self) -> Vec<(UserId, u64)> {
        let users = core::mem::take(&mut self.unsaved);
        users.into_iter().filter_map(|user| self.last_seen.remove(&user).map(|at| (user, at.as_millis()))).collect()
    }

    /// It could not be proposed.
    pub(crate) fn return_unsaved(&mut self, items: &[(UserId, u64)]) {
        for (user, at) in items {
            self.last_seen.entry(*user).or_insert(WallTime::from_millis(*at));
            self.unsaved.insert(*user);
        }
    }

    /// Whether last-seen times wait to be made durable.
    pub(crate) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }
}

/// The frame that tells a user's presence.
pub(crate) fn frame(user: UserId, online: bool, last_seen_ms: u64) -> v1::Presence {
    v1::Presence { user_id: bytes::Bytes::copy_from_slice(user.as_bytes()), online, last_seen_ms }
}
