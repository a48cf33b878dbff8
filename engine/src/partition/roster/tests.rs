//! Rosters and blocks: what they say, over flushes, and that lists are bounded.

use columba_wire::{ChatId, ClientSeq, DeviceId, MessageSeq};

use super::*;
use crate::partition::{
    command::Command,
    keys::tests::{Bench, block_on},
};

const fn user(n: u8) -> UserId {
    UserId::from_bytes([n; 16])
}

fn block(user: UserId) -> RosterChange {
    RosterChange::Block { user, blocked: true }
}

/// The outcome, and how many effects there were.
async fn change(bench: &mut Bench, device: DeviceAddress, change: RosterChange) -> (Outcome, usize) {
    let (outcome, effects) = bench.apply(&Command::ChangeRoster { device, change }).await;
    (outcome, effects.len())
}

#[test]
fn a_roster_says_who_may_know_and_do_what() {
    let (me, friend, stranger, foe) = (user(1), user(2), user(3), user(4));
    let privacy = Privacy {
        last_seen: Audience::Nobody,
        online: Audience::Contacts,
        groups: Audience::Everyone,
        read_receipts_off: false,
    };
    let roster = Roster { version: 1, privacy, contacts: vec![friend, foe], blocked: vec![foe] };
    let seen = |who| {
        let Sight { online, last_seen } = roster.sight(me, who);
        (online, last_seen, roster.may_add(who))
    };
    assert_eq!(seen(friend), (true, false, true));
    assert_eq!(seen(stranger), (false, false, true));
    assert_eq!(seen(foe), (false, false, false), "a contact that is blocked is blocked");
    assert_eq!(roster.sight(me, me), Sight { online: true, last_seen: true }, "the user sees itself");
}

#[test]
fn a_change_to_what_is_so_already_is_none_and_lists_are_bounded() {
    block_on(async {
        let mut bench = Bench::open(1).await;
        let device = bench.register(1).await;
        let me = device.user;
        assert_eq!(change(&mut bench, device, block(user(2))).await, (Outcome::Done, 2));
        assert_eq!(change(&mut bench, device, block(user(2))).await, (Outcome::Done, 0));
        assert_eq!(change(&mut bench, device, block(me)).await, (Outcome::Refused(Code::InvalidArgument), 0));
        bench.flush_and_reopen().await;
        let unblock = RosterChange::Block { user: user(2), blocked: false };
        assert_eq!(change(&mut bench, device, unblock).await, (Outcome::Done, 2));

        let many = |from: u32| {
            let id = |n: u32| {
                let mut id = [0xee; 16];
                id[..4].copy_from_slice(&n.to_be_bytes());
                UserId::from_bytes(id)
            };
            (from..from + u32::try_from(CONTACTS_MAX).unwrap()).map(id).collect::<Vec<_>>()
        };
        let add = RosterChange::Contacts { add: many(0), remove: Vec::new() };
        assert_eq!(change(&mut bench, device, add).await, (Outcome::Done, 2));
        let add = RosterChange::Contacts { add: vec![user(7)], remove: Vec::new() };
        assert_eq!(change(&mut bench, device, add).await, (Outcome::Refused(Code::TooMany), 0));
        let swap = RosterChange::Contacts { add: vec![user(7)], remove: vec![many(0)[0]] };
        assert_eq!(change(&mut bench, device, swap).await, (Outcome::Done, 2));
        let (version, contacts) =
            bench.partition().roster(me, |roster| (roster.version, roster.contacts.len())).await.unwrap();
        assert_eq!((version, contacts), (4, CONTACTS_MAX));
        let nobody = DeviceAddress { user: user(9), device: DeviceId::FIRST };
        assert_eq!(change(&mut bench, nobody, block(me)).await, (Outcome::Refused(Code::UnknownUser), 0));
    });
}

#[test]
fn who_is_blocked_sends_nothing_and_does_not_see_that_a_chat_is_there() {
    block_on(async {
        let mut bench = Bench::open(1).await;
        let (ada, bob) = (bench.register(1).await, bench.register(2).await);
        let chat = ChatId::direct(ada.user, bob.user);
        let block = |blocked| Command::BlockChat { by: ada.user, other: bob.user, blocked, time_ms: 5 };
        let send = |sender: DeviceAddress, peer: DeviceAddress, seq| Command::Send {
            chat,
            peer: Some(peer.user),
            sender,
            client_seq: ClientSeq::new(seq),
            time_ms: 6,
            body: Bytes::from_static(b"hello"),
        };
        let read = |hidden| Command::MarkRead { chat, user: ada.user, seq: MessageSeq::new(1), hidden };
        assert_eq!(bench.apply(&block(true)).await.0, Outcome::Done);
        assert_eq!(bench.apply(&send(bob, ada, 1)).await.0, Outcome::Refused(Code::NotAllowed));
        assert_eq!(bench.apply(&send(ada, bob, 1)).await.0, Outcome::Refused(Code::NotAllowed));
        assert_eq!(bench.apply(&read(false)).await.0, Outcome::Refused(Code::UnknownChat));
        bench.flush_and_reopen().await;
        for user in [ada.user, bob.user] {
            assert_eq!(bench.partition().chat_of(chat, user).await.unwrap(), None);
        }
        assert_eq!(bench.apply(&block(false)).await.0, Outcome::Done);
        let sent = |duplicate| Outcome::Sent { seq: MessageSeq::new(1), time_ms: 6, duplicate };
        assert_eq!(bench.apply(&send(bob, ada, 1)).await.0, sent(false));

        assert_eq!(bench.apply(&block(true)).await.0, Outcome::Done);
        assert_eq!(bench.apply(&send(bob, ada, 1)).await.0, sent(true), "what is stored is stored");
        let shown = async |bench: &Bench| {
            let member = bench.partition().member(chat, ada.user).await.unwrap().unwrap();
            (member.read.get(), member.shown.get())
        };
        bench.apply(&read(false)).await;
        assert_eq!(shown(&bench).await, (1, 0), "who is blocked does not learn what is read");
        bench.apply(&block(false)).await;
        bench.apply(&read(true)).await;
        assert_eq!(shown(&bench).await, (1, 0));
        let effects = bench.apply(&read(false)).await.1;
        assert!(matches!(effects[..], [Effect::ReadMoved { is_shown: true, .. }]));
        assert_eq!(shown(&bench).await, (1, 1));
    });
}

#[test]
fn a_roster_row_reads_back_and_damage_is_no_panic() {
    let privacy = Privacy { online: Audience::Contacts, read_receipts_off: true, ..Privacy::default() };
    let roster = Roster { version: 300, privacy, contacts: vec![user(1), user(2)], blocked: vec![user(3)] };
    let mut bytes = Vec::new();
    roster.encode(&mut bytes);
    assert_eq!(Roster::decode(bytes.clone().into()).unwrap(), roster);
    for len in 0..bytes.len() {
        assert!(Roster::decode(Bytes::copy_from_slice(&bytes[..len])).is_err(), "{len} bytes");
    }
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0xa5;
        let _ = Roster::decode(bytes.into());
    }
}
