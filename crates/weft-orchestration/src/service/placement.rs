//! What a node's condition means for tasks.

use weft_wire::swarmkit::node_spec::Availability;
use weft_wire::swarmkit::node_status::State;
use weft_wire::swarmkit::{Node, Service};

use crate::schedule::Constraint;

fn state_of(node: &Node) -> State {
    node.status.as_ref().map_or(State::Unknown, |status| status.state())
}

fn availability_of(node: &Node) -> Availability {
    node.spec.as_ref().map_or(Availability::Active, |spec| spec.availability())
}

/// Nothing will be heard of its tasks: the node is down or was removed. A node that is only disconnected is not.
pub(super) fn is_lost(node: Option<&Node>) -> bool {
    node.is_none_or(is_down)
}

pub(super) fn is_down(node: &Node) -> bool {
    state_of(node) == State::Down
}

/// Tasks must leave this node.
pub(super) fn must_leave(node: Option<&Node>) -> bool {
    node.is_none_or(|node| is_down(node) || availability_of(node) == Availability::Drain)
}

/// Tasks stay but none are added or replaced.
pub(super) fn is_paused(node: &Node) -> bool {
    availability_of(node) == Availability::Pause
}

/// A task can be sent there now.
pub(super) fn is_ready(node: &Node) -> bool {
    state_of(node) == State::Ready && availability_of(node) == Availability::Active
}

/// A service's placement constraints. Those that cannot be read were accepted by nobody and demand nothing.
pub(super) fn constraints_of(service: &Service) -> Vec<Constraint> {
    let placement =
        service.spec.as_ref().and_then(|spec| spec.task.as_ref()).and_then(|task| task.placement.as_ref());
    placement
        .map_or_else(Vec::new, |placement| Constraint::parse_all(&placement.constraints).unwrap_or_default())
}

pub(super) fn meets(constraints: &[Constraint], node: &Node) -> bool {
    constraints.iter().all(|constraint| constraint.is_met_by(node))
}
