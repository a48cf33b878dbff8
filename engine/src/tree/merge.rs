//! Merges files into new ones: beside the core, from what the manifest says of the inputs.
//!
//! A merge reads each input once, in large pieces and past the cache, and writes one sequence. What [`Keep`] denies is
//! left out; a file that would be empty is not written.
//!
//! Invariants
//! - An output's rows are those of the inputs, each key once, from the first input that has it; but for deletion
//!   markers that hide nothing, and what nobody may read any more.
//! - After an error no file of it is left.

use bytes::Bytes;
use columba_wire::{ChatId, MessageSeq};

use super::{new_files::NewFiles, plan::Merge};
use crate::{
    background::Slice,
    env::{Disk, DiskFile},
    error::{Error, Result},
    ids::FileId,
    limits::STATE_FILE_BYTES,
    message::StoredMessage,
    planted::{self, Planted},
    table::{
        block::Block,
        columns::MessageBlock,
        meta::{Class, FileMeta},
        reader::{BlockReader, Table},
        writer::{FileKind, TableWriter},
    },
};

/// Which rows of a block anybody may still read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Living(Option<Vec<bool>>);

impl Living {
    /// All of them.
    pub const ALL: Self = Self(None);

    /// Those that are true, in order of the block's rows.
    pub fn these(living: impl Iterator<Item = bool>) -> Self {
        Self(Some(living.collect()))
    }

    fn has(&self, row: usize) -> bool {
        self.0.as_ref().is_none_or(|living| living[row])
    }
}

/// What a merge asks of each block. It goes with the merge, away from the core.
pub trait Keep: Send + 'static {
    /// About messages.
    fn living_messages(&mut self, block: &MessageBlock) -> impl Future<Output = Living>;
    /// About inbox entries.
    fn living_entries(&mut self, block: &Block) -> impl Future<Output = Living>;
}

/// Why a merge came to nothing.
pub(super) struct Failed {
    /// The input that could not be read.
    pub(super) input: Option<usize>,
    pub(super) error: Error,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { input: None, error }
    }
}

/// Says which input could not be read.
fn from_input<T>(input: usize, result: Result<T>) -> Result<T, Failed> {
    result.map_err(|error| Failed { input: Some(input), error })
}

/// A merge to be done.
pub(super) struct MergeJob<K> {
    files: NewFiles,
    merge: Merge,
    inputs: Vec<FileMeta>,
    keep: K,
}

impl<K: Keep> MergeJob<K> {
    /// `inputs` are those of `merge`, in its order.
    pub(super) fn new(files: NewFiles, merge: Merge, inputs: Vec<FileMeta>, keep: K) -> Self {
        Self { files, merge, inputs, keep }
    }

    /// Does it; what it wrote is durable then.
    pub(super) async fn run<D: Disk>(self, disk: &D) -> Result<Vec<FileMeta>, Failed> {
        let Self { files, merge, inputs, mut keep } = self;
        let mut output = Output::new(disk, &files, &merge, &inputs);
        let merged = async {
            let mut tables = Vec::new();
            for (n, input) in inputs.iter().enumerate() {
                tables.push(from_input(n, files.open(disk, input).await)?);
            }
            match merge.class {
                Class::Messages => merge_messages(tables, &mut keep, &mut output).await?,
                Class::Inbox | Class::State => merge_rows(&merge, tables, &mut keep, &mut output).await?,
            }
            Ok(output.finish().await?)
        };
        match merged.await {
            Ok(()) => Ok(output.written),
            Err(failed) => {
                files.remove(disk, &output.begun).await;
                Err(failed)
            }
        }
    }
}

async fn merge_rows<D: Disk>(
    merge: &Merge,
    inputs: Vec<Table<D::File>>,
    keep: &mut impl Keep,
    output: &mut Output<'_, D>,
) -> Result<(), Failed> {
    let mut cursors: Vec<_> = inputs.into_iter().map(RowCursor::new).collect();
    for (n, cursor) in cursors.iter_mut().enumerate() {
        from_input(n, cursor.advance(merge.class, keep, &mut output.slice).await)?;
    }
    loop {
        let mut best: Option<usize> = None;
        for (n, cursor) in cursors.iter().enumerate() {
            let Some(key) = cursor.key() else { continue };
            if best.and_then(|best| cursors[best].key()).is_none_or(|found| key < found) {
                best = Some(n);
            }
        }
        let Some(best) = best else { return Ok(()) };
        let (key, value, is_living) = cursors[best].row().expect("the best cursor is on a row");
        let wanted = is_living && (value.is_some() || !merge.drops_markers);
        // A row of the newest input that is lost on the way.
        let lost = planted::is(Planted::RowLostInMerge) && best == 0 && key.last().is_some_and(|byte| byte % 4 == 1);
        if wanted && !lost {
            output.push(&key, value.as_deref()).await?;
        }
        for (n, cursor) in cursors.iter_mut().enumerate() {
            if cursor.key() == Some(&key[..]) {
                from_input(n, cursor.advance(merge.class, keep, &mut output.slice).await)?;
            }
        }
    }
}

async fn merge_messages<D: Disk>(
    inputs: Vec<Table<D::File>>,
    keep: &mut impl Keep,
    output: &mut Output<'_, D>,
) -> Result<(), Failed> {
    let mut cursors: Vec<_> = inputs.into_iter().map(MessageCursor::new).collect();
    for (n, cursor) in cursors.iter_mut().enumerate() {
        from_input(n, cursor.load(keep, &mut output.slice).await)?;
    }
    loop {
        let ready = cursors.iter().enumerate().filter_map(|(n, cursor)| Some((cursor.key()?, n)));
        let Some((first, best)) = ready.min() else { return Ok(()) };
        // Up to where another input goes on, or the block ends.
        let next = cursors.iter().enumerate().filter(|(n, _)| *n != best).filter_map(|(_, cursor)| cursor.key());
        let bound = next.min();
        let cursor = &mut cursors[best];
        assert!(bound.is_none_or(|bound| bound != first), "a message is in one file");
        while let Some((chat, seq)) = cursor.key() {
            if bound.is_some_and(|bound| (chat, seq) > bound) {
                break;
            }
            let lost = planted::is(Planted::RowLostInMerge) && best == 0 && seq.get() % 4 == 1;
            if cursor.is_living() && !lost {
                output.push_message(chat, &cursor.message()).await?;
            }
            if cursor.step() {
                break;
            }
        }
        if cursor.key().is_none() {
            from_input(best, cursor.load(keep, &mut output.slice).await)?;
        }
    }
}

/// What a merge writes.
struct Output<'a, D: Disk> {
    disk: &'a D,
    files: &'a NewFiles,
    kind: FileKind,
    replaces: Vec<FileId>,
    file_bytes_max: u64,
    writer: Option<TableWriter<D::File>>,
    begun: Vec<FileId>,
    written: Vec<FileMeta>,
    slice: Slice,
}

impl<'a, D: Disk> Output<'a, D> {
    fn new(disk: &'a D, files: &'a NewFiles, merge: &Merge, inputs: &[FileMeta]) -> Self {
        let properties = || inputs.iter().map(|file| &file.properties);
        let last = properties().max_by_key(|one| one.applied_high).expect("a merge has inputs");
        let kind = FileKind {
            class: merge.class,
            level: merge.level,
            window: merge.window,
            applied_low: properties().map(|one| one.applied_low).min().expect("a merge has inputs"),
            applied_high: last.applied_high,
            term: last.term,
        };
        // Only levels of state rows are cut: message files of a window must not share a range of log entries.
        let file_bytes_max = if merge.class == Class::State { STATE_FILE_BYTES } else { u64::MAX };
        Self {
            disk,
            files,
            kind,
            replaces: merge.inputs.clone(),
            file_bytes_max,
            writer: None,
            begun: Vec::new(),
            written: Vec::new(),
            slice: Slice::aside(),
        }
    }

    async fn writer(&mut self) -> Result<&mut TableWriter<D::File>> {
        if self.writer.as_ref().is_some_and(|writer| writer.bytes() >= self.file_bytes_max) {
            self.finish().await?;
        }
        if self.writer.is_none() {
            self.writer = Some(self.files.begin(self.disk, self.kind.clone(), &mut self.begun).await?);
        }
        Ok(self.writer.as_mut().expect("it was there or was just made"))
    }

    async fn push(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        self.writer().await?;
        let writer = self.writer.as_mut().expect("it was just made");
        writer.push(key, value, &mut self.slice).await
    }

    async fn push_message(&mut self, chat: ChatId, message: &StoredMessage) -> Result<()> {
        if self.writer.is_none() {
            self.writer().await?;
        }
        let writer = self.writer.as_mut().expect("it was just made");
        writer.push_message(chat, message, &mut self.slice).await
    }

    async fn finish(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            self.written.push(writer.finish(&self.replaces, &mut self.slice).await?);
        }
        Ok(())
    }
}

/// The rows of an input, in order.
struct RowCursor<F: DiskFile> {
    table: Table<F>,
    reader: BlockReader,
    block: Option<Block>,
    living: Living,
    row: usize,
}

impl<F: DiskFile> RowCursor<F> {
    fn new(table: Table<F>) -> Self {
        Self { reader: BlockReader::default(), table, block: None, living: Living::ALL, row: 0 }
    }

    fn key(&self) -> Option<&[u8]> {
        self.block.as_ref().map(|block| block.key(self.row))
    }

    /// Key, value, and whether anybody may still read it.
    fn row(&self) -> Option<(Bytes, Option<Bytes>, bool)> {
        let block = self.block.as_ref()?;
        Some((block.key_bytes(self.row), block.value(self.row), self.living.has(self.row)))
    }

    /// To the next row; the first one at first. `class` is that of the file.
    async fn advance(&mut self, class: Class, keep: &mut impl Keep, slice: &mut Slice) -> Result<()> {
        if let Some(block) = &self.block
            && self.row + 1 < block.len()
        {
            self.row += 1;
            return Ok(());
        }
        self.row = 0;
        self.block = match self.reader.next(&self.table, slice).await? {
            Some((offset, bytes)) => Some(Block::decode(bytes, self.table.id(), offset)?),
            None => None,
        };
        if let (Class::Inbox, Some(block)) = (class, &self.block) {
            self.living = keep.living_entries(block).await;
        }
        slice.checkpoint().await;
        Ok(())
    }
}

/// The messages of an input, in order.
struct MessageCursor<F: DiskFile> {
    table: Table<F>,
    reader: BlockReader,
    block: Option<MessageBlock>,
    living: Living,
    at: usize,
}

impl<F: DiskFile> MessageCursor<F> {
    fn new(table: Table<F>) -> Self {
        Self { reader: BlockReader::default(), table, block: None, living: Living::ALL, at: 0 }
    }

    fn key(&self) -> Option<(ChatId, MessageSeq)> {
        self.block.as_ref().map(|block| block.key(self.at))
    }

    fn message(&self) -> StoredMessage {
        self.block.as_ref().expect("the cursor is on a message").message(self.at)
    }

    /// Whether anybody may still read the message.
    fn is_living(&self) -> bool {
        self.living.has(self.at)
    }

    /// To the next message of the block; whether the block is at its end. Then [`Self::load`] goes on.
    fn step(&mut self) -> bool {
        self.at += 1;
        if self.block.as_ref().is_some_and(|block| self.at < block.len()) {
            return false;
        }
        self.block = None;
        true
    }

    async fn load(&mut self, keep: &mut impl Keep, slice: &mut Slice) -> Result<()> {
        self.at = 0;
        self.block = match self.reader.next(&self.table, slice).await? {
            Some((offset, bytes)) => Some(MessageBlock::decode(bytes, self.table.id(), offset)?),
            None => None,
        };
        if let Some(block) = &self.block {
            self.living = keep.living_messages(block).await;
        }
        slice.checkpoint().await;
        Ok(())
    }
}
