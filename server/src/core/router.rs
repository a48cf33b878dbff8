//! Where things live: id -> partition -> core.
//!
//! Invariants
//! - The partition of an id depends on the id and the number of partitions alone, which is fixed at the first start.

use columba_engine::ids::{CoreId, PartitionId};
use columba_wire::{ChatId, UserId, link::LinkCode};
use sha2::{Digest as _, Sha256};

/// The map from ids to partitions and cores of this node.
#[derive(Clone, Copy, Debug)]
pub struct Router {
    cores: u16,
    partitions: u32,
}

impl Router {
    /// A map for a node with so many cores and partitions; neither is 0.
    pub fn new(cores: u16, partitions: u32) -> Self {
        assert!(cores > 0 && partitions > 0, "a node has cores and partitions");
        Self { cores, partitions }
    }

    fn partition(&self, hash: u64) -> PartitionId {
        let scaled = (u128::from(hash) * u128::from(self.partitions)) >> 64;
        PartitionId::new(u32::try_from(scaled).expect("below the number of partitions"))
    }

    /// The partition of a chat.
    pub fn chat(&self, chat: ChatId) -> PartitionId {
        self.partition(chat.placement_hash())
    }

    /// The partition of a user.
    pub fn user(&self, user: UserId) -> PartitionId {
        self.partition(user.placement_hash())
    }

    /// The partition of a handle.
    pub fn handle(&self, handle: &str) -> PartitionId {
        let digest = Sha256::digest(handle.as_bytes());
        self.partition(u64::from_be_bytes(digest[..8].try_into().expect("8 of 32 bytes")))
    }

    /// The core that keeps a link code.
    pub fn link(&self, code: LinkCode) -> CoreId {
        self.core(self.handle(code.as_str()))
    }

    /// The core that owns a partition.
    pub fn core(&self, partition: PartitionId) -> CoreId {
        let core = partition.get() % u32::from(self.cores);
        CoreId::new(u16::try_from(core).expect("below the number of cores"))
    }

    /// The partitions of a core.
    pub fn partitions_of(&self, core: CoreId) -> impl Iterator<Item = PartitionId> + '_ {
        (0..self.partitions).map(PartitionId::new).filter(move |partition| self.core(*partition) == core)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_one_core_and_ids_spread_evenly() {
        let router = Router::new(3, 16);
        let owned: usize = (0..3).map(|core| router.partitions_of(CoreId::new(core)).count()).sum();
        assert_eq!(owned, 16);
        let mut counts = [0u32; 16];
        for n in 0..16_000u64 {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
            counts[router.user(UserId::from_bytes(bytes)).get() as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
