//! (D) The profile on disk: who this device is, and how far it is.
//!
//! | file | what it holds | how it changes |
//! |---|---|---|
//! | `identity.toml` | device key, account, server, pinned certificate; mode 0600 | written anew: temporary file, sync, rename |
//! | `journal.jsonl` | progress: one line for each batch of records, a JSON array | appended and synced; written anew when long |
//! | `lock` | nothing; locked while a process uses the profile | |
//!
//! Invariants
//! - A line is a batch: whole, or the last one and torn. A torn last line was never acted upon and is cut off; any
//!   other unreadable line is damage, and an error.
//! - After a failed write nothing more is written: what it left behind is unknown.
//! - The profile is not encrypted yet: whoever can read its directory can read the messages and act as the device.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, DeviceId, UserId};
use data_encoding::HEXLOWER;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    limits::{JOURNAL_BYTES_REWRITE, LOG_MESSAGES_MAX, NAMES_MAX, PROFILE_BYTES_MAX},
    session::{
        Kept,
        cursor::Progress,
        outbox::Outbound,
        record::{LogEntry, Record, parse_change},
    },
    types::{Account, Fingerprint, Message, Recipient},
};

/// Who this device is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    /// Seed of the device's Ed25519 key, hex.
    device_key: String,
    /// `host:port` the account is at.
    server: String,
    handle: Option<String>,
    user_id: Option<String>,
    device_id: Option<u32>,
    /// SHA-256 of the server's certificate, where it was trusted on first use.
    pinned_certificate: Option<String>,
}

/// What the journal amounts to.
#[derive(Default)]
struct State {
    me: Option<UserId>,
    next_client_seq: u64,
    outbox: BTreeMap<ClientSeq, Outbound>,
    chats: BTreeMap<ChatId, Progress>,
    log: BTreeMap<ChatId, VecDeque<LogEntry>>,
    names: BTreeMap<UserId, String>,
}

/// A profile, open and locked.
pub(crate) struct Store {
    directory: PathBuf,
    identity: Identity,
    state: State,
    journal: File,
    journal_bytes: u64,
    /// What the journal had after it was last written anew.
    compact_bytes: u64,
    failed: bool,
    _lock: File,
}

impl Store {
    /// Opens a profile, or makes one with a fresh key.
    ///
    /// # Errors
    /// `Store`, `StoreInUse` or `StoreDamaged`; `InvalidOption` where it belongs to another server.
    pub(crate) fn open(directory: &Path, server: &str) -> Result<Self, Error> {
        let at = |path: &Path| {
            let path = path.display().to_string();
            move |error: std::io::Error| Error::Store { path, reason: error.to_string() }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(at(directory))?;
        let lock_path = directory.join("lock");
        let lock = private().create(true).truncate(false).write(true).open(&lock_path).map_err(at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::StoreInUse { path: directory.display().to_string() });
            }
            Err(TryLockError::Error(error)) => return Err(at(&lock_path)(error)),
        }
        for name in ["identity.toml", "journal.jsonl"] {
            remove_leftover(&temporary(&directory.join(name)))?;
        }

        let identity_path = directory.join("identity.toml");
        let identity = match read(&identity_path)? {
            Some(text) => parse_identity(&identity_path, &text)?,
            None => new_identity(server)?,
        };
        if identity.server != server {
            let known = &identity.server;
            return Err(Error::InvalidOption(format!("this profile belongs to the server {known}, not {server}")));
        }
        let mut state = State { me: account_of(&identity).map(|account| account.user), ..State::default() };
        let journal_path = directory.join("journal.jsonl");
        let bytes = replay(&journal_path, &mut state)?;
        let journal = private().create(true).append(true).open(&journal_path).map_err(at(&journal_path))?;
        journal.set_len(bytes).and_then(|()| journal.sync_all()).map_err(at(&journal_path))?;
        let store = Self {
            directory: directory.to_owned(),
            identity,
            state,
            journal,
            journal_bytes: bytes,
            compact_bytes: 0,
            failed: false,
            _lock: lock,
        };
        store.write_identity()?;
        Ok(store)
    }

    /// The device's key.
    pub(crate) fn key(&self) -> Result<SigningKey, Error> {
        let seed = HEXLOWER.decode(self.identity.device_key.as_bytes()).ok().and_then(|seed| seed.try_into().ok());
        let seed: [u8; 32] = seed.ok_or_else(|| self.error("identity.toml", "the device key is not 64 hex digits"))?;
        Ok(SigningKey::from_bytes(&seed))
    }

    /// The certificate that was trusted on first use.
    pub(crate) fn pinned(&self) -> Result<Option<Fingerprint>, Error> {
        self.identity.pinned_certificate.as_deref().map(str::parse).transpose()
    }

    /// What an earlier run left for the session.
    pub(crate) fn kept(&self) -> Kept {
        Kept {
            account: account_of(&self.identity),
            next_client_seq: self.state.next_client_seq,
            outbox: self.state.outbox.iter().map(|(seq, what)| (*seq, what.clone())).collect(),
            chats: self.state.chats.clone(),
            // What a linked device was not there for is not missing.
            complete: !account_of(&self.identity).is_some_and(|account| account.is_linked()),
        }
    }

    /// The account is known now.
    pub(crate) fn set_account(&mut self, account: &Account) -> Result<(), Error> {
        self.state.me = Some(account.user);
        self.identity.handle = Some(account.handle.clone());
        self.identity.user_id = Some(account.user.to_string());
        self.identity.device_id = Some(account.device.get());
        self.write_identity()
    }

    /// The server's certificate is trusted from now on.
    pub(crate) fn set_pinned(&mut self, fingerprint: Fingerprint) -> Result<(), Error> {
        self.identity.pinned_certificate = Some(fingerprint.to_string());
        self.write_identity()
    }

    /// What has disappeared by now is on the disk no more.
    ///
    /// # Errors
    /// `Store`; from then on every call fails.
    pub(crate) fn forget_disappeared(&mut self, now_ms: u64) -> Result<(), Error> {
        let mut any = false;
        for log in self.state.log.values_mut() {
            any |= forget_disappeared(log, now_ms);
        }
        if any { self.rewrite() } else { Ok(()) }
    }

    /// Newest messages of a chat in the log, oldest first, without those that have disappeared.
    pub(crate) fn log(&mut self, chat: ChatId, limit: usize, now_ms: u64) -> Vec<Message> {
        if let Some(log) = self.state.log.get_mut(&chat) {
            forget_disappeared(log, now_ms);
        }
        let Some(entries) = self.state.log.get(&chat) else {
            return Vec::new();
        };
        entries.iter().skip(entries.len().saturating_sub(limit)).map(LogEntry::to_message).collect()
    }

    /// The handles learnt so far.
    pub(crate) fn names(&self) -> BTreeMap<UserId, String> {
        self.state.names.clone()
    }

    /// Keeps a batch: on disk when this returns, where any of it must be.
    ///
    /// # Errors
    /// `Store`; from then on every call fails.
    pub(crate) fn commit(&mut self, records: Vec<Record>) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        if self.failed {
            return Err(self.error("journal.jsonl", "an earlier write failed"));
        }
        let mut line = serde_json::to_vec(&records).expect("records have string keys only");
        line.push(b'\n');
        let durable = records.iter().any(Record::must_be_durable);
        let written =
            self.journal.write_all(&line).and_then(|()| if durable { self.journal.sync_data() } else { Ok(()) });
        if let Err(error) = written {
            self.failed = true;
            return Err(self.error("journal.jsonl", &error.to_string()));
        }
        self.journal_bytes += line.len() as u64;
        for record in records {
            self.state.apply(record);
        }
        if self.journal_bytes > JOURNAL_BYTES_REWRITE.max(2 * self.compact_bytes) {
            self.rewrite()?;
        }
        Ok(())
    }

    /// Writes the journal anew with what still counts.
    fn rewrite(&mut self) -> Result<(), Error> {
        let path = self.directory.join("journal.jsonl");
        let mut text = Vec::new();
        for records in self.state.snapshot().chunks(64) {
            serde_json::to_writer(&mut text, records).expect("records have string keys only");
            text.push(b'\n');
        }
        let journal = replace(&path, &text).inspect_err(|_| self.failed = true)?;
        self.journal = journal;
        self.journal_bytes = text.len() as u64;
        self.compact_bytes = self.journal_bytes;
        Ok(())
    }

    fn write_identity(&self) -> Result<(), Error> {
        let text = toml::to_string(&self.identity).expect("strings and numbers are TOML");
        replace(&self.directory.join("identity.toml"), text.as_bytes()).map(|_| ())
    }

    fn error(&self, file: &str, reason: &str) -> Error {
        Error::Store { path: self.directory.join(file).display().to_string(), reason: reason.to_owned() }
    }
}

impl State {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Queued { client_seq, to, body } => {
                self.queue(client_seq, Outbound::Message { to: Recipient::User(to), body });
            }
            Record::QueuedToGroup { client_seq, group, body } => {
                self.queue(client_seq, Outbound::Message { to: Recipient::Group(group), body });
            }
            Record::QueuedChange { client_seq, group, change } => {
                self.queue(client_seq, Outbound::Change { group, change: parse_change(&change) });
            }
            Record::Sent { client_seq, chat, seq, time_ms } => {
                self.chats.entry(chat).or_default().handle_own(seq);
                let sender = self.me;
                if let (Some(what), Some(sender)) = (self.outbox.remove(&client_seq), sender) {
                    let (body, change) = match what {
                        Outbound::Message { body, .. } => (body, None),
                        Outbound::Change { change, .. } => (Bytes::new(), Some(change)),
                    };
                    let message = Message { chat, seq, sender, time_ms, disappears_ms: None, body, change };
                    self.remember(LogEntry::own(message));
                }
            }
            Record::Dropped { client_seq, chat } => {
                self.outbox.remove(&client_seq);
                if let Some(chat) = chat {
                    self.chats.entry(chat).or_default().handle_unknown();
                }
            }
            Record::Delivered(entry) => {
                self.chats.entry(entry.chat).or_default().handle_delivered(entry.seq);
                self.remember(entry);
            }
            Record::Named { user, handle } => {
                if self.names.len() < NAMES_MAX || self.names.contains_key(&user) {
                    self.names.insert(user, handle);
                }
            }
            Record::NextClientSeq(next) => self.next_client_seq = self.next_client_seq.max(next.get()),
            Record::Cursor { chat, progress } => {
                self.chats.insert(chat, progress);
            }
            Record::Logged(entry) => self.remember(entry),
        }
    }

    fn queue(&mut self, client_seq: ClientSeq, what: Outbound) {
        self.next_client_seq = self.next_client_seq.max(client_seq.get() + 1);
        self.outbox.insert(client_seq, what);
    }

    /// Adds a message to its chat's log, in order of seq.
    fn remember(&mut self, entry: LogEntry) {
        let log = self.log.entry(entry.chat).or_default();
        let place = log.partition_point(|known| known.seq < entry.seq);
        if log.get(place).is_some_and(|known| known.seq == entry.seq) {
            return;
        }
        log.insert(place, entry);
        if log.len() > LOG_MESSAGES_MAX {
            log.pop_front();
        }
    }

    fn snapshot(&self) -> Vec<Record> {
        let next = Record::NextClientSeq(ClientSeq::new(self.next_client_seq));
        let names = self.names.iter().map(|(user, handle)| Record::Named { user: *user, handle: handle.clone() });
        let chats =
            self.chats.iter().map(|(chat, progress)| Record::Cursor { chat: *chat, progress: progress.clone() });
        let log = self.log.values().flatten().cloned().map(Record::Logged);
        let outbox = self.outbox.iter().map(|(client_seq, what)| Record::queued(*client_seq, what));
        core::iter::once(next).chain(names).chain(chats).chain(log).chain(outbox).collect()
    }
}

/// Takes what has disappeared by now out of the log of a chat. Whether there was any.
fn forget_disappeared(log: &mut VecDeque<LogEntry>, now_ms: u64) -> bool {
    let (before, mut timer_ms) = (log.len(), 0);
    for entry in &mut *log {
        if let Some(timer_s) = entry.timer_s() {
            timer_ms = u64::from(timer_s) * 1000;
        } else if entry.change.is_some() {
            // A change stays.
        } else if entry.is_own {
            entry.disappears_ms = (timer_ms > 0).then_some(entry.time_ms.saturating_add(timer_ms));
        } else {
            timer_ms = entry.disappears_ms.map_or(0, |at| at.saturating_sub(entry.time_ms));
        }
    }
    log.retain(|entry| entry.disappears_ms.is_none_or(|at| at > now_ms));
    log.len() < before
}

/// Reads the journal into `state`. Returns how many bytes of it count.
fn replay(path: &Path, state: &mut State) -> Result<u64, Error> {
    let Some(text) = read(path)? else {
        return Ok(0);
    };
    let mut good = 0;
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let whole = line.last() == Some(&b'\n');
        match serde_json::from_slice::<Vec<Record>>(line) {
            Ok(records) if whole => records.into_iter().for_each(|record| state.apply(record)),
            Ok(_) | Err(_) if lines.peek().is_none() => break,
            Ok(_) | Err(_) => {
                return Err(Error::StoreDamaged { path: path.display().to_string(), line: number + 1 });
            }
        }
        good += line.len() as u64;
    }
    Ok(good)
}

fn new_identity(server: &str) -> Result<Identity, Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| Error::InvalidOption(format!("no random numbers: {error}")))?;
    Ok(Identity {
        device_key: HEXLOWER.encode(&seed),
        server: server.to_owned(),
        handle: None,
        user_id: None,
        device_id: None,
        pinned_certificate: None,
    })
}

fn parse_identity(path: &Path, text: &[u8]) -> Result<Identity, Error> {
    let wrong = |reason: String| Error::Store { path: path.display().to_string(), reason };
    let text = core::str::from_utf8(text).map_err(|error| wrong(error.to_string()))?;
    toml::from_str(text).map_err(|error| wrong(error.to_string()))
}

fn account_of(identity: &Identity) -> Option<Account> {
    Some(Account {
        user: identity.user_id.as_deref()?.parse().ok()?,
        device: DeviceId::new(identity.device_id?).ok()?,
        handle: identity.handle.clone()?,
    })
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

#[expect(clippy::disallowed_methods, reason = "a driver: the profile's own files")]
fn remove_leftover(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::Store { path: path.display().to_string(), reason: error.to_string() })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[expect(clippy::disallowed_methods, reason = "a driver: the profile's own files")]
fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let wrong = |reason: String| Error::Store { path: path.display().to_string(), reason };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let mut text = Vec::new();
    file.take(PROFILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| wrong(error.to_string()))?;
    if text.len() as u64 > PROFILE_BYTES_MAX {
        return Err(wrong("too long to be a profile".to_owned()));
    }
    Ok(Some(text))
}

/// Puts a file in the place of another, durably. Returns it, open for appending.
#[expect(clippy::disallowed_methods, reason = "a driver: the profile's own files")]
fn replace(path: &Path, text: &[u8]) -> Result<File, Error> {
    let put = || -> std::io::Result<File> {
        let new = temporary(path);
        remove_leftover(&new).map_err(std::io::Error::other)?;
        let mut file = private().create_new(true).append(true).open(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        File::open(path.parent().expect("the profile's files are in its directory"))?.sync_all()?;
        Ok(file)
    };
    put().map_err(|error| Error::Store { path: path.display().to_string(), reason: error.to_string() })
}

#[cfg(test)]
mod tests;
