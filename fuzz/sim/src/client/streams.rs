//! The two streams of a connection: what waited in the inbox may arrive later than what is live, or earlier.
//!
//! Half of the clients agree to a stream of its own. For the others both come by one stream, as they left the node.

use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;

use columba_engine::env::Rng;
use columba_server::core::Output;
use columba_wire::{v1::server_frame::Kind, version::CATCH_UP_STREAM};

use crate::world::SimSession;

/// Frames on their way on the stream of the catch-up. Beyond: the node keeps them.
const WAITING_MAX: usize = 16;

/// What is on its way to a client.
pub(super) struct Streams {
    rng: Rng,
    has_catch_up: bool,
    waiting: VecDeque<Output>,
    /// Whether the welcome came: who has two streams reads the other one from then on.
    is_welcome: bool,
}

impl Streams {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::from_seed(seed), has_catch_up: seed % 2 == 1, waiting: VecDeque::new(), is_welcome: false }
    }

    pub(super) fn capabilities(&self) -> u64 {
        if self.has_catch_up { CATCH_UP_STREAM } else { 0 }
    }

    /// The connection is gone, with all that was on its way.
    pub(super) fn reset(&mut self) {
        self.waiting.clear();
        self.is_welcome = false;
    }

    /// What arrives next. Pending only where nothing is on its way.
    pub(super) fn poll(&mut self, session: &SimSession) -> Poll<Output> {
        loop {
            if self.is_welcome && !self.waiting.is_empty() && self.rng.one_in(4) {
                return self.take_waiting();
            }
            let takes_catch_up = self.waiting.len() < WAITING_MAX;
            match session.poll_output(takes_catch_up, &mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Output::CatchUp(frame)) if self.has_catch_up => {
                    self.waiting.push_back(Output::CatchUp(frame));
                }
                Poll::Pending => return self.take_waiting(),
                Poll::Ready(output) => {
                    self.note_welcome(&output);
                    return Poll::Ready(output);
                }
            }
        }
    }

    /// Where both come by one stream nothing that waited may come before the welcome.
    fn note_welcome(&mut self, output: &Output) {
        match output {
            Output::Frame(frame) => self.is_welcome |= matches!(frame.kind, Some(Kind::Welcome(_))),
            Output::CatchUp(frame) => assert!(self.is_welcome, "before the welcome: {frame:?}"),
            Output::Close => {}
        }
    }

    fn take_waiting(&mut self) -> Poll<Output> {
        if !self.is_welcome {
            return Poll::Pending;
        }
        self.waiting.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
