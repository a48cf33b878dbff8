//! A long-poll session's side of the pump: requests in from whichever connection brings them, answers out.
//!
//! Invariants
//! - A `POST` is answered when the session has taken all of its frames: a client that is too fast waits.
//! - What was taken from the session leaves with the next answer, and is kept until the client has it.
//! - A client that asks for nothing is given up after a while.

use core::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use columba_wire::{
    framing::{Deframer, encode_framed},
    limits::{FRAME_BYTES_UNAUTHENTICATED_MAX, POLL_HOLD_MS},
    v1::ServerFrame,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, Sleep, sleep_until, timeout},
};

use super::{
    PollSession,
    exchange::{Asked, Exchange, Posted},
};
use crate::{
    front::pump::{End, Input, Link, Queued},
    limits::{CLOSE_MS_MAX, POLL_ABSENT_MS_MAX, POLL_ANSWER_BYTES_MAX},
};

/// A request of a client, by the connection that brought it.
#[derive(Debug)]
pub(super) struct PollRequest {
    pub(super) number: u64,
    /// The frames of a `POST`; `None`: a `GET`.
    pub(super) body: Option<Bytes>,
    pub(super) reply: oneshot::Sender<PollReply>,
}

/// What the connection answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PollReply {
    /// Frames, or none after a while.
    Frames(Bytes),
    /// The frames of a `POST` are taken.
    Taken,
    /// The body is not a list of whole frames.
    Malformed,
    /// The number is out of order, or was asked for again by another connection.
    Conflict,
}

/// See the module.
pub(super) struct PollLink {
    requests: mpsc::Receiver<PollRequest>,
    session: Arc<PollSession>,
    exchange: Exchange,
    deframer: Deframer,
    /// The `POST` whose frames are in the deframer.
    posting: Option<oneshot::Sender<PollReply>>,
    /// The `GET` that waits.
    held: Option<oneshot::Sender<PollReply>>,
    /// When it is answered with nothing; where none waits, when the client is taken for gone.
    due: Pin<Box<Sleep>>,
    out: BytesMut,
    written: u64,
}

impl PollLink {
    pub(super) fn new(requests: mpsc::Receiver<PollRequest>, session: Arc<PollSession>) -> Self {
        Self {
            requests,
            session,
            exchange: Exchange::default(),
            deframer: Deframer::new(FRAME_BYTES_UNAUTHENTICATED_MAX),
            posting: None,
            held: None,
            due: Box::pin(sleep_until(Instant::now() + Duration::from_millis(POLL_ABSENT_MS_MAX))),
            out: BytesMut::new(),
            written: 0,
        }
    }

    /// Takes what connections bring, until there is no more or a `POST` has begun.
    fn take_requests(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        while let Poll::Ready(request) = self.requests.poll_recv(cx) {
            let PollRequest { number, body, reply } = request.ok_or(End::Peer)?;
            match body {
                Some(body) => self.take_post(number, &body, reply)?,
                None => self.take_get(number, reply)?,
            }
        }
        if self.held.as_mut().is_some_and(|held| held.poll_closed(cx).is_ready()) {
            // Its connection broke: the client asks again, or is gone.
            self.held = None;
            self.set_due(POLL_ABSENT_MS_MAX);
        }
        while self.due.as_mut().poll(cx).is_ready() {
            if self.held.is_none() {
                return Err(End::Stalled);
            }
            self.answer_held(Bytes::new());
        }
        Ok(())
    }

    fn set_due(&mut self, in_ms: u64) {
        self.due.as_mut().reset(Instant::now() + Duration::from_millis(in_ms));
    }

    fn take_get(&mut self, number: u64, reply: oneshot::Sender<PollReply>) -> Result<(), End> {
        match self.exchange.handle_get(number) {
            Asked::Again(answer) => answer_to(reply, PollReply::Frames(answer)),
            Asked::Wrong => {
                answer_to(reply, PollReply::Conflict);
                return Err(End::Violation);
            }
            Asked::Waits => {
                self.set_due(POLL_HOLD_MS);
                // A connection that held the same before is gone, or given up by its client.
                if let Some(before) = self.held.replace(reply) {
                    answer_to(before, PollReply::Conflict);
                }
            }
        }
        Ok(())
    }

    fn take_post(&mut self, number: u64, body: &[u8], reply: oneshot::Sender<PollReply>) -> Result<(), End> {
        let posted = self.exchange.handle_post(number);
        match (posted, &mut self.posting) {
            // What waits for the session is still the same: whoever asks last is answered.
            (Posted::Again, Some(posting)) => answer_to(core::mem::replace(posting, reply), PollReply::Conflict),
            (Posted::Again, None) => answer_to(reply, PollReply::Taken),
            (Posted::New, None) => {
                self.deframer.push(body);
                self.posting = Some(reply);
            }
            (Posted::New, Some(_)) | (Posted::Wrong, _) => {
                answer_to(reply, PollReply::Conflict);
                return Err(End::Violation);
            }
        }
        Ok(())
    }

    fn finish_post(&mut self, reply: PollReply) {
        if let Some(posting) = self.posting.take() {
            answer_to(posting, reply);
        }
    }

    fn answer_held(&mut self, answer: Bytes) {
        if let Some(held) = self.held.take() {
            self.set_due(POLL_ABSENT_MS_MAX);
            self.exchange.answer(answer.clone());
            answer_to(held, PollReply::Frames(answer));
        }
    }

    /// Gives the last answer again to who asks for it, for a while; everything else is over.
    pub(super) async fn close(mut self) {
        self.finish_post(PollReply::Taken);
        // There is nothing more to wait for.
        self.held = None;
        let lingering = async {
            while let Some(PollRequest { number, body, reply }) = self.requests.recv().await {
                if body.is_none()
                    && let Asked::Again(answer) = self.exchange.handle_get(number)
                {
                    answer_to(reply, PollReply::Frames(answer));
                }
            }
        };
        let _ = timeout(Duration::from_millis(CLOSE_MS_MAX), lingering).await;
    }
}

/// A connection that is gone by now needs no answer: its client asks again.
fn answer_to(reply: oneshot::Sender<PollReply>, answer: PollReply) {
    let _ = reply.send(answer);
}

impl Link for PollLink {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        loop {
            match self.deframer.next_frame() {
                Ok(Some(frame)) => return Poll::Ready(Input::Frame(frame)),
                Ok(None) if self.deframer.is_partial() => {
                    self.finish_post(PollReply::Malformed);
                    return Poll::Ready(Input::End(End::Violation));
                }
                Ok(None) => self.finish_post(PollReply::Taken),
                Err(error) => {
                    self.finish_post(PollReply::Taken);
                    return Poll::Ready(Input::TooLarge(error));
                }
            }
            if let Err(end) = self.take_requests(cx) {
                return Poll::Ready(Input::End(end));
            }
            if self.posting.is_none() {
                return Poll::Pending;
            }
        }
    }

    fn queue(&mut self, _cx: &mut Context<'_>, frame: &ServerFrame) -> Result<Queued, End> {
        encode_framed(frame, &mut self.out);
        Ok(if self.out.len() < POLL_ANSWER_BYTES_MAX { Queued::Room } else { Queued::Blocked })
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        self.take_requests(cx)?;
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if self.held.is_none() {
            return Poll::Pending;
        }
        let answer = self.out.split().freeze();
        self.written += answer.len() as u64;
        self.answer_held(answer);
        Poll::Ready(Ok(()))
    }

    fn bytes_written(&self) -> u64 {
        self.written
    }

    fn is_partial(&self) -> bool {
        // A body is there as a whole, or not at all.
        false
    }

    fn set_frame_bytes_max(&mut self, bytes: usize) {
        self.deframer.set_frame_bytes_max(bytes);
        self.session.set_frame_bytes_max(bytes);
    }
}

#[cfg(test)]
mod tests {
    use core::{future::poll_fn, sync::atomic::AtomicUsize, task::Waker};

    use super::*;

    fn block_on<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    fn link() -> (mpsc::Sender<PollRequest>, PollLink) {
        let (sender, requests) = mpsc::channel(4);
        let frame_bytes_max = AtomicUsize::new(FRAME_BYTES_UNAUTHENTICATED_MAX);
        let session = Arc::new(PollSession { requests: sender.clone(), is_plain: false, frame_bytes_max });
        (sender, PollLink::new(requests, session))
    }

    fn get(sender: &mpsc::Sender<PollRequest>, number: u64) -> oneshot::Receiver<PollReply> {
        let (reply, answered) = oneshot::channel();
        sender.try_send(PollRequest { number, body: None, reply }).unwrap();
        answered
    }

    /// What the session reads now; `None`: nothing yet.
    fn read(link: &mut PollLink) -> Option<Input> {
        match link.poll_read(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(input) => Some(input),
            Poll::Pending => None,
        }
    }

    fn is_due_in(link: &PollLink, ms: u64) -> bool {
        let left = link.due.deadline().saturating_duration_since(Instant::now());
        left <= Duration::from_millis(ms) && left > Duration::from_millis(ms - 1_000)
    }

    #[test]
    fn a_client_that_asks_for_nothing_is_given_up() {
        block_on(async {
            let (_sender, mut link) = link();
            assert!(read(&mut link).is_none() && is_due_in(&link, POLL_ABSENT_MS_MAX), "it may still ask");
            link.set_due(0);
            let ended = poll_fn(|cx| link.poll_read(cx)).await;
            assert!(matches!(ended, Input::End(End::Stalled)), "{ended:?}");
        });
    }

    #[test]
    fn a_client_that_waits_is_answered_with_nothing_and_may_ask_again() {
        block_on(async {
            let (sender, mut link) = link();
            let mut answered = get(&sender, 1);
            assert!(read(&mut link).is_none() && is_due_in(&link, POLL_HOLD_MS));
            link.set_due(0);
            let answer = poll_fn(|cx| {
                assert!(link.poll_read(cx).is_pending(), "the session goes on");
                Pin::new(&mut answered).poll(cx)
            });
            assert_eq!(answer.await, Ok(PollReply::Frames(Bytes::new())));
            assert!(is_due_in(&link, POLL_ABSENT_MS_MAX), "from now on it is missed");
            let _answered = get(&sender, 2);
            assert!(read(&mut link).is_none() && is_due_in(&link, POLL_HOLD_MS));
        });
    }

    #[test]
    fn a_client_whose_connection_broke_is_missed_from_then_on() {
        block_on(async {
            let (sender, mut link) = link();
            let answered = get(&sender, 1);
            assert!(read(&mut link).is_none() && is_due_in(&link, POLL_HOLD_MS));
            drop(answered);
            assert!(read(&mut link).is_none() && is_due_in(&link, POLL_ABSENT_MS_MAX));
            let _answered = get(&sender, 1);
            assert!(read(&mut link).is_none() && is_due_in(&link, POLL_HOLD_MS), "it is back");
        });
    }
}
