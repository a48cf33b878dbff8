//! A simulated device: registers, logs in, sends, acknowledges, disconnects, retries; and remembers what it was told.
//!
//! It does what PROTOCOL.md asks of a client, no more: it numbers its messages, sends unanswered ones again in order
//! after a reconnect, drops duplicates by (chat, seq), and acknowledges cumulatively what it keeps. What it keeps
//! survives the node's crashes: it is another machine. A second device of a user asks for a link code instead of
//! registering.

mod blocks;
mod deletion;
mod groups;
mod keys;
mod streams;

use core::task::Poll;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use columba_engine::env::Rng;
use columba_server::core::Output;
use columba_wire::{
    ChatId, Code, DeviceAddress, DeviceId, UserId,
    auth::{Binding, link_bytes, login_bytes, register_bytes},
    v1::{self, ChannelBinding, ClientFrame, client_frame::Kind as Request, server_frame::Kind},
};
use ed25519_dalek::{Signer as _, SigningKey};

pub use self::{
    blocks::{Block, Blocks, Refused},
    deletion::Deletion,
    groups::Groups,
    keys::Keys,
};
use self::{groups::What, streams::Streams};
use crate::{
    check::number_of,
    world::{SimSession, World},
};

/// A message that the node has acknowledged, as the sender remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// To whom; `None` where it is of a group.
    pub to: Option<UserId>,
    /// The chat.
    pub chat: ChatId,
    /// Its place.
    pub seq: u64,
    /// The sender's number for it.
    pub client_seq: u64,
    /// Its body.
    pub body: Bytes,
    /// How many messages there were then.
    pub at: u64,
}

/// What a device has received of a chat, in order, duplicates dropped.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// By seq: sender and body.
    pub messages: BTreeMap<u64, (UserId, Bytes)>,
    /// Highest seq delivered in the present session.
    in_session: u64,
    /// Highest seq acknowledged to the server.
    acked: u64,
}

/// A send that is not answered.
#[derive(Clone, Debug)]
struct Unanswered {
    client_seq: u64,
    what: What,
    sent: bool,
}

/// A simulated device.
pub struct Client {
    /// Its handle.
    pub handle: String,
    key: SigningKey,
    /// Once registered or linked.
    pub address: Option<DeviceAddress>,
    session: Option<SimSession>,
    stage: Stage,
    next_client_seq: u64,
    unanswered: VecDeque<Unanswered>,
    /// What the node acknowledged.
    pub acknowledged: Vec<Acknowledged>,
    /// What was received, by chat.
    pub received: BTreeMap<ChatId, Received>,
    /// The highest receipts seen: per chat and user (delivered, read).
    pub receipts: BTreeMap<(ChatId, UserId), (u64, u64)>,
    /// The highest seen of what all others of a group have: (delivered, read).
    pub group_receipts: BTreeMap<ChatId, (u64, u64)>,
    /// Promises that were broken, as the client sees it.
    pub broken: Vec<String>,
    /// Requests refused for lack of space.
    pub refused_no_space: u64,
    /// Whether it acknowledges what it gets; else it is a slow one.
    pub acknowledges: bool,
    /// Whether catch-up is complete in this session.
    pub is_synced: bool,
    /// What it is where it did not register.
    pub link: Option<Link>,
    /// The devices whose revocation this one has asked for, and the node has confirmed.
    pub revoked_others: Vec<u32>,
    /// Its keys, and those that it was given.
    pub keys: Keys,
    /// What it knows of groups.
    pub groups: Groups,
    /// Whom it blocks, and what others' blocks have refused.
    pub blocks: Blocks,
    /// The end of its account, and of others'.
    pub deletion: Deletion,
    /// What came by the stream of the catch-up.
    streams: Streams,
    /// How many messages there are: its clock.
    pub now: u64,
}

/// A device that is linked to a user.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// The code that it shows now.
    pub code: Option<String>,
    /// Once it is linked: messages of higher numbers were written after that.
    pub since: Option<u64>,
    /// Whether the node was asked to revoke it.
    pub revoke_asked: bool,
    /// Whether it is revoked for certain.
    pub revoked: bool,
    /// Whether it was when it last asked to be let in.
    asked_revoked: bool,
}

/// The request that approves a link; those about keys have the numbers before it.
const APPROVE: u64 = 6;
/// The request that revokes a device has this number and the device's; below those of sends.
const REVOKE: u64 = 500;

/// The latest that a device's clock says: what follows is still below [`groups::READ`].
const CLOCK_MAX: u64 = 1 << 39;

/// What a group may answer to a member, or to one that has been put out.
const REFUSALS: &[Code] =
    &[Code::UnknownChat, Code::UnknownUser, Code::NotAllowed, Code::InvalidArgument, Code::InviteUnknown];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Offline,
    Hello,
    Waiting,
    Open,
}

impl Client {
    /// A device that has not registered yet.
    pub fn new(handle: &str, rng: &mut Rng) -> Self {
        let mut seed = [0; 32];
        rng.fill(&mut seed);
        Self {
            handle: handle.to_owned(),
            key: SigningKey::from_bytes(&seed),
            address: None,
            session: None,
            stage: Stage::Offline,
            next_client_seq: 1,
            unanswered: VecDeque::new(),
            acknowledged: Vec::new(),
            received: BTreeMap::new(),
            receipts: BTreeMap::new(),
            group_receipts: BTreeMap::new(),
            broken: Vec::new(),
            refused_no_space: 0,
            acknowledges: true,
            is_synced: false,
            keys: Keys::default(),
            groups: Groups::default(),
            blocks: Blocks::default(),
            deletion: Deletion::default(),
            streams: Streams::new(u64::from_be_bytes(*seed.first_chunk().expect("32 bytes hold 8"))),
            now: 0,
            link: None,
            revoked_others: Vec::new(),
        }
    }

    /// A device that wants to be linked.
    pub fn second(handle: &str, rng: &mut Rng) -> Self {
        Self { link: Some(Link::default()), ..Self::new(handle, rng) }
    }

    /// Whether the node owes it something: not if it was revoked, has asked for its account's end, or never linked.
    pub fn is_owed(&self) -> bool {
        let is_there = |link: &Link| self.address.is_some() && !link.revoked;
        !self.deletion.asked && self.link.as_ref().is_none_or(is_there)
    }

    /// Whether it has a connection.
    pub fn is_connected(&self) -> bool {
        self.session.is_some()
    }

    /// Approves another device by its code.
    pub fn approve(&mut self, other: &Self) {
        if let Some(code) = other.link.as_ref().and_then(|link| link.code.clone()) {
            let device_key = Bytes::copy_from_slice(&other.key.verifying_key().to_bytes());
            self.frame(APPROVE, Request::ApproveLink(v1::ApproveLink { code, device_key, name: String::new() }));
        }
    }

    /// Revokes another device.
    pub fn revoke(&mut self, other: &mut Self) {
        if let (Some(address), Some(link), Stage::Open) = (other.address, &mut other.link, self.stage) {
            link.revoke_asked = true;
            let device_id = address.device.get();
            self.frame(REVOKE + u64::from(device_id), Request::RevokeDevice(v1::RevokeDevice { device_id }));
        }
    }

    /// Whether it is logged in.
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Sends without an answer.
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// Connects to a core and begins the handshake.
    pub fn connect(&mut self, world: &World, core: usize) {
        self.disconnect();
        let Some(session) = world.connect(core) else {
            return;
        };
        self.session = Some(session);
        self.stage = Stage::Hello;
        self.frame(
            1,
            Request::Hello(v1::Hello {
                versions: vec![1],
                capabilities: self.streams.capabilities(),
                agent: "sim".to_owned(),
            }),
        );
    }

    /// Drops the connection, or learns that it is gone.
    pub fn disconnect(&mut self) {
        self.session = None;
        self.streams.reset();
        self.stage = Stage::Offline;
        self.is_synced = false;
        if let Some(link) = &mut self.link {
            link.code = None;
        }
        for received in self.received.values_mut() {
            received.in_session = 0;
            received.acked = 0;
        }
        for send in &mut self.unanswered {
            send.sent = false;
        }
        self.forget_reads();
        self.blocks.forget_asked();
    }

    /// Wants a message sent: now if it can, else after the next login.
    pub fn send(&mut self, to: UserId, body: Bytes) {
        self.queue(What::ToUser(to, body));
    }

    fn queue(&mut self, what: What) {
        let client_seq = self.next_client_seq;
        self.next_client_seq += 1;
        self.unanswered.push_back(Unanswered { client_seq, what, sent: false });
        self.send_unsent();
    }

    fn send_unsent(&mut self) {
        if self.stage != Stage::Open {
            return;
        }
        let window = columba_wire::limits::SENDS_IN_FLIGHT_MAX;
        let frames: Vec<_> = self
            .unanswered
            .iter_mut()
            .take(window)
            .filter(|send| !send.sent)
            .map(|send| {
                send.sent = true;
                (send.client_seq, send.what.frame(send.client_seq))
            })
            .collect();
        for (client_seq, send) in frames {
            self.frame(1000 + client_seq, Request::Send(send));
        }
    }

    /// Sends an old message once more, as a confused client would.
    pub fn resend_old(&mut self, rng: &mut Rng) {
        let recent = self.acknowledged.len().min(columba_wire::limits::DEDUP_WINDOW / 4);
        if self.stage != Stage::Open || recent == 0 {
            return;
        }
        let back = usize::try_from(rng.below(recent as u64)).expect("an index");
        let old = self.acknowledged[self.acknowledged.len() - 1 - back].clone();
        if let Some(to) = old.to {
            self.frame(1000 + old.client_seq, Request::Send(What::ToUser(to, old.body).frame(old.client_seq)));
        }
    }

    /// Sends a heartbeat.
    pub fn ping(&mut self) {
        if self.stage == Stage::Open {
            self.frame(3, Request::Ping(v1::Ping {}));
        }
    }

    fn frame(&mut self, request_id: u64, kind: Request) {
        if let Some(session) = &self.session {
            session.handle_frame(Ok(ClientFrame { request_id, kind: Some(kind) }));
        }
    }

    /// Takes what the node has for it, at most so many frames: a slow reader takes few. Returns how many it took.
    pub fn receive(&mut self, frames_max: usize) -> usize {
        let mut taken = 0;
        while taken < frames_max {
            let Some(session) = &self.session else {
                break;
            };
            let output = match self.streams.poll(session) {
                Poll::Ready(output) => output,
                Poll::Pending => break,
            };
            taken += 1;
            match output {
                Output::Frame(frame) | Output::CatchUp(frame) => {
                    session.handle_written(prost::Message::encoded_len(&frame));
                    if let Some(kind) = frame.kind {
                        self.handle(frame.request_id, kind);
                    }
                }
                Output::Close => self.disconnect(),
            }
        }
        if self.acknowledges {
            self.acknowledge();
        }
        taken
    }

    /// How far it has acknowledged each chat in this session.
    pub fn acknowledged_in_session(&self) -> impl Iterator<Item = (ChatId, u64)> {
        self.received.iter().map(|(chat, received)| (*chat, received.acked)).filter(|(_, seq)| *seq > 0)
    }

    /// Numbers its messages by a clock from here on, which is so much ahead: as one does that has lost its counter.
    pub fn jump(&mut self, ahead: u64) {
        self.next_client_seq = (self.next_client_seq + ahead).min(CLOCK_MAX);
    }

    /// Acknowledges what was received in this session.
    pub fn acknowledge(&mut self) {
        let due: Vec<_> = self
            .received
            .iter_mut()
            .filter(|(_, received)| received.in_session > received.acked)
            .map(|(chat, received)| {
                received.acked = received.in_session;
                (*chat, received.in_session)
            })
            .collect();
        for (chat, seq) in due {
            let chat_id = Bytes::copy_from_slice(chat.as_bytes());
            self.frame(0, Request::Ack(v1::Ack { chat_id, seq }));
        }
    }

    fn handle(&mut self, request_id: u64, kind: Kind) {
        match kind {
            Kind::Challenge(challenge) => self.answer(&challenge),
            Kind::Registered(registered) => {
                let user = UserId::try_from(&registered.user_id[..]).expect("the node sends ids");
                let device = DeviceId::new(registered.device_id).expect("the node sends ids");
                let address = DeviceAddress { user, device };
                if self.address.is_some_and(|before| before != address) {
                    self.broken.push(format!("{} was registered twice with two ids", self.handle));
                }
                self.address = Some(address);
            }
            Kind::LinkCode(code) => {
                if let Some(link) = &mut self.link {
                    link.code = Some(code.code);
                }
            }
            Kind::Linked(linked) => {
                let user = UserId::try_from(&linked.user_id[..]).expect("the node sends ids");
                let device = DeviceId::new(linked.device_id).expect("the node sends ids");
                self.address = Some(DeviceAddress { user, device });
            }
            Kind::Welcome(_) => {
                // A welcome from before may still be on its way to a device that is slow.
                if self.link.as_ref().is_some_and(|link| link.asked_revoked) {
                    self.broken.push(format!("{}: let in, and was revoked", self.handle));
                }
                self.stage = Stage::Open;
                if self.deletion.asked {
                    self.delete_account();
                }
                self.send_unsent();
                self.ask_block();
            }
            Kind::Sent(sent) => self.handle_sent(&sent),
            Kind::Deliver(deliver) => self.handle_deliver(deliver),
            Kind::Receipt(receipt) => self.handle_receipt(&receipt),
            Kind::Synced(_) => self.is_synced = true,
            Kind::Error(error) => self.handle_error(request_id, &error),
            Kind::Goaway(goaway) if goaway.code == Code::Revoked.number() => self.handle_revoked(),
            Kind::KeysStored(_) => self.handle_keys_stored(),
            Kind::Keys(keys) => self.handle_keys(&keys),
            Kind::Goaway(_) => {}
            Kind::Done(_) if request_id >= groups::READ => self.handle_read_done(request_id),
            Kind::Receipts(receipts) => self.handle_receipts(&receipts),
            Kind::Done(_) if request_id == blocks::BLOCK => self.handle_block_done(),
            Kind::Done(_) if request_id == deletion::DELETE => self.deletion.confirmed = true,
            Kind::Done(_) => {
                let revoked = request_id.checked_sub(REVOKE).and_then(|device| u32::try_from(device).ok());
                self.revoked_others.extend(revoked);
            }
            Kind::Pong(_)
            | Kind::Devices(_)
            | Kind::LinkInfo(_)
            | Kind::DeviceAdded(_)
            | Kind::History(_)
            | Kind::Chat(_)
            | Kind::Invite(_)
            | Kind::UserFound(_)
            | Kind::Presence(_)
            | Kind::Signal(_)
            | Kind::User(_)
            | Kind::Account(_)
            | Kind::Chats(_)
            | Kind::Contacts(_)
            | Kind::KeysLow(_) => {}
        }
    }

    fn handle_revoked(&mut self) {
        match &mut self.link {
            _ if self.deletion.asked => self.deletion.confirmed = true,
            Some(link) if link.revoke_asked => link.revoked = true,
            _ => self.broken.push(format!("{}: revoked, and nobody asked for that", self.handle)),
        }
    }

    fn answer(&mut self, challenge: &v1::Challenge) {
        let nonce: [u8; 32] = challenge.nonce[..].try_into().expect("a nonce has 32 bytes");
        self.stage = Stage::Waiting;
        self.link.iter_mut().for_each(|link| link.asked_revoked = link.revoked);
        let binding = ChannelBinding::None.into();
        let request = match self.address {
            Some(address) => {
                let signature = self.key.sign(&login_bytes(&nonce, &Binding::NONE, address));
                Request::Login(v1::Login {
                    user_id: Bytes::copy_from_slice(address.user.as_bytes()),
                    device_id: address.device.get(),
                    binding,
                    signature: Bytes::copy_from_slice(&signature.to_bytes()),
                })
            }
            None if self.link.is_some() => {
                let device_key = self.key.verifying_key().to_bytes();
                let signature = self.key.sign(&link_bytes(&nonce, &Binding::NONE, &device_key, &self.handle));
                Request::BeginLink(v1::BeginLink {
                    device_key: Bytes::copy_from_slice(&device_key),
                    name: self.handle.clone(),
                    binding,
                    signature: Bytes::copy_from_slice(&signature.to_bytes()),
                })
            }
            None => {
                let device_key = self.key.verifying_key().to_bytes();
                let signature = self.key.sign(&register_bytes(&nonce, &Binding::NONE, &device_key, &self.handle));
                Request::Register(v1::Register {
                    handle: self.handle.clone(),
                    device_key: Bytes::copy_from_slice(&device_key),
                    binding,
                    signature: Bytes::copy_from_slice(&signature.to_bytes()),
                    credential: String::new(),
                    device_name: String::new(),
                })
            }
        };
        self.frame(2, request);
    }

    fn handle_sent(&mut self, sent: &v1::Sent) {
        let chat = ChatId::try_from(&sent.chat_id[..]).expect("the node sends ids");
        let before = self.acknowledged.iter().find(|known| known.client_seq == sent.client_seq);
        if let Some(before) = before {
            if (before.chat, before.seq) != (chat, sent.seq) {
                self.broken.push(format!(
                    "{}: client seq {} is at {} and at {}",
                    self.handle, sent.client_seq, before.seq, sent.seq
                ));
            }
            return;
        }
        if let Some(at) = self.unanswered.iter().position(|send| send.client_seq == sent.client_seq) {
            let send = self.unanswered.remove(at).expect("it was just found");
            let to = if let What::ToUser(user, _) = &send.what { Some(*user) } else { None };
            if send.what.is_of_group() {
                self.groups.known.insert(chat);
            }
            if let What::Change(_, v1::GroupChange { kind: Some(change) }) = &send.what {
                self.groups.carried_out.push((chat, sent.seq, change.clone()));
            }
            let (seq, client_seq, body) = (sent.seq, sent.client_seq, send.what.body());
            let at = self.now;
            self.acknowledged.push(Acknowledged { to, chat, seq, client_seq, body, at });
        }
        self.send_unsent();
    }

    fn handle_deliver(&mut self, deliver: v1::Deliver) {
        let chat = ChatId::try_from(&deliver.chat_id[..]).expect("the node sends ids");
        let sender = UserId::try_from(&deliver.sender_user[..]).expect("the node sends ids");
        let handle = self.handle.clone();
        let body = match deliver.change {
            Some(change) => self.handle_change(chat, deliver.seq, sender, *change),
            None => deliver.body,
        };
        let received = self.received.entry(chat).or_default();
        if let Some(before) = received.messages.get(&deliver.seq)
            && *before != (sender, body.clone())
        {
            self.broken.push(format!("{handle}: seq {} of {chat} is two messages", deliver.seq));
        }
        // What was written before the device was linked is not for it, and may come anyhow.
        let is_newer = |since| number_of(&body).is_some_and(|number| number > since);
        let is_owed = self.link.as_ref().is_none_or(|link| link.since.is_some_and(is_newer));
        if is_owed && deliver.seq < received.in_session && !received.messages.contains_key(&deliver.seq) {
            self.broken.push(format!("{handle}: seq {} of {chat} came behind {}", deliver.seq, received.in_session));
        }
        received.in_session = received.in_session.max(deliver.seq);
        // What comes again is acknowledged again.
        received.acked = received.acked.min(deliver.seq - 1);
        received.messages.entry(deliver.seq).or_insert((sender, body));
    }

    fn handle_receipt(&mut self, receipt: &v1::Receipt) {
        let chat = ChatId::try_from(&receipt.chat_id[..]).expect("the node sends ids");
        let known = match &receipt.user_id[..] {
            [] => self.group_receipts.entry(chat).or_default(),
            user => {
                let user = UserId::try_from(user).expect("the node sends ids");
                self.receipts.entry((chat, user)).or_default()
            }
        };
        known.0 = known.0.max(receipt.delivered_seq);
        known.1 = known.1.max(receipt.read_seq);
    }

    fn handle_error(&mut self, request_id: u64, error: &v1::Error) {
        let code = Code::from_number(error.code).unwrap_or(Code::Internal);
        if code == Code::NoSpace {
            self.refused_no_space += 1;
        }
        if request_id == keys::PUT && self.stage == Stage::Open {
            return self.handle_upload_refused(code);
        }
        if request_id == blocks::BLOCK && self.stage == Stage::Open {
            if code == Code::UnknownUser {
                self.blocks.drop_pending();
            } else if !code.is_retryable() {
                self.broken.push(format!("{}: a block was refused: {code}", self.handle));
            }
            return self.blocks.forget_asked();
        }
        if request_id == deletion::DELETE && self.stage == Stage::Open {
            if !code.is_retryable() && code != Code::UnknownUser {
                self.broken.push(format!("{}: the account was not ended: {code}", self.handle));
            }
            return;
        }
        if request_id >= groups::READ {
            // Of a group that the user is not in any more; or it was not done, and nobody relies on it.
            return;
        }
        if let Some(client_seq) = request_id.checked_sub(1000) {
            // What `resend_old` sends may be older than the node remembers by then; it is known to be stored.
            let forgotten = code == Code::ClientSeqTooOld
                && self.acknowledged.iter().any(|message| message.client_seq == client_seq);
            let at = self.unanswered.iter().position(|send| send.client_seq == client_seq);
            let is_of_group = at.is_some_and(|at| self.unanswered[at].what.is_of_group());
            if is_of_group && REFUSALS.contains(&code) {
                let refused = self.unanswered.remove(at.unwrap_or_default()).expect("it was just found");
                self.groups.refused.push(refused.what.body());
                return self.send_unsent();
            }
            if let (Some(at), Code::UnknownUser) = (at, code) {
                let refused = self.unanswered.remove(at).expect("it was just found");
                if let What::ToUser(to, body) = refused.what {
                    self.deletion.refused.push((to, body));
                }
                return self.send_unsent();
            }
            if let (Some(at), Code::NotAllowed) = (at, code) {
                let refused = self.unanswered.remove(at).expect("it was just found");
                if let What::ToUser(to, body) = refused.what {
                    self.blocks.refused.push(Refused { to, body, at: self.now });
                }
                return self.send_unsent();
            }
            if !code.is_retryable() && !forgotten {
                self.broken.push(format!("{}: send {client_seq} was refused: {code}", self.handle));
            }
            if let Some(send) = self.unanswered.iter_mut().find(|send| send.client_seq == client_seq) {
                send.sent = false;
            }
        } else if self.stage != Stage::Open && code == Code::LinkUnknown && self.address.is_none() {
            // Nobody approved it in time.
            self.disconnect();
        } else if self.stage != Stage::Open && code == Code::Unauthenticated && self.may_be_revoked() {
            self.handle_revoked();
            self.disconnect();
        } else if self.stage != Stage::Open && !code.is_retryable() {
            self.broken.push(format!("{}: not let in: {code}", self.handle));
        } else if self.stage != Stage::Open {
            self.disconnect();
        }
    }

    fn may_be_revoked(&self) -> bool {
        self.deletion.asked || self.link.as_ref().is_some_and(|link| link.revoke_asked)
    }

    /// Tries what was refused once more.
    pub fn retry(&mut self) {
        self.send_unsent();
        self.ask_block();
    }
}
