//! What the rows of some tables say of each other: whether messages are missing, and which settings follow.
//!
//! Invariants
//! - Nothing but keys, chats' rows and the lists of chats is read: no message.

use std::collections::BTreeMap;

use columba_wire::{ChatId, MessageSeq};

use super::LostRange;
use crate::{
    env::Disk,
    error::Result,
    partition::{
        chat::{Chat, ChatRow},
        retention::Settings,
        rows::Row,
    },
    table::{chats::ChatRange, meta::Class},
    tree::{ScanRange, Tree},
};

/// Rows scanned at a time.
const SCAN_ROWS: usize = 4096;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) settings: Settings,
    pub(crate) lost: Vec<LostRange>,
}

/// Compares chats with their messages. `ranges`: those of every message file.
pub(crate) async fn check<D: Disk>(tree: &Tree<D>, ranges: &[ChatRange]) -> Result<Contents> {
    let mut by_chat: BTreeMap<ChatId, Vec<(MessageSeq, MessageSeq)>> = BTreeMap::new();
    for range in ranges {
        by_chat.entry(range.chat).or_default().push((range.first, range.last));
    }
    let mut chats = Vec::new();
    let mut found = Contents::default();
    let mut start = vec![ChatRow::KIND];
    loop {
        let range = ScanRange { start: start.clone(), end: vec![ChatRow::KIND + 1] };
        let rows = tree.scan(Class::State, &range, SCAN_ROWS, usize::MAX).await?;
        let Some((last, _)) = rows.last() else { break };
        start = [last, &[0][..]].concat();
        for (key, value) in rows {
            let Ok(id) = ChatId::try_from(&key[1..]) else { continue };
            let chat = ChatRow::decode(value)?.chat;
            let stored = by_chat.remove(&id).unwrap_or_default();
            missing(id, &chat, stored, &mut found.lost);
            if chat.retention.is_some() {
                chats.push(chat);
            }
        }
    }
    let has_holes = !found.lost.is_empty();
    for (chat, stored) in by_chat {
        let (from, to) = (stored.iter().map(|range| range.0).min(), stored.iter().map(|range| range.1).max());
        found.lost.extend(from.zip(to).map(|(from, to)| LostRange::Chat { chat, from, to }));
    }
    found.settings = Settings::rebuilt(chats.iter(), has_holes);
    Ok(found)
}

fn missing(id: ChatId, chat: &Chat, mut stored: Vec<(MessageSeq, MessageSeq)>, lost: &mut Vec<LostRange>) {
    stored.sort_unstable();
    let mut next = chat.deleted_up_to.next();
    for (first, last) in stored {
        if first > next {
            lost.push(LostRange::Messages { chat: id, from: next, to: first.prev() });
        }
        next = next.max(last.next());
    }
    if next <= chat.last_seq {
        lost.push(LostRange::Messages { chat: id, from: next, to: chat.last_seq });
    } else if next > chat.last_seq.next() {
        lost.push(LostRange::Chat { chat: id, from: chat.last_seq.next(), to: next.prev() });
    }
}
