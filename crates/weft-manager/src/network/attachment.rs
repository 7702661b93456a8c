//! Containers on networks: tasks that stand for a container's attachment.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_orchestration::AllocationError;
use weft_types::TaskId;
use weft_wire::swarmkit::{
    Annotations, Network, NetworkAttachment, NetworkAttachmentConfig, NetworkAttachmentSpec, Task, TaskSpec,
    TaskState, TaskStatus, task_spec::Runtime,
};

use super::balancing::{Balancing, drop_from_node};
use super::network_name;
use super::report::Reports;
use crate::clock;
use crate::consensus::ConsensusError;
use crate::core::{Contention, Core};
use crate::store::{ObjectKind, Transaction, View, networks_of, version_of};
use crate::taken::ViewTaken;

/// Why a container cannot be attached or detached. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    #[error("network {0} not found")]
    NoSuchNetwork(String),
    #[error("network {0} not manually attachable")]
    NotAttachable(String),
    #[error("node {0} not found")]
    NoSuchNode(String),
    #[error("attachment {0} not found")]
    NoSuchAttachment(String),
    #[error("attachment {attachment} does not belong to node {node}")]
    ForeignAttachment { attachment: String, node: String },
    #[error("invalid request: {0} is missing")]
    Missing(&'static str),
    #[error(transparent)]
    Allocation(#[from] AllocationError),
    #[error(transparent)]
    Pools(#[from] weft_orchestration::PoolError),
    #[error("the swarm's state changed too often while this request was computed")]
    Contention,
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
}

impl From<Contention> for AttachError {
    fn from(_: Contention) -> Self {
        Self::Contention
    }
}

/// Gives a container of a node addresses on a network: a task assigned to that node, its networks complete.
pub(crate) async fn attach(
    core: &Core,
    reports: &Reports,
    node_id: &str,
    wanted: &NetworkAttachmentConfig,
    container_id: &str,
) -> Result<TaskId, AttachError> {
    if wanted.target.is_empty() {
        return Err(AttachError::Missing("the network"));
    }
    if container_id.is_empty() {
        return Err(AttachError::Missing("the container's id"));
    }
    let id = TaskId::random(&mut rand::rng());
    core.allocate(|view, allocator, transaction| {
        let network = find(view, &wanted.target)?;
        if !network.spec.as_ref().is_some_and(|spec| spec.attachable && !spec.ingress) {
            return Err(AttachError::NotAttachable(network_name(network).to_owned()));
        }
        let node = view.node(node_id).ok_or_else(|| AttachError::NoSuchNode(node_id.to_owned()))?;
        let mut taken = ViewTaken::new(view);
        let given = allocator.addresses(network, &wanted.addresses, &taken)?;
        let attachment = NetworkAttachment {
            network: Some(Network::clone(network)),
            addresses: given.to_texts(),
            aliases: wanted.aliases.clone(),
            driver_attachment_opts: wanted.driver_attachment_opts.clone(),
        };
        transaction.create(task(&id, node_id, wanted, &network.id, container_id, attachment));
        taken.claim(transaction, given.claims, id.as_str());
        transaction.require(ObjectKind::Network, &network.id, version_of(network.meta.as_ref()));
        let added = Balancing::of(view, reports).add(allocator, transaction, &mut taken, node, network)?;
        if !added {
            transaction.require(ObjectKind::Node, node_id, version_of(node.meta.as_ref()));
        }
        Ok(id.clone())
    })
    .await
}

/// Takes a container off its network and frees the addresses.
pub(crate) async fn detach(core: &Core, node_id: &str, attachment: &str) -> Result<(), AttachError> {
    if attachment.is_empty() {
        return Err(AttachError::Missing("the attachment's id"));
    }
    core.change(|view, transaction| {
        let task =
            view.task(attachment).ok_or_else(|| AttachError::NoSuchAttachment(attachment.to_owned()))?;
        if task.node_id != node_id {
            return Err(AttachError::ForeignAttachment {
                attachment: attachment.to_owned(),
                node: node_id.to_owned(),
            });
        }
        forget_tasks(view, transaction, node_id, &[task]);
        Ok(())
    })
    .await
}

/// Adds the removal of tasks of one node: their addresses are freed, and the node's load-balancer address on each
/// network that it has no other task on.
pub(crate) fn forget_tasks(view: &View, transaction: &mut Transaction, node_id: &str, tasks: &[&Task]) {
    let going = |id: &str| tasks.iter().any(|task| task.id == id);
    let mut left = BTreeSet::new();
    for task in tasks {
        transaction.remove(ObjectKind::Task, &task.id, version_of(task.meta.as_ref()));
        for network in networks_of(task) {
            let others =
                view.tasks_of_network(network).any(|other| other.node_id == node_id && !going(&other.id));
            let spec = view.network(network).and_then(|network| network.spec.as_ref());
            if !others && !spec.is_some_and(|spec| spec.ingress) {
                left.insert(network.to_owned());
            }
        }
    }
    if let Some(node) = view.node(node_id) {
        drop_from_node(transaction, node, &left);
    }
}

/// By id, else by name: SwarmKit's order.
fn find<'a>(view: &'a View, target: &str) -> Result<&'a Arc<Network>, AttachError> {
    view.network(target)
        .or_else(|| view.network_named(target))
        .ok_or_else(|| AttachError::NoSuchNetwork(target.to_owned()))
}

fn task(
    id: &TaskId,
    node_id: &str,
    wanted: &NetworkAttachmentConfig,
    network_id: &str,
    container_id: &str,
    attachment: NetworkAttachment,
) -> Task {
    let spec = TaskSpec {
        networks: vec![NetworkAttachmentConfig { target: network_id.to_owned(), ..wanted.clone() }],
        runtime: Some(Runtime::Attachment(NetworkAttachmentSpec { container_id: container_id.to_owned() })),
        ..Default::default()
    };
    let status = TaskStatus {
        timestamp: Some(clock::now().into()),
        state: TaskState::Assigned.into(),
        message: "scheduler confirmed task can run on preassigned node".to_owned(),
        ..Default::default()
    };
    Task {
        id: id.to_string(),
        spec: Some(spec),
        node_id: node_id.to_owned(),
        annotations: Some(Annotations::default()),
        service_annotations: Some(Annotations::default()),
        status: Some(status),
        desired_state: TaskState::Running.into(),
        networks: vec![attachment],
        ..Default::default()
    }
}
