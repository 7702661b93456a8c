//! Accepting TLS connections for tonic: certificates are parsed once per connection, configurations may rotate.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::{ConnectInfo, IdentityHandle, PeerCertificate};

/// A handshake that takes longer is given up: nothing slower than this joins a swarm.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Handshakes at the same time; more wait in the listen queue. Bounds what strangers can make us hold.
const MAX_HANDSHAKES: usize = 256;
/// Pause after an accept error such as too many open files, so as not to spin.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// One accepted connection.
pub struct TlsConn {
    stream: TlsStream<TcpStream>,
    info: ConnectInfo,
}

/// Accepted connections for tonic's `serve_with_incoming`. Ends when the stream is dropped.
pub fn incoming(listener: TcpListener, identity: IdentityHandle) -> ReceiverStream<io::Result<TlsConn>> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(accept_loop(listener, identity, sender));
    ReceiverStream::new(receiver)
}

async fn accept_loop(
    listener: TcpListener,
    identity: IdentityHandle,
    sender: mpsc::Sender<io::Result<TlsConn>>,
) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        let acceptor = TlsAcceptor::from(identity.server_config());
        let sender = sender.clone();
        tokio::spawn(async move {
            let _permit = permit;
            match tokio::time::timeout(HANDSHAKE_DEADLINE, handshake(acceptor, stream, remote)).await {
                // A refused send means that the server stops.
                Ok(Ok(connection)) => drop(sender.send(Ok(connection)).await),
                Ok(Err(error)) => tracing::info!(%remote, %error, "TLS handshake refused"),
                Err(_) => tracing::info!(%remote, "TLS handshake took too long"),
            }
        });
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    remote: std::net::SocketAddr,
) -> io::Result<TlsConn> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let peer = match stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()) {
        None => None,
        Some(leaf) => Some(Arc::new(PeerCertificate::from_der(leaf).map_err(io::Error::other)?)),
    };
    Ok(TlsConn { stream, info: ConnectInfo { remote, peer } })
}

impl Connected for TlsConn {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for TlsConn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsConn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
