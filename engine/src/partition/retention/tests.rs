//! Retention over a whole partition: what can be read, and that it depends on the log alone.

use columba_wire::{ClientSeq, DeviceAddress, DeviceId, UserId};
use proptest::prelude::*;

use super::*;
use crate::{
    env::{Rng, executor::block_on, sim_disk::SimDisk},
    partition::{
        Partition,
        command::{Command, Progress},
        testing::{self, open},
    },
};

const ADA: UserId = UserId::from_bytes([1; 16]);
const BOB: UserId = UserId::from_bytes([2; 16]);
const CLEO: UserId = UserId::from_bytes([3; 16]);
const FOR_EVER: Retention = Retention::History { days: None };
const DELIVERED: Retention = Retention::UntilDelivered { days: 30 };

const fn days(days: u32) -> Retention {
    Retention::History { days: Some(days) }
}

const fn seq(seq: u64) -> MessageSeq {
    MessageSeq::new(seq)
}

fn chat() -> ChatId {
    ChatId::direct(ADA, BOB)
}

fn apply(partition: &Partition<SimDisk>, command: &Command) -> Outcome {
    testing::apply(partition, core::slice::from_ref(command)).outcomes.remove(0)
}

fn send(peer: UserId, client_seq: u64, time_ms: u64) -> Command {
    let sender = DeviceAddress { user: ADA, device: DeviceId::FIRST };
    let (chat, client_seq) = (ChatId::direct(ADA, peer), ClientSeq::new(client_seq));
    Command::Send { chat, peer: Some(peer), sender, client_seq, time_ms, body: Bytes::from(vec![b'.'; 100]) }
}

fn advance(user: UserId, covered: u64, everywhere: u64) -> Command {
    let (covered, everywhere) = (seq(covered), seq(everywhere));
    Command::Advance(vec![Progress { chat: chat(), user, covered, delivered: everywhere, everywhere }])
}

fn set(chat: Option<ChatId>, retention: impl Into<Option<Retention>>) -> Command {
    Command::SetRetention { chat, retention: retention.into() }
}

fn on_day(day: u64) -> u64 {
    day * DAY_MS
}

fn floor(partition: &Partition<SimDisk>) -> Floor {
    let row = block_on(partition.chat(chat())).unwrap();
    row.map(|row| partition.settings().floor_of(&row)).unwrap_or_default()
}

/// What a reader finds who goes on until the end, a small page at a time.
fn readable(partition: &Partition<SimDisk>, chat: ChatId) -> Vec<u64> {
    let last = block_on(partition.chat(chat)).unwrap().map_or(MessageSeq::ZERO, |chat| chat.last_seq);
    let (mut next, mut found) = (seq(1), Vec::new());
    while next <= last {
        let page = block_on(partition.messages(chat, next, last, 250)).unwrap();
        assert!(page.next > next, "a reader is stopped at {next} of {last}");
        assert!(page.messages.iter().all(|message| (next..page.next).contains(&message.seq)));
        found.extend(page.messages.iter().map(|message| message.seq.get()));
        next = page.next;
    }
    found
}

/// The same in memory, in files, after a merge and after a restart.
fn readable_everywhere(disk: &SimDisk, partition: &mut Partition<SimDisk>, chat: ChatId, what: &str) -> Vec<u64> {
    let (found, hash) = (readable(partition, chat), block_on(partition.state_hash()).unwrap());
    block_on(partition.flush()).unwrap();
    for step in ["a flush", "a restart"] {
        assert_eq!(readable(partition, chat), found, "{what}, after {step}");
        assert_eq!(block_on(partition.state_hash()).unwrap(), hash, "{what}, after {step}");
        let settings = partition.settings();
        *partition = open(disk);
        assert_eq!(partition.settings(), settings, "{what}: settings live in the manifest");
    }
    found
}

#[test]
fn what_is_readable_follows_from_retention_and_time() {
    let of_chat = Some(chat());
    // Ten messages, one on each day from 1 on; nothing acknowledged.
    for (what, commands, first) in [
        ("nothing is said", vec![Command::Expire { now_ms: on_day(10_000) }], 1),
        ("seven days", vec![set(None, days(7)), Command::Expire { now_ms: on_day(11) }], 4),
        ("time first", vec![Command::Expire { now_ms: on_day(11) }, set(None, days(7))], 4),
        ("time does not go back", [11, 3].map(|day| Command::Expire { now_ms: on_day(day) }).to_vec(), 1),
        ("until delivered, at the latest", vec![set(None, DELIVERED), Command::Expire { now_ms: on_day(36) }], 6),
        (
            "a chat keeps longer",
            vec![set(None, days(1)), set(of_chat, FOR_EVER), Command::Expire { now_ms: on_day(99) }],
            1,
        ),
        ("a chat keeps less", vec![set(of_chat, days(1)), Command::Expire { now_ms: on_day(10) }], 9),
        (
            "a chat goes back to the default",
            vec![
                set(None, days(7)),
                set(of_chat, FOR_EVER),
                Command::Expire { now_ms: on_day(11) },
                set(of_chat, None),
            ],
            4,
        ),
        (
            "what is dead stays dead in a chat",
            vec![set(None, days(7)), Command::Expire { now_ms: on_day(11) }, set(of_chat, FOR_EVER)],
            4,
        ),
        (
            "what is dead stays dead by default",
            vec![set(None, days(7)), Command::Expire { now_ms: on_day(11) }, set(None, FOR_EVER)],
            4,
        ),
        (
            "what is dead by its own retention stays dead",
            vec![set(of_chat, days(1)), Command::Expire { now_ms: on_day(11) }, set(of_chat, None)],
            10,
        ),
        ("all is over", vec![set(None, days(1)), Command::Expire { now_ms: on_day(99) }], 11),
    ] {
        // From memory at first, from files at first, and half of each.
        for flush_after in [0, 5, 10] {
            let disk = SimDisk::new(1);
            let mut partition = open(&disk);
            for n in 1..=10 {
                apply(&partition, &send(BOB, n, on_day(n)));
                if n == flush_after {
                    block_on(partition.flush()).unwrap();
                }
            }
            for command in &commands {
                assert_eq!(apply(&partition, command), Outcome::Done);
            }
            let found = readable_everywhere(&disk, &mut partition, chat(), what);
            assert_eq!(found, Vec::from_iter(first..=10), "{what}");
        }
    }
}

#[test]
fn messages_go_when_every_device_of_both_members_has_them() {
    let disk = SimDisk::new(1);
    let mut partition = open(&disk);
    apply(&partition, &set(None, DELIVERED));
    for n in 1..=10 {
        apply(&partition, &send(BOB, n, on_day(1)));
    }
    // What is covered, what every device has; what is deleted then. Of two devices the slower one counts: the server
    // tells the minimum.
    for (user, covered, everywhere, deleted) in [
        (ADA, 10, 10, 0),
        (BOB, 4, 2, 2),
        (BOB, 9, 2, 2),
        (BOB, 0, 7, 7),
        (BOB, 3, 3, 7),
        (BOB, 0, 10, 9),
        (CLEO, 10, 10, 9),
        (BOB, 99, 99, 10),
    ] {
        apply(&partition, &advance(user, covered, everywhere));
        assert_eq!(floor(&partition).deleted_up_to, seq(deleted), "{user}: {covered}, {everywhere}");
        let found = readable_everywhere(&disk, &mut partition, chat(), "until delivered");
        assert_eq!(found, Vec::from_iter(deleted + 1..=10));
    }
    apply(&partition, &send(BOB, 11, on_day(1)));
    assert_eq!(readable(&partition, chat()), [11]);
    // Kept from now on.
    apply(&partition, &set(None, FOR_EVER));
    apply(&partition, &advance(ADA, 11, 11));
    apply(&partition, &advance(BOB, 11, 11));
    assert_eq!(readable_everywhere(&disk, &mut partition, chat(), "for ever"), [11]);
}

#[test]
fn a_chat_that_is_told_to_keep_until_delivered_deletes_at_once() {
    let disk = SimDisk::new(1);
    let partition = open(&disk);
    for n in 1..=10 {
        apply(&partition, &send(BOB, n, on_day(1)));
    }
    apply(&partition, &advance(ADA, 10, 10));
    apply(&partition, &advance(BOB, 6, 5));
    assert_eq!(readable(&partition, chat()).len(), 10);
    block_on(partition.flush()).unwrap();
    let partition = open(&disk);
    assert_eq!(apply(&partition, &set(Some(chat()), DELIVERED)), Outcome::Done);
    assert_eq!(readable(&partition, chat()), [6, 7, 8, 9, 10]);
    apply(&partition, &set(Some(chat()), None));
    assert_eq!(readable(&partition, chat()), [6, 7, 8, 9, 10], "it never goes back");
    let nobodys = set(Some(ChatId::direct(ADA, CLEO)), DELIVERED);
    assert_eq!(apply(&partition, &nobodys), Outcome::Refused(Code::UnknownChat));
}

#[test]
fn dead_messages_leave_the_files_with_a_flush_or_a_merge() {
    let disk = SimDisk::new(1);
    let partition = open(&disk);
    apply(&partition, &set(None, days(1)));
    for n in 1..=10 {
        apply(&partition, &send(BOB, n, on_day(n)));
    }
    apply(&partition, &Command::Expire { now_ms: on_day(9) });
    block_on(partition.flush()).unwrap();
    // Beside messages, for each chat: itself, and that it is pending.
    let rows = |partition: &Partition<SimDisk>| partition.stats().1.rows;
    assert_eq!(rows(&partition), 3 + 2, "a flush writes what is alive");
    apply(&partition, &Command::Expire { now_ms: on_day(11) });
    for n in 11..40 {
        apply(&partition, &send(CLEO, n, on_day(11)));
        block_on(partition.flush()).unwrap();
    }
    while partition.wants_compaction() {
        block_on(partition.compact()).unwrap();
    }
    assert_eq!(rows(&partition), 1 + 29 + 2 + 2, "a merge keeps what is alive");
}

#[test]
fn a_message_that_is_missing_without_being_dead_stops_a_reader() {
    for (floor, expected) in [
        (Floor::default(), 3),
        (Floor { deleted_up_to: seq(2), expired_before_ms: 0 }, 3),
        (Floor { deleted_up_to: seq(5), expired_before_ms: 0 }, 6),
        (Floor { deleted_up_to: seq(50), expired_before_ms: 0 }, 9),
        (Floor { deleted_up_to: seq(0), expired_before_ms: 1 }, 9),
    ] {
        assert_eq!(floor.skip_hole(seq(3), seq(9)), seq(expected), "{floor:?}");
    }
}

#[test]
fn files_may_go_as_a_whole_only_below_every_chat() {
    let partition = open(&SimDisk::new(1));
    let other = ChatId::direct(ADA, CLEO);
    apply(&partition, &send(BOB, 1, on_day(1)));
    apply(&partition, &send(CLEO, 2, on_day(1)));
    apply(&partition, &Command::Expire { now_ms: on_day(100) });
    for (command, expected, can_expire) in [
        (set(None, days(10)), 90, true),
        (set(Some(chat()), days(30)), 70, true),
        (set(Some(other), days(50)), 50, true),
        // The longest is not taken back while there are others: it is only a bound.
        (set(Some(other), days(5)), 50, true),
        (set(Some(other), FOR_EVER), 0, true),
        (set(Some(chat()), FOR_EVER), 0, true),
        (set(None, FOR_EVER), 0, false),
        (set(Some(chat()), None), 0, false),
        // What was below the default's once is dead in all chats without a say of their own, and there are no others.
        (set(Some(other), None), 90, false),
        (set(None, days(20)), 90, true),
    ] {
        apply(&partition, &command);
        let settings = partition.settings();
        assert_eq!(settings.expired_before_every_chat_ms(), on_day(expected), "{command:?}");
        assert_eq!(settings.can_expire(), can_expire, "{command:?}");
        assert_eq!(Settings::decode(settings.encode()).unwrap(), settings);
    }
}

#[test]
fn settings_that_are_none_are_malformed() {
    assert_eq!(Settings::decode(Bytes::new()).unwrap(), Settings::default());
    let good = Settings { overrides: 1, overrides_forever: 1, ..Settings::default() }.encode().to_vec();
    assert!(Settings::decode(good.clone().into()).is_ok());
    for (at, byte, why) in [
        (0, SETTINGS_VERSION + 1, "an unknown version"),
        (1, 0, "no retention"),
        (14, 1, "more expired than time"),
        (42, 2, "no flag"),
    ] {
        let mut bytes = good.clone();
        bytes[at] = byte;
        assert!(Settings::decode(bytes.into()).is_err(), "{why}");
    }
    assert!(Settings::decode(good[..good.len() - 1].to_vec().into()).is_err());
}

fn random(rng: &mut Rng, n: u64) -> Command {
    let retention = match rng.below(5) {
        0 => None,
        1 => Some(FOR_EVER),
        2 => Some(DELIVERED),
        _ => Some(days(1 + u32::try_from(rng.below(20)).unwrap())),
    };
    let time = on_day(n / 4 + rng.below(3));
    match rng.below(12) {
        0 => set(None, retention),
        1 => set(Some(chat()), retention),
        2 => Command::Expire { now_ms: time },
        3 | 4 => advance(ADA, rng.below(n + 1), rng.below(n + 1)),
        5 | 6 => advance(BOB, rng.below(n + 1), rng.below(n + 1)),
        7 => send(CLEO, n, time),
        _ => send(BOB, n, time),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Two replicas apply one log and flush, merge and restart at different times.
    #[test]
    fn replicas_agree_whatever_their_files_still_hold(seed in any::<u64>()) {
        let mut rng = Rng::from_seed(seed);
        let disks = [SimDisk::new(1), SimDisk::new(2)];
        let mut replicas = disks.each_ref().map(open);
        let mut before = Floor::default();
        for n in 1..=120 {
            let command = random(&mut rng, n);
            let outcomes = replicas.each_ref().map(|replica| apply(replica, &command));
            prop_assert_eq!(&outcomes[0], &outcomes[1]);
            for (replica, disk) in replicas.iter_mut().zip(&disks) {
                if rng.one_in(8) {
                    block_on(replica.flush()).unwrap();
                    if replica.wants_compaction() {
                        block_on(replica.compact()).unwrap();
                    }
                    if rng.one_in(3) {
                        *replica = open(disk);
                    }
                }
            }
            let floor = floor(&replicas[0]);
            prop_assert!(floor.deleted_up_to >= before.deleted_up_to, "{floor:?} after {before:?}");
            prop_assert!(floor.expired_before_ms >= before.expired_before_ms, "{floor:?} after {before:?}");
            before = floor;
            if n % 20 == 0 {
                for chat in [chat(), ChatId::direct(ADA, CLEO)] {
                    prop_assert_eq!(readable(&replicas[0], chat), readable(&replicas[1], chat));
                    if let Some(row) = block_on(replicas[0].chat(chat)).unwrap() {
                        let settings = replicas[0].settings();
                        let every = settings.expired_before_every_chat_ms();
                        prop_assert!(every <= settings.floor_of(&row).expired_before_ms, "{row:?} {settings:?}");
                    }
                }
                let hashes = replicas.each_ref().map(|replica| block_on(replica.state_hash()).unwrap());
                prop_assert_eq!(hashes[0], hashes[1]);
            }
        }
    }
}
