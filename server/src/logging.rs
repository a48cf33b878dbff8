//! (D) The log: `tracing` events to standard error, for people or as JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::{
    config::{Config, LogFormat},
    error::{Error, Result},
};

/// Begins logging. Once in a process.
///
/// # Errors
/// The filter is not one.
pub fn start(config: &Config) -> Result<()> {
    let filter = EnvFilter::builder().parse(&config.log_filter).map_err(|error| Error::Config {
        key: "log.filter".to_owned(),
        origin: config.log_filter.clone(),
        reason: error.to_string(),
    })?;
    let is_terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_terminal).with_writer(std::io::stderr);
    // A second start in one process (tests) keeps the first log.
    let _ = match config.log_format {
        LogFormat::Human => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}
