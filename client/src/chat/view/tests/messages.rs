//! Typed messages on the screen.

use bytes::Bytes;

use super::*;
use crate::types::{ChatMember, GroupLook, Media, MessageBody, MessageKind, Role};

fn typed(sender: UserId, seq: u64, body: impl Into<MessageBody>) -> Message {
    Message { body: body.into().to_bytes().unwrap(), ..message(sender, seq, "") }
}

fn react(target: u64, emoji: &str) -> MessageKind {
    MessageKind::Reaction { target: MessageSeq::new(target), emoji: emoji.to_owned() }
}

fn edit(target: u64, text: &str) -> MessageKind {
    MessageKind::Edit { target: MessageSeq::new(target), text: text.to_owned() }
}

fn delete(target: u64) -> MessageKind {
    MessageKind::Delete { target: MessageSeq::new(target) }
}

fn answer(target: u64, text: &str) -> MessageBody {
    MessageBody::text(text).in_reply_to(MessageSeq::new(target))
}

#[test]
fn what_is_said_about_messages_is_told_and_shows_in_them() {
    let mut ada = Try::with_bob();
    ada.typed("helo");
    ada.said();
    ada.event(stored(1, 1));
    assert_eq!(ada.said(), ["#1 stored"]);
    let photo = Media { reference: "x".into(), name: "cat.jpg".to_owned(), size: 9, ..Media::default() };
    for message in [
        typed(BOB, 2, answer(1, "hi")),
        typed(BOB, 3, react(1, "👍")),
        typed(BOB, 4, MessageKind::Media(photo)),
        typed(BOB, 5, edit(2, "hi ada")),
        typed(BOB, 6, edit(1, "what she never said")),
        typed(BOB, 7, delete(4)),
        typed(BOB, 8, answer(90, "to what is not here")),
        Message { body: Bytes::from_static(b"\0\x09"), ..message(BOB, 9, "") },
    ] {
        ada.event(Event::Message(message));
    }
    assert_eq!(
        ada.said(),
        [
            "22:13 bob: (to 1 ada \"helo\") hi",
            "22:13 bob reacts to message 1 with 👍",
            "22:13 bob: <file: cat.jpg, 9 bytes>",
            "22:13 bob changes message 2 to: hi ada",
            "22:13 bob deletes message 4",
            "22:13 bob: to what is not here",
            "22:13 bob: <not understood by this version>",
            "-> read 9",
        ]
    );
    ada.typed("/edit 1 hello");
    ada.typed("/react 2 ❤️");
    ada.said();
    ada.event(stored(2, 10));
    ada.event(stored(3, 11));
    ada.said();
    ada.typed("/show");
    assert_eq!(
        ada.said(),
        [
            "(1) 22:13 ada: hello (edited) [👍 bob]",
            "(2) 22:13 bob: (to 1 ada \"hello\") hi ada (edited) [❤️ ada]",
            "(4) 22:13 bob: <deleted>",
            "(8) 22:13 bob: to what is not here",
            "(9) 22:13 bob: <not understood by this version>",
        ]
    );
    ada.typed("/show 1");
    assert_eq!(ada.said(), ["(9) 22:13 bob: <not understood by this version>"]);
}

#[test]
fn what_names_no_message_that_it_could_be_about_is_not_sent() {
    let mut ada = Try::with_bob();
    ada.typed("/show");
    ada.event(from(BOB, 1, "hello"));
    ada.event(Event::Message(typed(BOB, 2, react(1, "👍"))));
    ada.said();
    for line in ["/edit 1 his", "/delete 1", "/reply 2 to a reaction", "/react 3 👍", "/reply 3 to nothing"] {
        ada.typed(line);
    }
    let elsewhere = "is not on the screen; /show tells the numbers, /history shows older ones";
    assert_eq!(
        ada.said(),
        [
            "! not sent: message 1 is not yours to change".to_owned(),
            "! not sent: message 1 is not yours to change".to_owned(),
            format!("! not sent: message 2 {elsewhere}"),
            format!("! not sent: message 3 {elsewhere}"),
            format!("! not sent: message 3 {elsewhere}"),
        ]
    );
    let mut nobody = Try::new();
    nobody.view.begin(Some(account()), None);
    nobody.said();
    nobody.typed("/reply 1 hi");
    nobody.typed("/show");
    assert!(nobody.said().iter().all(|line| line.contains("nobody is chosen")));
}

#[test]
fn a_log_and_a_history_are_shown_as_they_stand() {
    let mut ada = Try::new();
    ada.names.insert(BOB, "bob".to_owned());
    ada.unsent =
        vec![Unsent { client_seq: ClientSeq::new(7), to: BOB.into(), body: typed(ADA, 1, react(5, "👍")).body }];
    ada.log = vec![message(BOB, 5, "ho"), typed(BOB, 6, edit(5, "hoho")), typed(BOB, 7, edit(4, "new"))];
    ada.view.begin(Some(account()), Some("bob"));
    assert_eq!(
        ada.said()[2..],
        [
            "* #1 to bob was not sent before: reacts to message 5 with 👍",
            "* writing to bob",
            "-> watch b0",
            "22:13 bob: hoho (edited)",
        ]
    );
    let messages = vec![message(BOB, 4, "old"), message(BOB, 3, "older")];
    let page = HistoryPage { messages, complete: false };
    ada.answer(Answer::History { chat: ChatId::direct(ADA, BOB), result: Ok(page) });
    assert_eq!(ada.said(), ["22:13 bob: older", "22:13 bob: new (edited)"], "its edit came before it");
}

#[test]
fn a_line_that_would_be_taken_for_something_typed_is_sent_as_text() {
    let mut ada = Try::with_bob();
    ada.view.echo = true;
    ada.typed("\0\u{1}odd");
    assert_eq!(ada.said(), ["22:13 #1 ada: ␀␁odd"]);
    ada.event(stored(1, 1));
    ada.said();
    ada.typed("/react 1 👍");
    ada.typed("/reply 1 indeed");
    assert_eq!(ada.said(), ["22:13 #2 ada reacts to message 1 with 👍", "22:13 #3 ada: (to 1 ada \"␀␁odd\") indeed"]);
}

#[test]
fn an_admin_of_a_group_deletes_what_others_wrote() {
    let mut ada = Try::with_bob();
    let chat = ChatId::from_bytes([0xc1; 16]);
    let look = GroupLook { name: "club".into(), ..GroupLook::default() };
    let member = |(user, role)| ChatMember { user, role, from: MessageSeq::new(1) };
    let members = [(ADA, Role::Admin), (BOB, Role::Member), (CAROL, Role::Owner)].map(member).to_vec();
    let (first, last) = (MessageSeq::new(1), MessageSeq::new(4));
    ada.answer(Answer::Chat(Ok(ChatInfo { chat, first, last, group: Some(look), invite: None, members, timer_s: 0 })));
    ada.typed("/with #club");
    ada.said();
    for said in [message(BOB, 5, "spam"), typed(BOB, 6, answer(5, "more")), typed(BOB, 7, delete(1))] {
        ada.event(Event::Message(Message { chat, ..said }));
    }
    ada.said();
    ada.typed("/delete 5");
    ada.said();
    ada.event(Event::Sent(Sent { client_seq: ClientSeq::new(1), chat, seq: MessageSeq::new(8), time_ms: NOW_MS }));
    assert_eq!(ada.said(), ["#1 stored"]);
    ada.typed("/show");
    assert_eq!(ada.said(), ["(5) 22:13 bob: <deleted by ada>", "(6) 22:13 bob: (to 5 bob <deleted>) more"]);
}
