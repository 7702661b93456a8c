//! Plugin sockets: requests in, answers out.

use std::convert::Infallible;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Most that is read of a request.
const MAX_REQUEST_BYTES: usize = 1 << 20;
/// Pause after a failed `accept`, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// JSON.
    pub body: Vec<u8>,
}

/// What answers at a socket.
#[async_trait::async_trait]
pub trait Face: Send + Sync + 'static {
    /// Answers one request. `path` is the URL's, `body` whatever came: its form is not checked yet.
    async fn answer(&self, path: &str, body: &[u8]) -> Answer;

    /// The media type of its answers.
    fn media_type(&self) -> &'static str {
        "application/json"
    }
}

/// A face being served.
pub struct PluginServer {
    stop: CancellationToken,
    connections: TaskTracker,
}

impl PluginServer {
    /// Serves a face at a bound socket until [`PluginServer::stop`]. Needs a tokio runtime.
    pub fn start(listener: UnixListener, face: Arc<dyn Face>) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let server = Self { stop: CancellationToken::new(), connections: TaskTracker::new() };
        let (stop, connections) = (server.stop.clone(), server.connections.clone());
        tokio::spawn(async move {
            while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
                match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(serve_connection(stream, face.clone(), stop.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "accept a plugin's connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
        Ok(server)
    }

    /// Accepts nothing more, lets requests under way finish for at most `limit`, then drops them.
    pub async fn stop(self, limit: Duration) {
        self.stop.cancel();
        self.connections.close();
        if tokio::time::timeout(limit, self.connections.wait()).await.is_err() {
            tracing::debug!(left = self.connections.len(), "plugin connections dropped at stop");
        }
    }
}

async fn serve_connection(stream: tokio::net::UnixStream, face: Arc<dyn Face>, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let face = face.clone();
        async move { Ok::<_, Infallible>(respond(face.as_ref(), request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "plugin connection ended");
    }
}

async fn respond(face: &dyn Face, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let answer = match Limited::new(request.into_body(), MAX_REQUEST_BYTES).collect().await {
        Ok(body) => face.answer(&path, &body.to_bytes()).await,
        Err(error) => Answer { status: StatusCode::BAD_REQUEST, body: error.to_string().into_bytes() },
    };
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    let media_type = header::HeaderValue::from_static(face.media_type());
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}
