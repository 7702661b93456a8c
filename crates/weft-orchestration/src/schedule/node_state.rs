//! Nodes with what the tasks on them take.

use std::collections::{BTreeMap, BTreeSet};

use weft_wire::swarmkit::{Node, PortConfig, Resources, Task, TaskState, port_config::PublishMode};

use super::generic::GenericStock;
use crate::Snapshot;

/// A port that is listened on at one host: SwarmKit's number of the protocol, and the port.
pub(super) type HostPort = (i32, u32);

/// One node and what is left of it.
#[derive(Debug)]
pub(super) struct NodeState<'a> {
    pub(super) node: &'a Node,
    pub(super) free_nano_cpus: i64,
    pub(super) free_memory: i64,
    pub(super) free_generic: GenericStock,
    pub(super) host_ports: BTreeSet<HostPort>,
    /// Tasks that shall run here.
    pub(super) active_tasks: u32,
}

impl<'a> NodeState<'a> {
    fn new(node: &'a Node) -> Self {
        let resources = node.description.as_ref().and_then(|description| description.resources.as_ref());
        Self {
            node,
            free_nano_cpus: resources.map_or(0, |resources| resources.nano_cpus),
            free_memory: resources.map_or(0, |resources| resources.memory_bytes),
            free_generic: GenericStock::of_node(resources.map_or(&[], |resources| &resources.generic)),
            host_ports: BTreeSet::new(),
            active_tasks: 0,
        }
    }

    /// Takes what a task has that was given to this node.
    fn add(&mut self, task: &Task) {
        if let Some(wanted) = reservations(task) {
            self.free_nano_cpus -= wanted.nano_cpus;
            self.free_memory -= wanted.memory_bytes;
        }
        self.free_generic.consume(&task.assigned_generic_resources);
        self.host_ports.extend(host_ports(task));
        self.active_tasks += u32::from(is_wanted(task));
    }
}

/// All nodes, and how many tasks of some services each has.
#[derive(Debug)]
pub(super) struct NodeStates<'a> {
    states: Vec<NodeState<'a>>,
    index: BTreeMap<&'a str, usize>,
    /// Per counted service one number for each node.
    by_service: Vec<Vec<u32>>,
    services: BTreeMap<String, CountedService>,
}

/// A service whose tasks are counted by node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CountedService(usize);

impl<'a> NodeStates<'a> {
    /// As of a snapshot; tasks are counted by service for `services` only.
    pub(super) fn of_snapshot(snapshot: &'a dyn Snapshot, services: &BTreeSet<&str>) -> Self {
        let states: Vec<_> = snapshot.nodes().map(|node| NodeState::new(node)).collect();
        let index = states.iter().enumerate().map(|(index, state)| (state.node.id.as_str(), index)).collect();
        let by_service = vec![vec![0; states.len()]; services.len()];
        let numbered = services.iter().enumerate();
        let services = numbered.map(|(at, service)| ((*service).to_owned(), CountedService(at))).collect();
        let mut all = Self { states, index, by_service, services };
        for task in snapshot.tasks().filter(|task| takes_room(task)) {
            if let Some(&node) = all.index.get(task.node_id.as_str()) {
                all.add(node, task);
            }
        }
        all
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    pub(super) fn get(&self, node: usize) -> &NodeState<'a> {
        &self.states[node]
    }

    pub(super) fn find(&self, id: &str) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// A service that was asked for.
    pub(super) fn service(&self, id: &str) -> Option<CountedService> {
        self.services.get(id).copied()
    }

    /// How many tasks of a service shall run on a node.
    pub(super) fn tasks_of_service(&self, node: usize, service: Option<CountedService>) -> u32 {
        service.map_or(0, |service| self.by_service[service.0][node])
    }

    /// Gives a node a task, and the task what generic resources it asked for.
    pub(super) fn place(&mut self, node: usize, task: &mut Task) {
        let wanted = reservations(task).map_or(&[][..], |wanted| &wanted.generic);
        // `add` takes them out.
        task.assigned_generic_resources = self.states[node].free_generic.clone().take(wanted);
        task.node_id.clone_from(&self.states[node].node.id);
        self.add(node, task);
    }

    fn add(&mut self, node: usize, task: &Task) {
        self.states[node].add(task);
        if let Some(service) = self.service(&task.service_id) {
            self.by_service[service.0][node] += u32::from(is_wanted(task));
        }
    }
}

/// Whether a task has a place and has not ended: those before have none yet, those after use nothing.
fn takes_room(task: &Task) -> bool {
    let state = state_of(task);
    !task.node_id.is_empty() && state >= TaskState::Assigned && state <= TaskState::Running
}

/// Whether a task shall run, and not go away.
pub(super) fn is_wanted(task: &Task) -> bool {
    task.desired_state <= TaskState::Complete as i32
}

pub(super) fn state_of(task: &Task) -> TaskState {
    task.status.as_ref().map_or(TaskState::New, |status| status.state())
}

pub(super) fn reservations(task: &Task) -> Option<&Resources> {
    task.spec.as_ref()?.resources.as_ref()?.reservations.as_ref()
}

/// The host-mode ports of a task that are not left to the node to choose.
pub(super) fn host_ports(task: &Task) -> impl Iterator<Item = HostPort> + '_ {
    let ports = task.endpoint.as_ref().map_or(&[][..], |endpoint| &endpoint.ports);
    let is_fixed = |port: &&PortConfig| port.publish_mode() == PublishMode::Host && port.published_port != 0;
    ports.iter().filter(is_fixed).map(|port| (port.protocol, port.published_port))
}
