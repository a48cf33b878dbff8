//! (D) The sockets of a node, bound before anything else so that a port that is taken is a clear error.
//!
//! With one core the sockets are exclusive. With more, each core has its own behind `SO_REUSEPORT`, and the kernel
//! spreads connections by address; since that would also share the port with *another* node of the same user, the port
//! is first bound exclusively, and let go.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    error::{Error, Result},
    limits::ACCEPT_BACKLOG,
};

/// Times that free ports are looked for: UDP may not have what TCP has, and others may take what was chosen.
const FREE_PORT_ATTEMPTS: usize = 16;
/// Bytes asked for as the kernel's buffers of a UDP socket: it serves all QUIC connections of a core.
const UDP_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// The sockets of one core.
#[derive(Debug)]
pub struct CoreSockets {
    /// For TLS.
    pub secure: TcpListener,
    /// Without.
    pub plain: Option<TcpListener>,
    /// For QUIC, at the port of `secure`.
    pub quic: UdpSocket,
}

/// Binds the sockets of all cores. Returns also where they listen, with the ports chosen for port 0.
///
/// # Errors
/// An address that is taken or not this machine's.
pub fn bind(
    secure: SocketAddr,
    plain: Option<SocketAddr>,
    cores: u16,
) -> Result<(Vec<CoreSockets>, SocketAddr, Option<SocketAddr>)> {
    let is_free = secure.port() == 0 || plain.is_some_and(|plain| plain.port() == 0);
    for _ in 1..FREE_PORT_ATTEMPTS {
        match try_bind(secure, plain, cores) {
            // UDP does not have the port, or somebody else has taken it between its choice and here.
            Err(Error::System { source, .. }) if is_free && source.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    try_bind(secure, plain, cores)
}

fn try_bind(
    secure: SocketAddr,
    plain: Option<SocketAddr>,
    cores: u16,
) -> Result<(Vec<CoreSockets>, SocketAddr, Option<SocketAddr>)> {
    let is_shared = cores > 1;
    let secure = choose(secure, true).map_err(|source| refused(secure, source))?;
    let plain = match plain {
        Some(plain) => Some(choose(plain, false).map_err(|source| refused(plain, source))?),
        None => None,
    };
    let sockets = (0..cores).map(|_| {
        Ok(CoreSockets {
            secure: tcp(secure, is_shared).map_err(|source| refused(secure, source))?,
            plain: plain.map(|plain| tcp(plain, is_shared).map_err(|source| refused(plain, source))).transpose()?,
            quic: udp(secure, is_shared).map_err(|source| refused(secure, source))?,
        })
    });
    Ok((sockets.collect::<Result<_>>()?, secure, plain))
}

/// The address with its port chosen, after it was bound by nobody else.
fn choose(address: SocketAddr, with_udp: bool) -> io::Result<SocketAddr> {
    let listener = tcp(address, false)?;
    let chosen = listener.local_addr()?;
    if with_udp {
        udp(chosen, false)?;
    }
    Ok(chosen)
}

fn tcp(address: SocketAddr, is_shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A node that was restarted need not wait for the connections of its predecessor.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(ACCEPT_BACKLOG)?;
    Ok(socket.into())
}

fn udp(address: SocketAddr, is_shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(is_shared)?;
    socket.set_nonblocking(true)?;
    // The kernel gives what its own bound allows; less is slower, not wrong.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(UDP_BUFFER_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn refused(address: SocketAddr, source: io::Error) -> Error {
    Error::System { what: format!("listen on {address}"), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_the_same_for_all_cores_and_protocols() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (sockets, secure, plain) = bind(any, Some(any), 3).unwrap();
        assert_eq!(sockets.len(), 3);
        for core in &sockets {
            assert_eq!(core.secure.local_addr().unwrap(), secure);
            assert_eq!(core.quic.local_addr().unwrap(), secure);
            assert_eq!(core.plain.as_ref().unwrap().local_addr().unwrap(), plain.unwrap());
        }
        let taken = bind(secure, None, 3);
        assert!(matches!(taken, Err(Error::System { .. })), "another node must not share the port");
    }
}
