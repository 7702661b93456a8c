//! TLS configurations: one server port for everyone, and the three ways to call it.
//!
//! TLS 1.2 and 1.3, ALPN `h2` always offered and selected: gRPC libraries refuse peers without it.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};

use crate::{CertificateError, NodeIdentity, RootBundle, pem};

const ALPN_H2: &[u8] = b"h2";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Verifies node certificates against `roots`; asks for a certificate and accepts none.
pub(crate) fn client_verifier(roots: &RootBundle) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
    WebPkiClientVerifier::builder_with_provider(roots.store(), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|_| CertificateError::UnusableRoot("no root to verify clients with"))
}

/// The configuration of a manager's port.
pub(crate) fn server(identity: &NodeIdentity, roots: &RootBundle) -> Result<ServerConfig, CertificateError> {
    let tls = |source| CertificateError::Tls { source };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_client_cert_verifier(client_verifier(roots)?)
        .with_single_cert(pem::certificates(&identity.certificate_pem)?, pem::private_key(&identity.key_pem)?)
        .map_err(tls)?;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Ok(config)
}

/// A client that verifies the server against `roots` and shows its own certificate if it has one.
pub(crate) fn client(
    roots: &RootBundle,
    identity: Option<&NodeIdentity>,
) -> Result<ClientConfig, CertificateError> {
    let tls = |source| CertificateError::Tls { source };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_root_certificates(roots.store());
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_auth_cert(
                pem::certificates(&identity.certificate_pem)?,
                pem::private_key(&identity.key_pem)?,
            )
            .map_err(tls)?,
    };
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Ok(config)
}

/// A client that accepts any server: only for downloading the root, whose digest the join token then proves.
pub(crate) fn client_without_verification() -> Result<ClientConfig, CertificateError> {
    let provider = provider();
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|source| CertificateError::Tls { source })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer { provider }))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Ok(config)
}

/// Accepts every server certificate; still checks that the server holds its key.
#[derive(Debug)]
struct AnyServer {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
