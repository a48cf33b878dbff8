//! Inspection of whole, crashed and damaged directories; and that it changes nothing.

use std::{path::PathBuf, pin::pin};

use super::*;
use crate::{
    database::{Database, Options, Send},
    env::{
        Disk as _, DiskFile as _, Rng,
        clock::{ManualClock, WallTime},
        executor::{block_on, run_until_stalled},
        sim_disk::SimDisk,
    },
    ids::LogIndex,
    journal::{Journal, JournalConfig},
    test_log::{Log, dir, live, open},
    tree::manifest::Manifest,
};

type Contents = Vec<(PathBuf, Vec<u8>)>;

fn contents(disk: &SimDisk) -> Contents {
    let look = disk.snapshot();
    let files = look.files();
    let read = |(path, len): (PathBuf, u64)| {
        let len = usize::try_from(len).unwrap();
        let file = block_on(look.open(&path)).unwrap();
        let bytes = block_on(file.read(0, len.next_multiple_of(4096))).unwrap()[..len].to_vec();
        (path, bytes)
    };
    files.into_iter().map(read).collect()
}

fn options() -> Options {
    let mut journal = JournalConfig::new(PathBuf::new());
    (journal.segment_bytes, journal.batch_bytes_max) = (256 * 1024, 64 * 1024);
    Options { partitions: 2, memory_bytes: 4 << 20, window_ms: 1000, journal }
}

async fn use_database(disk: &SimDisk, rounds: u64) -> Result<()> {
    let clock = ManualClock::new(WallTime::from_millis(50_000));
    let (db, _) = Database::open(disk.clone(), clock.clone(), PathBuf::from("db"), options()).await?;
    let mut rng = Rng::from_seed(3);
    for n in 0..rounds {
        for user in 0..5u8 {
            let sender = columba_wire::DeviceAddress {
                user: columba_wire::UserId::from_bytes([user; 16]),
                device: columba_wire::DeviceId::FIRST,
            };
            let to = columba_wire::UserId::from_bytes([u8::try_from(rng.below(5)).unwrap(); 16]);
            let body = vec![user; usize::try_from(rng.below(3000)).unwrap()].into();
            db.send(Send { sender, to, client_seq: columba_wire::ClientSeq::new(n + 1), body });
        }
        clock.advance(core::time::Duration::from_millis(300));
        db.commit().await?;
        if n % 4 == 3 {
            db.flush().await?;
            db.compact().await?;
        }
    }
    Ok(())
}

fn inspect(disk: &SimDisk) -> DataInspection {
    block_on(inspect_data(disk, Path::new("db"), None, true)).unwrap()
}

#[test]
fn a_whole_directory_is_whole_and_nothing_is_changed() {
    let disk = SimDisk::new(1);
    block_on(use_database(&disk, 14)).unwrap();
    let before = contents(&disk);
    let found = inspect(&disk);
    assert!(found.is_whole(), "{found}");
    assert_eq!((found.journals.len(), found.partitions.len(), found.exit_status()), (1, 2, 0));
    assert!(found.partitions.iter().all(|partition| !partition.tables.is_empty()));
    assert!(found.journals[0].partitions.values().any(|entries| entries.records > 0));
    assert!(found.to_string().contains("checksum ok"));
    let records = block_on(dump_journal(&disk, Path::new("db/journal"), DumpOptions::default())).unwrap();
    assert!(!records.is_empty() && records.iter().any(|record| record.text.contains("send to")));
    for table in &found.partitions[0].tables {
        let rows = block_on(dump_table(&disk, &table.path, DumpOptions { limit: 7, bodies: true })).unwrap();
        assert!(!rows.is_empty() && rows.len() <= 7);
    }
    assert_eq!(contents(&disk), before);
}

#[test]
fn leftovers_of_a_crash_are_told_are_no_damage_and_stay() {
    let whole = SimDisk::new(2);
    block_on(use_database(&whole, 9)).unwrap();
    let mut leftovers = 0;
    for operation in (20..whole.operations()).step_by(7) {
        let disk = SimDisk::new(operation);
        disk.crash_at(operation);
        assert!(run_until_stalled(pin!(use_database(&disk, 9))).is_none());
        let after = disk.after_crash();
        if !after.files().iter().any(|(path, _)| path.starts_with("db/partition-00001")) {
            continue;
        }
        let before = contents(&after);
        let found = inspect(&after);
        assert_eq!(contents(&after), before, "operation {operation}");
        assert!(found.is_whole(), "operation {operation}: {found}");
        leftovers += found.partitions.iter().map(|one| one.orphans.len() + one.others.len()).sum::<usize>();
        // What it calls whole can be opened.
        block_on(async {
            let config = JournalConfig { dir: PathBuf::from("db/journal"), ..options().journal };
            Journal::open(after.snapshot(), config).await.unwrap();
        });
    }
    assert!(leftovers > 0);
}

#[test]
fn damage_anywhere_is_found_with_its_file_and_ends_nothing() {
    let whole = SimDisk::new(4);
    block_on(use_database(&whole, 11)).unwrap();
    let mut rng = Rng::from_seed(4);
    let mut silent = 0;
    for round in 0..400 {
        let disk = whole.snapshot();
        let files = disk.files();
        let (path, len) = &files[usize::try_from(rng.below(files.len() as u64)).unwrap()];
        let is_table = path.to_string_lossy().contains("table-");
        for _ in 0..=rng.below(3) {
            disk.flip_bit(path, rng.below(*len), u8::try_from(rng.below(8)).unwrap());
        }
        let before = contents(&disk);
        let found = inspect(&disk);
        assert_eq!(contents(&disk), before);
        if path.ends_with("manifest") || is_table {
            assert!(found.damages().any(|damage| damage.path == *path), "round {round}: {path:?}: {found}");
        } else {
            // A journal file has room that nothing is in, and the very last batch looks torn.
            silent += u32::from(found.is_whole());
        }
        let count = found.partitions.iter().map(|one| one.tables.len()).sum::<usize>();
        assert_eq!(count, inspect(&whole).partitions.iter().map(|one| one.tables.len()).sum::<usize>());
    }
    assert!(silent > 0);
}

#[test]
fn a_damaged_batch_and_a_damaged_block_hide_no_other() {
    let whole = SimDisk::new(5);
    block_on(use_database(&whole, 11)).unwrap();
    let segment = whole.files().into_iter().find(|(path, _)| path.to_string_lossy().contains("seg-")).unwrap().0;
    let expected = inspect(&whole);
    let disk = whole.snapshot();
    assert!(disk.flip_bit(&segment, 2 * 4096 + 100, 1));
    let found = inspect(&disk);
    let (before, after) = (&expected.journals[0].segments[0], &found.journals[0].segments[0]);
    assert!(found.journals[0].damages.iter().any(|damage| damage.path == segment), "{found}");
    assert_eq!(before.batches, after.batches, "batches behind it are read");
    assert!(after.records > 0 && after.records < before.records);

    let table = expected.partitions[0].tables.iter().max_by_key(|table| table.blocks).unwrap();
    let blocks = table.blocks.unwrap();
    assert!(blocks > 1);
    let disk = whole.snapshot();
    assert!(disk.flip_bit(&table.path, 30, 0));
    let damaged = block_on(inspect_table(&disk, &table.path));
    assert_eq!((damaged.blocks_whole, damaged.checksum_matches), (blocks - 1, Some(false)), "{damaged}");
    // Without footer and index too.
    assert!(disk.flip_bit(&table.path, table.bytes - 100, 0));
    let damaged = block_on(inspect_table(&disk, &table.path));
    assert_eq!(damaged.blocks_whole, blocks - 1, "{damaged}");
    assert!(damaged.meta.is_none());
}

#[test]
fn garbage_is_damage_and_no_panic() {
    let mut rng = Rng::from_seed(6);
    for _ in 0..60 {
        let disk = SimDisk::new(6);
        block_on(async {
            for path in ["db/journal", "db/partition-00000"] {
                disk.create_dir_all(Path::new(path)).await.unwrap();
            }
            for path in [
                "db/journal/seg-0000000000000001",
                "db/partition-00000/manifest",
                "db/partition-00000/table-0000000000000001",
                "db/partition-00000/table-00000000000000ee",
            ] {
                let mut bytes = vec![0; usize::try_from(rng.below(30_000)).unwrap()];
                rng.fill(&mut bytes);
                let file = disk.create(Path::new(path)).await.unwrap();
                file.append(bytes).await.unwrap();
            }
            let found = inspect_data(&disk, Path::new("db"), None, true).await.unwrap();
            assert!(found.damages().count() >= 3, "{found}");
            assert_eq!(found.exit_status(), 1);
        });
    }
}

#[test]
fn entries_in_neither_journal_nor_files_a_missing_file_and_one_of_the_wrong_name_are_told() {
    let disk = SimDisk::new(7);
    let mut log = Log::new(7, false);
    block_on(async {
        let partition = open(&disk, &dir()).await.unwrap();
        live(&mut log, &partition, 6, 7).await.unwrap();
        drop(partition);
        let found = inspect_partition(&disk, &dir(), true).await.unwrap();
        assert!(found.is_whole() && found.settings.is_some(), "{found}");
        let path = found.tables[0].path.clone();
        disk.rename(&path, &dir().join("table-00000000000000ff")).await.unwrap();
        let found = inspect_partition(&disk, &dir(), true).await.unwrap();
        assert_eq!((found.missing.len(), found.orphans.len()), (1, 1));
        assert!(found.orphans[0].damages.iter().any(|damage| damage.reason.contains("another file")), "{found}");
        assert!(!found.is_whole());
    });
    let mut journal = JournalInspection::default();
    let manifest = Manifest { applied: LogIndex::new(5), ..Manifest::default() };
    let partition = PartitionInspection { manifest: Some(manifest), ..PartitionInspection::default() };
    let entries = |first| {
        let (first, last) = (LogIndex::new(first), LogIndex::new(9));
        journal::Entries { first, last, ..journal::Entries::default() }
    };
    journal.partitions.insert(PartitionId::new(0), entries(6));
    assert!(gap(&journal, PartitionId::new(0), &partition).is_none());
    journal.partitions.insert(PartitionId::new(0), entries(7));
    assert!(gap(&journal, PartitionId::new(0), &partition).is_some());
}
