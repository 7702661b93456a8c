//! Why a command was refused.

use std::net::SocketAddr;

use weft_types::{Classified, ErrorKind};
use weft_wire::memberlist::KeyringError;

/// A refused command. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GossipError {
    /// The keys cannot be used; the present ones stay in use.
    #[error("gossip keys")]
    Keys(#[from] KeyringError),
    /// Peers refuse a known name at another address; the caller starts without the snapshot instead.
    #[error("the saved gossip state belongs to {saved}, this node is {now}")]
    AddressChanged {
        /// Address in the snapshot.
        saved: SocketAddr,
        /// Configured address.
        now: SocketAddr,
    },
    /// A name or address in the snapshot is not valid.
    #[error("the saved gossip state is damaged: {0}")]
    DamagedSnapshot(&'static str),
    /// An entry needs its network to be joined.
    #[error("network {0} is not joined in gossip")]
    NotOnNetwork(String),
    /// There is no such entry of this node.
    #[error("no entry {key} of this node in table {table} of network {network}")]
    NoSuchEntry {
        /// Network id.
        network: String,
        /// Table name.
        table: String,
        /// Key.
        key: String,
    },
    /// The entry would not fit into a datagram, so it could not be gossiped.
    #[error("entry {key} has {len} bytes, at most {limit} fit into a datagram")]
    EntryTooLarge {
        /// Key.
        key: String,
        /// Encoded size in bytes.
        len: usize,
        /// Largest size in bytes.
        limit: usize,
    },
    /// This node is leaving or has left.
    #[error("this node is leaving the cluster")]
    Leaving,
}

impl Classified for GossipError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Keys(error) => error.kind(),
            Self::AddressChanged { .. } | Self::Leaving => ErrorKind::Conflict,
            Self::DamagedSnapshot(_) => ErrorKind::System,
            Self::NotOnNetwork(_) | Self::NoSuchEntry { .. } => ErrorKind::NotFound,
            Self::EntryTooLarge { .. } => ErrorKind::InvalidParameter,
        }
    }
}
