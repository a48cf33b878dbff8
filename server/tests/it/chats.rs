//! In which chats a user is: what a device that has just been linked begins with.

use core::time::Duration;

use bytes::Bytes;
use columba_client::{Client, options::Transport};
use columba_wire::{
    ChatId, Code,
    limits::CHATS_PAGE_MAX,
    v1::{self, client_frame::Kind as Request, server_frame::Kind},
};

use crate::{
    devices::link,
    groups::{add, leave, remove, three},
    link::Over,
    node::{PATIENCE, run, setup, until},
    phone::options,
    raw::{Person, Raw, id, send},
};

const LIMIT: Duration = Duration::from_secs(120);

fn get_chats(after: Option<ChatId>, limit: u32) -> Request {
    let after_chat_id = after.map(|chat| id(chat.as_bytes())).unwrap_or_default();
    Request::GetChats(v1::GetChats { after_chat_id, limit })
}

/// All of them, read by pages of so many: each chat and the message that let the user in.
async fn chats(raw: &mut Raw, limit: u32) -> Vec<(ChatId, u64)> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let Kind::Chats(page) = raw.ask(get_chats(after, limit)).await.unwrap() else { panic!("another answer") };
        assert!(page.chats.len() <= limit as usize);
        all.extend(page.chats.iter().map(|entry| (ChatId::try_from(&entry.chat_id[..]).unwrap(), entry.from_seq)));
        if page.complete {
            assert!(all.is_sorted());
            return all;
        }
        after = Some(all.last().expect("a page that is not the last has something").0);
    }
}

/// They are noted behind the message that lets the user in.
async fn will_be(raw: &mut Raw, mut expected: Vec<(ChatId, u64)>) {
    expected.sort_unstable();
    until("the chats are noted", PATIENCE, async || (chats(raw, 2).await == expected).then_some(())).await;
    assert_eq!(chats(raw, CHATS_PAGE_MAX).await, expected);
}

#[test]
fn a_new_device_learns_in_which_chats_its_user_is() {
    run(LIMIT, async {
        let mut node = setup().cores(2).start().await;
        let [mut ada, mut bob, cyd] = three(&node).await;
        let (mut dan, with_cyd) = (Person::new("dan"), ChatId::direct(ada.user(), cyd.user()));
        let mut dan_raw = Raw::register(&node, Over::Tls, &mut dan).await;
        let group = ada.create("us", &[bob.user(), cyd.user()]).await;
        let other = bob.create("others", &[ada.user()]).await;
        ada.raw.ask(send(100, cyd.user(), "hello")).await.unwrap();
        ada.raw.ask(send(101, ada.user(), "a note")).await.unwrap();
        let notes = ChatId::direct(ada.user(), ada.user());
        let all = [(group, 1), (other, 1), (with_cyd, 1), (notes, 1)];
        let (mut tablet, tablet_is) = link(&node, Over::Quic, &mut ada.raw, "tablet").await;
        will_be(&mut tablet, all.to_vec()).await;
        will_be(&mut bob.raw, vec![(group, 1), (other, 1)]).await;
        assert_eq!(chats(&mut dan_raw, 10).await, [], "who is in none");

        // Who goes is in it no more, and who comes again is in it by the message that says so.
        ada.change(group, remove(&[bob.user()])).await.unwrap();
        ada.change(other, leave()).await.unwrap();
        will_be(&mut bob.raw, vec![(other, 1)]).await;
        will_be(&mut tablet, vec![(group, 1), (with_cyd, 1), (notes, 1)]).await;
        // He was in before, and may not have been delivered all of that yet.
        until("Bob is let in again", PATIENCE, async || {
            match ada.change(group, add(&[bob.user(), dan.user()])).await {
                Err(Code::Unavailable) => None,
                added => Some(added.unwrap()),
            }
        })
        .await;
        will_be(&mut bob.raw, vec![(other, 1), (group, 3)]).await;
        will_be(&mut dan_raw, vec![(group, 3)]).await;

        drop((tablet, bob, dan_raw));
        node.kill();
        node.start().await;
        let mut tablet = Raw::login(&node, Over::Tls, &tablet_is).await;
        will_be(&mut tablet, vec![(group, 1), (with_cyd, 1), (notes, 1)]).await;
        let mut dan_raw = Raw::login(&node, Over::Tls, &dan).await;
        will_be(&mut dan_raw, vec![(group, 3)]).await;
        for limit in [0, CHATS_PAGE_MAX + 1] {
            assert_eq!(dan_raw.ask(get_chats(None, limit)).await.unwrap_err(), Code::InvalidArgument);
        }
        let malformed = v1::GetChats { after_chat_id: Bytes::from_static(b"short"), limit: 1 };
        assert_eq!(dan_raw.ask(Request::GetChats(malformed)).await.unwrap_err(), Code::InvalidArgument);
    });
}

#[test]
fn the_client_library_reads_them_by_pages() {
    run(LIMIT, async {
        let node = setup().start().await;
        let (ada, _events) = Client::connect(options(&node, Transport::Quic, None)).await.unwrap();
        let me = ada.register("ada", "").await.unwrap().user;
        let group = ada.create_group("mine", &[]).await.unwrap().chat;
        ada.send(me, "a note").await.unwrap();
        let mut expected = [group, ChatId::direct(me, me)];
        expected.sort_unstable();
        let page = until("both are noted", PATIENCE, async || {
            let page = ada.fetch_chats(None).await.unwrap();
            (page.chats.len() == 2).then_some(page)
        })
        .await;
        assert!(page.complete);
        assert!(page.chats.iter().map(|(chat, _)| *chat).eq(expected.iter().copied()));
        let rest = ada.fetch_chats(Some(expected[0])).await.unwrap();
        assert_eq!(rest.chats, page.chats[1..]);
    });
}
