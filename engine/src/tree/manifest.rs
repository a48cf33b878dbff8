//! The manifest: the live files of a partition, and up to which entry they hold the log. Little-endian.
//!
//! | 0 magic 8 | 8 version u32 | 12 crc32 u32 | 16 applied u64 | 24 applied term u64 | 32 next file u64 |
//! | 40 extra bytes u32 | 44 files u32 | 48 extra | then per file, by id: id u64, bytes u64, checksum u32, properties |
//!
//! Properties are those of [`crate::table::meta`]. A change writes a whole new manifest beside the old one, makes it
//! durable, and renames it over the old one: about 150 bytes a file, once per flush or merge, and never half a change.
//!
//! Invariants
//! - The crc covers every other byte; any flipped bit is damage.

use std::path::Path;

use bytes::Bytes;

use crate::{
    env::{Disk, DiskFile as _},
    error::{Error, Result},
    ids::{FileId, LogIndex, Term},
    limits::BLOCK_BYTES,
    table::{
        crc_beside_itself,
        meta::{FileMeta, Properties},
    },
};

const MAGIC: &[u8; 8] = b"COLMANI1";
/// The version of manifests that this program writes, and the newest it reads.
pub const MANIFEST_VERSION: u32 = 2;
/// Its file name.
pub const MANIFEST_NAME: &str = "manifest";
/// The name under which a new one is written.
pub const MANIFEST_NEW_NAME: &str = "manifest.new";
/// Bytes of `extra`.
pub const EXTRA_BYTES_MAX: usize = 4096;
const HEADER_BYTES: usize = 48;
/// Bytes of a file in front of its properties.
const FILE_BYTES: usize = 20;
/// The least that a file takes.
const FILE_BYTES_MIN: usize = FILE_BYTES + 66;

/// What a manifest says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The last log entry that the files hold.
    pub applied: LogIndex,
    /// Its term.
    pub applied_term: Term,
    /// The id that the next file gets.
    pub next_file: FileId,
    /// The owner's bytes.
    pub extra: Bytes,
    /// Live files, by id.
    pub files: Vec<FileMeta>,
}

impl Manifest {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.extra.len() <= EXTRA_BYTES_MAX, "the owner's bytes are bounded");
        let mut out = vec![0; HEADER_BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&MANIFEST_VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.applied.get().to_le_bytes());
        out[24..32].copy_from_slice(&self.applied_term.get().to_le_bytes());
        out[32..40].copy_from_slice(&self.next_file.get().to_le_bytes());
        out[40..44].copy_from_slice(&u32::try_from(self.extra.len()).expect("bounded").to_le_bytes());
        out[44..48].copy_from_slice(&u32::try_from(self.files.len()).expect("few").to_le_bytes());
        out.extend_from_slice(&self.extra);
        for file in &self.files {
            out.extend_from_slice(&file.id.get().to_le_bytes());
            out.extend_from_slice(&file.bytes.to_le_bytes());
            out.extend_from_slice(&file.checksum.to_le_bytes());
            file.properties.encode(&[], &mut out);
        }
        let sum = crc_beside_itself(&out);
        out[12..16].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Checks and decodes a manifest.
    ///
    /// # Errors
    /// `DamagedFile`, `UnsupportedFormat`.
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Self> {
        let damaged = |reason: &str| Error::DamagedFile { path: path.to_owned(), reason: reason.to_owned() };
        if bytes.len() < HEADER_BYTES || bytes[..8] != *MAGIC {
            return Err(damaged("it is not a manifest"));
        }
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        if crc_beside_itself(bytes) != u32_at(12) {
            return Err(damaged("it does not match its crc"));
        }
        if u32_at(8) != MANIFEST_VERSION {
            let (found, supported) = (u32_at(8), MANIFEST_VERSION);
            return Err(Error::UnsupportedFormat { path: path.to_owned(), found, supported });
        }
        let (extra, count) = (u32_at(40) as usize, u32_at(44) as usize);
        let at = HEADER_BYTES.saturating_add(extra);
        if extra > EXTRA_BYTES_MAX || at > bytes.len() || count > (bytes.len() - at) / FILE_BYTES_MIN {
            return Err(damaged("its length is not what it says"));
        }
        let mut rest = Bytes::copy_from_slice(&bytes[at..]);
        let mut files: Vec<FileMeta> = Vec::with_capacity(count);
        for _ in 0..count {
            let file = take_file(&mut rest).ok_or_else(|| damaged("a file is malformed"))?;
            if files.last().is_some_and(|before| before.id >= file.id) {
                return Err(damaged("its files do not ascend"));
            }
            files.push(file);
        }
        if !rest.is_empty() {
            return Err(damaged("its length is not what it says"));
        }
        Ok(Self {
            applied: LogIndex::new(u64_at(16)),
            applied_term: Term::new(u64_at(24)),
            next_file: FileId::new(u64_at(32)),
            extra: Bytes::copy_from_slice(&bytes[HEADER_BYTES..HEADER_BYTES + extra]),
            files,
        })
    }
}

fn take_file(rest: &mut Bytes) -> Option<FileMeta> {
    let u64_at = |at: usize| Some(u64::from_le_bytes(*rest.get(at..)?.first_chunk::<8>()?));
    let (id, bytes) = (FileId::new(u64_at(0)?), u64_at(8)?);
    let checksum = u32::from_le_bytes(*rest.get(16..)?.first_chunk::<4>()?);
    let (properties, replaces, taken) = Properties::decode(&rest.slice(FILE_BYTES..))?;
    if !replaces.is_empty() {
        return None;
    }
    *rest = rest.slice(FILE_BYTES + taken..);
    Some(FileMeta { id, bytes, checksum, properties })
}

/// Reads the manifest of a directory; `None` where there is none.
///
/// # Errors
/// `DamagedFile`, `UnsupportedFormat`, `Io`.
pub async fn read<D: Disk>(disk: &D, dir: &Path) -> Result<Option<Manifest>> {
    if !disk.list(dir).await?.iter().any(|entry| entry.name == MANIFEST_NAME) {
        return Ok(None);
    }
    let path = dir.join(MANIFEST_NAME);
    Manifest::decode(&path, &read_file(disk, &path).await?).map(Some)
}

/// Reads a small file whole.
pub(crate) async fn read_file<D: Disk>(disk: &D, path: &Path) -> Result<Vec<u8>> {
    let file = disk.open(path).await?;
    let len = usize::try_from(file.len()).expect("it fits in memory");
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let piece = file
            .read(bytes.len() as u64, BLOCK_BYTES.max((len - bytes.len()).min(1 << 20).next_multiple_of(BLOCK_BYTES)))
            .await?;
        let wanted = piece.len().min(len - bytes.len());
        bytes.extend_from_slice(&piece[..wanted]);
    }
    Ok(bytes)
}

/// Replaces the manifest of a directory, durably and atomically. Returns its bytes.
pub(crate) async fn replace<D: Disk>(disk: &D, dir: &Path, manifest: &Manifest) -> Result<u64> {
    let encoded = manifest.encode();
    let bytes = encoded.len() as u64;
    replace_file(disk, dir, (MANIFEST_NEW_NAME, MANIFEST_NAME), encoded).await?;
    Ok(bytes)
}

/// Replaces a small file of a directory, durably and atomically: under the first name, then under the second.
pub(crate) async fn replace_file<D: Disk>(
    disk: &D,
    dir: &Path,
    (new, name): (&str, &str),
    bytes: Vec<u8>,
) -> Result<()> {
    let new = dir.join(new);
    let file = disk.create(&new).await?;
    file.append(bytes).await?;
    file.sync().await?;
    disk.rename(&new, &dir.join(name)).await?;
    disk.sync_dir(dir).await
}

/// Checks the image of a manifest: for fuzzing and offline inspection.
///
/// # Errors
/// `DamagedFile`, `UnsupportedFormat`.
pub fn check_image(image: &[u8]) -> Result<Manifest> {
    Manifest::decode(Path::new("(image)"), image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::meta::{Class, tests::file};

    #[test]
    fn every_flipped_bit_is_damage() {
        let manifest = Manifest {
            applied: LogIndex::new(7),
            applied_term: Term::new(2),
            next_file: FileId::new(5),
            extra: Bytes::from_static(b"voters"),
            files: vec![file(2, Class::State, 1, 0, 4096), file(4, Class::Messages, 0, 7, 8192)],
        };
        let mut bytes = manifest.encode();
        assert_eq!(Manifest::decode(Path::new("m"), &bytes).unwrap(), manifest);
        for at in 0..bytes.len() * 8 {
            bytes[at / 8] ^= 1 << (at % 8);
            assert!(check_image(&bytes).is_err(), "bit {at}");
            bytes[at / 8] ^= 1 << (at % 8);
        }
        for len in 0..bytes.len() {
            assert!(check_image(&bytes[..len]).is_err());
        }
    }
}
