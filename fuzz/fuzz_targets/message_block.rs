//! A block of messages as a disk may return it: any bytes are a block or damage, a block with one flipped bit is
//! damage, and what is read is in order, is found, and writes back the same.

#![no_main]

use bytes::Bytes;
use columba_engine::{
    ids::FileId,
    table::columns::{MessageBlock, MessageBlockBuilder},
};
use columba_fuzz::{MESSAGE_BLOCK_PLACE, plain_message_block, seal_message_block};
use columba_wire::MessageSeq;
use libfuzzer_sys::fuzz_target;

const FILE: FileId = FileId::new(MESSAGE_BLOCK_PLACE.0);
const OFFSET: u64 = MESSAGE_BLOCK_PLACE.1;

fn decode(bytes: &[u8]) -> Option<MessageBlock> {
    MessageBlock::decode(Bytes::copy_from_slice(bytes), FILE, OFFSET).ok()
}

fn check(bytes: &[u8], flip: usize) {
    let Some(block) = decode(bytes) else {
        return;
    };
    check_order(&block);
    let mut builder = MessageBlockBuilder::default();
    for n in 0..block.len() {
        builder.push(block.key(n).0, &block.message(n));
    }
    let again = decode(&builder.finish(FILE, OFFSET)).expect("what we encoded is a block");
    assert_eq!(again.len(), block.len());
    for n in 0..block.len() {
        assert_eq!((again.key(n), again.message(n)), (block.key(n), block.message(n)));
    }
    let mut damaged = bytes.to_vec();
    let at = flip % (bytes.len() * 8);
    damaged[at / 8] ^= 1 << (at % 8);
    assert!(decode(&damaged).is_none(), "bit {at} was flipped, and nobody noticed");
}

fn check_order(block: &MessageBlock) {
    for n in 0..block.len() {
        let (chat, seq) = block.key(n);
        assert!(n == 0 || block.key(n - 1) < (chat, seq));
        assert_eq!(block.message(n).seq, seq);
        assert_eq!(block.lower_bound(chat, seq), n);
        assert_eq!(block.range(chat, seq, seq), n..n + 1);
        let chat_from = block.range(chat, seq, MessageSeq::MAX);
        assert!(chat_from.start == n && block.key(chat_from.end - 1).0 == chat);
        assert!(chat_from.end == block.len() || block.key(chat_from.end).0 != chat);
    }
}

fuzz_target!(|input: &[u8]| {
    // Which bit, follows from the input.
    let flip = input.iter().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    check(input, flip);
    let mut sealed = input.to_vec();
    seal_message_block(&mut sealed);
    check(&sealed, flip);
    let mut plain = input.to_vec();
    plain_message_block(&mut plain);
    check(&plain, flip);
    if decode(input).is_some() {
        assert_eq!(sealed, input, "sealing changes what was whole: it looks at nothing");
    }
});
