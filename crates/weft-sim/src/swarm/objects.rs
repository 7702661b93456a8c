//! Objects as the control API writes them.

use std::time::{Duration, SystemTime};

use weft_wire::swarmkit::node_spec::Availability;
use weft_wire::swarmkit::node_status::State;
use weft_wire::swarmkit::service_spec::Mode;
use weft_wire::swarmkit::task_spec::Runtime;
use weft_wire::swarmkit::{
    Annotations, ContainerSpec, EndpointSpec, IpamConfig, IpamOptions, NetworkAttachmentConfig, NetworkSpec,
    Node, NodeSpec, NodeStatus, PortConfig, RestartPolicy, ServiceSpec, Task, TaskSpec, TaskState,
    TaskStatus,
};

/// The network that services are on.
pub(super) const NETWORK: &str = "net";
/// Containers of this image end at once.
pub(super) const BROKEN: &str = "broken";

/// A spec on the network; `published` asks for a port of the swarm.
pub(super) fn spec(name: &str, mode: Mode, published: Option<u32>) -> ServiceSpec {
    let network = NetworkAttachmentConfig { target: NETWORK.to_owned(), ..Default::default() };
    let port = |published_port| PortConfig { target_port: 80, published_port, ..PortConfig::default() };
    let restart = RestartPolicy {
        delay: prost_types::Duration::try_from(Duration::from_secs(2)).ok(),
        ..RestartPolicy::default()
    };
    ServiceSpec {
        annotations: Some(named(name)),
        task: Some(TaskSpec {
            networks: vec![network],
            runtime: container("v1"),
            restart: Some(RestartPolicy { condition: 2, ..restart }),
            ..TaskSpec::default()
        }),
        mode: Some(mode),
        endpoint: Some(EndpointSpec {
            ports: published.map(port).into_iter().collect(),
            ..Default::default()
        }),
        ..ServiceSpec::default()
    }
}

pub(super) fn container(image: &str) -> Option<Runtime> {
    Some(Runtime::Container(ContainerSpec { image: image.to_owned(), ..ContainerSpec::default() }))
}

pub(super) fn image(task: &Task) -> &str {
    match task.spec.as_ref().and_then(|spec| spec.runtime.as_ref()) {
        Some(Runtime::Container(container)) => &container.image,
        _ => "",
    }
}

pub(super) fn network(name: &str, subnet: &str, ingress: bool) -> NetworkSpec {
    let config = IpamConfig { subnet: subnet.to_owned(), ..IpamConfig::default() };
    NetworkSpec {
        annotations: Some(named(name)),
        ipam: Some(IpamOptions { driver: None, configs: vec![config] }),
        ingress,
        ..NetworkSpec::default()
    }
}

pub(super) fn node(id: &str, state: State, availability: Availability) -> Node {
    Node {
        id: id.to_owned(),
        spec: Some(NodeSpec {
            annotations: Some(Annotations::default()),
            availability: availability.into(),
            ..NodeSpec::default()
        }),
        status: Some(NodeStatus { state: state.into(), ..NodeStatus::default() }),
        ..Node::default()
    }
}

pub(super) fn availability(node: &Node) -> Availability {
    node.spec.as_ref().map_or(Availability::Active, |spec| spec.availability())
}

pub(super) fn node_state(node: &Node) -> State {
    node.status.as_ref().map_or(State::Unknown, |status| status.state())
}

pub(super) fn state(task: &Task) -> TaskState {
    task.status.as_ref().map_or(TaskState::New, TaskStatus::state)
}

pub(super) fn is_wanted(task: &Task) -> bool {
    task.desired_state() <= TaskState::Complete
}

/// `milliseconds` of virtual time as the loops see it.
pub(super) fn at(milliseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + Duration::from_millis(milliseconds)
}

fn named(name: &str) -> Annotations {
    Annotations { name: name.to_owned(), ..Annotations::default() }
}
