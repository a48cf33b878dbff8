//! Long-polling: the same session as over other transports, whatever happens to the requests and answers on the way.

use core::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use bytes::{Bytes, BytesMut};
use columba_client::{Client, Event, options::Transport, types::Carrier};
use columba_wire::{
    Code,
    frame::decode_server,
    framing::{Deframer, encode_framed},
    limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX},
    v1::{ClientFrame, Ping, ServerFrame, client_frame::Kind as Request, server_frame::Kind},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    http::{Answer, Http},
    link::Over,
    middlebox::{Treatment, middlebox},
    node::{Node, PATIENCE, run, setup, soon, until},
    phone::options,
    raw::{Person, Raw, hello, send},
};

const LIMIT: Duration = Duration::from_secs(120);

/// A session without a client: each request is the test's own.
struct Bare {
    http: Http,
    token: String,
}

impl Bare {
    async fn open(node: &Node) -> Self {
        let mut http = Http::plain(node).await;
        let token = http.open_poll().await;
        Self { http, token }
    }

    async fn get(&mut self, number: u64) -> Answer {
        self.http.request("GET", &format!("/v1/poll/{number}"), &self.token, b"").await.unwrap()
    }

    async fn post(&mut self, number: u64, body: &[u8]) -> Answer {
        self.http.request("POST", &format!("/v1/poll/{number}"), &self.token, body).await.unwrap()
    }
}

fn body(requests: impl IntoIterator<Item = Request>) -> Bytes {
    let mut out = BytesMut::new();
    for (request_id, kind) in (1..).zip(requests) {
        encode_framed(&ClientFrame { request_id, kind: Some(kind) }, &mut out);
    }
    out.freeze()
}

fn frames(answer: &Answer) -> Vec<ServerFrame> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut deframer = Deframer::new(FRAME_BYTES_MAX);
    deframer.push(&answer.body);
    let mut frames = Vec::new();
    while let Some(frame) = deframer.next_frame().unwrap() {
        frames.push(decode_server(frame).unwrap());
    }
    assert!(!deframer.is_partial());
    frames
}

#[test]
fn an_answer_that_is_lost_is_given_again_and_what_was_taken_is_not_taken_twice() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let mut bare = Bare::open(&node).await;
        let said = body([hello()]);
        assert_eq!(bare.post(1, &said).await.status, 204);
        let first = bare.get(1).await;
        assert!(matches!(frames(&first)[..], [ServerFrame { request_id: 1, kind: Some(Kind::Challenge(_)) }]));
        // Whichever connection asks, on whichever core.
        for _ in 0..8 {
            bare.http = Http::plain(&node).await;
            assert_eq!(bare.get(1).await.body, first.body);
            assert_eq!(bare.post(1, &said).await.status, 204, "a hello taken twice gives a second challenge");
        }
        assert_eq!(bare.post(2, &body([hello()])).await.status, 204);
        let second = frames(&bare.get(2).await);
        assert!(matches!(second[..], [ServerFrame { request_id: 1, kind: Some(Kind::Challenge(_)) }]), "{second:?}");
    });
}

#[test]
fn requests_out_of_order_or_of_nobody_are_refused_and_disturb_nobody_else() {
    run(LIMIT, async {
        let node = setup().start().await;
        let mut bystander = Raw::register(&node, Over::Poll, &mut Person::new("bystander")).await;
        for (number, what) in [(0, "none"), (2, "one is left out"), (u64::MAX, "the last there is")] {
            let mut bare = Bare::open(&node).await;
            assert_eq!(bare.get(number).await.status, 409, "{what}");
            assert_eq!(bare.get(1).await.status, 404, "it has ended");
            let mut bare = Bare::open(&node).await;
            assert_eq!(bare.post(number, &body([hello()])).await.status, 409, "{what}");
        }
        let mut bare = Bare::open(&node).await;
        assert_eq!(bare.post(1, &body([hello()])[..5]).await.status, 400, "half a frame");
        let mut bare = Bare::open(&node).await;
        assert_eq!(bare.post(1, &vec![0; 10_000]).await.status, 413, "more than a stranger may say");
        let mut bare = Bare::open(&node).await;
        assert_eq!(bare.post(1, &[0xff; 8]).await.status, 204, "a frame that is announced too long");
        let ended = frames(&bare.get(1).await);
        let code = |frame: &ServerFrame| match &frame.kind {
            Some(Kind::Error(error)) => Code::from_number(error.code),
            _ => None,
        };
        assert_eq!(ended.last().and_then(code), Some(Code::FrameTooLarge));
        let token = bare.token.clone();
        for (method, path, header, status) in [
            ("GET", "/v1/poll/1", "", 404),
            ("GET", "/v1/poll/1", "Authorization: Bearer 00112233445566778899aabbccddeeff\r\n", 404),
            ("GET", "/v1/poll/1", "Authorization: Bearer 00\r\n", 404),
            ("GET", "/v1/poll/x", token.as_str(), 400),
            ("GET", "/v1/poll/-1", token.as_str(), 400),
            ("PUT", "/v1/poll/1", token.as_str(), 405),
            ("POST", "/v1/poll", "Origin: https://evil.example\r\n", 403),
        ] {
            let mut http = Http::plain(&node).await;
            let answer = http.request(method, path, header, b"").await.unwrap();
            assert_eq!(answer.status, status, "{method} {path} {header}");
        }
        // A session of the plain listener is none of the other's.
        let bare = Bare::open(&node).await;
        let answer = Http::tls(&node).await.request("GET", "/v1/poll/1", &bare.token, b"").await.unwrap();
        assert_eq!(answer.status, 404);
        assert!(bystander.ask(Request::Ping(Ping {})).await.is_ok());
    });
}

#[test]
fn a_page_that_the_operator_lists_may_poll() {
    run(LIMIT, async {
        let node = setup().set("allowed_origins", "https://chat.example").start().await;
        let mut http = Http::plain(&node).await;
        let origin = "Origin: https://chat.example\r\n";
        for (method, path, status) in [("OPTIONS", "/v1/poll/1", 204), ("POST", "/v1/poll", 201)] {
            let answer = http.request(method, path, origin, b"").await.unwrap();
            assert_eq!(answer.status, status);
            assert!(answer.head.contains("access-control-allow-origin: https://chat.example"), "{}", answer.head);
        }
        let evil = http.request("OPTIONS", "/v1/poll/1", "Origin: https://evil.example\r\n", b"").await.unwrap();
        assert_eq!(evil.status, 403);
    });
}

#[test]
fn what_waits_when_a_node_is_killed_comes_after_it() {
    run(LIMIT, async {
        let mut node = setup().cores(2).start().await;
        let (mut ada, mut bob) = (Person::new("ada"), Person::new("bob"));
        let mut adas = Raw::register(&node, Over::Poll, &mut ada).await;
        let bobs = Raw::register(&node, Over::Poll, &mut bob).await;
        drop(bobs);
        for client_seq in 1..=5 {
            adas.ask(send(client_seq, bob.user(), client_seq.to_string())).await.unwrap();
        }
        node.kill();
        node.start().await;
        let mut bobs = Raw::login(&node, Over::Poll, &bob).await;
        let mut adas = Raw::login(&node, Over::Tls, &ada).await;
        for client_seq in 1..=5 {
            assert_eq!(bobs.delivered().await.body, client_seq.to_string());
        }
        bobs.ask(send(1, ada.user(), "thanks")).await.unwrap();
        assert_eq!(adas.delivered().await.body, "thanks");
    });
}

/// Chats with somebody who polls without anything in between: everything comes, once and in order.
async fn chat(node: &Node, narrowed: SocketAddr, transport: Transport) -> Carrier {
    let mut narrow = options(node, transport, None);
    narrow.server = narrowed.to_string();
    let (ada, mut events) = Client::connect(narrow).await.unwrap();
    let (bob, mut bobs) = Client::connect(options(node, Transport::LongPoll, None)).await.unwrap();
    let ada_is = soon("an account", ada.register("ada", "")).await.unwrap();
    let bob_is = soon("an account", bob.register("bob", "")).await.unwrap();
    let carrier = loop {
        if let Event::Connected { carrier } = soon("a connection", events.next()).await.unwrap() {
            break carrier;
        }
    };
    for n in 0..20 {
        ada.send(bob_is.user, Bytes::from(format!("a{n}"))).await.unwrap();
        bob.send(ada_is.user, Bytes::from(format!("b{n}"))).await.unwrap();
    }
    for (events, from) in [(&mut events, 'b'), (&mut bobs, 'a')] {
        let mut n = 0;
        while n < 20 {
            match soon("a message", events.next()).await.unwrap() {
                Event::Message(message) => {
                    assert_eq!(message.body, format!("{from}{n}"));
                    n += 1;
                }
                Event::Disconnected { reason, .. } => panic!("the session is not the same any more: {reason:?}"),
                _ => {}
            }
        }
    }
    ada.close().await;
    bob.close().await;
    carrier
}

#[test]
fn the_sdk_falls_back_to_long_polling_where_upgrades_are_refused() {
    run(LIMIT, async {
        for status in [400, 403] {
            let node = setup().start().await;
            let refused = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&refused);
            let narrowed = middlebox(&node, move |_, path, head| {
                let is_upgrade = head.contains("\r\nupgrade: ");
                assert_eq!(is_upgrade, path == "/v1/ws", "a plain request needs no upgrade");
                counted.fetch_add(usize::from(is_upgrade), Ordering::Relaxed);
                if is_upgrade { Treatment::Refuse(status) } else { Treatment::Pass }
            })
            .await;
            assert_eq!(chat(&node, narrowed, Transport::Auto).await, Carrier::LongPoll);
            assert_eq!(refused.load(Ordering::Relaxed), 1, "it was tried, and then no more");
        }
    });
}

#[test]
fn a_proxy_that_fails_now_and_then_ends_no_session() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let mut seen = BTreeSet::new();
        let narrowed = middlebox(&node, move |method, path, _| {
            // What is repeated gets through, and what begins a session.
            if path == "/v1/poll" || !seen.insert(format!("{method} {path}")) {
                return Treatment::Pass;
            }
            match seen.len() % 12 {
                1 => Treatment::Refuse(502),
                3 => Treatment::Replace(504),
                5 => Treatment::Refuse(503),
                7 => Treatment::Refuse(429),
                9 => Treatment::Cut,
                11 => Treatment::Replace(502),
                _ => Treatment::Pass,
            }
        })
        .await;
        assert_eq!(chat(&node, narrowed, Transport::LongPoll).await, Carrier::LongPoll);
        assert_eq!(node.metrics().await.get("polls_total"), 2, "one session each");
    });
}

#[test]
fn who_is_welcome_may_say_much_at_once_on_any_core() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let mut person = Person::new("ada");
        drop(Raw::register(&node, Over::Poll, &mut person).await);
        for client_seq in 1..=30 {
            let mut raw = Raw::login(&node, Over::Poll, &person).await;
            let large = vec![b'x'; BODY_BYTES_MAX];
            soon("it is taken", raw.ask(send(client_seq, person.user(), large))).await.unwrap();
        }
    });
}

#[test]
fn sessions_are_counted_apart_from_connections() {
    run(LIMIT, async {
        let node = setup().set("connections.loopback_max", "2").start().await;
        let mut first = Http::plain(&node).await;
        let mut second = Http::plain(&node).await;
        let token = first.open_poll().await;
        let _other = second.open_poll().await;
        let refused = second.request("POST", "/v1/poll", "", b"").await.unwrap();
        assert_eq!((refused.status, &refused.body[..]), (503, &b"TOO_MANY_CONNECTIONS\n"[..]), "both have one each");
        // An end of one makes room for another.
        assert_eq!(first.request("GET", "/v1/poll/7", &token, b"").await.unwrap().status, 409);
        until("there is room again", PATIENCE, async || {
            let answer = first.request("POST", "/v1/poll", "", b"").await.unwrap();
            (answer.status == 201).then_some(())
        })
        .await;
    });
}

#[test]
fn what_is_refused_says_what_is_allowed_and_is_read_to_its_end() {
    run(LIMIT, async {
        let node = setup().start().await;
        let mut http = Http::tls(&node).await;
        let token = http.open_poll().await;
        for (method, path, allow) in
            [("GET", "/v1/poll", "post"), ("PUT", "/v1/poll/1", "get, post"), ("DELETE", "/v1/poll/1", "get, post")]
        {
            let answer = http.request(method, path, &token, b"a body of no use").await.unwrap();
            assert_eq!(answer.status, 405);
            assert!(answer.head.contains(&format!("\r\nallow: {allow}\r\n")), "{}", answer.head);
        }
        // The connection goes on: what was of no use is out of the way.
        let long = vec![0; 200 * 1024];
        for (path, token, status) in [("/v1/poll/1", token.as_str(), 413), ("/v1/poll/1", "", 404)] {
            assert_eq!(http.request("POST", path, token, &long).await.unwrap().status, status);
        }
        assert_eq!(http.request("POST", "/v1/poll/1", &token, &body([hello()])).await.unwrap().status, 204);
        // Beyond a bound it does not.
        let head = format!("POST /v1/poll/2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n{token}\r\n");
        let mut socket = TcpStream::connect(node.plain()).await.unwrap();
        let (mut reader, mut writer) = socket.split();
        let writing = async {
            let _ = writer.write_all(head.as_bytes()).await;
            while writer.write_all(&long).await.is_ok() {}
        };
        let mut answer = Vec::new();
        let reading = async { while reader.read_buf(&mut answer).await.is_ok_and(|bytes| bytes > 0) {} };
        soon("the connection ends", async { tokio::join!(writing, reading) }).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 404"), "{answer}");
    });
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for_and_may_come_again() {
    run(LIMIT, async {
        let node = setup().start().await;
        let mut bare = Bare::open(&node).await;
        let mut socket = TcpStream::connect(node.plain()).await.unwrap();
        let head = format!("POST /v1/poll/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n{}\r\n", bare.token);
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon("an answer, and the end", socket.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("connection: close"), "{answer}");
        assert_eq!(bare.post(1, &body([hello()])).await.status, 204, "nothing was taken");
    });
}

#[test]
fn a_connection_that_waits_for_its_next_request_outlives_one_that_has_begun_it() {
    run(LIMIT, async {
        let node = setup().start().await;
        let mut idle = Http::plain(&node).await;
        let token = idle.open_poll().await;
        let mut socket = TcpStream::connect(node.plain()).await.unwrap();
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok\n") {
            assert!(soon("an answer", socket.read_buf(&mut answer)).await.unwrap() > 0);
        }
        socket.write_all(b"GET /healthz").await.unwrap();
        assert_eq!(soon("the end of half a head", socket.read_buf(&mut answer)).await.unwrap(), 0);
        let answer = idle.request("POST", "/v1/poll/1", &token, &body([hello()])).await;
        assert_eq!(answer.expect("it was kept").status, 204);
    });
}
