//! One request at a time over a unix socket, for the plugin's process.

use std::io;
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;

/// Most that is read of an answer: an attachment takes a kilobyte.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody listens.
    #[error("connect")]
    Connect(#[source] io::Error),
    /// The daemon went away meanwhile, or is no daemon of ours.
    #[error("talk")]
    Talk(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sends a body to `path` at a socket and reads the answer.
pub(crate) async fn post(socket: &Path, path: &str, body: Vec<u8>) -> Result<(StatusCode, Bytes), CallError> {
    let stream = tokio::net::UnixStream::connect(socket).await.map_err(CallError::Connect)?;
    let talk = |error: hyper::Error| CallError::Talk(error.into());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(talk)?;
    tokio::spawn(connection);
    let request = Request::post(path)
        .header(header::HOST, "weft")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| CallError::Talk(error.into()))?;
    let response = sender.send_request(request).await.map_err(talk)?;
    let status = response.status();
    let body =
        Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(CallError::Talk)?;
    Ok((status, body.to_bytes()))
}
