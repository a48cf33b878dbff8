//! Groups: whom a message is for, what changes a group, and what a chat is.

use bytes::Bytes;
use columba_wire::{ChatId, InviteSecret, MessageSeq, Role, UserId, v1};

use crate::session::id_bytes;

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// The other one of a 1:1 chat.
    User(UserId),
    /// The members of a group.
    Group(ChatId),
}

impl From<UserId> for Recipient {
    fn from(user: UserId) -> Self {
        Self::User(user)
    }
}

impl Recipient {
    /// The chat of this recipient, for a user.
    pub(crate) fn chat(self, me: UserId) -> ChatId {
        match self {
            Self::User(user) => ChatId::direct(me, user),
            Self::Group(group) => group,
        }
    }
}

/// What a group is called, and how it looks. All of it is public to its members and to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupLook {
    /// Its name, at most 256 bytes.
    pub name: Bytes,
    /// A reference to a picture, at most 512 bytes.
    pub picture: Bytes,
    /// Whether only admins and the owner may write.
    pub announcements: bool,
}

/// A link by which users come into a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invite {
    /// What lets its holder in.
    pub secret: InviteSecret,
    /// When it ends, milliseconds since 1970; `None`: never.
    pub expires_ms: Option<u64>,
}

impl Invite {
    fn parse(secret: &[u8], expires_ms: u64) -> Option<Self> {
        Some(Self { secret: secret.try_into().ok()?, expires_ms: end(expires_ms) })
    }
}

/// When a link ends, as a frame says it.
fn end(expires_ms: u64) -> Option<u64> {
    Some(expires_ms).filter(|at| *at != 0)
}

/// A group, as the holder of a link sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Which.
    pub chat: ChatId,
    /// Its look.
    pub look: GroupLook,
    /// How many are in it.
    pub members: u32,
    /// When the link ends, milliseconds since 1970; `None`: never.
    pub expires_ms: Option<u64>,
}

impl Invitation {
    pub(crate) fn parse(invite: v1::Invite) -> Option<Self> {
        let v1::Invite { chat_id, name, picture, announcements, members, expires_ms } = invite;
        let look = GroupLook { name, picture, announcements };
        Some(Self { chat: ChatId::try_from(&chat_id[..]).ok()?, look, members, expires_ms: end(expires_ms) })
    }
}

/// A change of a group. It is a message of the chat: it holds from its place on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupChange {
    /// A group begins.
    Create {
        /// Its look.
        look: GroupLook,
        /// The members beside the one who makes and owns it; at most 1,023.
        members: Vec<UserId>,
    },
    /// Users become members.
    Add(Vec<UserId>),
    /// Members are put out.
    Remove(Vec<UserId>),
    /// Who sends it leaves.
    Leave {
        /// As it is told: who owns the group now, where the owner has left.
        owner: Option<UserId>,
    },
    /// A member gets a role. An owner that names another one is an admin from then on.
    SetRole {
        /// Who.
        user: UserId,
        /// Its role.
        role: Role,
    },
    /// The group looks different; `None` stays as it is.
    SetLook {
        /// Its name.
        name: Option<Bytes>,
        /// A reference to a picture.
        picture: Option<Bytes>,
        /// Whether only admins and the owner may write.
        announcements: Option<bool>,
    },
    /// The group has a link, which ends one that was there before. As it is told to others: without the secret.
    SetInvite {
        /// What lets its holder in.
        secret: Option<InviteSecret>,
        /// When it ends, milliseconds since 1970; `None`: never.
        expires_ms: Option<u64>,
    },
    /// The group has no link any more.
    EndInvite,
    /// Who sends it comes in, by the link. As it is told: without the secret.
    Join {
        /// The link's.
        secret: Option<InviteSecret>,
    },
    /// What is written from then on disappears. Of 1:1 chats too.
    SetTimer {
        /// Seconds, at most a year; 0: nothing disappears.
        timer_s: u32,
    },
    /// One that this version does not know.
    Unknown,
}

impl GroupChange {
    /// Whether it lets this user in, or is the begin of a group; `by` has sent it.
    pub(crate) fn begins_for(&self, user: UserId, by: UserId) -> bool {
        match self {
            Self::Create { .. } => true,
            Self::Add(users) => users.contains(&user),
            Self::Join { .. } => user == by,
            _ => false,
        }
    }

    /// As a frame has it.
    pub(crate) fn to_frame(&self) -> v1::GroupChange {
        use v1::group_change::Kind;
        let kind = match self {
            Self::Create { look, members } => {
                let GroupLook { name, picture, announcements } = look.clone();
                Some(Kind::Create(v1::CreateGroup { name, picture, announcements, user_ids: ids(members) }))
            }
            Self::Add(members) => Some(Kind::Add(v1::AddMembers { user_ids: ids(members) })),
            Self::Remove(members) => Some(Kind::Remove(v1::RemoveMembers { user_ids: ids(members) })),
            Self::Leave { owner } => {
                let owner_id = owner.map(|owner| id_bytes(owner.as_bytes())).unwrap_or_default();
                Some(Kind::Leave(v1::LeaveGroup { owner_id }))
            }
            Self::SetRole { user, role } => {
                let role = v1::Role::from(*role).into();
                Some(Kind::SetRole(v1::SetRole { user_id: id_bytes(user.as_bytes()), role }))
            }
            Self::SetLook { name, picture, announcements } => Some(Kind::SetLook(v1::SetLook {
                name: name.clone(),
                picture: picture.clone(),
                announcements: *announcements,
            })),
            Self::SetInvite { secret, expires_ms } => Some(Kind::SetInvite(v1::SetInvite {
                secret: secret_bytes(*secret),
                expires_ms: expires_ms.unwrap_or(0),
                ended: false,
            })),
            Self::EndInvite => Some(Kind::SetInvite(v1::SetInvite { ended: true, ..v1::SetInvite::default() })),
            Self::Join { secret } => Some(Kind::Join(v1::JoinGroup { secret: secret_bytes(*secret) })),
            Self::SetTimer { timer_s } => Some(Kind::SetTimer(v1::SetTimer { timer_s: *timer_s })),
            Self::Unknown => None,
        };
        v1::GroupChange { kind }
    }

    /// Out of a frame; `None` where an id in it is none.
    pub(crate) fn parse(change: v1::GroupChange) -> Option<Self> {
        use v1::group_change::Kind;
        Some(match change.kind {
            None => Self::Unknown,
            Some(Kind::Create(v1::CreateGroup { name, picture, announcements, user_ids })) => {
                Self::Create { look: GroupLook { name, picture, announcements }, members: users(&user_ids)? }
            }
            Some(Kind::Add(add)) => Self::Add(users(&add.user_ids)?),
            Some(Kind::Remove(remove)) => Self::Remove(users(&remove.user_ids)?),
            Some(Kind::Leave(leave)) if leave.owner_id.is_empty() => Self::Leave { owner: None },
            Some(Kind::Leave(leave)) => Self::Leave { owner: Some(UserId::try_from(&leave.owner_id[..]).ok()?) },
            Some(Kind::SetRole(set)) => {
                Self::SetRole { user: UserId::try_from(&set.user_id[..]).ok()?, role: parse_role(set.role) }
            }
            Some(Kind::SetLook(v1::SetLook { name, picture, announcements })) => {
                Self::SetLook { name, picture, announcements }
            }
            Some(Kind::SetInvite(v1::SetInvite { ended: true, .. })) => Self::EndInvite,
            Some(Kind::SetInvite(v1::SetInvite { secret, expires_ms, .. })) => {
                Self::SetInvite { secret: parse_secret(&secret)?, expires_ms: end(expires_ms) }
            }
            Some(Kind::SetTimer(v1::SetTimer { timer_s })) => Self::SetTimer { timer_s },
            Some(Kind::Join(join)) => Self::Join { secret: parse_secret(&join.secret)? },
        })
    }
}

fn secret_bytes(secret: Option<InviteSecret>) -> Bytes {
    secret.map(|secret| id_bytes(secret.as_bytes())).unwrap_or_default()
}

/// Absent where it is empty; `None` where it is none.
fn parse_secret(bytes: &[u8]) -> Option<Option<InviteSecret>> {
    if bytes.is_empty() { Some(None) } else { bytes.try_into().ok().map(Some) }
}

/// A member of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatMember {
    /// Who.
    pub user: UserId,
    /// What it may do; in a 1:1 chat [`Role::Member`].
    pub role: Role,
    /// The message that let it in.
    pub from: MessageSeq,
}

/// What a chat is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatInfo {
    /// Which.
    pub chat: ChatId,
    /// The first message that is for this user.
    pub first: MessageSeq,
    /// The newest message.
    pub last: MessageSeq,
    /// `None` for a 1:1 chat.
    pub group: Option<GroupLook>,
    /// The link of a group, for its admins and its owner.
    pub invite: Option<Invite>,
    /// Everybody who is in it.
    pub members: Vec<ChatMember>,
    /// Seconds after which what is written now disappears; 0: never.
    pub timer_s: u32,
}

impl ChatInfo {
    /// Out of a frame; `None` where an id in it is none.
    pub(crate) fn parse(chat: v1::Chat) -> Option<Self> {
        let member = |member: &v1::ChatMember| {
            Some(ChatMember {
                user: UserId::try_from(&member.user_id[..]).ok()?,
                role: parse_role(member.role),
                from: MessageSeq::new(member.from_seq),
            })
        };
        Some(Self {
            chat: ChatId::try_from(&chat.chat_id[..]).ok()?,
            first: MessageSeq::new(chat.first_seq),
            last: MessageSeq::new(chat.last_seq),
            invite: match &chat.group {
                Some(group) if !group.invite_secret.is_empty() => {
                    Some(Invite::parse(&group.invite_secret, group.invite_expires_ms)?)
                }
                Some(_) | None => None,
            },
            group: chat.group.map(|v1::Group { name, picture, announcements, .. }| GroupLook {
                name,
                picture,
                announcements,
            }),
            timer_s: chat.timer_s,
            members: chat.members.iter().map(member).collect::<Option<_>>()?,
        })
    }
}

/// A role of a newer server may do no more than a member, as far as this one knows.
fn parse_role(role: i32) -> Role {
    v1::Role::try_from(role).map_or(Role::Member, Role::from)
}

fn ids(users: &[UserId]) -> Vec<Bytes> {
    users.iter().map(|user| id_bytes(user.as_bytes())).collect()
}

fn users(ids: &[Bytes]) -> Option<Vec<UserId>> {
    ids.iter().map(|id| UserId::try_from(&id[..]).ok()).collect()
}

/// Chats that the user is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatPage {
    /// Each with the message that let the user in; ascending.
    pub chats: Vec<(ChatId, MessageSeq)>,
    /// Whether there are none above the last one.
    pub complete: bool,
}

impl ChatPage {
    pub(crate) fn parse(chats: v1::Chats) -> Option<Self> {
        let entry =
            |entry: v1::ChatEntry| Some((ChatId::try_from(&entry.chat_id[..]).ok()?, MessageSeq::new(entry.from_seq)));
        let complete = chats.complete;
        Some(Self { chats: chats.chats.into_iter().map(entry).collect::<Option<_>>()?, complete })
    }
}
