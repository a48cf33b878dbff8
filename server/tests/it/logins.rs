//! Logins that must not succeed, and what they cost.

use core::time::Duration;

use columba_wire::{
    Code, UserId,
    auth::Binding,
    v1::{ChannelBinding, client_frame::Kind as Request, server_frame::Kind},
};
use tokio::time::Instant;

use crate::{
    link::{Over, TRANSPORTS, certificate},
    node::{run, setup},
    pair::Pair,
    raw::{Person, Raw},
};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn nobody_gets_into_the_account_of_another() {
    run(LIMIT, async {
        let node = setup().start().await;
        let mut pair = Pair::start(&node).await;
        for over in TRANSPORTS {
            let mut owner = Person::new(&format!("owner-{over:?}").to_lowercase());
            drop(Raw::register(&node, over, &mut owner).await);
            let mut thief = Person::new("thief");
            thief.address = owner.address;

            // The wrong key, and a user that does not exist, look the same; the third attempt is the last.
            let mut raw = Raw::connect(&node, over).await;
            assert_eq!(raw.try_login(&thief).await, Err(Code::Unauthenticated));
            thief.address.user = UserId::from_bytes([1; 16]);
            assert_eq!(raw.try_login(&thief).await, Err(Code::Unauthenticated));
            thief.address = owner.address;
            let nonce = raw.challenge().await;
            raw.request(thief.login(&nonce, &raw.binding.clone())).await;
            assert_eq!(raw.ended().await, Some(Code::Unauthenticated), "the third attempt");

            // A signature that was good: on another connection, with a nonce of before, twice.
            let mut first = Raw::connect(&node, over).await;
            let mut second = Raw::connect(&node, over).await;
            let nonce = first.challenge().await;
            second.challenge().await;
            let good = owner.login(&nonce, &first.binding);
            assert_eq!(second.ask(good.clone()).await, Err(Code::Unauthenticated), "on another connection");
            first.challenge().await;
            assert_eq!(first.ask(good).await, Err(Code::Unauthenticated), "with a nonce of before");
            // The error used the nonce up: without a new hello there is nothing to sign.
            let nonce = first.challenge().await;
            let bad = thief.login(&nonce, &first.binding);
            let good = owner.login(&nonce, &first.binding);
            assert_eq!(first.ask(bad).await, Err(Code::Unauthenticated));
            first.request(good).await;
            assert_eq!(first.ended().await, Some(Code::Unexpected), "one attempt for a nonce");

            bindings(&node, over, &owner).await;
            // And the owner gets in.
            Raw::login(&node, over, &owner).await;
            pair.check("logins that failed").await;
        }
        assert_eq!(node.metrics().await.get("registrations_total"), 5);
        println!("{}", pair.finish().await);
    });
}

/// What a signature may be bound to.
async fn bindings(node: &crate::node::Node, over: Over, owner: &Person) {
    let certificate = Binding::server_certificate(&certificate(node));
    let outcome = async |binding: &Binding| {
        let mut raw = Raw::connect(node, over).await;
        let nonce = raw.challenge().await;
        raw.ask(owner.login(&nonce, binding)).await.map(|_| ())
    };
    let none = if over == Over::Plain { Ok(()) } else { Err(Code::Unauthenticated) };
    assert_eq!(outcome(&Binding::NONE).await, none, "none");
    let by_certificate = if over == Over::Plain { Err(Code::Unauthenticated) } else { Ok(()) };
    assert_eq!(outcome(&certificate).await, by_certificate, "the certificate");
    let other = Binding { kind: ChannelBinding::ServerCertificate, data: Some([5; 32]) };
    assert_eq!(outcome(&other).await, Err(Code::Unauthenticated), "another certificate");
    assert_eq!(outcome(&Binding::tls_exporter([5; 32])).await, Err(Code::Unauthenticated), "another connection");

    // Said to be none, and signed with data all the same; a kind that does not exist.
    let mut raw = Raw::connect(node, over).await;
    let nonce = raw.challenge().await;
    let Request::Login(mut login) = owner.login(&nonce, &Binding::tls_exporter([0; 32])) else { unreachable!() };
    login.binding = 99;
    assert_eq!(raw.ask(Request::Login(login)).await, Err(Code::Unauthenticated), "an unknown kind");
}

#[test]
fn who_does_not_log_in_is_shown_the_door_after_ten_seconds() {
    run(LIMIT, async {
        let node = setup().start().await;
        let pair = Pair::start(&node).await;
        let began = Instant::now();
        // Silent from the start, and silent after the challenge.
        let (mut silent, mut greeted) = (Vec::new(), Vec::new());
        for over in TRANSPORTS {
            silent.push(Raw::connect(&node, over).await);
            let mut raw = Raw::connect(&node, over).await;
            raw.challenge().await;
            greeted.push(raw);
        }
        for raw in &mut greeted {
            assert_eq!(raw.ended().await, Some(Code::LoginTimeout));
        }
        for (raw, over) in silent.iter_mut().zip(TRANSPORTS) {
            // Of a QUIC stream on which nothing was sent the node knows nothing: it closes the connection, with a code.
            let expected = (over != Over::Quic).then_some(Code::LoginTimeout);
            assert_eq!(raw.ended().await, expected, "{over:?}");
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(9), "too early: {took:?}");
        println!("closed {took:.1?} after they began to connect; {}", pair.finish().await);
    });
}

#[test]
fn a_registration_that_is_repeated_gives_the_same_account_and_a_taken_handle_stays_with_its_owner() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let mut ada = Person::new("ada");
        drop(Raw::register(&node, Over::Tls, &mut ada).await);
        let first = ada.address;
        for over in TRANSPORTS {
            drop(Raw::register(&node, over, &mut ada).await);
            assert_eq!(ada.address, first, "the same key and handle");
        }
        let mut other = Person::new("ada");
        let mut raw = Raw::connect(&node, Over::Quic).await;
        assert_eq!(raw.try_register(&mut other, "").await, Err(Code::HandleTaken));
        other.handle = "Ada!".to_owned();
        assert_eq!(raw.try_register(&mut other, "").await, Err(Code::InvalidArgument));
        other.handle = "ada2".to_owned();
        raw.try_register(&mut other, "").await.unwrap();
        let found = raw.ask(Request::FindUser(columba_wire::v1::FindUser { handle: "ada".to_owned() })).await;
        let Ok(Kind::UserFound(found)) = found else { panic!("{found:?}") };
        assert_eq!(found.user_id[..], first.user.as_bytes()[..]);
    });
}
