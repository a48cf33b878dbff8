//! What must wait: admission of sends, reads for members that are behind, login and registration, questions between
//! cores, catch-up. What concerns devices and their links is in `devices`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`admission`] | sends that must be looked at first |
//! | [`people`], [`keys`] | accounts, rosters, and the key directory |
//! | [`deletion`] | the end of an account |
//! | [`signals`] | what is passed on and never stored |
//!
//! Invariants
//! - At most [`JOBS_MAX`] jobs run at a time; the rest wait in order. A catch-up that waits for its client counts
//!   too, so the bound is above the sessions of a core.
//! - No question is answered before the partitions of the core have applied what the journal held at the start.
//! - A job that is dropped (the node stops) leaves nothing half done: every step is a command, or a read.

mod admission;
mod deletion;
mod devices;
mod keys;
mod people;
mod signals;

use core::{future::poll_fn, task::Poll};
use std::{collections::BTreeSet, rc::Rc};

use columba_engine::{
    env::{Clock, Disk},
    ids::{CoreId, PartitionId},
    partition::{
        MessagePage, Partition,
        chat::{Chat, ChatView},
        command::Command,
        device::Device,
        effect::Outcome,
    },
};
use columba_wire::{
    ChatId, Code, DeviceAddress, DeviceId, MessageSeq, UserId,
    limits::{HISTORY_PAGE_BYTES_MAX, HISTORY_PAGE_MAX},
    v1::{self, server_frame::Kind},
};
use futures_util::{StreamExt as _, stream::FuturesUnordered};

use super::{
    Core,
    host::Waiter,
    message::{Answer, Ask, CoreMessage, Registration, SessionId, SessionMessage, SessionRef, Ticket, UserMessage},
    state::{Admitted, Job, Verdict, Wait, deliver_frame, id_bytes},
};
use crate::{
    core::limits::{HISTORY_STEPS_MAX, JOBS_MAX},
    delivery::{BEHIND_ENTRIES_MAX, FANOUT_READ_BYTES, SYNC_FAILED_RETRY_MS, SYNC_PAGE_ENTRIES, SYNC_READ_BYTES},
    session::groups,
};

impl<D: Disk, C: Clock> Core<D, C> {
    /// Runs jobs until the core is shut down.
    pub(crate) async fn run_jobs(self: Rc<Self>) {
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < JOBS_MAX {
                let Some(job) = self.state.borrow_mut().jobs.pop_front() else {
                    break;
                };
                running.push(Rc::clone(&self).run_job(job));
            }
            let stopped = poll_fn(|cx| {
                while let Poll::Ready(Some(())) = running.poll_next_unpin(cx) {}
                let state = self.state.borrow();
                if state.shutting_down && state.is_idle() {
                    return Poll::Ready(true);
                }
                if !state.jobs.is_empty() && running.len() < JOBS_MAX {
                    return Poll::Ready(false);
                }
                self.wakers.jobs.set(Some(cx.waker().clone()));
                Poll::Pending
            })
            .await;
            if stopped {
                return;
            }
        }
    }

    async fn run_job(self: Rc<Self>, job: Job) {
        match job {
            Job::Admit(chat) => self.admit(chat).await,
            Job::Pump(chat) => self.pump(chat).await,
            Job::LoadDevices(user) => self.load_devices(user).await,
            Job::Sync(device, session) => self.sync(device, session).await,
            Job::Answer(core, ticket, ask) => {
                let answer = self.answer(*ask).await;
                self.with_state(|state| state.send_answer(core, ticket, answer));
            }
            Job::Request(session, request_id, ask) => self.request(session, request_id, ask).await,
            Job::Login(session, request_id, attempt) => {
                let (row, admitted) = self.look_up(attempt.address).await;
                let verdict = attempt.is_signed_by(row.as_ref()).then_some(admitted);
                self.with_state(|state| state.handle_verdict(session, request_id, Verdict::Login(verdict)));
            }
            Job::Register(session, request_id, registration) => {
                let outcome = match self.register(registration).await {
                    Ok(address) => {
                        self.metrics.registrations_total.add(1);
                        Ok(self.look_up(address).await.1)
                    }
                    Err(code) => Err(code),
                };
                self.with_state(|state| state.handle_verdict(session, request_id, Verdict::Registered(outcome)));
            }
            Job::BeginLink(session, request_id, device) => self.begin_link(session, request_id, device).await,
            Job::ApproveLink(session, request_id, approval) => self.approve_link(session, request_id, approval).await,
            Job::Subscribe(session, request_id, users) => self.subscribe(session, request_id, users).await,
            Job::Errand(user) => self.errand(user).await,
            Job::ResumeErrands => self.resume_errands().await,
            Job::TellAccount(by) => self.tell_account(by).await,
            Job::TellPresence(user, sessions) => self.tell_presence(user, sessions).await,
        }
    }

    /// The row of a device, if it can be read, and what a session of it begins with.
    async fn look_up(&self, device: DeviceAddress) -> (Option<Device>, Admitted) {
        let (row, one_time_keys) = match self.ask_user(device.user, Ask::Device(device)).await {
            Answer::Device(Some((row, one_time_keys))) => (Some(row), one_time_keys),
            _ => (None, 0),
        };
        (row, Admitted { device, one_time_keys })
    }

    fn owned(&self, id: impl FnOnce(&Self) -> PartitionId) -> Partition<D> {
        let id = id(self);
        self.partitions.get(&id).expect("the router sends only what this core owns").clone()
    }

    /// Asks a core, and waits for its answer.
    async fn ask(&self, to: CoreId, ask: Ask) -> Answer {
        let ticket = self.with_state(|state| {
            let ticket = state.new_ticket();
            state.route(CoreMessage::Ask(to, ticket, Box::new(ask)));
            ticket
        });
        poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            match state.answers.remove(&ticket) {
                Some(Wait::Ready(answer)) => Poll::Ready(answer),
                Some(Wait::Pending(_)) | None => {
                    state.answers.insert(ticket, Wait::Pending(Some(cx.waker().clone())));
                    Poll::Pending
                }
            }
        })
        .await
    }

    async fn ask_user(&self, user: UserId, ask: Ask) -> Answer {
        let to = self.core_of(|core| core.state.borrow().router.user(user));
        self.ask(to, ask).await
    }

    fn core_of(&self, partition: impl FnOnce(&Self) -> PartitionId) -> CoreId {
        let partition = partition(self);
        self.state.borrow().router.core(partition)
    }

    /// Proposes a command to a partition of this core, and waits for its outcome.
    async fn propose(&self, partition: PartitionId, command: Command) -> Result<Outcome, Code> {
        let id = self.with_state(|state| {
            let id = state.next_id();
            state.outcomes.insert(id, Wait::Pending(None));
            if state.shutting_down {
                state.outcomes.insert(id, Wait::Ready(Err(Code::Unavailable)));
            } else if !state.has_room_for_clients() {
                state.outcomes.insert(id, Wait::Ready(Err(Code::NoSpace)));
            } else if state.propose(partition, &command, Waiter::Job(id)).is_err() {
                state.outcomes.insert(id, Wait::Ready(Err(Code::Overloaded)));
            }
            id
        });
        poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            match state.outcomes.remove(&id) {
                Some(Wait::Ready(outcome)) => Poll::Ready(outcome),
                Some(Wait::Pending(_)) | None => {
                    state.outcomes.insert(id, Wait::Pending(Some(cx.waker().clone())));
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn code_of(&self, error: &columba_engine::Error) -> Code {
        self.metrics.errors_total.add(1);
        if error.is_damage() {
            self.metrics.damage_total.add(1);
            tracing::error!(%error, "damaged data");
            return Code::Damaged;
        }
        tracing::error!(%error, "a read failed");
        Code::Internal
    }

    // Delivery.

    async fn pump(&self, chat: ChatId) {
        let Some((from, to)) = self.with_state(|state| state.fanout.plan_read(chat)) else {
            return;
        };
        let partition = self.owned(|core| core.state.borrow().router.chat(chat));
        let page = match partition.messages(chat, from, to, FANOUT_READ_BYTES).await {
            Ok(page) => page,
            Err(error) => {
                self.code_of(&error);
                MessagePage::default()
            }
        };
        // A record that was made by a message knows nothing of what was before it.
        match partition.progress(chat).await {
            Ok(found) => self.state.borrow_mut().fanout.know_everywhere(chat, &found.unwrap_or_default()),
            Err(error) => {
                self.code_of(&error);
            }
        }
        self.with_state(|state| {
            let mut deliver = Vec::new();
            if state.fanout.handle_read(chat, from, &page, &mut deliver) {
                state.jobs.push_back(Job::Pump(chat));
            }
            state.route_deliveries(&mut deliver);
        });
    }

    async fn load_devices(&self, user: UserId) {
        self.caught_up().await;
        let partition = self.owned(|core| core.state.borrow().router.user(user));
        let devices = match partition.user(user).await {
            // One that is deleted has none: what comes for it goes to nobody.
            Ok(row) => Some(row.map_or_else(Vec::new, |row| row.devices)),
            Err(error) => {
                self.code_of(&error);
                None
            }
        };
        self.with_state(|state| state.with_live(|live, now, out| live.handle_devices(user, devices, now, out)));
    }

    /// Reads a device's inbox to its end, then lets it go live.
    async fn sync(&self, device: DeviceAddress, session: SessionRef) {
        let partition = self.owned(|core| core.state.borrow().router.user(device.user));
        if let Err(code) = self.sync_behind(device, session).await {
            return self.sync_failed(session, code);
        }
        let mut cursor = 0;
        loop {
            if !self.sync_room(device, session).await {
                return;
            }
            let entries = match partition.inbox(device, cursor, SYNC_PAGE_ENTRIES).await {
                Ok(entries) => entries,
                Err(error) => return self.sync_failed(session, self.code_of(&error)),
            };
            if entries.is_empty() {
                let live = self.with_state(|state| {
                    let mut live = false;
                    state.with_live(|users, now, out| {
                        live = !users.has_session(device, session) || users.go_live(device, now, out);
                    });
                    live
                });
                if live {
                    return;
                }
                self.sync_wake(device).await;
                continue;
            }
            for entry in entries {
                let mut next = entry.from;
                while next <= entry.to {
                    // What is deleted is passed over, up to all of the entry.
                    let page = match self.messages(entry.chat, next, entry.to).await {
                        Ok(page) if page.next > next => page,
                        Ok(_) => return self.sync_failed(session, Code::Damaged),
                        Err(code) => return self.sync_failed(session, code),
                    };
                    next = page.next;
                    for message in page.messages {
                        if !self.sync_room(device, session).await {
                            return;
                        }
                        self.metrics.catchup_messages_total.add(1);
                        self.with_state(|state| {
                            state.with_live(|live, _now, out| live.push_synced(device, entry.chat, message, out));
                        });
                    }
                }
                cursor = entry.position;
                self.with_state(|state| {
                    state.with_live(|live, _now, out| {
                        live.push_synced_entry(device, entry.position, entry.chat, entry.to, out);
                    });
                });
            }
        }
    }

    /// Looks through a device's inbox for the chats that wait in it, so that others need not. Nothing that is read here
    /// is delivered: by the time there is room the inbox is another.
    async fn sync_behind(&self, device: DeviceAddress, session: SessionRef) -> Result<(), Code> {
        let partition = self.owned(|core| core.state.borrow().router.user(device.user));
        let mut chats = BTreeSet::new();
        let (mut cursor, mut seen) = (0, 0);
        while seen < BEHIND_ENTRIES_MAX {
            let page =
                partition.inbox(device, cursor, SYNC_PAGE_ENTRIES).await.map_err(|error| self.code_of(&error))?;
            let is_last = page.len() < SYNC_PAGE_ENTRIES;
            chats.extend(page.iter().map(|entry| entry.chat));
            (cursor, seen) = (page.last().map_or(cursor, |entry| entry.position), seen + page.len());
            if is_last {
                self.with_state(|state| state.live.know_behind(device, session, chats));
                break;
            }
        }
        Ok(())
    }

    /// Waits until the device may be sent more. False where its session is gone.
    async fn sync_room(&self, device: DeviceAddress, session: SessionRef) -> bool {
        poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            if !state.live.has_session(device, session) {
                return Poll::Ready(false);
            }
            if state.live.has_room(device) {
                return Poll::Ready(true);
            }
            state.sync_wakers.insert(device, cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until something of the device has changed.
    async fn sync_wake(&self, device: DeviceAddress) {
        let mut registered = false;
        poll_fn(|cx| {
            if core::mem::replace(&mut registered, true) {
                return Poll::Ready(());
            }
            self.state.borrow_mut().sync_wakers.insert(device, cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn sync_failed(&self, session: SessionRef, code: Code) {
        // The entry stays in the inbox, untrimmed: the next session tries again.
        self.with_state(|state| state.route_session(session, SessionMessage::Goaway(code, SYNC_FAILED_RETRY_MS)));
    }

    /// Messages of a chat, from wherever it is.
    async fn messages(&self, chat: ChatId, from: MessageSeq, to: MessageSeq) -> Result<MessagePage, Code> {
        let owner = self.core_of(|core| core.state.borrow().router.chat(chat));
        let answer = if owner == self.options.core {
            self.answer(Ask::Messages { chat, from, to }).await
        } else {
            self.ask(owner, Ask::Messages { chat, from, to }).await
        };
        match answer {
            Answer::Messages(page) => Ok(page),
            Answer::Refused(code) => Err(code),
            _ => Err(Code::Internal),
        }
    }

    // Registration.

    async fn register(&self, mut registration: Registration) -> Result<DeviceAddress, Code> {
        let handle_core = self.core_of(|core| core.state.borrow().router.handle(&registration.handle));
        match self.ask(handle_core, Ask::ClaimHandle(registration.clone())).await {
            Answer::Claimed(user) => registration.user = user,
            Answer::Refused(code) => return Err(code),
            _ => return Err(Code::Internal),
        }
        let user = registration.user;
        done(self.ask_user(user, Ask::CreateUser(registration.clone())).await)?;
        done(self.ask(handle_core, Ask::ConfirmHandle(registration)).await)?;
        Ok(DeviceAddress { user, device: DeviceId::FIRST })
    }

    // Presence.

    /// One user after the other: what a session can have under way is bounded by its requests, not by their length.
    async fn subscribe(&self, session: SessionRef, request_id: u64, users: Vec<UserId>) {
        for user in users {
            let watcher = {
                let state = self.state.borrow();
                let open = state.session(session.session).filter(|open| open.subscriptions().contains(&user));
                open.and_then(|open| open.address()).map(|address| address.user)
            };
            let Some(watcher) = watcher else {
                // It has ended, or wants others by now.
                continue;
            };
            self.ask_user(user, Ask::Subscribe { user, session, watcher }).await;
            self.with_state(|state| {
                let wanted = state.session(session.session).is_some_and(|open| open.subscriptions().contains(&user));
                if !wanted {
                    state.route(CoreMessage::User(user, UserMessage::Unsubscribe(session)));
                }
            });
        }
        let done = SessionMessage::Reply(request_id, Kind::Done(v1::Done {}));
        self.with_state(|state| state.reply(session.session, done));
    }

    // Questions.

    async fn request(&self, session: SessionId, request_id: u64, mut ask: Ask) {
        if let Ask::MarkRead { user, hidden, .. } = &mut ask {
            *hidden = self.hides_reads(*user).await;
        }
        let handle = if let Ask::FindHandle(handle) = &ask { handle.clone() } else { String::new() };
        let chat = match &ask {
            Ask::History { chat, .. }
            | Ask::Members { chat, .. }
            | Ask::Chat { chat, .. }
            | Ask::Invite { chat, .. }
            | Ask::MarkRead { chat, .. } => Some(*chat),
            Ask::Signal(signal) => Some(signal.chat),
            _ => None,
        };
        let to = match (&ask, chat) {
            (Ask::Devices(user, _) | Ask::People(user, _) | Ask::Keys(user, _), _) => {
                self.core_of(|core| core.state.borrow().router.user(*user))
            }
            (Ask::Link(code, _), _) => self.state.borrow().router.link(*code),
            (_, Some(chat)) => self.core_of(|core| core.state.borrow().router.chat(chat)),
            _ => self.core_of(|core| core.state.borrow().router.handle(&handle)),
        };
        let kind = match (self.ask(to, ask).await, chat) {
            (Answer::Done, _) => Kind::Done(v1::Done {}),
            (Answer::Reply(kind), _) => kind,
            (Answer::Handle(Some(user)), _) => {
                Kind::UserFound(v1::UserFound { user_id: id_bytes(user.as_bytes()), handle })
            }
            (Answer::Handle(None), _) => error_kind(Code::UnknownUser),
            (Answer::History(messages, complete), Some(chat)) => {
                let now = self.clock.wall();
                let messages = messages.iter().map(|message| deliver_frame(chat, message, now)).collect();
                Kind::History(v1::History { chat_id: id_bytes(chat.as_bytes()), messages, complete })
            }
            (Answer::Members(last, members), Some(chat)) => {
                let members = members
                    .into_iter()
                    .map(|(user, member)| v1::Receipt {
                        chat_id: id_bytes(chat.as_bytes()),
                        user_id: id_bytes(user.as_bytes()),
                        delivered_seq: member.delivered.get(),
                        read_seq: member.read.get(),
                    })
                    .collect();
                Kind::Receipts(v1::Receipts { chat_id: id_bytes(chat.as_bytes()), last_seq: last.get(), members })
            }
            (Answer::Refused(code), _) => error_kind(code),
            _ => error_kind(Code::Internal),
        };
        self.with_state(|state| state.reply(session, SessionMessage::Reply(request_id, kind)));
    }

    /// Waits until the rows of this core are those of its journal.
    async fn caught_up(&self) {
        poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            if state.has_caught_up() {
                return Poll::Ready(());
            }
            state.catch_up_wakers.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    async fn answer(&self, ask: Ask) -> Answer {
        self.caught_up().await;
        match self.try_answer(ask).await {
            Ok(answer) => answer,
            Err(code) => Answer::Refused(code),
        }
    }

    async fn try_answer(&self, ask: Ask) -> Result<Answer, Code> {
        let failed = |error| self.code_of(&error);
        let time_ms = self.clock.wall().as_millis();
        match ask {
            Ask::ClaimHandle(Registration { handle, user, device_key, .. }) => {
                let id = self.state.borrow().router.handle(&handle);
                match self.propose(id, Command::ClaimHandle { handle, user, device_key, time_ms }).await? {
                    Outcome::Claimed(user) => Ok(Answer::Claimed(user)),
                    other => Err(super::host::refusal(&other).unwrap_or(Code::Internal)),
                }
            }
            Ask::CreateUser(Registration { handle, user, device_key, device_name }) => {
                let id = self.state.borrow().router.user(user);
                let create = Command::CreateUser { user, handle, device_key, device_name, time_ms };
                to_done(&self.propose(id, create).await?)
            }
            Ask::ConfirmHandle(Registration { handle, user, .. }) => {
                let id = self.state.borrow().router.handle(&handle);
                to_done(&self.propose(id, Command::ConfirmHandle { handle, user }).await?)
            }
            Ask::ReleaseHandle { handle, user } => {
                let id = self.state.borrow().router.handle(&handle);
                to_done(&self.propose(id, Command::ReleaseHandle { handle, user }).await?)
            }
            Ask::ForgetMember { chat, user } => {
                let id = self.state.borrow().router.chat(chat);
                to_done(&self.propose(id, Command::ForgetMember { chat, user, time_ms }).await?)
            }
            Ask::Subscribe { user, session, watcher } => self.answer_subscribe(user, session, watcher).await,
            Ask::FindHandle(handle) => {
                let partition = self.owned(|core| core.state.borrow().router.handle(&handle));
                let row = partition.handle(&handle).await.map_err(failed)?;
                Ok(Answer::Handle(row.filter(|row| row.confirmed).map(|row| row.user)))
            }
            Ask::UserExists(user) => {
                let partition = self.owned(|core| core.state.borrow().router.user(user));
                Ok(Answer::Yes(partition.user(user).await.map_err(failed)?.is_some()))
            }
            Ask::Device(device) => {
                let partition = self.owned(|core| core.state.borrow().router.user(device.user));
                let Some(row) = partition.device(device).await.map_err(failed)? else {
                    return Ok(Answer::Device(None));
                };
                // Where they cannot be counted now it is let in all the same.
                let one_time_keys = partition.one_time_keys(device).await.unwrap_or_default();
                Ok(Answer::Device(Some((row, one_time_keys))))
            }
            Ask::Messages { chat, from, to } => {
                let partition = self.owned(|core| core.state.borrow().router.chat(chat));
                Ok(Answer::Messages(partition.messages(chat, from, to, SYNC_READ_BYTES).await.map_err(failed)?))
            }
            Ask::History { chat, user, before, limit } => self.history(chat, user, before, limit).await,
            Ask::Members { chat, user } => {
                let mut view = self.chat_of_member(chat, user).await?;
                for (member, found) in &mut view.members {
                    // What was told already may not be durable yet.
                    found.delivered = found.delivered.max(self.state.borrow().fanout.delivered(chat, *member));
                    if *member != user {
                        found.read = found.shown;
                    }
                }
                Ok(Answer::Members(view.chat.last_seq, view.members))
            }
            Ask::Chat { chat, user } => {
                let view = self.chat_of_member(chat, user).await?;
                Ok(Answer::Reply(Kind::Chat(groups::chat_frame(chat, &view))))
            }
            Ask::Invite { chat, secret } => {
                let partition = self.owned(|core| core.state.borrow().router.chat(chat));
                let found = partition.invitation(chat, secret, time_ms).await.map_err(failed)?;
                let invitation = found.ok_or(Code::InviteUnknown)?;
                Ok(Answer::Reply(Kind::Invite(groups::invite_frame(chat, invitation))))
            }
            Ask::MarkRead { chat, user, seq, hidden } => {
                let (partition, ..) = self.chat_from(chat, user).await?;
                to_done(&self.propose(partition.id(), Command::MarkRead { chat, user, seq, hidden }).await?)
            }
            Ask::BlockChat { by, other, blocked } => {
                let id = self.state.borrow().router.chat(ChatId::direct(by, other));
                to_done(&self.propose(id, Command::BlockChat { by, other, blocked, time_ms }).await?)
            }
            Ask::Signal(signal) => self.answer_signal(signal).await,
            Ask::Devices(user, ask) => self.answer_devices(user, ask).await,
            Ask::Link(code, ask) => self.answer_link(code, ask),
            Ask::People(user, ask) => self.answer_people(user, ask).await,
            Ask::Keys(user, ask) => self.answer_keys(user, ask).await,
        }
    }

    async fn chat_of_member(&self, chat: ChatId, user: UserId) -> Result<ChatView, Code> {
        let partition = self.owned(|core| core.state.borrow().router.chat(chat));
        let view = partition.chat_of(chat, user).await.map_err(|error| self.code_of(&error))?;
        view.ok_or(Code::UnknownChat)
    }

    /// Where a chat of a member is, and which message is the first for it.
    async fn chat_from(&self, chat: ChatId, user: UserId) -> Result<(Partition<D>, Chat, MessageSeq), Code> {
        let partition = self.owned(|core| core.state.borrow().router.chat(chat));
        let found = partition.chat_from(chat, user).await.map_err(|error| self.code_of(&error))?;
        let (chat, from) = found.ok_or(Code::UnknownChat)?;
        Ok((partition, chat, from))
    }

    async fn history(&self, chat: ChatId, user: UserId, before: MessageSeq, limit: u32) -> Result<Answer, Code> {
        let (partition, row, from) = self.chat_from(chat, user).await?;
        let first = row.deleted_up_to.next().max(from);
        let mut to = if before == MessageSeq::ZERO { row.last_seq } else { before.prev().min(row.last_seq) };
        let (mut newest, mut step) = (Vec::new(), limit);
        // Where a page has nothing that is not deleted, the ones below are looked at: a client asks below the last
        // message that it was given.
        for _ in 0..HISTORY_STEPS_MAX {
            let from = MessageSeq::new(to.get().saturating_sub(u64::from(step)) + 1).max(first);
            if from > to || !newest.is_empty() {
                break;
            }
            let count = usize::try_from(step).unwrap_or(usize::MAX);
            let read = partition.newest(chat, to, count, HISTORY_PAGE_BYTES_MAX).await;
            newest = read.map_err(|error| self.code_of(&error))?;
            newest.retain(|message| message.seq >= first);
            (to, step) = (from.prev(), HISTORY_PAGE_MAX);
        }
        let mut bytes = 0;
        let fits = newest.iter().position(|message| {
            bytes += message.body.len();
            bytes > HISTORY_PAGE_BYTES_MAX
        });
        if let Some(fits) = fits {
            newest.truncate(fits.max(1));
        }
        newest.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let complete = newest.last().is_none_or(|oldest| oldest.seq <= first);
        Ok(Answer::History(newest, complete))
    }
}

fn done(answer: Answer) -> Result<(), Code> {
    match answer {
        Answer::Done => Ok(()),
        Answer::Refused(code) => Err(code),
        _ => Err(Code::Internal),
    }
}

fn to_done(outcome: &Outcome) -> Result<Answer, Code> {
    match super::host::refusal(outcome) {
        None => Ok(Answer::Done),
        Some(code) => Err(code),
    }
}

fn error_kind(code: Code) -> Kind {
    let retry_after_ms = if code.is_retryable() { 1_000 } else { 0 };
    Kind::Error(v1::Error { code: code.number(), message: code.name().to_owned(), retry_after_ms })
}

/// The core of a ticket's asker.
pub(crate) fn asker(ticket: Ticket) -> CoreId {
    CoreId::new(u16::try_from(ticket.0 >> 48).expect("16 bits"))
}
