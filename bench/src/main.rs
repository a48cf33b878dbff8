//! Load generator, floors, journal and engine benchmarks of Columba.
//!
//! | module | what it holds |
//! |---|---|
//! | [`deliver`] | `columba-bench deliver`: a real node under load, beside its floors, run by run |
//! | [`groups`] | `columba-bench groups`: a message to everybody in a group, beside a server that only fans out |
//! | [`catch_up`] | `columba-bench catch-up`: many messages for one device that was away, and the memory of both sides |
//! | [`wire`] | `columba-bench wire`: bytes of frames and sockets for each message |
//! | [`journal`] | `columba-bench journal`: a journal commit against one raw durable write of the same size |
//! | [`engine`] | `columba-bench engine`: storage engines on one chat workload, side by side |
//! | [`load`] | lean clients over WebSocket, TLS WebSocket and QUIC; open-loop latency, closed-window throughput |
//! | [`echo`] | the floor's server: the same transports and frames, with nothing (or one raw write) behind them |
//! | [`socket`] | a TCP stream that counts its bytes; the loopback interface's counters |
//! | [`raw`] | the floor's disk: `O_DIRECT`, one `RWF_DSYNC` write into a zeroed file |
//! | [`node`] | child processes: start, wait until ready, metrics, CPU, stop |
//! | [`tls`] | the pinned certificate, configurations for both sides |
//! | [`clock`] | monotonic time and a ticker without a millisecond's grain |
//! | [`report`] | percentiles, medians over runs, facts of the machine, the table |
//!
//! Invariants
//! - Every figure of a run is measured between the same floors of the same run: machines are shared and noisy, ratios
//!   last.
//! - Latency counts from the intended time of a send, so a stalled sender cannot hide a stall.
//! - A child process is stopped however the run ends.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]
#![forbid(unsafe_code)]

mod catch_up;
mod clock;
mod deliver;
mod echo;
mod engine;
mod groups;
mod journal;
mod load;
mod node;
mod raw;
mod report;
mod socket;
mod tls;
mod wire;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "columba-bench", about = "Measures Columba against the floors of the machine it runs on")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send-to-deliver latency at a fixed rate, and the most durable messages a second, of a real node.
    Deliver(deliver::Options),
    /// A message to everybody in a group, until the last one has it.
    Groups(groups::Options),
    /// Many messages for a device that was away.
    CatchUp(catch_up::Options),
    /// Bytes on the wire for each message, over each transport.
    Wire(wire::Options),
    /// Journal commits against raw durable writes of the same size.
    Journal(journal::Options),
    /// Storage engines on one chat workload: RocksDB, Fjall, and plain logs as floors.
    Engine(Box<engine::Options>),
    /// The floor's server; started by the others.
    #[command(hide = true)]
    EchoServer(echo::Options),
    /// A device that was away; started by `catch-up`.
    #[command(hide = true)]
    CatchUpDevice(catch_up::device::Arguments),
    /// One engine, one measurement; started by `engine`.
    #[command(hide = true)]
    EnginePhase(engine::child::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Deliver(options) => deliver::run(&options),
        Command::Groups(options) => groups::run(&options),
        Command::CatchUp(options) => catch_up::run(&options),
        Command::Wire(options) => wire::run(&options),
        Command::Journal(options) => journal::run(&options),
        Command::Engine(options) => engine::run(&options),
        Command::EchoServer(options) => echo::run(&options),
        Command::CatchUpDevice(arguments) => catch_up::device::run(&arguments),
        Command::EnginePhase(arguments) => engine::child::run(&arguments),
    }
}
