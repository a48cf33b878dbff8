//! Idempotency: which client seqs of a device are stored in a chat, and where.
//!
//! A window is kept as it is written: per send three varints, against the send before it, oldest first.
//!
//! | `[client seq: zigzag delta][seq: delta][time: zigzag delta]...` | about 5 bytes a send, where a struct takes 24 |
//!
//! The first send is against `base`: the send that left the window last, or zeroes.
//!
//! Invariants
//! - The window holds the newest [`DEDUP_WINDOW`] sends of the device in the chat. A client has at most that many sends
//!   unanswered, so a retry of any of them is found, and gets the same seq.
//! - Below the window's lowest client seq nothing is known: such a send is refused, never stored twice.
//! - Equal windows have equal bytes: a varint has no more bytes than it needs.

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, MessageSeq, limits::DEDUP_WINDOW};

use super::{
    codec::Put as _,
    rows::{Layer, Row, RowMap},
};
use crate::error::{Error, Result};

/// How many bytes the window grows by: it ends near 320, and there is one for each device and chat.
const GROW_BYTES: usize = 32;

/// A device's recent sends to a chat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// The window, oldest first.
    window: Vec<u8>,
    /// Sends in it, at most [`DEDUP_WINDOW`].
    count: usize,
    /// What the window's first send is written against.
    base: Accepted,
    /// The window's last send, or `base`.
    last: Accepted,
    /// The highest client seq that ever left the window.
    floor: ClientSeq,
    /// The highest client seq that was ever accepted; follows from the others.
    highest: ClientSeq,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Accepted {
    client_seq: ClientSeq,
    seq: MessageSeq,
    time_ms: u64,
}

/// What is known of a client seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Not stored.
    New,
    /// Stored, here.
    Stored { seq: MessageSeq, time_ms: u64 },
    /// Too old to say.
    Forgotten,
}

impl Sender {
    pub(crate) fn known(&self, client_seq: ClientSeq) -> Known {
        // A client seq above all others is the common case. (Above the last accepted is not enough: a send that was
        // overtaken is accepted after higher ones.)
        if client_seq > self.highest {
            return Known::New;
        }
        let found = self.sends().filter(|accepted| accepted.client_seq == client_seq).last();
        match found {
            Some(Accepted { seq, time_ms, .. }) => Known::Stored { seq, time_ms },
            None if client_seq <= self.floor => Known::Forgotten,
            None => Known::New,
        }
    }

    pub(crate) fn remember(&mut self, client_seq: ClientSeq, seq: MessageSeq, time_ms: u64) {
        if self.count == DEDUP_WINDOW {
            let mut rest = &self.window[..];
            self.base = take_send(&mut rest, self.base).expect("the window is what was put there");
            self.floor = self.floor.max(self.base.client_seq);
            // A few hundred bytes move down: cheaper than a start that must be kept, and compacted now and then.
            let taken = self.window.len() - rest.len();
            self.window.drain(..taken);
            self.count -= 1;
        }
        let accepted = Accepted { client_seq, seq, time_ms };
        assert!(seq >= self.last.seq, "a chat's seqs are given in order: {seq} after {}", self.last.seq);
        let mut send = [0; SEND_BYTES_MAX];
        let bytes = put_send(&mut send, self.last, accepted);
        if self.window.capacity() - self.window.len() < bytes {
            self.window.reserve_exact(GROW_BYTES.max(bytes));
        }
        self.window.extend_from_slice(&send[..bytes]);
        self.count += 1;
        self.last = accepted;
        self.highest = self.highest.max(client_seq);
    }

    /// Bytes it takes in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.window.capacity()
    }

    /// The window, oldest first.
    fn sends(&self) -> impl Iterator<Item = Accepted> {
        let (mut rest, mut last) = (&self.window[..], self.base);
        core::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            last = take_send(&mut rest, last).expect("the window is what was put there");
            Some(last)
        })
    }
}

/// Three varints of 64 bits.
const SEND_BYTES_MAX: usize = 30;

fn put_send(out: &mut [u8; SEND_BYTES_MAX], before: Accepted, send: Accepted) -> usize {
    let client_seq = send.client_seq.get().wrapping_sub(before.client_seq.get());
    let seq = send.seq.get() - before.seq.get();
    let time_ms = send.time_ms.wrapping_sub(before.time_ms);
    let mut at = 0;
    for value in [zigzag(client_seq), seq, zigzag(time_ms)] {
        at += put_varint(&mut out[at..], value);
    }
    at
}

/// The next send; `None` where the bytes are none.
fn take_send(bytes: &mut &[u8], before: Accepted) -> Option<Accepted> {
    let client_seq = before.client_seq.get().wrapping_add(unzigzag(take_varint(bytes)?));
    let seq = before.seq.get().checked_add(take_varint(bytes)?)?;
    let time_ms = before.time_ms.wrapping_add(unzigzag(take_varint(bytes)?));
    Some(Accepted { client_seq: ClientSeq::new(client_seq), seq: MessageSeq::new(seq), time_ms })
}

/// A difference modulo 2^64 as a number that is small where the difference is, up or down.
const fn zigzag(difference: u64) -> u64 {
    let sign = if difference >> 63 == 1 { u64::MAX } else { 0 };
    (difference << 1) ^ sign
}

const fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

/// Seven bits a byte, lowest first; the top bit says that more follow.
fn put_varint(out: &mut [u8], mut value: u64) -> usize {
    let mut at = 0;
    while value >= 0x80 {
        out[at] = 0x80 | (value & 0x7f) as u8;
        value >>= 7;
        at += 1;
    }
    out[at] = (value & 0x7f) as u8;
    at + 1
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            // A last byte of zero would be a second form of the same number.
            return (*byte != 0 || shift == 0).then_some(value);
        }
    }
    None
}

impl Row for Sender {
    const KIND: u8 = 0x41;
    type Key = (ChatId, DeviceAddress);

    fn map(layer: &Layer) -> &RowMap<Self> {
        &layer.senders
    }

    fn map_mut(layer: &mut Layer) -> &mut RowMap<Self> {
        &mut layer.senders
    }

    fn variable_bytes(&self) -> usize {
        self.memory_bytes() - size_of::<Self>()
    }

    fn encode_key((chat, device): &Self::Key, out: &mut Vec<u8>) {
        out.put_chat(*chat);
        out.put_user(device.user);
        out.extend_from_slice(&device.device.get().to_be_bytes());
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut varint = [0; 10];
        for value in [self.floor.get(), self.base.client_seq.get(), self.base.seq.get(), self.base.time_ms] {
            let bytes = put_varint(&mut varint, value);
            out.extend_from_slice(&varint[..bytes]);
        }
        out.extend_from_slice(&self.window);
    }

    fn decode(value: Bytes) -> Result<Self> {
        let malformed = |reason| Error::Malformed { what: "sender row", reason };
        let mut rest = &value[..];
        let mut head = || take_varint(&mut rest).ok_or_else(|| malformed("its head is no varints"));
        let floor = ClientSeq::new(head()?);
        let base = Accepted { client_seq: ClientSeq::new(head()?), seq: MessageSeq::new(head()?), time_ms: head()? };
        if base.client_seq > floor {
            return Err(malformed("what left the window is above its floor"));
        }
        let window = rest.to_vec();
        let (mut count, mut last, mut highest) = (0, base, floor);
        while !rest.is_empty() {
            if count == DEDUP_WINDOW {
                return Err(malformed("the window is too long"));
            }
            last = take_send(&mut rest, last).ok_or_else(|| malformed("a send is no varints"))?;
            highest = highest.max(last.client_seq);
            count += 1;
        }
        Ok(Self { window, count, base, last, floor, highest })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn encoded(sender: &Sender) -> Bytes {
        let mut row = Vec::new();
        sender.encode(&mut row);
        row.into()
    }

    #[test]
    fn a_retry_of_any_unanswered_send_finds_its_seq() {
        let mut sender = Sender::default();
        for n in 1..=200u64 {
            assert_eq!(sender.known(ClientSeq::new(n)), Known::New);
            sender.remember(ClientSeq::new(n), MessageSeq::new(n * 2), n);
        }
        for n in 137..=200u64 {
            assert_eq!(sender.known(ClientSeq::new(n)), Known::Stored { seq: MessageSeq::new(n * 2), time_ms: n });
        }
        assert_eq!(sender.known(ClientSeq::new(136)), Known::Forgotten);
    }

    #[test]
    fn a_send_that_was_overtaken_is_still_new() {
        let mut sender = Sender::default();
        sender.remember(ClientSeq::new(6), MessageSeq::new(1), 0);
        assert_eq!(sender.known(ClientSeq::new(5)), Known::New);
    }

    #[test]
    fn a_retry_is_found_though_an_overtaken_send_was_stored_after_it() {
        let mut sender = Sender::default();
        sender.remember(ClientSeq::new(6), MessageSeq::new(1), 0);
        sender.remember(ClientSeq::new(5), MessageSeq::new(2), 0);
        let stored = |seq| Known::Stored { seq: MessageSeq::new(seq), time_ms: 0 };
        for sender in [sender.clone(), Sender::decode(encoded(&sender)).unwrap()] {
            assert_eq!(sender.known(ClientSeq::new(6)), stored(1));
            assert_eq!(sender.known(ClientSeq::new(5)), stored(2));
            assert_eq!(sender.known(ClientSeq::new(7)), Known::New);
        }
    }

    #[test]
    fn a_full_window_of_a_conversation_takes_a_fifth_of_its_numbers() {
        let mut sender = Sender::default();
        for n in 1..=500u64 {
            sender.remember(ClientSeq::new(n * 3), MessageSeq::new(n * 2), 1_700_000_000_000 + n * 4_000);
        }
        assert!(encoded(&sender).len() <= 64 * 24 / 5, "{} bytes", encoded(&sender).len());
        assert!(sender.memory_bytes() <= 512, "{} bytes", sender.memory_bytes());
    }

    #[test]
    fn rows_that_are_none_are_malformed() {
        let longest = |sends: usize| [vec![0; 4], vec![2; 3 * sends]].concat();
        assert!(Sender::decode(longest(DEDUP_WINDOW).into()).is_ok());
        let max = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        for (row, why) in [
            (vec![], "nothing"),
            (vec![0, 0, 0], "it ends in its head"),
            (vec![0, 0, 0, 0, 2], "it ends in a send"),
            (vec![0, 0, 0, 0, 2, 0x80], "it ends in a varint"),
            (vec![0, 0, 0, 0, 2, 0x80, 0x00, 2], "a varint is longer than it needs to be"),
            ([&[0, 0, 0, 0, 2][..], &[0xff; 9], &[0x02, 2]].concat(), "a varint is more than 64 bits"),
            (vec![4, 5, 0, 0], "its base is above its floor"),
            ([&[0, 0][..], &max, &[0, 2, 1, 2]].concat(), "a seq overflows"),
            (longest(DEDUP_WINDOW + 1), "it is too long"),
        ] {
            assert!(Sender::decode(row.into()).is_err(), "{why}");
        }
    }

    /// The window as a list of structs, which it was before.
    #[derive(Default)]
    struct Model {
        recent: VecDeque<Accepted>,
        floor: ClientSeq,
    }

    impl Model {
        fn known(&self, client_seq: ClientSeq) -> Known {
            match self.recent.iter().rev().find(|accepted| accepted.client_seq == client_seq) {
                Some(found) => Known::Stored { seq: found.seq, time_ms: found.time_ms },
                None if client_seq <= self.floor => Known::Forgotten,
                None => Known::New,
            }
        }

        fn remember(&mut self, accepted: Accepted) {
            if self.recent.len() == DEDUP_WINDOW {
                let oldest = self.recent.pop_front().unwrap();
                self.floor = self.floor.max(oldest.client_seq);
            }
            self.recent.push_back(accepted);
        }
    }

    fn step() -> impl Strategy<Value = (i64, u64, i64)> {
        let time = prop_oneof![3 => 0i64..5_000, 1 => -100i64..0, 1 => any::<i64>()];
        (
            prop_oneof![4 => Just(1i64), 2 => 1i64..300, 2 => -80i64..1],
            prop_oneof![4 => 1u64..3, 1 => 1u64..1 << 40],
            time,
        )
    }

    proptest! {
        #[test]
        fn a_window_answers_like_a_list_of_sends(steps in proptest::collection::vec(step(), 0..300)) {
            let (mut sender, mut model) = (Sender::default(), Model::default());
            let (mut highest, mut seq, mut time_ms) = (1000u64, 0u64, 1_700_000_000_000u64);
            for (by, on, later) in steps {
                let client_seq = ClientSeq::new(highest.saturating_add_signed(by));
                seq += on;
                time_ms = time_ms.wrapping_add_signed(later);
                let known = model.known(client_seq);
                prop_assert_eq!(sender.known(client_seq), known);
                if known == Known::New {
                    highest = highest.max(client_seq.get());
                    sender.remember(client_seq, MessageSeq::new(seq), time_ms);
                    model.remember(Accepted { client_seq, seq: MessageSeq::new(seq), time_ms });
                }
                let row = encoded(&sender);
                let decoded = Sender::decode(row.clone()).unwrap();
                prop_assert_eq!(&decoded, &sender);
                prop_assert_eq!(encoded(&decoded), row);
                for probe in [highest, highest - 63, highest - 64, highest + 1] {
                    prop_assert_eq!(decoded.known(ClientSeq::new(probe)), model.known(ClientSeq::new(probe)));
                }
                if highest.is_multiple_of(3) {
                    sender = decoded;
                }
            }
        }

        #[test]
        fn any_bytes_are_a_window_or_malformed(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(sender) = Sender::decode(bytes.clone().into()) {
                prop_assert_eq!(&encoded(&sender)[..], &bytes[..], "there is one form of each");
                prop_assert!(sender.sends().count() == sender.count && sender.count <= DEDUP_WINDOW);
            }
        }
    }
}
