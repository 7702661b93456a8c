//! A connection to one server of a store, with TLS where it is wanted.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::address::Endpoint;

/// TCP connect and TLS handshake together. Stores stand in the same network: another server is tried after it.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);

/// Bytes both ways, whatever lies below.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) type Connection = TokioIo<Box<dyn Io>>;

/// Connects; the error says to where.
pub(crate) async fn dial(endpoint: &Endpoint, tls: Option<&Arc<ClientConfig>>) -> io::Result<Connection> {
    let outcome = tokio::time::timeout(CONNECT_DEADLINE, connect(endpoint, tls)).await;
    let outcome = outcome.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {CONNECT_DEADLINE:?}")))
    });
    outcome.map_err(|error| io::Error::new(error.kind(), format!("{endpoint}: {error}")))
}

async fn connect(endpoint: &Endpoint, tls: Option<&Arc<ClientConfig>>) -> io::Result<Connection> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    stream.set_nodelay(true)?;
    let stream: Box<dyn Io> = match tls {
        None => Box::new(stream),
        Some(config) => {
            let name = ServerName::try_from(endpoint.host.clone()).map_err(io::Error::other)?;
            Box::new(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?)
        }
    };
    Ok(TokioIo::new(stream))
}
