//! Signals: checked here, passed on by the core of the chat.

use columba_wire::{ChatId, Code, DeviceAddress, DeviceId, limits::SIGNAL_BYTES_MAX, v1};

use super::{groups::parse_user, parse_chat};
use crate::core::message::{Ask, Signal, SignalTo};

pub(super) fn send_signal(me: DeviceAddress, send: v1::SendSignal) -> Result<Ask, Code> {
    let v1::SendSignal { to_user, chat_id, device_id, body } = send;
    if body.len() > SIGNAL_BYTES_MAX {
        return Err(Code::BodyTooLarge);
    }
    if body.is_empty() {
        return Err(Code::InvalidArgument);
    }
    let device = match device_id {
        0 => None,
        device => Some(DeviceId::new(device).map_err(|_| Code::InvalidArgument)?),
    };
    let (chat, to) = match (&to_user[..], &chat_id[..]) {
        ([], chat) if device.is_none() => (parse_chat(chat)?, SignalTo::Members),
        ([], _) => return Err(Code::InvalidArgument),
        (user, []) => {
            let user = parse_user(user)?;
            (ChatId::direct(me.user, user), SignalTo::Peer(user))
        }
        (user, chat) => (parse_chat(chat)?, SignalTo::Member(parse_user(user)?)),
    };
    Ok(Ask::Signal(Signal { sender: me, chat, to, device, body }))
}
