//! Every bound of the engine: unit, reason, and what happens beyond it.

/// Bytes of one disk block: offsets and lengths of direct I/O are multiples of it.
pub const BLOCK_BYTES: usize = 4096;
/// Bytes of a journal segment: pre-zeroed once, then recycled.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of one journal batch, padded; what is beyond waits for the next batch.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
const _: () =
    assert!((BATCH_BYTES_MAX as u64) <= SEGMENT_BYTES / 4, "a batch that does not fit wastes at most a quarter");
/// Bytes of one Raft entry's payload. A larger command is refused before it is proposed.
pub const ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// Segments kept ready for use beside the active one.
pub const SEGMENTS_SPARE: usize = 1;
/// Segments in use at which a core asks its partitions to flush, so that the oldest can be recycled.
pub const SEGMENTS_FLUSH_AT: usize = 6;
/// Segments in use beyond which new proposals are refused with `NO_SPACE` (nothing is lost; flushes go on).
pub const SEGMENTS_MAX: usize = 16;
/// Bytes of rows in a partition's memtable at which it is sealed and flushed.
pub const MEMTABLE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Rows of a partition kept in memory from files, beside the memtable. Beyond it they are dropped and loaded again.
pub const CLEAN_ROWS_MAX: usize = 50_000;
/// Bytes of a table block before it is closed. One row may be longer and then has a block of its own.
pub const TABLE_BLOCK_BYTES: usize = 32 * 1024;
/// Bytes of a key in a table.
pub const KEY_BYTES_MAX: usize = 256;
/// Bytes of a value in a table.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of table blocks that a tree keeps in memory. Beyond: first in, first out.
pub const BLOCK_CACHE_BYTES: usize = 8 * 1024 * 1024;
/// Live files of a partition at which they are merged.
pub const MERGE_FILES_AT: usize = 6;
