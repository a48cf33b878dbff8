//! The end of an account: its rows go at once, and what other partitions have of it is an errand that survives crashes.
//!
//! ```text
//!   DeleteUser    user's partition     devices, keys, profile, roster, last seen: gone; an errand is left
//!   ReleaseHandle handle's partition   the handle is free
//!   ForgetMember  each chat            out of the group, or nobody writes to it any more
//!   ForgetChats   user's partition     those chats are off the user's list
//!   EndErrand     user's partition     once the list is empty
//! ```
//!
//! Every step may be carried out again. A chat that takes the user in while that goes on is noted like any other, and
//! begins the errand anew.
//!
//! Invariants
//! - A user with an errand does not exist, and is not made again.
//! - Where an errand has ended there is nothing of the user but what others have: messages that it sent.

use bytes::Bytes;
use columba_wire::{ChatId, ClientSeq, Code, DeviceAddress, DeviceId, UserId};

use super::{
    Partition, State,
    chat::ChatRow,
    codec::{Put as _, Take},
    effect::{Effect, Effects, Outcome},
    group::{ChangeFields, GroupChange},
    inbox::InboxChat,
    membership::UserChat,
    profile::Profile,
    retention::Retention,
    roster::Roster,
    rows::{Layer, Row, RowMap},
    user::{Handle, HandleKey, LastSeen, User},
};
use crate::{
    env::Disk,
    error::Result,
    planted::{self, Planted},
};

/// Device numbers, the newest of a user, of which an errand looks for rows: each is one lookup for each chat.
const DEVICES_FORGOTTEN_MAX: u32 = 256;
/// Days for which a chat that nobody is in any more may keep what was on its way.
const NOBODYS_DAYS: u32 = 1;

/// What is still to be done about a user that is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// The handle to release; empty where there is none.
    pub handle: String,
    /// The number that the next device would have got.
    pub next_device: u32,
    /// Grows each time there is something more to be done.
    pub round: u32,
}

impl Errand {
    /// The devices that the user has had.
    pub(super) fn devices(&self, user: UserId) -> impl Iterator<Item = DeviceAddress> + use<> {
        let numbers = self.next_device.saturating_sub(DEVICES_FORGOTTEN_MAX).max(1)..self.next_device;
        numbers.filter_map(move |number| Some(DeviceAddress { user, device: DeviceId::new(number).ok()? }))
    }
}

impl Row for Errand {
    const KIND: u8 = 0x37;
    type Key = UserId;

    fn map(layer: &Layer) -> &RowMap<Self> {
        &layer.errands
    }

    fn map_mut(layer: &mut Layer) -> &mut RowMap<Self> {
        &mut layer.errands
    }

    fn encode_key(key: &UserId, out: &mut Vec<u8>) {
        out.put_user(*key);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_bytes(self.handle.as_bytes());
        out.put_u32(self.next_device);
        out.put_u32(self.round);
    }

    fn decode(value: Bytes) -> Result<Self> {
        let mut take = Take::new(value, "errand row");
        let row = Self { handle: take.take_string()?, next_device: take.take_u32()?, round: take.take_u32()? };
        take.finish()?;
        Ok(row)
    }
}

impl State {
    pub(super) fn apply_delete_user(&mut self, user: UserId, effects: &mut Effects) -> Outcome {
        let Some(mut row) = self.get::<User>(&user).cloned() else {
            return Outcome::Refused(Code::UnknownUser);
        };
        let devices = core::mem::take(&mut row.devices);
        let (handle, next_device) = (row.handle.clone(), row.next_device);
        *self.edit::<User>(user) = None;
        self.active.insert(user, Some(Errand { handle, next_device, round: 0 }));
        self.active.insert::<Profile>(user, None);
        self.active.insert::<Roster>(user, None);
        self.active.insert::<LastSeen>(user, None);
        for number in devices {
            self.end_device(DeviceAddress { user, device: number }, &row, effects);
        }
        effects.effects.push(Effect::UserDeleted { user });
        Outcome::Done
    }

    /// The handle is free, where it is still the user's.
    pub(super) fn apply_release_handle(&mut self, handle: &str, user: UserId) -> Outcome {
        let row = self.edit::<Handle>(HandleKey::new(handle));
        if row.as_ref().is_some_and(|held| held.user == user) {
            *row = None;
        }
        Outcome::Done
    }

    /// A user that is deleted is out of the chat.
    pub(super) fn apply_forget_member(
        &mut self,
        chat: ChatId,
        user: UserId,
        time_ms: u64,
        effects: &mut Effects,
    ) -> Outcome {
        let Some(row) = self.get::<ChatRow>(&chat) else {
            return Outcome::Done;
        };
        if row.group().is_some() {
            // Not by one of its devices: whatever these have sent does not make it a repetition.
            let sender = DeviceAddress { user, device: DeviceId::LAST };
            let (client_seq, change) = (ClientSeq::new(u64::MAX - 1), GroupChange::Leave { owner: None });
            let fields = ChangeFields { chat, sender, client_seq, time_ms, change };
            return match self.apply_change_group(fields, effects) {
                Outcome::Refused(Code::Unavailable) => Outcome::Refused(Code::Unavailable),
                _ => Outcome::Done,
            };
        }
        let row = self.edit::<ChatRow>(chat).as_mut().expect("it is there");
        if row.leave(user) {
            // What nobody is there to read goes, once it is on its way to nobody.
            self.apply_set_retention(Some(chat), Some(Retention::UntilDelivered { days: NOBODYS_DAYS }));
        }
        let settings = self.settings;
        settings.delete_delivered(chat, self.edit::<ChatRow>(chat).as_mut().expect("it is there"));
        Outcome::Done
    }

    /// The chats are off a deleted user's list.
    pub(super) fn apply_forget_chats(&mut self, user: UserId, chats: &[ChatId]) -> Outcome {
        let Some(errand) = self.get::<Errand>(&user).cloned() else {
            return Outcome::Done;
        };
        for chat in chats {
            self.active.insert::<UserChat>((user, *chat), None);
            for device in errand.devices(user) {
                if self.get::<InboxChat>(&(device, *chat)).is_some() {
                    self.active.insert::<InboxChat>((device, *chat), None);
                }
            }
        }
        Outcome::Done
    }

    /// Unless there is something more to be done since.
    pub(super) fn apply_end_errand(&mut self, user: UserId, round: u32) -> Outcome {
        let row = self.edit::<Errand>(user);
        if row.as_ref().is_some_and(|errand| errand.round == round) {
            *row = None;
        }
        Outcome::Done
    }

    /// A chat has taken in a user that is deleted: it is to be told.
    pub(super) fn begin_errand(&mut self, user: UserId, effects: &mut Effects) {
        if !planted::is(Planted::OrphanStays) {
            let nothing = Errand { handle: String::new(), next_device: 1, round: 0 };
            self.edit::<Errand>(user).get_or_insert(nothing).round += 1;
            effects.effects.push(Effect::UserDeleted { user });
        }
    }
}

impl<D: Disk> Partition<D> {
    /// What is still to be done about a user that is deleted.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn errand(&self, user: UserId) -> Result<Option<Errand>> {
        self.load::<Errand>(user).await
    }

    /// The users with an errand.
    ///
    /// # Errors
    /// Damage, `Io`.
    pub async fn errands(&self) -> Result<Vec<UserId>> {
        let keys = self.keys_of::<Errand>().await?;
        Ok(keys.iter().filter_map(|key| UserId::try_from(&key[..]).ok()).collect())
    }
}

#[cfg(test)]
mod tests;
