//! TLS for the API's TCP addresses.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::config::TlsFiles;

/// The files do not make a TLS configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("read {path}: {source}")]
    Pem { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{path} holds no certificate authority that can be used: {reason}")]
    Authority { path: PathBuf, reason: String },
    #[error("certificate and key for TLS: {0}")]
    Config(#[from] rustls::Error),
}

/// Builds the server's side; with an authority for them, clients need a certificate.
pub(super) fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| TlsError::Pem { path: files.key.clone(), source })?;
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match &files.client_ca {
        Some(ca) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider).build();
            let refused = |reason: &dyn std::fmt::Display| TlsError::Authority {
                path: ca.clone(),
                reason: reason.to_string(),
            };
            builder.with_client_cert_verifier(verifier.map_err(|e| refused(&e))?)
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(builder.with_single_cert(chain, key)?))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Pem { path: path.to_owned(), source };
    CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store
            .add(certificate)
            .map_err(|e| TlsError::Authority { path: path.to_owned(), reason: e.to_string() })?;
    }
    Ok(store)
}
