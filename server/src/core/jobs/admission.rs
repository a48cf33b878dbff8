//! Sends that must be looked at before they are proposed: a chat that is not in memory, or not there yet, and changes
//! that let users into a group.
//!
//! Invariants
//! - One send of a chat after the other, in their order.
//! - A retry of what is stored is let through: its answer is in the chat's row, whatever others allow by now.

use std::collections::VecDeque;

use columba_engine::{
    env::{Clock, Disk},
    partition::{
        Partition,
        group::{GroupChange, Role},
    },
};
use columba_wire::{ChatId, Code, UserId};
use futures_util::future::try_join_all;

use crate::core::{
    Core,
    message::{Answer, Ask, PeopleAsk, SendContent, SendRefusal, SendRequest},
    state::send_command,
};
use crate::rate::RetryAfterMs;

impl<D: Disk, C: Clock> Core<D, C> {
    /// One send after the other, in their order, until none waits.
    pub(super) async fn admit(&self, chat: ChatId) {
        let partition = self.owned(|core| core.state.borrow().router.chat(chat));
        let mut is_counted = false;
        loop {
            let Some(mut request) = self.with_state(|state| {
                let next = state.admitting.get_mut(&chat).and_then(VecDeque::pop_front);
                if next.is_none() {
                    state.admitting.remove(&chat);
                }
                next
            }) else {
                return;
            };
            let verdict = self.check_admission(&partition, chat, &mut request, &mut is_counted).await;
            self.with_state(|state| match verdict {
                Ok(()) => {
                    let command = send_command(chat, &request, state.wall);
                    state.propose_send(partition.id(), chat, &request, &command);
                }
                Err(why) => state.refuse_send(&request, why),
            });
        }
    }

    /// Whether a send may be proposed. Of a change those are left out who do not want to be let in. `is_counted` is
    /// whether the beginning of a 1:1 chat has been counted: it is one, however much is sent until it is stored.
    async fn check_admission(
        &self,
        partition: &Partition<D>,
        chat: ChatId,
        request: &mut SendRequest,
        is_counted: &mut bool,
    ) -> Result<(), SendRefusal> {
        let failed = |error: columba_engine::Error| self.code_of(&error);
        let command = send_command(chat, request, self.clock.wall());
        partition.prefetch(core::slice::from_ref(&command)).await.map_err(failed)?;
        let (sender, limited) = (request.sender, request.limited);
        match &mut request.content {
            SendContent::ToUser(..) if partition.chat(chat).await.map_err(failed)?.is_some() => Ok(()),
            SendContent::ToUser(peer, _) => {
                self.check_exists(*peer).await?;
                if !core::mem::replace(is_counted, true) {
                    self.count_beginning(limited, sender.user)?;
                }
                Ok(())
            }
            SendContent::ToGroup(_) => Ok(()),
            SendContent::Change(change) => {
                if partition.knows_send(chat, sender, request.client_seq).await.map_err(failed)? {
                    return Ok(());
                }
                // Who may let nobody in learns of no user by this: what the group refuses is refused first.
                let is_new = matches!(change, GroupChange::Create { .. });
                if !is_new && partition.role(chat, sender.user).await.map_err(failed)? < Some(Role::Admin) {
                    return Ok(());
                }
                if is_new {
                    self.count_beginning(limited, sender.user)?;
                }
                let asked = change.newcomers().to_vec();
                let may = try_join_all(asked.iter().map(|user| self.may_add(*user, sender.user))).await?;
                let is_in = |user: &UserId| asked.binary_search(user).is_ok_and(|place| may[place]);
                match change {
                    GroupChange::Create { members, .. } => members.retain(is_in),
                    GroupChange::Add(users) => {
                        users.retain(is_in);
                        if users.is_empty() {
                            return Err(Code::NotAllowed.into());
                        }
                    }
                    GroupChange::Remove(_)
                    | GroupChange::Leave { .. }
                    | GroupChange::SetRole { .. }
                    | GroupChange::SetLook(_)
                    | GroupChange::SetInvite(_)
                    | GroupChange::Join { .. }
                    | GroupChange::SetTimer(_) => {}
                }
                Ok(())
            }
        }
    }

    fn count_beginning(&self, limited: bool, user: UserId) -> Result<(), RetryAfterMs> {
        if !limited {
            return Ok(());
        }
        self.with_state(|state| state.send_limits.take_beginning(user, state.now))
    }

    pub(super) async fn check_exists(&self, user: UserId) -> Result<(), Code> {
        match self.ask_user(user, Ask::UserExists(user)).await {
            Answer::Yes(true) => Ok(()),
            Answer::Yes(false) => Err(Code::UnknownUser),
            Answer::Refused(code) => Err(code),
            _ => Err(Code::Internal),
        }
    }

    async fn may_add(&self, user: UserId, by: UserId) -> Result<bool, Code> {
        match self.ask_user(user, Ask::People(user, PeopleAsk::MayAdd(by))).await {
            Answer::Yes(may) => Ok(may),
            Answer::Refused(code) => Err(code),
            _ => Err(Code::Internal),
        }
    }
}
