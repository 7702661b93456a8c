//! `Watch`: other nodes' endpoints on the networks that a node is on. Whole once, then what changed.
//!
//! Driven by commits alone: a new endpoint is told as soon as its report is committed. Invariant: what was sent so far,
//! applied in order, equals what the view of the last message's index gives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use weft_types::Mtu;
use weft_wire::weft_v1::{Member, NetworkView, RemoteEndpoint, WatchMessage};

use super::endpoints;
use crate::brain::Brain;
use crate::dispatcher::Session;
use crate::network::interface_mtu;
use crate::store::{Commit, Object, View, networks_of};

/// Messages that wait for a slow reader.
const BACKLOG: usize = 8;

/// A node may not see a network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    #[error("node {node} has no endpoint on network {network}")]
    NotOnNetwork { node: String, network: String },
}

/// The messages of one stream, until the session ends. No networks given: all that the node is on, as they come and go.
pub(crate) fn stream(
    brain: Arc<Brain>,
    session: Arc<Session>,
    networks: Vec<String>,
) -> Result<ReceiverStream<Result<WatchMessage, Status>>, WatchError> {
    let on = networks_of_node(&brain.core.view(), &session.node_id);
    if let Some(network) = networks.iter().find(|network| !on.contains(*network)) {
        return Err(WatchError::NotOnNetwork { node: session.node_id.clone(), network: network.clone() });
    }
    let fixed = (!networks.is_empty()).then(|| networks.into_iter().collect());
    let (sender, receiver) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        let mut watch = Watch { brain, session, fixed, sent: BTreeMap::new(), members: Vec::new() };
        if let Err(status) = watch.run(&sender).await {
            // The reader may be gone.
            let _ = sender.send(Err(status)).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

struct Watch {
    brain: Arc<Brain>,
    session: Arc<Session>,
    /// The networks that were asked for.
    fixed: Option<BTreeSet<String>>,
    /// What the node knows, by network.
    sent: BTreeMap<String, Known>,
    members: Vec<Member>,
}

struct Known {
    mtu: Mtu,
    endpoints: BTreeMap<String, RemoteEndpoint>,
}

/// What a commit may have changed for a watcher.
#[derive(Default)]
struct Dirty {
    networks: BTreeSet<String>,
    /// Anything of any node, hence the members and every network's MTU.
    nodes: bool,
    everything: bool,
}

impl Watch {
    async fn run(&mut self, sender: &mpsc::Sender<Result<WatchMessage, Status>>) -> Result<(), Status> {
        let ended = || Status::aborted("node must disconnect");
        let mut commits = self.brain.core.store.watch();
        let everything = Dirty { everything: true, ..Default::default() };
        let mut message = self.difference(&self.brain.core.view(), &everything).unwrap_or_default();
        message.full = true;
        loop {
            if sender.send(Ok(message)).await.is_err() {
                return Ok(());
            }
            message = loop {
                let commit = tokio::select! {
                    () = sender.closed() => return Ok(()),
                    () = self.session.ended.cancelled() => return Err(ended()),
                    () = self.brain.core.stopping.cancelled() => return Err(ended()),
                    commit = commits.recv() => commit,
                };
                let mut dirty = Dirty::default();
                match commit {
                    Ok(commit) => self.mark(&mut dirty, &commit),
                    Err(RecvError::Lagged(_)) => dirty.everything = true,
                    Err(RecvError::Closed) => return Err(ended()),
                }
                // What has already been committed behind it goes into the same message.
                loop {
                    match commits.try_recv() {
                        Ok(commit) => self.mark(&mut dirty, &commit),
                        Err(TryRecvError::Lagged(_)) => dirty.everything = true,
                        Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                    }
                }
                if let Some(message) = self.difference(&self.brain.core.view(), &dirty) {
                    break message;
                }
            };
        }
    }

    fn mark(&self, dirty: &mut Dirty, commit: &Commit) {
        for object in commit.changes.iter().flat_map(|change| [&change.before, &change.after]).flatten() {
            match object {
                Object::Task(task) => dirty.networks.extend(networks_of(task).map(str::to_owned)),
                Object::Network(network) => drop(dirty.networks.insert(network.id.clone())),
                Object::Resource(resource) => {
                    dirty.nodes = true;
                    let report = crate::network::decode_report(resource);
                    let endpoints = report.into_iter().flat_map(|report| report.endpoints);
                    dirty.networks.extend(endpoints.map(|endpoint| endpoint.network_id));
                }
                Object::Node(node) => {
                    dirty.nodes = true;
                    // It may have gone down or come back: all its endpoints go or come.
                    dirty.networks.extend(networks_of_node(&self.brain.core.view(), &node.id));
                }
                Object::Cluster(_) | Object::Service(_) | Object::Secret(_) | Object::Config(_) => {}
            }
        }
    }

    /// What the node does not know yet; counts as sent. None: nothing.
    fn difference(&mut self, view: &View, dirty: &Dirty) -> Option<WatchMessage> {
        let on = networks_of_node(view, &self.session.node_id);
        let wanted: BTreeSet<String> = match &self.fixed {
            Some(fixed) => fixed.intersection(&on).cloned().collect(),
            None => on,
        };
        self.sent.retain(|network, _| wanted.contains(network));
        let mut networks = Vec::new();
        for network in wanted {
            let fresh = !self.sent.contains_key(&network);
            if fresh || dirty.everything || dirty.nodes || dirty.networks.contains(&network) {
                networks.extend(self.network_difference(view, network));
            }
        }
        let mut news = !networks.is_empty() || dirty.everything;
        if dirty.nodes || dirty.everything {
            let members = endpoints::members(view, &self.brain.reports);
            news |= members != self.members;
            self.members = members;
        }
        news.then(|| WatchMessage {
            index: view.index(),
            full: false,
            networks,
            members: self.members.clone(),
        })
    }

    fn network_difference(&mut self, view: &View, network: String) -> Option<NetworkView> {
        let object = view.network(&network)?;
        let reports = &self.brain.reports;
        let mtu = interface_mtu(view, reports, object);
        let now = endpoints::remote(view, reports, &network, &self.session.node_id);
        let before = self.sent.get(&network);
        let known = |id: &str| before.and_then(|known| known.endpoints.get(id));
        let changed: Vec<RemoteEndpoint> =
            now.iter().filter(|(id, endpoint)| known(id) != Some(endpoint)).map(|(_, e)| e.clone()).collect();
        let removed: Vec<String> = before
            .into_iter()
            .flat_map(|known| known.endpoints.keys())
            .filter(|id| !now.contains_key(*id))
            .cloned()
            .collect();
        let same_mtu = before.is_some_and(|known| known.mtu == mtu);
        let view = (!same_mtu || !changed.is_empty() || !removed.is_empty()).then(|| NetworkView {
            network_id: network.clone(),
            mtu: mtu.get(),
            endpoints: changed,
            removed_endpoint_ids: removed,
            services: Vec::new(),
            removed_service_ids: Vec::new(),
        });
        self.sent.insert(network, Known { mtu, endpoints: now });
        view
    }
}

/// The networks that a node has attachments on.
pub(crate) fn networks_of_node(view: &View, node_id: &str) -> BTreeSet<String> {
    view.tasks_of_node(node_id).flat_map(|task| networks_of(task)).map(str::to_owned).collect()
}
