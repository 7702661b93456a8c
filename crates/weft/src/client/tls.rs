//! TLS to a daemon: both sides show a certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::ClientError;

/// docker's options and variables.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct TlsOptions {
    /// Use TLS with a tcp:// daemon, and verify it; files that are not named are in DOCKER_CERT_PATH or ~/.docker.
    /// Any value but an empty one of DOCKER_TLS_VERIFY means the same
    #[arg(long, global = true)]
    tlsverify: bool,
    /// Trust daemons whose certificate this authority signed
    #[arg(long, value_name = "file", global = true)]
    tlscacert: Option<PathBuf>,
    /// Our own certificate
    #[arg(long, value_name = "file", global = true)]
    tlscert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "file", global = true)]
    tlskey: Option<PathBuf>,
}

/// How to reach a daemon by TLS.
#[derive(Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl TlsOptions {
    fn wanted(&self) -> bool {
        self.tlsverify || variable("DOCKER_TLS_VERIFY").is_some()
    }

    fn file(&self, named: &Option<PathBuf>, usual: &str) -> PathBuf {
        named.clone().unwrap_or_else(|| default_dir().join(usual))
    }

    /// Reads the files, if TLS is wanted.
    pub(super) fn load(&self) -> Result<Option<Tls>, ClientError> {
        if !self.wanted() {
            return Ok(None);
        }
        let (ca, certificate, key) = (
            self.file(&self.tlscacert, "ca.pem"),
            self.file(&self.tlscert, "cert.pem"),
            self.file(&self.tlskey, "key.pem"),
        );
        let failed = |path: &Path, reason: &dyn std::fmt::Display| ClientError::Tls {
            path: path.to_owned(),
            reason: reason.to_string(),
        };
        let mut roots = RootCertStore::empty();
        for root in certificates(&ca)? {
            roots.add(root).map_err(|error| failed(&ca, &error))?;
        }
        let chain = certificates(&certificate)?;
        let own = PrivateKeyDer::from_pem_file(&key).map_err(|error| failed(&key, &error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_root_certificates(roots).with_client_auth_cert(chain, own));
        config.map(|config| Some(Tls(Arc::new(config)))).map_err(|error| failed(&certificate, &error))
    }
}

impl Tls {
    /// Shakes hands with the daemon at `address`, `host:port`.
    pub(super) async fn connect(
        &self,
        address: &str,
        stream: TcpStream,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(std::io::Error::other)?;
        TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let failed = |error: rustls::pki_types::pem::Error| ClientError::Tls {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)
}

fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn default_dir() -> PathBuf {
    let named = variable("DOCKER_CERT_PATH").or_else(|| variable("DOCKER_CONFIG")).map(PathBuf::from);
    named.unwrap_or_else(|| PathBuf::from(variable("HOME").unwrap_or_else(|| "/root".into())).join(".docker"))
}
