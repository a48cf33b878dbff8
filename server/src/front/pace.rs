//! How long a connection of plain requests may take until the next one.
//!
//! | the connection | ends when | after |
//! |---|---|---|
//! | is in a request head | the head is not whole | `REQUEST_HEAD_MS_MAX`, since it was accepted or the head began |
//! | waits for an answer | - | what the answer waits for has bounds of its own |
//! | is idle | no head has begun, or the answer not left | `REQUEST_IDLE_MS_MAX`, since the answer was there |
//!
//! An idle connection is cheap but not free. It is counted against the bounds of its node and address like any other,
//! and one that nobody has logged in on has its place in the lobby still, from which newer ones displace it: so idle
//! ones are never more than connections may be.
//!
//! Invariants
//! - Only while an answer is made is there no deadline.

use core::{
    cell::Cell,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};
use std::io;

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

use crate::limits::{REQUEST_HEAD_MS_MAX, REQUEST_IDLE_MS_MAX};

/// What a connection does, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Head(Instant),
    Answering,
    Idle(Instant),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    phase: Cell<Phase>,
}

impl Pace {
    /// Of a connection that was just accepted: a head is due.
    pub(super) fn new() -> Self {
        Self { phase: Cell::new(Phase::Head(Instant::now())) }
    }

    /// A head is whole.
    pub(super) fn handle_request(&self) {
        self.phase.set(Phase::Answering);
    }

    /// Its answer is there.
    pub(super) fn handle_answer(&self) {
        self.phase.set(Phase::Idle(Instant::now()));
    }

    fn handle_bytes(&self) {
        if matches!(self.phase.get(), Phase::Idle(_)) {
            self.phase.set(Phase::Head(Instant::now()));
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.phase.get() {
            Phase::Head(since) => Some(since + Duration::from_millis(REQUEST_HEAD_MS_MAX)),
            Phase::Answering => None,
            Phase::Idle(since) => Some(since + Duration::from_millis(REQUEST_IDLE_MS_MAX)),
        }
    }

    /// Serves a connection for as long as it keeps its pace; `None` where it does not.
    pub(super) async fn keep<T>(&self, serving: impl Future<Output = T>) -> Option<T> {
        let mut serving = pin!(serving);
        let mut timer = pin!(sleep_until(Instant::now()));
        poll_fn(|cx| {
            if let Poll::Ready(done) = serving.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let Some(deadline) = self.deadline() else {
                return Poll::Pending;
            };
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            timer.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

/// A socket that tells its pace when bytes come.
pub(super) struct Paced<'a, S> {
    pub(super) socket: S,
    pub(super) pace: &'a Pace,
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, into);
        if into.filled().len() > before {
            self.pace.handle_bytes();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use core::future::{pending, ready};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn block_on<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    fn left(pace: &Pace) -> Option<Duration> {
        pace.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    #[test]
    fn a_connection_that_waits_for_its_next_request_is_not_hurried_as_one_within_a_head() {
        let head = Duration::from_millis(REQUEST_HEAD_MS_MAX);
        block_on(async {
            let (mut near, socket) = tokio::io::duplex(64);
            let pace = Pace::new();
            let mut paced = Paced { socket, pace: &pace };
            assert!(left(&pace).unwrap() <= head, "a stranger has to say something");
            near.write_all(b"GET").await.unwrap();
            let begun = pace.deadline();
            paced.read_exact(&mut [0; 3]).await.unwrap();
            assert_eq!(pace.deadline(), begun, "more of a head gives it no more time");
            pace.handle_request();
            near.write_all(b"body").await.unwrap();
            paced.read_exact(&mut [0; 4]).await.unwrap();
            assert_eq!(pace.deadline(), None, "a body is no head");
            pace.handle_answer();
            assert!(left(&pace).unwrap() > head, "idle");
            near.write_all(b"G").await.unwrap();
            paced.read_exact(&mut [0]).await.unwrap();
            assert!(left(&pace).unwrap() <= head, "the next head has begun");
        });
    }

    #[test]
    fn what_does_not_keep_its_pace_is_not_served_on() {
        block_on(async {
            let long_ago = Instant::now().checked_sub(Duration::from_millis(REQUEST_IDLE_MS_MAX)).unwrap();
            let pace = Pace::new();
            assert_eq!(pace.keep(ready(1)).await, Some(1));
            for phase in [Phase::Head(long_ago), Phase::Idle(long_ago)] {
                pace.phase.set(phase);
                assert_eq!(pace.keep(pending::<()>()).await, None, "{phase:?}");
            }
        });
    }
}
