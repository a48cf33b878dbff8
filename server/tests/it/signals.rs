//! Signals: they reach whoever is there, are kept nowhere, and tell a stranger nothing.

use core::time::Duration;

use bytes::Bytes;
use columba_client::{
    Client, Error, Event, Events,
    options::Transport,
    types::{Call, CallId, CallStep, Signal, SignalBody, SignalTo},
};
use columba_wire::{
    ChatId, ClientSeq, Code, UserId,
    limits::{SIGNAL_BYTES_MAX, SIGNAL_MEMBERS_MAX},
    v1::{self, client_frame::Kind as Request, server_frame::Kind},
};
use futures_util::{StreamExt as _, stream};

use crate::{
    devices::link,
    groups::{Member, add, announcements, get_history, remove, three},
    link::Over,
    node::{PATIENCE, run, setup, soon, until},
    phone::options,
    raw::{Raw, id, send},
    roster::block,
};

const LIMIT: Duration = Duration::from_secs(120);
/// Signals that are sent where nothing may be written for them.
const MANY: u64 = 20;

fn frame(to_user: Option<UserId>, chat_id: Option<ChatId>, device_id: u32, body: impl Into<Bytes>) -> Request {
    Request::SendSignal(v1::SendSignal {
        to_user: to_user.map(|user| id(user.as_bytes())).unwrap_or_default(),
        chat_id: chat_id.map(|chat| id(chat.as_bytes())).unwrap_or_default(),
        device_id,
        body: body.into(),
    })
}

pub(crate) fn signal(to_user: Option<UserId>, chat_id: Option<ChatId>) -> Request {
    frame(to_user, chat_id, 0, "a signal")
}

async fn passed(raw: &mut Raw, request: Request) -> Result<(), Code> {
    match raw.ask(request).await? {
        Kind::Done(_) => Ok(()),
        other => panic!("another answer to SendSignal: {other:?}"),
    }
}

/// The signals that came before the message with this body. What was passed on before a message was sent to the same
/// user comes before it.
async fn heard(raw: &mut Raw, before: &str) -> Vec<(UserId, u32, String)> {
    let mut heard = Vec::new();
    loop {
        let frame = raw.receive().await.expect("the message behind the signals");
        assert_eq!(frame.request_id, 0, "{frame:?}");
        match frame.kind {
            Some(Kind::Signal(signal)) => {
                let sender = UserId::try_from(&signal.sender_user[..]).unwrap();
                assert_eq!(signal.chat_id.len(), 16, "{signal:?}");
                heard.push((sender, signal.sender_device, String::from_utf8(signal.body.to_vec()).unwrap()));
            }
            Some(Kind::Deliver(deliver)) if deliver.body == before.as_bytes() => return heard,
            _ => {}
        }
    }
}

async fn say(raw: &mut Raw, client_seq: u64, to: UserId, body: &'static str) {
    raw.ask(send(client_seq, to, body)).await.unwrap();
}

#[test]
fn a_signal_reaches_every_device_of_the_other_and_none_of_the_senders() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let [mut ada, mut bob, _cyd] = three(&node).await;
        let (ada_is, bob_is) = (ada.user(), bob.user());
        let (mut laptop, laptop_is) = link(&node, Over::Poll, &mut ada.raw, "laptop").await;
        let (mut tablet, tablet_is) = link(&node, Over::Tls, &mut bob.raw, "tablet").await;
        say(&mut ada.raw, 1, bob_is, "first").await;
        say(&mut bob.raw, 1, ada_is, "you too").await;
        for raw in [&mut bob.raw, &mut tablet, &mut laptop] {
            assert_eq!(heard(raw, "first").await, []);
        }
        for raw in [&mut ada.raw, &mut laptop] {
            assert_eq!(heard(raw, "you too").await, []);
        }

        assert_eq!(passed(&mut ada.raw, frame(Some(bob_is), None, 0, "ring")).await, Ok(()));
        let tablet_number = tablet_is.address.device.get();
        assert_eq!(passed(&mut laptop, frame(Some(bob_is), None, tablet_number, "only there")).await, Ok(()));
        say(&mut ada.raw, 2, bob_is, "second").await;
        let laptop_number = laptop_is.address.device.get();
        let (ring, there) = ((ada_is, 1, "ring".to_owned()), (ada_is, laptop_number, "only there".to_owned()));
        assert_eq!(heard(&mut bob.raw, "second").await, core::slice::from_ref(&ring));
        assert_eq!(heard(&mut tablet, "second").await, [ring, there]);
        assert_eq!(heard(&mut laptop, "second").await, []);

        // To oneself: one's own other devices, though there is no such chat. To the sending device alone: nobody.
        assert_eq!(passed(&mut ada.raw, frame(Some(ada_is), None, 0, "taken")).await, Ok(()));
        assert_eq!(passed(&mut ada.raw, frame(Some(ada_is), None, 1, "to me")).await, Ok(()));
        say(&mut bob.raw, 2, ada_is, "third").await;
        assert_eq!(heard(&mut laptop, "third").await, [(ada_is, 1, "taken".to_owned())]);
        assert_eq!(heard(&mut ada.raw, "third").await, []);
    });
}

#[test]
fn a_signal_to_a_group_reaches_its_other_members_or_the_one_it_is_for() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let [mut ada, mut bob, mut cyd] = three(&node).await;
        let (ada_is, bob_is, cyd_is) = (ada.user(), bob.user(), cyd.user());
        let (mut laptop, _) = link(&node, Over::Tls, &mut ada.raw, "laptop").await;
        let chat = ada.create("friends", &[bob_is, cyd_is]).await;
        ada.say(chat, "first").await.unwrap();
        for raw in [&mut bob.raw, &mut cyd.raw, &mut laptop] {
            assert_eq!(heard(raw, "first").await, []);
        }
        assert_eq!(passed(&mut ada.raw, frame(None, Some(chat), 0, "to all")).await, Ok(()));
        assert_eq!(passed(&mut ada.raw, frame(Some(cyd_is), Some(chat), 1, "to cyd")).await, Ok(()));
        assert_eq!(passed(&mut ada.raw, frame(Some(ada_is), Some(chat), 0, "to me")).await, Ok(()));
        ada.say(chat, "second").await.unwrap();
        let from_ada = |body: &str| (ada_is, 1, body.to_owned());
        assert_eq!(heard(&mut bob.raw, "second").await, [from_ada("to all")]);
        assert_eq!(heard(&mut cyd.raw, "second").await, [from_ada("to all"), from_ada("to cyd")]);
        assert_eq!(heard(&mut laptop, "second").await, [from_ada("to me")]);

        // Who was put out is no member, whatever it has got of the group.
        ada.change(chat, remove(&[cyd_is])).await.unwrap();
        assert_eq!(passed(&mut cyd.raw, signal(None, Some(chat))).await, Err(Code::UnknownChat));
        assert_eq!(passed(&mut ada.raw, signal(Some(cyd_is), Some(chat))).await, Err(Code::UnknownUser));
        ada.change(chat, announcements(true)).await.unwrap();
        for to in [None, Some(ada_is)] {
            assert_eq!(passed(&mut bob.raw, signal(to, Some(chat))).await, Err(Code::NotAllowed));
        }
        assert_eq!(passed(&mut ada.raw, signal(None, Some(chat))).await, Ok(()));
    });
}

#[test]
fn nothing_is_written_for_a_signal_and_who_is_away_never_gets_it() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let [mut ada, mut bob, _cyd] = three(&node).await;
        let (ada_is, bob_is) = (ada.user(), bob.user());
        let chat = ChatId::direct(ada_is, bob_is);
        say(&mut ada.raw, 1, bob_is, "first").await;
        bob.raw.delivered().await;
        // Cursors and the like are written behind a message for a moment.
        until("nothing is written for signals", PATIENCE, async || {
            let before = node.metrics().await;
            for _ in 0..MANY {
                assert_eq!(passed(&mut ada.raw, signal(Some(bob_is), None)).await, Ok(()));
            }
            let after = node.metrics().await;
            assert_eq!(after.since(&before, "signals_total"), MANY);
            let written = ["proposals_total", "journal_writes_total", "inbox_appends_total"];
            written.iter().all(|name| after.since(&before, name) == 0).then_some(())
        })
        .await;

        bob.raw.request(Request::Bye(v1::Bye {})).await;
        assert_eq!(bob.raw.ended().await, None);
        say(&mut ada.raw, 2, bob_is, "while away").await;
        assert_eq!(passed(&mut ada.raw, frame(Some(bob_is), None, 0, "lost")).await, Ok(()), "nobody is there");
        bob.raw = Raw::login(&node, Over::Tls, &bob.is).await;
        say(&mut ada.raw, 3, bob_is, "last").await;
        assert_eq!(heard(&mut bob.raw, "last").await, []);
        match bob.raw.ask(get_history(chat)).await.unwrap() {
            Kind::History(history) => assert_eq!(history.messages.len(), 3),
            other => panic!("another answer to GetHistory: {other:?}"),
        }
    });
}

#[test]
fn what_is_no_signal_is_refused_and_a_block_stops_those_of_both() {
    run(LIMIT, async {
        let node = setup().start().await;
        let [mut ada, mut bob, cyd] = three(&node).await;
        let (ada_is, bob_is) = (ada.user(), bob.user());
        say(&mut ada.raw, 1, bob_is, "first").await;
        let group = ada.create("friends", &[bob_is]).await;
        let raw = &mut ada.raw;
        let short = |to_user: usize, chat_id: usize| {
            let (to_user, chat_id) = (id(&[1; 16][..to_user]), id(&[1; 16][..chat_id]));
            Request::SendSignal(v1::SendSignal { to_user, chat_id, device_id: 0, body: Bytes::from_static(b"x") })
        };
        for (request, code) in [
            (frame(Some(bob_is), None, 0, ""), Code::InvalidArgument),
            (frame(Some(bob_is), None, 0, vec![1; SIGNAL_BYTES_MAX + 1]), Code::BodyTooLarge),
            (frame(None, None, 0, "to nobody"), Code::InvalidArgument),
            (frame(None, Some(group), 1, "to a device of a group"), Code::InvalidArgument),
            (frame(Some(bob_is), None, 1 << 24, "to no device"), Code::InvalidArgument),
            (short(15, 0), Code::InvalidArgument),
            (short(0, 15), Code::InvalidArgument),
            (short(16, 1), Code::InvalidArgument),
            (signal(Some(bob_is), Some(ChatId::direct(ada_is, bob_is))), Code::UnknownChat),
            (signal(None, Some(ChatId::direct(ada_is, bob_is))), Code::UnknownChat),
            (signal(Some(cyd.user()), Some(group)), Code::UnknownUser),
        ] {
            assert_eq!(passed(raw, request.clone()).await, Err(code), "{request:?}");
        }
        let longest = frame(Some(bob_is), None, 9, vec![1; SIGNAL_BYTES_MAX]);
        assert_eq!(passed(raw, longest).await, Ok(()), "to a device that he does not have");

        ada.raw.ask(block(bob_is, true)).await.unwrap();
        assert_eq!(passed(&mut ada.raw, signal(Some(bob_is), None)).await, Err(Code::NotAllowed));
        assert_eq!(passed(&mut bob.raw, signal(Some(ada_is), None)).await, Err(Code::NotAllowed));
        ada.raw.ask(block(bob_is, false)).await.unwrap();
        assert_eq!(passed(&mut bob.raw, signal(Some(ada_is), None)).await, Ok(()));
    });
}

#[test]
fn nobody_rings_strangers_or_learns_of_their_chats() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let [mut ada, mut bob, mut eve] = three(&node).await;
        let (ada_is, bob_is, eve_is) = (ada.user(), bob.user(), eve.user());
        say(&mut ada.raw, 1, bob_is, "between us").await;
        let group = ada.create("secret", &[bob_is]).await;
        let none = ChatId::group(bob.is.address, ClientSeq::new(99));
        let nobody = UserId::from_bytes([7; 16]);
        // A block leaves a row behind where the chat would be, and makes none.
        bob.raw.ask(block(eve_is, true)).await.unwrap();
        for user in [ada_is, bob_is, nobody] {
            assert_eq!(passed(&mut eve.raw, signal(Some(user), None)).await, Err(Code::UnknownChat));
        }
        for chat in [group, none, ChatId::direct(ada_is, bob_is), ChatId::direct(ada_is, nobody)] {
            for user in [None, Some(ada_is), Some(eve_is), Some(nobody)] {
                let answer = passed(&mut eve.raw, signal(user, Some(chat))).await;
                assert_eq!(answer, Err(Code::UnknownChat), "{user:?} {chat}");
            }
        }
        assert_eq!(passed(&mut ada.raw, signal(Some(eve_is), None)).await, Err(Code::UnknownChat));
        say(&mut eve.raw, 1, ada_is, "hello").await;
        assert_eq!(passed(&mut ada.raw, signal(Some(eve_is), None)).await, Ok(()), "now they have a chat");
    });
}

#[test]
fn a_large_group_is_signalled_one_by_one() {
    run(LIMIT, async {
        let node = setup().start().await;
        let mut ada = Member::register(&node, Over::Plain, "ada").await;
        let others: Vec<_> = stream::iter(0..SIGNAL_MEMBERS_MAX)
            .map(|n| {
                let node = &node;
                async move { Member::register(node, Over::Plain, &format!("user{n}")).await }
            })
            .buffered(8)
            .collect()
            .await;
        let users: Vec<_> = others.iter().map(Member::user).collect();
        let (last, first) = users.split_last().unwrap();
        let chat = ada.create("as many as may be", first).await;
        assert_eq!(passed(&mut ada.raw, signal(None, Some(chat))).await, Ok(()));
        ada.change(chat, add(&[*last])).await.unwrap();
        assert_eq!(passed(&mut ada.raw, signal(None, Some(chat))).await, Err(Code::TooMany));
        assert_eq!(passed(&mut ada.raw, signal(Some(*last), Some(chat))).await, Ok(()));
        for mut other in others {
            let pick = |kind| if let Kind::Signal(signal) = kind { Some(signal) } else { None };
            assert_eq!(other.raw.expect("a signal", pick).await.body, "a signal");
        }
    });
}

#[test]
fn who_signals_too_much_is_told_when_to_go_on_and_others_are_not() {
    run(LIMIT, async {
        let node = setup().set("limits.loopback", "true").start().await;
        let [mut ada, mut bob, _cyd] = three(&node).await;
        let (ada_is, bob_is) = (ada.user(), bob.user());
        say(&mut ada.raw, 1, bob_is, "first").await;
        // All at once: what comes back meanwhile is little.
        for _ in 0..100 {
            ada.raw.request(signal(Some(bob_is), None)).await;
        }
        let (mut done, mut limited) = (0, 0);
        while done + limited < 100 {
            ada.raw
                .expect("an answer", |kind| match kind {
                    Kind::Done(_) => {
                        done += 1;
                        Some(())
                    }
                    Kind::Error(error) => {
                        assert_eq!(error.code, Code::RateLimited.number());
                        assert!((1..=101).contains(&error.retry_after_ms), "{error:?}");
                        limited += 1;
                        Some(())
                    }
                    _ => None,
                })
                .await;
        }
        assert!(done >= 30 && limited > 0, "{done} were passed on, {limited} not");
        assert_eq!(passed(&mut bob.raw, signal(Some(ada_is), None)).await, Ok(()));
        until("another one may be sent", PATIENCE, async || {
            passed(&mut ada.raw, signal(Some(bob_is), None)).await.ok()
        })
        .await;
        assert!(node.metrics().await.get("rate_limited_total") >= limited);
    });
}

async fn event<T>(events: &mut Events, what: &str, pick: impl Fn(Event) -> Option<T>) -> T {
    loop {
        let event = soon(what, events.next()).await.unwrap_or_else(|| panic!("ended before {what}"));
        if let Some(picked) = pick(event) {
            return picked;
        }
    }
}

#[test]
fn the_sdk_tells_who_writes_and_who_calls_while_it_happens() {
    run(LIMIT, async {
        let mut node = setup().start().await;
        let (ada, mut adas) = Client::connect(options(&node, Transport::WebSocket, None)).await.unwrap();
        let call = |step| {
            SignalBody::Call(Call { id: CallId::from_bytes([5; 16]), step, payload: Bytes::from_static(b"v=0") })
        };
        let early = ada.signal(UserId::from_bytes([1; 16]), call(CallStep::Offer)).await;
        assert!(matches!(early, Err(Error::NotRegistered)), "{early:?}");
        let ada_is = soon("an account", ada.register("ada", "")).await.unwrap();
        let (bob, mut bobs) = Client::connect(options(&node, Transport::Quic, None)).await.unwrap();
        let bob_is = soon("an account", bob.register("bob", "")).await.unwrap();
        let stranger = ada.signal(bob_is.user, call(CallStep::Offer)).await;
        assert!(matches!(stranger, Err(Error::Refused { code: Code::UnknownChat, .. })), "{stranger:?}");

        let chat = ada.send(bob_is.user, "hello").await.unwrap().chat;
        ada.set_typing(bob_is.user, true).await.unwrap();
        let typing = |event| match event {
            Event::Typing { chat, user, on } => Some((chat, user, on)),
            _ => None,
        };
        assert_eq!(event(&mut bobs, "typing", typing).await, (chat, ada_is.user, true));
        ada.send(bob_is.user, "it is written").await.unwrap();
        assert_eq!(event(&mut bobs, "the end of typing", typing).await, (chat, ada_is.user, false));

        let signal = |event| if let Event::Signal(signal) = event { Some(signal) } else { None };
        ada.signal(bob_is.user, call(CallStep::Offer)).await.unwrap();
        let offer = event(&mut bobs, "a call", signal).await;
        let expected = Signal { chat, sender: ada_is.user, device: ada_is.device, body: call(CallStep::Offer) };
        assert_eq!(offer, expected);
        bob.signal(SignalTo::Device(offer.sender, offer.device), call(CallStep::Answer)).await.unwrap();
        assert_eq!(event(&mut adas, "an answer", signal).await.body, call(CallStep::Answer));

        node.kill();
        let lost = |event| matches!(event, Event::Disconnected { .. }).then_some(());
        event(&mut adas, "the end of the connection", lost).await;
        let offline = ada.signal(bob_is.user, call(CallStep::Hangup)).await;
        assert!(matches!(offline, Err(Error::Offline)), "{offline:?}");
    });
}
