//! Numbered error codes: what they mean, and whether a retry of the same request can help.

/// An error code on the wire. Numbers are never reused; unknown numbers are treated by clients like [`Code::Internal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Code {
    /// The frame is not valid protobuf, or lacks what it must have. The connection is closed.
    Malformed = 1,
    /// The frame is longer than allowed. The connection is closed.
    FrameTooLarge = 2,
    /// No common protocol version. The connection is closed.
    UnsupportedVersion = 3,
    /// The frame is not allowed in this state (before login, or a second login). The connection is closed.
    Unexpected = 4,
    /// An argument is out of range; the message says which.
    InvalidArgument = 5,
    /// The signature is wrong, the device unknown, or the binding not acceptable. Which one is not said.
    Unauthenticated = 10,
    /// Login took too long. The connection is closed.
    LoginTimeout = 11,
    /// Registration is closed, or not for this address, or the credential is not accepted.
    RegistrationRefused = 12,
    /// The handle belongs to someone else.
    HandleTaken = 13,
    /// A newer session of the same device took over.
    Replaced = 14,
    /// The device was revoked by its user. The connection is closed; it is pointless to come back.
    Revoked = 15,
    /// No such link code, or it has expired or was used, or the key behind it is another.
    LinkUnknown = 16,
    /// No such user, or not for you to know.
    UnknownUser = 20,
    /// No such chat, or not for you to know.
    UnknownChat = 21,
    /// The body is longer than allowed.
    BodyTooLarge = 22,
    /// The client seq is older than the server remembers: whether the message is stored cannot be said.
    ClientSeqTooOld = 23,
    /// Too many users in a presence subscription.
    TooManySubscriptions = 24,
    /// A role in the group, a block or a privacy setting does not allow this.
    NotAllowed = 25,
    /// No such link to a group, or it has expired or was ended.
    InviteUnknown = 26,
    /// A list with a bound is full.
    TooMany = 28,
    /// More sends in flight than the welcome allowed. Not stored; send again later.
    TooManyInFlight = 30,
    /// A rate limit was met. Not stored; `retry_after_ms` says when to try again.
    RateLimited = 31,
    /// The server sheds load. Not stored; `retry_after_ms` says when to try again.
    Overloaded = 32,
    /// The disk is full. Not stored; reads and delivery go on.
    NoSpace = 33,
    /// Too many connections or sessions from here. The connection is closed.
    TooManyConnections = 34,
    /// The server is shutting down, or the partition has no leader now. The outcome is not known: send again with the
    /// same client seq.
    Unavailable = 40,
    /// The client did not read for too long. The connection is closed; what was not delivered waits in the inbox.
    TooSlow = 41,
    /// No heartbeat. The connection is closed.
    HeartbeatTimeout = 42,
    /// Stored data is damaged; it is reported to the operator.
    Damaged = 50,
    /// A fault of the server. The outcome is not known.
    Internal = 51,
}

impl Code {
    /// Every code, in order of number.
    pub const ALL: &[Self] = &[
        Self::Malformed,
        Self::FrameTooLarge,
        Self::UnsupportedVersion,
        Self::Unexpected,
        Self::InvalidArgument,
        Self::Unauthenticated,
        Self::LoginTimeout,
        Self::RegistrationRefused,
        Self::HandleTaken,
        Self::Replaced,
        Self::Revoked,
        Self::LinkUnknown,
        Self::UnknownUser,
        Self::UnknownChat,
        Self::BodyTooLarge,
        Self::ClientSeqTooOld,
        Self::TooManySubscriptions,
        Self::NotAllowed,
        Self::InviteUnknown,
        Self::TooMany,
        Self::TooManyInFlight,
        Self::RateLimited,
        Self::Overloaded,
        Self::NoSpace,
        Self::TooManyConnections,
        Self::Unavailable,
        Self::TooSlow,
        Self::HeartbeatTimeout,
        Self::Damaged,
        Self::Internal,
    ];

    /// The number on the wire.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The code of a number, if this version knows it.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.number() == number)
    }

    /// Whether the same request may succeed later (a send: with the same client seq).
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::TooManyInFlight
                | Self::RateLimited
                | Self::Overloaded
                | Self::NoSpace
                | Self::TooManyConnections
                | Self::Unavailable
                | Self::TooSlow
                | Self::HeartbeatTimeout
                | Self::LoginTimeout
                | Self::Internal
        )
    }

    /// Whether the server closes the connection after it.
    pub const fn closes(self) -> bool {
        matches!(
            self,
            Self::Malformed
                | Self::FrameTooLarge
                | Self::UnsupportedVersion
                | Self::Unexpected
                | Self::LoginTimeout
                | Self::Replaced
                | Self::Revoked
                | Self::TooManyConnections
                | Self::TooSlow
                | Self::HeartbeatTimeout
        )
    }

    /// The name in `SCREAMING_SNAKE_CASE`, as in PROTOCOL.md, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "MALFORMED",
            Self::FrameTooLarge => "FRAME_TOO_LARGE",
            Self::UnsupportedVersion => "UNSUPPORTED_VERSION",
            Self::Unexpected => "UNEXPECTED",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::LoginTimeout => "LOGIN_TIMEOUT",
            Self::RegistrationRefused => "REGISTRATION_REFUSED",
            Self::HandleTaken => "HANDLE_TAKEN",
            Self::Replaced => "REPLACED",
            Self::Revoked => "REVOKED",
            Self::LinkUnknown => "LINK_UNKNOWN",
            Self::UnknownUser => "UNKNOWN_USER",
            Self::UnknownChat => "UNKNOWN_CHAT",
            Self::BodyTooLarge => "BODY_TOO_LARGE",
            Self::ClientSeqTooOld => "CLIENT_SEQ_TOO_OLD",
            Self::TooManySubscriptions => "TOO_MANY_SUBSCRIPTIONS",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::InviteUnknown => "INVITE_UNKNOWN",
            Self::TooMany => "TOO_MANY",
            Self::TooManyInFlight => "TOO_MANY_IN_FLIGHT",
            Self::RateLimited => "RATE_LIMITED",
            Self::Overloaded => "OVERLOADED",
            Self::NoSpace => "NO_SPACE",
            Self::TooManyConnections => "TOO_MANY_CONNECTIONS",
            Self::Unavailable => "UNAVAILABLE",
            Self::TooSlow => "TOO_SLOW",
            Self::HeartbeatTimeout => "HEARTBEAT_TIMEOUT",
            Self::Damaged => "DAMAGED",
            Self::Internal => "INTERNAL",
        }
    }
}

impl core::fmt::Display for Code {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_unique_and_found_again() {
        for pair in Code::ALL.windows(2) {
            assert!(pair[0].number() < pair[1].number());
        }
        for code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), Some(*code));
        }
    }
}
