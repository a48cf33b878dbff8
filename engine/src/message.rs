//! A message as the partition stores it, in memory and in files.

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, MessageSeq};

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
    /// Opaque to the server.
    pub body: B,
}

impl StoredMessage<&[u8]> {
    /// With a copy of the body.
    pub fn to_owned(self) -> StoredMessage {
        let Self { seq, sender, client_seq, time_ms, body } = self;
        StoredMessage { seq, sender, client_seq, time_ms, body: Bytes::copy_from_slice(body) }
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
