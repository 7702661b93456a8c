//! What the controller refuses, and how it fails. Texts are Docker's where clients rely on them.

use std::net::IpAddr;
use std::path::PathBuf;

use weft_kernel::{ApplyError, KernelError, NetnsError};
use weft_types::{Classified, ErrorKind};

/// A refused or failed request to the controller. Refusals change nothing; failures are undone as far as possible.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No network of that name, id or prefix.
    #[error("network {0} not found")]
    NotFound(String),
    /// Several networks match.
    #[error("network {term} is ambiguous ({matches} matches found based on {by})")]
    Ambiguous {
        /// What was asked for.
        term: String,
        /// How many match.
        matches: usize,
        /// `name` or `ID prefix`.
        by: &'static str,
    },
    /// This kernel lacks what virtual IPs shall be balanced by.
    #[error("virtual IPs cannot be balanced by {0}: this kernel does not have it")]
    NoBalancer(&'static str),
    /// This kernel cannot translate virtual IPs when sockets connect.
    #[error(
        "virtual IPs cannot be balanced by BPF programs ({0}): use --weft-service-balancer=auto or nftables"
    )]
    NoConnect(#[source] weft_kernel::ConnectError),
    /// Programs at sockets do not say what they shall, and could not be taken away either.
    #[error("programs at sockets do not follow the services")]
    Connect(#[source] weft_kernel::ConnectError),
    /// This kernel cannot have what overlay networks' frames shall be carried by.
    #[error("overlay networks cannot be carried by BPF programs ({0}): use --overlay-engine=auto or bridge")]
    NoFastPath(#[source] weft_kernel::FastPathError),
    /// This kernel lacks what networks shall be encrypted by.
    #[error(
        "networks cannot be encrypted by the kernel: this one has no ESP with AES-GCM in UDP (modules esp4, esp6, gcm, seqiv)"
    )]
    NoKernelEncryption,
    /// Names must say something.
    #[error("invalid name: name is empty")]
    EmptyName,
    /// The name is taken.
    #[error("network with name {0} already exists")]
    NameTaken(String),
    /// `bridge`, `host`, `none` and `default` belong to the daemon. (The blank at the end is Docker's.)
    #[error("operation is not permitted on predefined {0} network ")]
    PredefinedName(String),
    /// The daemon's own networks stay.
    #[error("{0} is a pre-defined network and cannot be removed")]
    Predefined(String),
    /// `host` and `null` networks exist once.
    #[error("only one instance of \"{0}\" network is allowed")]
    OnlyOne(String),
    /// No driver of that name.
    #[error("plugin \"{0}\" not found")]
    UnknownDriver(String),
    /// Known to Docker, not built here.
    #[error("network driver {0} is not supported")]
    UnsupportedDriver(String),
    /// Malformed addresses in the request, each on its own line.
    #[error("invalid network config:\n{0}")]
    InvalidConfig(String),
    /// An option's value is malformed or out of range.
    #[error("{0}")]
    InvalidOption(String),
    /// The subnet is in use.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    PoolOverlaps,
    /// Every default pool is used up.
    #[error(
        "all predefined address pools have been fully subnetted: {used} of {total} {family} subnets in use"
    )]
    PoolsExhausted {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// Subnets in use.
        used: usize,
        /// Subnets in all pools.
        total: u128,
    },
    /// Bridges have one subnet a family.
    #[error("bridge driver doesn't support multiple subnets")]
    MultipleSubnets,
    /// The bridge belongs to another network.
    #[error(
        "cannot create network {id} ({bridge}): conflicts with network {other} ({bridge}): networks have same bridge name"
    )]
    SameBridge {
        /// The refused network's id.
        id: String,
        /// The other network's id.
        other: String,
        /// The bridge's name.
        bridge: String,
    },
    /// Swarm-wide networks are made by managers.
    #[error("cannot create a swarm scoped network when swarm is not active")]
    SwarmInactive,
    /// Containers use it.
    #[error("error while removing network: network {network} has active endpoints ({endpoints})")]
    InUse {
        /// The network's name.
        network: String,
        /// Their names and ids.
        endpoints: String,
    },
    /// No address is left.
    #[error(
        "no available {family} addresses on this network's address pools: {network} ({id}): {used} of {total} in use"
    )]
    AddressesExhausted {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The network's name.
        network: String,
        /// The network's id.
        id: String,
        /// Addresses in use.
        used: usize,
        /// Addresses that can be given out.
        total: u128,
    },
    /// Settings for other networks say too much, are combined, or are in use.
    #[error("{0}")]
    Configuration(String),
    /// No settings of that name.
    #[error("configuration network {0:?} not found")]
    NoConfiguration(String),
    /// Settings are no network.
    #[error("cannot create endpoint on configuration-only network")]
    ConnectConfiguration,
    /// The wanted address is taken.
    #[error("Address already in use")]
    AddressInUse(IpAddr),
    /// The wishes for an endpoint cannot be met; each reason on its own line.
    #[error("invalid endpoint settings:\n{0}")]
    InvalidEndpoint(String),
    /// The container is on the network already.
    #[error("endpoint with name {container} already exists in network {network}")]
    AlreadyConnected {
        /// The container's name.
        container: String,
        /// The network's name.
        network: String,
    },
    /// The container is not on the network.
    #[error("container {container} is not connected to network {network}")]
    NotConnected {
        /// The container's id.
        container: String,
        /// The network's name.
        network: String,
    },
    /// The container has an interface of that name already.
    #[error("the container already has an interface {0}")]
    InterfaceTaken(String),
    /// A running container cannot move to the host's namespace.
    #[error("cannot connect container to host network - container must be created in host network mode")]
    ConnectHost,
    /// Nor may it leave it.
    #[error("cannot disconnect container from host network - container was created in host network mode")]
    DisconnectHost,
    /// A container that shares its namespace has no say in it.
    #[error(
        "container sharing network namespace with another container or host cannot be connected to any other network"
    )]
    ConnectShared,
    /// `none` stands alone.
    #[error(
        "container cannot be connected to multiple networks with one of the networks in private (none) mode"
    )]
    ConnectNone,
    /// No sandbox was made for this container.
    #[error("container {0} has no network sandbox")]
    NoSandbox(String),
    /// There is one already.
    #[error("container {0} already has a network sandbox")]
    SandboxExists(String),
    /// A host port cannot be had.
    #[error("driver failed programming external connectivity on endpoint {name} ({endpoint}): {source}")]
    Publish {
        /// The container's name.
        name: String,
        /// The endpoint's id.
        endpoint: String,
        /// Why.
        #[source]
        source: PortFailure,
    },
    /// The swarm refused the attachment, in its own words.
    #[error("Could not attach to network {network}: {reason}")]
    Attach {
        /// What was asked for.
        network: String,
        /// What the managers said.
        reason: String,
    },
    /// The kernel refused an operation.
    #[error("cannot set up {what}: {source}")]
    Apply {
        /// What was to be set up.
        what: String,
        /// The refused operation.
        #[source]
        source: Box<ApplyError>,
    },
    /// The kernel could not be asked.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A namespace could not be made or entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The controller's own files.
    #[error("{action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The controller's own file holds something else.
    #[error("{path} is damaged: {source}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        #[source]
        source: serde_json::Error,
    },
    /// The daemon goes down.
    #[error("the network controller is stopped")]
    Stopped,
}

/// Why a port of the host cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PortFailure {
    /// Taken by a container or another program.
    #[error("Bind for {0} failed: port is already allocated")]
    Allocated(String),
    /// Every port of the range is taken.
    #[error("all ports are allocated")]
    RangeExhausted,
    /// The address is not this host's.
    #[error("failed to bind host port for {address}:{target}: {reason}")]
    Bind {
        /// Host address and port.
        address: String,
        /// Container address, port and protocol.
        target: String,
        /// The kernel's word.
        reason: String,
    },
    /// The kernel lacks the protocol.
    #[error("error starting userland proxy: failed to listen on {0}: protocol not supported")]
    Protocol(String),
}

impl Classified for NetworkError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) | Self::UnknownDriver(_) | Self::NoConfiguration(_) => ErrorKind::NotFound,
            Self::NameTaken(_) | Self::SandboxExists(_) | Self::InterfaceTaken(_) => ErrorKind::Conflict,
            Self::PredefinedName(_)
            | Self::Predefined(_)
            | Self::OnlyOne(_)
            | Self::PoolOverlaps
            | Self::MultipleSubnets
            | Self::SameBridge { .. }
            | Self::SwarmInactive
            | Self::InUse { .. }
            | Self::AddressInUse(_)
            | Self::Configuration(_)
            | Self::AlreadyConnected { .. } => ErrorKind::Forbidden,
            Self::Ambiguous { .. }
            | Self::EmptyName
            | Self::InvalidConfig(_)
            | Self::InvalidOption(_)
            | Self::InvalidEndpoint(_)
            | Self::ConnectHost
            | Self::DisconnectHost
            | Self::ConnectShared
            | Self::ConnectConfiguration
            | Self::ConnectNone => ErrorKind::InvalidParameter,
            Self::UnsupportedDriver(_)
            | Self::NoBalancer(_)
            | Self::NoConnect(_)
            | Self::NoFastPath(_)
            | Self::NoKernelEncryption => ErrorKind::NotImplemented,
            Self::PoolsExhausted { .. }
            | Self::AddressesExhausted { .. }
            | Self::NotConnected { .. }
            | Self::NoSandbox(_)
            | Self::Publish { .. }
            | Self::Attach { .. }
            | Self::Apply { .. }
            | Self::Connect(_)
            | Self::Kernel(_)
            | Self::Netns(_)
            | Self::File { .. }
            | Self::Damaged { .. } => ErrorKind::System,
            Self::Stopped => ErrorKind::Unavailable,
        }
    }
}
