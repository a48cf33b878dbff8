//! What the client hands out: events and answers.

mod directory;
mod group;
mod message;
mod signal;
mod timeline;

use core::{fmt, str::FromStr, time::Duration};

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, DeviceId, MessageSeq, UserId, link::LinkCode};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

pub use self::directory::{
    Audience, IdentityKey, KeyBundle, NewKeys, OwnAccount, PreKey, Privacy, PrivacyChange, Profile, ProfileChange,
    Roster, User,
};
pub use columba_wire::Role;

pub use self::{
    group::{ChatInfo, ChatMember, ChatPage, GroupChange, GroupLook, Invitation, Invite, Recipient},
    message::{CallEvent, CallOutcome, Content, Media, MessageBody, MessageKind, Note, NoteKind},
    signal::{Call, CallId, CallStep, Signal, SignalBody, SignalTo},
    timeline::{Shown, Timeline, TimelineItem},
};
use crate::error::Error;

/// SHA-256 of a certificate, DER.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The SHA-256.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Of a certificate, DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = Error;

    /// 64 hex digits; colons and case do not matter.
    fn from_str(text: &str) -> Result<Self, Error> {
        let text: String = text.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| Error::InvalidOption("a fingerprint is 64 hex digits".to_owned()))
    }
}

/// Who this client is, as the server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub user: UserId,
    /// This device of the user.
    pub device: DeviceId,
    /// The handle it was registered with.
    pub handle: String,
}

impl Account {
    /// User and device.
    pub(crate) const fn address(&self) -> DeviceAddress {
        DeviceAddress { user: self.user, device: self.device }
    }

    /// Whether this device was linked to the account, and did not make it: its chats may have begun without it.
    pub(crate) fn is_linked(&self) -> bool {
        self.device != DeviceId::FIRST
    }
}

/// A device of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub number: DeviceId,
    /// Its Ed25519 public key.
    pub key: [u8; 32],
    /// What it is called; may be empty.
    pub name: String,
    /// When it was added, milliseconds since 1970.
    pub created_ms: u64,
    /// Whether it has a session.
    pub online: bool,
}

/// A code to show, of a device that wants to be linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkOffer {
    /// To be typed.
    pub code: LinkCode,
    /// The same for a QR code, with the hash of this device's key.
    pub scanned: String,
    /// How long it is good for.
    pub expires_in: Duration,
}

/// A device that waits behind a code. Name and agent are its own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRequest {
    /// Its Ed25519 public key.
    pub key: [u8; 32],
    /// How it calls itself.
    pub name: String,
    /// Its client.
    pub agent: String,
}

/// A message in a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its chat.
    pub chat: ChatId,
    /// Its place there.
    pub seq: MessageSeq,
    /// Who sent it.
    pub sender: UserId,
    /// When the server took it, milliseconds since 1970.
    pub time_ms: u64,
    /// When it disappears, milliseconds since 1970; `None`: never, or, of a message of this device that was just sent,
    /// as the chat's last change of the timer says.
    pub disappears_ms: Option<u64>,
    /// What it says, as it was sent: [`Self::content`] reads it. Nothing where it is a change.
    pub body: Bytes,
    /// What it changes of the group, where it does.
    pub change: Option<GroupChange>,
}

impl Message {
    /// Whether it has disappeared by this time, milliseconds since 1970.
    pub fn has_disappeared(&self, now_ms: u64) -> bool {
        self.disappears_ms.is_some_and(|at| at <= now_ms)
    }
}

/// A message of this device that is durable and has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its number on this device.
    pub client_seq: ClientSeq,
    /// Its chat.
    pub chat: ChatId,
    /// Its place there.
    pub seq: MessageSeq,
    /// When the server took it, milliseconds since 1970.
    pub time_ms: u64,
}

/// A message of this device that has no answer yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsent {
    /// Its number on this device.
    pub client_seq: ClientSeq,
    /// For whom.
    pub to: Recipient,
    /// What it says.
    pub body: Bytes,
}

/// How far a member of a chat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The chat.
    pub chat: ChatId,
    /// The member; `None` in a group, where it is told unasked: all others.
    pub user: Option<UserId>,
    /// A device of the member has the messages up to this one.
    pub delivered: MessageSeq,
    /// The member has read up to this one.
    pub read: MessageSeq,
}

/// All receipts of a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatReceipts {
    /// Newest message of the chat.
    pub last: MessageSeq,
    /// One for each member.
    pub members: Vec<Receipt>,
}

/// A page of a chat's messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// Newest first.
    pub messages: Vec<Message>,
    /// Whether nothing exists below the last one.
    pub complete: bool,
}

/// Whether a user is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Who.
    pub user: UserId,
    /// Online now.
    pub online: bool,
    /// When the user was last there, milliseconds since 1970; `None` where never, or online.
    pub last_seen_ms: Option<u64>,
    /// Grows with each device that the user adds or revokes: then [`crate::Client::devices_of`] says others.
    pub devices_version: u32,
}

/// What carries the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// QUIC, one stream.
    Quic,
    /// WebSocket over TLS.
    WebSocket,
    /// WebSocket in the clear.
    PlainWebSocket,
    /// Requests over HTTPS, one after the other.
    LongPoll,
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "QUIC",
            Self::WebSocket => "WebSocket",
            Self::PlainWebSocket => "WebSocket without TLS",
            Self::LongPoll => "long-polling",
        })
    }
}

/// What happens, in order.
#[derive(Clone, Debug)]
pub enum Event {
    /// The session is open. What waited comes next, then [`Event::Synced`].
    Connected {
        /// Over what.
        carrier: Carrier,
    },
    /// The session is gone.
    Disconnected {
        /// Why.
        reason: Error,
        /// When it is tried again; `None` where it is not.
        retry_in: Option<Duration>,
    },
    /// The server's certificate was trusted because none was known: it is pinned from now on.
    CertificatePinned {
        /// Of the certificate.
        fingerprint: Fingerprint,
    },
    /// What waited has come; from here on it is live.
    Synced,
    /// A message from somebody. Each comes once, in order within its chat.
    Message(Message),
    /// The server skipped messages of a chat that are not this device's own. Never seen from a healthy server.
    ///
    /// The client reconnects without having acknowledged what is behind, so that the server can deliver it all. What is
    /// missing then as well does not come by itself any more: [`crate::Client::history`] may have it.
    Gap {
        /// The chat.
        chat: ChatId,
        /// The last message before the hole.
        after: MessageSeq,
        /// The first message behind it.
        before: MessageSeq,
    },
    /// A message of [`crate::Client::queue`], or one left over from an earlier run, is in its chat.
    Sent(Sent),
    /// A message of [`crate::Client::queue`], or one left over from an earlier run, will not be sent.
    SendFailed {
        /// Its number.
        client_seq: ClientSeq,
        /// Why.
        reason: Error,
    },
    /// Another member of a chat got further, or this user has read something on whichever of its devices. Only the
    /// newest state is told.
    Receipt(Receipt),
    /// A user of [`crate::Client::subscribe_presence`] came or went.
    Presence(Presence),
    /// Somebody begins to write to a chat, or does so no more. Whoever does not say it again lapses after 6 s.
    Typing {
        /// The chat.
        chat: ChatId,
        /// Who.
        user: UserId,
        /// Whether it writes.
        on: bool,
    },
    /// A step of a call: told while it happens, or never.
    Signal(Signal),
    /// The code of [`crate::Client::begin_link`] was approved: this device belongs to this account.
    Linked(Account),
    /// It was not, and never will be.
    LinkFailed {
        /// Why: `Refused` with `LINK_UNKNOWN` where its time is over.
        reason: Error,
    },
    /// This device was revoked, or the account deleted. The session has ended for good.
    Revoked,
    /// Another device of this user has changed the account: it is this now.
    AccountChanged(OwnAccount),
    /// Few one-time keys of this device are left on the server, or none were ever stored: see
    /// [`crate::Client::put_keys`]. Told at the beginning of a session, and while others take them.
    KeysLow {
        /// How many.
        one_time_keys: u32,
    },
}
