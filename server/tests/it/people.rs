//! Profiles: what a user tells about itself, everybody may read, and nobody else may change.

use core::time::Duration;

use bytes::Bytes;
use columba_client::{Client, Error, options::Transport, types};
use columba_wire::{
    Code, UserId,
    v1::{self, client_frame::Kind as Request, server_frame::Kind},
};

use crate::{
    link::{ALL_TRANSPORTS, Over},
    node::{Node, run, setup, soon},
    phone::options,
    raw::{Person, Raw, id},
};

const LIMIT: Duration = Duration::from_secs(120);

async fn get_user(raw: &mut Raw, user: UserId) -> Result<v1::User, Code> {
    match raw.ask(Request::GetUser(v1::GetUser { user_id: id(user.as_bytes()) })).await? {
        Kind::User(user) => Ok(user),
        other => panic!("another answer to GetUser: {other:?}"),
    }
}

async fn get_account(raw: &mut Raw) -> v1::Account {
    match raw.ask(Request::GetAccount(v1::GetAccount {})).await {
        Ok(Kind::Account(account)) => account,
        other => panic!("another answer to GetAccount: {other:?}"),
    }
}

async fn set(raw: &mut Raw, profile: v1::SetProfile) -> Result<(), Code> {
    match raw.ask(Request::SetProfile(profile)).await? {
        Kind::Done(_) => Ok(()),
        other => panic!("another answer to SetProfile: {other:?}"),
    }
}

fn text(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn a_profile_is_what_its_user_made_it_and_outlives_the_node() {
    run(LIMIT, async {
        let mut node = setup().cores(2).start().await;
        for over in ALL_TRANSPORTS {
            let handle = |who: &str| format!("{who}-{over:?}").to_lowercase();
            let (mut ada, mut bob) = (Person::new(&handle("ada")), Person::new(&handle("bob")));
            let mut adas = Raw::register(&node, over, &mut ada).await;
            let mut bobs = Raw::register(&node, over, &mut bob).await;
            let blank = get_user(&mut bobs, ada.user()).await.unwrap();
            assert_eq!((blank.handle.as_str(), blank.profile_version), (ada.handle.as_str(), 0));
            assert_eq!(blank.profile, Some(v1::Profile::default()));

            let change = v1::SetProfile { name: text("Ada"), about: text("counts"), picture: None };
            assert_eq!(set(&mut adas, change.clone()).await, Ok(()));
            assert_eq!(set(&mut adas, change).await, Ok(()), "once more, which changes nothing");
            let change = v1::SetProfile { about: text(""), picture: Some(vec![0xff; 512].into()), name: None };
            assert_eq!(set(&mut adas, change).await, Ok(()));
            let long = v1::SetProfile { name: Some(vec![b'x'; 513].into()), about: text("new"), picture: None };
            assert_eq!(set(&mut adas, long).await, Err(Code::InvalidArgument));

            node.kill();
            node.start().await;
            let mut bobs = Raw::login(&node, over, &bob).await;
            let user = get_user(&mut bobs, ada.user()).await.unwrap();
            let expected =
                v1::Profile { name: Bytes::from_static(b"Ada"), about: Bytes::new(), picture: vec![0xff; 512].into() };
            assert_eq!((user.profile.as_ref(), user.profile_version), (Some(&expected), 2));
            assert_eq!(user.user_id, id(ada.user().as_bytes()));
            let mut adas = Raw::login(&node, over, &ada).await;
            let account = get_account(&mut adas).await;
            assert_eq!((account.profile, account.profile_version), (user.profile, 2));
            assert_eq!((account.user_id, account.handle), (user.user_id, ada.handle.clone()));
            strangers(&mut bobs).await;
        }
    });
}

async fn strangers(raw: &mut Raw) {
    assert_eq!(get_user(raw, UserId::from_bytes([0; 16])).await, Err(Code::UnknownUser));
    let short = Request::GetUser(v1::GetUser { user_id: id(&[1; 15]) });
    assert_eq!(raw.ask(short).await, Err(Code::InvalidArgument));
}

#[test]
fn before_login_nobody_is_told_anything() {
    run(LIMIT, async {
        let node = setup().start().await;
        let mut ada = Person::new("ada");
        drop(Raw::register(&node, Over::Plain, &mut ada).await);
        let user_id = id(ada.user().as_bytes());
        for request in [
            Request::GetUser(v1::GetUser { user_id: user_id.clone() }),
            Request::GetAccount(v1::GetAccount {}),
            Request::SetProfile(v1::SetProfile::default()),
            Request::PutKeys(v1::PutKeys::default()),
            Request::GetKeys(v1::GetKeys { user_id, device_ids: Vec::new() }),
        ] {
            let mut raw = Raw::connect(&node, Over::Plain).await;
            raw.challenge().await;
            raw.request(request).await;
            assert_eq!(raw.ended().await, Some(Code::Unexpected));
        }
    });
}

async fn connect(node: &Node, transport: Transport, handle: &str) -> (Client, UserId) {
    let (client, _events) = Client::connect(options(node, transport, None)).await.unwrap();
    let account = soon("an account", client.register(handle, "")).await.unwrap();
    (client, account.user)
}

#[test]
fn profiles_go_through_the_sdk() {
    run(LIMIT, async {
        let node = setup().start().await;
        let (ada, user) = connect(&node, Transport::WebSocket, "ada").await;
        let (bob, _) = connect(&node, Transport::Quic, "bob").await;
        let change = types::ProfileChange { name: text("Ada"), ..types::ProfileChange::default() };
        ada.set_profile(change).await.unwrap();
        let seen = bob.user(user).await.unwrap();
        assert_eq!((seen.handle.as_str(), &seen.profile.name[..], seen.profile_version), ("ada", &b"Ada"[..], 1));
        assert_eq!(ada.fetch_account().await.unwrap().user, seen);
        let nobody = bob.user(UserId::from_bytes([0; 16])).await;
        assert!(matches!(nobody, Err(Error::Refused { code: Code::UnknownUser, .. })), "{nobody:?}");
        let long = types::ProfileChange { about: Some(vec![0; 513].into()), ..types::ProfileChange::default() };
        assert!(matches!(ada.set_profile(long).await, Err(Error::InvalidOption(_))));
    });
}
