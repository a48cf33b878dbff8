//! Signals: what is told at once or not at all, and kept nowhere.

use bytes::Bytes;
use columba_wire::{ChatId, DeviceId, UserId, v1};
use prost::Message as _;

use super::Recipient;
use crate::session::id_bytes;

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalTo {
    /// The other one of a 1:1 chat, or the members of a group of up to 99. Oneself: one's own other devices.
    Chat(Recipient),
    /// One device of the other one of a 1:1 chat, or of oneself.
    Device(UserId, DeviceId),
    /// One member of a group, however large.
    Member {
        /// The group.
        group: ChatId,
        /// Who.
        user: UserId,
        /// Only this device.
        device: Option<DeviceId>,
    },
}

impl From<Recipient> for SignalTo {
    fn from(to: Recipient) -> Self {
        Self::Chat(to)
    }
}

impl From<UserId> for SignalTo {
    fn from(user: UserId) -> Self {
        Self::Chat(user.into())
    }
}

impl SignalTo {
    /// The frame that sends this body.
    pub(crate) fn to_frame(self, body: Bytes) -> v1::SendSignal {
        let to_user = |user: UserId| id_bytes(user.as_bytes());
        let mut frame = v1::SendSignal { body, ..v1::SendSignal::default() };
        match self {
            Self::Chat(Recipient::User(user)) => frame.to_user = to_user(user),
            Self::Chat(Recipient::Group(group)) => frame.chat_id = id_bytes(group.as_bytes()),
            Self::Device(user, device) => {
                frame.to_user = to_user(user);
                frame.device_id = device.get();
            }
            Self::Member { group, user, device } => {
                frame.to_user = to_user(user);
                frame.chat_id = id_bytes(group.as_bytes());
                frame.device_id = device.map_or(0, DeviceId::get);
            }
        }
        frame
    }
}

/// A signal of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// The chat that it belongs to.
    pub chat: ChatId,
    /// Who has sent it.
    pub sender: UserId,
    /// On which device: an answer goes there.
    pub device: DeviceId,
    /// What it says.
    pub body: SignalBody,
}

impl Signal {
    /// Out of a frame; `None` where an id in it is none. Its body is `None` where this version does not know it.
    pub(crate) fn parse(frame: v1::Signal) -> Option<(ChatId, UserId, DeviceId, Option<SignalBody>)> {
        let chat = ChatId::try_from(&frame.chat_id[..]).ok()?;
        let sender = UserId::try_from(&frame.sender_user[..]).ok()?;
        let device = DeviceId::new(frame.sender_device).ok()?;
        Some((chat, sender, device, SignalBody::parse(frame.body)))
    }
}

/// What a signal says: what clients have agreed on. The server never looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalBody {
    /// Whether somebody is writing. Sent by [`crate::Client::set_typing`], and told by [`crate::Event::Typing`].
    Typing {
        /// From now on, or no more.
        on: bool,
    },
    /// A step of a call.
    Call(Call),
}

impl SignalBody {
    /// As a frame has it.
    pub(crate) fn to_bytes(&self) -> Bytes {
        use v1::signal_body::Kind;
        let kind = match self {
            Self::Typing { on } => Kind::Typing(v1::Typing { on: *on }),
            Self::Call(Call { id, step, payload }) => Kind::Call(v1::Call {
                call_id: id_bytes(id.as_bytes()),
                step: step.to_frame().into(),
                payload: payload.clone(),
            }),
        };
        v1::SignalBody { kind: Some(kind) }.encode_to_vec().into()
    }

    /// `None` where this version does not know it, or it is none: whoever has sent it may say anything.
    fn parse(body: Bytes) -> Option<Self> {
        use v1::signal_body::Kind;
        match v1::SignalBody::decode(body).ok()?.kind? {
            Kind::Typing(v1::Typing { on }) => Some(Self::Typing { on }),
            Kind::Call(v1::Call { call_id, step, payload }) => {
                let id = CallId::from_bytes(call_id[..].try_into().ok()?);
                Some(Self::Call(Call { id, step: CallStep::parse(step)?, payload }))
            }
        }
    }
}

/// Which call: chosen at random by who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId([u8; 16]);

impl CallId {
    /// Of these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// A step of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The same in all steps of the call.
    pub id: CallId,
    /// Which.
    pub step: CallStep,
    /// What it brings: a session description, a candidate; empty in others.
    pub payload: Bytes,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStep {
    /// Somebody calls.
    Offer,
    /// The call is taken.
    Answer,
    /// A way to reach one side.
    Candidate,
    /// It is over, or not taken.
    Hangup,
    /// The other side rings.
    Ringing,
    /// The other side is in another call.
    Busy,
}

impl CallStep {
    fn to_frame(self) -> v1::CallStep {
        match self {
            Self::Offer => v1::CallStep::Offer,
            Self::Answer => v1::CallStep::Answer,
            Self::Candidate => v1::CallStep::Candidate,
            Self::Hangup => v1::CallStep::Hangup,
            Self::Ringing => v1::CallStep::Ringing,
            Self::Busy => v1::CallStep::Busy,
        }
    }

    fn parse(number: i32) -> Option<Self> {
        match v1::CallStep::try_from(number).ok()? {
            v1::CallStep::Unknown => None,
            v1::CallStep::Offer => Some(Self::Offer),
            v1::CallStep::Answer => Some(Self::Answer),
            v1::CallStep::Candidate => Some(Self::Candidate),
            v1::CallStep::Hangup => Some(Self::Hangup),
            v1::CallStep::Ringing => Some(Self::Ringing),
            v1::CallStep::Busy => Some(Self::Busy),
        }
    }
}
