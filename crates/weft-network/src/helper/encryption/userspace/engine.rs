//! What runs, and what its threads share.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use weft_esp::{Inbound, ManagerKey};
use weft_kernel::{Netns, Tap};
use weft_types::Vni;

use super::node::Node;
use super::pace::{Load, Pace};
use super::port::Port;
use super::raw::Raw;
use super::receive;
use super::sockets::Sockets;
use super::worker::{self, Sources};
use crate::encryption::{EncryptedPath, EncryptionScheme as Scheme};
use crate::helper::encryption::counters::Counters;
use crate::helper::protocol::{EncryptedSegment, EncryptionWish};

/// Threads of packets come before those that make them, as the kernel's own do.
const NICE: i32 = -10;

/// What the threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) own: IpAddr,
    pub(super) port: u16,
    pub(super) vxlan_port: u16,
    sockets: Sockets,
    /// Of each queue.
    sources: Vec<Sources>,
    /// Opened for the first node of Docker's.
    raw: OnceLock<Arc<Raw>>,
    pub(super) nodes: ArcSwap<HashMap<IpAddr, Arc<Node>>>,
    pub(super) ports: ArcSwap<HashMap<Vni, Arc<Port>>>,
    pub(super) counters: Counters,
    load: Load,
    inbound: RwLock<HashMap<u32, Arc<Inbound>>>,
    begin: Instant,
    ends: AtomicBool,
}

impl Shared {
    fn open(wish: &EncryptionWish) -> io::Result<Self> {
        let sockets = Sockets::open(SocketAddr::new(wish.address, wish.port), wish.queues)?;
        let sources = (0..wish.queues.max(1)).map(|queue| {
            let sources = Sources::new()?;
            sources.add_socket(sockets.of(queue))?;
            Ok(sources)
        });
        let sources = sources.collect::<io::Result<_>>()?;
        Ok(Self {
            own: wish.address,
            port: wish.port,
            vxlan_port: wish.vxlan_port,
            sockets,
            sources,
            raw: OnceLock::new(),
            nodes: ArcSwap::default(),
            ports: ArcSwap::default(),
            counters: Counters::default(),
            load: Load::default(),
            inbound: RwLock::default(),
            begin: Instant::now(),
            ends: AtomicBool::new(false),
        })
    }

    pub(super) fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// How a thread waits for packets.
    pub(super) fn pace(&self) -> Pace<'_> {
        Pace::new(&self.load, self.begin)
    }

    pub(super) fn ends(&self) -> bool {
        self.ends.load(Ordering::Relaxed)
    }

    pub(super) fn raw(&self) -> Option<&Raw> {
        self.raw.get().map(AsRef::as_ref)
    }

    /// What a queue's threads send and receive by.
    pub(super) fn socket_of(&self, queue: usize) -> &UdpSocket {
        self.sockets.of(queue)
    }

    /// What a queue's thread waits for.
    pub(super) fn sources_of(&self, queue: usize) -> Option<&Sources> {
        self.sources.get(queue)
    }

    pub(super) fn send(&self, to: IpAddr, datagram: &[u8]) {
        // Lost ones are sent again, or were only to say that all is well.
        if let Err(error) = self.socket_of(0).send_to(datagram, SocketAddr::new(to, self.port)) {
            tracing::debug!(%to, %error, "pairing not sent");
        }
    }

    pub(super) fn inbound(&self, spi: u32) -> Option<Arc<Inbound>> {
        self.inbound.read().unwrap_or_else(PoisonError::into_inner).get(&spi).cloned()
    }

    pub(super) fn knows(&self, spi: u32) -> bool {
        self.inbound(spi).is_some()
    }

    pub(super) fn accept(&self, inbound: Arc<Inbound>) {
        self.inbound.write().unwrap_or_else(PoisonError::into_inner).insert(inbound.spi(), inbound);
    }

    pub(super) fn forget(&self, spi: u32) {
        self.inbound.write().unwrap_or_else(PoisonError::into_inner).remove(&spi);
    }
}

/// The engine; it ends with this value.
pub(in crate::helper::encryption) struct Engine {
    shared: Arc<Shared>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

impl Engine {
    pub(in crate::helper::encryption) fn start(wish: &EncryptionWish) -> io::Result<Self> {
        let shared = Arc::new(Shared::open(wish)?);
        let engine = Self { shared, workers: Mutex::default() };
        for queue in 0..engine.shared.sources.len() {
            let work = move |shared: Arc<Shared>| worker::run(&shared, queue);
            engine.keep(spawn("esp", engine.shared.clone(), work)?);
        }
        Ok(engine)
    }

    /// Until it ends nobody else can have the sockets.
    fn keep(&self, worker: JoinHandle<()>) {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
    }

    pub(in crate::helper::encryption) fn follow(&mut self, wish: &EncryptionWish) {
        self.follow_peers(wish);
        self.follow_ports(wish);
    }

    pub(in crate::helper::encryption) fn seen(&self) -> Vec<(&'static str, u64)> {
        self.shared.counters.seen()
    }

    pub(in crate::helper::encryption) fn paths(&self) -> Vec<EncryptedPath> {
        self.shared.nodes.load().values().map(|node| node.path(self.shared.now())).collect()
    }

    fn follow_peers(&self, wish: &EncryptionWish) {
        let keys: Vec<ManagerKey> =
            wish.keys.iter().map(|key| ManagerKey::new(key.lamport_time, key.key.clone())).collect();
        if wish.peers.values().any(|scheme| *scheme == Scheme::Docker) {
            self.open_raw();
        }
        let before = self.shared.nodes.load_full();
        let node = |(ip, scheme): (&IpAddr, &Scheme)| {
            let known = before.get(ip).filter(|node| node.scheme == *scheme).cloned();
            known.unwrap_or_else(|| Arc::new(Node::new(self.shared.own, *ip, *scheme)))
        };
        let after: HashMap<_, _> = wish.peers.iter().map(|peer| (*peer.0, node(peer))).collect();
        let is_same = |node: &Node| after.get(&node.address).is_some_and(|now| now.scheme == node.scheme);
        for gone in before.values().filter(|node| !is_same(node)) {
            gone.end(&self.shared);
        }
        let after = Arc::new(after);
        self.shared.nodes.store(after.clone());
        after.values().for_each(|node| node.set_keys(&self.shared, &keys));
    }

    fn open_raw(&self) {
        if self.shared.raw.get().is_some() {
            return;
        }
        let opened = Raw::open(self.shared.own).map(Arc::new).and_then(|raw| {
            let thread_raw = raw.clone();
            let work = move |shared: Arc<Shared>| receive::run_raw(&shared, &thread_raw);
            self.keep(spawn("esp-raw", self.shared.clone(), work)?);
            Ok(raw)
        });
        match opened {
            Ok(raw) => drop(self.shared.raw.set(raw)),
            Err(error) => tracing::error!(%error, "socket for ESP towards Docker's nodes"),
        }
    }

    fn follow_ports(&self, wish: &EncryptionWish) {
        let before = self.shared.ports.load_full();
        let mut after = HashMap::new();
        for segment in &wish.segments {
            let stations = || -> HashMap<_, _> { segment.stations.iter().copied().collect() };
            match before.get(&segment.vni).filter(|port| !port.is_broken()) {
                Some(port) => {
                    port.stations.store(Arc::new(stations()));
                    after.insert(segment.vni, port.clone());
                }
                None => {
                    if let Some(port) = self.open(segment) {
                        port.stations.store(Arc::new(stations()));
                        after.insert(segment.vni, port);
                    }
                }
            }
        }
        self.shared.ports.store(Arc::new(after));
    }

    /// The device may not be there yet: the daemon makes it after it said so.
    fn open(&self, segment: &EncryptedSegment) -> Option<Arc<Port>> {
        let queues = Netns::open(&segment.netns).and_then(|netns| {
            (0..self.shared.sources.len())
                .map(|_| Tap::open(&netns, &segment.device))
                .collect::<Result<Vec<_>, _>>()
        });
        let queues = match queues {
            Ok(queues) => queues,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(tracing::field::display);
                tracing::debug!(vni = segment.vni.get(), %error, cause, "device of an encrypted network");
                return None;
            }
        };
        let port = Arc::new(Port::new(segment.vni, queues, HashMap::new()));
        // Who looks there finds it: its first frames wait a moment longer.
        for (queue, sources) in self.shared.sources.iter().enumerate() {
            let added = port.queue(queue).map(|tap| sources.add_device(segment.vni, tap.as_fd()));
            if let Some(Err(error)) = added {
                tracing::error!(%error, "device of an encrypted network is not heard");
                return None;
            }
        }
        Some(port)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        for worker in self.workers.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = worker.join();
        }
        tracing::info!("encryption ends");
    }
}

fn spawn(
    name: &str,
    shared: Arc<Shared>,
    work: impl FnOnce(Arc<Shared>) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "priority of a thread of encrypted networks");
        }
        work(shared);
    })
}
