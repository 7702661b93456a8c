//! Where in a service a task belongs.

use std::fmt;

use weft_wire::swarmkit::{Service, Task, service_spec::Mode};

/// A place that one task of a service fills: a number, or a node for services that run everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Slot {
    /// From 1 for services, from 0 for jobs.
    Number(u64),
    /// Id of the node.
    Node(String),
}

impl Slot {
    pub(super) fn of(service: &Service, task: &Task) -> Self {
        match mode_of(service) {
            Some(Mode::Global(_) | Mode::GlobalJob(_)) => Self::Node(task.node_id.clone()),
            _ => Self::Number(task.slot),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Node(node) => node.fmt(f),
        }
    }
}

pub(super) fn mode_of(service: &Service) -> Option<&Mode> {
    service.spec.as_ref()?.mode.as_ref()
}

/// Whether the service wants something on each node, so that any node's change concerns it.
pub(super) fn is_everywhere(service: &Service) -> bool {
    matches!(mode_of(service), Some(Mode::Global(_) | Mode::GlobalJob(_)))
}

/// Whether tasks of the service are meant to end.
pub(super) fn is_job(service: &Service) -> bool {
    matches!(mode_of(service), Some(Mode::ReplicatedJob(_) | Mode::GlobalJob(_)))
}
