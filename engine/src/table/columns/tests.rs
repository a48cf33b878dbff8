//! Blocks come back as they were, damage is found, and headers cost what they should.

use std::collections::BTreeMap;

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, DeviceId, MessageSeq, UserId};
use proptest::{collection::vec, prelude::*};

use super::{HEADER_BYTES, MAGIC, MessageBlock, MessageBlockBuilder};
use crate::{
    error::Result,
    ids::FileId,
    message::{MessageKind, StoredMessage},
    table::block::seal,
};

const FILE: FileId = FileId::new(7);
const OFFSET: u64 = 12345;

type Messages = BTreeMap<(ChatId, MessageSeq), StoredMessage>;

fn build(messages: &Messages) -> Vec<u8> {
    let mut builder = MessageBlockBuilder::default();
    build_with(&mut builder, messages)
}

fn build_with(builder: &mut MessageBlockBuilder, messages: &Messages) -> Vec<u8> {
    messages.iter().for_each(|((chat, _), message)| builder.push(*chat, message));
    assert_eq!(builder.len(), messages.len());
    assert_eq!(builder.first().as_ref(), messages.keys().next());
    let most = builder.bytes();
    let block = builder.finish(FILE, OFFSET);
    assert!(block.len() <= most, "{} bytes, of at most {most}", block.len());
    assert!(builder.is_empty() && builder.first().is_none());
    block
}

fn decode(block: &[u8]) -> Result<MessageBlock> {
    MessageBlock::decode(Bytes::copy_from_slice(block), FILE, OFFSET)
}

fn messages_of(block: &MessageBlock) -> Messages {
    (0..block.len()).map(|n| (block.key(n), block.message(n))).collect()
}

fn chat(n: u8) -> ChatId {
    ChatId::from_bytes([n; 16])
}

fn device(n: u8) -> DeviceAddress {
    DeviceAddress { user: UserId::from_bytes([n; 16]), device: DeviceId::new(u32::from(n) + 1).unwrap() }
}

/// A few messages: three runs of two chats, two senders.
fn sample() -> Messages {
    let places = [(1, 5), (1, 6), (1, 9), (2, 1), (2, 2), (2, 3), (2, 4)];
    let message = |(n, seq): (u8, u64)| {
        let body = vec![0xa5; usize::try_from(seq).unwrap()].into();
        let (client_seq, time_ms) = (ClientSeq::new(seq + 40), 1_700_000_000_000 + seq * 1234);
        let seq = MessageSeq::new(seq);
        ((chat(n), seq), StoredMessage { seq, sender: device(n), client_seq, time_ms, kind: MessageKind::Client, body })
    };
    places.into_iter().map(message).collect()
}

/// 100 messages of 150 bytes of one chat, from two senders who take turns as `second` says.
fn conversation(second: impl Fn(u64) -> bool) -> Messages {
    let mut client_seqs = [1000, 77];
    let mut time_ms = 1_700_000_000_000;
    let mut messages = Messages::new();
    for n in 0..100u64 {
        let sender = usize::from(second(n));
        client_seqs[sender] += 1;
        // Up to a minute and a half apart.
        time_ms += scatter(n) % 90_000;
        let seq = MessageSeq::new(5000 + n);
        let user = UserId::from_bytes(core::array::from_fn(|at| scatter((sender * 16 + at) as u64).to_le_bytes()[0]));
        let sender_address = DeviceAddress { user, device: DeviceId::FIRST };
        let client_seq = ClientSeq::new(client_seqs[sender]);
        let body = vec![0; 150].into();
        messages.insert(
            (chat(3), seq),
            StoredMessage { seq, sender: sender_address, client_seq, time_ms, kind: MessageKind::Client, body },
        );
    }
    messages
}

fn scatter(n: u64) -> u64 {
    let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
}

#[test]
fn headers_of_a_conversation_cost_at_most_ten_bytes_each() {
    let in_turn = build(&conversation(|n| n % 2 == 1));
    let at_random = build(&conversation(|n| scatter(n * 31) % 2 == 1));
    for (what, block) in [("in turn", &in_turn), ("at random", &at_random)] {
        let beside = block.len() - 100 * 150;
        println!("senders {what}: {beside} bytes for 100 messages");
        assert!(beside <= 10 * 100, "senders {what}: {beside} bytes for 100 messages");
    }
}

#[test]
fn a_decoded_message_takes_32_bytes_beside_the_block() {
    let bytes = build(&conversation(|n| n % 2 == 1));
    let memory = decode(&bytes).unwrap().memory_bytes() - bytes.len();
    assert!(memory <= 100 * 32 + 100, "{memory} bytes for 100 messages");
}

#[test]
fn bodies_are_slices_of_the_block() {
    let bytes = Bytes::from(build(&sample()));
    let place = bytes.as_ptr_range();
    let block = MessageBlock::decode(bytes, FILE, OFFSET).unwrap();
    assert!((0..block.len()).all(|n| place.contains(&block.message(n).body.as_ptr())));
}

#[test]
fn each_flipped_bit_is_damage() {
    let mut block = build(&sample());
    for at in 0..block.len() * 8 {
        block[at / 8] ^= 1 << (at % 8);
        assert!(decode(&block).is_err(), "bit {at} went unnoticed");
        block[at / 8] ^= 1 << (at % 8);
    }
    assert_eq!(messages_of(&decode(&block).unwrap()), sample());
}

#[test]
fn each_truncation_is_damage_even_with_a_crc() {
    let block = build(&sample());
    for len in 0..block.len() {
        assert!(decode(&block[..len]).is_err(), "{len} bytes of the block passed");
        let mut sealed = block[..len].to_vec();
        if len >= HEADER_BYTES {
            seal(&mut sealed, FILE, OFFSET);
        }
        assert!(decode(&sealed).is_err(), "{len} bytes of the block passed with a crc");
    }
    let mut longer = block;
    longer.push(0);
    assert!(decode(&longer).is_err());
    seal(&mut longer, FILE, OFFSET);
    assert!(decode(&longer).is_err());
}

#[test]
fn a_block_of_another_place_is_damage() {
    let block = Bytes::from(build(&sample()));
    assert!(MessageBlock::decode(block.clone(), FileId::new(8), OFFSET).is_err());
    assert!(MessageBlock::decode(block, FILE, OFFSET + 1).is_err());
}

#[test]
fn what_a_header_announces_is_not_reserved_before_it_is_checked() {
    let forge = |at: usize, number: u32| {
        let mut block = build(&sample());
        block[at..at + 4].copy_from_slice(&number.to_le_bytes());
        seal(&mut block, FILE, OFFSET);
        decode(&block).unwrap_err().to_string()
    };
    for (at, number, expected) in [
        (12, u32::MAX, "more than it can hold"),
        (12, 0, "counts no messages"),
        (16, u32::MAX, "too long"),
        (20, u32::MAX, "too long"),
        (20, 1024 * 1024 + 1, "too long"),
        (20, 1024 * 1024, "do not decompress"),
    ] {
        let error = forge(at, number);
        assert!(error.contains(expected), "{number} at {at}: {error}");
    }
}

/// A block of columns that are not compressed, and no bodies.
fn plain(messages: u32, columns: &[u8]) -> Vec<u8> {
    let len = u32::try_from(columns.len()).unwrap().to_le_bytes();
    let mut block = [&MAGIC.to_le_bytes(), &[0; 8][..], &messages.to_le_bytes(), &len, &len, columns].concat();
    seal(&mut block, FILE, OFFSET);
    block
}

#[test]
fn columns_that_contradict_themselves_are_damage() {
    let run = |n: u8, first: &[u8], length: u8| [&[n; 16], first, &[length]].concat();
    let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let sender = [&[5; 16][..], &[1, 0, 0, 0]].concat();
    let nobody = [&[5; 16][..], &[0; 4]].concat();
    let two = |first: Vec<u8>, second: Vec<u8>, sender: &[u8], numbers: &[u8]| {
        let columns = [&[2], &first[..], &second, &[1], sender, numbers].concat();
        decode(&plain(2, &columns)).map(|block| block.len()).map_err(|error| error.to_string())
    };
    let zeroes = [0; 8];
    assert_eq!(two(run(1, &[9], 1), run(2, &[1], 1), &sender, &zeroes), Ok(2));
    assert_eq!(two(run(1, &[9], 1), run(1, &[2], 1), &sender, &zeroes), Ok(2));
    let damaged = [
        ("do not ascend", two(run(2, &[9], 1), run(1, &[1], 1), &sender, &zeroes)),
        ("do not ascend", two(run(1, &[9], 1), run(1, &[0], 1), &sender, &zeroes)),
        ("do not ascend", two(run(1, &[9], 1), run(1, &[1], 1), &sender, &zeroes)),
        ("too high", two(run(1, &[9], 1), run(1, &most, 1), &sender, &zeroes)),
        ("too high", two(run(1, &most, 2), run(2, &[1], 0), &sender, &zeroes)),
        ("empty", two(run(1, &[9], 2), run(2, &[1], 0), &sender, &zeroes)),
        ("longer than", two(run(1, &[9], 2), run(2, &[1], 1), &sender, &zeroes)),
        ("no device", two(run(1, &[9], 1), run(2, &[1], 1), &nobody, &zeroes)),
        ("not in the list", two(run(1, &[9], 1), run(2, &[1], 1), &sender, &[0, 1, 0, 0, 0, 0, 0, 0])),
        ("not as long", two(run(1, &[9], 1), run(2, &[1], 1), &sender, &[0, 0, 0, 0, 0, 0, 0, 1])),
        ("left over", two(run(1, &[9], 1), run(2, &[1], 1), &sender, &[0; 9])),
        ("end early", two(run(1, &[9], 1), run(2, &[1], 1), &sender, &[0; 7])),
        ("too long", two(run(1, &[9], 1), run(2, &[1], 1), &sender, &[&[0; 6], &most[..], &most].concat())),
    ];
    for (expected, found) in damaged {
        let error = found.unwrap_err();
        assert!(error.contains(expected), "{error}, not: {expected}");
    }
}

#[test]
#[should_panic(expected = "is not above the last")]
fn messages_out_of_order_are_refused() {
    let mut builder = MessageBlockBuilder::default();
    let messages = sample();
    messages.iter().rev().for_each(|((chat, _), message)| builder.push(*chat, message));
}

/// Numbers at both ends, and between.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..20u64, Just(u64::MAX), Just(u64::MAX - 1), Just(1 << 63), any::<u64>()]
}

/// Chat, seq, sender and kind, client seq, time and body.
type OneMessage = (u8, u64, (u8, MessageKind), u64, u64, Vec<u8>);

fn messages(most: usize) -> impl Strategy<Value = Messages> {
    let body = prop_oneof![4 => vec(any::<u8>(), 0..40), 1 => Just(Vec::new()), 1 => Just(vec![3; 64 * 1024])];
    let seq = prop_oneof![8 => 0..60u64, 1 => number()];
    let sender = (0..6u8, prop_oneof![4 => Just(MessageKind::Client), 1 => Just(MessageKind::Change)]);
    let one = (0..4u8, seq, sender, number(), number(), body);
    vec(one, 1..most).prop_map(|messages| {
        let message = |(n, seq, (sender, kind), client_seq, time_ms, body): OneMessage| {
            let (seq, client_seq) = (MessageSeq::new(seq), ClientSeq::new(client_seq));
            let message = StoredMessage { seq, sender: device(sender), client_seq, time_ms, kind, body: body.into() };
            ((chat(n), seq), message)
        };
        messages.into_iter().map(message).collect()
    })
}

proptest! {
    #[test]
    fn messages_come_back(first in messages(80), second in messages(80)) {
        let mut builder = MessageBlockBuilder::default();
        // The second time from the buffers of the first.
        for messages in [first, second] {
            let block = build_with(&mut builder, &messages);
            prop_assert_eq!(&block, &build(&messages));
            prop_assert_eq!(messages_of(&decode(&block).unwrap()), messages);
        }
    }

    #[test]
    fn searches_find_what_a_map_finds(messages in messages(60), n in 0..6u8, from in number(), to in number()) {
        let block = decode(&build(&messages)).unwrap();
        let (chat, from, to) = (chat(n), MessageSeq::new(from), MessageSeq::new(to));
        let keys: Vec<_> = messages.keys().copied().collect();
        prop_assert_eq!(block.lower_bound(chat, from), keys.partition_point(|key| *key < (chat, from)));
        let found: Vec<_> = block.range(chat, from, to).map(|n| block.key(n)).collect();
        let expected: Vec<_> =
            keys.into_iter().filter(|(of, seq)| *of == chat && from <= *seq && *seq <= to).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn garbage_never_panics(bytes in vec(any::<u8>(), 0..300), messages in 1..30u32) {
        prop_assert!(decode(&bytes).is_err());
        let _ = decode(&plain(messages, &bytes));
    }

    #[test]
    fn damaged_columns_never_panic(messages in messages(30), flips in vec((any::<usize>(), any::<u8>()), 1..4)) {
        let mut block = build(&messages);
        for (at, byte) in flips {
            let at = 12 + at % (block.len() - 12);
            block[at] = byte;
        }
        seal(&mut block, FILE, OFFSET);
        if let Ok(block) = decode(&block) {
            let keys: Vec<_> = (0..block.len()).map(|n| block.key(n)).collect();
            prop_assert!(keys.is_sorted_by(|a, b| a < b));
            prop_assert!(keys.iter().enumerate().all(|(n, key)| block.lower_bound(key.0, key.1) == n));
        }
    }
}
