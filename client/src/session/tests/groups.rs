//! Groups: made and changed once, whatever is lost; what comes of them is told as it is, and what is not known is told
//! too.

use columba_wire::{InviteSecret, Role};
use prost::Message as _;

use super::*;
use crate::types::{ChatMember, GroupLook, Invite};

fn address() -> DeviceAddress {
    account().address()
}

/// The group that Ada's first message makes.
fn group() -> ChatId {
    ChatId::group(address(), ClientSeq::new(1))
}

fn create(members: &[UserId]) -> GroupChange {
    let look = GroupLook { name: Bytes::from_static(b"club"), ..GroupLook::default() };
    GroupChange::Create { look, members: members.to_vec() }
}

/// One change of each kind, as a server may tell it.
fn changes() -> Vec<GroupChange> {
    vec![
        create(&[ADA, BOB]),
        GroupChange::Add(vec![BOB, CAROL]),
        GroupChange::Remove(vec![CAROL]),
        GroupChange::Leave { owner: None },
        GroupChange::Leave { owner: Some(ADA) },
        GroupChange::SetRole { user: BOB, role: Role::Member },
        GroupChange::SetRole { user: BOB, role: Role::Admin },
        GroupChange::SetRole { user: BOB, role: Role::Owner },
        GroupChange::SetLook { name: Some("other".into()), picture: None, announcements: None },
        GroupChange::SetLook { name: None, picture: Some(Bytes::new()), announcements: Some(false) },
        GroupChange::SetInvite { secret: None, expires_ms: Some(7) },
        GroupChange::SetInvite { secret: Some(InviteSecret::from_bytes([9; 16])), expires_ms: None },
        GroupChange::EndInvite,
        GroupChange::SetTimer { timer_s: 60 },
        GroupChange::Join { secret: None },
        GroupChange::Join { secret: Some(InviteSecret::from_bytes([9; 16])) },
        GroupChange::Unknown,
    ]
}

impl Try {
    fn change(&mut self, group: Option<ChatId>, change: GroupChange) -> u64 {
        let token = self.token();
        let outgoing = Outgoing { what: Outbound::Change { group, change }, patience: Some(PATIENCE) };
        self.session.handle_send(self.now, Token(token), outgoing);
        self.carry_out();
        token
    }

    fn sent_to_group(&mut self, client_seq: u64, seq: u64) {
        let sent = v1::Sent { client_seq, chat_id: id_bytes(group().as_bytes()), seq, ..v1::Sent::default() };
        self.server(2 * client_seq, server_frame::Kind::Sent(sent));
    }

    fn deliver_to_group(&mut self, seq: u64, change: Option<v1::GroupChange>) {
        let deliver = v1::Deliver {
            chat_id: id_bytes(group().as_bytes()),
            seq,
            sender_user: id_bytes(BOB.as_bytes()),
            sender_device: 1,
            change: change.map(Box::new),
            ..v1::Deliver::default()
        };
        self.server(0, server_frame::Kind::Deliver(deliver));
    }

    /// The next frame, which must be a `Send`.
    fn send_frame(&mut self) -> v1::Send {
        match self.frame() {
            Some(Kind::Send(send)) => send,
            other => panic!("no send: {other:?}"),
        }
    }

    fn take_from_group(&mut self, seq: u64) {
        self.session.handle_taken(group(), MessageSeq::new(seq));
        self.carry_out();
    }
}

#[test]
fn a_group_whose_answer_was_lost_is_made_once() {
    let mut ada = Try::open();
    let token = ada.change(None, create(&[BOB]));
    let first = ada.send_frame();
    assert_eq!((first.client_seq, first.chat_id.len(), first.to_user.len(), first.body.len()), (1, 0, 0, 0));
    assert_eq!(first.change.as_deref(), Some(&create(&[BOB]).to_frame()));
    ada.reconnect();
    assert_eq!(ada.send_frame(), first, "the same number makes the same group");
    ada.sent_to_group(1, 1);
    let Ok(Reply::Sent(sent)) = ada.reply(token) else { panic!("not made") };
    assert_eq!((sent.chat, sent.seq.get()), (group(), 1));
    ada.deliver_to_group(2, None);
    assert_eq!(ada.told(), ["message 2"], "the own change is no gap");
}

#[test]
fn changes_and_messages_of_a_group_go_out_in_the_order_they_were_called_for() {
    let mut ada = Try::open();
    ada.change(Some(group()), GroupChange::Add(vec![CAROL]));
    let what = Outbound::Message { to: Recipient::Group(group()), body: Bytes::from_static(b"hello carol") };
    let token = Token(ada.token());
    ada.session.handle_send(ada.now, token, Outgoing { what, patience: None });
    ada.carry_out();
    let leaving = ada.change(Some(group()), GroupChange::Leave { owner: None });
    for again in [false, true] {
        if again {
            ada.reconnect();
        }
        let sends: Vec<_> = (0..3).map(|_| ada.send_frame()).collect();
        assert!(
            sends.iter().all(|send| send.chat_id == group().as_bytes()[..] && send.to_user.is_empty()),
            "{sends:?}"
        );
        assert_eq!(sends.iter().map(|send| send.client_seq).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(sends[0].change.as_deref(), Some(&GroupChange::Add(vec![CAROL]).to_frame()));
        assert_eq!((sends[1].body.as_ref(), &sends[1].change), (&b"hello carol"[..], &None));
        assert_eq!(sends[2].change.as_deref(), Some(&GroupChange::Leave { owner: None }.to_frame()));
    }
    ada.refuse(6, Code::NotAllowed, 0);
    assert!(matches!(ada.reply(leaving), Err(Error::Refused { code: Code::NotAllowed, .. })));
}

#[test]
fn a_change_that_nobody_answers_in_time_may_have_happened() {
    let mut ada = Try::open();
    let token = ada.change(Some(group()), GroupChange::Remove(vec![BOB]));
    ada.frames();
    ada.pass(PATIENCE);
    assert!(matches!(ada.reply(token), Err(Error::OutcomeUnknown { .. })));
    ada.deliver_to_group(1, Some(create(&[ADA]).to_frame()));
    ada.deliver_to_group(3, None);
    assert_eq!(ada.told(), ["message 1", "message 3"], "2 may be that change");
}

#[test]
fn each_kind_of_change_is_told_as_the_server_told_it() {
    let mut ada = Try::open();
    ada.deliver_to_group(1, Some(create(&[ADA]).to_frame()));
    ada.events.clear();
    for (seq, change) in (2..).zip(changes()) {
        ada.deliver_to_group(seq, Some(change.to_frame()));
        let Some(Event::Message(message)) = ada.events.pop() else { panic!("{change:?} is not told") };
        assert_eq!((message.chat, message.sender, message.seq.get()), (group(), BOB, seq));
        assert_eq!(message.change, Some(change), "and its body is empty: {:?}", message.body);
        ada.take_from_group(seq);
        assert_eq!(ada.frames(), [format!("ack {seq}")], "a change is acknowledged like a message");
    }
}

#[test]
fn a_kind_of_a_newer_server_is_told_as_unknown_and_kept() {
    let mut ada = Try::open();
    ada.deliver_to_group(1, Some(create(&[ADA]).to_frame()));
    ada.take_from_group(1);
    // Field 100, of two bytes.
    let newer = v1::GroupChange::decode(&[0xA2, 0x06, 0x02, 1, 2][..]).unwrap();
    ada.deliver_to_group(2, Some(newer));
    let told = ada.events.iter().rev().find_map(|event| match event {
        Event::Message(message) => Some(message.change.clone()),
        _ => None,
    });
    assert_eq!(told, Some(Some(GroupChange::Unknown)));
    ada.take_from_group(2);
    assert!(ada.session.is_open());
    let kept = ada.records.iter().rev().find_map(|record| match record {
        Record::Delivered(entry) => Some(serde_json::to_string(entry).unwrap()),
        _ => None,
    });
    // Found by this test: a change without bytes was read back as a message without a body.
    let read: LogEntry = serde_json::from_str(&kept.unwrap()).unwrap();
    assert_eq!(read.to_message().change, Some(GroupChange::Unknown), "it is a change still, after a restart too");
}

#[test]
fn a_role_of_a_newer_server_allows_no_more_than_a_member() {
    let set = v1::SetRole { user_id: id_bytes(BOB.as_bytes()), role: 99 };
    let frame = v1::GroupChange { kind: Some(v1::group_change::Kind::SetRole(set)) };
    assert_eq!(GroupChange::parse(frame), Some(GroupChange::SetRole { user: BOB, role: Role::Member }));
}

#[test]
fn a_change_with_an_id_of_the_wrong_form_ends_the_connection_and_nothing_else() {
    use v1::group_change::Kind as Change;
    let bad = || Bytes::from_static(b"short");
    for change in [
        Change::Create(v1::CreateGroup { user_ids: vec![bad()], ..v1::CreateGroup::default() }),
        Change::Add(v1::AddMembers { user_ids: vec![id_bytes(BOB.as_bytes()), bad()] }),
        Change::Remove(v1::RemoveMembers { user_ids: vec![bad()] }),
        Change::Leave(v1::LeaveGroup { owner_id: bad() }),
        Change::SetRole(v1::SetRole { user_id: bad(), role: 1 }),
    ] {
        let mut ada = Try::open();
        ada.deliver_to_group(1, Some(v1::GroupChange { kind: Some(change.clone()) }));
        assert!(!ada.session.is_open() && ada.last_wait().is_some(), "{change:?}");
        assert!(ada.told().is_empty(), "{change:?}");
    }
}

#[test]
fn who_comes_in_later_is_not_told_of_a_gap_before_its_time() {
    let mut ada = Try::open();
    ada.deliver_to_group(40, Some(GroupChange::Add(vec![CAROL, ADA]).to_frame()));
    ada.deliver_to_group(41, None);
    assert_eq!(ada.told(), ["message 40", "message 41"]);
    ada.take_from_group(41);
    // Put out at 42, and in again at 50.
    ada.deliver_to_group(42, Some(GroupChange::Remove(vec![ADA]).to_frame()));
    ada.deliver_to_group(50, Some(GroupChange::Add(vec![ADA]).to_frame()));
    ada.deliver_to_group(51, None);
    assert_eq!(ada.told(), ["message 42", "message 50", "message 51"], "what lies between was not for Ada");
    // Somebody else's coming excuses nothing.
    ada.deliver_to_group(60, Some(GroupChange::Add(vec![CAROL]).to_frame()));
    assert_eq!(ada.told(), ["gap 51..60"]);
}

#[test]
fn what_is_queued_for_a_group_is_sent_by_the_next_process() {
    let mut ada = Try::open();
    ada.change(None, create(&[BOB]));
    ada.change(Some(group()), GroupChange::Add(vec![CAROL]));
    let what = Outbound::Message { to: Recipient::Group(group()), body: Bytes::from_static(b"hi") };
    let token = Token(ada.token());
    ada.session.handle_send(ada.now, token, Outgoing { what, patience: None });
    ada.carry_out();
    let queued: Vec<_> = ada.records.iter().filter(|record| record.must_be_durable()).collect();
    let read: Vec<Record> =
        queued.iter().map(|record| serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap()).collect();
    assert!(read.iter().eq(queued), "a journal keeps them as they are");
    assert!(matches!(read[0], Record::QueuedChange { group: None, .. }), "{:?}", read[0]);
    assert!(matches!(&read[1], Record::QueuedChange { group: Some(of), .. } if *of == group()), "{:?}", read[1]);
    assert!(matches!(&read[2], Record::QueuedToGroup { group: of, .. } if *of == group()), "{:?}", read[2]);
}

#[test]
fn who_comes_in_by_a_link_misses_nothing_of_what_was_before() {
    for answer_comes_first in [true, false] {
        let mut ada = Try::open();
        let token = ada.change(Some(group()), GroupChange::Join { secret: Some(InviteSecret::from_bytes([9; 16])) });
        assert_eq!(ada.send_frame().client_seq, 1);
        if answer_comes_first {
            ada.sent_to_group(1, 40);
        }
        ada.deliver_to_group(41, None);
        if !answer_comes_first {
            ada.sent_to_group(1, 40);
        }
        assert!(matches!(ada.reply(token), Ok(Reply::Sent(sent)) if sent.seq.get() == 40));
        assert_eq!(ada.told(), ["message 41"], "answered first: {answer_comes_first}");
        ada.deliver_to_group(44, None);
        assert!(!ada.session.is_open(), "this is a gap");
    }
}

#[test]
fn what_a_chat_is_is_told_as_the_server_told_it() {
    let member = |user: UserId, role, from_seq| v1::ChatMember { user_id: id_bytes(user.as_bytes()), role, from_seq };
    let chat = v1::Chat {
        chat_id: id_bytes(group().as_bytes()),
        first_seq: 3,
        last_seq: 9,
        group: Some(v1::Group {
            name: "club".into(),
            picture: "cat".into(),
            announcements: true,
            invite_secret: id_bytes(&[9; 16]),
            invite_expires_ms: 7,
        }),
        timer_s: 60,
        members: vec![member(ADA, 0, 3), member(BOB, 2, 1), member(CAROL, 77, 4)],
    };
    let ask = || Kind::GetChat(v1::GetChat { chat_id: id_bytes(group().as_bytes()) });
    let mut ada = Try::open();
    let token = ada.request(ask());
    let number = ada.session.poll_frame(ada.now).unwrap().request_id;
    ada.server(number, server_frame::Kind::Chat(chat.clone()));
    let Ok(Reply::Chat(info)) = ada.reply(token) else { panic!("no answer") };
    let is = |user, role, from| ChatMember { user, role, from: MessageSeq::new(from) };
    let members = vec![is(ADA, Role::Member, 3), is(BOB, Role::Owner, 1), is(CAROL, Role::Member, 4)];
    let look = GroupLook { name: "club".into(), picture: "cat".into(), announcements: true };
    let (first, last) = (MessageSeq::new(3), MessageSeq::new(9));
    let invite = Some(Invite { secret: InviteSecret::from_bytes([9; 16]), expires_ms: Some(7) });
    assert_eq!(info, ChatInfo { chat: group(), first, last, group: Some(look), invite, members, timer_s: 60 });

    let token = ada.request(ask());
    let number = ada.session.poll_frame(ada.now).unwrap().request_id;
    let bad = v1::Chat { members: vec![v1::ChatMember::default()], ..chat };
    ada.server(number, server_frame::Kind::Chat(bad));
    assert!(!ada.session.is_open());
    assert!(ada.replies.iter().all(|(of, _)| *of != token), "it is asked again with the next connection");
}
