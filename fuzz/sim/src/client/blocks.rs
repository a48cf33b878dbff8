//! Whom a device's user blocks, and when the node confirmed it. Times are numbers of messages: how many there were.

use bytes::Bytes;
use columba_wire::{
    UserId,
    v1::{self, client_frame::Kind as Request},
};

use super::{Client, Stage};

/// The request that blocks somebody, or does so no more.
pub(super) const BLOCK: u64 = 7;

/// A block, from the first question to the end.
#[derive(Clone, Debug)]
pub struct Block {
    /// Who is blocked.
    pub other: UserId,
    /// When it was asked for.
    pub asked: u64,
    /// When the node confirmed it.
    pub since: Option<u64>,
    /// When its end was asked for.
    pub until: Option<u64>,
    /// When the node confirmed the end.
    pub ended: Option<u64>,
}

/// A message to a user that the node did not allow.
#[derive(Clone, Debug)]
pub struct Refused {
    /// To whom.
    pub to: UserId,
    /// Its body.
    pub body: Bytes,
    /// When it was refused.
    pub at: u64,
}

/// A device's dealings with those it blocks, and those who block it.
#[derive(Default)]
pub struct Blocks {
    /// Those of this device, in order; the last one may be under way.
    pub all: Vec<Block>,
    /// What was refused because of somebody's.
    pub refused: Vec<Refused>,
    asked: bool,
}

impl Blocks {
    /// What is to be asked, until the node confirms it: whom it is about, and whether it is to be blocked.
    fn pending(&self) -> Option<(UserId, bool)> {
        let last = self.all.last()?;
        match (last.since, last.until, last.ended) {
            (None, ..) => Some((last.other, true)),
            (Some(_), Some(_), None) => Some((last.other, false)),
            (Some(_), None, _) | (Some(_), Some(_), Some(_)) => None,
        }
    }

    /// Whether it waits for an answer.
    pub fn is_pending(&self) -> bool {
        self.pending().is_some()
    }

    /// Whom it was to block does not exist any more.
    pub(super) fn drop_pending(&mut self) {
        self.all.pop_if(|last| last.since.is_none());
    }

    pub(super) fn forget_asked(&mut self) {
        self.asked = false;
    }
}

impl Client {
    /// Blocks somebody, or ends the block there is. Nothing where one of them is not confirmed yet.
    pub fn change_block(&mut self, other: UserId) {
        if self.blocks.is_pending() {
            return;
        }
        match self.blocks.all.last_mut().filter(|last| last.ended.is_none()) {
            Some(last) => last.until = Some(self.now),
            None => self.blocks.all.push(Block { other, asked: self.now, since: None, until: None, ended: None }),
        }
        self.ask_block();
    }

    pub(super) fn ask_block(&mut self) {
        let (Some((other, blocked)), false, Stage::Open) = (self.blocks.pending(), self.blocks.asked, self.stage)
        else {
            return;
        };
        self.blocks.asked = true;
        let user_id = Bytes::copy_from_slice(other.as_bytes());
        self.frame(BLOCK, Request::SetBlocked(v1::SetBlocked { user_id, blocked }));
    }

    pub(super) fn handle_block_done(&mut self) {
        self.blocks.asked = false;
        let now = self.now;
        if let Some((_, blocked)) = self.blocks.pending()
            && let Some(last) = self.blocks.all.last_mut()
        {
            *(if blocked { &mut last.since } else { &mut last.ended }) = Some(now);
        }
    }
}
