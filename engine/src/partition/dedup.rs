//! Idempotency: which client seqs of a device are stored in a chat, and where.
//!
//! Invariants
//! - The window holds the newest [`DEDUP_WINDOW`] sends of the device in the chat. A client has at most that many sends
//!   unanswered, so a retry of any of them is found, and gets the same seq.
//! - Below the window's lowest client seq nothing is known: such a send is refused, never stored twice.

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, MessageSeq, limits::DEDUP_WINDOW};

use super::{
    codec::{Put as _, Take},
    rows::{Layer, Row, RowMap},
};
use crate::error::Result;

/// A device's recent sends to a chat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// In order of seq: oldest first, at most [`DEDUP_WINDOW`].
    recent: std::collections::VecDeque<Accepted>,
    /// The highest client seq that ever left the window.
    floor: ClientSeq,
    /// The highest client seq that was ever accepted; follows from the others.
    highest: ClientSeq,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        // Newest first: a retry is nearly always of a recent send.
        if let Some(found) = self.recent.iter().rev().find(|accepted| accepted.client_seq == client_seq) {
            return Known::Stored { seq: found.seq, time_ms: found.time_ms };
        }
        if client_seq <= self.floor { Known::Forgotten } else { Known::New }
    }

    pub(crate) fn remember(&mut self, client_seq: ClientSeq, seq: MessageSeq, time_ms: u64) {
        if self.recent.len() == DEDUP_WINDOW {
            let oldest = self.recent.pop_front().expect("the window is full");
            self.floor = self.floor.max(oldest.client_seq);
        }
        self.highest = self.highest.max(client_seq);
        self.recent.push_back(Accepted { client_seq, seq, time_ms });
    }
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

    fn encode_key((chat, device): &Self::Key, out: &mut Vec<u8>) {
        out.put_chat(*chat);
        out.put_user(device.user);
        out.extend_from_slice(&device.device.get().to_be_bytes());
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.floor.get());
        out.put_u32(u32::try_from(self.recent.len()).expect("bounded by the window"));
        for accepted in &self.recent {
            out.put_u64(accepted.client_seq.get());
            out.put_seq(accepted.seq);
            out.put_u64(accepted.time_ms);
        }
    }

    fn decode(value: Bytes) -> Result<Self> {
        let mut take = Take::new(value, "sender row");
        let floor = ClientSeq::new(take.take_u64()?);
        let count = take.take_count(24)?;
        let mut recent = std::collections::VecDeque::with_capacity(count);
        let mut highest = floor;
        for _ in 0..count {
            let client_seq = ClientSeq::new(take.take_u64()?);
            highest = highest.max(client_seq);
            recent.push_back(Accepted { client_seq, seq: take.take_seq()?, time_ms: take.take_u64()? });
        }
        take.finish()?;
        Ok(Self { recent, floor, highest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut row = Vec::new();
        sender.encode(&mut row);
        for sender in [sender, Sender::decode(row.into()).unwrap()] {
            assert_eq!(sender.known(ClientSeq::new(6)), stored(1));
            assert_eq!(sender.known(ClientSeq::new(5)), stored(2));
            assert_eq!(sender.known(ClientSeq::new(7)), Known::New);
        }
    }
}
