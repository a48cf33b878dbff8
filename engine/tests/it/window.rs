//! A window of time that is past its retention is dropped whole: no message of it is read or written again.

use std::path::PathBuf;

use bytes::Bytes;
use columba_engine::{
    database::{Database, Options, Send},
    env::{
        Disk, Rng,
        clock::{ManualClock, WallTime},
        executor::block_on,
        sim_disk::SimDisk,
        thread_disk::ThreadDisk,
    },
    partition::retention::Retention,
};
use columba_wire::{ChatId, ClientSeq, DeviceAddress, DeviceId, UserId};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Bytes of a body, which do not compress.
const BODY_BYTES: u64 = 4096;
/// Messages of a commit, and commits between two flushes.
const COMMIT_MESSAGES: u64 = 64;
const FLUSH_COMMITS: u64 = 32;
const CHATS: u64 = 40;

fn user(n: u64) -> UserId {
    UserId::from_bytes(u128::from(n + 1).to_be_bytes())
}

/// What dropping a window took.
struct Dropped {
    bytes_before: u64,
    bytes_after: u64,
    bytes_written: u64,
    bytes_merged: u64,
    blocks_read: u64,
}

/// Fills a day with so many bytes of messages, and two days later lets it expire.
async fn expire<D: Disk>(disk: D, dir: PathBuf, bytes: u64) -> Dropped {
    let clock = ManualClock::default();
    clock.set_wall(WallTime::from_millis(100 * DAY_MS));
    let options = Options { memory_bytes: 64 << 20, ..Options::default() };
    let (db, _) = Database::open(disk, clock.clone(), dir, options).await.expect("it opens");
    db.set_retention(None, Some(Retention::History { days: Some(1) }));
    let mut rng = Rng::from_seed(1);
    let sender = DeviceAddress { user: user(CHATS), device: DeviceId::FIRST };
    for n in 1..=bytes / BODY_BYTES {
        let mut body = vec![0; usize::try_from(BODY_BYTES).expect("a few KiB")];
        rng.fill(&mut body);
        db.send(Send { sender, to: user(n % CHATS), client_seq: ClientSeq::new(n), body: Bytes::from(body) });
        if n % COMMIT_MESSAGES == 0 {
            db.commit().await.expect("there is room");
        }
        if n % (COMMIT_MESSAGES * FLUSH_COMMITS) == 0 {
            db.flush().await.expect("there is room");
            db.compact().await.expect("there is room");
        }
    }
    db.commit().await.expect("there is room");
    db.flush().await.expect("there is room");
    db.compact().await.expect("there is room");
    clock.set_wall(WallTime::from_millis(102 * DAY_MS));
    db.expire();
    db.commit().await.expect("there is room");
    assert_eq!(db.newest(ChatId::direct(sender.user, user(1)), 10).await.expect("it is whole"), []);
    let before = db.stats();
    db.compact().await.expect("there is room");
    let after = db.stats();
    let read = |stats: &columba_engine::database::Stats| stats.blocks.hits + stats.blocks.misses;
    Dropped {
        bytes_before: before.tree.bytes,
        bytes_after: after.tree.bytes,
        bytes_written: after.bytes_written_total - before.bytes_written_total,
        bytes_merged: after.tree.merged_bytes_total - before.tree.merged_bytes_total,
        blocks_read: read(&after) - read(&before),
    }
}

#[expect(clippy::print_stdout, reason = "the figures are what the test is run for")]
fn judge(bytes: u64, dropped: &Dropped) {
    let Dropped { bytes_before, bytes_after, bytes_written, bytes_merged, blocks_read } = *dropped;
    println!(
        "{bytes_before} bytes in files; {} dropped, {bytes_after} are left; {bytes_written} bytes written, all of them \
         manifest; {bytes_merged} merged, {blocks_read} blocks read",
        bytes_before - bytes_after
    );
    assert!(bytes_before - bytes_after >= bytes, "the window is gone");
    assert_eq!((bytes_merged, blocks_read), (0, 0), "nothing of it is read or written");
    assert!(bytes_written < 64 * 1024, "{bytes_written} bytes written");
}

#[test]
fn an_expired_window_goes_without_a_rewrite() {
    let bytes = 16 << 20;
    judge(bytes, &block_on(expire(SimDisk::new(1), PathBuf::from("db"), bytes)));
}

/// On a real disk: `cargo nextest run -p columba-engine --release --run-ignored only gib`, with `--no-capture` for the
/// figures.
#[test]
#[ignore = "writes several GiB"]
fn an_expired_window_of_one_gib_goes_without_a_rewrite() {
    let bytes = 1 << 30;
    let dir = tempfile::tempdir().expect("there is a place for it");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let disk = ThreadDisk::new().expect("threads");
    judge(bytes, &runtime.block_on(expire(disk, dir.path().join("db"), bytes)));
}
