//! Seeds of the engine's readers: files that journal, tables and tree themselves write, on a simulated disk.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use columba_engine::{
    env::{Disk as _, DiskFile as _, executor::block_on, sim_disk::SimDisk},
    error::Result,
    ids::{FileId, LogIndex, PartitionId, Term},
    journal::{Journal, JournalConfig},
    limits::BLOCK_BYTES,
    message::StoredMessage,
    table::{columns::MessageBlockBuilder, writer::TableWriter},
    tree::{
        Tree, TreeMeta,
        manifest::{MANIFEST_NAME, Manifest},
    },
};

use columba_fuzz::MESSAGE_BLOCK_PLACE;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, DeviceId, MessageSeq, UserId};

use crate::Seed;

/// Bytes of a segment: small, because a seed should be.
const SEGMENT_BYTES: u64 = 64 * 1024;

/// Seeds of the targets `journal`, `table`, `message_block` and `manifest`.
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
        for (name, rows) in [("empty", 0), ("one", 1), ("blocks", 1500)] {
            let bytes = table(rows).await.expect("the simulated disk has no faults");
            seeds.push(Seed { target: "table", name: name.to_owned(), bytes });
        }
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

async fn table(rows: u32) -> Result<Vec<u8>> {
    let disk = SimDisk::new(1);
    let path = Path::new("table");
    let mut writer = TableWriter::new(FileId::new(1), disk.create(path).await?);
    for row in 0..rows {
        let value = (row % 7 != 0).then_some(b"a value, thirty-two bytes, or so".as_slice());
        writer.push(&row.to_be_bytes(), value).await?;
    }
    writer.finish().await?;
    read_all(&disk, path).await
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
    let (tree, _) = Tree::open(disk.clone(), dir.clone()).await?;
    for n in 1..4 {
        let rows = vec![(vec![n; 17], Some(b"value".to_vec()))];
        let extra = Bytes::from_static(b"extra");
        let meta = TreeMeta { applied: LogIndex::new(n.into()), applied_term: Term::new(1), extra };
        tree.flush(rows.into_iter(), meta).await?;
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
