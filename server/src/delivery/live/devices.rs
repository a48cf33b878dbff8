//! A user's devices come and go: what that means for sessions and obligations.

use std::collections::BTreeSet;

use columba_wire::{DeviceAddress, DeviceId, UserId};

use super::{Live, LiveOutput, Progress};
use crate::core::message::SessionRef;

impl Live {
    /// The device's session.
    pub(crate) fn session_of(&self, address: DeviceAddress) -> Option<SessionRef> {
        self.device(address).map(|device| device.session)
    }

    /// The user has these devices now. A new one is owed what comes from here on; of a revoked one the session ends,
    /// and nobody waits for it any more.
    pub(crate) fn devices_changed(
        &mut self,
        id: UserId,
        devices: Vec<DeviceId>,
        revoked: Option<DeviceId>,
        out: &mut Vec<LiveOutput>,
    ) {
        let Some(user) = self.users.get_mut(&id) else {
            return;
        };
        let mut chats = BTreeSet::new();
        user.chats.iter_mut().for_each(|(chat, record)| {
            let before = record.devices.len();
            record.devices.retain(|progress| Some(progress.device) != revoked);
            if record.devices.len() < before {
                chats.insert(*chat);
            }
            for device in &devices {
                if record.devices.iter().all(|progress| progress.device != *device) {
                    record.devices.push(Progress::new(*device, record.received, record.received));
                }
            }
        });
        // Where they are being read they are read as they are now.
        if let Some(known) = &mut user.devices {
            *known = devices;
        }
        if let Some(device) = revoked {
            self.end_session(DeviceAddress { user: id, device }, out);
        }
        for chat in chats {
            self.report(id, chat, true, out);
        }
        self.forget_if_idle(id);
    }

    /// Ends the sessions of devices that the user does not have.
    pub(super) fn end_strangers(&mut self, id: UserId, out: &mut Vec<LiveOutput>) {
        let Some(user) = self.users.get(&id) else {
            return;
        };
        let Some(devices) = &user.devices else {
            return;
        };
        let strangers: Vec<_> = user.sessions.keys().copied().filter(|device| !devices.contains(device)).collect();
        for device in strangers {
            self.end_session(DeviceAddress { user: id, device }, out);
        }
    }

    fn end_session(&mut self, address: DeviceAddress, out: &mut Vec<LiveOutput>) {
        let Some(session) = self.remove_session(address, None, out) else {
            return;
        };
        out.push(LiveOutput::Revoked(session));
        if !self.is_online(address.user) {
            out.push(LiveOutput::Presence(address.user, false));
        }
    }
}
