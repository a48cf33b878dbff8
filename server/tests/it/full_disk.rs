//! A full disk: new messages are refused, everything else goes on, and nothing is lost.

use core::time::Duration;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

use columba_wire::{
    ChatId, Code,
    v1::{self, client_frame::Kind as Request, server_frame::Kind},
};
use rustix::fs::{FallocateFlags, fallocate};
use tokio::time::{Instant, sleep};

use crate::{
    link::Over,
    node::{Node, PATIENCE, run, setup, until},
    raw::{Person, Raw, ack, id, send},
};

/// The disk: room for a few journal segments of 64 MiB.
const DISK_MIB: u64 = 448;
/// What is left when the disk is filled.
const LEFT_MIB: u64 = 2;
/// Refusals in a row, 50 ms apart, after which the disk counts as full.
const REFUSED_IN_A_ROW: usize = 20;
/// Bytes of a message's body: the journal is full soon.
const BODY_BYTES: usize = 48 * 1024;

/// A small disk in memory, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where this machine does not allow it.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m"), "tmpfs"]).arg(dir.path());
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self(dir)),
            other => {
                println!("skipped: no file system may be mounted here: {other:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn free_mib(&self) -> u64 {
        let free = rustix::fs::statvfs(self.path()).unwrap();
        free.f_bavail * free.f_frsize / (1024 * 1024)
    }

    /// Files that take all but a little of what is left, and goes on being left: the node makes and removes files of
    /// its own meanwhile.
    async fn fill(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut quiet = 0;
        while quiet < 10 {
            let free = self.free_mib();
            if free <= LEFT_MIB {
                quiet += 1;
                sleep(Duration::from_millis(50)).await;
                continue;
            }
            quiet = 0;
            let path = self.path().join(format!("ballast-{}", files.len()));
            let file = std::fs::File::create(&path).unwrap();
            // What does not fit any more is tried again with what is left then.
            let _ = fallocate(&file, FallocateFlags::empty(), 0, (free - LEFT_MIB) * 1024 * 1024);
            files.push(path);
            assert!(files.len() < 200, "the disk does not get full");
        }
        files
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still be in it.
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

/// Two people, their chat, and what they have of it.
struct Talk {
    from: Raw,
    to: Raw,
    sender: Person,
    receiver: Person,
    /// Client seqs that were confirmed, by place.
    confirmed: Vec<u64>,
    next: u64,
    /// Newest message that came to the receiver.
    came: u64,
}

impl Talk {
    fn chat(&self) -> ChatId {
        ChatId::direct(self.sender.user(), self.receiver.user())
    }

    fn body(client_seq: u64) -> Vec<u8> {
        let mut body = vec![b'.'; BODY_BYTES];
        body[..8].copy_from_slice(&client_seq.to_be_bytes());
        body
    }

    async fn send(&mut self) -> Result<(), Code> {
        let client_seq = self.next;
        self.next += 1;
        let Kind::Sent(sent) = self.from.ask(send(client_seq, self.receiver.user(), Self::body(client_seq))).await?
        else {
            panic!("another answer to Send");
        };
        self.confirmed.push(client_seq);
        assert_eq!(sent.seq, self.confirmed.len() as u64, "dense");
        Ok(())
    }

    /// Takes everything that is confirmed, and acknowledges it.
    async fn take(&mut self) {
        while self.came < self.confirmed.len() as u64 {
            let deliver = self.to.expect("a delivery", |kind| match kind {
                Kind::Deliver(deliver) => Some(deliver),
                _ => None,
            });
            let deliver = deliver.await;
            assert!(deliver.seq <= self.came + 1, "{} after {}", deliver.seq, self.came);
            if deliver.seq == self.came + 1 {
                self.came += 1;
                let client_seq = self.confirmed[self.came as usize - 1];
                assert_eq!(deliver.body[..8], client_seq.to_be_bytes(), "the body at {}", self.came);
            }
            let chat = self.chat();
            self.to.request(ack(chat, deliver.seq)).await;
        }
    }

    async fn history(&mut self) -> usize {
        let page = v1::GetHistory { chat_id: id(self.chat().as_bytes()), before_seq: 0, limit: 2 };
        match self.from.ask(Request::GetHistory(page)).await {
            Ok(Kind::History(history)) => history.messages.len(),
            other => panic!("no history: {other:?}"),
        }
    }
}

#[test]
fn a_full_disk_refuses_messages_loses_none_and_takes_them_again_once_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    run(Duration::from_secs(120), async {
        let mut node = setup().data_dir(&disk.path().join("data")).fixed_port().start().await;
        let (mut sender, mut receiver) = (Person::new("sender"), Person::new("receiver"));
        let from = Raw::register(&node, Over::Tls, &mut sender).await;
        let to = Raw::register(&node, Over::Quic, &mut receiver).await;
        let mut talk = Talk { from, to, sender, receiver, confirmed: Vec::new(), next: 1, came: 0 };
        for _ in 0..10 {
            talk.send().await.unwrap();
        }
        let ballast = disk.fill().await;
        println!("{} MiB left", disk.free_mib());
        let began = Instant::now();
        // A flush that still finds room gives a segment of the journal back: full is when nothing of that helps any
        // more.
        let mut refused = 0;
        while refused < REFUSED_IN_A_ROW {
            assert!(talk.confirmed.len() < 20_000, "the disk does not get full");
            match talk.send().await {
                Ok(()) => refused = 0,
                Err(code) => {
                    assert_eq!(code, Code::NoSpace);
                    refused += 1;
                    sleep(Duration::from_millis(50)).await;
                }
            }
            talk.take().await;
        }
        let refused = talk.from.ask(send(talk.next, talk.receiver.user(), "small")).await;
        assert_eq!(refused, Err(Code::NoSpace));
        let taken = talk.confirmed.len();
        println!("{taken} messages of {BODY_BYTES} bytes, then refused after {:.1?}", began.elapsed());
        while_full(&node, &mut talk).await;

        ballast.iter().for_each(|file| std::fs::remove_file(file).unwrap());
        let began = Instant::now();
        until("messages are taken again", PATIENCE, async || talk.send().await.ok()).await;
        println!("taken again {:.1?} after there was room", began.elapsed());
        for _ in 0..50 {
            talk.send().await.unwrap();
        }
        talk.take().await;

        // And all of it is there for a process that has seen nothing of it.
        node.kill();
        node.start().await;
        talk.from = Raw::login(&node, Over::Tls, &talk.sender).await;
        talk.to = Raw::login(&node, Over::Tls, &talk.receiver).await;
        check_all(&mut talk).await;
        talk.send().await.unwrap();
    });
}

/// What goes on while the disk is full.
async fn while_full(node: &Node, talk: &mut Talk) {
    talk.take().await;
    assert_eq!(talk.history().await, 2);
    let pong = talk.to.ask(Request::Ping(v1::Ping {})).await;
    assert!(matches!(pong, Ok(Kind::Pong(_))), "{pong:?}");
    let find = Request::FindUser(v1::FindUser { handle: "sender".to_owned() });
    assert!(matches!(talk.to.ask(find).await, Ok(Kind::UserFound(_))));
    // A login needs no room, a registration does.
    talk.to = Raw::login(node, Over::Plain, &talk.receiver).await;
    talk.to.expect("synced", |kind| matches!(kind, Kind::Synced(_)).then_some(())).await;
    let mut late = Raw::connect(node, Over::Plain).await;
    assert_eq!(late.try_register(&mut Person::new("too-late"), "").await, Err(Code::NoSpace));
    for _ in 0..10 {
        assert_eq!(talk.send().await, Err(Code::NoSpace));
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(node.page("/healthz").await.0, 200);
    assert!(node.metrics().await.get("refused_no_space_total") > 10);
}

/// The whole history, from the newest.
async fn check_all(talk: &mut Talk) {
    let (mut before, mut seen) = (0, 0);
    loop {
        let page = v1::GetHistory { chat_id: id(talk.chat().as_bytes()), before_seq: before, limit: 100 };
        let Ok(Kind::History(history)) = talk.from.ask(Request::GetHistory(page)).await else { panic!("no history") };
        for message in history.messages {
            let client_seq = talk.confirmed[message.seq as usize - 1];
            assert_eq!(message.body, Talk::body(client_seq), "the body at {}", message.seq);
            before = message.seq;
            seen += 1;
        }
        if history.complete {
            break;
        }
    }
    assert_eq!(seen, talk.confirmed.len(), "messages in the history");
}
