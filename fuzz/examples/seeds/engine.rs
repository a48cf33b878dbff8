//! Seeds of the engine's readers: files that journal, tables and tree themselves write, on a simulated disk.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use columba_engine::{
    background::Pacer,
    env::{Disk as _, DiskFile as _, clock::ManualClock, executor::block_on, sim_disk::SimDisk},
    error::Result,
    ids::{FileId, LogIndex, PartitionId, Term},
    journal::{Journal, JournalConfig},
    limits::BLOCK_BYTES,
    memory::MEMORY_BYTES_MIN,
    message::{MessageKind, StoredMessage},
    partition::{
        Partition,
        command::{Command, InboxAppend, Progress},
        effect::Effects,
        group::{GroupChange, Invite, Look, LookChange, Role},
        membership::{ChatNote, UserChat},
        profile::ProfileChange,
        retention::Retention,
        roster::RosterChange,
    },
    table::{
        columns::MessageBlockBuilder,
        meta::Class,
        writer::{FileKind, TableWriter},
    },
    tree::{
        ScanRange, Shared, Tree, TreeConfig, TreeMeta,
        manifest::{MANIFEST_NAME, Manifest},
    },
};

use columba_fuzz::{MESSAGE_BLOCK_PLACE, row_key_bytes};
use columba_wire::{
    Audience, ChatId, ClientSeq, DeviceAddress, DeviceId, InviteSecret, MessageSeq, PreKeyId, PrivacyChange, UserId,
    keys::{IdentityKey, NewKeys, PreKey},
};

use crate::Seed;

/// Bytes of a segment: small, because a seed should be.
const SEGMENT_BYTES: u64 = 64 * 1024;

/// Seeds of the targets `journal`, `table`, `message_block`, `manifest`, `entry` and `row`.
pub(crate) fn seeds() -> Vec<Seed> {
    block_on(async {
        let mut seeds = Vec::new();
        for (name, batches) in [("one", 1), ("several", 5)] {
            let bytes = journal(batches).await.expect("the simulated disk has no faults");
            seeds.push(Seed { target: "journal", name: name.to_owned(), bytes: without_zeroes(bytes) });
        }
        // The last batch, one block before the unused one, with a record that did not arrive.
        let mut torn = journal(5).await.map(without_zeroes).expect("the simulated disk has no faults");
        let last = torn.len() - 2 * BLOCK_BYTES;
        torn[last + 64..last + 512].fill(0);
        seeds.push(Seed { target: "journal", name: "torn".to_owned(), bytes: torn });
        for (name, class, rows) in [
            ("one", Class::State, 1),
            ("blocks", Class::State, 1500),
            ("inbox", Class::Inbox, 50),
            ("messages", Class::Messages, 400),
        ] {
            let bytes = table(class, rows).await.expect("the simulated disk has no faults");
            seeds.push(Seed { target: "table", name: name.to_owned(), bytes });
        }
        seeds.extend(entries());
        seeds.extend(rows().await.expect("the simulated disk has no faults"));
        for (name, chats, messages) in [("one", 1, 1), ("chats", 3, 4), ("conversation", 1, 40)] {
            let bytes = message_block(chats, messages);
            seeds.push(Seed { target: "message_block", name: name.to_owned(), bytes });
        }
        let bytes = Manifest::default().encode();
        seeds.push(Seed { target: "manifest", name: "empty".to_owned(), bytes });
        let bytes = manifest().await.expect("the simulated disk has no faults");
        seeds.push(Seed { target: "manifest", name: "files".to_owned(), bytes });
        seeds
    })
}

async fn journal(batches: u64) -> Result<Vec<u8>> {
    let disk = SimDisk::new(1);
    let dir = PathBuf::from("journal");
    let config = JournalConfig {
        segment_bytes: SEGMENT_BYTES,
        batch_bytes_max: usize::try_from(SEGMENT_BYTES / 4).expect("a few KiB"),
        segments_max: 4,
        ..JournalConfig::new(dir.clone())
    };
    let (journal, _) = Journal::open(disk.clone(), config).await?;
    for batch in 1..=batches {
        for partition in 0..2 {
            let partition = PartitionId::new(partition);
            journal.append_entry(partition, Term::new(1), LogIndex::new(batch), b"an entry");
            journal.append_state(partition, b"state");
        }
        journal.commit().await?;
    }
    // A fresh journal fills its first segment first; the target `journal` knows this generation.
    let files = disk.list(&dir).await?;
    let first = files.iter().find(|file| file.name.starts_with("seg-")).expect("a commit needs a segment");
    assert_eq!(first.name, "seg-0000000000000001");
    read_all(&disk, &dir.join(&first.name)).await
}

async fn table(class: Class, rows: u32) -> Result<Vec<u8>> {
    let disk = SimDisk::new(1);
    let path = Path::new("table");
    let (applied_low, applied_high) = (LogIndex::new(1), LogIndex::new(9));
    let kind = FileKind { class, level: 0, window: 3, applied_low, applied_high, term: Term::new(1) };
    let mut writer = TableWriter::new(FileId::new(1), disk.create(path).await?, kind);
    let mut slice = Pacer::new(ManualClock::default()).slice();
    for row in 0..rows {
        if class == Class::Messages {
            let n = u64::from(row);
            let sender = DeviceAddress { user: UserId::from_bytes(scattered(1)), device: DeviceId::FIRST };
            let (seq, client_seq) = (MessageSeq::new(n + 1), ClientSeq::new(n + 1));
            let body = Bytes::from(scattered(u8::try_from(row % 256).expect("below 256")).repeat(8));
            let message = StoredMessage { seq, sender, client_seq, time_ms: 1000 + n, kind: MessageKind::Client, body };
            let chat = ChatId::from_bytes([u8::try_from(row / 100).expect("few"); 16]);
            writer.push_message(chat, &message, &mut slice).await?;
        } else {
            let value =
                (class == Class::Inbox || row % 7 != 0).then_some(b"a value, thirty-two bytes, or so".as_slice());
            writer.push(&row.to_be_bytes(), value, &mut slice).await?;
        }
    }
    writer.finish(&[FileId::new(5)], &mut slice).await?;
    read_all(&disk, path).await
}

/// A row of each kind, as a partition writes it.
async fn rows() -> Result<Vec<Seed>> {
    let users = [3, 4].map(|n| UserId::from_bytes(scattered(n)));
    let devices = users.map(|user| DeviceAddress { user, device: DeviceId::FIRST });
    let chat = ChatId::direct(users[0], users[1]);
    let (handle, device_key, time_ms) = ("ada".to_owned(), [7; 32], 1_700_000_000_000);
    let seq = MessageSeq::new(9);
    let mut commands = vec![
        Command::ClaimHandle { handle: handle.clone(), user: users[0], device_key, time_ms },
        Command::CreateUser { user: users[0], handle, device_key, device_name: "phone".to_owned(), time_ms },
        Command::AddDevice { user: users[0], key: [8; 32], name: "laptop".to_owned(), time_ms },
        Command::RevokeDevice(devices[0]),
        Command::SetLastSeen(vec![(users[0], 6)]),
        Command::SetProfile { device: devices[0], change: profile() },
        Command::ChangeRoster { device: devices[0], change: privacy() },
        Command::ChangeRoster { device: devices[0], change: RosterChange::Block { user: users[1], blocked: true } },
        Command::PutKeys { device: devices[0], keys: keys() },
        Command::AppendInbox(vec![InboxAppend { device: devices[1], chat, from: MessageSeq::new(1), to: seq }]),
        // The second user does not exist: an errand is left.
        Command::NoteChats(users.map(|user| ChatNote { user, chat, now: UserChat { at: seq, is_in: true } }).to_vec()),
    ];
    for n in 1..=100 {
        // In bursts, and now and then from the other side.
        let from = usize::from(n % 4 == 0);
        let (sender, peer, client_seq) = (devices[from], users[1 - from], ClientSeq::new(n));
        let time_ms = time_ms + n / 10 * 3_600_000 + n * 700;
        commands.push(Command::Send { chat, peer: Some(peer), sender, client_seq, time_ms, body: Bytes::new() });
    }
    // A group: one who owns it, one who was put out, and one message.
    let (by, made) = (devices[0], ClientSeq::new(500));
    let group = ChatId::group(by, made);
    for (n, change) in
        (500..).zip([changes().swap_remove(0), GroupChange::Remove(vec![UserId::from_bytes(scattered(9))])])
    {
        commands.push(Command::ChangeGroup { chat: group, sender: by, client_seq: ClientSeq::new(n), time_ms, change });
    }
    let (client_seq, body) = (ClientSeq::new(600), Bytes::new());
    commands.push(Command::Send { chat: group, peer: None, sender: by, client_seq, time_ms, body });
    commands.push(Command::Advance(vec![Progress {
        chat,
        user: users[1],
        covered: seq,
        delivered: seq,
        everywhere: seq,
    }]));
    let mut entry = Vec::new();
    commands.iter().for_each(|command| command.encode_into(&mut entry));
    let shared = Shared::new(MEMORY_BYTES_MIN, ManualClock::default());
    let (dir, id) = (PathBuf::from("partition"), PartitionId::new(0));
    let disk = SimDisk::new(1);
    disk.create_dir_all(&dir).await?;
    let partition = Partition::open(disk, dir, id, TreeConfig::default(), shared).await?;
    partition.apply_entry(LogIndex::new(1), Term::new(1), entry.into(), &mut Effects::default()).await?;
    partition.flush().await?;
    let mut seeds = Vec::new();
    for (class, start) in [(Class::Inbox, 0x20), (Class::State, 0x30)] {
        let range = ScanRange { start: vec![start], end: vec![0xff] };
        for (key, value) in partition.tree().scan(class, &range, usize::MAX, usize::MAX).await? {
            let bytes = [&key[..row_key_bytes(&key)], &value].concat();
            let again = seeds.iter().filter(|seed: &&Seed| seed.bytes[0] == key[0]).count();
            let name = if again == 0 { format!("{:02x}", key[0]) } else { format!("{:02x}-{again}", key[0]) };
            seeds.push(Seed { target: "row", name, bytes });
        }
    }
    Ok(seeds)
}

/// Each command alone, and all of them in one entry.
fn entries() -> Vec<Seed> {
    let user = UserId::from_bytes(scattered(3));
    let device = DeviceAddress { user, device: DeviceId::FIRST };
    let chat = ChatId::from_bytes(scattered(4));
    let (from, to) = (MessageSeq::new(1), MessageSeq::new(9));
    let (handle, device_key, time_ms) = ("ada".to_owned(), [7; 32], 1_700_000_000_000);
    let body = Bytes::from_static(b"good morning");
    let commands = [
        Command::ClaimHandle { handle: handle.clone(), user, device_key, time_ms },
        Command::CreateUser { user, handle: handle.clone(), device_key, device_name: "phone".to_owned(), time_ms },
        Command::ConfirmHandle { handle: handle.clone(), user },
        Command::Send { chat, peer: Some(user), sender: device, client_seq: ClientSeq::new(8), time_ms, body },
        Command::Advance(vec![Progress { chat, user, covered: to, delivered: from, everywhere: from }]),
        Command::MarkRead { chat, user, seq: to, hidden: false },
        Command::AppendInbox(vec![InboxAppend { device, chat, from, to }; 2]),
        Command::DeleteUser(user),
        Command::ReleaseHandle { handle, user },
        Command::ForgetMember { chat, user, time_ms },
        Command::ForgetChats { user, chats: vec![chat; 2] },
        Command::EndErrand { user, round: 3 },
        Command::NoteChats(vec![ChatNote { user, chat, now: UserChat { at: to, is_in: true } }]),
        Command::TrimInbox { device, position: 77, chats: vec![chat] },
        Command::SetLastSeen(vec![(user, time_ms)]),
        Command::SetRetention { chat: Some(chat), retention: Some(Retention::UntilDelivered { days: 30 }) },
        Command::SetRetention { chat: None, retention: None },
        Command::Expire { now_ms: time_ms },
        Command::AddDevice { user, key: device_key, name: "laptop".to_owned(), time_ms },
        Command::RenameDevice { device, name: "old laptop".to_owned() },
        Command::RevokeDevice(device),
        Command::SetProfile { device, change: profile() },
        Command::ChangeRoster { device, change: privacy() },
        Command::ChangeRoster { device, change: RosterChange::Contacts { add: vec![user], remove: vec![user] } },
        Command::ChangeRoster { device, change: RosterChange::Block { user, blocked: true } },
        Command::BlockChat { by: user, other: UserId::from_bytes([9; 16]), blocked: true, time_ms: 7 },
        Command::MarkRead { chat, user, seq: to, hidden: true },
        Command::PutKeys { device, keys: keys() },
        Command::TakeKeys { user, devices: vec![DeviceId::FIRST; 2] },
    ];
    let to_group = Command::Send {
        chat,
        peer: None,
        sender: device,
        client_seq: ClientSeq::new(9),
        time_ms,
        body: Bytes::from_static(b"good morning, all"),
    };
    let mut commands = Vec::from(commands);
    commands.push(to_group);
    for (n, change) in (10..).zip(changes()) {
        commands.push(Command::ChangeGroup { chat, sender: device, client_seq: ClientSeq::new(n), time_ms, change });
    }
    let mut all = Vec::new();
    let mut seeds = Vec::new();
    for (n, command) in commands.iter().enumerate() {
        let mut bytes = Vec::new();
        command.encode_into(&mut bytes);
        command.encode_into(&mut all);
        seeds.push(Seed { target: "entry", name: format!("command-{n:02}"), bytes });
    }
    seeds.push(Seed { target: "entry", name: "all".to_owned(), bytes: all });
    seeds
}

/// One of each kind; the first makes a group.
fn changes() -> Vec<GroupChange> {
    let user = UserId::from_bytes(scattered(9));
    let (name, picture) = (Bytes::from_static(b"friends"), Bytes::from_static(b"p"));
    let look = Look { name: name.clone(), picture, announcements: true };
    vec![
        GroupChange::Create { look, members: vec![user] },
        GroupChange::Add(vec![user]),
        GroupChange::Remove(vec![user]),
        GroupChange::Leave { owner: Some(user) },
        GroupChange::Leave { owner: None },
        GroupChange::SetRole { user, role: Role::Admin },
        GroupChange::SetInvite(Some(Invite { secret: Some(InviteSecret::from_bytes(scattered(5))), expires_ms: 0 })),
        GroupChange::SetInvite(Some(Invite { secret: None, expires_ms: 1_800_000_000_000 })),
        GroupChange::SetInvite(None),
        GroupChange::SetTimer(86_400),
        GroupChange::Join { secret: Some(InviteSecret::from_bytes(scattered(5))) },
        GroupChange::Join { secret: None },
        GroupChange::SetLook(LookChange { name: Some(name), picture: None, announcements: Some(false) }),
    ]
}

fn profile() -> ProfileChange {
    let (name, about) = (Bytes::from_static(b"Ada"), Bytes::from_static(b"counts"));
    ProfileChange { name: Some(name), about: Some(about), picture: None }
}

fn privacy() -> RosterChange {
    RosterChange::Privacy(PrivacyChange {
        last_seen: Some(Audience::Contacts),
        online: None,
        groups: Some(Audience::Nobody),
        read_receipts_off: Some(true),
    })
}

fn keys() -> NewKeys {
    let key = |id| PreKey { id: PreKeyId::new(id), key: [7; 32], signature: [9; 64] };
    let identity = Some(IdentityKey { key: [7; 32], signature: [9; 64] });
    NewKeys { identity, fallback: Some(key(300)), one_time: vec![key(1), key(2)] }
}

/// A block of some chats with two senders each. One message has an empty body, and between two a seq is missing.
fn message_block(chats: u8, messages: u64) -> Vec<u8> {
    let mut builder = MessageBlockBuilder::default();
    for chat in 1..=chats {
        for n in 0..messages {
            let user = UserId::from_bytes(scattered(chat + 100 * u8::from(n % 3 == 0)));
            let message = StoredMessage {
                seq: MessageSeq::new(if n < 2 { 900 + n } else { 901 + n }),
                sender: DeviceAddress { user, device: DeviceId::FIRST },
                client_seq: ClientSeq::new(300 + n),
                time_ms: 1_700_000_000_000 + n * n * 777,
                kind: if n == 4 { MessageKind::Change } else { MessageKind::Client },
                body: Bytes::from_static(&b"good morning"[..if n == 1 { 0 } else { 12 }]),
            };
            let mut id = scattered(chat);
            id[0] = chat;
            builder.push(ChatId::from_bytes(id), &message);
        }
    }
    let (file, offset) = MESSAGE_BLOCK_PLACE;
    builder.finish(FileId::new(file), offset)
}

/// Bytes that do not compress, so that some columns stay as they are.
fn scattered(n: u8) -> [u8; 16] {
    let wide = u128::from(n).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    wide.to_le_bytes()
}

async fn manifest() -> Result<Vec<u8>> {
    let disk = SimDisk::new(1);
    let dir = PathBuf::from("tree");
    disk.create_dir_all(&dir).await?;
    let shared = Shared::new(MEMORY_BYTES_MIN, ManualClock::default());
    let (tree, _) = Tree::open(disk.clone(), dir.clone(), TreeConfig::default(), shared).await?;
    for n in 1..4 {
        let extra = Bytes::from_static(b"extra");
        let meta = TreeMeta { applied: LogIndex::new(n.into()), applied_term: Term::new(1), extra };
        tree.flush(meta, async move |writer| {
            writer.inbox(&[n; 20], b"value").await?;
            writer.state(&[n; 17], Some(b"value")).await
        })
        .await?;
    }
    read_all(&disk, &dir.join(MANIFEST_NAME)).await
}

async fn read_all(disk: &SimDisk, path: &Path) -> Result<Vec<u8>> {
    let file = disk.open(path).await?;
    let len = usize::try_from(file.len()).expect("a small file");
    let bytes = file.read(0, len.next_multiple_of(BLOCK_BYTES)).await?;
    Ok(bytes[..len].to_vec())
}

/// Without the unused end of a segment, but for one block.
fn without_zeroes(mut bytes: Vec<u8>) -> Vec<u8> {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(used.next_multiple_of(BLOCK_BYTES) + BLOCK_BYTES);
    bytes
}
