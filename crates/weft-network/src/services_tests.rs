use std::collections::BTreeSet;

use weft_plan::LinkName;
use weft_types::{ContainerId, EndpointAddress, EndpointId, MacAddr, NodeId, TaskId};

use super::*;
use crate::sandbox::{Endpoint, Sandbox};
use crate::spec::{SandboxKind, SandboxSpec};
use crate::state::Lasting;
use crate::swarm::{SwarmEndpoint, SwarmNetworkState, SwarmState};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn network() -> NetworkId {
    "networknetworknetworknetw".parse().unwrap()
}

fn node(n: u8) -> NodeId {
    format!("{n:025}").parse().unwrap()
}

fn task(n: u8) -> TaskId {
    format!("t{n:024}").parse().unwrap()
}

/// Node 1 in a swarm that told nothing of the network yet.
fn state(managed: bool) -> State {
    let swarm = SwarmState {
        node_id: node(1),
        advertise: ip("192.0.2.1"),
        data_path: ip("192.0.2.1"),
        data_path_port: 4789,
        gossip_keys: Vec::new(),
        encryption_keys: Vec::new(),
        gossip_join: Vec::new(),
        members: Vec::new(),
        managed,
        networks: BTreeMap::new(),
        ingress: None,
    };
    State {
        lasting: Arc::new(Lasting { unique_local: "fd00::/48".parse().unwrap(), networks: BTreeMap::new() }),
        sandboxes: Arc::default(),
        swarm: Some(Arc::new(swarm)),
        serving: Arc::default(),
    }
}

fn own(id: &str) -> SwarmService {
    SwarmService {
        id: id.to_owned(),
        name: "web".to_owned(),
        virtual_ip: Some(ip("10.0.1.2")),
        further_virtual_ips: vec![ip("fd00:1::2")],
        aliases: vec!["www".to_owned()],
        stack: Some("shop".to_owned()),
        ports: Vec::new(),
    }
}

/// A task of `service` here, with address 10.0.1.n.
fn add_local(state: &mut State, service: &str, n: u8, serves: bool) {
    let address: EndpointAddress = format!("10.0.1.{n}/24").parse().unwrap();
    let container = ContainerId::random(&mut rand::rng());
    let endpoint = Endpoint {
        id: EndpointId::random(&mut rand::rng()),
        network: network(),
        address: Some(address),
        address6: None,
        mac: MacAddr::from_ip(address.ip()),
        interface: "eth0".parse::<LinkName>().unwrap(),
        aliases: Vec::new(),
        links: Vec::new(),
        driver_opts: BTreeMap::new(),
        priority: 0,
        attachment: Some(task(n)),
        service: Some(own(service)),
        automatic: false,
        claim: String::new(),
    };
    let spec = SandboxSpec {
        container: container.clone(),
        name: format!("web.{n}"),
        kind: SandboxKind::Own,
        hostname: String::new(),
        domainname: String::new(),
        dns: Vec::new(),
        dns_search: Vec::new(),
        dns_options: Vec::new(),
        extra_hosts: Vec::new(),
        ports: Vec::new(),
    };
    let sandbox = Sandbox {
        id: format!("{n:064}"),
        spec,
        endpoints: vec![endpoint],
        ports: Vec::new(),
        resolver: None,
    };
    state.sandboxes_mut().insert(container, sandbox);
    if serves {
        Arc::make_mut(&mut state.serving).insert(task(n));
    }
}

fn told(id: &str, name: &str) -> SwarmServiceState {
    SwarmServiceState {
        id: id.to_owned(),
        name: name.to_owned(),
        aliases: Vec::new(),
        stack: None,
        virtual_ips: vec![ip("10.0.1.2")],
        ports: Vec::new(),
        source: SourceMode::Snat,
    }
}

fn remote(service: Option<&str>, n: u8, healthy: bool) -> SwarmEndpoint {
    let address = ip(&format!("10.0.1.{n}"));
    SwarmEndpoint {
        id: format!("e{n}"),
        node_id: node(2),
        vtep: ip("192.0.2.2"),
        addresses: vec![address],
        mac: MacAddr::from_ip(address),
        name: format!("web.{n}"),
        aliases: Vec::new(),
        service: service.map(str::to_owned),
        healthy,
    }
}

fn tell(state: &mut State, services: Vec<SwarmServiceState>, endpoints: Vec<SwarmEndpoint>) {
    let services = services.into_iter().map(|service| (service.id.clone(), service)).collect();
    let told = SwarmNetworkState { services, endpoints, ..SwarmNetworkState::default() };
    let mut swarm = SwarmState::clone(state.swarm().unwrap());
    swarm.networks.insert(network(), told);
    state.swarm = Some(Arc::new(swarm));
}

fn gossip(service: &str, n: u8, ready: bool) -> PeerTask {
    PeerTask {
        service_id: service.to_owned(),
        service_name: "web".to_owned(),
        aliases: Vec::new(),
        virtual_ip: Some(ip("10.0.1.2")),
        ports: Vec::new(),
        name: format!("web.{n}"),
        ip: ip(&format!("10.0.1.{n}")),
        vtep: ip("192.0.2.3"),
        ready,
        is_weft: false,
    }
}

fn known(state: &State, tasks: Vec<PeerTask>) -> Vec<KnownService> {
    let peers = NetworkPeers { tasks, ..NetworkPeers::default() };
    known_services(state, Some(&peers), &network())
}

/// Last byte of each task's address, with `!` for those that take no traffic and `*` for those of this node.
fn backends(service: &KnownService) -> Vec<String> {
    let word = |backend: &KnownBackend| {
        let last = backend.ips[0].to_string().rsplit('.').next().unwrap().to_owned();
        let ready = if backend.ready { "" } else { "!" };
        format!("{last}{ready}{}", if backend.local { "*" } else { "" })
    };
    service.backends.iter().map(word).collect()
}

#[test]
fn all_sources_make_one_service_by_the_managers_word() {
    let mut state = state(true);
    tell(&mut state, vec![told("s", "web")], vec![remote(Some("s"), 5, true), remote(Some("s"), 6, false)]);
    add_local(&mut state, "s", 3, true);
    add_local(&mut state, "s", 4, false);
    let known = known(&state, vec![gossip("s", 8, true), gossip("s", 9, false)]);
    let [service] = known.as_slice() else { panic!("{known:?}") };
    assert_eq!(backends(service), ["3*", "4!*", "5", "6!", "8", "9!"]);
    // Not the task's older word.
    assert_eq!((service.stack.as_deref(), service.source), (None, SourceMode::Snat));
    let of = |n: usize| (service.backends[n].vtep, service.backends[n].is_weft);
    assert_eq!(
        [of(0), of(2), of(4)],
        [(ip("192.0.2.1"), true), (ip("192.0.2.2"), true), (ip("192.0.2.3"), false)]
    );
}

#[test]
fn plain_containers_and_this_nodes_own_reports_are_no_tasks_of_others() {
    let mut state = state(true);
    let echo = SwarmEndpoint { node_id: node(1), ..remote(Some("s"), 7, true) };
    let strange = remote(Some("gone"), 8, true);
    tell(&mut state, vec![told("s", "web")], vec![remote(None, 5, true), echo, strange]);
    let known = known(&state, Vec::new());
    assert_eq!((known.len(), known[0].backends.len()), (1, 0));
}

#[test]
fn gossip_makes_no_services_where_managers_speak_and_all_where_they_do_not() {
    let mut silent = state(true);
    tell(&mut silent, Vec::new(), Vec::new());
    assert!(known(&silent, vec![gossip("s", 8, true)]).is_empty());

    let mut state = state(false);
    add_local(&mut state, "s", 3, true);
    let known = known(&state, vec![gossip("s", 8, true), gossip("r", 9, true)]);
    assert_eq!(known.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["r", "s"]);
    assert_eq!(backends(&known[1]), ["3*", "8"]);
    assert_eq!((known[1].name.as_str(), known[1].stack.as_deref()), ("web", Some("shop")));
}

#[test]
fn one_address_is_one_backend_and_the_nearer_word_counts() {
    let mut state = state(true);
    tell(&mut state, vec![told("s", "web")], vec![remote(Some("s"), 5, false)]);
    add_local(&mut state, "s", 3, true);
    let known = known(&state, vec![gossip("s", 5, true), gossip("s", 3, false)]);
    assert_eq!(backends(&known[0]), ["3*", "5!"]);
}

#[test]
fn a_service_without_tasks_is_known_and_one_told_by_its_task_only_too() {
    let mut state = state(true);
    tell(&mut state, vec![told("s", "web")], Vec::new());
    add_local(&mut state, "new", 3, true);
    let known = known(&state, Vec::new());
    let ids: BTreeSet<&str> = known.iter().map(|service| service.id.as_str()).collect();
    assert_eq!(ids, BTreeSet::from(["new", "s"]));
    assert!(known.iter().find(|service| service.id == "s").unwrap().backends.is_empty());
}

#[test]
fn names_stand_for_the_families_that_tasks_have() {
    let both = [ip("10.0.1.2"), ip("fd00:1::2")];
    let mut state = state(true);
    let told = SwarmServiceState { virtual_ips: both.to_vec(), ..told("s", "web") };
    let six =
        SwarmEndpoint { addresses: vec![ip("10.0.1.5"), ip("fd00:1::5")], ..remote(Some("s"), 5, true) };
    tell(&mut state, vec![told.clone()], Vec::new());
    assert_eq!(known(&state, Vec::new())[0].named_virtual_ips(), both, "without a task");
    // A task on one of Docker's nodes.
    assert_eq!(known(&state, vec![gossip("s", 8, true)])[0].named_virtual_ips(), both[..1]);
    tell(&mut state, vec![told.clone()], vec![six.clone()]);
    let mixed = known(&state, vec![gossip("s", 8, true)]);
    assert_eq!((mixed[0].named_virtual_ips(), mixed[0].backends.len()), (both.to_vec(), 2));
    tell(&mut state, vec![told], vec![SwarmEndpoint { healthy: false, ..six }]);
    assert_eq!(known(&state, vec![gossip("s", 8, true)])[0].named_virtual_ips(), both[..1]);
    // Before the managers' word.
    let mut early = self::state(false);
    add_local(&mut early, "s", 3, true);
    assert_eq!(known(&early, Vec::new())[0].virtual_ips, both);
}
