//! TLS for both sides: the load trusts exactly the certificate the server names, the echo server makes its own.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    version::TLS13,
};

/// The protocol's name in the TLS handshake of a QUIC connection.
pub(crate) const ALPN: &[u8] = b"columba/1";

/// Trusts one certificate, byte for byte.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *end_entity == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General("not the certificate that the server named".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate of a PEM file.
///
/// # Errors
/// No such file, or none in it.
pub(crate) fn certificate(path: &Path) -> anyhow::Result<CertificateDer<'static>> {
    Ok(CertificateDer::from_pem_file(path)?)
}

/// A client that trusts `certificate` alone.
///
/// # Errors
/// None in practice: the provider knows TLS 1.3.
pub(crate) fn client(certificate: CertificateDer<'static>, quic: bool) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Pinned { certificate, provider: Arc::clone(&provider) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    if quic {
        config.alpn_protocols = vec![ALPN.to_vec()];
    }
    Ok(config)
}

/// A fresh self-signed server: its configuration, for WebSocket and for QUIC; the certificate goes to `path` as PEM.
///
/// # Errors
/// What the file system says.
#[expect(clippy::disallowed_methods, reason = "a driver: the certificate is handed to the load in a file")]
pub(crate) fn server(path: &Path) -> anyhow::Result<(ServerConfig, ServerConfig)> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(path, made.cert.pem())?;
    let build = |alpn: Vec<Vec<u8>>| -> anyhow::Result<ServerConfig> {
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)?;
        config.alpn_protocols = alpn;
        Ok(config)
    };
    Ok((build(Vec::new())?, build(vec![ALPN.to_vec()])?))
}
