//! (D) The floor's disk: one `RWF_DSYNC` write, `O_DIRECT`, into a file of zeroes written and synced beforehand.
//!
//! Nothing durable on this file system is cheaper: no metadata changes, no second flush, no copy.

use std::{
    fs::{File, OpenOptions},
    io::{IoSlice, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, ensure};
use rustix::{
    fs::OFlags,
    io::{ReadWriteFlags, pwritev2},
};

use crate::{
    clock::{SECOND_NS, now_ns, sleep_until},
    report::Latency,
};

/// Bytes of a block: sizes, offsets and addresses of direct writes are multiples of it.
pub(crate) const BLOCK_BYTES: usize = 4096;
const FILE_BYTES: usize = 64 << 20;
/// Bytes of the largest write.
pub(crate) const WRITE_BYTES_MAX: usize = 1 << 20;

/// A file for raw durable writes, front to back and round again.
pub(crate) struct RawFile {
    file: File,
    buffer: Vec<u8>,
    aligned_at: usize,
    offset: usize,
}

impl RawFile {
    /// Creates and zeroes `name` in `dir`.
    ///
    /// # Errors
    /// What the file system says; a `tmpfs` that knows no `O_DIRECT` among it.
    pub(crate) fn create(dir: &Path, name: &str) -> anyhow::Result<Self> {
        let path = dir.join(name);
        let mut zeroed = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
        let chunk = vec![0; WRITE_BYTES_MAX];
        for _ in 0..FILE_BYTES / WRITE_BYTES_MAX {
            zeroed.write_all(&chunk)?;
        }
        zeroed.sync_all()?;
        let flags = i32::try_from(OFlags::DIRECT.bits()).expect("a single low bit");
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(&path)
            .with_context(|| format!("open {} for direct writes", path.display()))?;
        let buffer = vec![0x5A; WRITE_BYTES_MAX + BLOCK_BYTES];
        let aligned_at = buffer.as_ptr().align_offset(BLOCK_BYTES);
        Ok(Self { file, buffer, aligned_at, offset: 0 })
    }

    /// Writes `bytes` (rounded up to whole blocks, cut at [`WRITE_BYTES_MAX`]); durable when it returns.
    ///
    /// # Errors
    /// What the kernel says, or a short write.
    pub(crate) fn write_durable(&mut self, bytes: usize) -> anyhow::Result<()> {
        let bytes = bytes.next_multiple_of(BLOCK_BYTES).clamp(BLOCK_BYTES, WRITE_BYTES_MAX);
        if self.offset + bytes > FILE_BYTES {
            self.offset = 0;
        }
        // Other content each time: a device that skips equal blocks would flatter the floor.
        let stamp = now_ns().to_le_bytes();
        self.buffer[self.aligned_at..self.aligned_at + stamp.len()].copy_from_slice(&stamp);
        let slice = IoSlice::new(&self.buffer[self.aligned_at..self.aligned_at + bytes]);
        let written = pwritev2(&self.file, &[slice], self.offset as u64, ReadWriteFlags::DSYNC)?;
        ensure!(written == bytes, "short write: {written} of {bytes} bytes");
        self.offset += bytes;
        Ok(())
    }

    /// Latency of one write of `bytes`.
    ///
    /// # Errors
    /// As [`Self::write_durable`].
    pub(crate) fn timed_write(&mut self, bytes: usize) -> anyhow::Result<u64> {
        let start = now_ns();
        self.write_durable(bytes)?;
        Ok(now_ns() - start)
    }

    /// Latency of `count` writes at `rate` a second (0: back to back), the first twentieth dropped.
    ///
    /// # Errors
    /// As [`Self::write_durable`].
    pub(crate) fn measure(&mut self, bytes: usize, count: u64, rate: u64) -> anyhow::Result<Latency> {
        let mut latency = Latency::new();
        let start = now_ns();
        for n in 0..count {
            if let Some(after_ns) = (n * SECOND_NS).checked_div(rate) {
                sleep_until(start + after_ns);
            }
            let took = self.timed_write(bytes)?;
            if n >= count / 20 {
                latency.record(took);
            }
        }
        Ok(latency)
    }
}
