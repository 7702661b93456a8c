use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use weft_wire::swarmkit::{
    Annotations, Cluster, EndpointSpec, IpamConfig, IpamOptions, Network, NetworkAttachmentConfig,
    NetworkSpec, Node, NodeSpec, NodeStatus, Placement, PortConfig, Service, ServiceSpec, Task, TaskSpec,
    TaskState, TaskStatus, Version, node_status::State,
};

use super::*;
use crate::testing::TestCluster;
use crate::{AllocatorConfig, InUse};

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A leader with its store.
struct Leader {
    cluster: TestCluster,
    taken: InUse,
    allocator: Allocator,
    pipeline: Pipeline,
}

impl Leader {
    fn new(nodes: &[&str]) -> Self {
        let config = AllocatorConfig::of_cluster(&Cluster { id: "c".into(), ..Cluster::default() }).unwrap();
        let mut taken = InUse::default();
        let mut allocator = Allocator::rebuild(config, [], &taken);
        let mut cluster = TestCluster::new();
        for (name, subnet, ingress) in [("ingress", "10.0.0.0/24", true), ("net", "10.0.1.0/29", false)] {
            let config = IpamConfig { subnet: subnet.into(), ..IpamConfig::default() };
            let spec = NetworkSpec {
                annotations: Some(Annotations { name: name.into(), ..Annotations::default() }),
                ipam: Some(IpamOptions { driver: None, configs: vec![config] }),
                ingress,
                ..NetworkSpec::default()
            };
            let allocation = allocator.network(name, &spec, &taken).unwrap();
            for claim in &allocation.claims {
                assert!(taken.insert(claim.clone(), name));
            }
            let mut network = Network { id: name.into(), spec: Some(spec), ..Network::default() };
            allocation.write_to(&mut network);
            cluster.put_network(network);
        }
        for id in nodes {
            cluster.put_node(node(id));
        }
        Self { cluster, taken, allocator, pipeline: Pipeline::new() }
    }

    /// One transaction: computed, checked, applied.
    fn step(&mut self, changes: Vec<Change>) -> Proposal {
        let dirty = self.cluster.take_dirty();
        let Self { cluster, taken, allocator, pipeline } = self;
        let proposal = pipeline.complete(cluster, &dirty, changes, allocator, taken, at(9));
        let ids: BTreeSet<&str> = proposal.changes.iter().map(Change::id).collect();
        assert_eq!(ids.len(), proposal.changes.len(), "an object is written twice");
        for claim in &proposal.releases {
            assert!(self.taken.remove(claim), "{claim:?} was not held");
        }
        for (claim, holder) in &proposal.claims {
            assert!(self.taken.insert(claim.clone(), holder), "{claim:?} was taken");
        }
        self.cluster.apply(&proposal.changes).unwrap();
        proposal
    }

    fn task(&self, id: &str) -> &Task {
        self.cluster.task(id).unwrap()
    }

    fn state(&self, id: &str) -> TaskState {
        self.task(id).status.as_ref().unwrap().state()
    }

    fn err(&self, id: &str) -> &str {
        &self.task(id).status.as_ref().unwrap().err
    }

    fn set_state(&mut self, id: &str, state: TaskState) {
        let mut task = self.task(id).clone();
        task.status.as_mut().unwrap().state = state.into();
        self.cluster.put_task(task);
    }
}

fn node(id: &str) -> Node {
    Node {
        id: id.into(),
        spec: Some(NodeSpec { annotations: Some(Annotations::default()), ..NodeSpec::default() }),
        status: Some(NodeStatus { state: State::Ready.into(), ..NodeStatus::default() }),
        ..Node::default()
    }
}

fn task_spec() -> TaskSpec {
    let net = NetworkAttachmentConfig { target: "net".into(), ..NetworkAttachmentConfig::default() };
    TaskSpec { networks: vec![net], ..TaskSpec::default() }
}

fn service(id: &str, published: u32) -> Service {
    let ports = vec![PortConfig { target_port: 80, published_port: published, ..PortConfig::default() }];
    Service {
        id: id.into(),
        spec: Some(ServiceSpec {
            annotations: Some(Annotations { name: id.into(), ..Annotations::default() }),
            task: Some(task_spec()),
            endpoint: Some(EndpointSpec { ports, ..EndpointSpec::default() }),
            ..ServiceSpec::default()
        }),
        spec_version: Some(Version { index: 1 }),
        ..Service::default()
    }
}

fn new_task(service: &str, slot: u64) -> Task {
    Task {
        id: format!("{service}-{slot}"),
        service_id: service.into(),
        slot,
        spec: Some(task_spec()),
        spec_version: Some(Version { index: 1 }),
        status: Some(TaskStatus { message: "created".into(), ..TaskStatus::default() }),
        desired_state: TaskState::Running.into(),
        ..Task::default()
    }
}

fn create(service: &str, slots: std::ops::RangeInclusive<u64>) -> Vec<Change> {
    slots.map(|slot| Change::CreateTask(new_task(service, slot))).collect()
}

#[test]
fn a_new_services_tasks_reach_nodes_in_one_transaction() {
    let mut leader = Leader::new(&["a", "b"]);
    leader.cluster.put_service(service("web", 8080));
    let proposal = leader.step(create("web", 1..=3));
    assert_eq!(proposal.changes.len(), 4, "the service and each task, once");
    for (id, node, address) in
        [("web-1", "a", "10.0.1.3/29"), ("web-2", "b", "10.0.1.4/29"), ("web-3", "a", "10.0.1.5/29")]
    {
        let task = leader.task(id);
        assert_eq!((leader.state(id), task.node_id.as_str()), (TaskState::Assigned, node));
        assert_eq!(task.networks[1].addresses, [address]);
        assert_eq!(task.endpoint.as_ref().unwrap().virtual_ips.len(), 2);
    }
    assert!(leader.step(Vec::new()).is_empty(), "nothing is left to do");
}

#[test]
fn what_cannot_be_given_waits_with_the_reason_until_it_can() {
    let mut leader = Leader::new(&[]);
    leader.cluster.put_service(service("web", 8080));
    leader.step(create("web", 1..=5));
    for id in ["web-1", "web-2", "web-3", "web-4"] {
        assert_eq!((leader.state(id), leader.err(id)), (TaskState::Pending, "no suitable node"));
    }
    assert_eq!(leader.state("web-5"), TaskState::New);
    assert!(leader.err("web-5").ends_with("net (net): all 5 addresses of 10.0.1.0/29 are in use"));
    assert!(leader.step(Vec::new()).is_empty(), "the same reasons are not written again");

    leader.cluster.put_node(node("a"));
    leader.step(Vec::new());
    assert_eq!((leader.state("web-4"), leader.state("web-5")), (TaskState::Assigned, TaskState::New));

    // The loops end one; its address is free for the next transaction.
    let mut ended = leader.task("web-2").clone();
    ended.status.as_mut().unwrap().state = TaskState::Orphaned.into();
    let proposal = leader.step(vec![Change::UpdateTask(ended)]);
    assert_eq!(proposal.releases.len(), 2);
    leader.step(Vec::new());
    assert_eq!(leader.state("web-5"), TaskState::Assigned);
    assert_eq!(leader.task("web-5").networks[1].addresses, ["10.0.1.4/29"]);
}

#[test]
fn a_service_without_its_port_says_so_in_its_tasks() {
    let mut leader = Leader::new(&["a"]);
    leader.cluster.put_service(service("a", 8080));
    leader.cluster.put_service(service("b", 8080));
    let changes = [create("a", 1..=1), create("b", 1..=1)].concat();
    leader.step(changes);
    assert_eq!((leader.state("a-1"), leader.state("b-1")), (TaskState::Assigned, TaskState::New));
    assert_eq!(leader.err("b-1"), "port '8080' is already in use by service 'a' (a) as an ingress port");
    let version = leader.cluster.service("a").unwrap().meta.unwrap().version.unwrap().index;
    let held = crate::service_claims(leader.cluster.service("a").unwrap());
    leader.step(vec![Change::RemoveService { id: "a".into(), version }]);
    for claim in held {
        leader.taken.remove(&claim);
    }
    leader.step(Vec::new());
    assert_eq!(leader.state("b-1"), TaskState::Assigned);
}

/// A task that the loops take away in the same transaction no longer counts, one that they shut down no more as
/// active.
#[test]
fn placement_sees_what_the_loops_do_at_the_same_time() {
    let mut leader = Leader::new(&["a", "b"]);
    leader.cluster.put_service(service("web", 8080));
    leader.step(create("web", 1..=2));
    leader.set_state("web-1", TaskState::Running);
    leader.set_state("web-2", TaskState::Running);
    let mut going = leader.task("web-2").clone();
    going.desired_state = TaskState::Shutdown.into();
    leader.step(vec![Change::UpdateTask(going), Change::CreateTask(new_task("web", 3))]);
    assert_eq!(leader.task("web-3").node_id, "b");
}

#[test]
fn enforcement_and_the_loops_writes_become_one() {
    let mut leader = Leader::new(&["a"]);
    leader.cluster.put_service(service("web", 8080));
    leader.step(create("web", 1..=2));
    let mut constrained = (**leader.cluster.service("web").unwrap()).clone();
    let placement = Placement { constraints: vec!["node.id==b".into()], ..Placement::default() };
    constrained.spec.as_mut().unwrap().task.as_mut().unwrap().placement = Some(placement);
    leader.cluster.put_service(constrained);
    leader.cluster.put_node(node("a"));
    let mut going = leader.task("web-1").clone();
    going.desired_state = TaskState::Shutdown.into();
    let proposal = leader.step(vec![Change::UpdateTask(going)]);
    assert_eq!((leader.state("web-1"), leader.state("web-2")), (TaskState::Assigned, TaskState::Rejected));
    assert!(proposal.releases.is_empty(), "the rejected one's container still stops");
}

#[test]
fn new_tasks_that_shall_not_run_end_and_those_of_no_service_are_left() {
    let mut leader = Leader::new(&["a"]);
    leader.cluster.put_service(service("web", 8080));
    let mut unwanted = new_task("web", 1);
    unwanted.desired_state = TaskState::Shutdown.into();
    leader.cluster.put_task(unwanted);
    leader.cluster.put_task(new_task("gone", 1));
    leader.step(Vec::new());
    assert_eq!((leader.state("web-1"), leader.state("gone-1")), (TaskState::Shutdown, TaskState::New));
    assert!(leader.step(Vec::new()).is_empty());
}
