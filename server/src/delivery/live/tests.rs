//! Pushing, holding and falling behind, without a clock or a disk.

use bytes::Bytes;
use columba_engine::{env::Instant, ids::CoreId, partition::effect::MessageKind};
use columba_wire::limits::UNACKED_MAX;

use super::*;
use crate::{
    core::message::SessionId,
    delivery::{HELD_MAX, HINT_MESSAGES_MAX},
};

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
        kind: MessageKind::Client,
        body: Bytes::from_static(b"x"),
    };
    let (prev, everywhere) = (MessageSeq::new(seq - 1), MessageSeq::ZERO);
    let (from, until) = (MessageSeq::ZERO, MessageSeq::MAX);
    Delivery { chat: CHAT, prev, everywhere, fresh: true, from, until, hinted: false, messages: vec![message] }
}

fn pushed(out: &[LiveOutput]) -> Vec<u64> {
    let seq = |output: &LiveOutput| match output {
        LiveOutput::Push(_, _, _, message) => Some(message.seq.get()),
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

const PHONE: DeviceAddress = DeviceAddress { user: USER, device: DeviceId::FIRST };

fn laptop() -> DeviceAddress {
    DeviceAddress { user: USER, device: DeviceId::new(2).unwrap() }
}

const fn session(n: u64) -> SessionRef {
    SessionRef { core: CoreId::ZERO, session: SessionId(n) }
}

/// The last report to the fan-out: covered, delivered, everywhere.
fn reported(out: &[LiveOutput]) -> Option<(u64, u64, u64)> {
    let numbers = |output: &LiveOutput| match output {
        LiveOutput::Progress { covered, delivered, everywhere, .. } => {
            Some((covered.get(), delivered.get(), everywhere.get()))
        }
        _ => None,
    };
    out.iter().rev().find_map(numbers)
}

fn from(sender: DeviceAddress, seq: u64) -> Delivery {
    let mut delivery = delivery(seq);
    delivery.messages[0].sender = sender;
    delivery
}

#[test]
fn a_user_has_what_each_of_his_devices_has() {
    let (mut live, mut out) = (Live::default(), Vec::new());
    live.attach(PHONE, session(1), &mut out);
    live.attach(laptop(), session(2), &mut out);
    live.handle_devices(USER, Some(vec![PHONE.device, laptop().device]), NOW, &mut out);
    assert!(live.go_live(PHONE, NOW, &mut out) && live.go_live(laptop(), NOW, &mut out));
    for seq in 1..=3 {
        live.deliver(USER, delivery(seq), NOW, &mut out);
    }
    live.ack(PHONE, session(1), CHAT, MessageSeq::new(3), NOW, &mut out);
    assert_eq!(reported(&out), Some((0, 3, 0)), "the laptop has nothing yet");
    live.ack(laptop(), session(2), CHAT, MessageSeq::new(2), NOW, &mut out);
    assert_eq!(reported(&out), Some((2, 3, 2)));
    // What a device sends itself it has, once it has everything before.
    live.deliver(USER, from(laptop(), 4), NOW, &mut out);
    live.ack(PHONE, session(1), CHAT, MessageSeq::new(4), NOW, &mut out);
    live.ack(laptop(), session(2), CHAT, MessageSeq::new(3), NOW, &mut out);
    assert_eq!(reported(&out), Some((4, 4, 4)));

    // In the inbox is covered, and not had.
    live.detach(laptop(), session(2), &mut out);
    live.deliver(USER, delivery(5), NOW, &mut out);
    assert_eq!(live.take_appends().len(), 1);
    live.handle_inboxed(laptop(), CHAT, MessageSeq::new(5), &mut out);
    live.ack(PHONE, session(1), CHAT, MessageSeq::new(5), NOW, &mut out);
    assert_eq!(reported(&out), Some((5, 5, 4)));
    // The chat's record goes with its last check; the laptop comes back and reads its inbox.
    live.handle_timeout_at(NOW + ACK_WAIT + ACK_WAIT, &mut out);
    live.attach(laptop(), session(3), &mut out);
    live.push_synced(laptop(), CHAT, delivery(5).messages.remove(0), &mut out);
    live.push_synced_entry(laptop(), 1, CHAT, MessageSeq::new(5), &mut out);
    out.clear();
    live.ack(laptop(), session(3), CHAT, MessageSeq::new(5), NOW, &mut out);
    assert_eq!(reported(&out), Some((0, 5, 0)), "what the phone has is in its inbox, or not");
    assert!(out.contains(&LiveOutput::Trim(laptop(), 1, CHAT)), "and is looked at with the laptop's");
}

#[test]
fn a_device_that_acknowledges_what_it_found_in_its_inbox_has_it_looked_at() {
    let (mut live, mut out) = (Live::default(), Vec::new());
    live.attach(ME, SESSION, &mut out);
    assert!(out.contains(&LiveOutput::LoadDevices(USER)));
    live.handle_devices(USER, Some(vec![ME.device]), NOW, &mut out);
    let other = ChatId::from_bytes([8; 16]);
    for (position, chat) in [(1, CHAT), (2, other)] {
        live.push_synced(ME, chat, delivery(5).messages.remove(0), &mut out);
        live.push_synced_entry(ME, position, chat, MessageSeq::new(5), &mut out);
    }
    out.clear();
    live.ack(ME, SESSION, other, MessageSeq::new(5), NOW, &mut out);
    assert_eq!(reported(&out), Some((0, 5, 0)));
    assert!(!out.iter().any(|output| matches!(output, LiveOutput::Trim(..))), "what is before it is not done with");
    live.ack(ME, SESSION, CHAT, MessageSeq::new(5), NOW, &mut out);
    let trims: Vec<_> = out.iter().filter(|output| matches!(output, LiveOutput::Trim(..))).collect();
    assert_eq!(trims, [&LiveOutput::Trim(ME, 1, CHAT), &LiveOutput::Trim(ME, 2, other)]);
}

#[test]
fn own_messages_count_though_the_device_is_catching_up() {
    let (mut live, mut out) = (Live::default(), Vec::new());
    live.attach(ME, SESSION, &mut out);
    live.handle_devices(USER, Some(vec![ME.device]), NOW, &mut out);
    // What came before is in the inbox or acknowledged: not known before the inbox is read to its end.
    live.deliver(USER, delivery(8), NOW, &mut out);
    live.deliver(USER, from(ME, 9), NOW, &mut out);
    assert!(live.go_live(ME, NOW, &mut out));
    assert_eq!(pushed(&out), [8]);
    live.ack(ME, SESSION, CHAT, MessageSeq::new(8), NOW, &mut out);
    assert_eq!(reported(&out), Some((9, 8, 9)));
}

/// The node was killed before it was durable that the sender has what he has sent; he comes back later.
#[test]
fn own_messages_count_though_the_device_is_away() {
    let (mut live, mut out) = (Live::default(), Vec::new());
    live.deliver(USER, Delivery { everywhere: MessageSeq::new(7), ..from(ME, 8) }, NOW, &mut out);
    live.handle_devices(USER, Some(vec![ME.device]), NOW, &mut out);
    assert_eq!(reported(&out), Some((8, 0, 8)));
}

#[test]
fn messages_that_are_deleted_are_passed_over() {
    let (mut live, mut out) = (live(), Vec::new());
    live.deliver(USER, delivery(2), NOW, &mut out);
    live.ack(ME, SESSION, CHAT, MessageSeq::new(2), NOW, &mut out);
    out.clear();
    live.deliver(USER, Delivery { fresh: false, ..delivery(7) }, NOW, &mut out);
    assert!(
        out.contains(&LiveOutput::Rewind { chat: CHAT, user: USER }) && pushed(&out).is_empty(),
        "they may be lost"
    );
    live.deliver(USER, delivery(7), NOW, &mut out);
    assert_eq!(pushed(&out), [7]);
    live.ack(ME, SESSION, CHAT, MessageSeq::new(7), NOW, &mut out);
    assert_eq!(reported(&out), Some((7, 7, 7)));
}

/// Another device of the user.
fn other() -> DeviceAddress {
    DeviceAddress { user: USER, device: DeviceId::new(2).unwrap() }
}

fn progress(out: &[LiveOutput]) -> Option<(u64, u64)> {
    out.iter().rev().find_map(|output| match output {
        LiveOutput::Progress { covered, everywhere, .. } => Some((covered.get(), everywhere.get())),
        _ => None,
    })
}

#[test]
fn a_new_device_is_owed_what_comes_after_it_and_nobody_waits_for_a_revoked_one() {
    let (mut live, mut out) = (live(), Vec::new());
    live.deliver(USER, delivery(2), NOW, &mut out);
    live.devices_changed(USER, vec![ME.device, other().device], None, &mut out);
    live.ack(ME, SESSION, CHAT, MessageSeq::new(2), NOW, &mut out);
    assert_eq!(progress(&out), Some((2, 2)), "what was before it is not its concern");
    live.deliver(USER, delivery(3), NOW, &mut out);
    live.ack(ME, SESSION, CHAT, MessageSeq::new(3), NOW, &mut out);
    assert_eq!(progress(&out), Some((2, 2)), "it lacks the third");
    let from = MessageSeq::new(3);
    assert_eq!(live.take_appends(), [InboxAppend { device: other(), chat: CHAT, from, to: from }]);
    live.handle_inboxed(other(), CHAT, from, &mut out);
    assert_eq!(progress(&out), Some((3, 2)), "it waits in its inbox");
    out.clear();
    live.devices_changed(USER, vec![ME.device], Some(other().device), &mut out);
    live.deliver(USER, delivery(4), NOW, &mut out);
    live.ack(ME, SESSION, CHAT, MessageSeq::new(4), NOW, &mut out);
    assert_eq!(progress(&out), Some((4, 4)));
    assert!(!live.has_appends());
}

#[test]
fn the_session_of_a_revoked_device_ends_and_what_it_lacks_is_dropped() {
    let (mut live, mut out) = (live(), Vec::new());
    live.deliver(USER, delivery(2), NOW, &mut out);
    out.clear();
    live.devices_changed(USER, Vec::new(), Some(ME.device), &mut out);
    assert!(out.contains(&LiveOutput::Revoked(SESSION)));
    assert!(out.contains(&LiveOutput::Presence(USER, false)));
    assert_eq!(progress(&out), Some((2, 2)), "nobody is left who lacks it");
    assert!(!live.has_appends() && live.session_of(ME).is_none());
}

#[test]
fn a_device_that_was_revoked_while_it_logged_in_is_sent_away() {
    let (mut live, mut out) = (live(), Vec::new());
    let session = SessionRef { core: CoreId::ZERO, session: SessionId(2) };
    live.attach(other(), session, &mut out);
    assert_eq!(out, [LiveOutput::Revoked(session)]);
    assert_eq!(live.session_of(other()), None);
    // The same where the user's devices are not known yet.
    let (mut live, mut out) = (Live::default(), Vec::new());
    live.attach(other(), session, &mut out);
    live.handle_devices(USER, Some(vec![ME.device]), NOW, &mut out);
    assert!(out.contains(&LiveOutput::Revoked(session)));
    assert!(!live.is_online(USER));
}

fn hinted(seq: u64) -> Delivery {
    Delivery { hinted: true, fresh: seq == 2, ..delivery(seq) }
}

fn append(from: u64, to: u64) -> InboxAppend {
    InboxAppend { device: ME, chat: CHAT, from: MessageSeq::new(from), to: MessageSeq::new(to) }
}

/// A user whose only device has gone.
fn away() -> Live {
    let (mut live, mut out) = (live(), Vec::new());
    live.detach(ME, SESSION, &mut out);
    live.deliver(USER, hinted(2), NOW, &mut out);
    live.handle_devices(USER, Some(vec![ME.device]), NOW, &mut out);
    live
}

#[test]
fn a_device_that_is_away_gets_one_reference_for_what_a_large_group_said_in_ten_seconds() {
    let (mut live, mut out) = (away(), Vec::new());
    for seq in 3..=9 {
        live.deliver(USER, hinted(seq), NOW, &mut out);
    }
    live.handle_hints(NOW + HINT_AFTER / 2, &mut out);
    assert!(!live.has_appends() && reported(&out).is_none(), "{out:?}");
    live.handle_hints(NOW + HINT_AFTER, &mut out);
    assert_eq!(live.take_appends(), [append(2, 9)]);
    // What comes while that is on its way waits for the next.
    live.deliver(USER, hinted(10), NOW + HINT_AFTER, &mut out);
    assert!(!live.has_appends());
    live.handle_inboxed(ME, CHAT, MessageSeq::new(9), &mut out);
    assert_eq!(reported(&out), Some((9, 1, 1)));
    live.handle_hints(NOW + HINT_AFTER * 2, &mut out);
    assert_eq!(live.take_appends(), [append(10, 10)]);
    live.handle_inboxed(ME, CHAT, MessageSeq::new(10), &mut out);
    assert_eq!(reported(&out), Some((10, 1, 1)));
    live.handle_timeout_at(NOW + HINT_AFTER * 2, &mut out);
    assert!(!live.users.contains_key(&USER), "who is covered is forgotten");
}

#[test]
fn a_device_that_comes_back_finds_in_its_inbox_what_waited_for_a_reference() {
    let (mut live, mut out) = (away(), Vec::new());
    live.deliver(USER, hinted(3), NOW, &mut out);
    live.attach(ME, SESSION, &mut out);
    assert_eq!(live.take_appends(), [append(2, 3)]);
    assert!(!live.go_live(ME, NOW, &mut out), "it is not there yet");
    live.handle_inboxed(ME, CHAT, MessageSeq::new(3), &mut out);
    assert!(live.go_live(ME, NOW, &mut out));
    live.handle_hints(NOW + HINT_AFTER, &mut out);
    assert!(!live.has_appends());
}

#[test]
fn a_reference_does_not_wait_where_it_is_for_many_messages_or_the_last_ones() {
    let (mut live, mut out) = (away(), Vec::new());
    let last = 1 + HINT_MESSAGES_MAX;
    for seq in 3..=last {
        live.deliver(USER, hinted(seq), NOW, &mut out);
    }
    assert!(!live.has_appends());
    live.deliver(USER, hinted(last + 1), NOW, &mut out);
    assert_eq!(live.take_appends(), [append(2, last + 1)]);
    // Put out of the group, or another chat that has become small.
    live.deliver(USER, Delivery { fresh: false, ..delivery(last + 2) }, NOW, &mut out);
    assert_eq!(live.take_appends(), [append(last + 2, last + 2)]);
}

const QUIET: ChatId = ChatId::from_bytes([7; 16]);

/// The same in another chat.
fn quiet(seq: u64) -> Delivery {
    Delivery { chat: QUIET, ..delivery(seq) }
}

fn message(seq: u64) -> StoredMessage {
    delivery(seq).messages.remove(0)
}

/// What was pushed: the way, whether it is of the quiet chat, the seq.
fn ways(out: &[LiveOutput]) -> Vec<(Way, bool, u64)> {
    let push = |output: &LiveOutput| match output {
        LiveOutput::Push(_, way, chat, message) => Some((*way, *chat == QUIET, message.seq.get())),
        _ => None,
    };
    out.iter().filter_map(push).collect()
}

/// A device that catches up with one chat.
fn syncing() -> Live {
    let (mut live, mut out) = (Live::default(), Vec::new());
    live.attach(ME, SESSION, &mut out);
    live.handle_devices(USER, Some(vec![ME.device]), NOW, &mut out);
    live.know_behind(ME, SESSION, [CHAT]);
    live
}

#[test]
fn a_chat_that_does_not_wait_in_the_inbox_does_not_wait_for_it() {
    let (mut live, mut out) = (syncing(), Vec::new());
    live.push_synced(ME, CHAT, message(5), &mut out);
    live.deliver(USER, delivery(9), NOW, &mut out);
    live.deliver(USER, quiet(3), NOW, &mut out);
    assert_eq!(ways(&out), [(Way::CatchUp, false, 5), (Way::Live, true, 3)], "the ninth goes behind the inbox");
    live.ack(ME, SESSION, QUIET, MessageSeq::new(3), NOW, &mut out);
    assert_eq!(reported(&out), Some((3, 3, 3)));
    out.clear();
    assert!(live.go_live(ME, NOW, &mut out));
    // What of the chat is not acknowledged went the other way: what follows it does too.
    assert_eq!(ways(&out), [(Way::CatchUp, false, 9)]);
    assert!(out.contains(&LiveOutput::Synced(SESSION)));
    live.deliver(USER, Delivery { fresh: false, ..delivery(10) }, NOW, &mut out);
    assert_eq!(ways(&out).last(), Some(&(Way::CatchUp, false, 10)));
    live.ack(ME, SESSION, CHAT, MessageSeq::new(10), NOW, &mut out);
    live.deliver(USER, delivery(11), NOW, &mut out);
    assert_eq!(ways(&out).last(), Some(&(Way::Live, false, 11)));
}

#[test]
fn nothing_is_pushed_past_what_is_on_its_way_into_the_inbox() {
    let (mut live, mut out) = (live(), Vec::new());
    live.deliver(USER, quiet(3), NOW, &mut out);
    live.detach(ME, SESSION, &mut out);
    live.attach(ME, session(2), &mut out);
    // The inbox was looked through before the reference was there.
    live.handle_inboxed(ME, QUIET, MessageSeq::new(3), &mut out);
    live.know_behind(ME, session(2), []);
    out.clear();
    live.deliver(USER, quiet(4), NOW, &mut out);
    live.deliver(USER, delivery(2), NOW, &mut out);
    assert_eq!(ways(&out), [(Way::Live, false, 2)]);
    // One that does not acknowledge in time: what it has not acknowledged comes from the inbox, and then the rest.
    live.handle_timeout_at(NOW + ACK_WAIT, &mut out);
    out.clear();
    live.deliver(USER, Delivery { fresh: false, ..delivery(3) }, NOW, &mut out);
    assert!(pushed(&out).is_empty());
}

#[test]
fn everything_waits_until_it_is_known_what_waits() {
    let (mut live, mut out) = (Live::default(), Vec::new());
    live.attach(ME, SESSION, &mut out);
    live.handle_devices(USER, Some(vec![ME.device]), NOW, &mut out);
    live.deliver(USER, quiet(3), NOW, &mut out);
    live.know_behind(ME, session(7), []);
    live.deliver(USER, Delivery { fresh: false, ..quiet(4) }, NOW, &mut out);
    assert!(pushed(&out).is_empty());
    live.know_behind(ME, SESSION, []);
    live.deliver(USER, Delivery { fresh: false, ..quiet(5) }, NOW, &mut out);
    assert!(pushed(&out).is_empty(), "what is held goes first");
    live.deliver(USER, delivery(2), NOW, &mut out);
    assert_eq!(pushed(&out), [2]);
    assert!(live.go_live(ME, NOW, &mut out));
    assert_eq!(pushed(&out), [2, 3, 4, 5]);
}

#[test]
fn a_catch_up_leaves_room_for_what_is_live() {
    let (mut live, mut out) = (syncing(), Vec::new());
    let mut last = 0;
    while live.has_room(ME) {
        last += 1;
        live.push_synced(ME, CHAT, message(last), &mut out);
    }
    assert_eq!(last, UNACKED_MAX as u64 / 4 * 3);
    out.clear();
    (1..=UNACKED_MAX as u64).for_each(|seq| live.deliver(USER, quiet(seq), NOW, &mut out));
    assert_eq!(pushed(&out), Vec::from_iter(1..=UNACKED_MAX as u64 / 4));
}
