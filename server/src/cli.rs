//! (D) The command line: `columba [serve]`, `config check`, `config example`, `chat`, `inspect`, `repair`,
//! `version`.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use crate::{
    config::{self, Config, Settings},
    error::Result,
    limits::SHUTDOWN_MS_MAX,
    logging,
    node::Node,
};

/// Columba, a message database that delivers. Without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "columba", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node.
    Serve(ServeArgs),
    /// Check or write configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Chat from the terminal.
    Chat(columba_client::chat::ChatArgs),
    /// Look at a data directory, a journal, a partition or a file of one; changes nothing.
    Inspect(crate::inspect::InspectArgs),
    /// Make lost manifests again from the tables, or give damaged tables up; only says what it would do without
    /// --write.
    Repair(crate::inspect::RepairArgs),
    /// Print the version.
    Version,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check the configuration, and print every value with where it came from.
    Check(ServeArgs),
    /// Print a file with every key, its documentation and its default.
    Example,
}

/// Flags of `serve`; they win over the environment, and that over the file.
#[derive(Clone, Debug, Default, Args)]
struct ServeArgs {
    /// Configuration file (TOML); also COLUMBA_CONFIG.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of everything the node keeps [default: ./data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address and port for TLS WebSocket, HTTP and QUIC [default: 127.0.0.1:7443].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address and port for plain WebSocket and HTTP [default: none].
    #[arg(long, value_name = "ADDRESS")]
    listen_plain: Option<String>,
    /// Threads, each with its own partitions [default: one for each CPU].
    #[arg(long, value_name = "NUMBER")]
    cores: Option<String>,
    /// Way to the disk: auto, uring or thread [default: auto].
    #[arg(long, value_name = "WAY")]
    disk: Option<String>,
    /// Form of the log: human or json [default: human].
    #[arg(long, value_name = "FORM")]
    log_format: Option<String>,
    /// Any other key of the configuration, as `connections.total_max=1000`; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print one line of JSON, once it serves, instead of a greeting.
    #[arg(long)]
    json_ready: bool,
}

/// The line of `--json-ready`.
#[derive(Serialize)]
struct ReadyLine<'a> {
    listening: String,
    plain: Option<String>,
    certificate: &'a std::path::Path,
    pid: u32,
}

/// Reads the command line and carries it out.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => serve(&cli.serve),
        Some(Command::Serve(args)) => serve(&args),
        Some(Command::Config(ConfigCommand::Check(args))) => check(&args),
        Some(Command::Config(ConfigCommand::Example)) => print(&config::example()),
        Some(Command::Chat(args)) => chat(args),
        Some(Command::Inspect(args)) => return crate::inspect::inspect(&args),
        Some(Command::Repair(args)) => return crate::inspect::repair(&args),
        Some(Command::Version) => print(concat!("columba ", env!("CARGO_PKG_VERSION"), "\n")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; there is nobody else to tell.
            let _ = writeln!(std::io::stderr(), "columba: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write to standard output")
}

impl ServeArgs {
    /// Defaults, file, environment, flags.
    fn settings(&self) -> Result<Settings> {
        let mut settings = Settings::default();
        let file = self.config.clone().or_else(|| std::env::var_os("COLUMBA_CONFIG").map(PathBuf::from));
        if let Some(file) = file {
            settings.merge_file(&file)?;
        }
        settings.merge_environment(std::env::vars_os().filter_map(|(name, value)| {
            // What is not UTF-8 is none of ours.
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))?;
        let flags = [
            ("data_dir", &self.data_dir),
            ("listen", &self.listen),
            ("listen_plain", &self.listen_plain),
            ("cores", &self.cores),
            ("disk", &self.disk),
            ("log.format", &self.log_format),
        ];
        for (name, value) in flags {
            if let Some(value) = value {
                settings.merge_flag(name, value)?;
            }
        }
        for pair in &self.set {
            settings.merge_pair(pair)?;
        }
        Ok(settings)
    }
}

fn check(args: &ServeArgs) -> anyhow::Result<()> {
    let settings = args.settings()?;
    settings.build()?;
    print(&settings.show())
}

fn chat(args: columba_client::chat::ChatArgs) -> anyhow::Result<()> {
    runtime()?.block_on(columba_client::chat::run(args))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("make a runtime")
}

fn serve(args: &ServeArgs) -> anyhow::Result<()> {
    let config = args.settings()?.build()?;
    logging::start(&config)?;
    runtime()?.block_on(run(config, args.json_ready))
}

async fn run(config: Config, json_ready: bool) -> anyhow::Result<()> {
    // Before the node is started, so that no request to stop is missed.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let says = config.registration_says;
    let data_dir = config.data_dir.clone();
    let mut node = Node::start(config)?;
    tokio::select! {
        ready = node.ready() => ready?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    }
    if json_ready {
        let line = ReadyLine {
            listening: node.listening().to_string(),
            plain: node.plain().map(|address| address.to_string()),
            certificate: node.certificate(),
            pid: std::process::id(),
        };
        print(&format!("{}\n", serde_json::to_string(&line)?))?;
    } else {
        print(&greeting(&node, &data_dir, says))?;
    }
    tracing::info!(listening = %node.listening(), cores = node.cores(), partitions = node.partitions(), "serving");
    tokio::select! {
        error = node.failure() => {
            tracing::error!(%error, "the node ends");
            return Err(error.into());
        }
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("asked to stop");
    tokio::select! {
        stopped = timeout(core::time::Duration::from_millis(SHUTDOWN_MS_MAX), node.stop()) => match stopped {
            Ok(stopped) => stopped?,
            Err(_) => anyhow::bail!("not stopped within {SHUTDOWN_MS_MAX} ms; what was acknowledged is durable"),
        },
        _ = interrupt.recv() => anyhow::bail!("interrupted while stopping; what was acknowledged is durable"),
    }
    tracing::info!("stopped");
    Ok(())
}

fn greeting(node: &Node, data_dir: &std::path::Path, registration: &str) -> String {
    let address = node.listening();
    let plain = node.plain().map_or_else(String::new, |plain| format!("  plain         ws://{plain}/v1/ws\n"));
    let is_from_source = std::env::current_exe().is_ok_and(|path| path.iter().any(|part| part == "target"));
    let columba = if is_from_source { "cargo run --release --" } else { "columba" };
    let server = if address.port() == 7443 { String::new() } else { format!(" --server {address}") };
    format!(
        "Columba {version} is serving.\n\
         \n  WebSocket     wss://{address}/v1/ws\n  QUIC          {address} (UDP)\n{plain}\
         \x20 certificate   {certificate}\n  data          {data}\n  registration  {registration}\n\
         \x20 cores         {cores}, with {partitions} partitions\n\
         \nTo chat, in two more terminals:\n\n  {columba} chat --as ada{server}\n  {columba} chat --as bob{server}\n\
         \nStop with Ctrl-C.\n",
        version = env!("CARGO_PKG_VERSION"),
        certificate = node.certificate().display(),
        data = data_dir.display(),
        cores = node.cores(),
        partitions = node.partitions(),
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["columba", "--listen", "127.0.0.1:0", "--json-ready"]);
        assert!(cli.command.is_none() && cli.serve.json_ready);
        let cli = Cli::parse_from(["columba", "serve", "--cores", "2", "--set", "pin_cores=false"]);
        let Some(Command::Serve(args)) = cli.command else { panic!("not serve") };
        let config = args.settings().unwrap().build().unwrap();
        assert_eq!((config.cores, config.pin_cores), (Some(2), false));
        assert!(Cli::try_parse_from(["columba", "--cores", "2", "version"]).is_err());
    }
}
