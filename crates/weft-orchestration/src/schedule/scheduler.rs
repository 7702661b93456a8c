//! Places pending tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use weft_wire::swarmkit::{Task, TaskState, TaskStatus};

use super::demand::Demand;
use super::explanation::Explanation;
use super::failures::{RecentFailures, SpecKey, spec_key};
use super::node_state::{NodeStates, is_wanted, state_of};
use super::spread::{Spread, preferences};
use crate::Snapshot;

const PLACED: &str = "scheduler assigned task to node";
const CONFIRMED: &str = "scheduler confirmed task can run on preassigned node";

/// Places tasks on nodes. Remembers only where tasks failed lately; a new one places as well.
#[derive(Debug, Clone, Default)]
pub struct Scheduler {
    failures: RecentFailures,
}

/// What became of the tasks handed in, by their places in the slice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scheduled {
    /// Tasks that were written to, in ascending order: those placed, and those that wait for another reason than
    /// before.
    pub changed: Vec<usize>,
    /// How many got a node.
    pub placed: usize,
    /// How many fit no node.
    pub waiting: usize,
}

impl Scheduler {
    /// One that knows of no failures.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives nodes to `pending` tasks, in place: ASSIGNED with a node, or PENDING with the reason in `status.err`.
    ///
    /// Tasks in other states are passed over. `snapshot` shows all other tasks with what they are to become; whether
    /// it shows the pending ones too makes no difference. Tasks that already name a node come first and go there or
    /// nowhere. One that shall no longer run is SHUTDOWN, as there is nothing to stop.
    pub fn schedule(&mut self, snapshot: &dyn Snapshot, pending: &mut [Task], now: SystemTime) -> Scheduled {
        // What nodes have left is counted over all tasks: not for nothing.
        if !pending.iter().any(is_pending) {
            return Scheduled::default();
        }
        let services = pending.iter().map(|task| task.service_id.as_str()).collect();
        self.failures.learn(snapshot, &services, now);
        let mut pass = Pass::new(snapshot, &services, now);
        for (index, task) in pending.iter_mut().enumerate().filter(|(_, task)| is_pending(task)) {
            if !is_wanted(task) {
                pass.end(index, task);
            } else if !task.node_id.is_empty() {
                pass.confirm(index, task);
            }
        }
        for group in groups(pending) {
            pass.place(&self.failures, pending, &group);
        }
        pass.finish()
    }
}

fn is_pending(task: &Task) -> bool {
    state_of(task) == TaskState::Pending
}

/// Places of tasks without a node that want the same, each group's in order. A task without a version of its spec
/// has nothing to be compared by and stands alone.
fn groups(pending: &[Task]) -> Vec<Vec<usize>> {
    let mut by_spec: BTreeMap<SpecKey, usize> = BTreeMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, task) in pending.iter().enumerate() {
        if !is_pending(task) || !is_wanted(task) || !task.node_id.is_empty() {
            continue;
        }
        if task.spec_version.is_none() {
            groups.push(vec![index]);
            continue;
        }
        let group = *by_spec.entry(spec_key(task)).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[group].push(index);
    }
    groups
}

/// One call of [`Scheduler::schedule`].
struct Pass<'a> {
    snapshot: &'a dyn Snapshot,
    nodes: NodeStates<'a>,
    now: SystemTime,
    scheduled: Scheduled,
}

impl<'a> Pass<'a> {
    fn new(snapshot: &'a dyn Snapshot, services: &BTreeSet<&str>, now: SystemTime) -> Self {
        let nodes = NodeStates::of_snapshot(snapshot, services);
        Self { snapshot, nodes, now, scheduled: Scheduled::default() }
    }

    /// Nothing of it ever ran.
    fn end(&mut self, index: usize, task: &mut Task) {
        let status = task.status.get_or_insert_default();
        status.state = TaskState::Shutdown.into();
        status.err.clear();
        status.timestamp = Some(self.now.into());
        self.scheduled.changed.push(index);
    }

    /// A task of a node that was chosen elsewhere. If the node is gone, so will be the task.
    fn confirm(&mut self, index: usize, task: &mut Task) {
        let Some(node) = self.nodes.find(&task.node_id) else { return };
        let tasks_of_service = self.nodes.tasks_of_service(node, self.nodes.service(&task.service_id));
        match Demand::of_task(task).misfit(self.nodes.get(node), tasks_of_service) {
            None => self.assign(index, task, node, CONFIRMED),
            Some(misfit) => {
                let mut explanation = Explanation::default();
                explanation.add(misfit);
                self.leave(index, task, &explanation.to_text());
            }
        }
    }

    /// Tasks that want the same.
    fn place(&mut self, failures: &RecentFailures, pending: &mut [Task], group: &[usize]) {
        // What all of the group have in common.
        let model = pending[group[0]].clone();
        let (demand, service) = (Demand::of_task(&model), self.nodes.service(&model.service_id));
        let spec = spec_key(&model);
        let penalties: Vec<Option<usize>> = (0..self.nodes.len())
            .map(|node| {
                let state = self.nodes.get(node);
                match demand.misfit(state, self.nodes.tasks_of_service(node, service)) {
                    None => Some(failures.penalty(&spec, &state.node.id)),
                    Some(_) => None,
                }
            })
            .collect();
        let mut spread = Spread::new(service, &preferences(&model), &self.nodes, |node| penalties[node]);
        for (done, &index) in group.iter().enumerate() {
            let task = &mut pending[index];
            let node = spread.place_next(&mut self.nodes, |nodes, node| {
                nodes.place(node, task);
                demand.still_fits(nodes.get(node), nodes.tasks_of_service(node, service))
            });
            match node {
                Some(_) => self.assigned(index, task, PLACED),
                None => return self.leave_rest(&demand, pending, &group[done..]),
            }
        }
    }

    fn leave_rest(&mut self, demand: &Demand<'_>, pending: &mut [Task], rest: &[usize]) {
        let model = &pending[rest[0]];
        if self.is_outdated(model) {
            self.scheduled.waiting += rest.len();
            return;
        }
        let mut explanation = Explanation::default();
        let service = self.nodes.service(&model.service_id);
        for node in 0..self.nodes.len() {
            let tasks_of_service = self.nodes.tasks_of_service(node, service);
            if let Some(misfit) = demand.misfit(self.nodes.get(node), tasks_of_service) {
                explanation.add(misfit);
            }
        }
        let text = explanation.no_suitable_node();
        for &index in rest {
            self.leave(index, &mut pending[index], &text);
        }
    }

    /// A task of a service that is gone, or of an older spec, goes away soon: no word about it.
    fn is_outdated(&self, task: &Task) -> bool {
        if task.service_id.is_empty() {
            return false;
        }
        let Some(service) = self.snapshot.service(&task.service_id) else { return true };
        let (current, own) = (service.spec_version, task.spec_version);
        current.zip(own).is_some_and(|(current, own)| current.index > own.index)
    }

    fn assign(&mut self, index: usize, task: &mut Task, node: usize, message: &str) {
        self.nodes.place(node, task);
        self.assigned(index, task, message);
    }

    fn assigned(&mut self, index: usize, task: &mut Task, message: &str) {
        task.status = Some(TaskStatus {
            state: TaskState::Assigned.into(),
            timestamp: Some(self.now.into()),
            message: message.to_owned(),
            ..TaskStatus::default()
        });
        self.scheduled.changed.push(index);
        self.scheduled.placed += 1;
    }

    /// The same reason again is no change: nothing is written while nothing happens.
    fn leave(&mut self, index: usize, task: &mut Task, reason: &str) {
        self.scheduled.waiting += 1;
        let status = task.status.get_or_insert_default();
        if status.err != reason {
            status.err = reason.to_owned();
            status.timestamp = Some(self.now.into());
            self.scheduled.changed.push(index);
        }
    }

    fn finish(mut self) -> Scheduled {
        self.scheduled.changed.sort_unstable();
        self.scheduled
    }
}
