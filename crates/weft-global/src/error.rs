//! Why something was not done.

use weft_kv::StoreError;
use weft_orchestration::AllocationError;
use weft_types::{Classified, ErrorKind};

use crate::document::MAX_DOCUMENT;

/// A change that the documents do not allow. Nothing was changed; what clients rely on is Docker's wording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The name is another network's.
    #[error("network with name {0} already exists")]
    NameTaken(String),
    /// No network of that name, id or prefix.
    #[error("network {0} not found")]
    NotFound(String),
    /// Several networks have an id that begins so.
    #[error("network {0} is ambiguous ({1} matches found based on ID prefix)")]
    Ambiguous(String, usize),
    /// Keys of encrypted networks come from a swarm's managers.
    #[error(
        "encrypted networks are not implemented with a key-value store: their keys come from a swarm's managers"
    )]
    Encrypted,
    /// Only swarms have a routing mesh.
    #[error("an ingress network is a swarm's: this daemon shares a key-value store with others instead")]
    Ingress,
    /// Nothing fits.
    #[error(transparent)]
    Allocation(#[from] AllocationError),
    /// Somebody removes the network at this moment.
    #[error("network {0} is being removed")]
    Removed(String),
    /// Containers are on it, on some host.
    #[error("error while removing network: network {network} has active endpoints ({endpoints})")]
    InUse {
        /// The network's name.
        network: String,
        /// Their names and ids, or who has the address.
        endpoints: String,
    },
    /// There is more to write than a store takes.
    #[error(
        "the document {0} would be larger than the {max} bytes that a value of the key-value store may have",
        max = MAX_DOCUMENT
    )]
    TooLarge(String),
}

impl Classified for Refused {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NameTaken(_) => ErrorKind::Conflict,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Ambiguous(..) => ErrorKind::InvalidParameter,
            Self::Encrypted => ErrorKind::NotImplemented,
            Self::Ingress | Self::InUse { .. } => ErrorKind::Forbidden,
            Self::Allocation(error) => error.kind(),
            Self::Removed(_) | Self::TooLarge(_) => ErrorKind::Unavailable,
        }
    }
}

/// A request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GlobalError {
    /// Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// What is in the store is not ours to change, or damaged. Nothing was changed.
    #[error("the document {key} in the key-value store cannot be read: {reason}")]
    Unreadable {
        /// Without the store's prefix.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store did not take it; the error says whether it may have.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing was changed.
    #[error("the document {0} in the key-value store is changed by others all the time: try again")]
    Contended(String),
    /// Nothing was changed.
    #[error(
        "this host takes part in no overlay network: start the daemon with --cluster-advertise ADDRESS:PORT or \
         INTERFACE:PORT, so that other hosts find it"
    )]
    NoAddress,
    /// The daemon goes down.
    #[error("the daemon stops")]
    Stopped,
}

impl Classified for GlobalError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(refused) => refused.kind(),
            Self::Unreadable { .. } | Self::NoAddress => ErrorKind::System,
            Self::Store(_) | Self::Contended(_) | Self::Stopped => ErrorKind::Unavailable,
        }
    }
}
