//! Long-polling: the same session as over other transports, whatever happens to the requests and answers on the way.

use core::time::Duration;

use bytes::{Bytes, BytesMut};
use columba_client::{Client, Event, options::Transport, types::Carrier};
use columba_wire::{
    Code,
    frame::decode_server,
    framing::{Deframer, encode_framed},
    limits::FRAME_BYTES_MAX,
    v1::{ClientFrame, Ping, ServerFrame, client_frame::Kind as Request, server_frame::Kind},
};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    http::{Answer, Http},
    link::Over,
    node::{Node, run, setup, soon},
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

/// Lets plain requests through, and neither UDP nor the connections that ask for a WebSocket.
async fn narrow(node: &Node) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (here, there) = (listener.local_addr().unwrap(), node.address());
    tokio::spawn(async move {
        let mut first = true;
        while let Ok((mut near, _)) = listener.accept().await {
            // The client tries a WebSocket first, and then nothing else.
            if core::mem::replace(&mut first, false) {
                continue;
            }
            tokio::spawn(async move {
                if let Ok(mut far) = TcpStream::connect(there).await {
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }
            });
        }
    });
    here
}

#[test]
fn the_sdk_falls_back_to_long_polling_where_nothing_else_gets_through() {
    run(LIMIT, async {
        let node = setup().start().await;
        let mut narrowed = options(&node, Transport::Auto, None);
        narrowed.server = narrow(&node).await.to_string();
        let (ada, mut events) = Client::connect(narrowed).await.unwrap();
        let (bob, mut bobs) = Client::connect(options(&node, Transport::LongPoll, None)).await.unwrap();
        let ada_is = soon("an account", ada.register("ada", "")).await.unwrap();
        let bob_is = soon("an account", bob.register("bob", "")).await.unwrap();
        let carrier = loop {
            if let Event::Connected { carrier } = soon("a connection", events.next()).await.unwrap() {
                break carrier;
            }
        };
        assert_eq!(carrier, Carrier::LongPoll);
        for n in 0..20 {
            ada.send(bob_is.user, Bytes::from(format!("a{n}"))).await.unwrap();
            bob.send(ada_is.user, Bytes::from(format!("b{n}"))).await.unwrap();
        }
        for (events, from) in [(&mut events, 'b'), (&mut bobs, 'a')] {
            let mut n = 0;
            while n < 20 {
                if let Event::Message(message) = soon("a message", events.next()).await.unwrap() {
                    assert_eq!(message.body, format!("{from}{n}"));
                    n += 1;
                }
            }
        }
        ada.close().await;
        bob.close().await;
    });
}
