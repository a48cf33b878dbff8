//! A message as the partition stores it, in memory and in files.

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, DeviceId, MessageSeq};

/// What a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageKind {
    /// A client's: its body is opaque.
    #[default]
    Client,
    /// A change of the chat: its body is a [`crate::partition::group::GroupChange`].
    Change,
    /// A client's that disappears: its body begins with the seconds after which, in big-endian.
    Timed,
}

impl MessageKind {
    /// Device and kind in one number, as both lie in memory and in files: the device has the lower 24 bits.
    pub(crate) const fn with_device(self, device: DeviceId) -> u32 {
        let kind = match self {
            Self::Client => 0,
            Self::Change => 1,
            Self::Timed => 2,
        };
        kind << 24 | device.get()
    }

    /// Both out of the number; `None` where it is none.
    pub(crate) fn split_device(number: u32) -> Option<(Self, DeviceId)> {
        let kind = match number >> 24 {
            0 => Self::Client,
            1 => Self::Change,
            2 => Self::Timed,
            _ => return None,
        };
        Some((kind, DeviceId::new(number & DeviceId::LAST.get()).ok()?))
    }
}

/// A message as stored; its body owned, or lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredMessage<B = Bytes> {
    /// Its place in the chat.
    pub seq: MessageSeq,
    /// Who sent it, from which device.
    pub sender: DeviceAddress,
    /// The device's number for it.
    pub client_seq: ClientSeq,
    /// When the leader took it, milliseconds since 1970.
    pub time_ms: u64,
    /// What it is.
    pub kind: MessageKind,
    /// Opaque to the server, where it is a client's.
    pub body: B,
}

/// What the kind [`MessageKind::Timed`] has before the client's body.
const TIMER_BYTES: usize = 4;

/// The body of a message that disappears after so many seconds.
pub(crate) fn timed_body(timer_s: u32, body: &[u8]) -> Bytes {
    [&timer_s.to_be_bytes(), body].concat().into()
}

impl StoredMessage {
    /// After how many seconds it disappears; `None`: never.
    pub fn timer_s(&self) -> Option<u32> {
        let timer = self.body.first_chunk().filter(|_| self.kind == MessageKind::Timed)?;
        Some(u32::from_be_bytes(*timer))
    }

    /// What its client wrote, as it is told at this time, milliseconds since 1970: nothing once it has disappeared, nor
    /// of a change.
    pub fn client_body(&self, now_ms: u64) -> Bytes {
        match (self.kind, self.timer_s()) {
            (MessageKind::Client, _) => self.body.clone(),
            (MessageKind::Timed, Some(timer_s)) if now_ms < self.time_ms.saturating_add(u64::from(timer_s) * 1000) => {
                self.body.slice(TIMER_BYTES..)
            }
            (MessageKind::Timed | MessageKind::Change, _) => Bytes::new(),
        }
    }
}

impl StoredMessage<&[u8]> {
    /// With a copy of the body.
    pub fn to_owned(self) -> StoredMessage {
        let Self { seq, sender, client_seq, time_ms, kind, body } = self;
        StoredMessage { seq, sender, client_seq, time_ms, kind, body: Bytes::copy_from_slice(body) }
    }
}

/// First byte of a message's key.
pub(crate) const MESSAGE_KIND: u8 = 0x10;

/// Key of a message in files: kind, chat, seq in big-endian.
pub(crate) fn message_key(chat: ChatId, seq: MessageSeq) -> Vec<u8> {
    let mut key = Vec::with_capacity(25);
    key.push(MESSAGE_KIND);
    key.extend_from_slice(chat.as_bytes());
    key.extend_from_slice(&seq.get().to_be_bytes());
    key
}
