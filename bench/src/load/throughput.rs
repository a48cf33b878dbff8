//! Throughput: many pairs, each sender with a window of unanswered sends; the next goes out when an answer comes in.
//!
//! Ends by letting everything arrive: a run in which a message went missing is no result.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    Device, Service, Target, Transport, connect_pair,
    dialect::{Event, Times},
    latency::Acks,
    traffic::{Traffic, Wire},
};
use crate::{
    clock::{SECOND_NS, now_ns, sleep_until},
    node::{Process, Usage},
    report::{Latency, Percentiles, number},
    socket::Loopback,
};

/// Nanoseconds for everything on its way to arrive after the end.
const SETTLE_NS_MAX: u64 = 20 * SECOND_NS;

/// How much, how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThroughputPlan {
    /// Pairs of devices.
    pub(crate) pairs: usize,
    /// Unanswered sends of each sender.
    pub(crate) outstanding: u64,
    /// Whether both of a pair send, each with its window, or only the first.
    pub(crate) both_ways: bool,
    /// Threads of the load.
    pub(crate) threads: usize,
    /// Seconds before the count begins.
    pub(crate) warmup_seconds: u64,
    /// Seconds of the count.
    pub(crate) seconds: u64,
    /// Bytes of a body.
    pub(crate) body_bytes: usize,
}

/// What one run came to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ThroughputResult {
    /// Messages that reached the partner, a second.
    pub(crate) delivered_per_second: f64,
    /// Under this load, from the send until the partner has the message.
    pub(crate) deliver: Percentiles,
    /// Microseconds of the load's own CPU for each delivered message.
    pub(crate) load_cpu_us: f64,
    /// Bytes for each delivered message.
    pub(crate) wire: Wire,
    /// Messages that came more than once; allowed, and wasteful.
    pub(crate) repeated: u64,
    /// What the server spent.
    pub(crate) server: Usage,
}

/// What the threads of a run share.
#[derive(Default)]
struct Shared {
    delivered: AtomicU64,
    repeated: AtomicU64,
    traffic: Mutex<[Traffic; 2]>,
    total: AtomicU64,
    is_counting: AtomicBool,
    latency: Mutex<Option<Latency>>,
}

/// What the two of a pair know of each other, to end without leaving anything behind.
#[derive(Default)]
struct Pair {
    sent: [AtomicU64; 2],
    settled: [AtomicBool; 2],
}

/// Runs the plan against `target`, whose process is `server`.
///
/// # Errors
/// A connection broke, the server refused, or messages went missing.
pub(crate) fn measure(
    target: &Target,
    server: &Process,
    transport: Transport,
    service: Service,
    plan: ThroughputPlan,
) -> anyhow::Result<ThroughputResult> {
    let shared = Arc::new(Shared::default());
    let (stop, stopped) = watch::channel(false);
    let (ready, is_ready) = mpsc::channel();
    let threads = plan.threads.clamp(1, plan.pairs);
    std::thread::scope(|scope| {
        let workers = (0..threads)
            .map(|n| {
                let pairs = plan.pairs / threads + usize::from(n < plan.pairs % threads);
                let (shared, stopped, ready) = (Arc::clone(&shared), stopped.clone(), ready.clone());
                scope.spawn(move || run_thread(target, transport, service, plan, pairs, &shared, stopped, &ready))
            })
            .collect::<Vec<_>>();
        drop(ready);
        let measured = (0..threads)
            .try_for_each(|_| is_ready.recv().context("a thread of the load gave up"))
            .and_then(|()| count(&shared, server, plan));
        stop.send_replace(true);
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a thread of the load panicked"))??;
        }
        let mut result = measured?;
        result.repeated = shared.repeated.load(Relaxed);
        let total = number(shared.total.load(Relaxed)).max(1.0);
        let [sender, recipient] = *shared.traffic.lock().expect("no thread panicked");
        result.wire = Wire { sender: sender.per(total), recipient: recipient.per(total), ..result.wire };
        let latency = shared.latency.lock().expect("no thread panicked").take();
        result.deliver = latency.context("no latencies")?.percentiles();
        Ok(result)
    })
}

fn count(shared: &Shared, server: &Process, plan: ThroughputPlan) -> anyhow::Result<ThroughputResult> {
    sleep_until(now_ns() + plan.warmup_seconds * SECOND_NS);
    shared.is_counting.store(true, Relaxed);
    let usage = server.usage()?;
    let load_cpu = Process::own_cpu_us()?;
    let loopback = Loopback::now()?;
    let (start, before) = (now_ns(), shared.delivered.load(Relaxed));
    sleep_until(start + plan.seconds * SECOND_NS);
    let (end, after) = (now_ns(), shared.delivered.load(Relaxed));
    let loopback_after = Loopback::now()?;
    shared.is_counting.store(false, Relaxed);
    let load_cpu = Process::own_cpu_us()? - load_cpu;
    let delivered = number(after - before);
    ensure!(delivered > 0.0, "nothing was delivered");
    let mut wire = Wire::default();
    wire.set_loopback(loopback, loopback_after, delivered);
    Ok(ThroughputResult {
        delivered_per_second: delivered * 1e9 / number(end - start),
        deliver: Percentiles::default(),
        load_cpu_us: load_cpu / delivered,
        wire,
        repeated: 0,
        server: server.usage()?.since(&usage).per(delivered),
    })
}

#[expect(clippy::too_many_arguments, reason = "the one place where the parts of a run meet")]
fn run_thread(
    target: &Target,
    transport: Transport,
    service: Service,
    plan: ThroughputPlan,
    pairs: usize,
    shared: &Arc<Shared>,
    stopped: watch::Receiver<bool>,
    ready: &mpsc::Sender<()>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut tasks = Vec::new();
        let mut devices = Vec::new();
        for _ in 0..pairs {
            devices.push(Box::pin(connect_pair(target, transport, service)).await?);
        }
        for [a, b] in devices {
            let pair = Arc::new(Pair::default());
            let windows = [plan.outstanding, if plan.both_ways { plan.outstanding } else { 0 }];
            for (side, device) in [a, b].into_iter().enumerate() {
                let (shared, pair, stopped) = (Arc::clone(shared), Arc::clone(&pair), stopped.clone());
                tasks.push(tokio::spawn(run_device(
                    device,
                    side,
                    windows[side],
                    plan.body_bytes,
                    shared,
                    pair,
                    stopped,
                )));
            }
        }
        // The receiver is gone only when the run has failed already.
        let _ = ready.send(());
        for task in tasks {
            task.await??;
        }
        Ok(())
    })
}

async fn run_device(
    mut device: Device,
    side: usize,
    window: u64,
    body_bytes: usize,
    shared: Arc<Shared>,
    pair: Arc<Pair>,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let before = device.link.traffic();
    let mut latency = Latency::new();
    let mut acks = Acks::default();
    let mut frames = Vec::new();
    let (mut next_seq, mut outstanding, mut received) = (1, 0, 0);
    let mut deadline_ns = None;
    loop {
        let is_stopped = *stopped.borrow();
        while !is_stopped && outstanding < window {
            let now = now_ns();
            let times = Times { due_ns: now, written_ns: now };
            device.link.feed(device.dialect.message(next_seq, times, body_bytes)).await?;
            next_seq += 1;
            outstanding += 1;
        }
        pair.sent[side].store(next_seq - 1, Relaxed);
        device.link.flush().await?;
        if is_stopped {
            pair.settled[side].store(outstanding == 0, Relaxed);
            let expected = pair.sent[1 - side].load(Relaxed);
            if outstanding == 0 && pair.settled[1 - side].load(Relaxed) && received >= expected {
                break;
            }
            let deadline_ns = *deadline_ns.get_or_insert_with(|| now_ns() + SETTLE_NS_MAX);
            if now_ns() > deadline_ns {
                bail!("{outstanding} sends without an answer, {received} of {expected} messages delivered");
            }
        }
        tokio::select! {
            received = device.link.receive(&mut frames) => received?,
            changed = stopped.changed(), if !is_stopped => changed?,
            () = tokio::time::sleep(Duration::from_millis(5)), if is_stopped => {}
        }
        let now = now_ns();
        let is_counting = shared.is_counting.load(Relaxed);
        let mut fresh = 0;
        for frame in frames.drain(..) {
            match device.dialect.read(frame)? {
                Event::Sent { .. } => outstanding -= 1,
                Event::Delivered { chat, seq, times } => {
                    if acks.note(chat, seq) {
                        fresh += 1;
                        if is_counting {
                            latency.record(now - times.written_ns);
                        }
                    } else {
                        shared.repeated.fetch_add(1, Relaxed);
                    }
                }
                Event::Other => {}
            }
        }
        received += fresh;
        shared.delivered.fetch_add(fresh, Relaxed);
        acks.feed(&mut device.link, &device.dialect).await?;
    }
    {
        let traffic = &mut shared.traffic.lock().expect("no thread panicked")[side];
        *traffic = traffic.plus(&device.link.traffic().since(&before));
    }
    shared.total.fetch_add(received, Relaxed);
    shared.latency.lock().expect("no thread panicked").get_or_insert_with(Latency::new).merge(&latency);
    device.link.flush().await?;
    // The last acknowledgement should reach the server before the connection ends.
    tokio::time::sleep(Duration::from_millis(20)).await;
    device.link.close().await;
    Ok(())
}
