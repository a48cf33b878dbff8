//! Changes of groups, as commands ask for them and messages keep them.
//!
//! Invariant: a stored change has no secret of a link, since who comes later reads it too.

use bytes::Bytes;
use columba_wire::{
    InviteSecret, Role, UserId,
    limits::{GROUP_MEMBERS_MAX, GROUP_NAME_BYTES_MAX, GROUP_PICTURE_BYTES_MAX, GROUP_REMOVED_MAX, TIMER_S_MAX},
};

use crate::{
    error::Result,
    message::{MessageKind, StoredMessage},
    partition::codec::{self, Put as _, Take},
};

pub(super) const fn role_number(role: Role) -> u8 {
    match role {
        Role::Member => 0,
        Role::Admin => 1,
        Role::Owner => 2,
    }
}

pub(super) fn role_of(number: u8, take: &Take) -> Result<Role> {
    match number {
        0 => Ok(Role::Member),
        1 => Ok(Role::Admin),
        2 => Ok(Role::Owner),
        _ => Err(take.malformed("a role is unknown")),
    }
}

/// What a group is called, and how it looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What it is called.
    pub name: Bytes,
    /// A reference to a picture.
    pub picture: Bytes,
    /// Whether only admins may write.
    pub announcements: bool,
}

impl Look {
    /// In bytes of its own: a slice would keep the whole entry, or block, that it lies in.
    pub(super) fn copied(&self) -> Self {
        let copy = |field: &Bytes| Bytes::copy_from_slice(field);
        Self { name: copy(&self.name), picture: copy(&self.picture), announcements: self.announcements }
    }
}

/// What to change of a group's look; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookChange {
    /// What it is called.
    pub name: Option<Bytes>,
    /// A reference to a picture.
    pub picture: Option<Bytes>,
    /// Whether only admins may write.
    pub announcements: Option<bool>,
}

/// A link by which users come into a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invite {
    /// What lets its holder in; `None` as the change is stored, since those who come later are not to learn it.
    pub secret: Option<InviteSecret>,
    /// When it ends, milliseconds since 1970; 0: never.
    pub expires_ms: u64,
}

impl Invite {
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        self.expires_ms != 0 && self.expires_ms <= now_ms
    }
}

/// A change of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupChange {
    /// A group begins, with these members beside who makes it and owns it; ascending.
    Create {
        /// Its look.
        look: Look,
        /// The others.
        members: Vec<UserId>,
    },
    /// Users become members; ascending.
    Add(Vec<UserId>),
    /// Members are put out; ascending.
    Remove(Vec<UserId>),
    /// Who sends it leaves.
    Leave {
        /// Who owns the group from now on, where the owner has left. As it is asked: `None`.
        owner: Option<UserId>,
    },
    /// A member gets a role. An owner that names another one is an admin from then on.
    SetRole {
        /// Who.
        user: UserId,
        /// Its role.
        role: Role,
    },
    /// The group looks different.
    SetLook(LookChange),
    /// The group has another link, or none.
    SetInvite(Option<Invite>),
    /// Who sends it comes in by the link. As it is stored: `None`.
    Join {
        /// The link's.
        secret: Option<InviteSecret>,
    },
    /// What is written from then on disappears after so many seconds; 0: nothing does. Of 1:1 chats too.
    SetTimer(u32),
}

const CREATE: u8 = 1;
const ADD: u8 = 2;
const REMOVE: u8 = 3;
const LEAVE: u8 = 4;
const SET_ROLE: u8 = 5;
const SET_LOOK: u8 = 6;
const SET_INVITE: u8 = 7;
const JOIN: u8 = 8;
const SET_TIMER: u8 = 9;

impl GroupChange {
    /// Whether it can be asked for: lists ascend and are not too long, nor are name and picture.
    pub fn is_valid(&self) -> bool {
        let fits = |field: &Bytes, bytes_max| field.len() <= bytes_max;
        match self {
            Self::Create { look, members } => {
                fits(&look.name, GROUP_NAME_BYTES_MAX)
                    && fits(&look.picture, GROUP_PICTURE_BYTES_MAX)
                    && members.len() < GROUP_MEMBERS_MAX
                    && codec::ascends(members)
            }
            Self::Add(users) => !users.is_empty() && users.len() <= GROUP_MEMBERS_MAX && codec::ascends(users),
            Self::Remove(users) => !users.is_empty() && users.len() <= GROUP_REMOVED_MAX && codec::ascends(users),
            Self::Leave { owner } => owner.is_none(),
            Self::SetRole { .. } => true,
            Self::SetLook(look) => {
                look.name.as_ref().is_none_or(|name| fits(name, GROUP_NAME_BYTES_MAX))
                    && look.picture.as_ref().is_none_or(|picture| fits(picture, GROUP_PICTURE_BYTES_MAX))
                    && *look != LookChange::default()
            }
            Self::SetInvite(invite) => invite.is_none_or(|invite| invite.secret.is_some()),
            Self::Join { secret } => secret.is_some(),
            Self::SetTimer(timer_s) => *timer_s <= TIMER_S_MAX,
        }
    }

    /// Who becomes a member by it.
    pub fn newcomers(&self) -> &[UserId] {
        match self {
            Self::Create { members, .. } | Self::Add(members) => members,
            Self::Remove(_)
            | Self::Leave { .. }
            | Self::SetRole { .. }
            | Self::SetLook(_)
            | Self::SetInvite(_)
            | Self::Join { .. }
            | Self::SetTimer(_) => &[],
        }
    }

    /// As it is stored and told.
    pub(super) fn without_secret(mut self) -> Self {
        match &mut self {
            Self::SetInvite(Some(Invite { secret, .. })) | Self::Join { secret } => *secret = None,
            _ => {}
        }
        self
    }

    /// Reads what [`Self::encode`] wrote: the body of a message of kind [`MessageKind::Change`].
    ///
    /// # Errors
    /// `Malformed`.
    pub fn decode(bytes: Bytes) -> Result<Self> {
        let mut take = Take::new(bytes, "group change");
        let change = Self::take(&mut take)?;
        take.finish()?;
        Ok(change)
    }

    /// Reads the change that a stored message is; `None` where it is another message.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn of(message: &StoredMessage) -> Result<Option<Self>> {
        match message.kind {
            MessageKind::Client | MessageKind::Timed => Ok(None),
            MessageKind::Change => Self::decode(message.body.clone()).map(Some),
        }
    }

    /// The bytes of it.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.encoded_bytes_max());
        self.put(&mut out);
        out.into()
    }

    pub(in crate::partition) fn encoded_bytes_max(&self) -> usize {
        match self {
            Self::Create { look, members } => 32 + look.name.len() + look.picture.len() + 16 * members.len(),
            Self::Add(users) | Self::Remove(users) => 8 + 16 * users.len(),
            Self::Leave { .. } | Self::SetRole { .. } | Self::SetInvite(_) | Self::Join { .. } => 32,
            Self::SetTimer(_) => 8,
            Self::SetLook(look) => {
                16 + [&look.name, &look.picture].into_iter().flatten().map(Bytes::len).sum::<usize>()
            }
        }
    }

    pub(in crate::partition) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Create { look, members } => {
                out.put_u8(CREATE);
                put_look(look, out);
                out.put_users(members);
            }
            Self::Add(users) => {
                out.put_u8(ADD);
                out.put_users(users);
            }
            Self::Remove(users) => {
                out.put_u8(REMOVE);
                out.put_users(users);
            }
            Self::Leave { owner } => {
                out.put_u8(LEAVE);
                out.put_u8(u8::from(owner.is_some()));
                owner.iter().for_each(|owner| out.put_user(*owner));
            }
            Self::SetRole { user, role } => {
                out.put_u8(SET_ROLE);
                out.put_user(*user);
                out.put_u8(role_number(*role));
            }
            Self::SetLook(LookChange { name, picture, announcements }) => {
                out.put_u8(SET_LOOK);
                let has = [name.is_some(), picture.is_some(), announcements.is_some()];
                out.put_u8(has.iter().rev().fold(0, |bits, has| bits << 1 | u8::from(*has)));
                [name, picture].into_iter().flatten().for_each(|field| out.put_bytes(field));
                announcements.iter().for_each(|only| out.put_u8(u8::from(*only)));
            }
            Self::SetInvite(invite) => {
                out.put_u8(SET_INVITE);
                out.put_u8(u8::from(invite.is_some()));
                if let Some(Invite { secret, expires_ms }) = invite {
                    put_secret(*secret, out);
                    out.put_u64(*expires_ms);
                }
            }
            Self::Join { secret } => {
                out.put_u8(JOIN);
                put_secret(*secret, out);
            }
            Self::SetTimer(timer_s) => {
                out.put_u8(SET_TIMER);
                out.put_u32(*timer_s);
            }
        }
    }

    pub(in crate::partition) fn take(take: &mut Take) -> Result<Self> {
        Ok(match take.take_u8()? {
            CREATE => Self::Create { look: take_look(take)?, members: take.take_users()? },
            ADD => Self::Add(take.take_users()?),
            REMOVE => Self::Remove(take.take_users()?),
            LEAVE => Self::Leave { owner: if take.take_bool()? { Some(take.take_user()?) } else { None } },
            SET_ROLE => {
                let (user, number) = (take.take_user()?, take.take_u8()?);
                Self::SetRole { user, role: role_of(number, take)? }
            }
            SET_LOOK => {
                let has = take.take_u8()?;
                if has > 7 {
                    return Err(take.malformed("which fields it has is unknown"));
                }
                Self::SetLook(LookChange {
                    name: if has & 1 != 0 { Some(take.take_bytes()?) } else { None },
                    picture: if has & 2 != 0 { Some(take.take_bytes()?) } else { None },
                    announcements: if has & 4 != 0 { Some(take.take_bool()?) } else { None },
                })
            }
            SET_INVITE if take.take_bool()? => {
                Self::SetInvite(Some(Invite { secret: take_secret(take)?, expires_ms: take.take_u64()? }))
            }
            SET_INVITE => Self::SetInvite(None),
            JOIN => Self::Join { secret: take_secret(take)? },
            SET_TIMER => Self::SetTimer(take.take_u32()?),
            _ => return Err(take.malformed("its kind is unknown")),
        })
    }
}

fn put_secret(secret: Option<InviteSecret>, out: &mut Vec<u8>) {
    out.put_u8(u8::from(secret.is_some()));
    secret.iter().for_each(|secret| out.extend_from_slice(secret.as_bytes()));
}

fn take_secret(take: &mut Take) -> Result<Option<InviteSecret>> {
    Ok(if take.take_bool()? { Some(take.take_invite_secret()?) } else { None })
}

fn put_look(look: &Look, out: &mut Vec<u8>) {
    out.put_bytes(&look.name);
    out.put_bytes(&look.picture);
    out.put_u8(u8::from(look.announcements));
}

fn take_look(take: &mut Take) -> Result<Look> {
    Ok(Look { name: take.take_bytes()?, picture: take.take_bytes()?, announcements: take.take_bool()? })
}
