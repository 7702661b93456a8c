//! What the API asks of the swarm side of the daemon. The trait belongs to the API; the roof implements it.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::Stream;
use ipnet::IpNet;
use weft_types::{Classified, ErrorKind};
use weft_wire::swarmkit::{
    Cluster, ClusterSpec, Config, ConfigSpec, LogMessage, LogSelector, LogSubscriptionOptions, Network,
    NetworkSpec, Node, NodeSpec, Secret, SecretSpec, Service, ServiceSpec, Task, node_spec,
};

use crate::network_backend::{LocalEndpoint, NetworkScope};

/// This node's part in a swarm, as `/info` and `/_ping` tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LocalNodeState {
    /// In no swarm.
    #[default]
    Inactive,
    /// Joining; not yet accepted.
    Pending,
    /// A member.
    Active,
    /// A member that cannot run; [`SwarmStatus::error`] says why.
    Error,
    /// The manager's store waits for its unlock key.
    Locked,
}

impl LocalNodeState {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Error => "error",
            Self::Locked => "locked",
        }
    }
}

/// A manager this node knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteManager {
    /// Its node id.
    pub node_id: String,
    /// `address:port` of its gRPC service.
    pub addr: String,
}

/// What this node knows about its swarm without asking anybody. Cheap: taken for every ping.
#[derive(Debug, Clone, Default)]
pub struct SwarmStatus {
    /// Part in the swarm.
    pub state: LocalNodeState,
    /// Own node id; empty outside a swarm.
    pub node_id: String,
    /// Own advertised address without port; empty outside a swarm.
    pub node_addr: String,
    /// Whether this node is a manager that can answer for the swarm.
    pub control_available: bool,
    /// Why the state is [`LocalNodeState::Error`]; else empty.
    pub error: String,
    /// Known managers.
    pub remote_managers: Vec<RemoteManager>,
    /// Number of nodes; managers only.
    pub nodes: Option<u64>,
    /// Number of managers; managers only.
    pub managers: Option<u64>,
    /// The swarm; managers only.
    pub cluster: Option<Cluster>,
    /// What users should be told in `docker info`, one line each.
    pub warnings: Vec<String>,
}

/// `POST /swarm/init`. Addresses are as the user typed them: an address or an interface, with or without port.
#[derive(Debug, Clone, Default)]
pub struct InitRequest {
    /// `--listen-addr`; never empty.
    pub listen_addr: String,
    /// `--advertise-addr`, may be empty.
    pub advertise_addr: String,
    /// `--data-path-addr`, may be empty.
    pub data_path_addr: String,
    /// `--data-path-port`; 0 means the default. Its range is not checked yet.
    pub data_path_port: u32,
    /// `--default-addr-pool`; empty means the default.
    pub default_addr_pool: Vec<IpNet>,
    /// `--default-addr-pool-mask-length`; 0 means the default. Its range is not checked yet.
    pub subnet_size: u32,
    /// `--force-new-cluster`.
    pub force_new_cluster: bool,
    /// The wished spec; what was not given is absent or zero.
    pub spec: ClusterSpec,
    /// `--availability`.
    pub availability: node_spec::Availability,
}

/// `POST /swarm/join`. Addresses as in [`InitRequest`].
#[derive(Debug, Clone, Default)]
pub struct JoinRequest {
    /// `--listen-addr`; never empty.
    pub listen_addr: String,
    /// `--advertise-addr`, may be empty.
    pub advertise_addr: String,
    /// `--data-path-addr`, may be empty.
    pub data_path_addr: String,
    /// Managers to ask, `host[:port]`.
    pub remote_addrs: Vec<String>,
    /// `SWMTKN-1-…`, not checked yet.
    pub join_token: String,
    /// `--availability`.
    pub availability: node_spec::Availability,
}

/// Which secrets `POST /swarm/update` replaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotate {
    /// The worker's join token.
    pub worker_token: bool,
    /// The manager's join token.
    pub manager_token: bool,
    /// The unlock key.
    pub manager_unlock_key: bool,
    /// The keys of gossip and of encrypted networks, one step on. Not Docker's.
    pub network_keys: bool,
}

/// How far a service is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServiceStatus {
    /// Tasks that run.
    pub running: u64,
    /// Tasks that shall run.
    pub desired: u64,
    /// Tasks of the current run of a job that are done.
    pub completed: u64,
}

/// A request to the swarm was refused or failed. `Display` is Docker's wording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwarmError {
    /// Outside a swarm.
    #[error(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."
    )]
    NoSwarm,
    /// A worker was asked what only managers know.
    #[error(
        "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager."
    )]
    NotManager,
    /// The store waits for its key.
    #[error(
        "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"docker swarm unlock\" to unlock it."
    )]
    Locked,
    /// `init` or `join` in a swarm.
    #[error(
        "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one."
    )]
    AlreadyInSwarm,
    /// `leave` outside a swarm.
    #[error("This node is not part of a swarm")]
    NotInSwarm,
    /// The last manager leaves only by force. (The trailing blank is Docker's.)
    #[error(
        "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message. "
    )]
    LastManagerLeaves,
    /// A join takes longer than the API waits; it goes on behind.
    #[error(
        "Timeout was reached before node joined. The attempt to join the swarm will continue in the background. Use the \"docker info\" command to see the current swarm status of your node."
    )]
    JoinTimeout,
    /// `--advertise-addr` names nothing on this host.
    #[error(
        "advertise address must be a non-zero IP address or network interface (with optional port number)"
    )]
    AdvertiseAddress,
    /// `--data-path-addr` names nothing on this host.
    #[error("data path address must be a non-zero IP address or network interface (without a port number)")]
    DataPathAddress,
    /// `--listen-addr` is no address.
    #[error("invalid ListenAddr \"{given}\": {reason}")]
    ListenAddress {
        /// As given.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The host has several addresses and the user did not say which one to advertise.
    #[error(
        "could not choose an IP address to advertise since this system has multiple addresses {0} - specify one with --advertise-addr"
    )]
    AmbiguousAddress(String),
    /// Not built.
    #[error("{0} is not implemented by this version of Weft")]
    NotImplemented(&'static str),
    /// Whatever the manager, the agent or the machine said, with its class.
    #[error("{message}")]
    Failed {
        /// Its class.
        kind: ErrorKind,
        /// Docker's wording.
        message: String,
    },
}

impl SwarmError {
    /// Takes over a classified error of a crate below.
    pub fn from_classified(error: &impl Classified) -> Self {
        Self::Failed { kind: error.kind(), message: error.to_string() }
    }
}

impl Classified for SwarmError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSwarm
            | Self::NotManager
            | Self::Locked
            | Self::AlreadyInSwarm
            | Self::NotInSwarm
            | Self::LastManagerLeaves
            | Self::JoinTimeout => ErrorKind::Unavailable,
            Self::AdvertiseAddress | Self::DataPathAddress | Self::ListenAddress { .. } => {
                ErrorKind::InvalidParameter
            }
            Self::AmbiguousAddress(_) => ErrorKind::InvalidParameter,
            Self::NotImplemented(_) => ErrorKind::NotImplemented,
            Self::Failed { kind, .. } => *kind,
        }
    }
}

/// An object that users hear of in `GET /events`.
#[derive(Debug, Clone, PartialEq)]
pub enum SwarmObject {
    /// A member.
    Node(Arc<Node>),
    /// A service.
    Service(Arc<Service>),
    /// A network of the swarm.
    Network(Arc<Network>),
    /// A secret.
    Secret(Arc<Secret>),
    /// A config.
    Config(Arc<Config>),
}

/// One object before and after a commit.
#[derive(Debug, Clone, PartialEq)]
pub struct SwarmChange {
    /// None: created.
    pub before: Option<SwarmObject>,
    /// None: removed.
    pub after: Option<SwarmObject>,
}

/// A ready node that did not acknowledge in time that tasks of a service begin or end, so that these went on without
/// it.
#[derive(Debug, Clone)]
pub struct Unacknowledged {
    /// Who.
    pub node: Arc<Node>,
    /// The services of the tasks.
    pub services: Vec<Arc<Service>>,
    /// Ids of the tasks.
    pub tasks: Vec<String>,
    /// They end; else they begin.
    pub is_drain: bool,
    /// The node's own reason; empty: it was silent.
    pub error: String,
}

/// What users hear of the swarm.
#[derive(Debug, Clone)]
pub enum SwarmNews {
    /// The store changed.
    Change(SwarmChange),
    /// Heard from the manager that leads only.
    Unacknowledged(Unacknowledged),
}

/// News as they happen; on nodes that are no managers there are none.
pub type SwarmChanges = Pin<Box<dyn Stream<Item = SwarmNews> + Send>>;

/// Output of tasks from wherever they run.
pub type SwarmLogs = Pin<Box<dyn Stream<Item = SwarmResult<LogMessage>> + Send>>;

/// Answer of a request to the swarm.
pub type SwarmResult<T> = Result<T, SwarmError>;

/// The swarm as the API needs it. Everything that reads or changes the cluster answers
/// [`SwarmError::NoSwarm`], [`SwarmError::NotManager`] or [`SwarmError::Locked`] on a node that cannot.
///
/// A `term` is a full id, an exact name or a unique prefix of an id.
#[async_trait]
pub trait SwarmBackend: Send + Sync {
    /// What is known locally.
    fn status(&self) -> SwarmStatus;

    /// Makes a swarm with this node as its first manager; the node's id.
    async fn init(&self, request: InitRequest) -> SwarmResult<String>;
    /// Joins a swarm.
    async fn join(&self, request: JoinRequest) -> SwarmResult<()>;
    /// Leaves it.
    async fn leave(&self, force: bool) -> SwarmResult<()>;
    /// The cluster object.
    async fn cluster(&self) -> SwarmResult<Cluster>;
    /// Replaces the cluster's spec if `version` is the current one.
    async fn update_cluster(&self, version: u64, spec: ClusterSpec, rotate: Rotate) -> SwarmResult<()>;
    /// `SWMKEY-1-…`, empty while autolock is off.
    async fn unlock_key(&self) -> SwarmResult<String>;
    /// Unlocks the store.
    async fn unlock(&self, key: String) -> SwarmResult<()>;

    /// All nodes.
    async fn nodes(&self) -> SwarmResult<Vec<Node>>;
    /// One node; `self` is this one.
    async fn node(&self, term: &str) -> SwarmResult<Node>;
    /// Replaces a node's spec if `version` is the current one.
    async fn update_node(&self, term: &str, version: u64, spec: NodeSpec) -> SwarmResult<()>;
    /// Removes a node that is down, or any worker by force.
    async fn remove_node(&self, term: &str, force: bool) -> SwarmResult<()>;

    /// Who shares the networks that are kept here with this host: a swarm, or those of the same key-value store.
    fn network_scope(&self) -> NetworkScope {
        NetworkScope::Swarm
    }
    /// Endpoints of other hosts on a global network.
    fn remote_endpoints(&self, _network: &str) -> Vec<LocalEndpoint> {
        Vec::new()
    }
    /// All networks of the swarm, or of the key-value store.
    async fn networks(&self) -> SwarmResult<Vec<Network>>;
    /// One of these networks.
    async fn network(&self, term: &str) -> SwarmResult<Network>;
    /// Creates a network; its id.
    async fn create_network(&self, spec: NetworkSpec) -> SwarmResult<String>;
    /// Removes a network nobody uses.
    async fn remove_network(&self, term: &str) -> SwarmResult<()>;

    /// All tasks, those of network attachments included.
    async fn tasks(&self) -> SwarmResult<Vec<Arc<Task>>>;
    /// One task.
    async fn task(&self, term: &str) -> SwarmResult<Arc<Task>>;

    /// All services.
    async fn services(&self) -> SwarmResult<Vec<Arc<Service>>>;
    /// One service.
    async fn service(&self, term: &str) -> SwarmResult<Arc<Service>>;
    /// Creates a service; its id.
    async fn create_service(&self, spec: ServiceSpec) -> SwarmResult<String>;
    /// How many of its tasks run and shall run.
    async fn service_status(&self, id: &str) -> SwarmResult<ServiceStatus>;
    /// Replaces a service's spec if `version` is the current one; with `rollback`, by its previous spec.
    async fn update_service(
        &self,
        id: &str,
        version: u64,
        spec: ServiceSpec,
        rollback: bool,
    ) -> SwarmResult<()>;
    /// Removes a service; its tasks end after that.
    async fn remove_service(&self, term: &str) -> SwarmResult<()>;
    /// Output of the tasks that `selector` names by their ids.
    async fn logs(&self, selector: LogSelector, options: LogSubscriptionOptions) -> SwarmResult<SwarmLogs>;

    /// All secrets, without their data.
    async fn secrets(&self) -> SwarmResult<Vec<Arc<Secret>>>;
    /// One secret, without its data.
    async fn secret(&self, term: &str) -> SwarmResult<Arc<Secret>>;
    /// Creates a secret; its id.
    async fn create_secret(&self, spec: SecretSpec) -> SwarmResult<String>;
    /// Replaces a secret's labels if `version` is the current one.
    async fn update_secret(&self, id: &str, version: u64, spec: SecretSpec) -> SwarmResult<()>;
    /// Removes a secret that no service uses.
    async fn remove_secret(&self, term: &str) -> SwarmResult<()>;

    /// All configs.
    async fn configs(&self) -> SwarmResult<Vec<Arc<Config>>>;
    /// One config.
    async fn config(&self, term: &str) -> SwarmResult<Arc<Config>>;
    /// Creates a config; its id.
    async fn create_config(&self, spec: ConfigSpec) -> SwarmResult<String>;
    /// Replaces a config's labels if `version` is the current one.
    async fn update_config(&self, id: &str, version: u64, spec: ConfigSpec) -> SwarmResult<()>;
    /// Removes a config that no service uses.
    async fn remove_config(&self, term: &str) -> SwarmResult<()>;

    /// What changes in the store from now on, on this and on later swarms of this node.
    fn changes(self: Arc<Self>) -> SwarmChanges;
}
