//! Connections to managers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::{CertificateError, IdentityHandle, NodeRole, RootBundle, tls};

/// TCP connect and TLS handshake together.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Begins the user agent of our calls: managers that are asked for a certificate know from it which engine asks.
pub const USER_AGENT: &str = "weft/";
const VERSIONED_USER_AGENT: &str = concat!("weft/", env!("CARGO_PKG_VERSION"));

/// How often an idle connection between managers is tried, and how long an answer may take.
const PEER_PING: Duration = Duration::from_secs(2);
const PEER_SILENCE: Duration = Duration::from_secs(3);

/// How a connection proves both ends.
#[derive(Clone, Copy, Debug)]
pub enum ChannelMode<'a> {
    /// No certificate of our own, none demanded: only to download the root that a token then proves.
    TrustAny,
    /// No certificate of our own; the server must be a CA server (`swarm-ca`) under this root bundle.
    Joining {
        /// PEM bundle.
        root_pem: &'a str,
    },
    /// This node's certificate; the server must be a manager of the swarm. Follows renewals at each reconnect.
    Node(&'a IdentityHandle),
}

enum ConfigSource {
    Fixed(Arc<ClientConfig>),
    Handle(IdentityHandle),
}

impl ConfigSource {
    fn config(&self) -> Arc<ClientConfig> {
        match self {
            Self::Fixed(config) => config.clone(),
            Self::Handle(handle) => handle.client_config(),
        }
    }
}

/// A channel to the manager at `address`. It connects at the first call and again after each loss.
pub fn channel(address: SocketAddr, mode: ChannelMode<'_>) -> Result<Channel, CertificateError> {
    let (source, name) = match mode {
        ChannelMode::TrustAny => {
            (ConfigSource::Fixed(Arc::new(tls::client_without_verification()?)), crate::CA_SERVER_NAME)
        }
        ChannelMode::Joining { root_pem } => {
            let roots = RootBundle::parse(root_pem)?;
            (ConfigSource::Fixed(Arc::new(tls::client(&roots, None)?)), crate::CA_SERVER_NAME)
        }
        ChannelMode::Node(handle) => (ConfigSource::Handle(handle.clone()), NodeRole::Manager.as_str()),
    };
    let connector = connector(address, Arc::new(source), name);
    // The authority in the requests; Go's clients put the name there that they verify the server by.
    let endpoint = Endpoint::from_static("http://swarm-manager");
    // The text is a valid header value.
    let endpoint = endpoint.clone().user_agent(VERSIONED_USER_AGENT).unwrap_or(endpoint);
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// A channel between two managers of Weft. Unlike [`channel`] it notices within seconds when the other end vanished
/// without a word; Docker's servers would take the pings for an attack.
pub fn peer_channel(address: SocketAddr, identity: &IdentityHandle) -> Result<Channel, CertificateError> {
    let source = Arc::new(ConfigSource::Handle(identity.clone()));
    let endpoint = Endpoint::from_static("http://swarm-manager")
        .http2_keep_alive_interval(PEER_PING)
        .keep_alive_timeout(PEER_SILENCE)
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_with_connector_lazy(connector(address, source, NodeRole::Manager.as_str())))
}

fn connector(
    address: SocketAddr,
    source: Arc<ConfigSource>,
    name: &'static str,
) -> impl tower::Service<
    Uri,
    Response = TokioIo<tokio_rustls::client::TlsStream<TcpStream>>,
    Error = io::Error,
    Future: Send,
> + Send
+ 'static {
    tower::service_fn(move |_: Uri| {
        let source = source.clone();
        async move {
            tokio::time::timeout(CONNECT_DEADLINE, connect(address, source.config(), name))
                .await
                .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "connecting took too long")))
        }
    })
}

async fn connect(
    address: SocketAddr,
    config: Arc<ClientConfig>,
    name: &'static str,
) -> io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    Ok(TokioIo::new(TlsConnector::from(config).connect(name, stream).await?))
}
