//! The stream of a QUIC client, cut at any place: what comes out depends on the bytes and not on the cuts, and no more
//! is held than a frame and a chunk.
//!
//! Input: one byte for the size of the chunks, then the stream.

#![no_main]

use bytes::Bytes;
use columba_wire::{
    framing::{Deframer, PREFIX_BYTES},
    limits::FRAME_BYTES_UNAUTHENTICATED_MAX,
};
use libfuzzer_sys::fuzz_target;

/// The frames of the stream when it comes in chunks of `chunk_bytes`, and whether it ended with a refusal.
fn frames(stream: &[u8], chunk_bytes: usize) -> (Vec<Bytes>, bool) {
    let mut deframer = Deframer::new(FRAME_BYTES_UNAUTHENTICATED_MAX);
    let mut frames = Vec::new();
    let mut bytes_in = 0;
    for chunk in stream.chunks(chunk_bytes) {
        deframer.push(chunk);
        bytes_in += chunk.len();
        loop {
            match deframer.next_frame() {
                Ok(Some(frame)) => {
                    assert!(frame.len() <= FRAME_BYTES_UNAUTHENTICATED_MAX, "a frame over the limit came out");
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
        let bytes_out: usize = frames.iter().map(|frame| frame.len() + PREFIX_BYTES).sum();
        assert_eq!(deframer.is_partial(), bytes_in > bytes_out, "bytes were lost or made up");
    }
    (frames, false)
}

fuzz_target!(|input: &[u8]| {
    let Some((chunk_bytes, stream)) = input.split_first() else {
        return;
    };
    let whole = frames(stream, stream.len().max(1));
    assert_eq!(frames(stream, usize::from(*chunk_bytes) + 1), whole);
});
