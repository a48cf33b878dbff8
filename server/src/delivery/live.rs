//! The user's side of delivery: sessions, what was pushed and not acknowledged, what goes to the inbox.
//!
//! A device is *away* (no session), *syncing* (a job reads its inbox; what arrives meanwhile of a chat that waits there
//! is held, or goes behind it into the inbox) or *live* (what arrives is pushed at once, or held for a while where too
//! much is unacknowledged). See [`super`] for what must hold.
//!
//! Invariants
//! - A message that lets the user into a chat, or puts it out, is not covered before that is noted in its partition.
//! - Per device and chat everything up to `covered` is acknowledged, durably in the inbox, or the device's own.
//! - `everywhere` is what all of the user's devices have for certain. While a chat has a record that is the minimum
//!   over them; what one of them found in its inbox, perhaps much later, is settled by the trim of that inbox
//!   ([`Effect::Settled`](columba_engine::partition::effect::Effect::Settled)).
//! - A device goes live only when none of its chats has `inboxing` above `inboxed`.
//! - A session is of a device that its user has, once the user's devices are known: others end.
//! - A user without sessions and without obligations is forgotten, at the latest with the last check of its chats.

mod appends;
mod device;
mod devices;
mod notes;
mod progress;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use columba_engine::{
    env::Instant,
    partition::{
        command::InboxAppend,
        effect::StoredMessage,
        membership::{ChatNote, UserChat},
    },
};
use columba_wire::{ChatId, DeviceAddress, DeviceId, MessageSeq, UserId};
use rustc_hash::FxHashMap;

use self::{device::DeviceLive, progress::Progress, sync::Behind};
use super::{ACK_WAIT, HINT_AFTER, WAITING_MAX};
use crate::core::message::{Delivery, SessionRef, Way};

/// What the user's side wants done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LiveOutput {
    /// Push a message to a session.
    Push(SessionRef, Way, ChatId, StoredMessage),
    /// Catch-up is complete.
    Synced(SessionRef),
    /// The session was replaced by a newer one of its device.
    Replaced(SessionRef),
    /// The session's device was revoked.
    Revoked(SessionRef),
    /// Report to the chat's fan-out.
    Progress { chat: ChatId, user: UserId, covered: MessageSeq, delivered: MessageSeq, everywhere: MessageSeq },
    /// Ask the chat's fan-out to begin again at its cursor.
    Rewind { chat: ChatId, user: UserId },
    /// Read the user's devices and call [`Live::handle_devices`].
    LoadDevices(UserId),
    /// Run a sync job for the device's session.
    StartSync(DeviceAddress, SessionRef),
    /// A sync job waits for something that has changed.
    WakeSync(DeviceAddress),
    /// The inbox is done with up to this position, which was of this chat.
    Trim(DeviceAddress, u64, ChatId),
    /// The user came or went.
    Presence(UserId, bool),
}

/// The users of a core that have sessions or obligations.
#[derive(Default)]
pub(crate) struct Live {
    users: FxHashMap<UserId, UserLive>,
    /// References to append, one per device and chat, in order of being first wanted.
    appends: Vec<InboxAppend>,
    append_at: BTreeMap<(DeviceAddress, ChatId), usize>,
    /// What is to be noted of the chats in which users are.
    notes: Vec<ChatNote>,
    /// References that could not be proposed.
    parked: Vec<InboxAppend>,
    parked_notes: Vec<ChatNote>,
    /// When to look whether a device has acknowledged; in order of time.
    checks: VecDeque<(Instant, DeviceAddress, ChatId)>,
    /// When to put what a device that is away has not got of a large group into its inbox; in order of time.
    hints: VecDeque<(Instant, DeviceAddress, ChatId)>,
}

#[derive(Default)]
struct UserLive {
    /// The user's devices, once they are read; ascending.
    devices: Option<Vec<DeviceId>>,
    waiting: VecDeque<Delivery>,
    chats: FxHashMap<ChatId, ChatLive>,
    sessions: BTreeMap<DeviceId, DeviceLive>,
}

/// A chat with an obligation toward the user, or with one not long ago.
struct ChatLive {
    received: MessageSeq,
    reported: MessageSeq,
    /// The first and the last of the messages that let the user in or put it out, and are not noted in its partition.
    noting: Option<(MessageSeq, MessageSeq)>,
    devices: Vec<Progress>,
}

impl ChatLive {
    /// Whether it is not known that all devices have what they are covered for, and no trim of an inbox will tell.
    fn is_unsettled(&self) -> bool {
        self.devices.iter().all(|progress| !progress.has_entry)
            && self.devices.iter().any(|progress| progress.has < progress.covered)
    }

    /// Everything up to here is covered on each device, and it is noted that the user came or went by it.
    fn covered(&self) -> MessageSeq {
        let covered = self.devices.iter().map(|progress| progress.covered).min().unwrap_or(self.received);
        self.noting.map_or(covered, |(first, _)| covered.min(first.prev()))
    }

    /// Whether something is on its way into a device's inbox.
    fn is_appending(&self, device: DeviceId) -> bool {
        self.devices.iter().any(|progress| progress.device == device && progress.inboxing > progress.inboxed)
    }

    /// Whether every device is covered, and no check is due.
    fn is_done(&self) -> bool {
        self.noting.is_none()
            && self
                .devices
                .iter()
                .all(|progress| progress.covered >= self.received && !progress.armed && !progress.hinting)
    }
}

impl Live {
    /// Whether a device of the user has a session.
    pub(crate) fn is_online(&self, user: UserId) -> bool {
        self.users.get(&user).is_some_and(|user| !user.sessions.is_empty())
    }

    /// A device has logged in.
    pub(crate) fn attach(&mut self, address: DeviceAddress, session: SessionRef, out: &mut Vec<LiveOutput>) {
        if let Some(old) = self.remove_session(address, None, out) {
            out.push(LiveOutput::Replaced(old));
        }
        let user = self.users.entry(address.user).or_default();
        if user.devices.as_ref().is_some_and(|devices| !devices.contains(&address.device)) {
            // Revoked between the check of its key and now.
            out.push(LiveOutput::Revoked(session));
            return self.forget_if_idle(address.user);
        }
        if user.devices.is_none() && user.waiting.is_empty() {
            out.push(LiveOutput::LoadDevices(address.user));
        }
        if user.sessions.is_empty() {
            out.push(LiveOutput::Presence(address.user, true));
        }
        user.sessions.insert(address.device, DeviceLive::new(session));
        // What waited for a hint is to be read from the inbox now.
        self.spill(address);
        self.start_sync(address, out);
    }

    /// A session has ended: what it did not acknowledge goes to the inbox.
    pub(crate) fn detach(&mut self, address: DeviceAddress, session: SessionRef, out: &mut Vec<LiveOutput>) {
        if self.remove_session(address, Some(session), out).is_none() {
            return;
        }
        if !self.is_online(address.user) {
            out.push(LiveOutput::Presence(address.user, false));
        }
        self.forget_if_idle(address.user);
    }

    /// Removes the device's session (only this one, where one is named).
    fn remove_session(
        &mut self,
        address: DeviceAddress,
        only: Option<SessionRef>,
        out: &mut Vec<LiveOutput>,
    ) -> Option<SessionRef> {
        let old = self.device(address)?.session;
        if only.is_some_and(|only| only != old) {
            return None;
        }
        self.spill(address);
        self.users.get_mut(&address.user)?.sessions.remove(&address.device);
        out.push(LiveOutput::WakeSync(address));
        Some(old)
    }

    fn forget_if_idle(&mut self, id: UserId) {
        if let Some(user) = self.users.get(&id)
            && user.sessions.is_empty()
            && user.chats.is_empty()
            && user.waiting.is_empty()
        {
            self.users.remove(&id);
        }
    }

    /// Messages from a chat's fan-out.
    pub(crate) fn deliver(&mut self, id: UserId, delivery: Delivery, now: Instant, out: &mut Vec<LiveOutput>) {
        let user = self.users.entry(id).or_default();
        if user.devices.is_none() {
            if user.waiting.is_empty() {
                out.push(LiveOutput::LoadDevices(id));
            }
            if user.waiting.len() < WAITING_MAX {
                user.waiting.push_back(delivery);
            }
            return;
        }
        self.accept(id, delivery, now, out);
    }

    /// The user's devices were read (`None`: the user does not exist, or the read failed: the fan-out tries again).
    pub(crate) fn handle_devices(
        &mut self,
        id: UserId,
        devices: Option<Vec<DeviceId>>,
        now: Instant,
        out: &mut Vec<LiveOutput>,
    ) {
        let Some(user) = self.users.get_mut(&id) else {
            return;
        };
        let waiting = core::mem::take(&mut user.waiting);
        if let Some(devices) = devices {
            user.devices = Some(devices.clone());
            self.end_strangers(id, out);
            for delivery in waiting {
                // A delivery that leaves no obligation behind may have ended with the user forgotten.
                self.users.entry(id).or_default().devices.get_or_insert_with(|| devices.clone());
                self.accept(id, delivery, now, out);
            }
        }
        self.forget_if_idle(id);
    }

    fn accept(&mut self, id: UserId, delivery: Delivery, now: Instant, out: &mut Vec<LiveOutput>) {
        let Delivery { chat, prev, everywhere, fresh, from, until, hinted, messages } = delivery;
        let user = self.users.get_mut(&id).expect("deliver has made it");
        let devices = user.devices.as_ref().expect("deliver has waited for it");
        let received = match user.chats.get(&chat) {
            Some(record) => record.received,
            None if !fresh => {
                out.push(LiveOutput::Rewind { chat, user: id });
                self.forget_if_idle(id);
                return;
            }
            None => {
                let has = |device| user.sessions.get(device).map_or(MessageSeq::ZERO, |device| device.has(chat, prev));
                let devices = devices.iter().map(|device| Progress::new(*device, prev, has(device))).collect();
                user.chats.insert(chat, ChatLive { received: prev, reported: prev, noting: None, devices });
                prev
            }
        };
        if prev > received {
            if !fresh {
                out.push(LiveOutput::Rewind { chat, user: id });
                return;
            }
            // Between the two lies only what was deleted.
            let record = user.chats.get_mut(&chat).expect("its `received` was read");
            record.received = prev;
            record.devices.iter_mut().for_each(|progress| progress.skip_to(prev));
        }
        let again = prev < received;
        let record = self.users.get_mut(&id).and_then(|user| user.chats.get_mut(&chat)).expect("it is there, or new");
        record.devices.iter_mut().for_each(|progress| progress.know(everywhere));
        for message in messages {
            if message.seq == self.users[&id].chats[&chat].received.next() {
                if message.seq == from || message.seq == until {
                    self.note(id, chat, UserChat { at: message.seq, is_in: message.seq == from });
                }
                self.receive(id, chat, message, hinted, now, out);
            }
        }
        self.report(id, chat, again, out);
    }

    /// The next message of a chat, to each device.
    fn receive(
        &mut self,
        id: UserId,
        chat: ChatId,
        message: StoredMessage,
        hinted: bool,
        now: Instant,
        out: &mut Vec<LiveOutput>,
    ) {
        let user = self.users.get_mut(&id).expect("accept has checked");
        let record = user.chats.get_mut(&chat).expect("accept has checked");
        let seq = message.seq;
        record.received = seq;
        let mut to_inbox = Vec::new();
        for progress in &mut record.devices {
            let address = DeviceAddress { user: id, device: progress.device };
            if message.sender == address {
                progress.handle_own(seq);
                continue;
            }
            match user.sessions.get_mut(&progress.device) {
                Some(device) if device.takes(chat) && device.has_room() => {
                    let way = device.count_push(chat, seq, message.body.len(), Way::Live);
                    progress.pushed = seq;
                    if progress.start(now) {
                        self.checks.push_back((now + ACK_WAIT, address, chat));
                    }
                    out.push(LiveOutput::Push(device.session, way, chat, message.clone()));
                }
                Some(device) if device.may_hold() => {
                    device.hold(chat, message.clone());
                    if progress.start(now) {
                        self.checks.push_back((now + ACK_WAIT, address, chat));
                    }
                }
                None if hinted && progress.may_wait(seq) => {
                    if !core::mem::replace(&mut progress.hinting, true) {
                        self.hints.push_back((now + HINT_AFTER, address, chat));
                    }
                }
                Some(_) | None => to_inbox.push(address),
            }
        }
        for address in to_inbox {
            // Everything older of every chat goes first: the device is away, or falls behind now.
            self.fall_behind(address, out);
            self.append(address, chat, seq);
        }
    }

    /// Puts into the inbox whatever a device has not acknowledged, and has it read from there.
    fn fall_behind(&mut self, address: DeviceAddress, out: &mut Vec<LiveOutput>) {
        self.spill(address);
        let Some(device) = self.users.get_mut(&address.user).and_then(|user| user.sessions.get_mut(&address.device))
        else {
            return;
        };
        device.live = false;
        device.owes_synced = false;
        if !device.syncing {
            self.start_sync(address, out);
        }
    }

    /// Wants inbox entries for everything received, not acknowledged and not in the inbox.
    fn spill(&mut self, address: DeviceAddress) {
        let Some(user) = self.users.get_mut(&address.user) else {
            return;
        };
        let is_here = user.sessions.contains_key(&address.device);
        if let Some(device) = user.sessions.get_mut(&address.device) {
            device.held.clear();
            device.held_bytes = 0;
        }
        let mut ranges = Vec::new();
        for (chat, record) in sorted(&user.chats) {
            if let Some(progress) = record.devices.iter().find(|progress| progress.device == address.device)
                && progress.first_open() <= record.received
                && (is_here || !progress.hinting)
            {
                ranges.push((*chat, record.received));
            }
        }
        for (chat, to) in ranges {
            self.append(address, chat, to);
        }
    }

    /// Wants an inbox entry for everything of a chat up to `to` that is neither acknowledged nor wanted already.
    fn append(&mut self, address: DeviceAddress, chat: ChatId, to: MessageSeq) {
        let Some(user) = self.users.get_mut(&address.user) else {
            return;
        };
        let Some(progress) = user
            .chats
            .get_mut(&chat)
            .and_then(|record| record.devices.iter_mut().find(|progress| progress.device == address.device))
        else {
            return;
        };
        let from = progress.first_open();
        if from > to {
            return;
        }
        progress.inboxing = to;
        progress.since = None;
        if let Some(device) = user.sessions.get_mut(&address.device) {
            device.behind.add(chat);
        }
        if let Some(at) = self.append_at.get(&(address, chat)) {
            self.appends[*at].to = to;
            return;
        }
        self.append_at.insert((address, chat), self.appends.len());
        self.appends.push(InboxAppend { device: address, chat, from, to });
    }

    /// A reference is in the inbox.
    pub(crate) fn handle_inboxed(
        &mut self,
        address: DeviceAddress,
        chat: ChatId,
        up_to: MessageSeq,
        out: &mut Vec<LiveOutput>,
    ) {
        let Some(user) = self.users.get_mut(&address.user) else {
            return;
        };
        if user.sessions.contains_key(&address.device) {
            out.push(LiveOutput::WakeSync(address));
        }
        if let Some(record) = user.chats.get_mut(&chat) {
            let received = record.received;
            if let Some(progress) = record.devices.iter_mut().find(|progress| progress.device == address.device) {
                progress.inboxed = progress.inboxed.max(up_to.min(received));
                progress.has_entry = true;
                progress.inboxing = progress.inboxing.max(progress.inboxed);
                progress.settle();
            }
        }
        self.report(address.user, chat, false, out);
    }

    /// The device has everything of the chat up to `seq`.
    pub(crate) fn ack(
        &mut self,
        address: DeviceAddress,
        session: SessionRef,
        chat: ChatId,
        seq: MessageSeq,
        now: Instant,
        out: &mut Vec<LiveOutput>,
    ) {
        let Some(user) = self.users.get_mut(&address.user) else {
            return;
        };
        let Some(device) = user.sessions.get_mut(&address.device) else {
            return;
        };
        if device.session != session {
            return;
        }
        let Some(acked) = device.count_ack(chat, seq) else {
            return;
        };
        for (_, entry_chat, to, done) in &mut device.entries {
            *done |= *entry_chat == chat && *to <= acked;
        }
        while let Some((position, chat, _, true)) = device.entries.front().copied() {
            out.push(LiveOutput::Trim(address, position, chat));
            device.entries.pop_front();
        }
        if device.syncing {
            out.push(LiveOutput::WakeSync(address));
        }
        let drains = device.live && !device.held.is_empty();
        let unacked_of_chat = device.has_unacked(chat);
        match user.chats.get_mut(&chat) {
            Some(record) => {
                if let Some(progress) = record.devices.iter_mut().find(|progress| progress.device == address.device) {
                    progress.acked = progress.acked.max(acked.min(progress.pushed));
                    progress.settle();
                    if progress.since.is_some() {
                        progress.since = unacked_of_chat.then_some(now);
                    }
                }
                self.report(address.user, chat, true, out);
            }
            None => {
                // It was in the inbox: what that means for the other devices is said by the trim.
                let (covered, everywhere, user) = (MessageSeq::ZERO, MessageSeq::ZERO, address.user);
                out.push(LiveOutput::Progress { chat, user, covered, delivered: acked, everywhere });
            }
        }
        if drains {
            self.drain_held(address, now, out);
        }
    }

    /// Tells the fan-out how far the user is, where that has moved or `again` asks for it.
    fn report(&mut self, id: UserId, chat: ChatId, again: bool, out: &mut Vec<LiveOutput>) {
        let Some(user) = self.users.get_mut(&id) else {
            return;
        };
        let Some(record) = user.chats.get_mut(&chat) else {
            return;
        };
        let covered = record.covered();
        let delivered = record.devices.iter().map(|progress| progress.acked).max().unwrap_or_default();
        let everywhere = record.devices.iter().map(|progress| progress.has).min().unwrap_or(record.received);
        if covered > record.reported || again {
            record.reported = record.reported.max(covered);
            out.push(LiveOutput::Progress { chat, user: id, covered, delivered, everywhere });
        }
        self.forget_if_covered(id, chat, out);
    }

    /// A chat without obligations goes, unless a check of it is due anyway: then that one takes it away, and a
    /// conversation under way does not make a new record for each message.
    fn forget_if_covered(&mut self, id: UserId, chat: ChatId, out: &mut Vec<LiveOutput>) {
        if let Some(user) = self.users.get_mut(&id)
            && user.chats.get(&chat).is_some_and(ChatLive::is_done)
            && let Some(record) = user.chats.remove(&chat)
        {
            if record.is_unsettled() {
                // What came before the record was acknowledged in an earlier run of the node.
                out.push(LiveOutput::Trim(DeviceAddress { user: id, device: record.devices[0].device }, 0, chat));
            }
            self.forget_if_idle(id);
        }
    }

    /// The user's sessions.
    pub(crate) fn sessions(&self, user: UserId) -> Vec<SessionRef> {
        self.sessions_by_device(user).into_iter().map(|(_, session)| session).collect()
    }

    /// The sessions of a user, each with its device.
    pub(crate) fn sessions_by_device(&self, user: UserId) -> Vec<(DeviceId, SessionRef)> {
        let sessions = self.users.get(&user).map(|user| &user.sessions);
        sessions.into_iter().flatten().map(|(device, live)| (*device, live.session)).collect()
    }

    /// Looks at devices that had time to acknowledge and did not.
    pub(crate) fn handle_timeout_at(&mut self, now: Instant, out: &mut Vec<LiveOutput>) {
        while let Some((at, address, chat)) = self.checks.front().copied() {
            if at > now {
                break;
            }
            self.checks.pop_front();
            let Some(progress) = self.progress(address, chat) else {
                continue;
            };
            progress.armed = false;
            let Some(since) = progress.since else {
                self.forget_if_covered(address.user, chat, out);
                continue;
            };
            if now.saturating_since(since) >= ACK_WAIT {
                self.fall_behind(address, out);
            } else {
                progress.armed = true;
                self.checks.push_back((since + ACK_WAIT, address, chat));
            }
        }
    }

    /// Whether the device still has this session.
    pub(crate) fn has_session(&self, address: DeviceAddress, session: SessionRef) -> bool {
        self.device(address).is_some_and(|device| device.session == session)
    }

    fn device(&self, address: DeviceAddress) -> Option<&DeviceLive> {
        self.users.get(&address.user)?.sessions.get(&address.device)
    }

    fn progress(&mut self, address: DeviceAddress, chat: ChatId) -> Option<&mut Progress> {
        let record = self.users.get_mut(&address.user)?.chats.get_mut(&chat)?;
        record.devices.iter_mut().find(|progress| progress.device == address.device)
    }
}

fn sorted<V>(map: &FxHashMap<ChatId, V>) -> BTreeMap<&ChatId, &V> {
    map.iter().collect()
}
