//! Who sends too fast is told when to go on, loses nothing by it, and is in nobody else's way.

use core::time::Duration;
use std::collections::BTreeSet;

use columba_client::{Client, options::Transport};
use columba_wire::{Code, v1::server_frame::Kind};

use crate::{
    groups::three,
    node::{run, setup, soon},
    phone::options,
    raw::send,
};

const LIMIT: Duration = Duration::from_secs(120);
/// Sends beyond the burst of 512.
const SENDS: u64 = 700;
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
