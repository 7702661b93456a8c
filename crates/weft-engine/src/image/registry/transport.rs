//! One HTTP request on a connection of its own. A pull or push makes a handful of them: keeping
//! connections is not worth it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::endpoint::split_port;
use super::payload::Body;

/// As long as dockerd waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// For the head of an answer, or until the next piece of what is sent is on its way.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const AGENT: &str = concat!("weft/", env!("CARGO_PKG_VERSION"));

/// A request got no answer; the words are those of Docker's HTTP client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransportError {
    #[error("dial tcp: lookup {host}: no such host")]
    Lookup { host: String, source: io::Error },
    #[error("dial tcp {address}: connect: {}", plain(.source))]
    Connect { address: String, source: io::Error },
    #[error("dial tcp {0}: i/o timeout")]
    ConnectTimeout(String),
    #[error("http: server gave HTTP response to HTTPS client")]
    NotTls,
    #[error("tls: {0}")]
    Tls(io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("net/http: request canceled (Client.Timeout exceeded while awaiting headers)")]
    AnswerTimeout,
    #[error("unsupported URL")]
    Url,
    #[error("read what is to be sent: {0}")]
    Read(io::Error),
}

impl TransportError {
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::ConnectTimeout(_) | Self::Http(_) | Self::AnswerTimeout)
    }
}

/// The reason without the number that the standard library adds.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        _ => error.to_string(),
    }
}

/// Sends a request to where its URL says.
pub(super) async fn send(
    mut request: Request<Body>,
    tls: &Arc<ClientConfig>,
    moved: Option<&AtomicU64>,
) -> Result<Response<Incoming>, TransportError> {
    let url = request.uri().clone();
    let authority = url.authority().ok_or(TransportError::Url)?.as_str().to_owned();
    let secure = match url.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(TransportError::Url),
    };
    let (host, port) = split_port(&authority);
    let stream = dial(host, port.unwrap_or(if secure { 443 } else { 80 })).await?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(&authority).map_err(|_| TransportError::Url)?);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>().map_err(|_| TransportError::Url)?;
    if !secure {
        return exchange(stream, request, moved).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| TransportError::Url)?;
    let handshake = TlsConnector::from(tls.clone()).connect(name, stream);
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, handshake).await {
        Ok(result) => result.map_err(tls_error)?,
        Err(_) => return Err(TransportError::ConnectTimeout(authority)),
    };
    exchange(stream, request, moved).await
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, TransportError> {
    let found = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<_> =
        found.map_err(|source| TransportError::Lookup { host: host.to_owned(), source })?.collect();
    let mut last = TransportError::Url;
    for address in addresses {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(source)) => last = TransportError::Connect { address: address.to_string(), source },
            Err(_) => last = TransportError::ConnectTimeout(address.to_string()),
        }
    }
    Err(last)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Body>,
    moved: Option<&AtomicU64>,
) -> Result<Response<Incoming>, TransportError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the response's body, or when that is dropped.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let mut answer = std::pin::pin!(sender.send_request(request));
    let sent = || moved.map_or(0, |moved| moved.load(Ordering::Relaxed));
    loop {
        let before = sent();
        match tokio::time::timeout(ANSWER_TIMEOUT, answer.as_mut()).await {
            Ok(answer) => return Ok(answer?),
            Err(_) if sent() == before => return Err(TransportError::AnswerTimeout),
            Err(_) => {}
        }
    }
}

fn tls_error(error: io::Error) -> TransportError {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidMessage(_)) => TransportError::NotTls,
        _ => TransportError::Tls(error),
    }
}
