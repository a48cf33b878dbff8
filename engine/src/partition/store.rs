//! A partition's state over its tree: loading rows, reading messages and inboxes.
//!
//! Invariants
//! - A read takes what is in memory first and then the files: what a flush moves meanwhile is seen twice, never missed.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    path::PathBuf,
    rc::Rc,
};

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, InviteSecret, MessageSeq, UserId};
use futures_util::future::{join, try_join_all};

use super::{
    PartitionStats, RowKey, State,
    chat::{Chat, ChatRow, ChatView, Members, Pending, Reach},
    command::{Command, decode_entry},
    deletion::Errand,
    device::Device,
    effect::{Effects, StoredMessage},
    group::{Invitation, Role},
    inbox::{Inbox, InboxChat, InboxEntry, decode_entry_row, entry_key},
    keys::DeviceKeys,
    membership::UserChat,
    profile::Profile,
    receipt::Member,
    retention::Settings,
    roster::Roster,
    rows::{Layer, Row, file_key},
    user::{Handle, HandleKey, LastSeen, User},
};
use crate::{
    env::{Disk, executor::Signal},
    error::Result,
    ids::{LogIndex, PartitionId, Term},
    limits::ROWS_LOADED_AT_ONCE,
    memory::Usage,
    table::meta::Class,
    tree::{MessageRange, ScanRange, Shared, Tree, TreeConfig, TreeMeta, TreeStats},
};

/// A partition: its state machine and its files. Cheap to clone; clones share it. Belongs to one core.
pub struct Partition<D: Disk> {
    pub(super) inner: Rc<Inner<D>>,
}

pub(super) struct Inner<D: Disk> {
    pub(super) id: PartitionId,
    pub(super) tree: Tree<D>,
    pub(super) state: RefCell<State>,
    /// What it uses of the core's memory.
    pub(super) usage: Rc<Usage>,
    /// Layers that nobody needs any more, to be freed piece by piece.
    pub(super) discarded: RefCell<Vec<Layer>>,
    /// Whether flushes leave rows in memory, and whether there are such rows: see [`Partition::leave_rows`].
    pub(super) leaves_rows: Cell<bool>,
    pub(super) has_left_rows: Cell<bool>,
    /// A flush has ended, well or not.
    pub(super) flushed: Signal,
}

impl<D: Disk> Clone for Partition<D> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

/// A page of a chat's messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessagePage {
    /// Those of the page that are not deleted, ascending.
    pub messages: Vec<StoredMessage>,
    /// Where to go on: whatever of the range below this is not in `messages` is deleted, for good. Where it is not
    /// above the range's begin, a message is missing that should be there.
    pub next: MessageSeq,
}

impl<D: Disk> Partition<D> {
    /// Opens a partition's files, or begins an empty one. Entries above [`Self::applied`] are then to be applied.
    ///
    /// # Errors
    /// Damage of manifest or files, `Io`.
    pub async fn open(
        disk: D,
        dir: PathBuf,
        id: PartitionId,
        config: TreeConfig,
        shared: Shared<D::File>,
    ) -> Result<Self> {
        let usage = shared.memory().register();
        let (tree, _report) = Tree::open(disk, dir, config, shared).await?;
        let TreeMeta { applied, applied_term, extra } = tree.meta();
        let state = RefCell::new(State::new(id, applied, applied_term, Settings::decode(extra)?));
        let inner = Inner {
            id,
            tree,
            state,
            usage,
            discarded: RefCell::default(),
            leaves_rows: Cell::default(),
            has_left_rows: Cell::default(),
            flushed: Signal::default(),
        };
        Ok(Self { inner: Rc::new(inner) })
    }

    /// Its id.
    pub fn id(&self) -> PartitionId {
        self.inner.id
    }

    /// Index of the last applied entry.
    pub fn applied(&self) -> LogIndex {
        self.inner.state.borrow().applied
    }

    /// What its chats have in common.
    pub fn settings(&self) -> Settings {
        self.inner.state.borrow().settings
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
            clean_rows: state.clean.rows() + state.older.rows(),
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
        let (Command::Send { chat, .. } | Command::ChangeGroup { chat, .. }) = command else {
            return false;
        };
        let exists = self.inner.state.borrow().lookup::<ChatRow>(chat).flatten().is_some();
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
            // Side by side: a batch to many chats that are not in memory waits about as long as one read.
            for keys in missing.chunks(ROWS_LOADED_AT_ONCE) {
                try_join_all(keys.iter().map(|key| self.load_key(*key))).await?;
            }
            missing.clear();
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
        self.account();
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

    /// Its files: for verification, inspection and snapshots.
    pub fn tree(&self) -> &Tree<D> {
        &self.inner.tree
    }

    /// Reads and checks every block of every file.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn verify(&self) -> Result<()> {
        self.inner.tree.verify().await.map(|_| ())
    }

    /// The messages of a range that memory has, ascending by seq.
    fn messages_in_memory(
        &self,
        chat: ChatId,
        from: MessageSeq,
        to: MessageSeq,
    ) -> BTreeMap<MessageSeq, StoredMessage> {
        let state = self.inner.state.borrow();
        let layers = state.sealed.as_deref().into_iter().chain([&state.active]);
        let found = layers.flat_map(|layer| layer.messages.range(chat, from, to));
        found.map(|message| (message.seq, message.to_owned())).collect()
    }

    /// The messages `from..=to` of a chat that are not deleted, ascending, at most `bytes_max` of bodies (at least one
    /// message). A reader goes on at [`MessagePage::next`]: a page may be empty and not the last.
    ///
    /// Cost: nothing but copies where they are in memory; else one block of each newer file that has the chat, to find
    /// the one in which the range begins, and from there one read per 128 KiB.
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
        let begin = from;
        let Some(row) = self.chat(chat).await? else {
            return Ok(MessagePage { messages: Vec::new(), next: begin });
        };
        let (mut from, mut to) = (from.max(row.deleted_up_to.next()), to.min(row.last_seq));
        let mut found = self.messages_in_memory(chat, from, to);
        let first_in_memory = found.keys().next().copied();
        if first_in_memory != Some(from) && from <= to {
            let below = first_in_memory.unwrap_or(MessageSeq::MAX).prev().min(to);
            let range = MessageRange { chat, from, to: below, count_max: usize::MAX, bytes_max };
            let stored = self.inner.tree.oldest_messages(&range).await?;
            let bytes: usize = stored.iter().map(|message| message.body.len()).sum();
            let last = stored.last().map_or(from, |message| message.seq);
            found.extend(stored.into_iter().map(|message| (message.seq, message)));
            if bytes >= bytes_max && last < below {
                // The read has ended early: what is behind it was not looked at.
                to = last;
                found.split_off(&to.next());
            }
        }
        // The floor as it is now: what was dropped while the files were read is below it.
        let Some(row) = self.chat(chat).await? else {
            return Ok(MessagePage { messages: Vec::new(), next: begin });
        };
        let floor = self.settings().floor_of(&row);
        let mut bytes = 0;
        let mut messages = Vec::with_capacity(found.len());
        for (seq, message) in found {
            from = floor.skip_hole(from, seq);
            if from < seq {
                return Ok(MessagePage { messages, next: from });
            }
            if !floor.is_dead(seq, message.time_ms) {
                bytes += message.body.len();
                if bytes > bytes_max && !messages.is_empty() {
                    return Ok(MessagePage { messages, next: from });
                }
                messages.push(message);
            }
            from = seq.next();
        }
        let next = if from <= to { floor.skip_hole(from, to.next()) } else { from };
        Ok(MessagePage { messages, next })
    }

    /// The newest `count_max` messages of a chat at or below `to` that are not deleted, newest first, until about
    /// `bytes_max` of bodies. Fewer come back at the start of the chat, or where retention has deleted them.
    ///
    /// Cost: nothing but copies where they are in memory; else one read in each file that has some of the page, side by
    /// side.
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
        if count_max == 0 {
            return Ok(Vec::new());
        }
        if !self.inner.state.borrow().is_known::<ChatRow>(&chat) {
            return self.newest_of_cold(chat, to, count_max, bytes_max).await;
        }
        let Some(row) = self.chat(chat).await? else {
            return Ok(Vec::new());
        };
        let is_newest = to >= row.last_seq;
        let to = to.min(row.last_seq);
        let count = u64::try_from(count_max).unwrap_or(u64::MAX);
        let lowest = to.get().saturating_sub(count.saturating_sub(1)).max(1);
        let from = MessageSeq::new(lowest).max(row.deleted_up_to.next());
        if from > to {
            return Ok(Vec::new());
        }
        let mut messages: Vec<_> = self.messages_in_memory(chat, from, to).into_values().rev().collect();
        let mut bytes: usize = messages.iter().map(|message| message.body.len()).sum();
        let reached = messages.last().map_or(to.next(), |message| message.seq);
        if reached > from && bytes < bytes_max {
            let (count_max, bytes_max) = (count_max - messages.len(), bytes_max - bytes);
            let below = MessageRange { chat, from, to: reached.prev(), count_max, bytes_max };
            // All that files have is below what memory has, so their newest page is what is lacking; it is kept.
            let to = if is_newest { MessageSeq::MAX } else { below.to };
            let mut found = self.inner.tree.newest_messages(&MessageRange { to, ..below }).await?;
            if found.first().is_some_and(|newest| newest.seq > below.to) {
                // But for the moment in which a flush ends, when both have the same.
                found = self.inner.tree.newest_messages(&below).await?;
            }
            messages.extend(found);
        }
        let Some(row) = self.chat(chat).await? else {
            return Ok(Vec::new());
        };
        let floor = self.settings().floor_of(&row);
        messages.retain(|message| !floor.is_dead(message.seq, message.time_ms));
        bytes = 0;
        let fits = messages.iter().take_while(|message| {
            let before = bytes;
            bytes += message.body.len();
            before < bytes_max
        });
        let fits = fits.count();
        messages.truncate(fits);
        Ok(messages)
    }

    /// The same of a chat of which nothing is in memory: its row and its messages are read side by side.
    async fn newest_of_cold(
        &self,
        chat: ChatId,
        to: MessageSeq,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<StoredMessage>> {
        let range = MessageRange { chat, from: MessageSeq::new(1), to, count_max, bytes_max };
        let (row, messages) = join(self.chat(chat), self.inner.tree.newest_messages(&range)).await;
        let (Some(row), mut messages) = (row?, messages?) else {
            return Ok(Vec::new());
        };
        if messages.first().is_none_or(|newest| newest.seq < to.min(row.last_seq)) && row.deleted_up_to < row.last_seq {
            // Messages came meanwhile, or were flushed: the row is known now.
            return Box::pin(self.newest(chat, to, count_max, bytes_max)).await;
        }
        let floor = self.settings().floor_of(&row);
        messages.retain(|message| !floor.is_dead(message.seq, message.time_ms));
        Ok(messages)
    }

    /// One message of a chat; `None` where it is deleted or does not exist.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn message(&self, chat: ChatId, seq: MessageSeq) -> Result<Option<StoredMessage>> {
        Ok(self.newest(chat, seq, 1, usize::MAX).await?.pop().filter(|message| message.seq == seq))
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
            for (key, value) in self.inner.tree.scan(Class::Inbox, &range, entries_max, usize::MAX).await? {
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
        self.look::<ChatRow, _>(chat, |row| row.map(|row| row.chat)).await
    }

    /// A chat as a user sees it; `None` where there is none, or the user is no member.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn chat_of(&self, chat: ChatId, user: UserId) -> Result<Option<ChatView>> {
        self.look::<ChatRow, _>(chat, |row| row?.view_of(user)).await
    }

    /// A chat, and the first message of it that is for this user; `None` where the user is no member.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn chat_from(&self, chat: ChatId, user: UserId) -> Result<Option<(Chat, MessageSeq)>> {
        self.look::<ChatRow, _>(chat, |row| row.and_then(|row| Some((row.chat, row.first_of(user)?)))).await
    }

    /// The group that a link leads to; `None` where there is no such link, or it has ended by `now_ms`.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn invitation(&self, chat: ChatId, secret: InviteSecret, now_ms: u64) -> Result<Option<Invitation>> {
        let found = |row: &ChatRow| row.group()?.invitation(secret, now_ms.max(row.chat.last_time_ms));
        self.look::<ChatRow, _>(chat, |row| row.and_then(found)).await
    }

    /// What a user may do in a group; `None` where it is no member, or the chat is no group.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn role(&self, chat: ChatId, user: UserId) -> Result<Option<Role>> {
        self.look::<ChatRow, _>(chat, |row| Some(row?.group()?.member(user)?.role)).await
    }

    /// Whom a member of a chat reaches now; `None` where the user is no member.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn reach(&self, chat: ChatId, user: UserId) -> Result<Option<Reach>> {
        self.look::<ChatRow, _>(chat, |row| row?.reach_of(user)).await
    }

    /// Whom a chat's messages are for.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn members(&self, chat: ChatId) -> Result<Option<Members>> {
        self.look::<ChatRow, _>(chat, |row| row.map(ChatRow::members)).await
    }

    /// How far those are whom a chat's messages are for, in the order of [`Members::ranges`].
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn progress(&self, chat: ChatId) -> Result<Option<Vec<(UserId, Member)>>> {
        self.look::<ChatRow, _>(chat, |row| row.map(ChatRow::progress)).await
    }

    /// How far a member of a chat is.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn member(&self, chat: ChatId, user: UserId) -> Result<Option<Member>> {
        self.look::<ChatRow, _>(chat, |row| row.and_then(|row| row.member(user).copied())).await
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

    /// What a user tells about itself, where it ever did.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn profile(&self, user: UserId) -> Result<Option<Profile>> {
        self.load::<Profile>(user).await
    }

    /// What a user's roster says, by a look at it where it ever changed something; else at an empty one.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn roster<T>(&self, user: UserId, look: impl Fn(&Roster) -> T) -> Result<T> {
        self.look::<Roster, _>(user, |row| row.map_or_else(|| look(&Roster::default()), &look)).await
    }

    /// Whether a device's send is stored, or may be: a retry changes nothing.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn knows_send(&self, chat: ChatId, sender: DeviceAddress, client_seq: ClientSeq) -> Result<bool> {
        self.look::<ChatRow, _>(chat, |row| row.is_some_and(|row| row.sent_before(sender, client_seq).is_some())).await
    }

    /// The keys of a device, where it ever stored some.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn device_keys(&self, device: DeviceAddress) -> Result<Option<DeviceKeys>> {
        self.load::<DeviceKeys>(device).await
    }

    /// How many one-time keys of a device are left.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn one_time_keys(&self, device: DeviceAddress) -> Result<u32> {
        self.look::<DeviceKeys, _>(device, |row| row.map_or(0, DeviceKeys::left)).await
    }

    /// The chats whose fan-out has work to do: what a new leader resumes.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn pending_chats(&self) -> Result<Vec<ChatId>> {
        let keys = self.keys_of::<Pending>().await?;
        Ok(keys.iter().filter_map(|key| ChatId::try_from(&key[..]).ok()).collect())
    }

    /// The keys of all rows of a kind, without the kind byte, ascending. For kinds of few rows: it reads them all.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub(super) async fn keys_of<R: Row>(&self) -> Result<Vec<Vec<u8>>> {
        let mut found = BTreeMap::new();
        {
            let state = self.inner.state.borrow();
            for layer in state.sealed.as_deref().into_iter().chain([&state.active]) {
                found.extend(R::map(layer).iter().map(|(key, row)| (file_key::<R>(key), row.is_some())));
            }
        }
        let range = ScanRange { start: vec![R::KIND], end: vec![R::KIND + 1] };
        for (key, _) in self.inner.tree.scan(Class::State, &range, usize::MAX, usize::MAX).await? {
            found.entry(key.to_vec()).or_insert(true);
        }
        Ok(found.into_iter().filter(|(_, is_there)| *is_there).map(|(key, _)| key[1..].to_vec()).collect())
    }

    async fn load_key(&self, key: RowKey) -> Result<()> {
        match key {
            RowKey::User(key) => self.look::<User, _>(key, |_| ()).await,
            RowKey::Handle(key) => self.look::<Handle, _>(key, |_| ()).await,
            RowKey::Device(key) => self.look::<Device, _>(key, |_| ()).await,
            RowKey::LastSeen(key) => self.look::<LastSeen, _>(key, |_| ()).await,
            RowKey::Profile(key) => self.look::<Profile, _>(key, |_| ()).await,
            RowKey::Roster(key) => self.look::<Roster, _>(key, |_| ()).await,
            RowKey::Errand(key) => self.look::<Errand, _>(key, |_| ()).await,
            RowKey::UserChat(key) => self.look::<UserChat, _>(key, |_| ()).await,
            RowKey::DeviceKeys(key) => self.look::<DeviceKeys, _>(key, |_| ()).await,
            RowKey::Chat(key) => self.look::<ChatRow, _>(key, |_| ()).await,
            RowKey::Inbox(key) => self.look::<Inbox, _>(key, |_| ()).await,
            RowKey::InboxChat(key) => self.look::<InboxChat, _>(key, |_| ()).await,
        }
    }

    pub(super) async fn load<R: Row>(&self, key: R::Key) -> Result<Option<R>> {
        self.look::<R, _>(key, |row| row.cloned()).await
    }

    /// Looks at a row, which is loaded where it is not in memory. A chat's is not copied for a look at a part of it.
    async fn look<R: Row, T>(&self, key: R::Key, look: impl Fn(Option<&R>) -> T) -> Result<T> {
        loop {
            let seals = {
                let state = self.inner.state.borrow();
                if let Some(known) = state.lookup::<R>(&key) {
                    return Ok(look(known));
                }
                state.seals
            };
            let value = self.inner.tree.get(&file_key::<R>(&key)).await?;
            let row = value.map(R::decode).transpose()?;
            let mut state = self.inner.state.borrow_mut();
            if state.seals == seals && !state.is_known::<R>(&key) {
                let found = look(row.as_ref());
                state.clean.insert::<R>(key, row);
                return Ok(found);
            }
        }
    }
}
