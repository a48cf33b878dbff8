//! What cores say to each other. Everything here may cross a thread; a core says it to itself the same way.
//!
//! Hot paths (send, deliver, acknowledge, progress, push) are messages without an answer; everything else is an [`Ask`]
//! that some job awaits the [`Answer`] of.

mod directory;
mod signal;

use bytes::Bytes;
use columba_engine::{
    ids::CoreId,
    partition::{MessagePage, device::Device, effect::StoredMessage, group::GroupChange, receipt::Member},
};
use columba_wire::{
    ChatId, ClientSeq, Code, DeviceAddress, DeviceId, InviteSecret, MessageSeq, UserId,
    link::LinkCode,
    v1::{self, server_frame::Kind},
};

pub use self::{
    directory::{KeysAsk, PeopleAsk},
    signal::{Signal, SignalTo},
};
use super::links::Waiting;
use crate::rate::RetryAfterMs;

/// A session on its core. Never reused while the node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(crate) u64);

/// A session, from anywhere on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionRef {
    /// The core that has its connection.
    pub core: CoreId,
    /// The session there.
    pub session: SessionId,
}

/// A job that waits for an answer, on the core that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// A message between cores.
#[derive(Debug)]
pub enum CoreMessage {
    /// For the core of the chat's partition.
    Chat(ChatId, ChatMessage),
    /// For the core of the user's partition.
    User(UserId, UserMessage),
    /// For the core that has the session.
    Session(SessionId, SessionMessage),
    /// A question to the core that owns what it is about.
    Ask(CoreId, Ticket, Box<Ask>),
    /// The answer, to the core that asked.
    Answer(Ticket, Box<Answer>),
}

/// For a chat's host and its fan-out.
#[derive(Debug)]
pub enum ChatMessage {
    /// A message to store.
    Send(SendRequest),
    /// How far a member is.
    Progress {
        /// The member.
        user: UserId,
        /// Every device has it, or has it in its inbox, up to here.
        covered: MessageSeq,
        /// A device has acknowledged up to here.
        delivered: MessageSeq,
        /// Every device has acknowledged, or sent itself, up to here.
        everywhere: MessageSeq,
    },
    /// No inbox of the member's devices holds anything of the chat: all of them have what it is covered for. Behind the
    /// reports of what was covered until then, and before those of what was covered since.
    Settled {
        /// The member.
        user: UserId,
    },
    /// The member's host lacks what came before: deliver again from the cursor.
    Rewind {
        /// The member.
        user: UserId,
    },
}

/// A message to store.
#[derive(Debug)]
pub struct SendRequest {
    /// Whom to answer.
    pub from: SessionRef,
    /// The request's number.
    pub request_id: u64,
    /// The sending device.
    pub sender: DeviceAddress,
    /// The device's number for it.
    pub client_seq: ClientSeq,
    /// What it is.
    pub content: SendContent,
    /// Whether rates are limited for who sends it.
    pub limited: bool,
}

/// Why a send is refused.
#[derive(Clone, Copy, Debug)]
pub enum SendRefusal {
    /// As the code says.
    Code(Code),
    /// A rate is met.
    RateLimited(RetryAfterMs),
}

impl From<Code> for SendRefusal {
    fn from(code: Code) -> Self {
        Self::Code(code)
    }
}

impl From<RetryAfterMs> for SendRefusal {
    fn from(wait: RetryAfterMs) -> Self {
        Self::RateLimited(wait)
    }
}

impl SendRequest {
    /// Whether users become members by it, who must exist.
    pub(crate) fn lets_in(&self) -> bool {
        matches!(&self.content, SendContent::Change(change) if !change.newcomers().is_empty())
    }
}

/// What a device sends to a chat.
#[derive(Debug)]
pub enum SendContent {
    /// A message to this user.
    ToUser(UserId, Bytes),
    /// A message to a group.
    ToGroup(Bytes),
    /// A change of a group.
    Change(GroupChange),
}

/// For a user's host: live sessions and inboxes.
#[derive(Debug)]
pub enum UserMessage {
    /// A device has logged in.
    Attach {
        /// Its session.
        session: SessionRef,
        /// The device.
        device: DeviceId,
    },
    /// A session has ended.
    Detach {
        /// The session.
        session: SessionRef,
        /// Its device.
        device: DeviceId,
    },
    /// The device has everything of the chat up to here.
    Ack {
        /// The session it came on.
        session: SessionRef,
        /// The device.
        device: DeviceId,
        /// The chat.
        chat: ChatId,
        /// Up to here.
        seq: MessageSeq,
    },
    /// Messages for the user, from the chat's fan-out.
    Deliver(Delivery),
    /// What another member has.
    Receipt {
        /// The chat.
        chat: ChatId,
        /// The member; in a group `None`: it is what all others have.
        about: Option<UserId>,
        /// Its delivered watermark.
        delivered: MessageSeq,
        /// Its read watermark.
        read: MessageSeq,
    },
    /// Somebody signals the user, from the chat's core.
    Signal(Signal),
    /// A session does not want to know any more whether the user is online.
    Unsubscribe(SessionRef),
}

/// Consecutive messages of a chat for one member.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The chat.
    pub chat: ChatId,
    /// The seq before the first message.
    pub prev: MessageSeq,
    /// What every device of the user has for certain: it may have more.
    pub everywhere: MessageSeq,
    /// Whether everything up to `prev` is covered: a host that knows nothing of the chat may begin here.
    pub fresh: bool,
    /// The message that let the user in: its partition notes it before that one is covered.
    pub from: MessageSeq,
    /// The last message that is for it; `MAX` while it is a member.
    pub until: MessageSeq,
    /// Whether a device that is away may wait for its reference: the chat is a large group.
    pub hinted: bool,
    /// In order, dense.
    pub messages: Vec<StoredMessage>,
}

/// The way that a push takes within its connection: between the two there is no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// With everything else.
    Live,
    /// With what waited in the inbox.
    CatchUp,
}

/// For a session.
#[derive(Debug)]
pub enum SessionMessage {
    /// The answer to a request.
    Reply(u64, Kind),
    /// The answer to a send.
    Sent(u64, Result<v1::Sent, SendRefusal>),
    /// Something unasked, and the way that it takes.
    Push(Way, Kind),
    /// Something unasked that may be left out where the client reads too slowly: a receipt, a presence, a signal.
    Hint(Kind),
    /// The connection is a device now: which, and its user's handle.
    Linked(DeviceAddress, String),
    /// The session ends: why, and how long to wait before the next.
    Goaway(Code, u32),
}

/// A question between cores.
#[derive(Debug)]
pub enum Ask {
    /// First step of a registration.
    ClaimHandle(Registration),
    /// Second step.
    CreateUser(Registration),
    /// Third step.
    ConfirmHandle(Registration),
    /// The handle of a user that is deleted is free.
    ReleaseHandle {
        /// The handle.
        handle: String,
        /// Whose it was.
        user: UserId,
    },
    /// Who has this handle?
    FindHandle(String),
    /// A session wants to know whether the user is online: now, and from now on.
    Subscribe {
        /// The user.
        user: UserId,
        /// The session.
        session: SessionRef,
        /// Whose it is.
        watcher: UserId,
    },
    /// Is there such a user?
    UserExists(UserId),
    /// The device's key.
    Device(DeviceAddress),
    /// Messages `from..=to` of a chat.
    Messages {
        /// The chat.
        chat: ChatId,
        /// First.
        from: MessageSeq,
        /// Last.
        to: MessageSeq,
    },
    /// A page of history for a member, newest first.
    History {
        /// The chat.
        chat: ChatId,
        /// Who asks.
        user: UserId,
        /// Below this; `ZERO` for the newest.
        before: MessageSeq,
        /// At most so many.
        limit: u32,
    },
    /// The members of a chat, for a member.
    Members {
        /// The chat.
        chat: ChatId,
        /// Who asks.
        user: UserId,
    },
    /// What a chat is, for a member.
    Chat {
        /// The chat.
        chat: ChatId,
        /// Who asks.
        user: UserId,
    },
    /// Which group a link leads to.
    Invite {
        /// The group.
        chat: ChatId,
        /// The link's.
        secret: InviteSecret,
    },
    /// A signal to pass on, to the core of its chat.
    Signal(Signal),
    /// A read watermark to move.
    MarkRead {
        /// The chat.
        chat: ChatId,
        /// Who has read.
        user: UserId,
        /// Up to here.
        seq: MessageSeq,
        /// Whether the others are not to know: what the reader's roster says.
        hidden: bool,
    },
    /// A user that is deleted is out of the chat.
    ForgetMember {
        /// The chat.
        chat: ChatId,
        /// The user.
        user: UserId,
    },
    /// Stop what two users send each other, or let it go on.
    BlockChat {
        /// Who wants it.
        by: UserId,
        /// The other one.
        other: UserId,
        /// Whether it is to stop.
        blocked: bool,
    },
    /// About a user's account.
    People(UserId, PeopleAsk),
    /// About a user's keys.
    Keys(UserId, KeysAsk),
    /// About the devices of a user.
    Devices(UserId, DevicesAsk),
    /// About a link code.
    Link(LinkCode, LinkAsk),
}

/// A question to a user's core, about its devices.
#[derive(Debug)]
pub enum DevicesAsk {
    /// Which are there?
    List {
        /// Whether it is the user itself that asks.
        is_own: bool,
    },
    /// Another one: its key and name.
    Add([u8; 32], String),
    /// Which one has this key?
    Find([u8; 32]),
    /// Another name for one.
    Rename(DeviceId, String),
    /// The end of one.
    Revoke(DeviceId),
}

/// A question to the core that keeps a link code.
#[derive(Debug)]
pub enum LinkAsk {
    /// A device waits under it.
    Open(Waiting),
    /// Who waits under it?
    Look,
    /// The one with this key, if it waits under it.
    Take([u8; 32]),
}

/// A registration under way.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The handle.
    pub handle: String,
    /// The user's id, proposed in the first step and settled by it.
    pub user: UserId,
    /// The device's key.
    pub device_key: [u8; 32],
    /// What the device is called.
    pub device_name: String,
}

/// An answer between cores.
#[derive(Debug)]
pub enum Answer {
    /// Not carried out.
    Refused(Code),
    /// Carried out.
    Done,
    /// What the client is told.
    Reply(Kind),
    /// The handle belongs to this user.
    Claimed(UserId),
    /// Who has the handle.
    Handle(Option<UserId>),
    /// Whether it is so.
    Yes(bool),
    /// The device, and how many one-time keys it has left.
    Device(Option<(Device, u32)>),
    /// Messages, ascending, and where to go on.
    Messages(MessagePage),
    /// Messages, newest first; whether there is nothing below the last one.
    History(Vec<StoredMessage>, bool),
    /// The chat's last seq and members.
    Members(MessageSeq, Vec<(UserId, Member)>),
    /// The device has this number; the user has this handle.
    DeviceAdded(DeviceId, String),
    /// Who waited under a link code.
    Linked(Waiting),
}
