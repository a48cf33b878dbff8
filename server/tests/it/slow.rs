//! Peers that stop in the middle: of a handshake, a head, a frame, or of reading.

use core::time::Duration;

use columba_wire::{
    ChatId, Code,
    frame::encode,
    v1::{ClientFrame, server_frame::Kind},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{
    link::{BINARY, Over, TRANSPORTS, header, tls},
    node::{PATIENCE, run, setup, soon, until},
    pair::Pair,
    raw::{Person, Raw, ack, send},
};

const LIMIT: Duration = Duration::from_secs(150);
/// Messages for the one who does not read.
const UNREAD: u64 = 10_000;
/// Bytes of each of them.
const UNREAD_BYTES: usize = 1_000;
/// Bytes by which the node may grow meanwhile. What it keeps of messages (memtables, rows, index, caches) is bounded by
/// much more; all that was sent, kept once more for the one who does not read, would show.
const GROWTH_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[test]
fn who_stops_in_the_middle_is_cut_off_in_time_and_delays_nobody() {
    run(LIMIT, async {
        let node = setup().start().await;
        let mut pair = Pair::start(&node).await;
        let began = Instant::now();

        // Half a TLS record; half a head, byte by byte; half a frame before login and after.
        let mut handshake = TcpStream::connect(node.address()).await.unwrap();
        handshake.write_all(&[0x16, 3, 1, 1, 0, 1]).await.unwrap();
        let (mut head, _) = tls(&node).await;
        head.write_all(b"GET /v1/ws HTTP/1.1\r\nHost: a\r\nX").await.unwrap();
        head.flush().await.unwrap();
        let mut frames = Vec::new();
        for over in TRANSPORTS {
            let half = match over {
                Over::Quic | Over::Poll => 500_u32.to_be_bytes().to_vec(),
                Over::Plain | Over::Tls => header(BINARY, 500),
            };
            let mut stranger = Raw::connect(&node, over).await;
            stranger.link.send_bytes(&half).await;
            let mut person = Person::new(&format!("halfway-{over:?}").to_lowercase());
            let mut member = Raw::register(&node, over, &mut person).await;
            member.link.send_bytes(&half).await;
            frames.push((over, stranger, member));
        }

        let dripping = async {
            // A byte now and then is no progress.
            let mut bytes = [0; 1];
            loop {
                tokio::select! {
                    read = head.read(&mut bytes) => match read {
                        Ok(1..) => {}
                        Ok(0) | Err(_) => break began.elapsed(),
                    },
                    () = sleep(Duration::from_millis(500)) => {
                        let _ = head.write_all(b"x").await;
                        let _ = head.flush().await;
                    }
                }
            }
        };
        let heads = soon("the head that does not end", dripping).await;
        let mut rest = Vec::new();
        let _ = soon("the handshake that does not end", handshake.read_to_end(&mut rest)).await;
        let handshakes = began.elapsed();
        pair.check("heads that do not end").await;
        for (over, mut stranger, mut member) in frames {
            // The login's deadline and the frame's are the same ten seconds: whichever comes first.
            let code = stranger.ended().await;
            assert!(matches!(code, None | Some(Code::LoginTimeout)), "{over:?}: {code:?}");
            assert_eq!(member.ended().await, None, "{over:?}");
        }
        println!(
            "cut off: heads after {heads:.1?}, handshakes after {handshakes:.1?}, frames after {:.1?}",
            began.elapsed()
        );
        println!("{}", pair.finish().await);
    });
}

#[test]
fn who_never_reads_holds_up_nobody_and_finds_everything_later() {
    run(LIMIT, async {
        let node = setup().start().await;
        let mut pair = Pair::start(&node).await;
        let (mut writer, mut deaf) = (Person::new("writer"), Person::new("deaf"));
        let mut from = Raw::register(&node, Over::Plain, &mut writer).await;
        let mut to = Raw::register(&node, Over::Plain, &mut deaf).await;
        to.expect("synced", |kind| matches!(kind, Kind::Synced(_)).then_some(())).await;
        let chat = ChatId::direct(writer.user(), deaf.user());

        let memory = node.memory();
        let began = Instant::now();
        send_all(&mut from, &deaf).await;
        let took = began.elapsed();
        let growth = node.memory().saturating_sub(memory);
        pair.check("ten thousand messages for somebody who does not read").await;
        assert!(growth < GROWTH_BYTES_MAX, "the node has grown by {growth} bytes");

        // It reads again, acknowledges, and has everything in order: from the inbox, since it fell behind.
        let began = Instant::now();
        let (mut next, mut since_ack) = (1, 0);
        while next <= UNREAD {
            let deliver = to
                .expect("everything that was sent", |kind| match kind {
                    Kind::Deliver(deliver) => Some(deliver),
                    _ => None,
                })
                .await;
            assert!(deliver.seq <= next, "{} in place of {next}", deliver.seq);
            if deliver.seq == next {
                next += 1;
            }
            since_ack += 1;
            if since_ack == 64 || next > UNREAD {
                to.request(ack(chat, deliver.seq)).await;
                since_ack = 0;
            }
        }
        to.expect("synced", |kind| matches!(kind, Kind::Synced(_)).then_some(())).await;
        println!(
            "{UNREAD} messages taken in {took:.1?}, the node grew by {} KiB; read later in {:.1?}; {}",
            growth / 1024,
            began.elapsed(),
            pair.finish().await,
        );
    });
}

/// Sends all the messages, as many at a time as are allowed.
async fn send_all(from: &mut Raw, deaf: &Person) {
    let (mut next, mut answered) = (1, 0);
    while answered < UNREAD {
        while next <= UNREAD && next - answered <= 64 {
            from.request(send(next, deaf.user(), vec![b'.'; UNREAD_BYTES])).await;
            next += 1;
        }
        let seq = from
            .expect("sent", |kind| match kind {
                Kind::Sent(sent) => Some(sent.seq),
                Kind::Error(error) => panic!("a send was refused: {error:?}"),
                _ => None,
            })
            .await;
        answered += 1;
        assert_eq!(seq, answered);
    }
}

#[test]
fn who_reads_nothing_while_answers_wait_is_cut_off_and_keeps_nothing_busy() {
    run(LIMIT, async {
        let node = setup().start().await;
        let mut pair = Pair::start(&node).await;
        let mut person = Person::new("asks-only");
        let mut raw = Raw::register(&node, Over::Tls, &mut person).await;
        for number in 1..=20 {
            raw.ask(send(number, person.user(), vec![b'.'; 60_000])).await.unwrap();
        }
        let memory = node.memory();
        let before = node.metrics().await;
        // Each page has 96 KiB. They are asked for and never read; the socket takes what it takes.
        let chat = ChatId::direct(person.user(), person.user());
        let page = columba_wire::v1::GetHistory { chat_id: crate::raw::id(chat.as_bytes()), before_seq: 0, limit: 100 };
        let kind = columba_wire::v1::client_frame::Kind::GetHistory(page);
        let frame = crate::link::message(BINARY, &encode(&ClientFrame { request_id: 9, kind: Some(kind) }));
        let asking = async {
            // Far more than the buffers of both sockets take.
            for _ in 0..1_000_000 {
                raw.link.send_bytes(&frame).await;
            }
        };
        // The node stops to read, so the asker is stopped as well.
        assert!(tokio::time::timeout(Duration::from_secs(5), asking).await.is_err(), "all was read");
        let growth = node.memory().saturating_sub(memory);
        pair.check("somebody who only asks").await;
        let gone = async || {
            let metrics = node.metrics().await;
            (metrics.get("sessions_open") < before.get("sessions_open")).then_some(())
        };
        until("it is cut off", PATIENCE * 2, gone).await;
        assert!(growth < GROWTH_BYTES_MAX, "the node has grown by {growth} bytes");
        println!("the node grew by {} KiB; {}", growth / 1024, pair.finish().await);
    });
}
