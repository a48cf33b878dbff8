//! What users tell about themselves: read by others, changed by themselves. Runs on the user's core.

use columba_engine::{
    env::{Clock, Disk},
    partition::{command::Command, profile::Profile, user::User},
};
use columba_wire::{
    Code, DeviceAddress, UserId,
    v1::{self, server_frame::Kind},
};

use super::{id_bytes, to_done};
use crate::core::{
    Core,
    message::{Answer, PeopleAsk, SessionMessage},
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
        }
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
        Ok(v1::Account {
            user_id: id_bytes(user.as_bytes()),
            handle: row.handle,
            profile_version: profile.version,
            profile: Some(profile_frame(profile)),
        })
    }

    async fn person(&self, user: UserId) -> Result<(User, Profile), Code> {
        let partition = self.owned(|core| core.state.borrow().router.user(user));
        let Some(row) = partition.user(user).await.map_err(|error| self.code_of(&error))? else {
            return Err(Code::UnknownUser);
        };
        let profile = partition.profile(user).await.map_err(|error| self.code_of(&error))?;
        Ok((row, profile.unwrap_or_default()))
    }
}

fn profile_frame(profile: Profile) -> v1::Profile {
    v1::Profile { name: profile.name.into(), about: profile.about.into(), picture: profile.picture.into() }
}
