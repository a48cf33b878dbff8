//! (D) The floor of a read: 16 KiB at a random place of a file as large as the messages, `O_DIRECT`.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, ensure};
use columba_engine::env::{AlignedBuf, Rng};
use rustix::{fs::OFlags, io::pread};

use super::workload::SplitMix;
use crate::{clock::now_ns, raw::BLOCK_BYTES};

/// Bytes of one read: about fifty messages.
pub(crate) const READ_BYTES: usize = 16 << 10;
const CHUNK_BYTES: usize = 1 << 20;

/// The file.
pub(crate) struct ReadFloor {
    file: File,
    places: u64,
    buffer: AlignedBuf,
    rng: Rng,
}

impl ReadFloor {
    /// Makes a file of at least `bytes` random bytes.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn create(path: &Path, bytes: u64) -> anyhow::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
        let (mut random, mut chunk) = (SplitMix(bytes), vec![0; CHUNK_BYTES]);
        for _ in 0..bytes.div_ceil(CHUNK_BYTES as u64) {
            random.fill(&mut chunk);
            file.write_all(&chunk)?;
        }
        Ok(file.sync_all()?)
    }

    /// Opens it.
    ///
    /// # Errors
    /// What the file system says; one without `O_DIRECT` among it.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let flags = i32::try_from(OFlags::DIRECT.bits()).expect("a single low bit");
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file = file.with_context(|| format!("open {} for direct reads", path.display()))?;
        let places = (file.metadata()?.len() - READ_BYTES as u64) / BLOCK_BYTES as u64;
        Ok(Self { file, places, buffer: AlignedBuf::zeroed(READ_BYTES), rng: Rng::from_seed(places) })
    }

    /// Nanoseconds of one read.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn timed_read(&mut self) -> anyhow::Result<u64> {
        let offset = self.rng.below(self.places.max(1)) * BLOCK_BYTES as u64;
        let start = now_ns();
        let got = pread(&self.file, &mut self.buffer[..], offset)?;
        let took = now_ns() - start;
        ensure!(got == READ_BYTES, "a short read of {got} bytes");
        Ok(took)
    }
}
