//! What of a session must outlive the process: changes, in order, as the profile's journal keeps them.
//!
//! Ids and bodies are text (hex, Base64), so that a journal can be read with the eyes.

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, MessageSeq, UserId};
use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::cursor::Progress;

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
    /// Whether something depends on it being on disk at once. What does not is found out again after a crash.
    pub(crate) fn must_be_durable(&self) -> bool {
        match self {
            Self::Queued { .. } | Self::Delivered(_) => true,
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
