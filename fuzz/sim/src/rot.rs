//! Bit rot: after the scripted workload one bit of one file is flipped at rest, and the node is started again.
//!
//! Either the damage is reported (the node refuses to start, or a read or verification names the file), or the bit
//! meant nothing: then the state of every partition is what it is without the flip, row for row. There is no third way.
//!
//! The node is started once more before the bit is flipped: the journal's new segment proves where the old one ended.
//! (A flipped bit in the very last batch cannot be told from a torn write by one node alone.)

use columba_engine::env::{Rng, sim_disk::SimDisk};

use crate::{
    crash::{LAYOUT, clients, pump, script},
    world::{Stop, World},
};

/// What became of the flipped bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rot {
    /// The node refused to start, and said why.
    pub refused: u64,
    /// It started; a verification of its files named the damage, or a read did.
    pub found: u64,
    /// The bit was one that nothing depends on.
    pub harmless: u64,
}

/// Flips `flips` bits, one at a time, in what a run left on its disk.
///
/// # Errors
/// What was lost without a word.
pub fn run(seed: u64, flips: u64) -> Result<Rot, Vec<String>> {
    let mut people = clients();
    let disk = SimDisk::new(seed);
    script(&disk, &mut people).map_err(|stop| vec![format!("the workload stops: {stop:?}")])?;
    drop(people);
    let disk = prove(disk.after_crash())?;
    let Verdict::State(expected) = judge(disk.snapshot()).map_err(|stop| vec![format!("unharmed: {stop:?}")])? else {
        return Err(vec!["damage is reported where there is none".to_owned()]);
    };
    let mut rng = Rng::from_seed(seed);
    let mut rot = Rot::default();
    for _ in 0..flips {
        let copy = disk.snapshot();
        let files = copy.files();
        let (path, bytes) = &files[usize::try_from(rng.below(files.len() as u64)).expect("an index")];
        let (byte, bit) = (rng.below(*bytes), u8::try_from(rng.below(8)).expect("below 8"));
        assert!(copy.flip_bit(path, byte, bit), "{} has a byte {byte}", path.display());
        let what = format!("seed {seed}: bit {bit} of byte {byte} of {}", path.display());
        match judge(copy).map_err(|stop| vec![format!("{what}: {stop:?}")])? {
            Verdict::Refused => rot.refused += 1,
            Verdict::Found => rot.found += 1,
            Verdict::State(hashes) if hashes == expected => rot.harmless += 1,
            Verdict::State(_) => return Err(vec![format!("{what}: the state is another, and nothing was reported")]),
        }
    }
    Ok(rot)
}

/// What became of a disk.
enum Verdict {
    Refused,
    Found,
    /// A hash of each partition.
    State(Vec<u64>),
}

/// Starts the node and lets it settle, so that a link of the journal proves what came before.
fn prove(disk: SimDisk) -> Result<SimDisk, Vec<String>> {
    let failed = |stop: Stop| vec![format!("the node does not go on: {stop:?}")];
    let mut world = World::start(disk, World::new_clock(), LAYOUT, 8).map_err(failed)?;
    pump(&mut world, &mut [], 20).map_err(failed)?;
    Ok(world.crash().0)
}

fn judge(disk: SimDisk) -> Result<Verdict, Stop> {
    let mut world = match World::start(disk, World::new_clock(), LAYOUT, 9) {
        Ok(world) => world,
        Err(Stop::Failed(_)) => return Ok(Verdict::Refused),
        Err(Stop::Crash) => return Err(Stop::Crash),
    };
    match pump(&mut world, &mut [], 20) {
        Ok(()) => {}
        Err(Stop::Failed(_)) => return Ok(Verdict::Found),
        Err(Stop::Crash) => return Err(Stop::Crash),
    }
    let mut hashes = Vec::new();
    for core in world.cores.clone() {
        let read = world.run_with(async move {
            let mut hashes = Vec::new();
            for partition in core.partitions() {
                partition.verify().await?;
                hashes.push(partition.state_hash().await?);
            }
            columba_engine::error::Result::<Vec<u64>>::Ok(hashes)
        });
        match read? {
            Ok(found) => hashes.extend(found),
            Err(_) => return Ok(Verdict::Found),
        }
    }
    Ok(Verdict::State(hashes))
}
