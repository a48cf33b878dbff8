//! Commands in entries: what is written is read, and what is not whole is malformed.

use columba_wire::{
    Audience, InviteSecret, PreKeyId, PrivacyChange,
    keys::{IdentityKey, PreKey},
    limits::{DEVICE_NAME_BYTES_MAX, HANDLE_BYTES_MAX},
};
use proptest::prelude::*;

use super::{
    super::group::{Invite, Look, LookChange, Role},
    *,
};

const SECRET: InviteSecret = InviteSecret::from_bytes([6; 16]);

#[test]
fn commands_survive_the_log() {
    let user = UserId::from_bytes([3; 16]);
    let device = DeviceAddress { user, device: DeviceId::FIRST };
    let chat = ChatId::from_bytes([4; 16]);
    let (from, to) = (MessageSeq::new(1), MessageSeq::new(9));
    let change =
        |change| Command::ChangeGroup { chat, sender: device, client_seq: ClientSeq::new(9), time_ms: 3, change };
    let roster = |change| Command::ChangeRoster { device, change };
    let commands = vec![
        Command::ClaimHandle { handle: "ada".into(), user, device_key: [7; 32], time_ms: 5 },
        Command::CreateUser {
            user,
            handle: "a".repeat(HANDLE_BYTES_MAX),
            device_key: [7; 32],
            device_name: "b".repeat(DEVICE_NAME_BYTES_MAX),
            time_ms: 5,
        },
        Command::ConfirmHandle { handle: "ada".into(), user },
        Command::Send {
            chat,
            peer: Some(user),
            sender: device,
            client_seq: ClientSeq::new(8),
            time_ms: 1,
            body: Bytes::from_static(b"hello"),
        },
        Command::Send {
            chat,
            peer: None,
            sender: device,
            client_seq: ClientSeq::new(8),
            time_ms: 12,
            body: Bytes::from_static(b"to all"),
        },
        change(GroupChange::Create {
            look: Look { name: Bytes::from_static(b"us"), picture: Bytes::new(), announcements: true },
            members: vec![UserId::from_bytes([1; 16]), UserId::from_bytes([2; 16])],
        }),
        change(GroupChange::Add(vec![user])),
        change(GroupChange::Remove(Vec::new())),
        change(GroupChange::Leave { owner: None }),
        change(GroupChange::Leave { owner: Some(user) }),
        change(GroupChange::SetRole { user, role: Role::Owner }),
        change(GroupChange::SetInvite(None)),
        change(GroupChange::SetTimer(0)),
        change(GroupChange::SetTimer(u32::MAX)),
        change(GroupChange::SetInvite(Some(Invite { secret: None, expires_ms: u64::MAX }))),
        change(GroupChange::SetInvite(Some(Invite { secret: Some(SECRET), expires_ms: 0 }))),
        change(GroupChange::Join { secret: None }),
        change(GroupChange::Join { secret: Some(SECRET) }),
        change(GroupChange::SetLook(LookChange::default())),
        change(GroupChange::SetLook(LookChange {
            name: Some(Bytes::from_static(b"you")),
            picture: None,
            announcements: Some(false),
        })),
        Command::Advance(vec![Progress { chat, user, covered: to, delivered: from, everywhere: from }]),
        Command::MarkRead { chat, user, seq: to, hidden: false },
        Command::MarkRead { chat, user, seq: to, hidden: true },
        Command::BlockChat { by: user, other: UserId::from_bytes([9; 16]), blocked: true, time_ms: 8 },
        roster(RosterChange::Privacy(PrivacyChange::default())),
        roster(RosterChange::Privacy(PrivacyChange {
            last_seen: Some(Audience::Contacts),
            online: Some(Audience::Nobody),
            groups: Some(Audience::Everyone),
            read_receipts_off: Some(true),
        })),
        roster(RosterChange::Contacts { add: vec![user, UserId::from_bytes([9; 16])], remove: vec![user] }),
        roster(RosterChange::Block { user, blocked: true }),
        Command::AppendInbox(vec![InboxAppend { device, chat, from, to }]),
        Command::DeleteUser(user),
        Command::ReleaseHandle { handle: "ada".into(), user },
        Command::ForgetMember { chat, user, time_ms: 4 },
        Command::ForgetChats { user, chats: vec![chat; 2] },
        Command::EndErrand { user, round: 3 },
        Command::NoteChats(vec![ChatNote { user, chat, now: UserChat { at: to, is_in: false } }]),
        Command::TrimInbox { device, position: 77, chats: vec![chat] },
        Command::SetLastSeen(vec![(user, 6)]),
        Command::SetRetention { chat: None, retention: Some(Retention::History { days: None }) },
        Command::SetRetention { chat: None, retention: Some(Retention::UntilDelivered { days: 1 }) },
        Command::SetRetention { chat: Some(chat), retention: Some(Retention::History { days: Some(36_500) }) },
        Command::SetRetention { chat: Some(chat), retention: None },
        Command::Expire { now_ms: u64::MAX },
        Command::AddDevice { user, key: [8; 32], name: "c".repeat(DEVICE_NAME_BYTES_MAX), time_ms: 7 },
        Command::RenameDevice { device, name: "d".repeat(DEVICE_NAME_BYTES_MAX) },
        Command::RevokeDevice(device),
        Command::SetProfile { device, change: ProfileChange::default() },
        Command::SetProfile {
            device,
            change: ProfileChange { name: Some(Bytes::from_static(b"Ada")), about: None, picture: Some(Bytes::new()) },
        },
        Command::PutKeys { device, keys: NewKeys::default() },
        Command::PutKeys {
            device,
            keys: NewKeys {
                identity: Some(IdentityKey { key: [1; 32], signature: [2; 64] }),
                fallback: Some(PreKey { id: PreKeyId::new(u64::MAX), key: [3; 32], signature: [4; 64] }),
                one_time: vec![PreKey { id: PreKeyId::new(1), key: [5; 32], signature: [6; 64] }; 3],
            },
        },
        Command::TakeKeys { user, devices: vec![DeviceId::FIRST, DeviceId::new(7).unwrap()] },
    ];
    let mut entry = Vec::new();
    for command in &commands {
        let before = entry.len();
        command.encode_into(&mut entry);
        assert!(entry.len() - before <= command.encoded_bytes_max());
    }
    assert_eq!(decode_entry(entry.into()).unwrap(), commands);
}

#[test]
fn a_retention_that_is_none_is_malformed() {
    for (fields, why) in [
        (vec![2, 2, 0, 0, 0, 0], "of neither a chat nor all"),
        (vec![0, 4, 1, 0, 0, 0], "an unknown kind"),
        (vec![0, 0, 1, 0, 0, 0], "none, with days"),
        (vec![0, 2, 1, 0, 0, 0], "for ever, with days"),
        (vec![0, 1, 0, 0, 0, 0], "no day"),
        (vec![0, 3, 0x95, 0x8e, 0, 0], "more than a century"),
        (vec![0, 3, 1, 0, 0, 0, 0], "a byte too many"),
        (vec![1, 2, 0, 0, 0, 0], "of half a chat"),
    ] {
        let len = u8::try_from(fields.len()).unwrap();
        let entry = [&[10, len, 0, 0, 0][..], &fields].concat();
        assert!(decode_entry(entry.into()).is_err(), "{why}");
    }
}

proptest! {
    #[test]
    fn garbage_is_an_error_not_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_entry(bytes.into());
    }
}
