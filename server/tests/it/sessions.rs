//! One device, one session; the node's own clock on silent ones.

use core::time::Duration;

use columba_wire::{
    ChatId, Code,
    v1::{self, client_frame::Kind as Request, server_frame::Kind},
};

use crate::{
    link::{ALL_TRANSPORTS, Over},
    node::{run, setup},
    raw::{Person, Raw, ack, id, send},
};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_newer_session_takes_over_from_the_older_one_without_losing_a_message() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let (mut ada, mut bob) = (Person::new("ada"), Person::new("bob"));
        let mut a = Raw::register(&node, Over::Tls, &mut ada).await;
        let mut old = Raw::register(&node, Over::Tls, &mut bob).await;
        let chat = ChatId::direct(ada.user(), bob.user());
        let mut last = 0;
        for over in ALL_TRANSPORTS.into_iter().cycle().take(12) {
            let before = last;
            for _ in 0..20 {
                last += 1;
                a.ask(send(last, bob.user(), "on and on")).await.unwrap();
            }
            let mut new = Raw::login(&node, over, &bob).await;
            assert_eq!(old.ended().await, Some(Code::Replaced), "{over:?}");
            // The new one gets all that the old one has not acknowledged, in order; perhaps what it has, once more.
            let (mut next, mut first) = (before + 1, None);
            while next <= last {
                let seq = new.expect("a delivery", |kind| match kind {
                    Kind::Deliver(deliver) => Some(deliver.seq),
                    _ => None,
                });
                let seq = seq.await;
                assert!(
                    seq <= next && first.is_none_or(|before| seq == before + 1),
                    "{over:?}: {seq} in place of {next}"
                );
                first = Some(seq);
                next = next.max(seq + 1);
            }
            new.request(ack(chat, last)).await;
            new.ask(Request::Ping(v1::Ping {})).await.unwrap();
            old = new;
        }
    });
}

#[test]
fn a_retry_is_recognised_after_any_number_of_reconnects() {
    run(LIMIT, async {
        let node = setup().start().await;
        let (mut ada, mut bob) = (Person::new("ada"), Person::new("bob"));
        let mut a = Raw::register(&node, Over::Tls, &mut ada).await;
        drop(Raw::register(&node, Over::Tls, &mut bob).await);
        for number in 1..=64 {
            a.ask(send(number, bob.user(), "once")).await.unwrap();
        }
        for over in ALL_TRANSPORTS {
            let mut a = Raw::login(&node, over, &ada).await;
            for number in 1..=64 {
                let Ok(Kind::Sent(sent)) = a.ask(send(number, bob.user(), "once")).await else { panic!("not sent") };
                assert_eq!((sent.seq, sent.duplicate), (number, true));
            }
        }
        // The window moves: what has left it cannot be told from new, and is refused.
        let mut a = Raw::login(&node, Over::Tls, &ada).await;
        a.ask(send(65, bob.user(), "once")).await.unwrap();
        assert_eq!(a.ask(send(1, bob.user(), "once")).await, Err(Code::ClientSeqTooOld));
        let page = v1::GetHistory {
            chat_id: id(ChatId::direct(ada.user(), bob.user()).as_bytes()),
            before_seq: 0,
            limit: 100,
        };
        let Ok(Kind::History(history)) = a.ask(Request::GetHistory(page)).await else { panic!("no history") };
        assert_eq!((history.messages.len(), history.complete), (65, true));
    });
}

#[test]
fn notes_to_oneself_are_stored_and_read_back_but_not_delivered_to_their_writer() {
    run(LIMIT, async {
        let node = setup().start().await;
        let mut ada = Person::new("ada");
        let mut a = Raw::register(&node, Over::Quic, &mut ada).await;
        a.expect("synced", |kind| matches!(kind, Kind::Synced(_)).then_some(())).await;
        for number in 1..=3 {
            let Ok(Kind::Sent(sent)) = a.ask(send(number, ada.user(), "note")).await else { panic!("not sent") };
            assert_eq!(sent.seq, number);
        }
        let mut again = Raw::login(&node, Over::Tls, &ada).await;
        let first = again.expect("synced", |kind| match kind {
            Kind::Deliver(deliver) => Some(Some(deliver.seq)),
            Kind::Synced(_) => Some(None),
            _ => None,
        });
        assert_eq!(first.await, None);
    });
}
