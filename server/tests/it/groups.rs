//! Groups: one order for all, from the message that lets one in to the one that puts one out, and what each role may.

use core::time::Duration;

use bytes::Bytes;
use columba_wire::{
    ChatId, Code, UserId,
    limits::{GROUP_NAME_BYTES_MAX, GROUP_PICTURE_BYTES_MAX, TIMER_S_MAX},
    v1::{self, Role, client_frame::Kind as Request, group_change::Kind as Change, server_frame::Kind},
};

use crate::{
    link::Over,
    node::{Node, run, setup},
    raw::{Person, Raw, ack, id, send},
};

const LIMIT: Duration = Duration::from_secs(60);

/// Somebody with a session.
pub(crate) struct Member {
    pub(crate) raw: Raw,
    pub(crate) is: Person,
    last_client_seq: u64,
}

impl Member {
    pub(crate) async fn register(node: &Node, over: Over, handle: &str) -> Self {
        let mut is = Person::new(handle);
        let raw = Raw::register(node, over, &mut is).await;
        Self { raw, is, last_client_seq: 0 }
    }

    pub(crate) async fn come_back(&mut self, node: &Node) {
        self.raw = Raw::login(node, Over::Tls, &self.is).await;
    }

    pub(crate) fn user(&self) -> UserId {
        self.is.user()
    }

    async fn send(&mut self, send: v1::Send) -> Result<v1::Sent, Code> {
        match self.raw.ask(Request::Send(send)).await? {
            Kind::Sent(sent) => Ok(sent),
            other => panic!("another answer to Send: {other:?}"),
        }
    }

    fn next_client_seq(&mut self) -> u64 {
        self.last_client_seq += 1;
        self.last_client_seq
    }

    pub(crate) async fn say(&mut self, chat: ChatId, body: &str) -> Result<u64, Code> {
        let client_seq = self.next_client_seq();
        let (chat_id, body) = (id(chat.as_bytes()), Bytes::copy_from_slice(body.as_bytes()));
        Ok(self.send(v1::Send { client_seq, chat_id, body, ..v1::Send::default() }).await?.seq)
    }

    pub(crate) async fn change(&mut self, chat: ChatId, change: Change) -> Result<u64, Code> {
        let client_seq = self.next_client_seq();
        Ok(self.send(changing(client_seq, Some(chat), change)).await?.seq)
    }

    pub(crate) async fn create(&mut self, name: &str, others: &[UserId]) -> ChatId {
        let client_seq = self.next_client_seq();
        let sent = self.send(changing(client_seq, None, create(name, others))).await.unwrap();
        assert_eq!((sent.client_seq, sent.seq, sent.duplicate), (client_seq, 1, false));
        let chat = ChatId::try_from(&sent.chat_id[..]).unwrap();
        assert_eq!(chat, ChatId::group(self.is.address, columba_wire::ClientSeq::new(client_seq)));
        chat
    }

    pub(crate) async fn group(&mut self, chat: ChatId) -> Result<v1::Chat, Code> {
        match self.raw.ask(get_chat(chat)).await? {
            Kind::Chat(chat) => Ok(chat),
            other => panic!("another answer to GetChat: {other:?}"),
        }
    }

    async fn history(&mut self, chat: ChatId) -> Vec<u64> {
        match self.raw.ask(get_history(chat)).await.unwrap() {
            Kind::History(history) => {
                assert!(history.complete);
                history.messages.iter().map(|message| message.seq).collect()
            }
            other => panic!("another answer to GetHistory: {other:?}"),
        }
    }
}

pub(crate) fn changing(client_seq: u64, chat: Option<ChatId>, change: Change) -> v1::Send {
    let chat_id = chat.map(|chat| id(chat.as_bytes())).unwrap_or_default();
    let change = Some(Box::new(v1::GroupChange { kind: Some(change) }));
    v1::Send { client_seq, chat_id, change, ..v1::Send::default() }
}

fn ids(users: &[UserId]) -> Vec<Bytes> {
    users.iter().map(|user| id(user.as_bytes())).collect()
}

pub(crate) fn create(name: &str, others: &[UserId]) -> Change {
    let name = Bytes::copy_from_slice(name.as_bytes());
    Change::Create(v1::CreateGroup { name, user_ids: ids(others), ..v1::CreateGroup::default() })
}

pub(crate) fn add(users: &[UserId]) -> Change {
    Change::Add(v1::AddMembers { user_ids: ids(users) })
}

pub(crate) fn remove(users: &[UserId]) -> Change {
    Change::Remove(v1::RemoveMembers { user_ids: ids(users) })
}

pub(crate) fn leave() -> Change {
    Change::Leave(v1::LeaveGroup::default())
}

pub(crate) fn set_role(user: UserId, role: Role) -> Change {
    Change::SetRole(v1::SetRole { user_id: id(user.as_bytes()), role: role.into() })
}

pub(crate) fn rename(name: &str) -> Change {
    Change::SetLook(v1::SetLook { name: Some(Bytes::copy_from_slice(name.as_bytes())), ..v1::SetLook::default() })
}

pub(crate) fn set_invite(secret: &[u8], expires_ms: u64) -> Change {
    Change::SetInvite(v1::SetInvite { secret: id(secret), expires_ms, ended: false })
}

pub(crate) fn join(secret: &[u8]) -> Change {
    Change::Join(v1::JoinGroup { secret: id(secret) })
}

pub(crate) fn get_invite(chat: ChatId, secret: &[u8]) -> Request {
    Request::GetInvite(v1::GetInvite { chat_id: id(chat.as_bytes()), secret: id(secret) })
}

pub(crate) fn announcements(only: bool) -> Change {
    Change::SetLook(v1::SetLook { announcements: Some(only), ..v1::SetLook::default() })
}

pub(crate) fn get_chat(chat: ChatId) -> Request {
    Request::GetChat(v1::GetChat { chat_id: id(chat.as_bytes()) })
}

pub(crate) fn get_history(chat: ChatId) -> Request {
    Request::GetHistory(v1::GetHistory { chat_id: id(chat.as_bytes()), before_seq: 0, limit: 100 })
}

pub(crate) fn get_receipts(chat: ChatId) -> Request {
    Request::GetReceipts(v1::GetReceipts { chat_id: id(chat.as_bytes()) })
}

pub(crate) fn read(chat: ChatId, seq: u64) -> Request {
    Request::Read(v1::Read { chat_id: id(chat.as_bytes()), seq })
}

pub(crate) async fn three(node: &Node) -> [Member; 3] {
    [
        Member::register(node, Over::Tls, "ada").await,
        Member::register(node, Over::Quic, "bob").await,
        Member::register(node, Over::Plain, "cyd").await,
    ]
}

#[test]
fn a_group_has_one_order_of_messages_and_changes_for_all() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let [mut ada, mut bob, mut cyd] = three(&node).await;
        let chat = ada.create("friends", &[bob.user(), cyd.user()]).await;
        // All write at once; one renames the group in between.
        for n in 0..20 {
            let (a, b, c) = (format!("a {n}"), format!("b {n}"), format!("c {n}"));
            let (a, b, c) = tokio::join!(ada.say(chat, &a), bob.say(chat, &b), cyd.say(chat, &c));
            for sent in [a, b, c] {
                sent.unwrap();
            }
            ada.change(chat, rename(&format!("friends {n}"))).await.unwrap();
        }
        let mut log = vec![None; 81];
        for member in [&mut ada, &mut bob, &mut cyd] {
            let (mut last, count) = (0, if member.is.handle == "ada" { 40 } else { 81 - 20 });
            for _ in 0..count {
                let came = member.raw.delivered().await;
                assert!(came.seq > last && came.sender_user != member.user().as_bytes()[..], "{came:?}");
                last = came.seq;
                let at = &mut log[usize::try_from(came.seq).unwrap() - 1];
                assert!(at.as_ref().is_none_or(|known| *known == came), "{at:?} and {came:?}");
                *at = Some(came);
            }
            assert_eq!(member.history(chat).await, (1..=81).rev().collect::<Vec<_>>());
        }
        assert!(log.iter().all(Option::is_some), "between them they have seen all");
        let (group, again) = (bob.group(chat).await.unwrap(), cyd.group(chat).await.unwrap());
        assert_eq!(group, again);
        assert_eq!((group.first_seq, group.last_seq), (1, 81));
        assert_eq!(group.group.unwrap().name, "friends 19");
    });
}

#[test]
fn who_comes_gets_what_follows_and_who_goes_gets_the_change_that_says_so() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let [mut ada, mut bob, mut cyd] = three(&node).await;
        let chat = ada.create("friends", &[bob.user()]).await;
        ada.say(chat, "before").await.unwrap();
        let came_at = ada.change(chat, add(&[cyd.user(), bob.user()])).await.unwrap();
        ada.say(chat, "hello cyd").await.unwrap();
        let first = cyd.raw.delivered().await;
        assert_eq!(first.seq, came_at);
        // Bob was in already: what is stored is what came of it.
        assert_eq!(first.change.unwrap().kind, Some(add(&[cyd.user()])));
        assert_eq!(cyd.raw.delivered().await.body, "hello cyd");
        assert_eq!(cyd.history(chat).await, [4, 3]);
        assert_eq!(cyd.group(chat).await.unwrap().first_seq, came_at);

        // Put out while away.
        drop(cyd.raw);
        let cyd_is = cyd.is;
        ada.say(chat, "while cyd is away").await.unwrap();
        let out_at = ada.change(chat, remove(&[cyd_is.user()])).await.unwrap();
        ada.say(chat, "not for cyd").await.unwrap();
        let raw = Raw::login(&node, Over::Tls, &cyd_is).await;
        let mut cyd = Member { raw, is: cyd_is, last_client_seq: 0 };
        assert_eq!(cyd.raw.delivered().await.body, "while cyd is away");
        let out = cyd.raw.delivered().await;
        assert_eq!((out.seq, out.change.unwrap().kind), (out_at, Some(remove(&[cyd.user()]))));
        cyd.raw.expect("Synced", |kind| matches!(kind, Kind::Synced(_)).then_some(())).await;
        assert_eq!(cyd.say(chat, "still here?").await, Err(Code::UnknownChat));
        assert_eq!(cyd.raw.ask(get_history(chat)).await, Err(Code::UnknownChat));

        // And in again: nothing of what lies between comes.
        let again_at = loop {
            match ada.change(chat, add(&[cyd.user()])).await {
                Ok(seq) => break seq,
                // What it is owed of its former time is not known to have come yet.
                Err(Code::Unavailable) => tokio::task::yield_now().await,
                Err(code) => panic!("{code}"),
            }
        };
        assert_eq!(cyd.raw.delivered().await.seq, again_at);
        assert_eq!(cyd.history(chat).await, [again_at]);
        // Bob, who was there all the time, has everything.
        let bob_has: Vec<_> = [bob.raw.delivered().await, bob.raw.delivered().await, bob.raw.delivered().await]
            .map(|came| came.seq)
            .into();
        assert_eq!(bob_has, [1, 2, 3]);
        assert_eq!(bob.history(chat).await, (1..=again_at).rev().collect::<Vec<_>>());
    });
}

#[test]
fn who_has_a_link_comes_in_until_it_ends() {
    run(LIMIT, async {
        let mut node = setup().cores(2).start().await;
        let [mut ada, mut bob, mut cyd] = three(&node).await;
        let chat = ada.create("friends", &[]).await;
        ada.say(chat, "before").await.unwrap();
        let [first, second] = [[1; 16], [2; 16]];
        assert_eq!(bob.change(chat, join(&first)).await, Err(Code::InviteUnknown), "there is none yet");
        ada.change(chat, set_invite(&first, 0)).await.unwrap();

        // Who has the link sees the group, and nothing of what was said in it.
        let Kind::Invite(invite) = bob.raw.ask(get_invite(chat, &first)).await.unwrap() else { panic!("no invite") };
        assert_eq!((&invite.name[..], invite.members, invite.expires_ms), (&b"friends"[..], 1, 0));
        assert_eq!(bob.raw.ask(get_invite(chat, &second)).await, Err(Code::InviteUnknown));
        assert_eq!(bob.raw.ask(get_history(chat)).await, Err(Code::UnknownChat));
        let client_seq = bob.next_client_seq();
        let joined = bob.send(changing(client_seq, Some(chat), join(&first))).await.unwrap();
        assert_eq!((joined.seq, joined.duplicate), (4, false));
        let again = bob.send(changing(client_seq, Some(chat), join(&first))).await.unwrap();
        assert_eq!((again.seq, again.duplicate), (4, true));
        assert_eq!(bob.change(chat, join(&first)).await, Err(Code::InvalidArgument), "it is in already");
        let told = ada.raw.delivered().await;
        assert_eq!(told.change.unwrap().kind, Some(join(&[])), "without the secret");
        assert_eq!(bob.history(chat).await, [4]);
        ada.say(chat, "hello bob").await.unwrap();
        assert_eq!(bob.raw.delivered().await.body, "hello bob");

        // Only admins know it, and a new one is told without its secret.
        let group = |chat: v1::Chat| chat.group.unwrap();
        assert_eq!(group(ada.group(chat).await.unwrap()).invite_secret, id(&first));
        assert_eq!(group(bob.group(chat).await.unwrap()).invite_secret, Bytes::new());
        ada.change(chat, set_invite(&second, u64::MAX)).await.unwrap();
        let told = bob.raw.delivered().await;
        assert_eq!(told.change.unwrap().kind, Some(set_invite(&[], u64::MAX)));
        assert_eq!(cyd.change(chat, join(&first)).await, Err(Code::InviteUnknown), "another one was made");

        // It is there after a restart, and ends with a removal: who goes may know it.
        node.kill();
        node.start().await;
        for member in [&mut ada, &mut bob, &mut cyd] {
            member.come_back(&node).await;
        }
        cyd.change(chat, join(&second)).await.unwrap();
        ada.change(chat, remove(&[cyd.user()])).await.unwrap();
        assert_eq!(cyd.change(chat, join(&second)).await, Err(Code::InviteUnknown));
        assert_eq!(group(ada.group(chat).await.unwrap()).invite_secret, Bytes::new());

        // One that has a time ends with it, one that is ended at once.
        assert_eq!(ada.change(chat, set_invite(&first, 1)).await, Err(Code::InvalidArgument), "it is over already");
        ada.change(chat, set_invite(&first, 0)).await.unwrap();
        let end = || Change::SetInvite(v1::SetInvite { ended: true, ..v1::SetInvite::default() });
        ada.change(chat, end()).await.unwrap();
        assert_eq!(ada.change(chat, end()).await, Err(Code::InvalidArgument), "there is none");
        assert_eq!(cyd.raw.ask(get_invite(chat, &first)).await, Err(Code::InviteUnknown));
        for wrong in [set_invite(&[], 0), set_invite(&[1; 15], 0), join(&[1; 17])] {
            assert_eq!(ada.change(chat, wrong).await, Err(Code::InvalidArgument));
        }
    });
}

#[test]
fn what_is_written_under_a_timer_is_told_until_its_time_is_up() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let [mut ada, mut bob, cyd] = three(&node).await;
        let chat = ChatId::direct(ada.user(), bob.user());
        let timer = |timer_s| Change::SetTimer(v1::SetTimer { timer_s });
        assert_eq!(ada.change(chat, timer(3600)).await, Err(Code::UnknownChat), "there is no chat yet");
        let say = async |who: &mut Member, to: &Member, body: &'static str| {
            let client_seq = who.next_client_seq();
            who.raw.ask(send(client_seq, to.user(), body)).await.unwrap()
        };
        say(&mut ada, &bob, "for ever").await;
        assert_eq!(ada.change(chat, timer(TIMER_S_MAX + 1)).await, Err(Code::InvalidArgument));
        assert_eq!(ada.change(chat, rename("us")).await, Err(Code::UnknownChat), "it has no other change");
        assert_eq!(ada.change(chat, timer(3600)).await, Ok(2));
        assert_eq!(bob.group(chat).await.unwrap().timer_s, 3600);
        say(&mut ada, &bob, "for an hour").await;
        // Either may change it.
        assert_eq!(bob.change(chat, timer(1)).await, Ok(4));
        say(&mut ada, &bob, "for a second").await;
        let mut told = Vec::new();
        for _ in 0..4 {
            let came = bob.raw.delivered().await;
            told.push((came.seq, came.timer_s));
        }
        assert_eq!(told, [(1, 0), (2, 0), (3, 3600), (5, 1)]);

        // The history tells it until its time is up, and that it was there from then on.
        let history = async |who: &mut Member| match who.raw.ask(get_history(chat)).await.unwrap() {
            Kind::History(history) => history.messages,
            other => panic!("another answer to GetHistory: {other:?}"),
        };
        while !history(&mut bob).await[0].body.is_empty() {
            tokio::task::yield_now().await;
        }
        let left = history(&mut bob).await;
        let bodies: Vec<_> = left.iter().map(|message| (message.seq, &message.body[..], message.timer_s)).collect();
        let expected: [(u64, &[u8], u32); 5] =
            [(5, b"", 1), (4, b"", 0), (3, b"for an hour", 3600), (2, b"", 0), (1, b"for ever", 0)];
        assert_eq!(bodies, expected);
        assert_eq!(left[1].change.as_ref().unwrap().kind, Some(timer(1)));

        // In a group it is its admins'.
        let group = ada.create("friends", &[bob.user(), cyd.user()]).await;
        assert_eq!(bob.change(group, timer(5)).await, Err(Code::NotAllowed));
        assert_eq!(ada.change(group, timer(5)).await, Ok(2));
        assert_eq!(ada.change(group, timer(5)).await, Err(Code::InvalidArgument), "it is so already");
        assert_eq!(bob.group(group).await.unwrap().timer_s, 5);
    });
}

#[test]
fn each_role_may_what_the_protocol_says() {
    run(LIMIT, async {
        let node = setup().start().await;
        let [mut owner, mut admin, mut member] = three(&node).await;
        let other = Member::register(&node, Over::Plain, "dan").await.user();
        let stranger = Member::register(&node, Over::Plain, "eve").await.user();
        let nobody = UserId::from_bytes([7; 16]);
        let (of_owner, of_admin, of_member) = (owner.user(), admin.user(), member.user());
        let chat = owner.create("club", &[of_admin, of_member, other]).await;
        owner.change(chat, set_role(of_admin, Role::Admin)).await.unwrap();

        // A member may read, write and leave.
        member.say(chat, "I may write").await.unwrap();
        for change in [
            add(&[stranger]),
            add(&[nobody]),
            remove(&[other]),
            remove(&[of_owner]),
            set_role(other, Role::Admin),
            set_role(of_member, Role::Owner),
            rename("mine"),
            announcements(true),
        ] {
            assert_eq!(member.change(chat, change.clone()).await, Err(Code::NotAllowed), "{change:?}");
        }
        // An admin may all but touch the owner.
        for (change, code) in [
            (remove(&[of_owner]), Code::NotAllowed),
            (remove(&[other, of_owner]), Code::NotAllowed),
            (set_role(of_owner, Role::Member), Code::NotAllowed),
            (set_role(other, Role::Owner), Code::NotAllowed),
            (set_role(stranger, Role::Admin), Code::UnknownUser),
            (set_role(of_admin, Role::Admin), Code::InvalidArgument),
            (remove(&[of_admin]), Code::InvalidArgument),
            (remove(&[stranger]), Code::InvalidArgument),
            (add(&[other]), Code::InvalidArgument),
            (add(&[nobody]), Code::UnknownUser),
            (add(&[stranger, nobody]), Code::UnknownUser),
            (rename("club"), Code::InvalidArgument),
            (create("again", &[other]), Code::InvalidArgument),
        ] {
            assert_eq!(admin.change(chat, change.clone()).await, Err(code), "{change:?}");
        }
        admin.change(chat, announcements(true)).await.unwrap();
        assert_eq!(member.say(chat, "may I?").await, Err(Code::NotAllowed));
        admin.say(chat, "I may").await.unwrap();
        owner.say(chat, "and I").await.unwrap();
        admin.change(chat, add(&[stranger])).await.unwrap();
        admin.change(chat, set_role(stranger, Role::Admin)).await.unwrap();
        admin.change(chat, remove(&[stranger])).await.unwrap();
        admin.change(chat, set_role(of_member, Role::Admin)).await.unwrap();
        member.say(chat, "now I may too").await.unwrap();

        // The owner gives the group away, is an admin then, and leaves; the next owner's leaving names the next.
        owner.change(chat, set_role(of_member, Role::Owner)).await.unwrap();
        assert_eq!(owner.change(chat, remove(&[of_member])).await, Err(Code::NotAllowed));
        owner.change(chat, leave()).await.unwrap();
        assert_eq!(owner.say(chat, "gone").await, Err(Code::UnknownChat));
        let left = member.change(chat, leave()).await.unwrap();
        let group = admin.group(chat).await.unwrap();
        let roles: Vec<_> = group.members.iter().map(|member| (member.user_id.clone(), member.role)).collect();
        let mut expected = [(of_admin, Role::Owner), (other, Role::Member)];
        expected.sort_by_key(|(user, _)| *user);
        assert_eq!(roles, expected.map(|(user, role)| (id(user.as_bytes()), i32::from(role))));
        let told = loop {
            let came = admin.raw.delivered().await;
            if came.seq == left {
                break came;
            }
        };
        let owner_id = id(of_admin.as_bytes());
        assert_eq!(told.change.unwrap().kind, Some(Change::Leave(v1::LeaveGroup { owner_id })));
    });
}

#[test]
fn a_stranger_cannot_tell_a_group_from_none() {
    run(LIMIT, async {
        let node = setup().start().await;
        let [mut ada, bob, mut eve] = three(&node).await;
        let chat = ada.create("secret", &[bob.user()]).await;
        let none = ChatId::group(bob.is.address, columba_wire::ClientSeq::new(99));
        let nobody = UserId::from_bytes([7; 16]);
        for group in [chat, none] {
            for request in [get_chat(group), get_history(group), get_receipts(group), read(group, 1)] {
                assert_eq!(eve.raw.ask(request.clone()).await, Err(Code::UnknownChat), "{request:?}");
            }
            assert_eq!(eve.say(group, "let me in").await, Err(Code::UnknownChat));
            for change in [
                add(&[eve.user()]),
                add(&[nobody]),
                remove(&[bob.user()]),
                leave(),
                set_role(eve.user(), Role::Owner),
                rename("mine"),
            ] {
                assert_eq!(eve.change(group, change.clone()).await, Err(Code::UnknownChat), "{change:?}");
            }
            // Unanswered, and without effect.
            eve.raw.request(ack(group, 1)).await;
        }
        // A 1:1 chat is no group, not even for its members.
        let direct = ChatId::direct(ada.user(), bob.user());
        ada.raw.ask(send(1_000, bob.user(), "hi")).await.unwrap();
        assert_eq!(ada.say(direct, "as a group").await, Err(Code::UnknownChat));
        assert_eq!(ada.change(direct, add(&[eve.user()])).await, Err(Code::UnknownChat));
        let seen = ada.group(direct).await.unwrap();
        assert!(seen.group.is_none() && seen.members.len() == 2, "{seen:?}");
        assert_eq!(ada.group(chat).await.unwrap().last_seq, 1, "nothing was stored");
    });
}

#[test]
fn what_was_sent_again_is_the_same_group_and_the_same_change() {
    run(LIMIT, async {
        let mut node = setup().cores(2).fixed_port().start().await;
        let [mut ada, mut bob, cyd] = three(&node).await;
        let first = changing(7, None, create("friends", &[bob.user()]));
        let made = ada.send(first.clone()).await.unwrap();
        let chat = ChatId::try_from(&made.chat_id[..]).unwrap();
        let second = changing(8, Some(chat), add(&[cyd.user()]));
        let added = ada.send(second.clone()).await.unwrap();
        let third = changing(9, Some(chat), remove(&[cyd.user()]));
        let removed = ada.send(third.clone()).await.unwrap();
        for killed in [false, true] {
            if killed {
                node.kill();
                node.start().await;
            }
            ada.come_back(&node).await;
            for (send, sent) in [(&first, &made), (&second, &added), (&third, &removed)] {
                let again = ada.send(send.clone()).await.unwrap();
                assert_eq!(again, v1::Sent { duplicate: true, ..sent.clone() });
            }
        }
        bob.come_back(&node).await;
        assert_eq!(bob.history(chat).await, [3, 2, 1]);
        // Who has left gets the same answer for what it sent while it was in.
        let left = changing(1, Some(chat), leave());
        let sent = bob.send(left.clone()).await.unwrap();
        assert_eq!(bob.send(left).await.unwrap(), v1::Sent { duplicate: true, ..sent });
    });
}

#[test]
fn a_group_is_told_what_all_have_and_who_asks_who_has_what() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let [mut ada, mut bob, mut cyd] = three(&node).await;
        let chat = ada.create("friends", &[bob.user(), cyd.user()]).await;
        let seq = ada.say(chat, "have you got this?").await.unwrap();
        let told = |kind| if let Kind::Receipt(receipt) = kind { Some(receipt) } else { None };
        bob.raw.delivered().await;
        bob.raw.delivered().await;
        bob.raw.ask(read(chat, seq)).await.unwrap();
        // Bob has it, which is told to nobody: Cyd has not.
        let receipts = async |member: &mut Member| match member.raw.ask(get_receipts(chat)).await.unwrap() {
            Kind::Receipts(receipts) => receipts,
            other => panic!("another answer to GetReceipts: {other:?}"),
        };
        let of = |receipts: &v1::Receipts, user: UserId| {
            let found = receipts.members.iter().find(|member| member.user_id == user.as_bytes()[..]).unwrap();
            (found.delivered_seq, found.read_seq)
        };
        loop {
            let now = receipts(&mut ada).await;
            assert_eq!(of(&now, cyd.user()).1, 0);
            if of(&now, bob.user()) == (seq, seq) {
                break;
            }
        }
        cyd.raw.delivered().await;
        cyd.raw.delivered().await;
        loop {
            let receipt = ada.raw.expect("a receipt", told).await;
            assert!(receipt.user_id.is_empty() && receipt.delivered_seq <= seq && receipt.read_seq == 0, "{receipt:?}");
            if receipt.delivered_seq == seq {
                break;
            }
        }
        cyd.raw.ask(read(chat, seq)).await.unwrap();
        loop {
            let receipt = ada.raw.expect("a receipt", told).await;
            if receipt.read_seq == seq {
                break;
            }
        }
        let all = receipts(&mut bob).await;
        assert_eq!((all.last_seq, all.members.len()), (seq, 3));
    });
}

#[test]
fn changes_that_are_none_are_refused_and_change_nothing() {
    run(LIMIT, async {
        let node = setup().start().await;
        let [mut ada, bob, cyd] = three(&node).await;
        let chat = ada.create("friends", &[bob.user()]).await;
        let base = changing(0, Some(chat), rename("other"));
        let short = |mut user: Vec<Bytes>| {
            user[0].truncate(15);
            user
        };
        let look = |look| changing(0, Some(chat), Change::SetLook(look));
        let long = |bytes| Some(Bytes::from(vec![b'x'; bytes]));
        let sends = [
            v1::Send { change: Some(Box::default()), ..base.clone() },
            v1::Send { body: "and a body".into(), ..base.clone() },
            v1::Send { to_user: id(bob.user().as_bytes()), ..base.clone() },
            v1::Send { chat_id: Bytes::new(), ..base.clone() },
            v1::Send { chat_id: id(&[1; 15]), ..base.clone() },
            v1::Send { change: None, chat_id: Bytes::new(), ..base.clone() },
            v1::Send { change: None, to_user: id(bob.user().as_bytes()), ..base },
            changing(0, Some(chat), create("with an id", &[])),
            changing(0, Some(chat), add(&[])),
            changing(0, Some(chat), Change::Add(v1::AddMembers { user_ids: short(ids(&[cyd.user()])) })),
            changing(0, Some(chat), remove(&[])),
            changing(0, Some(chat), Change::Leave(v1::LeaveGroup { owner_id: id(bob.user().as_bytes()) })),
            changing(0, Some(chat), Change::SetRole(v1::SetRole { user_id: id(bob.user().as_bytes()), role: 3 })),
            look(v1::SetLook::default()),
            look(v1::SetLook { name: long(GROUP_NAME_BYTES_MAX + 1), ..v1::SetLook::default() }),
            look(v1::SetLook { picture: long(GROUP_PICTURE_BYTES_MAX + 1), ..v1::SetLook::default() }),
        ];
        for send in sends {
            let client_seq = ada.next_client_seq();
            let code = ada.send(v1::Send { client_seq, ..send.clone() }).await;
            assert_eq!(code, Err(Code::InvalidArgument), "{send:?}");
        }
        assert_eq!(ada.say(chat, "the session is as good as before").await, Ok(2));
        let largest = v1::SetLook {
            name: long(GROUP_NAME_BYTES_MAX),
            picture: long(GROUP_PICTURE_BYTES_MAX),
            ..v1::SetLook::default()
        };
        assert_eq!(ada.change(chat, Change::SetLook(largest)).await, Ok(3));
    });
}
