//! Seeds of the protocol's decoders: every kind of frame, alone and in a stream.

use bytes::{Bytes, BytesMut};
use columba_wire::{
    frame::encode,
    framing::encode_framed,
    v1::{
        Account, Ack, ApproveLink, Audience, BeginLink, Bye, Call, CallStep, Challenge, ChannelBinding, Chat,
        ChatEntry, ChatMember, Chats, ClientFrame, Contacts, CreateGroup, DeleteAccount, Deliver, Device, DeviceAdded,
        Devices, Done, Error, FindUser, GetAccount, GetChat, GetChats, GetContacts, GetDevices, GetHistory, GetInvite,
        GetKeys, GetLink, GetReceipts, GetUser, Goaway, Group, GroupChange, Hello, History, KeyBundle, Keys, KeysLow,
        KeysStored, LinkCode, LinkInfo, Linked, Login, Ping, Pong, PreKey, Presence, Privacy, Profile, PutKeys, Read,
        Receipt, Receipts, Register, Registered, Registration, RenameDevice, RevokeDevice, Send, SendSignal, Sent,
        ServerFrame, SetBlocked, SetContacts, SetPrivacy, SetProfile, Signal, SignalBody, SubscribePresence, Synced,
        User, UserFound, Welcome, client_frame, group_change, server_frame, signal_body,
    },
};

use crate::Seed;

const TIME_MS: u64 = 1_700_000_000_000;
const ID: Bytes = Bytes::from_static(b"0123456789abcdef");
const OTHER: Bytes = Bytes::from_static(b"fedcba9876543210");
const KEY: Bytes = Bytes::from_static(&[7; 32]);
const SIGNATURE: Bytes = Bytes::from_static(&[9; 64]);
const PRE_KEY: PreKey = PreKey { id: 300, key: KEY, signature: SIGNATURE };

/// Seeds of the targets `frame` and `framing`.
pub(crate) fn seeds() -> Vec<Seed> {
    let clients: Vec<_> =
        (1..).zip(client_kinds()).map(|(request_id, kind)| ClientFrame { request_id, kind: Some(kind) }).collect();
    let servers: Vec<_> =
        (0..).zip(server_kinds()).map(|(request_id, kind)| ServerFrame { request_id, kind: Some(kind) }).collect();
    let mut seeds = Vec::new();
    for frame in &clients {
        let bytes = encode(frame).to_vec();
        seeds.push(Seed { target: "frame", name: format!("client-{:02}", frame.request_id), bytes });
    }
    for frame in &servers {
        let bytes = encode(frame).to_vec();
        seeds.push(Seed { target: "frame", name: format!("server-{:02}", frame.request_id), bytes });
    }
    // The first byte is the size of a chunk, less one.
    for chunk in [0, 6, 255] {
        let mut stream = BytesMut::from([chunk].as_slice());
        clients.iter().for_each(|frame| encode_framed(frame, &mut stream));
        seeds.push(Seed { target: "framing", name: format!("chunks-{chunk:03}"), bytes: stream.to_vec() });
    }
    let refused = [&[3], u32::MAX.to_be_bytes().as_slice(), b"rest"].concat();
    seeds.push(Seed { target: "framing", name: "too-long".to_owned(), bytes: refused });
    seeds
}

fn change() -> Option<Box<GroupChange>> {
    let create = CreateGroup { name: KEY, picture: ID, announcements: true, user_ids: vec![ID, OTHER] };
    Some(Box::new(GroupChange { kind: Some(group_change::Kind::Create(create)) }))
}

fn signal_body() -> Bytes {
    let call = Call { call_id: ID, step: CallStep::Offer.into(), payload: KEY };
    encode(&SignalBody { kind: Some(signal_body::Kind::Call(call)) })
}

fn client_kinds() -> Vec<client_frame::Kind> {
    use client_frame::Kind;
    let binding = ChannelBinding::TlsExporter.into();
    vec![
        Kind::Hello(Hello { versions: vec![1, 2], capabilities: 1, agent: "seed/1".to_owned() }),
        Kind::Register(Register {
            handle: "ada".to_owned(),
            device_key: KEY,
            binding,
            signature: SIGNATURE,
            credential: "invite".to_owned(),
            device_name: "phone".to_owned(),
        }),
        Kind::Login(Login { user_id: ID, device_id: 1, binding, signature: SIGNATURE }),
        Kind::Ping(Ping {}),
        Kind::Bye(Bye {}),
        Kind::Send(Send {
            client_seq: 300,
            to_user: OTHER,
            body: Bytes::from_static(b"good morning"),
            ..Send::default()
        }),
        Kind::Send(Send { client_seq: 301, chat_id: ID, body: Bytes::from_static(b"to all"), ..Send::default() }),
        Kind::Send(Send { client_seq: 302, chat_id: ID, change: change(), ..Send::default() }),
        Kind::GetChat(GetChat { chat_id: ID }),
        Kind::GetInvite(GetInvite { chat_id: ID, secret: OTHER }),
        Kind::Ack(Ack { chat_id: ID, seq: 12 }),
        Kind::Read(Read { chat_id: ID, seq: 12 }),
        Kind::GetHistory(GetHistory { chat_id: ID, before_seq: 40, limit: 20 }),
        Kind::GetReceipts(GetReceipts { chat_id: ID }),
        Kind::FindUser(FindUser { handle: "bob".to_owned() }),
        Kind::SubscribePresence(SubscribePresence { user_ids: vec![ID, OTHER] }),
        Kind::BeginLink(BeginLink { device_key: KEY, name: "laptop".to_owned(), binding, signature: SIGNATURE }),
        Kind::GetDevices(GetDevices::default()),
        Kind::GetLink(GetLink { code: "7KQ2-9XWD".to_owned() }),
        Kind::ApproveLink(ApproveLink { code: "7KQ29XWD".to_owned(), device_key: KEY, name: "laptop".to_owned() }),
        Kind::RenameDevice(RenameDevice { device_id: 2, name: "old laptop".to_owned() }),
        Kind::RevokeDevice(RevokeDevice { device_id: 2 }),
        Kind::GetUser(GetUser { user_id: OTHER }),
        Kind::GetAccount(GetAccount {}),
        Kind::SetPrivacy(SetPrivacy {
            last_seen: Some(Audience::Contacts.into()),
            online: None,
            groups: Some(Audience::Nobody.into()),
            read_receipts_off: Some(true),
        }),
        Kind::SetContacts(SetContacts { add: vec![OTHER], remove: vec![OTHER] }),
        Kind::SetBlocked(SetBlocked { user_id: OTHER, blocked: true }),
        Kind::GetContacts(GetContacts {}),
        Kind::DeleteAccount(DeleteAccount { handle: "ada".to_owned() }),
        Kind::GetChats(GetChats { after_chat_id: OTHER, limit: 10 }),
        Kind::SetProfile(SetProfile {
            name: Some(Bytes::from_static(b"Ada")),
            about: None,
            picture: Some(Bytes::new()),
        }),
        Kind::PutKeys(PutKeys {
            identity_key: KEY,
            identity_signature: SIGNATURE,
            fallback: Some(PRE_KEY),
            one_time: vec![PRE_KEY; 2],
        }),
        Kind::GetKeys(GetKeys { user_id: OTHER, device_ids: vec![1, 2] }),
        Kind::SendSignal(SendSignal { to_user: OTHER, chat_id: ID, device_id: 2, body: signal_body() }),
    ]
}

fn server_kinds() -> Vec<server_frame::Kind> {
    use server_frame::Kind;
    let deliver = Deliver {
        chat_id: ID,
        seq: 12,
        sender_user: OTHER,
        sender_device: 1,
        time_ms: TIME_MS,
        body: Bytes::from_static(b"good morning"),
        change: None,
    };
    let group = Group { name: KEY, picture: ID, announcements: true };
    let members = vec![ChatMember { user_id: ID, role: 2, from_seq: 1 }];
    let chat = Chat { chat_id: ID, first_seq: 1, last_seq: 12, group: Some(group), members };
    let changed = Deliver { body: Bytes::new(), change: change(), ..deliver.clone() };
    let profile =
        Profile { name: Bytes::from_static(b"Ada"), about: Bytes::from_static(b"counts"), ..Profile::default() };
    let bundle = KeyBundle {
        device_id: 1,
        device_key: KEY,
        identity_key: KEY,
        identity_signature: SIGNATURE,
        pre_key: Some(PRE_KEY),
        one_time: true,
    };
    let receipt = Receipt { chat_id: ID, user_id: OTHER, delivered_seq: 12, read_seq: 11 };
    vec![
        Kind::Challenge(Challenge {
            version: 1,
            capabilities: 0,
            nonce: KEY,
            server_time_ms: TIME_MS,
            registration: Registration::Open.into(),
        }),
        Kind::Registered(Registered { user_id: ID, device_id: 1 }),
        Kind::Welcome(Welcome { user_id: ID, device_id: 1, server_time_ms: TIME_MS, ..Welcome::default() }),
        Kind::Pong(Pong { server_time_ms: TIME_MS }),
        Kind::Goaway(Goaway { code: 1, message: "restart".to_owned(), reconnect_after_ms: 1000 }),
        Kind::Error(Error { code: 1, message: "no".to_owned(), retry_after_ms: 50 }),
        Kind::Sent(Sent { client_seq: 300, chat_id: ID, seq: 12, time_ms: TIME_MS, duplicate: true }),
        Kind::Chat(chat),
        Kind::Deliver(changed),
        Kind::Deliver(deliver.clone()),
        Kind::Receipt(receipt.clone()),
        Kind::History(History { chat_id: ID, messages: vec![deliver.clone(), deliver], complete: true }),
        Kind::Receipts(Receipts { chat_id: ID, last_seq: 12, members: vec![receipt] }),
        Kind::UserFound(UserFound { user_id: ID, handle: "ada".to_owned() }),
        Kind::Presence(Presence { user_id: ID, online: false, last_seen_ms: TIME_MS }),
        Kind::Synced(Synced {}),
        Kind::Done(Done {}),
        Kind::LinkCode(LinkCode { code: "7KQ29XWD".to_owned(), expires_in_ms: 120_000 }),
        Kind::Linked(Linked { user_id: ID, device_id: 2, handle: "ada".to_owned() }),
        Kind::Devices(Devices {
            devices: vec![
                Device {
                    device_id: 2,
                    device_key: KEY,
                    name: "laptop".to_owned(),
                    created_ms: TIME_MS,
                    online: true,
                };
                2
            ],
            version: 2,
        }),
        Kind::LinkInfo(LinkInfo { device_key: KEY, name: "laptop".to_owned(), agent: "seed/1".to_owned() }),
        Kind::DeviceAdded(DeviceAdded { device_id: 2 }),
        Kind::User(User {
            user_id: OTHER,
            handle: "bob".to_owned(),
            profile: Some(profile.clone()),
            profile_version: 1,
        }),
        Kind::Account(Account {
            user_id: ID,
            handle: "ada".to_owned(),
            profile: Some(profile),
            profile_version: 300,
            privacy: Some(Privacy { last_seen: 2, online: 1, groups: 0, read_receipts_off: true }),
            roster_version: 7,
        }),
        Kind::Chats(Chats { chats: vec![ChatEntry { chat_id: OTHER, from_seq: 3 }; 2], complete: true }),
        Kind::Contacts(Contacts { contacts: vec![OTHER], blocked: vec![OTHER; 2], roster_version: 300 }),
        Kind::KeysStored(KeysStored { one_time_keys: 100 }),
        Kind::Keys(Keys { user_id: OTHER, bundles: vec![bundle] }),
        Kind::KeysLow(KeysLow { one_time_keys: 19 }),
        Kind::Signal(Signal { chat_id: ID, sender_user: OTHER, sender_device: 1, body: signal_body() }),
    ]
}
