//! The chats of users against a model: notes in any order, over flushes, merges and reopens, read by pages.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    env::{executor::block_on, sim_disk::SimDisk},
    partition::{
        command::Command,
        testing::{apply, open},
    },
};

fn note((user, chat, at, is_in): (u8, u8, u64, bool)) -> ChatNote {
    let now = UserChat { at: MessageSeq::new(at), is_in };
    // Neighbours in every byte that matters: the ends of a user's range among them.
    ChatNote { user: UserId::from_bytes([user; 16]), chat: ChatId::from_bytes([chat; 16]), now }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_chats_of_a_user_are_those_of_a_model(
        steps in proptest::collection::vec(
            (proptest::collection::vec(
                (0u8..3, prop_oneof![0u8..12, Just(0xffu8)], 1u64..9, any::<bool>()).prop_map(note), 1..6), 0u8..5),
            1..30,
        ),
        page in 1usize..6,
    ) {
        let (disk, other) = (SimDisk::new(1), SimDisk::new(2));
        let (mut partition, replica) = (open(&disk), open(&other));
        for user in [0, 1, 2].map(|user| UserId::from_bytes([user; 16])) {
            let create = Command::CreateUser {
                user,
                handle: "ada".to_owned(),
                device_key: [1; 32],
                device_name: String::new(),
                time_ms: 1,
            };
            apply(&partition, core::slice::from_ref(&create));
            apply(&replica, &[create]);
        }
        let mut model: BTreeMap<(UserId, ChatId), UserChat> = BTreeMap::new();
        for (notes, then) in steps {
            for ChatNote { user, chat, now } in &notes {
                let known = model.entry((*user, *chat)).or_insert(*now);
                if known.at < now.at {
                    *known = *now;
                }
            }
            let count = notes.len();
            let command = Command::NoteChats(notes);
            prop_assert_eq!(apply(&partition, core::slice::from_ref(&command)).effects.len(), count);
            apply(&replica, &[command]);
            if then > 1 {
                block_on(partition.flush()).unwrap();
            }
            if then > 2 && partition.wants_compaction() {
                block_on(partition.compact()).unwrap();
            }
            if then > 3 {
                partition = open(&disk);
            }
            for user in [0, 1, 2].map(|user| UserId::from_bytes([user; 16])) {
                let chats = model.iter().filter(|((of, _), row)| *of == user && row.is_in);
                let expected: Vec<_> = chats.map(|((_, chat), row)| (*chat, *row)).collect();
                let (mut found, mut after) = (Vec::new(), None);
                loop {
                    let chats = block_on(partition.chats_of(user, after, page)).unwrap();
                    prop_assert!(chats.len() <= page);
                    let Some((last, _)) = chats.last() else { break };
                    after = Some(*last);
                    found.extend(chats);
                }
                prop_assert_eq!(found, expected);
            }
        }
        prop_assert_eq!(block_on(partition.state_hash()).unwrap(), block_on(replica.state_hash()).unwrap());
    }
}
