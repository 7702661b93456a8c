//! Connections that become byte streams: attach and exec.
//!
//! With `Upgrade: tcp` the answer is 101 and the bytes follow. Without it the answer is 200 and the body is the
//! output until the connection closes; input is then the request's body. Half-close by the client ends the process's
//! input; output goes on until the process ends.
//!
//! Some clients (the SDK for Python) drop what comes with the head of the answer: their HTTP library has read it, and they
//! read the socket behind its back. So an exec starts after the head is out, as in Docker, and no output is written
//! before a client on a Unix socket has read the head.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use weft_engine::AttachedStreams;

use crate::error::ApiResult;
use crate::frames;
use crate::request::{Call, body_stream};
use crate::response;
use crate::version::ApiVersion;

/// The first version that tells framed from raw by content type.
const TYPED_STREAMS: ApiVersion = ApiVersion(1, 42);

/// Marks an answer that carries none of the common headers, as Docker's of attach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BareHeaders;

/// A client that has not read the head by then gets output all the same.
const HEAD_PATIENCE: Duration = Duration::from_secs(1);
const HEAD_LOOK: Duration = Duration::from_millis(1);

/// Connects the client with the process, whose streams are there once the answer is under way.
pub(crate) async fn answer(
    mut call: Call,
    tty: bool,
    streams: impl Future<Output = AttachedStreams> + Send + 'static,
) -> ApiResult {
    let content_type = if call.version >= TYPED_STREAMS { frames::content_type(tty) } else { frames::RAW };
    match call.upgrade.take().filter(|_| call.wants_upgrade()) {
        Some(upgrade) => {
            tokio::spawn(async move {
                match upgrade.await {
                    Ok(connection) => connect(connection, streams).await,
                    Err(error) => tracing::debug!(%error, "client left before its stream began"),
                }
            });
            switching_protocols(content_type)
        }
        None => Ok(plain(call.body, streams.await)),
    }
}

fn switching_protocols(content_type: &'static str) -> ApiResult {
    let mut response = response::empty(StatusCode::SWITCHING_PROTOCOLS);
    response.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    Ok(response)
}

async fn connect(connection: Upgraded, streams: impl Future<Output = AttachedStreams>) {
    match connection.downcast::<TokioIo<UnixStream>>() {
        Ok(parts) => {
            let stream = parts.io.into_inner();
            let streams = streams.await;
            head_is_read(&stream).await;
            let (from_client, to_client) = stream.into_split();
            pump(std::io::Cursor::new(parts.read_buf).chain(from_client), to_client, streams).await;
        }
        Err(connection) => {
            let (from_client, to_client) = tokio::io::split(TokioIo::new(connection));
            pump(from_client, to_client, streams.await).await;
        }
    }
}

async fn head_is_read(stream: &UnixStream) {
    let read = async {
        while matches!(weft_kernel::all_is_read(stream), Ok(false)) {
            tokio::time::sleep(HEAD_LOOK).await;
        }
    };
    let _ = tokio::time::timeout(HEAD_PATIENCE, read).await;
}

/// Both directions until the output ends or the client is gone.
async fn pump(
    mut from_client: impl AsyncRead + Unpin + Send + 'static,
    mut to_client: impl AsyncWrite + Unpin,
    streams: AttachedStreams,
) {
    let AttachedStreams { stdin, mut output, tty } = streams;
    let input = tokio::spawn(async move {
        let Some(mut stdin) = stdin else {
            // Read on, to notice nothing but to let the client write.
            let _ = tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await;
            return;
        };
        // A process that has closed its input, or ended, is no error here.
        let _ = tokio::io::copy(&mut from_client, &mut stdin).await;
        let _ = stdin.shutdown().await;
    });
    while let Some(chunk) = output.next().await {
        let Ok((kind, payload)) = chunk else { break };
        if to_client.write_all(&frames::encode(kind, payload, tty)).await.is_err() {
            break;
        }
    }
    let _ = to_client.shutdown().await;
    input.abort();
}

/// The answer for clients that do not ask for an upgrade. A status line of HTTP/1.0 makes the body end with the
/// connection, unframed by HTTP, which is what such clients read.
fn plain(input: Incoming, streams: AttachedStreams) -> Response<response::Body> {
    let AttachedStreams { stdin, output, tty } = streams;
    if let Some(stdin) = stdin {
        tokio::spawn(feed(input, stdin));
    }
    let chunks =
        output.map(move |chunk| chunk.map(|(kind, payload): (_, Bytes)| frames::encode(kind, payload, tty)));
    let mut response = response::stream(Some(frames::RAW), chunks);
    *response.version_mut() = Version::HTTP_10;
    response
}

async fn feed(input: Incoming, mut stdin: std::pin::Pin<Box<dyn AsyncWrite + Send>>) {
    let mut chunks = body_stream(input);
    while let Some(Ok(chunk)) = chunks.next().await {
        if stdin.write_all(&chunk).await.is_err() {
            return;
        }
    }
    let _ = stdin.shutdown().await;
}
