//! (D) Frames over long-polling, for networks that let nothing but plain requests through: PROTOCOL.md, section 2.
//!
//! Two connections: one asks for what there is, and waits; the other brings what the session has to say. Each request
//! has a number, so one whose answer was lost is repeated on a new connection, and so is one that something in between
//! has answered; the server does nothing twice.
//!
//! Invariants
//! - One request of each kind at a time; what comes is in the order of the server.
//! - A request is repeated with its number, so often and with growing pauses; the one that begins a session has none,
//!   and is not repeated: the session above connects again by itself.
//! - All connections show the certificate that the first one showed.

use core::{
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};
use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use columba_wire::{
    auth::Binding,
    frame::FrameError,
    framing::{Deframer, PREFIX_BYTES, encode_framed},
    limits::FRAME_BYTES_MAX,
    v1::{ChannelBinding, ClientFrame, ServerFrame},
};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, HOST, HeaderMap, RETRY_AFTER},
    http::response::Parts,
};
use hyper_util::rt::TokioIo;
use tokio_rustls::TlsConnector;

use super::{
    connect::{Connected, Link, Target, take_frames},
    tls::Rule,
    websocket::connect_tcp,
};
use crate::{
    error::Error,
    limits::{
        CLOSE_TIMEOUT, FRAMES_WRITE_MAX, POLL_ANSWER_BYTES_MAX, POLL_ATTEMPTS_MAX, POLL_PAUSE_ASKED_MAX,
        POLL_PAUSE_MIN, POLL_TIMEOUT,
    },
    types::{Carrier, Fingerprint},
};

const PATH: &str = "/v1/poll";

/// A request under way, and the line that it is on.
type Asking = BoxFuture<'static, (Line, Result<Bytes, Error>)>;

/// Frames over requests.
pub(crate) struct PollLink {
    /// The line that asks, until it cannot any more.
    receiving: Option<Asking>,
    /// The line that brings something.
    sending: Option<Asking>,
    /// The line that brings what is queued, while it is idle.
    idle: Option<Line>,
    deframer: Deframer,
    /// Frames with their prefixes.
    queue: VecDeque<Bytes>,
}

/// Connects, and begins a session.
pub(super) async fn connect(target: &Target, address: SocketAddr) -> Result<Connected, Error> {
    let mut line = Line::new(target.clone(), address);
    let token = line.attempt(&Method::POST, PATH, Bytes::new()).await.map_err(|failure| failure.error)?;
    let certificate = line.certificate.ok_or_else(|| target.error("the server showed no certificate"))?;
    line.token = format!("Bearer {}", String::from_utf8_lossy(&token));
    // The session is with this server, whatever else would be trusted.
    line.target.rule = Rule::Fingerprint(certificate);
    let link = PollLink {
        receiving: Some(Box::pin(line.sibling().get())),
        sending: None,
        idle: Some(line),
        deframer: Deframer::new(FRAME_BYTES_MAX),
        queue: VecDeque::new(),
    };
    Ok(Connected {
        link: Link::Poll(Box::new(link)),
        carrier: Carrier::LongPoll,
        binding: Binding { kind: ChannelBinding::ServerCertificate, data: Some(*certificate.as_bytes()) },
        certificate: Some(certificate),
    })
}

/// A connection, made again where it broke, and the number of its last request.
struct Line {
    target: Target,
    address: SocketAddr,
    token: String,
    sender: Option<SendRequest<Full<Bytes>>>,
    certificate: Option<Fingerprint>,
    number: u64,
}

impl Line {
    fn new(target: Target, address: SocketAddr) -> Self {
        Self { target, address, token: String::new(), sender: None, certificate: None, number: 0 }
    }

    /// Asks for what there is: frames, or nothing after a while.
    async fn get(mut self) -> (Self, Result<Bytes, Error>) {
        let answer = self.request(Method::GET, Bytes::new()).await;
        (self, answer)
    }

    /// Brings frames.
    async fn post(mut self, frames: Bytes) -> (Self, Result<Bytes, Error>) {
        let answer = self.request(Method::POST, frames).await;
        (self, answer)
    }

    /// The next request; repeated with its number where its answer does not come, or comes from something between.
    async fn request(&mut self, method: Method, body: Bytes) -> Result<Bytes, Error> {
        self.number += 1;
        let path = format!("{PATH}/{}", self.number);
        let mut attempt = 1;
        loop {
            let failure = match self.attempt(&method, &path, body.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            // What answered instead of the server may be on this connection alone.
            self.sender = None;
            match failure.pause {
                Some(asked) if attempt < POLL_ATTEMPTS_MAX => tokio::time::sleep(pause(attempt, asked)).await,
                _ => return Err(failure.error),
            }
            attempt += 1;
        }
    }

    /// One attempt at a request.
    async fn attempt(&mut self, method: &Method, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        match tokio::time::timeout(POLL_TIMEOUT, self.try_request(method, path, body)).await {
            Ok(Ok((head, answer))) if head.status.is_success() => Ok(answer),
            Ok(Ok((head, answer))) => {
                let said = String::from_utf8_lossy(&answer[..answer.len().min(200)]).trim().to_owned();
                let pause = is_passing(head.status).then(|| asked_pause(&head.headers));
                Err(Failure { error: self.target.error(format!("{}: {said}", head.status)), pause })
            }
            Ok(Err(error)) => {
                let pause = (!error.is_final()).then_some(Duration::ZERO);
                Err(Failure { error, pause })
            }
            Err(_) => Err(Failure { error: self.target.error("no answer"), pause: Some(Duration::ZERO) }),
        }
    }

    async fn try_request(&mut self, method: &Method, path: &str, body: Bytes) -> Result<(Parts, Bytes), Error> {
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            Some(_) | None => self.dial().await?,
        };
        let failed = |error: hyper::Error| self.target.error(error);
        sender.ready().await.map_err(failed)?;
        let request = Request::builder().method(method.clone()).uri(path).header(HOST, &self.target.server);
        let request = if self.token.is_empty() { request } else { request.header(AUTHORIZATION, &self.token) };
        let request = request.body(Full::new(body)).map_err(|error| self.target.error(error))?;
        let response = sender.send_request(request).await.map_err(failed)?;
        let (head, body) = response.into_parts();
        let answer = Limited::new(body, POLL_ANSWER_BYTES_MAX).collect().await;
        let answer = answer.map_err(|error| self.target.error(error))?.to_bytes();
        self.sender = Some(sender);
        Ok((head, answer))
    }

    async fn dial(&mut self) -> Result<SendRequest<Full<Bytes>>, Error> {
        let target = &self.target;
        let tcp = connect_tcp(target, self.address).await?;
        let (config, seen) = target.rule.config(false);
        let connecting = TlsConnector::from(Arc::new(config)).connect(target.name.clone(), tcp).await;
        let stream = connecting.map_err(|error| seen.explain(&target.rule, target.error(error)))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| target.error(error))?;
        // It ends with its sender.
        tokio::spawn(async move { drop(connection.await) });
        self.certificate = seen.fingerprint();
        Ok(sender)
    }

    /// Another connection of the same session.
    fn sibling(&self) -> Self {
        Self {
            target: self.target.clone(),
            address: self.address,
            token: self.token.clone(),
            sender: None,
            certificate: self.certificate,
            number: 0,
        }
    }
}

/// Why an attempt has failed.
struct Failure {
    error: Error,
    /// Where another attempt may succeed: the pause that was asked for before it.
    pause: Option<Duration>,
}

/// Whether an answer says nothing about the session: the server had no time for the request, or did not see it, or what
/// is in between did not see its answer.
fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// The pause that an answer asks for. A date instead of seconds is not understood, and asks for none.
fn asked_pause(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or_default())
}

/// The pause behind an attempt, the first of which is 1.
fn pause(attempt: u32, asked: Duration) -> Duration {
    let growing = POLL_PAUSE_MIN * 2_u32.saturating_pow(attempt - 1);
    growing.max(asked.min(POLL_PAUSE_ASKED_MAX))
}

impl PollLink {
    /// See [`Link::has_room`].
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < FRAMES_WRITE_MAX
    }

    /// See [`Link::push`].
    pub(super) fn push(&mut self, frame: &ClientFrame) {
        let mut framed = BytesMut::new();
        encode_framed(frame, &mut framed);
        self.queue.push_back(framed.freeze());
    }

    /// See [`Link::poll`].
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reads: bool,
        frames: &mut Vec<Result<ServerFrame, FrameError>>,
    ) -> Poll<Result<(), Error>> {
        // What the server said before it went away counts more than that we could not write: the reading side tells.
        let _ = self.poll_write(cx);
        while reads && frames.is_empty() {
            let Some(receiving) = &mut self.receiving else {
                return Poll::Pending;
            };
            let Poll::Ready((line, answer)) = receiving.as_mut().poll(cx) else {
                return Poll::Pending;
            };
            self.receiving = None;
            match answer {
                Ok(answer) => self.deframer.push(&answer),
                Err(error) => return Poll::Ready(Err(Error::ConnectionLost(error.to_string()))),
            }
            self.receiving = Some(Box::pin(line.get()));
            take_frames(&mut self.deframer, frames);
        }
        if frames.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// Ready when all that was queued has been taken by the server, or cannot be.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if let Some(sending) = &mut self.sending {
                let Poll::Ready((line, answer)) = sending.as_mut().poll(cx) else {
                    return Poll::Pending;
                };
                self.sending = None;
                if let Err(error) = answer {
                    self.queue.clear();
                    return Poll::Ready(Err(error));
                }
                self.idle = Some(line);
            }
            if self.queue.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let Some(line) = self.idle.take() else {
                self.queue.clear();
                return Poll::Ready(Ok(()));
            };
            self.sending = Some(Box::pin(line.post(self.next_body())));
        }
    }

    /// As many frames as a body may have.
    fn next_body(&mut self) -> Bytes {
        let mut body = BytesMut::new();
        while let Some(frame) = self.queue.front() {
            if !body.is_empty() && body.len() + frame.len() > PREFIX_BYTES + FRAME_BYTES_MAX {
                break;
            }
            body.extend_from_slice(frame);
            self.queue.pop_front();
        }
        body.freeze()
    }

    /// See [`Link::close`].
    pub(super) async fn close(&mut self) {
        let written = core::future::poll_fn(|cx| self.poll_write(cx));
        let _ = tokio::time::timeout(CLOSE_TIMEOUT / 2, written).await;
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn pauses_grow_and_are_over_before_the_server_gives_the_session_up() {
        let pauses: Vec<_> = (1..POLL_ATTEMPTS_MAX).map(|attempt| pause(attempt, Duration::ZERO)).collect();
        assert!(pauses[0] == POLL_PAUSE_MIN && pauses.is_sorted_by(|shorter, longer| shorter < longer), "{pauses:?}");
        assert!(pauses.iter().sum::<Duration>() < Duration::from_secs(10), "{pauses:?}");
        assert_eq!(pause(1, Duration::from_secs(3)), Duration::from_secs(3), "what was asked for");
        assert_eq!(pause(1, Duration::from_secs(86_400)), POLL_PAUSE_ASKED_MAX, "within a bound");
        assert_eq!(pause(3, Duration::from_millis(1)), 4 * POLL_PAUSE_MIN, "never less");
    }

    #[test]
    fn what_a_proxy_says_is_not_the_end_of_a_session() {
        for status in [408, 429, 502, 503, 504] {
            assert!(is_passing(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for status in [400, 401, 403, 404, 405, 409, 413, 500] {
            assert!(!is_passing(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for (value, seconds) in [("7", 7), ("-1", 0), ("Fri, 31 Dec 1999 23:59:59 GMT", 0)] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            assert_eq!(asked_pause(&headers), Duration::from_secs(seconds), "{value}");
        }
        assert_eq!(asked_pause(&HeaderMap::new()), Duration::ZERO);
    }
}
