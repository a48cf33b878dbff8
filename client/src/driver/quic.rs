//! (D) Frames over QUIC: one bidirectional stream of length-prefixed records, and one that the server opens for what
//! waited for the device.

use core::{
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use columba_wire::{
    auth::{Binding, EXPORTER_LABEL},
    frame::FrameError,
    framing::{Deframer, encode_framed},
    limits::FRAME_BYTES_MAX,
    v1::{ChannelBinding, ClientFrame, ServerFrame, server_frame::Kind},
};
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, ReadError, RecvStream, SendStream, TransportConfig, VarInt,
    WriteError, crypto::rustls::QuicClientConfig,
};

use super::connect::{Connected, Link, Target, take_frames};
use crate::{
    error::Error,
    limits::{CLOSE_TIMEOUT, FRAMES_READ_MAX},
    types::Carrier,
};

/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;
/// Bytes encoded and not yet taken by the stream. Beyond: frames stay in the session.
const WRITE_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;
/// Bytes in flight from the server; a batch of deliveries fits.
const RECEIVE_WINDOW: u32 = 512 * 1024;
/// Bytes in flight to the server.
const SEND_WINDOW: u64 = 512 * 1024;
/// Keeps the path through address translation open, and the transport's own idle timeout away.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Silence of the transport after which the connection is lost.
const IDLE_TIMEOUT_MS: u32 = 30_000;

/// Frames over a QUIC stream.
pub(crate) struct QuicLink {
    connection: Connection,
    endpoint: Endpoint,
    send: SendStream,
    receive: Reading,
    catch_up: CatchUp,
    /// Whether the welcome came: what waited is behind it.
    is_welcome: bool,
    queue: BytesMut,
    buffer: Box<[u8]>,
    write_failed: bool,
}

/// A stream from the server.
struct Reading {
    stream: RecvStream,
    deframer: Deframer,
}

/// The stream of what waited for the device.
enum CatchUp {
    /// The server may open it.
    Awaited(Pin<Box<dyn Future<Output = Result<RecvStream, ConnectionError>> + Send>>),
    /// It is there.
    Open(Reading),
    /// It has ended; the other one tells why.
    Over,
}

/// Connects and opens the stream.
pub(super) async fn connect(target: &Target, address: SocketAddr) -> Result<Connected, Error> {
    let (tls, seen) = target.rule.config(true);
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| target.error(error))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .receive_window(VarInt::from_u32(2 * RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT_MS).into()));
    config.transport_config(Arc::new(transport));

    let local: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let endpoint = Endpoint::client(local).map_err(|error| target.error(error))?;
    let name = target.name.to_str();
    let connecting = endpoint.connect_with(config, address, &name).map_err(|error| target.error(error))?;
    let connected = connecting.await;
    let connection = connected.map_err(|error| seen.explain(&target.rule, target.error(error)))?;
    let mut exporter = [0; 32];
    connection
        .export_keying_material(&mut exporter, EXPORTER_LABEL, b"")
        .map_err(|_| target.error("no keying material for the channel binding"))?;
    let (send, receive) = connection.open_bi().await.map_err(|error| target.error(error))?;
    let opener = connection.clone();
    let link = QuicLink {
        connection,
        endpoint,
        send,
        receive: Reading::new(receive),
        catch_up: CatchUp::Awaited(Box::pin(async move { opener.accept_uni().await })),
        is_welcome: false,
        queue: BytesMut::new(),
        buffer: vec![0; READ_BYTES].into_boxed_slice(),
        write_failed: false,
    };
    Ok(Connected {
        link: Link::Quic(Box::new(link)),
        carrier: Carrier::Quic,
        binding: Binding { kind: ChannelBinding::TlsExporter, data: Some(exporter) },
        certificate: seen.fingerprint(),
    })
}

impl Reading {
    fn new(stream: RecvStream) -> Self {
        Self { stream, deframer: Deframer::new(FRAME_BYTES_MAX) }
    }

    /// Reads while something is there and there are fewer frames than that. Why the stream is over, where it is.
    fn read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        frames_max: usize,
        frames: &mut Vec<Result<ServerFrame, FrameError>>,
    ) -> Result<(), String> {
        while frames.len() < frames_max {
            let bytes = match self.stream.poll_read(cx, buffer) {
                Poll::Ready(Ok(0)) => return Err("closed by the server".to_owned()),
                Poll::Ready(Ok(bytes)) => bytes,
                // The cause says more: timed out, reset by a server that does not know the connection, closed.
                Poll::Ready(Err(ReadError::ConnectionLost(cause))) => return Err(cause.to_string()),
                Poll::Ready(Err(error)) => return Err(error.to_string()),
                Poll::Pending => break,
            };
            self.deframer.push(&buffer[..bytes]);
            if !take_frames(&mut self.deframer, frames) {
                break;
            }
        }
        Ok(())
    }
}

impl QuicLink {
    /// See [`Link::has_room`].
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < WRITE_BYTES_MAX
    }

    /// See [`Link::push`].
    pub(super) fn push(&mut self, frame: &ClientFrame) {
        if !self.write_failed {
            encode_framed(frame, &mut self.queue);
        }
    }

    /// See [`Link::poll`].
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reads: bool,
        frames: &mut Vec<Result<ServerFrame, FrameError>>,
    ) -> Poll<Result<(), Error>> {
        // What the server said before it went away counts more than that we could not write: the reading side tells.
        if let Poll::Ready(Err(_)) = self.poll_write(cx) {
            self.write_failed = true;
            self.queue.clear();
        }
        if reads {
            if let Err(reason) = self.receive.read(cx, &mut self.buffer, FRAMES_READ_MAX, frames) {
                return Poll::Ready(Err(Error::ConnectionLost(reason)));
            }
            self.is_welcome |= frames.iter().flatten().any(|frame| matches!(frame.kind, Some(Kind::Welcome(_))));
            if self.is_welcome {
                self.read_catch_up(cx, frames);
            }
        }
        if frames.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// Takes what waited, half of a turn: what is live is more than that only where somebody floods.
    fn read_catch_up(&mut self, cx: &mut Context<'_>, frames: &mut Vec<Result<ServerFrame, FrameError>>) {
        if let CatchUp::Awaited(opening) = &mut self.catch_up
            && let Poll::Ready(opened) = opening.as_mut().poll(cx)
        {
            self.catch_up = opened.map_or(CatchUp::Over, |stream| CatchUp::Open(Reading::new(stream)));
        }
        let frames_max = frames.len() + FRAMES_READ_MAX / 2;
        if let CatchUp::Open(reading) = &mut self.catch_up
            && reading.read(cx, &mut self.buffer, frames_max, frames).is_err()
        {
            self.catch_up = CatchUp::Over;
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        while !self.queue.is_empty() {
            let written = ready!(Pin::new(&mut self.send).poll_write(cx, &self.queue))?;
            self.queue.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// See [`Link::close`].
    pub(super) async fn close(&mut self) {
        if core::future::poll_fn(|cx| self.poll_write(cx)).await.is_ok() && self.send.finish().is_ok() {
            // The server has everything when it has acknowledged the end of the stream.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT / 2, self.send.stopped()).await;
        }
        self.connection.close(VarInt::from_u32(0), b"");
        let _ = tokio::time::timeout(CLOSE_TIMEOUT / 4, self.endpoint.wait_idle()).await;
    }
}
