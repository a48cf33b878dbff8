//! Messages in memory: one run per chat, appended in order of seq.
//!
//! A message is a record in a chunk, in the order in which messages were applied; a run says where its records are. So
//! a message takes its body and some 45 bytes, nothing is taken from the allocator for it, and a layer of a million
//! messages is given back in some hundred pieces.
//!
//! | record | sender 16, device and kind varint, client seq varint, time varint, length varint, body |
//! |---|---|
//!
//! Invariants
//! - A run is dense: its messages are `first, first + 1, ...`; `apply` appends, a seal takes whole runs.
//! - A chunk never moves: it has its room from the begin.

use columba_wire::{ChatId, ClientSeq, DeviceAddress, MessageSeq, UserId};

use super::{
    codec::{Put as _, VARINT_BYTES_MAX, take_varint},
    effect::StoredMessage,
    sharded::ShardedMap,
};
use crate::{
    message::MessageKind,
    planted::{self, Planted},
};

/// Room of the first chunk; each further one has twice as much, up to the most. A longer message has its own.
const CHUNK_BYTES_MIN: usize = 4 * 1024;
/// Room of a chunk, at most.
const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// What a record has beside its body, at most.
const HEAD_BYTES_MAX: usize = 16 + 4 * VARINT_BYTES_MAX;
/// A run's slot in a table that is half full in the mean.
const RUN_BYTES: usize = 2 * (size_of::<(ChatId, Run)>() + 1);

/// The messages of one layer.
#[derive(Default)]
pub(crate) struct Messages {
    runs: ShardedMap<ChatId, Run>,
    chunks: Vec<Vec<u8>>,
    /// Of chunks, and of what runs have on the heap.
    bytes: usize,
}

/// The messages of a chat.
pub(crate) struct Run {
    first: MessageSeq,
    records: Vec<Place>,
}

/// Where a record begins.
#[derive(Clone, Copy)]
struct Place {
    chunk: u32,
    at: u32,
}

impl Messages {
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes + self.runs.len() * RUN_BYTES
    }

    /// Appends the chat's next message.
    pub(crate) fn push(&mut self, chat: ChatId, message: &StoredMessage) {
        let place = self.write(message);
        let run = self.runs.get_or_insert_with(chat, || Run { first: message.seq, records: Vec::new() });
        run.goes_on_with(chat, message.seq);
        if run.records.capacity() == 0 {
            // Most chats of a layer have one message, or many.
            run.records.reserve_exact(1);
            self.bytes += run.heap_bytes();
        }
        let before = run.heap_bytes();
        run.records.push(place);
        self.bytes += run.heap_bytes() - before;
    }

    fn write(&mut self, message: &StoredMessage) -> Place {
        let bytes = HEAD_BYTES_MAX + message.body.len();
        let newest = self.chunks.last();
        if newest.is_none_or(|chunk| chunk.capacity() - chunk.len() < bytes) {
            let room = newest.map_or(CHUNK_BYTES_MIN, |chunk| (2 * chunk.capacity()).min(CHUNK_BYTES_MAX)).max(bytes);
            self.chunks.push(Vec::with_capacity(room));
            self.bytes += room;
        }
        let number = self.chunks.len() - 1;
        let chunk = &mut self.chunks[number];
        let place = Place { chunk: short(number), at: short(chunk.len()) };
        chunk.put_user(message.sender.user);
        chunk.put_varint(message.kind.with_device(message.sender.device).into());
        chunk.put_varint(message.client_seq.get());
        chunk.put_varint(message.time_ms);
        chunk.put_varint(message.body.len() as u64);
        chunk.extend_from_slice(&message.body);
        place
    }

    fn read(&self, place: Place, seq: MessageSeq) -> StoredMessage<&[u8]> {
        let record = &self.chunks[place.chunk as usize][place.at as usize..];
        let (user, mut rest) = record.split_first_chunk().expect("a record begins with its sender");
        let [device, client_seq, time_ms, length] =
            core::array::from_fn(|_| take_varint(&mut rest).expect("a record is what was written"));
        let device = u32::try_from(device).ok().and_then(MessageKind::split_device);
        let (kind, device) = device.expect("a device was written");
        StoredMessage {
            seq,
            sender: DeviceAddress { user: UserId::from_bytes(*user), device },
            client_seq: ClientSeq::new(client_seq),
            time_ms,
            kind,
            body: &rest[..usize::try_from(length).expect("a length was written")],
        }
    }

    /// Appends the runs of a newer layer.
    pub(crate) fn absorb(&mut self, newer: Self) {
        let before = self.chunks.len();
        self.chunks.extend(newer.chunks);
        self.bytes += newer.bytes;
        for (chat, mut newer) in newer.runs.into_shards().flatten() {
            newer.records.iter_mut().for_each(|place| place.chunk += short(before));
            let run = self.runs.get_or_insert_with(chat, || Run { first: newer.first, records: Vec::new() });
            run.goes_on_with(chat, newer.first);
            let before = run.heap_bytes() + newer.heap_bytes();
            if run.records.is_empty() {
                *run = newer;
            } else {
                run.records.extend(newer.records);
            }
            self.bytes = self.bytes + run.heap_bytes() - before;
        }
    }

    /// The messages `from..=to` that are here, ascending.
    pub(crate) fn range(
        &self,
        chat: ChatId,
        from: MessageSeq,
        to: MessageSeq,
    ) -> impl Iterator<Item = StoredMessage<&[u8]>> {
        let run = self.runs.get(&chat);
        let (first, records) = run.map_or((MessageSeq::ZERO, &[][..]), |run| (run.first, &run.records[..]));
        let index =
            |seq: u64| usize::try_from(seq.saturating_sub(first.get())).unwrap_or(usize::MAX).min(records.len());
        let begin = index(from.get());
        let end = index(to.get().saturating_add(1)).max(begin);
        let seqs = first.get() + begin as u64..;
        records[begin..end].iter().zip(seqs).map(|(place, seq)| self.read(*place, MessageSeq::new(seq)))
    }

    /// The runs by chat.
    pub(crate) const fn runs(&self) -> &ShardedMap<ChatId, Run> {
        &self.runs
    }
}

impl Run {
    /// The seq behind its last message.
    fn next(&self) -> MessageSeq {
        MessageSeq::new(self.first.get() + self.records.len() as u64)
    }

    /// Seqs are told by the place in the run: one that is left out would rename all behind it.
    fn goes_on_with(&self, chat: ChatId, seq: MessageSeq) {
        if !planted::is(Planted::SeqReused) {
            assert!(seq == self.next(), "chat {chat}: seq {seq} instead of {}", self.next());
        }
    }

    fn heap_bytes(&self) -> usize {
        self.records.capacity() * size_of::<Place>()
    }
}

fn short(number: usize) -> u32 {
    u32::try_from(number).expect("chunks are short, and far fewer than 2^32")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use columba_wire::DeviceId;
    use proptest::prelude::*;

    use super::*;

    fn message(chat: u8, seq: u64, bytes: usize) -> StoredMessage {
        let n = seq ^ u64::from(chat) << 32;
        StoredMessage {
            seq: MessageSeq::new(seq),
            sender: DeviceAddress {
                user: UserId::from_bytes([chat; 16]),
                device: DeviceId::new(1 + u32::from(chat) * 60_000).unwrap(),
            },
            client_seq: ClientSeq::new(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            time_ms: n << 7,
            kind: if seq.is_multiple_of(5) { MessageKind::Change } else { MessageKind::Client },
            body: Bytes::from(vec![chat ^ seq.to_le_bytes()[0]; bytes]),
        }
    }

    proptest! {
        #[test]
        fn runs_answer_like_lists_over_layers_that_are_joined(
            layers in proptest::collection::vec(
                proptest::collection::vec((0u8..5, prop_oneof![0usize..300, 60_000usize..70_000]), 0..60),
                1..4,
            ),
            (from, to) in (0u64..80, 0u64..80),
        ) {
            let mut joined = Messages::default();
            let mut model = vec![Vec::new(); 5];
            for sends in layers {
                let mut layer = Messages::default();
                for (chat, bytes) in sends {
                    let list: &mut Vec<StoredMessage> = &mut model[usize::from(chat)];
                    // Chats do not begin at 1: what is before is in files.
                    let message = message(chat, list.len() as u64 + 1 + u64::from(chat) * 10, bytes);
                    layer.push(ChatId::from_bytes([chat; 16]), &message);
                    list.push(message);
                }
                joined.absorb(layer);
            }
            for chat in 0..5 {
                let range = |from, to| {
                    let (chat, to) = (ChatId::from_bytes([chat; 16]), MessageSeq::new(to));
                    let found = joined.range(chat, MessageSeq::new(from), to);
                    found.map(StoredMessage::to_owned).collect::<Vec<_>>()
                };
                let list = &model[usize::from(chat)];
                prop_assert_eq!(&range(0, u64::MAX), list);
                let wanted: Vec<_> = list.iter().filter(|one| (from..=to).contains(&one.seq.get())).cloned().collect();
                prop_assert_eq!(range(from, to), wanted);
            }
            let held: usize = joined.chunks.iter().map(Vec::capacity).sum();
            let runs: usize = joined.runs.iter().map(|(_, run)| run.heap_bytes()).sum();
            prop_assert_eq!(joined.bytes(), held + runs + joined.runs.len() * RUN_BYTES);
        }
    }

    #[test]
    #[should_panic(expected = "instead of")]
    fn a_run_has_no_gap() {
        let mut messages = Messages::default();
        let chat = ChatId::from_bytes([1; 16]);
        messages.push(chat, &message(1, 7, 10));
        messages.push(chat, &message(1, 9, 10));
    }
}
