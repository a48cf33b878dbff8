//! Idempotency: which client seqs of a device are stored in a chat, and where.
//!
//! In memory a window is its first send, and per further send three varints, against the send before it:
//!
//! | `[client seq: zigzag delta][seq: delta][time: delta]...` | about 5 bytes a send, where a struct takes 24 |
//!
//! In files it is three columns of bits ([`super::bits`]), half of that. It is a part of its chat's row.
//!
//! Invariants
//! - The window holds the newest [`DEDUP_WINDOW`] sends of the device in the chat, and at least one. A client has at
//!   most that many sends unanswered, so a retry of any of them is found, and gets the same seq and time.
//! - Below the window's lowest client seq nothing is known: such a send is refused, never stored twice.
//! - Times in a window do not step back: those of the chat do not.
//! - A chat has at most [`LONG_WINDOWS_MAX`] windows of more than one send, and [`SENDERS_MAX`] windows, so its row has
//!   a bound: where there would be one more, that of the device that has not sent for longest is cut, or dropped.
//! - Equal windows are equal bytes in files, whatever they were before.

use core::fmt;

use columba_wire::{
    ClientSeq, DeviceId, MessageSeq,
    limits::{DEDUP_WINDOW, GROUP_MEMBERS_MAX},
};

use super::{
    bits::{BitReader, BitWriter},
    codec::{Put as _, Take, VARINT_BYTES_MAX, put_varint, take_varint, unzigzag, zigzag},
};
use crate::error::Result;

/// How many bytes the window grows by, and how many are free at its begin before it is moved there: it ends near 320,
/// and there is one for each device and chat.
const GROW_BYTES: usize = 32;
/// Windows of a chat that hold more than the last send. More devices than that send in few groups, and one that did
/// nothing while so many others wrote has no more than one send unanswered, or is told `CLIENT_SEQ_TOO_OLD`.
pub(crate) const LONG_WINDOWS_MAX: usize = 256;
/// Windows of a chat: all devices of a group's members. Of one that is dropped a retry would be stored again; as many
/// others have sent since.
pub(crate) const SENDERS_MAX: usize = 8 * GROUP_MEMBERS_MAX;
/// Member, device, count, floor, client seq, seq, age.
const HEAD_BYTES_MAX: usize = 5 + 4 + 1 + 3 * VARINT_BYTES_MAX + VARINT_BYTES_MAX;
/// Bytes of all windows of a chat in files, at most.
pub(crate) const WINDOWS_BYTES_MAX: usize =
    SENDERS_MAX * (HEAD_BYTES_MAX + 3) + LONG_WINDOWS_MAX * 3 * DEDUP_WINDOW * 8;
/// Three varints of 64 bits.
const SEND_BYTES_MAX: usize = 3 * VARINT_BYTES_MAX;

/// A device of a chat's members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SenderId {
    /// Which member's: its place in a 1:1 chat, its number in a group.
    pub(crate) member: u32,
    /// Which device of the member.
    pub(crate) device: DeviceId,
}

/// A device's recent sends to a chat.
#[derive(Clone)]
pub(crate) struct Sender {
    /// Whose they are.
    pub(crate) id: SenderId,
    /// Sends in the window, at most [`DEDUP_WINDOW`].
    count: u8,
    /// Where the sends behind the first begin in `window`.
    start: u16,
    /// The sends behind the first, oldest first.
    window: Vec<u8>,
    first: Accepted,
    last: Accepted,
    /// The highest client seq that ever left the window.
    floor: ClientSeq,
    /// The highest client seq that was ever accepted; follows from the others.
    highest: ClientSeq,
}

/// A send that was stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) client_seq: ClientSeq,
    pub(crate) seq: MessageSeq,
    pub(crate) time_ms: u64,
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

const _: () = assert!(DEDUP_WINDOW <= u8::MAX as usize && DEDUP_WINDOW * SEND_BYTES_MAX * 2 < u16::MAX as usize);

impl Sender {
    /// The window of a device's first send.
    pub(crate) fn new(id: SenderId, accepted: Accepted) -> Self {
        Self {
            id,
            count: 1,
            start: 0,
            window: Vec::new(),
            first: accepted,
            last: accepted,
            floor: ClientSeq::default(),
            highest: accepted.client_seq,
        }
    }

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

    pub(crate) fn remember(&mut self, accepted: Accepted) {
        let Accepted { client_seq, seq, time_ms } = self.last;
        assert!(accepted.seq >= seq, "a chat's seqs are given in order: {} after {seq}", accepted.seq);
        assert!(accepted.time_ms >= time_ms, "a chat's times do not step back: {} after {time_ms}", accepted.time_ms);
        debug_assert!(client_seq <= self.highest, "{client_seq} is above {}", self.highest);
        if usize::from(self.count) == DEDUP_WINDOW {
            self.floor = self.floor.max(self.first.client_seq);
            let mut rest = &self.window[self.start.into()..];
            self.first = take_send(&mut rest, self.first).expect("the window is what was put there");
            self.start = u16::try_from(self.window.len() - rest.len()).expect("windows are below 64 KiB");
            self.count -= 1;
        }
        let mut send = [0; SEND_BYTES_MAX];
        let bytes = put_send(&mut send, self.last, accepted);
        if self.window.capacity() - self.window.len() < bytes {
            if usize::from(self.start) >= GROW_BYTES.max(bytes) {
                self.window.drain(..usize::from(self.start));
                self.start = 0;
            } else {
                self.window.reserve_exact(GROW_BYTES.max(bytes));
            }
        }
        self.window.extend_from_slice(&send[..bytes]);
        self.count += 1;
        self.last = accepted;
        self.highest = self.highest.max(accepted.client_seq);
    }

    /// Whether it knows more than the last send.
    pub(crate) const fn is_long(&self) -> bool {
        self.count > 1
    }

    /// Seq of the last send.
    pub(crate) const fn last_seq(&self) -> MessageSeq {
        self.last.seq
    }

    /// Forgets all but the last send.
    pub(crate) fn cut(&mut self) {
        let dropped = self.sends().take(usize::from(self.count) - 1).map(|send| send.client_seq).max();
        *self = Self { floor: self.floor.max(dropped.unwrap_or_default()), ..Self::new(self.id, self.last) };
        self.highest = self.highest.max(self.floor);
    }

    /// Bytes it has on the heap.
    pub(crate) const fn heap_bytes(&self) -> usize {
        self.window.capacity()
    }

    /// The window, oldest first.
    fn sends(&self) -> impl Iterator<Item = Accepted> {
        let (mut rest, mut last) = (&self.window[self.start.into()..], self.first);
        core::iter::once(self.first).chain(core::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            last = take_send(&mut rest, last).expect("the window is what was put there");
            Some(last)
        }))
    }

    /// Appends the sender as in files, in a chat whose newest message has this time.
    pub(crate) fn encode(&self, newest_ms: u64, out: &mut Vec<u8>) {
        let Self { id, first, floor, .. } = self;
        out.put_varint(id.member.into());
        out.put_varint(id.device.get().into());
        out.put_u8(self.count);
        out.put_varint(floor.get());
        out.put_varint(zigzag(first.client_seq.get().wrapping_sub(floor.get())));
        out.put_varint(first.seq.get());
        out.put_varint(newest_ms - first.time_ms);
        let mut columns = [[0; DEDUP_WINDOW]; 3];
        let mut before = *first;
        for (n, send) in self.sends().skip(1).enumerate() {
            columns[0][n] = zigzag(send.client_seq.get().wrapping_sub(before.client_seq.get()).wrapping_sub(1));
            // A seq grows by one at least, but where a planted bug gives it twice.
            columns[1][n] = (send.seq.get() - before.seq.get()).wrapping_sub(1);
            columns[2][n] = send.time_ms - before.time_ms;
            before = send;
        }
        let mut bits = BitWriter::new(out);
        columns.iter().for_each(|column| bits.put_column(&column[..usize::from(self.count) - 1]));
        bits.finish();
    }

    /// Takes a sender off a row of a chat whose newest message has this seq and time.
    pub(crate) fn take(take: &mut Take, newest: MessageSeq, newest_ms: u64) -> Result<Self> {
        let (member, device) = (take.take_varint()?, take.take_varint()?);
        let device = u32::try_from(device).ok().and_then(|device| DeviceId::new(device).ok());
        let id = u32::try_from(member).ok().zip(device).map(|(member, device)| SenderId { member, device });
        let id = id.ok_or_else(|| take.malformed("a sender is no device"))?;
        let count = usize::from(take.take_u8()?);
        if count == 0 || count > DEDUP_WINDOW {
            return Err(take.malformed("a window has no send, or too many"));
        }
        let floor = take.take_varint()?;
        let client_seq = ClientSeq::new(floor.wrapping_add(unzigzag(take.take_varint()?)));
        let seq = take.take_short_seq()?;
        let age_ms = take.take_varint()?;
        let mut columns = [[0; DEDUP_WINDOW]; 3];
        let mut bits = BitReader::new(take.rest());
        let is_whole = columns.iter_mut().all(|column| bits.take_column(&mut column[..count - 1]).is_some());
        let rest = bits.finish().filter(|_| is_whole).map(<[u8]>::len);
        let rest = rest.ok_or_else(|| take.malformed("the columns of a window are none"))?;
        take.skip_to_rest(rest);

        let time_ms = newest_ms.checked_sub(age_ms).ok_or_else(|| take.malformed("a send has no time"))?;
        let mut last = Accepted { client_seq, seq, time_ms };
        let mut sender = Self { floor: ClientSeq::new(floor), ..Self::new(id, last) };
        sender.window.reserve_exact((count - 1) * 5);
        let [client_seqs, seqs, times] = &columns;
        for ((client_seq, seq), time_ms) in client_seqs.iter().zip(seqs).zip(times).take(count - 1) {
            let client_seq = last.client_seq.get().wrapping_add(unzigzag(*client_seq)).wrapping_add(1);
            let seq = last.seq.get().checked_add(seq.wrapping_add(1));
            let time_ms = last.time_ms.checked_add(*time_ms);
            let Some((seq, time_ms)) = seq.zip(time_ms) else {
                return Err(take.malformed("a seq or a time overflows"));
            };
            last = Accepted { client_seq: ClientSeq::new(client_seq), seq: MessageSeq::new(seq), time_ms };
            sender.remember(last);
        }
        if last.seq > newest || last.time_ms > newest_ms {
            return Err(take.malformed("a window is ahead of its chat"));
        }
        sender.highest = sender.highest.max(sender.floor);
        Ok(sender)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sends: Vec<_> = self.sends().collect();
        f.debug_struct("Sender").field("id", &self.id).field("floor", &self.floor).field("sends", &sends).finish()
    }
}

fn put_send(out: &mut [u8; SEND_BYTES_MAX], before: Accepted, send: Accepted) -> usize {
    let client_seq = send.client_seq.get().wrapping_sub(before.client_seq.get());
    let seq = send.seq.get() - before.seq.get();
    let time_ms = send.time_ms - before.time_ms;
    let mut at = 0;
    for value in [zigzag(client_seq), seq, time_ms] {
        at += put_varint(&mut out[at..], value);
    }
    at
}

/// The next send; `None` where the bytes are none.
fn take_send(bytes: &mut &[u8], before: Accepted) -> Option<Accepted> {
    let client_seq = before.client_seq.get().wrapping_add(unzigzag(take_varint(bytes)?));
    let seq = before.seq.get().checked_add(take_varint(bytes)?)?;
    let time_ms = before.time_ms.checked_add(take_varint(bytes)?)?;
    Some(Accepted { client_seq: ClientSeq::new(client_seq), seq: MessageSeq::new(seq), time_ms })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const ID: SenderId = SenderId { member: 1, device: DeviceId::FIRST };

    const fn accepted(client_seq: u64, seq: u64, time_ms: u64) -> Accepted {
        Accepted { client_seq: ClientSeq::new(client_seq), seq: MessageSeq::new(seq), time_ms }
    }

    fn encoded(sender: &Sender) -> Bytes {
        let mut row = Vec::new();
        sender.encode(sender.last.time_ms, &mut row);
        row.into()
    }

    fn decoded(row: Bytes, newest: Accepted) -> Result<Sender> {
        let mut take = Take::new(row, "sender");
        let sender = Sender::take(&mut take, newest.seq, newest.time_ms)?;
        take.finish()?;
        Ok(sender)
    }

    #[test]
    fn a_retry_of_any_unanswered_send_finds_its_seq() {
        let mut sender = Sender::new(ID, accepted(1, 2, 1));
        for n in 2..=200u64 {
            assert_eq!(sender.known(ClientSeq::new(n)), Known::New);
            sender.remember(accepted(n, n * 2, n));
        }
        for n in 137..=200u64 {
            assert_eq!(sender.known(ClientSeq::new(n)), Known::Stored { seq: MessageSeq::new(n * 2), time_ms: n });
        }
        assert_eq!(sender.known(ClientSeq::new(136)), Known::Forgotten);
    }

    #[test]
    fn a_send_that_was_overtaken_is_still_new() {
        let sender = Sender::new(ID, accepted(6, 1, 0));
        assert_eq!(sender.known(ClientSeq::new(5)), Known::New);
    }

    #[test]
    fn a_retry_is_found_though_an_overtaken_send_was_stored_after_it() {
        let mut sender = Sender::new(ID, accepted(6, 1, 0));
        sender.remember(accepted(5, 2, 0));
        let stored = |seq| Known::Stored { seq: MessageSeq::new(seq), time_ms: 0 };
        for sender in [sender.clone(), decoded(encoded(&sender), sender.last).unwrap()] {
            assert_eq!(sender.known(ClientSeq::new(6)), stored(1));
            assert_eq!(sender.known(ClientSeq::new(5)), stored(2));
            assert_eq!(sender.known(ClientSeq::new(7)), Known::New);
        }
    }

    #[test]
    fn a_window_that_is_cut_knows_the_last_send_and_no_other() {
        let mut sender = Sender::new(ID, accepted(5, 1, 0));
        sender.remember(accepted(9, 2, 0));
        sender.remember(accepted(7, 3, 0));
        sender.cut();
        for sender in [sender.clone(), decoded(encoded(&sender), sender.last).unwrap()] {
            assert!(!sender.is_long());
            assert_eq!(sender.known(ClientSeq::new(7)), Known::Stored { seq: MessageSeq::new(3), time_ms: 0 });
            for forgotten in [5, 6, 8, 9] {
                assert_eq!(sender.known(ClientSeq::new(forgotten)), Known::Forgotten, "{forgotten}");
            }
            assert_eq!(sender.known(ClientSeq::new(10)), Known::New);
        }
    }

    #[test]
    fn a_full_window_of_a_conversation_takes_a_tenth_of_its_numbers_in_files() {
        let mut sender = Sender::new(ID, accepted(1, 1, 1_700_000_000_000));
        for n in 2..=500u64 {
            sender.remember(accepted(n, n * 2, 1_700_000_000_000 + n * 4_000 + n % 7 * 300));
        }
        assert!(encoded(&sender).len() <= 64 * 24 / 10, "{} bytes", encoded(&sender).len());
        assert!(sender.heap_bytes() <= 384, "{} bytes", sender.heap_bytes());
    }

    #[test]
    fn rows_that_are_none_are_malformed() {
        let newest = accepted(9, 9, 9);
        assert!(decoded(vec![0, 1, 1, 0, 2, 1, 0, 0xff, 0xff, 0x03].into(), newest).is_ok());
        for (row, why) in [
            (vec![], "nothing"),
            (vec![0, 1, 1, 0, 2, 1], "it ends in its head"),
            (vec![0, 0, 1, 0, 2, 1, 0, 0xff, 0xff, 0x03], "device 0"),
            (vec![0, 1, 0, 0, 2, 1, 0, 0xff, 0xff, 0x03], "no send"),
            (vec![0, 1, 65, 0, 2, 1, 0, 0xff, 0xff, 0x03], "too many sends"),
            (vec![0, 1, 1, 0, 2, 10, 0, 0xff, 0xff, 0x03], "a seq that the chat has not given"),
            (vec![0, 1, 1, 0, 2, 1, 10, 0xff, 0xff, 0x03], "a time before all time"),
            (vec![0, 1, 1, 0, 2, 1, 0, 0xff, 0xff], "it ends in its columns"),
            (vec![0, 1, 1, 0, 2, 1, 0, 0xff, 0xff, 0x07], "a bit too many"),
            (vec![0, 1, 1, 0, 2, 1, 0, 0xff, 0xff, 0x03, 0], "a byte too many"),
            (vec![0, 1, 10, 0, 2, 1, 0, 0xff, 0xff, 0x03], "its sends go beyond the chat's last"),
        ] {
            assert!(decoded(row.into(), newest).is_err(), "{why}");
        }
    }

    /// The window as a list of structs.
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

    fn step() -> impl Strategy<Value = (i64, u64, u64)> {
        let time = prop_oneof![3 => 0u64..5_000, 1 => 0u64..100_000_000, 1 => 0u64..1 << 50];
        (
            prop_oneof![4 => Just(1i64), 2 => 1i64..300, 2 => -80i64..1],
            prop_oneof![4 => 1u64..3, 1 => 1u64..1 << 40],
            time,
        )
    }

    proptest! {
        #[test]
        fn a_window_answers_like_a_list_of_sends(steps in proptest::collection::vec(step(), 0..300)) {
            let mut newest = accepted(1000, 1, 1_700_000_000_000);
            let mut sender = Sender::new(ID, newest);
            let mut model = Model { recent: VecDeque::from([newest]), floor: ClientSeq::default() };
            let mut highest = 1000u64;
            for (by, on, later) in steps {
                let client_seq = highest.saturating_add_signed(by);
                newest = accepted(client_seq, newest.seq.get() + on, newest.time_ms + later);
                let known = model.known(newest.client_seq);
                prop_assert_eq!(sender.known(newest.client_seq), known);
                if known == Known::New {
                    highest = highest.max(client_seq);
                    sender.remember(newest);
                    model.remember(newest);
                }
                let row = encoded(&sender);
                let again = decoded(row.clone(), sender.last).unwrap();
                prop_assert!(again.sends().eq(sender.sends()));
                prop_assert_eq!(encoded(&again), row);
                prop_assert!(sender.heap_bytes() <= 64 * SEND_BYTES_MAX + 2 * GROW_BYTES);
                for probe in [highest, highest - 63, highest - 64, highest + 1] {
                    prop_assert_eq!(again.known(ClientSeq::new(probe)), model.known(ClientSeq::new(probe)));
                }
                if highest.is_multiple_of(3) {
                    sender = again;
                }
            }
        }

        #[test]
        fn any_bytes_are_a_window_or_malformed(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let newest = accepted(0, 1 << 40, 1 << 40);
            if let Ok(sender) = decoded(bytes.into(), newest) {
                let mut row = Vec::new();
                sender.encode(newest.time_ms, &mut row);
                let again = decoded(row.into(), newest).unwrap();
                prop_assert!(again.sends().eq(sender.sends()) && again.sends().count() <= DEDUP_WINDOW);
            }
        }
    }
}
