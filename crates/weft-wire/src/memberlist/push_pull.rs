//! The exchange of whole membership over a stream.

use std::net::SocketAddr;

use weft_types::GossipName;

use super::kind;
use super::message::{Versions, address_bytes, address_from, name};
use super::msgpack::{Map, MapWriter};
use crate::WireError;

/// State of a node by the sender's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeStateKind {
    /// Answers probes.
    Alive,
    /// Did not answer, may refute.
    Suspect,
    /// Did not refute.
    Dead,
    /// Said goodbye.
    Left,
}

impl NodeStateKind {
    fn to_wire(self) -> u64 {
        match self {
            Self::Alive => 0,
            Self::Suspect => 1,
            Self::Dead => 2,
            Self::Left => 3,
        }
    }

    fn from_wire(number: u64) -> Option<Self> {
        [Self::Alive, Self::Suspect, Self::Dead, Self::Left].into_iter().find(|kind| kind.to_wire() == number)
    }
}

/// One node as the sender knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushNodeState {
    /// Its name in gossip.
    pub name: GossipName,
    /// Where its gossip endpoint is.
    pub address: SocketAddr,
    /// Empty with Docker.
    pub meta: Vec<u8>,
    /// Grows when the node refutes a suspicion.
    pub incarnation: u32,
    /// The sender's view.
    pub state: NodeStateKind,
    /// What the node speaks.
    pub versions: Versions,
}

impl PushNodeState {
    fn encode(&self, out: Vec<u8>) -> Vec<u8> {
        MapWriter::new(out, 7)
            .bytes("Addr", &address_bytes(self.address.ip()))
            .uint("Incarnation", self.incarnation.into())
            .bytes("Meta", &self.meta)
            .text("Name", self.name.as_str())
            .uint("Port", self.address.port().into())
            .uint("State", self.state.to_wire())
            .bytes("Vsn", &self.versions.to_bytes())
            .finish()
    }

    fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), WireError> {
        const MESSAGE: &str = "push/pull node";
        let refuse = |field| WireError::Field { message: MESSAGE, field };
        let (map, rest) = Map::read(MESSAGE, bytes)?;
        let address = address_from(map.bytes("Addr")?).ok_or(refuse("Addr"))?;
        let node = Self {
            name: name(&map, MESSAGE, "Name")?,
            address: SocketAddr::new(address, map.uint("Port")?),
            meta: map.bytes("Meta")?.to_vec(),
            incarnation: map.uint("Incarnation")?,
            state: NodeStateKind::from_wire(map.uint("State")?).ok_or(refuse("State"))?,
            versions: Versions::read(&map)?,
        };
        Ok((node, rest))
    }
}

/// All nodes that the sender knows, itself included, and its user state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushPull {
    /// Whether the sender is about to become a member.
    pub join: bool,
    /// Every node the sender knows.
    pub nodes: Vec<PushNodeState>,
    /// With Docker a NetworkDB gossip message of type push/pull.
    pub user_state: Vec<u8>,
}

impl PushPull {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = MapWriter::new(vec![kind::PUSH_PULL], 3)
            .bool("Join", self.join)
            .uint("Nodes", self.nodes.len() as u64)
            .uint("UserStateLen", self.user_state.len() as u64)
            .finish();
        for node in &self.nodes {
            out = node.encode(out);
        }
        out.extend(&self.user_state);
        out
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, WireError> {
        let (header, mut rest) = Map::read("push/pull", body)?;
        let count: u64 = header.uint("Nodes")?;
        let user_len: usize = header.uint("UserStateLen")?;
        let mut nodes = Vec::new();
        // Each node takes bytes of the input, so a false count costs nothing.
        for _ in 0..count {
            let (node, behind) = PushNodeState::decode(rest)?;
            nodes.push(node);
            rest = behind;
        }
        let user_state = rest.get(..user_len).ok_or(WireError::Truncated("user state"))?.to_vec();
        Ok(Self { join: header.bool("Join")?, nodes, user_state })
    }
}
