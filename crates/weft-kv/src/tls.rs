//! TLS towards a store, from files that the administrator names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};

/// The files of `kv.cacertfile`, `kv.certfile` and `kv.keyfile`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFiles {
    /// Authorities that the store's servers are certified by.
    pub authority: PathBuf,
    /// Our own certificate and its key, where the store asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// The files do not make a TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Missing, or not in the PEM format.
    #[error("read {path} for the key-value store: {source}")]
    Pem {
        /// Which of them.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// Nothing in it can be trusted.
    #[error("{0} for the key-value store holds no certificate authority")]
    NoAuthority(PathBuf),
    /// Certificate and key do not fit each other, or are of an unknown kind.
    #[error("certificate and key for the key-value store: {0}")]
    Config(#[from] rustls::Error),
}

impl TlsFiles {
    /// Reads them; `protocol` is what is spoken inside (RFC 7301).
    pub(crate) fn load(&self, protocol: &[u8]) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = builder.with_root_certificates(self.roots()?);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let problem = |source| TlsError::Pem { path: key.clone(), source };
                let key = PrivateKeyDer::from_pem_file(key).map_err(problem)?;
                builder.with_client_auth_cert(certificates(certificate)?, key)?
            }
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(certificates(&self.authority)?);
        if added == 0 { Err(TlsError::NoAuthority(self.authority.clone())) } else { Ok(roots) }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let problem = |source| TlsError::Pem { path: path.to_owned(), source };
    CertificateDer::pem_file_iter(path).map_err(problem)?.collect::<Result<_, _>>().map_err(problem)
}
