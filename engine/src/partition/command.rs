//! What may be asked of a partition. A Raft entry holds one or more commands, applied in order.
//!
//! | entry | `[command]...` | command | `[kind u8][len u32][fields]` |
//!
//! Invariants
//! - Everything a command depends on beyond the partition's state is in the command: time and ids are put in by the
//!   leader before it proposes.
//! - [`decode_entry`] is total: what a damaged entry holds is an error, never a panic.

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, DeviceId, MessageSeq, UserId, keys::NewKeys};

use super::{
    codec::{Put as _, Take, VARINT_BYTES_MAX},
    group::GroupChange,
    keys::{new_keys_bytes_max, put_new_keys, take_new_keys},
    membership::{ChatNote, UserChat},
    profile::ProfileChange,
    retention::{Retention, put_retention, take_retention},
    roster::RosterChange,
};
use crate::error::{Error, Result};

/// A change of a partition's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// First step of a registration, in the handle's partition: reserves the handle for a user id.
    ClaimHandle {
        /// The handle, valid.
        handle: String,
        /// The id to give where the handle is free.
        user: UserId,
        /// The device that registers.
        device_key: [u8; 32],
        /// Now, milliseconds since 1970.
        time_ms: u64,
    },
    /// Second step, in the user's partition: makes the user with its first device.
    CreateUser {
        /// The id from the first step.
        user: UserId,
        /// The handle.
        handle: String,
        /// Ed25519 public key of the first device.
        device_key: [u8; 32],
        /// What it is called.
        device_name: String,
        /// Now, milliseconds since 1970.
        time_ms: u64,
    },
    /// Third step, in the handle's partition: the reservation becomes final.
    ConfirmHandle {
        /// The handle.
        handle: String,
        /// Who has it.
        user: UserId,
    },
    /// Stores a message: in a 1:1 chat, which it creates where it is the first, or in a group.
    Send {
        /// `ChatId::direct` of sender and peer, or the group.
        chat: ChatId,
        /// The other member (or the sender, in a chat with oneself); `None` in a group.
        peer: Option<UserId>,
        /// The sending device.
        sender: DeviceAddress,
        /// The device's number for it.
        client_seq: ClientSeq,
        /// Now, milliseconds since 1970.
        time_ms: u64,
        /// Opaque to the server.
        body: Bytes,
    },
    /// Changes a group, or makes one. Users that it lets in exist.
    ChangeGroup {
        /// The group; one that is made: `ChatId::group` of sender and client seq.
        chat: ChatId,
        /// The device that asks for it.
        sender: DeviceAddress,
        /// The device's number for it.
        client_seq: ClientSeq,
        /// Now, milliseconds since 1970.
        time_ms: u64,
        /// What to change.
        change: GroupChange,
    },
    /// Moves fan-out cursors and delivered watermarks of members, in the chats' partition.
    Advance(Vec<Progress>),
    /// Moves a member's read watermark.
    MarkRead {
        /// The chat.
        chat: ChatId,
        /// Who has read.
        user: UserId,
        /// Up to here.
        seq: MessageSeq,
        /// Whether the others are not to know.
        hidden: bool,
    },
    /// Stops what two users send each other, or lets it go on: in their chat's partition.
    BlockChat {
        /// Who wants it.
        by: UserId,
        /// Whom it has blocked; not itself.
        other: UserId,
        /// Whether it has, from now on.
        blocked: bool,
        /// Now, milliseconds since 1970.
        time_ms: u64,
    },
    /// Appends references to the inboxes of devices, in their users' partition.
    AppendInbox(Vec<InboxAppend>),
    /// Notes in which chats users are, in the users' partition.
    NoteChats(Vec<ChatNote>),
    /// Ends an account, in the user's partition. What others have of it is left as an errand.
    DeleteUser(UserId),
    /// Frees the handle of a user that is deleted, in the handle's partition.
    ReleaseHandle {
        /// The handle, valid.
        handle: String,
        /// Whose it was.
        user: UserId,
    },
    /// Takes a user that is deleted out of a chat, in the chat's partition.
    ForgetMember {
        /// The chat.
        chat: ChatId,
        /// The user.
        user: UserId,
        /// Now, milliseconds since 1970.
        time_ms: u64,
    },
    /// Takes chats off the list of a user that is deleted, in the user's partition.
    ForgetChats {
        /// The user.
        user: UserId,
        /// The chats, which have all forgotten it.
        chats: Vec<ChatId>,
    },
    /// Nothing is left to be done about a user that is deleted.
    EndErrand {
        /// The user.
        user: UserId,
        /// The round of the errand that was carried out.
        round: u32,
    },
    /// Moves the watermark of a device's inbox: everything up to `position` is done with.
    TrimInbox {
        /// Whose inbox.
        device: DeviceAddress,
        /// The last position that is done with.
        position: u64,
        /// Chats of which something was done with, at most [`TRIM_CHATS_MAX`]: where no device of the user has anything
        /// of one in its inbox any more, that is said by [`Effect::Settled`](super::effect::Effect::Settled).
        chats: Vec<ChatId>,
    },
    /// Remembers when users were last online.
    SetLastSeen(Vec<(UserId, u64)>),
    /// Says how long messages are kept.
    SetRetention {
        /// Of this chat; `None`: of all chats of the partition that say nothing themselves.
        chat: Option<ChatId>,
        /// How long; `None`: a chat is back to what the partition says, the partition to the default.
        retention: Option<Retention>,
    },
    /// Moves the expiry clock forward: what is too old by it is dead.
    Expire {
        /// Now, milliseconds since 1970.
        now_ms: u64,
    },
    /// Gives a user another device.
    AddDevice {
        /// Whose.
        user: UserId,
        /// Its Ed25519 public key.
        key: [u8; 32],
        /// What it is called.
        name: String,
        /// Now, milliseconds since 1970.
        time_ms: u64,
    },
    /// Gives a device another name.
    RenameDevice {
        /// Which.
        device: DeviceAddress,
        /// What it is called.
        name: String,
    },
    /// Ends a device.
    RevokeDevice(DeviceAddress),
    /// Changes a user's profile.
    SetProfile {
        /// By which device.
        device: DeviceAddress,
        /// What is new.
        change: ProfileChange,
    },
    /// Changes whom a user knows or has blocked, or what others may know and do.
    ChangeRoster {
        /// By which device.
        device: DeviceAddress,
        /// What is new.
        change: RosterChange,
    },
    /// Stores public keys of a device. Their signatures are good.
    PutKeys {
        /// Whose.
        device: DeviceAddress,
        /// The keys.
        keys: NewKeys,
    },
    /// Takes keys of a user's devices, for somebody who wants to begin sessions with them.
    TakeKeys {
        /// Whose.
        user: UserId,
        /// Of these, ascending: the devices that the user had when it was proposed.
        devices: Vec<DeviceId>,
    },
}

/// How far a member of a chat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The chat.
    pub chat: ChatId,
    /// The member.
    pub user: UserId,
    /// Each of the member's devices has acknowledged, or has in its inbox, everything up to here.
    pub covered: MessageSeq,
    /// A device of the member has acknowledged everything up to here.
    pub delivered: MessageSeq,
    /// Every device of the member has acknowledged, or sent itself, everything up to here.
    pub everywhere: MessageSeq,
}

/// A reference to append to an inbox: messages `from..=to` of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxAppend {
    /// Whose inbox.
    pub device: DeviceAddress,
    /// The chat.
    pub chat: ChatId,
    /// First message.
    pub from: MessageSeq,
    /// Last message, not below `from`.
    pub to: MessageSeq,
}

/// Chats that one trim of an inbox looks at: each costs a row of each of the user's devices.
pub const TRIM_CHATS_MAX: usize = 64;

/// Kind and length.
const COMMAND_HEAD_BYTES: usize = 5;

const CLAIM_HANDLE: u8 = 1;
const CREATE_USER: u8 = 2;
const CONFIRM_HANDLE: u8 = 3;
const SEND: u8 = 4;
// 5 was an `Advance` without `everywhere`, 12 one that named the chat with each member; 8 a `TrimInbox` without chats.
const MARK_READ: u8 = 6;
const APPEND_INBOX: u8 = 7;
const SET_LAST_SEEN: u8 = 9;
const SET_RETENTION: u8 = 10;
const EXPIRE: u8 = 11;
const SEND_TO_GROUP: u8 = 13;
const CHANGE_GROUP: u8 = 14;
const ADVANCE: u8 = 15;
const MARK_READ_HIDDEN: u8 = 16;
const BLOCK_CHAT: u8 = 17;
const TRIM_INBOX: u8 = 18;
const NOTE_CHATS: u8 = 19;
const DELETE_USER: u8 = 20;
const RELEASE_HANDLE: u8 = 21;
const FORGET_MEMBER: u8 = 22;
const SET_PROFILE: u8 = 23;
const CHANGE_ROSTER: u8 = 24;
const FORGET_CHATS: u8 = 25;
const ADD_DEVICE: u8 = 26;
const RENAME_DEVICE: u8 = 27;
const REVOKE_DEVICE: u8 = 28;
const PUT_KEYS: u8 = 29;
const TAKE_KEYS: u8 = 30;
const END_ERRAND: u8 = 31;

impl Command {
    /// Appends the command to an entry.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.put_u8(self.kind());
        let len_at = out.len();
        out.put_u32(0);
        self.encode_fields(out);
        let len = u32::try_from(out.len() - len_at - 4).expect("commands are far below 4 GiB");
        out[len_at..len_at + 4].copy_from_slice(&len.to_le_bytes());
    }

    /// Bytes of the command in an entry, at most.
    pub fn encoded_bytes_max(&self) -> usize {
        match self {
            Self::Send { body, .. } => 96 + body.len(),
            Self::ChangeGroup { change, .. } => 64 + change.encoded_bytes_max(),
            Self::Advance(items) => 16 + (16 + 4 + 16 + 3 * VARINT_BYTES_MAX) * items.len(),
            Self::AppendInbox(items) => 16 + 52 * items.len(),
            Self::NoteChats(notes) => 16 + 41 * notes.len(),
            Self::ForgetChats { chats, .. } => 32 + 16 * chats.len(),
            Self::TrimInbox { chats, .. } => 64 + 16 * chats.len(),
            Self::SetLastSeen(items) => 16 + 24 * items.len(),
            Self::CreateUser { .. } | Self::AddDevice { .. } | Self::RenameDevice { .. } => 256,
            Self::SetProfile { change, .. } => 32 + change.encoded_bytes_max(),
            Self::ChangeRoster { change, .. } => 32 + change.encoded_bytes_max(),
            Self::PutKeys { keys, .. } => 32 + new_keys_bytes_max(keys),
            Self::TakeKeys { devices, .. } => 32 + 4 * devices.len(),
            Self::ClaimHandle { .. }
            | Self::ConfirmHandle { .. }
            | Self::MarkRead { .. }
            | Self::BlockChat { .. }
            | Self::SetRetention { .. }
            | Self::Expire { .. }
            | Self::DeleteUser(_)
            | Self::ReleaseHandle { .. }
            | Self::ForgetMember { .. }
            | Self::EndErrand { .. }
            | Self::RevokeDevice(_) => 160,
        }
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::ClaimHandle { .. } => CLAIM_HANDLE,
            Self::CreateUser { .. } => CREATE_USER,
            Self::ConfirmHandle { .. } => CONFIRM_HANDLE,
            Self::Send { peer: Some(_), .. } => SEND,
            Self::Send { peer: None, .. } => SEND_TO_GROUP,
            Self::ChangeGroup { .. } => CHANGE_GROUP,
            Self::Advance(_) => ADVANCE,
            Self::MarkRead { hidden: false, .. } => MARK_READ,
            Self::MarkRead { hidden: true, .. } => MARK_READ_HIDDEN,
            Self::BlockChat { .. } => BLOCK_CHAT,
            Self::AppendInbox(_) => APPEND_INBOX,
            Self::NoteChats(_) => NOTE_CHATS,
            Self::DeleteUser(_) => DELETE_USER,
            Self::ReleaseHandle { .. } => RELEASE_HANDLE,
            Self::ForgetMember { .. } => FORGET_MEMBER,
            Self::ForgetChats { .. } => FORGET_CHATS,
            Self::EndErrand { .. } => END_ERRAND,
            Self::TrimInbox { .. } => TRIM_INBOX,
            Self::SetLastSeen(_) => SET_LAST_SEEN,
            Self::SetRetention { .. } => SET_RETENTION,
            Self::Expire { .. } => EXPIRE,
            Self::AddDevice { .. } => ADD_DEVICE,
            Self::RenameDevice { .. } => RENAME_DEVICE,
            Self::RevokeDevice(_) => REVOKE_DEVICE,
            Self::SetProfile { .. } => SET_PROFILE,
            Self::ChangeRoster { .. } => CHANGE_ROSTER,
            Self::PutKeys { .. } => PUT_KEYS,
            Self::TakeKeys { .. } => TAKE_KEYS,
        }
    }

    fn encode_fields(&self, out: &mut Vec<u8>) {
        match self {
            Self::ClaimHandle { handle, user, device_key, time_ms } => {
                out.put_bytes(handle.as_bytes());
                out.put_user(*user);
                out.extend_from_slice(device_key);
                out.put_u64(*time_ms);
            }
            Self::CreateUser { user, handle, device_key, device_name, time_ms } => {
                out.put_bytes(handle.as_bytes());
                out.put_user(*user);
                out.extend_from_slice(device_key);
                out.put_u64(*time_ms);
                out.put_bytes(device_name.as_bytes());
            }
            Self::ConfirmHandle { handle, user } => {
                out.put_bytes(handle.as_bytes());
                out.put_user(*user);
            }
            Self::Send { chat, peer, sender, client_seq, time_ms, body } => {
                out.put_chat(*chat);
                peer.iter().for_each(|peer| out.put_user(*peer));
                out.put_device(*sender);
                out.put_u64(client_seq.get());
                out.put_u64(*time_ms);
                out.put_bytes(body);
            }
            Self::ChangeGroup { chat, sender, client_seq, time_ms, change } => {
                out.put_chat(*chat);
                out.put_device(*sender);
                out.put_u64(client_seq.get());
                out.put_u64(*time_ms);
                change.put(out);
            }
            Self::Advance(items) => {
                let runs = || items.chunk_by(|item, next| item.chat == next.chat);
                out.put_u32(u32::try_from(runs().count()).expect("bounded"));
                for run in runs() {
                    out.put_chat(run[0].chat);
                    out.put_u32(u32::try_from(run.len()).expect("bounded"));
                    for item in run {
                        out.put_user(item.user);
                        [item.covered, item.delivered, item.everywhere]
                            .iter()
                            .for_each(|seq| out.put_varint(seq.get()));
                    }
                }
            }
            Self::MarkRead { chat, user, seq, hidden: _ } => {
                out.put_chat(*chat);
                out.put_user(*user);
                out.put_seq(*seq);
            }
            Self::BlockChat { by, other, blocked, time_ms } => {
                out.put_user(*by);
                out.put_user(*other);
                out.put_u8(u8::from(*blocked));
                out.put_u64(*time_ms);
            }
            Self::AppendInbox(items) => {
                out.put_u32(u32::try_from(items.len()).expect("bounded"));
                for item in items {
                    out.put_device(item.device);
                    out.put_chat(item.chat);
                    out.put_seq(item.from);
                    out.put_seq(item.to);
                }
            }
            Self::NoteChats(notes) => {
                out.put_u32(u32::try_from(notes.len()).expect("bounded"));
                for note in notes {
                    out.put_user(note.user);
                    out.put_chat(note.chat);
                    out.put_seq(note.now.at);
                    out.put_u8(u8::from(note.now.is_in));
                }
            }
            Self::TrimInbox { device, position, chats } => {
                out.put_device(*device);
                out.put_u64(*position);
                out.put_u32(u32::try_from(chats.len()).expect("bounded"));
                chats.iter().for_each(|chat| out.put_chat(*chat));
            }
            Self::SetLastSeen(items) => {
                out.put_u32(u32::try_from(items.len()).expect("bounded"));
                for (user, time_ms) in items {
                    out.put_user(*user);
                    out.put_u64(*time_ms);
                }
            }
            Self::SetRetention { chat, retention } => {
                out.put_u8(u8::from(chat.is_some()));
                if let Some(chat) = chat {
                    out.put_chat(*chat);
                }
                put_retention(*retention, out);
            }
            Self::Expire { now_ms } => out.put_u64(*now_ms),
            Self::AddDevice { user, key, name, time_ms } => {
                out.put_user(*user);
                out.extend_from_slice(key);
                out.put_u64(*time_ms);
                out.put_bytes(name.as_bytes());
            }
            Self::RenameDevice { device, name } => {
                out.put_device(*device);
                out.put_bytes(name.as_bytes());
            }
            Self::RevokeDevice(device) => out.put_device(*device),
            Self::DeleteUser(user) => out.put_user(*user),
            Self::EndErrand { user, round } => {
                out.put_user(*user);
                out.put_u32(*round);
            }
            Self::ReleaseHandle { handle, user } => {
                out.put_bytes(handle.as_bytes());
                out.put_user(*user);
            }
            Self::ForgetMember { chat, user, time_ms } => {
                out.put_chat(*chat);
                out.put_user(*user);
                out.put_u64(*time_ms);
            }
            Self::ForgetChats { user, chats } => {
                out.put_user(*user);
                out.put_u32(u32::try_from(chats.len()).expect("bounded"));
                chats.iter().for_each(|chat| out.put_chat(*chat));
            }
            Self::SetProfile { device, change } => {
                out.put_device(*device);
                change.put(out);
            }
            Self::ChangeRoster { device, change } => {
                out.put_device(*device);
                change.put(out);
            }
            Self::PutKeys { device, keys } => {
                out.put_device(*device);
                put_new_keys(keys, out);
            }
            Self::TakeKeys { user, devices } => {
                out.put_user(*user);
                out.put_u32(u32::try_from(devices.len()).expect("bounded"));
                devices.iter().for_each(|device| out.put_u32(device.get()));
            }
        }
    }

    fn take(kind: u8, take: &mut Take) -> Result<Self> {
        Ok(match kind {
            CLAIM_HANDLE | CREATE_USER => {
                let handle = take.take_string()?;
                let user = take.take_user()?;
                let device_key = take.take_key()?;
                let time_ms = take.take_u64()?;
                if kind == CLAIM_HANDLE {
                    Self::ClaimHandle { handle, user, device_key, time_ms }
                } else {
                    Self::CreateUser { user, handle, device_key, device_name: take.take_string()?, time_ms }
                }
            }
            CONFIRM_HANDLE => Self::ConfirmHandle { handle: take.take_string()?, user: take.take_user()? },
            SEND | SEND_TO_GROUP => Self::Send {
                chat: take.take_chat()?,
                peer: if kind == SEND { Some(take.take_user()?) } else { None },
                sender: take.take_device()?,
                client_seq: ClientSeq::new(take.take_u64()?),
                time_ms: take.take_u64()?,
                body: take.take_bytes()?,
            },
            CHANGE_GROUP => Self::ChangeGroup {
                chat: take.take_chat()?,
                sender: take.take_device()?,
                client_seq: ClientSeq::new(take.take_u64()?),
                time_ms: take.take_u64()?,
                change: GroupChange::take(take)?,
            },
            ADVANCE => {
                let mut items = Vec::new();
                for _ in 0..take.take_count(16 + 4)? {
                    let chat = take.take_chat()?;
                    for _ in 0..take.take_count(16 + 3)? {
                        items.push(Progress {
                            chat,
                            user: take.take_user()?,
                            covered: take.take_short_seq()?,
                            delivered: take.take_short_seq()?,
                            everywhere: take.take_short_seq()?,
                        });
                    }
                }
                Self::Advance(items)
            }
            MARK_READ | MARK_READ_HIDDEN => Self::MarkRead {
                chat: take.take_chat()?,
                user: take.take_user()?,
                seq: take.take_seq()?,
                hidden: kind == MARK_READ_HIDDEN,
            },
            BLOCK_CHAT => Self::BlockChat {
                by: take.take_user()?,
                other: take.take_user()?,
                blocked: take.take_bool()?,
                time_ms: take.take_u64()?,
            },
            APPEND_INBOX => {
                let count = take.take_count(52)?;
                let mut items = Vec::with_capacity(count);
                for _ in 0..count {
                    items.push(InboxAppend {
                        device: take.take_device()?,
                        chat: take.take_chat()?,
                        from: take.take_seq()?,
                        to: take.take_seq()?,
                    });
                }
                Self::AppendInbox(items)
            }
            NOTE_CHATS => {
                let count = take.take_count(41)?;
                let mut notes = Vec::with_capacity(count);
                for _ in 0..count {
                    notes.push(ChatNote {
                        user: take.take_user()?,
                        chat: take.take_chat()?,
                        now: UserChat { at: take.take_seq()?, is_in: take.take_bool()? },
                    });
                }
                Self::NoteChats(notes)
            }
            TRIM_INBOX => {
                let (device, position) = (take.take_device()?, take.take_u64()?);
                let count = take.take_count(16)?;
                let chats = (0..count).map(|_| take.take_chat()).collect::<Result<_>>()?;
                Self::TrimInbox { device, position, chats }
            }
            SET_LAST_SEEN => {
                let count = take.take_count(24)?;
                let mut items = Vec::with_capacity(count);
                for _ in 0..count {
                    items.push((take.take_user()?, take.take_u64()?));
                }
                Self::SetLastSeen(items)
            }
            SET_RETENTION => {
                let chat = match take.take_u8()? {
                    0 => None,
                    1 => Some(take.take_chat()?),
                    _ => return Err(Error::Malformed { what: "command", reason: "whose retention it is, is unknown" }),
                };
                Self::SetRetention { chat, retention: take_retention(take)? }
            }
            EXPIRE => Self::Expire { now_ms: take.take_u64()? },
            ADD_DEVICE => Self::AddDevice {
                user: take.take_user()?,
                key: take.take_key()?,
                time_ms: take.take_u64()?,
                name: take.take_string()?,
            },
            RENAME_DEVICE => Self::RenameDevice { device: take.take_device()?, name: take.take_string()? },
            REVOKE_DEVICE => Self::RevokeDevice(take.take_device()?),
            DELETE_USER => Self::DeleteUser(take.take_user()?),
            END_ERRAND => Self::EndErrand { user: take.take_user()?, round: take.take_u32()? },
            RELEASE_HANDLE => Self::ReleaseHandle { handle: take.take_string()?, user: take.take_user()? },
            FORGET_MEMBER => {
                Self::ForgetMember { chat: take.take_chat()?, user: take.take_user()?, time_ms: take.take_u64()? }
            }
            FORGET_CHATS => {
                let user = take.take_user()?;
                let count = take.take_count(16)?;
                Self::ForgetChats { user, chats: (0..count).map(|_| take.take_chat()).collect::<Result<_>>()? }
            }
            SET_PROFILE => Self::SetProfile { device: take.take_device()?, change: ProfileChange::take(take)? },
            CHANGE_ROSTER => Self::ChangeRoster { device: take.take_device()?, change: RosterChange::take(take)? },
            PUT_KEYS => Self::PutKeys { device: take.take_device()?, keys: take_new_keys(take)? },
            TAKE_KEYS => {
                let user = take.take_user()?;
                let count = take.take_count(4)?;
                let devices = (0..count).map(|_| take.take_device_id()).collect::<Result<_>>()?;
                Self::TakeKeys { user, devices }
            }
            _ => return Err(Error::Malformed { what: "command", reason: "its kind is unknown" }),
        })
    }
}

/// The commands of an entry, in order. Bodies are slices of `entry`.
///
/// # Errors
/// `Malformed`.
pub fn decode_entry(entry: Bytes) -> Result<Vec<Command>> {
    let mut commands = Vec::with_capacity(count_commands(&entry));
    let mut take = Take::new(entry, "command");
    while !take.is_empty() {
        let kind = take.take_u8()?;
        commands.push(take.take_part(|take| Command::take(kind, take))?);
    }
    Ok(commands)
}

/// How many commands an entry has, by their lengths; of a malformed one those that are whole.
fn count_commands(mut entry: &[u8]) -> usize {
    let mut count = 0;
    while let Some((head, rest)) = entry.split_first_chunk::<COMMAND_HEAD_BYTES>() {
        let [_, len @ ..] = *head;
        let Some(next) = rest.get(u32::from_le_bytes(len) as usize..) else {
            break;
        };
        entry = next;
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests;
