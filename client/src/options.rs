//! How a client connects, whom it trusts, and what it remembers.

use core::time::Duration;
use std::path::PathBuf;

use crate::types::{Account, Fingerprint};

/// What carries the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// QUIC; WebSocket where that fails or takes longer than [`crate::limits::QUIC_HEAD_START`]; long-polling where
    /// that fails too. What worked last is tried first.
    #[default]
    Auto,
    /// QUIC only.
    Quic,
    /// WebSocket over TLS only.
    WebSocket,
    /// WebSocket in the clear: for a server behind a proxy on the same machine, and for tests. No channel binding.
    PlainWebSocket,
    /// Requests over HTTPS only.
    LongPoll,
}

/// Which server certificate is trusted. The system's list of authorities is never asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The certificates of a PEM file: the server's own, or authorities that signed it.
    Certificates(PathBuf),
    /// The one certificate with this fingerprint.
    Fingerprint(Fingerprint),
    /// Whatever the server shows the first time; the same ever after (as SSH does). Kept in the profile.
    FirstUse,
}

/// What a client remembers, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// A directory: key, account, unsent messages, progress and the newest messages of each chat. One process at a
    /// time.
    Directory(PathBuf),
    /// Nothing on disk: unsent messages are lost with the process. The numbers of messages start from the clock, so
    /// that those of an earlier process are not met again.
    Memory {
        /// Seed of the device's Ed25519 key; `None` for a fresh one.
        device_key: Option<[u8; 32]>,
        /// The account it was registered as; `None` to register.
        account: Option<Account>,
    },
}

/// How a client connects.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port`.
    pub server: String,
    /// What carries the frames.
    pub transport: Transport,
    /// Which certificate is trusted.
    pub trust: Trust,
    /// What is remembered.
    pub profile: Profile,
    /// Name and version of the application, for the server's logs.
    pub agent: String,
    /// What the device is called in the account's list of devices, at most 64 bytes. For registration and linking;
    /// later [`crate::Client::rename_device`].
    pub device_name: String,
    /// Whether a message is acknowledged when [`crate::Events::next`] hands it out. Otherwise the application calls
    /// [`crate::Client::ack`]; what it does not acknowledge comes again to its next process.
    pub automatic_ack: bool,
    /// How long [`crate::Client::send`] tries.
    pub send_timeout: Duration,
    /// How long other calls wait.
    pub request_timeout: Duration,
}

impl Options {
    /// A client without a profile on disk, which trusts the server's certificate on first use.
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            transport: Transport::Auto,
            trust: Trust::FirstUse,
            profile: Profile::Memory { device_key: None, account: None },
            agent: concat!("columba-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            device_name: String::new(),
            automatic_ack: true,
            send_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(10),
        }
    }
}
