//! Members of the swarm.

use std::sync::Arc;
use std::time::SystemTime;

use weft_orchestration::NodeEngine;
use weft_wire::swarmkit::{
    BlacklistedCertificate, Cluster, Node, NodeRole, NodeSpec, Task, TaskState, node_status::State,
};

use super::Control;
use crate::authority;
use crate::core::Core;
use crate::dispatcher::is_attachment;
use crate::error::ControlError;
use crate::membership;
use crate::network::{self, engine_of};
use crate::store::{ObjectKind, Transaction, View, version_of};

impl Control {
    /// All nodes.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        self.view().nodes().cloned().collect()
    }

    /// A node by id, exact name or host name, or unique prefix of its id.
    pub fn node(&self, term: &str) -> Result<Arc<Node>, ControlError> {
        find(&self.view(), term)
    }

    /// Changes a node's spec, if the node still is at `version`.
    pub async fn update_node(
        &self,
        id: &str,
        version: u64,
        spec: NodeSpec,
    ) -> Result<Arc<Node>, ControlError> {
        self.brain
            .core
            .change(|view, transaction| {
                let node = view.node(id).ok_or_else(|| ControlError::NoSuchNode(id.to_owned()))?;
                if version_of(node.meta.as_ref()) != version {
                    return Err(ControlError::OutOfSequence);
                }
                check_role(&self.brain.core, view, node, &spec)?;
                transaction.update(Node { spec: Some(spec.clone()), ..Node::clone(node) });
                Ok(())
            })
            .await?;
        find(&self.view(), id)
    }

    /// Removes a node that is down, or any worker with `force`: its certificate is refused from then on, its tasks and
    /// their addresses go with it.
    pub async fn remove_node(&self, term: &str, force: bool) -> Result<(), ControlError> {
        let brain = &self.brain;
        let id = (brain.core)
            .change(|view, transaction| {
                let node = find(view, term)?;
                check_removal(&brain.core, &node, force)?;
                remove(view, transaction, &node);
                Ok::<_, ControlError>(node.id.clone())
            })
            .await?;
        brain.sessions.remove(&id);
        brain.reports.forget(&id);
        brain.progress.forget(&id);
        tracing::info!(node = id, force, "removed a node");
        Ok(())
    }
}

fn check_role(core: &Core, view: &View, node: &Node, spec: &NodeSpec) -> Result<(), ControlError> {
    let now = node.spec.as_ref().map(NodeSpec::desired_role).unwrap_or_default();
    match (now, spec.desired_role()) {
        (NodeRole::Manager, NodeRole::Worker) => membership::check_demotion(core, view, node),
        (NodeRole::Worker, NodeRole::Manager) if engine_of(node, None) == Some(NodeEngine::Docker) => {
            Err(ControlError::ForeignManager(node.id.clone()))
        }
        _ => Ok(()),
    }
}

fn check_removal(core: &Core, node: &Node, force: bool) -> Result<(), ControlError> {
    if membership::is_member(core, node) {
        return Err(ControlError::NodeIsManager(node.id.clone()));
    }
    // A node that never opened a session is UNKNOWN: SwarmKit lets it go without force only when down.
    let down = node.status.as_ref().is_some_and(|status| status.state() == State::Down);
    if down || force { Ok(()) } else { Err(ControlError::NodeNotDown(node.id.clone())) }
}

fn remove(view: &View, transaction: &mut Transaction, node: &Node) {
    for task in view.tasks_of_node(&node.id) {
        match is_attachment(task) {
            true => {
                transaction.remove(ObjectKind::Task, &task.id, version_of(task.meta.as_ref()));
            }
            false => orphan(view, transaction, task),
        }
    }
    if let Some(report) = view.resource(&node.id) {
        transaction.remove(ObjectKind::Resource, &report.id, version_of(report.meta.as_ref()));
    }
    transaction.remove(ObjectKind::Node, &node.id, version_of(node.meta.as_ref()));
    if let Some(cluster) = view.cluster() {
        let mut cluster = Cluster::clone(cluster);
        blacklist(&mut cluster, &node.id, SystemTime::now());
        transaction.update(cluster);
    }
}

/// Refuses a node's certificate for as long as it can be valid; forgets those that have expired.
fn blacklist(cluster: &mut Cluster, node_id: &str, now: SystemTime) {
    let expiry = BlacklistedCertificate { expiry: Some((now + authority::validity_of(cluster)).into()) };
    let seconds = prost_types::Timestamp::from(now).seconds;
    let lives = |entry: &BlacklistedCertificate| entry.expiry.is_none_or(|expiry| expiry.seconds > seconds);
    cluster.blacklisted_certificates.retain(|_, entry| lives(entry));
    cluster.blacklisted_certificates.insert(node_id.to_owned(), expiry);
}

/// Gives up the tasks of a node that has been down too long.
pub(crate) fn give_up_tasks(view: &View, transaction: &mut Transaction, node: &Node) {
    let (attachments, tasks): (Vec<&Task>, Vec<&Task>) =
        view.tasks_of_node(&node.id).map(AsRef::as_ref).partition(|task| is_attachment(task));
    if !attachments.is_empty() {
        network::forget_tasks(view, transaction, &node.id, &attachments);
    }
    for task in tasks {
        orphan(view, transaction, task);
    }
}

/// A service's task whose node will not be heard of again: it holds nothing any more and stays as history.
fn orphan(view: &View, transaction: &mut Transaction, task: &Task) {
    let mut status = task.status.clone().unwrap_or_default();
    if status.state() >= TaskState::Orphaned {
        return;
    }
    for claim in view.held_by(&task.id) {
        transaction.release(claim);
    }
    status.state = TaskState::Orphaned.into();
    status.timestamp = Some(SystemTime::now().into());
    transaction.update(Task { status: Some(status), ..task.clone() });
}

fn find(view: &View, term: &str) -> Result<Arc<Node>, ControlError> {
    if let Some(node) = view.node(term) {
        return Ok(Arc::clone(node));
    }
    let named = |node: &Node| {
        let name = node.spec.as_ref().and_then(|spec| spec.annotations.as_ref()).map(|it| it.name.as_str());
        let host = node.description.as_ref().map(|description| description.hostname.as_str());
        name == Some(term) || host == Some(term)
    };
    let by_name: Vec<_> = view.nodes().filter(|node| !term.is_empty() && named(node)).collect();
    let by_prefix = || view.nodes().filter(|node| !term.is_empty() && node.id.starts_with(term)).collect();
    let found = if by_name.is_empty() { by_prefix() } else { by_name };
    match found.as_slice() {
        [] => Err(ControlError::NoSuchNode(term.to_owned())),
        [node] => Ok(Arc::clone(node)),
        several => Err(ControlError::AmbiguousNode { term: term.to_owned(), matches: several.len() }),
    }
}
