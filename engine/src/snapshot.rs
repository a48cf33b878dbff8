//! Snapshots: a partition's state at one log index, as immutable files and a small header.
//!
//! ```text
//! Partition::snapshot -> Snapshot: header, read(file, offset) ...
//!   -> Installer: begin, accept ... finish -> Partition::open
//! ```
//!
//! Taking one costs a flush of what is applied; writes, flushes and merges go on. The files stay on the disk as long as
//! the snapshot is kept; then [`crate::tree::Tree::collect_garbage`] removes those that are no longer live.
//!
//! | module | what it holds |
//! |---|---|
//! | here | [`Snapshot`]: pieces to ship, reads at its index |
//! | [`header`] | [`SnapshotHeader`]: what a snapshot is made of |
//! | [`installer`] | [`Installer`]: from pieces to a partition, over crashes |
//!
//! Invariants
//! - What a snapshot says never changes.
//! - A flush and a merge leave out what later entries, applied meanwhile, have killed. So a snapshot may lack messages
//!   and inbox entries that were alive at its index; whoever installs it applies the log up to
//!   [`SnapshotHeader::complete_from`] before it reads. What is missing then is dead.

pub mod header;
pub mod installer;
#[cfg(test)]
mod tests;

use core::cell::RefCell;

use bytes::Bytes;
use columba_wire::{ChatId, DeviceAddress, MessageSeq, UserId};

pub(crate) use self::installer::complete;
pub use self::{header::SnapshotHeader, installer::Installer};
use crate::{
    env::{Disk, DiskFile as _},
    error::{Error, Result},
    ids::{FileId, LogIndex},
    limits::{BLOCK_BYTES, SNAPSHOT_PIECE_BYTES},
    message::StoredMessage,
    partition::{
        MessagePage, Partition,
        chat::{Chat, ChatRow},
        device::Device,
        inbox::{Inbox, InboxEntry, decode_entry_row, entry_key},
        receipt::Member,
        retention::Settings,
        rows::{Row, file_key},
        user::User,
    },
    table::meta::Class,
    tree::{MessageRange, ScanRange, View, table_name},
};

/// A partition's state at one log index.
pub struct Snapshot<D: Disk> {
    view: View<D>,
    header: SnapshotHeader,
    settings: Settings,
    /// The file that was read last: pieces come one behind the other.
    open: RefCell<Option<(FileId, D::File)>>,
}

impl<D: Disk> Partition<D> {
    /// Keeps the state of now, or of a moment later: at least what is applied when this is called. Waits for the flush
    /// of it.
    ///
    /// # Errors
    /// `NoSpace` or `Io` of the flush; nothing is lost.
    pub async fn snapshot(&self) -> Result<Snapshot<D>> {
        self.flush_applied().await?;
        let view = self.tree().view();
        let manifest = view.manifest().clone();
        let complete_from = self.applied();
        assert!(manifest.applied <= complete_from, "files hold what is applied, and no more");
        let settings = Settings::decode(manifest.extra.clone())?;
        let header = SnapshotHeader { partition: self.id(), complete_from, manifest };
        Ok(Snapshot { view, header, settings, open: RefCell::default() })
    }
}

impl<D: Disk> Snapshot<D> {
    /// What it is made of.
    pub const fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// The log entry up to which it holds the log.
    pub const fn applied(&self) -> LogIndex {
        self.header.manifest.applied
    }

    /// What its chats have in common.
    pub const fn settings(&self) -> Settings {
        self.settings
    }

    /// Bytes of a file, to be shipped: at most `len`, at most [`SNAPSHOT_PIECE_BYTES`], fewer only at its end. They are
    /// not checked here: who installs them does.
    ///
    /// # Errors
    /// `Malformed` where the snapshot has no such file or place: a peer may ask anything. `Io`.
    pub async fn read(&self, file: FileId, offset: u64, len: usize) -> Result<Bytes> {
        let refused = |reason| Error::Malformed { what: "piece of a snapshot", reason };
        let meta = self.header.file(file).ok_or(refused("there is no such file"))?;
        if !offset.is_multiple_of(BLOCK_BYTES as u64) || offset >= meta.bytes || len == 0 {
            return Err(refused("there is no such place"));
        }
        let left = usize::try_from(meta.bytes - offset).unwrap_or(usize::MAX);
        let len = len.min(SNAPSHOT_PIECE_BYTES).next_multiple_of(BLOCK_BYTES).min(left);
        let known = self.open.borrow().as_ref().filter(|(id, _)| *id == file).map(|(_, file)| file.clone());
        let handle = match known {
            Some(handle) => handle,
            None => {
                let handle = self.view.tree().disk().open(&self.view.tree().dir().join(table_name(file))).await?;
                *self.open.borrow_mut() = Some((file, handle.clone()));
                handle
            }
        };
        let read = handle.read(offset, len.next_multiple_of(BLOCK_BYTES)).await?;
        Ok(Bytes::from_owner(read).slice(..len))
    }

    async fn row<R: Row>(&self, key: &R::Key) -> Result<Option<R>> {
        self.view.get(&file_key::<R>(key)).await?.map(R::decode).transpose()
    }

    /// A chat. As all reads here: as of the snapshot's index, from its files, past the memory of the partition.
    ///
    /// # Errors
    /// Damage, `Io`: as all reads below.
    pub async fn chat(&self, chat: ChatId) -> Result<Option<Chat>> {
        Ok(self.row::<ChatRow>(&chat).await?.map(|row| row.chat))
    }

    /// A member of a chat.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn member(&self, chat: ChatId, user: UserId) -> Result<Option<Member>> {
        Ok(self.row::<ChatRow>(&chat).await?.and_then(|row| row.member(user).copied()))
    }

    /// A user.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn user(&self, user: UserId) -> Result<Option<User>> {
        self.row::<User>(&user).await
    }

    /// A device.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn device(&self, device: DeviceAddress) -> Result<Option<Device>> {
        self.row::<Device>(&device).await
    }

    /// The newest messages of a chat at or below `to` that are not dead, newest first, among its newest `count_max`,
    /// until about `bytes_max` of bodies.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn newest(
        &self,
        chat: ChatId,
        to: MessageSeq,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<StoredMessage>> {
        let Some(row) = self.chat(chat).await? else {
            return Ok(Vec::new());
        };
        let (from, to) = (row.deleted_up_to.next(), to.min(row.last_seq));
        if from > to || count_max == 0 {
            return Ok(Vec::new());
        }
        let range = MessageRange { chat, from, to, count_max, bytes_max };
        let mut messages = self.view.newest_messages(&range).await?;
        let floor = self.settings.floor_of(&row);
        messages.retain(|message| !floor.is_dead(message.seq, message.time_ms));
        Ok(messages)
    }

    /// The messages `from..=to` of a chat that are not dead, ascending, until about `bytes_max` of bodies; what is
    /// below the page's `next` and not in it is deleted, here or by an entry up to [`SnapshotHeader::complete_from`].
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn messages(
        &self,
        chat: ChatId,
        from: MessageSeq,
        to: MessageSeq,
        bytes_max: usize,
    ) -> Result<MessagePage> {
        let Some(row) = self.chat(chat).await? else {
            return Ok(MessagePage { messages: Vec::new(), next: from });
        };
        let (from, to) = (from.max(row.deleted_up_to.next()), to.min(row.last_seq));
        if from > to {
            return Ok(MessagePage { messages: Vec::new(), next: from });
        }
        let range = MessageRange { chat, from, to, count_max: usize::MAX, bytes_max };
        let mut messages = self.view.oldest_messages(&range).await?;
        let bytes: usize = messages.iter().map(|message| message.body.len()).sum();
        let last = messages.last().map_or(to, |message| message.seq);
        let next = if bytes >= bytes_max { last.next() } else { to.next() };
        let floor = self.settings.floor_of(&row);
        messages.retain(|message| !floor.is_dead(message.seq, message.time_ms));
        Ok(MessagePage { messages, next })
    }

    /// Entries of a device's inbox above `position` and above its watermark, in order, at most `entries_max`.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn inbox(&self, device: DeviceAddress, position: u64, entries_max: usize) -> Result<Vec<InboxEntry>> {
        let ends = self.row::<Inbox>(&device).await?.unwrap_or_default();
        let above = position.max(ends.head);
        if above >= ends.tail {
            return Ok(Vec::new());
        }
        let range = ScanRange { start: entry_key(device, above + 1), end: entry_key(device, u64::MAX) };
        let rows = self.view.scan(Class::Inbox, &range, entries_max, usize::MAX).await?;
        rows.into_iter().map(|(key, value)| decode_entry_row(&key, value)).collect()
    }
}
