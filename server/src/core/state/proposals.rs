//! Proposals: what clients and the node itself want written, the outcome to who waits for it, and what follows.
//!
//! Invariants
//! - Sends stop while there is journal left for the node's own commands: what makes room must not wait for room.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use columba_engine::{
    env::Disk,
    ids::PartitionId,
    partition::{
        Partition,
        chat::Members,
        command::Command,
        effect::{Effect, Effects, Outcome},
        group::{Marks, Seat},
        receipt::Member,
    },
};
use columba_wire::{ChatId, Code, MessageSeq, UserId, v1};

use super::{CoreState, GroupReceipt, Job, fill, id_bytes, send_command};
use crate::core::{
    host::Waiter,
    limits::{ADMITTING_MAX, JOURNAL_ROOM_INTERNAL_PART, JOURNAL_ROOM_SENDS_PART},
    message::{ChatMessage, CoreMessage, Delivery, SendRefusal, SendRequest, SessionMessage, UserMessage},
};

impl<D: Disk> CoreState<D> {
    /// The partition, which is on this core.
    pub(crate) fn partition(&self, id: PartitionId) -> &Partition<D> {
        self.partitions.get(&id).expect("the router sends only what this core owns")
    }

    pub(super) fn handle_send(&mut self, chat: ChatId, request: SendRequest) {
        if let Some(code) = self.refuses_sends() {
            return self.refuse_send(&request, code);
        }
        if request.limited
            && let Err(wait) = self.send_limits.take_chat(chat, self.now)
        {
            return self.refuse_send(&request, wait);
        }
        if let Some(waiting) = self.admitting.get_mut(&chat) {
            if waiting.len() >= ADMITTING_MAX {
                return self.refuse_send(&request, Code::Overloaded);
            }
            waiting.push_back(request);
            return;
        }
        let partition = self.router.chat(chat);
        let command = send_command(chat, &request, self.wall);
        if !request.lets_in() && self.partition(partition).may_apply_send(&command) {
            self.propose_send(partition, chat, &request, &command);
            return;
        }
        if self.admitting.len() >= ADMITTING_MAX {
            return self.refuse_send(&request, Code::Overloaded);
        }
        self.admitting.insert(chat, VecDeque::from([request]));
        self.jobs.push_back(Job::Admit(chat));
    }

    pub(super) fn refuses_sends(&self) -> Option<Code> {
        if self.shutting_down {
            return Some(Code::Unavailable);
        }
        if !self.has_room_for_clients() {
            return Some(Code::NoSpace);
        }
        self.memory_is_full.then_some(Code::Overloaded)
    }

    /// Whether journal and disk have room for what clients ask.
    pub(crate) fn has_room_for_clients(&self) -> bool {
        self.flush_blocked_on.is_none() && self.room >= self.segment_bytes / JOURNAL_ROOM_SENDS_PART
    }

    pub(crate) fn refuse_send(&mut self, request: &SendRequest, why: impl Into<SendRefusal>) {
        let why = why.into();
        match why {
            SendRefusal::Code(Code::NoSpace) => self.metrics.refused_no_space_total.add(1),
            SendRefusal::Code(Code::Overloaded) => self.metrics.refused_overload_total.add(1),
            SendRefusal::Code(_) => self.metrics.errors_total.add(1),
            SendRefusal::RateLimited(_) => self.metrics.rate_limited_total.add(1),
        }
        self.route_session(request.from, SessionMessage::Sent(request.request_id, Err(why)));
    }

    pub(crate) fn propose_send(
        &mut self,
        partition: PartitionId,
        chat: ChatId,
        request: &SendRequest,
        command: &Command,
    ) {
        let (session, request_id, client_seq) = (request.from, request.request_id, request.client_seq);
        let waiter = Waiter::Sent { session, request_id, client_seq, chat };
        if self.propose(partition, command, waiter).is_err() {
            self.refuse_send(request, Code::Overloaded);
        }
    }

    /// Adds a command to the next entry of a partition.
    pub(crate) fn propose(&mut self, partition: PartitionId, command: &Command, waiter: Waiter) -> Result<(), Waiter> {
        self.metrics.proposals_total.add(1);
        self.proposals.get_mut(&partition).expect("the partition is on this core").push(command, waiter)
    }

    /// Proposes what is not a client's: refused, and tried again later, only where the journal is all but full.
    pub(super) fn propose_internal(&mut self, partition: PartitionId, command: &Command) -> bool {
        self.room >= self.segment_bytes / JOURNAL_ROOM_INTERNAL_PART
            && self.propose(partition, command, Waiter::None).is_ok()
    }

    /// Notes in which chats users are. Before the references: who is told of a chat first has it in its list.
    fn propose_notes(&mut self) {
        let mut by_partition: BTreeMap<PartitionId, Vec<_>> = BTreeMap::new();
        for note in self.live.take_notes() {
            by_partition.entry(self.router.user(note.user)).or_default().push(note);
        }
        for (partition, notes) in by_partition {
            let command = Command::NoteChats(notes);
            if !self.propose_internal(partition, &command)
                && let Command::NoteChats(notes) = command
            {
                self.live.park_notes(notes);
            }
        }
    }

    pub(super) fn propose_appends(&mut self) {
        self.propose_notes();
        let mut by_partition: BTreeMap<PartitionId, Vec<_>> = BTreeMap::new();
        let items = self.live.take_appends();
        if self.live.has_parked() {
            return self.live.park_appends(items);
        }
        for item in items {
            by_partition.entry(self.router.user(item.device.user)).or_default().push(item);
        }
        let mut refused = Vec::new();
        for (partition, items) in by_partition {
            let count = items.len() as u64;
            let command = Command::AppendInbox(items);
            if self.propose_internal(partition, &command) {
                self.metrics.inbox_appends_total.add(1);
                self.metrics.inbox_entries_total.add(count);
            } else if let Command::AppendInbox(items) = command {
                refused.extend(items);
            }
        }
        if !refused.is_empty() {
            // Kept out of `has_appends` until the next timeout, or this would try for ever.
            self.live.park_appends(refused);
        }
    }

    /// The waiters of an entry that could not be proposed.
    pub(crate) fn refuse_waiters(&mut self, waiters: Vec<Waiter>, code: Code) {
        for waiter in waiters {
            self.answer_waiter(waiter, Err(code));
        }
    }

    pub(super) fn answer_waiter(&mut self, waiter: Waiter, outcome: Result<Outcome, Code>) {
        match waiter {
            Waiter::None => {}
            Waiter::Job(id) => fill(&mut self.outcomes, id, outcome),
            Waiter::Sent { session, request_id, client_seq, chat } => {
                let answer = match outcome {
                    Ok(Outcome::Sent { seq, time_ms, duplicate }) => {
                        self.metrics.sent_total.add(1);
                        self.metrics.duplicates_total.add(u64::from(duplicate));
                        let (client_seq, seq) = (client_seq.get(), seq.get());
                        Ok(v1::Sent { client_seq, chat_id: id_bytes(chat.as_bytes()), seq, time_ms, duplicate })
                    }
                    Ok(Outcome::Refused(code)) | Err(code) => Err(SendRefusal::Code(code)),
                    Ok(
                        Outcome::Done
                        | Outcome::Claimed(_)
                        | Outcome::DeviceAdded(_)
                        | Outcome::KeysStored(_)
                        | Outcome::Keys(_),
                    ) => Err(SendRefusal::Code(Code::Internal)),
                };
                self.route_session(session, SessionMessage::Sent(request_id, answer));
            }
        }
    }

    /// An entry was applied: answer, deliver, go on.
    pub(crate) fn handle_effects(
        &mut self,
        partition: PartitionId,
        index: columba_engine::ids::LogIndex,
        effects: &mut Effects,
    ) {
        let waiters = self.proposals.get_mut(&partition).expect("it is on this core").take_waiters(index);
        self.metrics.entries_applied_total.add(1);
        self.metrics.commands_applied_total.add(effects.outcomes.len() as u64);
        if !waiters.is_empty() {
            assert!(waiters.len() == effects.outcomes.len(), "one outcome per command");
            for (waiter, outcome) in waiters.into_iter().zip(effects.outcomes.drain(..)) {
                self.answer_waiter(waiter, Ok(outcome));
            }
        }
        let mut deliver = Vec::new();
        for effect in effects.effects.drain(..) {
            match effect {
                Effect::Committed { chat, members, message } if !self.caught_up.contains(&partition) => {
                    self.fanout.handle_replayed(chat, &members, message.seq, self.now);
                }
                Effect::Committed { chat, members, message } => {
                    self.fanout.handle_committed(chat, &members, &message, self.now, &mut deliver);
                    self.route_deliveries(&mut deliver);
                }
                Effect::Advanced { chat, members, user, now, marks } => {
                    let Member { covered, delivered, everywhere, shown, read: _ } = now;
                    let has_record = self.fanout.handle_advanced(chat, user, covered, delivered, everywhere);
                    match members {
                        Members::Direct(users) if !has_record && delivered > MessageSeq::ZERO => {
                            self.tell_receipt(chat, users, user, delivered, shown);
                        }
                        Members::Direct(_) => {}
                        Members::Group(seats) => self.note_marks(chat, seats, marks),
                    }
                }
                Effect::ReadMoved { chat, members, user, now, is_shown, marks } => {
                    let delivered = now.delivered.max(self.fanout.delivered(chat, user));
                    self.fanout.handle_read_moved(chat, user, now.shown);
                    // Its own devices, on whichever it was read.
                    let own = UserMessage::Receipt { chat, about: Some(user), delivered, read: now.read };
                    self.route(CoreMessage::User(user, own));
                    match members {
                        Members::Direct(users) if is_shown => {
                            self.tell_receipt(chat, users, user, delivered, now.shown);
                        }
                        Members::Direct(_) => {}
                        Members::Group(seats) => self.note_marks(chat, seats, marks),
                    }
                }
                Effect::Inboxed { device, chat, up_to } => {
                    self.with_live(|live, _now, out| live.handle_inboxed(device, chat, up_to, out));
                }
                // One of an earlier run may come before what it says nothing of: it is looked at once more.
                Effect::Settled { device, chat } if !self.caught_up.contains(&partition) => {
                    self.trims.entry(device).or_default().1.insert(chat);
                }
                Effect::Settled { device, chat } => {
                    self.route(CoreMessage::Chat(chat, ChatMessage::Settled { user: device.user }));
                }
                // Those of an earlier run are found by their rows.
                Effect::UserDeleted { user } if self.caught_up.contains(&partition) => self.begin_errand(user),
                Effect::UserDeleted { .. } => {}
                Effect::ChatNoted { user, chat, at } => {
                    self.with_live(|live, _now, out| live.handle_noted(user, chat, at, out));
                }
                Effect::Devices { user, devices, revoked, version } => {
                    self.with_live(|live, _now, out| live.devices_changed(user, devices, revoked, out));
                    self.handle_devices(user, version);
                }
                Effect::UserChanged { by } => self.handle_user_changed(by),
                Effect::RosterChanged { user, roster } => self.handle_roster_changed(user, roster),
                Effect::KeysLow { device, left } => self.handle_keys_low(device, left),
            }
        }
    }

    pub(crate) fn route_deliveries(&mut self, deliver: &mut Vec<(UserId, Delivery)>) {
        for (user, delivery) in deliver.drain(..) {
            self.route(CoreMessage::User(user, UserMessage::Deliver(delivery)));
        }
    }

    /// The members of a group are told what all of them have, with what moves until then.
    fn note_marks(&mut self, chat: ChatId, seats: Arc<[Seat]>, marks: Option<(Marks, Marks)>) {
        if let Some((delivered, read)) = marks {
            self.group_receipts.insert(chat, GroupReceipt { seats, delivered, read });
        }
    }

    pub(super) fn tell_group_receipts(&mut self) {
        for (chat, GroupReceipt { seats, delivered, read }) in core::mem::take(&mut self.group_receipts) {
            for user in seats.iter().filter(|seat| seat.is_member()).map(|seat| seat.user) {
                let (delivered, read) = (delivered.of_others(user), read.of_others(user));
                if let (Some(delivered), Some(read)) = (delivered, read) {
                    let receipt = UserMessage::Receipt { chat, about: None, delivered, read };
                    self.route(CoreMessage::User(user, receipt));
                }
            }
        }
    }

    pub(super) fn tell_receipt(
        &mut self,
        chat: ChatId,
        members: [UserId; 2],
        about: UserId,
        delivered: MessageSeq,
        read: MessageSeq,
    ) {
        for user in members.into_iter().filter(|user| *user != about) {
            self.route(CoreMessage::User(user, UserMessage::Receipt { chat, about: Some(about), delivered, read }));
        }
    }
}
