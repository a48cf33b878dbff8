//! Hello, challenge, registration, login, a link code: what a stranger may do.
//!
//! Invariants
//! - A nonce is for one attempt on one connection: a failed attempt needs a new Hello, so no signature is tried twice.
//! - The binding is checked against what this server computed for this connection: a signature made for another
//!   connection or server is worth nothing here.
//! - A failed login does not say what was wrong.
//! - A connection that waits to be linked may do nothing else but ping and leave.

use columba_engine::{env::clock::WallTime, partition::device::Device};
use columba_wire::{
    Code, DeviceAddress, DeviceId, UserId,
    auth::{Binding, NONCE_BYTES, link_bytes, login_bytes, register_bytes},
    ids::handle_is_valid,
    limits::{
        AGENT_BYTES_MAX, CREDENTIAL_BYTES_MAX, DEVICE_NAME_BYTES_MAX, HEARTBEAT_MS, LOGIN_ATTEMPTS_MAX,
        SENDS_IN_FLIGHT_MAX, UNACKED_MAX, VERSIONS_MAX,
    },
    v1::{self, ChannelBinding, client_frame::Kind as Request, server_frame::Kind},
    version,
};
use ed25519_dalek::{Signature, VerifyingKey};

use super::SessionEnv;
use crate::core::{Admitted, PeerInfo, Transport, links::NewDevice, message::Registration};

/// A connection that is not logged in.
pub(crate) struct Handshake {
    peer: PeerInfo,
    /// As it called itself.
    agent: String,
    nonce: Option<[u8; NONCE_BYTES]>,
    waiting: bool,
    linking: bool,
    attempts: u32,
    /// What both sides can do beyond the base.
    capabilities: u64,
}

/// What a frame led to.
pub(crate) enum Step {
    Reply(Kind),
    Refuse(Code, &'static str),
    Fail(Code, &'static str),
    Login(LoginAttempt),
    Register(Registration),
    Link(NewDevice),
}

/// A login to be checked against the device's key.
#[derive(Debug)]
pub(crate) struct LoginAttempt {
    pub(crate) address: DeviceAddress,
    signed: Vec<u8>,
    signature: [u8; 64],
}

impl LoginAttempt {
    /// Whether the device signed it. A device that does not exist did not.
    pub(crate) fn is_signed_by(&self, device: Option<&Device>) -> bool {
        device.is_some_and(|device| verify(&device.key, &self.signed, &self.signature))
    }
}

/// Whether `signature` is the key's of `signed`, strictly.
pub(crate) fn verify(key: &[u8; 32], signed: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(signed, &Signature::from_bytes(signature)).is_ok())
}

impl Handshake {
    pub(crate) fn new(peer: PeerInfo) -> Self {
        Self { peer, agent: String::new(), nonce: None, waiting: false, linking: false, attempts: 0, capabilities: 0 }
    }

    /// What both sides can do beyond the base.
    pub(crate) fn capabilities(&self) -> u64 {
        self.capabilities
    }

    pub(crate) fn handle(
        &mut self,
        _request_id: u64,
        request: Request,
        wall: WallTime,
        env: &mut SessionEnv<'_>,
    ) -> Step {
        if self.linking && matches!(request, Request::Ping(_)) {
            return Step::Reply(Kind::Pong(v1::Pong { server_time_ms: wall.as_millis() }));
        }
        if self.waiting {
            return Step::Fail(Code::Unexpected, "the last attempt is not answered yet");
        }
        match request {
            Request::Hello(hello) => self.handle_hello(&hello, wall, env),
            Request::Register(register) => self.handle_register(register, wall, env),
            Request::Login(login) => self.handle_login(&login, env),
            Request::BeginLink(link) => self.handle_begin_link(link, env),
            Request::Bye(v1::Bye {}) => Step::Fail(Code::Unexpected, "bye"),
            Request::Ping(_)
            | Request::Send(_)
            | Request::Ack(_)
            | Request::Read(_)
            | Request::GetHistory(_)
            | Request::GetReceipts(_)
            | Request::GetChat(_)
            | Request::GetInvite(_)
            | Request::FindUser(_)
            | Request::SubscribePresence(_)
            | Request::GetDevices(_)
            | Request::GetLink(_)
            | Request::ApproveLink(_)
            | Request::RenameDevice(_)
            | Request::RevokeDevice(_)
            | Request::GetUser(_)
            | Request::GetAccount(_)
            | Request::SetProfile(_)
            | Request::SetPrivacy(_)
            | Request::SetContacts(_)
            | Request::SetBlocked(_)
            | Request::GetContacts(_)
            | Request::GetChats(_)
            | Request::DeleteAccount(_)
            | Request::PutKeys(_)
            | Request::GetKeys(_)
            | Request::SendSignal(_) => Step::Fail(Code::Unexpected, "log in first"),
        }
    }

    fn handle_hello(&mut self, hello: &v1::Hello, wall: WallTime, env: &mut SessionEnv<'_>) -> Step {
        if hello.versions.len() > VERSIONS_MAX || hello.agent.len() > AGENT_BYTES_MAX {
            return Step::Fail(Code::InvalidArgument, "too many versions, or too long an agent");
        }
        let Some(version) = version::negotiate(&hello.versions) else {
            return Step::Fail(Code::UnsupportedVersion, "this server speaks version 1");
        };
        let mut nonce = [0; NONCE_BYTES];
        (env.rng)(&mut nonce);
        self.nonce = Some(nonce);
        self.agent.clone_from(&hello.agent);
        let has_streams = self.peer.transport == Transport::Quic;
        let offered =
            if has_streams { version::CAPABILITIES } else { version::CAPABILITIES & !version::CATCH_UP_STREAM };
        self.capabilities = hello.capabilities & offered;
        Step::Reply(Kind::Challenge(v1::Challenge {
            version,
            capabilities: self.capabilities,
            nonce: bytes::Bytes::copy_from_slice(&nonce),
            server_time_ms: wall.as_millis(),
            registration: env.registration.kind().into(),
        }))
    }

    /// The binding that the client chose, with this server's own data for it.
    fn binding(&self, kind: i32) -> Option<Binding> {
        let kind = ChannelBinding::try_from(kind).ok()?;
        let data = match kind {
            ChannelBinding::None if self.peer.binding.plain => None,
            ChannelBinding::None => return None,
            ChannelBinding::TlsExporter => Some(self.peer.binding.exporter?),
            ChannelBinding::ServerCertificate => Some(self.peer.binding.certificate?),
        };
        Some(Binding { kind, data })
    }

    fn handle_login(&mut self, login: &v1::Login, env: &mut SessionEnv<'_>) -> Step {
        let Some(nonce) = self.nonce.take() else {
            return Step::Fail(Code::Unexpected, "say hello first");
        };
        if !(env.logins)(self.peer.address.ip()) {
            return self.handle_failure(Code::RateLimited);
        }
        let parsed = (
            UserId::try_from(&login.user_id[..]),
            DeviceId::new(login.device_id),
            <[u8; 64]>::try_from(&login.signature[..]),
            self.binding(login.binding),
        );
        let (Ok(user), Ok(device), Ok(signature), Some(binding)) = parsed else {
            return self.handle_failure(Code::Unauthenticated);
        };
        let address = DeviceAddress { user, device };
        self.waiting = true;
        Step::Login(LoginAttempt { address, signed: login_bytes(&nonce, &binding, address), signature })
    }

    fn handle_register(&mut self, register: v1::Register, wall: WallTime, env: &mut SessionEnv<'_>) -> Step {
        let Some(nonce) = self.nonce.take() else {
            return Step::Fail(Code::Unexpected, "say hello first");
        };
        if !(env.logins)(self.peer.address.ip()) {
            return self.handle_failure(Code::RateLimited);
        }
        if !handle_is_valid(&register.handle)
            || register.credential.len() > CREDENTIAL_BYTES_MAX
            || register.device_name.len() > DEVICE_NAME_BYTES_MAX
        {
            return self.handle_failure(Code::InvalidArgument);
        }
        let signed = |key: &_, binding: &_| register_bytes(&nonce, binding, key, &register.handle);
        let Some(device_key) = self.prove(&register.device_key, &register.signature, register.binding, signed) else {
            return self.handle_failure(Code::Unauthenticated);
        };
        let peer = self.peer.address.ip();
        if env.registration.check(peer, &register.handle, &register.credential, wall).is_err() {
            return self.handle_failure(Code::RegistrationRefused);
        }
        let mut user = [0; 16];
        (env.rng)(&mut user);
        self.waiting = true;
        let (handle, user, device_name) = (register.handle, UserId::from_bytes(user), register.device_name);
        Step::Register(Registration { handle, user, device_key, device_name })
    }

    fn handle_begin_link(&mut self, link: v1::BeginLink, env: &mut SessionEnv<'_>) -> Step {
        let Some(nonce) = self.nonce.take() else {
            return Step::Fail(Code::Unexpected, "say hello first");
        };
        if !(env.links)(self.peer.address.ip()) {
            return self.handle_failure(Code::RateLimited);
        }
        if link.name.len() > DEVICE_NAME_BYTES_MAX {
            return self.handle_failure(Code::InvalidArgument);
        }
        let signed = |key: &_, binding: &_| link_bytes(&nonce, binding, key, &link.name);
        let Some(key) = self.prove(&link.device_key, &link.signature, link.binding, signed) else {
            return self.handle_failure(Code::Unauthenticated);
        };
        (self.waiting, self.linking) = (true, true);
        Step::Link(NewDevice { key, name: link.name, agent: self.agent.clone() })
    }

    /// The key of a new device, where the signature of `signed` is the key's.
    fn prove(
        &self,
        key: &[u8],
        signature: &[u8],
        binding: i32,
        signed: impl FnOnce(&[u8; 32], &Binding) -> Vec<u8>,
    ) -> Option<[u8; 32]> {
        let key = key.try_into().ok()?;
        let signed = signed(&key, &self.binding(binding)?);
        verify(&key, &signed, signature.try_into().ok()?).then_some(key)
    }

    /// Whether it waits to be linked.
    pub(crate) const fn is_linking(&self) -> bool {
        self.linking
    }

    /// An attempt failed: an answer, and after the last one the end.
    pub(crate) fn handle_failure(&mut self, code: Code) -> Step {
        (self.waiting, self.linking) = (false, false);
        self.attempts += 1;
        if self.attempts >= LOGIN_ATTEMPTS_MAX {
            return Step::Fail(code, "too many attempts");
        }
        Step::Refuse(code, "")
    }
}

/// The welcome of a device.
pub(crate) fn welcome(admitted: Admitted, wall: WallTime) -> v1::Welcome {
    let Admitted { device: address, one_time_keys } = admitted;
    v1::Welcome {
        user_id: bytes::Bytes::copy_from_slice(address.user.as_bytes()),
        device_id: address.device.get(),
        server_time_ms: wall.as_millis(),
        heartbeat_ms: HEARTBEAT_MS,
        sends_in_flight_max: u32::try_from(SENDS_IN_FLIGHT_MAX).expect("a small number"),
        unacked_max: u32::try_from(UNACKED_MAX).expect("a small number"),
        one_time_keys,
    }
}
