//! The end of an account: what is gone, what others see, and that no crash stops it half way.

use core::time::Duration;

use bytes::Bytes;
use columba_client::{Client, Event, options::Transport};
use columba_wire::{
    ChatId, Code, UserId,
    v1::{self, client_frame::Kind as Request, server_frame::Kind},
};

use crate::{
    devices::link,
    groups::{Member, get_history, three},
    keys::{get_keys, put_keys},
    link::Over,
    node::{Node, PATIENCE, run, setup, soon, until},
    phone::options,
    raw::{Person, Raw, ack, id, presence, send, watch},
};

const LIMIT: Duration = Duration::from_secs(120);

fn delete(handle: &str) -> Request {
    Request::DeleteAccount(v1::DeleteAccount { handle: handle.to_owned() })
}

fn find(handle: &str) -> Request {
    Request::FindUser(v1::FindUser { handle: handle.to_owned() })
}

fn get_user(user: UserId) -> Request {
    Request::GetUser(v1::GetUser { user_id: id(user.as_bytes()) })
}

/// Asks for the end of the account, and waits for the end of the session.
async fn end(raw: &mut Raw, handle: &str) {
    raw.request(delete(handle)).await;
    assert_eq!(raw.ended().await, Some(Code::Revoked));
}

/// Who is in a group, as one of its members is told.
async fn members(of: &mut Member, group: ChatId) -> Vec<UserId> {
    let chat = of.group(group).await.unwrap();
    chat.members.iter().map(|member| UserId::try_from(&member.user_id[..]).unwrap()).collect()
}

/// Everything that others can ask about somebody who is gone.
async fn is_gone(bob: &mut Raw, ada: &Person, next: u64) {
    let refused = async |raw: &mut Raw, request| raw.ask(request).await.unwrap_err();
    until("her handle is free", PATIENCE, async || {
        matches!(bob.ask(find(&ada.handle)).await, Err(Code::UnknownUser)).then_some(())
    })
    .await;
    assert_eq!(refused(bob, get_user(ada.user())).await, Code::UnknownUser);
    assert_eq!(refused(bob, get_keys(ada.user(), Vec::new())).await, Code::UnknownUser);
    until("nobody writes to her", PATIENCE, async || match bob.ask(send(next, ada.user(), "are you there?")).await {
        Err(Code::UnknownUser) => Some(()),
        Ok(_) | Err(Code::Unavailable) => None,
        Err(other) => panic!("{other}"),
    })
    .await;
    let to_user = id(ada.user().as_bytes());
    let ring = v1::SendSignal { to_user, body: Bytes::from_static(b"ring"), ..v1::SendSignal::default() };
    assert_eq!(refused(bob, Request::SendSignal(ring)).await, Code::UnknownUser);
    bob.ask(watch(ada.user())).await.unwrap();
    let seen = presence(bob, ada.user()).await;
    assert!(!seen.online, "she is not there");
}

async fn no_login(node: &Node, person: &Person) {
    let mut raw = Raw::connect(node, Over::Tls).await;
    assert_eq!(raw.try_login(person).await, Err(Code::Unauthenticated));
}

#[test]
fn nothing_is_left_of_a_deleted_account_but_what_it_has_sent() {
    run(LIMIT, async {
        let node = setup().cores(2).start().await;
        let [mut ada, mut bob, mut cyd] = three(&node).await;
        let group = ada.create("us", &[bob.user(), cyd.user()]).await;
        let other = bob.create("others", &[ada.user()]).await;
        ada.raw.ask(send(100, bob.user(), "good bye")).await.unwrap();
        bob.raw.ask(send(100, ada.user(), "no!")).await.unwrap();
        ada.raw.ask(Request::PutKeys(put_keys(&ada.is, 1..=2))).await.unwrap();
        let (mut tablet, tablet_is) = link(&node, Over::Quic, &mut ada.raw, "tablet").await;

        for handle in ["bob", "nobody-here", "", "not a handle"] {
            assert_eq!(ada.raw.ask(delete(handle)).await.unwrap_err(), Code::InvalidArgument, "{handle:?}");
        }
        end(&mut ada.raw, "ada").await;
        assert_eq!(tablet.ended().await, Some(Code::Revoked));
        no_login(&node, &ada.is).await;
        no_login(&node, &tablet_is).await;
        is_gone(&mut bob.raw, &ada.is, 200).await;

        // She is out of her groups, and somebody else owns hers.
        until("she has left", PATIENCE, async || (members(&mut bob, group).await.len() == 2).then_some(())).await;
        let chat = cyd.group(group).await.unwrap();
        assert!(chat.members.iter().any(|member| member.role == i32::from(v1::Role::Owner)), "{chat:?}");
        until("of the others too", PATIENCE, async || (members(&mut bob, other).await == [bob.user()]).then_some(()))
            .await;
        // What she has sent is theirs.
        let direct = ChatId::direct(ada.user(), bob.user());
        let Kind::History(history) = bob.raw.ask(get_history(direct)).await.unwrap() else { panic!("no history") };
        assert!(history.messages.iter().any(|message| message.body == "good bye"));

        // The handle is for whoever comes, and that is somebody else, with the same key too.
        let mut again = Person { handle: "ada".to_owned(), ..Person::new("ada") };
        again.key = ada.is.key.clone();
        drop(Raw::register(&node, Over::Quic, &mut again).await);
        assert_ne!(again.user(), ada.user());
    });
}

#[test]
fn a_crash_does_not_stop_the_end_of_an_account_half_way() {
    run(LIMIT, async {
        let mut node = setup().cores(2).start().await;
        let [mut ada, mut bob, mut cyd] = three(&node).await;
        let mut groups = Vec::new();
        for n in 0..20 {
            groups.push(ada.create(&format!("group {n}"), &[bob.user(), cyd.user()]).await);
        }
        ada.raw.ask(send(100, bob.user(), "good bye")).await.unwrap();
        end(&mut ada.raw, "ada").await;
        node.kill();
        node.start().await;
        no_login(&node, &ada.is).await;
        bob.come_back(&node).await;
        cyd.come_back(&node).await;
        for group in groups {
            until("she has left", PATIENCE, async || (members(&mut bob, group).await.len() == 2).then_some(())).await;
            bob.raw.request(ack(group, u64::MAX)).await;
        }
        is_gone(&mut bob.raw, &ada.is, 200).await;
    });
}

#[test]
fn the_client_library_says_that_an_account_is_deleted() {
    run(LIMIT, async {
        let node = setup().start().await;
        let (ada, mut events) = Client::connect(options(&node, Transport::Quic, None)).await.unwrap();
        ada.register("ada", "").await.unwrap();
        let refused = ada.delete_account("bob").await.unwrap_err();
        assert!(matches!(refused, columba_client::Error::Refused { code: Code::InvalidArgument, .. }), "{refused}");
        ada.delete_account("ada").await.unwrap();
        let ended = async {
            while let Some(event) = events.next().await {
                if matches!(event, Event::Revoked) {
                    return;
                }
            }
            panic!("the end was not told");
        };
        soon("the session ends", ended).await;
    });
}
