//! The devices of the account: linking a new one, listing, naming, revoking.

use bytes::Bytes;
use columba_wire::{
    DeviceId, UserId,
    link::GivenCode,
    v1::{self, client_frame::Kind},
};

use crate::{
    client::{Client, unexpected},
    driver::Ask,
    error::{Error, Result},
    session::{Reply, id_bytes},
    types::{Device, LinkOffer, LinkRequest},
};

impl Client {
    /// Asks for a code that a device of an account approves, so that this one becomes another device of it.
    ///
    /// Show the code; [`crate::Event::Linked`] tells that it was approved, and the session is open then.
    /// [`crate::Event::LinkFailed`] tells that it was not in time: ask for another.
    ///
    /// # Errors
    /// `AlreadyRegistered`, `Refused` (`RATE_LIMITED`), `TimedOut`.
    pub async fn begin_link(&self) -> Result<LinkOffer> {
        match self.call(Ask::BeginLink).await? {
            Reply::LinkOffer(offer) => Ok(offer),
            other => Err(unexpected(&other)),
        }
    }

    /// Looks who waits behind a code, as it was typed or scanned. Let the user say whether that is the device in front
    /// of them before [`Self::approve_link`].
    ///
    /// # Errors
    /// `Refused` with `LINK_UNKNOWN`, also where the code was scanned from a device with another key; `RATE_LIMITED`;
    /// `InvalidOption` for what is no code; `TimedOut`, `TooManyRequests`.
    pub async fn find_link(&self, code: &str) -> Result<LinkRequest> {
        let given = parse(code)?;
        match self.call(Ask::Request(Kind::GetLink(v1::GetLink { code: given.code.as_str().to_owned() }))).await? {
            Reply::LinkRequest(request) if given.is_of(&request.key) => Ok(request),
            Reply::LinkRequest(_) => {
                let message = "another device shows this code".to_owned();
                Err(Error::Refused { code: columba_wire::Code::LinkUnknown, message })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Makes the device that was found behind a code one of this account. Its number. `name`: how it is called; where
    /// it is empty, as it calls itself.
    ///
    /// # Errors
    /// `Refused` with `LINK_UNKNOWN` or `TOO_MANY`, `InvalidOption`, `TimedOut`, `TooManyRequests`.
    pub async fn approve_link(&self, code: &str, request: &LinkRequest, name: &str) -> Result<DeviceId> {
        let approve = v1::ApproveLink {
            code: parse(code)?.code.as_str().to_owned(),
            device_key: Bytes::copy_from_slice(&request.key),
            name: name.to_owned(),
        };
        match self.call(Ask::Request(Kind::ApproveLink(approve))).await? {
            Reply::Device(number) => Ok(number),
            other => Err(unexpected(&other)),
        }
    }

    /// The devices of this account, in order of their numbers.
    ///
    /// # Errors
    /// `Refused`, `TimedOut`, `TooManyRequests`.
    pub async fn devices(&self) -> Result<Vec<Device>> {
        self.list_devices(v1::GetDevices::default()).await
    }

    /// The devices of a user, in order of their numbers: their keys. The names of another user's devices, when they
    /// were added and which are online are not told.
    ///
    /// # Errors
    /// `Refused` with `UNKNOWN_USER`, `TimedOut`, `TooManyRequests`.
    pub async fn devices_of(&self, user: UserId) -> Result<Vec<Device>> {
        self.list_devices(v1::GetDevices { user_id: id_bytes(user.as_bytes()) }).await
    }

    async fn list_devices(&self, get: v1::GetDevices) -> Result<Vec<Device>> {
        match self.call(Ask::Request(Kind::GetDevices(get))).await? {
            Reply::Devices(devices) => Ok(devices),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives a device another name, of at most 64 bytes.
    ///
    /// # Errors
    /// `Refused` with `INVALID_ARGUMENT` where there is no such device, `TimedOut`, `TooManyRequests`.
    pub async fn rename_device(&self, number: DeviceId, name: &str) -> Result<()> {
        let rename = v1::RenameDevice { device_id: number.get(), name: name.to_owned() };
        self.done(Kind::RenameDevice(rename)).await
    }

    /// Ends a device, this one included: its session ends, and it never logs in again.
    ///
    /// # Errors
    /// `Refused` with `INVALID_ARGUMENT` where there never was such a device, `TimedOut`, `TooManyRequests`.
    pub async fn revoke_device(&self, number: DeviceId) -> Result<()> {
        self.done(Kind::RevokeDevice(v1::RevokeDevice { device_id: number.get() })).await
    }
}

fn parse(code: &str) -> Result<GivenCode> {
    code.parse().map_err(|error: columba_wire::ids::InvalidId| Error::InvalidOption(error.to_string()))
}
