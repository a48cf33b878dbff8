//! `columba-bench wire`: bytes on the wire for each message between two people, over each transport.
//!
//! Twice: one message at a time, at a slow rate, and many pairs with a window each, where messages, answers and
//! acknowledgements share frames, packets and records of TLS.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    load::{
        Service, Transport,
        latency::{self, LatencyPlan},
        throughput::{self, ThroughputPlan},
        traffic::Wire,
    },
    node::{self, Process, RunOptions},
    report::{Machine, Table, figure, median, ratio, write_json},
};

/// Seconds that are not counted: QUIC finds out how large a packet may be.
const WARMUP_SECONDS: u64 = 2;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Transports, in this order.
    #[arg(long, value_delimiter = ',', default_value = "ws,wss,quic")]
    transport: Vec<Transport>,
    /// Bytes of a message's body.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(16..=32_768))]
    body_bytes: u16,
    /// Messages a second of the slow runs.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: u64,
    /// Pairs of devices of the loaded runs.
    #[arg(long, default_value_t = 20)]
    pairs: usize,
    /// Unanswered sends of each sender there.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=64))]
    outstanding: u64,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Shows the packets of the loopback interface too: in a network namespace of its own, where nobody else uses it.
    #[arg(long)]
    loopback: bool,
    #[command(flatten)]
    run: RunOptions,
}

/// Of the node and of the echo server, which forwards frames of about the same size and does nothing else.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Compared {
    columba: Wire,
    echo: Wire,
}

/// Everything of one run over one transport.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Run {
    transport: Transport,
    alone: Compared,
    loaded: Compared,
}

#[derive(Serialize)]
struct Report<'a> {
    machine: &'a Machine,
    command: Vec<String>,
    medians: Vec<Run>,
    runs: Vec<Run>,
}

/// Measures, prints, writes.
///
/// # Errors
/// A server failed, or a message went missing.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    node::pass_on_signals()?;
    let dir = options.run.data_dir("wire-")?;
    let machine = Machine::here(dir.path());
    println!("{}\n", machine.line());
    let mut node = options.run.start_node(dir.path())?;
    let mut echo = node::start_echo(dir.path())?;
    let mut runs = Vec::new();
    for n in 0..options.run.runs {
        for &transport in &options.transport {
            eprintln!("run {} of {}: {}", n + 1, options.run.runs, transport.name());
            let mut both = |measure: &dyn Fn(&Process, Service) -> anyhow::Result<Wire>| {
                let at_echo = measure(&echo, Service::Echo { commit: false }).context("the echo floor")?;
                let columba = measure(&node, Service::Columba).context("the node");
                node.check()?;
                echo.check()?;
                anyhow::Ok(Compared { columba: columba?, echo: at_echo })
            };
            let alone = both(&|server, service| alone(options, transport, server, service))?;
            let loaded = both(&|server, service| loaded(options, transport, server, service))?;
            runs.push(Run { transport, alone, loaded });
        }
    }
    let of = |transport| runs.iter().filter(|run| run.transport == transport).cloned().collect::<Vec<_>>();
    let medians = options.transport.iter().map(|&t| median(&of(t))).collect::<anyhow::Result<Vec<_>>>()?;
    print(options, &medians);
    if let Some(path) = &options.run.json {
        let command = std::env::args().skip(1).collect();
        write_json(path, &Report { machine: &machine, command, medians, runs })?;
    }
    Ok(())
}

fn alone(options: &Options, transport: Transport, server: &Process, service: Service) -> anyhow::Result<Wire> {
    let (rate, seconds, body_bytes) = (options.rate, options.seconds, usize::from(options.body_bytes));
    let plan = LatencyPlan { rate, warmup_seconds: WARMUP_SECONDS, seconds, body_bytes };
    Ok(latency::measure(&server.target, transport, service, plan)?.wire)
}

fn loaded(options: &Options, transport: Transport, server: &Process, service: Service) -> anyhow::Result<Wire> {
    let plan = ThroughputPlan {
        pairs: options.pairs,
        outstanding: options.outstanding,
        both_ways: false,
        threads: 1,
        warmup_seconds: WARMUP_SECONDS,
        seconds: options.seconds,
        body_bytes: usize::from(options.body_bytes),
    };
    Ok(throughput::measure(&server.target, server, transport, service, plan)?.wire)
}

fn print(options: &Options, medians: &[Run]) {
    type Pick = fn(&Wire) -> f64;
    const ROWS: [(&str, Pick, Pick); 5] = [
        ("sender, up", |wire| wire.sender.frames_up, |wire| wire.sender.socket_up),
        ("sender, down", |wire| wire.sender.frames_down, |wire| wire.sender.socket_down),
        ("recipient, down", |wire| wire.recipient.frames_down, |wire| wire.recipient.socket_down),
        ("recipient, up", |wire| wire.recipient.frames_up, |wire| wire.recipient.socket_up),
        ("both, both ways", Wire::frames, |wire| wire.sender.socket() + wire.recipient.socket()),
    ];
    println!(
        "Medians over {} runs of {} s; bytes for each message of {} bytes. Alone: {}/s, one pair. Loaded: {} pairs, {} \
         unanswered sends each.\n",
        options.run.runs, options.seconds, options.body_bytes, options.rate, options.pairs, options.outstanding,
    );
    let mut table = Table::new(&[
        "transport",
        "load",
        "what",
        "frames",
        "socket",
        "echo frames",
        "echo socket",
        "ratio of sockets",
    ]);
    for run in medians {
        for (load, Compared { columba, echo }) in [("alone", &run.alone), ("loaded", &run.loaded)] {
            let mut row = |what: &str, frames: Option<Pick>, socket: Pick| {
                table.row(vec![
                    run.transport.name().to_owned(),
                    load.to_owned(),
                    what.to_owned(),
                    figure(frames.map(|pick| pick(columba)), 1),
                    figure(Some(socket(columba)), 1),
                    figure(frames.map(|pick| pick(echo)), 1),
                    figure(Some(socket(echo)), 1),
                    ratio(Some(socket(columba)), socket(echo)),
                ]);
            };
            for (what, frames, socket) in ROWS {
                row(what, Some(frames), socket);
            }
            if options.loopback {
                row("packets with IP headers", None, |wire| wire.loopback_bytes);
                row("packets, number", None, |wire| wire.loopback_packets);
            }
        }
    }
    table.print();
}
