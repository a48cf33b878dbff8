//! Messages are deleted once every device has them: the bytes come back on disk, and none of them a device too early.
//!
//! The files are looked through once a minute (`SWEEP_EVERY`), so this waits for two of these looks. `SPACE=full` is
//! for a release build: sixty times as much, with merges between.

use core::time::Duration;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use columba_engine::{env::thread_disk::ThreadDisk, inspect::inspect_table, table::meta::Class};
use columba_wire::{
    ChatId, Code, UserId,
    v1::{self, client_frame::Kind as Request, server_frame::Kind},
};

use crate::{
    devices::link,
    link::Over,
    node::{PATIENCE, run, setup, until},
    raw::{Person, Raw, ack, send},
};

/// Bytes of a message. They are random, so that compression takes none of them away.
const BODY_BYTES: usize = 4 * 1024;
/// Unanswered sends.
const WINDOW: u64 = 16;
/// Messages for each acknowledgement.
const ACK_EVERY: u64 = 16;
/// The longest until the files have been looked through.
const SWEEP_PATIENCE: Duration = Duration::from_secs(180);

/// Messages of each chat: several memtables of the smallest node there is.
fn count() -> u64 {
    match std::env::var("SPACE").as_deref() {
        Ok("full") => 60_000,
        _ => 1_000,
    }
}

/// What a message says: nothing but its number tells it, and every byte follows from that.
fn body(client_seq: u64) -> Bytes {
    let mut state = client_seq;
    let mut body = client_seq.to_be_bytes().to_vec();
    while body.len() < BODY_BYTES {
        // SplitMix64.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        body.extend((mixed ^ (mixed >> 31)).to_le_bytes());
    }
    body.into()
}

/// Table files of a node, told apart by what they hold.
struct Tables {
    dir: PathBuf,
    disk: ThreadDisk,
    /// A file never changes, so each is opened once.
    classes: BTreeMap<PathBuf, Class>,
}

impl Tables {
    fn of(data_dir: &Path) -> Self {
        Self { dir: data_dir.to_owned(), disk: ThreadDisk::new().unwrap(), classes: BTreeMap::new() }
    }

    /// Bytes of the files that hold messages, as the directory has them.
    async fn message_bytes(&mut self) -> u64 {
        let mut bytes = 0;
        for core in entries(&self.dir, "core-") {
            for partition in entries(&core, "partition-") {
                for table in entries(&partition, "table-") {
                    if !self.classes.contains_key(&table) {
                        // One that is being written, or has just gone, tells nothing.
                        let Some(meta) = inspect_table(&self.disk, &table).await.meta else { continue };
                        self.classes.insert(table.clone(), meta.properties.class);
                    }
                    if self.classes[&table] == Class::Messages {
                        bytes += table.metadata().map_or(0, |file| file.len());
                    }
                }
            }
        }
        bytes
    }
}

fn entries(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)));
    named.map(|entry| entry.path()).collect()
}

/// Sends so many messages, beginning with this number; what is refused for a moment is sent again.
async fn send_many(raw: &mut Raw, to: UserId, first: u64) {
    let (mut next, end) = (first, first + count());
    let mut unanswered = BTreeMap::new();
    while next < end || !unanswered.is_empty() {
        while next < end && (unanswered.len() as u64) < WINDOW {
            unanswered.insert(raw.request(send(next, to, body(next))).await, next);
            next += 1;
        }
        let frame = raw.receive().await.expect("an answer");
        let Some(client_seq) = unanswered.remove(&frame.request_id) else { continue };
        match frame.kind {
            Some(Kind::Sent(sent)) => assert_eq!(sent.client_seq, client_seq),
            Some(Kind::Error(error)) => {
                let code = Code::from_number(error.code).unwrap();
                assert!(code.is_retryable(), "message {client_seq}: {code}");
                unanswered.insert(raw.request(send(client_seq, to, body(client_seq))).await, client_seq);
            }
            other => panic!("another answer to Send: {other:?}"),
        }
    }
}

/// Takes all messages of a chat, each once, in order and whole, and acknowledges them.
async fn take_all(raw: &mut Raw, chat: ChatId, first: u64) {
    let (mut last, mut missing) = (0, vec![true; usize::try_from(count()).unwrap()]);
    while last < count() {
        let came = raw.expect("a message", |kind| if let Kind::Deliver(came) = kind { Some(came) } else { None }).await;
        assert_eq!(&came.chat_id[..], chat.as_bytes());
        if came.seq <= last {
            // It was on its way when its acknowledgement was.
            raw.request(ack(chat, last)).await;
            continue;
        }
        assert_eq!(came.seq, last + 1, "in order, without a gap");
        last = came.seq;
        let number = u64::from_be_bytes(*came.body.first_chunk().unwrap());
        assert_eq!(came.body, body(number), "message {last} is whole");
        let at = usize::try_from(number - first).unwrap();
        assert!(core::mem::take(&mut missing[at]), "{number} came before");
        if last.is_multiple_of(ACK_EVERY) || last == count() {
            raw.request(ack(chat, last)).await;
        }
    }
    // An answer behind it says that the last acknowledgement was taken.
    raw.ask(Request::Ping(v1::Ping {})).await.unwrap();
}

#[test]
fn the_bytes_of_messages_come_back_once_every_device_has_them_and_not_before() {
    run(Duration::from_secs(900), async {
        let node = setup()
            .set("retention", "until-delivered")
            .set("memory_mib", "4")
            .set("partitions", "1")
            .set("scrub_mib_per_second", "0")
            .start()
            .await;
        let mut tables = Tables::of(node.data_dir());
        let (mut ada, mut bob, mut cyd) = (Person::new("ada"), Person::new("bob"), Person::new("cyd"));
        let mut a = Raw::register(&node, Over::Plain, &mut ada).await;
        let mut phone = Raw::register(&node, Over::Tls, &mut bob).await;
        let (laptop, laptop_is) = link(&node, Over::Quic, &mut phone, "laptop").await;
        drop(laptop);
        drop(Raw::register(&node, Over::Quic, &mut cyd).await);
        let (to_bob, to_cyd) = (ChatId::direct(ada.user(), bob.user()), ChatId::direct(ada.user(), cyd.user()));

        // Bob's phone takes everything as it comes, his laptop is away; then the same for Cyd, who is away altogether.
        let (first, second) = (1, count() + 1);
        tokio::join!(send_many(&mut a, bob.user(), first), take_all(&mut phone, to_bob, first));
        send_many(&mut a, cyd.user(), second).await;
        drop((a, phone));
        let chat_bytes = count() * BODY_BYTES as u64;
        let mut grown = 0;
        until("messages of both chats are in files", PATIENCE, async || {
            grown = tables.message_bytes().await;
            (grown > chat_bytes * 3 / 2).then_some(())
        })
        .await;

        // Once Cyd has everything her files go. Those of Bob are older and are looked at before them: they stay, all of
        // them, for his laptop alone.
        let mut c = Raw::login(&node, Over::Plain, &cyd).await;
        take_all(&mut c, to_cyd, second).await;
        let mut left = 0;
        until("the bytes of the chat that everybody has come back", SWEEP_PATIENCE, async || {
            left = tables.message_bytes().await;
            (left < grown - chat_bytes / 4).then_some(())
        })
        .await;
        assert!(left >= chat_bytes, "{left} of {chat_bytes} bytes are left of what a device still needs");

        // The laptop takes it all, while the phone, which has it, is away.
        let mut laptop = Raw::login(&node, Over::Quic, &laptop_is).await;
        take_all(&mut laptop, to_bob, first).await;
        let mut rest = 0;
        until("no bytes of messages are left", SWEEP_PATIENCE, async || {
            rest = tables.message_bytes().await;
            (rest <= chat_bytes / 100).then_some(())
        })
        .await;
        println!(
            "{chat_bytes} bytes in each of two chats: {grown} in files of messages, {left} while one device of one \
             chat needs them, {rest} at the end"
        );
    });
}
