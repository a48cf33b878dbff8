//! What can go wrong: one variant for each thing a caller can act on.

use core::time::Duration;

use columba_wire::{ClientSeq, Code};

use crate::types::Fingerprint;

/// An error of the client. Cheap to clone: one failed connection may answer many calls.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// [`crate::Client::close`] was called, or the session ended for good; the reason came as an event.
    #[error("the client is closed")]
    Closed,
    /// No answer to a request in time. Requests other than sends may simply be made again.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The message left this device and no answer came before the deadline: it may or may not be in the chat.
    #[error("message {client_seq}: the outcome is not known")]
    OutcomeUnknown {
        /// The message's number on this device.
        client_seq: ClientSeq,
    },
    /// The deadline passed before the message left this device: it is not in the chat and will not be.
    #[error("message {client_seq} was not sent before its deadline")]
    NotSent {
        /// The message's number on this device.
        client_seq: ClientSeq,
    },
    /// The server said no.
    #[error("refused: {code}{}{message}", if message.is_empty() { "" } else { ": " })]
    Refused {
        /// Why.
        code: Code,
        /// In words.
        message: String,
    },
    /// [`crate::limits::OUTBOX_MESSAGES_MAX`] messages wait already.
    #[error("too many unsent messages")]
    OutboxFull,
    /// [`crate::limits::REQUESTS_MAX`] requests wait already.
    #[error("too many unanswered requests")]
    TooManyRequests,
    /// The body is longer than the protocol allows.
    #[error("a body of {bytes} bytes; at most {} are allowed", columba_wire::limits::BODY_BYTES_MAX)]
    BodyTooLarge {
        /// Its length.
        bytes: usize,
    },
    /// Not a handle: 3 to 32 bytes of `a-z 0-9 _ . -`, first a letter or digit.
    #[error("not a handle: {0:?} (3 to 32 of a-z 0-9 _ . -, first a letter or digit)")]
    InvalidHandle(String),
    /// An option does not make sense.
    #[error("{0}")]
    InvalidOption(String),
    /// This profile has no account yet: register first.
    #[error("not registered yet")]
    NotRegistered,
    /// This profile has an account already, under another handle.
    #[error("registered already, as {handle}")]
    AlreadyRegistered {
        /// The account's handle.
        handle: String,
    },
    /// There is no session now, or it broke before the answer. What is only good at once is not kept for the next one.
    #[error("there is no connection now")]
    Offline,
    /// The server could not be reached.
    #[error("cannot connect to {server}: {reason}")]
    Connect {
        /// `host:port`.
        server: String,
        /// What the transport said.
        reason: String,
    },
    /// The server's certificate is not the one this profile trusts. Not retried.
    #[error(
        "the server's certificate has changed: expected {expected}, found {found}. If the server was set up anew, \
         remove the pinned certificate from the profile; otherwise somebody may be listening in"
    )]
    CertificateChanged {
        /// What was pinned or given.
        expected: Fingerprint,
        /// What the server showed.
        found: Fingerprint,
    },
    /// The connection broke.
    #[error("connection lost: {0}")]
    ConnectionLost(String),
    /// Nothing was heard from the server for two and a half heartbeats, or the handshake took too long.
    #[error("the server is silent")]
    Silent,
    /// The server ended the session.
    #[error("the server ended the session: {code}{}{message}", if message.is_empty() { "" } else { ": " })]
    Goaway {
        /// Why.
        code: Code,
        /// In words.
        message: String,
    },
    /// The server said something that the protocol does not allow.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The profile could not be read or written.
    #[error("profile {path}: {reason}")]
    Store {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// A line of the profile's journal other than the last is not readable: not a crash, but damage.
    #[error("profile {path}: line {line} is damaged")]
    StoreDamaged {
        /// The file.
        path: String,
        /// Which line, from 1.
        line: usize,
    },
    /// Another process uses this profile.
    #[error("profile {path} is in use by another process")]
    StoreInUse {
        /// The directory.
        path: String,
    },
}

impl Error {
    /// Whether reconnecting is pointless: the same would happen again.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::CertificateChanged { .. }
            | Self::Closed
            | Self::Store { .. }
            | Self::StoreDamaged { .. }
            | Self::StoreInUse { .. }
            | Self::InvalidOption(_) => true,
            Self::Refused { code, .. } | Self::Goaway { code, .. } => matches!(
                code,
                Code::Unauthenticated
                    | Code::UnsupportedVersion
                    | Code::RegistrationRefused
                    | Code::HandleTaken
                    | Code::Replaced
                    | Code::Revoked
                    | Code::InvalidArgument
            ),
            Self::TimedOut(_)
            | Self::OutcomeUnknown { .. }
            | Self::NotSent { .. }
            | Self::OutboxFull
            | Self::TooManyRequests
            | Self::Offline
            | Self::BodyTooLarge { .. }
            | Self::InvalidHandle(_)
            | Self::NotRegistered
            | Self::AlreadyRegistered { .. }
            | Self::Connect { .. }
            | Self::ConnectionLost(_)
            | Self::Silent
            | Self::Protocol(_) => false,
        }
    }
}

/// The result of a call.
pub type Result<T> = core::result::Result<T, Error>;
