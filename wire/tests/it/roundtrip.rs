//! Whatever one side says, the other side reads: frames through encoding, stream and decoding.

use bytes::{Bytes, BytesMut};
use columba_wire::{
    ChatId, UserId,
    frame::{decode_client, decode_server, encode},
    framing::{Deframer, encode_framed},
    limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX, HISTORY_PAGE_BYTES_MAX, HISTORY_PAGE_MAX},
    v1::{self, ClientFrame, ServerFrame, client_frame, server_frame},
};
use proptest::{collection::vec, option, prelude::*};

fn id() -> impl Strategy<Value = Bytes> + Clone {
    any::<[u8; 16]>().prop_map(|id| Bytes::copy_from_slice(&id))
}

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

pub(crate) fn client_frame() -> impl Strategy<Value = ClientFrame> {
    use client_frame::Kind;
    let hello = (vec(any::<u32>(), 0..16), any::<u64>(), "[a-z/0-9]{0,64}")
        .prop_map(|(versions, capabilities, agent)| Kind::Hello(v1::Hello { versions, capabilities, agent }));
    let register = ("[a-z0-9]{3,32}", bytes(40), 0..3i32, bytes(70), ".{0,40}", ".{0,16}").prop_map(
        |(handle, device_key, binding, signature, credential, device_name)| {
            Kind::Register(v1::Register { handle, device_key, binding, signature, credential, device_name })
        },
    );
    let login = (id(), any::<u32>(), 0..3i32, bytes(70)).prop_map(|(user_id, device_id, binding, signature)| {
        Kind::Login(v1::Login { user_id, device_id, binding, signature })
    });
    let send = (any::<u64>(), id(), bytes(2000)).prop_map(|(client_seq, to_user, body)| {
        Kind::Send(v1::Send { client_seq, to_user, body, ..v1::Send::default() })
    });
    let change = (any::<u64>(), id(), change()).prop_map(|(client_seq, chat_id, change)| {
        Kind::Send(v1::Send { client_seq, chat_id, change: Some(Box::new(change)), ..v1::Send::default() })
    });
    let ack = (id(), any::<u64>()).prop_map(|(chat_id, seq)| Kind::Ack(v1::Ack { chat_id, seq }));
    let read = (id(), any::<u64>()).prop_map(|(chat_id, seq)| Kind::Read(v1::Read { chat_id, seq }));
    let history = (id(), any::<u64>(), any::<u32>())
        .prop_map(|(chat_id, before_seq, limit)| Kind::GetHistory(v1::GetHistory { chat_id, before_seq, limit }));
    let receipts = id().prop_map(|chat_id| Kind::GetReceipts(v1::GetReceipts { chat_id }));
    let find = ".{0,40}".prop_map(|handle| Kind::FindUser(v1::FindUser { handle }));
    let presence = vec(id(), 0..9).prop_map(|user_ids| Kind::SubscribePresence(v1::SubscribePresence { user_ids }));
    let begin_link = (bytes(40), ".{0,16}", 0..3i32, bytes(70)).prop_map(|(device_key, name, binding, signature)| {
        Kind::BeginLink(v1::BeginLink { device_key, name, binding, signature })
    });
    let get_chat = id().prop_map(|chat_id| Kind::GetChat(v1::GetChat { chat_id }));
    let get_invite = (id(), bytes(20)).prop_map(|(chat_id, secret)| Kind::GetInvite(v1::GetInvite { chat_id, secret }));
    let get_devices = id().prop_map(|user_id| Kind::GetDevices(v1::GetDevices { user_id }));
    let get_link = ".{0,12}".prop_map(|code| Kind::GetLink(v1::GetLink { code }));
    let approve_link = (".{0,12}", bytes(40), ".{0,16}")
        .prop_map(|(code, device_key, name)| Kind::ApproveLink(v1::ApproveLink { code, device_key, name }));
    let rename = (any::<u32>(), ".{0,16}")
        .prop_map(|(device_id, name)| Kind::RenameDevice(v1::RenameDevice { device_id, name }));
    let revoke = any::<u32>().prop_map(|device_id| Kind::RevokeDevice(v1::RevokeDevice { device_id }));
    let pre_key =
        (any::<u64>(), bytes(40), bytes(70)).prop_map(|(id, key, signature)| v1::PreKey { id, key, signature }).boxed();
    let put_keys = (bytes(40), bytes(70), option::of(pre_key.clone()), vec(pre_key, 0..5)).prop_map(
        |(identity_key, identity_signature, fallback, one_time)| {
            Kind::PutKeys(v1::PutKeys { identity_key, identity_signature, fallback, one_time })
        },
    );
    let get_keys = (id(), vec(any::<u32>(), 0..5))
        .prop_map(|(user_id, device_ids)| Kind::GetKeys(v1::GetKeys { user_id, device_ids }));
    let signal = (id(), id(), any::<u32>(), bytes(2000)).prop_map(|(to_user, chat_id, device_id, body)| {
        Kind::SendSignal(v1::SendSignal { to_user, chat_id, device_id, body })
    });
    let get_user = id().prop_map(|user_id| Kind::GetUser(v1::GetUser { user_id }));
    let audience = || option::of(0..3);
    let set_privacy = (audience(), audience(), audience(), option::of(any::<bool>())).prop_map(
        |(last_seen, online, groups, read_receipts_off)| {
            Kind::SetPrivacy(v1::SetPrivacy { last_seen, online, groups, read_receipts_off })
        },
    );
    let set_contacts =
        (vec(id(), 0..4), vec(id(), 0..4)).prop_map(|(add, remove)| Kind::SetContacts(v1::SetContacts { add, remove }));
    let delete_account = ".{0,40}".prop_map(|handle| Kind::DeleteAccount(v1::DeleteAccount { handle }));
    let get_chats =
        (id(), any::<u32>()).prop_map(|(after_chat_id, limit)| Kind::GetChats(v1::GetChats { after_chat_id, limit }));
    let set_blocked =
        (id(), any::<bool>()).prop_map(|(user_id, blocked)| Kind::SetBlocked(v1::SetBlocked { user_id, blocked }));
    let set_profile = (option::of(bytes(40)), option::of(bytes(40)), option::of(bytes(40)))
        .prop_map(|(name, about, picture)| Kind::SetProfile(v1::SetProfile { name, about, picture }));
    let kind = prop_oneof![
        hello,
        register,
        login,
        begin_link,
        set_privacy,
        set_contacts,
        set_blocked,
        get_chats,
        delete_account,
        Just(Kind::GetContacts(v1::GetContacts {})),
        get_devices,
        change,
        get_chat,
        get_invite,
        get_link,
        approve_link,
        rename,
        revoke,
        Just(Kind::Ping(v1::Ping {})),
        Just(Kind::Bye(v1::Bye {})),
        send,
        ack,
        read,
        history,
        receipts,
        find,
        presence,
        get_user,
        Just(Kind::GetAccount(v1::GetAccount {})),
        set_profile,
        put_keys,
        get_keys,
        signal,
    ];
    (any::<u64>(), kind).prop_map(|(request_id, kind)| ClientFrame { request_id, kind: Some(kind) })
}

fn change() -> impl Strategy<Value = v1::GroupChange> {
    use v1::group_change::Kind;
    let users = || vec(id(), 0..5);
    let create =
        (bytes(300), bytes(600), any::<bool>(), users()).prop_map(|(name, picture, announcements, user_ids)| {
            Kind::Create(v1::CreateGroup { name, picture, announcements, user_ids })
        });
    let look = (option::of(bytes(300)), option::of(bytes(600)), any::<Option<bool>>())
        .prop_map(|(name, picture, announcements)| Kind::SetLook(v1::SetLook { name, picture, announcements }));
    let invite = (bytes(20), any::<u64>(), any::<bool>())
        .prop_map(|(secret, expires_ms, ended)| Kind::SetInvite(v1::SetInvite { secret, expires_ms, ended }));
    let join = bytes(20).prop_map(|secret| Kind::Join(v1::JoinGroup { secret }));
    let kind = prop_oneof![
        create,
        look,
        invite,
        join,
        any::<u32>().prop_map(|timer_s| Kind::SetTimer(v1::SetTimer { timer_s })),
        users().prop_map(|user_ids| Kind::Add(v1::AddMembers { user_ids })),
        users().prop_map(|user_ids| Kind::Remove(v1::RemoveMembers { user_ids })),
        id().prop_map(|owner_id| Kind::Leave(v1::LeaveGroup { owner_id })),
        (id(), 0..4i32).prop_map(|(user_id, role)| Kind::SetRole(v1::SetRole { user_id, role })),
    ];
    option::of(kind).prop_map(|kind| v1::GroupChange { kind })
}

fn deliver() -> impl Strategy<Value = v1::Deliver> {
    let change = option::of(change().prop_map(Box::new));
    (id(), any::<u64>(), id(), any::<u32>(), any::<u64>(), bytes(2000), change, any::<u32>()).prop_map(
        |(chat_id, seq, sender_user, sender_device, time_ms, body, change, timer_s)| v1::Deliver {
            timer_s,
            chat_id,
            seq,
            sender_user,
            sender_device,
            time_ms,
            body,
            change,
        },
    )
}

fn server_frame() -> impl Strategy<Value = ServerFrame> {
    use server_frame::Kind;
    let receipt = (id(), id(), any::<u64>(), any::<u64>()).prop_map(|(chat_id, user_id, delivered_seq, read_seq)| {
        v1::Receipt { chat_id, user_id, delivered_seq, read_seq }
    });
    let member =
        (id(), 0..4i32, any::<u64>()).prop_map(|(user_id, role, from_seq)| v1::ChatMember { user_id, role, from_seq });
    let group = (bytes(300), bytes(600), any::<bool>(), bytes(20), any::<u64>()).prop_map(
        |(name, picture, announcements, invite_secret, invite_expires_ms)| v1::Group {
            name,
            picture,
            announcements,
            invite_secret,
            invite_expires_ms,
        },
    );
    let invite = (id(), bytes(300), bytes(600), any::<bool>(), any::<u32>(), any::<u64>()).prop_map(
        |(chat_id, name, picture, announcements, members, expires_ms)| {
            Kind::Invite(v1::Invite { chat_id, name, picture, announcements, members, expires_ms })
        },
    );
    let chat = (id(), any::<u64>(), any::<u64>(), option::of(group), vec(member, 0..5), any::<u32>()).prop_map(
        |(chat_id, first_seq, last_seq, group, members, timer_s)| {
            Kind::Chat(v1::Chat { chat_id, first_seq, last_seq, group, members, timer_s })
        },
    );
    let challenge = (any::<u32>(), any::<u64>(), bytes(40), any::<u64>(), 0..4i32).prop_map(
        |(version, capabilities, nonce, server_time_ms, registration)| {
            Kind::Challenge(v1::Challenge { version, capabilities, nonce, server_time_ms, registration })
        },
    );
    let error = (any::<u32>(), ".{0,40}", any::<u32>())
        .prop_map(|(code, message, retry_after_ms)| Kind::Error(v1::Error { code, message, retry_after_ms }));
    let sent = (any::<u64>(), id(), any::<u64>(), any::<u64>(), any::<bool>()).prop_map(
        |(client_seq, chat_id, seq, time_ms, duplicate)| {
            Kind::Sent(v1::Sent { client_seq, chat_id, seq, time_ms, duplicate })
        },
    );
    let history = (id(), vec(deliver(), 0..5), any::<bool>())
        .prop_map(|(chat_id, messages, complete)| Kind::History(v1::History { chat_id, messages, complete }));
    let receipts = (id(), any::<u64>(), vec(receipt.clone(), 0..5))
        .prop_map(|(chat_id, last_seq, members)| Kind::Receipts(v1::Receipts { chat_id, last_seq, members }));
    let presence = (id(), any::<bool>(), any::<u64>(), any::<u32>()).prop_map(
        |(user_id, online, last_seen_ms, devices_version)| {
            Kind::Presence(v1::Presence { user_id, online, last_seen_ms, devices_version })
        },
    );
    let link_code = (".{0,12}", any::<u32>())
        .prop_map(|(code, expires_in_ms)| Kind::LinkCode(v1::LinkCode { code, expires_in_ms }));
    let linked = (id(), any::<u32>(), ".{0,32}")
        .prop_map(|(user_id, device_id, handle)| Kind::Linked(v1::Linked { user_id, device_id, handle }));
    let device = (any::<u32>(), bytes(40), ".{0,16}", any::<u64>(), any::<bool>()).prop_map(
        |(device_id, device_key, name, created_ms, online)| v1::Device {
            device_id,
            device_key,
            name,
            created_ms,
            online,
        },
    );
    let devices = (vec(device, 0..9), any::<u32>())
        .prop_map(|(devices, version)| Kind::Devices(v1::Devices { devices, version }));
    let link_info = (bytes(40), ".{0,16}", ".{0,64}")
        .prop_map(|(device_key, name, agent)| Kind::LinkInfo(v1::LinkInfo { device_key, name, agent }));
    let added = any::<u32>().prop_map(|device_id| Kind::DeviceAdded(v1::DeviceAdded { device_id }));
    let pre_key =
        (any::<u64>(), bytes(40), bytes(70)).prop_map(|(id, key, signature)| v1::PreKey { id, key, signature });
    let bundle = (any::<u32>(), bytes(40), bytes(40), bytes(70), option::of(pre_key), any::<bool>()).prop_map(
        |(device_id, device_key, identity_key, identity_signature, pre_key, one_time)| v1::KeyBundle {
            device_id,
            device_key,
            identity_key,
            identity_signature,
            pre_key,
            one_time,
        },
    );
    let keys = (id(), vec(bundle, 0..4)).prop_map(|(user_id, bundles)| Kind::Keys(v1::Keys { user_id, bundles }));
    let profile = (bytes(40), bytes(40), bytes(40))
        .prop_map(|(name, about, picture)| v1::Profile { name, about, picture })
        .boxed();
    let privacy = (0..3, 0..3, 0..3, any::<bool>()).prop_map(|(last_seen, online, groups, read_receipts_off)| {
        v1::Privacy { last_seen, online, groups, read_receipts_off }
    });
    let user = (id(), ".{0,40}", option::of(profile.clone()), any::<u32>()).prop_map(
        |(user_id, handle, profile, profile_version)| {
            Kind::User(v1::User { user_id, handle, profile, profile_version })
        },
    );
    let account = (id(), ".{0,40}", option::of(profile), any::<u32>(), option::of(privacy), any::<u32>()).prop_map(
        |(user_id, handle, profile, profile_version, privacy, roster_version)| {
            Kind::Account(v1::Account { user_id, handle, profile, profile_version, privacy, roster_version })
        },
    );
    let contacts = (vec(id(), 0..4), vec(id(), 0..4), any::<u32>()).prop_map(|(contacts, blocked, roster_version)| {
        Kind::Contacts(v1::Contacts { contacts, blocked, roster_version })
    });
    let chats = (vec((id(), any::<u64>()), 0..4), any::<bool>()).prop_map(|(chats, complete)| {
        let chats = chats.into_iter().map(|(chat_id, from_seq)| v1::ChatEntry { chat_id, from_seq }).collect();
        Kind::Chats(v1::Chats { chats, complete })
    });
    let kind = prop_oneof![
        contacts,
        chats,
        link_code,
        linked,
        devices,
        link_info,
        added,
        challenge,
        error,
        sent,
        deliver().prop_map(Kind::Deliver),
        chat,
        invite,
        receipt.prop_map(Kind::Receipt),
        history,
        receipts,
        presence,
        user,
        account,
        keys,
        any::<u32>().prop_map(|one_time_keys| Kind::KeysStored(v1::KeysStored { one_time_keys })),
        any::<u32>().prop_map(|one_time_keys| Kind::KeysLow(v1::KeysLow { one_time_keys })),
        (id(), id(), any::<u32>(), bytes(2000)).prop_map(|(chat_id, sender_user, sender_device, body)| {
            Kind::Signal(v1::Signal { chat_id, sender_user, sender_device, body })
        }),
        Just(Kind::Synced(v1::Synced {})),
        Just(Kind::Done(v1::Done {})),
    ];
    (any::<u64>(), kind).prop_map(|(request_id, kind)| ServerFrame { request_id, kind: Some(kind) })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_client_says_is_what_the_server_reads(frame in client_frame()) {
        prop_assert_eq!(decode_client(encode(&frame)).unwrap(), frame);
    }

    #[test]
    fn what_a_server_says_is_what_the_client_reads(frame in server_frame()) {
        prop_assert_eq!(decode_server(encode(&frame)).unwrap(), frame);
    }

    #[test]
    fn a_stream_gives_the_same_frames_whatever_its_chunks(
        frames in vec(client_frame(), 0..8),
        chunk in 1usize..700,
    ) {
        let mut stream = BytesMut::new();
        for frame in &frames {
            encode_framed(frame, &mut stream);
        }
        let mut deframer = Deframer::new(FRAME_BYTES_MAX);
        let mut out = Vec::new();
        for chunk in stream.chunks(chunk) {
            deframer.push(chunk);
            while let Some(frame) = deframer.next_frame().unwrap() {
                out.push(decode_client(frame).unwrap());
            }
        }
        prop_assert_eq!(out, frames);
        prop_assert!(!deframer.is_partial());
    }

    #[test]
    fn ids_survive_their_text_form(id in any::<[u8; 16]>()) {
        let (user, chat) = (UserId::from_bytes(id), ChatId::from_bytes(id));
        prop_assert_eq!(user.to_string().parse::<UserId>().unwrap(), user);
        prop_assert_eq!(ChatId::try_from(&chat.as_bytes()[..]).unwrap(), chat);
    }
}

/// A message of the largest ids and numbers, with a body of so many bytes.
fn largest(body: usize) -> v1::Deliver {
    let id = Bytes::from_static(&[0xff; 16]);
    v1::Deliver {
        timer_s: 0,
        chat_id: id.clone(),
        seq: u64::MAX,
        sender_user: id,
        sender_device: u32::MAX,
        time_ms: u64::MAX,
        body: Bytes::from(vec![1; body]),
        change: None,
    }
}

#[test]
fn the_largest_message_and_history_page_fit_into_a_frame() {
    let deliver = server_frame::Kind::Deliver(largest(BODY_BYTES_MAX));
    assert!(encode(&ServerFrame { request_id: u64::MAX, kind: Some(deliver) }).len() <= FRAME_BYTES_MAX);

    let count = usize::try_from(HISTORY_PAGE_MAX).unwrap();
    let messages = vec![largest(HISTORY_PAGE_BYTES_MAX / count); count];
    let history = v1::History { chat_id: Bytes::from_static(&[0xff; 16]), messages, complete: true };
    let kind = server_frame::Kind::History(history);
    assert!(encode(&ServerFrame { request_id: u64::MAX, kind: Some(kind) }).len() <= FRAME_BYTES_MAX);
}
