//! (D) QUIC: one bidirectional stream of length-prefixed frames for each connection, and for clients that agree to it
//! one of what waited in their inbox, which the server opens when there is something.
//!
//! quinn's defaults are overridden (`transport_config`): they let one stranger pin gigabytes. The stream's window of
//! 192 KiB keeps 15 Mbit/s over a round trip of 100 ms, and a client has at most 64 sends in flight anyway; one frame
//! of the largest size always fits in it. Our sending window is bounded by the same reasoning.
//!
//! Connection migration is off: a node with several cores has one endpoint per core behind `SO_REUSEPORT`, and the
//! kernel chooses by the client's address. A client whose address changes connects again, and resumes its inbox.
//!
//! A node that was killed says nothing; its clients would notice after their idle timeout, half a minute. So the keys
//! of stateless resets and connection ids are derived from the node's private key: the first packet that the next
//! process does not know is answered with a reset that the client believes. Each core has keys of its own, or one
//! core could be made to sign the end of another's live connection (RFC 9000, section 21.11).
//!
//! Invariants
//! - Addresses must prove themselves with a Retry while many handshakes are under way.
//! - A frame's length is checked before anything is reserved for it; what arrives beyond one frame is bounded by the
//!   stream's window.
//! - A second stream is refused with a code, not by silence.

use core::{
    cell::Cell,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use std::{net::UdpSocket, rc::Rc, sync::Arc};

use bytes::{Buf as _, BytesMut};
use columba_engine::{
    env::{Clock, Disk},
    ids::CoreId,
};
use columba_wire::{
    Code,
    framing::{Deframer, encode_framed},
    limits::{FRAME_BYTES_UNAUTHENTICATED_MAX, LOGIN_MS_MAX, TLS_HANDSHAKE_MS_MAX},
    v1::ServerFrame,
};
use futures_util::future::{Either, select};
use quinn::{
    Connection, Endpoint, EndpointConfig, IdleTimeout, Incoming, RecvStream, SendStream, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
    crypto::{CryptoError, HmacKey, rustls::QuicServerConfig},
};
use quinn_proto::HashedConnectionIdGenerator;
use sha2::{Digest as _, Sha256};
use tokio::{task::spawn_local, time::timeout};

use super::{
    Front, OpenGuard,
    admission::{LobbyTicket, Permit},
    pump::{End, Input, Link, Pump, Queued},
    tls::Tls,
};
use crate::{
    core::{PeerInfo, Transport},
    error::{Error, Result},
    limits::{
        CLOSE_MS_MAX, QUIC_CONNECTION_WINDOW_BYTES, QUIC_IDLE_MS, QUIC_INCOMING_BYTES, QUIC_INCOMING_BYTES_TOTAL,
        QUIC_INCOMING_MAX, QUIC_RETRY_TOKEN_SECONDS, QUIC_SEND_WINDOW_BYTES, QUIC_STREAM_WINDOW_BYTES, QUIC_STREAMS,
        QUIC_UNVALIDATED_MAX, QUIC_WRITE_BYTES_MAX,
    },
};

/// Bytes taken from a stream at once.
const READ_BYTES: usize = 64 * 1024;
/// The priority of what waited: everything else goes before it. A stream has 0 where nothing is said.
const CATCH_UP_PRIORITY: i32 = -1;
/// Bytes of output buffer that a connection keeps while it is idle.
const OUT_BYTES_KEPT: usize = 4 * 1024;

/// The endpoint of a core.
///
/// # Errors
/// The socket cannot be used.
pub(crate) fn endpoint(socket: UdpSocket, tls: &Tls, core: CoreId) -> Result<Endpoint> {
    let crypto = QuicServerConfig::try_from(Arc::clone(&tls.quic)).map_err(|error| Error::Tls(error.to_string()))?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport_config()))
        .migration(false)
        .max_incoming(QUIC_INCOMING_MAX)
        .incoming_buffer_size(QUIC_INCOMING_BYTES)
        .incoming_buffer_size_total(QUIC_INCOMING_BYTES_TOTAL)
        .retry_token_lifetime(Duration::from_secs(QUIC_RETRY_TOKEN_SECONDS));
    Endpoint::new(endpoint_config(tls, core), Some(config), socket, Arc::new(TokioRuntime))
        .map_err(|source| Error::System { what: "make a QUIC endpoint".to_owned(), source })
}

fn endpoint_config(tls: &Tls, core: CoreId) -> EndpointConfig {
    let reset = ResetKey(hmac(&tls.reset_secret, &core.get().to_be_bytes()));
    let ids = hmac(&reset.0, b"connection ids");
    let ids = u64::from_be_bytes(*ids.first_chunk().expect("32 bytes hold 8"));
    let mut config = EndpointConfig::new(Arc::new(reset));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config
}

/// Signs stateless resets.
struct ResetKey([u8; 32]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(&hmac(&self.0, data));
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> core::result::Result<(), CryptoError> {
        let expected = hmac(&self.0, data);
        let differs = expected.iter().zip(signature).fold(0, |bits, (a, b)| bits | (a ^ b));
        if signature.len() == expected.len() && differs == 0 { Ok(()) } else { Err(CryptoError) }
    }
}

/// HMAC-SHA-256 with a key shorter than a block (RFC 2104).
fn hmac(key: &[u8; 32], data: &[u8]) -> [u8; 32] {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
        Sha256::new_with_prefix(block)
    };
    pad(0x5C).chain_update(pad(0x36).chain_update(data).finalize()).finalize().into()
}

fn transport_config() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(QUIC_STREAMS.0))
        .max_concurrent_uni_streams(VarInt::from_u32(QUIC_STREAMS.1))
        .stream_receive_window(VarInt::from_u32(QUIC_STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(QUIC_CONNECTION_WINDOW_BYTES))
        .send_window(QUIC_SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(QUIC_IDLE_MS))));
    config
}

/// Takes connections until the endpoint is closed.
pub(crate) async fn run<D: Disk, C: Clock>(front: Rc<Front<D, C>>, endpoint: Endpoint) {
    let handshakes = Rc::new(Cell::new(0));
    while let Some(incoming) = endpoint.accept().await {
        if handshakes.get() >= QUIC_UNVALIDATED_MAX && incoming.may_retry() && !incoming.remote_address_validated() {
            front.metrics.quic_retries_total.add(1);
            // Cannot fail: it may retry.
            let _ = incoming.retry();
            continue;
        }
        let Some(permit) = front.admit(incoming.remote_address().ip()) else {
            incoming.refuse();
            continue;
        };
        front.metrics.quic_accepted_total.add(1);
        let ticket = front.enter_lobby();
        let (front, handshakes) = (Rc::clone(&front), Handshake::begin(&handshakes));
        spawn_local(async move { serve(&front, incoming, handshakes, ticket, permit).await });
    }
}

/// A handshake that is counted.
struct Handshake(Rc<Cell<usize>>);

impl Handshake {
    fn begin(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

async fn serve<D: Disk, C: Clock>(
    front: &Front<D, C>,
    incoming: Incoming,
    handshake: Handshake,
    ticket: LobbyTicket,
    _permit: Permit,
) {
    let _open = OpenGuard::new(&front.open);
    let displaced = pin!(ticket.displaced());
    let establishing = pin!(establish(incoming));
    let connection = match select(displaced, establishing).await {
        Either::Right((Some(connection), _)) => connection,
        Either::Right((None, _)) => return front.metrics.handshake_failures_total.add(1),
        Either::Left(_) => return,
    };
    drop(handshake);
    let displaced = pin!(ticket.displaced());
    let session = pin!(serve_connection(front, &connection, &ticket));
    let code = match select(displaced, session).await {
        Either::Left(_) => Code::TooManyConnections.number(),
        Either::Right((code, _)) => code,
    };
    connection.close(VarInt::from_u32(code), b"");
}

async fn establish(incoming: Incoming) -> Option<Connection> {
    let connecting = incoming.accept().ok()?;
    timeout(Duration::from_millis(TLS_HANDSHAKE_MS_MAX), connecting).await.ok()?.ok()
}

/// Serves a connection whose handshake is done. Returns the code to close it with.
async fn serve_connection<D: Disk, C: Clock>(
    front: &Front<D, C>,
    connection: &Connection,
    ticket: &LobbyTicket,
) -> u32 {
    let accepting = timeout(Duration::from_millis(LOGIN_MS_MAX), connection.accept_bi());
    let Ok(Ok((send, receive))) = accepting.await else {
        return Code::LoginTimeout.number();
    };
    let peer = PeerInfo {
        address: connection.remote_address(),
        transport: Transport::Quic,
        binding: front.tls.offer_of_quic(connection),
    };
    let session = match front.core.connect(peer) {
        Ok(session) => session,
        Err(code) => return code.number(),
    };
    let mut link = QuicLink::new(connection.clone(), send, receive);
    let pump = Pump::new(&mut link, &session, ticket, &front.metrics).run();
    let end = match select(pin!(pump), pin!(refuse_streams(connection))).await {
        Either::Left((end, _)) => end,
        Either::Right(_) => End::Peer,
    };
    // The session is over now, not when the peer has read its last frame.
    drop(session);
    link.close(end).await;
    match end {
        End::Session | End::Peer => 0,
        End::Violation => Code::Malformed.number(),
        End::Stalled => Code::TooSlow.number(),
    }
}

/// A client has one stream. Ends with the connection.
async fn refuse_streams(connection: &Connection) {
    let code = VarInt::from_u32(Code::Unexpected.number());
    loop {
        tokio::select! {
            stream = connection.accept_bi() => {
                let Ok((mut send, mut receive)) = stream else { return };
                // Both fail only where the peer has given the stream up itself.
                let _ = send.reset(code);
                let _ = receive.stop(code);
            }
            stream = connection.accept_uni() => {
                let Ok(mut receive) = stream else { return };
                let _ = receive.stop(code);
            }
        }
    }
}

/// The server's side of the stream, and of the one of what waited.
struct QuicLink {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    deframer: Deframer,
    out: BytesMut,
    written: u64,
    catch_up: CatchUp,
}

/// The stream of what waited.
enum CatchUp {
    /// There is none: it goes with everything else.
    Off,
    /// There may be one.
    Allowed,
    /// There is one, with what is to be written to it.
    Open(SendStream, BytesMut),
}

impl QuicLink {
    fn new(connection: Connection, send: SendStream, receive: RecvStream) -> Self {
        let deframer = Deframer::new(FRAME_BYTES_UNAUTHENTICATED_MAX);
        Self { connection, send, receive, deframer, out: BytesMut::new(), written: 0, catch_up: CatchUp::Off }
    }

    /// Ends our half of the stream, and waits for the peer to have it all; within a time.
    async fn close(mut self, end: End) {
        let code = VarInt::from_u32(0);
        // Fails where the peer has ended it.
        let _ = self.receive.stop(code);
        if end == End::Session && self.send.finish().is_ok() {
            // A peer that does not acknowledge is left.
            let _ = timeout(Duration::from_millis(CLOSE_MS_MAX), self.send.stopped()).await;
        }
    }
}

impl Link for QuicLink {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        loop {
            match self.deframer.next_frame() {
                Ok(Some(frame)) => return Poll::Ready(Input::Frame(frame)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Input::TooLarge(error)),
            }
            // A new future each time: it holds nothing but the stream.
            let chunk = pin!(self.receive.read_chunk(READ_BYTES, true));
            match ready!(chunk.poll(cx)) {
                Ok(Some(chunk)) => self.deframer.push(&chunk.bytes),
                Ok(None) | Err(_) => return Poll::Ready(Input::End(End::Peer)),
            }
        }
    }

    fn queue(&mut self, _cx: &mut Context<'_>, frame: &ServerFrame) -> core::result::Result<Queued, End> {
        encode_framed(frame, &mut self.out);
        Ok(if self.out.len() < QUIC_WRITE_BYTES_MAX { Queued::Room } else { Queued::Blocked })
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<core::result::Result<(), End>> {
        while !self.out.is_empty() {
            match ready!(Pin::new(&mut self.send).poll_write(cx, &self.out)) {
                Ok(bytes) => {
                    self.written += bytes as u64;
                    self.out.advance(bytes);
                }
                Err(_) => return Poll::Ready(Err(End::Peer)),
            }
        }
        if self.out.capacity() > OUT_BYTES_KEPT {
            self.out = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn allow_catch_up_stream(&mut self) {
        self.catch_up = CatchUp::Allowed;
    }

    fn has_catch_up_stream(&mut self, cx: &mut Context<'_>) -> bool {
        if let CatchUp::Allowed = self.catch_up {
            // A client that agrees to the stream lets us open it: where it does not, there is none.
            let opening = pin!(self.connection.open_uni()).poll(cx);
            self.catch_up = match opening {
                Poll::Ready(Ok(stream)) => {
                    // Fails only where the stream is over already, which its next write tells.
                    let _ = stream.set_priority(CATCH_UP_PRIORITY);
                    CatchUp::Open(stream, BytesMut::new())
                }
                Poll::Ready(Err(_)) | Poll::Pending => CatchUp::Off,
            };
        }
        matches!(self.catch_up, CatchUp::Open(..))
    }

    fn takes_catch_up(&self) -> bool {
        match &self.catch_up {
            CatchUp::Open(_, out) => out.len() < QUIC_WRITE_BYTES_MAX,
            CatchUp::Off | CatchUp::Allowed => true,
        }
    }

    fn queue_catch_up(&mut self, frame: &ServerFrame) {
        if let CatchUp::Open(_, out) = &mut self.catch_up {
            encode_framed(frame, out);
        }
    }

    fn poll_catch_up(&mut self, cx: &mut Context<'_>) -> core::result::Result<usize, End> {
        let CatchUp::Open(stream, out) = &mut self.catch_up else {
            return Ok(0);
        };
        let waiting = out.len();
        while !out.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, out) {
                Poll::Ready(Ok(bytes)) => out.advance(bytes),
                Poll::Ready(Err(_)) => return Err(End::Peer),
                Poll::Pending => break,
            }
        }
        let written = waiting - out.len();
        if out.is_empty() && out.capacity() > OUT_BYTES_KEPT {
            *out = BytesMut::new();
        }
        Ok(written)
    }

    fn bytes_written(&self) -> u64 {
        self.written
    }

    fn is_partial(&self) -> bool {
        self.deframer.is_partial()
    }

    fn set_frame_bytes_max(&mut self, bytes: usize) {
        self.deframer.set_frame_bytes_max(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_signed_as_the_standard_says() {
        // RFC 4231, test case 2, with its key of four bytes padded by zeros.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let signature = hmac(&key, b"what do ya want for nothing?");
        assert_eq!(signature[..8], [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e]);
        let key = ResetKey(key);
        assert!(key.verify(b"what do ya want for nothing?", &signature).is_ok());
        assert!(key.verify(b"what do ya want for nothing?", &signature[..31]).is_err());
        assert!(key.verify(b"what do ya want for nothing", &signature).is_err());
    }
}
