//! `Watch`: services and other nodes' endpoints on the networks that a node is on. Whole once, then what changed.
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
use weft_wire::weft_v1::{Member, NetworkView, RemoteEndpoint, ReportRequest, ServiceView, WatchMessage};

use super::{endpoints, services};
use crate::brain::Brain;
use crate::control::is_ingress;
use crate::dispatcher::Session;
use crate::network::vxlan_mtu;
use crate::store::{Change, Commit, Object, View, networks_of};

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

/// One network as it was told.
#[derive(Debug, Default)]
struct Known {
    /// None: it was not told yet.
    mtu: Option<Mtu>,
    endpoints: BTreeMap<String, RemoteEndpoint>,
    services: BTreeMap<String, ServiceView>,
}

/// What a commit may have changed for a watcher.
#[derive(Default)]
struct Dirty {
    networks: BTreeSet<String>,
    /// Anything of any node, hence the members and every network's MTU.
    nodes: bool,
    everything: bool,
    /// Of the last commit.
    index: u64,
}

impl Watch {
    async fn run(&mut self, sender: &mpsc::Sender<Result<WatchMessage, Status>>) -> Result<(), Status> {
        let ended = || Status::aborted("node must disconnect");
        let mut commits = self.brain.core.store.watch();
        let everything = Dirty { everything: true, ..Default::default() };
        self.brain.progress.begin(&self.session.node_id, &self.session.id);
        let mut message = self.news(&everything).unwrap_or_default();
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
                if let Some(message) = self.news(&dirty) {
                    break message;
                }
            };
        }
    }

    /// What is to be sent now. From here on it is known what the node has to acknowledge.
    fn news(&mut self, dirty: &Dirty) -> Option<WatchMessage> {
        let view = self.brain.core.view();
        let message = self.difference(&view, dirty);
        let (progress, node, session) = (&self.brain.progress, &self.session.node_id, &self.session.id);
        if let Some(message) = &message {
            let networks = message.networks.iter().map(|network| network.network_id.as_str());
            progress.told(node, session, networks, message.index);
        }
        // The view may be newer than the last commit that was looked at.
        progress.looked(node, session, if dirty.everything { view.index() } else { dirty.index });
        message
    }

    fn mark(&self, dirty: &mut Dirty, commit: &Commit) {
        dirty.index = commit.index;
        let view = self.brain.core.view();
        for change in &commit.changes {
            mark_reports(dirty, change);
            for object in [&change.before, &change.after].into_iter().flatten() {
                match object {
                    Object::Task(task) => dirty.networks.extend(networks_of(task).map(str::to_owned)),
                    Object::Network(network) => drop(dirty.networks.insert(network.id.clone())),
                    Object::Service(service) => {
                        dirty.networks.extend(services::networks_of_service(&view, service));
                    }
                    Object::Node(node) => {
                        dirty.nodes = true;
                        // It may have gone down or come back: all its endpoints go or come.
                        dirty.networks.extend(networks_of_node(&view, &node.id));
                    }
                    Object::Cluster(_) | Object::Secret(_) | Object::Config(_) | Object::Resource(_) => {}
                }
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
        let now = Known {
            mtu: Some(vxlan_mtu(view, reports, object)),
            endpoints: endpoints::remote(view, reports, &network, &self.session.node_id),
            services: services::services(view, object),
        };
        let before = self.sent.entry(network.clone()).or_default();
        let news = now.news(before, network);
        *before = now;
        news
    }
}

impl Known {
    /// What makes `before` this. None: they are the same.
    fn news(&self, before: &Self, network_id: String) -> Option<NetworkView> {
        let (endpoints, removed_endpoint_ids) = difference(&before.endpoints, &self.endpoints);
        let (services, removed_service_ids) = difference(&before.services, &self.services);
        let news = NetworkView {
            network_id,
            mtu: self.mtu.map(Mtu::get).unwrap_or_default(),
            endpoints,
            removed_endpoint_ids,
            services,
            removed_service_ids,
            whole: before.mtu.is_none(),
        };
        let none = news.endpoints.is_empty()
            && news.removed_endpoint_ids.is_empty()
            && news.services.is_empty()
            && news.removed_service_ids.is_empty();
        (self.mtu != before.mtu || !none).then_some(news)
    }
}

/// What is new or other than before, and what is gone.
fn difference<T: Clone + PartialEq>(
    before: &BTreeMap<String, T>,
    now: &BTreeMap<String, T>,
) -> (Vec<T>, Vec<String>) {
    let changed = now.iter().filter(|(id, value)| before.get(*id) != Some(value));
    let removed = before.keys().filter(|id| !now.contains_key(*id));
    (changed.map(|(_, value)| value.clone()).collect(), removed.cloned().collect())
}

/// A node's report changed: mostly one endpoint of many. Anything but endpoints may concern every network.
fn mark_reports(dirty: &mut Dirty, change: &Change) {
    let report = |object: &Option<Object>| match object {
        Some(Object::Resource(resource)) => crate::network::decode_report(resource),
        _ => None,
    };
    let (before, after) = (report(&change.before), report(&change.after));
    if before.is_none() && after.is_none() {
        return;
    }
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    let without_endpoints = |report: &ReportRequest| ReportRequest {
        endpoints: Vec::new(),
        session_id: String::new(),
        ..report.clone()
    };
    if without_endpoints(&before) != without_endpoints(&after) {
        dirty.nodes = true;
        let endpoints = before.endpoints.iter().chain(&after.endpoints);
        dirty.networks.extend(endpoints.map(|endpoint| endpoint.network_id.clone()));
        return;
    }
    let by_id = |report: &ReportRequest| -> BTreeMap<String, weft_wire::weft_v1::Endpoint> {
        report.endpoints.iter().map(|endpoint| (endpoint.id.clone(), endpoint.clone())).collect()
    };
    let (before, after) = (by_id(&before), by_id(&after));
    let changed = before.iter().filter(|(id, endpoint)| after.get(*id) != Some(endpoint));
    let changed = changed.chain(after.iter().filter(|(id, endpoint)| before.get(*id) != Some(endpoint)));
    dirty.networks.extend(changed.map(|(_, endpoint)| endpoint.network_id.clone()));
}

/// The networks that a node has attachments on, and the ingress network: every node is an entry of the routing mesh.
pub(crate) fn networks_of_node(view: &View, node_id: &str) -> BTreeSet<String> {
    let of_tasks = view.tasks_of_node(node_id).flat_map(|task| networks_of(task));
    let ingress = view.networks().filter(|network| is_ingress(network)).map(|network| network.id.as_str());
    of_tasks.chain(ingress).map(str::to_owned).collect()
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
