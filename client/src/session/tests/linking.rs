//! Linking this device, and what is asked about others.

use columba_wire::auth::link_bytes;

use super::*;

const CODE: &str = "7KQ29XWC";

/// A code was asked for, and the connection for it is there.
fn asked() -> (Try, u64) {
    let mut ada = Try::of(Kept { complete: true, ..Kept::default() });
    let token = ada.token();
    ada.session.handle_begin_link(ada.now, Token(token));
    ada.carry_out();
    assert!(ada.session.wants_connection(ada.now));
    ada.session.handle_connected(ada.now, Binding::tls_exporter([5; 32]));
    assert!(matches!(ada.frame(), Some(Kind::Hello(_))));
    ada.server(1, challenge());
    (ada, token)
}

/// The code is shown.
fn offered() -> Try {
    let (mut ada, token) = asked();
    let Some(Kind::BeginLink(begin)) = ada.frame() else { panic!("no BeginLink") };
    let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
    let signed = link_bytes(&NONCE, &Binding::tls_exporter([5; 32]), &key.to_bytes(), "laptop");
    let signature = Signature::from_slice(&begin.signature).unwrap();
    key.verify(&signed, &signature).unwrap();
    assert_eq!(begin.name, "laptop");
    ada.server(1, server_frame::Kind::LinkCode(v1::LinkCode { code: CODE.to_owned(), expires_in_ms: 120_000 }));
    match ada.replies.pop() {
        Some((replied, Ok(Reply::LinkOffer(offer)))) if replied == token => {
            assert_eq!((offer.code.to_string(), offer.expires_in), ("7KQ2-9XWC".to_owned(), Duration::from_secs(120)));
            assert_eq!(offer.scanned, offer.code.to_scanned(&key.to_bytes()));
        }
        other => panic!("no offer: {other:?}"),
    }
    ada
}

fn linked() -> server_frame::Kind {
    let user_id = id_bytes(ADA.as_bytes());
    server_frame::Kind::Linked(v1::Linked { user_id, device_id: 2, handle: "ada".to_owned() })
}

#[test]
fn an_approved_device_is_let_in_and_misses_nothing_that_was_before_it() {
    let mut ada = offered();
    ada.server(0, linked());
    assert!(matches!(&ada.events[..], [Event::Linked(account)] if account.device.get() == 2));
    let welcome = v1::Welcome { user_id: id_bytes(ADA.as_bytes()), device_id: 2, ..v1::Welcome::default() };
    ada.server(0, server_frame::Kind::Welcome(welcome));
    assert!(ada.events.iter().any(|event| matches!(event, Event::Connected { .. })));
    ada.deliver(500);
    ada.deliver(501);
    let seqs: Vec<_> = ada
        .events
        .iter()
        .filter_map(|event| if let Event::Message(message) = event { Some(message.seq.get()) } else { None })
        .collect();
    assert_eq!(seqs, [500, 501]);
    assert!(!ada.events.iter().any(|event| matches!(event, Event::Gap { .. })));
}

#[test]
fn a_device_that_waits_pings_and_learns_that_its_time_is_over() {
    let mut ada = offered();
    ada.now += Duration::from_secs(30);
    ada.session.handle_timeout(ada.now);
    assert!(matches!(ada.frame(), Some(Kind::Ping(_))));
    ada.refuse(0, Code::LinkUnknown, 0);
    let failed =
        |event: &Event| matches!(event, Event::LinkFailed { reason: Error::Refused { code: Code::LinkUnknown, .. } });
    assert_eq!(ada.events.iter().filter(|event| failed(event)).count(), 1);
    assert!(!ada.session.wants_connection(ada.now + RECONNECT_MAX), "there is nothing to connect for");
    let token = ada.token();
    ada.session.handle_begin_link(ada.now, Token(token));
    assert!(ada.session.wants_connection(ada.now), "another code may be asked for");
}

#[test]
fn a_code_dies_with_its_connection_and_a_wish_for_one_does_not() {
    let mut ada = offered();
    ada.session.handle_lost(ada.now, Error::ConnectionLost("cut".to_owned()), 0);
    ada.carry_out();
    assert!(ada.events.iter().any(|event| matches!(event, Event::LinkFailed { .. })));

    let (mut ada, token) = asked();
    ada.session.handle_lost(ada.now, Error::ConnectionLost("cut".to_owned()), 0);
    ada.carry_out();
    assert!(ada.replies.is_empty() && ada.session.wants_connection(ada.now + RECONNECT_MAX), "it is tried again");
    ada.session.handle_timeout(ada.now + PATIENCE);
    ada.carry_out();
    assert!(matches!(ada.replies[..], [(replied, Err(Error::TimedOut(_)))] if replied == token));
}

#[test]
fn a_device_with_an_account_is_not_linked() {
    let mut ada = Try::open();
    let token = ada.token();
    ada.session.handle_begin_link(ada.now, Token(token));
    ada.carry_out();
    assert!(matches!(ada.replies[..], [(_, Err(Error::AlreadyRegistered { .. }))]));
    ada.server(0, linked());
    assert!(!ada.events.iter().any(|event| matches!(event, Event::Linked(_))), "nor by a server that says so");
}

#[test]
fn a_revoked_device_does_not_come_back() {
    let mut ada = Try::open();
    let code = Code::Revoked.number();
    ada.server(0, server_frame::Kind::Goaway(v1::Goaway { code, ..v1::Goaway::default() }));
    assert!(ada.events.iter().any(|event| matches!(event, Event::Revoked)));
    assert!(matches!(ada.events.last(), Some(Event::Disconnected { retry_in: None, .. })));
    assert!(ada.session.is_ended());
}

#[test]
fn an_account_that_is_deleted_ends_with_the_answer_to_that() {
    for code in [Code::Revoked, Code::Unavailable] {
        let mut ada = Try::open();
        let (deletion, other) = (ada.token(), ada.token());
        ada.session.handle_request(ada.now, Token(deletion), Kind::DeleteAccount(v1::DeleteAccount::default()));
        ada.session.handle_request(ada.now, Token(other), Kind::GetDevices(v1::GetDevices::default()));
        ada.carry_out();
        let code_number = code.number();
        ada.server(0, server_frame::Kind::Goaway(v1::Goaway { code: code_number, ..v1::Goaway::default() }));
        if code == Code::Revoked {
            assert!(matches!(ada.reply(deletion), Ok(Reply::Done)));
            assert!(matches!(ada.reply(other), Err(Error::Closed)));
        } else {
            assert!(ada.replies.is_empty(), "it is asked again");
        }
    }
}

#[test]
fn answers_about_devices_that_are_none_end_the_connection() {
    for (kind, answer) in [
        (
            Kind::GetDevices(v1::GetDevices::default()),
            server_frame::Kind::Devices(v1::Devices { devices: vec![v1::Device::default()], version: 1 }),
        ),
        (
            Kind::GetLink(v1::GetLink { code: CODE.to_owned() }),
            server_frame::Kind::LinkInfo(v1::LinkInfo {
                device_key: Bytes::from_static(b"short"),
                ..Default::default()
            }),
        ),
        (
            Kind::ApproveLink(v1::ApproveLink::default()),
            server_frame::Kind::DeviceAdded(v1::DeviceAdded { device_id: 0 }),
        ),
    ] {
        let mut ada = Try::open();
        ada.request(kind);
        let number = core::iter::from_fn(|| ada.session.poll_frame(ada.now)).last().unwrap().request_id;
        ada.server(number, answer);
        assert!(matches!(ada.events.last(), Some(Event::Disconnected { reason: Error::Protocol(_), .. })));
    }
}
