//! Placement holds for any swarm: never a node that does not fit, nothing left that fits, and even.
//!
//! Cases per property: `WEFT_PROPTEST_CASES` (default 64).

#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use proptest::collection::vec;
use proptest::prelude::*;
use weft_orchestration::testing::TestCluster;
use weft_orchestration::{Scheduler, Snapshot};
use weft_wire::swarmkit::{
    Annotations, Endpoint, Node, NodeDescription, NodeSpec, NodeStatus, Placement, PlacementPreference,
    PortConfig, ResourceRequirements, Resources, SpreadOver, Task, TaskSpec, TaskState, TaskStatus, Version,
    node_spec::Availability, node_status::State, placement_preference::Preference, port_config::PublishMode,
};

fn cases() -> ProptestConfig {
    let cases = std::env::var("WEFT_PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

#[derive(Debug, Clone)]
struct NodeSeed {
    memory: i64,
    zone: u8,
    is_available: bool,
}

#[derive(Debug, Clone)]
struct ServiceSeed {
    tasks: u64,
    memory: i64,
    /// Only nodes of this zone.
    zone: Option<u8>,
    host_port: Option<u32>,
    max_replicas: u64,
    is_spread_over_zones: bool,
}

fn node_seed() -> impl Strategy<Value = NodeSeed> {
    (0..12_i64, 0..3_u8, prop::bool::weighted(0.85)).prop_map(|(memory, zone, is_available)| NodeSeed {
        memory,
        zone,
        is_available,
    })
}

fn service_seed() -> impl Strategy<Value = ServiceSeed> {
    (
        1..14_u64,
        0..4_i64,
        prop::option::weighted(0.3, 0..3_u8),
        prop::option::weighted(0.2, 8080..8082_u32),
        prop_oneof![3 => Just(0), 1 => 1..4_u64],
        any::<bool>(),
    )
        .prop_map(|(tasks, memory, zone, host_port, max_replicas, is_spread_over_zones)| ServiceSeed {
            tasks,
            memory,
            zone,
            host_port,
            max_replicas,
            is_spread_over_zones,
        })
}

fn node(index: usize, seed: &NodeSeed) -> Node {
    let labels = BTreeMap::from([("zone".to_owned(), seed.zone.to_string())]);
    let availability = if seed.is_available { Availability::Active } else { Availability::Drain };
    Node {
        id: format!("n{index:03}"),
        spec: Some(NodeSpec {
            annotations: Some(Annotations { labels, ..Annotations::default() }),
            availability: availability.into(),
            ..NodeSpec::default()
        }),
        status: Some(NodeStatus { state: State::Ready.into(), ..NodeStatus::default() }),
        description: Some(NodeDescription {
            resources: Some(Resources { memory_bytes: seed.memory, ..Resources::default() }),
            ..NodeDescription::default()
        }),
        ..Node::default()
    }
}

fn tasks(index: usize, seed: &ServiceSeed) -> Vec<Task> {
    let preference = PlacementPreference {
        preference: Some(Preference::Spread(SpreadOver { spread_descriptor: "node.labels.zone".into() })),
    };
    let spec = TaskSpec {
        resources: Some(ResourceRequirements {
            reservations: Some(Resources { memory_bytes: seed.memory, ..Resources::default() }),
            ..ResourceRequirements::default()
        }),
        placement: Some(Placement {
            constraints: seed.zone.map(|zone| format!("node.labels.zone=={zone}")).into_iter().collect(),
            preferences: seed.is_spread_over_zones.then_some(preference).into_iter().collect(),
            max_replicas: seed.max_replicas,
            ..Placement::default()
        }),
        ..TaskSpec::default()
    };
    let port = |port| PortConfig {
        published_port: port,
        publish_mode: PublishMode::Host.into(),
        ..PortConfig::default()
    };
    let endpoint = Endpoint { ports: seed.host_port.map(port).into_iter().collect(), ..Endpoint::default() };
    let task = |slot| Task {
        id: format!("s{index:02}-{slot:05}"),
        service_id: format!("s{index:02}"),
        slot,
        spec: Some(spec.clone()),
        spec_version: Some(Version { index: 1 }),
        status: Some(TaskStatus { state: TaskState::Pending.into(), ..TaskStatus::default() }),
        desired_state: TaskState::Running.into(),
        endpoint: Some(endpoint.clone()),
        ..Task::default()
    };
    (1..=seed.tasks).map(task).collect()
}

/// What a node has taken on, counted anew.
#[derive(Default)]
struct Load {
    memory: i64,
    ports: BTreeSet<u32>,
    by_service: BTreeMap<usize, u64>,
}

struct Swarm {
    nodes: Vec<NodeSeed>,
    services: Vec<ServiceSeed>,
    loads: Vec<Load>,
}

impl Swarm {
    fn new(nodes: &[NodeSeed], services: &[ServiceSeed]) -> Self {
        let loads = nodes.iter().map(|_| Load::default()).collect();
        Self { nodes: nodes.to_vec(), services: services.to_vec(), loads }
    }

    fn fits(&self, node: usize, service: usize) -> bool {
        let (seed, wanted, load) = (&self.nodes[node], &self.services[service], &self.loads[node]);
        seed.is_available
            && (wanted.memory == 0 || load.memory + wanted.memory <= seed.memory)
            && wanted.zone.is_none_or(|zone| zone == seed.zone)
            && wanted.host_port.is_none_or(|port| !load.ports.contains(&port))
            && (wanted.max_replicas == 0
                || load.by_service.get(&service).copied().unwrap_or(0) < wanted.max_replicas)
    }

    fn place(&mut self, node: usize, service: usize) {
        let (wanted, load) = (&self.services[service], &mut self.loads[node]);
        load.memory += wanted.memory;
        load.ports.extend(wanted.host_port);
        *load.by_service.entry(service).or_default() += 1;
    }
}

fn number(text: &str) -> usize {
    text.trim_start_matches(|c: char| !c.is_ascii_digit()).split('-').next().unwrap().parse().unwrap()
}

fn cluster(nodes: &[NodeSeed]) -> TestCluster {
    let mut cluster = TestCluster::new();
    for (index, seed) in nodes.iter().enumerate() {
        cluster.put_node(node(index, seed));
    }
    cluster
}

proptest! {
    #![proptest_config(cases())]

    /// In several calls, each seeing in the store what the ones before did.
    #[test]
    fn a_node_that_fits_or_none_at_all(
        nodes in vec(node_seed(), 0..9),
        services in vec(service_seed(), 1..6),
        calls in 1..4_usize,
    ) {
        let mut cluster = cluster(&nodes);
        let mut swarm = Swarm::new(&nodes, &services);
        let mut scheduler = Scheduler::new();
        let pending: Vec<Task> =
            services.iter().enumerate().flat_map(|(index, seed)| tasks(index, seed)).collect();
        for part in pending.chunks(pending.len().div_ceil(calls)) {
            let mut part = part.to_vec();
            let scheduled = scheduler.schedule(&cluster, &mut part, SystemTime::UNIX_EPOCH);
            let (placed, waiting): (Vec<Task>, Vec<Task>) =
                part.into_iter().partition(|task| !task.node_id.is_empty());
            prop_assert_eq!((placed.len(), waiting.len()), (scheduled.placed, scheduled.waiting));
            for task in placed {
                let (node, service) = (number(&task.node_id), number(&task.service_id));
                prop_assert!(swarm.fits(node, service), "{} does not fit {}", task.id, task.node_id);
                swarm.place(node, service);
                cluster.put_task(task);
            }
            for task in waiting {
                let room = (0..nodes.len()).find(|node| swarm.fits(*node, number(&task.service_id)));
                prop_assert_eq!(room, None, "{} waits although a node fits", task.id);
            }
        }
    }

    /// Where every node has room for everything, counts differ by one at most: of each service, and over all.
    #[test]
    fn even_within_one(count in 1..9_usize, sizes in vec(1..30_u64, 1..5)) {
        let seed = NodeSeed { memory: 0, zone: 0, is_available: true };
        let mut cluster = cluster(&vec![seed; count]);
        let mut scheduler = Scheduler::new();
        for (index, size) in sizes.iter().enumerate() {
            let seed = ServiceSeed {
                tasks: *size,
                memory: 0,
                zone: None,
                host_port: None,
                max_replicas: 0,
                is_spread_over_zones: false,
            };
            let mut pending = tasks(index, &seed);
            scheduler.schedule(&cluster, &mut pending, SystemTime::UNIX_EPOCH);
            prop_assert!(spread(&cluster, &pending) <= 1, "of one service");
            for task in pending {
                cluster.put_task(task);
            }
            let all: Vec<Task> = cluster.tasks().map(|task| Task::clone(task)).collect();
            prop_assert!(spread(&cluster, &all) <= 1, "over all");
        }
    }

    /// With a preference, zones are even whatever the number of their nodes, and so are the nodes of each.
    #[test]
    fn zones_are_even_within_one(zones in vec(0..3_u8, 1..9), size in 1..40_u64) {
        let seeds: Vec<NodeSeed> =
            zones.iter().map(|zone| NodeSeed { memory: 0, zone: *zone, is_available: true }).collect();
        let cluster = cluster(&seeds);
        let seed = ServiceSeed {
            tasks: size,
            memory: 0,
            zone: None,
            host_port: None,
            max_replicas: 0,
            is_spread_over_zones: true,
        };
        let mut pending = tasks(0, &seed);
        Scheduler::new().schedule(&cluster, &mut pending, SystemTime::UNIX_EPOCH);
        let mut of_zone: BTreeMap<u8, BTreeMap<usize, u64>> = BTreeMap::new();
        for (node, zone) in zones.iter().enumerate() {
            let count = pending.iter().filter(|task| number(&task.node_id) == node).count() as u64;
            of_zone.entry(*zone).or_default().insert(node, count);
        }
        let totals: Vec<u64> = of_zone.values().map(|nodes| nodes.values().sum()).collect();
        prop_assert!(totals.iter().max().unwrap() - totals.iter().min().unwrap() <= 1, "{totals:?}");
        for nodes in of_zone.values() {
            prop_assert!(nodes.values().max().unwrap() - nodes.values().min().unwrap() <= 1, "{nodes:?}");
        }
    }
}

fn spread(cluster: &TestCluster, tasks: &[Task]) -> usize {
    let counts: Vec<usize> =
        cluster.nodes().map(|node| tasks.iter().filter(|task| task.node_id == node.id).count()).collect();
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

#[test]
#[ignore = "a measurement of cargo xtask bench"]
#[allow(clippy::print_stdout, reason = "what was measured")]
fn measured_time_for_ten_thousand_tasks() {
    for (nodes, services, each) in [(1_000, 1, 10_000), (1_000, 100, 100), (1_000, 1_000, 10), (10, 10, 10)] {
        let seeds: Vec<NodeSeed> = (0..nodes)
            .map(|index| NodeSeed { memory: 1 << 40, zone: (index % 3) as u8, is_available: true })
            .collect();
        let cluster = cluster(&seeds);
        let seed = ServiceSeed {
            tasks: each,
            memory: 1 << 20,
            zone: None,
            host_port: None,
            max_replicas: 0,
            is_spread_over_zones: true,
        };
        let mut pending: Vec<Task> = (0..services).flat_map(|index| tasks(index, &seed)).collect();
        let begin = Instant::now();
        let scheduled = Scheduler::new().schedule(&cluster, &mut pending, SystemTime::UNIX_EPOCH);
        let elapsed = begin.elapsed();
        assert_eq!(scheduled.waiting, 0);
        println!("{nodes} nodes, {services} services of {each} tasks: {elapsed:?}");
        assert!(elapsed < Duration::from_secs(10));
    }
}
