//! `columba-bench deliver`: a real node under load beside its floors, interleaved run by run.
//!
//! | floor | what it is |
//! |---|---|
//! | write | one raw durable write of the batch's size in the node's directory: paced like the messages, and back to back |
//! | echo | the same transports, frames and load, with a server that only forwards |
//! | echo + write (sum) | the medians of the two, added |
//! | echo + write (one) | an echo server that makes one raw durable write per batch before it forwards |

mod summary;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    load::{
        BODY_BYTES, Service, Transport,
        latency::{self, LatencyPlan, LatencyResult},
        throughput::{self, ThroughputPlan, ThroughputResult},
    },
    node::{self, Process, RunOptions},
    raw::{BLOCK_BYTES, RawFile},
    report::{Machine, Percentiles, median, write_json},
};

/// Durable writes of each back-to-back floor.
const BURST_WRITES: u64 = 2_000;
/// Bytes of the larger back-to-back floor: a batch of a few hundred messages.
const BATCH_BYTES: usize = 64 * 1024;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Transports, in this order.
    #[arg(long, value_delimiter = ',', default_value = "ws,wss,quic")]
    transport: Vec<Transport>,
    /// Messages a second of the latency runs.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    /// Pairs of devices of the throughput runs.
    #[arg(long, default_value_t = 50)]
    pairs: usize,
    /// Unanswered sends of each sender.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=64))]
    outstanding: u64,
    /// Both of a pair send; otherwise one does.
    #[arg(long)]
    both_ways: bool,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Seconds before each measurement that are not counted.
    #[arg(long, default_value_t = 1)]
    warmup: u64,
    /// Threads of the load.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[command(flatten)]
    run: RunOptions,
    /// No throughput.
    #[arg(long, conflicts_with = "only_throughput")]
    only_latency: bool,
    /// No latency.
    #[arg(long)]
    only_throughput: bool,
    /// Floors alone: no node.
    #[arg(long)]
    floors: bool,
}

/// One measurement of the node and of both echo floors.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Compared<T> {
    /// The node; none where only floors were asked for.
    columba: Option<T>,
    /// The echo server.
    echo: T,
    /// The echo server with one raw durable write per batch.
    echo_write: T,
}

/// Everything of one run over one transport.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Run {
    transport: Transport,
    /// Raw durable writes of one block, at the rate of the messages.
    write_paced: Percentiles,
    /// The same, back to back.
    write_burst: Percentiles,
    /// Raw durable writes of a batch, back to back.
    write_batch_burst: Percentiles,
    latency: Option<Compared<LatencyResult>>,
    throughput: Option<Compared<ThroughputResult>>,
}

#[derive(Serialize)]
struct Report<'a> {
    machine: &'a Machine,
    command: Vec<String>,
    body_bytes: usize,
    write_bytes: usize,
    batch_write_bytes: usize,
    medians: Vec<Run>,
    runs: Vec<Run>,
}

/// Measures, prints, writes.
///
/// # Errors
/// A server failed, a message went missing, or the disk does not take direct writes.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    node::pass_on_signals()?;
    let dir = options.run.data_dir("deliver-")?;
    let machine = Machine::here(dir.path());
    println!("{}\n", machine.line());

    let mut bench = Bench {
        options,
        raw: RawFile::create(dir.path(), "raw")?,
        node: if options.floors { None } else { Some(options.run.start_node(dir.path())?) },
        echo: node::start_echo(dir.path())?,
    };
    let mut runs = Vec::new();
    for n in 0..options.run.runs {
        for &transport in &options.transport {
            eprintln!("run {} of {}: {}", n + 1, options.run.runs, transport.name());
            runs.push(bench.run(transport).with_context(|| format!("run {} over {}", n + 1, transport.name()))?);
        }
    }
    let of = |transport| runs.iter().filter(|run| run.transport == transport).cloned().collect::<Vec<_>>();
    let medians = options.transport.iter().map(|&t| median(&of(t))).collect::<anyhow::Result<Vec<_>>>()?;
    summary::print(options, &medians);
    if let Some(path) = &options.run.json {
        let command = std::env::args().skip(1).collect();
        let (write_bytes, batch_write_bytes) = (BLOCK_BYTES, BATCH_BYTES);
        let report = Report {
            machine: &machine,
            command,
            body_bytes: BODY_BYTES,
            write_bytes,
            batch_write_bytes,
            medians,
            runs,
        };
        write_json(path, &report)?;
    }
    Ok(())
}

struct Bench<'a> {
    options: &'a Options,
    raw: RawFile,
    node: Option<Process>,
    echo: Process,
}

impl Bench<'_> {
    fn run(&mut self, transport: Transport) -> anyhow::Result<Run> {
        let options = self.options;
        let paced_count = options.rate * (options.seconds + options.warmup).min(5);
        let write_paced = self.raw.measure(BLOCK_BYTES, paced_count, options.rate)?.percentiles();
        let plan = LatencyPlan {
            rate: options.rate,
            warmup_seconds: options.warmup,
            seconds: options.seconds,
            body_bytes: BODY_BYTES,
        };
        let latency = (!options.only_throughput)
            .then(|| self.compare(|server, service| latency::measure(&server.target, transport, service, plan)))
            .transpose()?;
        let write_burst = self.raw.measure(BLOCK_BYTES, BURST_WRITES, 0)?.percentiles();
        let plan = ThroughputPlan {
            pairs: options.pairs,
            outstanding: options.outstanding,
            both_ways: options.both_ways,
            threads: options.threads,
            warmup_seconds: options.warmup,
            seconds: options.seconds,
            body_bytes: BODY_BYTES,
        };
        let throughput = (!options.only_latency)
            .then(|| {
                self.compare(|server, service| throughput::measure(&server.target, server, transport, service, plan))
            })
            .transpose()?;
        let write_batch_burst = self.raw.measure(BATCH_BYTES, BURST_WRITES, 0)?.percentiles();
        Ok(Run { transport, write_paced, write_burst, write_batch_burst, latency, throughput })
    }

    fn compare<T>(&mut self, measure: impl Fn(&Process, Service) -> anyhow::Result<T>) -> anyhow::Result<Compared<T>> {
        let echo = measure(&self.echo, Service::Echo { commit: false }).context("the echo floor")?;
        let columba = match &mut self.node {
            Some(node) => {
                let measured = measure(node, Service::Columba).context("the node");
                node.check()?;
                Some(measured?)
            }
            None => None,
        };
        let echo_write = measure(&self.echo, Service::Echo { commit: true }).context("the echo + write floor")?;
        self.echo.check()?;
        Ok(Compared { columba, echo, echo_write })
    }
}
