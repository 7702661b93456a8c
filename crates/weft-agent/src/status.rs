//! What the agent tells the rest of the daemon about its membership.

use std::net::SocketAddr;

use weft_wire::swarmkit::{Node, issuance_status};

/// The agent's standing with the managers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AgentStatus {
    /// This node as the managers see it; kept over loss of the connection.
    pub node: Option<Node>,
    /// Managers by node id and address; the id is empty until a manager said it.
    pub managers: Vec<(String, SocketAddr)>,
    /// A session is open now.
    pub ready: bool,
    /// Why there is none, in words for `docker info`; kept until a session opens again.
    pub error: Option<String>,
}

/// Whether the managers want this node to get a new certificate at once.
pub(crate) fn wants_renewal(node: &Node, have: weft_identity::NodeRole) -> bool {
    let state = node.certificate.as_ref().and_then(|certificate| certificate.status.as_ref());
    let rotate = state.is_some_and(|status| status.state() == issuance_status::State::Rotate);
    rotate || weft_identity::NodeRole::from(node.role()) != have
}
