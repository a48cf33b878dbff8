//! Inboxes: per device, a queue of references to what the device has not acknowledged.
//!
//! An entry is a reference to messages `from..=to` of a chat. Entries have positions, dense per device; a watermark
//! (`head`) says up to which position they are done with. A trim moves the watermark and writes no tombstones: reads
//! start above it, and a merge of files drops what is below.
//!
//! Invariants
//! - `head <= tail`; entries `head + 1 ..= tail` exist.
//! - Per device and chat entries are in order of seq and do not overlap. Everything up to `InboxChat::up_to` was
//!   acknowledged, or is or was in the inbox: an append at or below it has nothing to do.
//! - `InboxChat::newest` is at most the tail: the inbox holds something of the chat where it is above the head.
//! - A closed inbox is empty, and stays so: an append to it is answered as if it were in it.

use std::collections::VecDeque;

use bytes::Bytes;
use columba_wire::{ChatId, DeviceAddress, DeviceId, MessageSeq, UserId};

use super::{
    State,
    codec::{Put as _, Take},
    command::InboxAppend,
    effect::{Effect, Effects, Outcome},
    rows::{Layer, Row, RowMap},
    sharded::ShardedMap,
    user::User,
};
use crate::{
    error::{Error, Result},
    planted::{self, Planted},
};

/// Third field of a closed inbox's row; others have none.
const CLOSED: u8 = 1;
/// First byte of an entry's key.
pub(crate) const INBOX_ENTRY_KIND: u8 = 0x20;

/// The ends of a device's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inbox {
    /// Entries up to this position are done with.
    pub head: u64,
    /// Position of the newest entry.
    pub tail: u64,
    /// Whether it takes nothing more: its device was revoked.
    pub closed: bool,
}

/// How far a chat is in a device's inbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboxChat {
    /// Highest seq ever appended.
    pub up_to: MessageSeq,
    /// Position of its newest entry: where the inbox's head is there, it holds nothing of the chat.
    pub newest: u64,
}

/// A reference in an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxEntry {
    /// Its place in the queue, from 1.
    pub position: u64,
    /// The chat.
    pub chat: ChatId,
    /// First message.
    pub from: MessageSeq,
    /// Last message.
    pub to: MessageSeq,
}

/// A run's slot in a table that is half full in the mean.
const RUN_BYTES: usize = 2 * (size_of::<(DeviceAddress, VecDeque<InboxEntry>)>() + 1);
/// An entry in a run that has grown by half in the mean.
const ENTRY_BYTES: usize = size_of::<InboxEntry>() * 3 / 2;

/// The entries of one layer: per device a run, ascending. There may be gaps in it: of what was trimmed.
#[derive(Default)]
pub(crate) struct InboxEntries {
    runs: ShardedMap<DeviceAddress, VecDeque<InboxEntry>>,
    entries: usize,
}

impl InboxEntries {
    pub(crate) const fn bytes(&self) -> usize {
        self.runs.len() * RUN_BYTES + self.entries * ENTRY_BYTES
    }

    fn push(&mut self, device: DeviceAddress, entry: InboxEntry) {
        let run = self.runs.get_or_insert_with(device, VecDeque::new);
        if let Some(last) = run.back() {
            let (last, next) = (last.position, entry.position);
            assert!(next > last, "inbox of {device}: position {next} after {last}");
        }
        run.push_back(entry);
        self.entries += 1;
    }

    /// Entries of a device above a position, ascending.
    pub(crate) fn above(&self, device: DeviceAddress, position: u64) -> impl Iterator<Item = &InboxEntry> {
        let run = self.runs.get(&device);
        let skip = run.map_or(0, |run| run.partition_point(|entry| entry.position <= position));
        run.into_iter().flat_map(move |run| run.range(skip..))
    }

    /// Takes over the entries of a newer layer.
    pub(crate) fn absorb(&mut self, newer: Self) {
        self.entries += newer.entries;
        for (device, newer) in newer.runs.into_shards().flatten() {
            self.runs.get_or_insert_with(device, VecDeque::new).extend(newer);
        }
    }

    fn remove_up_to(&mut self, device: DeviceAddress, position: u64) {
        if let Some(run) = self.runs.get_mut(&device) {
            while run.pop_front_if(|entry| entry.position <= position).is_some() {
                self.entries -= 1;
            }
        }
    }

    /// The runs by device.
    pub(crate) const fn runs(&self) -> &ShardedMap<DeviceAddress, VecDeque<InboxEntry>> {
        &self.runs
    }
}

/// The value of an entry in files.
pub(crate) fn encode_entry(entry: &InboxEntry) -> Vec<u8> {
    let mut value = Vec::with_capacity(32);
    value.put_chat(entry.chat);
    value.put_seq(entry.from);
    value.put_seq(entry.to);
    value
}

/// Key of an entry in files.
pub(crate) fn entry_key(device: DeviceAddress, position: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(29);
    key.push(INBOX_ENTRY_KIND);
    key.extend_from_slice(&device.to_bytes());
    key.extend_from_slice(&position.to_be_bytes());
    key
}

/// Device and position of an entry's key, if it is one.
pub(crate) fn parse_entry_key(key: &[u8]) -> Option<(DeviceAddress, u64)> {
    let (kind, rest) = key.split_first()?;
    if *kind != INBOX_ENTRY_KIND || rest.len() != 28 {
        return None;
    }
    let user = UserId::try_from(&rest[..16]).ok()?;
    let device = DeviceId::new(u32::from_be_bytes(rest[16..20].try_into().ok()?)).ok()?;
    let position = u64::from_be_bytes(rest[20..].try_into().ok()?);
    Some((DeviceAddress { user, device }, position))
}

/// Reads an entry from a file's row.
pub(crate) fn decode_entry_row(key: &[u8], value: Bytes) -> Result<InboxEntry> {
    let Some((_, position)) = parse_entry_key(key) else {
        return Err(Error::Malformed { what: "inbox entry", reason: "its key has another form" });
    };
    let mut take = Take::new(value, "inbox entry");
    let entry = InboxEntry { position, chat: take.take_chat()?, from: take.take_seq()?, to: take.take_seq()? };
    take.finish()?;
    Ok(entry)
}

impl Row for Inbox {
    const KIND: u8 = 0x50;
    type Key = DeviceAddress;

    fn map(layer: &Layer) -> &RowMap<Self> {
        &layer.inboxes
    }

    fn map_mut(layer: &mut Layer) -> &mut RowMap<Self> {
        &mut layer.inboxes
    }

    fn encode_key(key: &DeviceAddress, out: &mut Vec<u8>) {
        out.extend_from_slice(&key.to_bytes());
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.head);
        out.put_varint(self.tail - self.head);
        if self.closed {
            out.put_u8(CLOSED);
        }
    }

    fn decode(value: Bytes) -> Result<Self> {
        let mut take = Take::new(value, "inbox row");
        let (head, entries) = (take.take_varint()?, take.take_varint()?);
        let tail = head.checked_add(entries).ok_or_else(|| take.malformed("a position overflows"))?;
        let closed = !take.is_empty();
        if closed && (take.take_u8()? != CLOSED || head != tail) {
            return Err(take.malformed("a flag is unknown, or a closed inbox has entries"));
        }
        take.finish()?;
        Ok(Self { head, tail, closed })
    }
}

impl Row for InboxChat {
    const KIND: u8 = 0x51;
    type Key = (DeviceAddress, ChatId);

    fn map(layer: &Layer) -> &RowMap<Self> {
        &layer.inbox_chats
    }

    fn map_mut(layer: &mut Layer) -> &mut RowMap<Self> {
        &mut layer.inbox_chats
    }

    fn encode_key((device, chat): &Self::Key, out: &mut Vec<u8>) {
        out.extend_from_slice(&device.to_bytes());
        out.put_chat(*chat);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.up_to.get());
        out.put_varint(self.newest);
    }

    fn decode(value: Bytes) -> Result<Self> {
        let mut take = Take::new(value, "inbox chat row");
        let row = Self { up_to: take.take_short_seq()?, newest: take.take_varint()? };
        take.finish()?;
        Ok(row)
    }
}

impl State {
    pub(super) fn apply_append_inbox(&mut self, items: &[InboxAppend], effects: &mut Effects) -> Outcome {
        for item in items {
            let InboxAppend { device, chat, from, to } = *item;
            if self.get::<Inbox>(&device).is_some_and(|inbox| inbox.closed) {
                effects.effects.push(Effect::Inboxed { device, chat, up_to: to });
                continue;
            }
            let row = self.edit::<InboxChat>((device, chat)).get_or_insert_default();
            let from = from.max(row.up_to.next());
            row.up_to = row.up_to.max(to);
            let up_to = row.up_to;
            if from <= to && !planted::is(Planted::InboxSkipped) {
                let inbox = self.edit::<Inbox>(device).get_or_insert_default();
                inbox.tail += 1;
                let entry = InboxEntry { position: inbox.tail, chat, from, to };
                self.active.inbox_entries.push(device, entry);
                let row = self.edit::<InboxChat>((device, chat)).as_mut().expect("it was made above");
                row.newest = entry.position;
            }
            effects.effects.push(Effect::Inboxed { device, chat, up_to });
        }
        Outcome::Done
    }

    /// Its device is gone: what is in it is done with, and nothing comes into it any more.
    pub(super) fn close_inbox(&mut self, device: DeviceAddress) {
        let inbox = self.edit::<Inbox>(device).get_or_insert_default();
        *inbox = Inbox { head: inbox.tail, tail: inbox.tail, closed: true };
        let head = inbox.head;
        self.active.inbox_entries.remove_up_to(device, head);
    }

    pub(super) fn apply_trim_inbox(
        &mut self,
        device: DeviceAddress,
        position: u64,
        chats: &[ChatId],
        effects: &mut Effects,
    ) -> Outcome {
        let inbox = self.edit::<Inbox>(device).get_or_insert_default();
        let further = u64::from(planted::is(Planted::TrimTooFar));
        inbox.head = inbox.head.max((position + further).min(inbox.tail));
        let head = inbox.head;
        self.active.inbox_entries.remove_up_to(device, head);
        let devices = self.get::<User>(&device.user).map_or(&[][..], |user| &user.devices);
        for chat in chats.iter().filter(|_| !planted::is(Planted::NeverSettled)) {
            let lacks = |id: &DeviceId| self.inbox_holds(DeviceAddress { device: *id, ..device }, *chat);
            if !devices.is_empty() && !devices.iter().any(lacks) {
                effects.effects.push(Effect::Settled { device, chat: *chat });
            }
        }
        Outcome::Done
    }

    /// Whether something of the chat is in the device's inbox.
    fn inbox_holds(&self, device: DeviceAddress, chat: ChatId) -> bool {
        let newest = self.get::<InboxChat>(&(device, chat)).map_or(0, |row| row.newest);
        let head = self.get::<Inbox>(&device).map_or(0, |inbox| inbox.head);
        newest > head && !planted::is(Planted::SettledEarly)
    }
}
