//! The end of a device's account: asked for until the node confirms it, in whichever way.

use bytes::Bytes;
use columba_wire::{
    UserId,
    v1::{self, client_frame::Kind as Request},
};

use super::{Client, Stage};

/// The request that ends the account.
pub(super) const DELETE: u64 = 8;

/// A device's dealings with the end of its account, and of others'.
#[derive(Default)]
pub struct Deletion {
    /// Whether it was asked for.
    pub asked: bool,
    /// Whether the node has confirmed it.
    pub confirmed: bool,
    /// Messages that were refused because their user does not exist.
    pub refused: Vec<(UserId, Bytes)>,
}

impl Client {
    /// Ends the account, or asks once more.
    pub fn delete_account(&mut self) {
        if self.stage == Stage::Open && self.link.is_none() && !self.deletion.confirmed {
            self.deletion.asked = true;
            self.frame(DELETE, Request::DeleteAccount(v1::DeleteAccount { handle: self.handle.clone() }));
        }
    }
}
