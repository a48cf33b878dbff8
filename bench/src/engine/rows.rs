//! The bytes of a row, for engines that store keys and values. Numbers in keys are big-endian, so that they sort.
//!
//! | row | key | value |
//! |---|---|---|
//! | message | chat 16, seq 8 | sender device 20, client seq 8, time 8, body 150 |
//! | inbox entry | device 20, position 8 | chat 16, from 8, to 8 |

use columba_wire::{ChatId, DeviceAddress};

use super::workload::{Append, Message};
use crate::load::BODY_BYTES;

/// Bytes of a device: user 16, number 4.
pub(crate) const DEVICE_BYTES: usize = 20;
/// Bytes of a chat in front of a message's key.
pub(crate) const CHAT_BYTES: usize = 16;
/// Bytes of a message's key.
pub(crate) const MESSAGE_KEY_BYTES: usize = CHAT_BYTES + 8;
const BODY_AT: usize = DEVICE_BYTES + 8 + 8;
/// Bytes of a message's value.
pub(crate) const MESSAGE_VALUE_BYTES: usize = BODY_AT + BODY_BYTES;
/// What a message is worth: every ratio divides by it. Inbox operations ride along and are not counted.
pub(crate) const LOGICAL_BYTES: usize = MESSAGE_KEY_BYTES + MESSAGE_VALUE_BYTES;
/// Bytes of an inbox entry's key.
const INBOX_KEY_BYTES: usize = DEVICE_BYTES + 8;
/// Bytes of an inbox entry's value.
const INBOX_VALUE_BYTES: usize = CHAT_BYTES + 16;

const _: () = assert!(LOGICAL_BYTES == 210, "the figures speak of 210 bytes a message");

/// Key of the message `seq` of `chat`.
pub(crate) fn message_key(chat: ChatId, seq: u64) -> [u8; MESSAGE_KEY_BYTES] {
    let mut key = [0; MESSAGE_KEY_BYTES];
    key[..CHAT_BYTES].copy_from_slice(chat.as_bytes());
    key[CHAT_BYTES..].copy_from_slice(&seq.to_be_bytes());
    key
}

/// Value of a message.
pub(crate) fn message_value(message: &Message) -> [u8; MESSAGE_VALUE_BYTES] {
    let mut value = [0; MESSAGE_VALUE_BYTES];
    value[..DEVICE_BYTES].copy_from_slice(&message.sender.to_bytes());
    value[DEVICE_BYTES..DEVICE_BYTES + 8].copy_from_slice(&message.client_seq.get().to_be_bytes());
    value[DEVICE_BYTES + 8..BODY_AT].copy_from_slice(&message.time_ms.to_be_bytes());
    value[BODY_AT..].copy_from_slice(&message.body);
    value
}

/// Key of an inbox entry.
pub(crate) fn inbox_key(device: DeviceAddress, position: u64) -> [u8; INBOX_KEY_BYTES] {
    let mut key = [0; INBOX_KEY_BYTES];
    key[..DEVICE_BYTES].copy_from_slice(&device.to_bytes());
    key[DEVICE_BYTES..].copy_from_slice(&position.to_be_bytes());
    key
}

/// Value of an inbox entry.
pub(crate) fn inbox_value(append: &Append) -> [u8; INBOX_VALUE_BYTES] {
    let mut value = [0; INBOX_VALUE_BYTES];
    value[..CHAT_BYTES].copy_from_slice(append.chat.as_bytes());
    value[CHAT_BYTES..CHAT_BYTES + 8].copy_from_slice(&append.seq.get().to_be_bytes());
    value[CHAT_BYTES + 8..].copy_from_slice(&append.seq.get().to_be_bytes());
    value
}

/// Seq and body of a message's row.
///
/// # Errors
/// The row has not the bytes of a message.
#[cfg(feature = "peers")]
pub(crate) fn message_of<'a>(key: &[u8], value: &'a [u8]) -> anyhow::Result<(u64, &'a [u8])> {
    anyhow::ensure!(key.len() == MESSAGE_KEY_BYTES && value.len() == MESSAGE_VALUE_BYTES, "a row of other bytes");
    let seq = key[CHAT_BYTES..].try_into().map(u64::from_be_bytes)?;
    Ok((seq, &value[BODY_AT..]))
}
