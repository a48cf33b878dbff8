//! Requests about the user's devices, checked and turned into questions.

use columba_wire::{Code, DeviceId, UserId, limits::DEVICE_NAME_BYTES_MAX, link::LinkCode, v1};

use super::groups::parse_user;
use crate::core::message::{Ask, DevicesAsk, LinkAsk};

/// A link to be approved.
#[derive(Debug)]
pub(crate) struct Approval {
    pub(crate) user: UserId,
    pub(crate) code: LinkCode,
    pub(crate) key: [u8; 32],
    pub(crate) name: String,
}

pub(super) fn get_devices(me: UserId, get: &v1::GetDevices) -> Result<Ask, Code> {
    let user = if get.user_id.is_empty() { me } else { parse_user(&get.user_id)? };
    Ok(Ask::Devices(user, DevicesAsk::List { is_own: user == me }))
}

pub(super) fn get_link(link: &v1::GetLink) -> Result<Ask, Code> {
    Ok(Ask::Link(parse_code(&link.code)?, LinkAsk::Look))
}

pub(super) fn approve(user: UserId, approve: v1::ApproveLink) -> Result<Approval, Code> {
    let name = check_name(approve.name)?;
    let code = parse_code(&approve.code)?;
    let key = approve.device_key[..].try_into().map_err(|_| Code::LinkUnknown)?;
    Ok(Approval { user, code, key, name })
}

pub(super) fn rename(user: UserId, rename: v1::RenameDevice) -> Result<Ask, Code> {
    let (device, name) = (parse_device(rename.device_id)?, check_name(rename.name)?);
    Ok(Ask::Devices(user, DevicesAsk::Rename(device, name)))
}

pub(super) fn revoke(user: UserId, revoke: &v1::RevokeDevice) -> Result<Ask, Code> {
    Ok(Ask::Devices(user, DevicesAsk::Revoke(parse_device(revoke.device_id)?)))
}

/// What is no code is one that does not exist.
fn parse_code(text: &str) -> Result<LinkCode, Code> {
    text.parse().map_err(|_| Code::LinkUnknown)
}

fn parse_device(number: u32) -> Result<DeviceId, Code> {
    DeviceId::new(number).map_err(|_| Code::InvalidArgument)
}

fn check_name(name: String) -> Result<String, Code> {
    if name.len() > DEVICE_NAME_BYTES_MAX { Err(Code::InvalidArgument) } else { Ok(name) }
}
