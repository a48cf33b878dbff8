//! (D) A QUIC connection with its one stream, as the load and the echo server use it.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use anyhow::Context as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use columba_wire::{
    auth::{Binding, EXPORTER_LABEL},
    framing::{Deframer, PREFIX_BYTES},
    limits::FRAME_BYTES_MAX,
    v1::ChannelBinding,
};
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, crypto::rustls::QuicClientConfig};

use super::{BATCH_FRAMES_MAX, Target, traffic::Traffic};
use crate::tls;

const READ_BYTES: usize = 64 * 1024;

/// A QUIC connection and its stream.
pub(crate) struct QuicLink {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    deframer: Deframer,
    outgoing: BytesMut,
    buffer: Box<[u8]>,
    frames_sent: u64,
    frames_received: u64,
    /// The client's own socket: every device has one, as in the world.
    endpoint: Option<Endpoint>,
}

impl QuicLink {
    /// Wraps a stream that the peer opened.
    pub(crate) fn accepted(connection: Connection, send: SendStream, receive: RecvStream) -> Self {
        Self {
            connection,
            send,
            receive,
            deframer: Deframer::new(FRAME_BYTES_MAX),
            outgoing: BytesMut::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            frames_sent: 0,
            frames_received: 0,
            endpoint: None,
        }
    }

    /// See [`super::Link::receive`].
    pub(crate) async fn receive(&mut self, frames: &mut Vec<Bytes>) -> anyhow::Result<()> {
        poll_fn(|cx| self.poll_receive(cx, frames)).await
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, frames: &mut Vec<Bytes>) -> Poll<anyhow::Result<()>> {
        while frames.len() < BATCH_FRAMES_MAX {
            match self.receive.poll_read(cx, &mut self.buffer) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(anyhow::anyhow!("the stream ended"))),
                Poll::Ready(Ok(bytes)) => {
                    self.frames_received += bytes as u64;
                    self.deframer.push(&self.buffer[..bytes]);
                    while let Some(frame) = self.deframer.next_frame()? {
                        frames.push(frame);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending if frames.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// See [`super::Link::feed`].
    pub(crate) fn feed(&mut self, frame: &[u8]) {
        self.frames_sent += (PREFIX_BYTES + frame.len()) as u64;
        self.outgoing.put_u32(u32::try_from(frame.len()).expect("frames are far below 4 GiB"));
        self.outgoing.put_slice(frame);
    }

    /// See [`super::Link::flush`].
    pub(crate) async fn flush(&mut self) -> anyhow::Result<()> {
        self.send.write_chunk(self.outgoing.split().freeze()).await?;
        Ok(())
    }

    /// See [`super::Link::traffic`].
    pub(crate) fn traffic(&self) -> Traffic {
        let stats = self.connection.stats();
        Traffic::new([self.frames_sent, self.frames_received, stats.udp_tx.bytes, stats.udp_rx.bytes])
    }

    /// See [`super::Link::close`].
    pub(crate) async fn close(&mut self) {
        self.connection.close(0u32.into(), b"");
        if let Some(endpoint) = &self.endpoint {
            endpoint.wait_idle().await;
        }
    }
}

/// Connects from the address `from` and opens the stream.
///
/// # Errors
/// What UDP, TLS or QUIC say.
pub(crate) async fn connect(target: &Target, from: SocketAddr) -> anyhow::Result<(QuicLink, Binding)> {
    let config = tls::client(target.certificate.clone(), true)?;
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?));
    let endpoint = Endpoint::client(from)?;
    let connecting = endpoint.connect_with(config, target.secure, "localhost")?;
    let connection = connecting.await.with_context(|| format!("connect to {}", target.secure))?;
    let mut exporter = [0; 32];
    connection
        .export_keying_material(&mut exporter, EXPORTER_LABEL, b"")
        .map_err(|_| anyhow::anyhow!("no keying material for the channel binding"))?;
    let binding = Binding { kind: ChannelBinding::TlsExporter, data: Some(exporter) };
    let (send, receive) = connection.open_bi().await?;
    let mut link = QuicLink::accepted(connection, send, receive);
    link.endpoint = Some(endpoint);
    Ok((link, binding))
}
