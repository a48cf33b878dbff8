//! What a device does with groups: it makes and changes them, writes to them, and reads.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use columba_wire::{
    ChatId, UserId,
    v1::{self, client_frame::Kind as Request, group_change::Kind as Change},
};
use prost::Message as _;

use super::{Client, Stage};

/// Requests that mark chats as read have numbers from here on, above those of sends.
pub(super) const READ: u64 = 1 << 40;
/// Requests for the receipts of a chat, at the end: likewise.
pub(super) const RECEIPTS: u64 = 1 << 41;

/// What is sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    ToUser(UserId, Bytes),
    ToGroup(ChatId, Bytes),
    /// Of a group, or of a new one.
    Change(Option<ChatId>, v1::GroupChange),
}

impl What {
    pub(super) fn frame(&self, client_seq: u64) -> v1::Send {
        let id = |id: &[u8; 16]| Bytes::copy_from_slice(id);
        let send = v1::Send { client_seq, ..v1::Send::default() };
        match self.clone() {
            Self::ToUser(user, body) => v1::Send { to_user: id(user.as_bytes()), body, ..send },
            Self::ToGroup(group, body) => v1::Send { chat_id: id(group.as_bytes()), body, ..send },
            Self::Change(group, change) => {
                let chat_id = group.map(|group| id(group.as_bytes())).unwrap_or_default();
                v1::Send { chat_id, change: Some(Box::new(change)), ..send }
            }
        }
    }

    pub(super) fn is_of_group(&self) -> bool {
        !matches!(self, Self::ToUser(..))
    }

    /// What others get of it as a body; a change may become another one.
    pub(super) fn body(&self) -> Bytes {
        match self {
            Self::ToUser(_, body) | Self::ToGroup(_, body) => body.clone(),
            Self::Change(..) => Bytes::new(),
        }
    }
}

/// A device's dealings with groups.
#[derive(Default)]
pub struct Groups {
    /// Those that it has heard of.
    pub known: BTreeSet<ChatId>,
    /// The changes that it received, by group and seq.
    pub changes: BTreeMap<ChatId, BTreeMap<u64, (UserId, v1::GroupChange)>>,
    /// Its own changes that are stored: where, and what was asked for.
    pub carried_out: Vec<(ChatId, u64, Change)>,
    /// Bodies of messages that were refused for good.
    pub refused: Vec<Bytes>,
    reads: BTreeMap<u64, (ChatId, u64)>,
    next_read: u64,
    /// Up to where the node has confirmed that the user has read.
    pub read: BTreeMap<ChatId, u64>,
    /// The same as the node says at the end.
    pub read_at_end: BTreeMap<ChatId, u64>,
}

impl Client {
    /// Whether it may have come into a group without knowing it.
    pub fn may_have_joined(&self, group: ChatId) -> bool {
        self.unanswered.iter().any(|send| match &send.what {
            What::Change(Some(of), change) => *of == group && matches!(change.kind, Some(Change::Join(_))),
            _ => false,
        })
    }

    /// Wants to come into a group by a link. One after the other: else it is not known which is answered.
    pub fn join_group(&mut self, group: ChatId, secret: Bytes) {
        if !self.may_have_joined(group) {
            self.change_group(group, Change::Join(v1::JoinGroup { secret }));
        }
    }

    /// Wants a group with these.
    pub fn create_group(&mut self, users: &[UserId]) {
        let user_ids = users.iter().map(|user| Bytes::copy_from_slice(user.as_bytes())).collect();
        let create = v1::CreateGroup { user_ids, ..v1::CreateGroup::default() };
        self.queue(What::Change(None, v1::GroupChange { kind: Some(Change::Create(create)) }));
    }

    /// Wants a group changed.
    pub fn change_group(&mut self, group: ChatId, kind: Change) {
        self.queue(What::Change(Some(group), v1::GroupChange { kind: Some(kind) }));
    }

    /// Wants a message sent to a group.
    pub fn send_to_group(&mut self, group: ChatId, body: Bytes) {
        self.queue(What::ToGroup(group, body));
    }

    /// Marks a chat as read up to what was received.
    pub fn read(&mut self, chat: ChatId) {
        let last = self.received.get(&chat).and_then(|received| received.messages.keys().next_back().copied());
        if let (Some(seq), Stage::Open) = (last, self.stage) {
            let id = READ + self.groups.next_read;
            self.groups.next_read += 1;
            self.groups.reads.insert(id, (chat, seq));
            self.frame(id, Request::Read(v1::Read { chat_id: Bytes::copy_from_slice(chat.as_bytes()), seq }));
        }
    }

    pub(super) fn handle_read_done(&mut self, request_id: u64) {
        if let Some((chat, seq)) = self.groups.reads.remove(&request_id) {
            let read = self.groups.read.entry(chat).or_default();
            *read = seq.max(*read);
        }
    }

    pub(super) fn forget_reads(&mut self) {
        self.groups.reads.clear();
    }

    /// Asks how far the node says that the user has read.
    pub fn ask_receipts(&mut self) {
        let chats: Vec<_> = self.groups.read.keys().copied().collect();
        for (n, chat) in (0..).zip(chats) {
            let chat_id = Bytes::copy_from_slice(chat.as_bytes());
            self.frame(RECEIPTS + n, Request::GetReceipts(v1::GetReceipts { chat_id }));
        }
    }

    pub(super) fn handle_receipts(&mut self, receipts: &v1::Receipts) {
        let chat = ChatId::try_from(&receipts.chat_id[..]).expect("the node sends ids");
        let me = self.address.map(|address| address.user);
        let own = receipts.members.iter().find(|member| UserId::try_from(&member.user_id[..]).ok() == me);
        self.groups.read_at_end.extend(own.map(|own| (chat, own.read_seq)));
    }

    /// A change of a group was delivered. What is remembered as its body is the change as it came.
    pub(super) fn handle_change(&mut self, chat: ChatId, seq: u64, sender: UserId, change: v1::GroupChange) -> Bytes {
        self.groups.known.insert(chat);
        let body = Bytes::from(change.encode_to_vec());
        self.groups.changes.entry(chat).or_default().insert(seq, (sender, change));
        body
    }
}
