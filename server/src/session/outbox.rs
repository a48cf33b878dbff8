//! Frames that wait to be written to one connection, in two queues: what waited for the device, and everything else.
//!
//! Invariants
//! - Frames of a queue leave in the order they came; after [`Outbox::close`] nothing is added, and `Close` comes last.
//! - Nothing of the catch-up leaves before the welcome has, and the word that it was all not before anything that was
//!   queued earlier.
//! - Neither queue holds up the other: where both have frames, one in [`CATCH_UP_SHARE`] is of the catch-up.
//! - Bytes that wait are counted until the front reports them written.
//! - They are bounded: replies by holding back input, deliveries by what may be unacknowledged, hints by being left
//!   out; signals, which others choose, at half of the bound, so that they never hold back input.

use core::time::Duration;
use std::collections::VecDeque;

use columba_engine::env::Instant;
use columba_wire::{
    limits::{OUTBOX_BYTES_MAX, OUTBOX_STALL_MS_MAX},
    v1::{self, ServerFrame, server_frame::Kind},
};
use prost::Message as _;

use crate::core::{Output, limits::SIGNALS_WAITING_BYTES_MAX};

/// Of so many frames one is of the catch-up, while others wait too.
const CATCH_UP_SHARE: u8 = 4;

/// The outbox of one session.
#[derive(Default)]
pub(crate) struct Outbox {
    frames: VecDeque<ServerFrame>,
    /// What waited in the device's inbox, and the word that this was all; each with how many of `frames` leave first.
    catch_up: VecDeque<(u64, ServerFrame)>,
    /// How many of `frames` were queued so far, and how many when the welcome was.
    queued: u64,
    queued_at_welcome: u64,
    /// How many of them have left.
    left: u64,
    /// Frames that left since one of the catch-up did.
    since_catch_up: u8,
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
        self.bytes += frame.encoded_len();
        self.frames.push_back(frame);
        self.queued += 1;
    }

    /// Adds the welcome.
    pub(crate) fn push_welcome(&mut self, request_id: u64, welcome: v1::Welcome) {
        self.push(request_id, Kind::Welcome(welcome));
        self.queued_at_welcome = self.queued;
    }

    /// Adds what waited for the device: between it and the rest there is no order; or the word that this was all, which
    /// comes behind both.
    pub(crate) fn push_catch_up(&mut self, kind: Kind) {
        if self.closing {
            return;
        }
        let after = if let Kind::Synced(_) = kind { self.queued } else { self.queued_at_welcome };
        let frame = ServerFrame { request_id: 0, kind: Some(kind) };
        self.bytes += frame.encoded_len();
        self.catch_up.push_back((after, frame));
    }

    /// Adds what may be left out: it is, where the bound is reached. Of most such things only the newest state counts,
    /// and a client can ask for it; a signal is worth nothing later.
    pub(crate) fn push_hint(&mut self, kind: Kind) {
        let bytes_max = if let Kind::Signal(_) = kind { SIGNALS_WAITING_BYTES_MAX } else { OUTBOX_BYTES_MAX };
        if self.bytes < bytes_max {
            self.push(0, kind);
        }
    }

    /// Nothing more is added; `Close` follows what is queued. What waited for the device goes on waiting: the last word
    /// is that of the session.
    pub(crate) fn close(&mut self) {
        self.catch_up.clear();
        self.closing = true;
    }

    /// The peer does not read: only the last frame (why it ends) and `Close` remain.
    pub(crate) fn abandon(&mut self) {
        let last = self.frames.pop_back();
        self.frames.clear();
        self.frames.extend(last);
        self.close();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= OUTBOX_BYTES_MAX
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.frames.is_empty() || !self.catch_up.is_empty() || (self.closing && !self.closed)
    }

    /// The next thing for the front, which takes frames of the catch-up or does not now.
    pub(crate) fn poll(&mut self, takes_catch_up: bool, now: Instant) -> Option<Output> {
        let output = self.poll_frame(takes_catch_up);
        if output.is_some() {
            self.waiting_since = self.waiting_since.or(Some(now));
            return output;
        }
        if self.closing && !self.closed {
            self.closed = true;
            return Some(Output::Close);
        }
        None
    }

    fn poll_frame(&mut self, takes_catch_up: bool) -> Option<Output> {
        let is_due = self.frames.is_empty() || self.since_catch_up + 1 >= CATCH_UP_SHARE;
        if takes_catch_up
            && is_due
            && let Some((_, frame)) = self.catch_up.pop_front_if(|(after, _)| *after <= self.left)
        {
            self.since_catch_up = 0;
            return Some(Output::CatchUp(frame));
        }
        self.since_catch_up = (self.since_catch_up + 1).min(CATCH_UP_SHARE);
        self.frames.pop_front().map(|frame| {
            self.left += 1;
            Output::Frame(frame)
        })
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
    use columba_wire::limits::SIGNAL_BYTES_MAX;

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
        while let Some(Output::Frame(frame)) = outbox.poll(true, Instant::START) {
            outbox.handle_written(frame.encoded_len(), Instant::START);
        }
        outbox.push_hint(signal());
        assert_eq!(outbox.frames.len(), 1, "who reads again gets what comes then");
    }

    fn deliver(seq: u64) -> Kind {
        Kind::Deliver(v1::Deliver { seq, ..v1::Deliver::default() })
    }

    fn seqs(outbox: &mut Outbox, takes_catch_up: bool) -> Vec<u64> {
        let next = || outbox.poll(takes_catch_up, Instant::START);
        core::iter::from_fn(next)
            .map_while(|output| match output {
                Output::Frame(frame) | Output::CatchUp(frame) => match frame.kind {
                    Some(Kind::Deliver(deliver)) => Some(deliver.seq),
                    _ => None,
                },
                Output::Close => None,
            })
            .collect()
    }

    #[test]
    fn nothing_comes_before_the_welcome() {
        let mut outbox = Outbox::default();
        (0..5).for_each(|_| outbox.push(0, Kind::Pong(v1::Pong::default())));
        outbox.push_welcome(1, v1::Welcome::default());
        outbox.push_catch_up(Kind::Synced(v1::Synced {}));
        let kinds = core::iter::from_fn(|| outbox.poll(true, Instant::START));
        let synced_at = kinds.take_while(|output| !matches!(output, Output::CatchUp(_))).count();
        assert_eq!(synced_at, 6);
    }

    #[test]
    fn the_word_that_this_was_all_is_the_last() {
        let mut outbox = Outbox::default();
        outbox.push_catch_up(deliver(1));
        (101..=106).for_each(|seq| outbox.push(0, deliver(seq)));
        outbox.push_catch_up(Kind::Synced(v1::Synced {}));
        outbox.push(0, deliver(107));
        assert_eq!(seqs(&mut outbox, true), [101, 102, 103, 1, 104, 105, 106], "then the word");
        assert_eq!(seqs(&mut outbox, true), [107]);
    }

    #[test]
    fn what_waited_and_what_is_live_do_not_hold_up_each_other() {
        let mut outbox = Outbox::default();
        (1..=3).for_each(|seq| outbox.push_catch_up(deliver(seq)));
        (101..=106).for_each(|seq| outbox.push(0, deliver(seq)));
        assert_eq!(seqs(&mut outbox, true), [101, 102, 103, 1, 104, 105, 106, 2, 3]);

        (1..=2).for_each(|seq| outbox.push_catch_up(deliver(seq)));
        (101..=102).for_each(|seq| outbox.push(0, deliver(seq)));
        assert_eq!(seqs(&mut outbox, false), [101, 102], "the stream of the catch-up is full");
        assert!(outbox.has_output());
        outbox.push(0, deliver(103));
        outbox.close();
        assert_eq!(seqs(&mut outbox, true), [103], "what waited comes again in the next session");
        assert!(!outbox.has_output());
    }
}
