//! A partition on a simulated disk, for tests of what commands do.

use std::path::PathBuf;

use super::{Partition, command::Command, effect::Effects};
use crate::{
    env::{Disk as _, clock::ManualClock, executor::block_on, sim_disk::SimDisk},
    ids::{PartitionId, Term},
    memory::MEMORY_BYTES_MIN,
    tree::{Shared, TreeConfig},
};

/// Opens the disk's only partition, or begins it.
pub(super) fn open(disk: &SimDisk) -> Partition<SimDisk> {
    let dir = PathBuf::from("data/partition");
    block_on(disk.create_dir_all(&dir)).unwrap();
    let shared = Shared::new(MEMORY_BYTES_MIN, ManualClock::default());
    block_on(Partition::open(disk.clone(), dir, PartitionId::new(0), TreeConfig::default(), shared)).unwrap()
}

/// Applies commands as one entry.
pub(super) fn apply(partition: &Partition<SimDisk>, commands: &[Command]) -> Effects {
    let (mut entry, mut effects) = (Vec::new(), Effects::default());
    commands.iter().for_each(|command| command.encode_into(&mut entry));
    let index = partition.applied().next();
    block_on(partition.apply_entry(index, Term::new(1), entry.into(), &mut effects)).unwrap();
    effects
}
