//! What the API asks of this host's networks. The trait belongs to the API; the network controller is behind it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::Stream;
use ipnet::IpNet;
use weft_engine::NetworkFailure;
pub use weft_network::NetworkScope;
use weft_network::NetworkSpec;

/// A network as this host has it: its own, or one that it shares with others and that is instantiated here.
#[derive(Debug, Clone)]
pub struct LocalNetwork {
    /// 64 hexadecimal digits, or 25 characters for one of a swarm's.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made, or instantiated here.
    pub created: SystemTime,
    /// Who owns it.
    pub scope: NetworkScope,
    /// `bridge`, `host`, `null`, `overlay`, `macvlan`, `ipvlan`.
    pub driver: String,
    /// Whether it has IPv4.
    pub enable_ipv4: bool,
    /// Whether it has IPv6.
    pub enable_ipv6: bool,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether standalone containers of a swarm may join it.
    pub attachable: bool,
    /// Whether it is the swarm's ingress network.
    pub ingress: bool,
    /// Subnets. Empty for `host` and `null`.
    pub subnets: Vec<Subnet>,
    /// Driver options as shown to users.
    pub options: BTreeMap<String, String>,
    /// User's labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the address management driver; `None` is shown as `null`.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// No network, but settings for others.
    pub config_only: bool,
    /// Whose settings it took over; may be empty.
    pub config_from: String,
    /// `host`, `none`, `bridge`: cannot be removed.
    pub predefined: bool,
    /// Endpoints of this host's containers.
    pub containers: Vec<LocalEndpoint>,
    /// Other nodes that have endpoints on it; `None` for networks of this host.
    pub peers: Option<Vec<Peer>>,
}

/// A subnet of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subnet {
    /// `None`: the pool decides.
    pub subnet: Option<IpNet>,
    /// Part of the subnet that addresses are taken from.
    pub range: Option<IpNet>,
    /// `None`: the first address.
    pub gateway: Option<IpAddr>,
    /// Addresses not to give away, by what they are for.
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// An endpoint of a container of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalEndpoint {
    /// Full id of the container, or a pseudo id such as `lb-web`.
    pub container: String,
    /// Name of the container.
    pub name: String,
    /// 64 hexadecimal digits.
    pub endpoint_id: String,
    /// `02:42:…`.
    pub mac: String,
    /// With prefix length; empty without.
    pub ipv4: String,
    /// With prefix length; empty without.
    pub ipv6: String,
}

/// A node with endpoints on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name in gossip.
    pub name: String,
    /// Its data-path address.
    pub address: IpAddr,
}

/// A service on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkService {
    /// Empty: containers that are no tasks.
    pub name: String,
    /// None: it has none.
    pub virtual_ip: Option<IpAddr>,
    /// Target and published ports, on the ingress network.
    pub ports: Vec<(u16, u16)>,
    /// On all nodes.
    pub endpoints: Vec<Attachment>,
}

/// An endpoint anywhere in the swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the container.
    pub name: String,
    /// 64 hexadecimal digits.
    pub endpoint_id: String,
    /// Its address, without prefix length.
    pub address: IpAddr,
    /// Data-path address of its node.
    pub host: IpAddr,
}

/// What carries an encrypted network to another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedPath {
    /// Data-path address of the node.
    pub address: IpAddr,
    /// `weft`: keys that both nodes agree on, ESP in UDP; `docker`: Docker's keys, ESP alone.
    pub scheme: &'static str,
    /// None: there are no keys.
    pub key_age: Option<Duration>,
    /// None: nothing came yet.
    pub last_received: Option<Duration>,
    /// Packets that came again.
    pub replayed: u64,
    /// Packets that were altered or forged.
    pub not_authentic: u64,
    /// What is wrong.
    pub trouble: Option<&'static str>,
}

/// What the networks of this host did, for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkFigures {
    /// What carries encrypted networks, one for each other node.
    pub encrypted_paths: Vec<EncryptedPath>,
    /// Packets of encrypted networks that were dropped, by reason.
    pub encryption_drops: BTreeMap<String, u64>,
    /// Kernel objects that were put back or taken away, by kind.
    pub repairs: BTreeMap<&'static str, u64>,
    /// Repairs that the kernel refused.
    pub failed_repairs: u64,
    /// Frames that programs saw that carry them past the bridges, by what became of them; empty where there are none.
    pub fast_path: BTreeMap<&'static str, u64>,
}

/// Something happened to a network of this host.
#[derive(Debug, Clone)]
pub struct NetworkEvent {
    /// `create`, `connect`, `disconnect`, `destroy`.
    pub action: String,
    /// The network's id.
    pub network: String,
    /// `name`, `type`, `container`.
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub time: SystemTime,
}

/// This host's networks. A `term` is a full id, an exact name or a unique prefix of an id.
#[async_trait]
pub trait NetworkBackend: Send + Sync {
    /// All of them, the instantiated ones of the swarm included.
    fn networks(&self) -> Vec<LocalNetwork>;
    /// The services on an overlay network, with their endpoints on all nodes.
    fn services_on(&self, id: &str) -> Vec<NetworkService>;
    /// What carries an encrypted network to other nodes; none: it is not encrypted.
    fn encrypted_paths(&self, id: &str) -> Option<Vec<EncryptedPath>>;
    /// What they did since the daemon began; what the helper counts, since it began.
    async fn figures(&self) -> NetworkFigures;
    /// Makes one; its id.
    async fn create_network(&self, spec: NetworkSpec) -> Result<String, NetworkFailure>;
    /// Removes one without endpoints.
    async fn remove_network(&self, term: &str) -> Result<(), NetworkFailure>;
    /// What happens from now on.
    fn events(&self) -> Pin<Box<dyn Stream<Item = NetworkEvent> + Send>>;
}
