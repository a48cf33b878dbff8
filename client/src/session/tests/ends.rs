//! Handshake, heartbeat, reconnect, and the end.

use super::*;

#[test]
fn a_signature_is_bound_to_nonce_and_connection() {
    let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
    let binding = Binding::tls_exporter([5; 32]);
    let mut ada = Try::registered();
    ada.session.handle_connected(ada.now, binding.clone());
    ada.frames();
    ada.server(1, challenge());
    let Some(Kind::Login(login)) = ada.frame() else { panic!("no login") };
    let signature = Signature::from_slice(&login.signature).unwrap();
    let bytes = login_bytes(&NONCE, &binding, DeviceAddress { user: ADA, device: DeviceId::FIRST });
    key.verify(&bytes, &signature).unwrap();

    let mut ada = Try::of(Kept::default());
    assert!(!ada.session.wants_connection(ada.now), "there is nobody to log in");
    ada.session.handle_register(ada.now, Token(1), "ada".to_owned(), "invite".to_owned());
    assert!(ada.session.wants_connection(ada.now));
    ada.session.handle_connected(ada.now, binding.clone());
    ada.frames();
    ada.server(1, challenge());
    let Some(Kind::Register(register)) = ada.frame() else { panic!("no registration") };
    let signature = Signature::from_slice(&register.signature).unwrap();
    key.verify(&register_bytes(&NONCE, &binding, &key.to_bytes(), "ada"), &signature).unwrap();
    assert_eq!(register.credential, "invite");
}

#[test]
fn a_registration_whose_answer_was_lost_ends_with_the_same_account() {
    let mut ada = Try::of(Kept { complete: true, ..Kept::default() });
    ada.session.handle_register(ada.now, Token(1), "ada".to_owned(), String::new());
    let mut keys = Vec::new();
    for _ in 0..2 {
        ada.session.handle_connected(ada.now, Binding::NONE);
        ada.frames();
        ada.server(1, challenge());
        let Some(Kind::Register(register)) = ada.frame() else { panic!("no registration") };
        keys.push(register.device_key);
        if keys.len() == 1 {
            ada.lose();
            ada.now += RECONNECT_MIN;
        }
    }
    assert_eq!(keys[0], keys[1]);
    let user_id = id_bytes(ADA.as_bytes());
    ada.server(1, server_frame::Kind::Registered(v1::Registered { user_id, device_id: 1 }));
    ada.server(0, ada.welcome());
    assert!(matches!(ada.reply(1), Ok(Reply::Account(known)) if known == account()));
    assert!(ada.session.is_open());
    ada.session.handle_register(ada.now, Token(2), "ada".to_owned(), String::new());
    ada.session.handle_register(ada.now, Token(3), "eve".to_owned(), String::new());
    ada.carry_out();
    assert!(matches!(ada.reply(2), Ok(Reply::Account(_))));
    assert!(matches!(ada.reply(3), Err(Error::AlreadyRegistered { .. })));
}

#[test]
fn a_refused_registration_is_told_and_one_that_may_pass_is_tried_again() {
    let try_with = |code| {
        let mut ada = Try::of(Kept::default());
        ada.session.handle_register(ada.now, Token(1), "ada".to_owned(), String::new());
        ada.session.handle_connected(ada.now, Binding::NONE);
        ada.frames();
        ada.server(1, challenge());
        ada.frames();
        ada.refuse(1, code, 0);
        ada
    };
    let mut taken = try_with(Code::HandleTaken);
    assert!(matches!(taken.reply(1), Err(Error::Refused { code: Code::HandleTaken, .. })));
    taken.now += RECONNECT_MAX;
    assert!(!taken.session.wants_connection(taken.now));
    let mut overloaded = try_with(Code::Overloaded);
    assert!(overloaded.replies.is_empty());
    overloaded.now += RECONNECT_MIN;
    assert!(overloaded.session.wants_connection(overloaded.now));
    overloaded.pass(PATIENCE);
    assert!(matches!(overloaded.reply(1), Err(Error::TimedOut(_))));
}

#[test]
fn a_newer_session_of_the_device_ends_this_one_for_good() {
    let mut ada = Try::open();
    ada.queue();
    ada.frames();
    ada.server(0, goaway(Code::Replaced, 0));
    assert!(ada.session.is_ended());
    assert_eq!(ada.last_wait(), None);
    ada.now += Duration::from_secs(3_600);
    assert!(!ada.session.wants_connection(ada.now));
    assert_eq!(ada.session.poll_timeout(ada.now), None);
    let dropped = ada.records.iter().any(|record| matches!(record, Record::Dropped { .. }));
    assert!(!dropped && ada.session.unsent().len() == 1, "what was queued stays in the profile");
}

#[test]
fn another_certificate_than_the_pinned_one_ends_the_session_before_anything_is_said() {
    let mut ada = Try::registered();
    let token = ada.token();
    ada.session.handle_login(ada.now, Token(token));
    let (expected, found) = (Fingerprint::of(b"pinned"), Fingerprint::of(b"other"));
    ada.session.handle_disconnected(ada.now, Error::CertificateChanged { expected, found }, 0);
    ada.carry_out();
    assert!(matches!(ada.reply(token), Err(Error::CertificateChanged { .. })));
    assert!(ada.session.is_ended() && ada.last_wait().is_none());
    assert!(ada.frames().is_empty());
}

#[test]
fn a_refused_login_is_final_only_where_a_retry_cannot_help() {
    for (code, is_final) in [
        (Code::Unauthenticated, true),
        (Code::UnsupportedVersion, true),
        (Code::TooManyConnections, false),
        (Code::RateLimited, false),
        (Code::Internal, false),
    ] {
        let mut ada = Try::registered();
        ada.session.handle_connected(ada.now, Binding::NONE);
        ada.frames();
        ada.server(1, challenge());
        ada.frames();
        ada.refuse(1, code, 3_000);
        assert_eq!(ada.session.is_ended(), is_final, "{code}");
        if !is_final {
            assert!(ada.last_wait().unwrap() >= Duration::from_secs(3), "{code}");
        }
    }
}

#[test]
fn attempts_become_rarer_until_a_session_is_synced() {
    let mut ada = Try::open();
    let mut waits = Vec::new();
    for _ in 0..10 {
        ada.lose();
        waits.push(ada.last_wait().unwrap());
        ada.now += RECONNECT_MAX;
        ada.session.handle_connected(ada.now, Binding::NONE);
        ada.frames();
        ada.server(1, challenge());
        ada.frames();
        ada.server(1, ada.welcome());
    }
    assert_eq!(waits[0], RECONNECT_MIN);
    assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "a welcome alone is no success: {waits:?}");
    assert!(waits[9] >= RECONNECT_MAX / 2);
    ada.server(0, server_frame::Kind::Synced(v1::Synced {}));
    ada.lose();
    assert_eq!(ada.last_wait(), Some(RECONNECT_MIN));
}

#[test]
fn a_server_that_goes_away_is_left_alone_as_long_as_it_asks() {
    let mut ada = Try::open();
    ada.server(0, goaway(Code::Unavailable, 9_000));
    assert!(ada.last_wait().unwrap() >= Duration::from_secs(9));
    ada.now += ada.last_wait().unwrap();
    ada.connect();
    ada.lose();
    assert!(ada.last_wait().unwrap() < Duration::from_secs(1), "it asked once");
}

#[test]
fn a_connection_that_is_closed_right_after_the_last_frame_does_not_hide_what_it_said() {
    // Found by hand: the server's close came in the same read as its Goaway, and the wait it asked for was forgotten.
    let say = |code| {
        let mut ada = Try::open();
        ada.events.clear();
        let frame = ServerFrame { request_id: 0, kind: Some(goaway(code, 9_000)) };
        ada.session.handle_frame(ada.now, Carrier::Quic, Ok(frame));
        ada.session.handle_lost(ada.now, Error::ConnectionLost("closed by the server".to_owned()), 0);
        ada.carry_out();
        assert_eq!(ada.events.len(), 1);
        ada
    };
    assert!(say(Code::Unavailable).last_wait().unwrap() >= Duration::from_secs(9));
    assert_eq!(say(Code::Replaced).last_wait(), None);
    let mut ada = Try::open();
    ada.session.handle_lost(ada.now, Error::ConnectionLost("cut".to_owned()), 0);
    ada.carry_out();
    assert_eq!(ada.last_wait(), Some(RECONNECT_MIN));
}

#[test]
fn a_quiet_client_says_that_it_is_there() {
    let mut ada = Try::open();
    for _ in 0..5 {
        assert_eq!(ada.session.poll_timeout(ada.now), Some(ada.now + HEARTBEAT));
        ada.pass(HEARTBEAT);
        let ping = ada.session.poll_frame(ada.now).unwrap();
        assert!(matches!(ping.kind, Some(Kind::Ping(_))));
        ada.server(ping.request_id, server_frame::Kind::Pong(v1::Pong::default()));
        assert!(ada.frames().is_empty());
    }
}

#[test]
fn a_server_that_says_nothing_any_more_is_left() {
    let mut ada = Try::open();
    let open_at = ada.now;
    while ada.session.is_open() {
        let due = ada.session.poll_timeout(ada.now).unwrap();
        ada.pass(due - ada.now);
        ada.frames();
    }
    assert_eq!(ada.now - open_at, HEARTBEAT * 5 / 2);
    assert!(ada.last_wait().is_some());
    ada.now = ada.session.poll_timeout(ada.now).unwrap();
    ada.session.handle_connected(ada.now, Binding::NONE);
    ada.pass(crate::limits::LOGIN_TIMEOUT);
    assert!(ada.session.poll_timeout(ada.now).unwrap() > ada.now, "nor is a silent handshake waited for");
    assert!(matches!(ada.events.last(), Some(Event::Disconnected { reason: Error::Silent, .. })));
}

#[test]
fn who_leaves_acknowledges_and_says_good_bye() {
    let mut ada = Try::open();
    ada.deliver(1);
    ada.take(1);
    ada.queue();
    ada.session.handle_close();
    assert_eq!(ada.frames(), ["ack 1", "bye"]);
    ada.session.end(&Error::Closed);
    ada.carry_out();
    assert_eq!(ada.session.unsent().len(), 1, "what was queued is for the next process");
}

#[test]
fn a_time_that_is_due_does_not_keep_the_driver_awake() {
    let mut ada = Try::registered();
    ada.now = Duration::from_secs(100);
    assert!(ada.session.wants_connection(ada.now));
    assert_eq!(ada.session.poll_timeout(ada.now), None, "the connection is being made");
    ada.lose();
    assert_eq!(ada.session.poll_timeout(ada.now), Some(ada.now + RECONNECT_MIN));
}
