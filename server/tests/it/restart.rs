//! A node that comes back after a crash, as its clients see it in the first moments.

use core::time::Duration;

use columba_wire::{
    ChatId, Code,
    v1::{self, client_frame::Kind as Request, server_frame::Kind},
};
use futures_util::future::join_all;
use quinn::ConnectionError;

use crate::{
    link::{Link, Over, Quic, TRANSPORTS},
    node::{PATIENCE, run, setup, soon, until},
    raw::{Person, Raw, id, send},
};

/// Times that the node is killed and started.
const RESTARTS: usize = 4;
/// People who come back each time.
const COMERS: usize = 12;
/// Messages that its journal holds and its files do not.
const MESSAGES: u64 = 400;
/// Bytes of each: enough in all that the node has to work on it for a while, and not so much that it writes files.
const BODY_BYTES: usize = 50_000;

/// The kill test's first find: sessions were served before the journal was applied. Who was known only to the journal
/// was told `UNAUTHENTICATED`, and a client with an account gives up at that for good; a message to such a user was
/// refused with `UNKNOWN_USER`.
#[test]
fn who_comes_while_the_node_starts_is_not_told_that_he_does_not_exist() {
    run(Duration::from_secs(120), async {
        let mut node = setup().cores(2).fixed_port().start().await;
        let (mut ada, mut bob) = (Person::new("ada"), Person::new("bob"));
        let mut a = Raw::register(&node, Over::Tls, &mut ada).await;
        drop(Raw::register(&node, Over::Tls, &mut bob).await);
        let mut people = vec![ada.clone()];
        for number in 1..COMERS {
            let mut person = Person::new(&format!("comer-{number}"));
            drop(Raw::register(&node, Over::Tls, &mut person).await);
            people.push(person);
        }
        let chat = ChatId::direct(ada.user(), bob.user());
        for number in 1..=MESSAGES {
            a.ask(send(number, bob.user(), vec![b'.'; BODY_BYTES])).await.unwrap();
        }
        let mut next = MESSAGES;
        for _ in 0..RESTARTS {
            node.kill();
            let starts = node.log().matches("disk driver").count();
            let ready = node.spawn();
            // Its sockets are bound before its threads begin: from now on connections wait to be served.
            let has_begun = async || (node.log().matches("disk driver").count() > starts).then_some(());
            until("its threads begin", PATIENCE, has_begun).await;
            // Over TLS and QUIC: their port is the same as before. All in the same first moment.
            let logins = people.iter().enumerate().map(|(n, who)| Raw::login(&node, TRANSPORTS[1 + n % 2], who));
            let mut raw = join_all(logins).await.swap_remove(0);
            let page = v1::GetHistory { chat_id: id(chat.as_bytes()), before_seq: 0, limit: 1 };
            let Ok(Kind::History(history)) = raw.ask(Request::GetHistory(page)).await else { panic!("no history") };
            assert_eq!(history.messages[0].seq, next, "the newest message");
            let found = raw.ask(Request::FindUser(v1::FindUser { handle: "bob".to_owned() })).await;
            assert!(matches!(&found, Ok(Kind::UserFound(_))), "{found:?}");
            next += 1;
            let Ok(Kind::Sent(sent)) = raw.ask(send(next, bob.user(), "new")).await else { panic!("not sent") };
            assert_eq!((sent.seq, sent.duplicate), (next, false));
            let line = soon("the node serves", ready).await.unwrap();
            node.handle_ready(&line);
        }
    });
}

#[test]
fn a_client_over_quic_learns_at_once_that_its_node_has_started_anew() {
    run(Duration::from_secs(120), async {
        let mut node = setup().cores(2).fixed_port().start().await;
        let mut person = Person::new("ada");
        let mut raw = Raw::register(&node, Over::Quic, &mut person).await;
        node.kill();
        node.start().await;
        raw.request(Request::Ping(v1::Ping {})).await;
        let Link::Quic(Quic { connection, .. }) = &raw.link else { panic!("asked for QUIC") };
        // By a stateless reset that the new process can sign, not by half a minute of silence.
        assert_eq!(soon("the end", connection.closed()).await, ConnectionError::Reset);
        assert_eq!(raw.ended().await, None::<Code>);
        Raw::login(&node, Over::Quic, &person).await;
    });
}
