//! Signals: whom one is for, and which sessions get it. They are passed on at once, or lost; nothing here remembers
//! any.
//!
//! A signal goes from the session's core to the chat's, which knows the members, from there to the core of each of
//! them, and to the sessions there. It is in no proposal, and takes no part in receipts and inboxes.
//!
//! Invariants
//! - Who is no member is answered as for a chat that does not exist, whatever it asks for.
//! - One step passes a signal to fewer than [`SIGNAL_MEMBERS_MAX`] users.
//! - The sending device gets none of its own signals.

use columba_engine::partition::chat::{Members, Reach};
use columba_wire::{Code, DeviceAddress, DeviceId, UserId, limits::SIGNAL_MEMBERS_MAX, v1};

use super::HINTED_FROM_MEMBERS;
use crate::core::{
    id_bytes,
    message::{Signal, SignalTo},
};

const _: () = assert!(SIGNAL_MEMBERS_MAX < HINTED_FROM_MEMBERS, "a large group is not signalled as a whole");

impl Signal {
    /// Whether it is for the sender's own other devices, outside of any group: that needs no chat.
    pub(crate) fn is_for_oneself(&self) -> bool {
        self.to == SignalTo::Peer(self.sender.user)
    }

    /// Whom it is for, as `reach` says of its sender; `None`: the sender is no member.
    pub(crate) fn plan_users(&self, reach: Option<&Reach>) -> Result<Vec<UserId>, Code> {
        let reach = reach.ok_or(Code::UnknownChat)?;
        let is_group = matches!(reach.members, Members::Group(_));
        if is_group == matches!(self.to, SignalTo::Peer(_)) {
            return Err(Code::UnknownChat);
        }
        if reach.is_alone {
            return Err(Code::UnknownUser);
        }
        if !reach.may_write {
            return Err(Code::NotAllowed);
        }
        match self.to {
            SignalTo::Peer(user) => Ok(vec![user]),
            SignalTo::Member(user) if reach.members.users().any(|member| member == user) => Ok(vec![user]),
            SignalTo::Member(_) => Err(Code::UnknownUser),
            SignalTo::Members if reach.members.users().count() > SIGNAL_MEMBERS_MAX => Err(Code::TooMany),
            SignalTo::Members => Ok(reach.members.users().filter(|member| *member != self.sender.user).collect()),
        }
    }

    /// Whether a device gets it, whose user it is for.
    pub(crate) fn is_for(&self, user: UserId, device: DeviceId) -> bool {
        self.device.is_none_or(|only| only == device) && self.sender != DeviceAddress { user, device }
    }

    /// As its recipients are told it.
    pub(crate) fn to_frame(&self) -> v1::Signal {
        v1::Signal {
            chat_id: id_bytes(self.chat.as_bytes()),
            sender_user: id_bytes(self.sender.user.as_bytes()),
            sender_device: self.sender.device.get(),
            body: self.body.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use columba_wire::ChatId;

    use super::*;

    const ADA: UserId = UserId::from_bytes([1; 16]);
    const BOB: UserId = UserId::from_bytes([2; 16]);

    fn signal(to: SignalTo) -> Signal {
        let sender = DeviceAddress { user: ADA, device: DeviceId::FIRST };
        Signal { sender, chat: ChatId::direct(ADA, BOB), to, device: None, body: Bytes::from_static(b"ring") }
    }

    #[test]
    fn a_chat_of_two_is_not_signalled_as_a_group() {
        let mut reach = Reach { members: Members::Direct([ADA, BOB]), may_write: true, is_alone: false };
        let users = |to, reach: Option<&Reach>| signal(to).plan_users(reach);
        assert_eq!(users(SignalTo::Peer(BOB), Some(&reach)), Ok(vec![BOB]));
        for to in [SignalTo::Members, SignalTo::Member(BOB)] {
            assert_eq!(users(to, Some(&reach)), Err(Code::UnknownChat));
        }
        reach.may_write = false;
        assert_eq!(users(SignalTo::Peer(BOB), Some(&reach)), Err(Code::NotAllowed));
        reach.is_alone = true;
        assert_eq!(users(SignalTo::Peer(BOB), Some(&reach)), Err(Code::UnknownUser));
        assert_eq!(users(SignalTo::Peer(BOB), None), Err(Code::UnknownChat));
    }

    #[test]
    fn the_sending_device_gets_none_of_its_own_signals() {
        let mut own = signal(SignalTo::Peer(ADA));
        let second = DeviceId::new(2).unwrap();
        assert!(own.is_for_oneself() && !own.is_for(ADA, DeviceId::FIRST) && own.is_for(ADA, second));
        own.device = Some(DeviceId::FIRST);
        assert!(!own.is_for(ADA, DeviceId::FIRST) && !own.is_for(ADA, second));
        assert!(signal(SignalTo::Peer(BOB)).is_for(BOB, DeviceId::FIRST), "the other one's first device is another");
    }
}
