//! (D) Long-polling: for networks that let nothing but plain requests through.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/poll` | 201, and the token of a new session |
//! | `GET /v1/poll/N` | 200 with frames, when there are some; empty after a while |
//! | `POST /v1/poll/N` with frames | 204, when the session has taken them |
//!
//! | module | what it holds |
//! |---|---|
//! | [`exchange`] | numbers: what is new, what is a repetition |
//! | [`link`] | the session's side |
//!
//! A session lives on the core that its first request came to. Later ones may come to any core: they find it in a
//! table of the node, under the hash of their token, and wait for the answer through a channel. That is a lock for each
//! request; this is the fallback, and no hot path.
//!
//! Invariants
//! - Who has the token has the session, and nobody can guess one.
//! - A session is counted, by node and address within the bounds of connections but apart from them, and by core. So
//!   somebody who polls costs two connections of an address, and one session. It has a place in the lobby until it is
//!   logged in.
//! - An idle connection that served a session stays open for the next request within the bounds of [`super::pace`].
//! - A body is read only for a session that exists, within a bound and a time.

mod exchange;
mod link;

use core::{
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard},
};

use columba_engine::env::{Clock, Disk};
use columba_wire::{
    Code,
    limits::{FRAME_BYTES_UNAUTHENTICATED_MAX, FRAME_MS_MAX},
};
use futures_util::future::{Either, select};
use http_body_util::{BodyExt as _, Limited};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::Incoming,
    header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_local,
    time::timeout,
};

use self::link::{PollLink, PollReply, PollRequest};
use super::{
    Front, OpenGuard,
    admission::{Admission, ConnectionLimits, LobbyTicket, Permit, Place},
    http::{Page, text},
    pump::Pump,
};
use crate::{
    core::{BindingOffer, PeerInfo, SessionHandle, Transport},
    limits::{POLL_BODY_BYTES_MORE, POLL_REQUESTS_MAX},
};

/// Where sessions begin; below it are their requests.
pub const POLL_PATH: &str = "/v1/poll";
/// Bytes of a token.
const TOKEN_BYTES: usize = 16;

/// The long-poll sessions of a node, by the hash of their token.
#[derive(Debug)]
pub struct Polls {
    admission: Arc<Admission>,
    sessions: Mutex<BTreeMap<[u8; 32], Arc<PollSession>>>,
}

/// A session, as the connections of all cores know it.
#[derive(Debug)]
struct PollSession {
    requests: mpsc::Sender<PollRequest>,
    /// Whether it came over the plain listener: then it goes on there alone.
    is_plain: bool,
    /// Bytes of a frame: more once it is logged in.
    frame_bytes_max: AtomicUsize,
}

impl PollSession {
    fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max.load(Ordering::Relaxed)
    }

    fn set_frame_bytes_max(&self, bytes: usize) {
        self.frame_bytes_max.store(bytes, Ordering::Relaxed);
    }
}

impl Polls {
    /// No sessions yet; of a node and of an address there are as many as connections at most.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self { admission: Admission::new(limits), sessions: Mutex::default() }
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<[u8; 32], Arc<PollSession>>> {
        self.sessions.lock().expect("no thread panics while it has the table")
    }

    fn find(&self, headers: &HeaderMap, is_plain: bool) -> Option<Arc<PollSession>> {
        let token = headers.get(AUTHORIZATION)?.as_bytes().strip_prefix(b"Bearer ")?;
        let token = data_encoding::HEXLOWER.decode(token).ok().filter(|token| token.len() == TOKEN_BYTES)?;
        let found = self.sessions().get(&hash(&token)).map(Arc::clone)?;
        (found.is_plain == is_plain).then_some(found)
    }
}

/// A session's entry in the table, while it lives.
struct Entry<'a> {
    polls: &'a Polls,
    key: [u8; 32],
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.polls.sessions().remove(&self.key);
    }
}

/// Not the token itself is compared: how long that takes would say how much of it is right.
fn hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// The connection that a request came on.
pub(crate) struct Via<'a> {
    pub(super) peer: SocketAddr,
    /// What a session over this one connection could be bound to.
    pub(super) binding: BindingOffer,
    pub(super) ticket: &'a LobbyTicket,
}

/// Answers a request below [`POLL_PATH`].
pub(super) async fn answer<D: Disk, C: Clock>(
    front: &Rc<Front<D, C>>,
    via: &Via<'_>,
    request: &mut Request<Incoming>,
) -> Page {
    let rest = request.uri().path().strip_prefix(POLL_PATH).unwrap_or_default();
    match (request.method(), rest.strip_prefix('/')) {
        (&Method::POST, None) => open(front, via),
        (&Method::GET | &Method::POST, Some(number)) => {
            let Ok(number) = number.parse() else {
                return text(StatusCode::BAD_REQUEST, "below /v1/poll/ is a number\n");
            };
            let Some(session) = front.shared.polls.find(request.headers(), via.binding.plain) else {
                return text(StatusCode::NOT_FOUND, "no such session: begin a new one\n");
            };
            if session.frame_bytes_max() > FRAME_BYTES_UNAUTHENTICATED_MAX {
                via.ticket.leave();
            }
            pass_on(&session, number, request).await
        }
        (_, None) => not_allowed("POST"),
        (_, Some(_)) => not_allowed("GET, POST"),
    }
}

fn not_allowed(methods: &'static str) -> Page {
    let mut page = text(StatusCode::METHOD_NOT_ALLOWED, format!("{methods} only\n"));
    page.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    page
}

/// Hands a request to its session, and waits for the answer.
async fn pass_on(session: &PollSession, number: u64, request: &mut Request<Incoming>) -> Page {
    let body = if request.method() == Method::POST {
        let limited = Limited::new(request.body_mut(), session.frame_bytes_max() + POLL_BODY_BYTES_MORE);
        match timeout(Duration::from_millis(FRAME_MS_MAX), limited.collect()).await {
            Ok(Ok(body)) => Some(body.to_bytes()),
            Ok(Err(_)) => return text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long, or broke off\n"),
            Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the body took too long\n"),
        }
    } else {
        None
    };
    let (reply, answered) = oneshot::channel();
    let gone = || text(StatusCode::NOT_FOUND, "the session has ended\n");
    if session.requests.send(PollRequest { number, body, reply }).await.is_err() {
        return gone();
    }
    match answered.await {
        Ok(PollReply::Frames(frames)) => {
            let mut page = text(StatusCode::OK, frames);
            page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            page
        }
        Ok(PollReply::Taken) => text(StatusCode::NO_CONTENT, ""),
        Ok(PollReply::Malformed) => text(StatusCode::BAD_REQUEST, "not whole frames: the session ends\n"),
        Ok(PollReply::Conflict) => text(StatusCode::CONFLICT, "the number is out of order, or was asked for again\n"),
        Err(_) => gone(),
    }
}

/// Begins a session.
fn open<D: Disk, C: Clock>(front: &Rc<Front<D, C>>, via: &Via<'_>) -> Page {
    let refuse = |code: Code| text(StatusCode::SERVICE_UNAVAILABLE, format!("{code}\n"));
    let counted = front.shared.polls.admission.admit(via.peer.ip()).zip(front.poll_places.take());
    let Some(counted) = counted else {
        front.metrics.connections_refused_total.add(1);
        return refuse(Code::TooManyConnections);
    };
    // What a TLS connection exports is of no use: the session's requests come over several.
    let binding = BindingOffer { exporter: None, ..via.binding };
    let session = match front.core.connect(PeerInfo { address: via.peer, transport: Transport::Poll, binding }) {
        Ok(session) => session,
        Err(code) => return refuse(code),
    };
    let mut token = [0; TOKEN_BYTES];
    getrandom::fill(&mut token).expect("the operating system has a random generator");
    let (sender, requests) = mpsc::channel(POLL_REQUESTS_MAX);
    let frame_bytes_max = AtomicUsize::new(FRAME_BYTES_UNAUTHENTICATED_MAX);
    let shared = Arc::new(PollSession { requests: sender, is_plain: via.binding.plain, frame_bytes_max });
    let key = hash(&token);
    front.shared.polls.sessions().insert(key, Arc::clone(&shared));
    front.metrics.polls_total.add(1);
    let ticket = front.enter_lobby();
    let front = Rc::clone(front);
    spawn_local(async move { serve(&front, key, session, PollLink::new(requests, shared), ticket, counted).await });
    let mut page = text(StatusCode::CREATED, data_encoding::HEXLOWER.encode(&token));
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    page
}

async fn serve<D: Disk, C: Clock>(
    front: &Front<D, C>,
    key: [u8; 32],
    session: SessionHandle<D, C>,
    mut link: PollLink,
    ticket: LobbyTicket,
    _counted: (Permit, Place),
) {
    let _open = OpenGuard::new(&front.open);
    let _entry = Entry { polls: &front.shared.polls, key };
    let ended: bool = {
        let displaced = pin!(ticket.displaced());
        let pumping = pin!(Pump::new(&mut link, &session, &ticket, &front.metrics).run());
        matches!(select(displaced, pumping).await, Either::Right(_))
    };
    if !ended {
        return;
    }
    // The session is over now, not when the client has its last answer.
    drop(session);
    link.close().await;
}
