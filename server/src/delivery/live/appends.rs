//! References on their way into inboxes.

use columba_engine::{env::Instant, partition::command::InboxAppend};

use super::{Live, LiveOutput};

impl Live {
    /// Puts what waited long enough into inboxes.
    pub(crate) fn handle_hints(&mut self, now: Instant, out: &mut Vec<LiveOutput>) {
        while let Some((_, address, chat)) = self.hints.pop_front_if(|(at, ..)| *at <= now) {
            let received =
                self.users.get(&address.user).and_then(|user| user.chats.get(&chat)).map(|chat| chat.received);
            if let (Some(received), Some(progress)) = (received, self.progress(address, chat)) {
                progress.hinting = false;
                self.append(address, chat, received);
                self.forget_if_covered(address.user, chat, out);
            }
        }
    }

    /// The references to append, in order. To be proposed at once, or given back.
    pub(crate) fn take_appends(&mut self) -> Vec<InboxAppend> {
        self.append_at.clear();
        core::mem::take(&mut self.appends)
    }

    /// Whether there are references to append, or notes.
    pub(crate) fn has_appends(&self) -> bool {
        !self.appends.is_empty() || !self.notes.is_empty()
    }

    /// References that could not be proposed: they wait for [`Self::unpark_appends`], and go before newer ones.
    pub(crate) fn park_appends(&mut self, items: Vec<InboxAppend>) {
        self.parked.extend(items);
    }

    /// Whether references are parked: what is newer waits behind them, or it would hide them.
    pub(crate) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Parked references and notes are to be tried again.
    pub(crate) fn unpark_appends(&mut self) {
        self.notes.append(&mut self.parked_notes);
        if self.parked.is_empty() {
            return;
        }
        let mut items = core::mem::take(&mut self.parked);
        items.append(&mut self.appends);
        self.append_at = items.iter().enumerate().map(|(at, item)| ((item.device, item.chat), at)).collect();
        self.appends = items;
    }
}
