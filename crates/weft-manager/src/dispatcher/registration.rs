//! A node opens a session: the store learns that it is ready, and what it is.

use std::net::IpAddr;
use std::sync::Arc;

use weft_wire::swarmkit::{Node, NodeDescription, NodeStatus, node_status::State};

use super::heartbeat;
use super::sessions::{Session, SessionError};
use crate::brain::Brain;
use crate::consensus::ConsensusError;
use crate::core::Contention;
use crate::network;

/// A session was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegisterError {
    #[error("node not found")]
    NoSuchNode,
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("the swarm's state changed too often while this request was computed")]
    Contention,
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
}

impl From<Contention> for RegisterError {
    fn from(_: Contention) -> Self {
        Self::Contention
    }
}

/// Goes on with the session of this id if it still is the node's, else opens a new one.
pub(crate) async fn register(
    brain: &Arc<Brain>,
    node_id: &str,
    remote: IpAddr,
    session_id: &str,
    description: Option<NodeDescription>,
) -> Result<Arc<Session>, RegisterError> {
    let core = &brain.core;
    if core.view().node(node_id).is_none() {
        return Err(RegisterError::NoSuchNode);
    }
    let (session, fresh) = match brain.sessions.check(node_id, session_id) {
        Ok(session) => {
            session.beat();
            (session, false)
        }
        Err(_) => (brain.sessions.register(node_id)?, true),
    };
    // This manager's own agent comes over loopback; others must be told an address that they can reach.
    let address = if node_id == core.node_id.as_str() { core.advertise.ip() } else { remote.to_canonical() };
    if let Err(error) = mark_ready(brain, node_id, address, description).await {
        brain.sessions.end(&session);
        return Err(error);
    }
    if fresh {
        tracing::info!(node = node_id, session = session.id, %address, "node opened a session");
        tokio::spawn(heartbeat::watch(Arc::downgrade(brain), Arc::clone(&session)));
    }
    if let Err(error) = network::ensure_ingress(core, &brain.reports, node_id).await {
        tracing::warn!(node = node_id, %error, "the node gets no address on the ingress network");
    }
    Ok(session)
}

async fn mark_ready(
    brain: &Brain,
    node_id: &str,
    address: IpAddr,
    description: Option<NodeDescription>,
) -> Result<(), RegisterError> {
    brain
        .core
        .change(|view, transaction| {
            let node = view.node(node_id).ok_or(RegisterError::NoSuchNode)?;
            let status =
                NodeStatus { state: State::Ready.into(), message: String::new(), addr: address.to_string() };
            let description = description.clone().or_else(|| node.description.clone());
            if node.status.as_ref() != Some(&status) || node.description != description {
                transaction.update(Node { status: Some(status), description, ..Node::clone(node) });
            }
            Ok(())
        })
        .await
}
