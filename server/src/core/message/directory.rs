//! Questions about users to the core that owns them: what they tell about themselves, and their keys.

use columba_engine::partition::{profile::ProfileChange, roster::RosterChange};
use columba_wire::{ChatId, DeviceAddress, DeviceId, UserId, keys::NewKeys};

/// About a user's account.
#[derive(Debug)]
pub enum PeopleAsk {
    /// What everybody may know.
    User,
    /// What the user itself may know.
    Account,
    /// A change, by one of the user's devices.
    SetProfile(DeviceAddress, ProfileChange),
    /// A change of contacts, blocks or privacy settings, by one of the user's devices.
    ChangeRoster(DeviceAddress, RosterChange),
    /// Whom the user knows and has blocked.
    Contacts,
    /// The end of the account, by a user who has typed this handle.
    Delete(String),
    /// In which chats the user is.
    Chats {
        /// Those above this one.
        after: Option<ChatId>,
        /// At most so many.
        limit: u32,
    },
    /// May this one let the user into a group? `UNKNOWN_USER` where there is no such user.
    MayAdd(UserId),
    /// Does it hide what it has read?
    HidesReads,
}

/// About a user's public keys.
#[derive(Debug)]
pub enum KeysAsk {
    /// Keys that a device wants stored. Their signatures are not checked yet.
    Put(DeviceId, Box<NewKeys>),
    /// A key of each of these devices, or of all where none is named.
    Take {
        /// For whom.
        asker: UserId,
        /// The devices.
        devices: Vec<DeviceId>,
        /// Whether the asker's takes are counted.
        limited: bool,
    },
}
