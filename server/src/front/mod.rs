//! (D) The fronts: bytes from sockets to frames for sessions, and back.
//!
//! | module | what it holds |
//! |---|---|
//! | [`websocket`], [`quic`] | the two transports |
//! | [`poll`] | the third, for networks that allow nothing else |
//! | [`http`] | health, metrics, the upgrade to a WebSocket, requests that poll |
//! | [`tls`] | certificate, TLS settings, what signatures are bound to |
//! | [`admission`] | who may connect: bounds by node, address, and of those not logged in |
//! | [`listen`] | the sockets of a node |
//! | `pace` | how long a connection may take until its next request |
//! | `pump` | frames between a connection and its session, the same for all transports |
//!
//! A connection is one task on its core. It is counted from accept to close; until it is logged in it has a place in
//! the lobby, from which newer ones displace it.
//!
//! Invariants
//! - Everything a stranger can make a front wait for has a deadline: TLS, request head, first stream, frame, login.
//! - Nothing that a connection does ends anything but that connection.

pub mod admission;
pub mod http;
pub mod listen;
mod pace;
pub mod poll;
mod pump;
pub mod quic;
pub mod tls;
pub mod websocket;

use core::{
    cell::Cell,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use columba_engine::env::{Clock, Disk};
use columba_wire::limits::TLS_HANDSHAKE_MS_MAX;
use futures_util::future::{Either, select};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::spawn_local,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use self::{
    admission::{Admission, Lobby, LobbyTicket, Permit, Places},
    poll::{Polls, Via},
    pump::{End, Pump},
    tls::Tls,
    websocket::WebSocketLink,
};
use crate::{
    core::{BindingOffer, Core, PeerInfo, Transport},
    limits::ACCEPT_PAUSE_MS,
    metrics::CoreMetrics,
};

/// What all cores of a node share.
#[derive(Debug)]
pub struct NodeShared {
    /// The metrics of each core.
    pub metrics: Vec<Arc<CoreMetrics>>,
    /// Whether each core's partitions are led and applied.
    pub ready: Vec<AtomicBool>,
    /// Who may connect.
    pub admission: Arc<Admission>,
    /// Origins whose pages may open a WebSocket; `*` for all.
    pub allowed_origins: Vec<String>,
    /// Whether anybody may read the metrics.
    pub metrics_to_any: bool,
    /// The long-poll sessions.
    pub polls: Polls,
}

impl NodeShared {
    /// Whether the whole node is ready.
    pub fn is_ready(&self) -> bool {
        self.ready.iter().all(|ready| ready.load(Ordering::Relaxed))
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        let limits = admission::ConnectionLimits { total_max: 100, per_address_max: 100, loopback_max: 100 };
        Self {
            metrics: vec![Arc::default()],
            ready: vec![AtomicBool::new(false)],
            admission: Admission::new(limits),
            allowed_origins: Vec::new(),
            metrics_to_any: false,
            polls: Polls::new(limits),
        }
    }
}

/// What the connections of one core share.
pub struct Front<D: Disk, C: Clock> {
    /// The core.
    pub core: Rc<Core<D, C>>,
    /// The node.
    pub shared: Arc<NodeShared>,
    /// The core's metrics.
    pub metrics: Arc<CoreMetrics>,
    /// Certificate and TLS settings.
    pub tls: Tls,
    /// Those of the core who are not logged in.
    pub lobby: Rc<Lobby>,
    /// The long-poll sessions of this core.
    pub poll_places: Places,
    /// Connections of this core.
    pub open: Cell<usize>,
}

impl<D: Disk, C: Clock> Front<D, C> {
    fn admit(&self, address: IpAddr) -> Option<Permit> {
        let permit = self.shared.admission.admit(address);
        if permit.is_none() {
            self.metrics.connections_refused_total.add(1);
        }
        permit
    }

    fn enter_lobby(&self) -> LobbyTicket {
        let (ticket, displaced) = self.lobby.enter();
        self.metrics.connections_displaced_total.add(u64::from(displaced));
        ticket
    }
}

/// Counts a connection of a core while it lives.
struct OpenGuard<'a>(&'a Cell<usize>);

impl<'a> OpenGuard<'a> {
    fn new(open: &'a Cell<usize>) -> Self {
        open.set(open.get() + 1);
        Self(open)
    }
}

impl Drop for OpenGuard<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Takes TCP connections for as long as the core lives; over TLS where `acceptor` is given.
pub(crate) async fn run_tcp<D: Disk, C: Clock>(
    front: Rc<Front<D, C>>,
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
) {
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors or memory, or the peer has gone already: others can still be served.
                tracing::debug!(%error, "accept");
                sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                continue;
            }
        };
        let Some(permit) = front.admit(peer.ip()) else {
            continue;
        };
        front.metrics.tcp_accepted_total.add(1);
        let ticket = front.enter_lobby();
        let (front, acceptor) = (Rc::clone(&front), acceptor.clone());
        spawn_local(async move { serve_tcp(&front, socket, peer, acceptor, ticket, permit).await });
    }
}

async fn serve_tcp<D: Disk, C: Clock>(
    front: &Rc<Front<D, C>>,
    socket: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    ticket: LobbyTicket,
    _permit: Permit,
) {
    let _open = OpenGuard::new(&front.open);
    // Every flush is a whole batch; waiting for more would only delay it.
    let _ = socket.set_nodelay(true);
    let displaced = pin!(ticket.displaced());
    // Boxed, because the phases of a connection differ in size, and the longest by far is the smallest.
    let serving = Box::pin(async {
        let Some(acceptor) = acceptor else {
            let binding = BindingOffer { plain: true, ..BindingOffer::default() };
            return serve_http(front, socket, peer, binding, &ticket).await;
        };
        let handshake = Box::pin(timeout(Duration::from_millis(TLS_HANDSHAKE_MS_MAX), acceptor.accept(socket)));
        let Ok(Ok(socket)) = handshake.await else {
            return front.metrics.handshake_failures_total.add(1);
        };
        let binding = front.tls.offer_of_tcp(socket.get_ref().1);
        serve_http(front, Box::new(socket), peer, binding, &ticket).await;
    });
    if let Either::Left(_) = select(displaced, serving).await {
        tracing::debug!(%peer, "closed to make way: not logged in");
    }
}

async fn serve_http<S: AsyncRead + AsyncWrite + Unpin + 'static, D: Disk, C: Clock>(
    front: &Rc<Front<D, C>>,
    socket: S,
    peer: SocketAddr,
    binding: BindingOffer,
    ticket: &LobbyTicket,
) {
    let via = Via { peer, binding, ticket };
    let requests = Box::pin(http::serve(socket, front, &via));
    let Some((socket, read)) = requests.await else {
        return;
    };
    front.metrics.websockets_total.add(1);
    let session = match front.core.connect(PeerInfo { address: peer, transport: Transport::WebSocket, binding }) {
        Ok(session) => session,
        Err(code) => {
            tracing::debug!(%peer, %code, "refused");
            return;
        }
    };
    let mut link = WebSocketLink::new(socket, read);
    let end = Pump::new(&mut link, &session, ticket, &front.metrics).run().await;
    // The session is over now, not when the peer has read its last frame.
    drop(session);
    if end != End::Peer {
        link.close(end).await;
    }
}
