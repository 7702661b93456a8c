//! The store asked and told, the network controller told, the daemon answered.

mod attach;
mod change;
mod follow;
mod requests;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use weft_kv::{Lease, Leased, LeasedKeys, Store, Timing};
use weft_network::{Controller, LeaseWish, LocalSwarmEndpoint, SwarmNetworks};
use weft_types::{ContainerId, NetworkId, TaskId};

use crate::duties::Own;
use crate::error::GlobalError;
use crate::outlook::Outlook;

/// What this host is to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// As it is registered: `address:port`.
    pub name: String,
    /// Where it receives VXLAN.
    pub address: IpAddr,
}

impl Host {
    /// The one that is advertised at this address.
    pub fn at(advertise: SocketAddr) -> Self {
        Self { name: advertise.to_string(), address: advertise.ip() }
    }
}

/// What is to be known from the start.
pub struct GlobalConfig {
    /// The store.
    pub store: Store,
    /// Folder of the hosts' own keys.
    pub nodes: String,
    /// How long what this host says stands without it.
    pub timing: Timing,
    /// None: this host is not registered, and its containers are on no network of this kind.
    pub host: Option<Host>,
}

/// A container here whose address on a network is another's now: this host was taken for dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    /// Whose it was.
    pub container: ContainerId,
    /// Where.
    pub network: NetworkId,
}

/// The networks of this store's hosts, and this host's part in them.
pub struct GlobalNetworks {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
    leased: Option<Arc<LeasedKeys>>,
}

/// A claim of a container here.
#[derive(Debug, Clone)]
struct Place {
    network: NetworkId,
    /// It is about to be taken; whoever wanted it may have given up after this.
    pending: Option<Instant>,
}

struct Shared {
    store: Store,
    nodes: String,
    host: Option<Host>,
    controller: Weak<Controller>,
    outlook: Mutex<Outlook>,
    /// How often the outlook has changed; none before all of the store was seen once.
    seen: watch::Sender<Option<u64>>,
    places: Mutex<BTreeMap<TaskId, Place>>,
    /// Held while the controller is told, so that it hears the newest last.
    telling: tokio::sync::Mutex<()>,
    /// There may be something to write.
    due: Notify,
    withdrawn: mpsc::UnboundedSender<Withdrawn>,
}

impl GlobalNetworks {
    /// Begins to follow the store, registers this host there, and answers the controller's questions from now on. Tells
    /// of containers that are to leave a network.
    pub fn start(
        config: GlobalConfig,
        controller: &Arc<Controller>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Withdrawn>) {
        let GlobalConfig { store, nodes, timing, host } = config;
        let (watched, documents) = (store.watch(&nodes), store.watch(crate::document::keys::ROOT));
        let (withdrawn, leaving) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            store: store.clone(),
            nodes,
            host,
            controller: Arc::downgrade(controller),
            outlook: Mutex::default(),
            seen: watch::Sender::default(),
            places: Mutex::default(),
            telling: tokio::sync::Mutex::default(),
            due: Notify::new(),
            withdrawn,
        });
        let local = controller.local_endpoints();
        let keys = shared.leased(&local.borrow());
        let location = store.location();
        let leased = keys.map(|keys| Arc::new(LeasedKeys::keep(store, keys, timing)));
        let held = leased.as_ref().map(|leased| leased.lease());
        let follow = follow::Follow::new(Arc::clone(&shared), watched, documents, local, leased.clone());
        let mut tasks = vec![tokio::spawn(follow.run()), tokio::spawn(serve::run(Arc::clone(&shared)))];
        let heartbeat = timing.heartbeat;
        let wish = move |lease| LeaseWish { store: location.clone(), lease, heartbeat };
        let used = controller.local_endpoints();
        tasks.extend(held.map(|held| tokio::spawn(entrust(held, used, Arc::downgrade(controller), wish))));
        let networks = Arc::new(Self { shared, tasks, leased });
        let door: Arc<dyn SwarmNetworks> = Arc::new(attach::Door(Arc::clone(&networks.shared)));
        controller.set_swarm(Some(door));
        (networks, leaving)
    }

    /// As it is registered; none: it is not.
    pub fn host(&self) -> Option<&Host> {
        self.shared.host.as_ref()
    }

    /// Takes this host out of the store. With `keep_running` and containers on these networks, what it says stands until
    /// its lease ends.
    pub async fn stop(&self, keep_running: bool) {
        self.tasks.iter().for_each(JoinHandle::abort);
        let Some(leased) = &self.leased else { return };
        let in_use = self
            .shared
            .controller()
            .is_ok_and(|controller| !controller.local_endpoints().borrow().is_empty());
        if keep_running && in_use { leased.leave().await } else { leased.release().await }
    }
}

/// Tells the controller of this host's lease, whose helper keeps it while this process is away: as long as containers
/// are on these networks, otherwise the host is as dead as its daemon.
async fn entrust(
    mut held: watch::Receiver<Option<Lease>>,
    mut local: watch::Receiver<Vec<LocalSwarmEndpoint>>,
    controller: Weak<Controller>,
    wish: impl Fn(Lease) -> LeaseWish,
) {
    let mut told = None;
    loop {
        let in_use = !local.borrow_and_update().is_empty();
        let lease = held.borrow_and_update().clone().filter(|_| in_use);
        let Some(controller) = controller.upgrade() else { return };
        if told != lease {
            controller.keep_lease(lease.clone().map(&wish));
            told = lease;
        }
        drop(controller);
        let changed = tokio::select! {
            changed = held.changed() => changed,
            changed = local.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

impl Shared {
    fn outlook(&self) -> MutexGuard<'_, Outlook> {
        self.outlook.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<TaskId, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn controller(&self) -> Result<Arc<Controller>, GlobalError> {
        self.controller.upgrade().ok_or(GlobalError::Stopped)
    }

    /// Whether all of the store was seen once.
    fn has_begun(&self) -> bool {
        self.seen.borrow().is_some()
    }

    /// Places that containers are about to take.
    fn pending(&self, now: Instant) -> BTreeMap<TaskId, NetworkId> {
        let places = self.places();
        let pending = places.iter().filter(|(_, place)| place.pending.is_some_and(|until| until > now));
        pending.map(|(task, place)| (task.clone(), place.network.clone())).collect()
    }

    /// What stands under this host's lease; none: it has none.
    fn leased(&self, endpoints: &[LocalSwarmEndpoint]) -> Option<Leased> {
        let host = self.host.as_ref()?;
        let own = Own { node: &host.name, vtep: host.address, endpoints, pending: &BTreeSet::new() };
        let mut keys = own.records();
        keys.insert(format!("{}/{}", self.nodes, host.name), host.name.clone().into_bytes());
        Some(keys)
    }

    /// Tells the controller what is known now.
    async fn tell_controller(&self) {
        let (Ok(controller), Some(host)) = (self.controller(), &self.host) else { return };
        let _telling = self.telling.lock().await;
        // Before that the last word of an earlier run stands.
        if !self.has_begun() && controller.swarm_state().is_some() {
            return;
        }
        let mut used = controller.used_swarm_networks();
        used.extend(self.pending(Instant::now()).into_values());
        let state = self.outlook().state(host.address, &used);
        if let Err(error) = controller.set_swarm_state(Some(state)).await {
            tracing::error!(%error, "what the key-value store says could not be carried out");
        }
    }
}
