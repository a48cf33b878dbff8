//! A row of state as a disk or a peer's snapshot may hand it over: any bytes are a row or malformed, and what is read
//! writes bytes that say the same.
//!
//! An input is a key and a value: of an inbox entry the whole key, of other rows its first byte, which is their kind.

#![no_main]

use bytes::Bytes;
use columba_engine::partition::decode_row;
use columba_fuzz::row_key_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (key, value) = input.split_at(row_key_bytes(input));
    let Ok(row) = decode_row(key, Bytes::copy_from_slice(value)) else {
        return;
    };
    let again = decode_row(key, row.value.clone().into()).expect("what we encoded is a row");
    assert_eq!(again, row, "a row reads back as it was written");
});
