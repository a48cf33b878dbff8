//! Every flipped bit of a file is found; garbage is an error, never a panic.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, DeviceId, MessageSeq, UserId};
use proptest::prelude::*;

use super::{
    cache::BlockCache,
    meta::Class,
    reader::Table,
    writer::{FileKind, TableWriter},
};
use crate::{
    background::Pacer,
    env::{Disk as _, DiskFile as _, clock::ManualClock, executor::block_on, sim_disk::SimDisk},
    ids::{FileId, LogIndex, Term},
    message::{MessageKind, StoredMessage},
};

fn pacer() -> Pacer {
    Pacer::new(ManualClock::default())
}

fn kind(class: Class) -> FileKind {
    let (applied_low, applied_high) = (LogIndex::new(1), LogIndex::new(9));
    FileKind { class, level: 0, window: 4, applied_low, applied_high, term: Term::new(2) }
}

async fn small_file(disk: &SimDisk, class: Class) -> PathBuf {
    let path = PathBuf::from("data/table");
    disk.create_dir_all(&PathBuf::from("data")).await.unwrap();
    let mut writer = TableWriter::new(FileId::new(7), disk.create(&path).await.unwrap(), kind(class));
    let mut slice = pacer().slice();
    for n in 0..200u32 {
        if class == Class::Messages {
            let chat = ChatId::from_bytes([u8::try_from(n / 20).unwrap(); 16]);
            let sender = DeviceAddress { user: UserId::from_bytes([1; 16]), device: DeviceId::FIRST };
            let (seq, client_seq) = (MessageSeq::new(u64::from(n)), ClientSeq::new(u64::from(n) * 3));
            let body = Bytes::from(vec![n.to_le_bytes()[0]; 40]);
            let message = StoredMessage {
                seq,
                sender,
                client_seq,
                time_ms: 1000 + u64::from(n),
                kind: MessageKind::Client,
                body,
            };
            writer.push_message(chat, &message, &mut slice).await.unwrap();
        } else {
            let value = (n % 9 != 0).then(|| vec![n.to_le_bytes()[0]; 40]);
            writer.push(&n.to_be_bytes(), value.as_deref(), &mut slice).await.unwrap();
        }
    }
    writer.finish(&[FileId::new(3)], &mut slice).await.unwrap();
    path
}

async fn open(disk: &SimDisk, path: &Path) -> crate::error::Result<Table<crate::env::sim_disk::SimFile>> {
    Table::open(0, FileId::new(7), path.to_path_buf(), disk.open(path).await?).await
}

async fn verify(disk: &SimDisk, path: &Path) -> crate::error::Result<()> {
    open(disk, path).await?.verify(&mut pacer().slice()).await
}

#[test]
fn each_flipped_bit_of_a_small_file_is_found() {
    for class in Class::ALL {
        let disk = SimDisk::new(1);
        let path = block_on(small_file(&disk, class));
        block_on(verify(&disk, &path)).unwrap();
        let len = disk.files()[0].1;
        for byte in 0..len {
            for bit in 0..8 {
                assert!(disk.flip_bit(&path, byte, bit));
                let found = block_on(verify(&disk, &path));
                assert!(found.is_err(), "{class:?}: bit {bit} of byte {byte} went unnoticed");
                assert!(disk.flip_bit(&path, byte, bit));
            }
        }
    }
}

#[test]
fn a_file_in_the_place_of_another_is_refused() {
    let disk = SimDisk::new(1);
    block_on(async {
        let path = small_file(&disk, Class::State).await;
        let file = disk.open(&path).await.unwrap();
        assert!(Table::open(0, FileId::new(8), path, file).await.is_err());
    });
}

#[test]
fn rows_are_found_and_absent_ones_are_not() {
    let disk = SimDisk::new(1);
    block_on(async {
        let path = small_file(&disk, Class::State).await;
        let file = disk.open(&path).await.unwrap();
        let image = Bytes::copy_from_slice(&file.read(0, usize::try_from(file.len()).unwrap()).await.unwrap());
        let table = open(&disk, &path).await.unwrap();
        assert_eq!(super::check_image(&image).unwrap(), *table.properties());
        assert_eq!((table.properties().rows, table.replaces()), (200, &[FileId::new(3)][..]));
        let cache = BlockCache::new(1 << 20);
        assert_eq!(table.get(&9u32.to_be_bytes(), &cache).await.unwrap(), Some(None));
        assert_eq!(table.get(&10u32.to_be_bytes(), &cache).await.unwrap(), Some(Some(Bytes::from(vec![10; 40]))));
        assert_eq!(table.get(&900u32.to_be_bytes(), &cache).await.unwrap(), None);
    });
}

#[test]
fn a_file_of_messages_knows_its_chats_and_times() {
    let disk = SimDisk::new(1);
    block_on(async {
        let path = small_file(&disk, Class::Messages).await;
        let table = open(&disk, &path).await.unwrap();
        let chats = table.chats().await.unwrap();
        assert_eq!(chats.len(), 10);
        let last = chats.last().unwrap();
        assert_eq!((last.first.get(), last.last.get()), (180, 199));
        assert_eq!((table.properties().time_low, table.properties().time_high), (1000, 1199));
    });
}

proptest! {
    #[test]
    fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..3), blocks in 1usize..4) {
        let mut image = bytes;
        image.resize(blocks * 4096, 0);
        prop_assert!(super::check_image(&Bytes::from(image)).is_err());
    }
}
