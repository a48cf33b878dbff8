//! What is passed on at once and never stored.

use bytes::Bytes;
use columba_wire::{ChatId, DeviceAddress, DeviceId, UserId};

/// A signal on its way. A clone shares its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// The device that sends it.
    pub sender: DeviceAddress,
    /// The chat that it belongs to.
    pub chat: ChatId,
    /// Whom of the chat it is for.
    pub to: SignalTo,
    /// Only this device of a single user; `None` for all.
    pub device: Option<DeviceId>,
    /// Opaque.
    pub body: Bytes,
}

/// Whom of a chat a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalTo {
    /// The other one of a 1:1 chat, or the sender's own other devices.
    Peer(UserId),
    /// One member of a group.
    Member(UserId),
    /// All other members of a group.
    Members,
}
