//! How far one device is in one chat: pushed, acknowledged, in the inbox.
//!
//! Invariants
//! - `covered` moves without a gap: everything up to it is acknowledged, in the inbox, or the device's own.

use std::collections::VecDeque;

use columba_engine::env::Instant;
use columba_wire::{DeviceId, MessageSeq};

/// How far one device is in one chat.
pub(super) struct Progress {
    pub(super) device: DeviceId,
    /// Pushed in the present session, or own.
    pub(super) pushed: MessageSeq,
    /// Acknowledged by the device.
    pub(super) acked: MessageSeq,
    /// Wanted in the inbox, at least.
    pub(super) inboxing: MessageSeq,
    /// In the inbox, durably, now or earlier.
    pub(super) inboxed: MessageSeq,
    /// Acknowledged, in the inbox, or the device's own: everything up to here.
    pub(super) covered: MessageSeq,
    /// The device's own messages above `covered`: it has them.
    pub(super) own: VecDeque<MessageSeq>,
    /// When the oldest unacknowledged push was made.
    pub(super) since: Option<Instant>,
    /// Whether an entry of `checks` will look at it.
    pub(super) armed: bool,
}

impl Progress {
    pub(super) fn new(device: DeviceId, at: MessageSeq) -> Self {
        Self {
            device,
            pushed: at,
            acked: MessageSeq::ZERO,
            inboxing: at,
            inboxed: at,
            covered: at,
            own: VecDeque::new(),
            since: None,
            armed: false,
        }
    }

    /// Moves `covered` as far as acknowledgements, inbox and own messages go without a gap.
    pub(super) fn settle(&mut self) {
        self.covered = self.covered.max(self.acked).max(self.inboxed);
        while let Some(own) = self.own.front().copied() {
            if own > self.covered.next() {
                break;
            }
            self.own.pop_front();
            self.covered = self.covered.max(own);
        }
    }

    /// First message that is neither covered nor wanted in the inbox.
    pub(super) fn first_open(&self) -> MessageSeq {
        self.covered.max(self.inboxing).next()
    }

    /// The clock of an unacknowledged push starts. Returns whether a check must be queued.
    pub(super) fn start(&mut self, now: Instant) -> bool {
        self.since = self.since.or(Some(now));
        !core::mem::replace(&mut self.armed, true)
    }
}
