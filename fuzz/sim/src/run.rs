//! One seed: a random workload with random faults, a quiet end, and the verdict.

use core::time::Duration;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use columba_engine::{
    env::{
        Rng,
        clock::{ManualClock, WallTime},
        sim_disk::{FaultCounts, Faults, SimDisk},
    },
    partition::retention::Retention,
};

use columba_server::delivery::{HINT_AFTER, HINTED_FROM_MEMBERS, LARGE_ADVANCE_EVERY};
use columba_wire::{
    ChatId, UserId,
    v1::{self, group_change::Kind as Change},
};

use crate::{
    check,
    client::Client,
    world::{Layout, STEP, Stop, World},
};

/// What a seed did, for coverage.
#[derive(Clone, Copy, Debug, Default)]
pub struct Coverage {
    /// Messages acknowledged to their senders.
    pub acknowledged: u64,
    /// Messages received, duplicates dropped.
    pub received: u64,
    /// Crashes of the disk.
    pub crashes: u64,
    /// Steps in which durable writes had to wait.
    pub held: u64,
    /// Ends of the node for another reason: failed writes.
    pub failures: u64,
    /// Flushes asked for.
    pub flushes: u64,
    /// Sends refused for lack of space.
    pub no_space: u64,
    /// Entries appended to inboxes.
    pub inbox_entries: u64,
    /// Retries that were recognised.
    pub duplicates: u64,
    /// One-time keys given to clients.
    pub keys: u64,
    /// Messages that somebody's block refused.
    pub blocked: u64,
    /// Chats whose messages are known to be had by all devices of a member.
    pub settled: u64,
    /// Jumps of clocks.
    pub jumps: u64,
    /// Accounts that were ended.
    pub deleted: u64,
    /// Changes of groups that clients received.
    pub group_changes: u64,
    /// What the disk did.
    pub disk: FaultCounts,
    /// Virtual time, milliseconds.
    pub virtual_ms: u64,
    /// A hash of everything that clients saw.
    pub hash: u64,
}

/// A promise was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed that shows it.
    pub seed: u64,
    /// What was broken.
    pub broken: Vec<String>,
}

/// How long the node may take to deliver everything once faults have ended, virtual time.
const LIVENESS: Duration = Duration::from_secs(120);

/// What sets the generators of parts of a workload apart.
const KEYS: u64 = 0x6b65_7973;
const GROUPS: u64 = 0x6772_6f75_7073;
const BLOCKS: u64 = 0x626c_6f63_6b73;
const DELETIONS: u64 = 0x6465_6c65_7465;
const CLOCKS: u64 = 0x636c_6f63_6b73;
/// How wrong a clock is, milliseconds: two hours.
const SKEW_MS_MAX: u64 = 7_200_000;
/// Groups in one simulation.
const GROUPS_MAX: usize = 4;

struct Simulation {
    seed: u64,
    rng: Rng,
    devices_rng: Rng,
    /// For keys alone: a seed does the same with messages as without them.
    keys_rng: Rng,
    /// The same for groups.
    groups_rng: Rng,
    /// Links to groups that somebody has wanted, with their secrets.
    invites: Vec<(ChatId, Bytes)>,
    has_groups: bool,
    /// The same for blocks.
    blocks_rng: Rng,
    has_blocks: bool,
    /// The same for ends of accounts.
    deletions_rng: Rng,
    has_deletions: bool,
    /// The same for clocks.
    clocks_rng: Rng,
    has_skew: bool,
    clock: ManualClock,
    layout: Layout,
    clients: Vec<Client>,
    coverage: Coverage,
    messages: u64,
    trace: bool,
}

/// Runs a seed. With `trace` it prints what happens, line by line.
///
/// # Errors
/// What was broken.
pub fn run(seed: u64, trace: bool) -> Result<Coverage, Failure> {
    let mut rng = Rng::from_seed(seed);
    let count = 2 + rng.below(4);
    let mut clients: Vec<_> = (0..count).map(|n| Client::new(&format!("user{n}"), &mut rng)).collect();
    // Some seeds have more devices of the first user. What becomes of them is drawn apart, for the reason below.
    let mut devices_rng = Rng::from_seed(!seed);
    if seed / 2 % 3 == 2 {
        let more = 1 + devices_rng.below(2);
        clients.extend((0..more).map(|n| Client::second(&format!("user0-{n}"), &mut devices_rng)));
    }
    // What every device has is deleted in each other seed: nobody must miss it, after any crash. (By the seed and not
    // by the generator, so that a seed does the same with and without.)
    let retention = match seed % 2 {
        0 => Retention::default(),
        _ => Retention::UntilDelivered { days: 1 },
    };
    // Half of the seeds with groups take those of three members for large ones.
    let hinted_from_members = if seed / 8 % 2 == 1 { 3 } else { HINTED_FROM_MEMBERS };
    let layout = Layout { cores: 1 + u16::from(rng.one_in(2)), retention, hinted_from_members, ..Layout::SMALL };
    let mut simulation = Simulation {
        seed,
        keys_rng: Rng::from_seed(!seed ^ KEYS),
        groups_rng: Rng::from_seed(!seed ^ GROUPS),
        invites: Vec::new(),
        has_groups: seed / 4 % 2 == 1,
        blocks_rng: Rng::from_seed(!seed ^ BLOCKS),
        has_blocks: seed / 16 % 2 == 1,
        deletions_rng: Rng::from_seed(!seed ^ DELETIONS),
        has_deletions: seed / 32 % 2 == 1,
        clocks_rng: Rng::from_seed(!seed ^ CLOCKS),
        has_skew: seed / 64 % 2 == 1,
        clock: World::new_clock(),
        layout,
        clients,
        coverage: Coverage::default(),
        messages: 0,
        trace,
        rng,
        devices_rng,
    };
    simulation.run().map_err(|broken| Failure { seed, broken })
}

impl Simulation {
    fn run(&mut self) -> Result<Coverage, Vec<String>> {
        let mut disk = SimDisk::new(self.seed);
        let rounds = 2 + self.rng.below(5);
        for round in 0..rounds {
            disk = self.round(disk, round)?;
        }
        self.quiet_end(disk)?;
        let broken = check::all(&self.clients);
        if !broken.is_empty() {
            return Err(broken);
        }
        self.coverage.virtual_ms = columba_engine::env::Clock::now(&self.clock).as_nanos() / 1_000_000;
        self.coverage.hash = self.hash();
        Ok(self.coverage)
    }

    fn say(&self, line: &str) {
        if self.trace {
            let now = columba_engine::env::Clock::now(&self.clock).as_nanos() / 1_000_000;
            #[expect(clippy::print_stdout, reason = "a trace is for the person who asked for it")]
            {
                println!("{now:>8} ms  {line}");
            }
        }
    }

    /// From a start to a crash (or to the next start after a failed write).
    fn round(&mut self, disk: SimDisk, round: u64) -> Result<SimDisk, Vec<String>> {
        disk.set_faults(Faults::default());
        disk.set_capacity(1 << 40);
        let sticks = self.rng.one_in(2);
        let crash = self.rng.one_in(2);
        if crash {
            disk.crash_at(1 + self.rng.below(600));
        }
        let faults = Faults {
            write_error: if self.rng.one_in(3) { 200 } else { 0 },
            sync_error: if self.rng.one_in(5) { 100 } else { 0 },
            ..Faults::default()
        };
        self.say(&format!("round {round} begins; crash {crash}, faults {faults:?}"));
        let mut world = match World::start(disk.clone(), self.clock.clone(), self.layout, self.rng.next_u64()) {
            Ok(world) => world,
            Err(Stop::Crash) => return Ok(self.crashed(&disk)),
            Err(Stop::Failed(error)) => return Err(vec![format!("the node does not start: {error}")]),
        };
        disk.set_faults(faults);
        let steps = 20 + self.rng.below(120);
        for _ in 0..steps {
            let sticks = sticks && self.rng.one_in(8);
            world.disk.hold_writes(sticks);
            let stepped = self.step(&mut world);
            if sticks {
                self.coverage.held += 1;
                // What clients were told meanwhile must not depend on the writes that wait.
                if self.rng.one_in(6) {
                    self.say("the power fails while writes wait");
                    return Ok(self.stopped(world, &Stop::Crash));
                }
                world.disk.hold_writes(false);
            }
            if let Err(stop) = stepped.and_then(|()| world.run()) {
                self.say(&format!("the node stops: {stop:?}"));
                return Ok(self.stopped(world, &stop));
            }
        }
        Ok(self.stopped(world, &Stop::Crash))
    }

    fn crashed(&mut self, disk: &SimDisk) -> SimDisk {
        self.coverage.crashes += 1;
        for client in &mut self.clients {
            client.disconnect();
        }
        disk.after_crash()
    }

    fn stopped(&mut self, world: World, stop: &Stop) -> SimDisk {
        match stop {
            Stop::Crash => self.coverage.crashes += 1,
            Stop::Failed(_) => self.coverage.failures += 1,
        }
        self.count(&world);
        for client in &mut self.clients {
            client.disconnect();
        }
        let (disk, _) = world.crash();
        self.coverage.disk = disk.counts();
        disk
    }

    fn count(&mut self, world: &World) {
        for core in &world.cores {
            self.coverage.inbox_entries += core.metrics().inbox_entries_total.get();
            self.coverage.duplicates += core.metrics().duplicates_total.get();
        }
    }

    fn step(&mut self, world: &mut World) -> Result<(), Stop> {
        let who = usize::try_from(self.rng.below(self.clients.len() as u64)).expect("an index");
        match self.rng.below(20) {
            0..=6 => self.send(who),
            7..=9 if self.clients[who].is_open() => {
                let frames = usize::try_from(self.rng.below(30)).expect("a small number");
                self.clients[who].receive(frames);
            }
            7..=10 => {
                let core = usize::try_from(self.rng.below(4)).expect("a small number");
                self.say(&format!("{} connects", self.clients[who].handle));
                self.clients[who].connect(world, core);
            }
            11 => {
                self.say(&format!("{} disconnects", self.clients[who].handle));
                self.clients[who].disconnect();
            }
            12 => {
                let mut rng = self.rng.fork();
                self.clients[who].resend_old(&mut rng);
            }
            13 => {
                let chats: Vec<_> = self.clients[who].received.keys().copied().collect();
                for chat in chats {
                    self.clients[who].read(chat);
                }
            }
            14 => self.clients[who].acknowledges = !self.rng.one_in(3),
            15 => {
                for core in &world.cores {
                    core.request_flush();
                }
                self.coverage.flushes += 1;
            }
            16 if self.rng.one_in(4) => {
                let room = self.rng.below(400 * 1024);
                self.say(&format!("the disk has room for {room} bytes"));
                world.disk.set_capacity(world.disk.used() + room);
            }
            16 => world.disk.set_capacity(1 << 40),
            17 => self.clients[who].retry(),
            _ => {
                let wait = STEP * u32::try_from(1 + self.rng.below(300)).expect("a small number");
                world.advance(wait)?;
            }
        }
        self.step_devices(world);
        self.keys();
        self.groups();
        self.blocks();
        self.deletions();
        self.clocks();
        world.run()?;
        self.drain(world)?;
        self.note_devices();
        world.advance(STEP)
    }

    /// The first user links its other devices, and now and then revokes one.
    fn step_devices(&mut self, world: &World) {
        let (first, others) = self.clients.split_at_mut(1);
        let first = &mut first[0];
        for other in others.iter_mut().filter(|other| other.link.is_some()) {
            if !self.devices_rng.one_in(4) {
                continue;
            }
            if other.address.is_some() {
                if self.devices_rng.one_in(20) {
                    first.revoke(other);
                }
            } else if !other.is_connected() {
                other.connect(world, usize::try_from(self.devices_rng.below(4)).expect("a small number"));
            } else if first.is_open() {
                first.approve(other);
            }
        }
    }

    /// Takes down what clients learnt of devices.
    fn note_devices(&mut self) {
        let revoked = core::mem::take(&mut self.clients[0].revoked_others);
        for client in &mut self.clients {
            let number = client.address.map(|address| address.device.get());
            let Some(link) = &mut client.link else {
                continue;
            };
            if number.is_some() && link.since.is_none() {
                link.since = Some(self.messages);
            }
            link.revoked |= number.is_some_and(|number| revoked.contains(&number));
        }
    }

    /// Clients that are quick take what there is.
    fn drain(&mut self, world: &mut World) -> Result<(), Stop> {
        for n in 0..self.clients.len() {
            if self.rng.one_in(4) {
                continue;
            }
            self.clients[n].receive(64);
        }
        world.run()
    }

    fn keys(&mut self) {
        if !self.keys_rng.one_in(4) {
            return;
        }
        let clients = self.clients.len() as u64;
        let [who, of] = [(); 2].map(|()| usize::try_from(self.keys_rng.below(clients)).expect("an index"));
        if self.keys_rng.one_in(4) {
            let count = self.keys_rng.below(12);
            self.clients[who].put_keys(count);
        } else if let Some(address) = self.clients[of].address {
            self.clients[who].take_keys(address.user);
        }
    }

    /// Somebody makes a group, changes one that it knows, or writes to it. Whether it may it is told.
    fn groups(&mut self) {
        if !self.has_groups || !self.groups_rng.one_in(2) {
            return;
        }
        let clients = self.clients.len() as u64;
        let pick = |rng: &mut Rng, below: u64| usize::try_from(rng.below(below)).expect("an index");
        let who = pick(&mut self.groups_rng, clients);
        let users: Vec<_> =
            self.clients.iter().filter_map(|client| client.address).map(|address| address.user).collect();
        if users.is_empty() || self.clients[who].address.is_none() {
            return;
        }
        let some = |rng: &mut Rng| -> Vec<UserId> {
            let count = 1 + rng.below(3);
            (0..count).map(|_| users[pick(rng, users.len() as u64)]).collect()
        };
        let ids = |users: Vec<UserId>| users.iter().map(|user| Bytes::copy_from_slice(user.as_bytes())).collect();
        let rng = &mut self.groups_rng;
        let all: BTreeSet<_> = self.clients.iter().flat_map(|client| client.groups.known.iter().copied()).collect();
        let known: Vec<_> = self.clients[who].groups.known.iter().copied().collect();
        if known.is_empty() || (all.len() < GROUPS_MAX && rng.one_in(20)) {
            if all.len() < GROUPS_MAX {
                let users = some(rng);
                self.say(&format!("{} makes a group", self.clients[who].handle));
                self.clients[who].create_group(&users);
            }
            return;
        }
        let group = known[pick(rng, known.len() as u64)];
        let change = match rng.below(22) {
            0..=2 => Change::Add(v1::AddMembers { user_ids: ids(some(rng)) }),
            3 | 4 => Change::Remove(v1::RemoveMembers { user_ids: ids(some(rng)) }),
            5 if rng.one_in(2) => Change::Leave(v1::LeaveGroup::default()),
            6 => {
                let role = i32::try_from(rng.below(3)).expect("a role");
                let user_id = Bytes::copy_from_slice(some(rng)[0].as_bytes());
                Change::SetRole(v1::SetRole { user_id, role })
            }
            20 => {
                let number = self.next_message();
                let secret = Bytes::from([[0; 8], number.to_be_bytes()].concat());
                self.invites.push((group, secret.clone()));
                Change::SetInvite(v1::SetInvite { secret, ..v1::SetInvite::default() })
            }
            21 if !self.invites.is_empty() => {
                let (group, secret) = self.invites[pick(rng, self.invites.len() as u64)].clone();
                self.say(&format!("{} goes to {group} by a link", self.clients[who].handle));
                return self.clients[who].join_group(group, secret);
            }
            19 if rng.one_in(4) => {
                // So long that it hides nothing while the seed runs.
                Change::SetTimer(v1::SetTimer { timer_s: 31_000_000 + u32::try_from(rng.below(3)).expect("small") })
            }
            7 => Change::SetLook(v1::SetLook { name: Some(Bytes::from(vec![7; 3])), ..v1::SetLook::default() }),
            _ => {
                let number = self.next_message();
                let text = format!("{}:{number}:", self.clients[who].handle);
                return self.clients[who].send_to_group(group, Bytes::from(text));
            }
        };
        self.say(&format!("{} changes a group: {change:?}", self.clients[who].handle));
        self.clients[who].change_group(group, change);
    }

    /// Somebody blocks somebody, or does so no more. A user does that with its first device alone.
    fn blocks(&mut self) {
        if !self.has_blocks || !self.blocks_rng.one_in(10) {
            return;
        }
        let clients = self.clients.len() as u64;
        let [who, of] = [(); 2].map(|()| usize::try_from(self.blocks_rng.below(clients)).expect("an index"));
        let user = |n: usize| self.clients[n].address.map(|address| address.user);
        if let (Some(by), Some(other)) = (user(who), user(of))
            && by != other
            && self.clients[who].link.is_none()
        {
            self.say(&format!("{} blocks or unblocks {}", self.clients[who].handle, self.clients[of].handle));
            self.clients[who].change_block(other);
        }
    }

    /// The node's clock on the wall jumps, forward or back; or a device's, which numbers its messages by it.
    fn clocks(&mut self) {
        if !self.has_skew || !self.clocks_rng.one_in(30) {
            return;
        }
        self.coverage.jumps += 1;
        if self.clocks_rng.one_in(2) {
            let who = usize::try_from(self.clocks_rng.below(self.clients.len() as u64)).expect("an index");
            let ahead = self.clocks_rng.below(SKEW_MS_MAX);
            self.say(&format!("the clock of {} is {ahead} ms ahead", self.clients[who].handle));
            return self.clients[who].jump(ahead);
        }
        // Around the time that it is: days must not pass, or what waits would expire.
        let since = columba_engine::env::Clock::now(&self.clock).as_nanos() / 1_000_000;
        let earliest = World::new_clock();
        let earliest = columba_engine::env::Clock::wall(&earliest).as_millis() - SKEW_MS_MAX;
        let wall = earliest + since + self.clocks_rng.below(2 * SKEW_MS_MAX);
        self.say(&format!("the clock on the wall says {wall}"));
        self.clock.set_wall(WallTime::from_millis(wall));
    }

    /// Somebody ends its account: one with a single device, and two stay.
    fn deletions(&mut self) {
        if !self.has_deletions || !self.deletions_rng.one_in(60) {
            return;
        }
        let who = usize::try_from(self.deletions_rng.below(self.clients.len() as u64)).expect("an index");
        let stay = self.clients.iter().filter(|client| client.link.is_none() && !client.deletion.asked).count();
        if who > 0 && (stay > 2 || self.clients[who].deletion.asked) {
            self.clients[who].delete_account();
            self.say(&format!("{} ends its account: {}", self.clients[who].handle, self.clients[who].deletion.asked));
        }
    }

    /// The number of one more message; it is what the clients have for a clock.
    fn next_message(&mut self) -> u64 {
        self.messages += 1;
        self.clients.iter_mut().for_each(|client| client.now = self.messages);
        self.messages
    }

    fn send(&mut self, who: usize) {
        let to = usize::try_from(self.rng.below(self.clients.len() as u64)).expect("an index");
        let own = self.clients[who].address.map(|address| address.user);
        let is_other = to != who && self.clients[to].address.is_some_and(|to| Some(to.user) != own);
        let (Some(to), true) = (self.clients[to].address, is_other) else {
            return;
        };
        // Now and then more than a device may have unacknowledged, and than is held for it.
        let (count, filler_max) = if self.rng.one_in(150) { (2500, 20) } else { (1 + self.rng.below(6), 2000) };
        for _ in 0..count {
            let number = self.next_message();
            let filler = usize::try_from(self.rng.below(filler_max)).expect("a small number");
            let text = format!("{}:{number}:{}", self.clients[who].handle, ".".repeat(filler));
            self.clients[who].send(to.user, Bytes::from(text));
        }
    }

    /// Faults end, everybody comes online: everything must arrive, in bounded time.
    fn quiet_end(&mut self, disk: SimDisk) -> Result<(), Vec<String>> {
        self.say("the quiet end");
        disk.set_faults(Faults::default());
        disk.set_capacity(1 << 40);
        let started = World::start(disk, self.clock.clone(), self.layout, self.rng.next_u64());
        let mut world = started.map_err(|stop| vec![format!("the node does not start at the end: {stop:?}")])?;
        let mut quiet = 0;
        let steps = u32::try_from(LIVENESS.as_millis() / STEP.as_millis()).expect("a small number");
        for step in 0..steps {
            let mut frames = 0;
            for n in 0..self.clients.len() {
                let client = &mut self.clients[n];
                client.acknowledges = true;
                if !client.is_owed() {
                    // One that was revoked tries to come back, and must not.
                    if client.address.is_some() && step % 20 == 0 {
                        client.connect(&world, n);
                    }
                    client.receive(1000);
                    continue;
                }
                if !client.is_open() && step % 20 == 0 {
                    client.connect(&world, n);
                }
                if step % 50 == 0 {
                    client.retry();
                    client.ping();
                }
                frames += client.receive(1000);
            }
            world.advance(STEP).map_err(|stop| vec![format!("the node stops without a fault: {stop:?}")])?;
            let mut owed = self.clients.iter().filter(|client| client.is_owed());
            let settled = owed.all(|client| {
                client.is_open() && client.is_synced && client.unanswered() == 0 && !client.blocks.is_pending()
            });
            quiet = if settled && frames == 0 { quiet + 1 } else { 0 };
            if quiet > 40 {
                break;
            }
        }
        if quiet <= 40 {
            let stuck: Vec<_> = self
                .clients
                .iter()
                .filter(|client| client.is_owed())
                .filter(|client| !client.is_open() || !client.is_synced || client.unanswered() > 0)
                .map(|client| {
                    format!(
                        "{} is open {}, synced {}, {} sends unanswered",
                        client.handle,
                        client.is_open(),
                        client.is_synced,
                        client.unanswered()
                    )
                })
                .collect();
            return Err([vec![format!("not settled within {LIVENESS:?}")], stuck].concat());
        }
        for client in &mut self.clients {
            client.ask_receipts();
        }
        for _ in 0..20 {
            world.advance(STEP).map_err(|stop| vec![format!("the node stops without a fault: {stop:?}")])?;
            for client in &mut self.clients {
                client.receive(1000);
            }
        }
        self.count(&world);
        for client in &self.clients {
            self.coverage.group_changes += client.groups.changes.values().map(|all| all.len() as u64).sum::<u64>();
            self.coverage.acknowledged += client.acknowledged.len() as u64;
            self.coverage.blocked += client.blocks.refused.len() as u64;
            self.coverage.keys += client.keys.taken.len() as u64;
            self.coverage.no_space += client.refused_no_space;
            self.coverage.received += client.received.values().map(|chat| chat.messages.len() as u64).sum::<u64>();
        }
        self.check_rest(&mut world)?;
        for core in world.cores.clone() {
            let verified = world.run_with(async move {
                for partition in core.partitions() {
                    partition.verify().await?;
                }
                columba_engine::error::Result::<()>::Ok(())
            });
            match verified {
                Ok(Ok(())) => {}
                other => return Err(vec![format!("files do not verify: {other:?}")]),
            }
        }
        for client in &mut self.clients {
            client.disconnect();
        }
        Ok(())
    }

    /// Once everybody has caught up, and what is coalesced has had its time.
    fn check_rest(&mut self, world: &mut World) -> Result<(), Vec<String>> {
        let steps = (HINT_AFTER + LARGE_ADVANCE_EVERY + Duration::from_secs(5)).as_millis() / STEP.as_millis();
        for step in 0..steps {
            world.advance(STEP).map_err(|stop| vec![format!("the node stops without a fault: {stop:?}")])?;
            for client in &mut self.clients {
                client.receive(1000);
                if step % 500 == 0 {
                    client.ping();
                }
            }
        }
        let (mut devices, mut broken) = (BTreeMap::new(), Vec::new());
        let users: BTreeSet<_> = self.clients.iter().filter_map(|client| client.address).map(|it| it.user).collect();
        let partitions: Vec<_> = world.cores.iter().flat_map(|core| core.partitions().cloned()).collect();
        for partition in partitions.clone() {
            for user in &users {
                let (partition, user) = (partition.clone(), *user);
                let row = world.run_with(async move { partition.user(user).await });
                if let Ok(Ok(Some(row))) = row {
                    devices.insert(user, row.devices.len());
                }
            }
        }
        let exist: BTreeSet<_> = devices.keys().copied().collect();
        broken.extend(check::deletion::only_who_asked_is_gone(&self.clients, &exist));
        let gone = check::deletion::gone(&self.clients, &exist);
        self.coverage.deleted += gone.len() as u64;
        for partition in partitions.clone() {
            match world.run_with(async move { partition.errands().await }) {
                Ok(Ok(errands)) if errands.is_empty() => {}
                other => broken.push(format!("errands are left: {other:?}")),
            }
        }
        let mut listed = check::listed::Listed::of(&self.clients, gone);
        for partition in partitions.clone() {
            match world.run_with(async move { listed.take(&partition).await }) {
                Ok(Ok(taken)) => listed = taken,
                other => return Err(vec![format!("the node cannot say who is in which chat: {:?}", other.err())]),
            }
        }
        broken.extend(listed.broken());
        let settled = check::settled::Settled::of(&self.clients, &devices);
        self.coverage.settled += settled.count();
        for partition in partitions {
            let settled = settled.clone();
            match world.run_with(async move { settled.missing(&partition).await }) {
                Ok(Ok(found)) => broken.extend(found),
                other => broken.push(format!("the node cannot say how far members are: {other:?}")),
            }
        }
        if broken.is_empty() { Ok(()) } else { Err(broken) }
    }

    fn hash(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut mix = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        for client in &self.clients {
            client.keys.taken.iter().for_each(|(_, id)| mix(&id.to_le_bytes()));
            for message in &client.acknowledged {
                mix(&message.seq.to_le_bytes());
                mix(&message.body);
            }
            for received in client.received.values() {
                for (seq, (_, body)) in &received.messages {
                    mix(&seq.to_le_bytes());
                    mix(body);
                }
            }
        }
        mix(&self.coverage.virtual_ms.to_le_bytes());
        hash
    }
}
