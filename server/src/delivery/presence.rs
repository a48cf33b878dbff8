//! Online and last seen, per user, on the core of the user's partition. In memory; last seen is persisted lazily.
//!
//! Invariants
//! - A user is online while a device of the user has a session; no heartbeat costs a write.
//! - `last_seen` only grows, and is written at most every [`super::LAST_SEEN_EVERY`] for all users of a partition at
//!   once.
//! - Who watches a user is told what the user's roster lets it see, as it is now.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use columba_engine::{
    env::clock::WallTime,
    partition::roster::{Roster, Sight},
};
use columba_wire::{UserId, v1};

use super::SUBSCRIBERS_MAX;
use crate::core::message::SessionRef;

/// Presence of the users of a core.
#[derive(Default)]
pub(crate) struct PresenceTable {
    watched: BTreeMap<UserId, Watched>,
    last_seen: BTreeMap<UserId, WallTime>,
    unsaved: BTreeSet<UserId>,
}

/// What is read of a user before somebody watches it.
pub(crate) struct Known {
    pub(crate) roster: Arc<Roster>,
    pub(crate) devices_version: u32,
}

/// A user whose presence somebody wants to know.
struct Watched {
    roster: Arc<Roster>,
    /// How many devices the user has added and revoked so far.
    devices_version: u32,
    /// The sessions, and whose they are.
    watchers: BTreeMap<SessionRef, UserId>,
}

impl PresenceTable {
    /// A session of `watcher` wants to know. What is `known` is the user's.
    pub(crate) fn subscribe(&mut self, user: UserId, session: SessionRef, watcher: UserId, known: Known) {
        let Known { roster, devices_version } = known;
        let new = || Watched { roster, devices_version, watchers: BTreeMap::new() };
        let watched = self.watched.entry(user).or_insert_with(new);
        if watched.watchers.len() >= SUBSCRIBERS_MAX {
            watched.watchers.pop_first();
        }
        watched.watchers.insert(session, watcher);
    }

    /// It does not any more.
    pub(crate) fn unsubscribe(&mut self, user: UserId, session: SessionRef) {
        if let Some(watched) = self.watched.get_mut(&user) {
            watched.watchers.remove(&session);
            if watched.watchers.is_empty() {
                self.watched.remove(&user);
            }
        }
    }

    /// What is known of a user whom somebody watches, as it is now.
    pub(crate) fn known(&self, user: UserId) -> Option<Known> {
        let Watched { roster, devices_version, .. } = self.watched.get(&user)?;
        Some(Known { roster: Arc::clone(roster), devices_version: *devices_version })
    }

    /// A user has added or revoked a device. Returns who wants to know.
    pub(crate) fn handle_devices(&mut self, user: UserId, version: u32) -> Vec<SessionRef> {
        let Some(watched) = self.watched.get_mut(&user) else {
            return Vec::new();
        };
        watched.devices_version = version;
        watched.watchers.keys().copied().collect()
    }

    /// Who wants to know about a user, and what it may see.
    pub(crate) fn watchers(&self, user: UserId) -> Vec<(SessionRef, Sight)> {
        let Some(Watched { roster, watchers, .. }) = self.watched.get(&user) else {
            return Vec::new();
        };
        watchers.iter().map(|(session, watcher)| (*session, roster.sight(user, *watcher))).collect()
    }

    /// A user's roster has changed. Returns who may see more, or less, than before.
    pub(crate) fn handle_roster(&mut self, user: UserId, roster: Arc<Roster>) -> Vec<SessionRef> {
        let Some(watched) = self.watched.get_mut(&user) else {
            return Vec::new();
        };
        let before = core::mem::replace(&mut watched.roster, roster);
        let differs = |watcher: UserId| before.sight(user, watcher) != watched.roster.sight(user, watcher);
        let affected = watched.watchers.iter().filter(|(_, watcher)| differs(**watcher));
        affected.map(|(session, _)| *session).collect()
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
pub(crate) fn frame(user: UserId, online: bool, last_seen_ms: u64, devices_version: u32) -> v1::Presence {
    let user_id = bytes::Bytes::copy_from_slice(user.as_bytes());
    v1::Presence { user_id, online, last_seen_ms, devices_version }
}
