//! Every flipped bit of a file is found; garbage is an error, never a panic.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    reader::{BlockCache, Table},
    writer::TableWriter,
};
use crate::{
    env::{Disk as _, DiskFile as _, executor::block_on, sim_disk::SimDisk},
    ids::FileId,
};

async fn small_file(disk: &SimDisk) -> PathBuf {
    let path = PathBuf::from("data/table");
    disk.create_dir_all(&PathBuf::from("data")).await.unwrap();
    let mut writer = TableWriter::new(FileId::new(7), disk.create(&path).await.unwrap());
    for n in 0..200u32 {
        let value = (n % 9 != 0).then(|| vec![n.to_le_bytes()[0]; 40]);
        writer.push(&n.to_be_bytes(), value.as_deref()).await.unwrap();
    }
    writer.finish().await.unwrap();
    path
}

async fn verify(disk: &SimDisk, path: &Path) -> crate::error::Result<()> {
    let table = Table::open(FileId::new(7), path.to_path_buf(), disk.open(path).await?).await?;
    table.verify().await
}

#[test]
fn each_flipped_bit_of_a_small_file_is_found() {
    let disk = SimDisk::new(1);
    let path = block_on(small_file(&disk));
    block_on(verify(&disk, &path)).unwrap();
    let len = disk.files()[0].1;
    for byte in 0..len {
        for bit in 0..8 {
            assert!(disk.flip_bit(&path, byte, bit));
            let found = block_on(verify(&disk, &path));
            assert!(found.is_err(), "bit {bit} of byte {byte} went unnoticed");
            assert!(disk.flip_bit(&path, byte, bit));
        }
    }
}

#[test]
fn a_file_in_the_place_of_another_is_refused() {
    let disk = SimDisk::new(1);
    block_on(async {
        let path = small_file(&disk).await;
        let file = disk.open(&path).await.unwrap();
        assert!(Table::open(FileId::new(8), path, file).await.is_err());
    });
}

#[test]
fn rows_are_found_and_absent_ones_are_not() {
    let disk = SimDisk::new(1);
    block_on(async {
        let path = small_file(&disk).await;
        let file = disk.open(&path).await.unwrap();
        let image = Bytes::copy_from_slice(&file.read(0, usize::try_from(file.len()).unwrap()).await.unwrap());
        assert_eq!(super::check_image(&image).unwrap(), 200);
        let table = Table::open(FileId::new(7), path, file).await.unwrap();
        let cache = BlockCache::default();
        assert_eq!(table.get(&9u32.to_be_bytes(), &cache).await.unwrap(), Some(None));
        assert_eq!(table.get(&10u32.to_be_bytes(), &cache).await.unwrap(), Some(Some(Bytes::from(vec![10; 40]))));
        assert_eq!(table.get(&900u32.to_be_bytes(), &cache).await.unwrap(), None);
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
