//! The simulated disk loses what real ones lose, and no more.

use super::*;
use crate::env::executor::{block_on, run_until_stalled};

fn dir() -> PathBuf {
    PathBuf::from("data")
}

async fn prepared(disk: &SimDisk) -> SimFile {
    disk.create_dir_all(&dir()).await.unwrap();
    let file = disk.create_zeroed(&dir().join("a"), 8192).await.unwrap();
    disk.sync_dir(&dir()).await.unwrap();
    file
}

#[test]
fn what_was_durable_survives_every_crash_and_what_was_not_may_be_lost() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        block_on(async {
            let file = prepared(&disk).await;
            file.write_durable(0, AlignedBuf::padded(&[1; 4096])).await.0.unwrap();
            let log = disk.create(&dir().join("b")).await.unwrap();
            disk.sync_dir(&dir()).await.unwrap();
            log.append(vec![2; 100]).await.unwrap();
            log.sync().await.unwrap();
            log.append(vec![3; 2000]).await.unwrap();
        });
        let after = disk.after_crash();
        block_on(async {
            let file = after.open(&dir().join("a")).await.unwrap();
            assert!(file.read(0, 4096).await.unwrap().iter().all(|byte| *byte == 1));
            let log = after.open(&dir().join("b")).await.unwrap();
            let bytes = log.read(0, 4096).await.unwrap();
            assert!(bytes[..100].iter().all(|byte| *byte == 2));
            if log.len() == 2100 && bytes[100..2100].iter().all(|byte| *byte == 3) { kept += 1 } else { lost += 1 }
        });
    }
    assert!(lost > 0 && kept > 0, "lost {lost}, kept {kept}");
}

#[test]
fn a_crash_in_a_write_tears_it_and_stops_the_world() {
    let mut images = BTreeSet::new();
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let file = block_on(prepared(&disk));
        disk.crash_at(disk.operations() + 1);
        let write = core::pin::pin!(file.write_durable(0, AlignedBuf::padded(&[9; 4096])));
        assert!(run_until_stalled(write).is_none());
        assert!(disk.has_crashed());
        let after = disk.after_crash();
        let image = block_on(async {
            let file = after.open(&dir().join("a")).await.unwrap();
            file.read(0, 4096).await.unwrap().chunks(SECTOR).map(|sector| sector[0] == 9).collect::<Vec<_>>()
        });
        images.insert(image);
    }
    assert!(images.len() > 10, "tears are of many forms");
}

#[test]
fn unsynced_names_may_be_lost_and_a_full_disk_says_so() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        block_on(async {
            prepared(&disk).await;
            disk.create(&dir().join("new")).await.unwrap();
        });
        lost += u32::from(block_on(disk.after_crash().open(&dir().join("new"))).is_err());
    }
    assert!(lost > 5 && lost < 45, "{lost}");
    let disk = SimDisk::new(1);
    disk.set_capacity(5000);
    block_on(disk.create_dir_all(&dir())).unwrap();
    assert!(matches!(block_on(disk.create_zeroed(&dir().join("a"), 8192)), Err(Error::NoSpace { .. })));
}
