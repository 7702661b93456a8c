//! Addresses that Docker's nodes balance services from: one per network that a node has tasks on, given in the
//! transaction that brings the first task, since the node waits for it before it starts that task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_orchestration::{Allocator, Change, NodeEngine};
use weft_wire::swarmkit::{Network, Node, Task, TaskState, TaskStatus};

use crate::network::{self, Reports, engine_of};
use crate::store::{Transaction, View, networks_of};
use crate::taken::ViewTaken;

/// Adds what the nodes of the written tasks need, and takes what none of their tasks needs any more.
pub(super) fn follow(
    view: &View,
    reports: &Reports,
    allocator: &mut Allocator,
    transaction: &mut Transaction,
    taken: &mut ViewTaken<'_>,
    changes: &[Change],
) {
    let mut written: BTreeMap<&str, Option<&Task>> = BTreeMap::new();
    let mut nodes = BTreeSet::new();
    for change in changes {
        let after = match change {
            Change::CreateTask(task) | Change::UpdateTask(task) => Some(task),
            Change::RemoveTask { .. } => None,
            Change::UpdateService(_) | Change::RemoveService { .. } => continue,
        };
        written.insert(change.id(), after);
        let before = view.task(change.id()).map(AsRef::as_ref);
        let of = [before, after].into_iter().flatten().map(|task| task.node_id.as_str());
        nodes.extend(of.filter(|node| !node.is_empty()));
    }
    for node in nodes.into_iter().filter_map(|id| view.node(id)) {
        if engine_of(node, reports.of(view, &node.id).as_deref()) == Some(NodeEngine::Docker) {
            let wanted = wanted(view, node, &written);
            network::rebalance(allocator, transaction, taken, node, &wanted);
        }
    }
}

/// The networks of tasks that have not ended.
fn wanted(view: &View, node: &Node, written: &BTreeMap<&str, Option<&Task>>) -> Vec<Arc<Network>> {
    let unwritten = view.tasks_of_node(&node.id).map(AsRef::as_ref);
    let unwritten = unwritten.filter(|task: &&Task| !written.contains_key(task.id.as_str()));
    let written = written.values().copied().flatten().filter(|task| task.node_id == node.id);
    let ids: BTreeSet<&str> =
        unwritten.chain(written).filter(|task| !has_ended(task)).flat_map(networks_of).collect();
    ids.into_iter().filter_map(|id| view.network(id).cloned()).collect()
}

fn has_ended(task: &Task) -> bool {
    task.status.as_ref().is_some_and(|status: &TaskStatus| status.state() > TaskState::Running)
}
