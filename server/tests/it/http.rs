//! Plain requests to a node, one after the other on a connection that is kept, written by hand.

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    link::{Io, tls},
    node::Node,
};

/// A connection.
pub(crate) struct Http {
    io: Box<dyn Io>,
    read: BytesMut,
    /// The answer to a request that was sent is still to be read.
    is_asked: bool,
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: Bytes,
}

impl Http {
    pub(crate) fn over(io: Box<dyn Io>) -> Self {
        Self { io, read: BytesMut::new(), is_asked: false }
    }

    pub(crate) async fn plain(node: &Node) -> Self {
        Self::over(Box::new(TcpStream::connect(node.plain()).await.unwrap()))
    }

    pub(crate) async fn tls(node: &Node) -> Self {
        Self::over(Box::new(tls(node).await.0))
    }

    /// A request with more header lines. `None` where the connection ends before the answer.
    pub(crate) async fn request(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Option<Answer> {
        self.ask(method, path, headers, body).await?;
        self.answer().await
    }

    /// The same without waiting for the answer.
    pub(crate) async fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Option<()> {
        let bytes = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {bytes}\r\n{headers}\r\n");
        self.io.write_all(&[head.as_bytes(), body].concat()).await.ok()?;
        self.io.flush().await.ok()?;
        self.is_asked = true;
        Some(())
    }

    /// Begins a long-poll session. The header line that its requests carry.
    pub(crate) async fn open_poll(&mut self) -> String {
        let answer = self.request("POST", "/v1/poll", "", b"").await.unwrap();
        assert_eq!(answer.status, 201);
        format!("Authorization: Bearer {}\r\n", String::from_utf8(answer.body.to_vec()).unwrap())
    }

    /// Whether an answer is still to be read: the call that waited for it was dropped.
    pub(crate) fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// The answer. May be dropped and called again.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.take() {
                self.is_asked = false;
                return Some(answer);
            }
            if self.io.read_buf(&mut self.read).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    fn take(&mut self) -> Option<Answer> {
        let end = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.read[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.trim().parse().unwrap());
        if self.read.len() < end + length {
            return None;
        }
        let mut answer = self.read.split_to(end + length);
        let body = answer.split_off(end).freeze();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Answer { status, head, body })
    }
}
