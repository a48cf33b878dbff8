//! Devices of a user: questions about them, and the way of a new one from its link code to its session.
//!
//! ```text
//!   BeginLink    a code -> LinkTable of the code's core            the new device's session waits
//!   GetLink      LinkTable -> who waits
//!   ApproveLink  LinkTable -> taken out -> AddDevice (durable) -> Linked to the session that waits, which is open then
//! ```
//!
//! Invariants
//! - A code is taken out before the device is added: two users that approve the same one do not both get it.
//! - A device that could not be added waits on under its code.

use columba_engine::{
    env::{Clock, Disk},
    partition::{command::Command, effect::Outcome},
};
use columba_wire::{
    Code, DeviceAddress, DeviceId, UserId,
    link::LinkCode,
    v1::{self, server_frame::Kind},
};

use super::{error_kind, to_done};
use crate::{
    core::{
        Core, host,
        links::{NewDevice, Waiting},
        message::{Answer, Ask, DevicesAsk, LinkAsk, SessionId, SessionMessage, SessionRef},
        state::Verdict,
    },
    session::Approval,
};

/// Codes that are tried until one is not taken: of 2^40 a few thousand are.
const CODES_TRIED_MAX: usize = 4;

impl<D: Disk, C: Clock> Core<D, C> {
    /// A device wants to be linked: finds it a code.
    pub(super) async fn begin_link(&self, session: SessionId, request_id: u64, device: NewDevice) {
        let waiting = Waiting { session: SessionRef { core: self.options.core, session }, device };
        let mut found = Err(Code::Overloaded);
        for _ in 0..CODES_TRIED_MAX {
            let code = self.state.borrow_mut().new_link_code();
            if let Answer::Done = self.ask_link(code, LinkAsk::Open(waiting.clone())).await {
                found = Ok(code);
                break;
            }
        }
        self.with_state(|state| state.handle_verdict(session, request_id, Verdict::LinkCode(found)));
    }

    /// A user approves a link.
    pub(super) async fn approve_link(&self, session: SessionId, request_id: u64, approval: Approval) {
        let kind = match self.try_approve_link(approval).await {
            Ok(device) => Kind::DeviceAdded(v1::DeviceAdded { device_id: device.get() }),
            Err(code) => error_kind(code),
        };
        self.with_state(|state| state.reply(session, SessionMessage::Reply(request_id, kind)));
    }

    async fn try_approve_link(&self, approval: Approval) -> Result<DeviceId, Code> {
        let Approval { user, code, key, name } = approval;
        let waiting = match self.ask_link(code, LinkAsk::Take(key)).await {
            Answer::Linked(waiting) => waiting,
            Answer::Refused(Code::LinkUnknown) => {
                // It may be that the answer to this very request was lost.
                let (device, _) = added(self.ask_user(user, Ask::Devices(user, DevicesAsk::Find(key))).await)?;
                return Ok(device);
            }
            Answer::Refused(code) => return Err(code),
            _ => return Err(Code::Internal),
        };
        let name = if name.is_empty() { waiting.device.name.clone() } else { name };
        match added(self.ask_user(user, Ask::Devices(user, DevicesAsk::Add(key, name))).await) {
            Ok((device, handle)) => {
                let address = DeviceAddress { user, device };
                self.with_state(|state| state.route_session(waiting.session, SessionMessage::Linked(address, handle)));
                Ok(device)
            }
            Err(refused) => {
                self.ask_link(code, LinkAsk::Open(waiting)).await;
                Err(refused)
            }
        }
    }

    async fn ask_link(&self, code: LinkCode, ask: LinkAsk) -> Answer {
        let to = self.state.borrow().router.link(code);
        self.ask(to, Ask::Link(code, ask)).await
    }

    pub(super) fn answer_link(&self, code: LinkCode, ask: LinkAsk) -> Result<Answer, Code> {
        self.with_state(|state| {
            let now = state.now;
            match ask {
                LinkAsk::Open(waiting) => {
                    let is_free = state.links.table.open(code, waiting, now);
                    if is_free { Ok(Answer::Done) } else { Err(Code::Overloaded) }
                }
                LinkAsk::Look => {
                    let device = state.links.table.look(code, now).ok_or(Code::LinkUnknown)?;
                    Ok(Answer::Reply(link_info(device.clone())))
                }
                LinkAsk::Take(key) => {
                    let waiting = state.links.table.take(code, &key, now).ok_or(Code::LinkUnknown)?;
                    Ok(Answer::Linked(waiting))
                }
            }
        })
    }

    pub(super) async fn answer_devices(&self, user: UserId, ask: DevicesAsk) -> Result<Answer, Code> {
        let partition = self.owned(|core| core.state.borrow().router.user(user));
        let failed = |error| self.code_of(&error);
        match ask {
            DevicesAsk::List { is_own } => {
                let row = partition.user(user).await.map_err(failed)?.ok_or(Code::UnknownUser)?;
                let mut devices = Vec::with_capacity(row.devices.len());
                for device in &row.devices {
                    let address = DeviceAddress { user, device: *device };
                    let Some(found) = partition.device(address).await.map_err(failed)? else {
                        // Revoked while the others were read.
                        continue;
                    };
                    let (device_id, device_key) = (device.get(), bytes::Bytes::copy_from_slice(&found.key));
                    devices.push(if is_own {
                        let online = self.state.borrow().live.session_of(address).is_some();
                        let (name, created_ms) = (found.name, found.created_ms);
                        v1::Device { device_id, device_key, name, created_ms, online }
                    } else {
                        v1::Device { device_id, device_key, ..v1::Device::default() }
                    });
                }
                let version = row.devices_version();
                Ok(Answer::Reply(Kind::Devices(v1::Devices { devices, version })))
            }
            DevicesAsk::Add(key, name) => {
                let time_ms = self.clock.wall().as_millis();
                let handle = partition.user(user).await.map_err(failed)?.ok_or(Code::UnknownUser)?.handle;
                match self.propose(partition.id(), Command::AddDevice { user, key, name, time_ms }).await? {
                    Outcome::DeviceAdded(device) => Ok(Answer::DeviceAdded(device, handle)),
                    other => Err(host::refusal(&other).unwrap_or(Code::Internal)),
                }
            }
            DevicesAsk::Find(key) => {
                let row = partition.user(user).await.map_err(failed)?.ok_or(Code::LinkUnknown)?;
                for device in row.devices {
                    let found = partition.device(DeviceAddress { user, device }).await.map_err(failed)?;
                    if found.is_some_and(|found| found.key == key) {
                        return Ok(Answer::DeviceAdded(device, row.handle));
                    }
                }
                Err(Code::LinkUnknown)
            }
            DevicesAsk::Rename(device, name) => {
                let device = DeviceAddress { user, device };
                to_done(&self.propose(partition.id(), Command::RenameDevice { device, name }).await?)
            }
            DevicesAsk::Revoke(device) => {
                let device = DeviceAddress { user, device };
                to_done(&self.propose(partition.id(), Command::RevokeDevice(device)).await?)
            }
        }
    }
}

fn added(answer: Answer) -> Result<(DeviceId, String), Code> {
    match answer {
        Answer::DeviceAdded(device, handle) => Ok((device, handle)),
        Answer::Refused(code) => Err(code),
        _ => Err(Code::Internal),
    }
}

/// What waits behind a code, as a frame.
fn link_info(device: NewDevice) -> Kind {
    let NewDevice { key, name, agent } = device;
    Kind::LinkInfo(v1::LinkInfo { device_key: bytes::Bytes::copy_from_slice(&key), name, agent })
}
