//! `kill -9` under load: what was confirmed is there, in order, once.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use columba_client::{ChatId, Client, MessageSeq, UserId, options::Transport};
use columba_engine::env::Rng;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    node::{Node, PATIENCE, run, setup, soon, until},
    phone::{Habits, NewPhone, Phone, options},
};

/// Times that the node is killed.
const KILLS: u64 = 30;
/// Of so many kills one comes before the node serves, during recovery.
const KILLS_DURING_START: u64 = 5;
/// Longest time that a node serves before it is killed, after the first message was confirmed.
const SERVES_MS_MAX: u64 = 400;

/// The two sides of a chat: transport, and time between absences.
type Side = (Transport, Option<u64>);
const CHATS: [[Side; 2]; 4] = [
    [(Transport::WebSocket, None), (Transport::Quic, None)],
    [(Transport::Quic, Some(1_500)), (Transport::WebSocket, None)],
    [(Transport::WebSocket, Some(1_100)), (Transport::WebSocket, Some(2_300))],
    [(Transport::Quic, None), (Transport::Auto, Some(1_900))],
];

#[test]
fn what_was_confirmed_survives_thirty_kills_in_its_place_and_once() {
    run(Duration::from_secs(170), async {
        let seed = std::env::var("KILL_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| getrandom::u64().unwrap() % 1_000_000);
        println!("KILL_SEED={seed}");
        let began = Instant::now();
        let profiles = tempfile::tempdir().unwrap();
        let mut node = setup().cores(2).fixed_port().start().await;
        let confirmed = Arc::new(AtomicU64::new(0));
        let mut phones = Vec::new();
        for (chat, sides) in CHATS.iter().enumerate() {
            let mut new = Vec::new();
            for (side, (transport, leaves)) in sides.iter().enumerate() {
                let handle = format!("phone-{chat}-{side}");
                let profile = leaves.map(|_| profiles.path().join(&handle));
                new.push(NewPhone::register(&node, *transport, profile, &handle).await);
            }
            let users: Vec<UserId> = new.iter().map(|phone| phone.user).collect();
            for (side, phone) in new.into_iter().enumerate() {
                let leaves_every = sides[side].1.map(Duration::from_millis);
                let habits = Habits { window: 16, every: Duration::from_millis(4), leaves_every };
                phones.push(phone.talk_to(users[1 - side], habits, Arc::clone(&confirmed)));
            }
        }

        kill_often(&mut node, &mut Rng::from_seed(seed), &confirmed).await;
        let killed_for = began.elapsed();
        phones.iter().for_each(Phone::hush);
        settle(&phones).await;

        let mut total = 0;
        for pair in phones.chunks(2) {
            total += check_chat(&pair[0], &pair[1]);
        }
        let absences: u64 = phones.iter().map(|phone| phone.read(|diary| diary.absences)).sum();
        let disconnects: u64 = phones.iter().map(|phone| phone.read(|diary| diary.disconnects)).sum();
        drop(phones);

        // What the node has stored, read back by a process that has seen nothing of it.
        node.terminate();
        assert!(node.ended().await.success());
        node.start().await;
        let stored = check_histories(&node, profiles.path()).await;
        println!(
            "{KILLS} kills in {killed_for:.1?}, {total} messages confirmed and delivered ({stored} read back), \
             {disconnects} connections lost, {absences} absences; {:.1?} in all",
            began.elapsed(),
        );
        assert!(total > 1_000, "too little happened to say anything: {total} messages");
    });
}

/// Kills the node again and again, and starts it again.
async fn kill_often(node: &mut Node, rng: &mut Rng, confirmed: &AtomicU64) {
    for kill in 1..=KILLS {
        let before = confirmed.load(Ordering::Relaxed);
        let alive = until("a message is confirmed", PATIENCE, async || {
            (confirmed.load(Ordering::Relaxed) > before).then_some(())
        });
        alive.await;
        sleep(Duration::from_millis(rng.below(SERVES_MS_MAX))).await;
        node.kill();
        if kill % KILLS_DURING_START == 0 {
            let ready = node.spawn();
            // Ready or not.
            let _ = timeout(Duration::from_millis(rng.below(300)), ready).await;
            node.kill();
        }
        node.start().await;
    }
}

/// Waits until everything is confirmed and has come.
async fn settle(phones: &[Phone]) {
    let came = |phone: &Phone| phone.read(|diary| diary.came.len());
    let limit = Duration::from_secs(60);
    let settled = async || {
        for phone in phones {
            phone.read(|diary| assert!(diary.faults.is_empty(), "{:?}", diary.faults));
        }
        let all = phones.chunks(2).all(|pair| {
            pair.iter().all(Phone::has_sent_all)
                && came(&pair[0]) >= pair[1].read(|diary| diary.sent.len())
                && came(&pair[1]) >= pair[0].read(|diary| diary.sent.len())
        });
        all.then_some(())
    };
    if timeout(limit, until("everything is confirmed and delivered", limit * 2, settled)).await.is_err() {
        for pair in phones.chunks(2) {
            describe(&pair[0], &pair[1]);
            describe(&pair[1], &pair[0]);
        }
        panic!("not everything was confirmed and delivered within {limit:?}");
    }
    // What came too often would still be on its way.
    sleep(Duration::from_millis(300)).await;
}

/// What is missing of what `from` has sent to `to`, for whoever reads the failure.
fn describe(from: &Phone, to: &Phone) {
    let sent: BTreeSet<_> = from.read(|diary| diary.sent.values().map(|sent| sent.seq.get()).collect());
    let came: BTreeSet<_> = to.read(|diary| diary.came.iter().map(|(_, seq, ..)| *seq).collect());
    let missing: Vec<_> = sent.difference(&came).take(20).collect();
    let (open, disconnects) = from.read(|diary| (diary.open, diary.disconnects));
    eprintln!(
        "{}: {open} without an outcome, {} confirmed up to {:?}, {disconnects} connections lost; {} came up to {:?}, \
         missing {missing:?}",
        from.user,
        sent.len(),
        sent.last(),
        came.len(),
        came.last(),
    );
}

/// Both diaries of a chat against each other. Returns how many messages it has.
fn check_chat(a: &Phone, b: &Phone) -> u64 {
    let chat = ChatId::direct(a.user, b.user);
    let mut places = BTreeMap::new();
    for phone in [a, b] {
        phone.read(|diary| {
            assert!(diary.faults.is_empty(), "{:?}", diary.faults);
            let mut last = 0;
            for (client_seq, sent) in &diary.sent {
                assert_eq!(sent.chat, chat);
                assert!(sent.seq.get() > last, "{client_seq} overtook: {} after {last}", sent.seq);
                last = sent.seq.get();
                let before = places.insert(last, (phone.user, diary.queued[client_seq].clone()));
                assert!(before.is_none(), "two messages at {last} of {chat}: {before:?}");
            }
        });
    }
    let count = places.len() as u64;
    let dense = places.keys().copied().eq(1..=count);
    assert!(dense, "{chat} is not dense: {:?}", (1..=count).find(|seq| !places.contains_key(seq)));
    let bodies: BTreeSet<_> = places.values().map(|(_, body)| body).collect();
    assert_eq!(bodies.len() as u64, count, "a message is in {chat} twice");
    for (me, peer) in [(a, b), (b, a)] {
        let expected: Vec<_> = places
            .iter()
            .filter(|(_, (sender, _))| *sender == peer.user)
            .map(|(seq, (sender, body))| (chat, *seq, *sender, body.clone()))
            .collect();
        me.read(|diary| {
            let differs = diary.came.iter().zip(&expected).find(|(came, expected)| came != expected);
            assert!(differs.is_none(), "in place of the second came the first: {differs:?}");
            assert_eq!(diary.came.len(), expected.len(), "more or less came than was sent");
        });
    }
    count
}

/// The histories, as those with a profile on disk see them. Returns how many messages were read.
async fn check_histories(node: &Node, profiles: &std::path::Path) -> u64 {
    let mut read = 0;
    for (chat, sides) in CHATS.iter().enumerate() {
        let Some(side) = sides.iter().position(|(_, leaves)| leaves.is_some()) else {
            continue;
        };
        let profile = profiles.join(format!("phone-{chat}-{side}"));
        let (client, _events) = Client::connect(options(node, Transport::WebSocket, Some(profile))).await.unwrap();
        let me = soon("login", client.login()).await.unwrap().user;
        let peer = client.find_user(&format!("phone-{chat}-{}", 1 - side)).await.unwrap();
        let id = ChatId::direct(me, peer);
        let (mut before, mut bodies) = (MessageSeq::MAX, BTreeSet::new());
        loop {
            let page = client.history(id, before, 100).await.unwrap();
            for message in page.messages {
                assert!(before == MessageSeq::MAX || message.seq.next() == before, "{} below {before}", message.seq);
                before = message.seq;
                assert!(bodies.insert(message.body.clone()), "stored twice: {message:?}");
            }
            if page.complete {
                break;
            }
        }
        assert_eq!(before, MessageSeq::new(1));
        read += bodies.len() as u64;
        client.close().await;
    }
    read
}
