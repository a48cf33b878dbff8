//! Groups on the screen.

use super::*;
use columba_wire::{InviteLink, InviteSecret};

use crate::types::{ChatMember, GroupLook, Role};

const DAN: UserId = UserId::from_bytes([0xda; 16]);

fn club() -> ChatId {
    ChatId::from_bytes([0xc1; 16])
}

fn look(name: &str) -> GroupLook {
    GroupLook { name: name.to_owned().into(), ..GroupLook::default() }
}

fn said_in_club(sender: UserId, seq: u64, text: &str) -> Event {
    Event::Message(Message { chat: club(), ..message(sender, seq, text) })
}

fn changed(by: UserId, seq: u64, change: GroupChange) -> Event {
    Event::Message(Message { chat: club(), change: Some(change), ..message(by, seq, "") })
}

fn made_by_bob(seq: u64) -> Event {
    changed(BOB, seq, GroupChange::Create { look: look("club"), members: vec![ADA, CAROL] })
}

fn info(members: &[(UserId, Role)]) -> ChatInfo {
    let from = MessageSeq::new(1);
    let members = members.iter().map(|(user, role)| ChatMember { user: *user, role: *role, from }).collect();
    let (last, group) = (MessageSeq::new(9), Some(look("club")));
    ChatInfo { chat: club(), first: from, last, group, invite: None, members, timer_s: 0 }
}

impl Try {
    /// Everybody but dan has a name, and there is a connection; nothing is known of a group.
    fn among_friends() -> Self {
        let mut this = Self::new();
        this.names.extend([(ADA, "ada"), (BOB, "bob"), (CAROL, "carol")].map(|(user, name)| (user, name.to_owned())));
        this.view.begin(Some(account()), None);
        this.event(connected());
        this.event(Event::Synced);
        this.said();
        this
    }

    /// The same, with the club that bob has made chosen.
    fn in_club() -> Self {
        let mut this = Self::among_friends();
        this.event(made_by_bob(1));
        this.typed("/with #club");
        this.said();
        this
    }

    /// What becomes of the change that was asked for last.
    fn changed(&mut self, command: GroupCommand, seq: u64, change: GroupChange) {
        let (client_seq, seq) = (ClientSeq::new(1), MessageSeq::new(seq));
        let sent = Sent { client_seq, chat: club(), seq, time_ms: NOW_MS };
        self.answer(Answer::Group { command, result: Ok((sent, change)) });
    }

    fn members(&mut self) -> Vec<String> {
        self.typed("/group");
        self.said()
    }
}

#[test]
fn a_group_that_somebody_made_is_there_and_can_be_written_to() {
    let mut ada = Try::among_friends();
    ada.event(made_by_bob(1));
    ada.event(said_in_club(CAROL, 2, "hi all"));
    ada.typed("/chats");
    let said = ada.said();
    assert_eq!(said[..2], ["22:13 [#club] bob made the group club with ada, carol", "22:13 [#club] carol: hi all"]);
    assert!(said.iter().any(|line| line.contains("#club") && line.contains("2 unread")), "{said:?}");
    ada.typed("/with #club");
    let said = ada.said();
    assert_eq!(said[0], "* writing to #club, 3 members");
    assert!(said.contains(&"-> read 2".to_owned()), "{said:?}");
    ada.answer(Answer::Read { chat: club(), seq: MessageSeq::new(2), result: Ok(()) });
    ada.event(said_in_club(CAROL, 3, "hi ada"));
    assert_eq!(ada.said(), ["22:13 carol: hi ada", "-> read 3"]);
    ada.typed("hello club");
    let (client_seq, seq) = (ClientSeq::new(1), MessageSeq::new(4));
    ada.event(Event::Sent(Sent { client_seq, chat: club(), seq, time_ms: NOW_MS }));
    assert_eq!(ada.said(), ["#1 stored"], "it is for the group that is chosen");
    assert_eq!(ada.members(), ["* #club: ada, bob (owner), carol"]);
}

#[test]
fn a_group_that_is_made_is_chosen_and_one_that_is_not_made_is_not() {
    let mut ada = Try::among_friends();
    ada.typed("/group new \"book club\" bob");
    let command = GroupCommand::New { name: "book club".to_owned(), handles: vec!["bob".to_owned()] };
    assert_eq!(ada.said(), [format!("-> Group {{ group: None, command: {command:?} }}")]);
    let result = Err(refused(Code::UnknownUser));
    ada.answer(Answer::Group { command: command.clone(), result });
    let said = ada.said();
    assert!(said.len() == 1 && said[0].starts_with("! the group was not changed: "), "{said:?}");
    ada.typed("/group");
    assert_eq!(ada.said(), ["! no group is chosen: /with #NAME first"]);
    ada.changed(command, 1, GroupChange::Create { look: look("book club"), members: vec![BOB] });
    let said = ada.said();
    assert_eq!(
        said[..2],
        ["* #book club: ada made the group book club with bob", "* writing to #book club, 2 members"]
    );
    assert_eq!(ada.members(), ["* #book club: ada (owner), bob"]);
}

#[test]
fn changes_of_others_are_told_in_words_and_kept() {
    let mut ada = Try::in_club();
    let steps = [
        (GroupChange::Add(vec![DAN]), "bob added dadadada", "ada, bob (owner), carol, dadadada"),
        (
            GroupChange::SetRole { user: CAROL, role: Role::Admin },
            "bob made carol an admin",
            "ada, bob (owner), carol (admin), dadadada",
        ),
        (GroupChange::Remove(vec![DAN]), "bob removed dadadada", "ada, bob (owner), carol (admin)"),
        (
            GroupChange::SetRole { user: CAROL, role: Role::Owner },
            "bob made carol the owner",
            "ada, bob (admin), carol (owner)",
        ),
        (GroupChange::SetRole { user: BOB, role: Role::Member }, "bob made bob a member", "ada, bob, carol (owner)"),
        (GroupChange::Unknown, "bob changed something that this version does not know", "ada, bob, carol (owner)"),
        (GroupChange::Leave { owner: None }, "bob left", "ada, carol (owner)"),
    ];
    for (seq, (change, line, members)) in (2..).zip(steps) {
        ada.event(changed(BOB, seq, change));
        let said = ada.said();
        assert!(said.contains(&format!("22:13 {line}")), "{line}: {said:?}");
        assert_eq!(ada.members(), [format!("* #club: {members}")], "after {line}");
    }
    ada.event(changed(CAROL, 9, GroupChange::Leave { owner: Some(ADA) }));
    assert_eq!(ada.said()[0], "22:13 carol left; ada owns it now");
    assert_eq!(ada.members(), ["* #club: ada (owner)"]);
}

#[test]
fn a_link_is_shown_to_who_made_it_and_who_has_it_is_in() {
    let mut ada = Try::in_club();
    let secret = InviteSecret::from_bytes([0x3f; 16]);
    let link = InviteLink { group: club(), secret };
    ada.typed("/group invite 48");
    assert_eq!(ada.said().len(), 1, "it is asked for");
    let made = GroupChange::SetInvite { secret: Some(secret), expires_ms: None };
    ada.changed(GroupCommand::Invite(Some(48)), 2, made);
    assert_eq!(
        ada.said(),
        ["* #club: ada made a link to the group".to_owned(), format!("* whoever has this comes in: {link}")]
    );
    ada.event(changed(CAROL, 3, GroupChange::SetInvite { secret: None, expires_ms: None }));
    ada.event(changed(CAROL, 4, GroupChange::EndInvite));
    ada.event(changed(DAN, 5, GroupChange::Join { secret: None }));
    let said = ada.said();
    for line in ["22:13 carol made a link to the group", "22:13 carol ended the link to the group"] {
        assert!(said.contains(&line.to_owned()), "{line}: {said:?}");
    }
    assert!(said.iter().any(|line| line.ends_with(" came in by the link")), "{said:?}");

    let mut ada = Try::among_friends();
    ada.typed(&format!("/join {link}"));
    ada.said();
    ada.changed(GroupCommand::Join(link), 9, GroupChange::Join { secret: None });
    let said = ada.said();
    assert!(said.iter().any(|line| line.contains("writing to #c1c1c1c1")), "{said:?}");
    assert!(said.contains(&format!("-> {:?}", Ask::Chat { chat: club() })), "{said:?}");
}

#[test]
fn the_timer_of_a_direct_chat_makes_no_group_of_it() {
    let mut ada = Try::among_friends();
    let chat = ChatId::direct(ADA, BOB);
    let timer = |timer_s| GroupChange::SetTimer { timer_s };
    ada.event(Event::Message(Message { change: Some(timer(604_800)), ..message(BOB, 2, "") }));
    assert_eq!(ada.said()[0], "22:13 [bob] bob lets what is written from now on disappear after 7d");
    let timed = |seq, text, at| Event::Message(Message { disappears_ms: Some(at), ..message(BOB, seq, text) });
    ada.event(timed(3, "just in time", NOW_MS + 1));
    ada.event(timed(4, "", NOW_MS));
    let said = ada.said();
    assert!(said.iter().any(|line| line.ends_with("just in time")), "{said:?}");
    assert!(!said.iter().any(|line| line == "22:13 [bob] "), "{said:?}");
    ada.event(Event::Message(Message { change: Some(timer(0)), ..message(ADA, 5, "") }));
    ada.said();
    assert!(ada.view.groups.get(chat).is_none());
}

#[test]
fn a_new_look_is_told_and_goes_for_the_name_from_then_on() {
    let mut ada = Try::in_club();
    let set = |name: Option<&str>, announcements| GroupChange::SetLook {
        name: name.map(|name| name.to_owned().into()),
        picture: None,
        announcements,
    };
    ada.event(changed(BOB, 2, set(Some("\x1b[31mred"), None)));
    ada.event(changed(BOB, 3, set(None, Some(true))));
    let said = ada.said();
    assert_eq!(said[0], "22:13 bob called it ␛[31mred", "what a name holds is shown with care");
    assert!(said.contains(&"22:13 bob lets only admins write".to_owned()), "{said:?}");
    assert_eq!(ada.members(), ["* #␛[31mred; only admins write: ada, bob (owner), carol"]);
    ada.event(changed(BOB, 4, set(Some("club"), Some(false))));
    ada.event(changed(BOB, 5, set(None, Some(false))));
    ada.event(changed(BOB, 6, GroupChange::SetLook { name: None, picture: Some("cat".into()), announcements: None }));
    let said = ada.said();
    for line in ["22:13 bob called it club", "22:13 bob lets everybody write", "22:13 bob changed the picture"] {
        assert!(said.contains(&line.to_owned()), "{line}: {said:?}");
    }
    assert_eq!(ada.members(), ["* #club: ada, bob (owner), carol"]);
}

#[test]
fn what_is_typed_to_change_a_group_is_asked_for_and_its_fate_is_told() {
    let mut ada = Try::in_club();
    let carol = || vec!["carol".to_owned()];
    for (typed, command) in [
        ("/group add carol", GroupCommand::Add(carol())),
        ("/group remove carol", GroupCommand::Remove(carol())),
        ("/group admin carol", GroupCommand::Role { handle: "carol".to_owned(), role: Role::Admin }),
        ("/group name readers", GroupCommand::Name("readers".to_owned())),
        ("/group announce on", GroupCommand::Announcements(true)),
        ("/group leave", GroupCommand::Leave),
    ] {
        ada.typed(typed);
        let group = Some(club());
        assert_eq!(ada.said(), [format!("-> {:?}", Ask::Group { group, command: command.clone() })]);
        for (code, why) in [
            (Code::NotAllowed, "your role does not allow it"),
            (Code::UnknownChat, "you are no member"),
            (Code::TooMany, "the group is full"),
            (Code::InvalidArgument, "it is so already, or cannot be"),
        ] {
            ada.answer(Answer::Group { command: command.clone(), result: Err(refused(code)) });
            assert_eq!(ada.said(), [format!("! the group was not changed: {why}")], "{typed}");
        }
    }
    assert_eq!(ada.members(), ["* #club: ada, bob (owner), carol"], "nothing has changed");
    ada.changed(GroupCommand::Remove(carol()), 2, GroupChange::Remove(vec![CAROL]));
    assert_eq!(ada.said()[0], "* #club: ada removed carol");
    assert_eq!(ada.members(), ["* #club: ada, bob (owner)"]);
}

#[test]
fn nothing_that_is_typed_goes_to_a_group_that_was_left() {
    let mut ada = Try::in_club();
    ada.changed(GroupCommand::Leave, 2, GroupChange::Leave { owner: None });
    assert_eq!(ada.said()[0], "* #club: ada left");
    ada.typed("are you still there?");
    assert_eq!(ada.said(), ["! not sent: nobody is chosen; /with HANDLE first: are you still there?"]);
    ada.typed("/group add bob");
    assert_eq!(ada.said(), ["! no group is chosen: /with #NAME first"]);
}

#[test]
fn who_is_let_into_a_group_asks_what_it_is() {
    let mut ada = Try::among_friends();
    ada.event(changed(BOB, 9, GroupChange::Add(vec![ADA])));
    let asks = |said: &[String]| said.iter().filter(|line| line.starts_with("-> Chat")).count();
    let said = ada.said();
    assert!(said.contains(&"22:13 [#c1c1c1c1] bob added ada".to_owned()) && asks(&said) == 1, "{said:?}");
    let members = [(ADA, Role::Member), (BOB, Role::Owner), (DAN, Role::Admin)];
    ada.answer(Answer::Chat(Ok(info(&members))));
    assert_eq!(ada.said(), [format!("-> {:?}", Ask::Handle { user: DAN })], "who has no name here is asked for");
    ada.event(changed(BOB, 9, GroupChange::Remove(vec![BOB])));
    ada.said();
    ada.typed("/with #club");
    ada.said();
    assert_eq!(
        ada.members(),
        ["* #club: ada, bob (owner), dadadada (admin)"],
        "what is older than the answer is in it"
    );
}

#[test]
fn a_message_of_a_group_that_is_not_known_asks_for_it_once() {
    let mut ada = Try::among_friends();
    ada.event(said_in_club(CAROL, 7, "who is new here?"));
    ada.event(said_in_club(CAROL, 8, "anybody?"));
    let said = ada.said();
    assert!(said.contains(&"22:13 [#c1c1c1c1] carol: who is new here?".to_owned()), "{said:?}");
    assert_eq!(said.iter().filter(|line| line.starts_with("-> Chat")).count(), 1, "{said:?}");
    // Put out meanwhile: there is nothing to tell, and what has come stays.
    ada.answer(Answer::Chat(Err(refused(Code::UnknownChat))));
    assert!(ada.said().is_empty());
    ada.typed("/with #c1c1c1c1");
    assert_eq!(ada.said()[0], "* writing to #c1c1c1c1, 0 members");
}

#[test]
fn two_groups_of_one_name_are_not_taken_for_each_other() {
    let mut ada = Try::among_friends();
    ada.event(made_by_bob(1));
    let other = ChatId::from_bytes([0xc2; 16]);
    let change = Some(GroupChange::Create { look: look("club"), members: vec![ADA] });
    ada.event(Event::Message(Message { chat: other, change, ..message(BOB, 1, "") }));
    ada.said();
    ada.typed("/with #club");
    assert_eq!(ada.said(), ["! no one group is called #club here; /chats shows them"]);
    ada.typed("/with #c2c2c2c2");
    assert_eq!(ada.said()[0], "* writing to #club, 2 members");
}
