//! The controller: one per daemon.

mod audit;
mod balance;
mod changes;
mod config_only;
mod connect;
mod dataplane;
mod doubts;
mod encryption;
mod endpoints;
mod fast_path;
mod files;
mod foreign;
mod handed;
mod helper_link;
mod helper_wish;
mod inspect;
mod mesh;
mod networks;
mod sandboxes;
mod steering;
mod swarm;
mod watching;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, mpsc, watch};
use weft_kernel::{Capabilities, Kernel, Netns};
use weft_plan::LinkName;
use weft_types::{ContainerId, NetworkId};

pub use audit::AuditCounters;
pub(crate) use dataplane::count as count_ops;
pub use foreign::ForeignPlace;
pub use handed::HandedOn;

use crate::config::ControllerConfig;
use crate::error::NetworkError;
use crate::helper::protocol::{FromHelper, LeaseWish};
use crate::ingress;
use crate::network::Network;
use crate::paths::Paths;
use crate::peers::NetworkPeers;
use crate::plans::{self, Surroundings};
use crate::ports::PortReservations;
use crate::services::Services;
use crate::state::State;
use crate::store::Store;
use crate::swarm::{GossipWord, LocalSwarmEndpoint, SwarmNetworks};
use crate::view::{EndpointView, NetworkEvent};
use changes::{OnFailure, Touched};
use dataplane::DataPlane;
use helper_link::HelperLink;
use swarm::Gossiped;

/// Events that a slow listener may lag behind.
const EVENT_BACKLOG: usize = 256;

/// Networks, endpoints and sandboxes of one host.
pub struct Controller {
    config: ControllerConfig,
    store: Arc<Store>,
    around: Surroundings,
    dataplane: DataPlane,
    fast_path: fast_path::FastPathLink,
    connect: connect::ConnectLink,
    ports: PortReservations,
    state: ArcSwap<State>,
    /// Whoever changes the state holds it.
    turn: tokio::sync::Mutex<()>,
    /// Held while a change is brought about, by the task that does it.
    committing: Arc<tokio::sync::Mutex<()>>,
    /// Whether the last change takes something away, and the state shows it.
    departing: AtomicBool,
    this: Weak<Self>,
    swarm: RwLock<Option<Arc<dyn SwarmNetworks>>>,
    gossiped: Mutex<Gossiped>,
    peers: ArcSwap<BTreeMap<NetworkId, NetworkPeers>>,
    /// What the state and `peers` say of services; follows both.
    services: ArcSwap<Services>,
    balances: balance::Balances,
    /// Addresses that may send tunnel packets.
    members: ArcSwap<BTreeSet<IpAddr>>,
    gossip_inbox: mpsc::UnboundedSender<FromHelper>,
    /// The routing mesh as the kernel last got it.
    mesh: Mutex<mesh::Followed>,
    /// The interface with the data-path address, as last seen.
    data_path: Mutex<Option<LinkName>>,
    helper: Option<HelperLink>,
    events: broadcast::Sender<NetworkEvent>,
    local: watch::Sender<Vec<LocalSwarmEndpoint>>,
    /// This node's name in gossip; empty until the helper has told it.
    gossip_name: watch::Sender<String>,
    /// Audits after which all that was wished was in the kernel.
    whole: watch::Sender<u64>,
    counters: Mutex<AuditCounters>,
    encryption: Mutex<encryption::Known>,
    /// Of this host's keys in a key-value store.
    lease: Mutex<Option<LeaseWish>>,
    /// Containers of other programs whose namespaces were gone at the last look.
    vanished: Mutex<BTreeSet<ContainerId>>,
    /// Set by a stop, so that background work ends.
    stopped: watch::Sender<bool>,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller").field("state_dir", &self.config.state_dir).finish_non_exhaustive()
    }
}

impl Controller {
    /// Reads what the last run left, makes the default networks and starts the helper. Nothing that runs is touched
    /// before [`Controller::adopt`] says which containers live, except that missing bridges and rules are put back.
    pub async fn open(config: ControllerConfig) -> Result<Arc<Self>, NetworkError> {
        let store = Arc::new(Store::open(&config.state_dir, &config.run_dir)?);
        let state = store.load()?;
        let host = Netns::resolve(&config.host)?;
        let kernel = Kernel::open(host.clone()).await?;
        let capabilities = Capabilities::probe().await?;
        let bridge_netfilter = kernel.bridge_netfilter().await?;
        let attachment = fast_path::attachment(config.overlay_engine).await?;
        let around = Surroundings {
            paths: Paths::new(&config.run_dir),
            host: config.host.clone(),
            hook: capabilities.resolver_hook(),
            bridge_netfilter,
            encryption: encryption::setting(&config).await?,
            fast: attachment.is_some(),
        };
        let engine = connect::balance_engine(config.balancer, &capabilities).await?;
        tracing::info!(%engine, wished = %config.balancer, "virtual IPs are balanced");
        let helper = config.helper.clone().map(|launch| HelperLink::new(launch, around.paths.helper()));
        let (gossip_inbox, inbox) = mpsc::unbounded_channel();
        let gossiped = Gossiped::load(&around.paths);
        let controller = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            committing: Arc::default(),
            departing: AtomicBool::default(),
            store,
            around,
            fast_path: fast_path::FastPathLink::new(&config.run_dir, config.overlay_engine, attachment),
            connect: connect::ConnectLink::new(&config.run_dir),
            dataplane: DataPlane::new(kernel),
            ports: PortReservations::new(host),
            state: ArcSwap::from_pointee(state),
            turn: tokio::sync::Mutex::default(),
            swarm: RwLock::default(),
            gossiped: Mutex::new(gossiped),
            peers: ArcSwap::default(),
            services: ArcSwap::default(),
            balances: balance::Balances::new(engine, capabilities.nft_sockets),
            members: ArcSwap::default(),
            gossip_inbox,
            mesh: Mutex::default(),
            data_path: Mutex::default(),
            helper,
            events: broadcast::channel(EVENT_BACKLOG).0,
            local: watch::channel(Vec::new()).0,
            gossip_name: watch::Sender::default(),
            whole: watch::Sender::default(),
            counters: Mutex::default(),
            encryption: Mutex::default(),
            lease: Mutex::default(),
            vanished: Mutex::default(),
            stopped: watch::channel(false).0,
            config,
        });
        controller.know_foreign();
        controller.refresh_data_path().await;
        controller.refresh_peers();
        controller.make_default_networks().await?;
        controller.start_gossip(inbox);
        controller.start_helper();
        controller.start_audit();
        controller.start_watch();
        controller.tell_local();
        Ok(controller)
    }

    /// Changes of networks and endpoints, from now on.
    pub fn events(&self) -> broadcast::Receiver<NetworkEvent> {
        self.events.subscribe()
    }

    /// This node's endpoints on networks of the swarm, whole, after each change.
    pub fn local_endpoints(&self) -> watch::Receiver<Vec<LocalSwarmEndpoint>> {
        self.local.subscribe()
    }

    /// This node's name in gossip, whenever it gets another; empty before the first.
    pub fn gossip_name(&self) -> watch::Receiver<String> {
        self.gossip_name.subscribe()
    }

    /// Tells of each audit after which all that was wished is in the kernel, also what a change could not bring there.
    pub fn whole(&self) -> watch::Receiver<u64> {
        self.whole.subscribe()
    }

    /// What this node's gossip says of the node at `address`, of which somebody doubts that it lives: gossip looks
    /// after it at once.
    pub async fn doubt(&self, address: IpAddr) -> GossipWord {
        match &self.helper {
            Some(helper) => helper.doubt(address).await,
            None => GossipWord::Unknown,
        }
    }

    /// The way to the managers while this node is in a swarm.
    pub fn set_swarm(&self, swarm: Option<Arc<dyn SwarmNetworks>>) {
        *self.swarm.write().unwrap_or_else(PoisonError::into_inner) = swarm;
    }

    fn swarm_networks(&self) -> Option<Arc<dyn SwarmNetworks>> {
        self.swarm.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All networks that this node knows.
    pub fn networks(&self) -> Vec<Network> {
        self.state.load().networks().cloned().collect()
    }

    /// The network of that id, name or unique prefix of an id.
    pub fn find(&self, term: &str) -> Result<Network, NetworkError> {
        self.state.load().find(term).cloned()
    }

    /// Endpoints on a network.
    pub fn endpoints_of(&self, network: &NetworkId) -> Vec<EndpointView> {
        let state = self.state.load();
        let Some(found) = state.network(network) else { return Vec::new() };
        state.endpoints_on(network).map(|(sandbox, endpoint)| sandbox.view(endpoint, found)).collect()
    }

    /// Endpoints of a container, in the order of joining, the automatic one on the gateway bridge left out.
    pub fn endpoints(&self, container: &ContainerId) -> Vec<EndpointView> {
        let state = self.state.load();
        let Some(sandbox) = state.sandboxes.get(container) else { return Vec::new() };
        let own = sandbox.endpoints.iter().filter(|endpoint| !endpoint.automatic);
        own.filter_map(|endpoint| Some(sandbox.view(endpoint, state.network(&endpoint.network)?))).collect()
    }

    /// Stops background work. With `keep_running` containers keep their network and the helper stays; else sandboxes
    /// are expected to be gone and the helper ends, unless containers of other programs, which go on, need it.
    pub async fn shutdown(&self, keep_running: bool) {
        let _turn = self.turn.lock().await;
        let _settled = self.settled().await;
        self.stopped.send_replace(true);
        if let Some(helper) = &self.helper {
            helper.stop(keep_running || self.has_foreign()).await;
        }
        if !keep_running && !self.has_foreign() {
            self.fast_path.end().await;
            self.connect.end().await;
            self.end_profile().await;
        }
    }

    fn mesh_plan(&self, state: &State) -> Option<weft_plan::IngressHost> {
        ingress::host(state, &self.peers.load(), &self.services.load())
    }

    fn host_plan(&self, state: &State, ingress: Option<weft_plan::IngressHost>) -> weft_plan::NamespaceState {
        let (link, members) = (self.data_path_link(), self.members.load());
        plans::host(state, &self.around, link.as_ref(), &members, ingress).plan()
    }

    fn data_path_link(&self) -> Option<LinkName> {
        self.data_path.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells listeners of what happened to a network that is not kept here.
    pub fn announce(&self, event: NetworkEvent) {
        self.tell(event);
    }

    fn tell(&self, event: NetworkEvent) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }
}
