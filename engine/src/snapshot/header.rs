//! The header of a snapshot: which files it is made of, and what of the log they hold. Little-endian.
//!
//! | 0 magic 8 | 8 version u32 | 12 crc32 u32 | 16 partition u32 | 20 zero u32 | 24 complete from u64 | 32 a manifest |
//!
//! Invariants
//! - The crc covers every other byte; the manifest behind it has its own.
//! - A decoded header names files that make a version: a peer cannot send one that makes an assertion fail later.

use std::path::Path;

use bytes::Bytes;

use crate::{
    error::{Error, Result},
    ids::{FileId, LogIndex, PartitionId, Term},
    limits::{BLOCK_BYTES, SNAPSHOT_HEADER_BYTES_MAX},
    table::{crc_beside_itself, meta::FileMeta},
    tree::{conflict, manifest::Manifest},
};

const MAGIC: &[u8; 8] = b"COLSNAP1";
/// The version of headers that this program writes, and the only one it reads.
pub const SNAPSHOT_VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;

/// What a snapshot is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// Which partition's.
    pub partition: PartitionId,
    /// The log entry up to which entries are to be applied before the state is read: the files may lack what those have
    /// deleted. At or above the manifest's `applied`; all of it is committed.
    pub complete_from: LogIndex,
    /// The manifest that an installed copy gets.
    pub manifest: Manifest,
}

impl SnapshotHeader {
    /// The log entry up to which it holds the log.
    pub const fn applied(&self) -> LogIndex {
        self.manifest.applied
    }

    /// Its term.
    pub const fn term(&self) -> Term {
        self.manifest.applied_term
    }

    /// The owner's bytes.
    pub const fn extra(&self) -> &Bytes {
        &self.manifest.extra
    }

    /// Its files, by id.
    pub fn files(&self) -> &[FileMeta] {
        &self.manifest.files
    }

    /// A file.
    pub fn file(&self, id: FileId) -> Option<&FileMeta> {
        let at = self.manifest.files.binary_search_by_key(&id, |file| file.id).ok()?;
        Some(&self.manifest.files[at])
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files().iter().map(|file| file.bytes).fold(0, u64::saturating_add)
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&SNAPSHOT_VERSION.to_le_bytes());
        out[16..20].copy_from_slice(&self.partition.get().to_le_bytes());
        out[24..32].copy_from_slice(&self.complete_from.get().to_le_bytes());
        out.extend_from_slice(&self.manifest.encode());
        let sum = crc_beside_itself(&out);
        out[12..16].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Checks and decodes a header; `path` is for the error.
    ///
    /// # Errors
    /// `DamagedFile`, `UnsupportedFormat`.
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Self> {
        let damaged = |reason: &str| Error::DamagedFile { path: path.to_owned(), reason: reason.to_owned() };
        if bytes.len() < HEADER_BYTES || bytes.len() > SNAPSHOT_HEADER_BYTES_MAX || bytes[..8] != *MAGIC {
            return Err(damaged("it is not the header of a snapshot"));
        }
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        if crc_beside_itself(bytes) != u32_at(12) {
            return Err(damaged("it does not match its crc"));
        }
        if u32_at(8) != SNAPSHOT_VERSION {
            let (found, supported) = (u32_at(8), SNAPSHOT_VERSION);
            return Err(Error::UnsupportedFormat { path: path.to_owned(), found, supported });
        }
        let manifest = Manifest::decode(path, &bytes[HEADER_BYTES..])?;
        let complete_from = u64::from_le_bytes(bytes[24..32].try_into().expect("8 bytes"));
        let header =
            Self { partition: PartitionId::new(u32_at(16)), complete_from: LogIndex::new(complete_from), manifest };
        header.contradiction().map_or(Ok(header), |reason| Err(damaged(reason)))
    }

    fn contradiction(&self) -> Option<&'static str> {
        let block = BLOCK_BYTES as u64;
        let Manifest { applied, next_file, files, .. } = &self.manifest;
        if self.complete_from < *applied {
            return Some("it is complete before its own index");
        }
        if files.last().is_some_and(|last| last.id >= *next_file) {
            return Some("a file has an id that is not given yet");
        }
        if files.iter().any(|file| file.bytes < 2 * block || !file.bytes.is_multiple_of(block)) {
            return Some("a file's length is not that of a table file");
        }
        if files.iter().any(|file| file.properties.applied_high > *applied) {
            return Some("a file holds entries above its index");
        }
        conflict(files).map(|conflict| conflict.reason)
    }
}

/// Checks the image of a header: for fuzzing.
///
/// # Errors
/// `DamagedFile`, `UnsupportedFormat`.
pub fn check_image(image: &[u8]) -> Result<SnapshotHeader> {
    SnapshotHeader::decode(Path::new("(image)"), image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::meta::{Class, tests::file};

    fn sample() -> SnapshotHeader {
        let mut files = vec![file(2, Class::State, 1, 0, 8192), file(4, Class::Messages, 0, 7, 12288)];
        files[1].properties.applied_low = LogIndex::new(3);
        let manifest = Manifest {
            applied: LogIndex::new(7),
            applied_term: Term::new(2),
            next_file: FileId::new(5),
            extra: Bytes::from_static(b"settings"),
            files,
        };
        SnapshotHeader { partition: PartitionId::new(3), complete_from: LogIndex::new(9), manifest }
    }

    #[test]
    fn every_flipped_bit_is_damage() {
        let header = sample();
        let mut bytes = header.encode();
        assert_eq!(check_image(&bytes).unwrap(), header);
        for at in 0..bytes.len() * 8 {
            bytes[at / 8] ^= 1 << (at % 8);
            assert!(check_image(&bytes).is_err(), "bit {at}");
            bytes[at / 8] ^= 1 << (at % 8);
        }
        for len in 0..bytes.len() {
            assert!(check_image(&bytes[..len]).is_err());
        }
    }

    #[test]
    fn a_header_whose_files_do_not_make_a_version_is_refused() {
        let changes: [fn(&mut SnapshotHeader); 5] = [
            |header| header.complete_from = LogIndex::new(6),
            |header| header.manifest.next_file = FileId::new(4),
            |header| header.manifest.files[0].bytes = 4097,
            |header| header.manifest.applied = LogIndex::new(3),
            |header| {
                let mut twin = header.manifest.files[0].clone();
                twin.id = FileId::new(3);
                header.manifest.files.insert(1, twin);
            },
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let mut header = sample();
            change(&mut header);
            assert!(check_image(&header.encode()).is_err(), "change {n}");
        }
    }
}
