//! (D) A WebSocket connection as the load and the echo server use it.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use columba_wire::{
    auth::{Binding, EXPORTER_LABEL},
    v1::ChannelBinding,
};
use futures_util::{Sink as _, SinkExt as _, Stream as _};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpSocket,
};
use tokio_rustls::{TlsConnector, TlsStream};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async, client_async,
    tungstenite::{
        Message,
        client::IntoClientRequest as _,
        handshake::server::{ErrorResponse, Request, Response},
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
    },
};

use super::{BATCH_FRAMES_MAX, Target, traffic::Traffic};
use crate::{
    socket::{Counted, SocketBytes},
    tls,
};

/// Where the node takes WebSocket upgrades.
const PATH: &str = "/v1/ws";
/// What it is asked for.
const SUBPROTOCOL: HeaderValue = HeaderValue::from_static("columba.v1");

/// A WebSocket over `S`.
pub(crate) struct WebSocketLink<S> {
    stream: WebSocketStream<S>,
    frames_sent: u64,
    frames_received: u64,
    socket: Arc<SocketBytes>,
    /// Whether what this side sends is masked: a client.
    masks: bool,
}

/// Bytes of a WebSocket frame with `payload` bytes.
fn frame_bytes(payload: usize, masked: bool) -> u64 {
    let header = match payload {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    };
    (payload + header + if masked { 4 } else { 0 }) as u64
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocketLink<S> {
    /// Takes an upgrade, as the node does, on a stream whose bytes are counted at `socket`.
    ///
    /// # Errors
    /// What the upgrade says.
    pub(crate) async fn accept(stream: S, socket: Arc<SocketBytes>) -> anyhow::Result<Self> {
        // The library's type, which is large.
        #[expect(clippy::result_large_err, clippy::unnecessary_wraps, reason = "the library's callback")]
        fn choose(_: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
            Ok(response)
        }
        let stream = accept_hdr_async(stream, choose).await?;
        Ok(Self { stream, frames_sent: 0, frames_received: 0, socket, masks: false })
    }

    /// See [`super::Link::receive`].
    pub(crate) async fn receive(&mut self, frames: &mut Vec<Bytes>) -> anyhow::Result<()> {
        poll_fn(|cx| self.poll_receive(cx, frames)).await
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, frames: &mut Vec<Bytes>) -> Poll<anyhow::Result<()>> {
        while frames.len() < BATCH_FRAMES_MAX {
            match Pin::new(&mut self.stream).poll_next(cx) {
                Poll::Ready(Some(Ok(Message::Binary(frame)))) => {
                    self.frames_received += frame_bytes(frame.len(), !self.masks);
                    frames.push(frame);
                }
                Poll::Ready(Some(Ok(Message::Close(frame)))) => {
                    return Poll::Ready(Err(anyhow::anyhow!("the server closed: {frame:?}")));
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error.into())),
                Poll::Ready(None) => return Poll::Ready(Err(anyhow::anyhow!("the connection ended"))),
                Poll::Pending if frames.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// See [`super::Link::feed`].
    pub(crate) async fn feed(&mut self, frame: Bytes) -> anyhow::Result<()> {
        self.frames_sent += frame_bytes(frame.len(), self.masks);
        Ok(self.stream.feed(Message::Binary(frame)).await?)
    }

    /// See [`super::Link::flush`].
    pub(crate) async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(poll_fn(|cx| Pin::new(&mut self.stream).poll_flush(cx)).await?)
    }

    /// See [`super::Link::traffic`].
    pub(crate) fn traffic(&self) -> Traffic {
        let (sent, received) = (self.socket.sent.load(Relaxed), self.socket.received.load(Relaxed));
        Traffic::new([self.frames_sent, self.frames_received, sent, received])
    }

    /// See [`super::Link::close`].
    pub(crate) async fn close(&mut self) {
        let _ = self.stream.close(None).await;
    }
}

async fn connect_tcp(to: SocketAddr, from: SocketAddr) -> anyhow::Result<(Counted, Arc<SocketBytes>)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(from)?;
    let stream = socket.connect(to).await.with_context(|| format!("connect to {to}"))?;
    stream.set_nodelay(true)?;
    Ok(Counted::new(stream))
}

fn request(server: &str) -> anyhow::Result<Request> {
    let mut request = format!("{server}{PATH}").into_client_request()?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
    Ok(request)
}

/// Connects without TLS, from the address `from`.
///
/// # Errors
/// What TCP or the upgrade say.
pub(crate) async fn connect_plain(to: SocketAddr, from: SocketAddr) -> anyhow::Result<WebSocketLink<Counted>> {
    let (stream, socket) = connect_tcp(to, from).await?;
    let (stream, _) = client_async(request(&format!("ws://{to}"))?, stream).await?;
    Ok(WebSocketLink { stream, frames_sent: 0, frames_received: 0, socket, masks: true })
}

/// Connects over TLS, from the address `from`.
///
/// # Errors
/// What TCP, TLS or the upgrade say.
pub(crate) async fn connect_secure(
    target: &Target,
    from: SocketAddr,
) -> anyhow::Result<(WebSocketLink<TlsStream<Counted>>, Binding)> {
    let (stream, socket) = connect_tcp(target.secure, from).await?;
    let connector = TlsConnector::from(Arc::new(tls::client(target.certificate.clone(), false)?));
    let stream = connector.connect(ServerName::try_from("localhost")?, stream).await?;
    let exporter = stream.get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, None)?;
    let binding = Binding { kind: ChannelBinding::TlsExporter, data: Some(exporter) };
    let request = request(&format!("wss://localhost:{}", target.secure.port()))?;
    let (stream, response) = client_async(request, TlsStream::from(stream)).await?;
    if response.status().as_u16() != 101 {
        bail!("the upgrade was refused: {}", response.status());
    }
    Ok((WebSocketLink { stream, frames_sent: 0, frames_received: 0, socket, masks: true }, binding))
}
