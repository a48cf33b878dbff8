//! The end of an account, step by step, each of them twice and over reopens: what is left, and what others are told.

use columba_wire::{
    MessageSeq, PreKeyId,
    keys::{IdentityKey, NewKeys, PreKey},
};

use super::*;
use crate::{
    env::{executor::block_on, sim_disk::SimDisk},
    partition::{
        command::{Command, InboxAppend, Progress},
        group::Look,
        membership::ChatNote,
        profile::ProfileChange,
        testing,
    },
};

const ADA: UserId = UserId::from_bytes([1; 16]);
const BOB: UserId = UserId::from_bytes([2; 16]);

fn device(user: UserId, number: u32) -> DeviceAddress {
    DeviceAddress { user, device: DeviceId::new(number).unwrap() }
}

/// A partition of everything, opened anew and flushed before each step where that is asked for.
struct Node {
    disk: SimDisk,
    partition: Partition<SimDisk>,
    reopens: bool,
}

impl Node {
    fn new(reopens: bool) -> Self {
        let disk = SimDisk::new(1);
        let partition = testing::open(&disk);
        Self { disk, partition, reopens }
    }

    fn apply(&mut self, command: &Command) -> Effects {
        if self.reopens {
            block_on(self.partition.flush()).unwrap();
            self.partition = testing::open(&self.disk);
        }
        testing::apply(&self.partition, core::slice::from_ref(command))
    }

    fn outcome(&mut self, command: &Command) -> Outcome {
        self.apply(command).outcomes.remove(0)
    }

    /// Carried out, and once more without anything to do.
    fn twice(&mut self, command: &Command) -> Effects {
        let effects = self.apply(command);
        assert_eq!(effects.outcomes, [Outcome::Done]);
        let again = self.apply(command);
        assert_eq!(again.outcomes, [Outcome::Done]);
        assert!(again.effects.is_empty(), "{again:?}");
        effects
    }
}

fn create(user: UserId, handle: &str) -> Command {
    let (handle, device_name) = (handle.to_owned(), "phone".to_owned());
    Command::CreateUser { user, handle, device_key: [user.as_bytes()[0]; 32], device_name, time_ms: 5 }
}

fn claim(key: u8) -> Command {
    let user = UserId::from_bytes([key; 16]);
    Command::ClaimHandle { handle: "ada".to_owned(), user, device_key: [key; 32], time_ms: 5 }
}

fn say(from: UserId, to: UserId, client_seq: u64) -> Command {
    Command::Send {
        chat: ChatId::direct(from, to),
        peer: Some(to),
        sender: device(from, 1),
        client_seq: ClientSeq::new(client_seq),
        time_ms: 9,
        body: Bytes::from_static(b"hello"),
    }
}

fn note(user: UserId, chat: ChatId, at: u64) -> Command {
    Command::NoteChats(vec![ChatNote { user, chat, now: UserChat { at: MessageSeq::new(at), is_in: true } }])
}

#[test]
fn nothing_is_left_of_a_deleted_user_but_what_it_has_sent() {
    for reopens in [false, true] {
        let mut node = Node::new(reopens);
        let (with_bob, notes) = (ChatId::direct(ADA, BOB), ChatId::direct(ADA, ADA));
        let group = ChatId::group(device(BOB, 1), ClientSeq::new(50));
        let phone = device(ADA, 1);
        let change = ProfileChange { name: Some(Bytes::from_static(b"Ada")), about: None, picture: None };
        let members = vec![ADA];
        let make = GroupChange::Create { look: Look::default(), members };
        for command in [
            claim(1),
            create(ADA, "ada"),
            Command::ConfirmHandle { handle: "ada".to_owned(), user: ADA },
            create(BOB, "bob"),
            Command::AddDevice { user: ADA, key: [9; 32], name: "laptop".to_owned(), time_ms: 6 },
            Command::SetProfile { device: phone, change },
            Command::SetLastSeen(vec![(ADA, 77)]),
            say(ADA, BOB, 1),
            say(BOB, ADA, 1),
            say(ADA, ADA, 2),
            Command::ChangeGroup {
                chat: group,
                sender: device(BOB, 1),
                client_seq: ClientSeq::new(50),
                time_ms: 9,
                change: make,
            },
            note(ADA, with_bob, 1),
            note(ADA, notes, 1),
            note(ADA, group, 1),
            Command::AppendInbox(vec![InboxAppend {
                device: device(ADA, 2),
                chat: with_bob,
                from: MessageSeq::new(1),
                to: MessageSeq::new(2),
            }]),
        ] {
            let outcome = node.outcome(&command);
            assert!(!matches!(outcome, Outcome::Refused(_)), "{command:?}: {outcome:?}");
        }

        let effects = node.apply(&Command::DeleteUser(ADA));
        assert_eq!(effects.outcomes, [Outcome::Done]);
        let revoked = |number| {
            let revoked = Some(DeviceId::new(number).unwrap());
            Effect::Devices { user: ADA, devices: Vec::new(), revoked, version: 4 }
        };
        assert_eq!(effects.effects, [revoked(1), revoked(2), Effect::UserDeleted { user: ADA }]);
        let unknown = Outcome::Refused(Code::UnknownUser);
        assert_eq!(node.outcome(&Command::DeleteUser(ADA)), unknown, "it is not there any more");
        let errand = block_on(node.partition.errand(ADA)).unwrap().unwrap();
        assert_eq!(errand, Errand { handle: "ada".to_owned(), next_device: 3, round: 0 });
        assert_eq!(block_on(node.partition.errands()).unwrap(), [ADA]);
        // The same device key registers again meanwhile.
        assert_eq!(node.outcome(&claim(1)), Outcome::Claimed(ADA));
        assert_eq!(node.outcome(&create(ADA, "ada")), Outcome::Refused(Code::Unavailable));
        node.apply(&Command::SetLastSeen(vec![(ADA, 99)]));

        node.twice(&Command::ReleaseHandle { handle: "ada".to_owned(), user: ADA });
        assert_eq!(node.outcome(&claim(7)), Outcome::Claimed(UserId::from_bytes([7; 16])), "it is free");
        node.twice(&Command::ReleaseHandle { handle: "ada".to_owned(), user: ADA });
        assert!(block_on(node.partition.handle("ada")).unwrap().is_some(), "another one's handle is not released");

        let forget = |chat| Command::ForgetMember { chat, user: ADA, time_ms: 10 };
        assert!(node.twice(&forget(with_bob)).effects.is_empty());
        assert_eq!(node.outcome(&say(BOB, ADA, 2)), unknown);
        let again = node.outcome(&say(BOB, ADA, 1));
        assert!(matches!(again, Outcome::Sent { duplicate: true, .. }), "a retry of what was stored: {again:?}");
        node.twice(&forget(notes));
        let told = node.twice(&forget(group)).effects;
        let [Effect::Committed { message, .. }] = &told[..] else { panic!("the others are told: {told:?}") };
        let left = GroupChange::of(message).unwrap();
        assert_eq!((message.sender.user, left), (ADA, Some(GroupChange::Leave { owner: None })));
        assert_eq!(block_on(node.partition.role(group, ADA)).unwrap(), None);
        node.twice(&forget(ChatId::from_bytes([0x77; 16])));

        // What it was not delivered yet is on its way to nobody; then what nobody is there to read is deleted.
        let seq = MessageSeq::new(1);
        let progress = Progress { chat: notes, user: ADA, covered: seq, delivered: MessageSeq::ZERO, everywhere: seq };
        node.apply(&Command::Advance(vec![progress]));
        assert_eq!(block_on(node.partition.chat(notes)).unwrap().unwrap().deleted_up_to, seq);

        node.twice(&Command::ForgetChats { user: ADA, chats: vec![with_bob, notes, group] });
        let all = |_: &UserChat| true;
        assert!(block_on(node.partition.noted_chats(ADA, None, 10, all)).unwrap().is_empty());
        node.apply(&Command::EndErrand { user: ADA, round: 9 });
        assert_eq!(block_on(node.partition.errands()).unwrap(), [ADA], "another round");
        node.twice(&Command::EndErrand { user: ADA, round: 0 });
        assert!(block_on(node.partition.errands()).unwrap().is_empty());

        assert_eq!(block_on(node.partition.user(ADA)).unwrap(), None);
        assert_eq!(block_on(node.partition.profile(ADA)).unwrap(), None);
        assert_eq!(block_on(node.partition.last_seen(ADA)).unwrap(), None);
        for number in [1, 2] {
            assert_eq!(block_on(node.partition.device(device(ADA, number))).unwrap(), None);
            assert!(block_on(node.partition.inbox(device(ADA, number), 0, 10)).unwrap().is_empty());
            let key = (device(ADA, number), with_bob);
            assert_eq!(block_on(node.partition.load::<InboxChat>(key)).unwrap(), None);
        }
        let history = block_on(node.partition.newest(with_bob, MessageSeq::MAX, 10, 1000)).unwrap();
        assert_eq!(history.len(), 2, "what it has sent is the others'");
    }
}

/// Found by the simulator: what the first command copied up was not counted yet when the second one took it off.
#[test]
fn keys_that_are_stored_and_deleted_in_one_entry_are_counted_once() {
    for reopens in [false, true] {
        let mut node = Node::new(reopens);
        node.apply(&create(ADA, "ada"));
        let key = |id: u64| PreKey { id: PreKeyId::new(id), key: [3; 32], signature: [4; 64] };
        let put = |from: u64| Command::PutKeys {
            device: device(ADA, 1),
            keys: NewKeys {
                identity: Some(IdentityKey { key: [1; 32], signature: [2; 64] }),
                fallback: Some(key(from)),
                one_time: (from..from + 9).map(key).collect(),
            },
        };
        node.apply(&put(1));
        block_on(node.partition.flush()).unwrap();
        node.partition = testing::open(&node.disk);
        let before = node.partition.stats().0.active_bytes;
        let effects = testing::apply(&node.partition, &[put(20), Command::DeleteUser(ADA)]);
        assert!(!effects.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Refused(_))), "{effects:?}");
        let after = node.partition.stats().0.active_bytes;
        assert!(after < before + 10_000, "{before}, then {after}: a few rows of nothing");
    }
}

#[test]
fn a_chat_that_takes_in_a_deleted_user_begins_its_errand_anew() {
    let mut node = Node::new(true);
    node.apply(&create(BOB, "bob"));
    let chat = ChatId::direct(ADA, BOB);
    node.apply(&say(BOB, ADA, 1));
    let effects = node.apply(&note(ADA, chat, 1)).effects;
    let noted = Effect::ChatNoted { user: ADA, chat, at: MessageSeq::new(1) };
    assert_eq!(effects, [Effect::UserDeleted { user: ADA }, noted]);
    assert_eq!(block_on(node.partition.errands()).unwrap(), [ADA]);
    assert_eq!(block_on(node.partition.chats_of(ADA, None, 10)).unwrap().len(), 1);
    node.twice(&Command::ForgetChats { user: ADA, chats: vec![chat] });
    node.twice(&Command::EndErrand { user: ADA, round: 1 });
    // That it is out of a chat is no errand.
    let now = UserChat { at: MessageSeq::new(2), is_in: false };
    let effects = node.apply(&Command::NoteChats(vec![ChatNote { user: ADA, chat, now }])).effects;
    assert_eq!(effects, [Effect::ChatNoted { user: ADA, chat, at: MessageSeq::new(2) }]);
    assert!(block_on(node.partition.errands()).unwrap().is_empty());
    assert!(block_on(node.partition.noted_chats(ADA, None, 10, |_| true)).unwrap().is_empty());
}
