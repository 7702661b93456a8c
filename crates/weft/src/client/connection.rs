//! One request at a time over a unix or TCP socket, with TLS or without.
//!
//! Every request has a connection of its own: commands make a handful of calls, and a hijacked one takes its
//! connection with it.

use std::path::PathBuf;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use super::error::ClientError;
use super::tls::{Tls, TlsOptions};

/// Where weftd listens unless told otherwise.
const DEFAULT_HOST: &str = "unix:///run/weft.sock";

/// A daemon's address.
#[derive(Debug, Clone)]
pub(super) struct Daemon {
    host: String,
    address: Address,
}

#[derive(Debug, Clone)]
enum Address {
    Unix(PathBuf),
    Tcp { address: String, tls: Option<Tls> },
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Body = BoxBody<Bytes, std::io::Error>;

impl Daemon {
    /// The daemon named on the command line or in the environment, else the usual one.
    pub(super) fn new(host: Option<&str>, tls: &TlsOptions) -> Result<Self, ClientError> {
        let host = host.filter(|h| !h.is_empty()).unwrap_or(DEFAULT_HOST);
        let address = match host.split_once("://") {
            Some(("unix", path)) if !path.is_empty() => Address::Unix(path.into()),
            Some(("tcp", address)) if address.contains(':') => {
                Address::Tcp { address: address.to_owned(), tls: tls.load()? }
            }
            _ => return Err(ClientError::BadHost(host.to_owned())),
        };
        Ok(Self { host: host.to_owned(), address })
    }

    async fn dial(&self) -> Result<Box<dyn Stream>, ClientError> {
        let failed = |source| ClientError::Connect { host: self.host.clone(), source };
        Ok(match &self.address {
            Address::Unix(path) => Box::new(tokio::net::UnixStream::connect(path).await.map_err(failed)?),
            Address::Tcp { address, tls } => {
                let stream = tokio::net::TcpStream::connect(address).await.map_err(failed)?;
                match tls {
                    Some(tls) => Box::new(tls.connect(address, stream).await.map_err(failed)?),
                    None => Box::new(stream),
                }
            }
        })
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, ClientError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.dial().await?)).await?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender.send_request(request).await?)
    }

    /// Sends a request; an error status becomes the daemon's message.
    pub(super) async fn call(&self, call: Call) -> Result<Response<Incoming>, ClientError> {
        let response = self.send(call.into_request()?).await?;
        if response.status().is_client_error() || response.status().is_server_error() {
            return Err(daemon_error(response).await);
        }
        Ok(response)
    }

    /// Sends a request and reads the JSON answer; an empty one is `null`.
    pub(super) async fn json(&self, call: Call) -> Result<Value, ClientError> {
        let body = self.call(call).await?.into_body().collect().await?.to_bytes();
        if body.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&body)?) }
    }

    /// Sends a request whose answer turns the connection into a byte stream both ways.
    pub(super) async fn hijack(&self, call: Call) -> Result<Hijacked, ClientError> {
        let mut request = call.into_request()?;
        request.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
        request.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("tcp"));
        let response = self.send(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(daemon_error(response).await);
        }
        Ok(TokioIo::new(hyper::upgrade::on(response).await?))
    }
}

/// The connection after the upgrade.
pub(super) type Hijacked = TokioIo<hyper::upgrade::Upgraded>;

async fn daemon_error(response: Response<Incoming>) -> ClientError {
    let status = response.status().as_u16();
    let body = match response.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return error.into(),
    };
    let message = serde_json::from_slice::<Value>(&body)
        .ok()
        .and_then(|v| v["message"].as_str().map(str::to_owned))
        .unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
    ClientError::Daemon { status, message }
}

/// One API call under construction.
pub(super) struct Call {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    content_type: Option<&'static str>,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

impl Call {
    fn new(method: Method, path: impl Into<String>) -> Self {
        let body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed();
        Self { method, path: path.into(), query: Vec::new(), content_type: None, headers: Vec::new(), body }
    }

    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn head(path: impl Into<String>) -> Self {
        Self::new(Method::HEAD, path)
    }

    pub(super) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    pub(super) fn put(path: impl Into<String>) -> Self {
        Self::new(Method::PUT, path)
    }

    pub(super) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    pub(super) fn query(mut self, name: &str, value: impl ToString) -> Self {
        self.query.push((name.to_owned(), value.to_string()));
        self
    }

    pub(super) fn query_if(self, when: bool, name: &str, value: impl ToString) -> Self {
        if when { self.query(name, value) } else { self }
    }

    pub(super) fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds `filters` from `key=value` words.
    pub(super) fn filters(self, words: &[String]) -> Result<Self, ClientError> {
        if words.is_empty() {
            return Ok(self);
        }
        let mut filters = serde_json::Map::new();
        for word in words {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| ClientError::Usage(format!("invalid filter '{word}': want key=value")))?;
            filters.entry(key).or_insert_with(|| Value::Object(Default::default()))[value] =
                Value::Bool(true);
        }
        Ok(self.query("filters", Value::Object(filters)))
    }

    pub(super) fn json_body(mut self, body: &Value) -> Self {
        self.content_type = Some("application/json");
        self.body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {}).boxed();
        self
    }

    /// Streams bytes as the body, chunked.
    pub(super) fn stream_body(
        mut self,
        stream: impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        self.content_type = Some("application/x-tar");
        self.body = StreamBody::new(stream.map_ok(Frame::data)).boxed();
        self
    }

    fn into_request(self) -> Result<Request<Body>, ClientError> {
        // Without a version the daemon answers in its own: these commands use nothing that differs between versions.
        let mut uri = self.path;
        for (i, (name, value)) in self.query.iter().enumerate() {
            uri.push(if i == 0 { '?' } else { '&' });
            uri.push_str(&format!("{}={}", escape(name), escape(value)));
        }
        let mut request = Request::builder()
            .method(self.method)
            .uri(uri)
            .header(header::HOST, "docker")
            .header(header::USER_AGENT, concat!("weft/", env!("CARGO_PKG_VERSION")));
        if let Some(content_type) = self.content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        Ok(request.body(self.body)?)
    }
}

/// Percent-encoding of everything but RFC 3986's unreserved characters; also used for path segments.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        let none = TlsOptions::default();
        assert!(Daemon::new(Some("unix:///x.sock"), &none).is_ok());
        assert!(Daemon::new(Some("tcp://127.0.0.1:2375"), &none).is_ok());
        for bad in ["unix://", "tcp://host", "http://x", "/run/x.sock"] {
            assert!(Daemon::new(Some(bad), &none).is_err(), "{bad}");
        }
    }

    #[test]
    fn queries_are_escaped() {
        let request = Call::get("/networks").query("filters", r#"{"a":1}"#).into_request().unwrap();
        assert_eq!(request.uri(), "/networks?filters=%7B%22a%22%3A1%7D");
    }
}
