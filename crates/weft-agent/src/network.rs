//! The node's networks as the agent sees them: told the managers' word, asked for endpoints.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use weft_kernel::{Kernel, Netns};
use weft_network::{Controller, GossipWord, LocalSwarmEndpoint, SwarmState};
use weft_types::{Mtu, NodeId};
use weft_wire::swarmkit::{EncryptionKey, Node};
use weft_wire::weft_v1::Endpoint;

use crate::convert;
use crate::outlook::Outlook;

/// Docker's default, used when the managers name none.
const VXLAN_PORT: u16 = 4789;
/// Fixed by Docker's protocol.
const GOSSIP_PORT: u16 = 7946;
/// Between two looks at the MTU of the data path's interface.
const MTU_PERIOD: Duration = Duration::from_secs(5);
/// How many of these there are for one at the host's routes, which takes longer.
const MTU_LOOKS_PER_ROUTES: u32 = 6;

/// All that the managers said, at one instant.
pub(crate) struct SwarmInputs<'a> {
    pub(crate) node_id: &'a NodeId,
    pub(crate) node: Option<&'a Node>,
    pub(crate) keys: &'a [EncryptionKey],
    pub(crate) managers: &'a [SocketAddr],
    pub(crate) outlook: Option<&'a Outlook>,
}

/// What this node has on the swarm's networks.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LocalView {
    pub(crate) data_path: String,
    pub(crate) mtu: u32,
    /// This node's name in gossip; empty until it has one.
    pub(crate) gossip_name: String,
    pub(crate) endpoints: Vec<Endpoint>,
    /// What it is in or routes to outside of the swarm.
    pub(crate) subnets: Vec<String>,
}

/// How far the kernel follows the managers' word.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Programmed {
    /// The word's index.
    pub(crate) index: u64,
    /// Why it is not in the kernel; empty if it is.
    pub(crate) error: String,
}

/// The networks of a node. Implementations must not block.
pub(crate) trait NodeNetwork: Send + Sync {
    /// Takes the managers' word over; nothing when this node is in no swarm.
    fn set_swarm(&self, inputs: Option<SwarmInputs<'_>>);
    /// What this node has, whenever it changes.
    fn local(&self) -> watch::Receiver<LocalView>;
    /// What of the managers' word has been carried out, or has failed.
    fn programmed(&self) -> watch::Receiver<Programmed>;
    /// This node's service tasks that take traffic, whole.
    fn set_serving(&self, tasks: BTreeSet<String>);
    /// Those that this node itself sends traffic to.
    fn served(&self) -> watch::Receiver<BTreeSet<String>>;
    /// What gossip says of the node at this address, which it looks after from now on.
    fn doubt(&self, _: IpAddr) -> BoxFuture<'static, GossipWord> {
        std::future::ready(GossipWord::Unknown).boxed()
    }
}

/// The network controller of this node.
pub(crate) struct ControllerNetwork {
    advertise: IpAddr,
    data_path: IpAddr,
    wanted: watch::Sender<Option<SwarmState>>,
    local: watch::Sender<LocalView>,
    programmed: watch::Sender<Programmed>,
    serving: watch::Sender<BTreeSet<String>>,
    served: watch::Sender<BTreeSet<String>>,
    /// For the interface of the data path; none where it could not be opened.
    kernel: Option<Kernel>,
    /// The controller holds this agent's side, not the other way round.
    controller: Weak<Controller>,
}

impl ControllerNetwork {
    /// The network and the work that feeds the controller and listens to it.
    pub(crate) async fn new(
        controller: Arc<Controller>,
        advertise: IpAddr,
        data_path: IpAddr,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let endpoints = controller.local_endpoints();
        let (wanted, state) = watch::channel(controller.swarm_state());
        let kernel = match Netns::host() {
            Ok(host) => Kernel::open(host).await.ok(),
            Err(_) => None,
        };
        // Before the guards below, which must not be held over a wait.
        let near = subnets(&controller).await;
        let view = LocalView {
            data_path: data_path.to_string(),
            mtu: Mtu::ETHERNET.get(),
            gossip_name: controller.gossip_name().borrow().clone(),
            endpoints: endpoints.borrow().iter().map(endpoint).collect(),
            subnets: near,
        };
        let local = watch::channel(view).0;
        let programmed = watch::Sender::default();
        let (serving, served) = (watch::Sender::default(), watch::Sender::default());
        let follow = serve(Arc::clone(&controller), serving.subscribe(), served.clone());
        let outcome = programmed.clone();
        let network = Self {
            advertise,
            data_path,
            wanted,
            local: local.clone(),
            programmed,
            serving,
            served,
            kernel,
            controller: Arc::downgrade(&controller),
        };
        network.read_mtu().await;
        let feed = feed(controller, state, endpoints, local, outcome);
        (network, async {
            let ((), ()) = tokio::join!(feed, follow);
        })
    }

    /// Follows the MTU of the data path's interface, and less often the host's routes.
    pub(crate) async fn watch_mtu(self: Arc<Self>) {
        loop {
            for _ in 0..MTU_LOOKS_PER_ROUTES {
                tokio::time::sleep(MTU_PERIOD).await;
                self.read_mtu().await;
            }
            let Some(controller) = self.controller.upgrade() else { return };
            let now = subnets(&controller).await;
            self.local.send_if_modified(|view| std::mem::replace(&mut view.subnets, now.clone()) != now);
        }
    }

    async fn read_mtu(&self) {
        let Some(kernel) = &self.kernel else { return };
        let Ok(Some(link)) = kernel.link_with_address(self.data_path).await else { return };
        let Ok(Some(mtu)) = kernel.link_mtu(&link).await else { return };
        self.local.send_if_modified(|view| {
            let changed = view.mtu != mtu.get();
            view.mtu = mtu.get();
            changed
        });
    }

    /// No news go to the controller from here on.
    pub(crate) fn detach(&self) {
        self.wanted.send_replace(None);
    }

    fn state(&self, inputs: &SwarmInputs<'_>) -> SwarmState {
        let balancers = inputs.node.map(convert::load_balancers).unwrap_or_default();
        let mut networks: std::collections::BTreeMap<_, _> = inputs
            .outlook
            .into_iter()
            .flat_map(|outlook| outlook.networks.iter().map(|(id, network)| (id, network, outlook.index)))
            .filter_map(|(id, network, index)| {
                Some((id.clone().try_into().ok()?, convert::network(network, index, self.data_path)))
            })
            .collect();
        for (id, address) in balancers {
            networks.entry(id).or_insert_with(Default::default).load_balancer = Some(address);
        }
        let port =
            inputs.node.and_then(|node| u16::try_from(node.vxlanudp_port).ok()).filter(|port| *port != 0);
        let members =
            inputs.outlook.map(|outlook| outlook.members.iter().filter_map(convert::member).collect());
        SwarmState {
            node_id: inputs.node_id.clone(),
            advertise: self.advertise,
            data_path: self.data_path,
            data_path_port: port.unwrap_or(VXLAN_PORT),
            gossip_keys: convert::gossip_keys(inputs.keys),
            encryption_keys: convert::encryption_keys(inputs.keys),
            gossip_join: inputs
                .managers
                .iter()
                .map(|manager| SocketAddr::new(manager.ip(), GOSSIP_PORT))
                .collect(),
            members: members.unwrap_or_default(),
            managed: inputs.outlook.is_some(),
            networks,
            ingress: match inputs.node {
                Some(node) => convert::ingress(node),
                // Not told yet: what the controller knows stands.
                None => self.wanted.borrow().as_ref().and_then(|state| state.ingress.clone()),
            },
        }
    }
}

impl NodeNetwork for ControllerNetwork {
    fn set_swarm(&self, inputs: Option<SwarmInputs<'_>>) {
        // Without keys there is no gossip and nothing was said yet: what the controller knows stands.
        let Some(inputs) = inputs.filter(|inputs| !inputs.keys.is_empty()) else { return };
        let state = self.state(&inputs);
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.as_ref() != Some(&state);
            *wanted = Some(state);
            changed
        });
    }

    fn local(&self) -> watch::Receiver<LocalView> {
        self.local.subscribe()
    }

    fn programmed(&self) -> watch::Receiver<Programmed> {
        self.programmed.subscribe()
    }

    fn set_serving(&self, tasks: BTreeSet<String>) {
        self.serving.send_replace(tasks);
    }

    fn served(&self) -> watch::Receiver<BTreeSet<String>> {
        self.served.subscribe()
    }

    fn doubt(&self, address: IpAddr) -> BoxFuture<'static, GossipWord> {
        let controller = self.controller.upgrade();
        async move {
            match controller {
                Some(controller) => controller.doubt(address).await,
                None => GossipWord::Unknown,
            }
        }
        .boxed()
    }
}

/// Brings states to the controller, the newest only, and endpoints from it.
async fn feed(
    controller: Arc<Controller>,
    mut state: watch::Receiver<Option<SwarmState>>,
    mut endpoints: watch::Receiver<Vec<LocalSwarmEndpoint>>,
    local: watch::Sender<LocalView>,
    programmed: watch::Sender<Programmed>,
) {
    let listen = async {
        while endpoints.changed().await.is_ok() {
            let now = endpoints.borrow_and_update().iter().map(endpoint).collect();
            local.send_modify(|view| view.endpoints = now);
        }
    };
    let mut name = controller.gossip_name();
    name.mark_changed();
    let name = async {
        while name.changed().await.is_ok() {
            let now = name.borrow_and_update().clone();
            local.send_if_modified(|view| std::mem::replace(&mut view.gossip_name, now.clone()) != now);
        }
    };
    // What was known before the daemon began is in the kernel already: so that the managers hear it again.
    if state.borrow().is_some() {
        state.mark_changed();
    }
    let tell = async {
        let mut whole = controller.whole();
        loop {
            let behind = !programmed.borrow().error.is_empty();
            tokio::select! {
                changed = state.changed() => if changed.is_err() { return },
                // What could not be carried out the audit goes on with, and it got there.
                Ok(()) = whole.changed(), if behind => {
                    programmed.send_modify(|programmed| programmed.error.clear());
                    continue;
                }
            }
            let now = state.borrow_and_update().clone();
            let Some(now) = now else { continue };
            let index = now.networks.values().map(|network| network.index).max().unwrap_or_default();
            let outcome = controller.set_swarm_state(Some(now)).await;
            if let Err(error) = &outcome {
                tracing::error!(%error, index, "the managers' word could not be carried out");
            }
            let error = outcome.err().map(|error| error.to_string()).unwrap_or_default();
            // Audits until here do not count.
            whole.mark_unchanged();
            programmed.send_replace(Programmed { index, error });
        }
    };
    tokio::join!(listen, name, tell);
}

/// Brings the tasks that take traffic to the controller, the newest word only.
async fn serve(
    controller: Arc<Controller>,
    mut serving: watch::Receiver<BTreeSet<String>>,
    served: watch::Sender<BTreeSet<String>>,
) {
    while serving.changed().await.is_ok() {
        let now = serving.borrow_and_update().clone();
        let tasks = now.iter().filter_map(|id| id.clone().try_into().ok()).collect();
        if let Err(error) = controller.set_serving(tasks).await {
            tracing::error!(%error, "which tasks take traffic could not be carried out on this node");
        }
        served.send_replace(now);
    }
}

async fn subnets(controller: &Controller) -> Vec<String> {
    controller.host_subnets().await.iter().map(ToString::to_string).collect()
}

fn endpoint(local: &LocalSwarmEndpoint) -> Endpoint {
    let text =
        |address: Option<weft_types::EndpointAddress>| address.map(|a| a.to_string()).unwrap_or_default();
    Endpoint {
        id: local.id.to_string(),
        network_id: local.network.to_string(),
        attachment_id: local.attachment.to_string(),
        address: text(local.address),
        address6: text(local.address6),
        mac: local.mac.to_string(),
        name: local.name.clone(),
        aliases: local.aliases.clone(),
        healthy: true,
    }
}
