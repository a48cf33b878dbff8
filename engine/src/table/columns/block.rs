//! A decoded block of messages.
//!
//! Invariants
//! - `runs` are ascending, none is empty, and they cover `entries` without a gap.
//! - Bodies lie side by side up to the end of `bytes`: a message's begins where the one before ends.

use core::ops::Range;

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceAddress, MessageSeq, UserId};

use super::{HEADER_BYTES, MAGIC, MESSAGE_BYTES_MIN, RUN_BYTES_MIN, SENDER_BYTES, varint::Columns};
use crate::{
    error::{Error, Result},
    ids::FileId,
    limits::MESSAGE_COLUMNS_BYTES_MAX,
    message::{MessageKind, StoredMessage},
    table::{Damage, block::open, compress},
};

/// A block of messages, decoded but for the bodies: they are slices of what was read.
#[derive(Clone, Debug)]
pub struct MessageBlock {
    bytes: Bytes,
    bodies_at: usize,
    runs: Vec<Run>,
    senders: Vec<(DeviceAddress, MessageKind)>,
    entries: Vec<Entry>,
}

/// Messages of one chat with consecutive seqs.
#[derive(Clone, Copy, Debug)]
struct Run {
    chat: ChatId,
    first: MessageSeq,
    last: MessageSeq,
    /// Which message of the block is its first.
    start: usize,
}

/// A message without its body: 32 bytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    seq: u64,
    client_seq: u64,
    time_ms: u64,
    sender: u32,
    /// Where its body ends in the block.
    end: u32,
}

impl MessageBlock {
    /// Checks and decodes the block of `file` at `offset`; `bytes` are exactly the block.
    ///
    /// Cost: 2 to 4 us for 100 messages.
    ///
    /// # Errors
    /// `DamagedBlock`.
    pub fn decode(bytes: Bytes, file: FileId, offset: u64) -> Result<Self> {
        Self::parse(bytes, file, offset).map_err(|reason| Error::DamagedBlock {
            file,
            offset,
            reason: reason.to_owned(),
        })
    }

    fn parse(bytes: Bytes, file: FileId, offset: u64) -> Result<Self, Damage> {
        let [messages, stored, raw] = open(&bytes, MAGIC, file, offset)?;
        if stored > raw || stored > bytes.len() - HEADER_BYTES || raw > MESSAGE_COLUMNS_BYTES_MAX {
            return Err("its columns are too long");
        }
        if messages == 0 || messages > raw / MESSAGE_BYTES_MIN {
            return Err("it counts no messages, or more than it can hold");
        }
        let bodies_at = HEADER_BYTES + stored;
        let columns = &bytes[HEADER_BYTES..bodies_at];
        let decompressed;
        let columns = if stored == raw {
            columns
        } else {
            decompressed = compress::decompress(columns, raw).ok_or("its columns do not decompress")?;
            &decompressed
        };
        let mut columns = Columns::new(columns);
        let runs = decode_runs(&mut columns, messages)?;
        let senders = decode_senders(&mut columns, messages)?;
        let entries = decode_entries(&mut columns, &runs, senders.len(), bodies_at..bytes.len())?;
        if !columns.is_empty() {
            return Err("bytes of its columns are left over");
        }
        assert!(entries.len() == messages, "the runs hold every message");
        Ok(Self { bytes, bodies_at, runs, senders, entries })
    }

    /// Messages in it; at least one.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no messages.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A message's time.
    pub fn time_ms(&self, at: usize) -> u64 {
        self.entries[at].time_ms
    }

    /// Bytes it takes in memory.
    pub const fn memory_bytes(&self) -> usize {
        self.bytes.len()
            + self.entries.len() * size_of::<Entry>()
            + self.runs.len() * size_of::<Run>()
            + self.senders.len() * size_of::<(DeviceAddress, MessageKind)>()
    }

    /// Chat and seq of message `n`. Cost: a search over the runs.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn key(&self, n: usize) -> (ChatId, MessageSeq) {
        let seq = MessageSeq::new(self.entries[n].seq);
        let after = self.runs.partition_point(|run| run.start <= n);
        (self.runs[after - 1].chat, seq)
    }

    /// Message `n`. Its body keeps the whole block in memory.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn message(&self, n: usize) -> StoredMessage {
        let entry = self.entries[n];
        let start = n.checked_sub(1).map_or(self.bodies_at, |before| self.entries[before].end as usize);
        let (sender, kind) = self.senders[entry.sender as usize];
        StoredMessage {
            seq: MessageSeq::new(entry.seq),
            sender,
            client_seq: ClientSeq::new(entry.client_seq),
            time_ms: entry.time_ms,
            kind,
            body: self.bytes.slice(start..entry.end as usize),
        }
    }

    /// First message that is not below `seq` of `chat`; `len` where all are.
    pub fn lower_bound(&self, chat: ChatId, seq: MessageSeq) -> usize {
        let after = self.runs.partition_point(|run| (run.chat, run.last) < (chat, seq));
        let Some(run) = self.runs.get(after) else {
            return self.len();
        };
        // `seq` is in the run, or before it.
        if run.chat == chat { run.index(MessageSeq::max(seq, run.first)) } else { run.start }
    }

    /// The messages `from..=to` of `chat` that are here.
    pub fn range(&self, chat: ChatId, from: MessageSeq, to: MessageSeq) -> Range<usize> {
        let start = self.lower_bound(chat, from);
        let end = self.upper_bound(chat, to);
        start..end.max(start)
    }

    /// First message that is above `seq` of `chat`; `len` where none is.
    fn upper_bound(&self, chat: ChatId, seq: MessageSeq) -> usize {
        let after = self.runs.partition_point(|run| (run.chat, run.last) <= (chat, seq));
        let Some(run) = self.runs.get(after) else {
            return self.len();
        };
        if run.chat == chat && run.first <= seq { run.index(seq) + 1 } else { run.start }
    }
}

impl Run {
    /// Which message of the block has `seq`, which is in the run.
    fn index(&self, seq: MessageSeq) -> usize {
        debug_assert!(self.first <= seq && seq <= self.last);
        let within = usize::try_from(seq.get() - self.first.get()).expect("a run's messages are in memory");
        self.start + within
    }
}

fn decode_runs(columns: &mut Columns<'_>, messages: usize) -> Result<Vec<Run>, Damage> {
    let count = columns.count(RUN_BYTES_MIN, messages)?;
    let mut runs: Vec<Run> = Vec::with_capacity(count);
    let mut start = 0;
    for _ in 0..count {
        let chat = ChatId::from_bytes(columns.array()?);
        let first = columns.varint()?;
        let first = match runs.last() {
            Some(before) if before.chat > chat => return Err("its chats do not ascend"),
            // Next to the run before it would be a part of it.
            Some(before) if before.chat == chat && first < 2 => return Err("its runs do not ascend"),
            Some(before) if before.chat == chat => before.last.get().checked_add(first).ok_or("a seq is too high")?,
            _ => first,
        };
        let length = columns.varint()?;
        if length == 0 || length > (messages - start) as u64 {
            return Err("a run is empty, or longer than the block");
        }
        let last = first.checked_add(length - 1).ok_or("a seq is too high")?;
        runs.push(Run { chat, first: MessageSeq::new(first), last: MessageSeq::new(last), start });
        start += usize::try_from(length).expect("at most the messages of the block");
    }
    if start == messages { Ok(runs) } else { Err("its runs hold fewer messages than the block") }
}

fn decode_senders(columns: &mut Columns<'_>, messages: usize) -> Result<Vec<(DeviceAddress, MessageKind)>, Damage> {
    let count = columns.count(SENDER_BYTES, messages)?;
    let mut senders = Vec::with_capacity(count);
    for _ in 0..count {
        let user = UserId::from_bytes(columns.array()?);
        let number = u32::from_le_bytes(columns.array()?);
        let (kind, device) = MessageKind::split_device(number).ok_or("a sender is no device, or of an unknown kind")?;
        senders.push((DeviceAddress { user, device }, kind));
    }
    Ok(senders)
}

fn decode_entries(
    columns: &mut Columns<'_>,
    runs: &[Run],
    senders: usize,
    bodies: Range<usize>,
) -> Result<Vec<Entry>, Damage> {
    let seqs = runs.iter().flat_map(|run| run.first.get()..=run.last.get());
    let mut entries = Vec::with_capacity(runs.last().map_or(0, |run| run.index(run.last) + 1));
    for seq in seqs {
        let sender = u32::try_from(columns.varint()?).map_err(|_| "a sender is not in the list")?;
        if sender as usize >= senders {
            return Err("a sender is not in the list");
        }
        entries.push(Entry { seq, client_seq: 0, time_ms: 0, sender, end: 0 });
    }
    let mut client_seqs = vec![0; senders];
    for entry in &mut entries {
        let before = &mut client_seqs[entry.sender as usize];
        *before = columns.difference(*before)?;
        entry.client_seq = *before;
    }
    let mut time_ms = 0;
    for entry in &mut entries {
        time_ms = columns.difference(time_ms)?;
        entry.time_ms = time_ms;
    }
    let mut end = bodies.start as u64;
    for entry in &mut entries {
        end = end.checked_add(columns.varint()?).ok_or("a body is too long")?;
        entry.end = u32::try_from(end).map_err(|_| "a body is too long")?;
    }
    if end == bodies.end as u64 { Ok(entries) } else { Err("its bodies are not as long as their lengths") }
}
