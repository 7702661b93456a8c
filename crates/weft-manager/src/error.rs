//! What can go wrong for the users of a manager, in Docker's words where clients rely on them.

use weft_types::{Classified, ErrorKind};

use crate::consensus::{ConsensusError, StorageError};
use crate::control::ServiceProblem;

/// A manager cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The folder holds a swarm already. Nothing was changed.
    #[error(
        "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one."
    )]
    AlreadyInitialised,
    /// The folder holds no swarm: `init` never ended there.
    #[error("there is no swarm in {}", .0.display())]
    NoSwarm(std::path::PathBuf),
    /// The spec must be named so.
    #[error("swarm spec must be named \"default\"")]
    SpecName,
    /// Docker's rule for the data-path port.
    #[error("Datapath port number is not in valid range (1024-49151) : {0}")]
    DataPathPort(u32),
    /// The default address pools are not usable.
    #[error(transparent)]
    Pools(#[from] weft_orchestration::PoolError),
    /// Two pools share addresses.
    #[error("Default address pool overlaps: {0} and {1}")]
    PoolsOverlap(ipnet::IpNet, ipnet::IpNet),
    /// A cluster setting is out of range.
    #[error("error updating cluster settings: {0}")]
    Settings(#[source] Box<ControlError>),
    /// The state folder cannot be made.
    #[error("create {}", path.display())]
    StateDir {
        /// Which one.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The port cannot be listened on.
    #[error(
        "manager stopped: failed to listen on remote API address: listen tcp {address}: bind: {}",
        lower(source)
    )]
    Listen {
        /// Which one.
        address: std::net::SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The store's files cannot be used.
    #[error("open the swarm's store: {}", weft_types::error_chain(.0))]
    Storage(#[source] StorageError),
    /// Raft does not start.
    #[error("start the swarm's store: {}", weft_types::error_chain(.0))]
    Consensus(#[source] ConsensusError),
    /// The other managers do not let this one in.
    #[error("manager stopped: can't initialize raft node: {0}")]
    Join(#[source] crate::announce::AnnounceError),
    /// A certificate cannot be made.
    #[error("make the first certificate: {}", weft_types::error_chain(.0))]
    Certificate(#[source] weft_identity::CertificateError),
}

/// As Go words it: lower case, without Rust's `(os error N)`.
fn lower(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

impl ManagerError {
    fn key_problem(&self) -> Option<&crate::seal::SealProblem> {
        match self {
            Self::Storage(StorageError::Key(crate::seal::KeyFileError::Sealed(error))) => {
                Some(&error.problem)
            }
            _ => None,
        }
    }

    /// Whether the store opens only with the swarm's unlock key, and none was given.
    pub fn is_locked(&self) -> bool {
        matches!(self.key_problem(), Some(crate::seal::SealProblem::Locked))
    }

    /// Whether the unlock key that was given is not the one.
    pub fn is_wrong_key(&self) -> bool {
        matches!(self.key_problem(), Some(crate::seal::SealProblem::Tag))
    }
}

impl Classified for ManagerError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::AlreadyInitialised => ErrorKind::Unavailable,
            Self::SpecName => ErrorKind::InvalidParameter,
            // Docker answers 500 for these too.
            Self::NoSwarm(_)
            | Self::DataPathPort(_)
            | Self::Pools(_)
            | Self::PoolsOverlap(..)
            | Self::Settings(_)
            | Self::StateDir { .. }
            | Self::Listen { .. }
            | Self::Storage(_)
            | Self::Consensus(_)
            | Self::Join(_)
            | Self::Certificate(_) => ErrorKind::System,
        }
    }
}

impl From<ConsensusError> for ManagerError {
    fn from(error: ConsensusError) -> Self {
        match error {
            ConsensusError::Storage(error) => Self::Storage(error),
            other => Self::Consensus(other),
        }
    }
}

/// A request to the control interface was refused. Nothing was changed unless said otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No node of that name or id.
    #[error("node {0} not found")]
    NoSuchNode(String),
    /// A name that several nodes carry, or a prefix of several ids.
    #[error("node {term} is ambiguous ({matches} matches found)")]
    AmbiguousNode {
        /// What was asked for.
        term: String,
        /// How many fit.
        matches: usize,
    },
    /// No network of that name or id.
    #[error("network {0} not found")]
    NoSuchNetwork(String),
    /// A prefix of several ids.
    #[error("network {term} is ambiguous ({matches} matches found on ID prefix)")]
    AmbiguousNetwork {
        /// What was asked for.
        term: String,
        /// How many fit.
        matches: usize,
    },
    /// No task of that id.
    #[error("task {0} not found")]
    NoSuchTask(String),
    /// No service of that name or id.
    #[error("service {0} not found")]
    NoSuchService(String),
    /// No secret of that name or id.
    #[error("secret {0} not found")]
    NoSuchSecret(String),
    /// No config of that name or id.
    #[error("config {0} not found")]
    NoSuchConfig(String),
    /// A prefix of several ids.
    #[error("{kind} {term} is ambiguous ({matches} matches found)")]
    Ambiguous {
        /// Of what.
        kind: &'static str,
        /// What was asked for.
        term: String,
        /// How many fit.
        matches: usize,
    },
    /// The name of a service is taken.
    #[error(
        "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service {0} already exists"
    )]
    ServiceExists(String),
    /// The name of a secret or config is taken.
    #[error("rpc error: code = AlreadyExists desc = {kind} {name} already exists")]
    FileExists {
        /// Secret or config.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// Services still use a secret or config.
    #[error(
        "rpc error: code = InvalidArgument desc = {kind} '{name}' is in use by the following {}: {}",
        if services.len() == 1 { "service" } else { "services" },
        services.join(", ")
    )]
    FileInUse {
        /// Secret or config.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Names of the services.
        services: Vec<String>,
    },
    /// A service that was never updated cannot go back.
    #[error("rpc error: code = FailedPrecondition desc = service {0} does not have a previous spec")]
    NoPreviousSpec(String),
    /// A port is published on a network that the swarm does not have.
    #[error(
        "rpc error: code = FailedPrecondition desc = service needs ingress network, but no ingress network is present"
    )]
    NoIngress,
    /// A service spec breaks a rule.
    #[error("rpc error: code = {} desc = {}", .0.code(), .0)]
    InvalidService(Box<ServiceProblem>),
    /// A subscription to logs breaks a rule.
    #[error("rpc error: code = InvalidArgument desc = log selector must not be empty")]
    EmptyLogSelector,
    /// Some output of tasks could not be had.
    #[error(
        "rpc error: code = Unknown desc = warning: incomplete log stream. some logs could not be retrieved for the \
         following reasons: {0}"
    )]
    Logs(String),
    /// A node that is up is not removed without force.
    #[error("rpc error: code = FailedPrecondition desc = node {0} is not down and can't be removed")]
    NodeNotDown(String),
    /// A manager must be demoted first.
    #[error(
        "rpc error: code = FailedPrecondition desc = node {0} is a cluster manager and is a member of the raft \
         cluster. It must be demoted to worker before removal"
    )]
    NodeIsManager(String),
    /// The only manager stays one.
    #[error("rpc error: code = FailedPrecondition desc = attempting to demote the last manager of the swarm")]
    LastManager,
    /// SwarmKit's guard of the quorum.
    #[error(
        "rpc error: code = FailedPrecondition desc = can't remove member from the raft: this would result in a loss \
         of quorum"
    )]
    QuorumLoss,
    /// A node of another engine shall be a manager.
    #[error(
        "rpc error: code = FailedPrecondition desc = node {0} runs Docker's engine: only Weft's can be managers of \
         this swarm"
    )]
    ForeignManager(String),
    /// A node that shall be a manager and is none yet.
    #[error("rpc error: code = NotFound desc = can't find manager in raft memberlist")]
    NotInMemberList,
    /// The caller's object is not the current one.
    #[error("rpc error: code = Unknown desc = update out of sequence")]
    OutOfSequence,
    /// The name is taken.
    #[error("network with name {0} already exists")]
    NetworkExists(String),
    /// There is only one ingress network.
    #[error("rpc error: code = AlreadyExists desc = ingress network ({0}) is already present")]
    IngressExists(String),
    /// A spec breaks a rule.
    #[error("rpc error: code = InvalidArgument desc = {0}")]
    InvalidSpec(SpecProblem),
    /// Someone still uses the network.
    #[error("rpc error: code = FailedPrecondition desc = network {network} is in use by task {task}")]
    NetworkInUse {
        /// Its id.
        network: String,
        /// One of the tasks.
        task: String,
    },
    /// A service still uses the network.
    #[error("rpc error: code = FailedPrecondition desc = network {network} is in use by service {service}")]
    NetworkInUseByService {
        /// Its id.
        network: String,
        /// One of the services.
        service: String,
    },
    /// Every node has this network of its own.
    #[error(
        "rpc error: code = FailedPrecondition desc = network {id} ({name}) is a swarm predefined network and cannot be removed"
    )]
    PredefinedNetwork {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
    },
    /// A service still publishes ports.
    #[error(
        "rpc error: code = FailedPrecondition desc = ingress network cannot be removed because service {0} depends on it"
    )]
    IngressInUse(String),
    /// No subnet, VNI or address is left, or the wanted one is taken.
    #[error(transparent)]
    Allocation(#[from] weft_orchestration::AllocationError),
    /// The swarm's own settings do not allow allocations.
    #[error(transparent)]
    Pools(#[from] weft_orchestration::PoolError),
    /// Other changes kept coming in between.
    #[error(
        "rpc error: code = Aborted desc = the swarm's state changed too often while this request was computed"
    )]
    Contention,
    /// The store refused the request or has stopped.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
}

/// A rule of a cluster, node or network spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecProblem {
    /// Docker's rule for names.
    #[error("name must be valid as a DNS name component")]
    Name,
    /// Docker's limit for names.
    #[error("name must be 63 characters or fewer")]
    NameLength,
    /// No name at all.
    #[error("meta: name must be provided")]
    NameMissing,
    /// Ingress is not for containers.
    #[error("ingress network cannot be attachable")]
    IngressAttachable,
    /// Certificates must live for an hour at least.
    #[error("minimum certificate expiry time is: 1h0m0s")]
    CertificateExpiry,
    /// Not built.
    #[error(
        "external certificate authorities are not supported by Weft: the swarm's managers sign certificates"
    )]
    ExternalCa,
    /// SwarmKit's rule.
    #[error("if a signing CA key is provided, the signing CA cert must also be provided")]
    SigningKeyAlone,
    /// SwarmKit's rule.
    #[error("CA certificate expires too soon")]
    RootExpiresSoon,
    /// A root that cannot be used.
    #[error("{0}")]
    SigningCertificate(String),
    /// No name at all, of a secret or config.
    #[error("name must be provided")]
    FileNameMissing,
    /// The rule for names of secrets and configs.
    #[error(
        "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]"
    )]
    FileName,
    /// SwarmKit's limits.
    #[error("{kind} data must be larger than 0 and less than {limit} bytes")]
    FileSize {
        /// Secret or config.
        kind: &'static str,
        /// In bytes.
        limit: usize,
    },
    /// A secret from elsewhere must say from where.
    #[error("secret driver must have a name")]
    SecretDriver,
    /// Secrets and configs never change their contents.
    #[error("only updates to Labels are allowed")]
    LabelsOnly,
    /// The cluster has one name.
    #[error("modification of cluster name is not allowed")]
    ClusterName,
    /// A heartbeat period that is negative.
    #[error("heartbeat time period cannot be a negative duration")]
    HeartbeatPeriod,
    /// Raft settings are fixed once the swarm runs.
    #[error("amount of ticks before an election must be larger than the heartbeat tick")]
    RaftTicks,
}

impl From<ServiceProblem> for ControlError {
    fn from(problem: ServiceProblem) -> Self {
        Self::InvalidService(Box::new(problem))
    }
}

impl Classified for ControlError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchNode(_)
            | Self::NoSuchNetwork(_)
            | Self::NoSuchTask(_)
            | Self::NotInMemberList
            | Self::NoSuchService(_)
            | Self::NoSuchSecret(_)
            | Self::NoSuchConfig(_) => ErrorKind::NotFound,
            Self::InvalidService(problem) => problem.kind(),
            Self::AmbiguousNode { .. }
            | Self::AmbiguousNetwork { .. }
            | Self::NodeNotDown(_)
            | Self::NodeIsManager(_)
            | Self::LastManager
            | Self::ForeignManager(_)
            | Self::QuorumLoss
            | Self::InvalidSpec(_)
            | Self::NetworkInUse { .. }
            | Self::NetworkInUseByService { .. }
            | Self::IngressInUse(_)
            | Self::PredefinedNetwork { .. }
            | Self::Ambiguous { .. }
            | Self::FileInUse { .. }
            | Self::NoPreviousSpec(_)
            | Self::NoIngress
            | Self::EmptyLogSelector => ErrorKind::InvalidParameter,
            Self::NetworkExists(_)
            | Self::IngressExists(_)
            | Self::ServiceExists(_)
            | Self::FileExists { .. } => ErrorKind::Conflict,
            // Docker answers 500 for "update out of sequence".
            Self::OutOfSequence | Self::Logs(_) => ErrorKind::System,
            Self::Allocation(error) => error.kind(),
            Self::Pools(error) => error.kind(),
            Self::Contention => ErrorKind::Unavailable,
            Self::Consensus(error) => error.kind(),
        }
    }
}

impl Classified for ConsensusError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotLeader | Self::Unconfirmed | Self::Behind => ErrorKind::Unavailable,
            // Docker answers 500 where there is no leader.
            Self::NoLeader | Self::Empty | Self::Stopped(_) | Self::Storage(_) => ErrorKind::System,
        }
    }
}
