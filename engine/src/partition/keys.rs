//! The key directory: public keys by which others begin an encrypted session with a device that is away. The server
//! keeps them and hands them out; it checks signatures before it proposes, and knows no private key.
//!
//! Invariants
//! - A one-time key is in one outcome: `apply` takes it out of the row in the step in which it gives it away
//!   (`a_one_time_key_is_given_once_whatever_is_flushed_and_retried`).
//! - Ids of a device only grow: what is not above the highest that was ever stored is a repetition, and is dropped. So
//!   a key that was given away does not come back with a retry of its upload.
//! - A device that has stored keys has an identity key and a fallback; one-time keys are at most
//!   [`ONE_TIME_KEYS_MAX`], ascending by id.

use bytes::Bytes;
use columba_wire::{
    Code, DeviceAddress, DeviceId, PreKeyId, UserId,
    keys::{IdentityKey, KeyBundle, NewKeys, PreKey},
    limits::{KEYS_LOW_AT, ONE_TIME_KEYS_MAX},
};

use super::{
    RowKey, State,
    codec::{Put as _, Take},
    device::Device,
    effect::{Effect, Effects, Outcome},
    rows::{Layer, Row, RowMap},
};
use crate::{
    error::Result,
    planted::{self, Planted},
};

/// What the server has of a device's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKeys {
    /// The long-lived one.
    pub identity: IdentityKey,
    /// What is given where no one-time key is left.
    pub fallback: PreKey,
    /// The highest id of a one-time key that was ever stored.
    pub last_one_time: PreKeyId,
    /// Those that nobody was given, ascending.
    pub one_time: Vec<PreKey>,
}

impl DeviceKeys {
    /// Those of `new` that are no repetition of what was stored before, or are in the place of it.
    pub fn fresh(before: Option<&Self>, mut new: NewKeys) -> NewKeys {
        if let Some(before) = before {
            new.identity = new.identity.filter(|identity| *identity != before.identity);
            new.fallback = new.fallback.filter(|fallback| fallback.id > before.fallback.id);
        }
        let mut last = before.map_or(PreKeyId::ZERO, |before| before.last_one_time);
        new.one_time.retain(|key| {
            let is_fresh = key.id > last;
            last = last.max(key.id);
            is_fresh
        });
        new
    }

    /// What is stored once `new` is; `None` where that may not be: too many one-time keys, or no identity key or
    /// fallback.
    pub fn with(before: Option<&Self>, new: NewKeys) -> Option<Self> {
        let NewKeys { identity, fallback, one_time } = Self::fresh(before, new);
        let mut keys = Self {
            identity: identity.or(before.map(|before| before.identity))?,
            fallback: fallback.or(before.map(|before| before.fallback))?,
            last_one_time: before.map_or(PreKeyId::ZERO, |before| before.last_one_time),
            one_time: before.map(|before| before.one_time.clone()).unwrap_or_default(),
        };
        keys.last_one_time = one_time.last().map_or(keys.last_one_time, |key| key.id);
        keys.one_time.extend(one_time);
        (keys.one_time.len() <= ONE_TIME_KEYS_MAX).then_some(keys)
    }

    /// One-time keys that are left.
    pub fn left(&self) -> u32 {
        u32::try_from(self.one_time.len()).expect("at most a hundred")
    }

    /// Takes the oldest one-time key out.
    fn take_one_time(&mut self) -> Option<PreKey> {
        if planted::is(Planted::KeyTwice) {
            return self.one_time.first().copied();
        }
        (!self.one_time.is_empty()).then(|| self.one_time.remove(0))
    }
}

impl Row for DeviceKeys {
    const KIND: u8 = 0x39;
    type Key = DeviceAddress;

    fn map(layer: &Layer) -> &RowMap<Self> {
        &layer.device_keys
    }

    fn map_mut(layer: &mut Layer) -> &mut RowMap<Self> {
        &mut layer.device_keys
    }

    fn encode_key(key: &DeviceAddress, out: &mut Vec<u8>) {
        out.extend_from_slice(&key.to_bytes());
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_identity(&self.identity, out);
        put_short(&self.fallback, out);
        out.put_varint(self.last_one_time.get());
        for key in &self.one_time {
            put_short(key, out);
        }
    }

    fn decode(value: Bytes) -> Result<Self> {
        let mut take = Take::new(value, "device keys row");
        let identity = take_identity(&mut take)?;
        let fallback = take_short(&mut take)?;
        let last_one_time = PreKeyId::new(take.take_varint()?);
        let mut one_time: Vec<PreKey> = Vec::new();
        while !take.is_empty() {
            let key = take_short(&mut take)?;
            let before = one_time.last().map_or(PreKeyId::ZERO, |last| last.id);
            if key.id <= before || key.id > last_one_time || one_time.len() >= ONE_TIME_KEYS_MAX {
                return Err(take.malformed("its one-time keys are out of order, or too many"));
            }
            one_time.push(key);
        }
        Ok(Self { identity, fallback, last_one_time, one_time })
    }

    fn variable_bytes(&self) -> usize {
        self.one_time.capacity() * size_of::<PreKey>()
    }
}

const HAS_IDENTITY: u8 = 1;
const HAS_FALLBACK: u8 = 2;
/// Bytes of a pre-key in a command.
const PRE_KEY_BYTES: usize = 104;

pub(super) fn new_keys_bytes_max(keys: &NewKeys) -> usize {
    1 + 96 + PRE_KEY_BYTES + 4 + PRE_KEY_BYTES * keys.one_time.len()
}

pub(super) fn put_new_keys(keys: &NewKeys, out: &mut Vec<u8>) {
    let has_identity = if keys.identity.is_some() { HAS_IDENTITY } else { 0 };
    out.put_u8(has_identity | if keys.fallback.is_some() { HAS_FALLBACK } else { 0 });
    if let Some(identity) = &keys.identity {
        put_identity(identity, out);
    }
    keys.fallback.iter().for_each(|key| put_pre_key(key, out));
    out.put_u32(u32::try_from(keys.one_time.len()).expect("bounded"));
    keys.one_time.iter().for_each(|key| put_pre_key(key, out));
}

pub(super) fn take_new_keys(take: &mut Take) -> Result<NewKeys> {
    let has = take.take_u8()?;
    if has & !(HAS_IDENTITY | HAS_FALLBACK) != 0 {
        return Err(take.malformed("which keys it has is unknown"));
    }
    let identity = (has & HAS_IDENTITY != 0).then(|| take_identity(take)).transpose()?;
    let fallback = (has & HAS_FALLBACK != 0).then(|| take_pre_key(take)).transpose()?;
    let count = take.take_count(PRE_KEY_BYTES)?;
    let one_time = (0..count).map(|_| take_pre_key(take)).collect::<Result<_>>()?;
    Ok(NewKeys { identity, fallback, one_time })
}

fn put_identity(identity: &IdentityKey, out: &mut Vec<u8>) {
    out.extend_from_slice(&identity.key);
    out.extend_from_slice(&identity.signature);
}

fn take_identity(take: &mut Take) -> Result<IdentityKey> {
    Ok(IdentityKey { key: take.take_key()?, signature: take.take_signature()? })
}

fn put_pre_key(key: &PreKey, out: &mut Vec<u8>) {
    out.put_u64(key.id.get());
    put_rest(key, out);
}

fn take_pre_key(take: &mut Take) -> Result<PreKey> {
    let id = take.take_u64()?;
    take_rest(id, take)
}

/// The same with a shorter id, for rows.
fn put_short(key: &PreKey, out: &mut Vec<u8>) {
    out.put_varint(key.id.get());
    put_rest(key, out);
}

fn take_short(take: &mut Take) -> Result<PreKey> {
    let id = take.take_varint()?;
    take_rest(id, take)
}

/// What follows the id in either form: the same as of an identity key.
fn put_rest(key: &PreKey, out: &mut Vec<u8>) {
    put_identity(&IdentityKey { key: key.key, signature: key.signature }, out);
}

fn take_rest(id: u64, take: &mut Take) -> Result<PreKey> {
    let IdentityKey { key, signature } = take_identity(take)?;
    Ok(PreKey { id: PreKeyId::new(id), key, signature })
}

impl State {
    pub(super) fn want_keys(&self, user: UserId, devices: &[DeviceId], missing: &mut Vec<RowKey>) {
        for device in devices {
            let address = DeviceAddress { user, device: *device };
            self.want::<Device>(address, RowKey::Device, missing);
            self.want::<DeviceKeys>(address, RowKey::DeviceKeys, missing);
        }
    }

    pub(super) fn apply_put_keys(&mut self, device: DeviceAddress, new: NewKeys) -> Outcome {
        if self.get::<Device>(&device).is_none() {
            return Outcome::Refused(Code::Unauthenticated);
        }
        let before = self.get::<DeviceKeys>(&device);
        let Some(keys) = DeviceKeys::with(before, new) else {
            return Outcome::Refused(Code::InvalidArgument);
        };
        let left = keys.left();
        if before != Some(&keys) {
            self.active.insert(device, Some(keys));
        }
        Outcome::KeysStored(left)
    }

    /// A device that does not exist any more, or has stored nothing, gives nothing.
    pub(super) fn apply_take_keys(&mut self, user: UserId, devices: &[DeviceId], effects: &mut Effects) -> Outcome {
        let mut bundles = Vec::with_capacity(devices.len());
        for device in devices {
            let address = DeviceAddress { user, device: *device };
            let device_key = self.get::<Device>(&address).map(|row| row.key);
            let keys = self.get::<DeviceKeys>(&address);
            let (Some(device_key), Some(keys)) = (device_key, keys) else {
                continue;
            };
            let (identity, fallback) = (keys.identity, keys.fallback);
            let mut taken = None;
            if !keys.one_time.is_empty() {
                let keys = self.edit::<DeviceKeys>(address).as_mut().expect("it was just looked at");
                taken = keys.take_one_time();
                let left = keys.left();
                if keys.one_time.len() < KEYS_LOW_AT {
                    effects.effects.push(Effect::KeysLow { device: address, left });
                }
            }
            let (pre_key, one_time) = (taken.unwrap_or(fallback), taken.is_some());
            bundles.push(KeyBundle { device: *device, device_key, identity, pre_key, one_time });
        }
        Outcome::Keys(bundles)
    }
}

#[cfg(test)]
pub(super) mod tests;
