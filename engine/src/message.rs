//! A message as the partition stores it, in memory and in files.

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, MessageSeq};

/// A message as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its place in the chat.
    pub seq: MessageSeq,
    /// Who sent it, from which device.
    pub sender: DeviceAddress,
    /// The device's number for it.
    pub client_seq: ClientSeq,
    /// When the leader took it, milliseconds since 1970.
    pub time_ms: u64,
    /// Opaque to the server.
    pub body: Bytes,
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
