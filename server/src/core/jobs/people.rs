//! What users tell about themselves, whom they know, and who may know what: asked by others, changed by themselves.
//! Runs on the user's core.

use std::sync::Arc;

use columba_engine::{
    env::{Clock, Disk},
    partition::{
        command::Command,
        membership::UserChat,
        profile::Profile,
        roster::{Roster, RosterChange},
        user::User,
    },
};
use columba_wire::{
    ChatId, Code, DeviceAddress, UserId,
    v1::{self, server_frame::Kind},
};

use super::{id_bytes, to_done};
use crate::{
    core::{
        Core,
        message::{Answer, Ask, PeopleAsk, SessionMessage, SessionRef},
    },
    delivery::presence::Known,
};

impl<D: Disk, C: Clock> Core<D, C> {
    pub(super) async fn answer_people(&self, user: UserId, ask: PeopleAsk) -> Result<Answer, Code> {
        match ask {
            PeopleAsk::User => {
                let (row, profile) = self.person(user).await?;
                Ok(Answer::Reply(Kind::User(v1::User {
                    user_id: id_bytes(user.as_bytes()),
                    handle: row.handle,
                    profile_version: profile.version,
                    profile: Some(profile_frame(profile)),
                })))
            }
            PeopleAsk::Account => Ok(Answer::Reply(Kind::Account(self.account(user).await?))),
            PeopleAsk::SetProfile(device, change) => {
                let id = self.state.borrow().router.user(user);
                to_done(&self.propose(id, Command::SetProfile { device, change }).await?)
            }
            PeopleAsk::ChangeRoster(device, change) => self.change_roster(device, change).await,
            PeopleAsk::Contacts => {
                let ids = |users: &[UserId]| users.iter().map(|user| id_bytes(user.as_bytes())).collect();
                let contacts = self.roster(user, |roster| v1::Contacts {
                    contacts: ids(&roster.contacts),
                    blocked: ids(&roster.blocked),
                    roster_version: roster.version,
                });
                Ok(Answer::Reply(Kind::Contacts(contacts.await?)))
            }
            PeopleAsk::Delete(handle) => self.delete_user(user, &handle).await,
            PeopleAsk::Chats { after, limit } => {
                let count = usize::try_from(limit).unwrap_or(usize::MAX);
                let partition = self.owned(|core| core.state.borrow().router.user(user));
                let mut chats =
                    partition.chats_of(user, after, count + 1).await.map_err(|error| self.code_of(&error))?;
                let complete = chats.len() <= count;
                chats.truncate(count);
                let entry = |(chat, row): (ChatId, UserChat)| v1::ChatEntry {
                    chat_id: id_bytes(chat.as_bytes()),
                    from_seq: row.at.get(),
                };
                let chats = chats.into_iter().map(entry).collect();
                Ok(Answer::Reply(Kind::Chats(v1::Chats { chats, complete })))
            }
            PeopleAsk::MayAdd(by) => {
                self.user(user).await?;
                Ok(Answer::Yes(self.roster(user, |roster| roster.may_add(by)).await?))
            }
            PeopleAsk::HidesReads => {
                Ok(Answer::Yes(self.roster(user, |roster| roster.privacy.read_receipts_off).await?))
            }
        }
    }

    /// A block is put into the roster and then into the chat of both. Where only the first was done nobody has been
    /// told that it was carried out, and the second is done with the retry.
    async fn change_roster(&self, device: DeviceAddress, change: RosterChange) -> Result<Answer, Code> {
        let block = match &change {
            RosterChange::Block { user, blocked } => Some((*user, *blocked)),
            RosterChange::Privacy(_) | RosterChange::Contacts { .. } => None,
        };
        if let Some((other, true)) = block {
            self.check_exists(other).await?;
        }
        let id = self.state.borrow().router.user(device.user);
        let answer = to_done(&self.propose(id, Command::ChangeRoster { device, change }).await?)?;
        let Some((other, blocked)) = block else {
            return Ok(answer);
        };
        let by = device.user;
        let to = self.core_of(|core| core.state.borrow().router.chat(ChatId::direct(by, other)));
        match self.ask(to, Ask::BlockChat { by, other, blocked }).await {
            Answer::Refused(code) => Err(code),
            answer => Ok(answer),
        }
    }

    /// Whether a user hides what it has read. Where that cannot be read it is taken for so: the safe side.
    pub(super) async fn hides_reads(&self, user: UserId) -> bool {
        !matches!(self.ask_user(user, Ask::People(user, PeopleAsk::HidesReads)).await, Answer::Yes(false))
    }

    async fn roster<T>(&self, user: UserId, look: impl Fn(&Roster) -> T) -> Result<T, Code> {
        let partition = self.owned(|core| core.state.borrow().router.user(user));
        partition.roster(user, look).await.map_err(|error| self.code_of(&error))
    }

    /// A session of `watcher` wants to know whether the user is online.
    pub(super) async fn answer_subscribe(
        &self,
        user: UserId,
        session: SessionRef,
        watcher: UserId,
    ) -> Result<Answer, Code> {
        let stored_ms = self.stored_last_seen(user).await?;
        // The first reads bring both rows into memory: nothing waits between the second ones and their use.
        self.known(user).await?;
        let known = self.known(user).await?;
        // Of a user who is watched the table has it as it is now.
        let known = self.state.borrow().presence.known(user).unwrap_or(known);
        self.with_state(|state| state.subscribe(session, user, watcher, known, stored_ms));
        Ok(Answer::Done)
    }

    async fn known(&self, user: UserId) -> Result<Known, Code> {
        let partition = self.owned(|core| core.state.borrow().router.user(user));
        let row = partition.user(user).await.map_err(|error| self.code_of(&error))?;
        let roster = Arc::new(self.roster(user, Roster::clone).await?);
        Ok(Known { roster, devices_version: row.map_or(0, |row| row.devices_version()) })
    }

    /// These sessions may see more, or less, of a user's presence than before.
    pub(super) async fn tell_presence(&self, user: UserId, sessions: Vec<SessionRef>) {
        // Where it cannot be read they find it with their next subscription.
        let stored_ms = self.stored_last_seen(user).await.unwrap_or_default();
        self.with_state(|state| state.tell_presence(user, &sessions, stored_ms));
    }

    async fn stored_last_seen(&self, user: UserId) -> Result<u64, Code> {
        let partition = self.owned(|core| core.state.borrow().router.user(user));
        let seen = partition.last_seen(user).await.map_err(|error| self.code_of(&error))?;
        Ok(seen.map_or(0, |seen| seen.time_ms))
    }

    /// A device has changed the account: its user's other devices are told how it is now.
    pub(super) async fn tell_account(&self, by: DeviceAddress) {
        // Where it cannot be read the devices find it with their next question.
        let Ok(account) = self.account(by.user).await else {
            return;
        };
        self.with_state(|state| {
            for (device, session) in state.live.sessions_by_device(by.user) {
                if device != by.device {
                    state.route_session(session, SessionMessage::Hint(Kind::Account(account.clone())));
                }
            }
        });
    }

    async fn account(&self, user: UserId) -> Result<v1::Account, Code> {
        let (row, profile) = self.person(user).await?;
        let (privacy, roster_version) = self.roster(user, |roster| (roster.privacy, roster.version)).await?;
        Ok(v1::Account {
            user_id: id_bytes(user.as_bytes()),
            handle: row.handle,
            profile_version: profile.version,
            profile: Some(profile_frame(profile)),
            privacy: Some(privacy.to_frame()),
            roster_version,
        })
    }

    async fn user(&self, user: UserId) -> Result<User, Code> {
        let partition = self.owned(|core| core.state.borrow().router.user(user));
        let row = partition.user(user).await.map_err(|error| self.code_of(&error))?;
        row.ok_or(Code::UnknownUser)
    }

    async fn person(&self, user: UserId) -> Result<(User, Profile), Code> {
        let row = self.user(user).await?;
        let partition = self.owned(|core| core.state.borrow().router.user(user));
        let profile = partition.profile(user).await.map_err(|error| self.code_of(&error))?;
        Ok((row, profile.unwrap_or_default()))
    }
}

fn profile_frame(profile: Profile) -> v1::Profile {
    v1::Profile { name: profile.name.into(), about: profile.about.into(), picture: profile.picture.into() }
}
