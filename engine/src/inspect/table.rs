//! A table file: each part by itself, so that one that is damaged hides no other.
//!
//! Invariants
//! - Where the index is whole every block is looked at by its place; else blocks are found one behind the other, and
//!   behind a damaged one by their magic.

use core::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Damage, dump::key_text};
use crate::{
    env::{Disk, DiskFile},
    error::Result,
    ids::FileId,
    limits::{BLOCK_BYTES, TABLE_READ_AHEAD_BYTES},
    table::{
        chats::{ChatRange, parse_chats},
        footer::Footer,
        index::{Index, Place},
        meta::{FileMeta, Properties},
        reader::{check_section, read_exact},
        walk::{AnyBlock, Walk},
    },
};

/// A table file.
#[derive(Clone, Debug, Default)]
pub struct TableInspection {
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// As a manifest would name it; `None` where footer or properties are damaged.
    pub meta: Option<FileMeta>,
    /// The files that it was merged from.
    pub replaces: Vec<FileId>,
    /// Data blocks, as the index says.
    pub blocks: Option<usize>,
    /// Data blocks that were read and are whole; 0 where they were not to be read.
    pub blocks_whole: usize,
    /// Rows in these.
    pub rows_whole: u64,
    /// The chats of a message file; `None` where their list is damaged.
    pub chats: Option<Vec<ChatRange>>,
    /// Bytes of the filter.
    pub filter_bytes: u64,
    /// Whether the whole-file checksum matches; `None` where it was not computed.
    pub checksum_matches: Option<bool>,
    /// All damage.
    pub damages: Vec<Damage>,
}

impl TableInspection {
    /// Whether no damage was found.
    pub const fn is_whole(&self) -> bool {
        self.damages.is_empty()
    }

    fn damage(&mut self, offset: u64, reason: impl Into<String>) {
        self.damages.push(Damage::new(&self.path, offset, reason));
    }
}

impl fmt::Display for TableInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.meta {
            None => write!(f, "{} bytes", self.bytes)?,
            Some(FileMeta { properties, bytes, .. }) => {
                let Properties { class, level, window, rows, applied_low, applied_high, .. } = properties;
                write!(f, "{}, level {level}, window {window}, {rows} rows, {bytes} bytes", class.name())?;
                write!(f, ", entries {applied_low}..{applied_high}")?;
                write!(f, ", from {} to {}", key_text(&properties.first_key), key_text(&properties.last_key))?;
            }
        }
        if let Some(blocks) = self.blocks {
            write!(f, ", {blocks} blocks")?;
        }
        if let Some(chats) = self.chats.as_ref().filter(|chats| !chats.is_empty()) {
            write!(f, ", {} chats", chats.len())?;
        }
        write!(f, ", filter {} bytes", self.filter_bytes)?;
        match self.checksum_matches {
            Some(true) => writeln!(f, ", checksum ok")?,
            Some(false) => writeln!(f, ", checksum WRONG")?,
            None => writeln!(f)?,
        }
        self.damages.iter().try_for_each(|damage| writeln!(f, "    {damage}"))
    }
}

/// Looks at a table file, and at every byte of it.
pub async fn inspect_table<D: Disk>(disk: &D, path: &Path) -> TableInspection {
    survey(disk, path, true).await
}

/// The same; without `verify` its data blocks are not read.
pub(crate) async fn survey<D: Disk>(disk: &D, path: &Path, verify: bool) -> TableInspection {
    let mut found = TableInspection { path: path.to_owned(), ..TableInspection::default() };
    let surveyed = async {
        let file = disk.open(path).await?;
        found.bytes = file.len();
        survey_file(&mut found, &file, verify).await
    };
    if let Err(error) = surveyed.await {
        let damage = Damage::of(path, 0, &error);
        found.damages.push(damage);
    }
    found
}

async fn survey_file<F: DiskFile>(found: &mut TableInspection, file: &F, verify: bool) -> Result<()> {
    let block = BLOCK_BYTES as u64;
    let (path, bytes) = (found.path.clone(), found.bytes);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let named = name.rsplit('-').next().and_then(|id| id.get(..16)).and_then(|id| u64::from_str_radix(id, 16).ok());
    let mut footer = None;
    if bytes < block || !bytes.is_multiple_of(block) {
        found.damage(0, "its length is not that of a table file");
    } else {
        let tail = file.read(bytes - block, BLOCK_BYTES).await?;
        match Footer::decode(&path, &tail, bytes) {
            Ok(decoded) => footer = Some(decoded),
            Err(error) => found.damages.push(Damage::of(&path, bytes - block, &error)),
        }
    }
    let id = named.map(FileId::new).or(footer.map(|footer| footer.file)).unwrap_or_default();
    let footer = footer.filter(|footer| {
        let is_own = footer.file == id;
        if !is_own {
            found.damages.push(Damage::new(&path, bytes - block, "it is the footer of another file"));
        }
        is_own
    });
    let mut index = None;
    if let Some(footer) = &footer {
        index = survey_sections(found, file, footer).await?;
        found.blocks = index.as_ref().map(Index::len);
    }
    if !verify {
        return Ok(());
    }
    let data_end = footer.map_or(bytes, |footer| footer.chats_at);
    let mut walk = Walk::new(file.clone(), id, data_end);
    let mut last_key = Vec::new();
    match &index {
        Some(index) => {
            for n in 0..index.len() {
                let (first_key, Place { offset, bytes }) = (index.first_key(n), index.place(n));
                let read = walk.block(offset).await?;
                match read {
                    Ok((block, len)) if len == bytes as u64 => {
                        note_block(found, &block, offset, &mut last_key, Some(first_key));
                    }
                    Ok(_) => found.damage(offset, "a block has another length than the index says"),
                    Err(error) => {
                        let next = (n + 1 < index.len()).then(|| index.first_key(n + 1));
                        let reason = lost_text(&error, first_key, next, found.meta.as_ref());
                        found.damage(offset, reason);
                    }
                }
            }
        }
        None => walk_blocks(found, &mut walk, data_end, &mut last_key).await?,
    }
    if let (Some(meta), true) = (&found.meta, found.damages.is_empty())
        && meta.properties.rows != found.rows_whole
    {
        found.damage(0, "it has another number of rows than it says");
    }
    if let Some(footer) = &footer {
        let matches = checksum(file, bytes - block).await? == footer.checksum;
        found.checksum_matches = Some(matches);
        if !matches && found.damages.is_empty() {
            found.damage(0, "the whole-file checksum does not match, and every block does");
        }
    }
    Ok(())
}

fn lost_text(error: &crate::error::Error, first: &[u8], next: Option<&[u8]>, meta: Option<&FileMeta>) -> String {
    let reason = Damage::of(Path::new(""), 0, error).reason;
    let last = meta.map(|meta| &meta.properties.last_key);
    match (next, last) {
        (Some(next), _) => format!("a block with {} up to below {}: {reason}", key_text(first), key_text(next)),
        (None, Some(last)) => format!("a block with {} up to {}: {reason}", key_text(first), key_text(last)),
        (None, None) => format!("a block from {} on: {reason}", key_text(first)),
    }
}

fn note_block(
    found: &mut TableInspection,
    block: &AnyBlock,
    offset: u64,
    last_key: &mut Vec<u8>,
    first_key: Option<&[u8]>,
) {
    found.blocks_whole += 1;
    found.rows_whole += block.len() as u64;
    let first = block.key(0);
    if first_key.is_some_and(|key| *key != first[..]) {
        found.damage(offset, "the index names another first key than the block has");
    }
    if !last_key.is_empty() && first <= *last_key {
        found.damage(offset, "its keys do not ascend from the block before");
    }
    *last_key = block.key(block.len() - 1);
}

/// Without an index: one block behind the other, and behind a damaged one the next that looks like one.
async fn walk_blocks<F: DiskFile>(
    found: &mut TableInspection,
    walk: &mut Walk<F>,
    end: u64,
    last_key: &mut Vec<u8>,
) -> Result<()> {
    let mut at = 0;
    while at < end {
        if let Ok((block, len)) = walk.block(at).await? {
            note_block(found, &block, at, last_key, None);
            at += len;
            continue;
        }
        let mut next = walk.next_magic(at + 1).await?;
        while let Some(place) = next
            && walk.block(place).await?.is_err()
        {
            next = walk.next_magic(place + 1).await?;
        }
        match next {
            Some(next) => found.damage(at, format!("no block is whole up to byte {next}")),
            None => found.damage(at, "no block is whole from here on: what is not data is here, or damage"),
        }
        at = next.unwrap_or(end);
    }
    Ok(())
}

/// Reads the sections; returns the index where it is whole.
async fn survey_sections<F: DiskFile>(found: &mut TableInspection, file: &F, footer: &Footer) -> Result<Option<Index>> {
    let places = [footer.chats_at, footer.filter_at, footer.index_at, footer.properties_at, footer.end];
    let mut sections = Vec::new();
    for (pair, name) in places.windows(2).zip(["chats", "filter", "index", "properties"]) {
        let len = usize::try_from(pair[1] - pair[0]).unwrap_or(usize::MAX);
        let content = check_section(&read_exact(file, pair[0], len).await?);
        if content.is_none() {
            found.damage(pair[0], format!("the {name} do not match their crc"));
        }
        sections.push(content);
    }
    let [chats, filter, index, properties]: [_; 4] = sections.try_into().expect("four of them");
    found.filter_bytes = filter.map_or(0, |filter: Bytes| filter.len() as u64);
    if let Some(chats) = chats {
        found.chats = parse_chats(&chats);
        if found.chats.is_none() {
            found.damage(footer.chats_at, "the list of chats is malformed");
        }
    }
    if let Some(properties) = properties {
        match Properties::decode(&properties).filter(|(_, _, taken)| *taken == properties.len()) {
            Some((properties, replaces, _)) => {
                let (id, bytes, checksum) = (footer.file, found.bytes, footer.checksum);
                found.meta = Some(FileMeta { id, bytes, checksum, properties });
                found.replaces = replaces;
            }
            None => found.damage(footer.properties_at, "the properties are malformed"),
        }
    }
    let Some(index) = index else {
        return Ok(None);
    };
    let index = Index::parse(index, footer.chats_at);
    if index.is_none() {
        found.damage(footer.index_at, "the index is malformed");
    }
    Ok(index)
}

async fn checksum<F: DiskFile>(file: &F, end: u64) -> Result<u32> {
    let mut checksum = crc32fast::Hasher::new();
    let mut at = 0;
    while at < end {
        let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(TABLE_READ_AHEAD_BYTES);
        checksum.update(&file.read(at, len).await?[..len]);
        at += len as u64;
    }
    Ok(checksum.finalize())
}
