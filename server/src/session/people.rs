//! Requests about people: checked here, answered by the core of the user.

use columba_engine::partition::{profile::ProfileChange, roster::RosterChange};
use columba_wire::{
    Code, DeviceAddress, PrivacyChange,
    limits::{CHATS_PAGE_MAX, CONTACTS_MAX, PROFILE_FIELD_BYTES_MAX},
    v1,
};

use super::{
    groups::{parse_user, parse_users},
    parse_chat,
};
use crate::core::message::{Ask, PeopleAsk};

pub(super) fn get_user(request: &v1::GetUser) -> Result<Ask, Code> {
    Ok(Ask::People(parse_user(&request.user_id)?, PeopleAsk::User))
}

pub(super) fn get_account(me: DeviceAddress) -> Ask {
    Ask::People(me.user, PeopleAsk::Account)
}

pub(super) fn set_profile(me: DeviceAddress, request: v1::SetProfile) -> Result<Ask, Code> {
    let v1::SetProfile { name, about, picture } = request;
    if [&name, &about, &picture].into_iter().flatten().any(|field| field.len() > PROFILE_FIELD_BYTES_MAX) {
        return Err(Code::InvalidArgument);
    }
    Ok(Ask::People(me.user, PeopleAsk::SetProfile(me, ProfileChange { name, about, picture })))
}

pub(super) fn set_privacy(me: DeviceAddress, request: v1::SetPrivacy) -> Result<Ask, Code> {
    let change = PrivacyChange::from_frame(request).ok_or(Code::InvalidArgument)?;
    Ok(change_roster(me, RosterChange::Privacy(change)))
}

pub(super) fn set_contacts(me: DeviceAddress, request: &v1::SetContacts) -> Result<Ask, Code> {
    let users = |ids: &[bytes::Bytes]| {
        if ids.len() > CONTACTS_MAX { Err(Code::TooMany) } else { parse_users(ids) }
    };
    let (add, remove) = (users(&request.add)?, users(&request.remove)?);
    Ok(change_roster(me, RosterChange::Contacts { add, remove }))
}

pub(super) fn set_blocked(me: DeviceAddress, request: &v1::SetBlocked) -> Result<Ask, Code> {
    let user = parse_user(&request.user_id)?;
    Ok(change_roster(me, RosterChange::Block { user, blocked: request.blocked }))
}

fn change_roster(me: DeviceAddress, change: RosterChange) -> Ask {
    Ask::People(me.user, PeopleAsk::ChangeRoster(me, change))
}

pub(super) fn get_contacts(me: DeviceAddress) -> Ask {
    Ask::People(me.user, PeopleAsk::Contacts)
}

pub(super) fn get_chats(me: DeviceAddress, request: &v1::GetChats) -> Result<Ask, Code> {
    if request.limit == 0 || request.limit > CHATS_PAGE_MAX {
        return Err(Code::InvalidArgument);
    }
    let after = if request.after_chat_id.is_empty() { None } else { Some(parse_chat(&request.after_chat_id)?) };
    Ok(Ask::People(me.user, PeopleAsk::Chats { after, limit: request.limit }))
}

pub(super) fn delete_account(me: DeviceAddress, request: v1::DeleteAccount) -> Result<Ask, Code> {
    if !columba_wire::ids::handle_is_valid(&request.handle) {
        return Err(Code::InvalidArgument);
    }
    Ok(Ask::People(me.user, PeopleAsk::Delete(request.handle)))
}
