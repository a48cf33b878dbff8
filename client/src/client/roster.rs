//! Calls about contacts, blocked users and privacy.

use columba_wire::{
    PrivacyChange, UserId,
    v1::{self, client_frame::Kind},
};

use super::{Client, unexpected};
use crate::{
    driver::Ask,
    error::Result,
    session::{Reply, id_bytes},
    types::Roster,
};

impl Client {
    /// The server's copy of the user's contacts, and whom the user has blocked.
    ///
    /// # Errors
    /// `Refused`, `TimedOut`, `TooManyRequests`.
    pub async fn roster(&self) -> Result<Roster> {
        match self.call(Ask::Request(Kind::GetContacts(v1::GetContacts {}))).await? {
            Reply::Roster(roster) => Ok(roster),
            other => Err(unexpected(&other)),
        }
    }

    /// Changes the server's copy of the user's contacts. There is none unless it is put there, and the settings of
    /// [`Self::set_privacy`] that say "contacts" mean this copy. One that is in both lists is a contact.
    ///
    /// # Errors
    /// `Refused` with `TOO_MANY` beyond 2,048 contacts, or with `INVALID_ARGUMENT` for oneself: nothing is changed.
    /// `TimedOut`, `TooManyRequests`.
    pub async fn change_contacts(&self, add: &[UserId], remove: &[UserId]) -> Result<()> {
        let ids = |users: &[UserId]| users.iter().map(|user| id_bytes(user.as_bytes())).collect();
        self.done(Kind::SetContacts(v1::SetContacts { add: ids(add), remove: ids(remove) })).await
    }

    /// Blocks a user, or does so no more. Neither sends the other anything from then on, and who is blocked sees no
    /// presence and lets the user into no group. In groups in which both are they read each other.
    ///
    /// # Errors
    /// `Refused` with `TOO_MANY` beyond 1,024 blocked users, `UNKNOWN_USER`, or `INVALID_ARGUMENT` for oneself.
    /// `TimedOut`: whether it was done is not known; ask again. `TooManyRequests`.
    pub async fn set_blocked(&self, user: UserId, blocked: bool) -> Result<()> {
        self.done(Kind::SetBlocked(v1::SetBlocked { user_id: id_bytes(user.as_bytes()), blocked })).await
    }

    /// Changes what others may know and do. How it is now is in [`Self::fetch_account`].
    ///
    /// # Errors
    /// `Refused`, `TimedOut`, `TooManyRequests`.
    pub async fn set_privacy(&self, change: PrivacyChange) -> Result<()> {
        self.done(Kind::SetPrivacy(change.to_frame())).await
    }
}
