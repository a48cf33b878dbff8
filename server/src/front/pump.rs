//! Moves frames between one connection and its session; the same for all transports.
//!
//! ```text
//!   link.poll_read -> decode -> session.handle_frame            while the session wants input
//!   session.poll_output -> link.queue ... -> link.poll_flush    all that is ready, then one flush
//!                       -> link.queue_catch_up                  what waited, where it has a stream of its own
//! ```
//!
//! Invariants
//! - While a flush waits for the peer nothing more is taken from the session: its outbox is the queue, and bounded.
//! - A catch-up that waits for the peer on its own stream holds up nothing else.
//! - A peer that makes no progress with what was written for 30 s, or with a frame it began for 10 s, is given up.
//! - The bound of a frame is raised before the welcome is queued: who has read it may use the new one at once.
//! - The pump awaits nothing but the connection, the session and its own timer, and never blocks one on another.

use core::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use columba_engine::env::{Clock, Disk};
use columba_wire::{
    frame::{FrameError, decode_client},
    limits::{FRAME_BYTES_UNAUTHENTICATED_MAX, FRAME_MS_MAX, OUTBOX_STALL_MS_MAX},
    v1::ServerFrame,
};
use prost::Message as _;
use tokio::time::{Instant, Sleep, sleep_until};

use super::admission::LobbyTicket;
use crate::{
    core::{Output, SessionHandle},
    metrics::CoreMetrics,
};

/// Frames taken from a connection before its outputs are looked at again.
const READS_PER_TURN: usize = 32;

/// What came from a connection.
#[derive(Debug)]
pub(crate) enum Input {
    /// A whole frame.
    Frame(Bytes),
    /// A frame that is too long was announced; nothing can be read behind it.
    TooLarge(FrameError),
    /// The end.
    End(End),
}

/// Whether what was queued waits for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    /// More may be queued.
    Room,
    /// Flush first.
    Blocked,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The session has said its last word, and it is written.
    Session,
    /// The peer closed, or is gone.
    Peer,
    /// The peer broke the rules of the transport.
    Violation,
    /// The peer stalled within a frame or did not read.
    Stalled,
}

/// A connection as the pump sees it: the transports, and nothing else.
pub(crate) trait Link {
    /// The next frame.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Input>;
    /// Takes a frame to be written. Always takes it; `Blocked` says to flush before the next.
    fn queue(&mut self, cx: &mut Context<'_>, frame: &ServerFrame) -> Result<Queued, End>;
    /// Writes all that is queued.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>>;
    /// Lets what waited for the device have a stream of its own, which the peer agrees to.
    fn allow_catch_up_stream(&mut self) {}
    /// Whether what waited has a stream of its own, which is opened by the first call.
    fn has_catch_up_stream(&mut self, _cx: &mut Context<'_>) -> bool {
        false
    }
    /// Whether a frame of what waited may be queued now.
    fn takes_catch_up(&self) -> bool {
        true
    }
    /// Takes a frame for that stream.
    fn queue_catch_up(&mut self, _frame: &ServerFrame) {}
    /// Writes to that stream as much as the peer takes now. Returns the bytes.
    fn poll_catch_up(&mut self, _cx: &mut Context<'_>) -> Result<usize, End> {
        Ok(0)
    }
    /// Bytes that left for the socket so far, with the transport's own.
    fn bytes_written(&self) -> u64;
    /// Whether a frame has begun to arrive and not ended.
    fn is_partial(&self) -> bool;
    /// Changes the bound of a frame.
    fn set_frame_bytes_max(&mut self, bytes: usize);
}

/// The pump of one connection.
pub(crate) struct Pump<'a, L, D: Disk, C: Clock> {
    link: &'a mut L,
    session: &'a SessionHandle<D, C>,
    lobby: &'a LobbyTicket,
    metrics: &'a CoreMetrics,
    /// Something is queued that no flush was begun for.
    is_dirty: bool,
    is_flushing: bool,
    is_closing: bool,
    is_input_over: bool,
    is_logged_in: bool,
    /// Bytes of frames taken from the session and not reported written.
    outstanding: usize,
    written_before: u64,
    /// The same of the stream of what waited.
    outstanding_catch_up: usize,
    partial_since: Option<Instant>,
    stalled_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<'a, L: Link, D: Disk, C: Clock> Pump<'a, L, D, C> {
    pub(crate) fn new(
        link: &'a mut L,
        session: &'a SessionHandle<D, C>,
        lobby: &'a LobbyTicket,
        metrics: &'a CoreMetrics,
    ) -> Self {
        link.set_frame_bytes_max(FRAME_BYTES_UNAUTHENTICATED_MAX);
        let written_before = link.bytes_written();
        Self {
            link,
            session,
            lobby,
            metrics,
            is_dirty: false,
            is_flushing: false,
            is_closing: false,
            is_input_over: false,
            is_logged_in: false,
            outstanding: 0,
            written_before,
            outstanding_catch_up: 0,
            partial_since: None,
            stalled_since: None,
            timer: None,
        }
    }

    /// Runs until the connection ends.
    pub(crate) async fn run(mut self) -> End {
        core::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if let Err(end) = self.write(cx) {
                return Poll::Ready(end);
            }
            match self.read(cx) {
                Ok(true) => {}
                Ok(false) => break,
                Err(end) => return Poll::Ready(end),
            }
        }
        self.watch(cx)
    }

    /// Writes what the session has, until it has no more or the peer must read first.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        self.write_catch_up(cx)?;
        loop {
            if self.is_flushing {
                match self.link.poll_flush(cx) {
                    Poll::Ready(result) => result?,
                    Poll::Pending => {
                        self.report_progress();
                        return Ok(());
                    }
                }
                self.is_flushing = false;
                self.handle_flushed();
                if self.is_closing {
                    return Err(End::Session);
                }
            }
            match self.session.poll_output(self.link.takes_catch_up(), cx) {
                Poll::Ready(Output::CatchUp(frame)) if self.link.has_catch_up_stream(cx) => {
                    self.outstanding_catch_up += self.count_out(&frame);
                    self.link.queue_catch_up(&frame);
                }
                Poll::Ready(Output::Frame(frame) | Output::CatchUp(frame)) => {
                    self.note_login();
                    self.outstanding += self.count_out(&frame);
                    self.is_dirty = true;
                    self.is_flushing = self.link.queue(cx, &frame)? == Queued::Blocked;
                }
                Poll::Ready(Output::Close) => {
                    self.is_closing = true;
                    self.is_flushing = true;
                }
                Poll::Pending if self.is_dirty => {
                    self.is_dirty = false;
                    self.is_flushing = true;
                }
                // What was written made room.
                Poll::Pending if self.write_catch_up(cx)? => {}
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn count_out(&self, frame: &ServerFrame) -> usize {
        let bytes = frame.encoded_len();
        self.metrics.frames_out_total.add(1);
        self.metrics.frame_bytes_out_total.add(bytes as u64);
        bytes
    }

    /// Writes what waited, as far as the peer takes it. Returns whether it took something.
    fn write_catch_up(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let written = self.link.poll_catch_up(cx)?;
        let frames = written.min(self.outstanding_catch_up);
        if frames > 0 {
            self.outstanding_catch_up -= frames;
            self.session.handle_written(frames);
        }
        Ok(written > 0)
    }

    fn handle_flushed(&mut self) {
        self.metrics.socket_flushes_total.add(1);
        self.stalled_since = None;
        self.written_before = self.link.bytes_written();
        if self.outstanding > 0 {
            self.session.handle_written(self.outstanding);
            self.outstanding = 0;
        }
    }

    /// Part of a flush was written: the peer reads, if slowly.
    fn report_progress(&mut self) {
        let written = self.link.bytes_written();
        let progress = usize::try_from(written - self.written_before).unwrap_or(usize::MAX).min(self.outstanding);
        if progress > 0 {
            self.written_before = written;
            self.outstanding -= progress;
            self.session.handle_written(progress);
            self.stalled_since = None;
        }
        self.stalled_since.get_or_insert_with(Instant::now);
    }

    /// Takes frames while the session wants them. Returns whether to look at the outputs and come again.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        for taken in 0..READS_PER_TURN {
            if self.is_input_over || self.is_closing || !self.session.wants_input() {
                return Ok(taken > 0);
            }
            match self.link.poll_read(cx) {
                Poll::Pending => return Ok(taken > 0),
                Poll::Ready(Input::End(end)) => return Err(end),
                Poll::Ready(Input::TooLarge(error)) => {
                    self.is_input_over = true;
                    self.session.handle_frame(Err(error));
                }
                Poll::Ready(Input::Frame(bytes)) => {
                    self.partial_since = None;
                    self.metrics.frames_in_total.add(1);
                    self.metrics.frame_bytes_in_total.add(bytes.len() as u64);
                    self.session.handle_frame(decode_client(bytes));
                }
            }
        }
        Ok(true)
    }

    /// Raises the bound of a frame once there has been a login.
    fn note_login(&mut self) {
        if !self.is_logged_in && self.session.frame_bytes_max() > FRAME_BYTES_UNAUTHENTICATED_MAX {
            self.is_logged_in = true;
            self.link.set_frame_bytes_max(self.session.frame_bytes_max());
            if self.session.has_catch_up_stream() {
                self.link.allow_catch_up_stream();
            }
            self.lobby.leave();
        }
    }

    /// What only time ends: a frame that does not become whole, a peer that does not read.
    fn watch(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.note_login();
        // Input that the session does not want now is not late.
        if self.link.is_partial() && self.session.wants_input() {
            self.partial_since.get_or_insert_with(Instant::now);
        } else {
            self.partial_since = None;
        }
        loop {
            let partial = self.partial_since.map(|since| since + Duration::from_millis(FRAME_MS_MAX));
            let stalled = self.stalled_since.map(|since| since + Duration::from_millis(OUTBOX_STALL_MS_MAX));
            let Some(deadline) = partial.into_iter().chain(stalled).min() else {
                self.timer = None;
                return Poll::Pending;
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            // A timer that rings too early is only set again: cheaper than moving it at every frame.
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if deadline <= Instant::now() {
                return Poll::Ready(End::Stalled);
            }
            timer.as_mut().reset(deadline);
        }
    }
}
