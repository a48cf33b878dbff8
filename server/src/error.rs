//! What can go wrong in the server: one variant per thing a caller can act on.

use std::path::PathBuf;

use columba_wire::Code;

/// An error of the server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] columba_engine::Error),
    /// Replication failed.
    #[error(transparent)]
    Replication(#[from] columba_replication::Error),
    /// A request was refused, with this code.
    #[error("refused: {0}")]
    Refused(Code),
    /// The operating system refused something that has no path.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The operating system refused an operation on a file.
    #[error("{operation} {path}: {source}", path = path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A setting is not acceptable.
    #[error("{key} ({origin}): {reason}")]
    Config {
        /// The key.
        key: String,
        /// Where its value came from.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration file is not TOML.
    #[error("{path}: {reason}", path = path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another node has the data directory.
    #[error(
        "{path} belongs to a running node ({holder}); two nodes cannot share a data directory",
        path = path.display()
    )]
    DataDirInUse {
        /// The directory.
        path: PathBuf,
        /// What the lock file says of the other.
        holder: String,
    },
    /// The data directory was made with other settings.
    #[error(
        "{path} was made with {key} = {stored}, which cannot change; the configuration says {wanted}",
        path = path.display()
    )]
    DataDirFixed {
        /// The directory.
        path: PathBuf,
        /// The setting.
        key: &'static str,
        /// What it was made with.
        stored: u64,
        /// What is asked for now.
        wanted: u64,
    },
    /// The certificate or key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// A core ended before the node was asked to stop.
    #[error("core {core}: {reason}")]
    CoreFailed {
        /// Which core.
        core: u16,
        /// Why.
        reason: String,
    },
}

/// The crate's result.
pub type Result<T, E = Error> = core::result::Result<T, E>;
