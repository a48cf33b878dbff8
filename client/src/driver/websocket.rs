//! (D) Frames over WebSocket: one binary message each.

use core::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};
use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use columba_wire::{
    auth::{Binding, EXPORTER_LABEL},
    frame::{self, FrameError},
    limits::FRAME_BYTES_MAX,
    v1::{ChannelBinding, ClientFrame, ServerFrame},
};
use futures_util::{Sink as _, Stream as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Message,
        client::IntoClientRequest as _,
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::WebSocketConfig,
    },
};

use super::connect::{Connected, Link, Target};
use crate::{
    error::Error,
    limits::{FRAMES_READ_MAX, FRAMES_WRITE_MAX},
    types::Carrier,
};

const PATH: &str = "/v1/ws";
const SUBPROTOCOL: &str = "columba.v1";

/// Frames over a WebSocket.
pub(crate) struct WebSocketLink<S> {
    stream: WebSocketStream<S>,
    queue: VecDeque<Bytes>,
    unflushed: bool,
    write_failed: bool,
}

/// Connects over TLS.
pub(super) async fn connect(target: &Target, address: SocketAddr) -> Result<Connected, Error> {
    let tcp = connect_tcp(target, address).await?;
    let (config, seen) = target.rule.config(false);
    let connecting = TlsConnector::from(Arc::new(config)).connect(target.name.clone(), tcp).await;
    let stream = connecting.map_err(|error| seen.explain(&target.rule, target.error(error)))?;
    let exporter = stream.get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, Some(&[]));
    let exporter = exporter.map_err(|error| target.error(error))?;
    let link = upgrade(target, "wss", stream).await?;
    Ok(Connected {
        link: Link::WebSocket(Box::new(link)),
        carrier: Carrier::WebSocket,
        binding: Binding { kind: ChannelBinding::TlsExporter, data: Some(exporter) },
        certificate: seen.fingerprint(),
    })
}

/// Connects in the clear.
pub(super) async fn connect_plain(target: &Target, address: SocketAddr) -> Result<Connected, Error> {
    let tcp = connect_tcp(target, address).await?;
    let link = upgrade(target, "ws", tcp).await?;
    Ok(Connected {
        link: Link::PlainWebSocket(Box::new(link)),
        carrier: Carrier::PlainWebSocket,
        binding: Binding::NONE,
        certificate: None,
    })
}

/// A TCP connection that sends at once.
pub(super) async fn connect_tcp(target: &Target, address: SocketAddr) -> Result<TcpStream, Error> {
    let tcp = TcpStream::connect(address).await.map_err(|error| target.error(error))?;
    tcp.set_nodelay(true).map_err(|error| target.error(error))?;
    Ok(tcp)
}

async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    target: &Target,
    scheme: &str,
    stream: S,
) -> Result<WebSocketLink<S>, Error> {
    let url = format!("{scheme}://{}{PATH}", target.server);
    let mut request = url.into_client_request().map_err(|error| target.error(error))?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    let config = WebSocketConfig::default()
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX))
        .read_buffer_size(16 * 1024)
        .write_buffer_size(64 * 1024)
        .max_write_buffer_size(4 * FRAME_BYTES_MAX);
    let upgraded = client_async_with_config(request, stream, Some(config)).await;
    let (stream, _) = upgraded.map_err(|error| target.error(error))?;
    Ok(WebSocketLink { stream, queue: VecDeque::new(), unflushed: false, write_failed: false })
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocketLink<S> {
    /// See [`Link::has_room`].
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < FRAMES_WRITE_MAX
    }

    /// See [`Link::push`].
    pub(super) fn push(&mut self, frame: &ClientFrame) {
        if !self.write_failed {
            self.queue.push_back(frame::encode(frame));
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
            self.unflushed = false;
        }
        while reads && frames.len() < FRAMES_READ_MAX {
            match Pin::new(&mut self.stream).poll_next(cx) {
                Poll::Ready(Some(Ok(Message::Binary(frame)))) => frames.push(frame::decode_server(frame)),
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(Error::ConnectionLost(error.to_string())));
                }
                Poll::Ready(None) => {
                    return Poll::Ready(Err(Error::ConnectionLost("closed by the server".to_owned())));
                }
                Poll::Pending => break,
            }
        }
        if frames.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), tokio_tungstenite::tungstenite::Error>> {
        while !self.queue.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_ready(cx))?;
            if let Some(frame) = self.queue.pop_front() {
                Pin::new(&mut self.stream).start_send(Message::Binary(frame))?;
                self.unflushed = true;
            }
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// See [`Link::close`].
    pub(super) async fn close(&mut self) {
        if poll_fn(|cx| self.poll_write(cx)).await.is_ok() {
            let _ = self.stream.close(None).await;
        }
    }
}
