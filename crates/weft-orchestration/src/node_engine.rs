//! What a node runs, and which addresses it needs for itself because of that.

use weft_wire::swarmkit::Network;

/// Which engine a node runs, by the managers' word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeEngine {
    /// Balances services through an address of its own on each overlay, and waits for it before it starts a task.
    Docker,
    /// Balances at the client, which keeps its address. Only where published ports lead to tasks on Docker's nodes
    /// does it speak with an address of its own, since those know no other way to answer through the node of entry.
    Weft,
}

impl NodeEngine {
    /// Whether a node needs an address of its own on an overlay that it is on. What is not spent cannot run out.
    ///
    /// `beside_docker`: a node of the swarm runs Docker.
    pub fn balances_from(self, network: &Network, beside_docker: bool) -> bool {
        match self {
            Self::Docker => true,
            Self::Weft => beside_docker && network.spec.as_ref().is_some_and(|spec| spec.ingress),
        }
    }
}
