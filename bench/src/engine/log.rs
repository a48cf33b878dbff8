//! (D) The strongest floor: a log without an index. Segments of zeroes, made and synced beforehand; one `O_DIRECT`
//! write a batch, with `RWF_DSYNC` where it shall be durable.
//!
//! What no engine that promises as much can beat: no metadata changes, no second flush, no second copy. Making the
//! segments counts among the bytes written, not in the time.
//!
//! Invariants
//! - A batch lies in one segment, at a multiple of a block.
//! - Where segments are recycled, the log holds only what was written last; it is then for measuring rates alone.

use std::{
    fs::{File, OpenOptions},
    io::{IoSlice, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use columba_engine::env::AlignedBuf;
use columba_wire::ChatId;
use rustix::{
    fs::OFlags,
    io::{ReadWriteFlags, pread, pwritev2},
};

use super::{
    batch::{self, BATCH_BYTES_MAX},
    store::{Counters, Settings, Store},
    workload::Op,
};
use crate::raw::BLOCK_BYTES;

const SEGMENT_BYTES: u64 = 64 << 20;

const _: () = assert!(BATCH_BYTES_MAX as u64 <= SEGMENT_BYTES, "a batch fits a segment");

/// Segments that hold `batches` of `bytes` each.
pub(crate) fn segments(batches: u64, bytes: u64) -> u64 {
    let per_segment = SEGMENT_BYTES / bytes.next_multiple_of(BLOCK_BYTES as u64);
    batches.div_ceil(per_segment.max(1)).max(1)
}

/// The log.
pub(crate) struct DirectLog {
    dir: PathBuf,
    segments: Vec<File>,
    recycles: bool,
    segment: usize,
    offset: u64,
    /// Number of the last batch.
    batches: u64,
    buffer: AlignedBuf,
    written_bytes: u64,
}

impl DirectLog {
    /// Makes the segments, or looks for the end of what is there.
    pub(crate) fn open(dir: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let mut log = Self {
            dir: dir.to_owned(),
            segments: Vec::new(),
            recycles: settings.log_recycles,
            segment: 0,
            offset: 0,
            batches: 0,
            buffer: AlignedBuf::zeroed(BATCH_BYTES_MAX),
            written_bytes: 0,
        };
        while let path = log.path(log.segments.len())
            && path.exists()
        {
            log.segments.push(open_direct(&path)?);
        }
        if log.segments.is_empty() {
            for _ in 0..settings.log_segments {
                log.add_segment()?;
            }
        } else {
            log.find_end()?;
        }
        Ok(log)
    }

    fn path(&self, segment: usize) -> PathBuf {
        self.dir.join(format!("{segment:06}.segment"))
    }

    fn add_segment(&mut self) -> anyhow::Result<()> {
        let path = self.path(self.segments.len());
        let mut file = OpenOptions::new().create_new(true).write(true).open(&path)?;
        let zeroes = vec![0; 1 << 20];
        for _ in 0..SEGMENT_BYTES / (1 << 20) {
            file.write_all(&zeroes)?;
        }
        file.sync_all()?;
        self.segments.push(open_direct(&path)?);
        Ok(())
    }

    /// Reads from the first batch to the last whole one.
    fn find_end(&mut self) -> anyhow::Result<()> {
        self.buffer.set_len(BATCH_BYTES_MAX);
        for (segment, file) in self.segments.iter().enumerate() {
            let mut offset = 0;
            loop {
                let got = pread(file, &mut self.buffer[..], offset)?;
                let mut at = 0;
                while let Some(len) = batch::check(self.batches + 1, &self.buffer[at..got]) {
                    at = (at + len).next_multiple_of(BLOCK_BYTES).min(got);
                    self.batches += 1;
                }
                if at == 0 {
                    break;
                }
                offset += at as u64;
                (self.segment, self.offset) = (segment, offset);
            }
            // The log goes on in the next segment only from one that holds something.
            if offset == 0 {
                break;
            }
        }
        Ok(())
    }
}

impl Store for DirectLog {
    fn write_batch(&mut self, ops: &[Op], sync: bool) -> anyhow::Result<()> {
        self.buffer.set_len(0);
        self.batches += 1;
        batch::encode(self.batches, ops, &mut self.buffer);
        let padding = self.buffer.len().next_multiple_of(BLOCK_BYTES) - self.buffer.len();
        self.buffer.extend_from_slice(&[0; BLOCK_BYTES][..padding]);
        let bytes = self.buffer.len() as u64;
        if self.offset + bytes > SEGMENT_BYTES {
            (self.segment, self.offset) = (self.segment + 1, 0);
        }
        if self.segment == self.segments.len() && self.recycles {
            self.segment = 0;
        } else if self.segment == self.segments.len() {
            self.add_segment()?;
        }
        let flags = if sync { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
        let written = pwritev2(&self.segments[self.segment], &[IoSlice::new(&self.buffer)], self.offset, flags)?;
        ensure!(written as u64 == bytes, "short write: {written} of {bytes} bytes");
        self.offset += bytes;
        self.written_bytes += bytes;
        Ok(())
    }

    fn newest(&mut self, _: ChatId, _: usize, _: &mut dyn FnMut(u64, &[u8])) -> anyhow::Result<()> {
        bail!("a plain log has no index")
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn counters(&self) -> Counters {
        Counters { written_bytes: Some(self.written_bytes), batches: Some(self.batches), ..Counters::default() }
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}

fn open_direct(path: &Path) -> anyhow::Result<File> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).expect("a single low bit");
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    file.with_context(|| format!("open {} for direct writes", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        store::Compression,
        workload::{Shape, Workload},
    };

    #[test]
    fn every_batch_is_found_again_after_a_crash() {
        let target = crate::node::target_dir().expect("tests run in a target directory");
        let dir = tempfile::Builder::new().prefix("log-").tempdir_in(target).unwrap();
        let shape = Shape { chats: 5, zipf: 1.0, inbox_every: 2, inbox_trim: 2, seed: 1 };
        let settings = Settings {
            write_buffer_bytes: 0,
            cache_bytes: 0,
            block_bytes: 0,
            compression: Compression::None,
            direct_reads: true,
            log_segments: 1,
            log_recycles: false,
        };
        let mut log = DirectLog::open(dir.path(), &settings).unwrap();
        let (mut workload, mut ops) = (Workload::new(&shape), Vec::new());
        for messages in [1, 100, 4096, 4096].iter().cycle().take(140) {
            workload.next_batch(*messages, &mut ops);
            log.write_batch(&ops, false).unwrap();
        }
        let end = (log.batches, log.segment, log.offset);
        assert_eq!((end.0, end.1), (140, 1), "it goes on in a second segment");
        drop(log);
        let log = DirectLog::open(dir.path(), &settings).unwrap();
        assert_eq!((log.batches, log.segment, log.offset), end);
    }
}
