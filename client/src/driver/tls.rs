//! (D) Which certificate is trusted. TLS 1.3 only, ring only; the system's authorities are never asked.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    version::TLS13,
};

use crate::{error::Error, options::Trust, types::Fingerprint};

/// The protocol's name in the TLS handshake of a QUIC connection.
const ALPN_QUIC: &[u8] = b"columba/1";
/// WebSocket needs HTTP/1.1.
const ALPN_WEBSOCKET: &[u8] = b"http/1.1";

/// Who is believed to be the server.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    /// One certificate.
    Fingerprint(Fingerprint),
    /// These certificates, or what these authorities signed for the server's name.
    Certificates(Arc<[CertificateDer<'static>]>, Option<Arc<WebPkiServerVerifier>>),
    /// Anyone, once.
    FirstUse,
}

impl Rule {
    /// Reads the certificates. What is pinned counts more than a second first use.
    pub(crate) fn new(trust: Trust, pinned: Option<Fingerprint>) -> Result<Self, Error> {
        match trust {
            Trust::Fingerprint(fingerprint) => Ok(Self::Fingerprint(fingerprint)),
            Trust::FirstUse => Ok(pinned.map_or(Self::FirstUse, Self::Fingerprint)),
            Trust::Certificates(path) => Self::of_file(&path),
        }
    }

    fn of_file(path: &Path) -> Result<Self, Error> {
        let wrong = |reason: String| Error::InvalidOption(format!("certificates in {}: {reason}", path.display()));
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?.collect();
        let certificates = certificates.map_err(|error| wrong(error.to_string()))?;
        if certificates.is_empty() {
            return Err(wrong("there are none".to_owned()));
        }
        let mut authorities = RootCertStore::empty();
        authorities.add_parsable_certificates(certificates.iter().cloned());
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), provider).build().ok();
        Ok(Self::Certificates(certificates.into(), verifier))
    }

    /// A first use happened. Returns what is pinned by it.
    pub(crate) fn pin(&mut self, fingerprint: Fingerprint) -> Option<Fingerprint> {
        if !matches!(self, Self::FirstUse) {
            return None;
        }
        *self = Self::Fingerprint(fingerprint);
        Some(fingerprint)
    }

    /// The one certificate that is trusted, where it is one.
    pub(crate) fn expected(&self) -> Option<Fingerprint> {
        match self {
            Self::Fingerprint(fingerprint) => Some(*fingerprint),
            Self::Certificates(..) | Self::FirstUse => None,
        }
    }

    /// For one connection, and what its server shows.
    pub(super) fn config(&self, quic: bool) -> (ClientConfig, Seen) {
        let provider = Arc::new(ring::default_provider());
        let seen = Seen::default();
        let verifier = Verifier { rule: self.clone(), provider: Arc::clone(&provider), seen: seen.clone() };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .expect("the provider knows TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![if quic { ALPN_QUIC } else { ALPN_WEBSOCKET }.to_vec()];
        (config, seen)
    }
}

/// The certificate that a server showed.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<Option<Fingerprint>>>);

impl Seen {
    /// Of the certificate.
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        *self.0.lock().expect("nothing panics while it is held")
    }

    /// The reason of a failed handshake, in the words that matter.
    pub(super) fn explain(&self, rule: &Rule, error: Error) -> Error {
        match (rule, self.fingerprint()) {
            (Rule::Fingerprint(expected), Some(found)) if *expected != found => {
                Error::CertificateChanged { expected: *expected, found }
            }
            _ => error,
        }
    }
}

#[derive(Debug)]
struct Verifier {
    rule: Rule,
    provider: Arc<CryptoProvider>,
    seen: Seen,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let found = Fingerprint::of(end_entity);
        *self.seen.0.lock().expect("nothing panics while it is held") = Some(found);
        match &self.rule {
            Rule::FirstUse => Ok(ServerCertVerified::assertion()),
            Rule::Fingerprint(expected) if *expected == found => Ok(ServerCertVerified::assertion()),
            Rule::Certificates(known, _) if known.iter().any(|known| known == end_entity) => {
                Ok(ServerCertVerified::assertion())
            }
            Rule::Certificates(_, Some(authorities)) => {
                authorities.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
            }
            Rule::Fingerprint(_) | Rule::Certificates(_, None) => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
