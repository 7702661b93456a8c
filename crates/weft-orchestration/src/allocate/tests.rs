use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use weft_types::{Classified, ErrorKind};
use weft_wire::swarmkit::{
    Annotations, Cluster, EndpointSpec, IpamConfig, IpamOptions, Network, NetworkAttachmentConfig,
    NetworkSpec, PortConfig, Service, ServiceSpec, Task, TaskSpec, TaskState, TaskStatus,
    endpoint_spec::ResolutionMode,
    port_config::{Protocol, PublishMode},
};

use super::*;
use crate::testing::TestCluster;
use crate::{Allocator, AllocatorConfig, InUse, Snapshot, Taken};

/// A swarm whose claims are checked as the store checks them.
struct Swarm {
    cluster: TestCluster,
    allocator: Allocator,
    taken: InUse,
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

impl Swarm {
    /// With the ingress network 10.0.0.0/24, and `n1` and `n2` behind it.
    fn new() -> Self {
        let config = AllocatorConfig::of_cluster(&Cluster { id: "c".into(), ..Cluster::default() }).unwrap();
        let taken = InUse::default();
        let allocator = Allocator::rebuild(config, [], &taken);
        let mut swarm = Self { cluster: TestCluster::new(), allocator, taken };
        swarm.network(NetworkSpec { ingress: true, ..spec("ingress", &[]) });
        swarm.network(spec("n1", &[]));
        swarm.network(spec("n2", &[]));
        swarm
    }

    /// Its id is its name with "-id".
    fn network(&mut self, spec: NetworkSpec) -> Network {
        let id = format!("{}-id", spec.annotations.as_ref().unwrap().name);
        let allocation = self.allocator.network(&id, &spec, &self.taken).unwrap();
        for claim in &allocation.claims {
            assert!(self.taken.insert(claim.clone(), &id));
        }
        let mut network = Network { id, spec: Some(spec), ..Network::default() };
        allocation.write_to(&mut network);
        self.cluster.put_network(network.clone());
        network
    }

    /// Completes a service and stores it.
    fn put(&mut self, mut service: Service) -> Result<Allocated, AllocateError> {
        let before = service.clone();
        let held = service_claims(&service);
        let allocated = allocate_service(&self.cluster, &mut self.allocator, &self.taken, &mut service)
            .inspect_err(|_| {
                assert_eq!(service, before, "changed by a refusal");
            })?;
        assert_eq!(allocated.is_changed, service != before);
        for claim in &allocated.releases {
            assert!(held.contains(claim) && self.taken.remove(claim), "{claim:?} was not held");
        }
        for claim in &allocated.claims {
            assert!(self.taken.insert(claim.clone(), &service.id), "{claim:?} was taken");
        }
        let mut again = service.clone();
        let repeated = allocate_service(&self.cluster, &mut self.allocator, &self.taken, &mut again);
        assert_eq!((repeated, &again), (Ok(Allocated::default()), &service), "asking again changes nothing");
        self.cluster.put_service(service);
        Ok(allocated)
    }

    /// Puts a changed spec to a service.
    fn update(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut ServiceSpec),
    ) -> Result<Allocated, AllocateError> {
        let mut service = self.service(id);
        change(service.spec.as_mut().unwrap());
        self.put(service)
    }

    fn service(&self, id: &str) -> Service {
        Service::clone(self.cluster.service(id).unwrap())
    }

    fn virtual_ips(&self, id: &str) -> Vec<(String, String)> {
        let ips = self.service(id).endpoint.unwrap().virtual_ips;
        ips.into_iter().map(|ip| (ip.network_id, ip.addr)).collect()
    }

    fn published(&self, id: &str) -> Vec<u32> {
        self.service(id).endpoint.unwrap().ports.iter().map(|port| port.published_port).collect()
    }

    fn task(&mut self, service: Option<&str>, mut task: Task) -> Result<Task, AllocateError> {
        let service = service.map(|id| self.service(id));
        let before = task.clone();
        let (allocator, taken) = (&mut self.allocator, &self.taken);
        let allocated = allocate_task(&self.cluster, allocator, taken, service.as_ref(), &mut task, at(7))
            .inspect_err(|_| assert_eq!(task, before, "changed by a refusal"))?;
        let gained = if allocated.is_changed { task_claims(&task) } else { Vec::new() };
        assert_eq!(allocated.claims, gained);
        for claim in allocated.claims {
            assert!(self.taken.insert(claim.clone(), &task.id), "{claim:?} was taken");
        }
        Ok(task)
    }
}

fn spec(name: &str, subnets: &[&str]) -> NetworkSpec {
    let config = |subnet: &&str| IpamConfig { subnet: (*subnet).to_owned(), ..IpamConfig::default() };
    NetworkSpec {
        annotations: Some(Annotations { name: name.into(), ..Annotations::default() }),
        ipam: Some(IpamOptions { driver: None, configs: subnets.iter().map(config).collect() }),
        ..NetworkSpec::default()
    }
}

fn on(networks: &[&str]) -> Vec<NetworkAttachmentConfig> {
    let config =
        |target: &&str| NetworkAttachmentConfig { target: (*target).to_owned(), ..Default::default() };
    networks.iter().map(config).collect()
}

fn port(target: u32, published: u32, mode: PublishMode) -> PortConfig {
    PortConfig {
        target_port: target,
        published_port: published,
        publish_mode: mode.into(),
        ..Default::default()
    }
}

fn ingress(target: u32, published: u32) -> PortConfig {
    port(target, published, PublishMode::Ingress)
}

fn service(id: &str, networks: &[&str], ports: &[PortConfig]) -> Service {
    Service {
        id: id.into(),
        spec: Some(ServiceSpec {
            annotations: Some(Annotations { name: id.to_uppercase(), ..Annotations::default() }),
            task: Some(TaskSpec { networks: on(networks), ..TaskSpec::default() }),
            endpoint: Some(EndpointSpec { ports: ports.to_vec(), ..EndpointSpec::default() }),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn new_task(id: &str, networks: &[&str]) -> Task {
    Task {
        id: id.into(),
        spec: Some(TaskSpec { networks: on(networks), ..TaskSpec::default() }),
        status: Some(TaskStatus { message: "created".into(), ..TaskStatus::default() }),
        desired_state: TaskState::Running.into(),
        ..Task::default()
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

/// "Endpoint": {"Spec": {}} in a recording: no network, no port, no endpoint.
#[test]
fn a_service_that_asks_for_nothing_gets_nothing() {
    let mut swarm = Swarm::new();
    assert_eq!(swarm.put(service("web", &[], &[])), Ok(Allocated::default()));
    assert_eq!(swarm.service("web").endpoint, None);
    let mut dnsrr = service("rr", &["n1-id"], &[]);
    dnsrr.spec.as_mut().unwrap().endpoint.as_mut().unwrap().mode = ResolutionMode::Dnsrr.into();
    assert_eq!(swarm.put(dnsrr), Ok(Allocated::default()));
}

#[test]
fn one_virtual_address_per_network_and_ingress_first() {
    let mut swarm = Swarm::new();
    swarm.put(service("web", &["n1-id", "n2"], &[ingress(80, 8080)])).unwrap();
    let expected = [("ingress-id", "10.0.0.2/24"), ("n1-id", "10.0.1.2/24"), ("n2-id", "10.0.2.2/24")];
    assert_eq!(swarm.virtual_ips("web"), pairs(&expected));
    let endpoint = swarm.service("web").endpoint.unwrap();
    assert_eq!(endpoint.spec, swarm.service("web").spec.unwrap().endpoint);
    assert_eq!(endpoint.ports, [ingress(80, 8080)]);
    // The place where specs named networks before.
    let mut old = service("old", &[], &[]);
    old.spec.as_mut().unwrap().networks = on(&["n1-id"]);
    old.spec.as_mut().unwrap().endpoint = None;
    swarm.put(old).unwrap();
    assert_eq!(swarm.virtual_ips("old"), pairs(&[("n1-id", "10.0.1.3/24")]));
}

#[test]
fn where_a_network_has_both_families_a_service_has_an_address_of_each() {
    let mut swarm = Swarm::new();
    swarm.network(spec("six", &["10.60.0.0/24", "fd60::/64"]));
    swarm.put(service("web", &["n1-id", "six-id"], &[])).unwrap();
    let all = [("n1-id", "10.0.1.2/24"), ("six-id", "10.60.0.2/24"), ("six-id", "fd60::2/64")];
    assert_eq!(swarm.virtual_ips("web"), pairs(&all));
    // As they were made when a network gave one address only.
    let mut old = swarm.service("web");
    let claim = Claim::Address { network: "six-id".into(), address: "fd60::2".parse().unwrap() };
    assert!(swarm.taken.remove(&claim));
    old.endpoint.as_mut().unwrap().virtual_ips.pop();
    swarm.cluster.put_service(old.clone());
    let allocated = swarm.put(old).unwrap();
    let six = Claim::Address { network: "six-id".into(), address: "fd60::3".parse().unwrap() };
    assert_eq!((allocated.claims, allocated.releases), (vec![six.clone()], vec![]));
    let all = [("n1-id", "10.0.1.2/24"), ("six-id", "10.60.0.2/24"), ("six-id", "fd60::3/64")];
    assert_eq!(swarm.virtual_ips("web"), pairs(&all));
    let allocated =
        swarm.update("web", |spec| spec.task.as_mut().unwrap().networks = on(&["n1-id"])).unwrap();
    let four = Claim::Address { network: "six-id".into(), address: "10.60.0.2".parse().unwrap() };
    assert_eq!((allocated.claims, allocated.releases), (vec![], vec![four, six]));
}

/// What is done to a swarm's services, each with a number.
#[derive(Debug, Clone)]
enum Deed {
    /// A service with ports or without, on some of the networks, found by virtual addresses or not.
    Put {
        service: u8,
        networks: Vec<usize>,
        port: bool,
        dnsrr: bool,
    },
    /// It is as it was made when a network gave one address only.
    Age(u8),
    Remove(u8),
}

fn deed() -> impl Strategy<Value = Deed> {
    let put = (0..6u8, prop::collection::vec(0..3usize, 0..3), any::<bool>(), prop::bool::weighted(0.2));
    prop_oneof![
        5 => put.prop_map(|(service, networks, port, dnsrr)| Deed::Put { service, networks, port, dnsrr }),
        1 => (0..6u8).prop_map(Deed::Age),
        2 => (0..6u8).prop_map(Deed::Remove),
    ]
}

/// Networks with one family, with two, and with two that are nearly full: five and six addresses.
const NETWORKS: [(&str, &[&str]); 3] = [
    ("four", &["10.50.0.0/24"]),
    ("both", &["10.60.0.0/24", "fd60::/64"]),
    ("tiny", &["10.70.0.0/29", "fd70::/125"]),
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn services_hold_one_address_per_family_each_its_own_and_leave_none(deeds in prop::collection::vec(deed(), 1..60)) {
        let mut swarm = Swarm::new();
        for (name, subnets) in NETWORKS {
            swarm.network(spec(name, subnets));
        }
        let bare = swarm.taken.clone();
        for deed in deeds {
            match deed {
                Deed::Put { service: number, networks, port, dnsrr } => {
                    let id = format!("s{number}");
                    let targets: Vec<String> =
                        networks.iter().map(|at| format!("{}-id", NETWORKS[*at].0)).collect();
                    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
                    let ports: Vec<PortConfig> = port.then(|| ingress(80, 0)).into_iter().collect();
                    let mut wanted = service(&id, &targets, if dnsrr { &[] } else { &ports });
                    if dnsrr {
                        wanted.spec.as_mut().unwrap().endpoint.as_mut().unwrap().mode = ResolutionMode::Dnsrr.into();
                    }
                    wanted.endpoint = swarm.cluster.service(&id).and_then(|service| service.endpoint.clone());
                    // A full network refuses; the service then is as it was.
                    let _ = swarm.put(wanted);
                }
                Deed::Age(number) => swarm.age(&format!("s{number}")),
                Deed::Remove(number) => swarm.remove(&format!("s{number}")),
            }
            swarm.check_virtual_ips();
        }
        (0..6u8).for_each(|number| swarm.remove(&format!("s{number}")));
        for (name, _) in NETWORKS {
            let network = format!("{name}-id");
            prop_assert_eq!(sorted(swarm.taken.addresses(&network)), sorted(bare.addresses(&network)));
        }
    }
}

fn sorted(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.sort();
    addresses
}

impl Swarm {
    /// Takes a service's IPv6 addresses away where it has IPv4 ones too.
    fn age(&mut self, id: &str) {
        let Some(mut service) = self.cluster.service(id).map(|service| Service::clone(service)) else {
            return;
        };
        let Some(endpoint) = service.endpoint.as_mut() else { return };
        endpoint.virtual_ips.retain(|ip| {
            let claim = task::claim(&ip.network_id, &ip.addr).unwrap();
            !ip.addr.contains(':') || !self.taken.remove(&claim)
        });
        self.cluster.put_service(service);
    }

    fn remove(&mut self, id: &str) {
        let Some(service) = self.cluster.service(id).map(|service| Service::clone(service)) else { return };
        let claims = service_claims(&service);
        for claim in &claims {
            assert!(self.taken.remove(claim), "{claim:?} was not held");
        }
        self.allocator.rest(&claims);
        self.cluster.remove_service(id);
    }

    /// Per network of each service: at most one address of a family, IPv4 before IPv6.
    fn check_virtual_ips(&self) {
        for service in self.cluster.services() {
            let mut seen: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
            for ip in service.endpoint.iter().flat_map(|endpoint| &endpoint.virtual_ips) {
                seen.entry(&ip.network_id).or_default().push(ip.addr.contains(':'));
            }
            for (network, families) in seen {
                assert!(
                    [&[false][..], &[false, true]].contains(&families.as_slice()),
                    "{network}: {families:?}"
                );
            }
        }
    }
}

#[test]
fn updates_keep_what_is_still_asked_for() {
    let mut swarm = Swarm::new();
    swarm.put(service("web", &["n1-id"], &[])).unwrap();
    swarm.update("web", |spec| spec.task.as_mut().unwrap().networks = on(&["n2-id", "n1-id"])).unwrap();
    assert_eq!(swarm.virtual_ips("web"), pairs(&[("n1-id", "10.0.1.2/24"), ("n2-id", "10.0.2.2/24")]));
    // A recording of a port added later has the ingress network last.
    swarm.update("web", |spec| spec.endpoint.as_mut().unwrap().ports = vec![ingress(90, 8090)]).unwrap();
    let all = [("n1-id", "10.0.1.2/24"), ("n2-id", "10.0.2.2/24"), ("ingress-id", "10.0.0.2/24")];
    assert_eq!(swarm.virtual_ips("web"), pairs(&all));
    let allocated = swarm.update("web", |spec| {
        spec.task.as_mut().unwrap().networks = on(&["n2-id"]);
        spec.endpoint.as_mut().unwrap().ports.clear();
    });
    assert_eq!(swarm.virtual_ips("web"), pairs(&[("n2-id", "10.0.2.2/24")]));
    assert_eq!(allocated.unwrap().releases.len(), 3, "two addresses and a port");
    // What was released rests.
    swarm.put(service("next", &["n1-id"], &[ingress(1, 1)])).unwrap();
    assert_eq!(swarm.virtual_ips("next"), pairs(&[("ingress-id", "10.0.0.3/24"), ("n1-id", "10.0.1.3/24")]));
    swarm.update("web", |spec| spec.endpoint.as_mut().unwrap().mode = ResolutionMode::Dnsrr.into()).unwrap();
    assert_eq!((swarm.virtual_ips("web"), service_claims(&swarm.service("web"))), (vec![], vec![]));
}

#[test]
fn ports_left_open_go_upward_and_stay_through_updates() {
    let mut swarm = Swarm::new();
    swarm.put(service("a", &[], &[ingress(80, 30_001)])).unwrap();
    swarm.put(service("host", &[], &[port(80, 30_002, PublishMode::Host)])).unwrap();
    let udp = PortConfig { protocol: Protocol::Udp.into(), ..ingress(53, 0) };
    swarm.put(service("b", &[], &[ingress(81, 0), ingress(80, 8080), ingress(82, 0), udp.clone()])).unwrap();
    assert_eq!(swarm.published("b"), [30_000, 8080, 30_003, 30_000]);
    let added = vec![ingress(83, 0), ingress(82, 0), ingress(81, 0), port(9, 0, PublishMode::Host)];
    swarm.update("b", |spec| spec.endpoint.as_mut().unwrap().ports = added).unwrap();
    assert_eq!(swarm.published("b"), [30_004, 30_003, 30_000, 0]);
    // Fixed to what it has, and to something else.
    let fixed = vec![ingress(82, 30_003), ingress(81, 8081), ingress(83, 30_000)];
    let allocated = swarm.update("b", |spec| spec.endpoint.as_mut().unwrap().ports = fixed).unwrap();
    assert_eq!(allocated.claims, [Claim::Port { protocol: 0, port: 8081 }]);
    assert_eq!(allocated.releases, [Claim::Port { protocol: 0, port: 30_004 }]);
}

#[test]
fn a_port_is_published_by_one_service() {
    let mut swarm = Swarm::new();
    swarm.put(service("s3", &[], &[ingress(80, 8080), port(81, 8081, PublishMode::Host)])).unwrap();
    let refused = |swarm: &mut Swarm, port: PortConfig| {
        let service = service("other", &[], std::slice::from_ref(&port));
        let error = check_ports(&swarm.cluster, "", service.spec.as_ref().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidParameter);
        error.to_string()
    };
    let as_ingress = "port '8080' is already in use by service 'S3' (s3) as an ingress port";
    assert_eq!(refused(&mut swarm, ingress(1, 8080)), as_ingress);
    assert_eq!(refused(&mut swarm, port(1, 8080, PublishMode::Host)), as_ingress);
    assert_eq!(
        refused(&mut swarm, ingress(1, 8081)),
        "port '8081' is already in use by service 'S3' (s3) as a host-published port"
    );
    let udp = PortConfig { protocol: Protocol::Udp.into(), ..ingress(1, 8080) };
    for allowed in [udp, port(1, 8081, PublishMode::Host), ingress(1, 8082), ingress(1, 0)] {
        let service = service("other", &[], &[allowed]);
        assert_eq!(check_ports(&swarm.cluster, "", service.spec.as_ref().unwrap()), Ok(()));
    }
    let own = swarm.service("s3").spec.unwrap();
    assert_eq!(check_ports(&swarm.cluster, "s3", &own), Ok(()));
    // What the check did not see, the allocation does.
    let error = swarm.put(service("other", &[], &[ingress(80, 8080)])).unwrap_err();
    assert_eq!(error.to_string(), as_ingress);
    let error = swarm.put(service("other", &[], &[ingress(80, 65_536)])).unwrap_err();
    assert_eq!(error, AllocateError::NotAPort(65_536));
}

#[test]
fn when_all_ports_are_used_the_error_says_how_many() {
    let mut swarm = Swarm::new();
    for port in 30_000..=32_767 {
        swarm.taken.insert(Claim::Port { protocol: 0, port }, "x");
    }
    let error = swarm.put(service("web", &[], &[ingress(80, 0)])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no tcp port is left for service WEB: all 2768 from 30000 to 32767 are in use"
    );
    swarm.taken.remove(&Claim::Port { protocol: 0, port: 31_000 });
    swarm.put(service("web", &[], &[ingress(80, 0)])).unwrap();
    assert_eq!(swarm.published("web"), [31_000]);
}

#[test]
fn what_the_spec_names_must_be_there() {
    let mut swarm = Swarm::new();
    let error = swarm.put(service("web", &["nosuch"], &[])).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.kind()), ("network nosuch not found", ErrorKind::NotFound));
    let mut without = TestCluster::new();
    std::mem::swap(&mut swarm.cluster, &mut without);
    let error = swarm.put(service("web", &[], &[ingress(80, 0)])).unwrap_err();
    assert_eq!(error.to_string(), "service needs ingress network, but no ingress network is present");
}

#[test]
fn a_task_has_an_address_on_each_network_ingress_first() {
    let mut swarm = Swarm::new();
    swarm.put(service("web", &["n1-id", "n2-id"], &[ingress(80, 8080)])).unwrap();
    let mut task = new_task("t1", &["n1-id", "n2-id", "n1"]);
    task.spec.as_mut().unwrap().networks[0].aliases = vec!["front".into()];
    task.spec.as_mut().unwrap().networks[1].driver_attachment_opts.insert("k".into(), "v".into());
    let task = swarm.task(Some("web"), task).unwrap();
    let shown: Vec<(&str, &[String], &[String])> = task
        .networks
        .iter()
        .map(|on| (on.network.as_ref().unwrap().id.as_str(), on.addresses.as_slice(), on.aliases.as_slice()))
        .collect();
    assert_eq!(
        shown,
        [
            ("ingress-id", &["10.0.0.3/24".to_owned()][..], &[][..]),
            ("n1-id", &["10.0.1.3/24".to_owned()][..], &["front".to_owned()][..]),
            ("n2-id", &["10.0.2.3/24".to_owned()][..], &[][..]),
        ]
    );
    assert_eq!(task.networks[2].driver_attachment_opts["k"], "v");
    assert_eq!(task.networks[1].network.as_ref(), swarm.cluster.network("n1-id").map(AsRef::as_ref));
    assert_eq!(task.endpoint, swarm.service("web").endpoint);
    let status = task.status.clone().unwrap();
    assert_eq!(
        (status.state(), status.message.as_str(), status.timestamp),
        (TaskState::Pending, "pending task scheduling", Some(at(7).into()))
    );
    assert_eq!(swarm.task(Some("web"), task.clone()), Ok(task), "what is pending is left alone");
}

#[test]
fn networks_of_the_service_count_where_the_task_names_none() {
    let mut swarm = Swarm::new();
    let mut old = service("old", &[], &[]);
    old.spec.as_mut().unwrap().networks = on(&["n2-id"]);
    swarm.put(old).unwrap();
    let task = swarm.task(Some("old"), new_task("t1", &[])).unwrap();
    assert_eq!(task.networks[0].addresses, ["10.0.2.3/24"]);
    let task = swarm.task(Some("old"), new_task("t2", &["n1-id"])).unwrap();
    assert_eq!(task.networks[0].addresses, ["10.0.1.2/24"]);
    let task = swarm.task(None, new_task("t3", &[])).unwrap();
    assert_eq!((task.networks, task.endpoint), (vec![], None));
}

/// A recorded service on the host's network shows the network and no address.
#[test]
fn networks_that_every_node_has_give_no_address() {
    let mut swarm = Swarm::new();
    for name in ["host", "bridge", "none"] {
        let allocated = swarm.put(service(name, &[name], &[])).unwrap();
        assert_eq!(allocated, Allocated { is_changed: true, ..Allocated::default() });
        assert_eq!(swarm.virtual_ips(name), pairs(&[(name, "")]));
        let task = swarm.task(Some(name), new_task(name, &[name])).unwrap();
        let attachment = &task.networks[0];
        assert!(attachment.addresses.is_empty());
        let network = attachment.network.as_ref().unwrap();
        let driver = if name == "none" { "null" } else { name };
        assert_eq!(network.driver_state.as_ref().unwrap().name, driver);
        assert!(network.spec.as_ref().unwrap().annotations.as_ref().unwrap().labels.len() == 1);
    }
    // One that the store has goes before.
    let stored = Network { id: "25chars".into(), ..predefined_network("host").unwrap() };
    swarm.cluster.put_network(stored);
    swarm.put(service("stored", &["host"], &[])).unwrap();
    assert_eq!(swarm.virtual_ips("stored"), pairs(&[("25chars", "")]));
    assert_eq!(predefined_network("overlay"), None);
}

#[test]
fn a_full_network_is_named_in_the_tasks_status() {
    let mut swarm = Swarm::new();
    swarm.network(spec("tiny", &["10.9.0.0/29"]));
    swarm.put(service("web", &["tiny-id"], &[])).unwrap();
    for id in ["a", "b", "c", "d"] {
        swarm.task(Some("web"), new_task(id, &["n1-id", "tiny-id"])).unwrap();
    }
    let mut task = new_task("e", &["n1-id", "tiny-id"]);
    let error = swarm.task(Some("web"), task.clone()).unwrap_err();
    let text = "no available IPv4 addresses on this network's address pools: tiny (tiny-id): all 5 addresses of \
                10.9.0.0/29 are in use";
    assert!(note_failure(&mut task, &error, at(8)) && !note_failure(&mut task, &error, at(9)));
    let status = task.status.as_ref().unwrap();
    assert_eq!(
        (status.state(), status.message.as_str(), status.err.as_str(), status.timestamp),
        (TaskState::New, "created", text, Some(at(8).into()))
    );
    // Once there is room it goes on, without the error; the address that rested comes back last.
    let freed = Claim::Address { network: "tiny-id".into(), address: "10.9.0.4".parse().unwrap() };
    assert!(swarm.taken.remove(&freed));
    swarm.allocator.rest([&freed]);
    let task = swarm.task(Some("web"), task).unwrap();
    assert_eq!(
        (task.networks[1].addresses[0].as_str(), task.status.unwrap().err.as_str()),
        ("10.9.0.4/29", "")
    );
}

#[test]
fn wanted_addresses_are_given_if_they_can_be() {
    let mut swarm = Swarm::new();
    let mut task = new_task("t", &["n1-id"]);
    task.spec.as_mut().unwrap().networks[0].addresses = vec!["10.0.1.77".into()];
    assert_eq!(swarm.task(None, task.clone()).unwrap().networks[0].addresses, ["10.0.1.77/24"]);
    let error = swarm.task(None, task).unwrap_err();
    assert_eq!(error.to_string(), "Address already in use: 10.0.1.77 on network n1");
}
