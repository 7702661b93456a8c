//! Why a service or task cannot be completed.

use weft_types::{Classified, ErrorKind, PortProtocol};

use crate::AllocationError;

/// A refused allocation; the object is as it was. Wording is Docker's where Docker has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// A network is full, or asked for what it cannot give.
    #[error(transparent)]
    Address(#[from] AllocationError),
    /// The spec names a network that is gone.
    #[error("network {0} not found")]
    NoSuchNetwork(String),
    /// Ports are published on all nodes, but the network that carries them was removed.
    #[error("service needs ingress network, but no ingress network is present")]
    NoIngressNetwork,
    /// Another service holds a published port.
    #[error("port '{port}' is already in use by service '{service}' ({id}) as {}",
        if *is_host_mode { "a host-published port" } else { "an ingress port" })]
    PortInUse {
        /// The port.
        port: u32,
        /// Name of the service.
        service: String,
        /// Id of the service.
        id: String,
        /// Whether that service publishes it on the nodes of its tasks only.
        is_host_mode: bool,
    },
    /// A port that is none.
    #[error("invalid published port: {0}")]
    NotAPort(u32),
    /// A number that is no protocol.
    #[error("invalid protocol of a published port: {0}")]
    NotAProtocol(i32),
    /// No port is left to give to a service that asked for any.
    #[error(
        "no {protocol} port is left for service {service}: all {total} from {first} to {last} are in use"
    )]
    PortsExhausted {
        /// Of which protocol.
        protocol: PortProtocol,
        /// Name of the service.
        service: String,
        /// The lowest one that is given.
        first: u16,
        /// The highest one that is given.
        last: u16,
        /// How many there are.
        total: u16,
    },
}

impl Classified for AllocateError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Address(error) => error.kind(),
            Self::NoSuchNetwork(_) => ErrorKind::NotFound,
            // Docker answers 400 to these two.
            Self::NoIngressNetwork | Self::PortInUse { .. } => ErrorKind::InvalidParameter,
            Self::NotAPort(_) | Self::NotAProtocol(_) => ErrorKind::InvalidParameter,
            Self::PortsExhausted { .. } => ErrorKind::Unavailable,
        }
    }
}
