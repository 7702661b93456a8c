//! Attach over a web socket (RFC 6455), for clients in browsers. Output is never framed by stream: a terminal's bytes,
//! or both outputs mixed, as Docker sends them.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use hyper::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};
use weft_engine::AttachedStreams;

use crate::error::{ApiError, ApiResult};
use crate::request::Call;
use crate::response::{self, Body};
use crate::version::ApiVersion;

/// The first version whose output is in binary messages.
const BINARY: ApiVersion = ApiVersion(1, 28);
/// A client that does not answer the end of the socket for so long is left alone.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// Largest message of a client, in bytes: keystrokes and pasted text.
const INPUT_MAX: usize = 1 << 20;

/// A request that asks for a web socket.
pub(crate) struct Handshake(HeaderValue);

impl Handshake {
    /// Refuses what no web socket can be made of; nothing was done then.
    pub(crate) fn of(call: &Call) -> Result<Self, ApiError> {
        let header = |name| call.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let upgrades = header(UPGRADE).is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
        match (upgrades && header(SEC_WEBSOCKET_VERSION) == Some("13"), header(SEC_WEBSOCKET_KEY)) {
            (true, Some(key)) => derive_accept_key(key.as_bytes())
                .parse()
                .map(Self)
                .map_err(|_| ApiError::invalid("not websocket protocol")),
            _ => Err(ApiError::invalid("not websocket protocol")),
        }
    }
}

/// Connects the client with the process.
pub(crate) fn answer(mut call: Call, handshake: Handshake, streams: AttachedStreams) -> ApiResult {
    let upgrade = call.upgrade.take().ok_or_else(|| ApiError::invalid("not websocket protocol"))?;
    let binary = call.version >= BINARY;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => pump(connection, streams, binary).await,
            Err(error) => tracing::debug!(%error, "client left before its web socket began"),
        }
    });
    Ok(switching_protocols(handshake))
}

fn switching_protocols(Handshake(accept): Handshake) -> Response<Body> {
    let mut response = response::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// Both directions until the output ends or the client is gone.
async fn pump(connection: Upgraded, streams: AttachedStreams, binary: bool) {
    let AttachedStreams { stdin, mut output, .. } = streams;
    let config = WebSocketConfig::default().max_message_size(Some(INPUT_MAX)).max_frame_size(Some(INPUT_MAX));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, Some(config)).await;
    let (mut to_client, from_client) = socket.split();
    let mut input = tokio::spawn(feed(from_client, stdin));
    loop {
        let chunk = tokio::select! {
            chunk = output.next() => chunk,
            // The client has closed the socket: it wants no output either.
            _ = &mut input => {
                let _ = to_client.close().await;
                return;
            }
        };
        let Some(Ok((_, payload))) = chunk else { break };
        if to_client.send(message(payload, binary)).await.is_err() {
            break;
        }
    }
    let _ = to_client.close().await;
    // Its answer, without which a client would see the connection break.
    let _ = tokio::time::timeout(CLOSE_GRACE, &mut input).await;
    input.abort();
}

fn message(payload: Bytes, binary: bool) -> Message {
    match binary {
        true => Message::Binary(payload),
        false => Message::text(String::from_utf8_lossy(&payload).into_owned()),
    }
}

async fn feed(
    mut from_client: impl Stream<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
    mut stdin: Option<std::pin::Pin<Box<dyn AsyncWrite + Send>>>,
) {
    while let Some(Ok(message)) = from_client.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Close(_) => break,
            _ => continue,
        };
        // A process that has closed its input is no error here, and its output may go on.
        if let Some(to) = &mut stdin
            && to.write_all(&bytes).await.is_err()
        {
            stdin = None;
        }
    }
    if let Some(stdin) = &mut stdin {
        let _ = stdin.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_clients_get_text() {
        assert_eq!(message(Bytes::from_static(b"a\xff"), false), Message::text("a\u{fffd}"));
        assert_eq!(
            message(Bytes::from_static(b"a\xff"), true),
            Message::Binary(Bytes::from_static(b"a\xff"))
        );
    }
}
