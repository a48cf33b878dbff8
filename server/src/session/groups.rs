//! Changes of groups, and what a chat is: from frames, and to them.

use bytes::Bytes;
use columba_engine::partition::{
    chat::ChatView,
    effect::StoredMessage,
    group::{GroupChange, Invitation, Invite, Look, LookChange, Role},
};
use columba_wire::{
    ChatId, Code, InviteSecret, UserId,
    limits::{GROUP_MEMBERS_MAX, GROUP_REMOVED_MAX},
    v1::{self, group_change::Kind},
};

use crate::core::{id_bytes, message::Ask};

/// A change that a device of this user asks for.
pub(super) fn parse_change(me: UserId, change: v1::GroupChange) -> Result<GroupChange, Code> {
    let change = match change.kind.ok_or(Code::InvalidArgument)? {
        Kind::Create(v1::CreateGroup { name, picture, announcements, user_ids }) => {
            let mut members = parse_members(&user_ids)?;
            members.retain(|user| *user != me);
            if members.len() >= GROUP_MEMBERS_MAX {
                return Err(Code::TooMany);
            }
            GroupChange::Create { look: Look { name, picture, announcements }, members }
        }
        Kind::Add(add) => GroupChange::Add(parse_members(&add.user_ids)?),
        Kind::Remove(remove) if remove.user_ids.len() > GROUP_REMOVED_MAX => return Err(Code::InvalidArgument),
        Kind::Remove(remove) => GroupChange::Remove(parse_members(&remove.user_ids)?),
        Kind::Leave(v1::LeaveGroup { owner_id }) if owner_id.is_empty() => GroupChange::Leave { owner: None },
        Kind::Leave(_) => return Err(Code::InvalidArgument),
        Kind::SetRole(v1::SetRole { user_id, role }) => {
            let role = v1::Role::try_from(role).map_err(|_| Code::InvalidArgument)?;
            GroupChange::SetRole { user: parse_user(&user_id)?, role: role.into() }
        }
        Kind::SetLook(v1::SetLook { name, picture, announcements }) => {
            GroupChange::SetLook(LookChange { name, picture, announcements })
        }
        Kind::SetInvite(v1::SetInvite { secret, expires_ms: 0, ended: true }) if secret.is_empty() => {
            GroupChange::SetInvite(None)
        }
        Kind::SetInvite(v1::SetInvite { secret, expires_ms, ended: false }) => {
            GroupChange::SetInvite(Some(Invite { secret: Some(parse_secret(&secret)?), expires_ms }))
        }
        Kind::SetInvite(_) => return Err(Code::InvalidArgument),
        Kind::SetTimer(set) => GroupChange::SetTimer(set.timer_s),
        Kind::Join(join) => GroupChange::Join { secret: Some(parse_secret(&join.secret)?) },
    };
    if change.is_valid() { Ok(change) } else { Err(Code::InvalidArgument) }
}

fn parse_secret(secret: &[u8]) -> Result<InviteSecret, Code> {
    InviteSecret::try_from(secret).map_err(|_| Code::InvalidArgument)
}

/// Asks which group a link leads to.
pub(super) fn get_invite(get: &v1::GetInvite) -> Result<Ask, Code> {
    let chat = super::parse_chat(&get.chat_id)?;
    Ok(Ask::Invite { chat, secret: parse_secret(&get.secret)? })
}

pub(super) fn parse_user(id: &[u8]) -> Result<UserId, Code> {
    UserId::try_from(id).map_err(|_| Code::InvalidArgument)
}

fn parse_members(ids: &[Bytes]) -> Result<Vec<UserId>, Code> {
    if ids.len() > GROUP_MEMBERS_MAX { Err(Code::TooMany) } else { parse_users(ids) }
}

/// Ascending, each once.
pub(super) fn parse_users(ids: &[Bytes]) -> Result<Vec<UserId>, Code> {
    let mut users = ids.iter().map(|id| parse_user(id)).collect::<Result<Vec<_>, _>>()?;
    users.sort_unstable();
    users.dedup();
    Ok(users)
}

/// The change that a stored message is, if it is one.
pub(crate) fn change_of(message: &StoredMessage) -> Option<v1::GroupChange> {
    let change =
        GroupChange::of(message).inspect_err(|error| tracing::error!(%error, "a change that is none")).ok()??;
    Some(v1::GroupChange { kind: Some(change_kind(change)) })
}

fn change_kind(change: GroupChange) -> Kind {
    match change {
        GroupChange::Create { look, members } => {
            let Look { name, picture, announcements } = look;
            Kind::Create(v1::CreateGroup { name, picture, announcements, user_ids: users(&members) })
        }
        GroupChange::Add(members) => Kind::Add(v1::AddMembers { user_ids: users(&members) }),
        GroupChange::Remove(members) => Kind::Remove(v1::RemoveMembers { user_ids: users(&members) }),
        GroupChange::Leave { owner } => {
            let owner_id = owner.map(|owner| id_bytes(owner.as_bytes())).unwrap_or_default();
            Kind::Leave(v1::LeaveGroup { owner_id })
        }
        GroupChange::SetRole { user, role } => {
            Kind::SetRole(v1::SetRole { user_id: id_bytes(user.as_bytes()), role: v1::Role::from(role).into() })
        }
        GroupChange::SetLook(LookChange { name, picture, announcements }) => {
            Kind::SetLook(v1::SetLook { name, picture, announcements })
        }
        GroupChange::SetInvite(invite) => Kind::SetInvite(v1::SetInvite {
            secret: Bytes::new(),
            expires_ms: invite.map_or(0, |invite| invite.expires_ms),
            ended: invite.is_none(),
        }),
        GroupChange::Join { .. } => Kind::Join(v1::JoinGroup::default()),
        GroupChange::SetTimer(timer_s) => Kind::SetTimer(v1::SetTimer { timer_s }),
    }
}

fn users(users: &[UserId]) -> Vec<Bytes> {
    users.iter().map(|user| id_bytes(user.as_bytes())).collect()
}

/// A chat as one of its members sees it.
pub(crate) fn chat_frame(chat: ChatId, view: &ChatView) -> v1::Chat {
    let member = |user: UserId, role, from: u64| v1::ChatMember {
        user_id: id_bytes(user.as_bytes()),
        role: v1::Role::from(role).into(),
        from_seq: from,
    };
    let (group, members) = match &view.group {
        None => (None, view.members.iter().map(|(user, _)| member(*user, Role::Member, 1)).collect()),
        Some((look, seats)) => {
            let Look { name, picture, announcements } = look.clone();
            let seats = seats.iter().filter(|seat| seat.is_member());
            let members = seats.map(|seat| member(seat.user, seat.role, seat.from.get())).collect();
            let secret = view.invite.and_then(|invite| invite.secret);
            let invite_secret = secret.map(|secret| id_bytes(secret.as_bytes())).unwrap_or_default();
            let invite_expires_ms = view.invite.map_or(0, |invite| invite.expires_ms);
            (Some(v1::Group { name, picture, announcements, invite_secret, invite_expires_ms }), members)
        }
    };
    v1::Chat {
        chat_id: id_bytes(chat.as_bytes()),
        first_seq: view.from.get(),
        last_seq: view.chat.last_seq.get(),
        group,
        members,
        timer_s: view.chat.timer_s,
    }
}

/// A group as the holder of a link sees it.
pub(crate) fn invite_frame(chat: ChatId, invitation: Invitation) -> v1::Invite {
    let Invitation { look: Look { name, picture, announcements }, members, expires_ms } = invitation;
    let members = u32::try_from(members).expect("bounded");
    v1::Invite { chat_id: id_bytes(chat.as_bytes()), name, picture, announcements, members, expires_ms }
}
