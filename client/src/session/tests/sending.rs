//! Messages: none lost, none twice, none out of order.

use super::*;

#[test]
fn a_message_without_an_answer_goes_out_again_under_its_number_and_before_newer_ones() {
    let mut ada = Try::open();
    for _ in 0..3 {
        ada.queue();
    }
    assert_eq!(ada.frames(), ["send 1", "send 2", "send 3"]);
    ada.sent(2, 1);
    ada.lose();
    ada.queue();
    assert!(ada.frames().is_empty(), "nothing goes out without a session");
    ada.now += RECONNECT_MIN;
    ada.connect();
    assert_eq!(ada.frames(), ["send 1", "send 3", "send 4"]);
    ada.sent(1, 1);
    ada.sent(3, 2);
    ada.sent(3, 2);
    assert_eq!(ada.told(), ["sent 2 at 1", "sent 1 at 1", "sent 3 at 2"], "an answer that comes twice counts once");
}

#[test]
fn no_more_messages_are_on_their_way_than_the_welcome_allows() {
    let mut ada = Try::registered();
    ada.in_flight_max = 2;
    ada.connect();
    for _ in 0..5 {
        ada.queue();
    }
    assert_eq!(ada.frames(), ["send 1", "send 2"]);
    ada.sent(2, 1);
    assert_eq!(ada.frames(), ["send 3"]);
    ada.reconnect();
    assert_eq!(ada.frames(), ["send 1", "send 3"]);
}

#[test]
fn a_server_that_allows_too_much_is_not_believed() {
    let mut ada = Try::registered();
    ada.in_flight_max = u32::MAX;
    ada.connect();
    for _ in 0..100 {
        ada.queue();
    }
    assert_eq!(ada.frames().len(), 64, "more could not be recognised as retries");
    let mut ada = Try::registered();
    ada.in_flight_max = 0;
    ada.connect();
    ada.queue();
    assert_eq!(ada.frames(), ["send 1"], "and one that allows nothing would be of no use");
}

#[test]
fn a_refused_message_is_not_overtaken_by_those_behind_it() {
    let mut ada = Try::registered();
    ada.in_flight_max = 3;
    ada.connect();
    for _ in 0..5 {
        ada.queue();
    }
    assert_eq!(ada.frames(), ["send 1", "send 2", "send 3"]);
    ada.refuse(2, Code::NoSpace, 1_000);
    ada.refuse(4, Code::NoSpace, 1_000);
    assert!(ada.frames().is_empty(), "4 and 5 wait behind 1 and 2");
    assert_eq!(ada.session.poll_timeout(ada.now), Some(ada.now + Duration::from_secs(1)));
    ada.pass(Duration::from_millis(999));
    assert!(ada.frames().is_empty());
    ada.refuse(6, Code::NoSpace, 1_000);
    ada.pass(Duration::from_millis(1_000));
    assert_eq!(ada.frames(), ["send 1", "send 2", "send 3"]);
    ada.sent(1, 1);
    assert_eq!(ada.frames(), ["send 4"]);
    assert_eq!(ada.told(), ["sent 1 at 1"], "a refusal that will pass is nobody's trouble");
}

#[test]
fn refusals_are_not_answered_with_a_storm() {
    let mut ada = Try::open();
    ada.queue();
    let mut waits = Vec::new();
    for _ in 0..12 {
        assert!(ada.frames().contains(&"send 1".to_owned()));
        ada.refuse(2, Code::Unavailable, 0);
        let due = ada.session.outbox.poll_timeout(ada.now, true).unwrap();
        waits.push(due - ada.now);
        ada.pass(due - ada.now);
    }
    assert_eq!(waits[0], RESEND_MIN);
    assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
    assert_eq!(waits[11], crate::limits::RESEND_MAX);
}

#[test]
fn a_message_that_will_never_be_taken_is_given_back_once() {
    let mut ada = Try::open();
    let token = ada.send(Some(PATIENCE));
    ada.queue();
    ada.queue();
    ada.frames();
    ada.refuse(2, Code::UnknownUser, 0);
    assert!(matches!(ada.reply(token), Err(Error::Refused { code: Code::UnknownUser, .. })));
    ada.refuse(4, Code::ClientSeqTooOld, 0);
    ada.refuse(4, Code::ClientSeqTooOld, 0);
    assert_eq!(ada.told(), ["failed 2: message 2: the outcome is not known"]);
    ada.reconnect();
    assert_eq!(ada.frames(), ["send 3"], "what was given back is not sent");
    let dropped = |client_seq, chat| Record::Dropped { client_seq: ClientSeq::new(client_seq), chat };
    assert!(ada.records.contains(&dropped(1, None)) && ada.records.contains(&dropped(2, Some(chat()))));
}

#[test]
fn a_deadline_tells_what_was_never_out_from_what_may_be_in_the_chat() {
    let mut ada = Try::registered();
    let never_out = ada.send(Some(Duration::from_secs(5)));
    ada.pass(Duration::from_secs(5));
    assert!(matches!(ada.reply(never_out), Err(Error::NotSent { .. })));
    ada.connect();
    assert!(ada.frames().is_empty(), "it was promised not to be sent");
    let was_out = ada.send(Some(Duration::from_secs(5)));
    ada.frames();
    ada.pass(Duration::from_secs(5));
    assert!(matches!(ada.reply(was_out), Err(Error::OutcomeUnknown { .. })));
    ada.sent(2, 1);
    ada.deliver(2);
    assert_eq!(ada.told(), ["message 2"], "its place in the chat is no gap");
}

#[test]
fn what_cannot_be_sent_is_said_at_once() {
    let mut stranger = Try::of(Kept::default());
    let token = stranger.send(None);
    assert!(matches!(stranger.reply(token), Err(Error::NotRegistered)));
    let mut ada = Try::registered();
    let token = ada.token();
    let body = Bytes::from(vec![0; BODY_BYTES_MAX + 1]);
    ada.session.handle_send(
        ada.now,
        Token(token),
        Outgoing { what: Outbound::Message { to: BOB.into(), body }, patience: None },
    );
    ada.carry_out();
    assert!(matches!(ada.reply(token), Err(Error::BodyTooLarge { .. })));
    for _ in 0..OUTBOX_MESSAGES_MAX {
        ada.queue();
    }
    let token = ada.send(None);
    assert!(matches!(ada.reply(token), Err(Error::OutboxFull)));
    assert_eq!(ada.session.unsent().len(), OUTBOX_MESSAGES_MAX);
}

#[test]
fn what_was_queued_survives_the_process_and_its_number_is_not_given_again() {
    let directory = tempfile::tempdir().unwrap();
    let open = || crate::store::Store::open(directory.path(), "127.0.0.1:7443").unwrap();
    let mut store = open();
    store.set_account(&account()).unwrap();
    let mut ada = Try::of(store.kept());
    ada.connect();
    for _ in 0..3 {
        ada.queue();
    }
    ada.frames();
    ada.sent(1, 1);
    store.commit(core::mem::take(&mut ada.records)).unwrap();
    drop((store, ada));

    let mut store = open();
    let mut ada = Try::of(store.kept());
    let numbers: Vec<_> = ada.session.unsent().iter().map(|unsent| unsent.client_seq.get()).collect();
    assert_eq!(numbers, [2, 3]);
    ada.queue();
    store.commit(core::mem::take(&mut ada.records)).unwrap();
    ada.connect();
    assert_eq!(ada.frames(), ["send 2", "send 3", "send 4"]);
    for n in 2..=4 {
        ada.sent(n, n);
    }
    assert_eq!(ada.told(), ["sent 2 at 2", "sent 3 at 3", "sent 4 at 4"]);
    store.commit(core::mem::take(&mut ada.records)).unwrap();
    drop((store, ada));
    let mut ada = Try::of(open().kept());
    ada.connect();
    assert!(ada.frames().is_empty(), "what was stored is not sent again");
    ada.queue();
    assert_eq!(ada.frames(), ["send 5"]);
}
