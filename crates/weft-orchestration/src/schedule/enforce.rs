//! Takes tasks off nodes that no longer suit them: a label went, or the node became smaller.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use weft_wire::swarmkit::{Node, Task, TaskState, TaskStatus, node_spec::Availability};

use super::constraint::Constraint;
use super::generic::GenericStock;
use super::node_state::{reservations, state_of};
use crate::Snapshot;

const MESSAGE: &str = "task rejected by constraint enforcer";
const REASON: &str = "assigned node no longer meets constraints";

/// The tasks of these nodes that must go, as they are to be written: REJECTED, so that the loops replace them.
///
/// Paused nodes keep what they have, drained ones are emptied by the loops. Where a node became too small, the
/// tasks that came last go. Ask after a node changed, and for all nodes after a change of leader.
pub fn enforce<'a>(
    snapshot: &dyn Snapshot,
    nodes: impl IntoIterator<Item = &'a str>,
    now: SystemTime,
) -> Vec<Task> {
    let mut rejected = Vec::new();
    for node in nodes.into_iter().filter_map(|id| snapshot.node(id)) {
        let availability = node.spec.as_ref().map_or(Availability::Active, |spec| spec.availability());
        if availability == Availability::Active {
            reject_misfits(snapshot, node, now, &mut rejected);
        }
    }
    rejected
}

fn reject_misfits(snapshot: &dyn Snapshot, node: &Node, now: SystemTime, rejected: &mut Vec<Task>) {
    let mut tasks: Vec<&Arc<Task>> = snapshot.tasks_of_node(&node.id).filter(|task| is_held(task)).collect();
    tasks.sort_by_key(|task| (created_at(task), task.id.as_str()));
    let mut room = Room::of_node(node);
    let mut constraints = BTreeMap::new();
    for task in tasks {
        let parsed = constraints
            .entry((task.service_id.as_str(), if task.service_id.is_empty() { task.id.as_str() } else { "" }))
            .or_insert_with(|| constraints_of(snapshot, task));
        if !parsed.iter().all(|constraint| constraint.is_met_by(node)) || !room.take(task) {
            rejected.push(reject(task, now));
        }
    }
}

/// Whether a task has its place and shall keep it.
fn is_held(task: &Task) -> bool {
    let desired = task.desired_state;
    (TaskState::Assigned as i32..=TaskState::Complete as i32).contains(&desired)
        && (TaskState::Assigned..TaskState::Complete).contains(&state_of(task))
}

fn created_at(task: &Task) -> Option<(i64, i32)> {
    task.meta.as_ref().and_then(|meta| meta.created_at).map(|at| (at.seconds, at.nanos))
}

/// The service's of now: a change of nothing but constraints that the node met did not replace the task, so its own
/// may be out of date.
fn constraints_of(snapshot: &dyn Snapshot, task: &Task) -> Vec<Constraint> {
    let service = snapshot.service(&task.service_id).and_then(|service| service.spec.as_ref());
    let spec = match service {
        Some(service) => service.task.as_ref(),
        None => task.spec.as_ref(),
    };
    let placement = spec.and_then(|spec| spec.placement.as_ref());
    Constraint::parse_all(placement.map_or(&[], |placement| &placement.constraints)).unwrap_or_default()
}

fn reject(task: &Task, now: SystemTime) -> Task {
    let mut task = task.clone();
    let status = task.status.get_or_insert_default();
    *status = TaskStatus {
        state: TaskState::Rejected.into(),
        timestamp: Some(now.into()),
        message: MESSAGE.to_owned(),
        err: REASON.to_owned(),
        ..std::mem::take(status)
    };
    task
}

/// What a node has for the tasks that stay. A node that never said what it has is not asked for it.
struct Room {
    is_known: bool,
    nano_cpus: i64,
    memory: i64,
    generic: GenericStock,
}

impl Room {
    fn of_node(node: &Node) -> Self {
        let resources = node.description.as_ref().and_then(|description| description.resources.as_ref());
        Self {
            is_known: resources.is_some(),
            nano_cpus: resources.map_or(0, |resources| resources.nano_cpus),
            memory: resources.map_or(0, |resources| resources.memory_bytes),
            generic: GenericStock::of_node(resources.map_or(&[], |resources| &resources.generic)),
        }
    }

    /// Takes what a task reserves, or nothing if it does not fit.
    fn take(&mut self, task: &Task) -> bool {
        if !self.is_known {
            return true;
        }
        let (nano_cpus, memory) =
            reservations(task).map_or((0, 0), |wanted| (wanted.nano_cpus, wanted.memory_bytes));
        let fits = nano_cpus <= self.nano_cpus
            && memory <= self.memory
            && self.generic.still_has(&task.assigned_generic_resources);
        if fits {
            self.nano_cpus -= nano_cpus;
            self.memory -= memory;
            self.generic.consume(&task.assigned_generic_resources);
        }
        fits
    }
}
