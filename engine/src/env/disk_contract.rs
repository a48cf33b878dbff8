//! What every disk must do, run on each driver.

use std::path::Path;

use super::{AlignedBuf, Disk, DiskFile as _, executor::block_on, sim_disk::SimDisk, thread_disk::ThreadDisk};
use crate::{env::uring::UringDisk, limits::BLOCK_BYTES};

async fn keeps_the_contract<D: Disk>(disk: D, dir: &Path) {
    let dir = dir.join("a").join("b");
    disk.create_dir_all(&dir).await.unwrap();
    disk.create_dir_all(&dir).await.unwrap();
    assert!(disk.list(&dir).await.unwrap().is_empty());
    assert!(disk.list(&dir.join("absent")).await.is_err());
    assert!(disk.open(&dir.join("absent")).await.is_err());

    let zeroed = disk.create_zeroed(&dir.join("z"), 1 << 20).await.unwrap();
    disk.sync_dir(&dir).await.unwrap();
    assert_eq!(zeroed.len(), 1 << 20);
    assert!(zeroed.read(0, 1 << 20).await.unwrap().iter().all(|byte| *byte == 0));
    let (result, buf) = zeroed.write_durable(8192, AlignedBuf::padded(&[7; 5000])).await;
    result.unwrap();
    assert_eq!(buf.len(), 2 * BLOCK_BYTES);
    let read = zeroed.read(8192, 3 * BLOCK_BYTES).await.unwrap();
    assert!(read[..5000].iter().all(|byte| *byte == 7) && read[5000..].iter().all(|byte| *byte == 0));

    let log = disk.create(&dir.join("log")).await.unwrap();
    log.append(vec![1; 3000]).await.unwrap();
    log.append(vec![2; 3000]).await.unwrap();
    log.sync().await.unwrap();
    assert_eq!(log.len(), 6000);
    let again = disk.open(&dir.join("log")).await.unwrap();
    assert_eq!(again.len(), 6000);
    let read = again.read(0, 4 * BLOCK_BYTES).await.unwrap();
    assert_eq!((read[2999], read[3000], read[5999], read[6000]), (1, 2, 2, 0), "zeroes behind the end");

    disk.create(&dir.join("new")).await.unwrap().append(b"new".to_vec()).await.unwrap();
    disk.rename(&dir.join("new"), &dir.join("log")).await.unwrap();
    disk.sync_dir(&dir).await.unwrap();
    let names: Vec<_> = disk.list(&dir).await.unwrap().into_iter().map(|entry| (entry.name, entry.len)).collect();
    assert_eq!(names, [("log".to_owned(), 3), ("z".to_owned(), 1 << 20)]);
    disk.remove(&dir.join("z")).await.unwrap();
    assert!(disk.remove(&dir.join("z")).await.is_err());

    // More operations at once than any queue holds, and some futures dropped on the way.
    let file = disk.create_zeroed(&dir.join("many"), 700 * BLOCK_BYTES as u64).await.unwrap();
    let mut writes: Vec<_> = (0..700u64)
        .map(|n| {
            let buf = AlignedBuf::padded(&n.to_le_bytes());
            Box::pin(file.write_durable(n * BLOCK_BYTES as u64, buf))
        })
        .collect();
    let mut abandoned = Vec::new();
    core::future::poll_fn(|cx| {
        let mut n = 0;
        while n < writes.len() {
            if writes[n].as_mut().poll(cx).is_ready() {
                drop(writes.swap_remove(n));
            } else if abandoned.len() < 20 && n % 9 == 0 {
                abandoned.push(());
                drop(writes.swap_remove(n));
            } else {
                n += 1;
            }
        }
        if writes.is_empty() { core::task::Poll::Ready(()) } else { core::task::Poll::Pending }
    })
    .await;
    let mut whole = 0;
    for n in 0..700u64 {
        let read = file.read(n * BLOCK_BYTES as u64, BLOCK_BYTES).await.unwrap();
        whole += u32::from(read[..8] == n.to_le_bytes());
    }
    assert!(whole >= 680, "{whole} of 700 were written");
}

fn on_tokio<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

#[test]
fn the_simulated_disk_keeps_the_contract() {
    block_on(keeps_the_contract(SimDisk::new(1), Path::new("sim")));
}

#[test]
fn threads_keep_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    on_tokio(async { keeps_the_contract(ThreadDisk::new().unwrap(), dir.path()).await });
}

#[test]
fn io_uring_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    on_tokio(async {
        match UringDisk::new() {
            Ok((disk, driver)) => {
                let driver = tokio::task::spawn_local(driver.run());
                keeps_the_contract(disk, dir.path()).await;
                driver.abort();
            }
            Err(error) => println!("skipped: {error}"),
        }
    });
}
