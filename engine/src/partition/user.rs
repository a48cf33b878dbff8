//! Users and handles: their rows, their apply.
//!
//! A registration touches two partitions, the handle's and the user's, in three idempotent steps: claim, create,
//! confirm. A crash between them leaves a reservation that the same device key may finish, and that another may take
//! over after [`CLAIM_MS`].
//!
//! Invariants
//! - A confirmed handle never changes hands.
//! - The devices of a user are those of its row; see [`super::device`].

use bytes::Bytes;
use columba_wire::{Code, DeviceAddress, DeviceId, UserId};

use super::{
    State,
    codec::{Put as _, Take},
    deletion::Errand,
    device::Device,
    effect::Outcome,
    rows::{Layer, Row, RowMap},
};
use crate::error::Result;

/// Milliseconds after which an unconfirmed claim of a handle may be taken over.
pub const CLAIM_MS: u64 = 60_000;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The handle.
    pub handle: String,
    /// When it registered, milliseconds since 1970.
    pub created_ms: u64,
    /// Devices, ascending.
    pub devices: Vec<DeviceId>,
    /// The number that the next device gets.
    pub next_device: u32,
}

impl User {
    /// Grows by one with each device that is added or revoked.
    pub fn devices_version(&self) -> u32 {
        let given = self.next_device - 1;
        let live = u32::try_from(self.devices.len()).expect("few");
        given.saturating_add(given - live)
    }
}

/// A handle as key: its length and bytes, padded with zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandleKey([u8; 33]);

impl HandleKey {
    /// The key of a valid handle.
    pub fn new(handle: &str) -> Self {
        assert!(columba_wire::ids::handle_is_valid(handle), "handles are checked where they come in");
        let mut key = [0; 33];
        key[0] = u8::try_from(handle.len()).expect("at most 32 bytes");
        key[1..=handle.len()].copy_from_slice(handle.as_bytes());
        Self(key)
    }
}

/// Who has a handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle {
    /// The user.
    pub user: UserId,
    /// The device key that claimed it.
    pub device_key: [u8; 32],
    /// When it was claimed, milliseconds since 1970.
    pub claimed_ms: u64,
    /// Whether the user exists.
    pub confirmed: bool,
}

/// When a user was last online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastSeen {
    /// Milliseconds since 1970.
    pub time_ms: u64,
}

impl Row for User {
    const KIND: u8 = 0x30;
    type Key = UserId;

    fn map(layer: &Layer) -> &RowMap<Self> {
        &layer.users
    }

    fn map_mut(layer: &mut Layer) -> &mut RowMap<Self> {
        &mut layer.users
    }

    fn encode_key(key: &UserId, out: &mut Vec<u8>) {
        out.put_user(*key);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_bytes(self.handle.as_bytes());
        out.put_u64(self.created_ms);
        out.put_u32(self.next_device);
        out.put_u32(u32::try_from(self.devices.len()).expect("few"));
        for device in &self.devices {
            out.put_u32(device.get());
        }
    }

    fn decode(value: Bytes) -> Result<Self> {
        let mut take = Take::new(value, "user row");
        let handle = take.take_string()?;
        let created_ms = take.take_u64()?;
        let next_device = take.take_u32()?;
        let count = take.take_count(4)?;
        let mut devices = Vec::with_capacity(count);
        for _ in 0..count {
            let device = DeviceId::new(take.take_u32()?);
            devices.push(device.map_err(|_| crate::Error::Malformed { what: "user row", reason: "device 0" })?);
        }
        take.finish()?;
        Ok(Self { handle, created_ms, devices, next_device })
    }
}

impl Row for Handle {
    const KIND: u8 = 0x31;
    type Key = HandleKey;

    fn map(layer: &Layer) -> &RowMap<Self> {
        &layer.handles
    }

    fn map_mut(layer: &mut Layer) -> &mut RowMap<Self> {
        &mut layer.handles
    }

    fn encode_key(key: &HandleKey, out: &mut Vec<u8>) {
        out.extend_from_slice(&key.0);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_user(self.user);
        out.extend_from_slice(&self.device_key);
        out.put_u64(self.claimed_ms);
        out.put_u8(u8::from(self.confirmed));
    }

    fn decode(value: Bytes) -> Result<Self> {
        let mut take = Take::new(value, "handle row");
        let row = Self {
            user: take.take_user()?,
            device_key: take.take_key()?,
            claimed_ms: take.take_u64()?,
            confirmed: take.take_u8()? == 1,
        };
        take.finish()?;
        Ok(row)
    }
}

impl Row for LastSeen {
    const KIND: u8 = 0x33;
    type Key = UserId;

    fn map(layer: &Layer) -> &RowMap<Self> {
        &layer.last_seen
    }

    fn map_mut(layer: &mut Layer) -> &mut RowMap<Self> {
        &mut layer.last_seen
    }

    fn encode_key(key: &UserId, out: &mut Vec<u8>) {
        out.put_user(*key);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.time_ms);
    }

    fn decode(value: Bytes) -> Result<Self> {
        let mut take = Take::new(value, "last-seen row");
        let row = Self { time_ms: take.take_u64()? };
        take.finish()?;
        Ok(row)
    }
}

impl State {
    pub(super) fn apply_claim(&mut self, handle: &str, user: UserId, device_key: [u8; 32], time_ms: u64) -> Outcome {
        let row = self.edit::<Handle>(HandleKey::new(handle));
        match row {
            Some(held) if held.device_key == device_key => Outcome::Claimed(held.user),
            Some(held) if held.confirmed || time_ms < held.claimed_ms.saturating_add(CLAIM_MS) => {
                Outcome::Refused(Code::HandleTaken)
            }
            _ => {
                *row = Some(Handle { user, device_key, claimed_ms: time_ms, confirmed: false });
                Outcome::Claimed(user)
            }
        }
    }

    pub(super) fn apply_create_user(&mut self, user: UserId, handle: String, first: Device) -> Outcome {
        if self.get::<Errand>(&user).is_some() {
            // It was deleted, and its handle is about to be free: whoever registers then is another user.
            return Outcome::Refused(Code::Unavailable);
        }
        let row = self.edit::<User>(user);
        if row.is_none() {
            let created_ms = first.created_ms;
            *row = Some(User { handle, created_ms, devices: vec![DeviceId::FIRST], next_device: 2 });
            let device = DeviceAddress { user, device: DeviceId::FIRST };
            *self.edit::<Device>(device) = Some(first);
        }
        Outcome::Done
    }

    pub(super) fn apply_confirm_handle(&mut self, handle: &str, user: UserId) -> Outcome {
        match self.edit::<Handle>(HandleKey::new(handle)) {
            Some(held) if held.user == user => {
                held.confirmed = true;
                Outcome::Done
            }
            _ => Outcome::Refused(Code::HandleTaken),
        }
    }

    pub(super) fn apply_last_seen(&mut self, items: &[(UserId, u64)]) -> Outcome {
        for (user, time_ms) in items {
            if self.get::<User>(user).is_none() {
                continue;
            }
            let row = self.edit::<LastSeen>(*user);
            let before = row.map_or(0, |row| row.time_ms);
            *row = Some(LastSeen { time_ms: before.max(*time_ms) });
        }
        Outcome::Done
    }
}
