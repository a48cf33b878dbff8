//! Signals on the core of their chat: who may send one is read from the chat's row, as for any question about it.

use columba_engine::env::{Clock, Disk};
use columba_wire::Code;

use crate::core::{
    Core,
    message::{Answer, Signal},
};

impl<D: Disk, C: Clock> Core<D, C> {
    /// Passes a signal on. It is carried out when it is on its way, whether or not anybody is there.
    pub(super) async fn answer_signal(&self, signal: Signal) -> Result<Answer, Code> {
        let users = if signal.is_for_oneself() {
            vec![signal.sender.user]
        } else {
            let partition = self.owned(|core| core.state.borrow().router.chat(signal.chat));
            let reach = partition.reach(signal.chat, signal.sender.user).await;
            signal.plan_users(reach.map_err(|error| self.code_of(&error))?.as_ref())?
        };
        self.with_state(|state| state.pass_on(&signal, users));
        Ok(Answer::Done)
    }
}
