//! Addresses that Docker's nodes balance services from: one per network that a node has tasks on, given in the
//! transaction that brings the first task, since the node waits for it before it starts that task.

use std::collections::{BTreeMap, BTreeSet};

use weft_orchestration::{Allocator, Change};
use weft_wire::swarmkit::Task;

use crate::network::{Balancing, Reports};
use crate::store::{Transaction, View};
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
    if nodes.is_empty() {
        return;
    }
    let balancing = Balancing::of(view, reports);
    for node in nodes.into_iter().filter_map(|id| view.node(id)) {
        balancing.rebalance(allocator, transaction, taken, node, &written);
    }
}
