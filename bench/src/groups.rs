//! `columba-bench groups`: one message to all who are online in a group, beside a server that only fans out.
//!
//! | floor | what it is |
//! |---|---|
//! | echo | one frame in, the same frame to as many sockets, nothing durable |
//! | echo + write | the same, with one raw durable write for each message before |

use anyhow::{Context as _, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::{
    load::{
        BODY_BYTES, Service,
        group::{self, GroupPlan, GroupResult},
    },
    node::{self, Process, RunOptions},
    raw::{BLOCK_BYTES, RawFile},
    report::{Machine, Percentiles, Table, figure, median, number, ratio, write_json},
};

/// Descriptors beside one for each member.
const DESCRIPTORS_RESERVED: u64 = 256;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Members of a group, the sender among them; each with a rate.
    #[arg(long, value_delimiter = ',', default_value = "99,1024")]
    members: Vec<usize>,
    /// Messages a second, one for each size.
    #[arg(long, value_delimiter = ',', default_value = "20,5")]
    rate: Vec<u64>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Seconds before each measurement that are not counted.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    warmup: u64,
    #[command(flatten)]
    run: RunOptions,
}

/// Everything of one run with one size.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Run {
    members: u64,
    rate: u64,
    /// Raw durable writes of one block, at the rate of the messages.
    write_paced: Percentiles,
    echo: GroupResult,
    columba: GroupResult,
    echo_write: GroupResult,
}

#[derive(Serialize)]
struct Report<'a> {
    machine: &'a Machine,
    command: Vec<String>,
    body_bytes: usize,
    medians: Vec<Run>,
    runs: Vec<Run>,
}

/// Measures, prints, writes.
///
/// # Errors
/// A server failed, a message went missing, or the disk does not take direct writes.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(options.members.len() == options.rate.len(), "each size has one rate");
    let largest = options.members.iter().copied().max().context("no size")?;
    ensure!(options.members.iter().all(|members| *members >= 2), "a group has two members at least");
    raise_descriptors(largest as u64 + DESCRIPTORS_RESERVED)?;
    node::pass_on_signals()?;
    let dir = options.run.data_dir("groups-")?;
    let machine = Machine::here(dir.path());
    println!("{}\n", machine.line());

    let mut raw = RawFile::create(dir.path(), "raw")?;
    let mut node = options.run.start_node(dir.path())?;
    let mut echo = node::start_echo(dir.path())?;
    let mut runs = Vec::new();
    for n in 0..options.run.runs {
        for (&members, &rate) in options.members.iter().zip(&options.rate) {
            eprintln!("run {} of {}: {members} members", n + 1, options.run.runs);
            let (warmup_seconds, seconds) = (options.warmup, options.seconds);
            let plan = GroupPlan { members, rate, warmup_seconds, seconds, body_bytes: BODY_BYTES };
            let write_paced = raw.measure(BLOCK_BYTES, rate * seconds.min(5), rate)?.percentiles();
            let measure = |server: &mut Process, service, what| {
                let measured = group::measure(&server.target, server, service, plan);
                server.check()?;
                measured.with_context(|| format!("{what}, run {} with {members} members", n + 1))
            };
            let echo_plain = measure(&mut echo, Service::Echo { commit: false }, "the echo floor")?;
            let columba = measure(&mut node, Service::Columba, "the node")?;
            let echo_write = measure(&mut echo, Service::Echo { commit: true }, "the echo + write floor")?;
            let members = members as u64;
            runs.push(Run { members, rate, write_paced, echo: echo_plain, columba, echo_write });
        }
    }
    let of = |members| runs.iter().filter(|run| run.members == members as u64).cloned().collect::<Vec<_>>();
    let medians = options.members.iter().map(|&members| median(&of(members))).collect::<anyhow::Result<Vec<_>>>()?;
    print(options, &medians);
    if let Some(path) = &options.run.json {
        let command = std::env::args().skip(1).collect();
        write_json(path, &Report { machine: &machine, command, body_bytes: BODY_BYTES, medians, runs })?;
    }
    Ok(())
}

/// Lets this process and its servers have a socket for each member.
fn raise_descriptors(needed: u64) -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    ensure!(limit.maximum.is_none_or(|most| most >= needed), "{needed} descriptors are needed: raise `ulimit -Hn`");
    Ok(())
}

fn print(options: &Options, medians: &[Run]) {
    /// What is in a row, how it is picked, digits, and whether the floors have it too.
    type Row = (&'static str, fn(&GroupResult) -> f64, usize, bool);
    const ROWS: [Row; 13] = [
        ("the last member has it p50", |result| result.last.p50_us, 0, true),
        ("the last member has it p99", |result| result.last.p99_us, 0, true),
        ("the last member has it max", |result| result.last.max_us, 0, true),
        ("a member has it p50", |result| result.each.p50_us, 0, true),
        ("a member has it p99", |result| result.each.p99_us, 0, true),
        ("the sender has the answer p50", |result| result.sent.p50_us, 0, true),
        ("server CPU us/message", |result| result.server.cpu_us, 0, true),
        ("load CPU us/message", |result| result.load_cpu_us, 0, true),
        ("durable writes/message", |result| result.server.journal_writes, 2, false),
        ("journal bytes/message", |result| result.server.journal_bytes, 0, false),
        ("pushes/message", |result| result.server.delivers, 1, false),
        ("inbox appends/message", |result| result.server.inbox_appends, 3, false),
        ("repeated deliveries", |result| number(result.repeated), 0, true),
    ];
    println!(
        "Medians over {} runs of {} s over plain WebSocket, {BODY_BYTES}-byte messages; microseconds where nothing \
         else is said.\nColumba: durable on disk before `sent` and before delivery. Ratios: Columba to the floor of \
         the same run.\n",
        options.run.runs, options.seconds
    );
    let mut table = Table::new(&[
        "members",
        "rate",
        "what",
        "Columba",
        "echo (not durable)",
        "echo + write",
        "ratio to echo + write",
    ]);
    for run in medians {
        for (what, pick, digits, is_shared) in ROWS {
            let value = Some(pick(&run.columba));
            let floor = |result| if is_shared { Some(pick(result)) } else { None };
            table.row(vec![
                run.members.to_string(),
                format!("{}/s", run.rate),
                what.to_owned(),
                figure(value, digits),
                figure(floor(&run.echo), digits),
                figure(floor(&run.echo_write), digits),
                ratio(value, floor(&run.echo_write).unwrap_or_default()),
            ]);
        }
        let (members, rate) = (run.members.to_string(), format!("{}/s", run.rate));
        let mut row = vec![members, rate, "raw durable write p50".to_owned(), "-".to_owned(), "-".to_owned()];
        row.extend([figure(Some(run.write_paced.p50_us), 0), "-".to_owned()]);
        table.row(row);
    }
    table.print();
}
