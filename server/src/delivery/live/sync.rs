//! A device that catches up: its inbox is read page by page, and what comes meanwhile of other chats is pushed at once.
//!
//! ```text
//!   start_sync    which references are on their way into the inbox is known
//!   know_behind   the inbox was looked through: which chats wait in it
//!   push_synced   a message of it, push_synced_entry: all of a reference
//!   go_live       it was read to its end
//! ```
//!
//! Invariants
//! - While a device catches up nothing of a chat is pushed past what waits in the inbox or is on its way there.
//! - What waited leaves a quarter of what may be unacknowledged to what is live.

use std::collections::BTreeSet;

use columba_engine::{
    env::Instant,
    partition::effect::StoredMessage,
    planted::{self, Planted},
};
use columba_wire::{ChatId, DeviceAddress, MessageSeq};
use rustc_hash::FxHashSet;

use super::{DeviceLive, Live, LiveOutput};
use crate::{
    core::message::{SessionRef, Way},
    delivery::ACK_WAIT,
};

/// The chats of which something waits in the inbox of a device that catches up, or is held for it.
#[derive(Debug, Default)]
pub(super) struct Behind {
    chats: FxHashSet<ChatId>,
    /// Whether those are all.
    is_known: bool,
}

impl Behind {
    /// Something of the chat waits.
    pub(super) fn add(&mut self, chat: ChatId) {
        self.chats.insert(chat);
    }

    /// Whether nothing of the chat waits, for certain.
    pub(super) fn is_clear_of(&self, chat: ChatId) -> bool {
        self.is_known && (!self.chats.contains(&chat) || planted::is(Planted::PushedPastInbox))
    }
}

impl Live {
    /// Has the inbox of a device read that has a session. What is on its way into it is found there, or comes behind.
    pub(super) fn start_sync(&mut self, address: DeviceAddress, out: &mut Vec<LiveOutput>) {
        let Some(user) = self.users.get_mut(&address.user) else {
            return;
        };
        let Some(device) = user.sessions.get_mut(&address.device) else {
            return;
        };
        let appending = user.chats.iter().filter(|(_, record)| record.is_appending(address.device));
        device.behind = Behind { chats: appending.map(|(chat, _)| *chat).collect(), is_known: false };
        device.live = false;
        device.syncing = true;
        out.push(LiveOutput::StartSync(address, device.session));
    }

    /// A sync job has looked through the inbox: of these chats something waits there, and of no others but those of
    /// which something was put into it since [`Self::start_sync`].
    pub(crate) fn know_behind(
        &mut self,
        address: DeviceAddress,
        session: SessionRef,
        chats: impl IntoIterator<Item = ChatId>,
    ) {
        let user = self.users.get_mut(&address.user);
        if let Some(device) = user.and_then(|user| user.sessions.get_mut(&address.device))
            && device.session == session
        {
            device.behind.chats.extend(chats);
            device.behind.is_known = true;
        }
    }

    /// Whether a sync job may push to the device now.
    pub(crate) fn has_room(&self, address: DeviceAddress) -> bool {
        self.device(address).is_some_and(DeviceLive::has_room_to_catch_up)
    }

    /// A sync job hands over a message from the inbox. Pushed, unless it was in this session already.
    pub(crate) fn push_synced(
        &mut self,
        address: DeviceAddress,
        chat: ChatId,
        message: StoredMessage,
        out: &mut Vec<LiveOutput>,
    ) {
        let Some(device) = self.users.get_mut(&address.user).and_then(|user| user.sessions.get_mut(&address.device))
        else {
            return;
        };
        if message.sender == address || device.last_unacked(chat).is_some_and(|pushed| message.seq <= pushed) {
            return;
        }
        let way = device.count_push(chat, message.seq, message.body.len(), Way::CatchUp);
        let session = device.session;
        if let Some(progress) = self.progress(address, chat) {
            progress.pushed = progress.pushed.max(message.seq);
        }
        out.push(LiveOutput::Push(session, way, chat, message));
    }

    /// A sync job has handed over all of an inbox entry.
    pub(crate) fn push_synced_entry(
        &mut self,
        address: DeviceAddress,
        position: u64,
        chat: ChatId,
        to: MessageSeq,
        out: &mut Vec<LiveOutput>,
    ) {
        let Some(device) = self.users.get_mut(&address.user).and_then(|user| user.sessions.get_mut(&address.device))
        else {
            return;
        };
        // Where nothing of it is unacknowledged (own messages, or acknowledged while it was on its way), it is done.
        let last = device.last_unacked_up_to(chat, to);
        if last.is_some() || !device.entries.is_empty() {
            device.entries.push_back((position, chat, last.unwrap_or(to), last.is_none()));
        } else {
            out.push(LiveOutput::Trim(address, position, chat));
        }
    }

    /// The inbox was read to its end: go live, unless something is on its way into it. Returns whether it did.
    pub(crate) fn go_live(&mut self, address: DeviceAddress, now: Instant, out: &mut Vec<LiveOutput>) -> bool {
        let Some(user) = self.users.get_mut(&address.user) else {
            return false;
        };
        if user.chats.values().any(|record| record.is_appending(address.device)) {
            return false;
        }
        let Some(device) = user.sessions.get_mut(&address.device) else {
            return false;
        };
        device.live = true;
        device.syncing = false;
        device.owes_synced = true;
        device.behind = Behind::default();
        let mut all_acked = BTreeSet::new();
        user.chats.iter_mut().for_each(|(chat, record)| {
            let progress = record.devices.iter_mut().find(|progress| progress.device == address.device);
            if let (Some(progress), None) = (progress, device.first_pending(*chat))
                && progress.handle_all_acked()
            {
                all_acked.insert(*chat);
            }
        });
        for chat in all_acked {
            self.report(address.user, chat, true, out);
        }
        self.drain_held(address, now, out);
        true
    }

    /// Pushes what is held, as far as there is room. What stays is pushed as acknowledgements come. The device is told
    /// that it has caught up when nothing that waited is held any more.
    pub(super) fn drain_held(&mut self, address: DeviceAddress, now: Instant, out: &mut Vec<LiveOutput>) {
        loop {
            let Some(device) =
                self.users.get_mut(&address.user).and_then(|user| user.sessions.get_mut(&address.device))
            else {
                return;
            };
            if device.held.is_empty() && core::mem::take(&mut device.owes_synced) {
                out.push(LiveOutput::Synced(device.session));
            }
            if !device.has_room() {
                return;
            }
            // What came while the device caught up goes before the word that it has.
            let way = if device.owes_synced { Way::CatchUp } else { Way::Live };
            let Some((chat, message)) = device.held.pop_front() else {
                return;
            };
            device.held_bytes -= message.body.len();
            let way = device.count_push(chat, message.seq, message.body.len(), way);
            let session = device.session;
            if let Some(progress) = self.progress(address, chat) {
                progress.pushed = progress.pushed.max(message.seq);
                if progress.start(now) {
                    self.checks.push_back((now + ACK_WAIT, address, chat));
                }
            }
            out.push(LiveOutput::Push(session, way, chat, message));
        }
    }
}
