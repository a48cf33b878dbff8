//! What of a session must outlive the process: changes, in order, as the profile's journal keeps them.
//!
//! Ids and bodies are text (hex, Base64), so that a journal can be read with the eyes.

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, MessageSeq, UserId, v1};
use data_encoding::BASE64;
use prost::Message as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{cursor::Progress, outbox::Outbound};
use crate::types::{GroupChange, Message, Recipient};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    /// A message was accepted for sending. Durable before it goes out, so that its number is never given twice.
    Queued {
        #[serde(with = "number")]
        client_seq: ClientSeq,
        #[serde(with = "text")]
        to: UserId,
        #[serde(with = "base64")]
        body: Bytes,
    },
    /// The same of a message to a group.
    QueuedToGroup {
        #[serde(with = "number")]
        client_seq: ClientSeq,
        #[serde(with = "text")]
        group: ChatId,
        #[serde(with = "base64")]
        body: Bytes,
    },
    /// The same of a change of a group, or of a new one; the change as in a frame.
    QueuedChange {
        #[serde(with = "number")]
        client_seq: ClientSeq,
        #[serde(with = "optional_text")]
        group: Option<ChatId>,
        #[serde(with = "base64")]
        change: Bytes,
    },
    /// It has its place.
    Sent {
        #[serde(with = "number")]
        client_seq: ClientSeq,
        #[serde(with = "text")]
        chat: ChatId,
        #[serde(with = "place")]
        seq: MessageSeq,
        time_ms: u64,
    },
    /// It was given up; `chat` is set where it may be there all the same.
    Dropped {
        #[serde(with = "number")]
        client_seq: ClientSeq,
        #[serde(with = "optional_text")]
        chat: Option<ChatId>,
    },
    /// A message was taken by the application. Durable before it is acknowledged.
    Delivered(LogEntry),
    /// A user's handle was learnt.
    Named {
        #[serde(with = "text")]
        user: UserId,
        handle: String,
    },
    /// In a rewritten journal: the next number.
    NextClientSeq(#[serde(with = "number")] ClientSeq),
    /// In a rewritten journal: how far the device is in a chat.
    Cursor {
        #[serde(with = "text")]
        chat: ChatId,
        progress: Progress,
    },
    /// In a rewritten journal: a message of the log.
    Logged(LogEntry),
}

impl Record {
    /// That this is to be sent.
    pub(crate) fn queued(client_seq: ClientSeq, what: &Outbound) -> Self {
        match what.clone() {
            Outbound::Message { to: Recipient::User(to), body } => Self::Queued { client_seq, to, body },
            Outbound::Message { to: Recipient::Group(group), body } => Self::QueuedToGroup { client_seq, group, body },
            Outbound::Change { group, change } => {
                Self::QueuedChange { client_seq, group, change: change_bytes(&change) }
            }
        }
    }

    /// Whether something depends on it being on disk at once. What does not is found out again after a crash.
    pub(crate) fn must_be_durable(&self) -> bool {
        match self {
            Self::Queued { .. } | Self::QueuedToGroup { .. } | Self::QueuedChange { .. } | Self::Delivered(_) => true,
            Self::Sent { .. }
            | Self::Dropped { .. }
            | Self::Named { .. }
            | Self::NextClientSeq(_)
            | Self::Cursor { .. }
            | Self::Logged(_) => false,
        }
    }
}

/// A message as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogEntry {
    #[serde(with = "text")]
    pub(crate) chat: ChatId,
    #[serde(with = "place")]
    pub(crate) seq: MessageSeq,
    #[serde(with = "text")]
    pub(crate) sender: UserId,
    pub(crate) time_ms: u64,
    #[serde(with = "base64")]
    pub(crate) body: Bytes,
    /// Of a change of the group: as in a frame; one that this version does not know has no bytes, and is one still.
    #[serde(with = "optional_base64", default, skip_serializing_if = "Option::is_none")]
    pub(crate) change: Option<Bytes>,
    /// When it disappears, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disappears_ms: Option<u64>,
    /// Whether this device has sent it: then when it disappears is told by what is before it.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub(crate) is_own: bool,
}

impl LogEntry {
    pub(crate) fn new(message: Message) -> Self {
        let Message { chat, seq, sender, time_ms, disappears_ms, body, change } = message;
        let change = change.map(|change| change_bytes(&change));
        Self { chat, seq, sender, time_ms, body, change, disappears_ms, is_own: false }
    }

    /// Of a message that this device has sent.
    pub(crate) fn own(message: Message) -> Self {
        Self { is_own: true, ..Self::new(message) }
    }

    /// Seconds that it sets the timer of its chat to.
    pub(crate) fn timer_s(&self) -> Option<u32> {
        match self.change.as_ref().map(parse_change)? {
            GroupChange::SetTimer { timer_s } => Some(timer_s),
            _ => None,
        }
    }

    pub(crate) fn to_message(&self) -> Message {
        let Self { chat, seq, sender, time_ms, disappears_ms, ref body, ref change, .. } = *self;
        let change = change.as_ref().map(parse_change);
        Message { chat, seq, sender, time_ms, disappears_ms, body: body.clone(), change }
    }
}

fn change_bytes(change: &GroupChange) -> Bytes {
    change.to_frame().encode_to_vec().into()
}

/// A change as it was kept; one that cannot be read is one of a newer version.
pub(crate) fn parse_change(bytes: &Bytes) -> GroupChange {
    let frame = v1::GroupChange::decode(bytes.clone()).ok();
    frame.and_then(GroupChange::parse).unwrap_or(GroupChange::Unknown)
}

/// Ids as hex.
mod text {
    use super::*;

    pub(super) fn serialize<T: ToString, S: Serializer>(id: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&id.to_string())
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: core::str::FromStr<Err: core::fmt::Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Ids as hex, or nothing.
mod optional_text {
    use super::*;

    pub(super) fn serialize<S: Serializer>(id: &Option<ChatId>, serializer: S) -> Result<S::Ok, S::Error> {
        id.map(|id| id.to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ChatId>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// Client seqs as numbers.
mod number {
    use super::*;

    pub(super) fn serialize<S: Serializer>(seq: &ClientSeq, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(seq.get())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ClientSeq, D::Error> {
        u64::deserialize(deserializer).map(ClientSeq::new)
    }
}

/// Message seqs as numbers.
mod place {
    use super::*;

    pub(super) fn serialize<S: Serializer>(seq: &MessageSeq, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(seq.get())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MessageSeq, D::Error> {
        u64::deserialize(deserializer).map(MessageSeq::new)
    }
}

/// Bodies as Base64.
mod base64 {
    use super::*;

    pub(super) fn serialize<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(body))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map(Bytes::from).map_err(D::Error::custom)
    }
}

/// The same, or nothing.
mod optional_base64 {
    use super::*;

    pub(super) fn serialize<S: Serializer>(body: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
        body.as_ref().map(|body| BASE64.encode(body)).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| BASE64.decode(text.as_bytes()).map(Bytes::from).map_err(D::Error::custom)).transpose()
    }
}
