//! Pushing, holding and falling behind, without a clock or a disk.

use bytes::Bytes;
use columba_engine::{env::Instant, ids::CoreId};
use columba_wire::limits::UNACKED_MAX;

use super::*;
use crate::{core::message::SessionId, delivery::HELD_MAX};

const USER: UserId = UserId::from_bytes([1; 16]);
const SENDER: DeviceAddress = DeviceAddress { user: UserId::from_bytes([2; 16]), device: DeviceId::FIRST };
const ME: DeviceAddress = DeviceAddress { user: USER, device: DeviceId::FIRST };
const CHAT: ChatId = ChatId::from_bytes([9; 16]);
const SESSION: SessionRef = SessionRef { core: CoreId::ZERO, session: SessionId(1) };
const NOW: Instant = Instant::START;

/// A user with one device, live.
fn live() -> Live {
    let (mut live, mut out) = (Live::default(), Vec::new());
    live.attach(ME, SESSION, &mut out);
    live.deliver(USER, delivery(1), NOW, &mut out);
    live.handle_devices(USER, Some(vec![ME.device]), NOW, &mut out);
    assert!(live.go_live(ME, NOW, &mut out));
    let pushed = pushed(&out);
    assert_eq!(pushed, [1]);
    live.ack(ME, SESSION, CHAT, MessageSeq::new(1), NOW, &mut out);
    live
}

fn delivery(seq: u64) -> Delivery {
    let message = StoredMessage {
        seq: MessageSeq::new(seq),
        sender: SENDER,
        client_seq: columba_wire::ClientSeq::new(seq),
        time_ms: 0,
        body: Bytes::from_static(b"x"),
    };
    Delivery { chat: CHAT, prev: MessageSeq::new(seq - 1), fresh: true, messages: vec![message] }
}

fn pushed(out: &[LiveOutput]) -> Vec<u64> {
    let seq = |output: &LiveOutput| match output {
        LiveOutput::Push(_, _, message) => Some(message.seq.get()),
        _ => None,
    };
    out.iter().filter_map(seq).collect()
}

#[test]
fn what_a_device_has_no_room_for_follows_its_acknowledgements_in_order() {
    let (mut live, mut out) = (live(), Vec::new());
    let window = UNACKED_MAX as u64;
    let last = 1 + window + 500;
    for seq in 2..=last {
        live.deliver(USER, delivery(seq), NOW, &mut out);
    }
    assert_eq!(pushed(&out), Vec::from_iter(2..=1 + window), "the window is full");
    assert!(!live.has_appends(), "the inbox is for who falls behind");
    out.clear();
    live.ack(ME, SESSION, CHAT, MessageSeq::new(101), NOW, &mut out);
    assert_eq!(pushed(&out), Vec::from_iter(2 + window..=101 + window));
    // What comes now goes behind what is held.
    out.clear();
    live.deliver(USER, delivery(last + 1), NOW, &mut out);
    assert!(pushed(&out).is_empty());
    live.ack(ME, SESSION, CHAT, MessageSeq::new(101 + window), NOW, &mut out);
    assert_eq!(pushed(&out), Vec::from_iter(102 + window..=last + 1));
}

#[test]
fn a_device_that_falls_too_far_behind_finds_everything_in_its_inbox() {
    let (mut live, mut out) = (live(), Vec::new());
    let last = 1 + (UNACKED_MAX + HELD_MAX) as u64 + 1;
    for seq in 2..=last {
        live.deliver(USER, delivery(seq), NOW, &mut out);
    }
    assert!(out.contains(&LiveOutput::StartSync(ME, SESSION)));
    let appends = live.take_appends();
    assert_eq!(appends, [InboxAppend { device: ME, chat: CHAT, from: MessageSeq::new(2), to: MessageSeq::new(last) }]);
    // Not live again before the entry is there.
    assert!(!live.go_live(ME, NOW, &mut out));
    live.handle_inboxed(ME, CHAT, MessageSeq::new(last), &mut out);
    // What comes meanwhile is held; the device has caught up only when it has that too.
    live.deliver(USER, delivery(last + 1), NOW, &mut out);
    out.clear();
    assert!(live.go_live(ME, NOW, &mut out));
    assert!(!out.contains(&LiveOutput::Synced(SESSION)));
    live.ack(ME, SESSION, CHAT, MessageSeq::new(last), NOW, &mut out);
    assert_eq!(pushed(&out), [last + 1]);
    assert!(out.contains(&LiveOutput::Synced(SESSION)));
}

#[test]
fn a_device_that_acknowledges_nothing_finds_everything_in_its_inbox_in_time() {
    let (mut live, mut out) = (live(), Vec::new());
    live.deliver(USER, delivery(2), NOW, &mut out);
    live.handle_timeout_at(NOW + ACK_WAIT, &mut out);
    let appends = live.take_appends();
    assert_eq!(appends, [InboxAppend { device: ME, chat: CHAT, from: MessageSeq::new(2), to: MessageSeq::new(2) }]);
}
