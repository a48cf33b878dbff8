//! The partition state machine: `apply(command) -> effects`, deterministic; and the reads on its state.
//!
//! | module | what it holds |
//! |---|---|
//! | [`command`] | what may be asked; how entries are encoded |
//! | [`effect`] | answers, and what the driver must then do |
//! | [`chat`] | chats, messages, the dense seq |
//! | [`group`] | groups: members, roles, changes |
//! | `dedup` | idempotency by (device, client seq) |
//! | [`receipt`] | members: fan-out cursor, delivered, read |
//! | [`inbox`] | per-device queues with watermark |
//! | [`retention`] | how long messages are kept, which are dead |
//! | [`user`] | users, handles, last seen |
//! | [`device`] | devices of a user |
//! | [`profile`], [`roster`] | what users tell about themselves; contacts, blocks, privacy |
//! | [`membership`] | in which chats a user is |
//! | [`deletion`] | the end of an account |
//! | [`keys`] | the key directory |
//! | `rows`, `messages`, `codec`, `bits` | typed rows in layers; message runs; byte forms |
//! | `sharded` | the hash map under all of them |
//! | `store` | loading and reading: the state over its tree |
//! | `hash` | one number of everything, to compare replicas by |
//! | `flush` | flush, compaction, what stays in memory |
//! | `living` | what merges ask of the state |
//!
//! Invariants
//! - `apply` reads no clock, draws no random number and does no I/O: equal logs give equal states, byte for byte.
//! - Entries are applied in order of their index, each once: `applied` grows by one with each.
//! - A message's seq is given in `apply` and nowhere else; `last_seq` grows by one with each new message, so a chat's
//!   seqs are dense (`seqs_are_dense_and_retries_keep_theirs`).
//! - A row that `apply` needs has been loaded by [`Partition::prefetch`]: `apply` never waits.
//! - What was applied and not flushed is in the journal; a flush makes it durable in files, together with the applied
//!   index, and only then may the journal forget it.

mod bits;
pub mod chat;
mod codec;
pub mod command;
mod dedup;
pub mod deletion;
pub mod device;
pub mod effect;
mod flush;
pub mod group;
mod hash;
pub mod inbox;
pub mod keys;
mod living;
pub mod membership;
mod messages;
pub mod profile;
pub mod receipt;
pub mod retention;
pub mod roster;
pub(crate) mod rows;
mod sharded;
mod store;
#[cfg(test)]
mod testing;
pub mod user;

use std::sync::Arc;

use columba_wire::{ChatId, DeviceAddress, DeviceId, UserId};

use self::{
    chat::{ChatRow, SendFields},
    command::Command,
    deletion::Errand,
    device::Device,
    effect::{Effects, Outcome},
    group::ChangeFields,
    inbox::{Inbox, InboxChat},
    membership::UserChat,
    profile::Profile,
    retention::Settings,
    roster::Roster,
    rows::{Layer, Row},
    user::{Handle, HandleKey, LastSeen, User},
};
pub use self::{
    flush::FlushReport,
    rows::{DecodedRow, decode_row},
    store::{MessagePage, Partition},
};
use crate::ids::{LogIndex, PartitionId, Term};

/// The state in memory. Everything in it follows from the applied log and the files.
pub(crate) struct State {
    id: PartitionId,
    applied: LogIndex,
    applied_term: Term,
    settings: Settings,
    active: Layer,
    sealed: Option<Arc<Layer>>,
    /// Variable bytes of rows that were copied up since the active layer was last told.
    uncounted_bytes: usize,
    /// Rows known from files: the newer generation, and the one before it.
    clean: Layer,
    older: Layer,
    /// Grows when rows move between layers and files: a load that began before must not be kept.
    seals: u64,
}

impl State {
    fn new(id: PartitionId, applied: LogIndex, applied_term: Term, settings: Settings) -> Self {
        Self {
            id,
            applied,
            applied_term,
            settings,
            active: Layer::default(),
            sealed: None,
            uncounted_bytes: 0,
            clean: Layer::default(),
            older: Layer::default(),
            seals: 0,
        }
    }

    /// What is known of a row: `None` where it must be loaded, `Some(None)` where it does not exist.
    fn lookup<R: Row>(&self, key: &R::Key) -> Option<Option<&R>> {
        let found = R::map(&self.active)
            .get(key)
            .or_else(|| self.sealed.as_ref().and_then(|sealed| R::map(sealed).get(key)))
            .or_else(|| R::map(&self.clean).get(key))
            .or_else(|| R::map(&self.older).get(key));
        found.map(Option::as_ref)
    }

    fn is_known<R: Row>(&self, key: &R::Key) -> bool {
        self.lookup::<R>(key).is_some()
    }

    /// A loaded row.
    fn get<R: Row>(&self, key: &R::Key) -> Option<&R> {
        self.lookup::<R>(key).expect("prefetch has loaded every row that apply needs")
    }

    /// A loaded row, to be changed: it is copied up to the active layer.
    fn edit<R: Row>(&mut self, key: R::Key) -> &mut Option<R> {
        let Self { active, sealed, clean, older, uncounted_bytes, .. } = self;
        R::map_mut(active).get_or_insert_with(key, || {
            let found = sealed.as_ref().and_then(|sealed| R::map(sealed).get(&key));
            let found = found.or_else(|| R::map(clean).get(&key)).or_else(|| R::map(older).get(&key));
            let row = found.expect("prefetch has loaded every row that apply needs").clone();
            *uncounted_bytes += row.as_ref().map_or(0, R::variable_bytes);
            row
        })
    }

    /// Applies one entry. Rows it needs are loaded.
    fn apply(&mut self, index: LogIndex, term: Term, commands: Vec<Command>, effects: &mut Effects) {
        assert!(index == self.applied.next(), "partition {}: entry {index} after {}", self.id, self.applied);
        assert!(term >= self.applied_term, "partition {}: term {term} after {}", self.id, self.applied_term);
        for command in commands {
            let outcome = self.apply_command(command, effects);
            effects.outcomes.push(outcome);
        }
        self.active.count_change(0, core::mem::take(&mut self.uncounted_bytes));
        self.applied = index;
        self.applied_term = term;
    }

    fn apply_command(&mut self, command: Command, effects: &mut Effects) -> Outcome {
        match command {
            Command::ClaimHandle { handle, user, device_key, time_ms } => {
                self.apply_claim(&handle, user, device_key, time_ms)
            }
            Command::CreateUser { user, handle, device_key, device_name, time_ms } => {
                let first = Device { key: device_key, name: device_name, created_ms: time_ms };
                self.apply_create_user(user, handle, first)
            }
            Command::ConfirmHandle { handle, user } => self.apply_confirm_handle(&handle, user),
            Command::Send { chat, peer, sender, client_seq, time_ms, body } => {
                self.apply_send(SendFields { chat, peer, sender, client_seq, time_ms, body }, effects)
            }
            Command::ChangeGroup { chat, sender, client_seq, time_ms, change } => {
                self.apply_change_group(ChangeFields { chat, sender, client_seq, time_ms, change }, effects)
            }
            Command::Advance(items) => self.apply_advance(&items, effects),
            Command::MarkRead { chat, user, seq, hidden } => self.apply_mark_read(chat, user, seq, hidden, effects),
            Command::BlockChat { by, other, blocked, time_ms } => self.apply_block_chat(by, other, blocked, time_ms),
            Command::AppendInbox(items) => self.apply_append_inbox(&items, effects),
            Command::NoteChats(notes) => self.apply_note_chats(&notes, effects),
            Command::DeleteUser(user) => self.apply_delete_user(user, effects),
            Command::ReleaseHandle { handle, user } => self.apply_release_handle(&handle, user),
            Command::ForgetMember { chat, user, time_ms } => self.apply_forget_member(chat, user, time_ms, effects),
            Command::ForgetChats { user, chats } => self.apply_forget_chats(user, &chats),
            Command::EndErrand { user, round } => self.apply_end_errand(user, round),
            Command::TrimInbox { device, position, chats } => self.apply_trim_inbox(device, position, &chats, effects),
            Command::SetLastSeen(items) => self.apply_last_seen(&items),
            Command::SetRetention { chat, retention } => self.apply_set_retention(chat, retention),
            Command::Expire { now_ms } => self.apply_expire(now_ms),
            Command::AddDevice { user, key, name, time_ms } => {
                self.apply_add_device(user, Device { key, name, created_ms: time_ms }, effects)
            }
            Command::RenameDevice { device, name } => self.apply_rename_device(device, name),
            Command::RevokeDevice(device) => self.apply_revoke_device(device, effects),
            Command::SetProfile { device, change } => self.apply_set_profile(device, change, effects),
            Command::ChangeRoster { device, change } => self.apply_change_roster(device, &change, effects),
            Command::PutKeys { device, keys } => self.apply_put_keys(device, keys),
            Command::TakeKeys { user, devices } => self.apply_take_keys(user, &devices, effects),
        }
    }

    /// The planted bug `ApplyTwice`: a send is stored once more, as a careless replay would.
    fn apply_without_dedup(&mut self, command: Command, effects: &mut Effects) {
        if let Command::Send { chat, sender, .. } = &command
            && let Some(row) = self.edit::<ChatRow>(*chat)
        {
            let before = row.variable_bytes();
            row.forget(*sender);
            let after = row.variable_bytes();
            self.active.count_change(before, after);
        }
        self.apply_command(command, effects);
    }

    /// The rows that a command's apply touches, of those that are not known yet. Empty when it may be applied.
    fn missing_rows(&self, command: &Command, missing: &mut Vec<RowKey>) {
        match command {
            Command::ClaimHandle { handle, .. }
            | Command::ConfirmHandle { handle, .. }
            | Command::ReleaseHandle { handle, .. } => {
                self.want::<Handle>(HandleKey::new(handle), RowKey::Handle, missing);
            }
            Command::CreateUser { user, .. } => {
                self.want::<User>(*user, RowKey::User, missing);
                self.want::<Errand>(*user, RowKey::Errand, missing);
                let device = DeviceAddress { user: *user, device: DeviceId::FIRST };
                self.want::<Device>(device, RowKey::Device, missing);
            }
            Command::Send { chat, .. }
            | Command::ChangeGroup { chat, .. }
            | Command::MarkRead { chat, .. }
            | Command::ForgetMember { chat, .. }
            | Command::SetRetention { chat: Some(chat), .. } => self.want::<ChatRow>(*chat, RowKey::Chat, missing),
            Command::BlockChat { by, other, .. } => {
                self.want::<ChatRow>(ChatId::direct(*by, *other), RowKey::Chat, missing);
            }
            Command::Advance(items) => {
                for item in items {
                    self.want::<ChatRow>(item.chat, RowKey::Chat, missing);
                }
            }
            Command::AppendInbox(items) => {
                for item in items {
                    self.want::<InboxChat>((item.device, item.chat), RowKey::InboxChat, missing);
                    self.want::<Inbox>(item.device, RowKey::Inbox, missing);
                }
            }
            Command::NoteChats(notes) => {
                for note in notes {
                    self.want::<UserChat>((note.user, note.chat), RowKey::UserChat, missing);
                    self.want::<User>(note.user, RowKey::User, missing);
                    if let Some(None) = self.lookup::<User>(&note.user) {
                        self.want::<Errand>(note.user, RowKey::Errand, missing);
                    }
                }
            }
            Command::DeleteUser(user) => {
                self.want::<User>(*user, RowKey::User, missing);
                for device in self.devices_of(*user) {
                    let device = DeviceAddress { user: *user, device: *device };
                    self.want::<Device>(device, RowKey::Device, missing);
                    self.want::<Inbox>(device, RowKey::Inbox, missing);
                }
            }
            Command::ForgetChats { user, chats } => {
                self.want::<Errand>(*user, RowKey::Errand, missing);
                let errand = self.lookup::<Errand>(user).flatten();
                for device in errand.into_iter().flat_map(|errand| errand.devices(*user)) {
                    for chat in chats {
                        self.want::<InboxChat>((device, *chat), RowKey::InboxChat, missing);
                    }
                }
            }
            Command::AddDevice { user, .. } => {
                self.want::<User>(*user, RowKey::User, missing);
                for device in self.devices_of(*user) {
                    let device = DeviceAddress { user: *user, device: *device };
                    self.want::<Device>(device, RowKey::Device, missing);
                }
            }
            Command::RenameDevice { device, .. } => self.want::<Device>(*device, RowKey::Device, missing),
            Command::RevokeDevice(device) => {
                self.want::<User>(device.user, RowKey::User, missing);
                self.want::<Device>(*device, RowKey::Device, missing);
                self.want::<Inbox>(*device, RowKey::Inbox, missing);
            }
            Command::TrimInbox { device, chats, .. } => {
                self.want::<Inbox>(*device, RowKey::Inbox, missing);
                self.want::<User>(device.user, RowKey::User, missing);
                for id in self.devices_of(device.user) {
                    let device = DeviceAddress { device: *id, ..*device };
                    self.want::<Inbox>(device, RowKey::Inbox, missing);
                    for chat in chats {
                        self.want::<InboxChat>((device, *chat), RowKey::InboxChat, missing);
                    }
                }
            }
            Command::SetLastSeen(items) => {
                for (user, _) in items {
                    self.want::<User>(*user, RowKey::User, missing);
                    self.want::<LastSeen>(*user, RowKey::LastSeen, missing);
                }
            }
            Command::SetProfile { device, .. } => {
                self.want::<User>(device.user, RowKey::User, missing);
                self.want::<Profile>(device.user, RowKey::Profile, missing);
            }
            Command::ChangeRoster { device, .. } => {
                self.want::<User>(device.user, RowKey::User, missing);
                self.want::<Roster>(device.user, RowKey::Roster, missing);
            }
            Command::PutKeys { device, .. } => self.want_keys(device.user, &[device.device], missing),
            Command::TakeKeys { user, devices } => self.want_keys(*user, devices, missing),
            Command::SetRetention { chat: None, .. } | Command::Expire { .. } => {}
            Command::EndErrand { user, .. } => self.want::<Errand>(*user, RowKey::Errand, missing),
        }
    }

    /// The devices of a user. Which there are is known once its row is.
    fn devices_of(&self, user: UserId) -> &[DeviceId] {
        self.lookup::<User>(&user).flatten().map_or(&[][..], |user| &user.devices)
    }

    fn want<R: Row>(&self, key: R::Key, wrap: fn(R::Key) -> RowKey, missing: &mut Vec<RowKey>) {
        if !self.is_known::<R>(&key) {
            missing.push(wrap(key));
        }
    }
}

/// A row of any kind, by key.
#[derive(Clone, Copy, Debug)]
enum RowKey {
    User(UserId),
    Handle(HandleKey),
    Device(DeviceAddress),
    LastSeen(UserId),
    Profile(UserId),
    Roster(UserId),
    UserChat((UserId, ChatId)),
    Errand(UserId),
    DeviceKeys(DeviceAddress),
    Chat(ChatId),
    Inbox(DeviceAddress),
    InboxChat((DeviceAddress, ChatId)),
}

/// Counters of a partition's state, for metrics and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionStats {
    /// Bytes of the active layer, roughly.
    pub active_bytes: usize,
    /// Bytes of the sealed layer, roughly.
    pub sealed_bytes: usize,
    /// Rows kept from files.
    pub clean_rows: usize,
}
