//! `Session`: the whole truth about a node, sent again whenever a part of it changed.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use weft_orchestration::NodeEngine;
use weft_wire::swarmkit::{Network, NetworkAttachment, Node, Peer, SessionMessage, WeightedPeer};

use super::sessions::Session;
use crate::core::Core;
use crate::network::engine_of;
use crate::store::{Commit, Object, View};

/// Managers are all alike (SwarmKit's value).
const WEIGHT: i64 = 10;
/// SwarmKit's text.
const DISCONNECT: &str = "node must disconnect";
/// Messages that wait for a slow reader; each replaces the one before, so few are enough.
const BACKLOG: usize = 4;

/// The messages of a session until it ends.
pub(crate) fn stream(
    core: Arc<Core>,
    session: Arc<Session>,
) -> ReceiverStream<Result<SessionMessage, Status>> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let open = session.open();
    tokio::spawn(async move {
        let _open = open;
        if let Err(status) = run(&core, &session, &sender).await {
            // The reader may be gone.
            let _ = sender.send(Err(status)).await;
        }
    });
    ReceiverStream::new(receiver)
}

async fn run(
    core: &Core,
    session: &Session,
    sender: &mpsc::Sender<Result<SessionMessage, Status>>,
) -> Result<(), Status> {
    let mut commits = core.store.watch();
    let mut last = None;
    loop {
        let Some(message) = message(&core.view(), session) else {
            return Err(Status::not_found("node not found"));
        };
        if last.as_ref() != Some(&message) {
            if sender.send(Ok(message.clone())).await.is_err() {
                return Ok(());
            }
            last = Some(message);
        }
        loop {
            tokio::select! {
                () = sender.closed() => return Ok(()),
                () = session.ended.cancelled() => return Err(Status::aborted(DISCONNECT)),
                () = core.stopping.cancelled() => return Err(Status::aborted(DISCONNECT)),
                commit = commits.recv() => match commit {
                    Ok(commit) if concerns(&commit, &session.node_id) => break,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return Err(Status::aborted(DISCONNECT)),
                },
            }
        }
    }
}

/// The node itself, the managers, or the cluster with its keys and root.
fn concerns(commit: &Commit, node_id: &str) -> bool {
    commit.changes.iter().flat_map(|change| [&change.before, &change.after]).flatten().any(|object| {
        match object {
            Object::Cluster(_) => true,
            Object::Node(node) => node.id == node_id || node.manager_status.is_some(),
            Object::Network(network) => is_ingress(network),
            Object::Task(_)
            | Object::Resource(_)
            | Object::Service(_)
            | Object::Secret(_)
            | Object::Config(_) => false,
        }
    })
}

fn message(view: &View, session: &Session) -> Option<SessionMessage> {
    let cluster = view.cluster()?;
    let peer = |node: &Node| {
        let addr = node.manager_status.as_ref()?.addr.clone();
        Some(WeightedPeer { peer: Some(Peer { node_id: node.id.clone(), addr }), weight: WEIGHT })
    };
    Some(SessionMessage {
        session_id: session.id.clone(),
        node: Some(with_ingress(view, view.node(&session.node_id)?)),
        managers: view.nodes().filter_map(|node| peer(node)).collect(),
        network_bootstrap_keys: cluster.network_bootstrap_keys.clone(),
        root_ca: cluster.root_ca.as_ref().map(|root| root.ca_cert.clone()).unwrap_or_default(),
    })
}

/// The node as it is told to itself, with its networks as they are now. Ours learn of the ingress network from it also
/// while they spend no address on it; Docker nodes take an attachment without an address for a fault.
fn with_ingress(view: &View, node: &Node) -> Node {
    let mut node = node.clone();
    for network in node.attachments.iter_mut().filter_map(|attachment| attachment.network.as_mut()) {
        if let Some(now) = view.network(&network.id) {
            *network = Network::clone(now);
        }
    }
    let is_ours = engine_of(&node, None) == Some(NodeEngine::Weft);
    let knows = node.attachments.iter().any(|a| a.network.as_ref().is_some_and(is_ingress));
    if is_ours
        && !knows
        && let Some(ingress) = view.networks().find(|network| is_ingress(network))
    {
        let network = Some(Network::clone(ingress));
        node.attachments.push(NetworkAttachment { network, ..NetworkAttachment::default() });
    }
    node
}

fn is_ingress(network: &Network) -> bool {
    network.spec.as_ref().is_some_and(|spec| spec.ingress)
}
