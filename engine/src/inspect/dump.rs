//! Records and rows in words. Bodies of messages are left out unless they are asked for: they are other people's.

use core::fmt;
use std::path::Path;

use bytes::Bytes;
use columba_wire::{ChatId, MessageSeq, UserId};

use super::journal::scan;
use crate::{
    env::{Disk, DiskFile as _},
    error::{Error, Result},
    ids::{LogIndex, PartitionId, SegmentId, Term},
    journal::{
        record::{Record, RecordKind},
        segment::parse_name,
    },
    message::MESSAGE_KIND,
    partition::{
        chat::{ChatRow, Pending},
        command::{Command, decode_entry},
        decode_row,
        deletion::Errand,
        device::Device,
        group::GroupChange,
        inbox::{Inbox, InboxChat, parse_entry_key},
        keys::DeviceKeys,
        membership::UserChat,
        profile::Profile,
        roster::Roster,
        rows::Row,
        user::{LastSeen, User},
    },
    table::{
        footer::Footer,
        walk::{AnyBlock, Walk},
    },
    tree::manifest::read_file,
};

/// How much is dumped.
#[derive(Clone, Copy, Debug)]
pub struct DumpOptions {
    /// Records or rows at most.
    pub limit: usize,
    /// Whether bodies of messages are shown.
    pub bodies: bool,
}

impl Default for DumpOptions {
    fn default() -> Self {
        Self { limit: 100, bodies: false }
    }
}

/// A record of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpedRecord {
    /// Which segment's.
    pub segment: SegmentId,
    /// Where it begins.
    pub offset: u64,
    /// In which batch.
    pub batch: u32,
    /// Whose it is.
    pub partition: PartitionId,
    /// Of an entry.
    pub term: Term,
    /// Of an entry.
    pub index: LogIndex,
    /// Its kind and, of an entry, its commands.
    pub text: String,
}

impl fmt::Display for DumpedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, offset, batch, partition, term, index, text } = self;
        write!(f, "segment {segment} byte {offset} batch {batch}: ")?;
        write!(f, "partition {partition} term {term} index {index}: {text}")
    }
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpedRow {
    /// Where its block begins.
    pub block: u64,
    /// Its key.
    pub key: String,
    /// Its value; `None` for a deletion marker.
    pub value: Option<String>,
}

impl fmt::Display for DumpedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "block {}: {} = {value}", self.block, self.key),
            None => write!(f, "block {}: {} is deleted", self.block, self.key),
        }
    }
}

/// The first records of a journal: of a directory, or of one segment file.
///
/// # Errors
/// `Io`; `Malformed` where the file's name is not that of a segment.
pub async fn dump_journal<D: Disk>(disk: &D, path: &Path, options: DumpOptions) -> Result<Vec<DumpedRecord>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut files = Vec::new();
    if let Some((_, id)) = parse_name(name) {
        files.push((id, path.to_owned()));
    } else {
        for entry in disk.list(path).await? {
            if let Some((true, id)) = parse_name(&entry.name) {
                files.push((id, path.join(entry.name)));
            }
        }
    }
    files.sort();
    let mut records = Vec::new();
    for (segment, path) in files {
        let image = Bytes::from(read_file(disk, &path).await?);
        scan(&path, segment, &image, &mut |batch, offset, record: &Record| {
            if records.len() < options.limit {
                let Record { partition, term, index, .. } = *record;
                let text = record_text(record, options);
                records.push(DumpedRecord { segment, offset, batch, partition, term, index, text });
            }
            records.len() < options.limit
        });
        if records.len() >= options.limit {
            break;
        }
    }
    Ok(records)
}

fn record_text(record: &Record, options: DumpOptions) -> String {
    match record.kind {
        RecordKind::Link => "link".to_owned(),
        RecordKind::State => format!("state {}", hex(&record.payload)),
        RecordKind::Entry => match decode_entry(record.payload.clone()) {
            Ok(commands) => {
                let commands: Vec<_> = commands.iter().map(|command| command_text(command, options)).collect();
                format!("entry of {} bytes: {}", record.payload.len(), commands.join("; "))
            }
            Err(error) => format!("entry of {} bytes: {error}", record.payload.len()),
        },
    }
}

fn command_text(command: &Command, options: DumpOptions) -> String {
    match command {
        Command::Send { chat, sender, client_seq, time_ms, body, .. } if !options.bodies => {
            format!("send to {chat} from {sender} number {client_seq} at {time_ms} ms, {} bytes", body.len())
        }
        other => format!("{other:?}"),
    }
}

/// The first rows of a table file; damaged blocks are left out.
///
/// # Errors
/// `Io`.
pub async fn dump_table<D: Disk>(disk: &D, path: &Path, options: DumpOptions) -> Result<Vec<DumpedRow>> {
    let found = super::table::survey(disk, path, false).await;
    let file = disk.open(path).await?;
    let block_bytes = crate::limits::BLOCK_BYTES;
    let mut end = file.len();
    let mut id = found.meta.as_ref().map(|meta| meta.id);
    if end >= block_bytes as u64 && end.is_multiple_of(block_bytes as u64) {
        let tail = file.read(end - block_bytes as u64, block_bytes).await?;
        if let Ok(footer) = Footer::decode(path, &tail, end) {
            (end, id) = (footer.chats_at, Some(footer.file));
        }
    }
    let id = id.ok_or(Error::Malformed { what: "table file", reason: "its footer is damaged" })?;
    let mut walk = Walk::new(file, id, end);
    let (mut rows, mut at) = (Vec::new(), 0);
    while rows.len() < options.limit && at < end {
        let Ok((block, len)) = walk.block(at).await? else {
            let Some(next) = walk.next_magic(at + 1).await? else { break };
            at = next;
            continue;
        };
        for n in 0..block.len().min(options.limit - rows.len()) {
            rows.push(row_of(&block, n, at, options));
        }
        at += len;
    }
    Ok(rows)
}

fn row_of(block: &AnyBlock, n: usize, at: u64, options: DumpOptions) -> DumpedRow {
    let key = block.key(n);
    let value = match block {
        AnyBlock::Messages(block) => {
            let message = block.message(n);
            let body = if options.bodies { hex(&message.body) } else { format!("{} bytes", message.body.len()) };
            let what = match GroupChange::of(&message) {
                Ok(Some(change)) => format!("{change:?}"),
                Ok(None) => body,
                Err(error) => format!("{body}: {error}"),
            };
            Some(format!("from {} number {} at {} ms, {what}", message.sender, message.client_seq, message.time_ms))
        }
        AnyBlock::Rows(block) => block.value(n).map(|value| value_text(&key, &value)),
    };
    DumpedRow { block: at, key: key_text(&key), value }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A key in words.
pub(crate) fn key_text(key: &[u8]) -> String {
    let user = |at: usize| key.get(at..at + 16).and_then(|id| UserId::try_from(id).ok());
    let chat = |at: usize| key.get(at..at + 16).and_then(|id| ChatId::try_from(id).ok());
    let number = |at: usize| Some(u32::from_be_bytes(key.get(at..at + 4)?.try_into().ok()?));
    let text = match (key.first().copied().unwrap_or_default(), key.len()) {
        (MESSAGE_KIND, 25) => chat(1).map(|chat| {
            let seq = MessageSeq::new(u64::from_be_bytes(key[17..25].try_into().expect("8 bytes")));
            format!("chat {chat} message {seq}")
        }),
        (0x20, _) => parse_entry_key(key).map(|(device, position)| format!("inbox of {device} position {position}")),
        (User::KIND, 17) => user(1).map(|user| format!("user {user}")),
        (LastSeen::KIND, 17) => user(1).map(|user| format!("last seen of {user}")),
        (Profile::KIND, 17) => user(1).map(|user| format!("profile of {user}")),
        (Roster::KIND, 17) => user(1).map(|user| format!("roster of {user}")),
        (Errand::KIND, 17) => user(1).map(|user| format!("errand of {user}")),
        (UserChat::KIND, 33) => user(1).zip(chat(17)).map(|(user, chat)| format!("chat {chat} of user {user}")),
        (ChatRow::KIND, 17) => chat(1).map(|chat| format!("chat {chat}")),
        (Pending::KIND, 17) => chat(1).map(|chat| format!("pending {chat}")),
        (Device::KIND, 21) => user(1).zip(number(17)).map(|(user, number)| format!("device {user}/{number}")),
        (DeviceKeys::KIND, 21) => user(1).zip(number(17)).map(|(user, number)| format!("keys of {user}/{number}")),
        (Inbox::KIND, 21) => user(1).zip(number(17)).map(|(user, number)| format!("inbox {user}/{number}")),
        (InboxChat::KIND, 37) => {
            let parts = user(1).zip(number(17)).zip(chat(21));
            parts.map(|((user, number), chat)| format!("chat {chat} in the inbox of {user}/{number}"))
        }
        _ => None,
    };
    text.unwrap_or_else(|| format!("key {}", hex(key)))
}

fn value_text(key: &[u8], value: &Bytes) -> String {
    decode_row(key, value.clone()).map_or_else(|_| hex(value), |row| row.text)
}
