//! Registration of a fresh user, its later logins, and the echo server's greeting.

use anyhow::{Context as _, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use columba_wire::{
    Code, DeviceAddress, DeviceId, UserId,
    auth::{Binding, login_bytes, register_bytes},
    frame::{decode_server, encode},
    v1::{ClientFrame, Hello, Login, Register, client_frame, server_frame},
    version::VERSIONS,
};
use ed25519_dalek::{Signer as _, SigningKey};

use super::{
    Link,
    dialect::{ECHO_HELLO, ECHO_REPLY},
};

/// Requests before the first send; their numbers stay out of the way of the client seqs.
const HELLO_REQUEST: u64 = u64::MAX - 1;
const REGISTER_REQUEST: u64 = u64::MAX;

/// A registered device.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Seed of its key.
    pub(crate) secret: [u8; 32],
    /// Who it is.
    pub(crate) address: DeviceAddress,
}

/// Registers a user with a random handle and key on a fresh connection, and waits for the welcome.
///
/// # Errors
/// The server refused.
pub(crate) async fn register(link: &mut Link, binding: &Binding) -> anyhow::Result<Identity> {
    let mut inbox = Vec::new();
    let nonce = challenge(link, &mut inbox).await?;
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)?;
    let key = SigningKey::from_bytes(&secret);
    let device_key = key.verifying_key().to_bytes();
    let suffix = device_key[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let handle = format!("bench-{suffix}");
    let signature = key.sign(&register_bytes(&nonce, binding, &device_key, &handle));
    let register = Register {
        handle,
        device_key: Bytes::copy_from_slice(&device_key),
        binding: binding.kind.into(),
        signature: Bytes::copy_from_slice(&signature.to_bytes()),
        credential: String::new(),
        device_name: String::new(),
    };
    send(link, REGISTER_REQUEST, client_frame::Kind::Register(register)).await?;
    let address = loop {
        if let server_frame::Kind::Registered(registered) = next(link, &mut inbox).await? {
            let device = DeviceId::new(registered.device_id).context("a device has a number")?;
            break DeviceAddress { user: UserId::try_from(registered.user_id.as_ref())?, device };
        }
    };
    welcome(link, &mut inbox).await?;
    Ok(Identity { secret, address })
}

/// Logs a registered device in. What waits for it comes at once: behind the welcome in the frames returned, and after.
///
/// # Errors
/// The server refused.
pub(crate) async fn login(link: &mut Link, binding: &Binding, identity: &Identity) -> anyhow::Result<Vec<Bytes>> {
    let mut inbox = Vec::new();
    let nonce = challenge(link, &mut inbox).await?;
    let key = SigningKey::from_bytes(&identity.secret);
    let login = Login {
        user_id: Bytes::copy_from_slice(identity.address.user.as_bytes()),
        device_id: identity.address.device.get(),
        binding: binding.kind.into(),
        signature: Bytes::copy_from_slice(&key.sign(&login_bytes(&nonce, binding, identity.address)).to_bytes()),
    };
    send(link, REGISTER_REQUEST, client_frame::Kind::Login(login)).await?;
    welcome(link, &mut inbox).await?;
    Ok(inbox)
}

async fn challenge(link: &mut Link, inbox: &mut Vec<Bytes>) -> anyhow::Result<[u8; 32]> {
    let hello = Hello {
        versions: VERSIONS.to_vec(),
        // One stream for everything.
        capabilities: 0,
        agent: concat!("columba-bench/", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    send(link, HELLO_REQUEST, client_frame::Kind::Hello(hello)).await?;
    loop {
        if let server_frame::Kind::Challenge(challenge) = next(link, inbox).await? {
            return Ok(*challenge.nonce.first_chunk().context("a nonce has 32 bytes")?);
        }
    }
}

async fn welcome(link: &mut Link, inbox: &mut Vec<Bytes>) -> anyhow::Result<()> {
    while !matches!(next(link, inbox).await?, server_frame::Kind::Welcome(_)) {}
    Ok(())
}

async fn send(link: &mut Link, request_id: u64, kind: client_frame::Kind) -> anyhow::Result<()> {
    link.feed(encode(&ClientFrame { request_id, kind: Some(kind) })).await?;
    link.flush().await
}

async fn next(link: &mut Link, inbox: &mut Vec<Bytes>) -> anyhow::Result<server_frame::Kind> {
    if inbox.is_empty() {
        link.receive(inbox).await?;
    }
    match decode_server(inbox.remove(0))?.kind.context("a frame without a kind")? {
        server_frame::Kind::Error(error) => {
            let name = Code::from_number(error.code).map_or("unknown code", Code::name);
            bail!("the server says {name}: {}", error.message)
        }
        server_frame::Kind::Goaway(goaway) => bail!("the server ends the session: {}", goaway.message),
        kind => Ok(kind),
    }
}

/// Enters a room of the echo server.
///
/// # Errors
/// What the connection says.
pub(crate) async fn greet(link: &mut Link, room: u32, commit: bool) -> anyhow::Result<()> {
    let mut hello = BytesMut::new();
    hello.put_u8(ECHO_HELLO);
    hello.put_u32_le(room);
    hello.put_u8(commit.into());
    link.feed(hello.freeze()).await?;
    link.flush().await?;
    let mut frames = Vec::new();
    link.receive(&mut frames).await?;
    ensure!(frames.len() == 1 && frames[0].first() == Some(&ECHO_REPLY), "the echo server did not answer a hello");
    Ok(())
}
