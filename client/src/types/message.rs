//! What the bodies of messages say: typed ones, and plain text. The server never looks at them.
//!
//! | 0 marker 00 | 1 version 01 | 2 `MessageBody` |
//!
//! Invariants
//! - Every body parses: what is not typed is plain, and what is typed and not understood says so.
//! - What [`MessageBody::to_bytes`] gives parses to the same.

use bytes::Bytes;
use columba_wire::{MessageSeq, limits::BODY_BYTES_MAX, v1};
use prost::Message as _;

use super::{CallId, Message};
use crate::{
    error::{Error, Result},
    limits::{
        EMOJI_BYTES_MAX, MEDIA_CAPTION_BYTES_MAX, MEDIA_KEY_BYTES_MAX, MEDIA_NAME_BYTES_MAX, MEDIA_REFERENCE_BYTES_MAX,
        MEDIA_TYPE_BYTES_MAX, NOTE_BYTES_MAX, THUMBNAIL_BYTES_MAX,
    },
    session::id_bytes,
};

/// What a typed body begins with: no text does.
const MARKER: u8 = 0;
/// The version of the convention that follows it.
const VERSION: u8 = 1;

/// What a body says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Text without a type, or what an application of its own has put there.
    Plain(Bytes),
    /// What clients have agreed on.
    Typed(MessageBody),
    /// A kind of a later version, or nothing that can be read. It is shown as that.
    NotUnderstood,
}

impl Content {
    /// Out of a body, whatever it is.
    pub fn parse(body: &Bytes) -> Self {
        match body[..] {
            [MARKER, VERSION, ..] => MessageBody::parse(body.slice(2..)).map_or(Self::NotUnderstood, Self::Typed),
            [MARKER, ..] => Self::NotUnderstood,
            _ => Self::Plain(body.clone()),
        }
    }

    /// The message that this one is about and is not shown without: the target of a reaction, an edit, a deletion.
    pub fn target(&self) -> Option<MessageSeq> {
        match self {
            Self::Typed(body) => body.kind.target(),
            Self::Plain(_) | Self::NotUnderstood => None,
        }
    }
}

impl Message {
    /// What its body says; for one that changes a group see [`Self::change`].
    pub fn content(&self) -> Content {
        Content::parse(&self.body)
    }
}

/// What a typed body says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageBody {
    /// The message that it answers. Only one below its own seq counts.
    pub reply_to: Option<MessageSeq>,
    /// What it is.
    pub kind: MessageKind,
}

impl From<MessageKind> for MessageBody {
    fn from(kind: MessageKind) -> Self {
        Self { reply_to: None, kind }
    }
}

impl MessageBody {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        MessageKind::Text(text.into()).into()
    }

    /// The same, as an answer to a message.
    #[must_use]
    pub fn in_reply_to(self, seq: MessageSeq) -> Self {
        Self { reply_to: Some(seq), ..self }
    }

    /// As a message has it.
    ///
    /// # Errors
    /// `BodyTooLarge`; `InvalidOption` for what breaks a bound of the convention: nobody would understand it.
    pub fn to_bytes(&self) -> Result<Bytes> {
        if !self.is_bounded() {
            return Err(Error::InvalidOption("a part of the message is too long, or missing".to_owned()));
        }
        let reply_to = self.reply_to.map(reference);
        let body = v1::MessageBody { reply_to, kind: Some(self.kind.to_frame()) };
        let mut bytes = vec![MARKER, VERSION];
        bytes.reserve(body.encoded_len());
        body.encode_raw(&mut bytes);
        if bytes.len() > BODY_BYTES_MAX {
            return Err(Error::BodyTooLarge { bytes: bytes.len() });
        }
        Ok(bytes.into())
    }

    /// `None` where it does not decode, or breaks a bound: whoever has sent it may say anything.
    fn parse(body: Bytes) -> Option<Self> {
        let body = v1::MessageBody::decode(body).ok()?;
        let reply_to = body.reply_to.map(|target| MessageSeq::new(target.seq)).filter(|seq| *seq > MessageSeq::ZERO);
        Some(Self { reply_to, kind: MessageKind::parse(body.kind?)? }).filter(Self::is_bounded)
    }

    fn is_bounded(&self) -> bool {
        self.reply_to.is_none_or(|seq| seq > MessageSeq::ZERO) && self.kind.is_bounded()
    }
}

/// The kinds of typed messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// A text.
    Text(String),
    /// A file that lies elsewhere.
    Media(Media),
    /// A call that is over.
    CallEvent(CallEvent),
    /// Something that the sender's client notes. It is the word of the sender, like everything else.
    Note(Note),
    /// What the sender thinks of a message.
    Reaction {
        /// Which message.
        target: MessageSeq,
        /// At most 64 bytes; empty where it is taken back.
        emoji: String,
    },
    /// A message says something else now.
    Edit {
        /// Which message of the sender.
        target: MessageSeq,
        /// In place of its text, or of its caption.
        text: String,
    },
    /// A message is deleted for everyone.
    Delete {
        /// Which message of the sender; of anybody where the sender is an admin or the owner of the group.
        target: MessageSeq,
    },
}

impl MessageKind {
    /// The message that this is about; `None` for what is shown by itself.
    pub fn target(&self) -> Option<MessageSeq> {
        match self {
            Self::Text(_) | Self::Media(_) | Self::CallEvent(_) | Self::Note(_) => None,
            Self::Reaction { target, .. } | Self::Edit { target, .. } | Self::Delete { target } => Some(*target),
        }
    }

    fn is_bounded(&self) -> bool {
        match self {
            Self::Text(_) | Self::CallEvent(_) => true,
            Self::Media(media) => media.is_bounded(),
            Self::Note(note) => note.text.len() <= NOTE_BYTES_MAX,
            Self::Reaction { target, emoji } => *target > MessageSeq::ZERO && emoji.len() <= EMOJI_BYTES_MAX,
            Self::Edit { target, .. } | Self::Delete { target } => *target > MessageSeq::ZERO,
        }
    }

    fn to_frame(&self) -> v1::message_body::Kind {
        use v1::message_body::Kind;
        match self.clone() {
            Self::Text(text) => Kind::Text(v1::Text { text }),
            Self::Media(media) => Kind::Media(media.into_frame()),
            Self::CallEvent(CallEvent { id, outcome, duration_s, video }) => Kind::CallEvent(v1::CallEvent {
                call_id: id_bytes(id.as_bytes()),
                outcome: outcome.to_frame().into(),
                duration_s,
                video,
            }),
            Self::Note(Note { kind, text }) => Kind::System(v1::System { kind: kind.to_frame().into(), text }),
            Self::Reaction { target, emoji } => Kind::Reaction(v1::Reaction { target: Some(reference(target)), emoji }),
            Self::Edit { target, text } => Kind::Edit(v1::Edit { target: Some(reference(target)), text }),
            Self::Delete { target } => Kind::Delete(v1::Delete { target: Some(reference(target)) }),
        }
    }

    fn parse(kind: v1::message_body::Kind) -> Option<Self> {
        use v1::message_body::Kind;
        let seq = |target: v1::MessageRef| MessageSeq::new(target.seq);
        Some(match kind {
            Kind::Text(v1::Text { text }) => Self::Text(text),
            Kind::Media(media) => Self::Media(Media::parse(media)?),
            Kind::CallEvent(v1::CallEvent { call_id, outcome, duration_s, video }) => {
                let id = CallId::from_bytes(call_id[..].try_into().ok()?);
                Self::CallEvent(CallEvent { id, outcome: CallOutcome::parse(outcome), duration_s, video })
            }
            Kind::System(v1::System { kind, text }) => Self::Note(Note { kind: NoteKind::parse(kind), text }),
            Kind::Reaction(v1::Reaction { target, emoji }) => Self::Reaction { target: seq(target?), emoji },
            Kind::Edit(v1::Edit { target, text }) => Self::Edit { target: seq(target?), text },
            Kind::Delete(v1::Delete { target }) => Self::Delete { target: seq(target?) },
        })
    }
}

fn reference(seq: MessageSeq) -> v1::MessageRef {
    v1::MessageRef { seq: seq.get() }
}

/// A file that lies elsewhere: who sends it has uploaded it before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Media {
    /// Where it lies: 1 to 512 bytes.
    pub reference: Bytes,
    /// As in MIME, at most 128 bytes. Only a hint.
    pub media_type: String,
    /// Bytes of the file, as its sender says.
    pub size: u64,
    /// What it is called, at most 256 bytes. No path.
    pub name: String,
    /// What is said with it, at most 4096 bytes.
    pub caption: String,
    /// A small picture of it, at most 16 KiB; may be empty.
    pub thumbnail: Bytes,
    /// What it is encrypted with, at most 64 bytes; empty where it is not.
    pub key: Bytes,
    /// SHA-256 of the bytes that lie there.
    pub digest: Option<[u8; 32]>,
}

impl Media {
    fn is_bounded(&self) -> bool {
        (1..=MEDIA_REFERENCE_BYTES_MAX).contains(&self.reference.len())
            && self.media_type.len() <= MEDIA_TYPE_BYTES_MAX
            && self.name.len() <= MEDIA_NAME_BYTES_MAX
            && self.caption.len() <= MEDIA_CAPTION_BYTES_MAX
            && self.thumbnail.len() <= THUMBNAIL_BYTES_MAX
            && self.key.len() <= MEDIA_KEY_BYTES_MAX
    }

    fn into_frame(self) -> v1::Media {
        let Self { reference, media_type, size, name, caption, thumbnail, key, digest } = self;
        let digest = digest.map(|digest| Bytes::copy_from_slice(&digest)).unwrap_or_default();
        v1::Media { reference, media_type, size, name, caption, thumbnail, key, digest }
    }

    fn parse(media: v1::Media) -> Option<Self> {
        let v1::Media { reference, media_type, size, name, caption, thumbnail, key, digest } = media;
        let digest = if digest.is_empty() { None } else { Some(digest[..].try_into().ok()?) };
        Some(Self { reference, media_type, size, name, caption, thumbnail, key, digest })
    }
}

/// A call that is over, as the client of who called tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallEvent {
    /// That of the call's signals.
    pub id: CallId,
    /// How it ended.
    pub outcome: CallOutcome,
    /// Seconds, where it was answered.
    pub duration_s: u32,
    /// Whether it was one with pictures.
    pub video: bool,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// Not known, or in a way that this version does not know.
    Unknown,
    /// It was taken.
    Answered,
    /// Nobody took it in time, or the caller gave up.
    Missed,
    /// It was not taken.
    Declined,
    /// The other one was in another call.
    Busy,
    /// It was taken, and no connection came about.
    Failed,
}

impl CallOutcome {
    fn to_frame(self) -> v1::CallOutcome {
        match self {
            Self::Unknown => v1::CallOutcome::Unknown,
            Self::Answered => v1::CallOutcome::Answered,
            Self::Missed => v1::CallOutcome::Missed,
            Self::Declined => v1::CallOutcome::Declined,
            Self::Busy => v1::CallOutcome::Busy,
            Self::Failed => v1::CallOutcome::Failed,
        }
    }

    fn parse(number: i32) -> Self {
        match v1::CallOutcome::try_from(number).unwrap_or_default() {
            v1::CallOutcome::Unknown => Self::Unknown,
            v1::CallOutcome::Answered => Self::Answered,
            v1::CallOutcome::Missed => Self::Missed,
            v1::CallOutcome::Declined => Self::Declined,
            v1::CallOutcome::Busy => Self::Busy,
            v1::CallOutcome::Failed => Self::Failed,
        }
    }
}

/// Something that a client has written by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is about.
    pub kind: NoteKind,
    /// In words, at most 1024 bytes; may be empty where the kind says it.
    pub text: String,
}

/// What a note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// What its text says.
    Text,
    /// The sender's client has seen that the security code has changed.
    SecurityCodeChanged,
}

impl NoteKind {
    fn to_frame(self) -> v1::SystemKind {
        match self {
            Self::Text => v1::SystemKind::Note,
            Self::SecurityCodeChanged => v1::SystemKind::SecurityCodeChanged,
        }
    }

    /// One that this version does not know is what its text says.
    fn parse(number: i32) -> Self {
        match v1::SystemKind::try_from(number).unwrap_or_default() {
            v1::SystemKind::Unknown | v1::SystemKind::Note => Self::Text,
            v1::SystemKind::SecurityCodeChanged => Self::SecurityCodeChanged,
        }
    }
}

#[cfg(test)]
mod tests;
