//! The end of an account: at once on the user's core, and then the errand, which takes the user out of its chats.
//!
//! Invariants
//! - An errand is a row until it is done: what fails or crashes is begun again, from the row.

use columba_engine::{
    env::{Clock, Disk},
    partition::{command::Command, deletion::Errand, membership::UserChat},
};
use columba_wire::{Code, UserId};

use super::{done, to_done};
use crate::core::{
    Core,
    limits::ERRAND_CHATS_MAX,
    message::{Answer, Ask},
};

impl<D: Disk, C: Clock> Core<D, C> {
    /// Ends the account of a user, who has typed its handle.
    pub(super) async fn delete_user(&self, user: UserId, handle: &str) -> Result<Answer, Code> {
        let partition = self.owned(|core| core.state.borrow().router.user(user));
        let row = partition.user(user).await.map_err(|error| self.code_of(&error))?;
        if row.ok_or(Code::UnknownUser)?.handle != handle {
            return Err(Code::InvalidArgument);
        }
        to_done(&self.propose(partition.id(), Command::DeleteUser(user)).await?)
    }

    /// Begins what earlier runs of the node have left to be done.
    pub(super) async fn resume_errands(&self) {
        for partition in self.partitions.values() {
            match partition.errands().await {
                Ok(users) => self.with_state(|state| users.into_iter().for_each(|user| state.begin_errand(user))),
                Err(error) => {
                    self.code_of(&error);
                }
            }
        }
    }

    /// Carries out a deleted user's errand. What fails is tried again later.
    pub(super) async fn errand(&self, user: UserId) {
        let outcome = self.try_errand(user).await;
        self.with_state(|state| state.end_errand(user, outcome.is_ok()));
    }

    async fn try_errand(&self, user: UserId) -> Result<(), Code> {
        let partition = self.owned(|core| core.state.borrow().router.user(user));
        let failed = |error| self.code_of(&error);
        while let Some(Errand { handle, round, .. }) = partition.errand(user).await.map_err(failed)? {
            if !handle.is_empty() {
                let to = self.core_of(|core| core.state.borrow().router.handle(&handle));
                done(self.ask(to, Ask::ReleaseHandle { handle, user }).await)?;
            }
            loop {
                let all = |_: &UserChat| true;
                let page = partition.noted_chats(user, None, ERRAND_CHATS_MAX, all).await.map_err(failed)?;
                if page.is_empty() {
                    break;
                }
                for (chat, _) in page.iter().filter(|(_, row)| row.is_in) {
                    let to = self.core_of(|core| core.state.borrow().router.chat(*chat));
                    done(self.ask(to, Ask::ForgetMember { chat: *chat, user }).await)?;
                }
                let chats = page.into_iter().map(|(chat, _)| chat).collect();
                to_done(&self.propose(partition.id(), Command::ForgetChats { user, chats }).await?)?;
            }
            to_done(&self.propose(partition.id(), Command::EndErrand { user, round }).await?)?;
        }
        Ok(())
    }
}
