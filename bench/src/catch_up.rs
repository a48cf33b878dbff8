//! `columba-bench catch-up`: many messages wait for one device that was away; it comes back and takes them all.
//!
//! The device is a process of its own, so that its memory is its own. The messages are written while it is away.
//!
//! | device | what it is |
//! |---|---|
//! | lean | the load's own client: reads frames, counts, acknowledges what one read brought |
//! | sdk | `columba-client` with a profile on disk: stores each message, hands it out as an event, acknowledges |
//! | floor | the lean client, and an echo server that streams as many messages of the same size as fast as it can |

pub(crate) mod device;

use std::{path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use columba_wire::UserId;
use serde::{Deserialize, Serialize};

use self::device::{Kind, Registered, Taken};
use crate::{
    clock::{SECOND_NS, now_ns},
    load::{
        BODY_BYTES, Device, Link, Transport,
        dialect::{Dialect, Event, Times},
        login,
    },
    node::{self, Memory, Process, RunOptions, Usage},
    report::{Machine, Table, figure, median, number, ratio, write_json},
};

/// Unanswered sends while the messages are written.
const WINDOW: u64 = 64;
/// How long the node must write nothing until the messages wait, and no more is to come.
const QUIET: Duration = Duration::from_millis(500);
/// Seconds that this may take.
const QUIET_SECONDS_MAX: u64 = 60;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Messages that wait.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    #[command(flatten)]
    run: RunOptions,
}

/// What one catch-up came to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct CatchUp {
    messages_per_second: f64,
    device: Memory,
    /// Before: what the node holds anyhow, the messages that wait among it.
    server_before: Memory,
    server: Memory,
    /// What the server spent for each message.
    usage: Usage,
}

/// Everything of one run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Run {
    lean: CatchUp,
    sdk: CatchUp,
    floor: CatchUp,
}

#[derive(Serialize)]
struct Report<'a> {
    machine: &'a Machine,
    command: Vec<String>,
    body_bytes: usize,
    median: Run,
    runs: Vec<Run>,
}

/// Measures, prints, writes.
///
/// # Errors
/// A server or device failed, or a message went missing.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    node::pass_on_signals()?;
    let dir = options.run.data_dir("catch-up-")?;
    let machine = Machine::here(dir.path());
    println!("{}\n", machine.line());
    let mut runs = Vec::new();
    for n in 0..options.run.runs {
        eprintln!("run {} of {}", n + 1, options.run.runs);
        // Each run begins with an empty node, so that its memory is comparable.
        let run_dir = dir.path().join(n.to_string());
        std::fs::create_dir(&run_dir)?;
        let floor = measure(&node::start_echo(&run_dir)?, Kind::Stream, options.messages, &run_dir)?;
        let lean = measure_node(options, Kind::Lean, &run_dir)?;
        let sdk = measure_node(options, Kind::Sdk, &run_dir)?;
        runs.push(Run { lean, sdk, floor });
    }
    let median = median(&runs)?;
    print(options, &median);
    if let Some(path) = &options.run.json {
        let command = std::env::args().skip(1).collect();
        write_json(path, &Report { machine: &machine, command, body_bytes: BODY_BYTES, median, runs })?;
    }
    Ok(())
}

fn measure_node(options: &Options, kind: Kind, run_dir: &Path) -> anyhow::Result<CatchUp> {
    let dir = run_dir.join(kind.name());
    std::fs::create_dir(&dir)?;
    let mut node = options.run.start_node(&dir)?;
    let registered: Registered = device::start(&node, kind, &dir, None)?;
    let to = UserId::from_bytes(registered.user);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(write(&node, to, options.messages)).context("write what is to wait")?;
    wait_until_quiet(&node)?;
    let measured = measure(&node, kind, options.messages, &dir);
    node.check()?;
    measured
}

/// The device comes, takes everything, and goes.
fn measure(server: &Process, kind: Kind, messages: u64, dir: &Path) -> anyhow::Result<CatchUp> {
    let server_before = server.reset_memory_peak()?;
    let usage = server.usage()?;
    let taken: Taken = device::start(server, kind, dir, Some(messages)).with_context(|| kind.name())?;
    ensure!(taken.messages == messages, "{} messages came, and {messages} wait", taken.messages);
    Ok(CatchUp {
        messages_per_second: number(messages) * 1e9 / number(taken.took_ns),
        device: taken.memory,
        server_before,
        server: server.memory()?,
        usage: server.usage()?.since(&usage).per(number(messages)),
    })
}

/// Sends so many messages to somebody who is away.
async fn write(node: &Process, to: UserId, messages: u64) -> anyhow::Result<()> {
    let (mut link, binding) = Link::connect(&node.target, Transport::Ws).await?;
    login::register(&mut link, &binding).await?;
    let mut device = Device { link, dialect: Dialect::Columba { to } };
    let (mut next_seq, mut answered) = (1, 0);
    let mut frames = Vec::new();
    while answered < messages {
        while next_seq <= messages && next_seq - answered <= WINDOW {
            let times = Times { due_ns: 0, written_ns: 0 };
            device.link.feed(device.dialect.message(next_seq, times, BODY_BYTES)).await?;
            next_seq += 1;
        }
        device.link.flush().await?;
        device.link.receive(&mut frames).await?;
        for frame in frames.drain(..) {
            answered += u64::from(matches!(device.dialect.read(frame)?, Event::Sent { .. }));
        }
    }
    device.link.close().await;
    Ok(())
}

/// What waits is put down for the device in the background: waits for that to be over.
fn wait_until_quiet(node: &Process) -> anyhow::Result<()> {
    let limit_ns = now_ns() + QUIET_SECONDS_MAX * SECOND_NS;
    let mut before = node.usage()?.journal_bytes;
    loop {
        std::thread::sleep(QUIET);
        let now = node.usage()?.journal_bytes;
        // Equal, not close: both are whole numbers.
        if now <= before {
            return Ok(());
        }
        ensure!(now_ns() < limit_ns, "the node does not come to rest");
        before = now;
    }
}

fn print(options: &Options, median: &Run) {
    type Pick = fn(&CatchUp) -> f64;
    const ROWS: [(&str, Pick, usize); 7] = [
        ("messages/s", |one| one.messages_per_second, 0),
        ("server CPU us/message", |one| one.usage.cpu_us, 2),
        ("server resident before, MiB", |one| one.server_before.resident_mib, 1),
        ("server resident at the most, MiB", |one| one.server.peak_mib, 1),
        ("server: the catch-up's own, MiB", |one| one.server.peak_mib - one.server_before.resident_mib, 1),
        ("device resident at the most, MiB", |one| one.device.peak_mib, 1),
        ("journal bytes/message", |one| one.usage.journal_bytes, 1),
    ];
    println!(
        "Medians over {} runs, {} messages of {BODY_BYTES} bytes over plain WebSocket. The floor is a stream of the \
         echo server to the lean client.\n",
        options.run.runs, options.messages
    );
    let mut table = Table::new(&["what", "lean client", "SDK", "floor", "lean to floor", "SDK to floor"]);
    for (what, pick, digits) in ROWS {
        let [lean, sdk, floor] = [&median.lean, &median.sdk, &median.floor].map(pick);
        table.row(vec![
            what.to_owned(),
            figure(Some(lean), digits),
            figure(Some(sdk), digits),
            figure(Some(floor), digits),
            ratio(Some(lean), floor),
            ratio(Some(sdk), floor),
        ]);
    }
    table.print();
}
