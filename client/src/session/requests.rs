//! Requests other than sends: all may be made twice, so what is unanswered when a connection breaks is asked again.
//!
//! Invariant: every request is answered once, by the server's answer, an error, or its deadline.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use columba_wire::v1::client_frame::Kind;

use super::Token;
use crate::limits::REQUESTS_MAX;

/// A request without an answer.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Who waits; `None` for what the session itself asked.
    pub(crate) token: Option<Token>,
    /// What is asked.
    pub(crate) kind: Kind,
    /// When it is given up.
    pub(crate) deadline: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    entries: BTreeMap<u64, Request>,
    waiting: BTreeSet<u64>,
    next: u64,
}

impl Requests {
    /// Whether there is no room.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= REQUESTS_MAX
    }

    /// Adds a request.
    pub(crate) fn push(&mut self, request: Request) {
        let id = self.number();
        self.entries.insert(id, request);
        self.waiting.insert(id);
    }

    /// A number for a frame that needs no answer. An error that answers it finds nobody.
    pub(crate) fn number(&mut self) -> u64 {
        let id = self.next;
        self.next += 1;
        id
    }

    /// Whether one of this kind waits.
    pub(crate) fn any(&self, is: impl Fn(&Kind) -> bool) -> bool {
        self.entries.values().any(|request| is(&request.kind))
    }

    /// The next one to ask, with its number.
    pub(crate) fn poll(&mut self) -> Option<(u64, Kind)> {
        let id = self.waiting.pop_first()?;
        Some((id, self.entries[&id].kind.clone()))
    }

    /// An answer came.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Request> {
        self.waiting.remove(&id);
        self.entries.remove(&id)
    }

    /// The connection is gone: everything is asked again.
    pub(crate) fn handle_disconnected(&mut self) {
        self.waiting = self.entries.keys().copied().collect();
    }

    /// A request whose deadline has passed. All have the same patience, so the oldest is the first.
    pub(crate) fn poll_expired(&mut self, now: Duration) -> Option<Request> {
        let (id, request) = self.entries.first_key_value()?;
        if request.deadline > now {
            return None;
        }
        let id = *id;
        self.remove(id)
    }

    /// When the next one is given up.
    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        self.entries.first_key_value().map(|(_, request)| request.deadline)
    }
}
