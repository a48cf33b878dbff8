//! What the driver must do after an apply: answer the commands, and deliver.
//!
//! Invariants
//! - There is one [`Outcome`] per command, in order. Only the leader that proposed a command answers it; every replica
//!   computes the same outcomes.
//! - An effect may be lost (a crash after apply): everything that must not be lost is in the partition's rows, and the
//!   new leader finds it there ([`super::Partition::pending_chats`]).

use std::sync::Arc;

use columba_wire::{ChatId, Code, DeviceAddress, DeviceId, MessageSeq, UserId, keys::KeyBundle};

use super::{chat::Members, group::Marks, receipt::Member, roster::Roster};
pub use crate::message::{MessageKind, StoredMessage};

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Carried out (or nothing to do).
    Done,
    /// The handle belongs to this user id, for the device key that asked.
    Claimed(UserId),
    /// The device has this number, now or from before.
    DeviceAdded(DeviceId),
    /// The message has its place.
    Sent {
        /// Its place.
        seq: MessageSeq,
        /// Its time.
        time_ms: u64,
        /// Whether it was there already.
        duplicate: bool,
    },
    /// The keys are stored: so many one-time keys are left.
    KeysStored(u32),
    /// Keys of each device that has some, in the order of the question.
    Keys(Vec<KeyBundle>),
    /// Not carried out; nothing was changed.
    Refused(Code),
}

/// What follows from a command, beside its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A new message: push it to the members.
    Committed {
        /// The chat.
        chat: ChatId,
        /// Whom it is for.
        members: Members,
        /// The message.
        message: StoredMessage,
    },
    /// A member's durable progress: the fan-out may forget up to `covered`.
    Advanced {
        /// The chat.
        chat: ChatId,
        /// Its members.
        members: Members,
        /// The member.
        user: UserId,
        /// How far it durably is now.
        now: Member,
        /// In a group whose member has got more: what its members have, and what they have read.
        marks: Option<(Marks, Marks)>,
    },
    /// A member has read further: tell its devices, and the others where they may know.
    ReadMoved {
        /// The chat.
        chat: ChatId,
        /// Its members.
        members: Members,
        /// Who has read.
        user: UserId,
        /// How far it durably is now.
        now: Member,
        /// Whether others may know.
        is_shown: bool,
        /// In a group, where they may: what its members have, and what they have read.
        marks: Option<(Marks, Marks)>,
    },
    /// A reference is in a device's inbox, now or from before.
    Inboxed {
        /// Whose inbox.
        device: DeviceAddress,
        /// The chat.
        chat: ChatId,
        /// Everything of the chat up to here was acknowledged by the device, or is or was in its inbox.
        up_to: MessageSeq,
    },
    /// A user's partition knows whether the user is in a chat, by this message or a later one.
    ChatNoted {
        /// The user.
        user: UserId,
        /// The chat.
        chat: ChatId,
        /// By which message.
        at: MessageSeq,
    },
    /// No device of a user has anything of a chat in its inbox: what was said to be covered before this, all have.
    Settled {
        /// Whose inbox was trimmed.
        device: DeviceAddress,
        /// The chat.
        chat: ChatId,
    },
    /// A user was deleted, or a chat has taken in one that is: carry out its errand.
    UserDeleted {
        /// Who.
        user: UserId,
    },
    /// A device was added or revoked: deliver to those there are, and end the session of one that is no more.
    Devices {
        /// Whose.
        user: UserId,
        /// Those there are now, ascending.
        devices: Vec<DeviceId>,
        /// The one that is no more, if one was revoked.
        revoked: Option<DeviceId>,
        /// How many were added and revoked so far.
        version: u32,
    },
    /// A user's account is another now: tell the user's other devices.
    UserChanged {
        /// Who has changed it.
        by: DeviceAddress,
    },
    /// A user's contacts, blocks or privacy settings are others now: who may know what of it may have changed.
    RosterChanged {
        /// Whose.
        user: UserId,
        /// The roster as it is now.
        roster: Arc<Roster>,
    },
    /// A one-time key was taken, and few are left: tell the device.
    KeysLow {
        /// Whose keys.
        device: DeviceAddress,
        /// How many are left.
        left: u32,
    },
}

/// What one entry's apply yields.
#[derive(Debug, Default)]
pub struct Effects {
    /// One per command, in order.
    pub outcomes: Vec<Outcome>,
    /// In order of the commands.
    pub effects: Vec<Effect>,
}

impl Effects {
    /// Empties both lists and keeps their room.
    pub fn clear(&mut self) {
        self.outcomes.clear();
        self.effects.clear();
    }
}
