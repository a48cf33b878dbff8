//! Latency: one pair at a fixed rate, open loop. A message carries the time at which it should have been sent.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Device, Link, Service, Target, Transport, connect_pair,
    dialect::{Dialect, Event, Times},
    traffic::{Traffic, Wire},
};
use crate::{
    clock::{SECOND_NS, Ticker, now_ns},
    report::{Latency, Percentiles, number},
    socket::Loopback,
};

/// How much, how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LatencyPlan {
    /// Messages a second.
    pub(crate) rate: u64,
    /// Seconds whose messages are not counted.
    pub(crate) warmup_seconds: u64,
    /// Seconds whose messages are.
    pub(crate) seconds: u64,
    /// Bytes of a body.
    pub(crate) body_bytes: usize,
}

/// What one run came to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct LatencyResult {
    /// From the intended time of the send until the sender has the answer.
    pub(crate) sent: Percentiles,
    /// From the intended time of the send until the partner has the message.
    pub(crate) deliver: Percentiles,
    /// From the write of the send until the partner has the message: without the load's own lateness.
    pub(crate) deliver_from_write: Percentiles,
    /// How late the load itself was, woken from an idle processor; part of the first two, and of the floors' too.
    pub(crate) lateness: Percentiles,
    /// Bytes for each message.
    pub(crate) wire: Wire,
}

/// When which message is due.
#[derive(Clone, Copy)]
pub(super) struct Schedule {
    pub(super) first_ns: u64,
    pub(super) interval_ns: u64,
    pub(super) count: u64,
    /// How many of them are not counted.
    pub(super) warmup: u64,
    pub(super) body_bytes: usize,
}

impl Schedule {
    pub(super) fn at(&self, number: u64) -> u64 {
        self.first_ns + (number - 1) * self.interval_ns
    }
}

/// Sends at the plan's rate from one device to another and measures both ways back.
///
/// # Errors
/// A connection broke, the server refused, or messages went missing.
pub(crate) fn measure(
    target: &Target,
    transport: Transport,
    service: Service,
    plan: LatencyPlan,
) -> anyhow::Result<LatencyResult> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let [sender, receiver] = Box::pin(connect_pair(target, transport, service)).await?;
        let interval_ns = SECOND_NS / plan.rate;
        let schedule = Schedule {
            first_ns: now_ns() + SECOND_NS / 10,
            interval_ns,
            count: plan.rate * (plan.warmup_seconds + plan.seconds),
            warmup: plan.rate * plan.warmup_seconds,
            body_bytes: plan.body_bytes,
        };
        let receiver = tokio::spawn(receive(receiver, schedule));
        let sender = tokio::spawn(send(sender, schedule));
        let limit = Duration::from_secs(plan.warmup_seconds + plan.seconds + 20);
        let both = async { tokio::try_join!(async { sender.await? }, async { receiver.await? }) };
        let ((sent, lateness, sender, before), (deliver, deliver_from_write, recipient)) =
            tokio::time::timeout(limit, both).await.context("messages or answers went missing")??;
        let count = number(schedule.count - schedule.warmup);
        let mut wire = Wire { sender: sender.per(count), recipient: recipient.per(count), ..Wire::default() };
        wire.set_loopback(before, Loopback::now()?, count);
        Ok(LatencyResult {
            sent: sent.percentiles(),
            deliver: deliver.percentiles(),
            deliver_from_write: deliver_from_write.percentiles(),
            lateness: lateness.percentiles(),
            wire,
        })
    })
}

async fn send(mut device: Device, schedule: Schedule) -> anyhow::Result<(Latency, Latency, Traffic, Loopback)> {
    let (mut before, mut loopback) = (device.link.traffic(), Loopback::now()?);
    let mut ticker = Ticker::new(schedule.first_ns, schedule.interval_ns)?;
    let (mut sent, mut lateness) = (Latency::new(), Latency::new());
    let (mut next_seq, mut answered) = (1, 0);
    let mut frames = Vec::new();
    while answered < schedule.count {
        tokio::select! {
            tick = ticker.tick(), if next_seq <= schedule.count => {
                let (_, due) = tick?;
                for _ in 0..due.min(schedule.count + 1 - next_seq) {
                    let times = Times { due_ns: schedule.at(next_seq), written_ns: now_ns() };
                    if next_seq == schedule.warmup + 1 {
                        (before, loopback) = (device.link.traffic(), Loopback::now()?);
                    }
                    if next_seq > schedule.warmup {
                        lateness.record(times.written_ns - times.due_ns);
                    }
                    device.link.feed(device.dialect.message(next_seq, times, schedule.body_bytes)).await?;
                    next_seq += 1;
                }
                device.link.flush().await?;
            }
            received = device.link.receive(&mut frames) => {
                received?;
                let now = now_ns();
                for frame in frames.drain(..) {
                    if let Event::Sent { client_seq } = device.dialect.read(frame)? {
                        ensure!((1..next_seq).contains(&client_seq), "an answer to message {client_seq}, never sent");
                        answered += 1;
                        if client_seq > schedule.warmup {
                            sent.record(now - schedule.at(client_seq));
                        }
                    }
                }
            }
        }
    }
    let traffic = device.link.traffic().since(&before);
    device.link.close().await;
    Ok((sent, lateness, traffic, loopback))
}

async fn receive(mut device: Device, schedule: Schedule) -> anyhow::Result<(Latency, Latency, Traffic)> {
    let mut before = device.link.traffic();
    let (mut deliver, mut from_write) = (Latency::new(), Latency::new());
    let mut received = 0;
    let mut frames = Vec::new();
    let mut acks = Acks::default();
    while received < schedule.count {
        device.link.receive(&mut frames).await?;
        let now = now_ns();
        for frame in frames.drain(..) {
            if let Event::Delivered { chat, seq, times } = device.dialect.read(frame)?
                && acks.note(chat, seq)
            {
                received += 1;
                if times.due_ns >= schedule.at(schedule.warmup + 1) {
                    deliver.record(now - times.due_ns);
                    from_write.record(now - times.written_ns);
                }
            }
        }
        acks.feed(&mut device.link, &device.dialect).await?;
        device.link.flush().await?;
        if received <= schedule.warmup {
            before = device.link.traffic();
        }
    }
    // The last acknowledgement should reach the server before the connection ends.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let traffic = device.link.traffic().since(&before);
    device.link.close().await;
    Ok((deliver, from_write, traffic))
}

/// Cumulative acknowledgement: what one read brought is acknowledged by one frame a chat.
#[derive(Default)]
pub(crate) struct Acks {
    chat: Bytes,
    seq: u64,
    is_due: bool,
}

impl Acks {
    /// Notes a message; false where it came before.
    pub(crate) fn note(&mut self, chat: Bytes, seq: u64) -> bool {
        let is_new = seq > self.seq;
        if is_new {
            self.seq = seq;
            self.chat = chat;
        }
        // A repeated message means that the server has not seen the acknowledgement: say it again.
        self.is_due = true;
        is_new
    }

    /// Feeds the acknowledgement that is due; the caller flushes.
    pub(crate) async fn feed(&mut self, link: &mut Link, dialect: &Dialect) -> anyhow::Result<()> {
        if std::mem::take(&mut self.is_due) {
            link.feed(dialect.ack(&self.chat, self.seq)).await?;
        }
        Ok(())
    }
}
