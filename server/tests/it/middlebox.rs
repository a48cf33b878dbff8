//! What is in between on a company's network: it ends TLS with the node's own certificate, lets plain requests through
//! one at a time, and does to each what the test says. Nothing else gets through, UDP neither.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::{Bytes, BytesMut};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, ServerName, pem::PemObject as _},
    version::TLS13,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, server::TlsStream};

use crate::{
    http::Http,
    link::{certificate, tls_config},
    node::Node,
};

/// What is done to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// It gets through, and so does its answer.
    Pass,
    /// It does not get through; this status is the answer.
    Refuse(u16),
    /// It gets through; this status takes the place of its answer.
    Replace(u16),
    /// It gets through; the connection ends in place of its answer.
    Cut,
}

/// Decides by method, path, and all of the head in lower case.
type Decide = dyn FnMut(&str, &str, &str) -> Treatment + Send;

/// Starts one in front of a node; where it listens.
pub(crate) async fn middlebox(
    node: &Node,
    decide: impl FnMut(&str, &str, &str) -> Treatment + Send + 'static,
) -> SocketAddr {
    let key = PrivateKeyDer::from_pem_file(node.certificate().with_file_name("key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate(node)], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap();
    let there = (TlsConnector::from(Arc::new(tls_config(node, b"http/1.1"))), node.address());
    let decide: Arc<Mutex<Decide>> = Arc::new(Mutex::new(decide));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, there, decide) = (acceptor.clone(), there.clone(), Arc::clone(&decide));
            tokio::spawn(async move {
                if let Ok(near) = acceptor.accept(socket).await {
                    relay(near, &there, &decide).await;
                }
            });
        }
    });
    here
}

/// One connection of a client, and one to the node behind it.
async fn relay(mut near: TlsStream<TcpStream>, (connector, node): &(TlsConnector, SocketAddr), decide: &Mutex<Decide>) {
    let mut read = BytesMut::new();
    let mut far: Option<Http> = None;
    while let Some((head, body)) = request(&mut near, &mut read).await {
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let treatment = (decide.lock().unwrap())(method, path, &head.to_lowercase());
        let mut answer = match treatment {
            Treatment::Refuse(status) => refusal(status),
            _ => {
                let far = match &mut far {
                    Some(far) => far,
                    None => {
                        let Ok(socket) = TcpStream::connect(node).await else { return };
                        let name = ServerName::try_from("localhost").unwrap();
                        let Ok(socket) = connector.connect(name, socket).await else { return };
                        far.insert(Http::over(Box::new(socket)))
                    }
                };
                let token = head.lines().find(|line| line.to_lowercase().starts_with("authorization: "));
                let token = token.map_or(String::new(), |line| format!("{line}\r\n"));
                let Some(answer) = far.request(method, path, &token, &body).await else { return };
                // The version alone must be in capitals.
                [answer.head.replacen("http/", "HTTP/", 1).as_bytes(), &answer.body].concat()
            }
        };
        match treatment {
            Treatment::Pass | Treatment::Refuse(_) => {}
            Treatment::Replace(status) => answer = refusal(status),
            Treatment::Cut => return,
        }
        if near.write_all(&answer).await.is_err() || near.flush().await.is_err() {
            return;
        }
    }
}

fn refusal(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} Middlebox\r\nContent-Length: 3\r\n\r\nno\n").into_bytes()
}

/// The next request: head and body.
async fn request(near: &mut TlsStream<TcpStream>, read: &mut BytesMut) -> Option<(String, Bytes)> {
    loop {
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end + 4]).into_owned();
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let length: usize = length.unwrap_or(0);
            if read.len() >= end + 4 + length {
                let body = read.split_to(end + 4 + length).split_off(end + 4).freeze();
                return Some((head, body));
            }
        }
        if near.read_buf(read).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}
