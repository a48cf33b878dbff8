//! What merges ask of the state: which rows of a block are alive. A merge runs beside the core, and the state is the
//! core's: questions and answers go over a channel, one for each block.
//!
//! Invariants
//! - What was alive by an answer may die before the merge ends: a later merge drops it. What is dead stays dead.
//! - One question waits at a time.

use columba_wire::{ChatId, DeviceAddress};
use tokio::sync::{mpsc, oneshot};

use super::{
    State,
    inbox::{Inbox, parse_entry_key},
    retention::{Floor, Settings},
};
use crate::{
    table::{block::Block, columns::MessageBlock},
    tree::{Keep, Living},
};

/// A question.
pub(super) enum Ask {
    /// Up to where messages of these chats are dead.
    Floors(Vec<ChatId>, oneshot::Sender<Vec<Floor>>),
    /// The watermarks of these devices' inboxes.
    Heads(Vec<DeviceAddress>, oneshot::Sender<Vec<u64>>),
}

/// The merge's end.
pub(super) struct Asking {
    asks: mpsc::Sender<Ask>,
    deletes: bool,
}

/// The core's end.
pub(super) struct Asked {
    asks: mpsc::Receiver<Ask>,
}

/// Both ends. Where no message was ever to be deleted nothing is asked about them.
pub(super) fn channel(settings: Settings) -> (Asking, Asked) {
    let (sender, receiver) = mpsc::channel(1);
    (Asking { asks: sender, deletes: settings.deletes() }, Asked { asks: receiver })
}

impl Asked {
    /// Answers until the merge has ended.
    pub(super) async fn answer(mut self, answer: impl Fn(Ask)) {
        while let Some(ask) = self.asks.recv().await {
            answer(ask);
        }
    }
}

impl Asking {
    /// None where the core has gone: then the merge ends too, and what it makes of this does not matter.
    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.asks.send(ask(sender)).await.ok()?;
        receiver.await.ok()
    }
}

impl Keep for Asking {
    async fn living_messages(&mut self, block: &MessageBlock) -> Living {
        if !self.deletes {
            return Living::ALL;
        }
        let mut chats: Vec<_> = (0..block.len()).map(|row| block.key(row).0).collect();
        chats.dedup();
        let Some(floors) = self.ask(|answer| Ask::Floors(chats.clone(), answer)).await else {
            return Living::ALL;
        };
        let mut at = 0;
        Living::these((0..block.len()).map(|row| {
            let (chat, seq) = block.key(row);
            if chats[at] != chat {
                at += 1;
            }
            !floors[at].is_dead(seq, block.time_ms(row))
        }))
    }

    async fn living_entries(&mut self, block: &Block) -> Living {
        let entries: Vec<_> = (0..block.len()).map(|row| parse_entry_key(block.key(row))).collect();
        let mut devices: Vec<_> = entries.iter().flatten().map(|(device, _)| *device).collect();
        devices.dedup();
        let Some(heads) = self.ask(|answer| Ask::Heads(devices.clone(), answer)).await else {
            return Living::ALL;
        };
        let mut at = 0;
        Living::these(entries.into_iter().map(|entry| {
            let Some((device, position)) = entry else {
                return true;
            };
            if devices[at] != device {
                at += 1;
            }
            position > heads[at]
        }))
    }
}

impl State {
    /// Of what is not in memory nothing is known to be dead: it is kept for now, and a later merge will drop it.
    pub(super) fn answer(&self, ask: Ask) {
        // A merge that has ended meanwhile wants no answer.
        match ask {
            Ask::Floors(chats, answer) => {
                let floors = chats.into_iter().map(|chat| self.floor(chat).unwrap_or_default());
                let _ = answer.send(floors.collect());
            }
            Ask::Heads(devices, answer) => {
                let head = |device| self.lookup::<Inbox>(&device).flatten().map_or(0, |inbox| inbox.head);
                let _ = answer.send(devices.into_iter().map(head).collect());
            }
        }
    }
}
