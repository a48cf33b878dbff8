//! What a chat comes to, whoever says what in which order.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::types::{GroupLook, Media, MessageBody};

const CHAT: ChatId = ChatId::from_bytes([1; 16]);
const ADA: UserId = UserId::from_bytes([0xad; 16]);
const BOB: UserId = UserId::from_bytes([0xb0; 16]);
const CAROL: UserId = UserId::from_bytes([0xca; 16]);

fn seq(seq: u64) -> MessageSeq {
    MessageSeq::new(seq)
}

fn plain(sender: UserId, at: u64, text: &str) -> Message {
    Message {
        chat: CHAT,
        seq: seq(at),
        sender,
        time_ms: at,
        disappears_ms: None,
        body: text.to_owned().into(),
        change: None,
    }
}

fn typed(sender: UserId, at: u64, body: impl Into<MessageBody>) -> Message {
    Message { body: body.into().to_bytes().unwrap(), ..plain(sender, at, "") }
}

fn changed(by: UserId, at: u64, change: GroupChange) -> Message {
    Message { change: Some(change), ..plain(by, at, "") }
}

fn react(target: u64, emoji: &str) -> MessageKind {
    MessageKind::Reaction { target: seq(target), emoji: emoji.to_owned() }
}

fn edit(target: u64, text: &str) -> MessageKind {
    MessageKind::Edit { target: seq(target), text: text.to_owned() }
}

fn delete(target: u64) -> MessageKind {
    MessageKind::Delete { target: seq(target) }
}

fn of(messages: &[Message]) -> Timeline {
    let mut timeline = Timeline::new(CHAT);
    messages.iter().for_each(|message| {
        timeline.insert(message);
    });
    timeline
}

fn says(timeline: &Timeline, at: u64) -> String {
    match timeline.item(seq(at)).unwrap().shown {
        Shown::Content(Content::Plain(text)) => String::from_utf8(text.to_vec()).unwrap(),
        Shown::Content(Content::Typed(MessageBody { kind: MessageKind::Text(text), .. })) => text,
        Shown::Content(Content::Typed(MessageBody { kind: MessageKind::Media(media), .. })) => media.caption,
        other => format!("{other:?}"),
    }
}

#[test]
fn the_last_edit_counts_even_if_it_is_seen_before_its_target() {
    let media = Media { reference: "x".into(), caption: "cat".to_owned(), ..Media::default() };
    let messages = [
        plain(ADA, 1, "helo"),
        typed(ADA, 2, MessageBody::text("wrld").in_reply_to(seq(1))),
        typed(ADA, 3, MessageKind::Media(media)),
        typed(ADA, 4, edit(1, "hallo")),
        typed(ADA, 5, edit(2, "world")),
        typed(ADA, 6, edit(3, "a cat")),
        typed(ADA, 7, edit(1, "hello")),
    ];
    let mut backwards = messages.to_vec();
    backwards.reverse();
    for timeline in [of(&messages), of(&backwards)] {
        assert_eq!([1, 2, 3].map(|at| says(&timeline, at)), ["hello", "world", "a cat"]);
        assert!(timeline.items().all(|item| item.is_edited));
        assert_eq!(timeline.items().count(), 3, "an edit is not shown by itself");
        assert_eq!(timeline.item(seq(2)).unwrap().reply_to, Some(seq(1)), "an answer stays one");
    }
}

#[test]
fn nobody_changes_what_somebody_else_has_said() {
    let timeline = of(&[plain(ADA, 1, "mine"), typed(BOB, 2, edit(1, "his")), typed(BOB, 3, delete(1))]);
    assert_eq!(says(&timeline, 1), "mine");
    assert!(!timeline.item(seq(1)).unwrap().is_edited);
    assert!(!timeline.may(BOB, &delete(1), MessageSeq::MAX) && timeline.may(ADA, &delete(1), MessageSeq::MAX));
}

#[test]
fn a_message_names_only_what_was_there_before_it_and_is_shown() {
    let create = GroupChange::Create { look: GroupLook::default(), members: vec![BOB] };
    let timeline = of(&[
        changed(ADA, 1, create.clone()),
        typed(ADA, 2, edit(3, "before it was said")),
        typed(ADA, 3, MessageBody::text("as it is").in_reply_to(seq(3))),
        typed(ADA, 4, react(3, "👍")),
        typed(ADA, 5, delete(4)),
        typed(ADA, 6, delete(1)),
        typed(ADA, 7, edit(9, "of nothing")),
    ]);
    let item = timeline.item(seq(3)).unwrap();
    assert_eq!((says(&timeline, 3).as_str(), item.reply_to), ("as it is", None));
    assert_eq!(item.reactions, BTreeMap::from([(ADA, "👍".to_owned())]));
    assert_eq!(timeline.item(seq(1)).unwrap().shown, Shown::Change(create));
    assert_eq!(timeline.items().count(), 2);
}

#[test]
fn everybody_has_one_reaction_and_may_take_it_back() {
    let timeline = of(&[
        plain(ADA, 1, "hi"),
        typed(BOB, 2, react(1, "👍")),
        typed(CAROL, 3, react(1, "👍")),
        typed(BOB, 4, react(1, "❤️")),
        typed(CAROL, 5, react(1, "")),
    ]);
    assert_eq!(timeline.item(seq(1)).unwrap().reactions, BTreeMap::from([(BOB, "❤️".to_owned())]));
}

#[test]
fn what_is_deleted_stays_so_and_says_nothing() {
    let timeline = of(&[
        plain(ADA, 1, "secret"),
        typed(BOB, 2, react(1, "👀")),
        typed(ADA, 3, edit(1, "secrets")),
        typed(ADA, 4, delete(1)),
        typed(ADA, 5, edit(1, "back")),
        typed(BOB, 6, react(1, "👍")),
    ]);
    let item = timeline.item(seq(1)).unwrap();
    assert_eq!(item.shown, Shown::Deleted { by: ADA });
    assert!(item.reactions.is_empty() && !item.is_edited);
}

#[test]
fn an_admin_deletes_while_it_is_one() {
    let role = |user, role| GroupChange::SetRole { user, role };
    let mut messages = vec![
        changed(ADA, 1, GroupChange::Create { look: GroupLook::default(), members: vec![BOB, CAROL] }),
        plain(CAROL, 2, "a"),
        plain(CAROL, 3, "b"),
        plain(CAROL, 4, "c"),
        typed(BOB, 5, delete(2)),
        changed(ADA, 6, role(BOB, Role::Admin)),
        typed(BOB, 7, delete(3)),
        changed(ADA, 8, role(BOB, Role::Member)),
        typed(BOB, 9, delete(4)),
        plain(BOB, 10, "d"),
        typed(ADA, 11, delete(10)),
        typed(ADA, 12, edit(2, "not by an owner either")),
    ];
    let timeline = of(&messages);
    assert_eq!([says(&timeline, 2), says(&timeline, 4)], ["a", "c"]);
    assert_eq!(timeline.item(seq(3)).unwrap().shown, Shown::Deleted { by: BOB });
    assert_eq!(timeline.item(seq(10)).unwrap().shown, Shown::Deleted { by: ADA });
    // Without the changes the roles of now are all there is to go by.
    messages.retain(|message| message.change.is_none());
    let mut timeline = of(&messages);
    assert_eq!(says(&timeline, 3), "b");
    timeline.set_roles(BTreeMap::from([(BOB, Role::Admin), (ADA, Role::Owner)]));
    assert_eq!(timeline.item(seq(3)).unwrap().shown, Shown::Deleted { by: BOB });
}

#[test]
fn messages_of_other_chats_and_without_room_are_not_taken() {
    let mut timeline = Timeline::new(CHAT);
    assert!(!timeline.insert(&Message { chat: ChatId::from_bytes([2; 16]), ..plain(ADA, 1, "other") }));
    for at in 1..=TIMELINE_MESSAGES_MAX as u64 + 2 {
        assert!(timeline.insert(&typed(ADA, at, delete(at.max(2) - 1))));
    }
    assert_eq!(timeline.entries.len(), TIMELINE_MESSAGES_MAX);
    assert_eq!(timeline.about.values().map(BTreeSet::len).sum::<usize>(), TIMELINE_MESSAGES_MAX);
    assert!(!timeline.insert(&plain(ADA, 2, "dropped before")));
}

/// What people may do to each other within a few messages: many of these are not allowed.
fn message(at: u64) -> impl Strategy<Value = Message> {
    let who = prop_oneof![Just(ADA), Just(BOB), Just(CAROL)];
    let target = || 1..12u64;
    let said = prop_oneof![
        "[a-z]{0,9}".prop_map(|text| plain(ADA, 1, &text)),
        ("[a-z]{0,9}", target()).prop_map(|(text, target)| typed(
            ADA,
            1,
            MessageBody::text(text).in_reply_to(seq(target))
        )),
        (target(), "[a-c]?").prop_map(|(target, emoji)| typed(ADA, 1, react(target, &emoji))),
        (target(), "[a-z]{0,9}").prop_map(|(target, text)| typed(ADA, 1, edit(target, &text))),
        target().prop_map(|target| typed(ADA, 1, delete(target))),
        Just(Message { body: Bytes::from_static(&[0, 9]), ..plain(ADA, 1, "") }),
        Just(changed(ADA, 1, GroupChange::SetRole { user: BOB, role: Role::Admin })),
        Just(changed(ADA, 1, GroupChange::SetRole { user: BOB, role: Role::Member })),
    ];
    (who, said).prop_map(move |(sender, said)| Message { seq: seq(at), time_ms: at, sender, ..said })
}

fn chat() -> impl Strategy<Value = Vec<Message>> {
    (1..12u64).map(message).collect::<Vec<_>>()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn any_order_and_any_repetition_come_to_the_same(
        (chat, shuffled) in chat().prop_flat_map(|chat| (Just(chat.clone()), Just(chat).prop_shuffle())),
        again in vec(0..11usize, 0..20),
        room in 1..11usize,
    ) {
        let fold = |messages: &mut dyn Iterator<Item = &Message>, bytes_max: usize| {
            let mut timeline = Timeline { bytes_max, ..Timeline::new(CHAT) };
            messages.for_each(|message| {
                timeline.insert(message);
            });
            timeline.items().collect::<Vec<_>>()
        };
        for bytes_max in [TIMELINE_BYTES_MAX, room * (ENTRY_BYTES + 5)] {
            let expected = fold(&mut chat.iter(), bytes_max);
            let repeated = again.iter().map(|index| &chat[*index]);
            prop_assert_eq!(&fold(&mut chat.iter().rev(), bytes_max), &expected);
            prop_assert_eq!(&fold(&mut shuffled.iter().chain(repeated), bytes_max), &expected);
        }
    }

    #[test]
    fn what_somebody_says_changes_only_by_itself_or_by_an_admin(chat in chat()) {
        let timeline = of(&chat);
        // What changes the group the server has allowed.
        let is_kept = |message: &&Message| message.sender != CAROL || message.change.is_some();
        let others: Vec<_> = chat.iter().filter(is_kept).cloned().collect();
        for item in of(&others).items() {
            let with_carol = timeline.item(item.seq).unwrap();
            // Carol is never an admin: all she can do to others is to react.
            prop_assert_eq!((&with_carol.shown, with_carol.is_edited), (&item.shown, item.is_edited));
        }
    }
}

#[test]
fn what_has_disappeared_is_shown_no_more_and_what_is_written_next_has_the_same_timer() {
    let timed = |at, text| Message { disappears_ms: Some(at + 5_000), ..plain(BOB, at, text) };
    let set = |at, timer_s| changed(ADA, at, GroupChange::SetTimer { timer_s });
    let mut timeline = of(&[
        plain(ADA, 1, "stays"),
        set(2, 5),
        timed(3, "goes"),
        Message { disappears_ms: Some(5_004), ..typed(ADA, 4, react(1, "👍")) },
        set(6, 0),
        plain(ADA, 7, "stays too"),
    ]);
    let timers: Vec<_> = (1..=8).map(|at| timeline.timer_ms_at(seq(at))).collect();
    assert_eq!(timers, [None, None, Some(5_000), Some(5_000), Some(5_000), Some(5_000), None, None]);
    timeline.forget_disappeared(5_002);
    assert_eq!(timeline.items().count(), 5);
    timeline.forget_disappeared(5_004);
    let left: Vec<_> = timeline.items().map(|item| item.seq.get()).collect();
    assert_eq!(left, [1, 2, 6, 7]);
    assert!(timeline.item(seq(1)).unwrap().reactions.is_empty(), "a reaction disappears as well");
}
