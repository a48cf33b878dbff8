//! Frames that are none, or come at the wrong time: the sender is told a code, and nobody else notices.

use core::time::Duration;

use bytes::Bytes;
use columba_engine::env::Rng;
use columba_wire::{
    ChatId, Code,
    frame::encode,
    limits::{
        BODY_BYTES_MAX, FRAME_BYTES_MAX, FRAME_BYTES_UNAUTHENTICATED_MAX, HISTORY_PAGE_MAX, PRESENCE_SUBSCRIPTIONS_MAX,
        SENDS_IN_FLIGHT_MAX, VERSIONS_MAX,
    },
    v1::{self, ClientFrame, client_frame::Kind as Request, server_frame::Kind},
};

use crate::{
    link::{BINARY, Over, TRANSPORTS, header},
    node::{Node, run, setup},
    pair::Pair,
    raw::{Person, Raw, hello, id, send},
};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_frame_that_is_none_ends_its_own_session_and_no_other() {
    run(LIMIT, async {
        let node = setup().start().await;
        let mut pair = Pair::start(&node).await;
        for over in TRANSPORTS {
            let mut person = Person::new(&format!("broken-{over:?}").to_lowercase());
            drop(Raw::register(&node, over, &mut person).await);
            before_login(&node, over).await;
            pair.check("broken frames before login").await;
            after_login(&node, over, &person).await;
            pair.check("broken frames after login").await;
        }
        println!("{}", pair.finish().await);
    });
}

/// A frame is answered with a code, and the end.
async fn ends_with(mut raw: Raw, frame: &[u8], code: Code) {
    raw.link.send(frame).await;
    assert_eq!(raw.ended().await, Some(code), "{:02x?}", &frame[..frame.len().min(32)]);
}

fn request(kind: Option<Request>) -> Bytes {
    encode(&ClientFrame { request_id: 1, kind })
}

async fn before_login(node: &Node, over: Over) {
    let connect = async || Raw::connect(node, over).await;
    ends_with(connect().await, &[0xFF; 40], Code::Malformed).await;
    ends_with(connect().await, &request(None), Code::Malformed).await;
    ends_with(connect().await, &vec![0; FRAME_BYTES_UNAUTHENTICATED_MAX + 1], Code::FrameTooLarge).await;
    // Announced is enough.
    let mut raw = connect().await;
    let announcement = match over {
        Over::Quic | Over::Poll => 20_000_u32.to_be_bytes().to_vec(),
        Over::Plain | Over::Tls => header(BINARY, 20_000),
    };
    raw.link.send_bytes(&announcement).await;
    assert_eq!(raw.ended().await, Some(Code::FrameTooLarge), "announced");

    let to = Person::new("nobody").user();
    ends_with(connect().await, &request(Some(send(1, to, "early"))), Code::Unexpected).await;
    ends_with(connect().await, &request(Some(Request::Ping(v1::Ping {}))), Code::Unexpected).await;
    let person = Person::new("nobody");
    ends_with(connect().await, &request(Some(person.login(&[0; 32], &connect().await.binding))), Code::Unexpected)
        .await;
    let versions = |versions: Vec<u32>| Request::Hello(v1::Hello { versions, ..v1::Hello::default() });
    ends_with(connect().await, &request(Some(versions(vec![2, 77]))), Code::UnsupportedVersion).await;
    ends_with(connect().await, &request(Some(versions(Vec::new()))), Code::UnsupportedVersion).await;
    ends_with(connect().await, &request(Some(versions(vec![1; VERSIONS_MAX + 1]))), Code::InvalidArgument).await;

    // A frame cut short, and then the end; and random bytes, many times.
    let whole = request(Some(hello()));
    let mut rng = Rng::from_seed(3);
    for round in 0..60 {
        let mut raw = connect().await;
        let bytes = match round % 2 {
            0 => whole[..whole.len() - 1 - rng.below(whole.len() as u64 - 1) as usize].to_vec(),
            _ => {
                let mut bytes = vec![0; rng.below(300) as usize + 1];
                rng.fill(&mut bytes);
                bytes
            }
        };
        raw.link.send(&bytes).await;
        // Whatever it says, it is there for the next.
        if round % 10 == 9 {
            raw.ended().await;
        }
    }
    connect().await.challenge().await;
}

async fn after_login(node: &Node, over: Over, person: &Person) {
    let login = async || Raw::login(node, over, person).await;
    ends_with(login().await, &[0xFF; 40], Code::Malformed).await;
    ends_with(login().await, &request(None), Code::Malformed).await;
    ends_with(login().await, &vec![0; FRAME_BYTES_MAX + 1], Code::FrameTooLarge).await;
    ends_with(login().await, &request(Some(hello())), Code::Unexpected).await;
    // A kind of the future: not known, so none. A strict server says so.
    ends_with(login().await, &[0x08, 0x01, 0xFA, 0x07, 0x00], Code::Malformed).await;

    let mut raw = login().await;
    let me = person.user();
    assert_eq!(raw.ask(send(1, me, vec![0; BODY_BYTES_MAX + 1])).await, Err(Code::BodyTooLarge));
    assert_eq!(raw.ask(send(0, me, "none")).await, Err(Code::InvalidArgument));
    assert_eq!(raw.ask(send(u64::MAX, me, "none")).await, Err(Code::InvalidArgument));
    let stranger = columba_wire::UserId::from_bytes([9; 16]);
    assert_eq!(raw.ask(send(1, stranger, "nobody")).await, Err(Code::UnknownUser));
    let short = Request::Send(v1::Send { client_seq: 1, to_user: id(&[1, 2, 3]), ..v1::Send::default() });
    assert_eq!(raw.ask(short).await, Err(Code::InvalidArgument));
    let chat = id(ChatId::direct(me, stranger).as_bytes());
    let page = |limit| Request::GetHistory(v1::GetHistory { chat_id: chat.clone(), before_seq: 0, limit });
    assert_eq!(raw.ask(page(10)).await, Err(Code::UnknownChat));
    assert_eq!(raw.ask(page(0)).await, Err(Code::InvalidArgument));
    assert_eq!(raw.ask(page(HISTORY_PAGE_MAX + 1)).await, Err(Code::InvalidArgument));
    let find = |handle: &str| Request::FindUser(v1::FindUser { handle: handle.to_owned() });
    assert_eq!(raw.ask(find("Not A Handle")).await, Err(Code::InvalidArgument));
    assert_eq!(raw.ask(find("never-seen")).await, Err(Code::UnknownUser));
    let watch = |count| v1::SubscribePresence { user_ids: vec![id(stranger.as_bytes()); count] };
    let too_many = Request::SubscribePresence(watch(PRESENCE_SUBSCRIPTIONS_MAX + 1));
    assert_eq!(raw.ask(too_many).await, Err(Code::TooManySubscriptions));
    // The largest body there may be.
    let sent = raw.ask(send(2, me, vec![7; BODY_BYTES_MAX])).await;
    assert!(matches!(sent, Ok(Kind::Sent(_))), "{sent:?}");
}

#[test]
fn a_client_with_too_many_unanswered_sends_is_told_and_loses_none_that_was_taken() {
    run(LIMIT, async {
        let node = setup().start().await;
        let pair = Pair::start(&node).await;
        let mut person = Person::new("eager");
        let mut raw = Raw::register(&node, Over::Tls, &mut person).await;
        // In one piece, so that they are all there before the first can be answered.
        let count = 4 * SENDS_IN_FLIGHT_MAX as u64;
        let mut burst = Vec::new();
        for number in 1..=count {
            let frame = ClientFrame { request_id: number, kind: Some(send(number, person.user(), "now")) };
            burst.extend(crate::link::message(BINARY, &encode(&frame)));
        }
        raw.link.send_bytes(&burst).await;
        let (mut taken, mut refused, mut highest) = (0, 0, 0);
        while taken + refused < count {
            match raw.receive().await.expect("the session goes on").kind {
                Some(Kind::Sent(sent)) => {
                    taken += 1;
                    highest = highest.max(sent.seq);
                }
                Some(Kind::Error(error)) => {
                    assert_eq!(Code::from_number(error.code), Some(Code::TooManyInFlight));
                    assert!(error.retry_after_ms > 0);
                    refused += 1;
                }
                _ => {}
            }
        }
        assert_eq!(highest, taken, "what was refused is not stored");
        assert!(refused > 0, "none was refused");
        println!("of {count} sends at once {taken} were taken and {refused} refused; {}", pair.finish().await);
    });
}
