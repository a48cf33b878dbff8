//! A partition's state over its tree: loading rows, flushing layers, reading messages and inboxes.
//!
//! Invariants
//! - A read takes what is in memory first and then the files: what a flush moves meanwhile is seen twice, never missed.
//! - One flush at a time; the sealed layer stays readable until its file is part of the tree.

use std::{cell::RefCell, collections::BTreeMap, path::PathBuf, rc::Rc};

use bytes::Bytes;
use columba_wire::{ChatId, DeviceAddress, MessageSeq, UserId};

use super::{
    PartitionStats, RowKey, State,
    chat::{Chat, Pending},
    command::{Command, decode_entry},
    dedup::Sender,
    effect::{Effects, StoredMessage},
    inbox::{Inbox, InboxChat, InboxEntry, decode_entry_row, entry_key, parse_entry_key},
    messages::{decode_message, message_key},
    receipt::Member,
    rows::{Layer, Row, encoded_rows, file_key},
    user::{Device, Handle, HandleKey, LastSeen, User},
};
use crate::{
    env::Disk,
    error::Result,
    ids::{LogIndex, PartitionId, Term},
    limits::{CLEAN_ROWS_MAX, MEMTABLE_BYTES_MAX},
    tree::{Direction, ScanRange, Tree, TreeMeta, TreeStats},
};

/// A partition: its state machine and its files. Cheap to clone; clones share it. Belongs to one core.
pub struct Partition<D: Disk> {
    inner: Rc<Inner<D>>,
}

struct Inner<D: Disk> {
    id: PartitionId,
    tree: Tree<D>,
    state: RefCell<State>,
}

impl<D: Disk> Clone for Partition<D> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

/// What a flush did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushReport {
    /// Every entry up to here is in files now: the journal may forget it.
    pub applied: LogIndex,
}

impl<D: Disk> Partition<D> {
    /// Opens a partition's files, or begins an empty one. Entries above [`Self::applied`] are then to be applied.
    ///
    /// # Errors
    /// Damage of manifest or files, `Io`.
    pub async fn open(disk: D, dir: PathBuf, id: PartitionId) -> Result<Self> {
        let (tree, _report) = Tree::open(disk, dir).await?;
        let TreeMeta { applied, applied_term, .. } = tree.meta();
        let state = RefCell::new(State::new(id, applied, applied_term));
        Ok(Self { inner: Rc::new(Inner { id, tree, state }) })
    }

    /// Its id.
    pub fn id(&self) -> PartitionId {
        self.inner.id
    }

    /// Index of the last applied entry.
    pub fn applied(&self) -> LogIndex {
        self.inner.state.borrow().applied
    }

    /// Index and term of the last entry that is in files: the point from which the log is needed.
    pub fn flushed(&self) -> (LogIndex, Term) {
        let meta = self.inner.tree.meta();
        (meta.applied, meta.applied_term)
    }

    /// Counters.
    pub fn stats(&self) -> (PartitionStats, TreeStats) {
        let state = self.inner.state.borrow();
        let stats = PartitionStats {
            active_bytes: state.active.bytes(),
            sealed_bytes: state.sealed.as_ref().map_or(0, |sealed| sealed.bytes()),
            clean_rows: state.clean.rows(),
        };
        (stats, self.inner.tree.stats())
    }

    /// Whether every row that the command touches is in memory, so that its apply will not wait.
    pub fn is_loaded(&self, command: &Command) -> bool {
        let mut missing = Vec::new();
        self.inner.state.borrow().missing_rows(command, &mut missing);
        missing.is_empty()
    }

    /// Whether a send may be proposed at once: its chat exists, and every row it touches is in memory.
    pub fn may_apply_send(&self, command: &Command) -> bool {
        let Command::Send { chat, .. } = command else {
            return false;
        };
        let exists = self.inner.state.borrow().lookup::<Chat>(chat).flatten().is_some();
        exists && self.is_loaded(command)
    }

    /// Loads every row that the commands touch. Nothing to do, and no wait, where they are in memory.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn prefetch(&self, commands: &[Command]) -> Result<()> {
        let mut missing = Vec::new();
        loop {
            {
                let state = self.inner.state.borrow();
                for command in commands {
                    state.missing_rows(command, &mut missing);
                }
            }
            if missing.is_empty() {
                return Ok(());
            }
            for key in missing.drain(..) {
                self.load_key(key).await?;
            }
        }
    }

    /// Applies the next entry: the leader's and the followers' only way to change the state.
    ///
    /// # Errors
    /// `Malformed` where the entry is not a list of commands, damage or `Io` where rows had to be loaded. The state is
    /// then as before.
    ///
    /// # Panics
    /// If `index` is not the next one.
    pub async fn apply_entry(&self, index: LogIndex, term: Term, entry: Bytes, effects: &mut Effects) -> Result<()> {
        let commands = decode_entry(entry)?;
        self.prefetch(&commands).await?;
        self.inner.state.borrow_mut().apply(index, term, commands, effects);
        Ok(())
    }

    /// The planted bug `ApplyTwice`: applies the commands of an entry without counting it.
    ///
    /// # Errors
    /// As [`Self::apply_entry`].
    #[doc(hidden)]
    pub async fn apply_again(&self, entry: Bytes, effects: &mut Effects) -> Result<()> {
        let commands = decode_entry(entry)?;
        self.prefetch(&commands).await?;
        let mut state = self.inner.state.borrow_mut();
        for command in commands {
            state.apply_without_dedup(command, effects);
        }
        Ok(())
    }

    /// Drops rows kept from files where there are too many. To be called between applies.
    pub fn evict(&self) {
        let mut state = self.inner.state.borrow_mut();
        if state.clean.rows() > CLEAN_ROWS_MAX {
            state.clean = Layer::default();
            state.seals += 1;
        }
    }

    /// Whether the active layer has reached its size.
    pub fn wants_flush(&self) -> bool {
        let state = self.inner.state.borrow();
        state.sealed.is_none() && state.active.bytes() >= MEMTABLE_BYTES_MAX
    }

    /// Whether a flush or merge is changing the files: one at a time.
    pub fn is_changing(&self) -> bool {
        self.inner.tree.is_changing()
    }

    /// Whether anything is applied and not in files.
    pub fn is_dirty(&self) -> bool {
        self.applied() > self.flushed().0
    }

    /// Writes what was applied so far to a new file. Applies go on meanwhile. After an error the flush may be tried
    /// again: the sealed layer is kept, and joins the next try.
    ///
    /// # Errors
    /// `NoSpace` or `Io`; nothing is lost.
    pub async fn flush(&self) -> Result<FlushReport> {
        let (sealed, meta) = {
            let mut state = self.inner.state.borrow_mut();
            assert!(state.sealed.is_none(), "partition {}: one flush at a time", self.inner.id);
            let sealed = Rc::new(core::mem::take(&mut state.active));
            state.sealed = Some(Rc::clone(&sealed));
            let meta = TreeMeta { applied: state.applied, applied_term: state.applied_term, extra: Bytes::new() };
            (sealed, meta)
        };
        let applied = meta.applied;
        let flushed = self.inner.tree.flush(all_rows(&sealed), meta).await;
        let mut state = self.inner.state.borrow_mut();
        state.seals += 1;
        state.sealed = None;
        match flushed {
            Ok(()) => {
                state.keep_clean(&sealed);
                Ok(FlushReport { applied })
            }
            Err(error) => {
                let sealed = Rc::try_unwrap(sealed).ok().expect("no read holds a layer across a wait");
                state.unseal(sealed);
                Err(error)
            }
        }
    }

    /// Whether there are enough files to merge some.
    pub fn wants_merge(&self) -> bool {
        self.inner.tree.wants_merge()
    }

    /// Merges files; inbox entries below their watermark are dropped on the way.
    ///
    /// # Errors
    /// Damage, `NoSpace`, `Io`; nothing is lost.
    pub async fn merge(&self) -> Result<()> {
        let inner = Rc::clone(&self.inner);
        self.inner.tree.merge(move |key, _value| inner.state.borrow().keeps(key)).await
    }

    /// Reads and checks every block of every file.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn verify(&self) -> Result<()> {
        self.inner.tree.verify().await.map(|_| ())
    }

    /// The messages `from..=to` of a chat, ascending, at most `bytes_max` of bodies (at least one message).
    ///
    /// Cost: nothing but copies where they are in memory; else a scan of the files that hold the chat.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn messages(
        &self,
        chat: ChatId,
        from: MessageSeq,
        to: MessageSeq,
        bytes_max: usize,
    ) -> Result<Vec<StoredMessage>> {
        let mut found = BTreeMap::new();
        {
            let state = self.inner.state.borrow();
            let sealed = state.sealed.as_deref();
            for layer in sealed.into_iter().chain([&state.active]) {
                for message in layer.messages.range(chat, from, to) {
                    found.insert(message.seq, message.clone());
                }
            }
        }
        let first_in_memory = found.keys().next().copied();
        if first_in_memory != Some(from) && from <= to {
            let below = first_in_memory.unwrap_or(MessageSeq::MAX).prev().min(to);
            let end = message_key(chat, MessageSeq::new(below.get().saturating_add(1)));
            let range = ScanRange { start: message_key(chat, from), end };
            let rows = usize::try_from(below.get() - from.get() + 1).unwrap_or(usize::MAX);
            for (_key, value) in self.inner.tree.scan(range, Direction::Forward, rows, bytes_max).await? {
                let message = decode_message(value)?;
                found.insert(message.seq, message);
            }
        }
        let mut bytes = 0;
        let mut next = from;
        let mut messages = Vec::with_capacity(found.len());
        for (seq, message) in found {
            bytes += message.body.len();
            if seq != next || (bytes > bytes_max && !messages.is_empty()) {
                break;
            }
            next = seq.next();
            messages.push(message);
        }
        Ok(messages)
    }

    /// Entries of a device's inbox above `position` and above its watermark, in order, at most `entries_max`.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn inbox(&self, device: DeviceAddress, position: u64, entries_max: usize) -> Result<Vec<InboxEntry>> {
        let ends = self.load::<Inbox>(device).await?.unwrap_or_default();
        let above = position.max(ends.head);
        if above >= ends.tail {
            return Ok(Vec::new());
        }
        let mut found = BTreeMap::new();
        {
            let state = self.inner.state.borrow();
            let sealed = state.sealed.as_deref();
            for layer in sealed.into_iter().chain([&state.active]) {
                for entry in layer.inbox_entries.above(device, above).take(entries_max) {
                    found.insert(entry.position, *entry);
                }
            }
        }
        if !found.contains_key(&(above + 1)) {
            let range = ScanRange { start: entry_key(device, above + 1), end: entry_key(device, u64::MAX) };
            for (key, value) in self.inner.tree.scan(range, Direction::Forward, entries_max, usize::MAX).await? {
                let entry = decode_entry_row(&key, value)?;
                found.insert(entry.position, entry);
            }
        }
        Ok(found.into_values().take(entries_max).collect())
    }

    /// A chat.
    ///
    /// # Errors
    /// Damage, `Io`: as all reads below.
    pub async fn chat(&self, chat: ChatId) -> Result<Option<Chat>> {
        self.load::<Chat>(chat).await
    }

    /// A member of a chat.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn member(&self, chat: ChatId, user: UserId) -> Result<Option<Member>> {
        self.load::<Member>((chat, user)).await
    }

    /// A user.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn user(&self, user: UserId) -> Result<Option<User>> {
        self.load::<User>(user).await
    }

    /// A device.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn device(&self, device: DeviceAddress) -> Result<Option<Device>> {
        self.load::<Device>(device).await
    }

    /// Who has a handle. The handle is valid.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn handle(&self, handle: &str) -> Result<Option<Handle>> {
        self.load::<Handle>(HandleKey::new(handle)).await
    }

    /// When a user was last online.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn last_seen(&self, user: UserId) -> Result<Option<LastSeen>> {
        self.load::<LastSeen>(user).await
    }

    /// The chats whose fan-out has work to do: what a new leader resumes.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn pending_chats(&self) -> Result<Vec<ChatId>> {
        let mut pending = BTreeMap::new();
        {
            let state = self.inner.state.borrow();
            for layer in state.sealed.as_deref().into_iter().chain([&state.active]) {
                pending.extend(layer.pending.iter().map(|(chat, row)| (*chat, row.is_some())));
            }
        }
        let range = ScanRange { start: vec![Pending::KIND], end: vec![Pending::KIND + 1] };
        for (key, _) in self.inner.tree.scan(range, Direction::Forward, usize::MAX, usize::MAX).await? {
            if let Ok(chat) = ChatId::try_from(&key[1..]) {
                pending.entry(chat).or_insert(true);
            }
        }
        Ok(pending.into_iter().filter_map(|(chat, pending)| pending.then_some(chat)).collect())
    }

    /// A stable hash over all rows: equal on replicas with equal applied index. Reads all files.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn state_hash(&self) -> Result<u64> {
        let mut merged: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        {
            let state = self.inner.state.borrow();
            for layer in state.sealed.as_deref().into_iter().chain([&state.active]) {
                merged.extend(all_rows(layer));
            }
        }
        let everything = ScanRange { start: vec![0], end: vec![0xff] };
        for (key, value) in self.inner.tree.scan(everything, Direction::Forward, usize::MAX, usize::MAX).await? {
            merged.entry(key.to_vec()).or_insert_with(|| Some(value.to_vec()));
        }
        let state = self.inner.state.borrow();
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut mix = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        for (key, value) in &merged {
            if let (Some(value), true) = (value, state.keeps(key)) {
                mix(key);
                mix(value);
            }
        }
        Ok(hash)
    }

    async fn load_key(&self, key: RowKey) -> Result<()> {
        match key {
            RowKey::User(key) => self.load::<User>(key).await.map(drop),
            RowKey::Handle(key) => self.load::<Handle>(key).await.map(drop),
            RowKey::Device(key) => self.load::<Device>(key).await.map(drop),
            RowKey::LastSeen(key) => self.load::<LastSeen>(key).await.map(drop),
            RowKey::Chat(key) => self.load::<Chat>(key).await.map(drop),
            RowKey::Sender(key) => self.load::<Sender>(key).await.map(drop),
            RowKey::Member(key) => self.load::<Member>(key).await.map(drop),
            RowKey::Pending(key) => self.load::<Pending>(key).await.map(drop),
            RowKey::Inbox(key) => self.load::<Inbox>(key).await.map(drop),
            RowKey::InboxChat(key) => self.load::<InboxChat>(key).await.map(drop),
        }
    }

    async fn load<R: Row>(&self, key: R::Key) -> Result<Option<R>> {
        loop {
            let seals = {
                let state = self.inner.state.borrow();
                if let Some(known) = state.lookup::<R>(&key) {
                    return Ok(known.cloned());
                }
                state.seals
            };
            let value = self.inner.tree.get(&file_key::<R>(&key)).await?;
            let row = value.map(R::decode).transpose()?;
            let mut state = self.inner.state.borrow_mut();
            if state.seals == seals && !state.is_known::<R>(&key) {
                R::map_mut(&mut state.clean).insert(key, row.clone());
                return Ok(row);
            }
        }
    }
}

fn all_rows(layer: &Layer) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> + '_ {
    layer
        .messages
        .encoded()
        .chain(layer.inbox_entries.encoded())
        .chain(encoded_rows::<User>(layer))
        .chain(encoded_rows::<Handle>(layer))
        .chain(encoded_rows::<Device>(layer))
        .chain(encoded_rows::<LastSeen>(layer))
        .chain(encoded_rows::<Chat>(layer))
        .chain(encoded_rows::<Sender>(layer))
        .chain(encoded_rows::<Member>(layer))
        .chain(encoded_rows::<Pending>(layer))
        .chain(encoded_rows::<Inbox>(layer))
        .chain(encoded_rows::<InboxChat>(layer))
}

impl State {
    /// Whether a file's row is still wanted: an inbox entry below its watermark is not.
    fn keeps(&self, key: &[u8]) -> bool {
        let Some((device, position)) = parse_entry_key(key) else {
            return true;
        };
        // Where the watermark is not in memory the entry is kept: a later merge will drop it.
        let head = self.lookup::<Inbox>(&device).flatten().map_or(0, |inbox| inbox.head);
        position > head
    }

    /// Flushed rows are true of the files now: the hot ones stay known.
    fn keep_clean(&mut self, sealed: &Layer) {
        if self.clean.rows() + sealed.rows() > CLEAN_ROWS_MAX {
            self.clean = Layer::default();
        }
        keep::<User>(&mut self.clean, sealed);
        keep::<Handle>(&mut self.clean, sealed);
        keep::<Device>(&mut self.clean, sealed);
        keep::<LastSeen>(&mut self.clean, sealed);
        keep::<Chat>(&mut self.clean, sealed);
        keep::<Sender>(&mut self.clean, sealed);
        keep::<Member>(&mut self.clean, sealed);
        keep::<Pending>(&mut self.clean, sealed);
        keep::<Inbox>(&mut self.clean, sealed);
        keep::<InboxChat>(&mut self.clean, sealed);
    }

    /// A flush failed: what was sealed goes back under what was applied since.
    fn unseal(&mut self, mut sealed: Layer) {
        let newer = core::mem::take(&mut self.active);
        sealed.absorb(newer);
        self.active = sealed;
    }
}

fn keep<R: Row>(clean: &mut Layer, sealed: &Layer) {
    let map = R::map_mut(clean);
    map.extend(R::map(sealed).iter().map(|(key, row)| (*key, row.clone())));
}
