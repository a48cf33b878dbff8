//! Crowds of connections that never log in.

use core::{net::SocketAddr, time::Duration};

use columba_wire::{frame::encode, v1::ClientFrame};
use futures_util::{StreamExt as _, stream};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};

use crate::{
    link::{Link, Over, Quic, WebSocket, tls_from},
    node::{Node, PATIENCE, raise_descriptors, run, setup, soon, until},
    pair::Pair,
    raw::{Person, Raw, hello},
};

/// How many come, each way. Those that cost more work come first, so that most are there at the same time.
const CROWD: [(Over, usize); 3] = [(Over::Quic, 300), (Over::Tls, 1_200), (Over::Plain, 3_500)];
/// Handshakes at a time.
const AT_A_TIME: usize = 64;
/// Addresses of this machine that they come from.
const ADDRESSES: usize = 250;
/// Bytes of the node that one may cost, on average.
const BYTES_EACH_MAX: u64 = 48 * 1024;

/// A connection from one of many addresses.
async fn connect(node: &Node, over: Over, number: usize) -> Link {
    let from = SocketAddr::from(([127, 0, 1, u8::try_from(number % ADDRESSES + 1).unwrap()], 0));
    match over {
        Over::Plain => Link::connect_plain(node.plain(), from).await,
        Over::Tls => Link::WebSocket(WebSocket::open(Box::new(tls_from(node, from).await.0)).await),
        Over::Poll => Link::connect(node, over).await.0,
        Over::Quic => {
            // Without a word there would be no stream.
            let mut link = Link::Quic(Quic::connect(node).await);
            link.send(&encode(&ClientFrame { request_id: 1, kind: Some(hello()) })).await;
            link
        }
    }
}

/// Most sessions, and most memory, that were seen at a time.
#[derive(Default)]
struct Peak {
    sessions: u64,
    memory: u64,
}

impl Peak {
    async fn look(&mut self, node: &Node) {
        self.sessions = self.sessions.max(node.metrics().await.get("sessions_open"));
        self.memory = self.memory.max(node.memory());
    }
}

#[test]
fn five_thousand_who_never_log_in_cost_the_others_nothing_and_are_gone_in_time() {
    let descriptors = raise_descriptors();
    if descriptors.is_some_and(|limit| limit < 8_000) {
        return println!("skipped: {descriptors:?} descriptors are too few");
    }
    run(Duration::from_secs(170), async {
        let node = setup().cores(2).set("connections.unauthenticated_max", "8000").start().await;
        let mut pair = Pair::start(&node).await;
        let (memory, sessions) = (node.memory(), node.metrics().await.get("sessions_open"));
        let began = Instant::now();
        let all = CROWD.iter().flat_map(|(over, count)| (0..*count).map(|number| (*over, number)));
        let coming = stream::iter(all)
            .map(|(over, number)| connect(&node, over, number))
            .buffer_unordered(AT_A_TIME)
            .collect::<Vec<_>>();
        let mut peak = Peak::default();
        let mut coming = core::pin::pin!(coming);
        let mut crowd = loop {
            match timeout(Duration::from_millis(200), &mut coming).await {
                Ok(crowd) => break crowd,
                Err(_) => peak.look(&node).await,
            }
        };
        peak.look(&node).await;
        let came = began.elapsed();
        pair.check("a crowd").await;

        // Gone without being asked.
        for link in &mut crowd {
            let gone = async { while link.receive().await.is_some() {} };
            soon("a stranger is gone", gone).await;
        }
        let gone = began.elapsed();
        let left = async || (node.metrics().await.get("sessions_open") == sessions).then_some(());
        until("the sessions of the crowd are gone", PATIENCE, left).await;
        let strangers = peak.sessions - sessions;
        let each = peak.memory.saturating_sub(memory) / strangers.max(1);
        println!(
            "{} came in {came:.1?}, at most {strangers} at a time, gone after {gone:.1?}; {each} bytes each; memory {} \
             MiB before, {} at most, {} after; {}",
            crowd.len(),
            memory >> 20,
            peak.memory >> 20,
            node.memory() >> 20,
            pair.finish().await,
        );
        assert!(strangers > 1_000, "too few at a time to say anything: {strangers}");
        assert!(each < BYTES_EACH_MAX, "{each} bytes for each of {strangers}");
    });
}

#[test]
fn who_logs_in_at_once_gets_through_a_crowd_that_fills_the_node() {
    run(Duration::from_secs(120), async {
        let node = setup().set("connections.unauthenticated_max", "50").start().await;
        let mut crowd = Vec::new();
        for number in 0..60 {
            crowd.push(connect(&node, Over::Plain, number).await);
        }
        let mut people = Vec::new();
        for (number, over) in [Over::Plain, Over::Tls, Over::Quic].into_iter().enumerate() {
            let mut person = Person::new(&format!("in-time-{number}"));
            people.push(Raw::register(&node, over, &mut person).await);
            crowd.push(connect(&node, Over::Plain, number).await);
        }
        // The oldest have made way, and nobody who is in.
        for link in &mut crowd[..10] {
            let gone = async { while link.receive().await.is_some() {} };
            soon("the oldest have made way", gone).await;
        }
        for raw in &mut people {
            let kind = columba_wire::v1::client_frame::Kind::Ping(columba_wire::v1::Ping {});
            raw.ask(kind).await.unwrap();
        }
        assert!(node.metrics().await.get("connections_displaced_total") >= 10);
    });
}

#[test]
fn one_address_cannot_take_more_connections_than_the_operator_allows() {
    run(Duration::from_secs(120), async {
        let node = setup().set("connections.loopback_max", "12").start().await;
        let mut person = Person::new("first");
        let mut first = Raw::register(&node, Over::Quic, &mut person).await;
        let mut others = Vec::new();
        // From the address of everybody else here: all that are left for it, and some more.
        let mut refused = 0;
        for _ in 0..20 {
            let socket = TcpSocket::new_v4().unwrap().connect(node.plain()).await.unwrap();
            others.push(socket);
        }
        for socket in &others {
            refused += usize::from(is_closed(socket).await);
        }
        assert_eq!(refused, 20 - 11, "closed at once");
        // Another address, and who is in already, are not concerned.
        let _ = connect(&node, Over::Tls, 7).await;
        first.ask(crate::raw::send(1, person.user(), "still here")).await.unwrap();
        drop(others);
        until("there is room again", PATIENCE, async || {
            let socket = TcpSocket::new_v4().unwrap().connect(node.plain()).await.unwrap();
            (!is_closed(&socket).await).then_some(())
        })
        .await;
    });
}

/// Whether the node closes a connection at once; it says nothing on one that it keeps.
async fn is_closed(socket: &TcpStream) -> bool {
    timeout(Duration::from_millis(200), socket.readable()).await.is_ok()
}
