//! The chat workload: one stream of messages and inbox operations, the same for every engine and every process.
//!
//! Chat `r` (from 0, the most popular first) is the direct chat of two users of its own. A message picks its chat by
//! Zipf and its sender at random; every fourth also appends an inbox entry for the recipient's device, and an inbox
//! that holds eight entries is trimmed at once. Time moves on by 200 us to 1.8 ms a message.
//!
//! Invariants
//! - The stream follows from [`Shape`] alone; two workloads of one shape agree after the same number of messages,
//!   whether these were taken in batches of any size or skipped.
//! - Message seqs, client seqs and inbox positions are dense from 1 in their chat or device, so that an engine which
//!   numbers by itself comes to the same.
//! - A body follows from seed, chat and seq: whatever is read back can be checked without having been kept.

use columba_engine::env::Rng;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, DeviceId, MessageSeq, UserId};
use serde::{Deserialize, Serialize};

use crate::{load::BODY_BYTES, report::number};

/// Wall time of the first message, milliseconds since 1970.
const START_MS: u64 = 1_790_000_000_000;
const STEP_US_MIN: u64 = 200;
const STEP_US_MAX: u64 = 1_800;

/// What the stream follows from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// Chats that there are.
    pub(crate) chats: usize,
    /// Exponent of the popularity: chat `r` is picked in proportion to `1 / (r + 1)^zipf`.
    pub(crate) zipf: f64,
    /// One inbox entry for as many messages.
    pub(crate) inbox_every: u64,
    /// Entries at which an inbox is trimmed.
    pub(crate) inbox_trim: u32,
    /// Start of the random generator.
    pub(crate) seed: u64,
}

/// One operation.
pub(crate) enum Op {
    /// A message is stored.
    Message(Message),
    /// An inbox gets an entry.
    Append(Append),
    /// An inbox loses its oldest entries.
    Trim(Trim),
}

/// A message; [`super::rows`] gives its bytes.
pub(crate) struct Message {
    pub(crate) chat: ChatId,
    pub(crate) seq: MessageSeq,
    pub(crate) sender: DeviceAddress,
    /// The other user of the chat.
    pub(crate) to: UserId,
    pub(crate) client_seq: ClientSeq,
    pub(crate) time_ms: u64,
    pub(crate) body: [u8; BODY_BYTES],
}

/// An inbox entry: the device has not yet had the message `seq` of `chat`.
pub(crate) struct Append {
    pub(crate) device: DeviceAddress,
    /// Place in the inbox.
    pub(crate) position: u64,
    pub(crate) chat: ChatId,
    /// First and last message of the entry.
    pub(crate) seq: MessageSeq,
}

/// Entries `from..=through` of the inbox go; all before them have gone already.
pub(crate) struct Trim {
    pub(crate) device: DeviceAddress,
    pub(crate) from: u64,
    pub(crate) through: u64,
}

/// A chat's ids.
#[derive(Clone, Copy)]
pub(crate) struct Chat {
    pub(crate) id: ChatId,
    users: [UserId; 2],
}

/// What has happened in a chat so far. Index 0 or 1: the user.
#[derive(Clone, Copy, Default)]
struct Progress {
    messages: u32,
    sent: [u32; 2],
    inbox_appended: [u32; 2],
    inbox_held: [u32; 2],
}

/// What one message came to.
struct Step {
    rank: usize,
    sender: usize,
    appends: bool,
    trims: bool,
}

/// The stream, at some place.
pub(crate) struct Workload {
    shape: Shape,
    chats: Vec<Chat>,
    progress: Vec<Progress>,
    zipf: Zipf,
    rng: Rng,
    messages: u64,
    time_us: u64,
}

impl Workload {
    /// The stream at its start.
    pub(crate) fn new(shape: &Shape) -> Self {
        assert!(shape.chats > 0 && shape.inbox_every > 0 && shape.inbox_trim > 0, "{shape:?} is empty");
        Self {
            chats: (0..shape.chats).map(|rank| chat(shape.seed, rank)).collect(),
            progress: vec![Progress::default(); shape.chats],
            zipf: Zipf::new(shape.chats, shape.zipf),
            rng: Rng::from_seed(shape.seed),
            messages: 0,
            time_us: START_MS * 1_000,
            shape: shape.clone(),
        }
    }

    /// Moves on by `messages` without telling what they were.
    pub(crate) fn skip(&mut self, messages: u64) {
        for _ in 0..messages {
            self.step();
        }
    }

    /// The next `messages` and the inbox operations that ride along, in place of what `ops` held.
    pub(crate) fn next_batch(&mut self, messages: u64, ops: &mut Vec<Op>) {
        ops.clear();
        for _ in 0..messages {
            let step = self.step();
            self.push_ops(&step, ops);
        }
    }

    /// Messages so far.
    pub(crate) const fn messages(&self) -> u64 {
        self.messages
    }

    /// Chats by popularity.
    pub(crate) fn chats(&self) -> &[Chat] {
        &self.chats
    }

    /// Messages of a chat so far.
    pub(crate) fn messages_of(&self, rank: usize) -> u64 {
        self.progress[rank].messages.into()
    }

    /// The first eight bytes of a message's body.
    pub(crate) fn body_head(&self, rank: usize, seq: u64) -> [u8; 8] {
        SplitMix::of_body(self.shape.seed, rank, seq).next_u64().to_le_bytes()
    }

    /// A generator of picks by the workload's own popularity.
    pub(crate) fn popularity(&self) -> &Zipf {
        &self.zipf
    }

    fn step(&mut self) -> Step {
        self.messages += 1;
        self.time_us += STEP_US_MIN + self.rng.below(STEP_US_MAX - STEP_US_MIN + 1);
        let rank = self.zipf.pick(&mut self.rng);
        let sender = usize::from(self.rng.one_in(2));
        let appends = self.messages.is_multiple_of(self.shape.inbox_every);
        let progress = &mut self.progress[rank];
        progress.messages += 1;
        progress.sent[sender] += 1;
        let recipient = 1 - sender;
        let mut trims = false;
        if appends {
            progress.inbox_appended[recipient] += 1;
            progress.inbox_held[recipient] += 1;
            trims = progress.inbox_held[recipient] == self.shape.inbox_trim;
            if trims {
                progress.inbox_held[recipient] = 0;
            }
        }
        Step { rank, sender, appends, trims }
    }

    fn push_ops(&self, step: &Step, ops: &mut Vec<Op>) {
        let &Step { rank, sender, appends, trims } = step;
        let (chat, progress, recipient) = (self.chats[rank], self.progress[rank], 1 - sender);
        let seq = MessageSeq::new(progress.messages.into());
        let mut body = [0; BODY_BYTES];
        SplitMix::of_body(self.shape.seed, rank, seq.get()).fill(&mut body);
        ops.push(Op::Message(Message {
            chat: chat.id,
            seq,
            sender: device(chat.users[sender]),
            to: chat.users[recipient],
            client_seq: ClientSeq::new(progress.sent[sender].into()),
            time_ms: self.time_us / 1_000,
            body,
        }));
        let device = device(chat.users[recipient]);
        let position = u64::from(progress.inbox_appended[recipient]);
        if appends {
            ops.push(Op::Append(Append { device, position, chat: chat.id, seq }));
        }
        if trims {
            let from = position + 1 - u64::from(self.shape.inbox_trim);
            ops.push(Op::Trim(Trim { device, from, through: position }));
        }
    }
}

fn chat(seed: u64, rank: usize) -> Chat {
    let user = |side: u64| {
        let mut bytes = [0; 16];
        SplitMix(seed ^ (rank as u64 * 2 + side).wrapping_mul(0xD6E8_FEB8_6659_FD93)).fill(&mut bytes);
        UserId::from_bytes(bytes)
    };
    let users = [user(0), user(1)];
    Chat { id: ChatId::direct(users[0], users[1]), users }
}

fn device(user: UserId) -> DeviceAddress {
    DeviceAddress { user, device: DeviceId::FIRST }
}

/// Picks `0..n`, the lower the likelier, from a table of sums.
pub(crate) struct Zipf(Vec<f64>);

impl Zipf {
    fn new(n: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let sums = (1..=n).map(|rank| {
            sum += number(rank as u64).powf(-exponent);
            sum
        });
        Self(sums.collect())
    }

    /// One pick.
    pub(crate) fn pick(&self, rng: &mut Rng) -> usize {
        let total = self.0.last().copied().unwrap_or_default();
        let at = number(rng.next_u64() >> 11) / number(1 << 53) * total;
        self.0.partition_point(|sum| *sum <= at).min(self.0.len() - 1)
    }
}

/// Random-looking bytes at a nanosecond a word; not for choices, for bytes that nothing can compress.
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    fn of_body(seed: u64, rank: usize, seq: u64) -> Self {
        Self(seed ^ ((rank as u64) << 32 | seq).wrapping_mul(0x9FB2_1C65_1E98_DF25))
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Fills `out`.
    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape { chats: 50, zipf: 0.99, inbox_every: 4, inbox_trim: 8, seed: 7 }
    }

    #[test]
    fn batches_of_any_size_and_skips_come_to_the_same_stream() {
        let (mut whole, mut parts) = (Workload::new(&shape()), Workload::new(&shape()));
        let (mut ops, mut last) = (Vec::new(), Vec::new());
        whole.next_batch(1_000, &mut ops);
        parts.skip(700);
        parts.next_batch(299, &mut last);
        parts.next_batch(1, &mut last);
        let find = |ops: &[Op]| {
            ops.iter()
                .filter_map(|op| match op {
                    Op::Message(message) => Some((message.chat, message.seq, message.time_ms, message.body)),
                    Op::Append(_) | Op::Trim(_) => None,
                })
                .next_back()
        };
        assert_eq!(find(&ops), find(&last));
        assert!((0..50).all(|rank| whole.messages_of(rank) == parts.messages_of(rank)));
    }

    #[test]
    fn inboxes_are_dense_and_hold_fewer_entries_than_the_trim() {
        let mut workload = Workload::new(&shape());
        let mut ops = Vec::new();
        workload.next_batch(20_000, &mut ops);
        let mut inboxes = std::collections::BTreeMap::new();
        let (mut appends, mut trims) = (0, 0);
        for op in &ops {
            match op {
                Op::Message(_) => {}
                Op::Append(append) => {
                    let inbox = inboxes.entry(append.device.user).or_insert((0, 0));
                    assert_eq!(append.position, inbox.0 + 1);
                    inbox.0 += 1;
                    appends += 1;
                }
                Op::Trim(trim) => {
                    let inbox = inboxes.get_mut(&trim.device.user).expect("appended before");
                    assert_eq!((trim.from, trim.through, trim.through - inbox.1), (inbox.1 + 1, inbox.0, 8));
                    inbox.1 = trim.through;
                    trims += 1;
                }
            }
        }
        assert_eq!(appends, 5_000);
        assert!(trims > 500 && inboxes.values().all(|(appended, trimmed)| appended - trimmed < 8));
    }

    #[test]
    fn the_first_chat_is_picked_as_often_as_zipf_says() {
        let (zipf, mut rng) = (Zipf::new(1_000, 1.0), Rng::from_seed(1));
        let first = (0..100_000).filter(|_| zipf.pick(&mut rng) == 0).count();
        assert!((12_000..15_000).contains(&first), "{first}: the harmonic number of 1,000 is 7.49");
    }

    #[test]
    fn a_body_can_be_told_from_chat_and_seq() {
        let mut workload = Workload::new(&shape());
        let mut ops = Vec::new();
        workload.next_batch(1, &mut ops);
        let Some(Op::Message(message)) = ops.first() else { panic!("a message") };
        let rank = workload.chats().iter().position(|chat| chat.id == message.chat).expect("one of them");
        assert_eq!(workload.body_head(rank, 1), message.body[..8]);
    }
}
