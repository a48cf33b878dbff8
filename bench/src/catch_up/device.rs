//! (D) The device that was away, as a process of its own: it registers and goes, or it comes back and takes everything.
//!
//! What it has to say is one line of JSON on its standard output.

use std::{
    io::Read as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use clap::ValueEnum;
use columba_client::{
    Client, Event as ClientEvent,
    options::{Options, Profile, Transport as SdkTransport},
};
use columba_wire::{DeviceAddress, DeviceId, UserId, auth::Binding};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    clock::now_ns,
    load::{
        BODY_BYTES, Device, Link, Target, Transport,
        dialect::{Dialect, ECHO_STREAM, Event},
        latency::Acks,
        login::{self, Identity},
    },
    node::{Memory, Process},
};

/// Seconds for everything to come.
const SECONDS_MAX: u64 = 600;

/// What the device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The load's own client.
    Lean,
    /// The SDK, with a profile on disk.
    Sdk,
    /// The load's own client at the echo server.
    Stream,
}

impl Kind {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lean => "lean",
            Self::Sdk => "sdk",
            Self::Stream => "stream",
        }
    }
}

/// How to start it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What it is.
    #[arg(long)]
    kind: Kind,
    /// Where the server's plain WebSocket is.
    #[arg(long)]
    plain: SocketAddr,
    /// What it remembers.
    #[arg(long)]
    dir: PathBuf,
    /// How many messages to take; otherwise it registers and goes.
    #[arg(long)]
    messages: Option<u64>,
}

/// Who it is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Registered {
    /// Its user.
    pub(crate) user: [u8; 16],
    device: u32,
    /// The lean client's key.
    secret: [u8; 32],
}

/// What it has taken.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// How many messages.
    pub(crate) messages: u64,
    /// From before the connection until it had the last.
    pub(crate) took_ns: u64,
    /// Its memory, at the end.
    pub(crate) memory: Memory,
}

/// Starts it against `server`, and waits for what it says.
///
/// # Errors
/// It failed: what it said is on the standard error.
pub(crate) fn start<T: DeserializeOwned>(
    server: &Process,
    kind: Kind,
    dir: &Path,
    messages: Option<u64>,
) -> anyhow::Result<T> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["catch-up-device", "--kind", kind.name(), "--plain", &server.target.plain.to_string(), "--dir"]);
    command.arg(dir);
    if let Some(messages) = messages {
        command.args(["--messages", &messages.to_string()]);
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut said = String::new();
    child.stdout.take().expect("stdout is piped").read_to_string(&mut said)?;
    ensure!(child.wait()?.success(), "the device failed");
    serde_json::from_str(&said).with_context(|| format!("it said {said:?}"))
}

/// Does what it was started for.
///
/// # Errors
/// The server refused, or messages did not come.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let limit = Duration::from_secs(SECONDS_MAX);
    let said = runtime.block_on(async { tokio::time::timeout(limit, Box::pin(work(arguments))).await })??;
    println!("{said}");
    Ok(())
}

async fn work(arguments: &Arguments) -> anyhow::Result<String> {
    let Some(messages) = arguments.messages else {
        let registered = match arguments.kind {
            Kind::Lean => register(arguments).await?,
            Kind::Sdk => register_sdk(arguments).await?,
            Kind::Stream => bail!("nobody registers at the echo server"),
        };
        return Ok(serde_json::to_string(&registered)?);
    };
    let began = now_ns();
    let messages = match arguments.kind {
        Kind::Lean => take(arguments, messages).await?,
        Kind::Sdk => take_sdk(arguments, messages).await?,
        Kind::Stream => take_stream(arguments, messages).await?,
    };
    Ok(serde_json::to_string(&Taken { messages, took_ns: now_ns() - began, memory: Memory::of("self")? })?)
}

fn identity_path(arguments: &Arguments) -> PathBuf {
    arguments.dir.join("identity.json")
}

async fn connect(arguments: &Arguments) -> anyhow::Result<(Link, Binding)> {
    // Only the plain listener is used.
    let target =
        Target { secure: arguments.plain, plain: arguments.plain, certificate: CertificateDer::from(Vec::new()) };
    Link::connect(&target, Transport::Ws).await
}

#[expect(clippy::disallowed_methods, reason = "a driver: what the device remembers")]
async fn register(arguments: &Arguments) -> anyhow::Result<Registered> {
    let (mut link, binding) = connect(arguments).await?;
    let Identity { secret, address } = login::register(&mut link, &binding).await?;
    link.close().await;
    let registered = Registered { user: *address.user.as_bytes(), device: address.device.get(), secret };
    std::fs::write(identity_path(arguments), serde_json::to_vec(&registered)?)?;
    Ok(registered)
}

#[expect(clippy::disallowed_methods, reason = "a driver: what the device remembers")]
async fn take(arguments: &Arguments, messages: u64) -> anyhow::Result<u64> {
    let Registered { user, device, secret } = serde_json::from_slice(&std::fs::read(identity_path(arguments))?)?;
    let user = UserId::from_bytes(user);
    let address = DeviceAddress { user, device: DeviceId::new(device).context("a device has a number")? };
    let (mut link, binding) = connect(arguments).await?;
    let frames = login::login(&mut link, &binding, &Identity { secret, address }).await?;
    count(Device { link, dialect: Dialect::Columba { to: user } }, frames, messages, true).await
}

async fn take_stream(arguments: &Arguments, messages: u64) -> anyhow::Result<u64> {
    let (mut link, _) = connect(arguments).await?;
    let mut ask = BytesMut::new();
    ask.put_u8(ECHO_STREAM);
    ask.put_u64_le(messages);
    ask.put_u32_le(u32::try_from(BODY_BYTES).expect("a body is small"));
    link.feed(ask.freeze()).await?;
    link.flush().await?;
    count(Device { link, dialect: Dialect::Echo }, Vec::new(), messages, false).await
}

/// Takes what comes, beginning with what has come, until there are enough.
async fn count(mut device: Device, mut frames: Vec<Bytes>, messages: u64, acknowledges: bool) -> anyhow::Result<u64> {
    let (mut acks, mut count) = (Acks::default(), 0);
    loop {
        for frame in frames.drain(..) {
            if let Event::Delivered { chat, seq, .. } = device.dialect.read(frame)? {
                count += u64::from(acks.note(chat, seq));
            }
        }
        if acknowledges {
            acks.feed(&mut device.link, &device.dialect).await?;
            device.link.flush().await?;
        }
        if count >= messages {
            return Ok(count);
        }
        device.link.receive(&mut frames).await?;
    }
}

fn sdk_options(arguments: &Arguments) -> Options {
    let mut options = Options::new(arguments.plain.to_string());
    options.transport = SdkTransport::PlainWebSocket;
    options.profile = Profile::Directory(arguments.dir.join("profile"));
    options
}

async fn register_sdk(arguments: &Arguments) -> anyhow::Result<Registered> {
    let (client, _events) = Client::connect(sdk_options(arguments)).await?;
    let account = client.register("catch-up", "").await?;
    client.close().await;
    Ok(Registered { user: *account.user.as_bytes(), device: account.device.get(), secret: [0; 32] })
}

async fn take_sdk(arguments: &Arguments, messages: u64) -> anyhow::Result<u64> {
    let (client, mut events) = Client::connect(sdk_options(arguments)).await?;
    let mut count = 0;
    while count < messages {
        match events.next().await.context("the client has ended")? {
            ClientEvent::Message(_) => count += 1,
            ClientEvent::Gap { .. } => bail!("messages are missing"),
            _ => {}
        }
    }
    drop(client);
    Ok(count)
}
