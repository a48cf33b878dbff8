//! From the connection to the welcome: hello, challenge, then registration or login with a signature bound to the
//! connection.

use core::time::Duration;

use bytes::Bytes;
use columba_wire::{
    DeviceAddress, DeviceId, UserId,
    auth::{Binding, NONCE_BYTES, login_bytes, register_bytes},
    ids::handle_is_valid,
    v1::{self, client_frame::Kind},
    version,
};
use ed25519_dalek::Signer as _;

use super::{Output, Phase, Reply, Session, Token, frame, heartbeat_of, id_bytes, requests::Request};
use crate::{
    error::Error,
    limits::{LOGIN_TIMEOUT, REQUESTS_MAX},
    types::Account,
};

/// A registration that is not answered yet.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(super) token: Token,
    pub(super) handle: String,
    credential: String,
    pub(super) deadline: Duration,
}

impl Session {
    /// Register under a handle. The same handle again is answered with the account.
    pub(crate) fn handle_register(&mut self, now: Duration, token: Token, handle: String, credential: String) {
        if !handle_is_valid(&handle) {
            return self.reply(token, Err(Error::InvalidHandle(handle)));
        }
        if let Some(account) = &self.account {
            let answer = if account.handle == handle {
                Ok(Reply::Account(account.clone()))
            } else {
                Err(Error::AlreadyRegistered { handle: account.handle.clone() })
            };
            return self.reply(token, answer);
        }
        match self.begin_entry(now) {
            Ok(deadline) => self.registration = Some(Registration { token, handle, credential, deadline }),
            Err(error) => self.reply(token, Err(error)),
        }
    }

    /// A device without an account begins to get one, now: until when its caller waits.
    pub(super) fn begin_entry(&mut self, now: Duration) -> Result<Duration, Error> {
        if self.is_ended() {
            return Err(Error::Closed);
        }
        if self.registration.is_some() || self.linking.is_some() {
            return Err(Error::TooManyRequests);
        }
        self.backoff.reset();
        self.reconnect_at = Some(now);
        Ok(now + self.request_patience)
    }

    /// Wait for the session to be open.
    pub(crate) fn handle_login(&mut self, now: Duration, token: Token) {
        match &self.account {
            None => self.reply(token, Err(Error::NotRegistered)),
            Some(account) if self.is_open() => {
                let account = account.clone();
                self.reply(token, Ok(Reply::Account(account)));
            }
            Some(_) if self.is_ended() => self.reply(token, Err(Error::Closed)),
            Some(_) if self.logins.len() >= REQUESTS_MAX => self.reply(token, Err(Error::TooManyRequests)),
            Some(_) => self.logins.push((token, now + self.request_patience)),
        }
    }

    pub(super) fn expire_logins(&mut self, now: Duration) {
        let patience = self.request_patience;
        if let Some(registration) = self.registration.take_if(|registration| registration.deadline <= now) {
            self.reply(registration.token, Err(Error::TimedOut(patience)));
        }
        let (expired, waiting) = self.logins.drain(..).partition(|(_, deadline)| *deadline <= now);
        self.logins = waiting;
        let expired: Vec<(Token, Duration)> = expired;
        for (token, _) in expired {
            self.reply(token, Err(Error::TimedOut(patience)));
        }
    }

    /// A connection is there. `binding`: what a signature on it is bound to.
    pub(crate) fn handle_connected(&mut self, now: Duration, binding: Binding) {
        assert!(matches!(self.phase, Phase::Offline), "a connection was not asked for");
        let agent = self.agent.clone();
        let hello = v1::Hello { versions: version::VERSIONS.to_vec(), capabilities: version::CAPABILITIES, agent };
        self.urgent.push_back(frame(1, Kind::Hello(hello)));
        self.phase = Phase::Greeting { binding, until: now + LOGIN_TIMEOUT };
    }

    pub(super) fn handle_challenge(&mut self, challenge: &v1::Challenge) {
        let Phase::Greeting { binding, until } = &self.phase else {
            return self.disconnect(Error::Protocol("a challenge out of turn".to_owned()));
        };
        let (binding, until) = (binding.clone(), *until);
        let Ok(nonce) = <[u8; NONCE_BYTES]>::try_from(&challenge.nonce[..]) else {
            return self.disconnect(Error::Protocol("a nonce of the wrong length".to_owned()));
        };
        if !version::VERSIONS.contains(&challenge.version) {
            return self.disconnect(Error::Protocol("a version that was not offered".to_owned()));
        }
        let Some(proof) = self.prove(&nonce, &binding) else {
            // The registration was given up while the connection was being made.
            return self.disconnect(Error::ConnectionLost("nobody to log in".to_owned()));
        };
        self.urgent.push_back(frame(1, proof));
        self.phase = Phase::Proving { until };
    }

    fn prove(&self, nonce: &[u8; NONCE_BYTES], binding: &Binding) -> Option<Kind> {
        let sign = |bytes: &[u8]| Bytes::copy_from_slice(&self.key.sign(bytes).to_bytes());
        if let Some(account) = &self.account {
            let address = DeviceAddress { user: account.user, device: account.device };
            return Some(Kind::Login(v1::Login {
                user_id: id_bytes(account.user.as_bytes()),
                device_id: account.device.get(),
                binding: binding.kind.into(),
                signature: sign(&login_bytes(nonce, binding, address)),
            }));
        }
        let Some(registration) = &self.registration else {
            return self.prove_link(nonce, binding);
        };
        let key = self.key.verifying_key().to_bytes();
        Some(Kind::Register(v1::Register {
            handle: registration.handle.clone(),
            device_key: Bytes::copy_from_slice(&key),
            binding: binding.kind.into(),
            signature: sign(&register_bytes(nonce, binding, &key, &registration.handle)),
            credential: registration.credential.clone(),
            device_name: self.device_name.clone(),
        }))
    }

    pub(super) fn handle_registered(&mut self, registered: &v1::Registered) {
        let ids = (UserId::try_from(&registered.user_id[..]), DeviceId::new(registered.device_id));
        let (Ok(user), Ok(device)) = ids else {
            return self.disconnect(Error::Protocol("ids of the wrong form".to_owned()));
        };
        if self.account.is_some() || !matches!(self.phase, Phase::Proving { .. }) {
            return self.disconnect(Error::Protocol("registered without being asked".to_owned()));
        }
        let Some(registration) = self.registration.take() else {
            // Given up in the meantime. Registration is idempotent, so nothing is lost.
            return self.disconnect(Error::ConnectionLost("nobody to register".to_owned()));
        };
        let account = Account { user, device, handle: registration.handle };
        self.account = Some(account.clone());
        self.outputs.push_back(Output::Account(account.clone()));
        self.reply(registration.token, Ok(Reply::Account(account)));
    }

    /// The session is open. Returns whether it is.
    pub(super) fn handle_welcome(&mut self, now: Duration, welcome: &v1::Welcome) -> bool {
        let Some(account) = self.account.clone().filter(|_| matches!(self.phase, Phase::Proving { .. })) else {
            self.disconnect(Error::Protocol("a welcome out of turn".to_owned()));
            return false;
        };
        if welcome.user_id[..] != account.user.as_bytes()[..] || welcome.device_id != account.device.get() {
            self.disconnect(Error::Protocol("a welcome for somebody else".to_owned()));
            return false;
        }
        let heartbeat = heartbeat_of(welcome);
        self.phase = Phase::Open { heard_at: now, ping_at: now + heartbeat, heartbeat };
        self.outbox.set_in_flight_max(usize::try_from(welcome.sends_in_flight_max).unwrap_or(usize::MAX));
        for (token, _) in core::mem::take(&mut self.logins) {
            self.reply(token, Ok(Reply::Account(account.clone())));
        }
        // Subscriptions ended with the session before; one that waits is as new as what is watched.
        if !self.watched.is_empty() && !self.requests.any(|kind| matches!(kind, Kind::SubscribePresence(_))) {
            let user_ids = self.watched.iter().map(|user| id_bytes(user.as_bytes())).collect();
            let kind = Kind::SubscribePresence(v1::SubscribePresence { user_ids });
            let deadline = now + self.request_patience;
            self.requests.push(Request { token: None, kind, deadline });
        }
        true
    }
}
