//! (D) The floor's server: Columba's transports, libraries and traffic with nothing behind them, or one raw durable
//! write per batch.
//!
//! One thread. A message goes to everybody else in its sender's room, a reply to its sender, an acknowledgement
//! nowhere. Rooms that ask for it wait for a group commit: what has come in since the last write is written in one,
//! then forwarded. A connection that asks for a stream gets nothing else.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use bytes::{Buf as _, Bytes};
use quinn::{Endpoint, crypto::rustls::QuicServerConfig};
use tokio::{
    net::TcpListener,
    sync::Notify,
    task::{LocalSet, spawn_local, yield_now},
};
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::{
    load::{
        Link,
        dialect::{ECHO_HELLO, ECHO_MESSAGE, ECHO_REPLY, ECHO_STREAM, Times, echo_message, echo_short},
        quic::QuicLink,
        websocket::WebSocketLink,
    },
    node::Ready,
    raw::{RawFile, WRITE_BYTES_MAX},
    socket::Counted,
    tls,
};

/// Messages of a stream that are flushed together.
const STREAM_BATCH: u64 = 64;
/// Bytes that a journal adds to each message: a record's header.
const RECORD_HEADER_BYTES: usize = 29;

/// How to start it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Directory for the certificate and the raw file.
    #[arg(long)]
    dir: PathBuf,
}

/// Serves until its standard input ends.
///
/// # Errors
/// It cannot listen or write.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(options))
}

async fn serve(options: &Options) -> anyhow::Result<()> {
    let certificate = options.dir.join("echo-cert.pem");
    let (secure_config, quic_config) = tls::server(&certificate)?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let plain = TcpListener::bind(any).await?;
    let secure = TcpListener::bind(any).await?;
    let quic_config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(quic_config)?));
    let quic = Endpoint::server(quic_config, secure.local_addr()?)?;
    let ready = Ready { listening: secure.local_addr()?, plain: plain.local_addr()?, certificate };

    let hub = Rc::new(Hub::default());
    let file = RawFile::create(&options.dir, "echo-raw")?;
    let committing = spawn_local(Rc::clone(&hub).commit(file));
    println!("{}", serde_json::to_string(&ready)?);
    std::io::stdout().flush()?;

    let acceptor = TlsAcceptor::from(Arc::new(secure_config));
    spawn_local(accept_plain(plain, Rc::clone(&hub)));
    spawn_local(accept_secure(secure, acceptor, Rc::clone(&hub)));
    spawn_local(accept_quic(quic, hub));
    committing.await?
}

async fn accept_plain(listener: TcpListener, hub: Rc<Hub>) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let hub = Rc::clone(&hub);
        spawn_local(async move {
            stream.set_nodelay(true)?;
            let (stream, bytes) = Counted::new(stream);
            hub.serve(Link::Plain(Box::new(WebSocketLink::accept(stream, bytes).await?))).await
        });
    }
}

async fn accept_secure(listener: TcpListener, acceptor: TlsAcceptor, hub: Rc<Hub>) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let (hub, acceptor) = (Rc::clone(&hub), acceptor.clone());
        spawn_local(async move {
            stream.set_nodelay(true)?;
            let (stream, bytes) = Counted::new(stream);
            let stream = TlsStream::from(acceptor.accept(stream).await?);
            hub.serve(Link::Secure(Box::new(WebSocketLink::accept(stream, bytes).await?))).await
        });
    }
}

async fn accept_quic(endpoint: Endpoint, hub: Rc<Hub>) {
    while let Some(incoming) = endpoint.accept().await {
        let hub = Rc::clone(&hub);
        spawn_local(async move {
            let connection = incoming.await?;
            let (send, receive) = connection.accept_bi().await?;
            hub.serve(Link::Quic(Box::new(QuicLink::accepted(connection, send, receive)))).await
        });
    }
}

/// What waits for a connection to be written.
#[derive(Default)]
struct Outbox {
    frames: RefCell<Vec<Bytes>>,
    is_filled: Notify,
}

impl Outbox {
    fn push(&self, frame: Bytes) {
        self.frames.borrow_mut().push(frame);
        self.is_filled.notify_one();
    }
}

/// A message on its way.
struct Forward {
    from: Rc<Outbox>,
    to: Rc<[Rc<Outbox>]>,
    message: Bytes,
    reply: Bytes,
}

impl Forward {
    fn carry_out(self) {
        self.to.iter().for_each(|member| member.push(self.message.clone()));
        self.from.push(self.reply);
    }
}

/// Who talks to whom, and what waits for the disk.
#[derive(Default)]
struct Hub {
    rooms: RefCell<BTreeMap<u32, Vec<Rc<Outbox>>>>,
    pending: RefCell<Vec<Forward>>,
    is_pending: Notify,
}

impl Hub {
    /// Group commit without a timer. The write blocks the thread: a hop to another would make the floor slower.
    async fn commit(self: Rc<Self>, mut file: RawFile) -> anyhow::Result<()> {
        loop {
            self.is_pending.notified().await;
            while !self.pending.borrow().is_empty() {
                let batch = self.take_batch();
                file.write_durable(batch.iter().map(|forward| forward.message.len() + RECORD_HEADER_BYTES).sum())?;
                batch.into_iter().for_each(Forward::carry_out);
                yield_now().await;
            }
        }
    }

    fn take_batch(&self) -> Vec<Forward> {
        let mut pending = self.pending.borrow_mut();
        let mut bytes = 0;
        let fits = pending.iter().take_while(|forward| {
            bytes += forward.message.len() + RECORD_HEADER_BYTES;
            bytes <= WRITE_BYTES_MAX
        });
        let count = fits.count();
        pending.drain(..count).collect()
    }

    async fn serve(self: Rc<Self>, mut link: Link) -> anyhow::Result<()> {
        let mut frames = Vec::new();
        link.receive(&mut frames).await?;
        let mut hello = frames.pop().context("a receive brings a frame")?;
        let kind = hello.try_get_u8()?;
        if kind == ECHO_STREAM {
            return stream(&mut link, hello.try_get_u64_le()?, hello.try_get_u32_le()?).await;
        }
        ensure!(kind == ECHO_HELLO, "a connection begins with a hello");
        let (room, commits) = (hello.try_get_u32_le()?, hello.try_get_u8()? != 0);
        let own = Rc::new(Outbox::default());
        self.rooms.borrow_mut().entry(room).or_default().push(Rc::clone(&own));
        own.push(echo_short(ECHO_REPLY, 0));
        let result = self.forward(&mut link, room, commits, &own).await;
        if let Some(members) = self.rooms.borrow_mut().get_mut(&room) {
            members.retain(|member| !Rc::ptr_eq(member, &own));
        }
        result
    }

    /// Everybody in a room but one.
    fn others(&self, room: u32, own: &Rc<Outbox>) -> Rc<[Rc<Outbox>]> {
        let rooms = self.rooms.borrow();
        let members = rooms.get(&room).into_iter().flatten();
        members.filter(|member| !Rc::ptr_eq(member, own)).map(Rc::clone).collect()
    }

    async fn forward(&self, link: &mut Link, room: u32, commits: bool, own: &Rc<Outbox>) -> anyhow::Result<()> {
        let mut others: Option<Rc<[Rc<Outbox>]>> = None;
        let mut frames = Vec::new();
        loop {
            tokio::select! {
                received = link.receive(&mut frames) => received?,
                () = own.is_filled.notified() => {}
            }
            for message in frames.drain(..) {
                if message.first() != Some(&ECHO_MESSAGE) {
                    continue;
                }
                // Nobody writes before all are there.
                let to = Rc::clone(others.get_or_insert_with(|| self.others(room, own)));
                ensure!(!to.is_empty(), "nobody else is in the room");
                let seq = message.get(1..9).context("a message names its seq")?;
                let reply = echo_short(ECHO_REPLY, u64::from_le_bytes(seq.try_into()?));
                let forward = Forward { from: Rc::clone(own), to, message, reply };
                if commits {
                    self.pending.borrow_mut().push(forward);
                } else {
                    forward.carry_out();
                }
            }
            if commits && !self.pending.borrow().is_empty() {
                self.is_pending.notify_one();
            }
            let outgoing = std::mem::take(&mut *own.frames.borrow_mut());
            if !outgoing.is_empty() {
                for frame in outgoing {
                    link.feed(frame).await?;
                }
                link.flush().await?;
            }
        }
    }
}

/// Sends messages of a size as fast as they are taken, and waits for the other side to end.
async fn stream(link: &mut Link, count: u64, body_bytes: u32) -> anyhow::Result<()> {
    let times = Times { due_ns: 0, written_ns: 0 };
    for seq in 1..=count {
        link.feed(echo_message(seq, times, body_bytes as usize)).await?;
        if seq.is_multiple_of(STREAM_BATCH) {
            link.flush().await?;
        }
    }
    link.flush().await?;
    loop {
        link.receive(&mut Vec::new()).await?;
    }
}
