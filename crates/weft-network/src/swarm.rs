//! What the swarm gives and takes: attachments, and the managers' word on members and endpoints. With a key-value store
//! instead of a swarm, what that holds takes the place of the managers' word.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weft_types::{
    ContainerId, EndpointAddress, EndpointId, MacAddr, Mtu, NetworkId, NodeId, PortProtocol, TaskId, Vni,
};

/// The way to the managers, for containers that join a network of the swarm.
#[async_trait::async_trait]
pub trait SwarmNetworks: Send + Sync {
    /// Asks for a place on a network; `term` is a name or an id. Waits for the answer.
    async fn attach(
        &self,
        term: &str,
        container: &ContainerId,
        addresses: Vec<IpAddr>,
    ) -> Result<SwarmAttachment, AttachRefused>;

    /// Gives the place back.
    async fn detach(&self, attachment: &TaskId) -> Result<(), AttachRefused>;
}

/// Why an attachment was refused, in the managers' words (`rpc error: code = … desc = …`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachRefused {
    /// There is no network of that name or id, here or elsewhere.
    #[error("not found")]
    NotFound,
    /// The swarm has no network of that name or id.
    #[error("{0}")]
    NoSuchNetwork(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// A granted place on a swarm network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmAttachment {
    /// The attachment's task.
    pub attachment: TaskId,
    /// The network.
    pub network: OverlaySpec,
    /// The granted addresses, with prefix.
    pub addresses: Vec<EndpointAddress>,
    /// The service whose task this is; none for a plain container.
    pub service: Option<SwarmService>,
}

/// A service, as far as one network is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmService {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its address on this network, IPv4 where that has it; none with `--endpoint-mode dnsrr`. The one that gossip tells.
    pub virtual_ip: Option<IpAddr>,
    /// Its addresses of other families.
    #[serde(default)]
    pub further_virtual_ips: Vec<IpAddr>,
    /// Its further names on this network.
    pub aliases: Vec<String>,
    /// The stack that it belongs to.
    #[serde(default)]
    pub stack: Option<String>,
    /// Its published ports; only on the ingress network.
    #[serde(default)]
    pub ports: Vec<IngressPort>,
}

/// A port that every node of the swarm answers at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IngressPort {
    /// Transport protocol of both ends.
    pub protocol: PortProtocol,
    /// The nodes' port.
    pub published: u16,
    /// The tasks' port.
    pub target: u16,
    /// Its name, mostly empty.
    pub name: String,
}

impl From<weft_wire::networkdb::IngressPort> for IngressPort {
    fn from(port: weft_wire::networkdb::IngressPort) -> Self {
        Self {
            protocol: port.protocol,
            published: port.published_port,
            target: port.target_port,
            name: port.name,
        }
    }
}

impl From<&IngressPort> for weft_wire::networkdb::IngressPort {
    fn from(port: &IngressPort) -> Self {
        Self {
            name: port.name.clone(),
            protocol: port.protocol,
            target_port: port.target,
            published_port: port.published,
        }
    }
}

/// How clients of a published port are seen by tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceMode {
    /// By their own address, where the task's node can do that.
    #[default]
    Preserve,
    /// By the address of the node that they entered at, as on Docker's nodes.
    Snat,
}

/// A service on one network, by the managers' word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmServiceState {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its further names on this network.
    pub aliases: Vec<String>,
    /// The stack that it belongs to.
    pub stack: Option<String>,
    /// Its addresses on this network; none: its names stand for its tasks.
    pub virtual_ips: Vec<IpAddr>,
    /// Its published ports; only on the ingress network.
    pub ports: Vec<IngressPort>,
    /// How its clients are seen.
    pub source: SourceMode,
}

/// A network of the swarm as the managers describe it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlaySpec {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// Its subnets, in order.
    pub subnets: Vec<OverlaySubnet>,
    /// MTU of the data path (`com.docker.network.driver.mtu`); tunnel overhead is still to be taken off.
    pub mtu: Option<Mtu>,
    /// Plain containers may join.
    pub attachable: bool,
    /// No way out.
    pub internal: bool,
    /// ESP was asked for.
    pub encrypted: bool,
    /// The routing mesh's.
    pub ingress: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Driver options, state included.
    pub options: BTreeMap<String, String>,
}

/// One subnet of a swarm network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlaySubnet {
    /// Its addresses.
    pub subnet: IpNet,
    /// Its router's address.
    pub gateway: Option<IpAddr>,
    /// Its identifier on the wire; IPv6 subnets share that of the IPv4 subnet at the same place.
    pub vni: Option<Vni>,
    /// Where the managers take containers' addresses from; shown only.
    #[serde(default)]
    pub range: Option<IpNet>,
    /// Addresses that the managers leave out, by name; shown only.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// A member of the swarm by the managers' word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmMember {
    /// Its id.
    pub node_id: NodeId,
    /// Its data-path address.
    pub data_path: IpAddr,
    /// Weft reports its endpoints to the managers; of other nodes only gossip knows.
    pub is_weft: bool,
    /// Its name in gossip, if it reported one.
    pub gossip_name: Option<String>,
}

/// An endpoint of another node by the managers' word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmEndpoint {
    /// Its id.
    pub id: String,
    /// Its node.
    pub node_id: NodeId,
    /// Data-path address of its node.
    pub vtep: IpAddr,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Name of its container.
    pub name: String,
    /// Further names.
    pub aliases: Vec<String>,
    /// The service whose task this is; none for a plain container.
    #[serde(default)]
    pub service: Option<String>,
    /// It takes new traffic.
    #[serde(default = "yes")]
    pub healthy: bool,
}

/// What was kept before services were known said nothing of tasks that take no traffic.
fn yes() -> bool {
    true
}

/// A network by the managers' word.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmNetworkState {
    /// MTU of the data path, as in [`OverlaySpec::mtu`].
    pub mtu: Option<Mtu>,
    /// Endpoints on other nodes.
    pub endpoints: Vec<SwarmEndpoint>,
    /// Services with tasks on it, by id.
    #[serde(default)]
    pub services: BTreeMap<String, SwarmServiceState>,
    /// This node's load-balancer address on it (`Node.attachments`), in swarms with Docker managers.
    pub load_balancer: Option<EndpointAddress>,
    /// Index of the managers' log that this shows.
    pub index: u64,
}

/// What gossip says of the node at an address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GossipWord {
    /// It knows no such member, or takes no part itself.
    #[default]
    Unknown,
    /// Alive, or suspected and not yet given up.
    Alive,
    /// Dead, or it said goodbye.
    Gone,
}

/// A key of gossip, as the managers hand it out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmKey {
    /// Its Lamport time; the order decides which is used for sending.
    pub lamport_time: u64,
    /// Its bytes.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for SwarmKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SwarmKey").field("lamport_time", &self.lamport_time).finish_non_exhaustive()
    }
}

/// All that the controller knows from the managers. Whole state: what is missing is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmState {
    /// This node.
    pub node_id: NodeId,
    /// Address for gossip.
    pub advertise: IpAddr,
    /// Address for VXLAN.
    pub data_path: IpAddr,
    /// UDP port for VXLAN.
    pub data_path_port: u16,
    /// Keys of the `networking:gossip` subsystem; none without a swarm: no gossip then.
    pub gossip_keys: Vec<SwarmKey>,
    /// Keys of the `networking:ipsec` subsystem.
    #[serde(default)]
    pub encryption_keys: Vec<SwarmKey>,
    /// Managers to find the gossip cluster by (their addresses, port 7946).
    pub gossip_join: Vec<SocketAddr>,
    /// Members, this node included or not.
    pub members: Vec<SwarmMember>,
    /// Whether `networks` is the managers' word. False with Docker managers: then gossip alone rules.
    pub managed: bool,
    /// Networks by the managers' word.
    pub networks: BTreeMap<NetworkId, SwarmNetworkState>,
    /// The routing mesh's network, while the swarm has one: every node is on it, also without tasks there.
    #[serde(default)]
    pub ingress: Option<OverlaySpec>,
}

impl SwarmState {
    /// Whether this is the word of a swarm's managers, who hand out keys, not that of a key-value store, which has none.
    pub fn is_of_swarm(&self) -> bool {
        !self.gossip_keys.is_empty() || !self.encryption_keys.is_empty()
    }
}

/// An endpoint on this node and a network of the swarm: what the agent reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSwarmEndpoint {
    /// Its id.
    pub id: EndpointId,
    /// Its network.
    pub network: NetworkId,
    /// Its attachment.
    pub attachment: TaskId,
    /// Its container.
    pub container: ContainerId,
    /// IPv4 address.
    pub address: Option<EndpointAddress>,
    /// IPv6 address.
    pub address6: Option<EndpointAddress>,
    /// Ethernet address.
    pub mac: MacAddr,
    /// Name of its container.
    pub name: String,
    /// Further names.
    pub aliases: Vec<String>,
}
