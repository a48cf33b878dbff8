//! Snapshots beside writes, and installations over crashes, wrong pieces and full disks.

use std::{path::PathBuf, pin::pin};

use super::{installer::INSTALL_NAME, *};
use crate::{
    env::{
        executor::{block_on, run_until_stalled, yield_now},
        sim_disk::SimDisk,
    },
    test_log::{Log, chats, devices, dir, live, open, pacer},
};

fn there() -> PathBuf {
    PathBuf::from("elsewhere/partition-00000")
}

type Pieces = Vec<(FileId, u64, Bytes)>;

/// What is shipped, as a peer has it.
async fn ship(snapshot: &Snapshot<SimDisk>) -> (SnapshotHeader, Pieces) {
    let mut pieces = Vec::new();
    for file in snapshot.header().files() {
        let mut offset = 0;
        while offset < file.bytes {
            let piece = snapshot.read(file.id, offset, 3 * BLOCK_BYTES).await.unwrap();
            offset += piece.len() as u64;
            pieces.push((file.id, offset - piece.len() as u64, piece));
        }
    }
    let bytes = snapshot.header().encode();
    (header::check_image(&bytes).unwrap(), pieces)
}

/// Gives an installer what it wants until it has all.
async fn feed(installer: &mut Installer<SimDisk>, pieces: &Pieces) -> Result<()> {
    while let Some(wanted) = installer.wanted() {
        let (_, at, piece) = pieces
            .iter()
            .rfind(|(file, at, _)| *file == wanted.file && *at <= wanted.offset)
            .expect("every place of every file is shipped");
        let skip = usize::try_from(wanted.offset - at).unwrap();
        installer.accept(wanted.file, wanted.offset, &piece[skip..]).await?;
    }
    Ok(())
}

async fn install(disk: &SimDisk, header: &SnapshotHeader, pieces: &Pieces) -> Result<()> {
    disk.create_dir_all(&there()).await?;
    let mut installer = match Installer::resume(disk.clone(), there(), pacer()).await? {
        Some(installer) if installer.header() == header => installer,
        _ => Installer::begin(disk.clone(), there(), header.clone(), pacer()).await?,
    };
    feed(&mut installer, pieces).await?;
    installer.finish().await
}

/// A partition with some files of each class, and more that is not flushed.
async fn source(log: &mut Log, disk: &SimDisk, seed: u64) -> Partition<SimDisk> {
    let partition = open(disk, &dir()).await.unwrap();
    live(log, &partition, 14, seed).await.unwrap();
    let further = LogIndex::new(partition.applied().get() + 9);
    log.apply(&partition, further).await.unwrap();
    partition
}

#[test]
fn a_snapshot_beside_writes_flushes_and_merges_is_the_state_at_its_index() {
    let mut removed = 0;
    for seed in 0..12 {
        let disk = SimDisk::new(seed);
        // Deletions while the snapshot's own flush goes on: then the copy is complete a few entries later.
        let mut log = Log::new(seed, seed % 2 == 0);
        block_on(async {
            let partition = source(&mut log, &disk, seed).await;
            let before = partition.applied();
            let (snapshot, ()) = futures_util::future::join(partition.snapshot(), async {
                for _ in 0..10 {
                    let next = partition.applied().next();
                    log.apply(&partition, next).await.unwrap();
                    yield_now().await;
                }
            })
            .await;
            let snapshot = snapshot.unwrap();
            assert!(snapshot.applied() >= before, "what was applied before is in it");
            live(&mut log, &partition, 12, seed + 100).await.unwrap();
            let (header, pieces) = ship(&snapshot).await;
            let files = disk.files().len();
            drop(snapshot);
            partition.tree().collect_garbage().await.unwrap();
            removed += files - disk.files().len();

            let other = SimDisk::new(seed);
            install(&other, &header, &pieces).await.unwrap();
            let copy = open(&other, &there()).await.unwrap();
            copy.verify().await.unwrap();
            assert_eq!(copy.applied(), header.applied());
            log.apply(&copy, header.complete_from).await.unwrap();
            assert_eq!(copy.state_hash().await.unwrap(), log.hash_at(header.complete_from), "seed {seed}");
            // It lives on, and stays the same as its source.
            live(&mut log, &copy, 8, seed + 200).await.unwrap();
            let last = copy.applied().max(partition.applied());
            log.apply(&copy, last).await.unwrap();
            log.apply(&partition, last).await.unwrap();
            assert_eq!(copy.state_hash().await.unwrap(), partition.state_hash().await.unwrap());
        });
    }
    assert!(removed > 0, "files that a snapshot alone kept are removed after it");
}

#[test]
fn reads_of_a_snapshot_are_those_of_its_index() {
    for seed in 20..26 {
        let disk = SimDisk::new(seed);
        let mut log = Log::new(seed, true);
        block_on(async {
            let partition = source(&mut log, &disk, seed).await;
            let snapshot = partition.snapshot().await.unwrap();
            live(&mut log, &partition, 8, seed + 100).await.unwrap();
            let reference = open(&SimDisk::new(0), &dir()).await.unwrap();
            log.apply(&reference, snapshot.applied()).await.unwrap();
            assert_eq!(snapshot.applied(), snapshot.header().complete_from, "nothing was applied during the flush");
            assert_eq!(snapshot.settings(), reference.settings());
            for chat in chats() {
                assert_eq!(snapshot.chat(chat).await.unwrap(), reference.chat(chat).await.unwrap());
                let expected = reference.newest(chat, MessageSeq::MAX, 30, usize::MAX).await.unwrap();
                assert_eq!(snapshot.newest(chat, MessageSeq::MAX, 30, usize::MAX).await.unwrap(), expected);
                let (first, last) = (MessageSeq::new(1), MessageSeq::MAX);
                let expected = reference.messages(chat, first, last, usize::MAX).await.unwrap().messages;
                let mut found = Vec::new();
                let mut next = first;
                let end = snapshot.chat(chat).await.unwrap().map_or(MessageSeq::ZERO, |chat| chat.last_seq);
                while next <= end {
                    let page = snapshot.messages(chat, next, last, 500).await.unwrap();
                    assert!(page.next > next);
                    found.extend(page.messages);
                    next = page.next;
                }
                let alive = |message: &&StoredMessage| found.contains(message);
                assert!(expected.iter().filter(alive).eq(found.iter()), "what is found is what is there");
                assert_eq!(expected.len(), found.len());
            }
            for device in devices() {
                assert_eq!(snapshot.inbox(device, 0, 50).await.unwrap(), reference.inbox(device, 0, 50).await.unwrap());
                assert_eq!(snapshot.user(device.user).await.unwrap(), reference.user(device.user).await.unwrap());
                for chat in chats() {
                    let member = reference.member(chat, device.user).await.unwrap();
                    assert_eq!(snapshot.member(chat, device.user).await.unwrap(), member);
                }
            }
            let refused = snapshot.read(FileId::new(u64::MAX), 0, 1).await;
            assert!(matches!(refused, Err(Error::Malformed { .. })));
            let file = &snapshot.header().files()[0];
            for (offset, len) in [(file.bytes, 1), (1, 1), (0, 0), (u64::MAX / 4096 * 4096, 1)] {
                assert!(snapshot.read(file.id, offset, len).await.is_err());
            }
        });
    }
}

#[test]
fn a_snapshot_waits_for_the_flush_under_way() {
    let disk = SimDisk::new(1);
    let mut log = Log::new(1, false);
    block_on(async {
        let partition = source(&mut log, &disk, 1).await;
        let (flushed, first, second) =
            Box::pin(futures_util::future::join3(partition.flush(), partition.snapshot(), partition.snapshot())).await;
        assert_eq!(flushed.unwrap().applied, first.unwrap().applied());
        assert_eq!(second.unwrap().applied(), partition.applied());
    });
}

/// What a small source ships, and its hash.
fn shipped(seed: u64, flushes: u64) -> (SnapshotHeader, Pieces, u64) {
    let disk = SimDisk::new(seed);
    let mut log = Log::new(seed, true);
    block_on(async {
        let partition = open(&disk, &dir()).await.unwrap();
        live(&mut log, &partition, flushes, seed).await.unwrap();
        let snapshot = partition.snapshot().await.unwrap();
        let (header, pieces) = ship(&snapshot).await;
        (header, pieces, partition.state_hash().await.unwrap())
    })
}

/// A crash at each operation of an installation; then what is there, and that it goes on.
fn crash_everywhere(begin: impl Fn(u64) -> SimDisk, was_there: LogIndex) {
    let (header, pieces, hash) = shipped(5, 6);
    let whole = begin(0);
    block_on(install(&whole, &header, &pieces)).unwrap();
    let (mut resumed, mut replaced) = (0, 0);
    for operation in 1..=whole.operations() {
        let disk = begin(operation);
        disk.crash_at(operation);
        assert!(run_until_stalled(pin!(install(&disk, &header, &pieces))).is_none());
        let after = disk.after_crash();
        block_on(async {
            // What is there without going on is what was there before, or the whole of the snapshot.
            let look = after.snapshot();
            let opened = open(&look, &there()).await;
            let partition = opened.unwrap_or_else(|error| panic!("operation {operation}: {error}"));
            let applied = partition.applied();
            assert!(applied == was_there || applied == header.applied(), "operation {operation}: {applied}");
            if applied == header.applied() {
                assert_eq!(partition.state_hash().await.unwrap(), hash);
                replaced += 1;
            }
            drop(partition);
            after.create_dir_all(&there()).await.unwrap();
            if let Some(installer) = Installer::resume(after.clone(), there(), pacer()).await.unwrap() {
                resumed += u64::from(installer.bytes() > 0);
                assert!(installer.wanted().is_none_or(|wanted| wanted.offset.is_multiple_of(BLOCK_BYTES as u64)));
            }
            install(&after, &header, &pieces).await.unwrap_or_else(|error| panic!("operation {operation}: {error}"));
            let partition = open(&after, &there()).await.unwrap();
            assert_eq!(partition.state_hash().await.unwrap(), hash, "operation {operation}");
            partition.verify().await.unwrap();
            assert_eq!(after.files().len(), header.files().len() + 1, "nothing else is left: {:?}", after.files());
        });
    }
    assert!(resumed > 20 && replaced > 0, "{resumed} resumed, {replaced} replaced");
}

#[test]
fn a_crash_at_any_operation_of_an_installation_leaves_nothing_or_all_and_it_goes_on() {
    let empty = |seed| {
        let disk = SimDisk::new(seed);
        block_on(disk.create_dir_all(&there())).unwrap();
        // Its operations count from here.
        disk.snapshot()
    };
    crash_everywhere(empty, LogIndex::ZERO);
}

#[test]
fn a_crash_at_any_operation_of_a_replacement_leaves_the_old_partition_or_the_new_one() {
    let old = SimDisk::new(77);
    let mut log = Log::new(77, true);
    let applied = block_on(async {
        let partition = open(&old, &there()).await.unwrap();
        live(&mut log, &partition, 3, 77).await.unwrap();
        partition.applied()
    });
    crash_everywhere(|_| old.snapshot(), applied);
}

#[test]
fn each_flipped_bit_of_a_shipped_file_is_refused_and_the_file_is_wanted_again() {
    let (mut header, pieces, _) = shipped(9, 1);
    let smallest = header.files().iter().min_by_key(|file| file.bytes).unwrap().clone();
    header.manifest.files.retain(|file| file.id == smallest.id);
    let mine: Vec<_> = pieces.iter().filter(|(file, ..)| *file == smallest.id).map(|(.., piece)| &piece[..]).collect();
    let mut bytes = mine.concat();
    let id = smallest.id;
    block_on(async {
        for at in 0..bytes.len() {
            let disk = SimDisk::new(9);
            disk.create_dir_all(&there()).await.unwrap();
            let mut installer = Installer::begin(disk, there(), header.clone(), pacer()).await.unwrap();
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                let refused = installer.accept(id, 0, &bytes).await.unwrap_err();
                assert!(refused.is_damage(), "bit {bit} of byte {at}: {refused}");
                assert_eq!(installer.wanted(), Some(installer::Wanted { file: id, offset: 0, left: smallest.bytes }));
                bytes[at] ^= 1 << bit;
            }
            if at % 512 == 0 {
                installer.accept(id, 0, &bytes).await.unwrap();
                assert_eq!(installer.wanted(), None);
            }
        }
    });
}

#[test]
fn pieces_out_of_order_too_long_or_of_no_file_change_nothing() {
    let (header, pieces, _) = shipped(10, 2);
    let disk = SimDisk::new(10);
    block_on(async {
        disk.create_dir_all(&there()).await.unwrap();
        let mut installer = Installer::begin(disk.clone(), there(), header.clone(), pacer()).await.unwrap();
        assert!(installer.finish().await.is_err(), "not all is here");
        let (file, _, piece) = &pieces[0];
        let block = &piece[..BLOCK_BYTES];
        installer.accept(*file, 0, block).await.unwrap();
        let before = (installer.wanted(), disk.files());
        let long = vec![0; SNAPSHOT_PIECE_BYTES + BLOCK_BYTES];
        let beyond = vec![0; usize::try_from(before.0.unwrap().left).unwrap() + BLOCK_BYTES];
        let at = BLOCK_BYTES as u64;
        for (file, offset, bytes) in [
            (*file, 0, block),
            (*file, 2 * at, block),
            (file.next(), at, block),
            (FileId::new(u64::MAX), 0, block),
            (*file, at, &block[1..]),
            (*file, at, &[]),
            (*file, at, &long[..]),
            (*file, at, &beyond[..]),
        ] {
            let refused = installer.accept(file, offset, bytes).await;
            assert!(matches!(refused, Err(Error::Malformed { .. })), "{refused:?}");
            assert_eq!((installer.wanted(), disk.files()), before);
        }
        feed(&mut installer, &pieces).await.unwrap();
        let (file, offset, piece) = pieces.last().unwrap();
        assert!(installer.accept(*file, *offset, piece).await.is_err(), "nothing is wanted");
    });
}

#[test]
fn a_full_disk_changes_nothing_and_the_installation_goes_on_when_there_is_room() {
    let (header, pieces, hash) = shipped(11, 4);
    let disk = SimDisk::new(11);
    let mut log = Log::new(78, false);
    block_on(async {
        let partition = open(&disk, &there()).await.unwrap();
        live(&mut log, &partition, 1, 78).await.unwrap();
        drop(partition);
        let before = disk.files();
        let used = disk.used();
        let mut refusals = 0;
        for room in (0..).step_by(4096) {
            disk.set_capacity(used + room);
            match install(&disk, &header, &pieces).await {
                Ok(()) => break,
                Err(Error::NoSpace { .. }) => refusals += 1,
                Err(error) => panic!("{error}"),
            }
            let kept = disk.files().into_iter().filter(|file| before.contains(file)).count();
            assert_eq!(kept, before.len(), "the partition that was there is as it was");
        }
        assert!(refusals > 3);
        disk.set_capacity(1 << 40);
        assert_eq!(open(&disk, &there()).await.unwrap().state_hash().await.unwrap(), hash);
    });
}

#[test]
fn another_snapshot_keeps_the_files_that_both_have_and_an_older_one_is_refused() {
    let disk = SimDisk::new(12);
    let other = SimDisk::new(13);
    let mut log = Log::new(12, false);
    block_on(async {
        let partition = open(&disk, &dir()).await.unwrap();
        live(&mut log, &partition, 3, 12).await.unwrap();
        let first = ship(&partition.snapshot().await.unwrap()).await;
        let further = LogIndex::new(partition.applied().get() + 20);
        log.apply(&partition, further).await.unwrap();
        let second = ship(&partition.snapshot().await.unwrap()).await;
        let hash = partition.state_hash().await.unwrap();

        other.create_dir_all(&there()).await.unwrap();
        let mut installer = Installer::begin(other.clone(), there(), first.0.clone(), pacer()).await.unwrap();
        feed(&mut installer, &first.1).await.unwrap();
        drop(installer);
        let mut installer = Installer::begin(other.clone(), there(), second.0.clone(), pacer()).await.unwrap();
        assert!(installer.whole().count() > 0, "files that both have are not sent again");
        feed(&mut installer, &second.1).await.unwrap();
        installer.finish().await.unwrap();
        assert!(!other.files().iter().any(|(path, _)| path.ends_with(INSTALL_NAME)));
        let again = Installer::begin(other.clone(), there(), first.0.clone(), pacer()).await;
        assert!(matches!(again, Err(Error::Malformed { .. })), "a partition does not go back");
        assert_eq!(open(&other, &there()).await.unwrap().state_hash().await.unwrap(), hash);
    });
}
