//! How far one device is in one chat: pushed, acknowledged, in the inbox.
//!
//! Invariants
//! - `covered` moves without a gap: everything up to it is acknowledged, in the inbox, or the device's own.
//! - `has` likewise, and what is in the inbox alone does not count: it is at most `covered`.

use std::collections::VecDeque;

use columba_engine::env::Instant;
use columba_wire::{DeviceId, MessageSeq};

use crate::delivery::{HINT_MESSAGES_MAX, OWN_MAX};

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
    /// Whether something was put into the inbox while this record was there: its trim is yet to come, or has come.
    pub(super) has_entry: bool,
    /// Acknowledged, in the inbox, or the device's own: everything up to here.
    pub(super) covered: MessageSeq,
    /// Acknowledged, or the device's own: everything up to here.
    pub(super) has: MessageSeq,
    /// The device's own messages above `has`, ascending; the newest of them.
    own: VecDeque<MessageSeq>,
    /// When the oldest unacknowledged push was made.
    pub(super) since: Option<Instant>,
    /// Whether an entry of `checks` will look at it.
    pub(super) armed: bool,
    /// Whether an entry of `hints` will put what is open into the inbox.
    pub(super) hinting: bool,
}

impl Progress {
    /// A device that is covered up to `at`, and has everything up to `has` for certain.
    pub(super) fn new(device: DeviceId, at: MessageSeq, has: MessageSeq) -> Self {
        Self {
            device,
            pushed: at,
            acked: MessageSeq::ZERO,
            inboxing: at,
            inboxed: at,
            has_entry: false,
            covered: at,
            has,
            own: VecDeque::new(),
            since: None,
            armed: false,
            hinting: false,
        }
    }

    /// The chat's next message is the device's own.
    pub(super) fn handle_own(&mut self, seq: MessageSeq) {
        self.pushed = self.pushed.max(seq);
        self.own.push_back(seq);
        self.settle();
        if self.own.len() > OWN_MAX {
            // What is forgotten keeps `has` below it until the device acknowledges something above.
            self.own.pop_front();
        }
    }

    /// Moves `covered` and `has` as far as acknowledgements, inbox and own messages go without a gap.
    pub(super) fn settle(&mut self) {
        self.covered = self.covered.max(self.acked).max(self.inboxed);
        self.has = self.has.max(self.acked);
        while let Some(own) = self.own.front().copied() {
            if own > self.has.next() {
                break;
            }
            self.own.pop_front();
            self.has = self.has.max(own);
        }
        self.covered = self.covered.max(self.has);
        let above = self.own.partition_point(|own| *own <= self.covered);
        for own in self.own.range(above..) {
            if *own > self.covered.next() {
                break;
            }
            self.covered = *own;
        }
    }

    /// Everything up to `at` is covered by what the chat's fan-out says: what this device lacks of it is deleted.
    pub(super) fn skip_to(&mut self, at: MessageSeq) {
        self.pushed = self.pushed.max(at);
        self.inboxing = self.inboxing.max(at);
        self.inboxed = self.inboxed.max(at);
        self.settle();
    }

    /// The device has everything up to here, as was known before.
    pub(super) fn know(&mut self, everywhere: MessageSeq) {
        self.has = self.has.max(everywhere.min(self.covered));
        self.settle();
    }

    /// The device has read its inbox to the end and acknowledged everything of the chat that was pushed to it. Returns
    /// whether that was news.
    pub(super) fn handle_all_acked(&mut self) -> bool {
        let before = self.has;
        self.has = self.covered;
        self.settle();
        self.has > before
    }

    /// Whether the message may wait for a hint.
    pub(super) fn may_wait(&self, seq: MessageSeq) -> bool {
        seq.get().saturating_sub(self.first_open().get()) < HINT_MESSAGES_MAX
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
