//! Who may register.

use core::time::Duration;
use std::time::{SystemTime, UNIX_EPOCH};

use columba_client::{Client, Error};
use columba_wire::{Code, v1};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use crate::{
    link::{ALL_TRANSPORTS, Over},
    node::{Node, run, setup},
    phone::options,
    raw::{Person, Raw, hello},
};

const LIMIT: Duration = Duration::from_secs(120);

/// What a challenge says of registration.
async fn announced(node: &Node) -> i32 {
    let mut raw = Raw::connect(node, Over::Plain).await;
    match raw.ask(hello()).await {
        Ok(v1::server_frame::Kind::Challenge(challenge)) => challenge.registration,
        other => panic!("no challenge: {other:?}"),
    }
}

async fn outcome(node: &Node, over: Over, handle: &str, credential: &str) -> Result<(), Code> {
    Raw::connect(node, over).await.try_register(&mut Person::new(handle), credential).await
}

#[test]
fn an_invite_lets_in_and_nothing_else_does() {
    run(LIMIT, async {
        let invites = "come in Ada,another invite";
        let node = setup().set("registration.mode", "invite").set("registration.invites", invites).start().await;
        assert_eq!(announced(&node).await, i32::from(v1::Registration::Invite));
        for over in ALL_TRANSPORTS {
            let handle = |who: &str| format!("{who}-{over:?}").to_lowercase();
            for wrong in ["", "come in", "another invite ", "COME IN ADA"] {
                let refused = outcome(&node, over, &handle("wrong"), wrong).await;
                assert_eq!(refused, Err(Code::RegistrationRefused), "{wrong:?}");
            }
            outcome(&node, over, &handle("right"), "another invite").await.unwrap();
            outcome(&node, over, &handle("again"), "another invite").await.unwrap();
        }
        // With the SDK; and a handle that was refused once is still free.
        let (client, _events) = Client::connect(options(&node, Default::default(), None)).await.unwrap();
        let refused = client.register("wrong-tls", "no").await;
        assert!(matches!(refused, Err(Error::Refused { code: Code::RegistrationRefused, .. })), "{refused:?}");
        client.register("wrong-tls", "another invite").await.unwrap();
        let log = node.log();
        assert!(!log.contains("another invite"), "the log tells a secret");
    });
}

#[test]
fn a_token_of_the_operators_identity_provider_lets_in_whom_it_names() {
    run(LIMIT, async {
        let dir = tempfile::tempdir().unwrap();
        let key_file = dir.path().join("key");
        let secret = b"a secret of at least thirty-two bytes";
        std::fs::write(&key_file, secret).unwrap();
        let node = setup()
            .set("registration.mode", "jwt")
            .set("registration.jwt_algorithm", "HS256")
            .set("registration.jwt_key", key_file.to_str().unwrap())
            .start()
            .await;
        assert_eq!(announced(&node).await, i32::from(v1::Registration::Jwt));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let token = |handle: &str, exp: u64, key: &[u8]| {
            let claims = json!({"sub": handle, "exp": exp});
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(key)).unwrap()
        };
        for over in ALL_TRANSPORTS {
            let handle = format!("named-{over:?}").to_lowercase();
            for wrong in [
                String::new(),
                token("somebody-else", now + 60, secret),
                token(&handle, now - 60, secret),
                token(&handle, now + 60, b"another secret of thirty-two bytes!!"),
            ] {
                assert_eq!(outcome(&node, over, &handle, &wrong).await, Err(Code::RegistrationRefused), "{wrong:?}");
            }
            outcome(&node, over, &handle, &token(&handle, now + 60, secret)).await.unwrap();
        }
    });
}

#[test]
fn a_closed_node_takes_nobody_new_and_lets_in_who_was_there() {
    run(LIMIT, async {
        let mut node = setup().fixed_port().env("COLUMBA_REGISTRATION_MODE", "open").start().await;
        assert_eq!(announced(&node).await, i32::from(v1::Registration::Open));
        let mut ada = Person::new("ada");
        drop(Raw::register(&node, Over::Tls, &mut ada).await);
        node.terminate();
        assert!(node.ended().await.success());
        node.set_env("COLUMBA_REGISTRATION_MODE", "closed");
        node.start().await;
        assert_eq!(announced(&node).await, i32::from(v1::Registration::Closed));
        for over in ALL_TRANSPORTS {
            assert_eq!(outcome(&node, over, "new", "").await, Err(Code::RegistrationRefused));
            Raw::login(&node, over, &ada).await;
        }
    });
}
