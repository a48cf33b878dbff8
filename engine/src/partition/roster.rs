//! Rosters: whom a user knows, whom it has blocked, and what it lets whom know and do.
//!
//! A block is kept twice: here, where presence and groups ask, and in the 1:1 chat of both, where sends do
//! ([`super::chat`]).
//!
//! Invariants
//! - Both lists ascend, are bounded, and do not hold the user.
//! - The version grows by one with each change, and with nothing else: a change to what is there already is none.

use std::sync::Arc;

use bytes::Bytes;
use columba_wire::{
    Audience, Code, DeviceAddress, Privacy, PrivacyChange, UserId,
    limits::{BLOCKED_MAX, CONTACTS_MAX},
};

use super::{
    State,
    codec::{Put as _, Take},
    effect::{Effect, Effects, Outcome},
    rows::{Layer, Row, RowMap},
    user::User,
};
use crate::{error::Result, limits::VALUE_BYTES_MAX};

/// A user's roster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// How often it was changed.
    pub version: u32,
    /// What others may know and do.
    pub privacy: Privacy,
    /// Whom the user knows, ascending. Only what a client has put there.
    pub contacts: Vec<UserId>,
    /// Whom it has blocked, ascending.
    pub blocked: Vec<UserId>,
}

const _: () = assert!(16 * (CONTACTS_MAX + BLOCKED_MAX) + 64 <= VALUE_BYTES_MAX, "a roster is one row");

/// What somebody may know of a user's presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Whether the user is online.
    pub online: bool,
    /// When it last was.
    pub last_seen: bool,
}

impl Roster {
    /// Whether the user has blocked somebody.
    pub fn blocks(&self, who: UserId) -> bool {
        self.blocked.binary_search(&who).is_ok()
    }

    /// What `who` may know of the presence of `user`, whose roster it is.
    pub fn sight(&self, user: UserId, who: UserId) -> Sight {
        let may = |audience| user == who || self.admits(audience, who);
        Sight { online: may(self.privacy.online), last_seen: may(self.privacy.last_seen) }
    }

    /// Whether `who` may let the user into a group.
    pub fn may_add(&self, who: UserId) -> bool {
        self.admits(self.privacy.groups, who)
    }

    fn admits(&self, audience: Audience, who: UserId) -> bool {
        let is_in = match audience {
            Audience::Everyone => true,
            Audience::Contacts => self.contacts.binary_search(&who).is_ok(),
            Audience::Nobody => false,
        };
        is_in && !self.blocks(who)
    }

    /// The roster after a change, with the version before it; `None` where a list would become too long.
    fn with(&self, change: &RosterChange) -> Option<Self> {
        let mut roster = self.clone();
        match change {
            RosterChange::Privacy(change) => roster.privacy = roster.privacy.with(*change),
            RosterChange::Contacts { add, remove } => {
                roster.contacts.retain(|user| !remove.contains(user));
                add.iter().for_each(|user| insert(&mut roster.contacts, *user));
            }
            RosterChange::Block { user, blocked: true } => insert(&mut roster.blocked, *user),
            RosterChange::Block { user, blocked: false } => roster.blocked.retain(|known| known != user),
        }
        let grows = roster.contacts.len() > self.contacts.len() && roster.contacts.len() > CONTACTS_MAX;
        (!grows && roster.blocked.len() <= BLOCKED_MAX).then_some(roster)
    }
}

fn insert(users: &mut Vec<UserId>, user: UserId) {
    if let Err(place) = users.binary_search(&user) {
        users.insert(place, user);
    }
}

/// A change of a roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RosterChange {
    /// Of what others may know and do.
    Privacy(PrivacyChange),
    /// Of the contacts. Both ascend.
    Contacts {
        /// These are known from now on.
        add: Vec<UserId>,
        /// These are not any more. One that is in both is known.
        remove: Vec<UserId>,
    },
    /// Of who is blocked.
    Block {
        /// Who.
        user: UserId,
        /// Whether it is from now on.
        blocked: bool,
    },
}

const PRIVACY: u8 = 1;
const CONTACTS: u8 = 2;
const BLOCK: u8 = 3;

impl RosterChange {
    pub(super) fn encoded_bytes_max(&self) -> usize {
        match self {
            Self::Privacy(_) | Self::Block { .. } => 32,
            Self::Contacts { add, remove } => 16 + 16 * (add.len() + remove.len()),
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Privacy(PrivacyChange { last_seen, online, groups, read_receipts_off }) => {
                out.put_u8(PRIVACY);
                for audience in [last_seen, online, groups] {
                    out.put_u8(audience.map_or(STAYS, audience_number));
                }
                out.put_u8(read_receipts_off.map_or(STAYS, u8::from));
            }
            Self::Contacts { add, remove } => {
                out.put_u8(CONTACTS);
                out.put_users(add);
                out.put_users(remove);
            }
            Self::Block { user, blocked } => {
                out.put_u8(BLOCK);
                out.put_user(*user);
                out.put_u8(u8::from(*blocked));
            }
        }
    }

    pub(super) fn take(take: &mut Take) -> Result<Self> {
        Ok(match take.take_u8()? {
            PRIVACY => {
                let mut audience = || match take.take_u8()? {
                    STAYS => Ok(None),
                    number => audience_of(number, take).map(Some),
                };
                let (last_seen, online, groups) = (audience()?, audience()?, audience()?);
                let read_receipts_off = match take.take_u8()? {
                    STAYS => None,
                    0 => Some(false),
                    1 => Some(true),
                    _ => return Err(take.malformed("whether receipts are off is unknown")),
                };
                Self::Privacy(PrivacyChange { last_seen, online, groups, read_receipts_off })
            }
            CONTACTS => Self::Contacts { add: take.take_users()?, remove: take.take_users()? },
            BLOCK => Self::Block { user: take.take_user()?, blocked: take.take_bool()? },
            _ => return Err(take.malformed("its kind of roster change is unknown")),
        })
    }
}

/// In the place of a setting: it stays as it is.
const STAYS: u8 = 0xff;

const fn audience_number(audience: Audience) -> u8 {
    match audience {
        Audience::Everyone => 0,
        Audience::Contacts => 1,
        Audience::Nobody => 2,
    }
}

fn audience_of(number: u8, take: &Take) -> Result<Audience> {
    match number {
        0 => Ok(Audience::Everyone),
        1 => Ok(Audience::Contacts),
        2 => Ok(Audience::Nobody),
        _ => Err(take.malformed("an audience is unknown")),
    }
}

impl Row for Roster {
    const KIND: u8 = 0x35;
    type Key = UserId;

    fn map(layer: &Layer) -> &RowMap<Self> {
        &layer.rosters
    }

    fn map_mut(layer: &mut Layer) -> &mut RowMap<Self> {
        &mut layer.rosters
    }

    fn encode_key(key: &UserId, out: &mut Vec<u8>) {
        out.put_user(*key);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let Self { version, privacy, contacts, blocked } = self;
        out.put_u32(*version);
        for audience in [privacy.last_seen, privacy.online, privacy.groups] {
            out.put_u8(audience_number(audience));
        }
        out.put_u8(u8::from(privacy.read_receipts_off));
        out.put_users(contacts);
        out.put_users(blocked);
    }

    fn decode(value: Bytes) -> Result<Self> {
        let mut take = Take::new(value, "roster row");
        let version = take.take_u32()?;
        let mut audience = || {
            let number = take.take_u8()?;
            audience_of(number, &take)
        };
        let (last_seen, online, groups) = (audience()?, audience()?, audience()?);
        let privacy = Privacy { last_seen, online, groups, read_receipts_off: take.take_bool()? };
        let (contacts, blocked) = (take.take_users()?, take.take_users()?);
        take.finish()?;
        Ok(Self { version, privacy, contacts, blocked })
    }

    fn variable_bytes(&self) -> usize {
        (self.contacts.capacity() + self.blocked.capacity()) * size_of::<UserId>()
    }
}

impl State {
    pub(super) fn apply_change_roster(
        &mut self,
        device: DeviceAddress,
        change: &RosterChange,
        effects: &mut Effects,
    ) -> Outcome {
        let user = device.user;
        if self.get::<User>(&user).is_none() {
            return Outcome::Refused(Code::UnknownUser);
        }
        let named: &[UserId] = match change {
            RosterChange::Privacy(_) => &[],
            RosterChange::Contacts { add, .. } => add,
            RosterChange::Block { user, .. } => core::slice::from_ref(user),
        };
        if named.contains(&user) {
            return Outcome::Refused(Code::InvalidArgument);
        }
        let before = self.get::<Roster>(&user).cloned().unwrap_or_default();
        let Some(mut roster) = before.with(change) else {
            return Outcome::Refused(Code::TooMany);
        };
        if roster == before {
            return Outcome::Done;
        }
        roster.version = before.version.wrapping_add(1);
        effects.effects.push(Effect::RosterChanged { user, roster: Arc::new(roster.clone()) });
        effects.effects.push(Effect::UserChanged { by: device });
        self.active.insert(user, Some(roster));
        Outcome::Done
    }
}

#[cfg(test)]
mod tests;
