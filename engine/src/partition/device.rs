//! Devices of a user: added, named, revoked.
//!
//! Invariants
//! - A device number is never reused within a user.
//! - A user has at most [`DEVICES_MAX`] devices, each with a row; no two have the same key.
//! - A revoked device has no row, and its inbox is closed: it takes nothing more, whatever is still on its way.

use bytes::Bytes;
use columba_wire::{Code, DeviceAddress, DeviceId, UserId, limits::DEVICES_MAX};

use super::{
    State,
    codec::{Put as _, Take},
    effect::{Effect, Effects, Outcome},
    keys::DeviceKeys,
    rows::{Layer, Row, RowMap},
    user::User,
};
use crate::{
    error::Result,
    planted::{self, Planted},
};

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Ed25519 public key.
    pub key: [u8; 32],
    /// What its user calls it; may be empty.
    pub name: String,
    /// When it was added, milliseconds since 1970.
    pub created_ms: u64,
}

impl Row for Device {
    const KIND: u8 = 0x32;
    type Key = DeviceAddress;

    fn map(layer: &Layer) -> &RowMap<Self> {
        &layer.devices
    }

    fn map_mut(layer: &mut Layer) -> &mut RowMap<Self> {
        &mut layer.devices
    }

    fn encode_key(key: &DeviceAddress, out: &mut Vec<u8>) {
        out.extend_from_slice(&key.to_bytes());
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key);
        out.put_varint(self.created_ms);
        out.put_bytes(self.name.as_bytes());
    }

    fn decode(value: Bytes) -> Result<Self> {
        let mut take = Take::new(value, "device row");
        let row = Self { key: take.take_key()?, created_ms: take.take_varint()?, name: take.take_string()? };
        take.finish()?;
        Ok(row)
    }
}

impl State {
    /// Idempotent by the key, as long as the device is there.
    pub(super) fn apply_add_device(&mut self, user: UserId, device: Device, effects: &mut Effects) -> Outcome {
        let Some(row) = self.get::<User>(&user) else {
            return Outcome::Refused(Code::UnknownUser);
        };
        let has_key = |number: &DeviceId| {
            let known = self.get::<Device>(&DeviceAddress { user, device: *number });
            known.is_some_and(|known| known.key == device.key)
        };
        if let Some(number) = row.devices.iter().copied().find(has_key) {
            return Outcome::DeviceAdded(number);
        }
        // The highest number is not given, so that there is always a next one.
        if row.devices.len() >= DEVICES_MAX || row.next_device > DeviceId::LAST.get() {
            return Outcome::Refused(Code::TooMany);
        }
        let row = self.edit::<User>(user).as_mut().expect("it is there");
        let number = DeviceId::new(row.next_device).expect("numbers begin at 1");
        row.next_device += 1;
        row.devices.push(number);
        let (devices, version) = (row.devices.clone(), row.devices_version());
        // Which number it gets is known only now: no row of it was loaded, and none can be there.
        self.active.insert(DeviceAddress { user, device: number }, Some(device));
        effects.effects.push(Effect::Devices { user, devices, revoked: None, version });
        Outcome::DeviceAdded(number)
    }

    pub(super) fn apply_rename_device(&mut self, device: DeviceAddress, name: String) -> Outcome {
        if self.get::<Device>(&device).is_none() {
            return Outcome::Refused(Code::InvalidArgument);
        }
        self.edit::<Device>(device).as_mut().expect("it is there").name = name;
        Outcome::Done
    }

    pub(super) fn apply_revoke_device(&mut self, device: DeviceAddress, effects: &mut Effects) -> Outcome {
        let DeviceAddress { user, device: number } = device;
        let Some(row) = self.get::<User>(&user).filter(|row| number.get() < row.next_device) else {
            return Outcome::Refused(Code::InvalidArgument);
        };
        if !row.devices.contains(&number) {
            return Outcome::Done;
        }
        let row = self.edit::<User>(user).as_mut().expect("it is there");
        row.devices.retain(|known| *known != number);
        let left = row.clone();
        self.end_device(device, &left, effects);
        Outcome::Done
    }

    /// A device is none any more, where its user has those that are `left`.
    pub(super) fn end_device(&mut self, device: DeviceAddress, left: &User, effects: &mut Effects) {
        if !planted::is(Planted::RevokedStays) {
            *self.edit::<Device>(device) = None;
        }
        self.active.insert::<DeviceKeys>(device, None);
        self.close_inbox(device);
        let (devices, version) = (left.devices.clone(), left.devices_version());
        effects.effects.push(Effect::Devices { user: device.user, devices, revoked: Some(device.device), version });
    }
}

#[cfg(test)]
mod tests;
