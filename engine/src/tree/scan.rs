//! Rows of several files as one sequence: for each key the newest file that has it.

use std::rc::Rc;

use bytes::Bytes;

use crate::{
    env::DiskFile,
    error::Result,
    table::reader::{BlockCache, Cursor, Direction, Table},
};

/// A range of keys: from `start`, up to and without `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanRange {
    /// First key.
    pub start: Vec<u8>,
    /// First key that does not belong to it.
    pub end: Vec<u8>,
}

/// A sequence over files.
pub(crate) struct MergedCursor<F: DiskFile> {
    /// Newest file first.
    cursors: Vec<Cursor<F>>,
    direction: Direction,
    start: Vec<u8>,
    end: Vec<u8>,
}

impl<F: DiskFile> MergedCursor<F> {
    /// Begins a sequence; `newest_first` are the files.
    pub(crate) async fn seek(
        newest_first: impl Iterator<Item = &Rc<Table<F>>>,
        range: ScanRange,
        direction: Direction,
        cache: &BlockCache,
    ) -> Result<Self> {
        let mut cursors = Vec::new();
        for table in newest_first {
            cursors.push(Cursor::seek(Rc::clone(table), &range.start, &range.end, direction, cache).await?);
        }
        Ok(Self { cursors, direction, start: range.start, end: range.end })
    }

    /// The next row: its key, and its value or `None` for a deletion marker.
    pub(crate) async fn next(&mut self, cache: &BlockCache) -> Result<Option<(Bytes, Option<Bytes>)>> {
        let mut best: Option<usize> = None;
        for (n, cursor) in self.cursors.iter().enumerate() {
            let Some(key) = cursor.key() else {
                continue;
            };
            let better = best.and_then(|best| self.cursors[best].key()).is_none_or(|found| match self.direction {
                Direction::Forward => key < found,
                Direction::Backward => key > found,
            });
            if better {
                best = Some(n);
            }
        }
        let Some((key, value)) = best.and_then(|best| self.cursors[best].row()) else {
            return Ok(None);
        };
        if key[..] < self.start[..] || key[..] >= self.end[..] {
            return Ok(None);
        }
        for cursor in &mut self.cursors {
            if cursor.key() == Some(&key[..]) {
                cursor.advance(cache).await?;
            }
        }
        Ok(Some((key, value)))
    }
}
