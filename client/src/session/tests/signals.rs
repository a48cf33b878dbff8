//! Signals: said at once or never; who writes, and when that lapses.

use super::*;
use crate::{
    limits::{SIGNALS_MAX, TYPING_CHATS_MAX, TYPING_EVERY, TYPING_LAPSES, TYPING_USERS_MAX},
    types::{Call, CallId, CallStep, SignalBody, SignalTo},
};

const SECOND: Duration = Duration::from_secs(1);

fn offer() -> SignalBody {
    let id = CallId::from_bytes([5; 16]);
    SignalBody::Call(Call { id, step: CallStep::Offer, payload: Bytes::from_static(b"v=0") })
}

impl Try {
    fn signal(&mut self, to: impl Into<SignalTo>) -> u64 {
        let token = self.token();
        self.session.handle_signal(self.now, Token(token), to.into().to_frame(offer().to_bytes()));
        self.carry_out();
        token
    }

    /// The user presses a key, or gives up; what goes out.
    fn typing(&mut self, to: impl Into<Recipient>, on: bool) -> Vec<bool> {
        let token = self.token();
        self.session.handle_set_typing(self.now, Token(token), to.into(), on);
        self.carry_out();
        assert!(matches!(self.reply(token), Ok(Reply::Done)));
        let mut out = Vec::new();
        while let Some(kind) = self.frame() {
            let Kind::SendSignal(signal) = kind else { panic!("another frame: {kind:?}") };
            let bodies = [true, false].map(|on| (on, SignalBody::Typing { on }.to_bytes()));
            out.push(bodies.into_iter().find(|(_, body)| *body == signal.body).expect("it is about typing").0);
        }
        out
    }

    /// The server brings a signal.
    fn signalled(&mut self, sender: UserId, body: Bytes) {
        let (chat_id, sender_user) = (id_bytes(chat().as_bytes()), id_bytes(sender.as_bytes()));
        self.server(0, server_frame::Kind::Signal(v1::Signal { chat_id, sender_user, sender_device: 2, body }));
    }

    fn writes(&mut self, on: bool) {
        self.signalled(BOB, SignalBody::Typing { on }.to_bytes());
    }

    /// What was told of who writes, in short; and that the rest was told.
    fn writing(&mut self) -> Vec<String> {
        let short = |event| match event {
            Event::Typing { on, .. } => Some(if on { "writes" } else { "stops" }.to_owned()),
            Event::Message(message) => Some(format!("message {}", message.seq)),
            Event::Signal(signal) => Some(format!("{:?} of device {}", signal.body, signal.device)),
            _ => None,
        };
        self.events.drain(..).filter_map(short).collect()
    }
}

#[test]
fn that_the_user_writes_is_told_now_and_then_and_its_end_once() {
    let mut ada = Try::open();
    assert!(ada.typing(BOB, false).is_empty(), "nobody was told that she writes");
    assert_eq!(ada.typing(BOB, true), [true]);
    for _ in 0..29 {
        ada.pass(TYPING_EVERY / 30);
        assert!(ada.typing(BOB, true).is_empty());
    }
    ada.pass(TYPING_EVERY / 30);
    assert_eq!(ada.typing(BOB, true), [true], "she goes on");
    assert_eq!(ada.typing(BOB, false), [false]);
    assert!(ada.typing(BOB, false).is_empty());
    assert!(ada.typing(BOB, true).is_empty(), "again, and too soon");
    ada.pass(TYPING_EVERY);
    assert_eq!(ada.typing(BOB, true), [true]);
    ada.pass(TYPING_LAPSES);
    assert!(ada.typing(BOB, false).is_empty(), "it has lapsed by itself");
    assert!(ada.typing(ADA, true).is_empty(), "nobody else reads her notes");
}

#[test]
fn a_message_says_that_it_was_written() {
    let mut ada = Try::open();
    assert_eq!(ada.typing(BOB, true), [true]);
    ada.queue();
    assert_eq!(ada.frames(), ["send 1"]);
    assert!(ada.typing(BOB, false).is_empty());
    ada.pass(TYPING_EVERY);
    assert_eq!(ada.typing(BOB, true), [true], "the next one");
}

#[test]
fn each_chat_is_told_for_itself_and_their_number_is_bounded() {
    let mut ada = Try::open();
    let group = |n: usize| Recipient::Group(ChatId::from_bytes([u8::try_from(n).unwrap(); 16]));
    for n in 0..TYPING_CHATS_MAX {
        if n % SIGNALS_MAX == SIGNALS_MAX - 1 {
            // Answers make room for more.
            let last = ada.session.requests.number();
            (0..last).for_each(|id| ada.server(2 * id + 1, server_frame::Kind::Done(v1::Done {})));
        }
        assert_eq!(ada.typing(group(n), true), [true], "{n}");
    }
    let last = ada.session.requests.number();
    (0..last).for_each(|id| ada.server(2 * id + 1, server_frame::Kind::Done(v1::Done {})));
    assert!(ada.typing(group(TYPING_CHATS_MAX), true).is_empty());
    assert_eq!(ada.typing(group(3), false), [false]);
    ada.pass(TYPING_LAPSES);
    assert_eq!(ada.typing(group(TYPING_CHATS_MAX), true), [true]);
}

#[test]
fn who_says_nothing_more_has_stopped_writing() {
    let mut ada = Try::open();
    ada.writes(true);
    ada.pass(TYPING_EVERY);
    ada.writes(true);
    ada.pass(TYPING_LAPSES - SECOND);
    assert_eq!(ada.writing(), ["writes"]);
    assert_eq!(ada.session.poll_timeout(ada.now), Some(ada.now + SECOND));
    ada.pass(SECOND);
    assert_eq!(ada.writing(), ["stops"]);
    ada.writes(false);
    assert!(ada.writing().is_empty(), "it is known");
    ada.writes(true);
    ada.writes(false);
    assert_eq!(ada.writing(), ["writes", "stops"]);
    ada.writes(true);
    ada.deliver(1);
    assert_eq!(ada.writing(), ["writes", "stops", "message 1"]);
    ada.writes(true);
    ada.lose();
    assert_eq!(ada.writing(), ["writes", "stops"], "nobody would tell its end");
    ada.pass(TYPING_LAPSES);
    assert!(ada.writing().is_empty());
}

#[test]
fn those_who_write_are_bounded() {
    let mut ada = Try::open();
    for n in 0..2 * TYPING_USERS_MAX {
        let mut user = [7; 16];
        user[..8].copy_from_slice(&(n as u64).to_be_bytes());
        ada.signalled(UserId::from_bytes(user), SignalBody::Typing { on: true }.to_bytes());
    }
    assert_eq!(ada.writing().len(), TYPING_USERS_MAX);
    ada.pass(TYPING_LAPSES);
    assert_eq!(ada.writing(), vec!["stops"; TYPING_USERS_MAX]);
}

#[test]
fn a_call_is_answered_and_nothing_of_it_waits_for_the_next_connection() {
    let mut ada = Try::registered();
    let early = ada.signal(BOB);
    assert!(matches!(ada.reply(early), Err(Error::Offline)));
    assert!(ada.typing(BOB, true).is_empty());
    ada.connect();
    assert!(ada.frames().is_empty(), "what was said before is lost");

    let (passed, refused, lost) = (ada.signal(BOB), ada.signal(BOB), ada.signal(BOB));
    let numbers: Vec<_> = (0..3).map(|_| ada.session.poll_frame(ada.now).unwrap().request_id).collect();
    ada.server(numbers[0], server_frame::Kind::Done(v1::Done {}));
    assert!(matches!(ada.reply(passed), Ok(Reply::Done)));
    ada.refuse(numbers[1], Code::RateLimited, 100);
    assert!(matches!(ada.reply(refused), Err(Error::Refused { code: Code::RateLimited, .. })));
    let unsent = ada.signal(BOB);
    ada.reconnect();
    for token in [lost, unsent] {
        assert!(matches!(ada.reply(token), Err(Error::Offline)));
    }
    assert!(ada.frames().is_empty());
    ada.server(numbers[2], server_frame::Kind::Done(v1::Done {}));
    assert!(ada.replies.is_empty());
    assert!(ada.records.is_empty(), "the profile knows nothing of signals");
}

#[test]
fn a_signal_that_nobody_answers_ends_with_its_patience_and_they_are_bounded() {
    let mut ada = Try::open();
    let tokens: Vec<_> = (0..SIGNALS_MAX).map(|_| ada.signal(BOB)).collect();
    let more = ada.signal(BOB);
    assert!(matches!(ada.reply(more), Err(Error::TooManyRequests)));
    assert_eq!(ada.frames().len(), SIGNALS_MAX);
    assert!(ada.typing(CAROL, true).is_empty());
    ada.pass(PATIENCE);
    for token in tokens {
        assert!(matches!(ada.reply(token), Err(Error::TimedOut(PATIENCE))));
    }
    assert_eq!(ada.typing(CAROL, true), [true], "there is room again");
    let late = ada.signal(BOB);
    ada.pass(PATIENCE);
    assert!(matches!(ada.reply(late), Err(Error::TimedOut(PATIENCE))));
    assert!(ada.frames().is_empty(), "the socket took it too late");
}

#[test]
fn a_signal_goes_where_it_is_sent() {
    let group = ChatId::from_bytes([8; 16]);
    let device = DeviceId::new(3).unwrap();
    let sent = |to: SignalTo| {
        let v1::SendSignal { to_user, chat_id, device_id, .. } = to.to_frame(Bytes::new());
        (UserId::try_from(&to_user[..]).ok(), ChatId::try_from(&chat_id[..]).ok(), device_id)
    };
    assert_eq!(sent(BOB.into()), (Some(BOB), None, 0));
    assert_eq!(sent(Recipient::Group(group).into()), (None, Some(group), 0));
    assert_eq!(sent(SignalTo::Device(BOB, device)), (Some(BOB), None, 3));
    assert_eq!(sent(SignalTo::Member { group, user: BOB, device: None }), (Some(BOB), Some(group), 0));
    assert_eq!(sent(SignalTo::Member { group, user: BOB, device: Some(device) }), (Some(BOB), Some(group), 3));
}

#[test]
fn what_a_signal_says_is_told_and_what_is_not_known_is_passed_over() {
    let mut ada = Try::open();
    let steps =
        [CallStep::Offer, CallStep::Answer, CallStep::Candidate, CallStep::Hangup, CallStep::Ringing, CallStep::Busy];
    for step in steps {
        let call = Call { id: CallId::from_bytes([5; 16]), step, payload: Bytes::from_static(b"v=0") };
        ada.signalled(BOB, SignalBody::Call(call.clone()).to_bytes());
        assert_eq!(ada.writing(), [format!("{:?} of device 2", SignalBody::Call(call))]);
    }
    // Nonsense, nothing, another kind, a step that is none, and a call without an id.
    for body in [&b"\xff\xff"[..], b"", b"\x7a\x00", b"\x12\x12\x0a\x100123456789abcdef", b"\x12\x02\x10\x01"] {
        ada.signalled(BOB, Bytes::from_static(body));
    }
    assert!(ada.writing().is_empty());
    assert!(ada.session.is_open(), "whoever has sent it may say anything");
    ada.server(0, server_frame::Kind::Signal(v1::Signal::default()));
    assert!(!ada.session.is_open(), "ids are the server's word");
}
