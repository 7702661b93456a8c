//! Nodes, services and tasks for the tests of this folder.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use weft_wire::swarmkit::{
    Annotations, EngineDescription, Node, NodeDescription, NodeSpec, NodeStatus, Placement, Platform,
    PluginDescription, ResourceRequirements, Resources, Service, ServiceSpec, Task, TaskSpec, TaskState,
    TaskStatus, Version, node_status::State,
};

use crate::testing::TestCluster;
use crate::{Scheduled, Scheduler, Snapshot};

pub(super) const MEBIBYTE: i64 = 1 << 20;
pub(super) const CPU: i64 = 1_000_000_000;

pub(super) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

/// A ready node of 4 CPUs and 8 GiB with Docker's drivers.
pub(super) fn node(id: &str) -> Node {
    let plugin = |(kind, name): (&str, &str)| PluginDescription { r#type: kind.into(), name: name.into() };
    let plugins = [("Log", "json-file"), ("Network", "host"), ("Network", "overlay"), ("Volume", "local")];
    Node {
        id: id.into(),
        spec: Some(NodeSpec { annotations: Some(Annotations::default()), ..NodeSpec::default() }),
        status: Some(NodeStatus {
            state: State::Ready.into(),
            addr: "10.4.0.1".into(),
            ..NodeStatus::default()
        }),
        description: Some(NodeDescription {
            hostname: format!("host-{id}"),
            platform: Some(Platform { architecture: "x86_64".into(), os: "linux".into() }),
            resources: Some(Resources {
                nano_cpus: 4 * CPU,
                memory_bytes: 8192 * MEBIBYTE,
                generic: Vec::new(),
            }),
            engine: Some(EngineDescription {
                plugins: plugins.into_iter().map(plugin).collect(),
                ..EngineDescription::default()
            }),
            ..NodeDescription::default()
        }),
        ..Node::default()
    }
}

pub(super) fn with_label(mut node: Node, name: &str, value: &str) -> Node {
    let annotations = node.spec.as_mut().unwrap().annotations.as_mut().unwrap();
    annotations.labels.insert(name.into(), value.into());
    node
}

pub(super) fn service(id: &str, spec: TaskSpec) -> Service {
    let annotations = Some(Annotations { name: id.into(), ..Annotations::default() });
    Service {
        id: id.into(),
        spec: Some(ServiceSpec { annotations, task: Some(spec), ..ServiceSpec::default() }),
        spec_version: Some(Version { index: 1 }),
        ..Service::default()
    }
}

/// A pending task of the first version of a service's spec.
pub(super) fn task(service: &str, slot: u64, spec: TaskSpec) -> Task {
    Task {
        id: format!("{service}-{slot:04}"),
        service_id: service.into(),
        slot,
        spec: Some(spec),
        spec_version: Some(Version { index: 1 }),
        status: Some(TaskStatus {
            state: TaskState::Pending.into(),
            message: "pending task scheduling".into(),
            ..TaskStatus::default()
        }),
        desired_state: TaskState::Running.into(),
        ..Task::default()
    }
}

pub(super) fn tasks(service: &str, count: u64, spec: &TaskSpec) -> Vec<Task> {
    (1..=count).map(|slot| task(service, slot, spec.clone())).collect()
}

pub(super) fn in_state(mut task: Task, node: &str, state: TaskState) -> Task {
    task.node_id = node.into();
    task.status.as_mut().unwrap().state = state.into();
    task
}

pub(super) fn running(task: Task, node: &str) -> Task {
    in_state(task, node, TaskState::Running)
}

pub(super) fn constrained(constraints: &[&str]) -> TaskSpec {
    let constraints = constraints.iter().map(|text| (*text).to_owned()).collect();
    placed(Placement { constraints, ..Placement::default() })
}

pub(super) fn placed(placement: Placement) -> TaskSpec {
    TaskSpec { placement: Some(placement), ..TaskSpec::default() }
}

pub(super) fn reserving(nano_cpus: i64, memory_bytes: i64) -> TaskSpec {
    let reservations = Some(Resources { nano_cpus, memory_bytes, generic: Vec::new() });
    TaskSpec {
        resources: Some(ResourceRequirements { reservations, ..ResourceRequirements::default() }),
        ..TaskSpec::default()
    }
}

pub(super) fn cluster(nodes: impl IntoIterator<Item = Node>) -> TestCluster {
    let mut cluster = TestCluster::new();
    for node in nodes {
        cluster.put_node(node);
    }
    cluster
}

/// Schedules as a leader that knows nothing.
pub(super) fn schedule(cluster: &TestCluster, pending: &mut [Task]) -> Scheduled {
    Scheduler::new().schedule(cluster, pending, at(0))
}

/// Tasks per node, in the order of nodes.
pub(super) fn counts(cluster: &TestCluster, tasks: &[Task]) -> Vec<usize> {
    let on = |node: &Arc<Node>| tasks.iter().filter(|task| task.node_id == node.id).count();
    cluster.nodes().map(on).collect()
}

pub(super) fn err(task: &Task) -> &str {
    &task.status.as_ref().unwrap().err
}
