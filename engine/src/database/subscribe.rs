//! Committed messages as they are applied, for each who asks: bounded, in order.
//!
//! Invariants
//! - Per chat a subscription hands out messages in order of seq, each once, or says how many it had no room for.

use core::{
    cell::RefCell,
    future::poll_fn,
    task::{Poll, Waker},
};
use std::{
    collections::VecDeque,
    rc::{Rc, Weak},
};

use columba_wire::ChatId;

use crate::{message::StoredMessage, partition::effect::Effect};

/// Messages that wait for one subscriber. Beyond: the newest are left out, and counted.
pub const SUBSCRIPTION_MESSAGES_MAX: usize = 65_536;

/// What a subscription hands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A message was stored.
    Message {
        /// The chat.
        chat: ChatId,
        /// The message.
        message: StoredMessage,
    },
    /// There was no room for so many: read them from their chats.
    Missed(u64),
}

#[derive(Default)]
struct State {
    chat: Option<ChatId>,
    waiting: VecDeque<(ChatId, StoredMessage)>,
    missed: u64,
    waker: Option<Waker>,
}

/// Messages as they are stored. Dropping it ends the subscription.
pub struct Subscription {
    state: Rc<RefCell<State>>,
}

impl Subscription {
    /// The next notice. Waits until there is one.
    pub async fn next(&mut self) -> Notice {
        poll_fn(|cx| match self.try_next() {
            Some(notice) => Poll::Ready(notice),
            None => {
                self.state.borrow_mut().waker = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// The next notice, if there is one.
    pub fn try_next(&mut self) -> Option<Notice> {
        let mut state = self.state.borrow_mut();
        if let Some((chat, message)) = state.waiting.pop_front() {
            return Some(Notice::Message { chat, message });
        }
        let missed = core::mem::take(&mut state.missed);
        (missed > 0).then_some(Notice::Missed(missed))
    }
}

/// All subscriptions.
#[derive(Default)]
pub(super) struct Subscribers {
    all: RefCell<Vec<Weak<RefCell<State>>>>,
}

impl Subscribers {
    pub(super) fn add(&self, chat: Option<ChatId>) -> Subscription {
        let state = Rc::new(RefCell::new(State { chat, ..State::default() }));
        let mut all = self.all.borrow_mut();
        all.retain(|other| other.strong_count() > 0);
        all.push(Rc::downgrade(&state));
        Subscription { state }
    }

    pub(super) fn publish(&self, effects: impl Iterator<Item = Effect>) {
        let all = self.all.borrow();
        for effect in effects {
            let Effect::Committed { chat, message, .. } = effect else {
                continue;
            };
            for state in all.iter().filter_map(Weak::upgrade) {
                let mut state = state.borrow_mut();
                if state.chat.is_some_and(|wanted| wanted != chat) {
                    continue;
                }
                // Once something was missed nothing more is handed out before that is said: no gap goes unseen.
                if state.missed > 0 || state.waiting.len() >= SUBSCRIPTION_MESSAGES_MAX {
                    state.missed += 1;
                } else {
                    state.waiting.push_back((chat, message.clone()));
                }
                if let Some(waker) = state.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}
