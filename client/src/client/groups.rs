//! Calls about groups and chats.

use bytes::Bytes;
use columba_wire::{
    ChatId, InviteLink, InviteSecret, UserId,
    limits::CHATS_PAGE_MAX,
    v1::{self, client_frame::Kind},
};

use super::{Client, chat_bytes, unexpected};
use crate::{
    driver::Ask,
    error::{Error, Result},
    session::{Outgoing, Reply, id_bytes, outbox::Outbound},
    types::{ChatInfo, ChatPage, GroupChange, GroupLook, Invitation, Sent},
};

impl Client {
    /// Makes a group of this user, who owns it, and these. The group is [`Sent::chat`]; that it was made is its first
    /// message.
    ///
    /// # Errors
    /// As [`Self::send`]; `Refused` with `UNKNOWN_USER` where one of them is none, `TOO_MANY` where there are more than
    /// 1,023, `INVALID_ARGUMENT` where the name is longer than 256 bytes.
    pub async fn create_group(&self, name: impl Into<Bytes>, members: &[UserId]) -> Result<Sent> {
        let look = GroupLook { name: name.into(), ..GroupLook::default() };
        self.make_or_change(None, GroupChange::Create { look, members: members.to_vec() }).await
    }

    /// Changes a group, and waits until that is durable and has its place among the messages. Retried over reconnects,
    /// never done twice.
    ///
    /// # Errors
    /// As [`Self::send`]; `Refused` with `NOT_ALLOWED` where this user's role does not allow it, `UNKNOWN_CHAT` where
    /// it is no member, `UNKNOWN_USER`, `TOO_MANY` where the group is full, `INVALID_ARGUMENT` where all is so already.
    pub async fn change_group(&self, group: ChatId, change: GroupChange) -> Result<Sent> {
        self.make_or_change(Some(group), change).await
    }

    /// Gives a group a link by which others come in, until a time in milliseconds since 1970 or for ever. A link that
    /// it had before leads nowhere from then on; so does this one once somebody is removed. Who is an admin finds it
    /// again in [`Self::chat`].
    ///
    /// # Errors
    /// As [`Self::change_group`]; `Refused` with `INVALID_ARGUMENT` where the time is over.
    pub async fn make_invite(&self, group: ChatId, expires_ms: Option<u64>) -> Result<InviteLink> {
        let secret = new_secret()?;
        self.change_group(group, GroupChange::SetInvite { secret: Some(secret), expires_ms }).await?;
        Ok(InviteLink { group, secret })
    }

    /// The group that a link leads to.
    ///
    /// # Errors
    /// `Refused` with `INVITE_UNKNOWN` where it leads nowhere, or does so no more; `TimedOut`, `TooManyRequests`.
    pub async fn invitation(&self, link: InviteLink) -> Result<Invitation> {
        let request = v1::GetInvite { chat_id: chat_bytes(link.group), secret: id_bytes(link.secret.as_bytes()) };
        match self.call(Ask::Request(Kind::GetInvite(request))).await? {
            Reply::Invitation(invitation) => Ok(invitation),
            other => Err(unexpected(&other)),
        }
    }

    /// Comes into a group by a link. What is written from then on is for this user.
    ///
    /// # Errors
    /// As [`Self::send`]; `Refused` with `INVITE_UNKNOWN` where the link leads nowhere, or does so no more, `TOO_MANY`
    /// where the group is full, `INVALID_ARGUMENT` where the user is in it already.
    pub async fn join(&self, link: InviteLink) -> Result<Sent> {
        self.change_group(link.group, GroupChange::Join { secret: Some(link.secret) }).await
    }

    /// What is written to a chat from then on disappears so many seconds later, on the server and on every device; 0:
    /// nothing does. In a group admins and the owner may say so, in a 1:1 chat that has a message both.
    ///
    /// # Errors
    /// As [`Self::change_group`]; `Refused` with `INVALID_ARGUMENT` where it is so already, or more than a year.
    pub async fn set_timer(&self, chat: ChatId, timer_s: u32) -> Result<Sent> {
        self.change_group(chat, GroupChange::SetTimer { timer_s }).await
    }

    /// Changes this group, or makes one.
    pub(crate) async fn make_or_change(&self, group: Option<ChatId>, change: GroupChange) -> Result<Sent> {
        let outgoing = Outgoing { what: Outbound::Change { group, change }, patience: Some(self.send_timeout) };
        match self.call_send(outgoing).await? {
            Reply::Sent(sent) => Ok(sent),
            other => Err(unexpected(&other)),
        }
    }

    /// The chats that this profile has messages of.
    ///
    /// # Errors
    /// `Closed`.
    pub async fn chats(&self) -> Result<Vec<ChatId>> {
        match self.call(Ask::Chats).await? {
            Reply::Chats(chats) => Ok(chats),
            other => Err(unexpected(&other)),
        }
    }

    /// The chats that the user is in, as the server knows them: with or without messages on this device. Those above
    /// `after`, ascending, 256 at most; what each is tells [`Self::chat`].
    ///
    /// # Errors
    /// `TimedOut`, `TooManyRequests`.
    pub async fn fetch_chats(&self, after: Option<ChatId>) -> Result<ChatPage> {
        let after_chat_id = after.map(chat_bytes).unwrap_or_default();
        let request = v1::GetChats { after_chat_id, limit: CHATS_PAGE_MAX };
        match self.call(Ask::Request(Kind::GetChats(request))).await? {
            Reply::ChatPage(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    /// What a chat is, and who is in it.
    ///
    /// # Errors
    /// `Refused` with `UNKNOWN_CHAT` where this user is no member, `TimedOut`, `TooManyRequests`.
    pub async fn chat(&self, chat: ChatId) -> Result<ChatInfo> {
        match self.call(Ask::Request(Kind::GetChat(v1::GetChat { chat_id: chat_bytes(chat) }))).await? {
            Reply::Chat(info) => Ok(info),
            other => Err(unexpected(&other)),
        }
    }
}

/// Of a new link.
pub(crate) fn new_secret() -> Result<InviteSecret> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(|error| Error::InvalidOption(format!("no random numbers: {error}")))?;
    Ok(InviteSecret::from_bytes(secret))
}
