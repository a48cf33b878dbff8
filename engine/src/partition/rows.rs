//! Rows of the state machine, typed, in three layers: active (changed since the last seal), sealed (being flushed) and
//! clean (known from files). A row is encoded only when it is flushed.
//!
//! | kind | key after the kind byte | row |
//! |---|---|---|
//! | 0x10 | chat 16, seq 8 | message ([`super::messages`]) |
//! | 0x20 | user 16, device 4, position 8 | inbox entry ([`super::inbox`]) |
//! | 0x30 | user 16 | [`super::user::User`] |
//! | 0x31 | length 1, handle 32 | [`super::user::Handle`] |
//! | 0x32 | user 16, device 4 | [`super::user::Device`] |
//! | 0x33 | user 16 | [`super::user::LastSeen`] |
//! | 0x40 | chat 16 | [`super::chat::Chat`] |
//! | 0x41 | chat 16, user 16, device 4 | [`super::dedup::Sender`] |
//! | 0x42 | chat 16, user 16 | [`super::receipt::Member`] |
//! | 0x43 | chat 16 | [`super::chat::Pending`] |
//! | 0x50 | user 16, device 4 | [`super::inbox::Inbox`] |
//! | 0x51 | user 16, device 4, chat 16 | [`super::inbox::InboxChat`] |
//!
//! Numbers in keys are big-endian, so that files sort as the types do.
//!
//! Invariants
//! - The newest layer that knows a key decides; `None` there means the row does not exist.
//! - A key that no layer knows must be loaded before an apply asks for it: an apply never waits.

use core::hash::Hash;

use rustc_hash::FxHashMap;

use super::{
    chat::{Chat, Pending},
    dedup::Sender,
    inbox::{Inbox, InboxChat, InboxEntries},
    messages::Messages,
    receipt::Member,
    user::{Device, Handle, LastSeen, User},
};
use crate::error::Result;

/// A kind of row.
pub(crate) trait Row: Clone + 'static {
    /// First byte of its keys.
    const KIND: u8;
    /// What identifies it.
    type Key: Copy + Eq + Hash + Ord + 'static;

    /// Its map in a layer.
    fn map(layer: &Layer) -> &RowMap<Self>;
    /// Its map in a layer.
    fn map_mut(layer: &mut Layer) -> &mut RowMap<Self>;
    /// Appends the key without the kind byte.
    fn encode_key(key: &Self::Key, out: &mut Vec<u8>);
    /// Appends the value.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads the value.
    fn decode(value: bytes::Bytes) -> Result<Self>;
}

/// Rows of one kind in one layer; `None` is "does not exist".
pub(crate) type RowMap<R> = FxHashMap<<R as Row>::Key, Option<R>>;

/// The key as in files.
pub(crate) fn file_key<R: Row>(key: &R::Key) -> Vec<u8> {
    let mut out = Vec::with_capacity(48);
    out.push(R::KIND);
    R::encode_key(key, &mut out);
    out
}

/// One layer of everything.
#[derive(Default)]
pub(crate) struct Layer {
    pub(crate) messages: Messages,
    pub(crate) inbox_entries: InboxEntries,
    pub(crate) users: RowMap<User>,
    pub(crate) handles: RowMap<Handle>,
    pub(crate) devices: RowMap<Device>,
    pub(crate) last_seen: RowMap<LastSeen>,
    pub(crate) chats: RowMap<Chat>,
    pub(crate) senders: RowMap<Sender>,
    pub(crate) members: RowMap<Member>,
    pub(crate) pending: RowMap<Pending>,
    pub(crate) inboxes: RowMap<Inbox>,
    pub(crate) inbox_chats: RowMap<InboxChat>,
}

impl Layer {
    /// Rows of all kinds but messages and inbox entries.
    pub(crate) fn rows(&self) -> usize {
        self.users.len()
            + self.handles.len()
            + self.devices.len()
            + self.last_seen.len()
            + self.chats.len()
            + self.senders.len()
            + self.members.len()
            + self.pending.len()
            + self.inboxes.len()
            + self.inbox_chats.len()
    }

    /// Bytes it takes in memory, roughly: bodies, and a flat charge per row.
    pub(crate) fn bytes(&self) -> usize {
        const ROW_BYTES: usize = 160;
        self.messages.bytes() + self.inbox_entries.bytes() + self.rows() * ROW_BYTES
    }
}

impl Layer {
    /// Takes over a newer layer: its rows replace those of the same key.
    pub(crate) fn absorb(&mut self, newer: Self) {
        self.messages.absorb(newer.messages);
        self.inbox_entries.absorb(newer.inbox_entries);
        self.users.extend(newer.users);
        self.handles.extend(newer.handles);
        self.devices.extend(newer.devices);
        self.last_seen.extend(newer.last_seen);
        self.chats.extend(newer.chats);
        self.senders.extend(newer.senders);
        self.members.extend(newer.members);
        self.pending.extend(newer.pending);
        self.inboxes.extend(newer.inboxes);
        self.inbox_chats.extend(newer.inbox_chats);
    }
}

/// Encoded rows of one kind of a layer, ascending by key.
pub(crate) fn encoded_rows<R: Row>(layer: &Layer) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> + '_ {
    let map = R::map(layer);
    let mut keys = Vec::with_capacity(map.len());
    keys.extend(map.keys().copied());
    keys.sort_unstable();
    keys.into_iter().map(move |key| {
        let value = map.get(&key).expect("the key is from this map").as_ref().map(|row| {
            let mut out = Vec::with_capacity(64);
            row.encode(&mut out);
            out
        });
        (file_key::<R>(&key), value)
    })
}
