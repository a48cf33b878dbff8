//! Blocks, contacts and privacy: who may send, see and add, and who learns nothing.

use core::time::Duration;

use bytes::Bytes;
use columba_client::{
    Client, Error, Event,
    options::Transport,
    types::{Audience, PrivacyChange},
};
use columba_wire::{
    ChatId, Code, UserId,
    limits::CONTACTS_MAX,
    v1::{self, client_frame::Kind as Request, server_frame::Kind},
};

use crate::{
    devices::link,
    groups::{add, create, get_chat, get_history, get_receipts, read, three},
    link::Over,
    node::{run, setup, soon},
    phone::options,
    raw::{Raw, id, presence, send, watch},
};

const LIMIT: Duration = Duration::from_secs(120);

async fn done(raw: &mut Raw, request: Request) -> Result<(), Code> {
    match raw.ask(request).await? {
        Kind::Done(_) => Ok(()),
        other => panic!("another answer: {other:?}"),
    }
}

pub(crate) fn block(user: UserId, blocked: bool) -> Request {
    Request::SetBlocked(v1::SetBlocked { user_id: id(user.as_bytes()), blocked })
}

fn contacts(add: &[UserId], remove: &[UserId]) -> Request {
    let ids = |users: &[UserId]| users.iter().map(|user| id(user.as_bytes())).collect();
    Request::SetContacts(v1::SetContacts { add: ids(add), remove: ids(remove) })
}

fn privacy(set: impl FnOnce(&mut v1::SetPrivacy)) -> Request {
    let mut request = v1::SetPrivacy::default();
    set(&mut request);
    Request::SetPrivacy(request)
}

/// Whether somebody is online, and when it last was, as a session is told next.
async fn seen(raw: &mut Raw, of: UserId) -> (bool, u64) {
    let presence = presence(raw, of).await;
    (presence.online, presence.last_seen_ms)
}

async fn roster(raw: &mut Raw) -> v1::Contacts {
    match raw.ask(Request::GetContacts(v1::GetContacts {})).await.unwrap() {
        Kind::Contacts(contacts) => contacts,
        other => panic!("another answer to GetContacts: {other:?}"),
    }
}

async fn sent(raw: &mut Raw, client_seq: u64, to: UserId) -> Result<u64, Code> {
    match raw.ask(send(client_seq, to, "hello")).await? {
        Kind::Sent(sent) => Ok(sent.seq),
        other => panic!("another answer to Send: {other:?}"),
    }
}

#[test]
fn who_is_blocked_sends_nothing_and_learns_nothing_over_a_crash() {
    run(LIMIT, async {
        let mut node = setup().cores(2).start().await;
        let [mut ada, mut bob, cyd] = three(&node).await;
        let ada_is = ada.user();
        let (chat, none) = (ChatId::direct(ada.user(), bob.user()), ChatId::direct(ada.user(), cyd.user()));
        assert_eq!(sent(&mut bob.raw, 1, ada.user()).await, Ok(1));
        assert_eq!(done(&mut ada.raw, block(bob.user(), true)).await, Ok(()));
        assert_eq!(done(&mut ada.raw, block(bob.user(), true)).await, Ok(()), "once more, which changes nothing");
        assert_eq!(done(&mut ada.raw, block(cyd.user(), true)).await, Ok(()));
        assert_eq!(done(&mut ada.raw, block(ada_is, true)).await, Err(Code::InvalidArgument));
        assert_eq!(done(&mut ada.raw, block(UserId::from_bytes([9; 16]), true)).await, Err(Code::UnknownUser));
        assert_eq!(roster(&mut ada.raw).await.roster_version, 2);

        node.kill();
        node.start().await;
        for member in [&mut ada, &mut bob] {
            member.raw = Raw::login(&node, Over::Tls, &member.is).await;
        }
        let mut cyds = Raw::login(&node, Over::Plain, &cyd.is).await;
        assert_eq!(sent(&mut bob.raw, 2, ada.user()).await, Err(Code::NotAllowed));
        assert_eq!(sent(&mut ada.raw, 1, bob.user()).await, Err(Code::NotAllowed), "nor does who blocks");
        assert_eq!(sent(&mut bob.raw, 1, ada.user()).await, Ok(1), "what was stored before is");
        assert_eq!(sent(&mut cyds, 1, ada.user()).await, Err(Code::NotAllowed));
        for request in [get_chat(none), get_history(none), get_receipts(none)] {
            assert_eq!(cyds.ask(request).await, Err(Code::UnknownChat), "a block makes no chat");
        }
        match bob.raw.ask(get_history(chat)).await.unwrap() {
            Kind::History(history) => assert_eq!(history.messages.len(), 1),
            other => panic!("another answer to GetHistory: {other:?}"),
        }
        assert_eq!(done(&mut bob.raw, watch(ada.user())).await, Ok(()));
        assert_eq!(seen(&mut bob.raw, ada.user()).await, (false, 0), "she is online");

        // A read does not show, until he is not blocked any more and she reads again.
        assert_eq!(done(&mut ada.raw, read(chat, 1)).await, Ok(()));
        assert_eq!(reads(&mut bob.raw, chat, ada.user()).await, 0);
        assert_eq!(reads(&mut ada.raw, chat, ada_is).await, 1);

        let group = bob.create("us", &[ada.user(), cyd.user()]).await;
        let members = bob.group(group).await.unwrap().members;
        assert_eq!(members.len(), 2, "he cannot let her in: {members:?}");
        assert_eq!(bob.change(group, add(&[ada.user()])).await, Err(Code::NotAllowed));

        assert_eq!(done(&mut ada.raw, block(bob.user(), false)).await, Ok(()));
        assert!(seen(&mut bob.raw, ada.user()).await.0, "he is told at once");
        assert_eq!(sent(&mut bob.raw, 10, ada.user()).await, Ok(2));
        assert_eq!(done(&mut ada.raw, read(chat, 1)).await, Ok(()));
        assert_eq!(reads(&mut bob.raw, chat, ada.user()).await, 1);
        assert!(bob.change(group, add(&[ada.user()])).await.is_ok());
        let left = roster(&mut ada.raw).await;
        assert_eq!((left.blocked, left.contacts), (vec![id(cyd.user().as_bytes())], Vec::new()));
    });
}

/// What `of` has read of a chat, as a member is told.
async fn reads(raw: &mut Raw, chat: ChatId, of: UserId) -> u64 {
    match raw.ask(get_receipts(chat)).await.unwrap() {
        Kind::Receipts(receipts) => {
            let of = id(of.as_bytes());
            receipts.members.iter().find(|member| member.user_id == of).unwrap().read_seq
        }
        other => panic!("another answer to GetReceipts: {other:?}"),
    }
}

#[test]
fn presence_is_for_those_whom_the_settings_name_and_follows_their_changes() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let [mut ada, mut bob, mut cyd] = three(&node).await;
        let ada_is = ada.user();
        assert_eq!(done(&mut ada.raw, contacts(&[bob.user()], &[])).await, Ok(()));
        for member in [&mut bob, &mut cyd] {
            assert_eq!(done(&mut member.raw, watch(ada.user())).await, Ok(()));
            assert_eq!(seen(&mut member.raw, ada.user()).await, (true, 0));
        }
        let only = |audience: v1::Audience| {
            privacy(|set| (set.online, set.last_seen) = (Some(audience.into()), Some(audience.into())))
        };
        assert_eq!(done(&mut ada.raw, only(v1::Audience::Contacts)).await, Ok(()));
        assert_eq!(seen(&mut cyd.raw, ada.user()).await, (false, 0));
        // To who still sees her nothing has changed: the next that he is told is her going.
        ada.raw.request(Request::Bye(v1::Bye {})).await;
        let (online, last_seen_ms) = seen(&mut bob.raw, ada.user()).await;
        assert!(!online && last_seen_ms > 0);
        ada.raw = Raw::login(&node, Over::Quic, &ada.is).await;
        assert!(seen(&mut bob.raw, ada.user()).await.0);
        assert_eq!(done(&mut ada.raw, only(v1::Audience::Nobody)).await, Ok(()));
        assert_eq!(seen(&mut bob.raw, ada.user()).await, (false, 0));
        // She sees herself.
        assert_eq!(done(&mut ada.raw, watch(ada_is)).await, Ok(()));
        assert!(seen(&mut ada.raw, ada_is).await.0);
        assert_eq!(done(&mut ada.raw, only(v1::Audience::Everyone)).await, Ok(()));
        for member in [&mut bob, &mut cyd] {
            // The first that a stranger hears since: neither her going nor her coming was told.
            assert!(seen(&mut member.raw, ada.user()).await.0);
        }
        // When she was last there, but not that she is.
        let hidden = privacy(|set| set.online = Some(v1::Audience::Nobody.into()));
        assert_eq!(done(&mut ada.raw, hidden).await, Ok(()));
        let (online, seen) = seen(&mut cyd.raw, ada.user()).await;
        assert!(!online && seen == last_seen_ms, "when she was there before: {seen}");
        let unknown = privacy(|set| set.groups = Some(3));
        assert_eq!(done(&mut ada.raw, unknown).await, Err(Code::InvalidArgument));
    });
}

#[test]
fn reads_that_are_hidden_show_on_ones_own_devices_alone() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let [mut ada, mut bob, _cyd] = three(&node).await;
        let ada_is = ada.user();
        let (mut laptop, _) = link(&node, Over::Tls, &mut ada.raw, "laptop").await;
        let chat = ChatId::direct(ada.user(), bob.user());
        for client_seq in 1..=3 {
            assert_eq!(sent(&mut bob.raw, client_seq, ada.user()).await, Ok(client_seq));
        }
        let me = id(ada.user().as_bytes());
        let own = |kind| match kind {
            Kind::Receipt(receipt) if receipt.user_id == me => Some(receipt.read_seq),
            _ => None,
        };
        assert_eq!(done(&mut ada.raw, read(chat, 1)).await, Ok(()));
        assert_eq!(laptop.expect("her own receipt", own).await, 1);
        assert_eq!(reads(&mut bob.raw, chat, ada.user()).await, 1);
        assert_eq!(done(&mut ada.raw, privacy(|set| set.read_receipts_off = Some(true))).await, Ok(()));
        let account = |kind| if let Kind::Account(account) = kind { Some(account) } else { None };
        let told = laptop.expect("the account", account).await;
        assert!(told.privacy.unwrap().read_receipts_off && told.roster_version == 1);
        assert_eq!(done(&mut laptop, read(chat, 2)).await, Ok(()), "the setting is the user's, not a device's");
        assert_eq!(ada.raw.expect("her own receipt", own).await, 1);
        assert_eq!(ada.raw.expect("her own receipt", own).await, 2);
        assert_eq!(reads(&mut bob.raw, chat, ada.user()).await, 1);
        assert_eq!(reads(&mut ada.raw, chat, ada_is).await, 2);
        // In a group all have read, or not: nobody hides it there.
        let group = bob.create("us", &[ada.user()]).await;
        assert_eq!(done(&mut ada.raw, read(group, 1)).await, Ok(()));
        assert_eq!(reads(&mut bob.raw, group, ada.user()).await, 1);
    });
}

#[test]
fn contacts_are_those_that_were_put_there_and_bounded() {
    run(LIMIT, async {
        let node = setup().start().await;
        let [mut ada, mut bob, cyd] = three(&node).await;
        let (ada_is, bob_is, cyd_is) = (ada.user(), bob.user(), cyd.user());
        assert_eq!(roster(&mut ada.raw).await, v1::Contacts::default());
        assert_eq!(done(&mut ada.raw, contacts(&[bob_is, cyd_is, bob_is], &[])).await, Ok(()));
        assert_eq!(done(&mut ada.raw, contacts(&[], &[cyd_is])).await, Ok(()));
        assert_eq!(roster(&mut ada.raw).await.contacts, [id(bob_is.as_bytes())]);
        assert_eq!(done(&mut ada.raw, contacts(&[ada_is], &[])).await, Err(Code::InvalidArgument));
        let short = Request::SetContacts(v1::SetContacts { add: vec![id(&[1; 15])], remove: Vec::new() });
        assert_eq!(done(&mut ada.raw, short).await, Err(Code::InvalidArgument));
        // Who may let her into a group: her contacts alone.
        let only = privacy(|set| set.groups = Some(v1::Audience::Contacts.into()));
        assert_eq!(done(&mut ada.raw, only).await, Ok(()));
        let mut cyd = cyd;
        let of_bob = bob.create("a contact's", &[ada.user()]).await;
        assert_eq!(bob.group(of_bob).await.unwrap().members.len(), 2);
        let of_cyd = cyd.create("a stranger's", &[ada.user(), bob_is]).await;
        assert_eq!(cyd.group(of_cyd).await.unwrap().members.len(), 2, "the others are in");
        assert_eq!(cyd.change(of_cyd, add(&[ada.user()])).await, Err(Code::NotAllowed));
        assert_eq!(cyd.change(of_cyd, create("again", &[])).await, Err(Code::InvalidArgument));

        let many: Vec<_> = (0..CONTACTS_MAX)
            .map(|n| {
                let mut user = [0xcc; 16];
                user[..8].copy_from_slice(&(n as u64).to_be_bytes());
                UserId::from_bytes(user)
            })
            .collect();
        assert_eq!(done(&mut ada.raw, contacts(&many, &[])).await, Err(Code::TooMany));
        assert_eq!(done(&mut ada.raw, contacts(&many, &[bob_is])).await, Ok(()));
        assert_eq!(roster(&mut ada.raw).await.contacts.len(), CONTACTS_MAX);
    });
}

#[test]
fn the_sdk_blocks_and_hides_and_is_told_of_it_on_other_devices() {
    run(LIMIT, async {
        let node = setup().start().await;
        let (ada, _events) = Client::connect(options(&node, Transport::WebSocket, None)).await.unwrap();
        soon("an account", ada.register("ada", "")).await.unwrap();
        let (bob, mut events) = Client::connect(options(&node, Transport::Quic, None)).await.unwrap();
        let bob_is = soon("an account", bob.register("bob", "")).await.unwrap();
        ada.change_contacts(&[bob_is.user], &[]).await.unwrap();
        ada.set_blocked(bob_is.user, true).await.unwrap();
        let change = PrivacyChange { last_seen: Some(Audience::Contacts), ..PrivacyChange::default() };
        ada.set_privacy(change).await.unwrap();
        let account = ada.fetch_account().await.unwrap();
        assert_eq!((account.privacy.last_seen, account.roster_version), (Audience::Contacts, 3));
        let roster = ada.roster().await.unwrap();
        assert_eq!((roster.contacts, roster.blocked, roster.version), (vec![bob_is.user], vec![bob_is.user], 3));
        let queued = bob.queue(account.user.user, Bytes::from_static(b"hello")).await.unwrap();
        let failed = loop {
            match soon("the end of the send", events.next()).await.expect("an event") {
                Event::SendFailed { client_seq, reason } if client_seq == queued => break reason,
                _ => {}
            }
        };
        assert!(matches!(failed, Error::Refused { code: Code::NotAllowed, .. }), "{failed:?}");
        let nobody = ada.set_blocked(UserId::from_bytes([0; 16]), true).await;
        assert!(matches!(nobody, Err(Error::Refused { code: Code::UnknownUser, .. })), "{nobody:?}");
    });
}
