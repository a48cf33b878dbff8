//! Registration of a fresh user, and the echo server's greeting.

use anyhow::{Context as _, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use columba_wire::{
    Code, UserId,
    auth::{Binding, register_bytes},
    frame::{decode_server, encode},
    v1::{ClientFrame, Hello, Register, client_frame, server_frame},
    version::{CAPABILITIES, VERSIONS},
};
use ed25519_dalek::{Signer as _, SigningKey};

use super::{
    Link,
    dialect::{ECHO_HELLO, ECHO_REPLY},
};

/// Requests before the first send; their numbers stay out of the way of the client seqs.
const HELLO_REQUEST: u64 = u64::MAX - 1;
const REGISTER_REQUEST: u64 = u64::MAX;

/// Registers a user with a random handle and key on a fresh connection, and waits for the welcome.
///
/// # Errors
/// The server refused.
pub(crate) async fn register(link: &mut Link, binding: &Binding) -> anyhow::Result<UserId> {
    let hello = Hello {
        versions: VERSIONS.to_vec(),
        capabilities: CAPABILITIES,
        agent: concat!("columba-bench/", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    send(link, HELLO_REQUEST, client_frame::Kind::Hello(hello)).await?;
    let mut inbox = Vec::new();
    let challenge = loop {
        if let server_frame::Kind::Challenge(challenge) = next(link, &mut inbox).await? {
            break challenge;
        }
    };
    let nonce = challenge.nonce.first_chunk().context("a nonce has 32 bytes")?;

    let mut secret = [0; 32];
    getrandom::fill(&mut secret)?;
    let key = SigningKey::from_bytes(&secret);
    let device_key = key.verifying_key().to_bytes();
    let suffix = device_key[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let handle = format!("bench-{suffix}");
    let signature = key.sign(&register_bytes(nonce, binding, &device_key, &handle));
    let register = Register {
        handle,
        device_key: Bytes::copy_from_slice(&device_key),
        binding: binding.kind.into(),
        signature: Bytes::copy_from_slice(&signature.to_bytes()),
        credential: String::new(),
        device_name: String::new(),
    };
    send(link, REGISTER_REQUEST, client_frame::Kind::Register(register)).await?;
    let user = loop {
        match next(link, &mut inbox).await? {
            server_frame::Kind::Registered(registered) => break UserId::try_from(registered.user_id.as_ref())?,
            _ => continue,
        }
    };
    while !matches!(next(link, &mut inbox).await?, server_frame::Kind::Welcome(_)) {}
    Ok(user)
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
            bail!("registration failed: {name}: {}", error.message)
        }
        server_frame::Kind::Goaway(goaway) => bail!("registration ended: {}", goaway.message),
        kind => Ok(kind),
    }
}

/// Tells the echo server who the partner is.
///
/// # Errors
/// What the connection says.
pub(crate) async fn greet(link: &mut Link, pair: u32, side: u8, commit: bool) -> anyhow::Result<()> {
    let mut hello = BytesMut::new();
    hello.put_u8(ECHO_HELLO);
    hello.put_u32_le(pair);
    hello.put_u8(side);
    hello.put_u8(commit.into());
    link.feed(hello.freeze()).await?;
    link.flush().await?;
    let mut frames = Vec::new();
    link.receive(&mut frames).await?;
    ensure!(frames.len() == 1 && frames[0].first() == Some(&ECHO_REPLY), "the echo server did not answer a hello");
    Ok(())
}
