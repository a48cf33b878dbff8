//! What time brings: ticks, deadlines, and the watermarks that are made durable now and then instead of one by one.

use core::time::Duration;
use std::collections::BTreeMap;

use columba_engine::{
    env::Disk,
    ids::PartitionId,
    partition::command::{Command, Progress, TRIM_CHATS_MAX},
};
use columba_wire::{Code, UserId};

use super::{CoreState, Job, wake_slot};
use crate::{
    core::{
        TIMEOUT_MAX,
        host::Proposals,
        limits::{ERRAND_RETRY_EVERY, RETENTION_EVERY},
        message::{CoreMessage, SessionId, UserMessage},
    },
    delivery::{ADVANCE_EVERY, GROUP_RECEIPT_EVERY, LARGE_ADVANCE_EVERY, LAST_SEEN_EVERY, RECEIPT_EVERY, live::Live},
};

impl<D: Disk> CoreState<D> {
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
            self.with_live(Live::handle_hints);
            for chat in self.fanout.handle_timeout(now) {
                self.jobs.push_back(Job::Pump(chat));
            }
            self.propose_trims();
            self.propose_retention();
        }
        if now >= self.next_errands {
            self.next_errands = now + ERRAND_RETRY_EVERY;
            self.retry_errands();
        }
        if now >= self.next_receipts {
            self.next_receipts = now + RECEIPT_EVERY;
            for receipt in self.fanout.take_receipts() {
                let (about, delivered, read) = (receipt.about, receipt.delivered, receipt.read);
                let message = UserMessage::Receipt { chat: receipt.chat, about: Some(about), delivered, read };
                self.route(CoreMessage::User(receipt.to, message));
            }
        }
        if now >= self.next_group_receipts {
            self.next_group_receipts = now + GROUP_RECEIPT_EVERY;
            self.tell_group_receipts();
        }
        if now >= self.next_large_advance || self.shutting_down {
            self.next_large_advance = now + LARGE_ADVANCE_EVERY;
            self.fanout.release_large();
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

    pub(super) fn handle_session_timeouts(&mut self) {
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

    pub(super) fn propose_trims(&mut self) {
        for (device, (position, mut chats)) in core::mem::take(&mut self.trims) {
            let rest = chats.iter().nth(TRIM_CHATS_MAX).copied().map(|first| chats.split_off(&first));
            let some = chats.iter().copied().collect();
            let is_proposed = self
                .propose_internal(self.router.user(device.user), &Command::TrimInbox { device, position, chats: some });
            let mut left = rest.unwrap_or_default();
            if !is_proposed {
                left.append(&mut chats);
            }
            if !left.is_empty() {
                self.trims.insert(device, (position, left));
            }
        }
    }

    /// Tells partitions how long to keep messages, where they know it otherwise, and what time it is, where that
    /// matters to them: at the start, and then now and again.
    pub(super) fn propose_retention(&mut self) {
        // What a partition knows is what it has applied: before that it may know it otherwise, or not lead.
        if !self.is_ready() {
            return;
        }
        if self.now >= self.next_retention {
            self.next_retention = self.now + RETENTION_EVERY;
            self.retention_due.extend(self.partitions.keys());
        }
        for id in core::mem::take(&mut self.retention_due) {
            let settings = self.partition(id).settings();
            let retention = Command::SetRetention { chat: None, retention: Some(self.retention) };
            let expire = Command::Expire { now_ms: self.wall.as_millis() };
            let is_set = settings.retention == self.retention || self.propose_internal(id, &retention);
            let can_expire = settings.can_expire() || self.retention.days().is_some();
            if !is_set || (can_expire && !self.propose_internal(id, &expire)) {
                self.retention_due.insert(id);
            }
        }
    }

    pub(super) fn propose_advances(&mut self) {
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

    pub(super) fn propose_last_seen(&mut self) {
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
