//! (D) HTTP/1.1: health, readiness, metrics, the upgrade to a WebSocket, and requests that poll.
//!
//! | path | answer |
//! |---|---|
//! | `/v1/ws` | 101, and the connection is a WebSocket |
//! | `/v1/poll`, and below it | long-polling: [`super::poll`] |
//! | `/healthz` | 200 while the process answers |
//! | `/readyz` | 200 while every partition of the node is led and applied here, 503 otherwise |
//! | `/metrics` | Prometheus text; to loopback alone, unless the operator says otherwise |
//! | `/` | what this is, in a line |
//!
//! Invariants
//! - A request head is at most 8 KiB, in at most 5 s ([`super::pace`]); no request has a body that is read, but those
//!   that poll.
//! - Where a body is not read to its end, the connection ends behind the answer.
//! - A page of another origin can neither open a WebSocket nor poll, unless the operator lists it.

use core::{cell::Cell, time::Duration};
use std::{convert::Infallible, net::IpAddr, rc::Rc};

use bytes::Bytes;
use columba_engine::env::{Clock, Disk};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body as _, Incoming},
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL,
        CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE, VARY,
    },
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::{
    Front, NodeShared,
    pace::{Pace, Paced},
    poll::{self, POLL_PATH, Via},
    websocket::accept_key,
};
use crate::{
    limits::{CLOSE_MS_MAX, POLL_DRAIN_BYTES_MAX, REQUEST_HEAD_BYTES_MAX, REQUEST_HEADERS_MAX},
    metrics,
};

/// Path of the WebSocket.
pub const WEBSOCKET_PATH: &str = "/v1/ws";
/// Subprotocol of the WebSocket.
pub const SUBPROTOCOL: &str = "columba.v1";

/// Serves requests until one becomes a WebSocket: then the socket comes back, with what was read behind the request.
/// `None` when the connection ended before.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static, D: Disk, C: Clock>(
    socket: S,
    front: &Rc<Front<D, C>>,
    via: &Via<'_>,
) -> Option<(S, Vec<u8>)> {
    let is_upgraded = Cell::new(false);
    let is_upgraded = &is_upgraded;
    let pace = &Pace::new();
    let service = service_fn(move |request: Request<Incoming>| async move {
        pace.handle_request();
        if is_below(request.uri().path(), POLL_PATH) {
            front.metrics.http_requests_total.add(1);
            let page = answer_poll(front, via, request).await;
            pace.handle_answer();
            return Ok::<_, Infallible>(page);
        }
        let path = request.uri().path();
        let response = answer(request.method(), path, request.headers(), via.peer.ip(), &front.shared);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            is_upgraded.set(true);
        } else {
            front.metrics.http_requests_total.add(1);
        }
        pace.handle_answer();
        Ok(response)
    });
    let mut builder = http1::Builder::new();
    builder
        // The pace keeps the time.
        .header_read_timeout(None)
        .max_header_size(REQUEST_HEAD_BYTES_MAX)
        .max_buf_size(REQUEST_HEAD_BYTES_MAX)
        .max_headers(REQUEST_HEADERS_MAX);
    // With the upgrade the connection is done, and gives the socket back: no task of the library stays behind.
    let serving = builder.serve_connection(TokioIo::new(Paced { socket, pace }), service).without_shutdown();
    let parts = pace.keep(serving).await?.ok()?;
    is_upgraded.get().then(|| (parts.io.into_inner().socket, parts.read_buf.into()))
}

pub(super) type Page = Response<Full<Bytes>>;

fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Polls for pages of allowed origins alone; their browsers ask first, and want to be told.
async fn answer_poll<D: Disk, C: Clock>(
    front: &Rc<Front<D, C>>,
    via: &Via<'_>,
    mut request: Request<Incoming>,
) -> Page {
    let is_allowed = origin_is_allowed(request.headers(), &front.shared.allowed_origins);
    let mut page = match *request.method() {
        _ if !is_allowed => text(StatusCode::FORBIDDEN, "this origin is not allowed (allowed_origins)\n"),
        Method::OPTIONS => text(StatusCode::NO_CONTENT, ""),
        _ => poll::answer(front, via, &mut request).await,
    };
    // One that took too long already gets no more time.
    let is_late = page.status() == StatusCode::REQUEST_TIMEOUT;
    if is_late || !drain(request.body_mut()).await {
        page.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(origin) = request.headers_mut().remove(ORIGIN).filter(|_| is_allowed) {
        let allowed = page.headers_mut();
        allowed.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        allowed.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        allowed.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization"));
        allowed.insert(VARY, HeaderValue::from_static("origin"));
    }
    page
}

/// Reads what is left of a body, for a while: a client that still writes when its connection ends meets a reset, and
/// not the answer. Returns whether all of it was read.
async fn drain(body: &mut Incoming) -> bool {
    let draining = async {
        let mut left = POLL_DRAIN_BYTES_MAX;
        while !body.is_end_stream() {
            let Some(Ok(part)) = body.frame().await else {
                return body.is_end_stream();
            };
            let bytes = part.data_ref().map_or(0, Bytes::len);
            if bytes > left {
                return false;
            }
            left -= bytes;
        }
        true
    };
    timeout(Duration::from_millis(CLOSE_MS_MAX), draining).await.unwrap_or(false)
}

fn answer(method: &Method, path: &str, headers: &HeaderMap, peer: IpAddr, shared: &NodeShared) -> Page {
    if *method != Method::GET && *method != Method::HEAD {
        let mut page = text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        page.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        // A body that may follow is not read.
        page.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return page;
    }
    match path {
        WEBSOCKET_PATH => upgrade(method, headers, &shared.allowed_origins),
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" if shared.is_ready() => text(StatusCode::OK, "ready\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready: a partition has no leader here yet\n"),
        "/metrics" if shared.metrics_to_any || peer.to_canonical().is_loopback() => {
            let mut page = text(StatusCode::OK, metrics::render(&shared.metrics));
            let prometheus = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            page.headers_mut().insert(CONTENT_TYPE, prometheus);
            page
        }
        "/metrics" => text(StatusCode::FORBIDDEN, "metrics are shown to this machine alone (metrics_to)\n"),
        "/" => {
            let what = "This is a Columba node: a message database that delivers. Clients speak columba.v1 over \
                        WebSocket at /v1/ws, over QUIC at the same port, or by polling /v1/poll.\n";
            text(StatusCode::OK, what)
        }
        _ => text(StatusCode::NOT_FOUND, "no such page\n"),
    }
}

pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(body.into()));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

fn upgrade(method: &Method, headers: &HeaderMap, allowed_origins: &[String]) -> Page {
    let refuse = |status, why: &'static str| text(status, why);
    if *method != Method::GET
        || !has_token(headers, &UPGRADE, "websocket")
        || !has_token(headers, &CONNECTION, "upgrade")
    {
        let mut page = refuse(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket\n");
        page.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        page.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        return page;
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut page = refuse(StatusCode::UPGRADE_REQUIRED, "WebSocket version 13 only\n");
        page.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return page;
    }
    // 16 bytes in base64.
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24) else {
        return refuse(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing or wrong\n");
    };
    if !origin_is_allowed(headers, allowed_origins) {
        return refuse(StatusCode::FORBIDDEN, "this origin is not allowed (allowed_origins)\n");
    }
    if !has_token(headers, &SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return refuse(StatusCode::BAD_REQUEST, "the subprotocol here is columba.v1\n");
    }
    let mut page = Response::new(Full::default());
    *page.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let accept = HeaderValue::try_from(accept_key(key.as_bytes())).expect("base64 is a header value");
    page.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    page.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    page.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    page.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    page
}

/// Whether one of the comma-separated values of a header is `token`.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// Browsers always say where a page is from; everything else says nothing, and may connect.
fn origin_is_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let mut origins = headers.get_all(ORIGIN).into_iter();
    origins.all(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        allowed.iter().any(|one| one == "*" || one.eq_ignore_ascii_case(origin))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::NodeShared;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    const GOOD: [(&str, &str); 5] = [
        ("upgrade", "websocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "other, columba.v1"),
    ];

    fn status(lines: &[(&'static str, &'static str)], allowed: &[&str]) -> u16 {
        let allowed: Vec<_> = allowed.iter().map(|origin| (*origin).to_owned()).collect();
        upgrade(&Method::GET, &headers(lines), &allowed).status().as_u16()
    }

    #[test]
    fn an_upgrade_is_answered_as_the_standard_says() {
        let page = upgrade(&Method::GET, &headers(&GOOD), &[]);
        assert_eq!(page.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(page.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(page.headers()[SEC_WEBSOCKET_PROTOCOL], SUBPROTOCOL);
    }

    #[test]
    fn what_is_no_websocket_of_ours_is_refused() {
        for (without, expected) in [(0, 426), (1, 426), (2, 426), (3, 400), (4, 400)] {
            let lines: Vec<_> = (0..5).filter(|index| *index != without).map(|index| GOOD[index]).collect();
            assert_eq!(status(&lines, &[]), expected, "without {}", GOOD[without].0);
        }
        let mut other = GOOD;
        other[4].1 = "mqtt";
        assert_eq!(status(&other, &[]), 400);
        assert_eq!(upgrade(&Method::HEAD, &headers(&GOOD), &[]).status().as_u16(), 426);
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        let mut lines = GOOD.to_vec();
        lines.push(("origin", "https://evil.example"));
        assert_eq!(status(&lines, &[]), 403);
        assert_eq!(status(&lines, &["https://chat.example"]), 403);
        assert_eq!(status(&lines, &["https://Evil.example"]), 101);
        assert_eq!(status(&lines, &["*"]), 101);
    }

    #[test]
    fn metrics_stay_on_this_machine_unless_asked_for() {
        let mut shared = NodeShared::for_tests();
        let get = |shared: &NodeShared, path: &str, peer: &str| {
            answer(&Method::GET, path, &HeaderMap::new(), peer.parse().unwrap(), shared).status().as_u16()
        };
        assert_eq!(get(&shared, "/metrics", "127.0.0.1"), 200);
        assert_eq!(get(&shared, "/metrics", "192.0.2.1"), 403);
        assert_eq!(get(&shared, "/healthz", "192.0.2.1"), 200);
        assert_eq!(get(&shared, "/readyz", "192.0.2.1"), 503);
        assert_eq!(get(&shared, "/nothing", "192.0.2.1"), 404);
        shared.metrics_to_any = true;
        assert_eq!(get(&shared, "/metrics", "192.0.2.1"), 200);
        let post = answer(&Method::POST, "/", &HeaderMap::new(), "127.0.0.1".parse().unwrap(), &shared);
        assert_eq!(post.status().as_u16(), 405);
    }
}
