//! How far this device is in one chat: what is new, what is a repetition, what is missing.
//!
//! Invariants
//! - `delivered <= received`: what the application took is kept and may be acknowledged; what was received is not
//!   handed out again in this process.
//! - The server does not send a device its own messages, so a hole is in order where own messages fill it: those
//!   answered with their seq, and as many more as there are sends without an answer.

use std::collections::{BTreeSet, VecDeque};

use columba_wire::MessageSeq;
use serde::{Deserialize, Serialize};

use crate::{limits::OWN_AHEAD_MAX, types::Message};

/// What of a cursor outlives the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Newest message that the application took.
    pub(crate) delivered: u64,
    /// Everything up to here is this device's own or was received.
    have: u64,
    /// Own messages above `have`.
    own: BTreeSet<u64>,
    /// Sends whose outcome will never be known: each may be one hole.
    unknown: u64,
    /// Holes below this are not reported: too many own messages to remember.
    blind_below: u64,
}

impl Progress {
    /// A device that was here before this profile: holes below `seq` are not its concern, where nothing is known yet.
    ///
    /// Messages below it may still come, and are new: `seq` may be that of an own message.
    pub(crate) fn begin_at(&mut self, seq: MessageSeq) {
        if self.have == 0 && self.own.is_empty() {
            self.have = seq.prev().get();
        }
    }

    /// The user came, or came back, to a group by this message: what was before is not for it.
    pub(crate) fn come_at(&mut self, seq: MessageSeq) {
        self.have = self.have.max(seq.prev().get());
        self.own = self.own.split_off(&(self.have + 1));
    }

    /// An own message has its place.
    pub(crate) fn handle_own(&mut self, seq: MessageSeq) {
        if seq.get() > self.have {
            self.own.insert(seq.get());
        }
        if self.own.len() > OWN_AHEAD_MAX
            && let Some(lowest) = self.own.pop_first()
        {
            self.blind_below = lowest + 1;
        }
        self.settle();
    }

    /// A send was given up without knowing whether it is in the chat.
    pub(crate) fn handle_unknown(&mut self) {
        self.unknown += 1;
    }

    /// A message was taken by the application.
    pub(crate) fn handle_delivered(&mut self, seq: MessageSeq) {
        self.delivered = self.delivered.max(seq.get());
        self.advance(seq.get());
    }

    fn advance(&mut self, seq: u64) {
        self.have = self.have.max(seq);
        self.own = self.own.split_off(&(self.have + 1));
        self.settle();
    }

    fn settle(&mut self) {
        while self.own.remove(&(self.have + 1)) {
            self.have += 1;
        }
    }

    /// Seqs below `seq` that are neither received nor known as own.
    fn holes_below(&self, seq: u64) -> u64 {
        let from = (self.have + 1).max(self.blind_below);
        if from >= seq {
            return 0;
        }
        (seq - from) - self.own.range(from..seq).count() as u64
    }
}

/// One chat of this process.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    pub(crate) progress: Progress,
    /// Newest message handed out, or about to be.
    received: MessageSeq,
    /// Handed out and not yet taken, in order.
    untaken: VecDeque<Message>,
    /// The last message before a gap that was told.
    gap_after: Option<MessageSeq>,
}

/// What a delivered message is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was here already; `kept` where it may be acknowledged again.
    Duplicate { kept: bool },
    /// The next one.
    New,
    /// Messages behind `after` are missing, and this is the first time: it was not taken. The next time it is new.
    Gap { after: MessageSeq },
}

impl Cursor {
    /// Continues where an earlier run was.
    pub(crate) fn new(progress: Progress) -> Self {
        let received = MessageSeq::new(progress.delivered);
        Self { progress, received, untaken: VecDeque::new(), gap_after: None }
    }

    /// Newest message that may be acknowledged.
    pub(crate) fn delivered(&self) -> MessageSeq {
        MessageSeq::new(self.progress.delivered)
    }

    /// A message came. `unanswered` is the number of sends to this chat that may be in it already.
    pub(crate) fn handle_deliver(&mut self, message: Message, unanswered: impl FnOnce() -> u64) -> Verdict {
        let seq = message.seq;
        if seq <= self.received {
            return Verdict::Duplicate { kept: seq <= self.delivered() };
        }
        let after = MessageSeq::new(self.progress.have);
        let holes = self.progress.holes_below(seq.get());
        let missing = holes > 0 && holes > unanswered().saturating_add(self.progress.unknown);
        if missing && self.gap_after.replace(after) != Some(after) {
            return Verdict::Gap { after };
        }
        self.received = seq;
        self.progress.advance(seq.get());
        self.untaken.push_back(message);
        Verdict::New
    }

    /// The application has taken everything up to `seq`: what of it is to be kept.
    pub(crate) fn handle_taken(&mut self, seq: MessageSeq) -> Vec<Message> {
        let count = self.untaken.iter().take_while(|message| message.seq <= seq).count();
        let taken: Vec<_> = self.untaken.drain(..count).collect();
        if let Some(last) = taken.last() {
            self.progress.handle_delivered(last.seq);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use columba_wire::{ChatId, UserId};

    use super::*;

    fn message(seq: u64) -> Message {
        let chat = ChatId::from_bytes([1; 16]);
        let sender = UserId::from_bytes([2; 16]);
        Message {
            chat,
            seq: MessageSeq::new(seq),
            sender,
            time_ms: 0,
            disappears_ms: None,
            body: Bytes::new(),
            change: None,
        }
    }

    #[test]
    fn a_message_that_comes_again_is_not_handed_out_again() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.handle_deliver(message(1), || 0), Verdict::New);
        assert_eq!(cursor.handle_deliver(message(1), || 0), Verdict::Duplicate { kept: false });
        assert_eq!(cursor.handle_taken(MessageSeq::new(1)).len(), 1);
        assert_eq!(cursor.handle_deliver(message(1), || 0), Verdict::Duplicate { kept: true });
    }

    #[test]
    fn own_messages_fill_holes_whether_their_answer_came_before_or_after() {
        let mut cursor = Cursor::default();
        cursor.progress.handle_own(MessageSeq::new(2));
        assert_eq!(cursor.handle_deliver(message(1), || 0), Verdict::New);
        assert_eq!(cursor.handle_deliver(message(4), || 1), Verdict::New);
        cursor.progress.handle_own(MessageSeq::new(3));
        assert_eq!(cursor.handle_deliver(message(5), || 0), Verdict::New);
    }

    #[test]
    fn a_hole_that_nobody_accounts_for_is_a_gap_and_what_is_behind_it_waits_for_a_second_try() {
        let mut cursor = Cursor::default();
        cursor.handle_deliver(message(1), || 0);
        cursor.progress.handle_own(MessageSeq::new(3));
        let gap = Verdict::Gap { after: MessageSeq::new(1) };
        assert_eq!(cursor.handle_deliver(message(5), || 1), gap);
        assert_eq!(cursor.handle_taken(MessageSeq::new(5)), [message(1)], "it was not handed out");
        assert_eq!(
            cursor.handle_deliver(message(5), || 1),
            Verdict::New,
            "the rest of the chat is not held back for ever"
        );
        assert_eq!(cursor.handle_deliver(message(6), || 0), Verdict::New, "a gap is told once");
        assert_eq!(cursor.handle_deliver(message(8), || 0), Verdict::Gap { after: MessageSeq::new(6) });
    }

    #[test]
    fn a_gap_that_the_server_fills_on_the_second_try_costs_nothing() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.handle_deliver(message(2), || 0), Verdict::Gap { after: MessageSeq::ZERO });
        assert_eq!(cursor.handle_deliver(message(1), || 0), Verdict::New);
        assert_eq!(cursor.handle_deliver(message(2), || 0), Verdict::New);
    }

    #[test]
    fn a_message_below_the_first_own_one_is_new_to_a_device_that_begins_in_the_middle() {
        let mut cursor = Cursor::default();
        cursor.progress.begin_at(MessageSeq::new(10));
        cursor.progress.handle_own(MessageSeq::new(10));
        assert_eq!(cursor.handle_deliver(message(8), || 0), Verdict::New, "it waited while the own one was sent");
        assert_eq!(cursor.handle_deliver(message(9), || 0), Verdict::New);
        assert_eq!(cursor.handle_deliver(message(11), || 0), Verdict::New);
        cursor.progress.begin_at(MessageSeq::new(20));
        assert_eq!(cursor.handle_deliver(message(20), || 0), Verdict::Gap { after: MessageSeq::new(11) });
    }

    #[test]
    fn a_send_with_unknown_outcome_may_be_a_hole() {
        let mut cursor = Cursor::default();
        cursor.progress.handle_unknown();
        assert_eq!(cursor.handle_deliver(message(2), || 0), Verdict::New);
    }

    #[test]
    fn a_message_received_and_not_taken_is_new_to_the_next_process() {
        let mut cursor = Cursor::default();
        cursor.handle_deliver(message(1), || 0);
        cursor.handle_deliver(message(2), || 0);
        cursor.handle_taken(MessageSeq::new(1));
        let mut kept = Progress::default();
        kept.handle_delivered(MessageSeq::new(1));
        let mut next = Cursor::new(kept);
        assert_eq!(next.handle_deliver(message(1), || 0), Verdict::Duplicate { kept: true });
        assert_eq!(next.handle_deliver(message(2), || 0), Verdict::New);
    }

    #[test]
    fn own_messages_far_ahead_are_bounded() {
        let mut cursor = Cursor::default();
        for seq in 0..2 * OWN_AHEAD_MAX as u64 {
            cursor.progress.handle_own(MessageSeq::new(10 + seq));
        }
        assert_eq!(cursor.progress.own.len(), OWN_AHEAD_MAX);
        let seq = 10 + 2 * OWN_AHEAD_MAX as u64;
        assert_eq!(cursor.handle_deliver(message(seq), || 0), Verdict::New);
    }
}
