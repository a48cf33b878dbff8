//! The engine as a library: open, send, read, subscribe, close; then open again and find everything.
//!
//! ```text
//! cargo run --release -p columba-engine --example embed
//! ```

#![expect(clippy::print_stdout, reason = "a command line program")]

use std::{error::Error, path::PathBuf};

use columba_engine::{
    database::{Database, Options, Send, subscribe::Notice},
    env::{clock::SystemClock, lock::DirLock, thread_disk::ThreadDisk},
    partition::effect::Outcome,
};
use columba_wire::{ChatId, ClientSeq, DeviceAddress, DeviceId, UserId};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    tokio::task::LocalSet::new().run_until(run()).await
}

async fn run() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("columba-embed-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let lock = DirLock::take(&dir)?;

    let (ada, bob) = (UserId::from_bytes([1; 16]), UserId::from_bytes([2; 16]));
    let chat = ChatId::direct(ada, bob);
    let phone = DeviceAddress { user: ada, device: DeviceId::FIRST };

    let db = open(dir.clone()).await?;
    let background = tokio::task::spawn_local(db.clone().run_background());
    let mut messages = db.subscribe(Some(chat));
    let mut tickets = Vec::new();
    for (n, text) in ["hello", "how are you?", "see you at eight"].into_iter().enumerate() {
        tickets.push(db.send(Send {
            sender: phone,
            to: bob,
            client_seq: ClientSeq::new(n as u64 + 1),
            body: text.into(),
        }));
    }
    // One durable write for all three.
    db.commit().await?;
    for ticket in &tickets {
        match db.outcome(ticket).await? {
            Some(Outcome::Sent { seq, .. }) => println!("stored as #{seq}"),
            other => println!("not stored: {other:?}"),
        }
    }
    while let Some(Notice::Message { message, .. }) = messages.try_next() {
        println!("heard #{}: {}", message.seq, String::from_utf8_lossy(&message.body));
    }
    db.close().await?;
    background.await??;

    let db = open(dir.clone()).await?;
    for message in db.newest(chat, 2).await? {
        println!("found #{}: {}", message.seq, String::from_utf8_lossy(&message.body));
    }
    db.close().await?;
    drop(lock);
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

async fn open(dir: PathBuf) -> Result<Database<ThreadDisk, SystemClock>, Box<dyn Error>> {
    let (db, report) = Database::open(ThreadDisk::new()?, SystemClock::new(), dir, Options::default()).await?;
    println!("opened; {} entries were in the journal alone", report.applied_entries);
    Ok(db)
}
