//! Frames from the network, both directions: any bytes are a frame or an error, and a frame survives a round trip.

#![no_main]

use bytes::Bytes;
use columba_wire::frame::{decode_client, decode_server, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let bytes = Bytes::copy_from_slice(input);
    // Unknown fields are dropped, so the bytes may differ; what was understood may not.
    if let Ok(frame) = decode_client(bytes.clone()) {
        assert_eq!(decode_client(encode(&frame)).expect("what we encoded is a frame"), frame);
    }
    if let Ok(frame) = decode_server(bytes) {
        assert_eq!(decode_server(encode(&frame)).expect("what we encoded is a frame"), frame);
    }
});
