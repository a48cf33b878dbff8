//! (D) One attempt to connect: names, then QUIC, WebSocket or long-polling.

use core::{
    net::SocketAddr,
    task::{Context, Poll},
};

use columba_wire::{
    auth::Binding,
    frame::{FrameError, decode_server},
    framing::Deframer,
    v1::{ClientFrame, ServerFrame},
};
use futures_util::future::BoxFuture;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{
    poll::{self, PollLink},
    quic::{self, QuicLink},
    tls::Rule,
    websocket::{self, WebSocketLink},
};
use crate::{
    error::Error,
    limits::{CONNECT_TIMEOUT, QUIC_HEAD_START, TCP_HEAD_START},
    options::{Transport, Trust},
    types::{Carrier, Fingerprint},
};

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Where to connect to, and how.
#[derive(Clone)]
pub(crate) struct Target {
    pub(super) server: String,
    pub(super) name: ServerName<'static>,
    transport: Transport,
    pub(super) rule: Rule,
    /// What worked last, for [`Transport::Auto`].
    last: Option<Carrier>,
    /// What the server showed last.
    certificate: Option<Fingerprint>,
}

/// A connection.
pub(crate) struct Connected {
    pub(crate) link: Link,
    pub(crate) carrier: Carrier,
    pub(crate) binding: Binding,
    /// What the server showed.
    pub(crate) certificate: Option<Fingerprint>,
}

impl Target {
    /// Checks the options; reads the certificates.
    pub(crate) fn new(
        server: &str,
        transport: Transport,
        trust: Trust,
        pinned: Option<Fingerprint>,
    ) -> Result<Self, Error> {
        let wrong = || Error::InvalidOption(format!("not host:port: {server:?}"));
        let (host, port) = server.rsplit_once(':').ok_or_else(wrong)?;
        port.parse::<u16>().map_err(|_| wrong())?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|_| wrong())?;
        let rule = Rule::new(trust, pinned)?;
        Ok(Self { server: server.to_owned(), name, transport, rule, last: None, certificate: None })
    }

    /// Notes what worked. Returns the certificate that is pinned by it, if one is.
    pub(crate) fn handle_connected(&mut self, connected: &Connected) -> Option<Fingerprint> {
        self.last = Some(connected.carrier);
        self.certificate = connected.certificate;
        self.rule.pin(connected.certificate?)
    }

    /// What the server showed last, or else what it must show.
    pub(crate) fn certificate(&self) -> Option<Fingerprint> {
        self.certificate.or_else(|| self.rule.expected())
    }

    /// Connects.
    pub(crate) async fn connect(self) -> Result<Connected, Error> {
        match tokio::time::timeout(CONNECT_TIMEOUT, self.connect_any()).await {
            Ok(result) => result,
            Err(_) => Err(self.error("no answer")),
        }
    }

    async fn connect_any(&self) -> Result<Connected, Error> {
        let addresses = tokio::net::lookup_host(&self.server).await.map_err(|error| self.error(&error))?;
        let addresses: Vec<_> = addresses.take(ADDRESSES_MAX).collect();
        let mut last = self.error("the name has no address");
        for address in addresses {
            match self.connect_to(address).await {
                Err(error) if !error.is_final() => last = error,
                done => return done,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<Connected, Error> {
        match self.transport {
            Transport::Quic => quic::connect(self, address).await,
            Transport::WebSocket => websocket::connect(self, address).await,
            Transport::PlainWebSocket => websocket::connect_plain(self, address).await,
            Transport::LongPoll => poll::connect(self, address).await,
            Transport::Auto => self.connect_somehow(address).await,
        }
    }

    /// What worked last first, then QUIC, WebSocket and long-polling; all but the last try within a time.
    async fn connect_somehow(&self, address: SocketAddr) -> Result<Connected, Error> {
        let last = self.last.filter(|last| *last != Carrier::PlainWebSocket);
        let others = [Carrier::Quic, Carrier::WebSocket, Carrier::LongPoll].into_iter();
        let ways = last.into_iter().chain(others.filter(|way| Some(*way) != last));
        let mut error = self.error("not tried");
        for (left, way) in (0..3).rev().zip(ways) {
            let head_start = match way {
                _ if left == 0 => CONNECT_TIMEOUT,
                Carrier::Quic => QUIC_HEAD_START,
                Carrier::WebSocket | Carrier::PlainWebSocket | Carrier::LongPoll => TCP_HEAD_START,
            };
            let connecting: BoxFuture<'_, _> = match way {
                Carrier::Quic => Box::pin(quic::connect(self, address)),
                Carrier::WebSocket | Carrier::PlainWebSocket => Box::pin(websocket::connect(self, address)),
                Carrier::LongPoll => Box::pin(poll::connect(self, address)),
            };
            match tokio::time::timeout(head_start, connecting).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(refused)) if refused.is_final() => return Err(refused),
                Ok(Err(failed)) => error = failed,
                Err(_) => error = self.error("no answer"),
            }
        }
        Err(error)
    }

    /// What the transport said.
    pub(super) fn error(&self, reason: impl core::fmt::Display) -> Error {
        Error::Connect { server: self.server.clone(), reason: reason.to_string() }
    }
}

/// A connection that carries frames.
pub(crate) enum Link {
    Quic(Box<QuicLink>),
    WebSocket(Box<WebSocketLink<TlsStream<TcpStream>>>),
    PlainWebSocket(Box<WebSocketLink<TcpStream>>),
    Poll(Box<PollLink>),
}

impl Link {
    /// Whether another frame may be queued.
    pub(crate) fn has_room(&self) -> bool {
        match self {
            Self::Quic(link) => link.has_room(),
            Self::WebSocket(link) => link.has_room(),
            Self::PlainWebSocket(link) => link.has_room(),
            Self::Poll(link) => link.has_room(),
        }
    }

    /// Queues a frame; [`Self::poll`] writes it.
    pub(crate) fn push(&mut self, frame: &ClientFrame) {
        match self {
            Self::Quic(link) => link.push(frame),
            Self::WebSocket(link) => link.push(frame),
            Self::PlainWebSocket(link) => link.push(frame),
            Self::Poll(link) => link.push(frame),
        }
    }

    /// Writes what is queued, as one batch, and where `reads` gives what has come. Ready with frames, or at the end;
    /// frames that came before the end are given first or together with it.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reads: bool,
        frames: &mut Vec<Result<ServerFrame, FrameError>>,
    ) -> Poll<Result<(), Error>> {
        match self {
            Self::Quic(link) => link.poll(cx, reads, frames),
            Self::WebSocket(link) => link.poll(cx, reads, frames),
            Self::PlainWebSocket(link) => link.poll(cx, reads, frames),
            Self::Poll(link) => link.poll(cx, reads, frames),
        }
    }

    /// Writes what is queued and closes.
    pub(crate) async fn close(&mut self) {
        match self {
            Self::Quic(link) => link.close().await,
            Self::WebSocket(link) => link.close().await,
            Self::PlainWebSocket(link) => link.close().await,
            Self::Poll(link) => link.close().await,
        }
    }
}

/// Takes the whole frames of what was received. False behind one that is announced too long: nothing can be read then.
pub(super) fn take_frames(deframer: &mut Deframer, frames: &mut Vec<Result<ServerFrame, FrameError>>) -> bool {
    loop {
        match deframer.next_frame() {
            Ok(Some(frame)) => frames.push(decode_server(frame)),
            Ok(None) => return true,
            Err(error) => {
                frames.push(Err(error));
                return false;
            }
        }
    }
}
