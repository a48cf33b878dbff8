//! The client protocol of Columba: schema, identifiers, framing, error codes and limits. No I/O.
//!
//! | module | what it holds |
//! |---|---|
//! | [`v1`] | the protobuf messages, generated from `wire/proto` |
//! | [`frame`] | decode and encode of whole frames; bodies are slices of the received buffer |
//! | [`framing`] | length-prefixed records on QUIC streams, incremental and bounded |
//! | [`ids`] | `ChatId`, `UserId`, `DeviceId`, `MessageSeq`, `ClientSeq` |
//! | [`code`] | numbered error codes |
//! | [`limits`] | every limit a client can meet |
//! | [`version`] | versions, capabilities, and their negotiation |
//! | [`auth`] | the bytes that a device signs to get in |
//! | [`link`] | the codes by which devices are linked |
//! | [`group`] | what the members of a group may do |
//! | [`invite`] | links by which users come into groups |
//! | [`keys`] | the bytes that a device signs for each of its keys |
//! | [`privacy`] | what a user lets others know and do |
//!
//! Invariants
//! - Nothing here allocates more than the bytes it was given plus a constant, and nothing recurses.
//! - `PROTOCOL.md` says the same as this crate; the interoperability client is written from it alone.

#![forbid(unsafe_code)]

pub mod auth;
pub mod code;
pub mod frame;
pub mod framing;
pub mod group;
pub mod ids;
pub mod invite;
pub mod keys;
pub mod limits;
pub mod link;
pub mod privacy;
pub mod version;

/// The protobuf messages, version 1. Generated; the schema's comments are the documentation.
#[allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications, reason = "generated from wire/proto")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/columba.v1.rs"));
}

pub use code::Code;
pub use group::Role;
pub use ids::{ChatId, ClientSeq, DeviceAddress, DeviceId, MessageSeq, UserId};
pub use invite::{InviteLink, InviteSecret};
pub use keys::PreKeyId;
pub use privacy::{Audience, Privacy, PrivacyChange};
