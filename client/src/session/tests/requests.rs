//! Requests other than sends.

use super::*;

#[test]
fn a_request_without_an_answer_is_asked_again_and_answered_once() {
    let mut ada = Try::open();
    let token = ada.request(read(7));
    let asked = ada.session.poll_frame(ada.now).unwrap();
    ada.reconnect();
    let again = ada.session.poll_frame(ada.now).unwrap();
    assert_eq!((asked.request_id, asked.kind), (again.request_id, again.kind));
    ada.server(again.request_id, server_frame::Kind::Done(v1::Done {}));
    ada.server(again.request_id, server_frame::Kind::Done(v1::Done {}));
    assert!(matches!(ada.reply(token), Ok(Reply::Done)));
    assert!(ada.replies.is_empty());
    let token = ada.request(read(8));
    let number = ada.session.poll_frame(ada.now).unwrap().request_id;
    ada.refuse(number, Code::UnknownChat, 0);
    assert!(matches!(ada.reply(token), Err(Error::Refused { code: Code::UnknownChat, .. })));
}

#[test]
fn a_request_that_nobody_answers_ends_with_its_patience() {
    let mut ada = Try::registered();
    let first = ada.request(read(1));
    ada.pass(Duration::from_secs(4));
    let second = ada.request(read(2));
    ada.pass(Duration::from_secs(6));
    assert!(matches!(ada.reply(first), Err(Error::TimedOut(PATIENCE))));
    assert!(ada.replies.is_empty(), "the other has four seconds left");
    for _ in 1..REQUESTS_MAX {
        ada.request(read(3));
    }
    let token = ada.request(read(4));
    assert!(matches!(ada.reply(token), Err(Error::TooManyRequests)));
    ada.connect();
    ada.frames();
    ada.session.handle_close();
    ada.session.end(&Error::Closed);
    ada.carry_out();
    assert!(matches!(ada.reply(second), Err(Error::Closed)));
}

#[test]
fn who_is_watched_is_watched_after_a_reconnect() {
    let watch = || Kind::SubscribePresence(v1::SubscribePresence { user_ids: vec![id_bytes(BOB.as_bytes())] });
    let mut ada = Try::registered();
    ada.request(watch());
    ada.connect();
    assert_eq!(ada.frames(), ["watch 1"], "once, not twice");
    ada.server(1, server_frame::Kind::Done(v1::Done {}));
    ada.reconnect();
    let frame = ada.session.poll_frame(ada.now).unwrap();
    assert!(matches!(frame.kind, Some(Kind::SubscribePresence(_))));
    ada.refuse(frame.request_id, Code::RateLimited, 100);
    ada.reconnect();
    assert_eq!(ada.frames(), ["watch 1"], "a refusal that passes changes nothing");
}

#[test]
fn an_error_about_an_acknowledgement_does_not_end_the_session() {
    let mut ada = Try::open();
    ada.deliver(1);
    ada.take(1);
    let ack = ada.session.poll_frame(ada.now).unwrap();
    ada.refuse(ack.request_id, Code::Overloaded, 0);
    assert!(ada.session.is_open());
}

#[test]
fn a_handle_that_the_server_made_up_is_not_kept() {
    let mut ada = Try::open();
    for (handle, kept) in [("bob".to_owned(), 1), ("\x1b[2J".to_owned(), 1), ("x".repeat(100_000), 1)] {
        let found = v1::UserFound { user_id: id_bytes(BOB.as_bytes()), handle };
        ada.server(1, server_frame::Kind::UserFound(found));
        assert_eq!(ada.records.len(), kept);
    }
}
