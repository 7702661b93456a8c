//! The resolver of one container: its sockets, and who answers what.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rand::seq::SliceRandom;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use weft_kernel::{Netns, NetnsError};
use weft_plan::RESOLVER_ADDRESS;

use crate::etc::Upstream;
use crate::resolver::forward::Forwarder;
use crate::resolver::names::View;
use crate::resolver::wire::{Code, Query, kind};

/// TCP connections of one container at a time.
const CONNECTIONS: usize = 64;
/// A connection that says nothing for so long is closed (RFC 7766 section 6.2.3 asks for a few seconds).
const IDLE: Duration = Duration::from_secs(10);

/// What one container's resolver goes by.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) view: View,
    pub(crate) upstreams: Vec<Upstream>,
    /// The user set `ndots`: names without a dot are the search list's business.
    pub(crate) ndots_set: bool,
    /// No way out: what is not local fails at once.
    pub(crate) isolated: bool,
}

/// A running resolver; ends when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    /// UDP and TCP port inside.
    pub(crate) ports: (u16, u16),
    settings: Arc<ArcSwap<Settings>>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

struct Shared {
    settings: Arc<ArcSwap<Settings>>,
    forwarder: Forwarder,
}

impl Server {
    /// Opens the sockets inside the namespace, at the wished ports if they are free, and answers from then on.
    pub(crate) fn start(
        netns: &Netns,
        wished: Option<(u16, u16)>,
        settings: Settings,
        all: Arc<Semaphore>,
    ) -> Result<Self, NetnsError> {
        let at = |port: u16| SocketAddr::from((RESOLVER_ADDRESS, port));
        let (wished_udp, wished_tcp) = wished.unwrap_or_default();
        let udp = netns.udp_socket(at(wished_udp)).or_else(|_| netns.udp_socket(at(0)))?;
        let tcp = netns.tcp_listener(at(wished_tcp)).or_else(|_| netns.tcp_listener(at(0)))?;
        let bind = |source| NetnsError::Step { path: netns.path().to_owned(), step: "use a socket", source };
        let ports = (udp.local_addr().map_err(bind)?.port(), tcp.local_addr().map_err(bind)?.port());
        let (udp, tcp) = (UdpSocket::from_std(udp).map_err(bind)?, TcpListener::from_std(tcp).map_err(bind)?);
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let forwarder = Forwarder::new(netns.clone(), all);
        let shared = Arc::new(Shared { settings: settings.clone(), forwarder });
        let tasks = [tokio::spawn(serve_udp(udp, shared.clone())), tokio::spawn(serve_tcp(tcp, shared))];
        Ok(Self { ports, settings, tasks })
    }

    /// From now on goes by these.
    pub(crate) fn update(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }
}

/// What to do with a message.
enum Verdict {
    Answer(Vec<u8>),
    Forward(Query),
    Silence,
}

impl Shared {
    fn judge(&self, message: &[u8], tcp: bool) -> Verdict {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(unserved) => return unserved.answer().map_or(Verdict::Silence, Verdict::Answer),
        };
        let limit = if tcp { usize::from(u16::MAX) } else { query.udp_limit() };
        let settings = self.settings.load();
        if query.is_internet()
            && let Some(answer) = local(&settings.view, &query, limit)
        {
            return Verdict::Answer(answer);
        }
        let single = !query.name.contains('.') && matches!(query.kind, kind::A | kind::AAAA);
        if single && settings.ndots_set {
            return Verdict::Answer(query.answer_code(Code::NoError));
        }
        if settings.isolated || settings.upstreams.is_empty() {
            return Verdict::Answer(query.answer_code(Code::ServFail));
        }
        Verdict::Forward(query)
    }

    async fn forward(&self, query: &Query, raw: &[u8], tcp: bool) -> Vec<u8> {
        let upstreams = self.settings.load().upstreams.clone();
        self.forwarder.ask(query, raw, &upstreams, tcp).await
    }
}

/// The answer to what is local.
fn local(view: &View, query: &Query, limit: usize) -> Option<Vec<u8>> {
    match query.kind {
        kind::A | kind::AAAA => {
            let mut addresses: Vec<IpAddr> = view.addresses(&query.name)?;
            addresses.shuffle(&mut rand::rng());
            Some(query.answer_addresses(&addresses, limit))
        }
        kind::MX => view.addresses(&query.name).map(|_| query.answer_code(Code::NoError)),
        kind::PTR => {
            let name = view.name(query.reverse_address()?)?;
            Some(query.answer_name(name, limit))
        }
        _ => None,
    }
}

async fn serve_udp(socket: UdpSocket, shared: Arc<Shared>) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; 4096];
    loop {
        let (len, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An answer to a port that is closed by now comes back as an error of the next read.
                tracing::debug!(%error, "resolver socket");
                tokio::task::yield_now().await;
                continue;
            }
        };
        match shared.judge(&buffer[..len], false) {
            Verdict::Answer(answer) => send(&socket, &answer, from).await,
            Verdict::Silence => {}
            Verdict::Forward(query) => {
                let (socket, shared, raw) = (socket.clone(), shared.clone(), buffer[..len].to_vec());
                tokio::spawn(async move {
                    let answer = shared.forward(&query, &raw, false).await;
                    send(&socket, &answer, from).await;
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(answer, to).await {
        tracing::debug!(%to, %error, "answer not sent");
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &shared).await {
                        tracing::debug!(%error, "resolver connection");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "resolver listener");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    loop {
        let Ok(len) = timeout(IDLE, stream.read_u16()).await else { return Ok(()) };
        let len = match len {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut message = vec![0; usize::from(len)];
        timeout(IDLE, stream.read_exact(&mut message)).await??;
        let answer = match shared.judge(&message, true) {
            Verdict::Answer(answer) => answer,
            Verdict::Silence => return Ok(()),
            Verdict::Forward(query) => shared.forward(&query, &message, true).await,
        };
        let mut framed = (answer.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}
