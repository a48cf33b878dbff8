//! Messages in ascending order to a block.

use columba_wire::{ChatId, DeviceAddress, MessageSeq};
use rustc_hash::FxHashMap;

use super::{
    HEADER_BYTES, MAGIC, RUN_BYTES_MAX,
    varint::{VARINT_BYTES_MAX, put_difference, put_varint},
};
use crate::{
    ids::FileId,
    limits::MESSAGE_COLUMNS_BYTES_MAX,
    message::{MessageKind, StoredMessage},
    table::{block::seal, compress},
};

/// A block of messages that is being filled. It keeps its buffers from block to block.
#[derive(Debug, Default)]
pub struct MessageBlockBuilder {
    first: Option<(ChatId, MessageSeq)>,
    last: Option<(ChatId, MessageSeq)>,
    messages: u32,
    runs: Runs,
    senders: Senders,
    sender: Vec<u8>,
    client_seq: Vec<u8>,
    time: Vec<u8>,
    time_before: u64,
    length: Vec<u8>,
    bodies: Vec<u8>,
    /// All columns, only while a block is finished.
    columns: Vec<u8>,
}

/// The runs that are complete, and the one that grows.
#[derive(Debug, Default)]
struct Runs {
    column: Vec<u8>,
    count: u32,
    /// Last message of the run before the one that grows.
    before: Option<(ChatId, MessageSeq)>,
    first: u64,
    length: u64,
}

/// The senders so far, in the order of their first message.
#[derive(Debug, Default)]
struct Senders {
    column: Vec<u8>,
    numbers: FxHashMap<(DeviceAddress, MessageKind), usize>,
    /// By number: the sender's last client seq.
    client_seq_before: Vec<u64>,
    /// Sender of the last message, and its number: often the next one's too.
    last: Option<((DeviceAddress, MessageKind), usize)>,
}

impl MessageBlockBuilder {
    /// Adds a message.
    ///
    /// # Panics
    /// If chat and seq are not above those of the last one.
    pub fn push(&mut self, chat: ChatId, message: &StoredMessage<impl AsRef<[u8]>>) {
        let key = (chat, message.seq);
        assert!(self.last.is_none_or(|last| last < key), "chat {chat}: seq {} is not above the last", message.seq);
        match self.last {
            Some(last) if last.0 == chat && last.1.next() == message.seq => self.runs.length += 1,
            Some(last) => self.runs.begin(Some(last), message.seq),
            None => self.runs.begin(None, message.seq),
        }
        self.first = self.first.or(Some(key));
        self.last = Some(key);
        self.messages += 1;
        let sender = self.senders.number((message.sender, message.kind));
        put_varint(&mut self.sender, sender as u64);
        let client_seq = message.client_seq.get();
        put_difference(&mut self.client_seq, self.senders.client_seq_before[sender], client_seq);
        self.senders.client_seq_before[sender] = client_seq;
        put_difference(&mut self.time, self.time_before, message.time_ms);
        self.time_before = message.time_ms;
        let body = message.body.as_ref();
        put_varint(&mut self.length, body.len() as u64);
        self.bodies.extend_from_slice(body);
    }

    /// Bytes of the block, were it finished now: at most these, less by what compression saves of the columns.
    pub fn bytes(&self) -> usize {
        let numbers = self.sender.len() + self.client_seq.len() + self.time.len() + self.length.len();
        let counted = self.runs.column.len() + RUN_BYTES_MAX + self.senders.column.len() + 2 * VARINT_BYTES_MAX;
        HEADER_BYTES + counted + numbers + self.bodies.len()
    }

    /// Messages so far.
    pub const fn len(&self) -> usize {
        self.messages as usize
    }

    /// Whether it has no messages.
    pub const fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Chat and seq of the first message.
    pub const fn first(&self) -> Option<(ChatId, MessageSeq)> {
        self.first
    }

    /// The block as it lies in its file at `offset`; the builder begins anew.
    ///
    /// # Panics
    /// If it is empty, or its columns are over their limit.
    pub fn finish(&mut self, file: FileId, offset: u64) -> Vec<u8> {
        assert!(self.messages > 0, "a block has messages");
        self.join_columns();
        let raw = self.columns.len();
        assert!(raw <= MESSAGE_COLUMNS_BYTES_MAX, "columns of {raw} bytes could not be read back");
        let mut block = Vec::with_capacity(HEADER_BYTES + raw + self.bodies.len());
        block.resize(HEADER_BYTES, 0);
        compress::append(&mut block, &self.columns);
        let stored = block.len() - HEADER_BYTES;
        block.extend_from_slice(&self.bodies);
        let number = |bytes: usize| u32::try_from(bytes).expect("blocks are far below 4 GiB").to_le_bytes();
        block[..4].copy_from_slice(&MAGIC.to_le_bytes());
        block[12..16].copy_from_slice(&self.messages.to_le_bytes());
        block[16..20].copy_from_slice(&number(stored));
        block[20..24].copy_from_slice(&number(raw));
        seal(&mut block, file, offset);
        self.clear();
        block
    }

    fn join_columns(&mut self) {
        let last = self.last.expect("a block has messages");
        self.runs.begin(Some(last), MessageSeq::ZERO);
        let Self { columns, runs, senders, .. } = self;
        put_varint(columns, runs.count.into());
        columns.extend_from_slice(&runs.column);
        put_varint(columns, senders.client_seq_before.len() as u64);
        columns.extend_from_slice(&senders.column);
        for column in [&self.sender, &self.client_seq, &self.time, &self.length] {
            columns.extend_from_slice(column);
        }
    }

    fn clear(&mut self) {
        self.first = None;
        self.last = None;
        self.messages = 0;
        self.time_before = 0;
        self.runs.clear();
        self.senders.clear();
        let Self { sender, client_seq, time, length, bodies, columns, .. } = self;
        for buffer in [sender, client_seq, time, length, bodies, columns] {
            buffer.clear();
        }
    }
}

impl Runs {
    /// Completes the run that ends with `last`, and begins one at `seq`.
    fn begin(&mut self, last: Option<(ChatId, MessageSeq)>, seq: MessageSeq) {
        if let Some((chat, _)) = last {
            let before = self.before.filter(|before| before.0 == chat).map_or(0, |before| before.1.get());
            self.column.extend_from_slice(chat.as_bytes());
            put_varint(&mut self.column, self.first - before);
            put_varint(&mut self.column, self.length);
            self.count += 1;
            self.before = last;
        }
        self.first = seq.get();
        self.length = 1;
    }

    fn clear(&mut self) {
        self.column.clear();
        self.count = 0;
        self.before = None;
    }
}

impl Senders {
    fn number(&mut self, sender: (DeviceAddress, MessageKind)) -> usize {
        if let Some((last, number)) = self.last
            && last == sender
        {
            return number;
        }
        let next = self.client_seq_before.len();
        let number = *self.numbers.entry(sender).or_insert(next);
        if number == next {
            self.client_seq_before.push(0);
            let (address, kind) = sender;
            self.column.extend_from_slice(address.user.as_bytes());
            self.column.extend_from_slice(&kind.with_device(address.device).to_le_bytes());
        }
        self.last = Some((sender, number));
        number
    }

    fn clear(&mut self) {
        self.column.clear();
        self.numbers.clear();
        self.client_seq_before.clear();
        self.last = None;
    }
}
