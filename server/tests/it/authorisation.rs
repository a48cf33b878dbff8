//! Who may ask what: every request, by everybody who could ask it, and the code that the protocol says.

use core::time::Duration;
use std::{collections::BTreeSet, fmt::Write as _};

use bytes::Bytes;
use columba_wire::{
    ChatId, ClientSeq, Code, UserId,
    v1::{self, Role, client_frame::Kind as Request, group_change::Kind as Change, server_frame::Kind},
};

use crate::{
    devices::link,
    groups::{
        Member, add, changing, get_chat, get_history, get_invite, get_receipts, join, leave, read, remove, rename,
        set_invite, set_role,
    },
    keys::{get_keys, put_keys},
    link::Over,
    node::{Node, run, setup},
    raw::{Person, Raw, ack, hello, id, presence, send, watch},
    roster::block,
    signals::signal,
};

const LIMIT: Duration = Duration::from_secs(180);

/// The name of a request. A new one does not compile until it is here; that it is in the table the test says.
const fn name(request: &Request) -> &'static str {
    match request {
        Request::Hello(_) => "Hello",
        Request::Register(_) => "Register",
        Request::Login(_) => "Login",
        Request::Ping(_) => "Ping",
        Request::Bye(_) => "Bye",
        Request::BeginLink(_) => "BeginLink",
        Request::Send(_) => "Send",
        Request::Ack(_) => "Ack",
        Request::Read(_) => "Read",
        Request::GetHistory(_) => "GetHistory",
        Request::GetReceipts(_) => "GetReceipts",
        Request::FindUser(_) => "FindUser",
        Request::SubscribePresence(_) => "SubscribePresence",
        Request::GetChat(_) => "GetChat",
        Request::GetInvite(_) => "GetInvite",
        Request::GetDevices(_) => "GetDevices",
        Request::GetLink(_) => "GetLink",
        Request::ApproveLink(_) => "ApproveLink",
        Request::RenameDevice(_) => "RenameDevice",
        Request::RevokeDevice(_) => "RevokeDevice",
        Request::GetUser(_) => "GetUser",
        Request::GetAccount(_) => "GetAccount",
        Request::SetProfile(_) => "SetProfile",
        Request::SetPrivacy(_) => "SetPrivacy",
        Request::SetContacts(_) => "SetContacts",
        Request::SetBlocked(_) => "SetBlocked",
        Request::GetContacts(_) => "GetContacts",
        Request::GetChats(_) => "GetChats",
        Request::DeleteAccount(_) => "DeleteAccount",
        Request::PutKeys(_) => "PutKeys",
        Request::GetKeys(_) => "GetKeys",
        Request::SendSignal(_) => "SendSignal",
    }
}

/// Kinds of requests that there are.
const REQUESTS: usize = 32;

/// Every request as the owner, an admin, a member, a stranger and somebody whom the owner has blocked are answered.
const TABLE: &str = "
request                      owner             admin             member            stranger          blocked
Send to the owner            ok                ok                ok                ok                NOT_ALLOWED
Send to nobody               UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER
Send to the group            ok                ok                ok                UNKNOWN_CHAT      UNKNOWN_CHAT
Send to no group             UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT
Send an announcement         ok                ok                NOT_ALLOWED       UNKNOWN_CHAT      UNKNOWN_CHAT
Send: add nobody             UNKNOWN_USER      UNKNOWN_USER      NOT_ALLOWED       UNKNOWN_CHAT      UNKNOWN_CHAT
Send: add to no group        UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT
Send: remove the owner       INVALID_ARGUMENT  NOT_ALLOWED       NOT_ALLOWED       UNKNOWN_CHAT      UNKNOWN_CHAT
Send: give the group away    UNKNOWN_USER      UNKNOWN_USER      NOT_ALLOWED       UNKNOWN_CHAT      UNKNOWN_CHAT
Send: depose the owner       NOT_ALLOWED       NOT_ALLOWED       NOT_ALLOWED       UNKNOWN_CHAT      UNKNOWN_CHAT
Send: rename                 ok                ok                NOT_ALLOWED       UNKNOWN_CHAT      UNKNOWN_CHAT
Send: leave no group         UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT
Send: a link                 ok                ok                NOT_ALLOWED       UNKNOWN_CHAT      UNKNOWN_CHAT
Send: join, a wrong one      INVALID_ARGUMENT  INVALID_ARGUMENT  INVALID_ARGUMENT  INVITE_UNKNOWN    INVITE_UNKNOWN
Send: join no group          INVITE_UNKNOWN    INVITE_UNKNOWN    INVITE_UNKNOWN    INVITE_UNKNOWN    INVITE_UNKNOWN
Send: join two others        INVITE_UNKNOWN    INVITE_UNKNOWN    INVITE_UNKNOWN    INVITE_UNKNOWN    INVITE_UNKNOWN
Read the group               ok                ok                ok                UNKNOWN_CHAT      UNKNOWN_CHAT
Read no group                UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT
Read two others' chat        ok                UNKNOWN_CHAT      ok                UNKNOWN_CHAT      UNKNOWN_CHAT
GetHistory of the group      ok                ok                ok                UNKNOWN_CHAT      UNKNOWN_CHAT
GetHistory of no group       UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT
GetHistory of two others     ok                UNKNOWN_CHAT      ok                UNKNOWN_CHAT      UNKNOWN_CHAT
GetReceipts of the group     ok                ok                ok                UNKNOWN_CHAT      UNKNOWN_CHAT
GetReceipts of no group      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT
GetReceipts of two others    ok                UNKNOWN_CHAT      ok                UNKNOWN_CHAT      UNKNOWN_CHAT
GetChat of the group         ok                ok                ok                UNKNOWN_CHAT      UNKNOWN_CHAT
GetChat of no group          UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT
GetChat of two others        ok                UNKNOWN_CHAT      ok                UNKNOWN_CHAT      UNKNOWN_CHAT
GetInvite, a wrong one       INVITE_UNKNOWN    INVITE_UNKNOWN    INVITE_UNKNOWN    INVITE_UNKNOWN    INVITE_UNKNOWN
GetInvite of no group        INVITE_UNKNOWN    INVITE_UNKNOWN    INVITE_UNKNOWN    INVITE_UNKNOWN    INVITE_UNKNOWN
GetInvite of two others      INVITE_UNKNOWN    INVITE_UNKNOWN    INVITE_UNKNOWN    INVITE_UNKNOWN    INVITE_UNKNOWN
Ack the group                -                 -                 -                 -                 -
FindUser, the owner          ok                ok                ok                ok                ok
FindUser, nobody             UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER
GetUser, the owner           ok                ok                ok                ok                ok
GetUser, nobody              UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER
GetAccount                   own               own               own               own               own
GetContacts                  ok                ok                ok                ok                ok
GetChats                     ok                ok                ok                ok                ok
DeleteAccount, not by name   INVALID_ARGUMENT  INVALID_ARGUMENT  INVALID_ARGUMENT  INVALID_ARGUMENT  INVALID_ARGUMENT
SetProfile                   ok                ok                ok                ok                ok
SetPrivacy                   ok                ok                ok                ok                ok
SetContacts                  ok                ok                ok                ok                ok
SetBlocked, nobody           UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER
PutKeys of the owner         ok                INVALID_ARGUMENT  INVALID_ARGUMENT  INVALID_ARGUMENT  INVALID_ARGUMENT
GetKeys of the owner         ok                ok                ok                ok                ok
GetKeys of nobody            UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER
SendSignal to the owner      ok                ok                ok                ok                NOT_ALLOWED
SendSignal to the member     ok                UNKNOWN_CHAT      ok                UNKNOWN_CHAT      UNKNOWN_CHAT
SendSignal to nobody         UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT
SendSignal to the group      ok                ok                ok                UNKNOWN_CHAT      UNKNOWN_CHAT
SendSignal to no group       UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT      UNKNOWN_CHAT
SendSignal to one of it      ok                ok                ok                UNKNOWN_CHAT      UNKNOWN_CHAT
SendSignal to none of it     UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_CHAT      UNKNOWN_CHAT
SendSignal, announcements    ok                ok                NOT_ALLOWED       UNKNOWN_CHAT      UNKNOWN_CHAT
SubscribePresence, the owner online            online            online            online            offline
SubscribePresence, nobody    offline           offline           offline           offline           offline
GetDevices                   1                 1                 1                 1                 1
GetDevices of the owner      1                 1                 1                 1                 1
GetDevices of nobody         UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER      UNKNOWN_USER
GetLink, none                LINK_UNKNOWN      LINK_UNKNOWN      LINK_UNKNOWN      LINK_UNKNOWN      LINK_UNKNOWN
ApproveLink, none            LINK_UNKNOWN      LINK_UNKNOWN      LINK_UNKNOWN      LINK_UNKNOWN      LINK_UNKNOWN
RenameDevice that is not     INVALID_ARGUMENT  INVALID_ARGUMENT  INVALID_ARGUMENT  INVALID_ARGUMENT  INVALID_ARGUMENT
RevokeDevice that is not     INVALID_ARGUMENT  INVALID_ARGUMENT  INVALID_ARGUMENT  INVALID_ARGUMENT  INVALID_ARGUMENT
Ping                         ok                ok                ok                ok                ok
Hello                        UNEXPECTED        UNEXPECTED        UNEXPECTED        UNEXPECTED        UNEXPECTED
Register                     UNEXPECTED        UNEXPECTED        UNEXPECTED        UNEXPECTED        UNEXPECTED
Login                        UNEXPECTED        UNEXPECTED        UNEXPECTED        UNEXPECTED        UNEXPECTED
BeginLink                    UNEXPECTED        UNEXPECTED        UNEXPECTED        UNEXPECTED        UNEXPECTED
Bye                          closed            closed            closed            closed            closed
";

/// Those who ask, and what they ask about.
struct World {
    node: Node,
    owner: Person,
    /// The group of owner, admin and member.
    group: ChatId,
    /// A chat that does not exist.
    none: ChatId,
    /// The 1:1 chat of owner and member.
    direct: ChatId,
    of_member: UserId,
    nobody: UserId,
}

impl World {
    /// The requests of the table, in its order.
    fn requests(&self, client_seq: u64) -> Vec<(&'static str, Request)> {
        let Self { owner, group, none, direct, of_member, nobody, .. } = self;
        let (group, none, direct, nobody, of_owner) = (*group, *none, *direct, *nobody, owner.user());
        let to = |chat: ChatId, body: &'static str| {
            let (chat_id, body) = (id(chat.as_bytes()), Bytes::from_static(body.as_bytes()));
            Request::Send(v1::Send { client_seq, chat_id, body, ..v1::Send::default() })
        };
        let change = |chat, change: Change| Request::Send(changing(client_seq, Some(chat), change));
        let find = |handle: &str| Request::FindUser(v1::FindUser { handle: handle.to_owned() });
        let user = |user: UserId| Request::GetUser(v1::GetUser { user_id: id(user.as_bytes()) });
        let devices_of = |user: UserId| Request::GetDevices(v1::GetDevices { user_id: id(user.as_bytes()) });
        let renamed = format!("name {client_seq}");
        let key = id(&[3; 32]);
        vec![
            ("Send to the owner", send(client_seq, of_owner, "hello")),
            ("Send to nobody", send(client_seq, nobody, "hello")),
            ("Send to the group", to(group, "hello")),
            ("Send to no group", to(none, "hello")),
            ("Send an announcement", to(group, "an announcement")),
            ("Send: add nobody", change(group, add(&[nobody]))),
            ("Send: add to no group", change(none, add(&[of_owner]))),
            ("Send: remove the owner", change(group, remove(&[of_owner]))),
            ("Send: give the group away", change(group, set_role(nobody, Role::Owner))),
            ("Send: depose the owner", change(group, set_role(of_owner, Role::Member))),
            ("Send: rename", change(group, rename(&renamed))),
            ("Send: leave no group", change(none, leave())),
            ("Send: a link", change(group, set_invite(&[u8::try_from(client_seq % 256).unwrap(); 16], 0))),
            ("Send: join, a wrong one", change(group, join(&[0xee; 16]))),
            ("Send: join no group", change(none, join(&[0xee; 16]))),
            ("Send: join two others", change(direct, join(&[0xee; 16]))),
            ("Read the group", read(group, 1)),
            ("Read no group", read(none, 1)),
            ("Read two others' chat", read(direct, 1)),
            ("GetHistory of the group", get_history(group)),
            ("GetHistory of no group", get_history(none)),
            ("GetHistory of two others", get_history(direct)),
            ("GetReceipts of the group", get_receipts(group)),
            ("GetReceipts of no group", get_receipts(none)),
            ("GetReceipts of two others", get_receipts(direct)),
            ("GetChat of the group", get_chat(group)),
            ("GetChat of no group", get_chat(none)),
            ("GetChat of two others", get_chat(direct)),
            ("GetInvite, a wrong one", get_invite(group, &[1; 16])),
            ("GetInvite of no group", get_invite(none, &[1; 16])),
            ("GetInvite of two others", get_invite(direct, &[1; 16])),
            ("Ack the group", ack(group, 1)),
            ("FindUser, the owner", find(&owner.handle)),
            ("FindUser, nobody", find("nobody-here")),
            ("GetUser, the owner", user(of_owner)),
            ("GetUser, nobody", user(nobody)),
            ("GetAccount", Request::GetAccount(v1::GetAccount {})),
            ("GetContacts", Request::GetContacts(v1::GetContacts {})),
            ("GetChats", Request::GetChats(v1::GetChats { after_chat_id: Bytes::new(), limit: 10 })),
            (
                "DeleteAccount, not by name",
                Request::DeleteAccount(v1::DeleteAccount { handle: "nobody-here".to_owned() }),
            ),
            ("SetProfile", Request::SetProfile(v1::SetProfile::default())),
            ("SetPrivacy", Request::SetPrivacy(v1::SetPrivacy::default())),
            ("SetContacts", Request::SetContacts(v1::SetContacts::default())),
            ("SetBlocked, nobody", block(nobody, true)),
            ("PutKeys of the owner", Request::PutKeys(put_keys(owner, 1..=2))),
            ("GetKeys of the owner", get_keys(of_owner, Vec::new())),
            ("GetKeys of nobody", get_keys(nobody, Vec::new())),
            ("SendSignal to the owner", signal(Some(of_owner), None)),
            ("SendSignal to the member", signal(Some(*of_member), None)),
            ("SendSignal to nobody", signal(Some(nobody), None)),
            ("SendSignal to the group", signal(None, Some(group))),
            ("SendSignal to no group", signal(None, Some(none))),
            ("SendSignal to one of it", signal(Some(of_owner), Some(group))),
            ("SendSignal to none of it", signal(Some(nobody), Some(group))),
            ("SendSignal, announcements", signal(None, Some(group))),
            ("SubscribePresence, the owner", watch(of_owner)),
            ("SubscribePresence, nobody", watch(nobody)),
            ("GetDevices", Request::GetDevices(v1::GetDevices::default())),
            ("GetDevices of the owner", devices_of(of_owner)),
            ("GetDevices of nobody", devices_of(nobody)),
            ("GetLink, none", Request::GetLink(v1::GetLink { code: "00000000".to_owned() })),
            (
                "ApproveLink, none",
                Request::ApproveLink(v1::ApproveLink {
                    code: "00000000".to_owned(),
                    device_key: key.clone(),
                    name: String::new(),
                }),
            ),
            (
                "RenameDevice that is not",
                Request::RenameDevice(v1::RenameDevice { device_id: 99, name: "mine".to_owned() }),
            ),
            ("RevokeDevice that is not", Request::RevokeDevice(v1::RevokeDevice { device_id: 99 })),
            ("Ping", Request::Ping(v1::Ping {})),
            ("Hello", hello()),
            ("Register", owner.register(&[0; 32], &columba_wire::auth::Binding::NONE, "")),
            ("Login", owner.login(&[0; 32], &columba_wire::auth::Binding::NONE)),
            (
                "BeginLink",
                Request::BeginLink(v1::BeginLink {
                    device_key: key,
                    signature: id(&[1; 64]),
                    ..v1::BeginLink::default()
                }),
            ),
            ("Bye", Request::Bye(v1::Bye {})),
        ]
    }
}

/// How a request is answered, in a word.
async fn answer(raw: &mut Raw, me: UserId, request: Request) -> String {
    if let Request::Bye(_) = request {
        raw.request(request).await;
        return raw.ended().await.map_or("closed", Code::name).to_owned();
    }
    if let Request::Ack(_) = request {
        raw.request(request).await;
        // Nothing is answered where it is taken; where it is not, the error ends the session.
        let number = raw.request(Request::Ping(v1::Ping {})).await;
        return loop {
            let frame = raw.receive().await.expect("an answer");
            match frame.kind {
                Some(Kind::Error(error)) => break Code::from_number(error.code).unwrap().name().to_owned(),
                Some(Kind::Pong(_)) if frame.request_id == number => break "-".to_owned(),
                _ => {}
            }
        };
    }
    match raw.ask(request).await {
        Err(code) => code.name().to_owned(),
        Ok(Kind::Account(account)) if account.user_id == id(me.as_bytes()) => "own".to_owned(),
        Ok(Kind::Account(_)) => "another's".to_owned(),
        Ok(Kind::Devices(devices)) => devices.devices.len().to_string(),
        Ok(_) => "ok".to_owned(),
    }
}

/// The same of a presence: what the asker sees.
async fn sight(raw: &mut Raw, request: Request) -> String {
    let Request::SubscribePresence(subscribe) = &request else { panic!("another request") };
    let of = UserId::try_from(&subscribe.user_ids[0][..]).unwrap();
    if let Err(code) = raw.ask(request).await {
        return code.name().to_owned();
    }
    let presence = presence(raw, of).await;
    assert_eq!(presence.last_seen_ms, 0, "she is there, or nobody is to know when she was");
    if presence.online { "online" } else { "offline" }.to_owned()
}

#[test]
fn everybody_is_answered_every_request_as_the_protocol_says() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let mut owner = Member::register(&node, Over::Plain, "owner").await;
        let mut admin = Member::register(&node, Over::Plain, "admin").await;
        let mut member = Member::register(&node, Over::Plain, "member").await;
        let stranger = Member::register(&node, Over::Plain, "stranger").await;
        let mut blocked = Member::register(&node, Over::Plain, "blocked").await;
        let (of_owner, of_member) = (owner.user(), member.user());
        let group = owner.create("club", &[admin.user(), of_member]).await;
        owner.change(group, set_role(admin.user(), Role::Admin)).await.unwrap();
        member.raw.ask(send(1, of_owner, "between us")).await.unwrap();
        blocked.raw.ask(send(1, of_owner, "before")).await.unwrap();
        owner.raw.ask(block(blocked.user(), true)).await.unwrap();
        let (mut laptop, revoked) = link(&node, Over::Plain, &mut member.raw, "laptop").await;
        let device_id = revoked.address.device.get();
        member.raw.ask(Request::RevokeDevice(v1::RevokeDevice { device_id })).await.unwrap();
        assert_eq!(laptop.ended().await, Some(Code::Revoked));
        // Somebody else's key, with the owner's name.
        let mut other = Person::new("owner");
        other.address = owner.is.address;

        let direct = ChatId::direct(of_owner, of_member);
        let none = ChatId::group(owner.is.address, ClientSeq::new(9_999));
        let nobody = UserId::from_bytes([9; 16]);
        let world = World { node, owner: owner.is, group, none, direct, of_member, nobody };
        let people = [&world.owner, &admin.is, &member.is, &stranger.is, &blocked.is];
        let mut client_seq = 1_000;
        let mut cells: Vec<Vec<String>> = Vec::new();
        let mut seen = BTreeSet::new();
        for place in 0..world.requests(0).len() {
            let mut row = Vec::new();
            if world.requests(0)[place].0.contains("announcement") {
                admin.raw = Raw::login(&world.node, Over::Plain, &admin.is).await;
                announce(&mut admin.raw, group, true, client_seq).await;
            }
            for person in people {
                client_seq += 10;
                let (_, request) = world.requests(client_seq).swap_remove(place);
                seen.insert(name(&request));
                let watched = matches!(request, Request::SubscribePresence(_));
                // For a look at the owner somebody has to be there.
                let _there = if watched && person.user() != of_owner {
                    Some(Raw::login(&world.node, Over::Plain, &world.owner).await)
                } else {
                    None
                };
                let mut raw = Raw::login(&world.node, Over::Plain, person).await;
                row.push(match watched {
                    true => sight(&mut raw, request).await,
                    false => answer(&mut raw, person.user(), request).await,
                });
            }
            // A device that the member has revoked, and one that says it is the owner's, are not let in.
            for person in [&revoked, &other] {
                client_seq += 10;
                let (_, request) = world.requests(client_seq).swap_remove(place);
                let mut raw = Raw::connect(&world.node, Over::Plain).await;
                assert_eq!(raw.try_login(person).await, Err(Code::Unauthenticated));
                raw.challenge().await;
                let expected = match &request {
                    Request::Hello(_) => "ok",
                    Request::Register(_) | Request::Login(_) | Request::BeginLink(_) => "UNAUTHENTICATED",
                    _ => "UNEXPECTED",
                };
                assert_eq!(answer(&mut raw, person.user(), request).await, expected, "not let in");
            }
            if world.requests(0)[place].0.contains("announcement") {
                client_seq += 10;
                admin.raw = Raw::login(&world.node, Over::Plain, &admin.is).await;
                announce(&mut admin.raw, group, false, client_seq).await;
            }
            cells.push(row);
        }
        let mut table = String::from("\n");
        let columns = ["owner", "admin", "member", "stranger", "blocked"].map(str::to_owned);
        let rows = world.requests(0).into_iter().map(|(what, _)| what).zip(cells);
        for (what, row) in [("request", columns.to_vec())].into_iter().chain(rows) {
            let mut line = format!("{what:<29}");
            row.iter().for_each(|cell| write!(line, "{cell:<18}").unwrap());
            writeln!(table, "{}", line.trim_end()).unwrap();
        }
        assert!(table == TABLE, "it is so now:\n{table}");
        assert_eq!(seen.len(), REQUESTS, "a request is not in the table; those that are: {seen:?}");
    });
}

async fn announce(admin: &mut Raw, group: ChatId, only: bool, client_seq: u64) {
    let look = Change::SetLook(v1::SetLook { announcements: Some(only), ..v1::SetLook::default() });
    admin.ask(Request::Send(changing(client_seq, Some(group), look))).await.unwrap();
}
