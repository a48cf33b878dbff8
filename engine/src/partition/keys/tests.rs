//! Keys against a model: what was stored is given once, in order, over flushes, restarts and retries.

use std::{
    collections::{BTreeSet, VecDeque},
    path::PathBuf,
};

use proptest::{prelude::*, test_runner::Config};

use super::*;
pub(in crate::partition) use crate::env::executor::block_on;
use crate::{
    env::{Disk as _, clock::ManualClock, sim_disk::SimDisk},
    ids::{PartitionId, Term},
    memory::MEMORY_BYTES_MIN,
    partition::{Partition, command::Command, profile::ProfileChange},
    tree::{Shared, TreeConfig},
};

/// A partition on a simulated disk, and what was applied behind its last flush.
pub(in crate::partition) struct Bench {
    disk: SimDisk,
    partition: Option<Partition<SimDisk>>,
    log: VecDeque<Vec<u8>>,
}

impl Bench {
    pub(in crate::partition) async fn open(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(&PathBuf::from("partition")).await.unwrap();
        let mut bench = Self { disk, partition: None, log: VecDeque::new() };
        bench.reopen().await;
        bench
    }

    pub(in crate::partition) fn partition(&self) -> &Partition<SimDisk> {
        self.partition.as_ref().unwrap()
    }

    /// As after a crash: what is in files is opened, and the log behind it is applied again.
    pub(in crate::partition) async fn reopen(&mut self) {
        self.partition = None;
        let shared = Shared::new(MEMORY_BYTES_MIN, ManualClock::default());
        let (dir, id) = (PathBuf::from("partition"), PartitionId::new(0));
        let partition = Partition::open(self.disk.clone(), dir, id, TreeConfig::default(), shared).await.unwrap();
        for entry in &self.log {
            let index = partition.applied().next();
            let mut effects = Effects::default();
            partition.apply_entry(index, Term::new(1), entry.clone().into(), &mut effects).await.unwrap();
        }
        self.partition = Some(partition);
    }

    pub(in crate::partition) async fn flush_and_reopen(&mut self) {
        self.flush().await;
        self.reopen().await;
    }

    async fn flush(&mut self) {
        self.partition().flush().await.unwrap();
        self.log.clear();
    }

    pub(in crate::partition) async fn apply(&mut self, command: &Command) -> (Outcome, Vec<Effect>) {
        let mut entry = Vec::new();
        command.encode_into(&mut entry);
        assert!(entry.len() <= command.encoded_bytes_max());
        let (partition, mut effects) = (self.partition(), Effects::default());
        let index = partition.applied().next();
        partition.apply_entry(index, Term::new(1), entry.clone().into(), &mut effects).await.unwrap();
        partition.evict();
        self.log.push_back(entry);
        (effects.outcomes.remove(0), effects.effects)
    }

    pub(in crate::partition) async fn register(&mut self, n: u8) -> DeviceAddress {
        let user = UserId::from_bytes([n; 16]);
        let create = Command::CreateUser {
            user,
            handle: format!("user-{n}"),
            device_key: [n; 32],
            device_name: String::new(),
            time_ms: 1,
        };
        assert_eq!(self.apply(&create).await.0, Outcome::Done);
        DeviceAddress { user, device: DeviceId::FIRST }
    }

    /// The outcome, and how many effects there were.
    pub(in crate::partition) async fn set_profile(
        &mut self,
        device: DeviceAddress,
        change: ProfileChange,
    ) -> (Outcome, usize) {
        let (outcome, effects) = self.apply(&Command::SetProfile { device, change }).await;
        assert!(effects.iter().all(|effect| *effect == Effect::UserChanged { by: device }));
        (outcome, effects.len())
    }

    async fn put(&mut self, device: DeviceAddress, keys: NewKeys) -> Outcome {
        self.apply(&Command::PutKeys { device, keys }).await.0
    }

    async fn take(&mut self, user: UserId) -> (Vec<KeyBundle>, Vec<Effect>) {
        let (outcome, effects) = self.apply(&Command::TakeKeys { user, devices: vec![DeviceId::FIRST] }).await;
        let Outcome::Keys(bundles) = outcome else { panic!("{outcome:?}") };
        (bundles, effects)
    }
}

fn key(id: u64) -> PreKey {
    let byte = id.to_le_bytes()[0];
    PreKey { id: PreKeyId::new(id), key: [byte; 32], signature: [byte; 64] }
}

fn keys(fallback: u64, one_time: impl IntoIterator<Item = u64>) -> NewKeys {
    let identity = Some(IdentityKey { key: [5; 32], signature: [6; 64] });
    NewKeys { identity, fallback: Some(key(fallback)), one_time: one_time.into_iter().map(key).collect() }
}

fn more(one_time: impl IntoIterator<Item = u64>) -> NewKeys {
    NewKeys { one_time: one_time.into_iter().map(key).collect(), ..NewKeys::default() }
}

#[test]
fn a_revoked_device_has_no_keys() {
    block_on(async {
        let mut bench = Bench::open(1).await;
        let device = bench.register(1).await;
        bench.put(device, keys(7, [1, 2])).await;
        bench.flush().await;
        assert_eq!(bench.apply(&Command::RevokeDevice(device)).await.0, Outcome::Done);
        assert!(bench.take(device.user).await.0.is_empty());
        assert_eq!(bench.put(device, keys(8, [3])).await, Outcome::Refused(Code::Unauthenticated));
    });
}

#[test]
fn keys_are_given_oldest_first_and_then_the_fallback_again_and_again() {
    block_on(async {
        let mut bench = Bench::open(1).await;
        let device = bench.register(1).await;
        assert!(bench.take(device.user).await.0.is_empty(), "nothing is stored yet");
        assert_eq!(bench.put(device, keys(7, [1, 2])).await, Outcome::KeysStored(2));
        for (id, one_time, low) in [(1, true, Some(1)), (2, true, Some(0)), (7, false, None), (7, false, None)] {
            let (bundles, effects) = bench.take(device.user).await;
            let [bundle] = &bundles[..] else { panic!("{bundles:?}") };
            assert_eq!((bundle.pre_key, bundle.one_time, bundle.device_key), (key(id), one_time, [1; 32]));
            assert_eq!(effects, low.map(|left| Effect::KeysLow { device, left }).into_iter().collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_device_is_told_that_its_keys_run_low_below_the_mark_and_not_above() {
    block_on(async {
        let mut bench = Bench::open(1).await;
        let device = bench.register(1).await;
        bench.put(device, keys(1, 1..=22)).await;
        for expected in [None, None, Some(19), Some(18)] {
            let effects = bench.take(device.user).await.1;
            assert_eq!(effects, expected.map(|left| Effect::KeysLow { device, left }).into_iter().collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_retried_upload_brings_no_key_back() {
    block_on(async {
        let mut bench = Bench::open(1).await;
        let device = bench.register(1).await;
        assert_eq!(bench.put(device, keys(3, 1..=5)).await, Outcome::KeysStored(5));
        bench.take(device.user).await;
        bench.flush_and_reopen().await;
        assert_eq!(bench.put(device, keys(3, 1..=5)).await, Outcome::KeysStored(4));
        // Nor does an older fallback come in the place of a newer one.
        assert_eq!(bench.put(device, keys(2, 4..=6)).await, Outcome::KeysStored(5));
        let stored = bench.partition().device_keys(device).await.unwrap().unwrap();
        assert_eq!((stored.fallback, stored.last_one_time), (key(3), PreKeyId::new(6)));
    });
}

#[test]
fn what_may_not_be_stored_changes_nothing() {
    block_on(async {
        let mut bench = Bench::open(1).await;
        let device = bench.register(1).await;
        assert_eq!(bench.put(device, more(1..=3)).await, Outcome::Refused(Code::InvalidArgument), "no identity key");
        assert_eq!(bench.put(device, keys(1, 1..=100)).await, Outcome::KeysStored(100));
        assert_eq!(bench.put(device, more([101])).await, Outcome::Refused(Code::InvalidArgument), "one too many");
        bench.take(device.user).await;
        assert_eq!(bench.put(device, more([101])).await, Outcome::KeysStored(100));
        let gone = DeviceAddress { device: DeviceId::new(2).unwrap(), ..device };
        assert_eq!(bench.put(gone, keys(1, 1..=3)).await, Outcome::Refused(Code::Unauthenticated));
    });
}

#[test]
fn a_row_of_keys_reads_back_and_damage_is_no_panic() {
    let row = DeviceKeys::with(None, keys(300, [2, 9, 1 << 40])).unwrap();
    let mut bytes = Vec::new();
    row.encode(&mut bytes);
    assert_eq!(DeviceKeys::decode(bytes.clone().into()).unwrap(), row);
    for len in 0..bytes.len() {
        let found = DeviceKeys::decode(Bytes::copy_from_slice(&bytes[..len]));
        assert!(found.is_err() || found.unwrap().one_time.len() < 3, "{len} bytes");
    }
    for order in [vec![key(2), key(2)], vec![key(3), key(2)], vec![key(4)], (1..=101).map(key).collect()] {
        let last_one_time = order.get(100).map_or(PreKeyId::new(3), |key| key.id);
        let mut bytes = Vec::new();
        DeviceKeys { one_time: order, last_one_time, ..row.clone() }.encode(&mut bytes);
        assert!(DeviceKeys::decode(bytes.into()).is_err());
    }
}

/// What happens to a device's keys.
#[derive(Clone, Debug)]
enum Step {
    /// So many new one-time keys, the ids so far above the last.
    Put(u64, u64),
    /// The newest upload comes once more.
    Retry,
    Take,
    Flush,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..30u64, 1..4u64).prop_map(|(count, apart)| Step::Put(count, apart)),
        1 => Just(Step::Retry),
        8 => Just(Step::Take),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

/// Runs steps against a model; an error names the first difference.
async fn run(steps: &[Step]) -> core::result::Result<(), TestCaseError> {
    let mut bench = Bench::open(1).await;
    let device = bench.register(1).await;
    let (mut stored, mut given) = (VecDeque::new(), BTreeSet::new());
    let (mut last, mut newest) = (0, keys(1, []));
    bench.put(device, newest.clone()).await;
    for step in steps {
        match step {
            Step::Put(count, apart) => {
                let ids: Vec<_> = (1..=*count).map(|n| last + n * apart).collect();
                let fits = stored.len() + ids.len() <= ONE_TIME_KEYS_MAX;
                let outcome = bench.put(device, more(ids.clone())).await;
                if fits {
                    last = ids.last().copied().unwrap_or(last);
                    stored.extend(ids.iter().copied());
                    newest = more(ids);
                    let left = u32::try_from(stored.len()).unwrap();
                    prop_assert_eq!(outcome, Outcome::KeysStored(left));
                } else {
                    prop_assert_eq!(outcome, Outcome::Refused(Code::InvalidArgument));
                }
            }
            Step::Retry => {
                let left = u32::try_from(stored.len()).unwrap();
                prop_assert_eq!(bench.put(device, newest.clone()).await, Outcome::KeysStored(left));
            }
            Step::Take => {
                let (bundles, _) = bench.take(device.user).await;
                let [bundle] = &bundles[..] else { panic!("{bundles:?}") };
                match stored.pop_front() {
                    Some(id) => {
                        prop_assert!(bundle.one_time && bundle.pre_key == key(id), "{bundle:?}, not {id}");
                        prop_assert!(given.insert(id), "key {id} was given twice");
                    }
                    None => prop_assert!(!bundle.one_time && bundle.pre_key == key(1), "{bundle:?}"),
                }
            }
            Step::Flush => bench.flush().await,
            Step::Reopen => bench.reopen().await,
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::with_cases(64) })]

    #[test]
    fn a_one_time_key_is_given_once_whatever_is_flushed_and_retried(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        block_on(run(&steps))?;
    }
}

#[cfg(feature = "planted-bugs")]
#[test]
fn a_key_that_is_given_twice_is_caught() {
    let steps = [Step::Put(3, 1), Step::Take, Step::Take];
    block_on(run(&steps)).unwrap();
    planted::plant(Some(Planted::KeyTwice));
    let caught = block_on(run(&steps));
    planted::plant(None);
    assert!(caught.is_err(), "nobody noticed that a key was given twice");
}
