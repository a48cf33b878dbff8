//! What is not even a client: garbage on every layer below the frames. It costs its sender the connection, and nobody
//! else anything.

use core::time::Duration;

use bytes::Bytes;
use columba_engine::env::Rng;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
};

use crate::{
    link::{Link, Over, Quic, TEXT, header, message, quic_connecting, tls, upgrade},
    node::{Node, run, setup, soon},
    pair::Pair,
    raw::{Raw, hello},
};

const LIMIT: Duration = Duration::from_secs(120);

/// Everything that comes until the connection ends.
async fn rest(what: &str, io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut out = Vec::new();
    // A reset is an end as well.
    let _ = soon(what, io.read_to_end(&mut out)).await;
    String::from_utf8_lossy(&out).into_owned()
}

/// Writes, whether or not the other side still listens, and reads to the end.
async fn exchange(what: &str, io: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) -> String {
    let _ = io.write_all(bytes).await;
    let _ = io.flush().await;
    rest(what, io).await
}

fn garbage(rng: &mut Rng, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    rng.fill(&mut out);
    out
}

#[test]
fn garbage_in_place_of_tls_or_http_costs_nobody_else_a_message() {
    run(LIMIT, async {
        let node = setup().set("allowed_origins", "https://chat.example").start().await;
        let mut pair = Pair::start(&node).await;
        let mut rng = Rng::from_seed(7);
        let failures = node.metrics().await.get("handshake_failures_total");

        for round in 0..20 {
            let mut socket = TcpStream::connect(node.address()).await.unwrap();
            let bytes = rng.below(2_000) as usize + 1;
            let mut bytes = garbage(&mut rng, bytes);
            // Not the beginning of a TLS record, or it would wait for the rest.
            bytes[0] = b'G';
            exchange("garbage is no TLS", &mut socket, &bytes).await;
            if round % 5 == 0 {
                pair.check("garbage in place of TLS").await;
            }
        }
        let failed = node.metrics().await.get("handshake_failures_total") - failures;
        assert_eq!(failed, 20, "handshakes that failed");

        for _ in 0..10 {
            let (mut socket, _) = tls(&node).await;
            let mut bytes = garbage(&mut rng, 1_000);
            bytes.extend_from_slice(b"\r\n\r\n");
            let answer = exchange("garbage is no HTTP", &mut socket, &bytes).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
        }
        pair.check("garbage in place of HTTP").await;
        heads(&node).await;
        pair.check("heads").await;
        websockets(&node).await;
        pair.check("broken WebSockets").await;
        println!("{}", pair.finish().await);
    });
}

/// Request heads that are too long, too many, or of somebody else.
async fn heads(node: &Node) {
    let (mut socket, _) = tls(node).await;
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(9_000));
    let answer = exchange("a head that is too long", &mut socket, long.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");

    let (mut socket, _) = tls(node).await;
    let lines: String = (0..80).map(|line| format!("x-{line}: 1\r\n")).collect();
    let answer = exchange("too many lines", &mut socket, format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");

    for (origin, status) in [("https://evil.example", "403"), ("https://chat.example", "101"), ("null", "403")] {
        let (mut socket, _) = tls(node).await;
        socket.write_all(upgrade(&format!("Origin: {origin}\r\n")).as_bytes()).await.unwrap();
        socket.flush().await.unwrap();
        let mut answer = [0; 12];
        soon("an answer", socket.read_exact(&mut answer)).await.unwrap();
        assert_eq!(answer, format!("HTTP/1.1 {status}").as_bytes(), "{origin}");
    }
}

/// WebSockets that break RFC 6455, or are not ours.
async fn websockets(node: &Node) {
    let text = message(TEXT, b"hello");
    // Not masked; a reserved bit; an opcode that does not exist; a continuation of nothing; a long ping.
    let unmasked = vec![0x82, 0x01, 0x00];
    let reserved = [&[0xF2, 0x81, 0, 0, 0, 0][..], b"x"].concat();
    let unknown = message(3, b"x");
    let continued = message(0, b"x");
    let long_ping = [header(9, 200), vec![0; 200]].concat();
    for (what, bytes) in [
        ("text", text),
        ("unmasked", unmasked),
        ("reserved", reserved),
        ("unknown", unknown),
        ("continued", continued),
        ("long ping", long_ping),
    ] {
        let mut raw = Raw::connect(node, Over::Tls).await;
        raw.link.send_bytes(&bytes).await;
        assert_eq!(raw.ended().await, None, "{what}");
    }
    // Pings are answered, a flood of them is not.
    let mut raw = Raw::connect(node, Over::Plain).await;
    for _ in 0..5 {
        raw.link.send_bytes(&message(9, b"ping")).await;
    }
    raw.challenge().await;
    for _ in 0..100 {
        raw.link.send_bytes(&message(9, b"ping")).await;
    }
    assert_eq!(raw.ended().await, None, "a flood of pings");
}

#[test]
fn garbage_by_udp_costs_nobody_else_a_message() {
    run(LIMIT, async {
        let node = setup().start().await;
        let mut pair = Pair::start(&node).await;
        let mut rng = Rng::from_seed(11);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for _ in 0..20 {
            for _ in 0..100 {
                let bytes = rng.below(1_400) as usize;
                let bytes = garbage(&mut rng, bytes);
                let _ = socket.send_to(&bytes, node.address()).await;
            }
            // Initials of a version that exists, with garbage inside, in a datagram long enough to be one.
            for _ in 0..20 {
                let mut initial = garbage(&mut rng, 1_200);
                initial[..6].copy_from_slice(&[0xC3, 0, 0, 0, 1, 8]);
                let _ = socket.send_to(&initial, node.address()).await;
            }
        }
        pair.check("garbage datagrams").await;

        let (_endpoint, connecting) = quic_connecting(&node, b"mqtt");
        let error = soon("another protocol is refused", connecting).await.unwrap_err();
        assert!(matches!(error, quinn::ConnectionError::ConnectionClosed(_)), "{error}");
        quic_streams(&node).await;
        pair.check("streams against the rules").await;
        println!("{}", pair.finish().await);
    });
}

/// Streams against the rules.
async fn quic_streams(node: &Node) {
    // A length beyond the limit: the end, without waiting for so much.
    let mut raw = Raw::connect(node, Over::Quic).await;
    raw.link.send_bytes(&u32::MAX.to_be_bytes()).await;
    assert_eq!(raw.ended().await, Some(columba_client::Code::FrameTooLarge));

    // More streams are refused with a code; the session goes on.
    let mut raw = Raw::connect(node, Over::Quic).await;
    raw.challenge().await;
    let Link::Quic(Quic { connection, .. }) = &raw.link else { panic!("asked for QUIC") };
    let unexpected = quinn::VarInt::from_u32(columba_client::Code::Unexpected.number());
    for _ in 0..20 {
        let (mut send, mut receive) = soon("a second stream", connection.open_bi()).await.unwrap();
        let _ = send.write_all(b"hello").await;
        assert_eq!(soon("it is stopped", send.stopped()).await.unwrap(), Some(unexpected));
        let reset = soon("it is reset", receive.read_to_end(1)).await.unwrap_err();
        assert_eq!(reset, quinn::ReadToEndError::Read(quinn::ReadError::Reset(unexpected)));
        let mut send = soon("a stream one way", connection.open_uni()).await.unwrap();
        let _ = send.write_all(b"hello").await;
        assert_eq!(soon("it is stopped", send.stopped()).await.unwrap(), Some(unexpected));
    }
    assert!(connection.send_datagram(Bytes::from_static(b"hello")).is_err(), "datagrams are off");
    raw.request(hello()).await;
    assert!(raw.receive().await.is_some(), "the session goes on");

    // A connection that never opens a stream is no session, and gone in time.
    let (_endpoint, connecting) = quic_connecting(node, b"columba/1");
    let connection = soon("a connection", connecting).await.unwrap();
    let end = soon("it is closed", connection.closed()).await;
    let quinn::ConnectionError::ApplicationClosed(close) = end else { panic!("{end}") };
    assert_eq!(close.error_code, quinn::VarInt::from_u32(columba_client::Code::LoginTimeout.number()));
}

#[test]
fn a_client_that_speaks_only_old_tls_is_refused() {
    run(LIMIT, async {
        let node = setup().start().await;
        // TLS 1.2 is not even in this build: a client hello of it, by hand.
        let hello = [
            &[0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3][..],
            &[7; 32],
            // No session, one cipher suite of TLS 1.2, no compression.
            &[0, 0, 2, 0xC0, 0x2F, 1, 0],
        ]
        .concat();
        let mut socket = TcpStream::connect(node.address()).await.unwrap();
        let answer = exchange("an alert", &mut socket, &hello).await;
        assert!(answer.as_bytes().first() == Some(&0x15), "{answer:?}");
    });
}
