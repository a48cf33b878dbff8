//! An entry of a partition's log as a disk or a peer may hand it over: any bytes are commands or malformed, and what is
//! read writes back the same bytes.

#![no_main]

use bytes::Bytes;
use columba_engine::partition::command::decode_entry;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(commands) = decode_entry(Bytes::copy_from_slice(input)) else {
        return;
    };
    let mut again = Vec::new();
    for command in &commands {
        let before = again.len();
        command.encode_into(&mut again);
        assert!(again.len() - before <= command.encoded_bytes_max(), "{command:?} is longer than it says");
    }
    assert_eq!(decode_entry(again.into()).expect("what we encoded is an entry"), commands);
});
