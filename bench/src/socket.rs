//! (D) A TCP stream that counts its bytes: what frames become once WebSocket and TLS are around them. And the counters
//! of the loopback interface, which know of headers and acknowledgements too.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Bytes of a stream so far.
#[derive(Debug, Default)]
pub(crate) struct SocketBytes {
    /// Written to it.
    pub(crate) sent: AtomicU64,
    /// Read from it.
    pub(crate) received: AtomicU64,
}

/// A TCP stream that counts.
#[derive(Debug)]
pub(crate) struct Counted {
    stream: TcpStream,
    bytes: Arc<SocketBytes>,
}

impl Counted {
    /// Counts from now on; also where the count is.
    pub(crate) fn new(stream: TcpStream) -> (Self, Arc<SocketBytes>) {
        let bytes = Arc::new(SocketBytes::default());
        (Self { stream, bytes: Arc::clone(&bytes) }, bytes)
    }

    fn sent(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.bytes.sent.fetch_add(*bytes as u64, Relaxed);
        }
        written
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.bytes.received.fetch_add((buffer.filled().len() - before) as u64, Relaxed);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.sent(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.sent(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What has gone over the loopback interface of this network namespace.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Loopback {
    /// Bytes of packets: IP headers included, Ethernet headers not, which this interface does not count.
    pub(crate) bytes: u64,
    /// Packets.
    pub(crate) packets: u64,
}

impl Loopback {
    /// As it stands.
    ///
    /// # Errors
    /// The kernel shows no such interface.
    pub(crate) fn now() -> anyhow::Result<Self> {
        Self::parse(&std::fs::read_to_string("/proc/net/dev")?)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:")).context("no loopback")?;
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let mut next = || numbers.next().context("its line is too short")?.map_err(anyhow::Error::from);
        let (bytes, packets) = (next()?, next()?);
        Ok(Self { bytes, packets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_read_among_the_interfaces() {
        let text = "Inter-|   Receive\n face |bytes packets\n    lo: 1000 10 0 0 0 0 0 0 1000 10 0 0\n  eth0: 7 7 0\n";
        let loopback = Loopback::parse(text).unwrap();
        assert_eq!((loopback.bytes, loopback.packets), (1_000, 10));
        assert!(Loopback::parse("eth0: 1 1").is_err());
    }
}
