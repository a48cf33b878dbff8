//! A memtable to new files: one of inbox entries, one of state rows, and one of messages per window of time.
//!
//! Invariants
//! - Either all files of a flush become live, together with the applied index, or none does.

use std::collections::BTreeMap;

use columba_wire::ChatId;

use super::{Tree, TreeMeta, new_files::NewFiles};
use crate::{
    background::Slice,
    env::Disk,
    error::Result,
    ids::FileId,
    message::StoredMessage,
    table::{
        meta::{Class, FileMeta},
        writer::{FileKind, TableWriter},
    },
};

/// The files of a flush, being written. Each class is pushed in ascending order; classes may be mixed.
pub struct FlushWriter<D: Disk> {
    disk: D,
    files: NewFiles,
    window_ms: u64,
    kind: FileKind,
    messages: BTreeMap<u64, TableWriter<D::File>>,
    inbox: Option<TableWriter<D::File>>,
    state: Option<TableWriter<D::File>>,
    begun: Vec<FileId>,
    slice: Slice,
}

impl<D: Disk> FlushWriter<D> {
    /// The slice in which this is written.
    pub fn slice(&mut self) -> &mut Slice {
        &mut self.slice
    }

    /// Adds a message.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub async fn message(&mut self, chat: ChatId, message: &StoredMessage<impl AsRef<[u8]>>) -> Result<()> {
        let window = message.time_ms / self.window_ms;
        if !self.messages.contains_key(&window) {
            let kind = FileKind { class: Class::Messages, window, ..self.kind.clone() };
            let writer = self.begin(kind).await?;
            self.messages.insert(window, writer);
        }
        let writer = self.messages.get_mut(&window).expect("it was there or was just made");
        writer.push_message(chat, message, &mut self.slice).await
    }

    /// Adds an inbox entry.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub async fn inbox(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.inbox.is_none() {
            self.inbox = Some(self.begin(FileKind { class: Class::Inbox, ..self.kind.clone() }).await?);
        }
        let writer = self.inbox.as_mut().expect("it was there or was just made");
        writer.push(key, Some(value), &mut self.slice).await
    }

    /// Adds a state row; `None` is a deletion marker.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub async fn state(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        if self.state.is_none() {
            self.state = Some(self.begin(FileKind { class: Class::State, ..self.kind.clone() }).await?);
        }
        let writer = self.state.as_mut().expect("it was there or was just made");
        writer.push(key, value, &mut self.slice).await
    }

    async fn begin(&mut self, kind: FileKind) -> Result<TableWriter<D::File>> {
        self.files.begin(&self.disk, kind, &mut self.begun).await
    }

    async fn finish(&mut self) -> Result<Vec<FileMeta>> {
        let mut written = Vec::new();
        let messages = core::mem::take(&mut self.messages).into_values();
        for writer in messages.chain(self.inbox.take()).chain(self.state.take()) {
            written.push(writer.finish(&[], &mut self.slice).await?);
        }
        Ok(written)
    }
}

impl<D: Disk> Tree<D> {
    /// Writes what `fill` pushes to new files that are newer than all others, and moves the meta with them. Without
    /// rows only the meta moves. The writing is done beside the core.
    ///
    /// # Errors
    /// `NoSpace`, `Io`: nothing has changed.
    ///
    /// # Panics
    /// If a flush is under way, or keys do not ascend.
    pub async fn flush(
        &self,
        meta: TreeMeta,
        fill: impl AsyncFnOnce(&mut FlushWriter<D::Aside>) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let _flushing = self.begin_flush();
        let kind = FileKind {
            class: Class::State,
            level: 0,
            window: 0,
            // Rows that flushes have left behind may come after everything that was applied.
            applied_low: self.meta().applied.next().min(meta.applied),
            applied_high: meta.applied,
            term: meta.applied_term,
        };
        assert!(meta.applied >= self.meta().applied, "a flush does not go back");
        let (files, window_ms) = (self.new_files().clone(), self.config().window_ms);
        let written = self.disk().aside("columba-flush", async move |disk| {
            let mut writer = FlushWriter {
                disk,
                files,
                window_ms,
                kind,
                messages: BTreeMap::new(),
                inbox: None,
                state: None,
                begun: Vec::new(),
                slice: Slice::aside(),
            };
            let written = match fill(&mut writer).await {
                Ok(()) => writer.finish().await,
                Err(error) => Err(error),
            };
            if written.is_err() {
                writer.files.remove(&writer.disk, &writer.begun).await;
            }
            written
        });
        let written = written.await??;
        self.replace(&[], written, Some(meta)).await
    }
}
