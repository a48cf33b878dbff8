//! (D) The weaker floor: a log without an index in one file that grows, through the page cache, with `fdatasync` a
//! batch.
//!
//! What most databases do at least: each sync writes the file's new length and extents beside the data.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::Path,
};

use anyhow::bail;
use columba_wire::ChatId;
use rustix::io::pread;

use super::{
    batch::{self, BATCH_BYTES_MAX},
    store::{Counters, Store},
    workload::Op,
};

/// The log.
pub(crate) struct AppendLog {
    file: File,
    /// Number of the last batch.
    batches: u64,
    buffer: Vec<u8>,
    written_bytes: u64,
}

impl AppendLog {
    /// Makes the file, or looks for the end of what is there.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join("000000.segment");
        let file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let mut log = Self { file, batches: 0, buffer: Vec::new(), written_bytes: 0 };
        log.find_end()?;
        Ok(log)
    }

    /// Reads from the first batch to the last whole one, and cuts off what may follow.
    fn find_end(&mut self) -> anyhow::Result<()> {
        let mut chunk = vec![0; BATCH_BYTES_MAX];
        let mut end = 0;
        loop {
            let got = pread(&self.file, &mut chunk, end)?;
            let mut at = 0;
            while let Some(len) = batch::check(self.batches + 1, &chunk[at..got]) {
                at += len;
                self.batches += 1;
            }
            end += at as u64;
            if at == 0 {
                break;
            }
        }
        self.file.set_len(end)?;
        Ok(())
    }
}

impl Store for AppendLog {
    fn write_batch(&mut self, ops: &[Op], sync: bool) -> anyhow::Result<()> {
        self.buffer.clear();
        self.batches += 1;
        batch::encode(self.batches, ops, &mut self.buffer);
        self.file.write_all(&self.buffer)?;
        if sync {
            self.file.sync_data()?;
        }
        self.written_bytes += self.buffer.len() as u64;
        Ok(())
    }

    fn newest(&mut self, _: ChatId, _: usize, _: &mut dyn FnMut(u64, &[u8])) -> anyhow::Result<()> {
        bail!("a plain log has no index")
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        Ok(self.file.sync_all()?)
    }

    fn counters(&self) -> Counters {
        Counters { written_bytes: Some(self.written_bytes), batches: Some(self.batches), ..Counters::default() }
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}
