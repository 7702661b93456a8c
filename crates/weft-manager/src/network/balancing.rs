//! Addresses that nodes balance services from: `Node.attachments`.
//!
//! Docker's nodes have one on the ingress network and on each overlay that they have tasks on; ours have one on the
//! ingress network, and only while a Docker node is in the swarm. Whatever changes what nodes are or where tasks run
//! gives and takes them in the same transaction; [`settle`] makes good what could not be given then, and what follows
//! from a node that says what it is, comes or goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_orchestration::{AllocationError, Allocator, NodeEngine};
use weft_wire::swarmkit::{Network, NetworkAttachment, Node, NodeStatus, Task, TaskState, TaskStatus};

use super::attachment::AttachError;
use super::report::{Reports, engine_of};
use crate::control::is_ingress;
use crate::core::{Core, host_address};
use crate::store::{Claim, Transaction, View, networks_of};
use crate::taken::ViewTaken;

/// Begins a node's message when a network had no address for it: users read it in `node inspect`.
const LACKS: &str = "no address to balance services from: ";

/// Which nodes need addresses of their own, as of one view.
pub(crate) struct Balancing<'a> {
    view: &'a View,
    engines: BTreeMap<&'a str, NodeEngine>,
    beside_docker: bool,
}

impl<'a> Balancing<'a> {
    pub(crate) fn of(view: &'a View, reports: &Reports) -> Self {
        let engine = |node: &'a Arc<Node>| {
            Some((node.id.as_str(), engine_of(node, reports.of(view, &node.id).as_deref())?))
        };
        let engines: BTreeMap<_, _> = view.nodes().filter_map(engine).collect();
        let beside_docker = engines.values().any(|engine| *engine == NodeEngine::Docker);
        Self { view, engines, beside_docker }
    }

    /// A node that has not said what it is needs none: it would have no session to be told through.
    fn needs(&self, node: &Node, network: &Network) -> bool {
        let engine = self.engines.get(node.id.as_str());
        super::is_overlay(network)
            && engine.is_some_and(|engine| engine.balances_from(network, self.beside_docker))
    }

    fn ingress(&self) -> Option<&'a Arc<Network>> {
        self.view.networks().find(|network| is_ingress(network))
    }

    /// The networks that a node shall have an address on, with the tasks that are written besides (none: removed).
    fn wanted(&self, node: &Node, written: &BTreeMap<&str, Option<&Task>>) -> Vec<&'a Arc<Network>> {
        let unwritten = self.view.tasks_of_node(&node.id).map(AsRef::as_ref);
        let unwritten = unwritten.filter(|task: &&Task| !written.contains_key(task.id.as_str()));
        let written = written.values().copied().flatten().filter(|task| task.node_id == node.id);
        let ids: BTreeSet<&str> =
            unwritten.chain(written).filter(|task| !has_ended(task)).flat_map(networks_of).collect();
        let of_tasks = ids.into_iter().filter_map(|id| self.view.network(id)).filter(|it| !is_ingress(it));
        self.ingress().into_iter().chain(of_tasks).filter(|network| self.needs(node, network)).collect()
    }

    /// Adds an address on a network that the node gets a task on, if it needs one. Says whether the node is changed.
    pub(crate) fn add(
        &self,
        allocator: &mut Allocator,
        transaction: &mut Transaction,
        taken: &mut ViewTaken<'_>,
        node: &Node,
        network: &Arc<Network>,
    ) -> Result<bool, AllocationError> {
        if !self.needs(node, network) || is_on(&node.attachments, network) {
            return Ok(false);
        }
        let given = give(allocator, transaction, taken, node, network)?;
        let attachments = [node.attachments.as_slice(), &[given]].concat();
        transaction.update(Node { attachments, ..node.clone() });
        Ok(true)
    }

    /// Gives a node what it needs, and takes what it no longer does. A network that is full gives none: the node
    /// carries a message that says so, and it is tried again. Says whether the node has all that it needs.
    pub(crate) fn rebalance(
        &self,
        allocator: &mut Allocator,
        transaction: &mut Transaction,
        taken: &mut ViewTaken<'_>,
        node: &Node,
        written: &BTreeMap<&str, Option<&Task>>,
    ) -> bool {
        if !self.beside_docker && node.attachments.is_empty() && !lacked(node) {
            return true;
        }
        let wanted = self.wanted(node, written);
        let mut attachments = Vec::with_capacity(node.attachments.len());
        for attachment in &node.attachments {
            let network = attachment.network.as_ref();
            match network.filter(|network| wanted.iter().all(|other| other.id != network.id)) {
                None => attachments.push(attachment.clone()),
                Some(network) => release(transaction, &network.id, attachment),
            }
        }
        let mut lacks = Vec::new();
        for network in wanted {
            if !is_on(&attachments, network) {
                match give(allocator, transaction, taken, node, network) {
                    Ok(given) => attachments.push(given),
                    Err(error) => lacks.push(error.to_string()),
                }
            }
        }
        let status = node.status.clone().map(|status| noted(status, &lacks));
        if attachments != node.attachments || status != node.status {
            if !lacks.is_empty() {
                tracing::warn!(node = node.id, lacks = lacks.join("; "), "a node lacks addresses");
            }
            transaction.update(Node { attachments, status, ..node.clone() });
        }
        lacks.is_empty()
    }
}

/// Gives a node that registers its address on the ingress network: Docker's nodes want it with their first message.
pub(crate) async fn ensure_ingress(core: &Core, reports: &Reports, node_id: &str) -> Result<(), AttachError> {
    core.allocate(|view, allocator, transaction| {
        let Some(node) = view.node(node_id) else { return Ok(()) };
        let balancing = Balancing::of(view, reports);
        let mut taken = ViewTaken::new(view);
        balancing.rebalance(allocator, transaction, &mut taken, node, &BTreeMap::new());
        Ok(())
    })
    .await
}

/// Gives all nodes what they need. Says whether all have it.
pub(crate) async fn settle(core: &Core, reports: &Reports) -> Result<bool, AttachError> {
    core.allocate(|view, allocator, transaction| {
        let balancing = Balancing::of(view, reports);
        let mut taken = ViewTaken::new(view);
        let mut all = true;
        for node in view.nodes() {
            all &= balancing.rebalance(allocator, transaction, &mut taken, node, &BTreeMap::new());
        }
        Ok(all)
    })
    .await
}

/// Takes a node's addresses on these networks away, where it has any.
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

fn give(
    allocator: &mut Allocator,
    transaction: &mut Transaction,
    taken: &mut ViewTaken<'_>,
    node: &Node,
    network: &Arc<Network>,
) -> Result<NetworkAttachment, AllocationError> {
    let given = allocator.addresses(network, &[], taken)?;
    let attachment = NetworkAttachment {
        network: Some(Network::clone(network)),
        addresses: given.to_texts(),
        ..NetworkAttachment::default()
    };
    taken.claim(transaction, given.claims, &node.id);
    Ok(attachment)
}

fn release(transaction: &mut Transaction, network: &str, attachment: &NetworkAttachment) {
    for address in attachment.addresses.iter().filter_map(|text| host_address(text)) {
        transaction.release(&Claim::Address { network: network.to_owned(), address });
    }
}

fn is_on(attachments: &[NetworkAttachment], network: &Network) -> bool {
    attachments.iter().any(|has| has.network.as_ref().is_some_and(|of| of.id == network.id))
}

fn lacked(node: &Node) -> bool {
    node.status.as_ref().is_some_and(|status| status.message.starts_with(LACKS))
}

/// A node's status with what it lacks for a message, in the place of an older one of that kind only.
fn noted(status: NodeStatus, lacks: &[String]) -> NodeStatus {
    match lacks {
        [] if status.message.starts_with(LACKS) => NodeStatus { message: String::new(), ..status },
        [_, ..] if status.message.is_empty() || status.message.starts_with(LACKS) => {
            NodeStatus { message: format!("{LACKS}{}", lacks.join("; ")), ..status }
        }
        _ => status,
    }
}

fn has_ended(task: &Task) -> bool {
    task.status.as_ref().is_some_and(|status: &TaskStatus| status.state() > TaskState::Running)
}
