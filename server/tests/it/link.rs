//! Connections of the raw client: WebSocket, plain or over TLS, written by hand so that every rule can be broken; QUIC;
//! and long-polling. A frame in is a frame out; the end of the connection is `None`.

use core::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use columba_wire::{
    auth::{Binding, EXPORTER_LABEL},
    framing::Deframer,
    limits::FRAME_BYTES_MAX,
};
use quinn::{Connection, Endpoint, RecvStream, SendStream, crypto::rustls::QuicClientConfig};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    version::TLS13,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{http::Http, node::Node};

/// A finished frame that is not continued.
const FIN: u8 = 0x80;
/// Opcode of a text message.
pub(crate) const TEXT: u8 = 1;
/// Opcode of a binary message.
pub(crate) const BINARY: u8 = 2;
/// Opcode of a close.
const CLOSE: u8 = 8;

/// What carries the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// WebSocket without TLS.
    Plain,
    /// WebSocket over TLS.
    Tls,
    /// QUIC.
    Quic,
    /// Requests over TLS.
    Poll,
}

/// Those that carry a stream of bytes.
pub(crate) const TRANSPORTS: [Over; 3] = [Over::Plain, Over::Tls, Over::Quic];
/// All of them.
pub(crate) const ALL_TRANSPORTS: [Over; 4] = [Over::Plain, Over::Tls, Over::Quic, Over::Poll];

/// A connection of either kind.
pub(crate) enum Link {
    /// A WebSocket.
    WebSocket(WebSocket),
    /// A QUIC stream.
    Quic(Quic),
    /// Requests.
    Poll(Poll),
}

impl Link {
    /// Connects; also what a signature can be bound to.
    pub(crate) async fn connect(node: &Node, over: Over) -> (Self, Binding) {
        match over {
            Over::Plain => {
                let socket = TcpStream::connect(node.plain()).await.unwrap();
                (Self::WebSocket(WebSocket::open(Box::new(socket)).await), Binding::NONE)
            }
            Over::Tls => {
                let (socket, binding) = tls(node).await;
                (Self::WebSocket(WebSocket::open(Box::new(socket)).await), binding)
            }
            Over::Quic => {
                let quic = Quic::connect(node).await;
                let mut secret = [0; 32];
                quic.connection.export_keying_material(&mut secret, EXPORTER_LABEL, b"").unwrap();
                (Self::Quic(quic), Binding::tls_exporter(secret))
            }
            Over::Poll => (Self::Poll(Poll::open(node).await), Binding::server_certificate(&certificate(node))),
        }
    }

    /// A WebSocket without TLS from an address of this machine.
    pub(crate) async fn connect_plain(to: SocketAddr, from: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(from).unwrap();
        let socket = socket.connect(to).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self::WebSocket(WebSocket::open(Box::new(socket)).await)
    }

    /// Sends a whole frame. What is wrong with the connection is told by [`Self::receive`].
    pub(crate) async fn send(&mut self, frame: &[u8]) {
        match self {
            Self::WebSocket(link) => link.send(&message(BINARY, frame)).await,
            Self::Quic(link) => {
                let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
                link.send(&[&length, frame].concat()).await;
            }
            Self::Poll(link) => {
                let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
                link.send(&[&length, frame].concat()).await;
            }
        }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        match self {
            Self::WebSocket(link) => link.send(bytes).await,
            Self::Quic(link) => link.send(bytes).await,
            Self::Poll(link) => link.send(bytes).await,
        }
    }

    /// The next frame. May be dropped and called again.
    pub(crate) async fn receive(&mut self) -> Option<Bytes> {
        match self {
            Self::WebSocket(link) => link.receive().await,
            Self::Quic(link) => link.receive().await,
            Self::Poll(link) => link.receive().await,
        }
    }
}

/// Anything that bytes go through.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The client's side of a WebSocket.
pub(crate) struct WebSocket {
    io: Box<dyn Io>,
    read: BytesMut,
}

impl WebSocket {
    /// Upgrades a connection.
    pub(crate) async fn open(mut io: Box<dyn Io>) -> Self {
        io.write_all(upgrade("").as_bytes()).await.unwrap();
        io.flush().await.unwrap();
        let mut link = Self { io, read: BytesMut::new() };
        let head = link.read_head().await.expect("an answer to the upgrade");
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("columba.v1"), "{head}");
        link
    }

    async fn read_head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = self.read.split_to(end + 4);
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            if self.io.read_buf(&mut self.read).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        let _ = self.io.write_all(bytes).await;
        let _ = self.io.flush().await;
    }

    async fn receive(&mut self) -> Option<Bytes> {
        loop {
            while let Some((opcode, payload)) = self.take() {
                match opcode {
                    BINARY => return Some(payload),
                    CLOSE => return None,
                    _ => {}
                }
            }
            if self.io.read_buf(&mut self.read).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// A whole frame of the server: unmasked, never in parts.
    fn take(&mut self) -> Option<(u8, Bytes)> {
        let (first, second) = (*self.read.first()?, *self.read.get(1)?);
        assert!(first & 0xF0 == FIN && second & 0x80 == 0, "no frame of a server: {first:02x} {second:02x}");
        let (header, length) = match second {
            126 => (4, usize::from(u16::from_be_bytes(self.read.get(2..4)?.try_into().unwrap()))),
            127 => {
                let length = u64::from_be_bytes(self.read.get(2..10)?.try_into().unwrap());
                (10, usize::try_from(length).unwrap())
            }
            short => (2, usize::from(short)),
        };
        if self.read.len() < header + length {
            return None;
        }
        let mut frame = self.read.split_to(header + length);
        Some((first & 0x0F, frame.split_off(header).freeze()))
    }
}

/// The request for a WebSocket, with more header lines.
pub(crate) fn upgrade(more: &str) -> String {
    format!(
        "GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: columba.v1\r\n{more}\r\n"
    )
}

/// Header of a message of so many bytes; the mask is zero, so the payload is itself.
pub(crate) fn header(opcode: u8, bytes: usize) -> Vec<u8> {
    let mut out = vec![FIN | opcode];
    match bytes {
        0..=125 => out.push(0x80 | u8::try_from(bytes).unwrap()),
        126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend(u16::try_from(bytes).unwrap().to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend((bytes as u64).to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out
}

/// A whole message of a client.
pub(crate) fn message(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = header(opcode, payload.len());
    out.extend_from_slice(payload);
    out
}

/// TLS to the node, trusted by its certificate.
pub(crate) async fn tls(node: &Node) -> (TlsStream<TcpStream>, Binding) {
    tls_from(node, SocketAddr::from(([127, 0, 0, 1], 0))).await
}

/// The same from another address of this machine.
pub(crate) async fn tls_from(node: &Node, from: SocketAddr) -> (TlsStream<TcpStream>, Binding) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(from).unwrap();
    let socket = socket.connect(node.address()).await.unwrap();
    let connector = TlsConnector::from(Arc::new(tls_config(node, b"http/1.1")));
    let socket = connector.connect(ServerName::try_from("localhost").unwrap(), socket).await.unwrap();
    let secret = socket.get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, None).unwrap();
    (socket, Binding::tls_exporter(secret))
}

/// The node's certificate, DER.
pub(crate) fn certificate(node: &Node) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(node.certificate()).unwrap()
}

/// TLS 1.3 with this application protocol.
pub(crate) fn tls_config(node: &Node, alpn: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(node)).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

/// A QUIC connection and its stream.
pub(crate) struct Quic {
    /// The connection, to break rules with.
    pub(crate) connection: Connection,
    send: SendStream,
    receive: RecvStream,
    deframer: Deframer,
    _endpoint: Endpoint,
}

impl Quic {
    /// Connects and opens the stream.
    pub(crate) async fn connect(node: &Node) -> Self {
        let (endpoint, connecting) = quic_connecting(node, b"columba/1");
        let connection = connecting.await.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap();
        Self { connection, send, receive, deframer: Deframer::new(FRAME_BYTES_MAX), _endpoint: endpoint }
    }

    async fn send(&mut self, bytes: &[u8]) {
        let _ = self.send.write_all(bytes).await;
    }

    async fn receive(&mut self) -> Option<Bytes> {
        next_frame(&mut self.receive, &mut self.deframer).await
    }

    /// The stream that the node opens for what waited.
    pub(crate) async fn catch_up(&self) -> CatchUp {
        CatchUp { stream: self.connection.accept_uni().await.unwrap(), deframer: Deframer::new(FRAME_BYTES_MAX) }
    }
}

/// What waited, on a stream of its own.
pub(crate) struct CatchUp {
    stream: RecvStream,
    deframer: Deframer,
}

impl CatchUp {
    /// The next frame. May be dropped and called again.
    pub(crate) async fn receive(&mut self) -> Option<Bytes> {
        next_frame(&mut self.stream, &mut self.deframer).await
    }
}

async fn next_frame(stream: &mut RecvStream, deframer: &mut Deframer) -> Option<Bytes> {
    loop {
        if let Some(frame) = deframer.next_frame().unwrap() {
            return Some(frame);
        }
        let chunk = stream.read_chunk(64 * 1024, true).await.ok()??;
        deframer.push(&chunk.bytes);
    }
}

/// A long-poll session over two connections.
pub(crate) struct Poll {
    asking: Http,
    saying: Http,
    token: String,
    asked: u64,
    said: u64,
    deframer: Deframer,
}

impl Poll {
    /// Begins a session, and goes on over other connections: they may come to other cores.
    pub(crate) async fn open(node: &Node) -> Self {
        let token = Http::tls(node).await.open_poll().await;
        let (asking, saying) = (Http::tls(node).await, Http::tls(node).await);
        Self { asking, saying, token, asked: 0, said: 0, deframer: Deframer::new(FRAME_BYTES_MAX) }
    }

    async fn send(&mut self, records: &[u8]) {
        self.said += 1;
        // What is wrong is told by the receiving side.
        let _ = self.saying.request("POST", &format!("/v1/poll/{}", self.said), &self.token, records).await;
    }

    async fn receive(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.deframer.next_frame().unwrap() {
                return Some(frame);
            }
            if !self.asking.is_asked() {
                self.asked += 1;
                self.asking.ask("GET", &format!("/v1/poll/{}", self.asked), &self.token, b"").await?;
            }
            let answer = self.asking.answer().await?;
            if answer.status != 200 {
                return None;
            }
            self.deframer.push(&answer.body);
        }
    }
}

/// A QUIC handshake under way, with this application protocol.
pub(crate) fn quic_connecting(node: &Node, alpn: &[u8]) -> (Endpoint, quinn::Connecting) {
    let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let crypto = QuicClientConfig::try_from(tls_config(node, alpn)).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint.connect_with(config, node.address(), "localhost").unwrap();
    (endpoint, connecting)
}
