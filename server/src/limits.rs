//! Bounds of the server: unit, reason, and what happens beyond. What a client can meet by itself is in
//! [`columba_wire::limits`]; those of a core are in [`crate::core::limits`]; what an operator may change is in
//! [`crate::config`], with these as defaults or ceilings.

use columba_wire::limits::BODY_BYTES_MAX;

use crate::delivery::{CATCH_UP_BYTES_MAX, CATCH_UP_MAX};

// Rings between cores.

/// Messages in a ring from one core to another. Beyond: the sender takes no more from its core until there is room.
pub const RING_MESSAGES: usize = 4_096;
/// Messages that a core takes from one ring before it lets its other tasks run.
pub const RING_BATCH_MAX: usize = 256;

// Fronts.

/// Cores of a node.
pub const CORES_MAX: u16 = 256;
/// Partitions of a node.
pub const PARTITIONS_MAX: u32 = 4_096;
/// Connections of one address (IPv6: of one /64), by default. Beyond: closed at once.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 64;
/// Connections from loopback, by default: a proxy, a benchmark and tests come from there.
pub const CONNECTIONS_LOOPBACK_MAX: usize = 100_000;
/// Connections of a node, by default. Beyond: closed at once.
pub const CONNECTIONS_MAX: usize = 100_000;
/// Connections of a node that are not logged in, by default. Beyond: the oldest of them that is idle makes way.
pub const UNAUTHENTICATED_NODE_MAX: usize = 4_096;
/// Descriptors kept free for files and the metrics when connections are counted against the process's limit.
pub const DESCRIPTORS_RESERVED: u64 = 256;
/// The kernel's queue of connections not accepted yet.
pub const ACCEPT_BACKLOG: i32 = 4_096;
/// Milliseconds to wait after an accept failed for lack of descriptors or memory.
pub const ACCEPT_PAUSE_MS: u64 = 20;
/// Bytes of an HTTP request head. Beyond: the connection is closed.
pub const REQUEST_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Milliseconds for a request head, from its first byte; for a connection's first one from when it was accepted.
/// Beyond: the connection is closed.
pub const REQUEST_HEAD_MS_MAX: u64 = 5_000;
/// Milliseconds until the next request head begins on a connection that was answered: a client that polls, and has
/// nothing to say for a while, is spared another handshake. Beyond: the connection is closed.
pub const REQUEST_IDLE_MS_MAX: u64 = 60_000;
/// Header lines of a request. Beyond: 431.
pub const REQUEST_HEADERS_MAX: usize = 64;
/// Bytes of the buffer a WebSocket is read into: small, because idle connections are the bulk. Longer messages grow
/// another one, up to the frame's bound.
pub const WEBSOCKET_READ_BYTES: usize = 4 * 1024;
/// Bytes of frames that a WebSocket collects before it writes to the socket.
pub const WEBSOCKET_WRITE_BYTES: usize = 16 * 1024;
/// Bytes that wait in a WebSocket's write buffer. One frame of the largest size fits beyond [`WEBSOCKET_WRITE_BYTES`].
pub const WEBSOCKET_WRITE_BYTES_MAX: usize = 256 * 1024;
const _: () = assert!(
    WEBSOCKET_WRITE_BYTES + columba_wire::limits::FRAME_BYTES_MAX < WEBSOCKET_WRITE_BYTES_MAX,
    "a frame that was taken from the session can always be queued"
);
/// Control frames (ping, pong) of one WebSocket a second; and twice so many at once. Beyond: closed.
pub const CONTROL_FRAMES_PER_SECOND: u32 = 10;
/// Bytes of frames that a long-poll answer collects, before the one that goes beyond it.
pub const POLL_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Milliseconds in which a client must ask for the next long-poll answer; then its session ends, as that of a client
/// that does not read.
pub const POLL_ABSENT_MS_MAX: u64 = columba_wire::limits::OUTBOX_STALL_MS_MAX;
/// Bytes of a long-poll body beyond one frame of the largest size: what is a little too long is told by the session.
pub const POLL_BODY_BYTES_MORE: usize = 1024;
/// Bytes of a body without use that are read all the same, so that its client reads the answer and meets no reset.
/// Beyond, and where they take longer than [`CLOSE_MS_MAX`]: the connection is closed behind the answer.
pub const POLL_DRAIN_BYTES_MAX: usize = 256 * 1024;
/// Long-poll sessions of a core: each holds its last answer beyond what other sessions hold. Beyond:
/// `TOO_MANY_CONNECTIONS`.
pub const POLL_SESSIONS_MAX: usize = 16_384;
/// Requests of a long-poll session on their way to it. One `GET` and one `POST` are due at a time, and repetitions of
/// both. Beyond: they wait.
pub const POLL_REQUESTS_MAX: usize = 4;
/// Bytes of frames written at once to a QUIC stream.
pub const QUIC_WRITE_BYTES_MAX: usize = 64 * 1024;
/// Milliseconds for the last frames and the closing handshake of a transport to reach the peer.
pub const CLOSE_MS_MAX: u64 = 2_000;
/// Milliseconds without a packet after which QUIC gives a connection up: later than the session's own heartbeat
/// deadline, so that a client learns why.
pub const QUIC_IDLE_MS: u32 = 80_000;
const _: () = assert!(QUIC_IDLE_MS as u64 > columba_wire::limits::HEARTBEAT_DEADLINE_MS, "the session decides first");
/// Bidirectional and unidirectional streams a QUIC peer may have open. One is used; a second is refused with a code
/// rather than by silence.
pub const QUIC_STREAMS: (u32, u32) = (8, 2);
/// Bytes in flight to us on one QUIC stream.
pub const QUIC_STREAM_WINDOW_BYTES: u32 = 192 * 1024;
/// Bytes in flight to us on one QUIC connection.
pub const QUIC_CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// Bytes that we send on one QUIC connection before they are acknowledged: what waited for a device, as much as there
/// may be of it on the way, and room for what is live.
pub const QUIC_SEND_WINDOW_BYTES: u64 = 512 * 1024;
const _: () = assert!(
    QUIC_SEND_WINDOW_BYTES
        >= (CATCH_UP_BYTES_MAX + BODY_BYTES_MAX + CATCH_UP_MAX * DELIVER_HEAD_BYTES_MAX + QUIC_WRITE_BYTES_MAX) as u64,
    "a catch-up leaves room"
);
/// Bytes of a `Deliver` beside its body, framing included, at most.
const DELIVER_HEAD_BYTES_MAX: usize = 96;
/// QUIC connections of an endpoint that wait for their handshake to be taken up. Beyond: refused.
pub const QUIC_INCOMING_MAX: usize = 1_024;
/// Bytes buffered for one of them.
pub const QUIC_INCOMING_BYTES: u64 = 16 * 1024;
/// Bytes buffered for all of them.
pub const QUIC_INCOMING_BYTES_TOTAL: u64 = 16 * 1024 * 1024;
/// QUIC handshakes under way on one core, beyond which an address must first prove itself with a Retry.
pub const QUIC_UNVALIDATED_MAX: usize = 256;
/// Seconds that a Retry token is good for.
pub const QUIC_RETRY_TOKEN_SECONDS: u64 = 15;
/// Milliseconds for a graceful shutdown: sessions are told, the journal's last batch is written.
pub const SHUTDOWN_MS_MAX: u64 = 10_000;
