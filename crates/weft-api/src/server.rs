//! Sockets, connections and their end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::event_hub::EventHub;
use crate::metrics;
use crate::router;
use crate::state::ApiState;

/// Pause after a failed `accept`, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A TLS client that does not finish its handshake in this time is dropped.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Most that one connection buffers; a request's head must fit.
const MAX_BUFFER_BYTES: usize = 64 << 10;

/// A bound socket to serve the API at. The roof binds them, with their owner and mode.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket.
    Unix(std::os::unix::net::UnixListener),
    /// A TCP socket, in the clear.
    Tcp(std::net::TcpListener),
    /// A TCP socket with TLS; the configuration decides whether clients need a certificate.
    Tls(std::net::TcpListener, Arc<rustls::ServerConfig>),
    /// A TCP socket in the clear where nothing but metrics can be had.
    Metrics(std::net::TcpListener),
}

/// The API being served.
pub struct Server {
    events: EventHub,
    stop: CancellationToken,
    connections: TaskTracker,
}

impl Server {
    /// Serves all listeners until [`Server::stop`].
    pub fn start(state: ApiState, listeners: Vec<Listener>) -> io::Result<Self> {
        let server = Self {
            events: state.events.clone(),
            stop: CancellationToken::new(),
            connections: TaskTracker::new(),
        };
        for listener in listeners {
            server.listen(&state, listener)?;
        }
        Ok(server)
    }

    fn listen(&self, state: &ApiState, listener: Listener) -> io::Result<()> {
        let face = if matches!(listener, Listener::Metrics(_)) { Face::Metrics } else { Face::Api };
        let loop_ = AcceptLoop {
            face,
            state: state.clone(),
            stop: self.stop.clone(),
            connections: self.connections.clone(),
        };
        match listener {
            Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                tokio::spawn(loop_.unix(tokio::net::UnixListener::from_std(listener)?));
            }
            Listener::Tcp(listener) | Listener::Metrics(listener) => {
                listener.set_nonblocking(true)?;
                tokio::spawn(loop_.tcp(tokio::net::TcpListener::from_std(listener)?, None));
            }
            Listener::Tls(listener, config) => {
                listener.set_nonblocking(true)?;
                let acceptor = TlsAcceptor::from(config);
                tokio::spawn(loop_.tcp(tokio::net::TcpListener::from_std(listener)?, Some(acceptor)));
            }
        }
        Ok(())
    }

    /// Accepts nothing more, lets requests under way finish for at most `limit`, then drops them.
    pub async fn stop(self, limit: Duration) {
        self.stop.cancel();
        self.events.end();
        self.connections.close();
        if tokio::time::timeout(limit, self.connections.wait()).await.is_err() {
            tracing::debug!(left = self.connections.len(), "API connections dropped at stop");
        }
    }
}

/// What is behind a socket.
#[derive(Debug, Clone, Copy)]
enum Face {
    Api,
    Metrics,
}

/// What a loop needs for each connection it accepts.
#[derive(Clone)]
struct AcceptLoop {
    face: Face,
    state: ApiState,
    stop: CancellationToken,
    connections: TaskTracker,
}

impl AcceptLoop {
    async fn unix(self, listener: tokio::net::UnixListener) {
        while let Some(accepted) = self.stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, _)) => self.spawn(async move { Some(stream) }),
                Err(error) => refused(&error).await,
            }
        }
    }

    async fn tcp(self, listener: tokio::net::TcpListener, tls: Option<TlsAcceptor>) {
        while let Some(accepted) = self.stop.run_until_cancelled(listener.accept()).await {
            match (accepted, &tls) {
                (Ok((stream, _)), None) => self.spawn(async move { Some(stream) }),
                (Ok((stream, peer)), Some(acceptor)) => {
                    let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream));
                    self.spawn(async move {
                        match handshake.await {
                            Ok(Ok(stream)) => Some(stream),
                            Ok(Err(error)) => {
                                tracing::info!(%peer, %error, "TLS handshake refused");
                                None
                            }
                            Err(_) => None,
                        }
                    });
                }
                (Err(error), _) => refused(&error).await,
            }
        }
    }

    fn spawn<S>(&self, connect: impl Future<Output = Option<S>> + Send + 'static)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (face, state, stop) = (self.face, self.state.clone(), self.stop.clone());
        self.connections.spawn(async move {
            if let Some(io) = connect.await {
                serve_connection(io, face, state, stop).await;
            }
        });
    }
}

async fn refused(error: &io::Error) {
    tracing::warn!(%error, "accept an API connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// One connection until the client closes it, or until the request under way at `stop` is answered.
async fn serve_connection<S>(io: S, face: Face, state: ApiState, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let state = state.clone();
        async move {
            let response = match face {
                Face::Api => router::handle(state, request).await,
                Face::Metrics => metrics::handle(&state, request.method(), request.uri().path()).await,
            };
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).max_buf_size(MAX_BUFFER_BYTES);
    let connection = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "API connection ended");
    }
}
