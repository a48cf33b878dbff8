//! One number of everything that a partition holds: equal where two replicas are.

use std::collections::BTreeMap;

use bytes::Bytes;
use columba_wire::{ChatId, MessageSeq};

use super::{
    Partition,
    chat::{ChatRow, Pending},
    deletion::Errand,
    device::Device,
    inbox::{Inbox, InboxChat, encode_entry, entry_key, parse_entry_key},
    keys::DeviceKeys,
    membership::UserChat,
    profile::Profile,
    roster::Roster,
    rows::{Layer, Row, RowMap, each_row, file_key},
    user::{Handle, LastSeen, User},
};
use crate::{env::Disk, error::Result, table::meta::Class, tree::ScanRange};

impl<D: Disk> Partition<D> {
    /// A stable hash over settings and all rows that are not dead: equal on replicas with equal applied index, whatever
    /// their files still hold. Reads all files.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn state_hash(&self) -> Result<u64> {
        let mut rows: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        {
            let state = self.inner.state.borrow();
            for layer in state.sealed.as_deref().into_iter().chain([&state.active]) {
                collect_rows(layer, &mut rows);
            }
        }
        for (class, start, end) in [(Class::Inbox, 0x20, 0x21), (Class::State, 0x30, 0xff)] {
            let range = ScanRange { start: vec![start], end: vec![end] };
            for (key, value) in self.inner.tree.scan(class, &range, usize::MAX, usize::MAX).await? {
                rows.entry(key.to_vec()).or_insert_with(|| Some(value.to_vec()));
            }
        }
        let mut hash = Fnv::default();
        hash.mix(&self.settings().encode());
        let is_alive = |key: &[u8]| {
            parse_entry_key(key).is_none_or(|(device, position)| {
                let head = rows.get(&file_key::<Inbox>(&device)).and_then(Option::as_ref);
                let head = head.and_then(|row| Inbox::decode(Bytes::copy_from_slice(row)).ok());
                position > head.map_or(0, |inbox| inbox.head)
            })
        };
        for (key, value) in rows.iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
            if !is_alive(key) {
                continue;
            }
            hash.mix(key);
            hash.mix(value);
            if key[0] != ChatRow::KIND {
                continue;
            }
            let chat = ChatId::from_bytes(key[1..].try_into().expect("a chat's key is its id"));
            let last = ChatRow::decode(Bytes::copy_from_slice(value))?.chat.last_seq;
            let mut next = MessageSeq::new(1);
            while next <= last {
                let page = self.messages(chat, next, last, HASH_PAGE_BYTES).await?;
                for message in &page.messages {
                    hash.mix(&message.seq.get().to_le_bytes());
                    hash.mix(message.sender.user.as_bytes());
                    hash.mix(&message.kind.with_device(message.sender.device).to_le_bytes());
                    hash.mix(&message.client_seq.get().to_le_bytes());
                    hash.mix(&message.time_ms.to_le_bytes());
                    hash.mix(&message.body);
                }
                assert!(page.next > next, "chat {chat}: message {next} of {last} is missing");
                next = page.next;
            }
        }
        Ok(hash.0)
    }
}

/// Bytes of messages that a hash takes at a time.
const HASH_PAGE_BYTES: usize = 1024 * 1024;

/// FNV-1a, 64 bits.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// The rows of a layer as in files, but for messages.
fn collect_rows(layer: &Layer, rows: &mut BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
    fn of<R: Row>(map: &RowMap<R>, rows: &mut BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
        rows.extend(map.iter().map(|(key, row)| {
            let value = row.as_ref().map(|row| {
                let mut out = Vec::new();
                row.encode(&mut out);
                out
            });
            (file_key::<R>(key), value)
        }));
    }
    let entries = layer.inbox_entries.runs().iter().flat_map(|(device, run)| run.iter().map(|entry| (*device, entry)));
    rows.extend(entries.map(|(device, entry)| (entry_key(device, entry.position), Some(encode_entry(entry)))));
    macro_rules! collect {
        ($($field:ident: $row:ty,)*) => { $(of::<$row>(&layer.$field, rows);)* };
    }
    each_row!(collect);
}
