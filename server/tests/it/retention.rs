//! How long messages are kept, as people see it.

use core::time::Duration;

use columba_wire::{
    ChatId,
    v1::{self, client_frame::Kind as Request, server_frame::Kind},
};

use crate::{
    link::Over,
    node::{PATIENCE, run, setup, until},
    raw::{Person, Raw, ack, id, send},
};

async fn synced(raw: &mut Raw) {
    raw.expect("synced", |kind| matches!(kind, Kind::Synced(_)).then_some(())).await;
}

async fn delivery(raw: &mut Raw) -> u64 {
    let seq = |kind| if let Kind::Deliver(deliver) = kind { Some(deliver.seq) } else { None };
    raw.expect("a delivery", seq).await
}

/// All of a chat's history, newest first, a few messages at a time.
async fn history(raw: &mut Raw, chat: ChatId) -> Vec<u64> {
    let (mut seqs, mut before_seq) = (Vec::new(), 0);
    loop {
        let page = v1::GetHistory { chat_id: id(chat.as_bytes()), before_seq, limit: 3 };
        let Ok(Kind::History(page)) = raw.ask(Request::GetHistory(page)).await else { panic!("no history") };
        seqs.extend(page.messages.iter().map(|message| message.seq));
        if page.complete {
            return seqs;
        }
        before_seq = *seqs.last().expect("a page that is not the last has messages");
    }
}

/// Waits until history is as expected.
async fn kept(raw: &mut Raw, chat: ChatId, expected: &[u64]) {
    let is_kept = async || (history(raw, chat).await == expected).then_some(());
    until(&format!("only {expected:?} are kept"), PATIENCE, is_kept).await;
}

#[test]
fn what_both_have_is_deleted_and_what_waits_is_delivered_after_a_restart() {
    run(Duration::from_secs(120), async {
        let mut node = setup().cores(2).set("retention", "until-delivered").fixed_port().start().await;
        let (mut ada, mut bob) = (Person::new("ada"), Person::new("bob"));
        let mut a = Raw::register(&node, Over::Tls, &mut ada).await;
        let mut b = Raw::register(&node, Over::Tls, &mut bob).await;
        synced(&mut a).await;
        synced(&mut b).await;
        let chat = ChatId::direct(ada.user(), bob.user());
        for number in 1..=10 {
            a.ask(send(number, bob.user(), vec![b'.'; 100])).await.unwrap();
            assert_eq!(delivery(&mut b).await, number);
        }
        assert_eq!(history(&mut b, chat).await, Vec::from_iter((1..=10).rev()), "nothing is acknowledged");
        b.request(ack(chat, 7)).await;
        kept(&mut a, chat, &[10, 9, 8]).await;
        b.request(ack(chat, 10)).await;
        kept(&mut b, chat, &[]).await;

        // The other way round: each has what he has sent himself.
        b.ask(send(1, ada.user(), "back")).await.unwrap();
        assert_eq!(delivery(&mut a).await, 11);
        kept(&mut a, chat, &[11]).await;
        a.request(ack(chat, 11)).await;
        kept(&mut b, chat, &[]).await;

        drop(b);
        for number in 12..=14 {
            a.ask(send(number, bob.user(), "for later")).await.unwrap();
        }
        let metrics = async || (node.metrics().await.get("inbox_entries_total") > 0).then_some(());
        until("they wait in the inbox", PATIENCE, metrics).await;
        assert_eq!(history(&mut a, chat).await, [14, 13, 12]);
        node.kill();
        node.start().await;
        let mut a = Raw::login(&node, Over::Tls, &ada).await;
        let mut b = Raw::login(&node, Over::Tls, &bob).await;
        for seq in 12..=14 {
            assert_eq!(delivery(&mut b).await, seq);
        }
        synced(&mut b).await;
        assert_eq!(history(&mut b, chat).await, [14, 13, 12]);
        b.request(ack(chat, 14)).await;
        kept(&mut a, chat, &[]).await;
        // The seqs go on.
        a.ask(send(15, bob.user(), "and on")).await.unwrap();
        assert_eq!(delivery(&mut b).await, 15);
    });
}

#[test]
fn a_node_that_is_told_otherwise_keeps_from_then_on() {
    run(Duration::from_secs(120), async {
        let mut node = setup().fixed_port().start().await;
        let (mut ada, mut bob) = (Person::new("ada"), Person::new("bob"));
        let mut a = Raw::register(&node, Over::Tls, &mut ada).await;
        let mut b = Raw::register(&node, Over::Tls, &mut bob).await;
        synced(&mut a).await;
        synced(&mut b).await;
        let chat = ChatId::direct(ada.user(), bob.user());
        for (number, retention, expected) in [
            (1, "until-delivered:1d", &[1][..]),
            (2, "history:365d", &[]),
            (3, "history", &[3]),
            (4, "history", &[4, 3]),
        ] {
            a.ask(send(number, bob.user(), "hello")).await.unwrap();
            assert_eq!(delivery(&mut b).await, number);
            b.request(ack(chat, number)).await;
            b.ask(Request::Ping(v1::Ping {})).await.unwrap();
            kept(&mut a, chat, expected).await;
            // Everything that was acknowledged becomes durable with the end of the process.
            node.terminate();
            node.ended().await;
            node.set_env("COLUMBA_RETENTION", retention);
            node.start().await;
            a = Raw::login(&node, Over::Tls, &ada).await;
            b = Raw::login(&node, Over::Tls, &bob).await;
            synced(&mut a).await;
            synced(&mut b).await;
        }
    });
}
