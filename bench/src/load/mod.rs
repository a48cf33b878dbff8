//! Lean clients: cheap enough that the server, not the load, is what is measured.
//!
//! | module | what it holds |
//! |---|---|
//! | [`websocket`], [`quic`] | one connection: frames in, as many as are there; frames out, one flush for all |
//! | [`dialect`] | what the frames mean: Columba's protocol, or the echo floor's |
//! | [`login`] | registration of a fresh user on a connection, and later logins |
//! | [`traffic`] | bytes of a connection, for each message |
//! | [`latency`] | one pair at a fixed rate, open loop |
//! | [`throughput`] | many pairs, each with a window of unanswered sends |
//! | [`group`] | one group at a fixed rate, open loop: when the last member has a message |

pub(crate) mod dialect;
pub(crate) mod group;
pub(crate) mod latency;
pub(crate) mod login;
pub(crate) mod quic;
pub(crate) mod throughput;
pub(crate) mod traffic;
pub(crate) mod websocket;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;
use clap::ValueEnum;
use columba_wire::auth::Binding;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsStream;

use self::{dialect::Dialect, quic::QuicLink, traffic::Traffic, websocket::WebSocketLink};
use crate::socket::Counted;

/// Bytes of a message body where nothing else is said.
pub(crate) const BODY_BYTES: usize = 150;
/// Frames taken from a connection before they are handled.
const BATCH_FRAMES_MAX: usize = 512;
/// Connections that come from one loopback address: a server may bound them per address.
const CONNECTIONS_PER_ADDRESS: u32 = 16;

/// What carries the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// WebSocket without TLS.
    Ws,
    /// WebSocket over TLS 1.3.
    Wss,
    /// A QUIC stream.
    Quic,
}

impl Transport {
    /// As in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Quic => "quic",
        }
    }
}

/// Who is behind the sockets, and what it does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// A Columba node.
    Columba,
    /// The echo server; with `commit` it makes one raw durable write per batch before it forwards.
    Echo {
        /// Whether it writes.
        commit: bool,
    },
}

/// A server to be measured.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// TLS: WebSocket by TCP, QUIC by UDP.
    pub(crate) secure: SocketAddr,
    /// Plain WebSocket.
    pub(crate) plain: SocketAddr,
    /// What the server shows.
    pub(crate) certificate: CertificateDer<'static>,
}

/// One connection.
pub(crate) enum Link {
    /// Plain WebSocket.
    Plain(Box<WebSocketLink<Counted>>),
    /// WebSocket over TLS.
    Secure(Box<WebSocketLink<TlsStream<Counted>>>),
    /// QUIC.
    Quic(Box<QuicLink>),
}

impl Link {
    /// Connects to `target`, and says what a login signature can be bound to.
    ///
    /// # Errors
    /// What the network, TLS or the handshake say.
    pub(crate) async fn connect(target: &Target, transport: Transport) -> anyhow::Result<(Self, Binding)> {
        static CONNECTIONS: AtomicU32 = AtomicU32::new(0);
        let group = CONNECTIONS.fetch_add(1, Ordering::Relaxed) / CONNECTIONS_PER_ADDRESS;
        let [_, _, third, fourth] = (group % 0xFFFF + 1).to_be_bytes();
        let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, third, fourth)), 0);
        Ok(match transport {
            Transport::Ws => {
                (Self::Plain(Box::new(websocket::connect_plain(target.plain, from).await?)), Binding::NONE)
            }
            Transport::Wss => {
                let (link, binding) = websocket::connect_secure(target, from).await?;
                (Self::Secure(Box::new(link)), binding)
            }
            Transport::Quic => {
                let (link, binding) = quic::connect(target, from).await?;
                (Self::Quic(Box::new(link)), binding)
            }
        })
    }

    /// Waits for frames and takes all that are there. May be cancelled: nothing is lost.
    ///
    /// # Errors
    /// The connection is closed or broken.
    pub(crate) async fn receive(&mut self, frames: &mut Vec<Bytes>) -> anyhow::Result<()> {
        match self {
            Self::Plain(link) => link.receive(frames).await,
            Self::Secure(link) => link.receive(frames).await,
            Self::Quic(link) => link.receive(frames).await,
        }
    }

    /// Puts a frame into the buffer; [`Self::flush`] sends it.
    ///
    /// # Errors
    /// The connection is closed or broken.
    pub(crate) async fn feed(&mut self, frame: Bytes) -> anyhow::Result<()> {
        match self {
            Self::Plain(link) => link.feed(frame).await,
            Self::Secure(link) => link.feed(frame).await,
            Self::Quic(link) => {
                link.feed(&frame);
                Ok(())
            }
        }
    }

    /// Sends what was fed.
    ///
    /// # Errors
    /// The connection is closed or broken.
    pub(crate) async fn flush(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Plain(link) => link.flush().await,
            Self::Secure(link) => link.flush().await,
            Self::Quic(link) => link.flush().await,
        }
    }

    /// Bytes that went over it so far.
    pub(crate) fn traffic(&self) -> Traffic {
        match self {
            Self::Plain(link) => link.traffic(),
            Self::Secure(link) => link.traffic(),
            Self::Quic(link) => link.traffic(),
        }
    }

    /// Says goodbye to the transport; errors no longer matter.
    pub(crate) async fn close(&mut self) {
        match self {
            Self::Plain(link) => link.close().await,
            Self::Secure(link) => link.close().await,
            Self::Quic(link) => link.close().await,
        }
    }
}

/// A connection that is logged in and knows whom to write to.
pub(crate) struct Device {
    /// Its connection.
    pub(crate) link: Link,
    /// How its frames are read and written.
    pub(crate) dialect: Dialect,
}

/// Connects and logs in two devices that write to each other.
///
/// # Errors
/// What connection or registration say.
pub(crate) async fn connect_pair(
    target: &Target,
    transport: Transport,
    service: Service,
) -> anyhow::Result<[Device; 2]> {
    let ((mut a, a_binding), (mut b, b_binding)) =
        tokio::try_join!(Link::connect(target, transport), Link::connect(target, transport))?;
    let dialects = match service {
        Service::Columba => {
            let (a, b) = tokio::try_join!(login::register(&mut a, &a_binding), login::register(&mut b, &b_binding))?;
            [Dialect::Columba { to: b.address.user }, Dialect::Columba { to: a.address.user }]
        }
        Service::Echo { commit } => {
            let room = next_room();
            tokio::try_join!(login::greet(&mut a, room, commit), login::greet(&mut b, room, commit))?;
            [Dialect::Echo, Dialect::Echo]
        }
    };
    let [a_dialect, b_dialect] = dialects;
    Ok([Device { link: a, dialect: a_dialect }, Device { link: b, dialect: b_dialect }])
}

/// A room of the echo server that nobody is in.
fn next_room() -> u32 {
    static ROOMS: AtomicU32 = AtomicU32::new(1);
    ROOMS.fetch_add(1, Ordering::Relaxed)
}
