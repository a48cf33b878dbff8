//! (D) TLS: the certificate (made on the first start where none is configured), and the settings of both transports.
//!
//! TLS 1.3 only, `ring` for the cryptography. A client may resume a session with a ticket, which saves a signature; it
//! may not send early data, which could be replayed.
//!
//! Invariants
//! - The private key is readable by its owner alone, from the moment it exists.
//! - What a signature is bound to (exporter, certificate) is computed here, from this side of the connection.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use columba_wire::auth::EXPORTER_LABEL;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::TLS13,
};
use sha2::{Digest as _, Sha256};

use crate::{
    core::BindingOffer,
    error::{Error, Result},
};

/// Application protocol of the QUIC front.
pub const ALPN_QUIC: &[u8] = b"columba/1";
/// Application protocol of the WebSocket and HTTP front, for clients that ask.
pub const ALPN_HTTP: &[u8] = b"http/1.1";
/// Names that a certificate made here is always good for.
pub const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Where the certificate comes from.
#[derive(Clone, Debug)]
pub enum CertificateSource {
    /// PEM files of the operator.
    Files {
        /// The chain, leaf first.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// Files in this directory, made on the first start, for [`OWN_NAMES`] and these names.
    SelfSigned {
        /// The directory.
        dir: PathBuf,
        /// More names and addresses.
        names: Vec<String>,
    },
}

/// What both fronts need.
#[derive(Clone)]
pub struct Tls {
    /// For TLS over TCP.
    pub tcp: Arc<ServerConfig>,
    /// For QUIC.
    pub quic: Arc<ServerConfig>,
    /// Where the certificate lies, as PEM.
    pub certificate_path: PathBuf,
    /// SHA-256 of the leaf certificate, DER.
    pub certificate_hash: [u8; 32],
    /// What QUIC's stateless resets are signed with; the same at every start.
    pub(crate) reset_secret: [u8; 32],
}

impl Tls {
    /// Loads the certificate, or makes one.
    ///
    /// # Errors
    /// The files cannot be read or written, or do not belong together.
    pub fn load(source: &CertificateSource) -> Result<Self> {
        let (certificate_path, key_path) = match source {
            CertificateSource::Files { certificate, key } => (certificate.clone(), key.clone()),
            CertificateSource::SelfSigned { dir, names } => {
                let paths = (dir.join("cert.pem"), dir.join("key.pem"));
                if !paths.0.exists() || !paths.1.exists() {
                    make_certificate(dir, &paths.0, &paths.1, names)?;
                }
                paths
            }
        };
        let unreadable =
            |path: &Path, error: rustls::pki_types::pem::Error| Error::Tls(format!("{}: {error}", path.display()));
        let chain = CertificateDer::pem_file_iter(&certificate_path)
            .and_then(Iterator::collect::<core::result::Result<Vec<_>, _>>)
            .map_err(|error| unreadable(&certificate_path, error))?;
        let key = PrivateKeyDer::from_pem_file(&key_path).map_err(|error| unreadable(&key_path, error))?;
        let leaf =
            chain.first().ok_or_else(|| Error::Tls(format!("{}: no certificate in it", certificate_path.display())))?;
        let certificate_hash = Sha256::digest(leaf).into();
        let reset_secret =
            Sha256::new_with_prefix(b"columba/1 reset\0").chain_update(key.secret_der()).finalize().into();
        let tcp = server_config(chain.clone(), key.clone_key(), ALPN_HTTP)?;
        let quic = server_config(chain, key, ALPN_QUIC)?;
        Ok(Self { tcp: Arc::new(tcp), quic: Arc::new(quic), certificate_path, certificate_hash, reset_secret })
    }

    /// The binding of a TLS connection over TCP.
    pub fn offer_of_tcp(&self, connection: &rustls::ServerConnection) -> BindingOffer {
        let exported = connection.export_keying_material([0; 32], EXPORTER_LABEL, None);
        BindingOffer { exporter: exported.ok(), certificate: Some(self.certificate_hash), plain: false }
    }

    /// The binding of a QUIC connection.
    pub fn offer_of_quic(&self, connection: &quinn::Connection) -> BindingOffer {
        let mut exported = [0; 32];
        // Of TLS 1.3 no context and an empty one are the same.
        let exporter = connection.export_keying_material(&mut exported, EXPORTER_LABEL, &[]).ok().map(|()| exported);
        BindingOffer { exporter, certificate: Some(self.certificate_hash), plain: false }
    }
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    alpn: &[u8],
) -> Result<ServerConfig> {
    let unusable = |error: rustls::Error| Error::Tls(error.to_string());
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    // Stateless tickets: resumption works on every core and costs the node no memory.
    config.ticketer = ring::Ticketer::new().map_err(unusable)?;
    config.send_tls13_tickets = 1;
    assert!(config.max_early_data_size == 0, "early data can be replayed");
    Ok(config)
}

fn make_certificate(dir: &Path, certificate_path: &Path, key_path: &Path, names: &[String]) -> Result<()> {
    let failed = |error: rcgen::Error| Error::Tls(format!("cannot make a certificate: {error}"));
    let mut all = OWN_NAMES.map(str::to_owned).to_vec();
    all.extend(names.iter().filter(|name| !OWN_NAMES.contains(&name.as_str())).cloned());
    let mut params = CertificateParams::new(all).map_err(failed)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "Columba node, self-signed");
    params.distinguished_name = name;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Clients pin this certificate; an expiry would only cut them off.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    std::fs::create_dir_all(dir).map_err(|source| file_error("create", dir, source))?;
    write_new(key_path, key.serialize_pem().as_bytes(), 0o600)?;
    write_new(certificate_path, certificate.pem().as_bytes(), 0o644)?;
    tracing::info!(certificate = %certificate_path.display(), "made a self-signed certificate");
    Ok(())
}

/// Writes a file under another name, makes it durable, and then gives it its name: a crash leaves no half of one.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let part = path.with_extension("part");
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        rename(&part, path)
    })();
    written.map_err(|source| file_error("write", path, source))
}

#[expect(clippy::disallowed_methods, reason = "a driver: these files are no part of the engine")]
fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::rename(from, to)?;
    match to.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

fn file_error(operation: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_first_start_makes_a_certificate_and_the_second_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let source = CertificateSource::SelfSigned { dir: dir.path().join("tls"), names: vec!["chat.example".into()] };
        let first = Tls::load(&source).unwrap();
        let second = Tls::load(&source).unwrap();
        assert_eq!(first.certificate_hash, second.certificate_hash);
        assert_eq!(first.reset_secret, second.reset_secret);
        let mode = std::fs::metadata(dir.path().join("tls/key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(first.tcp.alpn_protocols, [ALPN_HTTP]);
        assert_eq!(first.quic.alpn_protocols, [ALPN_QUIC]);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str| CertificateSource::SelfSigned { dir: dir.path().join(name), names: Vec::new() };
        Tls::load(&of("a")).unwrap();
        Tls::load(&of("b")).unwrap();
        let mixed =
            CertificateSource::Files { certificate: dir.path().join("a/cert.pem"), key: dir.path().join("b/key.pem") };
        assert!(matches!(Tls::load(&mixed), Err(Error::Tls(_))));
        let missing =
            CertificateSource::Files { certificate: dir.path().join("none.pem"), key: dir.path().join("b/key.pem") };
        assert!(matches!(Tls::load(&missing), Err(Error::Tls(_))));
    }
}
