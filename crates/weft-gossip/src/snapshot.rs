//! What a node keeps across a restart.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Enough to come back under the same name, with the same entries, before peers notice. Holds the keys: store it
/// where only root can read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Gossip name of this node.
    pub name: String,
    /// The name is only valid at this address.
    pub advertise: SocketAddr,
    /// Last incarnation.
    pub incarnation: u32,
    /// Lamport clock of node and network events.
    pub network_clock: u64,
    /// Lamport clock of table events.
    pub table_clock: u64,
    /// Lamport time and bytes of each key.
    pub keys: Vec<(u64, Vec<u8>)>,
    /// Addresses to join.
    pub join: Vec<SocketAddr>,
    /// Other members that were not known to have failed or left.
    pub members: Vec<SavedMember>,
    /// Networks that this node is on.
    pub networks: Vec<SavedNetwork>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("name", &self.name)
            .field("advertise", &self.advertise)
            .field("incarnation", &self.incarnation)
            .field("members", &self.members.len())
            .field("networks", &self.networks.len())
            .finish_non_exhaustive()
    }
}

/// Another member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMember {
    /// Gossip name.
    pub name: String,
    /// Gossip endpoint.
    pub address: SocketAddr,
    /// Last known incarnation.
    pub incarnation: u32,
    /// Versions as on the wire.
    pub versions: [u8; 6],
    /// Networks it is on, each with its Lamport time.
    pub networks: Vec<(String, u64)>,
}

/// A network with its entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedNetwork {
    /// Network id.
    pub network: String,
    /// Entries of this node and of others, deleted ones included.
    pub entries: Vec<SavedEntry>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedEntry {
    /// Gossip name of its owner.
    pub owner: String,
    /// Table name.
    pub table: String,
    /// Key.
    pub key: String,
    /// Value.
    pub value: Vec<u8>,
    /// Lamport time of its last change.
    pub time: u64,
    /// For deleted entries: seconds until it is forgotten.
    pub deleted_for: Option<u32>,
}
