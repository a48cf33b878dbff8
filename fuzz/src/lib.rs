//! What the fuzz targets of files share: checksums made right again.
//!
//! A decoder that checks a crc first turns away nearly every input, and what lies behind the crc is never reached. So
//! each target looks at its input twice: as it is, and sealed, with every checksum recomputed. Written from
//! `engine/FORMAT.md`, not from the engine's code: who reads and who seals must not share a mistake.

#![forbid(unsafe_code)]

mod seal;

pub use seal::{plain_message_block, seal_journal, seal_manifest, seal_message_block, seal_table};

/// Bytes of a block, the unit of files.
pub const BLOCK_BYTES: usize = 4096;
/// File id and offset that every input of the target `message_block` is sealed for.
pub const MESSAGE_BLOCK_PLACE: (u64, u64) = (1, 5000);

/// Bytes of the key that an input of the target `row` begins with: an inbox entry's position is in its key.
pub fn row_key_bytes(input: &[u8]) -> usize {
    let wanted = if input.first() == Some(&0x20) { 29 } else { 1 };
    wanted.min(input.len())
}
