//! A node that is asked to stop.

use core::time::Duration;

use columba_wire::{
    Code,
    v1::{self, client_frame::Kind as Request, server_frame::Kind},
};
use tokio::time::Instant;

use crate::{
    link::{Over, TRANSPORTS},
    node::{run, setup},
    raw::{Person, Raw, presence, send, watch},
};

#[test]
fn a_node_that_stops_says_so_keeps_everything_and_serves_again() {
    run(Duration::from_secs(120), async {
        let mut node = setup().cores(2).fixed_port().start().await;
        let mut people = Vec::new();
        for over in TRANSPORTS {
            let mut person = Person::new(&format!("stays-{over:?}").to_lowercase());
            let raw = Raw::register(&node, over, &mut person).await;
            people.push((over, person, raw));
        }
        let stranger = Raw::connect(&node, Over::Tls).await;
        let to = people[0].1.user();
        for (_, _, raw) in &mut people {
            raw.ask(send(1, to, "before")).await.unwrap();
            // Under way when the node stops: answered, or not, but never half.
            raw.request(send(2, to, "at the same time")).await;
        }

        let began = Instant::now();
        node.terminate();
        for (over, _, raw) in &mut people {
            let (mut code, mut after) = (None, 0);
            while let Some(frame) = raw.receive().await {
                if let Some(Kind::Goaway(goaway)) = frame.kind {
                    (code, after) = (Code::from_number(goaway.code), goaway.reconnect_after_ms);
                }
            }
            assert_eq!(code, Some(Code::Unavailable), "{over:?}");
            assert!(after > 0, "{over:?}: all would come back in the same moment");
        }
        let status = node.ended().await;
        assert_eq!(status.code(), Some(0));
        println!("stopped in {:.1?}", began.elapsed());
        drop(stranger);

        node.start().await;
        for (over, person, raw) in &mut people {
            *raw = Raw::login(&node, *over, person).await;
            // The same number again: a retry is recognised, whichever it was.
            let Ok(Kind::Sent(sent)) = raw.ask(send(2, to, "at the same time")).await else { panic!("not sent") };
            assert_eq!(sent.seq, 2, "{over:?}");
            raw.ask(send(3, to, "after")).await.unwrap();
        }
    });
}

#[test]
fn people_see_each_other_come_and_go_and_when_they_were_last_there() {
    run(Duration::from_secs(120), async {
        let mut node = setup().cores(2).fixed_port().start().await;
        let (mut ada, mut bob) = (Person::new("ada"), Person::new("bob"));
        let mut a = Raw::register(&node, Over::Tls, &mut ada).await;
        let b = Raw::register(&node, Over::Quic, &mut bob).await;
        a.ask(watch(bob.user())).await.unwrap();
        assert!(presence(&mut a, bob.user()).await.online);

        // Away without a word, back, and away with one.
        drop(b);
        let gone = presence(&mut a, bob.user()).await;
        assert!(!gone.online && gone.last_seen_ms > 0, "{gone:?}");
        let mut b = Raw::login(&node, Over::Plain, &bob).await;
        assert!(presence(&mut a, bob.user()).await.online);
        b.request(Request::Bye(v1::Bye {})).await;
        let last = presence(&mut a, bob.user()).await;
        assert!(!last.online && last.last_seen_ms >= gone.last_seen_ms, "{last:?}");

        // The node remembers over a restart.
        node.terminate();
        assert!(node.ended().await.success());
        node.start().await;
        let mut a = Raw::login(&node, Over::Tls, &ada).await;
        a.ask(watch(bob.user())).await.unwrap();
        let remembered = presence(&mut a, bob.user()).await;
        assert_eq!((remembered.online, remembered.last_seen_ms), (false, last.last_seen_ms));

        // Who was there when the node stopped was seen then; who never was, never.
        let mut b = Raw::login(&node, Over::Tls, &bob).await;
        b.ask(watch(ada.user())).await.unwrap();
        assert!(presence(&mut b, ada.user()).await.online);
        let nobody = Person::new("nobody");
        b.ask(watch(nobody.user())).await.unwrap();
        let never = presence(&mut b, nobody.user()).await;
        assert_eq!((never.online, never.last_seen_ms), (false, 0));
    });
}
