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
/// Segments that wait for use, zeroed already, the next one included. Beyond: removed. Between two flushes about as
/// many come back at once.
pub const SEGMENTS_SPARE: usize = 3;
/// Segments in use at which a core asks its partitions to flush, so that the oldest can be recycled.
pub const SEGMENTS_FLUSH_AT: usize = 6;
/// Segments in use beyond which new proposals are refused with `NO_SPACE` (nothing is lost; flushes go on).
pub const SEGMENTS_MAX: usize = 16;
/// Bytes of rows in a partition's memtable at which it is sealed and flushed, whatever the core's budget still has.
pub const MEMTABLE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Milliseconds after which what a partition has not flushed yet is flushed: bounds what a start must apply again.
pub const MEMTABLE_AGE_MAX_MS: u64 = 10 * 60 * 1000;
/// Bytes of a block of messages before it is closed. A longer message has its own. Most chats have few messages in a
/// file: what is read beside them costs more than that a page of 50 is in two or three neighbours, which come with one
/// read.
pub const TABLE_BLOCK_BYTES: usize = 8 * 1024;
/// Bytes of a block of rows before it is closed: rows are read one by one. A longer row has a block of its own.
pub const ROW_BLOCK_BYTES: usize = 4 * 1024;
/// Bytes of a table file that are appended at a time; one append per file is in flight. A durable write of the journal
/// waits behind it, so it is short: with 256 KiB the p99 of a commit beside a flush is twice as long.
pub const TABLE_APPEND_BYTES: usize = 64 * 1024;
/// Bytes that a merge or a verification reads at a time; one read per input is in flight.
pub const TABLE_READ_AHEAD_BYTES: usize = 256 * 1024;
/// Tables of a core that are kept open, each with a descriptor.
pub const TABLES_OPEN_MAX: usize = 1024;
/// Bytes of a key in a table.
pub const KEY_BYTES_MAX: usize = 256;
/// Bytes of a value in a table.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the rows of a block, before compression; a reader takes no memory for more, whatever a header announces.
pub const BLOCK_ROWS_BYTES_MAX: usize = 2 * 1024 * 1024;
const _: () = assert!(
    TABLE_BLOCK_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX + 64 <= BLOCK_ROWS_BYTES_MAX,
    "every block that a writer closes can be read back"
);
/// Bytes of the columns of a block of messages, before compression: as above.
pub const MESSAGE_COLUMNS_BYTES_MAX: usize = 1024 * 1024;
const _: () =
    assert!(TABLE_BLOCK_BYTES <= MESSAGE_COLUMNS_BYTES_MAX / 2, "every block that a writer closes can be read back");
/// Neighbouring message files of one level, in the newest window, that are merged to one of the next.
pub const WINDOW_FAN_IN: usize = 10;
/// Message files that an older window is merged down to. A read of the window looks at no more.
pub const WINDOW_FILES_SETTLED: usize = 3;
/// Bytes of inputs beyond which message files are not merged any more: they are large enough.
pub const MERGE_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Inbox files of a partition at which some are merged.
pub const INBOX_FILES_AT: usize = 4;
/// State files of level 0 at which they are merged into level 1.
pub const STATE_FILES_AT: usize = 4;
/// Bytes of level 1 beyond which it is merged down; each further level has ten times as much.
pub const STATE_LEVEL_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of a state file before the next one is begun.
pub const STATE_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Levels of state rows; the last one has no bound.
pub const STATE_LEVELS_MAX: usize = 6;
/// Rows that are loaded from files at the same time.
pub const ROWS_LOADED_AT_ONCE: usize = 32;
/// Message files that a read looks into at the same time, at most.
pub const READ_FILES_AT_ONCE: usize = 8;
/// Bytes of neighbouring blocks that a read of messages takes at once.
pub const READ_SPAN_BYTES: usize = 128 * 1024;
/// Bytes of bodies of a chat's newest page that is kept in the cache. A longer one is read again.
pub const PAGE_KEPT_BYTES_MAX: usize = 128 * 1024;
/// Bytes of a file of a snapshot that are shipped at a time. More in one piece is refused.
pub const SNAPSHOT_PIECE_BYTES: usize = 256 * 1024;
const _: () = assert!(SNAPSHOT_PIECE_BYTES.is_multiple_of(BLOCK_BYTES), "pieces are whole disk blocks");
/// Bytes of a snapshot's header: some 100,000 files. A longer one is refused.
pub const SNAPSHOT_HEADER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Milliseconds of creation time that share message files where nothing else is said: a day.
pub const WINDOW_MS: u64 = 24 * 60 * 60 * 1000;
