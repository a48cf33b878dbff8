//! (D) WebSocket: one binary message is one frame.
//!
//! The protocol is `tungstenite`'s, driven without a stream of its own: a [`WebSocketContext`] over a socket that says
//! "would block". So the bound of a message can be raised at login, an idle connection has no waker of its own, and
//! what was written can be counted.
//!
//! Invariants
//! - A message is at most what the session allows at the time; before login 8 KiB are all that a stranger can fill.
//! - A frame taken from the session is queued: the write buffer has room for one beyond the size at which it blocks.
//! - The connection ends with a closing handshake where the peer still takes part, within a time; what the peer sent
//!   meanwhile is read and dropped, because closing a socket over unread bytes would destroy our last frame.

use core::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use std::io::{self, Read, Write};

use columba_wire::{
    frame::{FrameError, encode},
    limits::FRAME_BYTES_UNAUTHENTICATED_MAX,
    v1::ServerFrame,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::{Instant, timeout},
};
use tokio_tungstenite::tungstenite::{
    Error, Message,
    error::CapacityError,
    protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext, frame::coding::CloseCode},
};

use super::pump::{End, Input, Link, Queued};
use crate::limits::{
    CLOSE_MS_MAX, CONTROL_FRAMES_PER_SECOND, WEBSOCKET_READ_BYTES, WEBSOCKET_WRITE_BYTES, WEBSOCKET_WRITE_BYTES_MAX,
};

/// Bytes of a control frame from a client, beside its payload: header and mask.
const CONTROL_HEADER_BYTES: u64 = 6;

/// The server's side of a WebSocket.
pub(crate) struct WebSocketLink<S> {
    socket: S,
    protocol: WebSocketContext,
    /// Bytes read since the last whole message.
    unread: u64,
    written: u64,
    control: ControlBudget,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocketLink<S> {
    /// A WebSocket whose opening handshake is done; `read` is what came behind it.
    pub(crate) fn new(socket: S, read: Vec<u8>) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(WEBSOCKET_READ_BYTES)
            .write_buffer_size(WEBSOCKET_WRITE_BYTES)
            .max_write_buffer_size(WEBSOCKET_WRITE_BYTES_MAX)
            .max_message_size(Some(FRAME_BYTES_UNAUTHENTICATED_MAX))
            .max_frame_size(Some(FRAME_BYTES_UNAUTHENTICATED_MAX))
            .accept_unmasked_frames(false);
        let unread = read.len() as u64;
        let protocol = WebSocketContext::from_partially_read(read, Role::Server, Some(config));
        Self { socket, protocol, unread, written: 0, control: ControlBudget::default() }
    }

    /// Says that it ends, and waits for the peer to go; within a time.
    pub(crate) async fn close(mut self, end: End) {
        let code = match end {
            End::Session => CloseCode::Normal,
            End::Violation => CloseCode::Policy,
            // Nobody is there, or nobody reads: there is no use in saying more.
            End::Peer | End::Stalled => return,
        };
        let farewell = async {
            let frame = CloseFrame { code, reason: "".into() };
            let closed = core::future::poll_fn(|cx| {
                let result = self.with(cx, |protocol, socket| match protocol.can_write() {
                    true => protocol.close(socket, Some(frame.clone())),
                    false => protocol.flush(socket),
                });
                poll_of(result)
            });
            if closed.await.is_ok() && self.socket.shutdown().await.is_ok() {
                let mut dropped = [0; 1024];
                while matches!(self.socket.read(&mut dropped).await, Ok(1..)) {}
            }
        };
        // A peer that does not close is left.
        let _ = timeout(Duration::from_millis(CLOSE_MS_MAX), farewell).await;
    }

    fn with<T>(
        &mut self,
        cx: &mut Context<'_>,
        call: impl FnOnce(&mut WebSocketContext, &mut Polled<'_, '_, S>) -> T,
    ) -> T {
        let mut polled = Polled { socket: &mut self.socket, cx, read: 0, written: 0 };
        let result = call(&mut self.protocol, &mut polled);
        self.unread += polled.read;
        self.written += polled.written;
        result
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link for WebSocketLink<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        loop {
            let end = match ready!(poll_of(self.with(cx, |protocol, socket| protocol.read(socket)))) {
                Ok(Message::Binary(bytes)) => {
                    self.unread = 0;
                    return Poll::Ready(Input::Frame(bytes));
                }
                Ok(Message::Ping(payload) | Message::Pong(payload)) => {
                    self.unread = self.unread.saturating_sub(CONTROL_HEADER_BYTES + payload.len() as u64);
                    if self.control.take(Instant::now()) {
                        continue;
                    }
                    End::Violation
                }
                // The next read answers it and says that the connection is closed.
                Ok(Message::Close(_)) => continue,
                Ok(Message::Text(_) | Message::Frame(_)) => End::Violation,
                Err(Error::Capacity(CapacityError::MessageTooLong { size, .. })) => {
                    return Poll::Ready(Input::TooLarge(FrameError::TooLarge { bytes: size }));
                }
                Err(Error::Capacity(_) | Error::Protocol(_) | Error::Utf8(_)) if self.protocol.can_write() => {
                    End::Violation
                }
                Err(_) => End::Peer,
            };
            return Poll::Ready(Input::End(end));
        }
    }

    fn queue(&mut self, cx: &mut Context<'_>, frame: &ServerFrame) -> Result<Queued, End> {
        let message = Message::Binary(encode(frame));
        match poll_of(self.with(cx, |protocol, socket| protocol.write(socket, message))) {
            Poll::Ready(Ok(())) => Ok(Queued::Room),
            Poll::Pending => Ok(Queued::Blocked),
            Poll::Ready(Err(_)) => Err(End::Peer),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        poll_of(self.with(cx, |protocol, socket| protocol.flush(socket))).map_err(|_| End::Peer)
    }

    fn bytes_written(&self) -> u64 {
        self.written
    }

    fn is_partial(&self) -> bool {
        self.unread > 0
    }

    fn set_frame_bytes_max(&mut self, bytes: usize) {
        self.protocol.set_config(|config| {
            config.max_message_size = Some(bytes);
            config.max_frame_size = Some(bytes);
        });
    }
}

/// A result of the protocol, where "would block" means that the socket has our waker.
fn poll_of<T>(result: Result<T, Error>) -> Poll<Result<T, Error>> {
    match result {
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

/// A socket for the length of a poll: blocking calls that never block.
struct Polled<'a, 'cx, S> {
    socket: &'a mut S,
    cx: &'a mut Context<'cx>,
    read: u64,
    written: u64,
}

fn result_of<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<S: AsyncRead + Unpin> Read for Polled<'_, '_, S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(out);
        result_of(Pin::new(&mut *self.socket).poll_read(self.cx, &mut buffer))?;
        let bytes = buffer.filled().len();
        self.read += bytes as u64;
        Ok(bytes)
    }
}

impl<S: AsyncWrite + Unpin> Write for Polled<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = result_of(Pin::new(&mut *self.socket).poll_write(self.cx, bytes))?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        result_of(Pin::new(&mut *self.socket).poll_flush(self.cx))
    }
}

/// Control frames of one connection: so many a second, twice so many at once. Each costs us an answer.
#[derive(Default)]
struct ControlBudget {
    full_at: Option<Instant>,
}

impl ControlBudget {
    fn take(&mut self, now: Instant) -> bool {
        let interval = Duration::from_secs(1) / CONTROL_FRAMES_PER_SECOND;
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + interval;
        self.full_at = Some(full_at);
        full_at.duration_since(now) <= interval * CONTROL_FRAMES_PER_SECOND * 2
    }
}

/// The answer to a WebSocket's opening handshake, from the key of the request.
pub(crate) fn accept_key(key: &[u8]) -> String {
    tokio_tungstenite::tungstenite::handshake::derive_accept_key(key)
}
