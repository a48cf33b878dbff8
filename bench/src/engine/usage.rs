//! (D) What a process and a directory came to: bytes written, memory, blocks on disk; and the page cache's part of it.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rustix::fs::{Advice, fadvise};
use serde::{Deserialize, Serialize};

/// Bytes that this process has caused to be written to disks, less what was truncated before it got there. The file
/// system's own journal is not among them.
///
/// # Errors
/// The kernel shows no `/proc/self/io`.
pub(crate) fn written_bytes() -> anyhow::Result<u64> {
    let written = field("/proc/self/io", "write_bytes:")?;
    Ok(written.saturating_sub(field("/proc/self/io", "cancelled_write_bytes:")?))
}

/// Resident memory of this process, bytes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Resident {
    /// At the most, so far.
    pub(crate) peak_bytes: u64,
    /// Now.
    pub(crate) now_bytes: u64,
}

impl Resident {
    /// Asks the kernel.
    ///
    /// # Errors
    /// It shows no `/proc/self/status`.
    pub(crate) fn here() -> anyhow::Result<Self> {
        let kib = |name| field("/proc/self/status", name).map(|kib| kib * 1024);
        Ok(Self { peak_bytes: kib("VmHWM:")?, now_bytes: kib("VmRSS:")? })
    }
}

fn field(path: &str, name: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{path} has no {name}"))?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
}

/// The files of a directory and the directories below, in no order.
pub(crate) fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut files, mut waiting) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => waiting.push(entry.path()),
                Ok(_) => files.push(entry.path()),
                // It went while it was looked at.
                Err(_) => {}
            }
        }
    }
    Ok(files)
}

/// Bytes of the blocks that hold the files for which `counts`.
pub(crate) fn allocated_bytes(dir: &Path, counts: impl Fn(&Path) -> bool) -> anyhow::Result<u64> {
    let files = files(dir)?;
    let blocks = files.iter().filter(|file| counts(file)).filter_map(|file| file.metadata().ok()).map(|of| of.blocks());
    Ok(blocks.sum::<u64>() * 512)
}

/// The page cache's copies of a directory's files.
pub(crate) struct CachedPages {
    dir: PathBuf,
    files: Vec<File>,
    drops: u64,
}

impl CachedPages {
    /// Drops before the files are listed again: an engine makes and removes some as it goes.
    const DROPS_PER_LISTING: u64 = 64;

    /// Of the files below `dir`.
    pub(crate) fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), files: Vec::new(), drops: 0 }
    }

    /// Writes back what is dirty and drops everything.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn sync_and_drop(&mut self) -> anyhow::Result<()> {
        self.list()?;
        for file in &self.files {
            file.sync_all()?;
        }
        self.drop_clean()
    }

    /// Drops what is clean.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn drop_clean(&mut self) -> anyhow::Result<()> {
        if self.drops.is_multiple_of(Self::DROPS_PER_LISTING) {
            self.list()?;
        }
        self.drops += 1;
        for file in &self.files {
            fadvise(file, 0, None, Advice::DontNeed)?;
        }
        Ok(())
    }

    fn list(&mut self) -> anyhow::Result<()> {
        // A file that is gone by now has nothing cached that anybody will read.
        let open = |path| OpenOptions::new().read(true).open(path).ok();
        self.files = files(&self.dir)?.into_iter().filter_map(open).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_shows_what_this_process_came_to() {
        assert!(Resident::here().unwrap().peak_bytes >= 1 << 20);
        assert!(written_bytes().is_ok());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a real file is what is looked at")]
    fn allocated_blocks_are_counted_in_directories_below() {
        let dir = tempfile::tempdir_in(crate::node::target_dir().unwrap()).unwrap();
        std::fs::create_dir(dir.path().join("below")).unwrap();
        std::fs::write(dir.path().join("below/file.log"), vec![1; 100_000]).unwrap();
        CachedPages::of(dir.path()).sync_and_drop().unwrap();
        assert!(allocated_bytes(dir.path(), |_| true).unwrap() >= 100_000);
        assert_eq!(allocated_bytes(dir.path(), |path| path.extension().is_none()).unwrap(), 0);
    }
}
