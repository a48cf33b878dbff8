//! Linking this device to an account that has another one: a code is shown, somebody approves it there.
//!
//! Invariants
//! - A link ends in one way: linked, or failed. Its caller gets the code; what became of it is an event.
//! - A code lives as long as its connection: where that breaks the link has failed, and the application begins anew.

use core::time::Duration;

use bytes::Bytes;
use columba_wire::{
    DeviceId, UserId,
    auth::{Binding, NONCE_BYTES, link_bytes},
    limits::{HEARTBEAT_MS, LINK_MS_MAX},
    link::LinkCode,
    v1::{self, client_frame::Kind},
};
use ed25519_dalek::Signer as _;

use super::{Output, Phase, Reply, Session, Token};
use crate::{
    error::Error,
    limits::LOGIN_TIMEOUT,
    types::{Account, Device, Event, LinkOffer, LinkRequest},
};

/// Between the pings of a device that waits.
const PING_EVERY: Duration = Duration::from_millis(HEARTBEAT_MS as u64);

/// A link that is under way.
#[derive(Debug)]
pub(crate) struct Linking {
    /// Who waits for the code; `None` once it is told.
    token: Option<Token>,
    deadline: Duration,
}

impl Session {
    /// Link this device to the account of whoever approves it.
    pub(crate) fn handle_begin_link(&mut self, now: Duration, token: Token) {
        if let Some(account) = &self.account {
            let handle = account.handle.clone();
            return self.reply(token, Err(Error::AlreadyRegistered { handle }));
        }
        match self.begin_entry(now) {
            Ok(deadline) => self.linking = Some(Linking { token: Some(token), deadline }),
            Err(error) => self.reply(token, Err(error)),
        }
    }

    /// When the caller has waited for a code long enough.
    pub(super) fn link_deadline(&self) -> Option<Duration> {
        self.linking.as_ref().filter(|linking| linking.token.is_some()).map(|linking| linking.deadline)
    }

    pub(super) fn expire_link(&mut self, now: Duration) {
        if self.link_deadline().is_some_and(|deadline| deadline <= now) {
            self.fail_link(&Error::TimedOut(self.request_patience));
        }
    }

    /// The link is over, and was not approved.
    pub(super) fn fail_link(&mut self, reason: &Error) {
        let Some(linking) = self.linking.take() else {
            return;
        };
        match linking.token {
            Some(token) => self.reply(token, Err(reason.clone())),
            None => self.outputs.push_back(Output::Event(Event::LinkFailed { reason: reason.clone() })),
        }
    }

    /// The connection is gone: so is the code, if there was one.
    pub(super) fn interrupt_link(&mut self, reason: &Error) {
        if self.linking.as_ref().is_some_and(|linking| linking.token.is_none()) {
            self.fail_link(reason);
        }
    }

    pub(super) fn prove_link(&self, nonce: &[u8; NONCE_BYTES], binding: &Binding) -> Option<Kind> {
        self.linking.as_ref()?;
        let key = self.key.verifying_key().to_bytes();
        let signature = self.key.sign(&link_bytes(nonce, binding, &key, &self.device_name)).to_bytes();
        Some(Kind::BeginLink(v1::BeginLink {
            device_key: Bytes::copy_from_slice(&key),
            name: self.device_name.clone(),
            binding: binding.kind.into(),
            signature: Bytes::copy_from_slice(&signature),
        }))
    }

    pub(super) fn handle_link_code(&mut self, now: Duration, answer: &v1::LinkCode) {
        let (Some(linking), Phase::Proving { .. }) = (&mut self.linking, &self.phase) else {
            return self.disconnect(Error::Protocol("a link code out of turn".to_owned()));
        };
        let (Ok(code), Some(token)) = (answer.code.parse::<LinkCode>(), linking.token.take()) else {
            return self.disconnect(Error::Protocol("a link code of the wrong form, or a second one".to_owned()));
        };
        let expires_in = Duration::from_millis(u64::from(answer.expires_in_ms).min(2 * LINK_MS_MAX));
        let scanned = code.to_scanned(&self.key.verifying_key().to_bytes());
        // The server ends it; what comes behind is for one that does not.
        self.phase = Phase::Linking { until: now + expires_in + LOGIN_TIMEOUT, ping_at: now + PING_EVERY };
        self.reply(token, Ok(Reply::LinkOffer(LinkOffer { code, scanned, expires_in })));
    }

    /// Time has passed while the code is shown.
    pub(super) fn wait_for_link(&mut self, now: Duration) {
        let Phase::Linking { until, ping_at } = &mut self.phase else {
            return;
        };
        if *until <= now {
            self.disconnect(Error::Silent);
        } else if *ping_at <= now {
            *ping_at = now + PING_EVERY;
            self.push_urgent(Kind::Ping(v1::Ping {}));
        }
    }

    pub(super) fn handle_linked(&mut self, now: Duration, linked: v1::Linked) {
        if !matches!(self.phase, Phase::Linking { .. }) {
            return self.disconnect(Error::Protocol("linked without being asked".to_owned()));
        }
        let ids = (UserId::try_from(&linked.user_id[..]), DeviceId::new(linked.device_id));
        let (Ok(user), Ok(device)) = ids else {
            return self.disconnect(Error::Protocol("ids of the wrong form".to_owned()));
        };
        self.linking = None;
        let account = Account { user, device, handle: linked.handle };
        // Its chats have begun without it.
        self.complete = !account.is_linked();
        self.account = Some(account.clone());
        self.outputs.push_back(Output::Account(account.clone()));
        self.outputs.push_back(Output::Event(Event::Linked(account)));
        self.phase = Phase::Proving { until: now + LOGIN_TIMEOUT };
    }
}

/// What waits behind a code, which the answer does not repeat.
pub(super) fn parse_link_info(info: v1::LinkInfo) -> Option<LinkRequest> {
    Some(LinkRequest { key: info.device_key[..].try_into().ok()?, name: info.name, agent: info.agent })
}

pub(super) fn parse_devices(devices: v1::Devices) -> Option<Vec<Device>> {
    let device = |device: v1::Device| {
        Some(Device {
            number: DeviceId::new(device.device_id).ok()?,
            key: device.device_key[..].try_into().ok()?,
            name: device.name,
            created_ms: device.created_ms,
            online: device.online,
        })
    };
    devices.devices.into_iter().map(device).collect()
}
