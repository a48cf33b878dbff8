//! Carries out plans: drops files, and merges files into new ones, in slices.
//!
//! A merge reads each input once, in large pieces and past the cache, and writes one sequence. What [`Keep`] denies is
//! left out; a file that would be empty is not written.
//!
//! Invariants
//! - What is live stays readable until the manifest that no longer names it is durable, and as long as anybody reads.
//! - Without space, or with damage in an input, nothing changes: partial files are removed, the inputs stay.

use std::rc::Rc;

use bytes::Bytes;
use columba_wire::{ChatId, MessageSeq};

use super::{
    Tree,
    plan::{Merge, Plan},
    version::LiveFile,
};
use crate::{
    background::Slice,
    env::Disk,
    error::Result,
    ids::FileId,
    limits::STATE_FILE_BYTES,
    planted::{self, Planted},
    table::{
        block::Block,
        chats::ChatRange,
        columns::MessageBlock,
        meta::{Class, FileMeta},
        reader::{BlockReader, Table},
        writer::{FileKind, TableWriter},
    },
};

/// What a merge asks about each row: whether anybody may still read it.
pub trait Keep {
    /// About a message.
    fn keeps_message(&self, chat: ChatId, seq: MessageSeq, time_ms: u64) -> bool;
    /// About an inbox entry, by its key.
    fn keeps_inbox(&self, key: &[u8]) -> bool;
}

/// What a step of compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Files that are no longer live.
    pub files_removed: usize,
    /// Bytes of them.
    pub bytes_removed: u64,
    /// Bytes written.
    pub bytes_written: u64,
}

impl<D: Disk> Tree<D> {
    /// The next thing to do, if there is any: see [`super::plan::plan_compaction`].
    pub fn plan(&self, dead_before_ms: u64) -> Option<Plan> {
        let version = self.version();
        let files: Vec<_> = version
            .files()
            .map(|file| super::plan::PlanFile { meta: &file.meta, quarantined: file.quarantined.get() })
            .collect();
        super::plan::plan_compaction(&files, dead_before_ms)
    }

    /// Carries out a plan of [`Self::plan`]. Flushes go on beside it; of merges there is one at a time.
    ///
    /// # Errors
    /// `DamagedBlock` (the file is quarantined), `NoSpace`, `Io`: nothing has changed.
    ///
    /// # Panics
    /// If a merge is under way, or a file of the plan is not live.
    pub async fn compact(&self, plan: &Plan, keep: &impl Keep) -> Result<Compacted> {
        let _merging = self.begin_merge();
        let version = self.version();
        let find = |id: &FileId| {
            let found = version.files().find(|file| file.id() == *id);
            Rc::clone(found.expect("a plan names live files"))
        };
        let (inputs, written) = match plan {
            Plan::Drop(ids) => (ids.iter().map(find).collect::<Vec<_>>(), Vec::new()),
            Plan::Merge(merge) => {
                let inputs: Vec<_> = merge.inputs.iter().map(find).collect();
                let written = self.merge_files(merge, &inputs, keep).await?;
                (inputs, written)
            }
        };
        let compacted = Compacted {
            files_removed: inputs.len(),
            bytes_removed: inputs.iter().map(|file| file.meta.bytes).sum(),
            bytes_written: written.iter().map(|file| file.bytes).sum(),
        };
        self.replace(&inputs, written, None).await?;
        drop((inputs, version));
        self.collect_garbage().await?;
        Ok(compacted)
    }

    /// The chats of the undamaged message file with the lowest id above `after`, and its id; `None` behind the last
    /// one.
    ///
    /// # Errors
    /// `DamagedFile` (the file is quarantined), `Io`.
    pub async fn chats_of_next(&self, after: FileId) -> Result<Option<(FileId, Vec<ChatRange>)>> {
        let version = self.version();
        let next = version.messages.iter().filter(|file| file.id() > after && !file.quarantined.get());
        let next = next.min_by_key(|file| file.id());
        let Some(file) = next else {
            return Ok(None);
        };
        let table = self.table(file).await?;
        let chats = self.watch(file, table.chats().await)?;
        Ok(Some((file.id(), chats)))
    }

    async fn merge_files(&self, merge: &Merge, inputs: &[Rc<LiveFile>], keep: &impl Keep) -> Result<Vec<FileMeta>> {
        let mut output = Output::new(self, merge, inputs);
        let merged = match merge.class {
            Class::Messages => self.merge_messages(inputs, keep, &mut output).await,
            Class::Inbox | Class::State => self.merge_rows(merge, inputs, keep, &mut output).await,
        };
        let finished = match merged {
            Ok(()) => output.finish().await,
            Err(error) => Err(error),
        };
        match finished {
            Ok(()) => Ok(output.written),
            Err(error) => {
                self.remove_files(&output.begun).await;
                Err(error)
            }
        }
    }

    async fn merge_rows(
        &self,
        merge: &Merge,
        inputs: &[Rc<LiveFile>],
        keep: &impl Keep,
        output: &mut Output<'_, D>,
    ) -> Result<()> {
        let mut cursors = Vec::new();
        for file in inputs {
            let mut cursor = RowCursor::<D>::new(self.table(file).await?);
            self.watch(file, cursor.advance(&mut output.slice).await)?;
            cursors.push(cursor);
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
            let (key, value) = cursors[best].row().expect("the best cursor is on a row");
            let wanted = match &value {
                None => !merge.drops_markers,
                Some(_) => merge.class != Class::Inbox || keep.keeps_inbox(&key),
            };
            // A row of the newest input that is lost on the way.
            let lost =
                planted::is(Planted::RowLostInMerge) && best == 0 && key.last().is_some_and(|byte| byte % 4 == 1);
            if wanted && !lost {
                output.push(&key, value.as_deref()).await?;
            }
            for (n, cursor) in cursors.iter_mut().enumerate() {
                if cursor.key() == Some(&key[..]) {
                    self.watch(&inputs[n], cursor.advance(&mut output.slice).await)?;
                }
            }
        }
    }

    async fn merge_messages(
        &self,
        inputs: &[Rc<LiveFile>],
        keep: &impl Keep,
        output: &mut Output<'_, D>,
    ) -> Result<()> {
        let mut cursors = Vec::new();
        for file in inputs {
            let mut cursor = MessageCursor::<D>::new(self.table(file).await?);
            self.watch(file, cursor.load(&mut output.slice).await)?;
            cursors.push(cursor);
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
                let message = cursor.message();
                let lost = planted::is(Planted::RowLostInMerge) && best == 0 && seq.get() % 4 == 1;
                if keep.keeps_message(chat, seq, message.time_ms) && !lost {
                    output.push_message(chat, &message).await?;
                }
                if cursor.step() {
                    break;
                }
            }
            if cursor.key().is_none() {
                self.watch(&inputs[best], cursor.load(&mut output.slice).await)?;
            }
        }
    }

    /// Quarantines a file in which damage was found.
    pub(super) fn watch<T>(&self, file: &LiveFile, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && error.is_damage()
        {
            file.quarantined.set(true);
        }
        result
    }
}

/// What a merge writes.
struct Output<'a, D: Disk> {
    tree: &'a Tree<D>,
    kind: FileKind,
    replaces: Vec<FileId>,
    file_bytes_max: u64,
    writer: Option<TableWriter<D::File>>,
    begun: Vec<FileId>,
    written: Vec<FileMeta>,
    slice: Slice,
}

impl<'a, D: Disk> Output<'a, D> {
    fn new(tree: &'a Tree<D>, merge: &Merge, inputs: &[Rc<LiveFile>]) -> Self {
        let properties = || inputs.iter().map(|file| &file.meta.properties);
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
        let slice = tree.shared().pacer().slice();
        let replaces = merge.inputs.clone();
        Self { tree, kind, replaces, file_bytes_max, writer: None, begun: Vec::new(), written: Vec::new(), slice }
    }

    async fn writer(&mut self) -> Result<&mut TableWriter<D::File>> {
        if self.writer.as_ref().is_some_and(|writer| writer.bytes() >= self.file_bytes_max) {
            self.finish().await?;
        }
        if self.writer.is_none() {
            let id = self.tree.take_file_id();
            self.begun.push(id);
            self.writer = Some(self.tree.create_table(id, self.kind.clone()).await?);
        }
        Ok(self.writer.as_mut().expect("it was there or was just made"))
    }

    async fn push(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        self.writer().await?;
        let writer = self.writer.as_mut().expect("it was just made");
        writer.push(key, value, &mut self.slice).await
    }

    async fn push_message(&mut self, chat: ChatId, message: &crate::message::StoredMessage) -> Result<()> {
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
struct RowCursor<D: Disk> {
    table: Rc<Table<D::File>>,
    reader: BlockReader,
    block: Option<Block>,
    row: usize,
}

impl<D: Disk> RowCursor<D> {
    fn new(table: Rc<Table<D::File>>) -> Self {
        Self { reader: BlockReader::default(), table, block: None, row: 0 }
    }

    fn key(&self) -> Option<&[u8]> {
        self.block.as_ref().map(|block| block.key(self.row))
    }

    fn row(&self) -> Option<(Bytes, Option<Bytes>)> {
        self.block.as_ref().map(|block| (block.key_bytes(self.row), block.value(self.row)))
    }

    /// To the next row; the first one at first.
    async fn advance(&mut self, slice: &mut Slice) -> Result<()> {
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
        slice.checkpoint().await;
        Ok(())
    }
}

/// The messages of an input, in order.
struct MessageCursor<D: Disk> {
    table: Rc<Table<D::File>>,
    reader: BlockReader,
    block: Option<MessageBlock>,
    at: usize,
}

impl<D: Disk> MessageCursor<D> {
    fn new(table: Rc<Table<D::File>>) -> Self {
        Self { reader: BlockReader::default(), table, block: None, at: 0 }
    }

    fn key(&self) -> Option<(ChatId, MessageSeq)> {
        self.block.as_ref().map(|block| block.key(self.at))
    }

    fn message(&self) -> crate::message::StoredMessage {
        self.block.as_ref().expect("the cursor is on a message").message(self.at)
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

    async fn load(&mut self, slice: &mut Slice) -> Result<()> {
        self.at = 0;
        self.block = match self.reader.next(&self.table, slice).await? {
            Some((offset, bytes)) => Some(MessageBlock::decode(bytes, self.table.id(), offset)?),
            None => None,
        };
        slice.checkpoint().await;
        Ok(())
    }
}
