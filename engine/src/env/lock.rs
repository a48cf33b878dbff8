//! (D) [`DirLock`]: one process at a time has a directory.
//!
//! Invariants
//! - The lock goes with the process, however that ends: nothing is left to be cleaned up.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read as _, Write as _},
    path::Path,
};

use crate::error::{Error, Result};

/// Holds a directory for this process until it is dropped.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the directory, which exists: a lock on the file `lock` in it, whose text says for people who has it.
    ///
    /// # Errors
    /// `DirInUse`, `Io`.
    pub fn take(dir: &Path) -> Result<Self> {
        let path = dir.join("lock");
        let failed = |source| Error::Io { operation: "lock", path: path.clone(), source };
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = options.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message.
                let _ = file.read_to_string(&mut holder);
                return Err(Error::DirInUse { path: dir.to_owned(), holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).and_then(|()| writeln!(file, "process {}", std::process::id())).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = DirLock::take(dir.path()).unwrap();
        let Err(Error::DirInUse { holder, .. }) = DirLock::take(dir.path()) else { panic!("it is held") };
        assert_eq!(holder, format!("process {}", std::process::id()));
        drop(held);
        DirLock::take(dir.path()).unwrap();
    }
}
