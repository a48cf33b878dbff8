//! Devices over a whole partition: what each command leaves, over flushes and reopens, against a model.

use std::collections::BTreeMap;

use columba_wire::{ChatId, MessageSeq};
use proptest::prelude::*;

use super::*;
use crate::{
    env::{executor::block_on, sim_disk::SimDisk},
    partition::{
        command::{Command, InboxAppend},
        testing::{apply, open},
    },
};

const ADA: UserId = UserId::from_bytes([1; 16]);
const CHAT: ChatId = ChatId::from_bytes([9; 16]);

fn number(device: u32) -> DeviceId {
    DeviceId::new(device).unwrap()
}

const fn address(device: DeviceId) -> DeviceAddress {
    DeviceAddress { user: ADA, device }
}

fn create() -> Command {
    let (handle, device_name) = ("ada".to_owned(), "phone".to_owned());
    Command::CreateUser { user: ADA, handle, device_key: [1; 32], device_name, time_ms: 5 }
}

fn add(key: u8) -> Command {
    Command::AddDevice { user: ADA, key: [key; 32], name: format!("device {key}"), time_ms: u64::from(key) }
}

fn revoke(device: u32) -> Command {
    Command::RevokeDevice(address(number(device)))
}

fn append(device: u32, from: u64, to: u64) -> Command {
    let (from, to) = (MessageSeq::new(from), MessageSeq::new(to));
    Command::AppendInbox(vec![InboxAppend { device: address(number(device)), chat: CHAT, from, to }])
}

#[test]
fn a_number_is_given_once_and_a_key_keeps_its_own() {
    let partition = open(&SimDisk::new(1));
    let added = |device| Outcome::DeviceAdded(number(device));
    assert_eq!(apply(&partition, &[add(2)]).outcomes, [Outcome::Refused(Code::UnknownUser)]);
    let effects = apply(&partition, &[create(), add(2), add(3), add(2)]);
    assert_eq!(effects.outcomes, [Outcome::Done, added(2), added(3), added(2)], "a repetition is told its number");
    assert_eq!(effects.effects.len(), 2, "and nobody is disturbed by it");
    assert_eq!(apply(&partition, &[revoke(3), add(3)]).outcomes, [Outcome::Done, added(4)]);
    let user = block_on(partition.user(ADA)).unwrap().unwrap();
    assert_eq!(user.devices, [1, 2, 4].map(number));
    assert_eq!(user.devices_version(), 5, "four were added, one revoked");
    let device = block_on(partition.device(address(number(2)))).unwrap().unwrap();
    assert_eq!(device, Device { key: [2; 32], name: "device 2".to_owned(), created_ms: 2 });
}

#[test]
fn a_ninth_device_is_refused_until_one_is_revoked() {
    let partition = open(&SimDisk::new(1));
    apply(&partition, &[create()]);
    for key in 2..=8 {
        assert_eq!(apply(&partition, &[add(key)]).outcomes, [Outcome::DeviceAdded(number(key.into()))]);
    }
    assert_eq!(
        apply(&partition, &[add(9), add(8)]).outcomes,
        [Outcome::Refused(Code::TooMany), Outcome::DeviceAdded(number(8))]
    );
    assert_eq!(apply(&partition, &[revoke(1), add(9)]).outcomes, [Outcome::Done, Outcome::DeviceAdded(number(9))]);
}

#[test]
fn a_revoked_device_is_gone_and_its_inbox_takes_nothing_more() {
    let disk = SimDisk::new(1);
    let partition = open(&disk);
    apply(&partition, &[create(), add(2), append(2, 1, 3)]);
    block_on(partition.flush()).unwrap();
    let device = address(number(2));
    let effects = apply(&partition, &[append(2, 4, 5), revoke(2), append(2, 6, 9)]);
    let gone = Effect::Devices { user: ADA, devices: vec![number(1)], revoked: Some(number(2)), version: 3 };
    let inboxed = |up_to| Effect::Inboxed { device, chat: CHAT, up_to: MessageSeq::new(up_to) };
    assert_eq!(effects.effects, [inboxed(5), gone, inboxed(9)], "the fan-out does not wait for it");
    for reopened in [false, true] {
        let partition = if reopened { open(&disk) } else { partition.clone() };
        assert_eq!(block_on(partition.device(device)).unwrap(), None);
        assert_eq!(block_on(partition.inbox(device, 0, 10)).unwrap(), []);
        block_on(partition.flush()).unwrap();
    }
    let partition = open(&disk);
    let effects =
        apply(&partition, &[append(2, 10, 12), revoke(2), Command::TrimInbox { device, position: 9, chats: vec![] }]);
    assert_eq!(effects.outcomes, [Outcome::Done, Outcome::Done, Outcome::Done]);
    assert_eq!(effects.effects, [inboxed(12)], "again it is nothing new");
    assert_eq!(block_on(partition.inbox(device, 0, 10)).unwrap(), []);
}

#[test]
fn a_chat_is_settled_once_no_inbox_of_the_user_holds_anything_of_it() {
    let other = ChatId::from_bytes([8; 16]);
    let trim = |device, position, chats: &[ChatId]| Command::TrimInbox {
        device: address(number(device)),
        position,
        chats: chats.to_vec(),
    };
    let settled = |device, chat| Effect::Settled { device: address(number(device)), chat };
    for reopen in [false, true] {
        let disk = SimDisk::new(1);
        let mut partition = open(&disk);
        apply(&partition, &[create(), add(2), append(1, 1, 4), append(2, 1, 5)]);
        let InboxAppend { device, from, to, .. } = match append(2, 1, 2) {
            Command::AppendInbox(items) => items[0],
            _ => unreachable!("it is one"),
        };
        apply(&partition, &[Command::AppendInbox(vec![InboxAppend { device, chat: other, from, to }])]);
        let mut trimmed = |commands: &[Command]| {
            if reopen {
                block_on(partition.flush()).unwrap();
                partition = open(&disk);
            }
            apply(&partition, commands).effects
        };
        assert_eq!(trimmed(&[trim(1, 1, &[CHAT])]), [], "the second device has it to come");
        assert_eq!(trimmed(&[trim(2, 1, &[CHAT, other])]), [settled(2, CHAT)], "of the other there is more");
        assert_eq!(trimmed(&[trim(1, 0, &[CHAT, other])]), [settled(1, CHAT)], "asked for again");
        assert_eq!(trimmed(&[append(1, 6, 6), trim(2, 2, &[CHAT, other])])[1..], [settled(2, other)]);
        assert_eq!(trimmed(&[revoke(1), trim(2, 2, &[CHAT])])[1..], [settled(2, CHAT)], "nobody waits for it");
    }
}

#[test]
fn what_never_was_cannot_be_named_or_revoked() {
    let partition = open(&SimDisk::new(1));
    let rename = |device| Command::RenameDevice { device: address(number(device)), name: "tablet".to_owned() };
    let refused = Outcome::Refused(Code::InvalidArgument);
    assert_eq!(apply(&partition, &[revoke(1), rename(1)]).outcomes, [refused.clone(), refused.clone()]);
    let outcomes =
        apply(&partition, &[create(), rename(1), rename(2), revoke(2), add(2), revoke(2), rename(2)]).outcomes;
    let added = Outcome::DeviceAdded(number(2));
    let done = Outcome::Done;
    assert_eq!(outcomes, [done.clone(), done.clone(), refused.clone(), refused.clone(), added, done, refused]);
    assert_eq!(block_on(partition.device(address(number(1)))).unwrap().unwrap().name, "tablet");
}

/// What a step does: commands of one entry, and whether the partition is flushed or opened anew behind it.
fn steps() -> impl Strategy<Value = Vec<(Vec<Command>, u8)>> {
    let command = prop_oneof![
        4 => (1u8..14).prop_map(add),
        2 => (1u32..14).prop_map(revoke),
        1 => (1u32..14, "[a-z]{0,8}")
            .prop_map(|(device, name)| Command::RenameDevice { device: address(number(device)), name }),
        1 => (1u32..14, 1u64..50).prop_map(|(device, to)| append(device, 1, to)),
    ];
    proptest::collection::vec((proptest::collection::vec(command, 1..5), 0u8..4), 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn devices_are_those_of_a_model_over_flushes_and_reopens(steps in steps()) {
        let (disk, other) = (SimDisk::new(1), SimDisk::new(2));
        let (mut partition, replica) = (open(&disk), open(&other));
        apply(&partition, &[create()]);
        apply(&replica, &[create()]);
        let mut model = BTreeMap::from([(1, ([1; 32], "phone".to_owned()))]);
        let mut next = 2;
        for (commands, then) in steps {
            let outcomes = apply(&partition, &commands).outcomes;
            apply(&replica, &commands);
            for (command, outcome) in commands.into_iter().zip(outcomes) {
                let expected = match command {
                    Command::AddDevice { key, name, .. } => {
                        let known = model.iter().find(|(_, (known, _))| *known == key).map(|(device, _)| *device);
                        if let Some(device) = known {
                            Outcome::DeviceAdded(number(device))
                        } else if model.len() == DEVICES_MAX {
                            Outcome::Refused(Code::TooMany)
                        } else {
                            model.insert(next, (key, name));
                            next += 1;
                            Outcome::DeviceAdded(number(next - 1))
                        }
                    }
                    Command::RevokeDevice(device) if device.device.get() < next => {
                        model.remove(&device.device.get());
                        Outcome::Done
                    }
                    Command::RenameDevice { device, name } if model.contains_key(&device.device.get()) => {
                        model.get_mut(&device.device.get()).unwrap().1 = name;
                        Outcome::Done
                    }
                    Command::AppendInbox(_) => Outcome::Done,
                    _ => Outcome::Refused(Code::InvalidArgument),
                };
                prop_assert_eq!(outcome, expected);
            }
            if then > 0 {
                block_on(partition.flush()).unwrap();
            }
            if then > 1 {
                partition = open(&disk);
            }
        }
        let user = block_on(partition.user(ADA)).unwrap().unwrap();
        prop_assert_eq!(user.devices, model.keys().map(|device| number(*device)).collect::<Vec<_>>());
        for device in 1..next {
            let row = block_on(partition.device(address(number(device)))).unwrap();
            prop_assert_eq!(row.map(|row| (row.key, row.name)), model.get(&device).cloned());
            if !model.contains_key(&device) {
                prop_assert!(block_on(partition.inbox(address(number(device)), 0, 10)).unwrap().is_empty());
            }
        }
        prop_assert_eq!(block_on(partition.state_hash()).unwrap(), block_on(replica.state_hash()).unwrap());
    }
}
