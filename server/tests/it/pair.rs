//! Two people who chat undisturbed, one over WebSocket and one over QUIC, while something else happens to their node.

use core::time::Duration;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use columba_client::{Client, Event, Events, UserId, options::Transport};
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    node::{Node, until},
    phone::register,
};

/// Time between two messages of one of them.
const EVERY: Duration = Duration::from_millis(20);
/// The longest that a message may take: generous, since the machine has other work.
const BOUND: Duration = Duration::from_secs(10);

/// What one of them has noticed.
#[derive(Default)]
struct Ear {
    heard: AtomicU64,
    worst_us: AtomicU64,
    disconnects: AtomicU64,
}

/// The two.
pub(crate) struct Pair {
    ears: [Arc<Ear>; 2],
    tasks: Vec<JoinHandle<()>>,
    checks: u64,
}

impl Pair {
    /// They meet, and begin.
    pub(crate) async fn start(node: &Node) -> Self {
        let began = Instant::now();
        let (a, a_events, a_user) = register(node, Transport::WebSocket, "honest-a").await;
        let (b, b_events, b_user) = register(node, Transport::Quic, "honest-b").await;
        let ears = [Arc::new(Ear::default()), Arc::new(Ear::default())];
        let tasks = vec![
            tokio::spawn(talk(a, b_user, began)),
            tokio::spawn(talk(b, a_user, began)),
            tokio::spawn(listen(a_events, Arc::clone(&ears[0]), began)),
            tokio::spawn(listen(b_events, Arc::clone(&ears[1]), began)),
        ];
        let mut pair = Self { ears, tasks, checks: 0 };
        pair.check("the start").await;
        pair
    }

    /// Both hear something that was said after this was called, and were never cut off.
    pub(crate) async fn check(&mut self, after: &str) {
        self.checks += 1;
        for ear in &self.ears {
            // What was on its way already does not count.
            let before = ear.heard.load(Ordering::Relaxed) + 4;
            let heard = async || (ear.heard.load(Ordering::Relaxed) > before).then_some(());
            until(&format!("the honest pair hears from each other after {after}"), BOUND, heard).await;
            assert_eq!(ear.disconnects.load(Ordering::Relaxed), 0, "the honest pair was cut off by {after}");
        }
        assert!(self.worst() < BOUND, "{:?} for a message, after {after}", self.worst());
    }

    /// The longest that a message took.
    pub(crate) fn worst(&self) -> Duration {
        Duration::from_micros(self.ears.iter().map(|ear| ear.worst_us.load(Ordering::Relaxed)).max().unwrap_or(0))
    }

    /// Their sum, in words.
    pub(crate) async fn finish(mut self) -> String {
        self.check("everything").await;
        let heard: u64 = self.ears.iter().map(|ear| ear.heard.load(Ordering::Relaxed)).sum();
        format!(
            "the honest pair heard {heard} messages, the slowest in {:.1?}; looked {} times",
            self.worst(),
            self.checks
        )
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn talk(client: Client, to: UserId, began: Instant) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = u64::try_from(began.elapsed().as_micros()).unwrap();
        client.send(to, now.to_be_bytes().to_vec()).await.expect("an honest message is taken");
    }
}

async fn listen(mut events: Events, ear: Arc<Ear>, began: Instant) {
    let mut last = 0;
    while let Some(event) = events.next().await {
        match event {
            Event::Message(message) => {
                let sent = u64::from_be_bytes(message.body[..].try_into().unwrap());
                assert!(sent > last, "out of order");
                last = sent;
                let took = u64::try_from(began.elapsed().as_micros()).unwrap() - sent;
                ear.worst_us.fetch_max(took, Ordering::Relaxed);
                ear.heard.fetch_add(1, Ordering::Relaxed);
            }
            Event::Disconnected { .. } | Event::Gap { .. } => {
                ear.disconnects.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}
