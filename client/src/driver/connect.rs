//! (D) One attempt to connect: names, then QUIC or WebSocket.

use core::{
    net::SocketAddr,
    task::{Context, Poll},
};

use columba_wire::{
    auth::Binding,
    frame::FrameError,
    v1::{ClientFrame, ServerFrame},
};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{
    quic::{self, QuicLink},
    tls::Rule,
    websocket::{self, WebSocketLink},
};
use crate::{
    error::Error,
    limits::{CONNECT_TIMEOUT, QUIC_HEAD_START},
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
            Transport::Auto if self.last == Some(Carrier::WebSocket) => match websocket::connect(self, address).await {
                Err(error) if !error.is_final() => quic::connect(self, address).await,
                done => done,
            },
            Transport::Auto => match tokio::time::timeout(QUIC_HEAD_START, quic::connect(self, address)).await {
                Ok(Ok(connected)) => Ok(connected),
                Ok(Err(error)) if error.is_final() => Err(error),
                Ok(Err(_)) | Err(_) => websocket::connect(self, address).await,
            },
        }
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
}

impl Link {
    /// Whether another frame may be queued.
    pub(crate) fn has_room(&self) -> bool {
        match self {
            Self::Quic(link) => link.has_room(),
            Self::WebSocket(link) => link.has_room(),
            Self::PlainWebSocket(link) => link.has_room(),
        }
    }

    /// Queues a frame; [`Self::poll`] writes it.
    pub(crate) fn push(&mut self, frame: &ClientFrame) {
        match self {
            Self::Quic(link) => link.push(frame),
            Self::WebSocket(link) => link.push(frame),
            Self::PlainWebSocket(link) => link.push(frame),
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
        }
    }

    /// Writes what is queued and closes.
    pub(crate) async fn close(&mut self) {
        match self {
            Self::Quic(link) => link.close().await,
            Self::WebSocket(link) => link.close().await,
            Self::PlainWebSocket(link) => link.close().await,
        }
    }
}
