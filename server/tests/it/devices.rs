//! Several devices of a user: linked by a code, both get everything, and a revoked one gets nothing more.

use core::time::Duration;

use bytes::Bytes;
use columba_client::{Client, Event, Events, options::Transport, types::Account};
use columba_wire::{
    ChatId, Code, DeviceId, UserId,
    auth::link_bytes,
    limits::DEVICES_MAX,
    v1::{self, client_frame::Kind as Request, server_frame::Kind},
};
use ed25519_dalek::Signer as _;

use crate::{
    link::Over,
    node::{Node, run, setup, soon},
    phone::{options, register},
    raw::{Person, Raw, id, presence, send, watch},
};

const LIMIT: Duration = Duration::from_secs(60);

/// Asks for a link code. The new device's user is not known yet.
async fn begin_link(node: &Node, over: Over, device: &Person, name: &str) -> (Raw, String) {
    let mut raw = Raw::connect(node, over).await;
    let code = try_begin_link(&mut raw, device, name).await.unwrap();
    (raw, code)
}

async fn try_begin_link(raw: &mut Raw, device: &Person, name: &str) -> Result<String, Code> {
    let nonce = raw.challenge().await;
    let key = device.key.verifying_key().to_bytes();
    let signature = device.key.sign(&link_bytes(&nonce, &raw.binding, &key, name)).to_bytes();
    let begin = v1::BeginLink {
        device_key: id(&key),
        name: name.to_owned(),
        binding: raw.binding.kind.into(),
        signature: Bytes::copy_from_slice(&signature),
    };
    match raw.ask(Request::BeginLink(begin)).await? {
        Kind::LinkCode(code) => {
            assert!(code.code.len() == 8 && code.expires_in_ms == 120_000, "{code:?}");
            Ok(code.code)
        }
        other => panic!("another answer to BeginLink: {other:?}"),
    }
}

fn approve(code: &str, device: &Person, name: &str) -> Request {
    let device_key = id(&device.key.verifying_key().to_bytes());
    Request::ApproveLink(v1::ApproveLink { code: code.to_owned(), device_key, name: name.to_owned() })
}

/// The new device learns who it is, and is let in.
async fn linked(raw: &mut Raw, device: &mut Person) {
    let linked = raw.expect("Linked", |kind| if let Kind::Linked(linked) = kind { Some(linked) } else { None }).await;
    device.address.user = UserId::try_from(&linked.user_id[..]).unwrap();
    device.address.device = DeviceId::new(linked.device_id).unwrap();
    device.handle = linked.handle;
    let welcome = raw.receive().await.expect("a welcome");
    let Some(Kind::Welcome(welcome)) = welcome.kind else { panic!("no welcome behind Linked: {welcome:?}") };
    assert_eq!(welcome.device_id, device.address.device.get());
    synced(raw).await;
}

async fn synced(raw: &mut Raw) {
    raw.expect("Synced", |kind| matches!(kind, Kind::Synced(_)).then_some(())).await;
}

/// Another device of a user who is there.
pub(crate) async fn link(node: &Node, over: Over, by: &mut Raw, name: &str) -> (Raw, Person) {
    let mut device = Person::new("not known yet");
    let (mut raw, code) = begin_link(node, over, &device, name).await;
    let added = by.ask(approve(&code, &device, "")).await.unwrap();
    linked(&mut raw, &mut device).await;
    let Kind::DeviceAdded(added) = added else { panic!("another answer to ApproveLink: {added:?}") };
    assert_eq!(added.device_id, device.address.device.get());
    (raw, device)
}

async fn devices(raw: &mut Raw) -> v1::Devices {
    devices_of(raw, Bytes::new()).await
}

async fn devices_of(raw: &mut Raw, user_id: Bytes) -> v1::Devices {
    match raw.ask(Request::GetDevices(v1::GetDevices { user_id })).await.unwrap() {
        Kind::Devices(devices) => devices,
        other => panic!("another answer to GetDevices: {other:?}"),
    }
}

fn revoke(device: u32) -> Request {
    Request::RevokeDevice(v1::RevokeDevice { device_id: device })
}

fn rename(device: u32, name: &str) -> Request {
    Request::RenameDevice(v1::RenameDevice { device_id: device, name: name.to_owned() })
}

async fn ada_and_bob(node: &Node) -> (Raw, Person, Raw, Person) {
    let (mut ada, mut bob) = (Person::new("ada"), Person::new("bob"));
    let phone = Raw::register(node, Over::Quic, &mut ada).await;
    let other = Raw::register(node, Over::Tls, &mut bob).await;
    (phone, ada, other, bob)
}

#[test]
fn who_watches_a_user_learns_of_its_devices_and_may_ask_for_their_keys() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let (mut phone, ada, mut bob, _) = ada_and_bob(&node).await;
        bob.ask(watch(ada.user())).await.unwrap();
        assert_eq!(presence(&mut bob, ada.user()).await.devices_version, 1);
        let (laptop, laptop_is) = link(&node, Over::Tls, &mut phone, "laptop").await;
        let told = presence(&mut bob, ada.user()).await;
        assert_eq!((told.online, told.devices_version), (true, 2), "a key that nobody has seen before");

        // The keys, and nothing else: neither names, nor when a device was added, nor which is online.
        let key = |person: &Person| id(&person.key.verifying_key().to_bytes());
        let device = |device_id, device_key| v1::Device { device_id, device_key, ..v1::Device::default() };
        let expected = v1::Devices { devices: vec![device(1, key(&ada)), device(2, key(&laptop_is))], version: 2 };
        assert_eq!(devices_of(&mut bob, id(ada.user().as_bytes())).await, expected);
        let own = devices_of(&mut phone, id(ada.user().as_bytes())).await;
        assert_eq!(own, devices(&mut phone).await, "oneself, by one's id");
        assert_eq!(own.devices[1].name, "laptop");

        drop(laptop);
        phone.ask(revoke(2)).await.unwrap();
        let mut version = 2;
        while version == 2 {
            version = presence(&mut bob, ada.user()).await.devices_version;
        }
        assert_eq!(version, 3);
        assert_eq!(devices_of(&mut bob, id(ada.user().as_bytes())).await.devices, [device(1, key(&ada))]);

        let unknown = v1::GetDevices { user_id: id(&[7; 16]) };
        assert_eq!(bob.ask(Request::GetDevices(unknown)).await, Err(Code::UnknownUser));
        let malformed = v1::GetDevices { user_id: id(&[7; 15]) };
        assert_eq!(bob.ask(Request::GetDevices(malformed)).await, Err(Code::InvalidArgument));
        bob.ask(watch(UserId::from_bytes([7; 16]))).await.unwrap();
        assert_eq!(presence(&mut bob, UserId::from_bytes([7; 16])).await.devices_version, 0);
    });
}

#[test]
fn a_linked_device_gets_what_the_others_get_and_what_they_send() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let (mut phone, ada, mut bob, bob_is) = ada_and_bob(&node).await;
        bob.ask(send(1, ada.user(), "before")).await.unwrap();
        assert_eq!(phone.delivered().await.body, "before");

        let waiting = Person::new("not known yet");
        let (mut laptop, code) = begin_link(&node, Over::Tls, &waiting, "laptop").await;
        assert!(matches!(laptop.ask(Request::Ping(v1::Ping {})).await, Ok(Kind::Pong(_))), "it may wait");
        let typed = format!(" {}-{}", code[..4].to_lowercase(), &code[4..]);
        let found = phone.ask(Request::GetLink(v1::GetLink { code: typed.clone() })).await.unwrap();
        let Kind::LinkInfo(info) = found else { panic!("another answer to GetLink: {found:?}") };
        assert_eq!((&info.name[..], &info.agent[..]), ("laptop", "it/1"));
        assert_eq!(info.device_key, id(&waiting.key.verifying_key().to_bytes()));
        phone.ask(approve(&typed, &waiting, "")).await.unwrap();
        let mut laptop_is = waiting;
        linked(&mut laptop, &mut laptop_is).await;
        assert_eq!((laptop_is.user(), laptop_is.address.device.get()), (ada.user(), 2));
        assert_eq!(laptop_is.handle, "ada");

        bob.ask(send(2, ada.user(), "to both")).await.unwrap();
        assert_eq!(phone.delivered().await.body, "to both");
        let first = laptop.delivered().await;
        assert_eq!((first.body, first.seq), (Bytes::from("to both"), 2), "and not what was before it");
        laptop.ask(send(1, bob_is.user(), "from the laptop")).await.unwrap();
        let own = phone.delivered().await;
        assert_eq!((own.body, own.sender_device), (Bytes::from("from the laptop"), 2));
        assert_eq!(own.sender_user, id(ada.user().as_bytes()));
        assert_eq!(bob.delivered().await.body, "from the laptop");
        phone.ask(send(1, bob_is.user(), "from the phone")).await.unwrap();
        let own = laptop.delivered().await;
        assert_eq!((own.body, own.sender_device), (Bytes::from("from the phone"), 1));

        let list = devices(&mut laptop).await;
        let names: Vec<_> =
            list.devices.iter().map(|device| (device.device_id, &device.name[..], device.online)).collect();
        assert_eq!((names, list.version), (vec![(1, "test", true), (2, "laptop", true)], 2));
    });
}

#[test]
fn what_came_while_a_linked_device_was_away_waits_for_it_over_a_crash() {
    run(LIMIT, async {
        let mut node = setup().cores(2).fixed_port().start().await;
        let (mut phone, ada, mut bob, bob_is) = ada_and_bob(&node).await;
        let (laptop, laptop_is) = link(&node, Over::Quic, &mut phone, "laptop").await;
        drop(laptop);
        bob.ask(send(1, ada.user(), "one")).await.unwrap();
        phone.ask(send(1, bob_is.user(), "two")).await.unwrap();
        assert_eq!(phone.delivered().await.body, "one");
        node.kill();
        node.start().await;
        let mut laptop = Raw::login(&node, Over::Tls, &laptop_is).await;
        assert_eq!(laptop.delivered().await.body, "one");
        assert_eq!(laptop.delivered().await.body, "two");
        let list = devices(&mut laptop).await;
        let names: Vec<_> =
            list.devices.iter().map(|device| (device.device_id, &device.name[..], device.online)).collect();
        assert_eq!(names, [(1, "test", false), (2, "laptop", true)]);
    });
}

#[test]
fn a_revoked_device_is_thrown_out_and_stays_out() {
    run(LIMIT, async {
        let mut node = setup().cores(2).fixed_port().start().await;
        let (mut phone, ada, mut bob, _) = ada_and_bob(&node).await;
        let (mut laptop, laptop_is) = link(&node, Over::Tls, &mut phone, "laptop").await;
        let (tablet, tablet_is) = link(&node, Over::Quic, &mut phone, "tablet").await;
        drop(tablet);
        bob.ask(send(1, ada.user(), "for all three")).await.unwrap();
        assert_eq!(phone.delivered().await.body, "for all three");

        assert!(matches!(phone.ask(revoke(2)).await, Ok(Kind::Done(_))));
        assert!(matches!(phone.ask(revoke(3)).await, Ok(Kind::Done(_))));
        assert!(matches!(phone.ask(revoke(3)).await, Ok(Kind::Done(_))), "again it is done again");
        assert_eq!(laptop.ended().await, Some(Code::Revoked));
        for device in [&laptop_is, &tablet_is] {
            let mut raw = Raw::connect(&node, Over::Tls).await;
            assert_eq!(raw.try_login(device).await, Err(Code::Unauthenticated));
        }
        bob.ask(send(2, ada.user(), "for one")).await.unwrap();
        assert_eq!(phone.delivered().await.body, "for one");
        let list = devices(&mut phone).await;
        assert_eq!((list.devices.len(), list.version), (1, 5), "three were added, two revoked");

        node.kill();
        node.start().await;
        let mut raw = Raw::connect(&node, Over::Tls).await;
        assert_eq!(raw.try_login(&laptop_is).await, Err(Code::Unauthenticated), "whatever happens to the node");
        // The same key may be linked again, and is another device then.
        let mut phone = Raw::login(&node, Over::Quic, &ada).await;
        let (mut laptop, code) = begin_link(&node, Over::Quic, &laptop_is, "laptop").await;
        phone.ask(approve(&code, &laptop_is, "my laptop")).await.unwrap();
        let mut again = laptop_is;
        linked(&mut laptop, &mut again).await;
        assert_eq!(again.address.device.get(), 4, "numbers are not given twice");
        assert_eq!(devices(&mut laptop).await.devices[1].name, "my laptop");
        // A device may end itself.
        assert!(laptop.request(revoke(4)).await > 0);
        assert_eq!(laptop.ended().await, Some(Code::Revoked));
    });
}

#[test]
fn nobody_waits_for_a_revoked_device() {
    run(LIMIT, async {
        let node = setup().set("retention", "until-delivered").start().await;
        let (mut phone, ada, mut bob, _) = ada_and_bob(&node).await;
        let (laptop, _) = link(&node, Over::Tls, &mut phone, "laptop").await;
        drop(laptop);
        let Kind::Sent(sent) = bob.ask(send(1, ada.user(), "one")).await.unwrap() else { panic!("not sent") };
        let chat = ChatId::try_from(&sent.chat_id[..]).unwrap();
        phone.delivered().await;
        phone.ask(revoke(2)).await.unwrap();
        bob.ask(send(2, ada.user(), "two")).await.unwrap();
        phone.delivered().await;
        // Both are deleted as soon as it is known that every device there is has them.
        crate::node::until("what everybody has is deleted", Duration::from_secs(20), async || {
            let page = v1::GetHistory { chat_id: id(chat.as_bytes()), before_seq: 0, limit: 10 };
            match bob.ask(Request::GetHistory(page)).await.unwrap() {
                Kind::History(history) => history.messages.is_empty().then_some(()),
                other => panic!("another answer to GetHistory: {other:?}"),
            }
        })
        .await;
    });
}

#[test]
fn a_code_is_good_once_for_its_key_and_as_long_as_it_is_new() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let (mut phone, _, mut bob, _) = ada_and_bob(&node).await;
        let mut device = Person::new("not known yet");
        let (mut laptop, code) = begin_link(&node, Over::Quic, &device, "laptop").await;
        let look = |code: &str| Request::GetLink(v1::GetLink { code: code.to_owned() });
        for wrong in ["00000000", "not a code", ""] {
            assert_eq!(phone.ask(look(wrong)).await, Err(Code::LinkUnknown), "{wrong}");
        }
        let stranger = Person::new("stranger");
        assert_eq!(phone.ask(approve(&code, &stranger, "")).await, Err(Code::LinkUnknown), "another key");
        let long = "x".repeat(65);
        assert_eq!(phone.ask(approve(&code, &device, &long)).await, Err(Code::InvalidArgument));
        let added = phone.ask(approve(&code, &device, "")).await.unwrap();
        linked(&mut laptop, &mut device).await;
        assert_eq!(bob.ask(approve(&code, &device, "")).await, Err(Code::LinkUnknown), "it is used");
        assert_eq!(bob.ask(look(&code)).await, Err(Code::LinkUnknown));
        assert_eq!(phone.ask(approve(&code, &device, "")).await, Ok(added), "a lost answer is given again");
        // Nobody finds a code by trying.
        let mut codes = Vec::new();
        for _ in 0..8 {
            codes.push(phone.ask(look("00000000")).await);
        }
        assert_eq!(codes.last(), Some(&Err(Code::RateLimited)));
    });
}

#[test]
fn a_ninth_device_waits_until_there_is_room() {
    run(LIMIT, async {
        let node = setup().start().await;
        let (mut phone, ..) = ada_and_bob(&node).await;
        let mut others = Vec::new();
        for n in 2..=DEVICES_MAX {
            others.push(link(&node, Over::Tls, &mut phone, &format!("device {n}")).await);
        }
        let mut device = Person::new("not known yet");
        let (mut ninth, code) = begin_link(&node, Over::Quic, &device, "ninth").await;
        assert_eq!(phone.ask(approve(&code, &device, "")).await, Err(Code::TooMany));
        phone.ask(revoke(3)).await.unwrap();
        phone.ask(approve(&code, &device, "")).await.unwrap();
        linked(&mut ninth, &mut device).await;
        assert_eq!(device.address.device.get(), 9);
    });
}

#[test]
fn names_are_those_that_were_given_last() {
    run(LIMIT, async {
        let node = setup().start().await;
        let (mut phone, ..) = ada_and_bob(&node).await;
        assert!(matches!(phone.ask(rename(1, "phone")).await, Ok(Kind::Done(_))));
        assert_eq!(devices(&mut phone).await.devices[0].name, "phone");
        for (device, name) in [(2, "x".to_owned()), (0, "x".to_owned()), (1, "x".repeat(65))] {
            assert_eq!(phone.ask(rename(device, &name)).await, Err(Code::InvalidArgument), "{device}");
        }
        for device in [0, 2, u32::MAX] {
            assert_eq!(phone.ask(revoke(device)).await, Err(Code::InvalidArgument), "{device}");
        }
        assert_eq!(devices(&mut phone).await.devices[0].name, "phone");
    });
}

#[test]
fn who_waits_to_be_linked_may_do_nothing_else() {
    run(LIMIT, async {
        let node = setup().start().await;
        let mut ada = Person::new("ada");
        drop(Raw::register(&node, Over::Quic, &mut ada).await);
        for request in [Request::GetDevices(v1::GetDevices::default()), send(1, ada.user(), "hi"), revoke(1)] {
            let device = Person::new("not known yet");
            let (mut raw, _) = begin_link(&node, Over::Tls, &device, "laptop").await;
            raw.request(request).await;
            assert_eq!(raw.ended().await, Some(Code::Unexpected));
        }
        // A link is signed by the key that it is for.
        let (mut raw, other) = (Raw::connect(&node, Over::Quic).await, Person::new("other"));
        let nonce = raw.challenge().await;
        let key = Person::new("third").key.verifying_key().to_bytes();
        let signature = other.key.sign(&link_bytes(&nonce, &raw.binding, &key, "")).to_bytes();
        let begin = v1::BeginLink {
            device_key: id(&key),
            name: String::new(),
            binding: raw.binding.kind.into(),
            signature: Bytes::copy_from_slice(&signature),
        };
        assert_eq!(raw.ask(Request::BeginLink(begin)).await, Err(Code::Unauthenticated));
        assert_eq!(try_begin_link(&mut raw, &other, &"x".repeat(65)).await, Err(Code::InvalidArgument));
        assert!(try_begin_link(&mut raw, &other, "").await.is_ok(), "the connection goes on");
    });
}

async fn event<T>(events: &mut Events, what: &str, mut pick: impl FnMut(Event) -> Option<T>) -> T {
    soon(what, async {
        loop {
            let event = events.next().await.unwrap_or_else(|| panic!("ended before {what}"));
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
    })
    .await
}

async fn body(events: &mut Events) -> Bytes {
    event(events, "a message", |event| if let Event::Message(message) = event { Some(message.body) } else { None })
        .await
}

#[test]
fn the_sdk_links_a_second_profile_that_works_after_a_restart_until_it_is_revoked() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let (phone, mut phone_events, ada) = register(&node, Transport::Quic, "ada").await;
        let (bob, _bob_events, bob_is) = register(&node, Transport::WebSocket, "bob").await;
        bob.send(ada, "before").await.unwrap();
        assert_eq!(body(&mut phone_events).await, "before");
        let dir = tempfile::tempdir().unwrap();
        let profile = || {
            let mut options = options(&node, Transport::WebSocket, Some(dir.path().join("laptop")));
            options.device_name = "laptop".to_owned();
            options
        };
        let (laptop, mut events) = Client::connect(profile()).await.unwrap();
        let offer = laptop.begin_link().await.unwrap();
        let request = phone.find_link(&offer.scanned).await.unwrap();
        assert_eq!(request.name, "laptop");
        let number = phone.approve_link(&offer.code.to_string(), &request, "").await.unwrap();
        let pick = |event| if let Event::Linked(account) = event { Some(account) } else { None };
        let account: Account = event(&mut events, "Linked", pick).await;
        assert_eq!((account.user, account.device, &account.handle[..]), (ada, number, "ada"));
        bob.send(ada, "to both").await.unwrap();
        assert_eq!((body(&mut phone_events).await, body(&mut events).await), ("to both".into(), "to both".into()));
        laptop.close().await;
        drop(events);

        phone.send(bob_is, "while it was away").await.unwrap();
        let (laptop, mut events) = Client::connect(profile()).await.unwrap();
        assert_eq!(laptop.login().await.unwrap(), account);
        assert_eq!(body(&mut events).await, "while it was away");
        laptop.rename_device(number, "my laptop").await.unwrap();
        let devices = phone.devices().await.unwrap();
        assert_eq!(devices.iter().map(|device| &device.name[..]).collect::<Vec<_>>(), ["", "my laptop"]);
        phone.revoke_device(number).await.unwrap();
        event(&mut events, "Revoked", |event| matches!(event, Event::Revoked).then_some(())).await;
        assert!(laptop.login().await.is_err());
    });
}
