//! Delivery to who was away, receipts, and what delivery costs.

use core::time::Duration;

use columba_wire::{
    ChatId,
    frame::decode_server,
    v1::{self, client_frame::Kind as Request, server_frame::Kind},
    version::CATCH_UP_STREAM,
};
use tokio::time::Instant;

use crate::{
    link::{ALL_TRANSPORTS, CatchUp, Link, Over, TRANSPORTS},
    node::{Node, PATIENCE, run, setup, soon, until},
    raw::{Person, Raw, ack, id, send},
};

const LIMIT: Duration = Duration::from_secs(120);
/// Messages that wait for who was away.
const WAITING: u64 = 2_000;
/// Messages whose cost is counted.
const COUNTED: u64 = 500;

async fn synced(raw: &mut Raw) {
    raw.expect("synced", |kind| matches!(kind, Kind::Synced(_)).then_some(())).await;
}

/// Waits until receipts about somebody have told so much. Each tells the newest that its teller knows: what counts is
/// the maximum.
async fn receipt(raw: &mut Raw, about: &Person, delivered: u64, read: u64) {
    let user = id(about.user().as_bytes());
    let mut known = (0, 0);
    let mut enough = |kind| match kind {
        Kind::Receipt(receipt) if receipt.user_id == user => {
            known = (receipt.delivered_seq.max(known.0), receipt.read_seq.max(known.1));
            (known.0 >= delivered && known.1 >= read).then_some(known)
        }
        _ => None,
    };
    assert_eq!(raw.expect("a receipt", &mut enough).await, (delivered, read), "more is told than happened");
}

/// Logs in and takes what comes until synced: the seqs.
async fn waiting(node: &Node, over: Over, person: &Person) -> (Raw, Vec<u64>) {
    let mut raw = Raw::login(node, over, person).await;
    let mut seqs = Vec::new();
    loop {
        let next = raw.expect("deliveries, then synced", |kind| match kind {
            Kind::Deliver(deliver) => Some(Some(deliver.seq)),
            Kind::Synced(_) => Some(None),
            _ => None,
        });
        match next.await {
            Some(seq) => seqs.push(seq),
            None => return (raw, seqs),
        }
    }
}

/// What was acknowledged does not come again, once the node has had a moment to forget it.
async fn nothing_waits(node: &Node, person: &Person) {
    let empty = async || {
        let mut raw = Raw::login(node, Over::Plain, person).await;
        let first = raw.expect("a delivery, or synced", |kind| match kind {
            Kind::Deliver(_) => Some(None),
            Kind::Synced(_) => Some(Some(())),
            _ => None,
        });
        first.await
    };
    until("nothing comes again", PATIENCE, empty).await;
}

/// Sends messages to somebody, a window at a time.
async fn send_many(from: &mut Raw, to: &Person, range: core::ops::RangeInclusive<u64>) {
    let (first, last) = (*range.start(), *range.end());
    let (mut next, mut answered) = (first, first - 1);
    while answered < last {
        while next <= last && next - answered <= 64 {
            from.request(send(next, to.user(), next.to_be_bytes().to_vec())).await;
            next += 1;
        }
        let seq = from.expect("sent", |kind| match kind {
            Kind::Sent(sent) => Some(sent.seq),
            Kind::Error(error) => panic!("a send was refused: {error:?}"),
            _ => None,
        });
        answered += 1;
        assert_eq!(seq.await, answered);
    }
}

#[test]
fn who_was_away_gets_everything_in_order_and_the_senders_get_their_ticks() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let (mut ada, mut bob) = (Person::new("ada"), Person::new("bob"));
        let mut a = Raw::register(&node, Over::Tls, &mut ada).await;
        let b = Raw::register(&node, Over::Tls, &mut bob).await;
        drop(b);
        let chat = ChatId::direct(ada.user(), bob.user());
        send_many(&mut a, &bob, 1..=WAITING).await;

        let began = Instant::now();
        let mut b = Raw::login(&node, Over::Quic, &bob).await;
        let mut next = 1;
        loop {
            let frame = b.expect("deliveries, then synced", |kind| match kind {
                Kind::Deliver(deliver) => Some(Some(deliver)),
                Kind::Synced(_) => Some(None),
                _ => None,
            });
            let Some(deliver) = frame.await else { break };
            assert_eq!(deliver.seq, next, "in order, each once");
            assert_eq!((&deliver.chat_id[..], &deliver.body[..]), (&chat.as_bytes()[..], &next.to_be_bytes()[..]));
            next += 1;
            if deliver.seq % 50 == 0 {
                b.request(ack(chat, deliver.seq)).await;
            }
        }
        assert_eq!(next - 1, WAITING, "synced before everything had come");
        println!("{WAITING} messages caught up in {:.1?}", began.elapsed());

        receipt(&mut a, &bob, WAITING, 0).await;
        let read = |seq| Request::Read(v1::Read { chat_id: id(chat.as_bytes()), seq });
        let mut told = a;
        for (says, then) in [(WAITING - 1, WAITING - 1), (1, WAITING - 1), (WAITING, WAITING)] {
            b.ask(read(says)).await.unwrap();
            let receipts = told.ask(Request::GetReceipts(v1::GetReceipts { chat_id: id(chat.as_bytes()) })).await;
            let Ok(Kind::Receipts(receipts)) = receipts else { panic!("{receipts:?}") };
            let of_bob = receipts.members.iter().find(|member| member.user_id == id(bob.user().as_bytes())).unwrap();
            assert_eq!((receipts.last_seq, receipts.members.len(), of_bob.read_seq), (WAITING, 2, then));
        }
        let read_all = |kind| matches!(kind, Kind::Receipt(receipt) if receipt.read_seq == WAITING).then_some(());
        told.expect("the last is read", read_all).await;
        nothing_waits(&node, &bob).await;
    });
}

#[test]
fn what_was_not_acknowledged_comes_again_and_what_was_does_not() {
    run(LIMIT, async {
        let node = setup().start().await;
        let (mut ada, mut bob) = (Person::new("ada"), Person::new("bob"));
        let mut a = Raw::register(&node, Over::Tls, &mut ada).await;
        let mut b = Raw::register(&node, Over::Tls, &mut bob).await;
        synced(&mut b).await;
        let chat = ChatId::direct(ada.user(), bob.user());
        send_many(&mut a, &bob, 1..=100).await;
        let mut acked = 0;
        for over in TRANSPORTS {
            let (mut session, came) = waiting(&node, over, &bob).await;
            // What was acknowledged may come again, what was not must.
            let first = came.first().copied().unwrap_or(u64::MAX);
            assert!(first <= acked + 1, "{over:?}: begins at {first} after {acked}");
            assert!(came.iter().copied().eq(first..=100), "{over:?}: {came:?}");
            acked += 30;
            session.request(ack(chat, acked)).await;
            // An answer behind it says that it was taken.
            session.ask(Request::Ping(v1::Ping {})).await.unwrap();
        }
        let (mut session, _) = waiting(&node, Over::Quic, &bob).await;
        session.request(ack(chat, 100)).await;
        receipt(&mut a, &bob, 100, 0).await;
        nothing_waits(&node, &bob).await;
    });
}

#[test]
fn a_message_acknowledged_at_once_costs_one_durable_write_and_no_inbox() {
    run(LIMIT, async {
        let node = setup().start().await;
        let (mut ada, mut bob) = (Person::new("ada"), Person::new("bob"));
        let mut a = Raw::register(&node, Over::Tls, &mut ada).await;
        let mut b = Raw::register(&node, Over::Quic, &mut bob).await;
        synced(&mut b).await;
        let chat = ChatId::direct(ada.user(), bob.user());
        // The first message makes the chat; what follows is the rule.
        for number in 1..=COUNTED + 1 {
            a.request(send(number, bob.user(), vec![b'.'; 150])).await;
            let seq = b.expect("a delivery", |kind| match kind {
                Kind::Deliver(deliver) => Some(deliver.seq),
                _ => None,
            });
            assert_eq!(seq.await, number);
            b.request(ack(chat, number)).await;
            a.expect("sent", |kind| matches!(kind, Kind::Sent(_)).then_some(())).await;
            if number == 1 {
                b.ask(Request::Ping(v1::Ping {})).await.unwrap();
            }
        }
        let acks = async || {
            let metrics = node.metrics().await;
            (metrics.get("acks_total") > COUNTED).then_some(metrics)
        };
        let metrics = until("all are acknowledged", PATIENCE, acks).await;
        assert_eq!(metrics.get("sent_total"), COUNTED + 1);
        assert_eq!(metrics.get("inbox_appends_total"), 0, "nothing went through the inbox");
        assert_eq!(metrics.get("catchup_messages_total"), 0);
        let per_message = |name| metrics.get(name) as f64 / (COUNTED + 1) as f64;
        println!(
            "per message, one at a time: {:.2} durable writes, {:.0} bytes, {:.2} records, {:.2} fan-out advances; \
             {:.2} frames out in {:.2} flushes",
            per_message("journal_writes_total"),
            per_message("journal_bytes_total"),
            per_message("journal_records_total"),
            per_message("fanout_advances_total"),
            per_message("frames_out_total"),
            per_message("socket_flushes_total"),
        );
    });
}

/// The next message that waited, or `None` for `Synced`.
async fn waited(stream: &mut CatchUp) -> Option<v1::Deliver> {
    let frame = soon("what waited", stream.receive()).await.expect("the stream is open");
    match decode_server(frame).unwrap().kind {
        Some(Kind::Deliver(deliver)) => Some(deliver),
        Some(Kind::Synced(_)) => None,
        other => panic!("not what waited: {other:?}"),
    }
}

/// The next message.
async fn message(raw: &mut Raw) -> v1::Deliver {
    raw.expect("a message", |kind| if let Kind::Deliver(deliver) = kind { Some(deliver) } else { None }).await
}

#[test]
fn what_waits_has_a_quic_stream_of_its_own_and_holds_up_nothing_that_is_said_meanwhile() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let [mut ada, mut bob, mut carl] = ["ada", "bob", "carl"].map(Person::new);
        let mut a = Raw::register(&node, Over::Tls, &mut ada).await;
        let mut c = Raw::register(&node, Over::Plain, &mut carl).await;
        drop(Raw::register(&node, Over::Tls, &mut bob).await);
        send_many(&mut a, &bob, 1..=WAITING).await;
        let (waits, is_said) = (ChatId::direct(ada.user(), bob.user()), ChatId::direct(carl.user(), bob.user()));

        let mut b = Raw::connect(&node, Over::Quic).await;
        assert_eq!(b.login_with(&bob, CATCH_UP_STREAM | 1 << 40).await, CATCH_UP_STREAM, "of those both have");
        let Link::Quic(quic) = &b.link else { panic!("over QUIC") };
        let mut stream = soon("the stream", quic.catch_up()).await;
        // Nothing is acknowledged: what waits comes to a halt.
        let mut next = 1;
        let take = |deliver: v1::Deliver, next: &mut u64| {
            assert_eq!((&deliver.chat_id[..], deliver.seq), (&waits.as_bytes()[..], *next), "in order, each once");
            *next += 1;
        };
        take(waited(&mut stream).await.expect("a message before synced"), &mut next);
        for number in 1..=3 {
            c.request(send(number, bob.user(), b"now".to_vec())).await;
            let deliver = message(&mut b).await;
            assert_eq!((&deliver.chat_id[..], deliver.seq), (&is_said.as_bytes()[..], number));
        }
        // A message of the chat that waits comes behind what waits of it.
        a.ask(send(WAITING + 1, bob.user(), b"behind".to_vec())).await.unwrap();
        b.request(ack(is_said, 3)).await;
        while next <= WAITING + 1 {
            take(waited(&mut stream).await.expect("a message before synced"), &mut next);
            if next % 50 == 0 || next > WAITING {
                b.request(ack(waits, next - 1)).await;
            }
        }
        assert!(waited(&mut stream).await.is_none(), "more than what waited");
        // Nothing of the chat is under way on the other stream any more: what is said now comes by the first.
        receipt(&mut a, &bob, WAITING + 1, 0).await;
        a.request(send(WAITING + 2, bob.user(), b"live".to_vec())).await;
        let live = message(&mut b).await;
        assert_eq!((&live.chat_id[..], live.seq), (&waits.as_bytes()[..], WAITING + 2));
        b.request(ack(waits, WAITING + 2)).await;
        drop(b);
        nothing_waits(&node, &bob).await;
    });
}

#[test]
fn where_all_goes_one_way_what_waits_holds_up_no_other_chat_either() {
    run(LIMIT, async {
        let node = setup().start().await;
        for over in ALL_TRANSPORTS {
            let [mut ada, mut bob, mut carl] =
                ["ada", "bob", "carl"].map(|name| Person::new(&format!("{name}-{over:?}").to_lowercase()));
            let mut a = Raw::register(&node, Over::Tls, &mut ada).await;
            let mut c = Raw::register(&node, Over::Plain, &mut carl).await;
            drop(Raw::register(&node, Over::Tls, &mut bob).await);
            send_many(&mut a, &bob, 1..=WAITING).await;
            let (waits, is_said) = (ChatId::direct(ada.user(), bob.user()), ChatId::direct(carl.user(), bob.user()));

            let mut b = Raw::connect(&node, over).await;
            // Who has no streams has no use for one, whatever it says.
            let offers = if over == Over::Quic { 0 } else { CATCH_UP_STREAM };
            assert_eq!(b.login_with(&bob, offers).await, 0, "{over:?}");
            assert_eq!(message(&mut b).await.seq, 1, "{over:?}");
            c.request(send(1, bob.user(), b"now".to_vec())).await;
            let mut next = 2;
            loop {
                let deliver = message(&mut b).await;
                if deliver.chat_id[..] == is_said.as_bytes()[..] {
                    break;
                }
                assert_eq!((&deliver.chat_id[..], deliver.seq), (&waits.as_bytes()[..], next), "{over:?}");
                next += 1;
            }
            assert!(next < WAITING, "{over:?}: it came behind all that waited");
            b.request(ack(is_said, 1)).await;
            b.request(ack(waits, next - 1)).await;
            while next <= WAITING {
                assert_eq!(message(&mut b).await.seq, next, "{over:?}");
                if next % 50 == 0 || next == WAITING {
                    b.request(ack(waits, next)).await;
                }
                next += 1;
            }
            synced(&mut b).await;
        }
    });
}
