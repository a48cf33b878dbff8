//! Calls about users and keys.

use columba_wire::{
    UserId,
    limits::PROFILE_FIELD_BYTES_MAX,
    v1::{self, client_frame::Kind},
};

use super::{Client, unexpected};
use crate::{
    driver::Ask,
    error::{Error, Result},
    session::{Reply, directory, id_bytes},
    types::{KeyBundle, NewKeys, OwnAccount, ProfileChange, User},
};

impl Client {
    /// A user: its handle and profile.
    ///
    /// # Errors
    /// `Refused` with `UNKNOWN_USER`, `TimedOut`, `TooManyRequests`.
    pub async fn user(&self, user: UserId) -> Result<User> {
        let user_id = id_bytes(user.as_bytes());
        match self.call(Ask::Request(Kind::GetUser(v1::GetUser { user_id }))).await? {
            Reply::Person(user) => Ok(user),
            other => Err(unexpected(&other)),
        }
    }

    /// This user as the server knows it now. A change by another device comes as
    /// [`crate::Event::AccountChanged`].
    ///
    /// # Errors
    /// `Refused`, `TimedOut`, `TooManyRequests`.
    pub async fn fetch_account(&self) -> Result<OwnAccount> {
        match self.call(Ask::Request(Kind::GetAccount(v1::GetAccount {}))).await? {
            Reply::OwnAccount(account) => Ok(account),
            other => Err(unexpected(&other)),
        }
    }

    /// Deletes this account, for good: all its devices, keys, profile, contacts and settings; it leaves its groups, and
    /// its handle is free. Messages that it has sent stay with those who got them. `handle` is the account's own, as
    /// the user has typed it. The session ends with [`crate::Event::Revoked`].
    ///
    /// # Errors
    /// `Refused` with `INVALID_ARGUMENT` where it is another handle: nothing is deleted. `TimedOut`: whether it was
    /// done is not known; the next login tells. `TooManyRequests`.
    pub async fn delete_account(&self, handle: &str) -> Result<()> {
        self.done(Kind::DeleteAccount(v1::DeleteAccount { handle: handle.to_owned() })).await
    }

    /// Changes this user's profile, which everybody may read.
    ///
    /// # Errors
    /// `InvalidOption` where a field is too long; `Refused`, `TimedOut`, `TooManyRequests`.
    pub async fn set_profile(&self, change: ProfileChange) -> Result<()> {
        let fields = [&change.name, &change.about, &change.picture];
        if fields.into_iter().flatten().any(|field| field.len() > PROFILE_FIELD_BYTES_MAX) {
            let reason = format!("a field of a profile has at most {PROFILE_FIELD_BYTES_MAX} bytes");
            return Err(Error::InvalidOption(reason));
        }
        self.done(Kind::SetProfile(directory::set_profile(change))).await
    }

    /// Stores public keys of this device for others, and tells how many one-time keys the server has then. May be
    /// repeated: what is there already changes nothing. One call at a time, since numbers only grow.
    ///
    /// # Errors
    /// `Refused` with `INVALID_ARGUMENT`: a signature is wrong, numbers do not ascend, more than 100 one-time keys
    /// would be stored, or the first upload lacks identity key or fallback. `TimedOut`, `TooManyRequests`.
    pub async fn put_keys(&self, keys: &NewKeys) -> Result<u32> {
        match self.call(Ask::Request(Kind::PutKeys(directory::put_keys(keys)))).await? {
            Reply::KeysStored(count) => Ok(count),
            other => Err(unexpected(&other)),
        }
    }

    /// Takes keys of each device of a user, to begin a session with it. Devices that have stored none are left out.
    /// Where the connection breaks meanwhile they are taken once more, and the first ones are never used.
    ///
    /// The signatures are not checked here: the application that trusts a device's key checks them.
    ///
    /// # Errors
    /// `Refused` with `UNKNOWN_USER`, or `RATE_LIMITED`: keys are few. `TimedOut`, `TooManyRequests`.
    pub async fn keys(&self, user: UserId) -> Result<Vec<KeyBundle>> {
        let user_id = id_bytes(user.as_bytes());
        match self.call(Ask::Request(Kind::GetKeys(v1::GetKeys { user_id, device_ids: Vec::new() }))).await? {
            Reply::Keys(bundles) => Ok(bundles),
            other => Err(unexpected(&other)),
        }
    }
}
