//! Tests of the protocol crate from outside: round trips, hostile input, and PROTOCOL.md held against the code.

mod document;
mod garbage;
mod roundtrip;
mod vectors;
