//! Reads over all files of a tree: rows by key and in ranges, messages of a chat.
//!
//! A chat's messages in a file are neighbours, and files are in order of seq: the newest page of a chat is in the first
//! files that have the chat, one block in each or a few neighbouring ones. Files are asked [`READ_FILES_AT_ONCE`] at a
//! time, so that a page out of several takes less than one read behind the other.
//!
//! The newest messages of a chat are kept as a [`Page`]; the next read takes it, and asks only newer files.
//!
//! Invariants
//! - A read sees one version from its beginning to its end.

use core::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use columba_wire::{ChatId, MessageSeq};
use futures_util::{StreamExt as _, future::join_all, stream::FuturesOrdered};

use super::{
    Tree,
    version::{LiveFile, Version},
};
use crate::{
    env::Disk,
    error::Result,
    limits::{PAGE_KEPT_BYTES_MAX, READ_FILES_AT_ONCE, READ_SPAN_BYTES, TABLE_BLOCK_BYTES},
    message::{StoredMessage, message_key},
    planted::{self, Planted},
    table::{
        block::Block,
        cache::{CacheKey, Cached},
        meta::Class,
        page::Page,
        reader::{Keep, Table},
    },
};

/// A range of keys: from `start`, up to and without `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanRange {
    /// First key.
    pub start: Vec<u8>,
    /// First key that does not belong to it.
    pub end: Vec<u8>,
}

/// Messages of a chat that are wanted: a range of seqs, both ends included, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct MessageRange {
    /// The chat.
    pub chat: ChatId,
    /// Lowest seq.
    pub from: MessageSeq,
    /// Highest seq.
    pub to: MessageSeq,
    /// Messages at most.
    pub count_max: usize,
    /// Bytes of bodies at which the page ends; one message more than fits may come.
    pub bytes_max: usize,
}

impl<D: Disk> Tree<D> {
    /// The value of a state row; `None` where there is none, or it is deleted.
    ///
    /// Cost: at most one block read per file of level 0 and per further level; filters spare most.
    ///
    /// # Errors
    /// `DamagedBlock`, `DamagedFile`, `Io`.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let version = self.version();
        get_in(self, &version, key).await
    }

    /// State rows or inbox entries of a range in ascending order, until `rows_max` or about `bytes_max` of keys and
    /// values; at least one where one exists. A range holds keys of one class.
    ///
    /// # Errors
    /// `DamagedBlock`, `DamagedFile`, `Io`.
    pub async fn scan(
        &self,
        class: Class,
        range: &ScanRange,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let version = self.version();
        scan_in(self, &version, class, range, rows_max, bytes_max).await
    }

    /// Messages of a chat in ascending order, from the lowest of the range.
    ///
    /// # Errors
    /// `DamagedBlock`, `DamagedFile`, `Io`.
    pub async fn oldest_messages(&self, range: &MessageRange) -> Result<Vec<StoredMessage>> {
        let version = self.version();
        oldest_in(self, &version, range).await
    }

    /// Messages of a chat in descending order, from the highest of the range. What is found of a range without an upper
    /// end is kept.
    ///
    /// Cost: nothing but copies where the page is kept; else one index lookup per file that may have the chat, then one
    /// read in each that has some of the page.
    ///
    /// # Errors
    /// `DamagedBlock`, `DamagedFile`, `Io`.
    pub async fn newest_messages(&self, range: &MessageRange) -> Result<Vec<StoredMessage>> {
        let version = self.version();
        if let Some(page) = self.shared().blocks().page(self.number(), range.chat)
            && let Some(found) = newest_beside(self, &version, &page, range).await?
        {
            return Ok(found);
        }
        if range.to < MessageSeq::MAX {
            return newest_in(self, &version.messages, range, Keep::Blocks).await;
        }
        let messages = newest_in(self, &version.messages, range, Keep::Nothing).await?;
        Ok(keep_page(self, &version, range, messages))
    }
}

/// The newest messages with the help of a page: newer files are asked for newer ones. `None` where it does not reach so
/// far down.
async fn newest_beside<D: Disk>(
    tree: &Tree<D>,
    version: &Version,
    page: &Page,
    range: &MessageRange,
) -> Result<Option<Vec<StoredMessage>>> {
    let applied = version.manifest.applied;
    if range.to <= page.newest_seq() || applied == page.applied() {
        return Ok(page.newest(range.from, range.to, range.count_max, range.bytes_max));
    }
    let is_newer = |file: &&Rc<LiveFile>| file.meta.properties.applied_high > page.applied();
    let files: Vec<_> = version.messages.iter().filter(is_newer).cloned().collect();
    let above = MessageRange { from: range.from.max(page.newest_seq().next()), ..*range };
    let keep = if range.to == MessageSeq::MAX { Keep::Nothing } else { Keep::Blocks };
    let mut messages = newest_in(tree, &files, &above, keep).await?;
    let bytes: usize = messages.iter().map(|message| message.body.len()).sum();
    if messages.len() < range.count_max && bytes < range.bytes_max {
        let (count_max, bytes_max) = (range.count_max - messages.len(), range.bytes_max - bytes);
        let Some(found) = page.newest(range.from, page.newest_seq(), count_max, bytes_max) else {
            return Ok(None);
        };
        if messages.is_empty() {
            // Nothing newer at all: not only nothing in a part of it.
            if range.to == MessageSeq::MAX && range.from <= page.newest_seq().next() {
                page.confirm(applied);
            }
            return Ok(Some(found));
        }
        messages.extend(found);
    }
    if keep == Keep::Nothing {
        messages = keep_page(tree, version, range, messages);
    }
    Ok(Some(messages))
}

/// Keeps what was found of a range without an upper end.
fn keep_page<D: Disk>(
    tree: &Tree<D>,
    version: &Version,
    range: &MessageRange,
    messages: Vec<StoredMessage>,
) -> Vec<StoredMessage> {
    let bytes: usize = messages.iter().map(|message| message.body.len()).sum();
    let Some(last) = messages.last().filter(|_| bytes <= PAGE_KEPT_BYTES_MAX) else {
        return messages;
    };
    let is_full = messages.len() == range.count_max || bytes >= range.bytes_max;
    let page = Page::new(version.manifest.applied, if is_full { last.seq } else { range.from }, &messages);
    let page = Rc::new(page);
    tree.shared().blocks().insert(CacheKey::Page(tree.number(), range.chat), Cached::Page(Rc::clone(&page)));
    // Its own copies, so that nobody keeps the blocks.
    page.newest(range.from, range.to, range.count_max, range.bytes_max).expect("it is what was found")
}

pub(super) async fn get_in<D: Disk>(tree: &Tree<D>, version: &Version, key: &[u8]) -> Result<Option<Bytes>> {
    let mut end = key.to_vec();
    end.push(0);
    for file in version.state_files(key, &end) {
        let table = tree.table(file).await?;
        let found = table.get(key, tree.shared().blocks()).await;
        if let Some(found) = tree.watch(file, found)? {
            return Ok(found);
        }
    }
    Ok(None)
}

/// A place in a file of rows.
struct Cursor<D: Disk> {
    file: Rc<LiveFile>,
    table: Rc<Table<D::File>>,
    number: usize,
    block: Rc<Block>,
    row: usize,
}

impl<D: Disk> Cursor<D> {
    /// On the first row at or above `start`; `None` where there is none.
    async fn seek(tree: &Tree<D>, file: &Rc<LiveFile>, start: &[u8]) -> Result<Option<Self>> {
        let table = tree.table(file).await?;
        let number = table.block_of(start).unwrap_or(0);
        let block = tree.watch(file, table.rows(number, tree.shared().blocks()).await)?;
        let row = block.lower_bound(start);
        let mut cursor = Self { file: Rc::clone(file), table, number, block, row };
        if row == cursor.block.len() && !cursor.next_block(tree).await? {
            return Ok(None);
        }
        Ok(Some(cursor))
    }

    async fn next_block(&mut self, tree: &Tree<D>) -> Result<bool> {
        self.number += 1;
        if self.number == self.table.blocks() {
            return Ok(false);
        }
        self.block = tree.watch(&self.file, self.table.rows(self.number, tree.shared().blocks()).await)?;
        self.row = 0;
        Ok(true)
    }

    fn key(&self) -> &[u8] {
        self.block.key(self.row)
    }

    /// To the next row; whether there is one.
    async fn advance(&mut self, tree: &Tree<D>) -> Result<bool> {
        self.row += 1;
        Ok(self.row < self.block.len() || self.next_block(tree).await?)
    }
}

pub(super) async fn scan_in<D: Disk>(
    tree: &Tree<D>,
    version: &Version,
    class: Class,
    range: &ScanRange,
    rows_max: usize,
    bytes_max: usize,
) -> Result<Vec<(Bytes, Bytes)>> {
    let ScanRange { start, end } = range;
    let files: Vec<_> = match class {
        Class::Messages => panic!("messages are not rows"),
        Class::Inbox => version.inbox.iter().filter(|file| file.meta.properties.overlaps(start, end)).collect(),
        Class::State => version.state_files(start, end).collect(),
    };
    let seeks = files.into_iter().map(|file| Cursor::seek(tree, file, start));
    let mut cursors = Vec::new();
    for cursor in join_all(seeks).await {
        cursors.extend(cursor?);
    }
    let mut rows = Vec::new();
    let mut bytes = 0usize;
    while rows.len() < rows_max && (bytes < bytes_max || rows.is_empty()) {
        // The first of equal ones is the newest: it decides.
        let Some(best) = cursors.iter().enumerate().min_by_key(|(_, cursor)| cursor.key()).map(|(n, _)| n) else {
            break;
        };
        let key = cursors[best].block.key_bytes(cursors[best].row);
        if key[..] >= end[..] {
            break;
        }
        if let Some(value) = cursors[best].block.value(cursors[best].row) {
            bytes = bytes.saturating_add(key.len() + value.len());
            rows.push((key.clone(), value));
        }
        let mut n = 0;
        while n < cursors.len() {
            if cursors[n].key() == &key[..] && !cursors[n].advance(tree).await? {
                cursors.remove(n);
            } else {
                n += 1;
            }
        }
    }
    Ok(rows)
}

/// The files that may have messages of a chat in the range, newest first.
async fn files_of<D: Disk>(
    tree: &Tree<D>,
    files: &[Rc<LiveFile>],
    range: &MessageRange,
) -> Result<Vec<(Rc<LiveFile>, Rc<Table<D::File>>)>> {
    let (low, high) = (message_key(range.chat, range.from), message_key(range.chat, range.to));
    let may_hold = |file: &&Rc<LiveFile>| {
        let properties = &file.meta.properties;
        properties.first_key[..] <= high[..] && low[..] <= properties.last_key[..]
    };
    let files: Vec<_> = files.iter().filter(may_hold).collect();
    let mut found = Vec::new();
    for file in &files {
        let table = tree.table(file).await?;
        let denied = planted::is(Planted::StaleFilter) && file.meta.properties.level > 0 && high[16].is_multiple_of(4);
        if table.may_contain(&low) && !denied {
            found.push((Rc::clone(file), table));
        }
    }
    Ok(found)
}

/// A file that may have messages of a range, and its blocks that may.
struct Candidate<D: Disk> {
    file: Rc<LiveFile>,
    table: Rc<Table<D::File>>,
    blocks: Range<usize>,
}

/// The newest messages in these files, which are in order, the newest first.
pub(super) async fn newest_in<D: Disk>(
    tree: &Tree<D>,
    files: &[Rc<LiveFile>],
    range: &MessageRange,
    keep: Keep,
) -> Result<Vec<StoredMessage>> {
    let (low, high) = (message_key(range.chat, range.from), message_key(range.chat, range.to));
    let mut messages: Vec<StoredMessage> = Vec::new();
    let mut bytes = 0usize;
    // Filters are asked for a group of files; those that may be needed are read together.
    for group in files.chunks(READ_FILES_AT_ONCE) {
        let candidates = files_of(tree, group, range).await?.into_iter().map(|(file, table)| {
            let blocks = table.blocks_of(&low, &high);
            Candidate { file, table, blocks }
        });
        let candidates: Vec<Candidate<D>> = candidates.collect();
        let mut later = &candidates[..];
        while !later.is_empty() {
            let now;
            (now, later) = later.split_at(files_needed(later, range.count_max - messages.len()));
            let reads = now.iter().map(|candidate| newest_of_file(tree, candidate, range, keep));
            // In order, and not to the last: what comes first may be enough.
            let mut reads: FuturesOrdered<_> = reads.collect();
            while let Some(found) = reads.next().await {
                for message in found? {
                    assert!(
                        messages.last().is_none_or(|last| last.seq > message.seq),
                        "chat {}: files are in order of seq",
                        range.chat
                    );
                    bytes = bytes.saturating_add(message.body.len());
                    messages.push(message);
                    if messages.len() == range.count_max || bytes >= range.bytes_max {
                        return Ok(messages);
                    }
                }
                if messages.last().is_some_and(|last| last.seq <= range.from) {
                    return Ok(messages);
                }
            }
        }
    }
    Ok(messages)
}

/// How many of these files, at least one, it takes for so many messages, as far as their indexes tell: a chat that
/// begins several blocks fills all but the outermost. One that begins none may have any number in a file.
fn files_needed<D: Disk>(candidates: &[Candidate<D>], messages: usize) -> usize {
    let mut likely = 0u64;
    let enough = candidates.iter().position(|Candidate { table, blocks, .. }| {
        let half_blocks = (2 * blocks.len() as u64).saturating_sub(3);
        likely += half_blocks * (TABLE_BLOCK_BYTES as u64 / 2) / table.row_bytes_mean();
        likely >= messages as u64
    });
    enough.map_or(candidates.len(), |last| last + 1)
}

/// The newest messages of a chat in one file, descending.
async fn newest_of_file<D: Disk>(
    tree: &Tree<D>,
    Candidate { file, table, blocks }: &Candidate<D>,
    range: &MessageRange,
    keep: Keep,
) -> Result<Vec<StoredMessage>> {
    let mut messages = Vec::new();
    let mut bytes = 0usize;
    let mut end = blocks.end;
    while end > blocks.start && messages.len() < range.count_max && bytes < range.bytes_max {
        // How many neighbours are likely to be needed: half of the last one belongs to the chat, the others do whole.
        let lacking = (range.count_max - messages.len()) as u64;
        let wanted = lacking.saturating_mul(table.row_bytes_mean()).min((range.bytes_max - bytes) as u64);
        let mut start = end - 1;
        let mut taken = if end == blocks.end { table.block_bytes(start) / 2 } else { table.block_bytes(start) };
        while start > blocks.start && (taken as u64) < wanted && taken < READ_SPAN_BYTES {
            start -= 1;
            taken += table.block_bytes(start);
        }
        let found = table.messages(start..end, tree.shared().blocks(), keep).await;
        for block in tree.watch(file, found)?.iter().rev() {
            for n in block.range(range.chat, range.from, range.to).rev() {
                if messages.len() == range.count_max || bytes >= range.bytes_max {
                    return Ok(messages);
                }
                let message = block.message(n);
                bytes = bytes.saturating_add(message.body.len());
                messages.push(message);
            }
        }
        end = start;
    }
    Ok(messages)
}

pub(super) async fn oldest_in<D: Disk>(
    tree: &Tree<D>,
    version: &Version,
    range: &MessageRange,
) -> Result<Vec<StoredMessage>> {
    // From the newest file back to the one in which the range begins.
    let mut begins = Vec::new();
    'files: for group in version.messages.chunks(READ_FILES_AT_ONCE) {
        let candidates = files_of(tree, group, range).await?;
        let probes = candidates.iter().map(|(file, table)| probe(tree, file, table, range));
        let probes = join_all(probes).await;
        for (candidate, probed) in candidates.into_iter().zip(probes) {
            let Probe { has_any, is_first } = probed?;
            if has_any {
                begins.push(candidate);
            }
            if is_first {
                break 'files;
            }
        }
    }
    let mut messages: Vec<StoredMessage> = Vec::new();
    let mut bytes = 0usize;
    for (file, table) in begins.iter().rev() {
        let blocks = table.blocks_of(&message_key(range.chat, range.from), &message_key(range.chat, range.to));
        let mut start = blocks.start;
        while start < blocks.end {
            let lacking = (range.count_max - messages.len()) as u64;
            let wanted = lacking.saturating_mul(table.row_bytes_mean()).min((range.bytes_max - bytes) as u64);
            let mut end = start + 1;
            let mut taken = table.block_bytes(start);
            while end < blocks.end && (taken as u64) < wanted && taken < READ_SPAN_BYTES {
                taken += table.block_bytes(end);
                end += 1;
            }
            let found = table.messages(start..end, tree.shared().blocks(), Keep::Blocks).await;
            for block in tree.watch(file, found)? {
                for n in block.range(range.chat, range.from, range.to) {
                    let message = block.message(n);
                    bytes = bytes.saturating_add(message.body.len());
                    messages.push(message);
                    if messages.len() == range.count_max || bytes >= range.bytes_max {
                        return Ok(messages);
                    }
                }
            }
            start = end;
        }
    }
    Ok(messages)
}

/// What a file has of a range.
struct Probe {
    /// Messages of the range.
    has_any: bool,
    /// A message of the chat at or below the range's beginning: older files have nothing of it.
    is_first: bool,
}

async fn probe<D: Disk>(
    tree: &Tree<D>,
    file: &LiveFile,
    table: &Table<D::File>,
    range: &MessageRange,
) -> Result<Probe> {
    let low = message_key(range.chat, range.from);
    let blocks = table.blocks_of(&low, &message_key(range.chat, range.to));
    let Some(number) = blocks.clone().next() else {
        return Ok(Probe { has_any: false, is_first: false });
    };
    let found = table.messages(number..number + 1, tree.shared().blocks(), Keep::Blocks).await;
    let block = Rc::clone(&tree.watch(file, found)?[0]);
    let begin = block.lower_bound(range.chat, range.from);
    let chat_at = |n: usize| (n < block.len()).then(|| block.key(n)).filter(|(chat, _)| *chat == range.chat);
    let here = chat_at(begin).filter(|(_, seq)| *seq <= range.to);
    let below = begin.checked_sub(1).and_then(chat_at);
    // Where the chat goes on in the next block, that one begins with it.
    let next_has = number + 1 < table.blocks() && {
        let key = table.first_key(number + 1);
        low[..17] == key[..17] && key[..] <= message_key(range.chat, range.to)[..]
    };
    Ok(Probe {
        has_any: here.is_some() || next_has,
        is_first: below.is_some() || here.is_some_and(|(_, seq)| seq <= range.from),
    })
}
