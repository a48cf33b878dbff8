//! Requests about people: checked here, answered by the core of the user.

use columba_engine::partition::profile::ProfileChange;
use columba_wire::{Code, DeviceAddress, UserId, limits::PROFILE_FIELD_BYTES_MAX, v1};

use crate::core::message::{Ask, PeopleAsk};

pub(super) fn get_user(request: &v1::GetUser) -> Result<Ask, Code> {
    let user = UserId::try_from(&request.user_id[..]).map_err(|_| Code::InvalidArgument)?;
    Ok(Ask::People(user, PeopleAsk::User))
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
