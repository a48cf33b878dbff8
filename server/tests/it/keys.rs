//! The key directory: who has stored what gives each one-time key once.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use columba_client::{
    Client, Event,
    options::{Profile, Transport},
    types,
};
use columba_wire::{
    Code, DeviceAddress, DeviceId, PreKeyId, UserId,
    keys::{PreKeyKind, identity_key_bytes, pre_key_bytes},
    v1::{self, client_frame::Kind as Request, server_frame::Kind},
};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use futures_util::future::join_all;

use crate::{
    link::{Over, TRANSPORTS},
    node::{run, setup, soon},
    phone::options,
    raw::{Person, Raw, id},
};

const LIMIT: Duration = Duration::from_secs(120);
/// The fallback's id in these tests.
const FALLBACK: u64 = 900;

/// Some X25519 key: the server does not look at it.
fn some_key(id: u64) -> [u8; 32] {
    let mut key = [7; 32];
    key[..8].copy_from_slice(&id.to_be_bytes());
    key
}

fn pre_key(of: &Person, kind: PreKeyKind, number: u64) -> v1::PreKey {
    let key = some_key(number);
    let signature = of.key.sign(&pre_key_bytes(kind, of.address, PreKeyId::new(number), &key));
    v1::PreKey { id: number, key: id(&key), signature: id(&signature.to_bytes()) }
}

pub(crate) fn put_keys(of: &Person, one_time: RangeInclusive<u64>) -> v1::PutKeys {
    let key = some_key(0);
    v1::PutKeys {
        identity_key: id(&key),
        identity_signature: id(&of.key.sign(&identity_key_bytes(of.address, &key)).to_bytes()),
        fallback: Some(pre_key(of, PreKeyKind::Fallback, FALLBACK)),
        one_time: one_time.map(|number| pre_key(of, PreKeyKind::OneTime, number)).collect(),
    }
}

async fn put(raw: &mut Raw, keys: v1::PutKeys) -> Result<u32, Code> {
    match raw.ask(Request::PutKeys(keys)).await? {
        Kind::KeysStored(stored) => Ok(stored.one_time_keys),
        other => panic!("another answer to PutKeys: {other:?}"),
    }
}

pub(crate) fn get_keys(user: UserId, device_ids: Vec<u32>) -> Request {
    Request::GetKeys(v1::GetKeys { user_id: id(user.as_bytes()), device_ids })
}

async fn get(raw: &mut Raw, user: UserId, device_ids: Vec<u32>) -> Result<Vec<v1::KeyBundle>, Code> {
    match raw.ask(get_keys(user, device_ids)).await? {
        Kind::Keys(keys) => {
            assert_eq!(keys.user_id, id(user.as_bytes()));
            Ok(keys.bundles)
        }
        other => panic!("another answer to GetKeys: {other:?}"),
    }
}

/// Checks a bundle as its reader must. The one-time key's id, or nothing where it is the fallback.
fn check(bundle: &v1::KeyBundle, of: &Person) -> Option<u64> {
    let device_key: [u8; 32] = bundle.device_key[..].try_into().unwrap();
    assert_eq!(device_key, of.key.verifying_key().to_bytes());
    let device = VerifyingKey::from_bytes(&device_key).unwrap();
    let is_signed = |signed: &[u8], signature: &[u8]| {
        device.verify_strict(signed, &Signature::from_bytes(signature.try_into().unwrap())).is_ok()
    };
    let address = DeviceAddress { device: DeviceId::new(bundle.device_id).unwrap(), ..of.address };
    let identity = bundle.identity_key[..].try_into().unwrap();
    assert!(is_signed(&identity_key_bytes(address, &identity), &bundle.identity_signature));
    let key = bundle.pre_key.as_ref().unwrap();
    let kind = if bundle.one_time { PreKeyKind::OneTime } else { PreKeyKind::Fallback };
    let signed = pre_key_bytes(kind, address, PreKeyId::new(key.id), &key.key[..].try_into().unwrap());
    assert!(is_signed(&signed, &key.signature), "{key:?}");
    assert!(bundle.one_time || key.id == FALLBACK);
    bundle.one_time.then_some(key.id)
}

fn low(kind: Kind) -> Option<u32> {
    if let Kind::KeysLow(low) = kind { Some(low.one_time_keys) } else { None }
}

#[test]
fn each_one_time_key_goes_to_one_of_many_who_ask_at_once_and_its_device_learns_of_it() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let mut bob = Person::new("bob");
        let mut bobs = Raw::register(&node, Over::Quic, &mut bob).await;
        assert_eq!(put(&mut bobs, put_keys(&bob, 1..=40)).await, Ok(40));
        let mut fetchers = Vec::new();
        for n in 0..8 {
            let mut person = Person::new(&format!("fetcher-{n}"));
            let mut raw = Raw::register(&node, TRANSPORTS[n % TRANSPORTS.len()], &mut person).await;
            let bob = bob.clone();
            fetchers.push(async move {
                let mut taken = Vec::new();
                for _ in 0..6 {
                    let bundles = get(&mut raw, bob.user(), Vec::new()).await.unwrap();
                    let [bundle] = &bundles[..] else { panic!("{bundles:?}") };
                    taken.push(check(bundle, &bob));
                }
                taken
            });
        }
        let taken: Vec<_> = join_all(fetchers).await.into_iter().flatten().collect();
        let keys: BTreeSet<_> = taken.iter().flatten().copied().collect();
        assert!(keys.iter().copied().eq(1..=40), "{keys:?}");
        assert_eq!(taken.iter().flatten().count(), 40, "a key was given twice");
        assert_eq!(taken.iter().filter(|key| key.is_none()).count(), 8, "the fallback comes for the rest");
        for left in (0..20).rev() {
            assert_eq!(bobs.expect("keys run low", low).await, left);
        }
        assert_eq!(put(&mut bobs, put_keys(&bob, 30..=45)).await, Ok(5), "of those that were given none comes back");
        assert_eq!(node.metrics().await.get("one_time_keys_taken_total"), 40);
    });
}

#[test]
fn a_one_time_key_is_in_one_answer_however_often_the_node_is_killed() {
    run(LIMIT, async {
        let mut node = setup().cores(2).start().await;
        let (mut alice, mut bob) = (Person::new("alice"), Person::new("bob"));
        drop(Raw::register(&node, Over::Plain, &mut alice).await);
        let mut bobs = Raw::register(&node, Over::Plain, &mut bob).await;
        assert_eq!(put(&mut bobs, put_keys(&bob, 1..=100)).await, Ok(100));
        let mut given = BTreeMap::new();
        for round in 0..8 {
            let mut raw = Raw::login(&node, Over::Plain, &alice).await;
            // More are asked for than are waited for: the node is killed at its work.
            for _ in 0..10 {
                raw.request(get_keys(bob.user(), Vec::new())).await;
            }
            for _ in 0..=round {
                let keys = raw.expect("keys", |kind| if let Kind::Keys(keys) = kind { Some(keys) } else { None }).await;
                let number = check(&keys.bundles[0], &bob).expect("a one-time key");
                assert_eq!(given.insert(number, round), None, "key {number} in a second answer");
            }
            node.kill();
            node.start().await;
            let mut bobs = Raw::login(&node, Over::Plain, &bob).await;
            let left = put(&mut bobs, put_keys(&bob, 1..=100)).await.unwrap();
            assert!(left as usize + given.len() <= 100, "{left} are left, {} were given", given.len());
        }
        let mut raw = Raw::login(&node, Over::Plain, &alice).await;
        loop {
            let bundles = get(&mut raw, bob.user(), Vec::new()).await.unwrap();
            match check(&bundles[0], &bob) {
                Some(number) => assert_eq!(given.insert(number, 99), None, "key {number} in a second answer"),
                None => break,
            }
        }
        assert!(given.len() >= 36 && given.keys().all(|number| (1..=100).contains(number)));
    });
}

#[test]
fn a_key_that_its_device_has_not_signed_is_not_stored() {
    run(LIMIT, async {
        let node = setup().start().await;
        let (mut bob, mut eve) = (Person::new("bob"), Person::new("eve"));
        let mut raw = Raw::register(&node, Over::Tls, &mut bob).await;
        let mut eves = Raw::register(&node, Over::Quic, &mut eve).await;
        let good = || put_keys(&bob, 1..=3);
        let crossed = v1::PreKey { id: 4, ..pre_key(&bob, PreKeyKind::OneTime, 3) };
        for (why, bad) in [
            ("of another device", put_keys(&eve, 1..=3)),
            ("an identity key that is another", v1::PutKeys { identity_key: id(&some_key(1)), ..good() }),
            (
                "a one-time key as fallback",
                v1::PutKeys { fallback: Some(pre_key(&bob, PreKeyKind::OneTime, FALLBACK)), ..good() },
            ),
            ("another id", v1::PutKeys { one_time: vec![pre_key(&bob, PreKeyKind::OneTime, 1), crossed], ..good() }),
            ("no fallback in the first", v1::PutKeys { fallback: None, ..good() }),
            ("too many", put_keys(&bob, 1..=101)),
        ] {
            assert_eq!(put(&mut raw, bad).await, Err(Code::InvalidArgument), "{why}");
        }
        assert_eq!(get(&mut eves, bob.user(), Vec::new()).await, Ok(Vec::new()), "nothing of all that is stored");

        assert_eq!(put(&mut raw, good()).await, Ok(3));
        assert_eq!(put(&mut raw, v1::PutKeys { one_time: Vec::new(), ..good() }).await, Ok(3));
        assert_eq!(put(&mut raw, put_keys(&bob, 4..=101)).await, Err(Code::InvalidArgument), "too many in sum");
        let nobody = UserId::from_bytes([0; 16]);
        assert_eq!(get(&mut eves, nobody, Vec::new()).await, Err(Code::UnknownUser));
        assert_eq!(get(&mut eves, bob.user(), vec![0]).await, Err(Code::InvalidArgument));
        assert_eq!(get(&mut eves, bob.user(), vec![2, 77]).await, Ok(Vec::new()), "devices that are not there");
        let bundles = get(&mut eves, bob.user(), vec![77, 1, 1]).await.unwrap();
        assert_eq!(bundles.iter().map(|bundle| check(bundle, &bob)).collect::<Vec<_>>(), [Some(1)]);
        let short = Request::GetKeys(v1::GetKeys { user_id: id(&[1; 15]), device_ids: Vec::new() });
        assert_eq!(eves.ask(short).await, Err(Code::InvalidArgument));
    });
}

#[test]
fn who_drains_the_keys_of_another_is_stopped_where_rates_are_limited() {
    run(LIMIT, async {
        for limited in [true, false] {
            let node = setup().set("limits.loopback", if limited { "true" } else { "false" }).start().await;
            let (mut bob, mut carol, mut eve) = (Person::new("bob"), Person::new("carol"), Person::new("eve"));
            for person in [&mut bob, &mut carol] {
                let mut raw = Raw::register(&node, Over::Plain, person).await;
                assert_eq!(put(&mut raw, put_keys(person, 1..=30)).await, Ok(30));
            }
            let mut raw = Raw::register(&node, Over::Plain, &mut eve).await;
            for number in 1..=6 {
                let bundles = get(&mut raw, bob.user(), Vec::new()).await.unwrap();
                assert_eq!(check(&bundles[0], &bob), Some(number));
            }
            raw.request(get_keys(bob.user(), Vec::new())).await;
            let is_answer = |kind: &Kind| matches!(kind, Kind::Error(_) | Kind::Keys(_));
            let seventh = raw.expect("the seventh answer", |kind| Some(kind).filter(is_answer)).await;
            match seventh {
                Kind::Error(error) if limited => {
                    assert_eq!(error.code, Code::RateLimited.number());
                    assert!((500_000..=600_001).contains(&error.retry_after_ms), "{error:?}");
                }
                Kind::Keys(_) if !limited => continue,
                other => panic!("{other:?}, where limits hold: {limited}"),
            }
            assert!(get(&mut raw, carol.user(), Vec::new()).await.is_ok(), "of another one");
            let mut bobs = Raw::login(&node, Over::Plain, &bob).await;
            assert_eq!(put(&mut bobs, v1::PutKeys::default()).await, Ok(24), "what is refused takes nothing");
        }
    });
}

#[test]
fn the_sdk_carries_keys_and_tells_when_they_run_low() {
    run(LIMIT, async {
        let node = setup().start().await;
        let device = SigningKey::from_bytes(&[5; 32]);
        let mut settings = options(&node, Transport::WebSocket, None);
        settings.profile = Profile::Memory { device_key: Some(device.to_bytes()), account: None };
        let (bob, mut events) = Client::connect(settings).await.unwrap();
        let account = soon("an account", bob.register("bob", "")).await.unwrap();
        let address = DeviceAddress { user: account.user, device: account.device };
        let mut low = async || loop {
            if let Event::KeysLow { one_time_keys } = soon("an event", events.next()).await.unwrap() {
                return one_time_keys;
            }
        };
        assert_eq!(low().await, 0, "at first there are none");
        let key = |kind, number| {
            let (id, key) = (PreKeyId::new(number), some_key(number));
            types::PreKey { id, key, signature: device.sign(&pre_key_bytes(kind, address, id, &key)).to_bytes() }
        };
        let identity_key = some_key(0);
        let identity = types::IdentityKey {
            key: identity_key,
            signature: device.sign(&identity_key_bytes(address, &identity_key)).to_bytes(),
        };
        let keys = types::NewKeys {
            identity: Some(identity),
            fallback: Some(key(PreKeyKind::Fallback, FALLBACK)),
            one_time: (1..=20).map(|number| key(PreKeyKind::OneTime, number)).collect(),
        };
        assert_eq!(bob.put_keys(&keys).await.unwrap(), 20);

        let (alice, _alices) = Client::connect(options(&node, Transport::Quic, None)).await.unwrap();
        soon("an account", alice.register("alice", "")).await.unwrap();
        let bundles = alice.keys(account.user).await.unwrap();
        let [bundle] = &bundles[..] else { panic!("{bundles:?}") };
        assert_eq!((bundle.device, bundle.device_key), (account.device, device.verifying_key().to_bytes()));
        assert_eq!((bundle.identity, bundle.pre_key, bundle.one_time), (identity, keys.one_time[0], true));
        assert_eq!(low().await, 19);
    });
}
