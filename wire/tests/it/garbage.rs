//! Hostile bytes: an error, never a panic, never more memory than was received.

use bytes::Bytes;
use columba_wire::{
    frame::{FrameError, decode_client, decode_server, encode},
    framing::Deframer,
    limits::FRAME_BYTES_MAX,
};
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::roundtrip::client_frame;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn garbage_is_an_error_or_a_frame_and_never_a_panic(bytes in vec(any::<u8>(), 0..600)) {
        let bytes = Bytes::from(bytes);
        if let Ok(frame) = decode_client(bytes.clone()) {
            prop_assert_eq!(decode_client(encode(&frame)).unwrap(), frame);
        }
        if let Ok(frame) = decode_server(bytes) {
            prop_assert_eq!(decode_server(encode(&frame)).unwrap(), frame);
        }
    }

    #[test]
    fn a_damaged_frame_never_panics(
        frame in client_frame(),
        damage in vec((any::<Index>(), any::<u8>()), 1..5),
        cut in any::<Index>(),
    ) {
        let mut bytes = encode(&frame).to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        drop(decode_client(Bytes::from(bytes)));
    }

    #[test]
    fn a_garbage_stream_ends_in_an_error_or_waits(chunks in vec(vec(any::<u8>(), 0..64), 0..20)) {
        let mut deframer = Deframer::new(256);
        let mut received = 0;
        let mut given = 0;
        'stream: for chunk in chunks {
            received += chunk.len();
            deframer.push(&chunk);
            loop {
                match deframer.next_frame() {
                    Ok(Some(frame)) => given += 4 + frame.len(),
                    Ok(None) => break,
                    Err(FrameError::TooLarge { bytes }) => {
                        prop_assert!(bytes > 256);
                        break 'stream;
                    }
                    Err(other) => prop_assert!(false, "{}", other),
                }
            }
        }
        prop_assert!(given <= received);
    }
}

#[test]
fn deep_nesting_in_unknown_fields_is_refused_not_followed() {
    // Groups (wire type 3) of an unknown field, opened and never closed.
    let bytes = Bytes::from(vec![0xab; FRAME_BYTES_MAX]);
    assert!(decode_client(bytes.clone()).is_err());
    assert!(decode_server(bytes).is_err());
    let mut open = Vec::new();
    for _ in 0..10_000 {
        open.extend_from_slice(&[0xa3, 0x1f]);
    }
    assert!(matches!(decode_client(Bytes::from(open)), Err(FrameError::Malformed(_))));
}
