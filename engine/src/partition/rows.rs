//! Rows of the state machine, typed, in three layers: active (changed since the last seal), sealed (being flushed) and
//! clean (known from files). A row is encoded only when it is flushed.
//!
//! | kind | key after the kind byte | row |
//! |---|---|---|
//! | 0x10 | chat 16, seq 8 | message ([`super::messages`]) |
//! | 0x20 | user 16, device 4, position 8 | inbox entry ([`super::inbox`]) |
//! | 0x30 | user 16 | [`super::user::User`] |
//! | 0x31 | length 1, handle 32 | [`super::user::Handle`] |
//! | 0x32 | user 16, device 4 | [`super::device::Device`] |
//! | 0x33 | user 16 | [`super::user::LastSeen`] |
//! | 0x34 | user 16 | [`super::profile::Profile`] |
//! | 0x35 | user 16 | [`super::roster::Roster`] |
//! | 0x36 | user 16, chat 16 | [`super::membership::UserChat`] |
//! | 0x37 | user 16 | [`super::deletion::Errand`] |
//! | 0x39 | user 16, device 4 | [`super::keys::DeviceKeys`] |
//! | 0x40 | chat 16 | [`super::chat::Chat`], with its members and senders |
//! | 0x43 | chat 16 | [`super::chat::Pending`] |
//! | 0x50 | user 16, device 4 | [`super::inbox::Inbox`] |
//! | 0x51 | user 16, device 4, chat 16 | [`super::inbox::InboxChat`] |
//!
//! Numbers in keys are big-endian, so that files sort as the types do.
//!
//! Invariants
//! - The newest layer that knows a key decides; `None` there means the row does not exist.
//! - A key that no layer knows must be loaded before an apply asks for it: an apply never waits.

use core::{fmt, hash::Hash};

use bytes::Bytes;

use super::{
    chat::{ChatRow, Pending},
    deletion::Errand,
    device::Device,
    inbox::{INBOX_ENTRY_KIND, Inbox, InboxChat, InboxEntries, decode_entry_row, encode_entry},
    keys::DeviceKeys,
    membership::UserChat,
    messages::Messages,
    profile::Profile,
    roster::Roster,
    sharded::ShardedMap,
    user::{Handle, LastSeen, User},
};
use crate::error::{Error, Result};

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
    fn decode(value: Bytes) -> Result<Self>;

    /// Bytes it takes in memory beyond its own size, where these matter. A change of it is told to the layer, by
    /// [`Layer::count_change`].
    fn variable_bytes(&self) -> usize {
        0
    }
}

/// Rows of one kind in one layer; `None` is "does not exist".
pub(crate) type RowMap<R> = ShardedMap<<R as Row>::Key, Option<R>>;

/// The key as in files.
pub(crate) fn file_key<R: Row>(key: &R::Key) -> Vec<u8> {
    let mut out = Vec::with_capacity(48);
    out.push(R::KIND);
    R::encode_key(key, &mut out);
    out
}

/// Hands every kind of row to a macro, in order of [`Row::KIND`]: the field of [`Layer`], and the row. What must be
/// done for each kind goes through this list, so none is forgotten.
macro_rules! each_row {
    ($with:ident) => {
        $with! {
            users: User,
            handles: Handle,
            devices: Device,
            last_seen: LastSeen,
            profiles: Profile,
            rosters: Roster,
            user_chats: UserChat,
            errands: Errand,
            device_keys: DeviceKeys,
            chats: ChatRow,
            pending: Pending,
            inboxes: Inbox,
            inbox_chats: InboxChat,
        }
    };
}
pub(super) use each_row;

macro_rules! layer {
    ($($field:ident: $row:ty,)*) => {
        /// One layer of everything.
        #[derive(Default)]
        pub(crate) struct Layer {
            pub(crate) messages: Messages,
            pub(crate) inbox_entries: InboxEntries,
            $(pub(crate) $field: RowMap<$row>,)*
            /// The sum of the rows' [`Row::variable_bytes`].
            variable_bytes: usize,
        }
    };
}
each_row!(layer);

impl Layer {
    /// Rows of all kinds but messages and inbox entries.
    pub(crate) fn rows(&self) -> usize {
        macro_rules! sum {
            ($($field:ident: $row:ty,)*) => { 0 $(+ self.$field.len())* };
        }
        each_row!(sum)
    }

    /// Bytes it takes in memory, roughly: messages and what is variable as they are, a flat charge for each row.
    pub(crate) fn bytes(&self) -> usize {
        macro_rules! sum {
            ($($field:ident: $row:ty,)*) => { 0 $(+ flat_bytes::<$row>(&self.$field))* };
        }
        self.messages.bytes() + self.inbox_entries.bytes() + self.variable_bytes + each_row!(sum)
    }

    /// The same without messages and inbox entries.
    pub(crate) fn row_bytes(&self) -> usize {
        self.bytes() - self.messages.bytes() - self.inbox_entries.bytes()
    }

    /// Puts a row in, in the place of an older one.
    pub(crate) fn insert<R: Row>(&mut self, key: R::Key, row: Option<R>) {
        let after = row.as_ref().map_or(0, R::variable_bytes);
        let before = R::map_mut(self).insert(key, row).flatten().map_or(0, |row| row.variable_bytes());
        self.count_change(before, after);
    }

    /// A row's [`Row::variable_bytes`] have changed in place.
    ///
    /// Within an entry the sum may lack what was copied up to be changed, which is counted at the entry's end: so it
    /// may be below what is taken off.
    pub(crate) fn count_change(&mut self, before: usize, after: usize) {
        self.variable_bytes = self.variable_bytes.wrapping_add(after).wrapping_sub(before);
    }

    /// Takes messages and inbox entries out: what is not kept in memory for its own sake.
    pub(crate) fn take_unkeyed(&mut self) -> Self {
        Self {
            messages: core::mem::take(&mut self.messages),
            inbox_entries: core::mem::take(&mut self.inbox_entries),
            ..Self::default()
        }
    }

    /// Takes over a newer layer: its rows replace those of the same key.
    pub(crate) fn absorb(&mut self, newer: Self) {
        self.messages.absorb(newer.messages);
        self.inbox_entries.absorb(newer.inbox_entries);
        macro_rules! absorb {
            ($($field:ident: $row:ty,)*) => { $(self.absorb_rows::<$row>(newer.$field);)* };
        }
        each_row!(absorb);
    }

    fn absorb_rows<R: Row>(&mut self, newer: RowMap<R>) {
        newer.into_shards().flatten().for_each(|(key, row)| self.insert(key, row));
    }
}

/// What the rows of a kind take: a table is two thirds full in the mean, and has one byte beside each slot.
fn flat_bytes<R: Row>(rows: &RowMap<R>) -> usize {
    rows.len() * 3 / 2 * (size_of::<(R::Key, Option<R>)>() + 1)
}

/// A row that was read from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedRow {
    /// What it says.
    pub text: String,
    /// Its value as it is written.
    pub value: Vec<u8>,
}

/// Reads a row of any kind but a message's, for tools and tests.
///
/// # Errors
/// `Malformed`.
pub fn decode_row(key: &[u8], value: Bytes) -> Result<DecodedRow> {
    fn of<R: Row + fmt::Debug>(value: Bytes) -> Result<DecodedRow> {
        let row = R::decode(value)?;
        let mut value = Vec::new();
        row.encode(&mut value);
        Ok(DecodedRow { text: format!("{row:?}"), value })
    }
    let kind = key.first().copied().unwrap_or_default();
    if kind == INBOX_ENTRY_KIND {
        let entry = decode_entry_row(key, value)?;
        return Ok(DecodedRow { text: format!("{entry:?}"), value: encode_entry(&entry) });
    }
    macro_rules! decode {
        ($($field:ident: $row:ty,)*) => {
            match kind {
                $(<$row>::KIND => of::<$row>(value),)*
                _ => Err(Error::Malformed { what: "row", reason: "its kind is unknown" }),
            }
        };
    }
    each_row!(decode)
}
