//! Who sends too fast is told when to go on, loses nothing by it, and is in nobody else's way.

use core::time::Duration;
use std::collections::BTreeSet;

use bytes::Bytes;
use columba_client::{Client, options::Transport};
use columba_wire::{
    ChatId, Code,
    v1::{self, client_frame::Kind as Request, server_frame::Kind},
};
use futures_util::future::join_all;

use crate::{
    groups::{Member, changing, create, three},
    link::Over,
    node::{run, setup, soon},
    phone::options,
    raw::{id, send},
};

const LIMIT: Duration = Duration::from_secs(120);
/// Sends beyond the burst of 512.
const SENDS: u64 = 700;
/// Sends of each of five.
const SHOUTS: u64 = 500;
/// Unanswered sends.
const WINDOW: u64 = 60;

#[test]
fn who_sends_too_fast_is_told_when_to_go_on_and_others_are_not() {
    run(LIMIT, async {
        let node = setup().set("limits.loopback", "true").start().await;
        let [mut ada, mut bob, cyd] = three(&node).await;
        let (mut next, mut open, mut stored, mut refused) = (1, BTreeSet::new(), 0u64, 0u64);
        while stored + refused < SENDS {
            while next <= SENDS && (open.len() as u64) < WINDOW {
                open.insert(ada.raw.request(send(next, cyd.user(), "again")).await);
                next += 1;
            }
            let frame = ada.raw.receive().await.expect("an answer");
            if !open.remove(&frame.request_id) {
                continue;
            }
            match frame.kind {
                Some(Kind::Sent(_)) => stored += 1,
                Some(Kind::Error(error)) => {
                    assert_eq!(error.code, Code::RateLimited.number());
                    assert!((1..=1_300).contains(&error.retry_after_ms), "{error:?}");
                    refused += 1;
                    if refused == 1 {
                        bob.raw.ask(send(1, cyd.user(), "mine goes through")).await.unwrap();
                    }
                }
                other => panic!("another answer: {other:?}"),
            }
        }
        assert!(stored >= 512 && refused > 0, "{stored} were stored, {refused} refused");
    });
}

/// Makes a group with this client seq: its id.
async fn make(member: &mut Member, client_seq: u64) -> Result<Bytes, Code> {
    match member.raw.ask(Request::Send(changing(client_seq, None, create("a group", &[])))).await? {
        Kind::Sent(sent) => Ok(sent.chat_id),
        other => panic!("another answer: {other:?}"),
    }
}

/// Sends as many messages to a group as a device may in a row, but for a few: how many are refused for the rate.
async fn shout(member: &mut Member, chat: ChatId) -> usize {
    let mut refused = 0;
    let (mut next, mut answered) = (0, 0);
    while answered < SHOUTS {
        while next < SHOUTS && next - answered < WINDOW {
            let (client_seq, chat_id) = (1_000 + next, id(chat.as_bytes()));
            let body = Bytes::from_static(b"!");
            member.raw.request(Request::Send(v1::Send { client_seq, chat_id, body, ..v1::Send::default() })).await;
            next += 1;
        }
        refused += member
            .raw
            .expect("an answer", |kind| match kind {
                Kind::Sent(_) => Some(0),
                Kind::Error(error) if error.code == Code::RateLimited.number() => Some(1),
                Kind::Error(error) => panic!("another error: {error:?}"),
                _ => None,
            })
            .await;
        answered += 1;
    }
    refused
}

#[test]
fn a_new_connection_has_no_burst_of_its_own() {
    run(LIMIT, async {
        let node = setup().cores(1).set("limits.loopback", "true").start().await;
        let [mut ada, _bob, cyd] = three(&node).await;
        let mut client_seq = 0;
        let mut is_refused = async |ada: &mut Member| {
            client_seq += 1;
            ada.raw.ask(send(client_seq, cyd.user(), "more")).await.is_err_and(|code| code == Code::RateLimited)
        };
        // One at a time may be slower than the rate: what is refused at last is not said to be the 513th.
        let mut sent = 0;
        while !is_refused(&mut ada).await {
            sent += 1;
            if sent % 100 == 0 {
                ada.come_back(&node).await;
            }
            assert!(sent < 20_000, "no rate is met");
        }
        assert!(sent >= 512, "{sent}");
    });
}

#[test]
fn so_many_chats_are_begun_and_those_that_are_go_on() {
    run(LIMIT, async {
        let node = setup().cores(1).set("limits.loopback", "true").start().await;
        let [mut ada, bob, mut cyd] = three(&node).await;
        ada.raw.ask(send(1, bob.user(), "hello")).await.unwrap();
        let mut last = None;
        for number in 2..=64 {
            last = Some(make(&mut ada, number).await.unwrap());
        }
        // The 65th within a minute. A retry of what is stored is none, and neither is a message to a chat that is.
        assert_eq!(make(&mut ada, 65).await, Err(Code::RateLimited));
        assert_eq!(make(&mut ada, 64).await, Ok(last.unwrap()));
        ada.raw.ask(send(66, bob.user(), "and more")).await.unwrap();
        assert!(matches!(ada.raw.ask(send(67, cyd.user(), "hello")).await, Err(Code::RateLimited)));
        make(&mut cyd, 1).await.unwrap();
    });
}

#[test]
fn a_chat_takes_so_much_whoever_sends() {
    run(LIMIT, async {
        let node = setup().cores(1).set("limits.loopback", "true").start().await;
        let mut members = Vec::new();
        for number in 0..5 {
            members.push(Member::register(&node, Over::Plain, &format!("member-{number}")).await);
        }
        let others: Vec<_> = members[1..].iter().map(Member::user).collect();
        let chat = members[0].create("loud", &others).await;
        let refused: usize = join_all(members.iter_mut().map(|member| shout(member, chat))).await.into_iter().sum();
        // None of them has sent more than a device may in a row.
        assert!(refused > 0, "no rate is met");
        let elsewhere = send(u64::MAX - 1, others[0], "elsewhere");
        members[0].raw.ask(elsewhere).await.expect("it is not the sender that is limited");
    });
}

#[test]
fn the_client_library_keeps_order_and_loses_nothing_where_it_is_too_fast() {
    run(LIMIT, async {
        let node = setup().set("limits.loopback", "true").start().await;
        let [_ada, mut bob, _cyd] = three(&node).await;
        let (dan, _events) = Client::connect(options(&node, Transport::Quic, None)).await.unwrap();
        soon("an account", dan.register("dan", "")).await.unwrap();
        for number in 1..=560u64 {
            dan.queue(bob.user(), number.to_string()).await.unwrap();
        }
        for number in 1..=560u64 {
            assert_eq!(bob.raw.delivered().await.body, number.to_string());
        }
    });
}
