//! Immutable sorted files: written once from first byte to footer, then only read.
//!
//! | part | where |
//! |---|---|
//! | data blocks | from byte 0, each padded to 4 KiB |
//! | filter block | behind the data |
//! | index block | behind the filter |
//! | footer | the last 4 KiB: where the others lie, counts, whole-file checksum |
//!
//! | module | what it holds |
//! |---|---|
//! | [`block`] | rows in a block; crc seeded with file and offset |
//! | [`filter`] | which 17-byte key prefixes a file may hold |
//! | [`footer`] | the last block |
//! | [`writer`] | rows in ascending order to a file |
//! | [`reader`] | point reads, cursors in both directions, verification |
//!
//! Invariants
//! - Keys ascend strictly; a row is a value or a deletion marker.
//! - Every byte is covered: blocks by their crc, everything before the footer by the whole-file checksum, the footer by
//!   its own crc. Any flipped bit is found by [`reader::Table::verify`], and by a read of the block it is in.
//! - A block that was written for another file or place is never valid.

pub mod block;
pub mod filter;
pub mod footer;
pub mod reader;
pub mod writer;

#[cfg(test)]
mod tests;

pub use self::reader::check_image;
