//! Frames that wait to be written to one connection.
//!
//! Invariants
//! - Frames leave in the order they came; after [`Outbox::close`] nothing is added, and `Close` comes last.
//! - Bytes that wait are counted until the front reports them written.
//! - They are bounded: replies by holding back input, deliveries by what may be unacknowledged, hints by being left
//!   out; signals, which others choose, at half of the bound, so that they never hold back input.

use core::time::Duration;
use std::collections::VecDeque;

use columba_engine::env::Instant;
use columba_wire::{
    limits::{OUTBOX_BYTES_MAX, OUTBOX_STALL_MS_MAX},
    v1::{ServerFrame, server_frame::Kind},
};
use prost::Message as _;

use crate::core::{Output, limits::SIGNALS_WAITING_BYTES_MAX};

/// The outbox of one session.
#[derive(Default)]
pub(crate) struct Outbox {
    frames: VecDeque<(ServerFrame, usize)>,
    /// Bytes queued here and, once polled, not yet reported written.
    bytes: usize,
    closing: bool,
    closed: bool,
    /// When bytes last began to wait, or some were written.
    waiting_since: Option<Instant>,
}

impl Outbox {
    pub(crate) fn push(&mut self, request_id: u64, kind: Kind) {
        if self.closing {
            return;
        }
        let frame = ServerFrame { request_id, kind: Some(kind) };
        let bytes = frame.encoded_len();
        self.bytes += bytes;
        self.frames.push_back((frame, bytes));
    }

    /// Adds what may be left out: it is, where the bound is reached. Of most such things only the newest state counts,
    /// and a client can ask for it; a signal is worth nothing later.
    pub(crate) fn push_hint(&mut self, kind: Kind) {
        let bytes_max = if let Kind::Signal(_) = kind { SIGNALS_WAITING_BYTES_MAX } else { OUTBOX_BYTES_MAX };
        if self.bytes < bytes_max {
            self.push(0, kind);
        }
    }

    /// Nothing more is added; `Close` follows what is queued.
    pub(crate) fn close(&mut self) {
        self.closing = true;
    }

    /// The peer does not read: only the last frame (why it ends) and `Close` remain.
    pub(crate) fn abandon(&mut self) {
        let last = self.frames.pop_back();
        self.frames.clear();
        self.frames.extend(last);
        self.closing = true;
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= OUTBOX_BYTES_MAX
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.frames.is_empty() || (self.closing && !self.closed)
    }

    pub(crate) fn poll(&mut self, now: Instant) -> Option<Output> {
        if let Some((frame, _)) = self.frames.pop_front() {
            self.waiting_since = self.waiting_since.or(Some(now));
            return Some(Output::Frame(frame));
        }
        if self.closing && !self.closed {
            self.closed = true;
            return Some(Output::Close);
        }
        None
    }

    /// The front has written so many bytes of frames.
    pub(crate) fn handle_written(&mut self, bytes: usize, now: Instant) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.waiting_since = (self.bytes > 0).then_some(now);
    }

    /// When a peer that reads nothing is given up.
    pub(crate) fn stalls_at(&self) -> Option<Instant> {
        self.waiting_since.map(|since| since + Duration::from_millis(OUTBOX_STALL_MS_MAX))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use columba_wire::{limits::SIGNAL_BYTES_MAX, v1};

    use super::*;

    #[test]
    fn no_flood_of_signals_holds_back_the_input_or_the_receipts_of_who_reads_slowly() {
        let mut outbox = Outbox::default();
        let body = Bytes::from(vec![1; SIGNAL_BYTES_MAX]);
        let signal = || Kind::Signal(v1::Signal { body: body.clone(), ..v1::Signal::default() });
        (0..1_000).for_each(|_| outbox.push_hint(signal()));
        assert_eq!(outbox.frames.len(), 8, "half of 256 KiB");
        assert!(!outbox.is_full());
        outbox.push_hint(Kind::Receipt(v1::Receipt::default()));
        assert_eq!(outbox.frames.len(), 9);
        while let Some(Output::Frame(frame)) = outbox.poll(Instant::START) {
            outbox.handle_written(frame.encoded_len(), Instant::START);
        }
        outbox.push_hint(signal());
        assert_eq!(outbox.frames.len(), 1, "who reads again gets what comes then");
    }
}
