//! What is known of a table file without opening it: kept in the manifest, and in the file itself.
//!
//! | class u8 | level u8 | window u64 | rows u64 | applied low u64 | applied high u64 | term u64 | time low u64 |
//! | time high u64 | first key: length u16, bytes | last key: length u16, bytes | replaces: count u32, then file id u64 each |
//!
//! Little-endian. The copy in the file is what a lost manifest is rebuilt from; only there `replaces` names the files
//! that a merge read.
//!
//! Invariants
//! - `first_key <= last_key`, both with the kind byte of the file's class.
//! - Message files of one window have disjoint ranges of applied entries: a chat's messages in an older one have lower
//!   seqs.

use bytes::Bytes;

use crate::{
    ids::{FileId, LogIndex, Term},
    limits::KEY_BYTES_MAX,
};

/// What kind of rows a file holds: each kind has its own way of growing old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Messages by chat and seq, of one window of time.
    Messages,
    /// Inbox entries, dropped when their watermark has passed them.
    Inbox,
    /// All other rows: the newest version counts; leveled.
    State,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Messages, Self::Inbox, Self::State];

    /// Its number in files.
    pub const fn number(self) -> u8 {
        match self {
            Self::Messages => 1,
            Self::Inbox => 2,
            Self::State => 3,
        }
    }

    /// The class of a number.
    pub const fn of_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Messages),
            2 => Some(Self::Inbox),
            3 => Some(Self::State),
            _ => None,
        }
    }

    /// Its name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Inbox => "inbox",
            Self::State => "state",
        }
    }
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    /// Kind of rows.
    pub class: Class,
    /// Messages and inboxes: how often its rows were merged. State: its level, 0 is what flushes wrote.
    pub level: u8,
    /// Messages: the window, creation time divided by the window's length. Else 0.
    pub window: u64,
    /// Rows, deletion markers included.
    pub rows: u64,
    /// The first log entry whose rows may be in it.
    pub applied_low: LogIndex,
    /// The last one.
    pub applied_high: LogIndex,
    /// The term of the last one.
    pub term: Term,
    /// Messages: the lowest time, milliseconds since 1970. Else 0.
    pub time_low: u64,
    /// Messages: the highest time. Else 0.
    pub time_high: u64,
    /// Its first key.
    pub first_key: Bytes,
    /// Its last key.
    pub last_key: Bytes,
}

/// A live file, as the manifest has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// Its id.
    pub id: FileId,
    /// Its length.
    pub bytes: u64,
    /// Its whole-file checksum.
    pub checksum: u32,
    /// What it holds.
    pub properties: Properties,
}

/// Bytes of the fields in front of the keys.
const FIXED_BYTES: usize = 66;

impl Properties {
    /// Whether a key lies between its first and its last.
    pub fn covers(&self, key: &[u8]) -> bool {
        self.first_key[..] <= *key && *key <= self.last_key[..]
    }

    /// Whether it may have keys from `start`, up to and without `end`.
    pub fn overlaps(&self, start: &[u8], end: &[u8]) -> bool {
        self.first_key[..] < *end && *start <= self.last_key[..]
    }

    /// Appends its bytes, with the files it replaces.
    pub fn encode(&self, replaces: &[FileId], out: &mut Vec<u8>) {
        assert!(self.first_key <= self.last_key, "a file's first key is not above its last");
        out.push(self.class.number());
        out.push(self.level);
        for number in [
            self.window,
            self.rows,
            self.applied_low.get(),
            self.applied_high.get(),
            self.term.get(),
            self.time_low,
            self.time_high,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for key in [&self.first_key, &self.last_key] {
            out.extend_from_slice(&u16::try_from(key.len()).expect("keys are short").to_le_bytes());
            out.extend_from_slice(key);
        }
        out.extend_from_slice(&u32::try_from(replaces.len()).expect("few").to_le_bytes());
        for id in replaces {
            out.extend_from_slice(&id.get().to_le_bytes());
        }
    }

    /// Takes one off the front: it, the files it replaces, and how many bytes that were. `None` where it is malformed.
    pub fn decode(bytes: &Bytes) -> Option<(Self, Vec<FileId>, usize)> {
        let class = Class::of_number(*bytes.first()?)?;
        let level = *bytes.get(1)?;
        let u64_at = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk::<8>()?));
        let mut at = FIXED_BYTES - 8;
        let mut key = || {
            let len = u16::from_le_bytes(*bytes.get(at..)?.first_chunk::<2>()?) as usize;
            let end = at + 2 + len;
            if len > KEY_BYTES_MAX || end > bytes.len() {
                return None;
            }
            let key = bytes.slice(at + 2..end);
            at = end;
            Some(key)
        };
        let (first_key, last_key) = (key()?, key()?);
        let count = u32::from_le_bytes(*bytes.get(at..)?.first_chunk::<4>()?) as usize;
        at += 4;
        let end = count.checked_mul(8)?.checked_add(at)?;
        let replaces = bytes.get(at..end)?.chunks_exact(8);
        let replaces = replaces.map(|id| FileId::new(u64::from_le_bytes(id.try_into().expect("8 bytes")))).collect();
        if first_key > last_key {
            return None;
        }
        let properties = Self {
            class,
            level,
            window: u64_at(2)?,
            rows: u64_at(10)?,
            applied_low: LogIndex::new(u64_at(18)?),
            applied_high: LogIndex::new(u64_at(26)?),
            term: Term::new(u64_at(34)?),
            time_low: u64_at(42)?,
            time_high: u64_at(50)?,
            first_key,
            last_key,
        };
        Some((properties, replaces, end))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A file for tests of planners and manifests.
    pub(crate) fn file(id: u64, class: Class, level: u8, window: u64, bytes: u64) -> FileMeta {
        let properties = Properties {
            class,
            level,
            window,
            rows: 1,
            applied_low: LogIndex::new(id),
            applied_high: LogIndex::new(id),
            term: Term::new(1),
            time_low: 0,
            time_high: 0,
            first_key: Bytes::from_static(b"a"),
            last_key: Bytes::from_static(b"z"),
        };
        FileMeta { id: FileId::new(id), bytes, checksum: 7, properties }
    }

    #[test]
    fn properties_come_back_and_cut_ones_do_not() {
        let file = file(4, Class::Inbox, 2, 9, 4096);
        let mut bytes = Vec::new();
        file.properties.encode(&[FileId::new(1), FileId::new(3)], &mut bytes);
        let whole = Bytes::from(bytes);
        let (properties, replaces, len) = Properties::decode(&whole).unwrap();
        assert_eq!((properties, replaces, len), (file.properties, vec![FileId::new(1), FileId::new(3)], whole.len()));
        for len in 0..whole.len() {
            assert!(Properties::decode(&whole.slice(..len)).is_none());
        }
    }
}
