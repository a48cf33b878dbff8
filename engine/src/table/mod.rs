//! Immutable sorted files: written once from first byte to footer, then only read.
//!
//! | part | what it holds |
//! |---|---|
//! | data blocks | from byte 0, side by side: rows, or messages by column |
//! | chats | of a message file: each chat with its lowest and highest seq |
//! | filter | which chats, users or other ids may be there |
//! | index | first key and place of each block |
//! | properties | what the manifest says of the file, for when the manifest is lost |
//! | footer | the last 4 KiB: where the others lie, whole-file checksum |
//!
//! | module | what it holds |
//! |---|---|
//! | [`block`] | rows in a block; crc seeded with file and offset |
//! | [`columns`] | messages in a block: bodies as they are, the rest by column |
//! | `compress` | zstd for both |
//! | [`cache`] | decoded blocks and pages in memory |
//! | `page` | the newest messages of a chat, over all files |
//! | [`chats`] | the list of chats |
//! | [`filter`] | which 17-byte key prefixes a file may hold |
//! | `index` | first key and place of each block, in memory |
//! | [`meta`] | classes and properties of files |
//! | [`footer`] | the last block |
//! | `walk` | blocks without an index: what is left of a file that is not whole |
//! | [`writer`] | rows or messages in ascending order to a file |
//! | [`reader`] | blocks, point reads, verification |
//!
//! Invariants
//! - Keys ascend strictly; a row is a value or a deletion marker.
//! - Every byte is covered: blocks and sections by their crc, everything before the footer by the whole-file checksum,
//!   the footer by its own crc. Any flipped bit is found by [`reader::Table::verify`], and by a read of the block that
//!   it is in.
//! - A block that was written for another file or place is never valid.

pub mod block;
pub mod cache;
pub mod chats;
pub mod columns;
mod compress;
pub mod filter;
pub mod footer;
pub(crate) mod index;
pub mod meta;
pub(crate) mod page;
pub mod reader;
pub(crate) mod walk;
pub mod writer;

#[cfg(test)]
mod tests;

pub use self::reader::check_image;

/// What is wrong with a block, for its `DamagedBlock`.
type Damage = &'static str;

/// crc32 of a footer, a manifest or another small file, but for the four bytes at 12 that hold it.
pub(crate) fn crc_beside_itself(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..12]);
    hasher.update(&bytes[16..]);
    hasher.finalize()
}
