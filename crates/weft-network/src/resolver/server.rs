//! The resolver of one container: its sockets, and what becomes of a message.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use tokio::io::Interest;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::{JoinHandle, yield_now};
use weft_kernel::{Netns, NetnsError};
use weft_plan::RESOLVER_ADDRESS;

use crate::resolver::batch::{self, Batch};
use crate::resolver::forward::{Forwarder, Reply};
pub(crate) use crate::resolver::judge::Settings;
use crate::resolver::judge::{Judge, Verdict};
use crate::resolver::turns::Turns;
use crate::resolver::view::ClusterNames;
use crate::resolver::{Threads, tcp};

/// Bytes of queries that wait in the kernel; one takes some 800 there, so that bursts of a thousand are not lost.
const BACKLOG: usize = 1 << 20;
/// Batches of one container that are answered before others have their turn.
const BURST: usize = 2;

thread_local! {
    static BATCH: RefCell<Batch> = RefCell::new(Batch::new());
}

/// What the resolvers of all containers share.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub(crate) cluster: Arc<ArcSwap<ClusterNames>>,
    pub(crate) turns: Arc<Turns>,
    pub(crate) threads: Arc<Threads>,
}

/// A running resolver; ends when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    /// UDP and TCP port inside.
    pub(crate) ports: (u16, u16),
    settings: Arc<ArcSwap<Settings>>,
    sockets: (Arc<UdpSocket>, Arc<TcpListener>),
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Server {
    /// Opens the sockets inside the namespace, at the wished ports if they are free, and answers from then on.
    pub(crate) fn start(
        netns: &Netns,
        wished: Option<(u16, u16)>,
        settings: Settings,
        common: &Common,
    ) -> Result<Self, NetnsError> {
        let at = |port: u16| SocketAddr::from((RESOLVER_ADDRESS, port));
        let (wished_udp, wished_tcp) = wished.unwrap_or_default();
        let udp = netns.udp_socket(at(wished_udp)).or_else(|_| netns.udp_socket(at(0)))?;
        let tcp = netns.tcp_listener(at(wished_tcp)).or_else(|_| netns.tcp_listener(at(0)))?;
        if let Err(error) = set_socket_recv_buffer_size_force(&udp, BACKLOG) {
            tracing::debug!(%error, "backlog of queries not enlarged");
        }
        Self::serve(netns, (udp, tcp), settings, common)
    }

    /// Answers at sockets that are open inside the namespace.
    pub(crate) fn serve(
        netns: &Netns,
        (udp, tcp): (std::net::UdpSocket, std::net::TcpListener),
        settings: Settings,
        common: &Common,
    ) -> Result<Self, NetnsError> {
        let bind = |source| NetnsError::Step { path: netns.path().to_owned(), step: "use a socket", source };
        let ports = (udp.local_addr().map_err(bind)?.port(), tcp.local_addr().map_err(bind)?.port());
        let runtime = common.threads.answering();
        let _entered = runtime.enter();
        let udp = Arc::new(UdpSocket::from_std(udp).map_err(bind)?);
        let tcp = Arc::new(TcpListener::from_std(tcp).map_err(bind)?);
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let forwarding = common.threads.forwarding.clone();
        let shared = Arc::new(Shared {
            judge: Judge { settings: settings.clone(), cluster: common.cluster.clone() },
            forwarder: Forwarder::new(netns.clone(), forwarding, common.turns.clone()),
        });
        let sockets = (udp.clone(), tcp.clone());
        let tasks = [tokio::spawn(serve_udp(udp, shared.clone())), tokio::spawn(tcp::serve(tcp, shared))];
        Ok(Self { ports, settings, sockets, tasks })
    }

    /// Its sockets once more, for whoever comes next.
    pub(crate) fn sockets(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        let (udp, tcp) = &self.sockets;
        Ok((udp.as_fd().try_clone_to_owned()?, tcp.as_fd().try_clone_to_owned()?))
    }

    /// From now on goes by these.
    pub(crate) fn update(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }
}

/// What both protocols of one container share.
pub(super) struct Shared {
    judge: Judge,
    forwarder: Forwarder,
}

impl Shared {
    /// The answer if there is one now; otherwise there is none, or it comes by `reply`.
    pub(super) fn handle(&self, message: &[u8], reply: impl FnOnce() -> Reply, tcp: bool) -> Option<Vec<u8>> {
        match self.judge.judge(message, tcp) {
            Verdict::Answer(answer) => Some(answer),
            Verdict::Silence => None,
            Verdict::Forward(query) => {
                let settings = self.judge.settings.load();
                self.forwarder.forward(query, message, &settings.upstreams, reply(), tcp)
            }
        }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    loop {
        if let Err(error) = socket.readable().await {
            tracing::warn!(%error, "resolver socket");
            return;
        }
        for _ in 0..BURST {
            match socket.try_io(Interest::READABLE, || serve_batch(&socket, &shared)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An answer to a port that is closed by now comes back as an error of the next read.
                Err(error) => tracing::debug!(%error, "resolver socket"),
            }
        }
        yield_now().await;
    }
}

/// Answers what waits. Less than a batch was all there is: what comes later wakes this task again, so asking the kernel
/// once more is spared.
fn serve_batch(socket: &Arc<UdpSocket>, shared: &Shared) -> io::Result<()> {
    let answer = |query: &[u8], from| shared.handle(query, || Reply::Udp(socket.clone(), from), false);
    let served = BATCH.with_borrow_mut(|batch| batch.serve(socket, answer))?;
    if served < batch::LIMIT { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
}
