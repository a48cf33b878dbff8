//! What the fan-out says is covered, had, and to be sent next.

use bytes::Bytes;
use columba_engine::partition::effect::MessageKind;
use columba_wire::{ClientSeq, DeviceAddress, DeviceId};

use super::*;
use crate::delivery::HINTED_FROM_MEMBERS;

const ADA: UserId = UserId::from_bytes([1; 16]);
const BOB: UserId = UserId::from_bytes([2; 16]);
const CHAT: ChatId = ChatId::from_bytes([9; 16]);

fn message(seq: u64) -> StoredMessage {
    let sender = DeviceAddress { user: ADA, device: DeviceId::FIRST };
    let client_seq = ClientSeq::new(seq);
    StoredMessage {
        seq: MessageSeq::new(seq),
        sender,
        client_seq,
        time_ms: 0,
        kind: MessageKind::Client,
        body: Bytes::new(),
    }
}

/// Ten messages, of which nobody was sent any.
fn behind() -> Fanout {
    let mut fanout = Fanout::new(HINTED_FROM_MEMBERS);
    for seq in 1..=10 {
        fanout.handle_replayed(CHAT, &Members::Direct([ADA, BOB]), MessageSeq::new(seq), Instant::START);
    }
    fanout
}

#[test]
fn messages_that_are_deleted_are_passed_over_and_count_as_covered() {
    // What is there of 1 to 10, where the page ends; what goes out, before it, and what is covered then.
    for (there, next, sent, prev, covered) in [
        (vec![1, 2, 3], 4, vec![1, 2, 3], 0, 0),
        (vec![3, 4, 7], 11, vec![3, 4], 2, 2),
        (vec![10], 11, vec![10], 9, 9),
        (vec![], 11, vec![], 10, 10),
        (vec![], 1, vec![], 0, 0),
    ] {
        let (mut fanout, mut deliver) = (behind(), Vec::new());
        let (from, _) = fanout.plan_read(CHAT).unwrap();
        assert_eq!(from, MessageSeq::new(1));
        let messages = there.iter().copied().map(message).collect();
        fanout.handle_read(CHAT, from, &MessagePage { messages, next: MessageSeq::new(next) }, &mut deliver);
        for (_, delivery) in &deliver {
            assert!(delivery.fresh && delivery.prev == MessageSeq::new(prev), "{there:?}: {delivery:?}");
            let seqs: Vec<_> = delivery.messages.iter().map(|message| message.seq.get()).collect();
            assert_eq!(seqs, sent, "{there:?}");
        }
        assert_eq!(deliver.len(), if sent.is_empty() { 0 } else { 2 }, "{there:?}");
        let moved: Vec<_> = fanout.take_moved().iter().map(|item| item.covered.get()).collect();
        assert_eq!(moved, if covered == 0 { vec![] } else { vec![covered; 2] }, "{there:?}");
    }
}

#[test]
fn what_is_under_way_comes_before_what_is_deleted_behind_it() {
    let (mut fanout, mut deliver) = (behind(), Vec::new());
    let (from, _) = fanout.plan_read(CHAT).unwrap();
    let page = |from: u64| MessagePage {
        messages: (from..=3).chain([9, 10]).map(message).collect(),
        next: MessageSeq::new(11),
    };
    assert!(fanout.handle_read(CHAT, from, &page(1), &mut deliver));
    let (from, _) = fanout.plan_read(CHAT).unwrap();
    assert_eq!(from, MessageSeq::new(4));
    assert!(!fanout.handle_read(CHAT, from, &page(4), &mut deliver), "or it would read on and on");
    assert_eq!(deliver.len(), 2);
    let three = MessageSeq::new(3);
    assert!(fanout.handle_progress(CHAT, BOB, three, three, three, Instant::START), "there is more for Bob");
    let (from, _) = fanout.plan_read(CHAT).unwrap();
    fanout.handle_read(CHAT, from, &page(4), &mut deliver);
    let (user, delivery) = deliver.pop().unwrap();
    assert_eq!((user, delivery.prev, delivery.fresh, deliver.len()), (BOB, MessageSeq::new(8), true, 2));
}

#[test]
fn what_every_device_has_becomes_durable_with_or_without_a_record() {
    let mut fanout = behind();
    let [five, ten] = [5, 10].map(MessageSeq::new);
    fanout.handle_progress(CHAT, BOB, ten, ten, five, Instant::START);
    let item = Progress { chat: CHAT, user: BOB, covered: ten, delivered: ten, everywhere: five };
    assert_eq!(fanout.take_moved(), [item]);
    fanout.handle_advanced(CHAT, BOB, ten, ten, five);
    fanout.handle_progress(CHAT, BOB, ten, ten, ten, Instant::START);
    assert_eq!(fanout.take_moved(), [Progress { everywhere: ten, ..item }]);
    fanout.return_moved(&[Progress { everywhere: ten, ..item }]);
    fanout.handle_advanced(CHAT, BOB, ten, ten, ten);
    assert!(fanout.take_moved().is_empty());

    let mut fanout = behind();
    fanout.handle_progress(CHAT, BOB, five, five, MessageSeq::ZERO, Instant::START);
    fanout.handle_settled(CHAT, BOB);
    fanout.handle_progress(CHAT, BOB, ten, ten, MessageSeq::ZERO, Instant::START);
    assert_eq!(fanout.take_moved(), [item], "what was covered until it was settled");

    let mut fanout = Fanout::new(HINTED_FROM_MEMBERS);
    fanout.handle_settled(CHAT, BOB);
    let settled =
        Progress { covered: MessageSeq::ZERO, delivered: MessageSeq::ZERO, everywhere: MessageSeq::MAX, ..item };
    assert_eq!(fanout.take_moved(), [settled], "whatever the chat's row says that it is covered for");
    fanout.return_moved(&[settled]);
    fanout.handle_committed(CHAT, &Members::Direct([ADA, BOB]), &message(6), Instant::START, &mut Vec::new());
    let six = MessageSeq::new(6);
    fanout.handle_progress(CHAT, BOB, six, six, MessageSeq::ZERO, Instant::START);
    let covered = Progress { covered: six, delivered: six, everywhere: MessageSeq::ZERO, ..item };
    assert_eq!(fanout.take_moved(), [settled, covered], "before what is covered since");
    fanout.return_moved(&[settled, covered]);
    assert_eq!(fanout.take_moved(), [settled, covered]);

    let mut fanout = Fanout::new(HINTED_FROM_MEMBERS);
    fanout.handle_progress(CHAT, BOB, MessageSeq::ZERO, ten, five, Instant::START);
    let item = Progress { chat: CHAT, user: BOB, covered: MessageSeq::ZERO, delivered: ten, everywhere: five };
    assert_eq!(fanout.take_moved(), [item]);
    fanout.return_moved(&[item]);
    fanout.handle_progress(CHAT, BOB, MessageSeq::ZERO, five, ten, Instant::START);
    assert_eq!(fanout.take_moved(), [Progress { everywhere: ten, ..item }], "both only grow");
}
