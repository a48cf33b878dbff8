//! A block of messages: bodies as they are, everything else by column. Little-endian.
//!
//! | 0 magic u32 | 4 crc32 u32 | 8 bytes u32 | 12 messages u32 | 16 columns stored u32 | 20 columns raw u32 |
//! | 24 columns, zstd where stored < raw | bodies, side by side |
//!
//! Bodies are ciphertext: nothing makes them smaller. What stands beside them repeats: a chat has few senders, who
//! count up, at times close together. That costs a message 3 to 5 bytes where a chat has a hundred in the block, 11
//! where it has ten, and 48 where it has one; in a row of its own, 79.
//!
//! | column | what |
//! |---|---|
//! | runs | count varint; each: chat 16, first seq varint (within a chat: above the last one), length varint |
//! | senders | count varint; each: user 16, u32 of device (24 bits) and kind of message (8) |
//! | sender | per message: varint, which one of the senders |
//! | client seq | per message: zigzag varint, against the sender's message before, or 0 |
//! | time | per message: zigzag varint, against the message before, or 0 |
//! | length | per message: varint, bytes of the body |
//!
//! | module | what it holds |
//! |---|---|
//! | `builder` | [`MessageBlockBuilder`] |
//! | `block` | [`MessageBlock`]: decoding, search |
//! | `varint` | numbers of 1 to 10 bytes, and differences |
//!
//! Invariants
//! - (chat, seq) ascends strictly over the block. A run is messages of one chat with consecutive seqs, and is as long
//!   as it can be.
//! - The crc covers every byte behind it, and is seeded with file id and offset as that of other blocks.
//! - Decoding is total: any bytes give a block or `DamagedBlock`, and take memory for what they hold, not for what
//!   they announce.

mod block;
mod builder;
#[cfg(test)]
mod tests;
pub(super) mod varint;

pub use self::{block::MessageBlock, builder::MessageBlockBuilder};

const MAGIC: u32 = u32::from_le_bytes(*b"CLMB");
/// Bytes before the columns.
const HEADER_BYTES: usize = 24;
/// Bytes that a message takes in the columns at least: one in each of four.
const MESSAGE_BYTES_MIN: usize = 4;
/// Bytes of a run at least, and at most.
const RUN_BYTES_MIN: usize = 18;
const RUN_BYTES_MAX: usize = 36;
/// Bytes of a sender.
const SENDER_BYTES: usize = 20;
