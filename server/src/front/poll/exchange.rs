//! Which answer belongs to which request of a long-poll session. Numbers only: no sockets, no time, no frames.
//!
//! A client asks for what there is by `GET` with numbers of their own, and says what it has by `POST` with others. A
//! connection may break before an answer arrives, so both may be repeated: an answer is kept until the next one is
//! asked for, and what was taken is not taken again.
//!
//! | request | number | what it is |
//! |---|---|---|
//! | `GET` | one above the last | the last answer arrived; a new one is wanted |
//! | `GET` | the last | its answer is wanted again, or still |
//! | `POST` | one above the last | something new |
//! | `POST` | the last | the same again |
//! | both | anything else | a fault of the client |
//!
//! Invariants
//! - An answer is given for one number only, and is the same each time.
//! - No answer is given up before the client has asked for the next.

use bytes::Bytes;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// The last `POST` that was taken.
    taken: u64,
    /// The last `GET`.
    asked: u64,
    /// The answer to it, once there is one.
    answer: Option<Bytes>,
}

/// What a `GET` is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To be answered when there is something.
    Waits,
    /// Answered before.
    Again(Bytes),
    /// Out of order.
    Wrong,
}

/// What a `POST` is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Posted {
    /// To be taken.
    New,
    /// Taken before.
    Again,
    /// Out of order.
    Wrong,
}

impl Exchange {
    pub(super) fn handle_get(&mut self, number: u64) -> Asked {
        if number == self.asked && number > 0 {
            return self.answer.clone().map_or(Asked::Waits, Asked::Again);
        }
        let is_next = Some(number) == self.asked.checked_add(1);
        if !is_next || (self.asked > 0 && self.answer.is_none()) {
            return Asked::Wrong;
        }
        self.asked = number;
        self.answer = None;
        Asked::Waits
    }

    /// Answers the `GET` that waits.
    pub(super) fn answer(&mut self, answer: Bytes) {
        assert!(self.asked > 0 && self.answer.is_none(), "an answer is given once, to a question");
        self.answer = Some(answer);
    }

    pub(super) fn handle_post(&mut self, number: u64) -> Posted {
        if number == self.taken && number > 0 {
            return Posted::Again;
        }
        if Some(number) != self.taken.checked_add(1) {
            return Posted::Wrong;
        }
        self.taken = number;
        Posted::New
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn an_answer_that_was_lost_is_given_again_until_the_next_is_asked_for() {
        let mut exchange = Exchange::default();
        assert_eq!(exchange.handle_get(1), Asked::Waits);
        assert_eq!(exchange.handle_get(1), Asked::Waits, "the client has lost its connection meanwhile");
        exchange.answer(bytes("one"));
        for _ in 0..3 {
            assert_eq!(exchange.handle_get(1), Asked::Again(bytes("one")));
        }
        assert_eq!(exchange.handle_get(2), Asked::Waits);
        assert_eq!(exchange.handle_get(1), Asked::Wrong, "it was acknowledged");
    }

    #[test]
    fn the_next_cannot_be_asked_for_before_the_last_is_answered() {
        let mut exchange = Exchange::default();
        assert_eq!(exchange.handle_get(0), Asked::Wrong);
        assert_eq!(exchange.handle_get(2), Asked::Wrong);
        assert_eq!(exchange.handle_get(1), Asked::Waits);
        assert_eq!(exchange.handle_get(2), Asked::Wrong);
        exchange.answer(Bytes::new());
        assert_eq!(exchange.handle_get(2), Asked::Waits, "an empty answer is one");
    }

    #[test]
    fn what_was_taken_is_not_taken_again() {
        let mut exchange = Exchange::default();
        assert_eq!(exchange.handle_post(0), Posted::Wrong);
        assert_eq!(exchange.handle_post(1), Posted::New);
        assert_eq!(exchange.handle_post(1), Posted::Again);
        assert_eq!(exchange.handle_post(3), Posted::Wrong);
        assert_eq!(exchange.handle_post(2), Posted::New);
        assert_eq!(exchange.handle_post(1), Posted::Wrong);
        assert_eq!(exchange.handle_post(u64::MAX), Posted::Wrong);
    }
}
