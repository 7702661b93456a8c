//! One HTTP request on a connection of its own, to the servers in turn. A daemon asks a few times a minute: keeping
//! connections is not worth it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{HOST, HeaderValue, USER_AGENT};
use hyper::{Method, StatusCode, Uri};
use rustls::ClientConfig;

use crate::address::Endpoint;
use crate::dial::{Connection, dial};
use crate::error::{Failure, chain};
use crate::rotation::Rotation;

/// For one server's answer, once the connection stands.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// Larger answers are not those of a store of networks.
const ANSWER_MAX: usize = 64 << 20;
/// Longer texts of a refusal are cut.
const REASON_MAX: usize = 200;
const AGENT: &str = concat!("weft/", env!("CARGO_PKG_VERSION"));

/// What to ask.
pub(super) struct Request {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    pub(super) body: Bytes,
    /// It does no harm when done twice.
    pub(super) repeatable: bool,
    /// How long one server may take for the answer.
    pub(super) patience: Duration,
}

impl Request {
    pub(super) fn get(target: String) -> Self {
        Self { method: Method::GET, target, body: Bytes::new(), repeatable: true, patience: ANSWER_DEADLINE }
    }

    pub(super) fn put(target: String) -> Self {
        Self { method: Method::PUT, repeatable: false, ..Self::get(target) }
    }
}

/// What a server said.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// `X-Consul-Index`.
    pub(super) index: Option<u64>,
    pub(super) body: Bytes,
}

impl Answer {
    /// Itself, unless it is a refusal.
    pub(super) fn success(self) -> Result<Self, Failure> {
        if self.status.is_success() { Ok(self) } else { Err(self.refused()) }
    }

    pub(super) fn refused(&self) -> Failure {
        Failure::Refused(format!("{} ({})", reason(&self.body), self.status))
    }
}

/// The servers.
pub(super) struct Http {
    servers: Vec<Endpoint>,
    rotation: Rotation,
    tls: Option<Arc<ClientConfig>>,
}

impl Http {
    pub(super) fn new(servers: Vec<Endpoint>, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { rotation: Rotation::new(servers.len()), servers, tls }
    }

    pub(super) async fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        self.rotation.ask(request.repeatable, |server| self.once(&self.servers[server], request)).await
    }

    async fn once(&self, server: &Endpoint, request: &Request) -> Result<Answer, Failure> {
        let message = message(server, request)?;
        let connection =
            dial(server, self.tls.as_ref()).await.map_err(|e| Failure::NotSent(e.to_string()))?;
        match tokio::time::timeout(request.patience, exchange(connection, message)).await {
            Err(_) => Err(Failure::Lost(format!("{server}: no answer within {:?}", request.patience))),
            Ok(Err(failure)) => Err(failure),
            Ok(Ok(answer)) if answer.status.is_server_error() => Err(trouble(server, &answer)),
            Ok(Ok(answer)) => Ok(answer),
        }
    }
}

fn message(server: &Endpoint, request: &Request) -> Result<hyper::Request<Full<Bytes>>, Failure> {
    let unusable = |error: &dyn std::error::Error| Failure::Refused(error.to_string());
    let mut message = hyper::Request::new(Full::new(request.body.clone()));
    *message.method_mut() = request.method.clone();
    *message.uri_mut() = request.target.parse::<Uri>().map_err(|e| unusable(&e))?;
    let host = HeaderValue::from_str(&server.to_string()).map_err(|e| unusable(&e))?;
    message.headers_mut().insert(HOST, host);
    message.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
    Ok(message)
}

async fn exchange(connection: Connection, message: hyper::Request<Full<Bytes>>) -> Result<Answer, Failure> {
    let lost = |error: hyper::Error| Failure::Lost(chain(&error));
    let (mut sender, driver) = hyper::client::conn::http1::handshake(connection).await.map_err(lost)?;
    // Ends with the answer's body, or when that is dropped.
    tokio::spawn(async move {
        let _ = driver.await;
    });
    let answer = sender.send_request(message).await.map_err(lost)?;
    let (status, headers) = (answer.status(), answer.headers());
    let index = headers.get("X-Consul-Index").and_then(|value| value.to_str().ok()?.parse().ok());
    let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
    let body = body.map_err(|error| Failure::Lost(chain(error.as_ref())))?.to_bytes();
    Ok(Answer { status, index, body })
}

/// What a server that cannot do its work says. It puts some mistakes of the asker's under the same status.
fn trouble(server: &Endpoint, answer: &Answer) -> Failure {
    let reason = reason(&answer.body);
    if reason.contains("No cluster leader") {
        Failure::NotSent(format!("{server}: {reason}"))
    } else if reason.starts_with("Invalid") {
        Failure::Refused(reason)
    } else {
        Failure::Lost(format!("{server}: {reason} ({})", answer.status))
    }
}

fn reason(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim().chars().take(REASON_MAX).collect()
}
