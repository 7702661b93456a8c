//! Whatever services and tasks come, change and go, and whatever leader dies: nothing is held twice, nothing is
//! leaked, and what a service has stays.
//!
//! Cases per property: `WEFT_PROPTEST_CASES` (default 64).

#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use weft_orchestration::testing::TestCluster;
use weft_orchestration::{
    Allocator, AllocatorConfig, Change, Claim, Pipeline, Snapshot, Taken, allocate_service, check_ports,
    service_claims, task_claims,
};
use weft_types::Vni;
use weft_wire::swarmkit::{
    Annotations, Cluster, Endpoint, EndpointSpec, IpamConfig, IpamOptions, Network, NetworkAttachmentConfig,
    NetworkSpec, Node, NodeSpec, NodeStatus, PortConfig, Service, ServiceSpec, Task, TaskSpec, TaskState,
    TaskStatus, Version, endpoint_spec::ResolutionMode, node_status::State, port_config::PublishMode,
};

const NETWORKS: [&str; 4] = ["ingress", "n1", "n2", "host"];

fn cases() -> ProptestConfig {
    let cases = std::env::var("WEFT_PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// What a user asks for.
#[derive(Debug, Clone)]
struct Wish {
    /// Places in [`NETWORKS`], ingress aside.
    networks: Vec<usize>,
    /// Target port, published port, on hosts only.
    ports: Vec<(u32, u32, bool)>,
    is_dnsrr: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Create(Wish),
    Update(Index, Wish),
    Remove(Index),
    AddTasks(Index, u64),
    EndTask(Index),
    RemoveTask(Index),
    NewLeader,
}

fn wish() -> impl Strategy<Value = Wish> {
    let published = prop_oneof![2 => Just(0), 1 => 30_000..30_004_u32, 1 => 80..83_u32];
    let ports = vec((1..4_u32, published, prop::bool::weighted(0.3)), 0..3);
    (vec(1..NETWORKS.len(), 0..3), ports, prop::bool::weighted(0.2)).prop_map(
        |(networks, ports, is_dnsrr)| Wish {
            networks,
            is_dnsrr: is_dnsrr && ports.iter().all(|(.., on_hosts)| *on_hosts),
            ports,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => wish().prop_map(Step::Create),
        3 => (any::<Index>(), wish()).prop_map(|(service, wish)| Step::Update(service, wish)),
        1 => any::<Index>().prop_map(Step::Remove),
        5 => (any::<Index>(), 1..4_u64).prop_map(|(service, count)| Step::AddTasks(service, count)),
        4 => any::<Index>().prop_map(Step::EndTask),
        2 => any::<Index>().prop_map(Step::RemoveTask),
        1 => Just(Step::NewLeader),
    ]
}

/// Claims with their holders, as the store keeps them.
#[derive(Default)]
struct Claims(BTreeMap<Claim, String>);

impl Claims {
    fn take(&mut self, claim: &Claim, holder: &str) {
        let before = self.0.insert(claim.clone(), holder.to_owned());
        assert_eq!(before, None, "{claim:?} for {holder}");
    }

    fn release_all(&mut self, holder: &str) {
        self.0.retain(|_, other| other != holder);
    }

    fn held_by(&self, holder: &str) -> BTreeSet<Claim> {
        self.0.iter().filter(|(_, other)| *other == holder).map(|(claim, _)| claim.clone()).collect()
    }
}

impl Taken for Claims {
    fn subnets(&self) -> Vec<(IpNet, String)> {
        let subnet = |(claim, holder): (&Claim, &String)| match claim {
            Claim::Subnet(subnet) => Some((*subnet, holder.clone())),
            _ => None,
        };
        self.0.iter().filter_map(subnet).collect()
    }

    fn is_vni_taken(&self, vni: Vni) -> bool {
        self.0.contains_key(&Claim::Vni(vni))
    }

    fn highest_vni(&self) -> Option<Vni> {
        let vnis =
            self.0.keys().filter_map(|claim| if let Claim::Vni(vni) = claim { Some(*vni) } else { None });
        vnis.max()
    }

    fn is_address_taken(&self, network: &str, address: IpAddr) -> bool {
        self.0.contains_key(&Claim::Address { network: network.to_owned(), address })
    }

    fn addresses(&self, network: &str) -> Vec<IpAddr> {
        let address = |claim: &Claim| match claim {
            Claim::Address { network: of, address } if of == network => Some(*address),
            _ => None,
        };
        self.0.keys().filter_map(address).collect()
    }

    fn is_port_taken(&self, protocol: i32, port: u16) -> bool {
        self.0.contains_key(&Claim::Port { protocol, port })
    }
}

struct World {
    cluster: TestCluster,
    claims: Claims,
    allocator: Allocator,
    pipeline: Pipeline,
    next: u64,
}

fn config() -> AllocatorConfig {
    AllocatorConfig::of_cluster(&Cluster { id: "c".into(), ..Cluster::default() }).unwrap()
}

impl World {
    fn new() -> Self {
        let mut claims = Claims::default();
        let mut allocator = Allocator::rebuild(config(), [], &claims);
        let mut cluster = TestCluster::new();
        for (index, name) in NETWORKS[..3].iter().enumerate() {
            let ipam = IpamConfig { subnet: format!("10.0.{index}.0/28"), ..IpamConfig::default() };
            let spec = NetworkSpec {
                annotations: Some(Annotations { name: (*name).into(), ..Annotations::default() }),
                ipam: Some(IpamOptions { driver: None, configs: vec![ipam] }),
                ingress: index == 0,
                ..NetworkSpec::default()
            };
            let allocation = allocator.network(name, &spec, &claims).unwrap();
            for claim in &allocation.claims {
                claims.take(claim, name);
            }
            let mut network = Network { id: (*name).into(), spec: Some(spec), ..Network::default() };
            allocation.write_to(&mut network);
            cluster.put_network(network);
        }
        for id in ["a", "b"] {
            let status = NodeStatus { state: State::Ready.into(), ..NodeStatus::default() };
            cluster.put_node(Node {
                id: id.into(),
                spec: Some(NodeSpec::default()),
                status: Some(status),
                ..Node::default()
            });
        }
        Self { cluster, claims, allocator, pipeline: Pipeline::new(), next: 0 }
    }

    fn fresh_id(&mut self, prefix: char) -> String {
        self.next += 1;
        format!("{prefix}{:04}", self.next)
    }

    fn services(&self) -> Vec<String> {
        self.cluster.services().map(|service| service.id.clone()).collect()
    }

    fn tasks(&self) -> Vec<String> {
        self.cluster.tasks().map(|task| task.id.clone()).collect()
    }

    fn put_service(&mut self, id: &str, wish: &Wish) -> bool {
        let spec = spec_of(id, wish);
        if check_ports(&self.cluster, id, &spec).is_err() || has_twins(&spec) {
            return false;
        }
        let mut service = self.cluster.service(id).map(|service| Service::clone(service)).unwrap_or_default();
        service.id = id.to_owned();
        service.spec = Some(spec);
        service.spec_version = Some(Version { index: self.next });
        self.cluster.put_service(service);
        true
    }

    fn new_tasks(&mut self, service: &str, count: u64) -> Vec<Change> {
        let service = Service::clone(self.cluster.service(service).unwrap());
        (0..count)
            .map(|_| {
                let id = self.fresh_id('t');
                Change::CreateTask(Task {
                    id,
                    service_id: service.id.clone(),
                    slot: self.next,
                    spec: service.spec.as_ref().unwrap().task.clone(),
                    spec_version: service.spec_version,
                    status: Some(TaskStatus::default()),
                    desired_state: TaskState::Running.into(),
                    ..Task::default()
                })
            })
            .collect()
    }

    /// As the dispatcher writes it.
    fn end_task(&mut self, id: &str) {
        let mut task = Task::clone(self.cluster.task(id).unwrap());
        task.status.as_mut().unwrap().state = TaskState::Failed.into();
        task.desired_state = TaskState::Shutdown.into();
        let held = self.claims.held_by(id);
        self.allocator.rest(&held);
        self.claims.release_all(id);
        self.cluster.put_task(task);
    }

    fn remove(&mut self, id: &str) {
        let held = self.claims.held_by(id);
        self.allocator.rest(&held);
        self.claims.release_all(id);
        self.cluster.remove_task(id);
        self.cluster.remove_service(id);
    }

    fn run(&mut self, step: Step) {
        let pick = |ids: Vec<String>, index: Index| (!ids.is_empty()).then(|| index.get(&ids).clone());
        let mut changes = Vec::new();
        match step {
            Step::Create(wish) => {
                let id = self.fresh_id('s');
                self.put_service(&id, &wish);
            }
            Step::Update(index, wish) => {
                if let Some(id) = pick(self.services(), index) {
                    self.next += 1;
                    self.put_service(&id, &wish);
                }
            }
            Step::Remove(index) => {
                if let Some(id) = pick(self.services(), index) {
                    self.remove(&id);
                }
            }
            Step::AddTasks(index, count) => {
                if let Some(id) = pick(self.services(), index) {
                    changes = self.new_tasks(&id, count);
                }
            }
            Step::EndTask(index) => {
                if let Some(id) = pick(self.tasks(), index) {
                    self.end_task(&id);
                }
            }
            Step::RemoveTask(index) => {
                if let Some(id) = pick(self.tasks(), index) {
                    self.remove(&id);
                }
            }
            Step::NewLeader => {
                let networks: Vec<Network> =
                    self.cluster.networks().map(|network| Network::clone(network)).collect();
                self.allocator = Allocator::rebuild(config(), &networks, &self.claims);
                self.pipeline = Pipeline::new();
            }
        }
        self.commit(changes);
    }

    fn commit(&mut self, changes: Vec<Change>) {
        let dirty = self.cluster.take_dirty();
        let now = SystemTime::UNIX_EPOCH;
        let Self { cluster, claims, allocator, pipeline, .. } = self;
        let proposal = pipeline.complete(cluster, &dirty, changes, allocator, claims, now);
        for claim in &proposal.releases {
            assert!(self.claims.0.remove(claim).is_some(), "{claim:?} was free");
        }
        for (claim, holder) in &proposal.claims {
            self.claims.take(claim, holder);
        }
        self.cluster.apply(&proposal.changes).unwrap();
    }

    /// Endpoints of the services that have all they ask for.
    fn complete_services(&self) -> BTreeMap<String, Option<Endpoint>> {
        let is_complete = |service: &&Arc<Service>| {
            let mut copy = Service::clone(service);
            let allocated =
                allocate_service(&self.cluster, &mut self.allocator.clone(), &self.claims, &mut copy);
            allocated.is_ok_and(|allocated| !allocated.is_changed)
        };
        let services = self.cluster.services().filter(is_complete);
        services.map(|service| (service.id.clone(), service.endpoint.clone())).collect()
    }

    fn check(&self) {
        for service in self.cluster.services() {
            let shown: BTreeSet<Claim> = service_claims(service).into_iter().collect();
            assert_eq!(shown, self.claims.held_by(&service.id), "{}", service.id);
        }
        let mut on_hosts = BTreeSet::new();
        for task in self.cluster.tasks() {
            let state = task.status.as_ref().unwrap().state();
            let held = self.claims.held_by(&task.id);
            if state > TaskState::Running {
                assert_eq!(held, BTreeSet::new(), "{} has ended", task.id);
                continue;
            }
            let shown: BTreeSet<Claim> = task_claims(task).into_iter().collect();
            assert_eq!(shown, held, "{}", task.id);
            if state >= TaskState::Assigned {
                for port in host_ports(task.endpoint.as_ref()) {
                    assert!(on_hosts.insert((task.node_id.clone(), port)), "{} on {}", port, task.node_id);
                }
            }
            if state == TaskState::New {
                let is_left = self.cluster.service(&task.service_id).is_none();
                let status = task.status.as_ref().unwrap();
                assert!(is_left || !status.err.is_empty(), "{} waits without a reason", task.id);
            }
        }
        let ids: BTreeSet<&str> = (self.cluster.services().map(|service| service.id.as_str()))
            .chain(self.cluster.tasks().map(|task| task.id.as_str()))
            .chain(NETWORKS)
            .collect();
        for (claim, holder) in &self.claims.0 {
            assert!(ids.contains(holder.as_str()), "{claim:?} of {holder} is leaked");
        }
    }
}

fn host_ports(endpoint: Option<&Endpoint>) -> Vec<u32> {
    let ports = endpoint.map_or(&[][..], |endpoint| &endpoint.ports);
    let on_host = |port: &&PortConfig| port.publish_mode() == PublishMode::Host && port.published_port != 0;
    ports.iter().filter(on_host).map(|port| port.published_port).collect()
}

fn spec_of(id: &str, wish: &Wish) -> ServiceSpec {
    let network =
        |index: &usize| NetworkAttachmentConfig { target: NETWORKS[*index].into(), ..Default::default() };
    let port = |(target, published, on_hosts): &(u32, u32, bool)| PortConfig {
        target_port: *target,
        published_port: *published,
        publish_mode: if *on_hosts { PublishMode::Host } else { PublishMode::Ingress }.into(),
        ..PortConfig::default()
    };
    let mode = if wish.is_dnsrr { ResolutionMode::Dnsrr } else { ResolutionMode::Vip };
    ServiceSpec {
        annotations: Some(Annotations { name: id.into(), ..Annotations::default() }),
        task: Some(TaskSpec { networks: wish.networks.iter().map(network).collect(), ..TaskSpec::default() }),
        endpoint: Some(EndpointSpec { mode: mode.into(), ports: wish.ports.iter().map(port).collect() }),
        ..ServiceSpec::default()
    }
}

/// What the Control API refuses: one port published twice.
fn has_twins(spec: &ServiceSpec) -> bool {
    let ports = &spec.endpoint.as_ref().unwrap().ports;
    let mut seen = BTreeSet::new();
    ports.iter().any(|port| port.published_port != 0 && !seen.insert(port.published_port))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn nothing_twice_nothing_leaked_and_all_of_it_shown(steps in vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            let complete: BTreeMap<String, Option<Endpoint>> = world.complete_services();
            let is_update = matches!(step, Step::Update(..));
            world.run(step);
            world.check();
            if !is_update {
                for service in world.cluster.services() {
                    let before = complete.get(&service.id).unwrap_or(&service.endpoint);
                    prop_assert_eq!(before, &service.endpoint, "{} changed by itself", service.id);
                }
            }
        }
    }
}

#[test]
#[ignore = "a measurement of cargo xtask bench"]
#[allow(clippy::print_stdout, reason = "what was measured")]
fn measured_time_for_ten_thousand_tasks() {
    for (nodes, services, each) in [(1_000, 1, 10_000), (1_000, 100, 100), (10, 10, 10)] {
        let mut world = World::new();
        let ipam = IpamConfig { subnet: "10.1.0.0/16".into(), ..IpamConfig::default() };
        let spec = NetworkSpec {
            ipam: Some(IpamOptions { driver: None, configs: vec![ipam] }),
            ..NetworkSpec::default()
        };
        let allocation = world.allocator.network("n1", &spec, &Claims::default()).unwrap();
        let mut network = Network { id: "n1".into(), spec: Some(spec), ..Network::default() };
        allocation.write_to(&mut network);
        world.allocator.forget_network("n1");
        world.cluster.put_network(network);
        let node = Node::clone(world.cluster.node("a").unwrap());
        for index in 0..nodes {
            world.cluster.put_node(Node { id: format!("n{index:04}"), ..node.clone() });
        }
        let wish = Wish { networks: vec![1], ports: Vec::new(), is_dnsrr: false };
        let mut changes = Vec::new();
        for _ in 0..services {
            let id = world.fresh_id('s');
            assert!(world.put_service(&id, &wish));
            changes.extend(world.new_tasks(&id, each));
        }
        let dirty = world.cluster.take_dirty();
        let World { cluster, claims, allocator, pipeline, .. } = &mut world;
        let begin = std::time::Instant::now();
        let proposal = pipeline.complete(cluster, &dirty, changes, allocator, claims, SystemTime::UNIX_EPOCH);
        let elapsed = begin.elapsed();
        assert_eq!(proposal.changes.len() as u64, services + services * each);
        println!("{nodes} nodes, {services} services of {each} tasks: {elapsed:?}");
        world.cluster.apply(&proposal.changes).unwrap();
        let World { cluster, claims, allocator, pipeline, .. } = &mut world;
        let begin = std::time::Instant::now();
        let again = pipeline.complete(cluster, &dirty, Vec::new(), allocator, claims, SystemTime::UNIX_EPOCH);
        println!("  and nothing to do: {:?}", begin.elapsed());
        assert!(again.is_empty());
    }
}
