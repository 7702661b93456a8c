//! Containers and nodes on networks: tasks that stand for a container's attachment, and the addresses that Docker
//! nodes balance from.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use weft_orchestration::{AllocationError, Allocator, NodeEngine};
use weft_types::TaskId;
use weft_wire::swarmkit::{
    Annotations, Network, NetworkAttachment, NetworkAttachmentConfig, NetworkAttachmentSpec, Node, Task,
    TaskSpec, TaskState, TaskStatus, task_spec::Runtime,
};

use super::network_name;
use super::report::{Reports, engine_of};
use crate::consensus::ConsensusError;
use crate::core::{Contention, Core, host_address};
use crate::store::{Claim, ObjectKind, Transaction, View, networks_of, version_of};
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
        let engine = engine_of(node, reports.of(view, node_id).as_deref());
        let added = balance_from(allocator, transaction, &mut taken, node, &[network], engine)?;
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

/// Gives a Docker node its address on the ingress network, as Docker's managers do when it registers.
pub(crate) async fn ensure_ingress(core: &Core, reports: &Reports, node_id: &str) -> Result<(), AttachError> {
    core.allocate(|view, allocator, transaction| {
        let Some(node) = view.node(node_id) else { return Ok(()) };
        let engine = engine_of(node, reports.of(view, node_id).as_deref());
        let is_ingress = |network: &Network| network.spec.as_ref().is_some_and(|spec| spec.ingress);
        let Some(ingress) = view.networks().find(|network| is_ingress(network)) else { return Ok(()) };
        let mut taken = ViewTaken::new(view);
        balance_from(allocator, transaction, &mut taken, node, &[ingress], engine)?;
        Ok(())
    })
    .await
}

/// Frees the load-balancer addresses of nodes that turned out to be ours: they were given before the node had said so.
pub(crate) async fn free_unneeded(core: &Core, reports: &Reports) -> Result<(), AttachError> {
    core.change(|view, transaction| {
        for node in view.nodes().filter(|node| !node.attachments.is_empty()) {
            if engine_of(node, reports.of(view, &node.id).as_deref()) == Some(NodeEngine::Weft) {
                let networks = node.attachments.iter().filter_map(|attachment| attachment.network.as_ref());
                drop_from_node(transaction, node, &networks.map(|network| network.id.clone()).collect());
            }
        }
        Ok(())
    })
    .await
}

/// Gives a Docker node an address on each overlay that it shall balance from, and takes those on others away. A
/// network that is full gives none: the node says so of its task in time.
pub(crate) fn rebalance(
    allocator: &mut Allocator,
    transaction: &mut Transaction,
    taken: &mut ViewTaken<'_>,
    node: &Node,
    wanted: &[Arc<Network>],
) {
    let stays = |network: &Network| {
        network.spec.as_ref().is_some_and(|spec| spec.ingress)
            || wanted.iter().any(|other| other.id == network.id)
    };
    let mut attachments = Vec::with_capacity(node.attachments.len());
    for attachment in &node.attachments {
        match attachment.network.as_ref().filter(|network| !stays(network)) {
            None => attachments.push(attachment.clone()),
            Some(network) => release(transaction, &network.id, attachment),
        }
    }
    for network in wanted.iter().filter(|network| super::is_overlay(network)) {
        if attachments.iter().any(|has| has.network.as_ref().is_some_and(|of| of.id == network.id)) {
            continue;
        }
        match allocator.node_addresses(network, NodeEngine::Docker, taken) {
            Ok(Some(given)) => {
                attachments.push(NetworkAttachment {
                    network: Some(Network::clone(network)),
                    addresses: given.to_texts(),
                    ..Default::default()
                });
                taken.claim(transaction, given.claims, &node.id);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(node = node.id, %error, "the node gets no address to balance from"),
        }
    }
    if attachments != node.attachments {
        transaction.update(Node { attachments, ..node.clone() });
    }
}

fn release(transaction: &mut Transaction, network: &str, attachment: &NetworkAttachment) {
    for address in attachment.addresses.iter().filter_map(|text| host_address(text)) {
        transaction.release(&Claim::Address { network: network.to_owned(), address });
    }
}

/// Adds a load-balancer address per network to a node that needs them. Says whether the node is changed.
fn balance_from(
    allocator: &mut Allocator,
    transaction: &mut Transaction,
    taken: &mut ViewTaken<'_>,
    node: &Node,
    networks: &[&Arc<Network>],
    engine: Option<NodeEngine>,
) -> Result<bool, AllocationError> {
    let mut changed = node.clone();
    for network in networks {
        let has = |attachment: &NetworkAttachment| {
            attachment.network.as_ref().is_some_and(|of| of.id == network.id)
        };
        if node.attachments.iter().any(has) {
            continue;
        }
        // A node that has not said what it is gets none: it would have no session to be told through.
        let Some(given) = allocator.node_addresses(network, engine.unwrap_or(NodeEngine::Weft), taken)?
        else {
            continue;
        };
        changed.attachments.push(NetworkAttachment {
            network: Some(Network::clone(network)),
            addresses: given.to_texts(),
            ..Default::default()
        });
        taken.claim(transaction, given.claims, &node.id);
    }
    let is_changed = changed.attachments.len() != node.attachments.len();
    if is_changed {
        transaction.update(changed);
    }
    Ok(is_changed)
}

/// Takes a node's load-balancer addresses on these networks away, where it has any.
pub(super) fn drop_from_node(transaction: &mut Transaction, node: &Node, networks: &BTreeSet<String>) {
    let mut kept = Vec::with_capacity(node.attachments.len());
    for attachment in &node.attachments {
        match attachment.network.as_ref().filter(|network| networks.contains(&network.id)) {
            None => kept.push(attachment.clone()),
            Some(network) => release(transaction, &network.id, attachment),
        }
    }
    if kept.len() != node.attachments.len() {
        transaction.update(Node { attachments: kept, ..node.clone() });
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
        timestamp: Some(SystemTime::now().into()),
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
