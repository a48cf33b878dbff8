//! A scripted workload with a crash at every single disk operation.
//!
//! The script registers users, sends while both are there and while one is away, flushes, lets inboxes fill and empty,
//! gives out keys, and shuts nothing down: each operation on the disk in turn is the last one before the lights go out.

use core::time::Duration;

use bytes::Bytes;
use columba_engine::env::{Rng, sim_disk::SimDisk};

use crate::{
    check,
    client::Client,
    world::{Layout, STEP, Stop, World},
};

/// The node of the script.
pub(crate) const LAYOUT: Layout = Layout { cores: 1, partitions: 2, segment_bytes: 64 * 1024, ..Layout::SMALL };

/// Runs the script until the disk crashes or the script ends.
pub(crate) fn script(disk: &SimDisk, clients: &mut [Client]) -> Result<(), Stop> {
    let clock = World::new_clock();
    let mut world = World::start(disk.clone(), clock, LAYOUT, 7)?;
    for client in clients.iter_mut() {
        client.connect(&world, 0);
    }
    pump(&mut world, clients, 8)?;
    clients[1].put_keys(4);
    for n in 0..12 {
        if n % 4 == 3 {
            take_keys(clients, 0, 1);
        }
        say(clients, 0, 1, n);
        say(clients, 1, 0, n);
        pump(&mut world, clients, 2)?;
    }
    clients[1].disconnect();
    for n in 12..20 {
        say(clients, 0, 1, n);
        pump(&mut world, clients, 2)?;
    }
    flush(&mut world, clients)?;
    for n in 20..24 {
        say(clients, 0, 1, n);
        say(clients, 2, 1, n);
    }
    world.advance(Duration::from_secs(3))?;
    clients[1].connect(&world, 0);
    pump(&mut world, clients, 60)?;
    flush(&mut world, clients)?;
    for n in 24..60 {
        say(clients, 1, 2, n);
        pump(&mut world, clients, 1)?;
        if n % 6 == 0 {
            take_keys(clients, 2, 1);
            flush(&mut world, clients)?;
        }
    }
    pump(&mut world, clients, 60)
}

fn say(clients: &mut [Client], from: usize, to: usize, n: u32) {
    if let Some(address) = clients[to].address {
        let body = Bytes::from(format!("{from}>{to}:{n}:{}", "x".repeat(700)));
        clients[from].send(address.user, body);
    }
}

fn take_keys(clients: &mut [Client], by: usize, of: usize) {
    if let Some(address) = clients[of].address {
        clients[by].take_keys(address.user);
    }
}

fn flush(world: &mut World, clients: &mut [Client]) -> Result<(), Stop> {
    for core in &world.cores {
        core.request_flush();
    }
    pump(world, clients, 3)
}

/// Lets time pass, and the clients take what there is.
pub(crate) fn pump(world: &mut World, clients: &mut [Client], steps: u32) -> Result<(), Stop> {
    for _ in 0..steps {
        world.advance(STEP)?;
        for client in clients.iter_mut() {
            client.receive(1000);
        }
    }
    world.run()
}

/// The people of the script.
pub(crate) fn clients() -> Vec<Client> {
    let mut rng = Rng::from_seed(99);
    ["ada", "bob", "eve"].iter().map(|handle| Client::new(handle, &mut rng)).collect()
}

/// Crashes at one operation, restarts, lets everybody come back, and checks. `Ok(false)` where the script ended before.
///
/// # Errors
/// What was broken.
pub fn crash_at(operation: u64) -> Result<bool, Vec<String>> {
    let mut clients = clients();
    let disk = SimDisk::new(operation);
    disk.crash_at(operation);
    let crashed = match script(&disk, &mut clients) {
        Ok(()) => false,
        Err(Stop::Crash) => true,
        Err(Stop::Failed(error)) => return Err(vec![format!("operation {operation}: the node fails: {error}")]),
    };
    for client in &mut clients {
        client.disconnect();
    }
    let started = World::start(disk.after_crash(), World::new_clock(), LAYOUT, 8);
    let mut world = started.map_err(|stop| vec![format!("operation {operation}: no restart: {stop:?}")])?;
    for round in 0..600 {
        for client in &mut clients {
            if !client.is_open() && round % 20 == 0 {
                client.connect(&world, 0);
            }
        }
        let pumped = pump(&mut world, &mut clients, 1);
        pumped.map_err(|stop| vec![format!("operation {operation}: the node stops: {stop:?}")])?;
        let settled = clients.iter().all(|client| client.is_open() && client.is_synced && client.unanswered() == 0);
        if settled && round > 60 {
            break;
        }
    }
    if let Some(stuck) = clients.iter().find(|client| !client.is_synced || client.unanswered() > 0) {
        return Err(vec![format!("operation {operation}: {} does not settle", stuck.handle)]);
    }
    let broken = check::all(&clients);
    if broken.is_empty() { Ok(crashed) } else { Err(broken) }
}

/// Operations of the script without a crash.
///
/// # Errors
/// What was broken even so.
pub fn operations() -> Result<u64, Vec<String>> {
    let mut clients = clients();
    let disk = SimDisk::new(0);
    script(&disk, &mut clients).map_err(|stop| vec![format!("{stop:?}")])?;
    Ok(disk.operations())
}
