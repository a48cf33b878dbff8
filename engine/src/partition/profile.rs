//! Profiles: what a user tells about itself. The server does not read it.
//!
//! Invariants
//! - The version grows by one with each change, and with nothing else: a change to what is there already is none.

use bytes::Bytes;
use columba_wire::{Code, DeviceAddress, UserId};

use super::{
    State,
    codec::{Put as _, Take},
    effect::{Effect, Effects, Outcome},
    rows::{Layer, Row, RowMap},
    user::User,
};
use crate::error::Result;

/// What a user tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// How often it was changed.
    pub version: u32,
    /// What the user is called.
    pub name: Box<[u8]>,
    /// A few words.
    pub about: Box<[u8]>,
    /// A reference to a picture.
    pub picture: Box<[u8]>,
}

/// What to change in a profile; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileChange {
    /// What the user is called.
    pub name: Option<Bytes>,
    /// A few words.
    pub about: Option<Bytes>,
    /// A reference to a picture.
    pub picture: Option<Bytes>,
}

impl ProfileChange {
    fn fields(&self) -> [&Option<Bytes>; 3] {
        [&self.name, &self.about, &self.picture]
    }

    pub(super) fn encoded_bytes_max(&self) -> usize {
        1 + self.fields().into_iter().flatten().map(|field| 4 + field.len()).sum::<usize>()
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let has = self.fields().into_iter().zip([1, 2, 4]).filter(|(field, _)| field.is_some()).map(|(_, bit)| bit);
        out.put_u8(has.sum());
        self.fields().into_iter().flatten().for_each(|field| out.put_bytes(field));
    }

    pub(super) fn take(take: &mut Take) -> Result<Self> {
        let has = take.take_u8()?;
        if has > 7 {
            return Err(take.malformed("which fields it has is unknown"));
        }
        let mut field = |bit| (has & bit != 0).then(|| take.take_bytes()).transpose();
        Ok(Self { name: field(1)?, about: field(2)?, picture: field(4)? })
    }

    /// The profile after the change, with the version before it.
    fn applied_to(self, before: &Profile) -> Profile {
        // Copied: a slice would keep the whole entry.
        let field =
            |new: Option<Bytes>, before: &[u8]| new.map_or_else(|| Box::from(before), |new| Box::from(&new[..]));
        Profile {
            version: before.version,
            name: field(self.name, &before.name),
            about: field(self.about, &before.about),
            picture: field(self.picture, &before.picture),
        }
    }
}

impl Row for Profile {
    const KIND: u8 = 0x34;
    type Key = UserId;

    fn map(layer: &Layer) -> &RowMap<Self> {
        &layer.profiles
    }

    fn map_mut(layer: &mut Layer) -> &mut RowMap<Self> {
        &mut layer.profiles
    }

    fn encode_key(key: &UserId, out: &mut Vec<u8>) {
        out.put_user(*key);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.version);
        for field in [&self.name, &self.about, &self.picture] {
            out.put_bytes(field);
        }
    }

    fn decode(value: Bytes) -> Result<Self> {
        let mut take = Take::new(value, "profile row");
        let version = take.take_u32()?;
        let mut field = || take.take_bytes().map(|bytes| Box::from(&bytes[..]));
        let (name, about, picture) = (field()?, field()?, field()?);
        take.finish()?;
        Ok(Self { version, name, about, picture })
    }

    fn variable_bytes(&self) -> usize {
        self.name.len() + self.about.len() + self.picture.len()
    }
}

impl State {
    pub(super) fn apply_set_profile(
        &mut self,
        device: DeviceAddress,
        change: ProfileChange,
        effects: &mut Effects,
    ) -> Outcome {
        let user = device.user;
        if self.get::<User>(&user).is_none() {
            return Outcome::Refused(Code::UnknownUser);
        }
        let before = self.get::<Profile>(&user).cloned().unwrap_or_default();
        let mut profile = change.applied_to(&before);
        if profile == before {
            return Outcome::Done;
        }
        profile.version = before.version.wrapping_add(1);
        self.active.insert(user, Some(profile));
        effects.effects.push(Effect::UserChanged { by: device });
        Outcome::Done
    }
}

#[cfg(test)]
mod tests {
    use columba_wire::DeviceId;

    use super::*;
    use crate::partition::keys::tests::{Bench, block_on};

    const fn text(text: &'static str) -> Option<Bytes> {
        Some(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_profile_keeps_what_a_change_leaves_out_over_a_flush() {
        block_on(async {
            let mut bench = Bench::open(1).await;
            let device = bench.register(1).await;
            let change = ProfileChange { name: text("Ada"), about: text("counts"), picture: None };
            assert_eq!(bench.set_profile(device, change.clone()).await, (Outcome::Done, 1));
            assert_eq!(bench.set_profile(device, change).await, (Outcome::Done, 0), "nothing has changed");
            bench.flush_and_reopen().await;
            let change = ProfileChange { about: text(""), ..ProfileChange::default() };
            assert_eq!(bench.set_profile(device, change).await, (Outcome::Done, 1));
            let profile = bench.partition().profile(device.user).await.unwrap().unwrap();
            assert_eq!((profile.version, &profile.name[..], &profile.about[..]), (2, &b"Ada"[..], &b""[..]));
        });
    }

    #[test]
    fn who_does_not_exist_has_no_profile() {
        block_on(async {
            let mut bench = Bench::open(1).await;
            let nobody = DeviceAddress { user: UserId::from_bytes([9; 16]), device: DeviceId::FIRST };
            let change = ProfileChange { name: text("Nobody"), ..ProfileChange::default() };
            assert_eq!(bench.set_profile(nobody, change).await, (Outcome::Refused(Code::UnknownUser), 0));
            assert_eq!(bench.partition().profile(nobody.user).await.unwrap(), None);
        });
    }

    #[test]
    fn a_profile_row_reads_back_and_damage_is_no_panic() {
        let profile = Profile { version: 300, name: Box::from(&b"Ada"[..]), ..Profile::default() };
        let mut bytes = Vec::new();
        profile.encode(&mut bytes);
        assert_eq!(Profile::decode(bytes.clone().into()).unwrap(), profile);
        for len in 0..bytes.len() {
            assert!(Profile::decode(Bytes::copy_from_slice(&bytes[..len])).is_err(), "{len} bytes");
        }
    }
}
