//! Who may call: by certificate, in SwarmKit's words.

use std::net::SocketAddr;

use tonic::{Request, Status};
use weft_identity::{ConnectInfo, NodeRole};

use crate::core::Core;

/// Every member.
pub(crate) const MEMBERS: &[NodeRole] = &[NodeRole::Worker, NodeRole::Manager];
/// Managers among themselves.
pub(crate) const MANAGERS: &[NodeRole] = &[NodeRole::Manager];

/// A caller whose certificate is good: right root, role, swarm, and not removed.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) node_id: String,
    pub(crate) remote: SocketAddr,
}

/// The caller, if it is a member in one of `roles`.
#[allow(clippy::result_large_err, reason = "tonic's own error type; every caller returns it as it is")]
pub(crate) fn authorize<T>(core: &Core, request: &Request<T>, roles: &[NodeRole]) -> Result<Caller, Status> {
    let info = connection(request)?;
    let peer = info.authorize(&core.swarm_id, roles)?;
    let node_id = peer.node_id.to_string();
    check_not_removed(core, &node_id)?;
    Ok(Caller { node_id, remote: info.remote })
}

/// A removed node's certificate is good until it expires; the swarm knows better.
#[allow(clippy::result_large_err, reason = "tonic's own error type; every caller returns it as it is")]
pub(crate) fn check_not_removed(core: &Core, node_id: &str) -> Result<(), Status> {
    if core.cluster().blacklisted_certificates.contains_key(node_id) {
        return Err(Status::permission_denied(format!(
            "Permission denied: node {node_id} was removed from swarm"
        )));
    }
    Ok(())
}

/// What the listener knows of the connection.
#[allow(clippy::result_large_err, reason = "tonic's own error type; every caller returns it as it is")]
pub(crate) fn connection<T>(request: &Request<T>) -> Result<&ConnectInfo, Status> {
    request
        .extensions()
        .get::<ConnectInfo>()
        .ok_or_else(|| Status::internal("the connection has no TLS information"))
}
