//! The account's devices: listed, linked, named, revoked; and this one while it waits to be linked.

use columba_wire::DeviceId;

use super::{Answer, Ask, Tone, View};
use crate::{
    chat::{
        args::reason,
        qr,
        text::{clock, printable},
    },
    error::{Error, Result},
    types::{Account, Device, LinkOffer, LinkRequest},
};

impl View {
    /// Without an account it waits to be linked, instead of registering.
    pub(in crate::chat) fn link_first(&mut self) {
        self.links = true;
    }

    pub(super) fn link(&mut self, code: String, approves: bool) {
        self.ask(Ask::FindLink { code, approves });
    }

    /// What became of a request about devices.
    pub(super) fn handle_devices_answer(&mut self, answer: DevicesAnswer) {
        match answer {
            DevicesAnswer::Offered(result) => self.handle_offered(result),
            DevicesAnswer::Listed(result) => self.handle_listed(result),
            DevicesAnswer::Found { code, approves, result } => self.handle_link_found(code, approves, result),
            DevicesAnswer::Added { name, result } => match result {
                Ok(number) => self.notice(format!("device {number}, {name}, belongs to this account now")),
                Err(error) => self.trouble(format!("{name} was not linked: {}", reason(&error))),
            },
            DevicesAnswer::Renamed { number, result } => match result {
                Ok(()) => self.notice(format!("device {number} has a new name")),
                Err(error) => self.trouble(format!("device {number} was not renamed: {}", reason(&error))),
            },
            DevicesAnswer::Revoked { number, result } => match result {
                Ok(()) => self.notice(format!("device {number} was revoked")),
                Err(error) => self.trouble(format!("device {number} was not revoked: {}", reason(&error))),
            },
        }
    }

    fn handle_offered(&mut self, result: Result<LinkOffer>) {
        match result {
            Ok(offer) => {
                for line in qr::lines(&offer.scanned) {
                    self.print(Tone::Message, line);
                }
                let seconds = offer.expires_in.as_secs();
                self.notice(format!("within {seconds} s, on a device of the account: /link {}", offer.code));
            }
            // The node is away; the events tell so.
            Err(Error::TimedOut(_)) => self.ask(Ask::BeginLink),
            Err(error) => self.ended = Some(error),
        }
    }

    /// This device belongs to an account now.
    pub(super) fn handle_linked(&mut self, account: Account) {
        let (handle, device) = (printable(account.handle.as_bytes()), account.device);
        self.notice(format!("linked: this is device {device} of {handle}"));
        if account.handle != self.handle {
            self.ended = Some(Error::AlreadyRegistered { handle });
            return;
        }
        self.handle_account(account);
        self.ask(Ask::OwnChats);
    }

    pub(super) fn handle_link_failed(&mut self, error: &Error) {
        self.notice(format!("not linked ({}): here is a new code", reason(error)));
        self.ask(Ask::BeginLink);
    }

    fn handle_listed(&mut self, result: Result<Vec<Device>>) {
        let devices = match result {
            Ok(devices) => devices,
            Err(error) => return self.trouble(format!("no devices: {}", reason(&error))),
        };
        let me = self.me.as_ref().map(|me| me.device);
        for device in devices {
            let name = printable(device.name.as_bytes());
            let name = if name.is_empty() { String::new() } else { format!(", {name}") };
            let since = clock(device.created_ms, self.now_ms);
            let online = if device.online { ", online" } else { "" };
            let this = if Some(device.number) == me { ", this one" } else { "" };
            self.notice(format!("device {}{name}, since {since}{online}{this}", device.number));
        }
    }

    fn handle_link_found(&mut self, code: String, approves: bool, result: Result<LinkRequest>) {
        let request = match result {
            Ok(request) => request,
            Err(error) => return self.trouble(format!("no device waits for that: {}", reason(&error))),
        };
        if approves {
            return self.ask(Ask::ApproveLink { code, request });
        }
        let (name, agent) = (printable(request.name.as_bytes()), printable(request.agent.as_bytes()));
        let code = printable(code.as_bytes());
        self.notice(format!(
            "a device that calls itself {name:?} ({agent}) waits; once linked it reads and writes everything. If it is \
             yours: /link {code} yes"
        ));
    }
}

/// What became of an [`Ask`] about devices.
#[derive(Debug)]
pub(in crate::chat) enum DevicesAnswer {
    Offered(Result<LinkOffer>),
    Listed(Result<Vec<Device>>),
    Found { code: String, approves: bool, result: Result<LinkRequest> },
    Added { name: String, result: Result<DeviceId> },
    Renamed { number: DeviceId, result: Result<()> },
    Revoked { number: DeviceId, result: Result<()> },
}

impl From<DevicesAnswer> for Answer {
    fn from(answer: DevicesAnswer) -> Self {
        Self::Devices(answer)
    }
}
