//! Overlay networks between two hosts, by the managers' word and by gossip. Needs root.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{
    Host, ask, at, container, dns, dns_result, eventually, helper_launch, overlay, sandbox, serve, shell,
};
use weft_kernel::Netns;
use weft_network::{
    AttachRefused, Controller, EndpointSpec, EndpointView, IpamConfig, NetworkSpec, OverlaySpec,
    SwarmAttachment, SwarmEndpoint, SwarmKey, SwarmMember, SwarmNetworkState, SwarmNetworks, SwarmState,
};
use weft_types::{ContainerId, EndpointAddress, Mtu, NodeId, TaskId};

const NETWORK: &str = "ov1ov1ov1ov1ov1ov1ov1ov11";
const NOT_ATTACHABLE: &str = "rpc error: code = PermissionDenied desc = network {} not manually attachable";

#[test]
#[ignore = "not a test: the helper process of the other tests"]
fn helper_entry() {
    common::helper_entry();
}

/// Managers that give out addresses.
struct Managers {
    next: Mutex<u8>,
    detached: Mutex<Vec<TaskId>>,
    encrypted: bool,
}

fn spec(encrypted: bool) -> OverlaySpec {
    let subnets = [("10.0.1.0/24", "10.0.1.1"), ("fd00:1::/64", "fd00:1::1")];
    OverlaySpec { encrypted, ..overlay(NETWORK, &subnets) }
}

#[async_trait::async_trait]
impl SwarmNetworks for Managers {
    async fn attach(
        &self,
        term: &str,
        _container: &ContainerId,
        _addresses: Vec<IpAddr>,
    ) -> Result<SwarmAttachment, AttachRefused> {
        if matches!(term, "o" | "ov4") {
            return Err(AttachRefused::Other(NOT_ATTACHABLE.replace("{}", term)));
        }
        if term != "ov1" && term != NETWORK {
            return Err(AttachRefused::NoSuchNetwork(format!(
                "rpc error: code = NotFound desc = network {term} not found"
            )));
        }
        let mut next = self.next.lock().unwrap();
        *next += 1;
        let addresses = [format!("10.0.1.{next}/24"), format!("fd00:1::{:x}/64", *next)];
        Ok(SwarmAttachment {
            attachment: TaskId::random(&mut rand::rng()),
            network: spec(self.encrypted),
            addresses: addresses.iter().map(|a| a.parse::<EndpointAddress>().unwrap()).collect(),
            service: None,
        })
    }

    async fn detach(&self, attachment: &TaskId) -> Result<(), AttachRefused> {
        self.detached.lock().unwrap().push(attachment.clone());
        Ok(())
    }
}

struct Pair {
    hosts: [Host; 2],
    controllers: [Arc<Controller>; 2],
    managers: Arc<Managers>,
    nodes: [NodeId; 2],
    /// Lamport time of the oldest key.
    keys: u64,
}

fn underlay(n: usize) -> IpAddr {
    [192, 0, 2, 1 + n as u8].into()
}

impl Pair {
    async fn new() -> Self {
        Self::with(false).await
    }

    /// On an encrypted network.
    async fn encrypted() -> Self {
        let mut pair = Self::with(false).await;
        pair.managers =
            Arc::new(Managers { next: Mutex::new(1), detached: Mutex::default(), encrypted: true });
        for controller in &pair.controllers {
            controller.set_swarm(Some(pair.managers.clone()));
        }
        pair
    }

    /// With controllers that listen to the kernel, or not.
    async fn with(watch_kernel: bool) -> Self {
        let spaces = [Netns::anonymous().unwrap(), Netns::anonymous().unwrap()];
        let near = spaces[0].path().display().to_string();
        let far = spaces[1].path().display().to_string();
        // Both ends are made from inside the first host; the second end is moved by its descriptor.
        let out = shell(
            &spaces[0],
            &format!("ip link add u0 type veth peer name u0 netns {far} 2>&1 || echo {near}"),
        );
        assert!(out.is_empty(), "{out}");
        for (n, netns) in spaces.iter().enumerate() {
            let out = shell(netns, &format!("ip addr add {}/24 dev u0; ip link set u0 up", underlay(n)));
            assert!(out.is_empty(), "{out}");
        }
        let mut hosts = spaces.map(|netns| {
            let mut host = Host::in_namespace(netns);
            host.config.helper = Some(helper_launch());
            host.config.watch_kernel = watch_kernel;
            host
        });
        (hosts[0].config.encryption_queues, hosts[1].config.encryption_queues) = (4, 1);
        let controllers = [hosts[0].controller().await, hosts[1].controller().await];
        let managers =
            Arc::new(Managers { next: Mutex::new(1), detached: Mutex::default(), encrypted: false });
        for controller in &controllers {
            controller.set_swarm(Some(managers.clone()));
        }
        let nodes = [0, 1].map(|_| NodeId::random(&mut rand::rng()));
        Self { hosts, controllers, managers, nodes, keys: 1 }
    }

    fn state(&self, n: usize) -> SwarmState {
        let member = |n: usize| SwarmMember {
            node_id: self.nodes[n].clone(),
            data_path: underlay(n),
            is_weft: true,
            gossip_name: None,
        };
        SwarmState {
            node_id: self.nodes[n].clone(),
            advertise: underlay(n),
            data_path: underlay(n),
            data_path_port: 4789,
            gossip_keys: Vec::new(),
            encryption_keys: (self.keys..self.keys + 3)
                .map(|time| SwarmKey { lamport_time: time, key: vec![time as u8; 16] })
                .collect(),
            gossip_join: Vec::new(),
            members: vec![member(0), member(1)],
            managed: true,
            networks: BTreeMap::new(),
            ingress: None,
        }
    }

    /// The managers tell each node of the other's endpoints.
    async fn tell(&self, mtu: Option<u32>) {
        for n in [0, 1] {
            let theirs = self.controllers[1 - n].local_endpoints().borrow().clone();
            let endpoints = theirs.iter().map(|endpoint| SwarmEndpoint {
                id: endpoint.id.to_string(),
                node_id: self.nodes[1 - n].clone(),
                vtep: underlay(1 - n),
                addresses: endpoint.address.iter().chain(&endpoint.address6).map(|a| a.ip()).collect(),
                mac: endpoint.mac,
                name: endpoint.name.clone(),
                aliases: endpoint.aliases.clone(),
                service: None,
                healthy: true,
            });
            let network = SwarmNetworkState {
                mtu: mtu.map(|mtu| Mtu::try_from(mtu).unwrap()),
                endpoints: endpoints.collect(),
                ..SwarmNetworkState::default()
            };
            let mut state = self.state(n);
            state.networks.insert(NETWORK.parse().unwrap(), network);
            self.controllers[n].set_swarm_state(Some(state)).await.unwrap();
        }
    }

    /// The managers are Docker's, and say nothing of endpoints and nodes.
    async fn tell_by_gossip(&self) {
        for n in [0, 1] {
            let state = SwarmState {
                gossip_keys: [1, 2, 3].map(|n| SwarmKey { lamport_time: n, key: vec![n as u8; 16] }).to_vec(),
                gossip_join: vec![at(underlay(0), 7946)],
                members: Vec::new(),
                managed: false,
                ..self.state(n)
            };
            self.controllers[n].set_swarm_state(Some(state)).await.unwrap();
        }
    }

    async fn run(&self, n: usize, name: &str) -> (ContainerId, Netns, EndpointView) {
        let id = container();
        let made = self.controllers[n].create_sandbox(sandbox(&id, name)).await.unwrap();
        let joined = self.controllers[n].connect(&id, "ov1", EndpointSpec::default()).await.unwrap();
        (id, Netns::open(made.netns.unwrap()).unwrap(), joined)
    }

    async fn end(self) {
        for controller in &self.controllers {
            controller.shutdown(false).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_of_two_hosts_talk() {
    let pair = Pair::new().await;
    pair.tell(None).await;
    assert!(pair.hosts[0].shell("nft list tables").contains("weft-vxlan"));
    let (a, in_a, at_a) = pair.run(0, "a").await;
    let (b, in_b, at_b) = pair.run(1, "b").await;
    assert_eq!((at_a.interface.as_str(), at_a.gateway), ("eth0", None));
    assert_eq!(at_a.mac.to_string(), "02:42:0a:00:01:02");
    pair.tell(None).await;

    serve(&in_b, at(at_b.address.unwrap().ip(), 80), "b");
    serve(&in_b, at(at_b.address6.unwrap().ip(), 80), "b6");
    assert_eq!(ask(&in_a, at(at_b.address.unwrap().ip(), 80)).unwrap(), "b 10.0.1.2");
    assert_eq!(ask(&in_a, at(at_b.address6.unwrap().ip(), 80)).unwrap(), "b6 fd00:1::2");
    let found = dns_result(&dns(&in_a, "127.0.0.11:53", "b", 1).unwrap(), "b");
    assert_eq!(found.1[0].to_string(), "10.0.1.3");
    // The way out is docker_gwbridge's.
    let routes = shell(&in_a, "ip route; ip -o link");
    assert!(routes.contains("default via 172.18.0.1 dev eth1"), "{routes}");
    assert!(routes.contains("eth0@") && routes.contains("mtu 1450"), "{routes}");
    let gateway = pair.controllers[0].find("docker_gwbridge").unwrap();
    let views = pair.controllers[0].endpoints_of(&gateway.id);
    assert!(views.len() == 1 && views[0].name.starts_with("gateway_"), "{views:?}");
    assert_eq!(pair.controllers[0].endpoints(&a).len(), 1);

    // A smaller path: running interfaces follow.
    pair.tell(Some(1400)).await;
    for netns in [&in_a, &in_b] {
        assert!(shell(netns, "ip -o link show eth0").contains("mtu 1350"));
    }
    assert_eq!(ask(&in_a, at(at_b.address.unwrap().ip(), 80)).unwrap(), "b 10.0.1.2");

    // Poisoned and deleted entries come back.
    let overlay =
        Netns::open(pair.hosts[0].dir.path().join("run/netns").join(format!("1-{}", &NETWORK[..10])))
            .unwrap();
    shell(&overlay, "ip neigh flush all nud permanent; bridge fdb del 02:42:0a:00:01:03 dev vxlan0 self");
    assert!(ask(&in_a, at(at_b.address.unwrap().ip(), 80)).is_err());
    assert!(pair.controllers[0].audit().await.unwrap() >= 2);
    assert_eq!(ask(&in_a, at(at_b.address.unwrap().ip(), 80)).unwrap(), "b 10.0.1.2");
    let repairs = pair.controllers[0].audit_counters().repairs;
    assert!(repairs["fdb"] >= 1 && repairs["neighbour"] >= 1, "{repairs:?}");

    // The last endpoint takes the devices with it, the attachment goes back.
    pair.controllers[0].remove_sandbox(&a).await.unwrap();
    assert!(!overlay.path().exists());
    assert_eq!(*pair.managers.detached.lock().unwrap(), [at_a.attachment.unwrap()]);
    pair.controllers[1].disconnect(&b, "ov1").await.unwrap();
    assert!(!shell(&in_b, "ip -o link").contains("eth"), "the way out goes too");
    pair.end().await;
}

/// What a namespace holds, in an order of its own.
fn contents(netns: &Netns) -> Vec<String> {
    let all = "ip -o addr; ip -o link; ip route; ip -6 route; ip rule; bridge fdb show; ip neigh show nud permanent; nft \
               list ruleset";
    let text = shell(netns, all);
    // Link-local addresses are tried out for a while.
    let mut lines: Vec<String> =
        text.lines().filter(|line| !line.contains("fe80:")).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_and_poisoned_entries_are_back_within_a_second() {
    let pair = Pair::with(true).await;
    pair.tell(None).await;
    let (_, in_a, _) = pair.run(0, "a").await;
    pair.run(1, "b").await;
    pair.tell(None).await;
    let path = pair.hosts[0].dir.path().join("run/netns").join(format!("1-{}", &NETWORK[..10]));
    let overlay = Netns::open(path).unwrap();
    let host = pair.hosts[0].netns.clone();
    let other = "02:42:0a:00:01:03";
    let damages = [
        ("fdb", &overlay, format!("bridge fdb del {other} dev vxlan0 self")),
        ("fdb", &overlay, format!("bridge fdb replace {other} dev vxlan0 dst 192.0.2.77 self permanent")),
        ("neighbour", &overlay, "ip neigh flush all nud permanent".to_owned()),
        (
            "neighbour",
            &overlay,
            "ip neigh replace 10.0.1.3 lladdr 02:00:00:00:00:09 dev br0 nud permanent".to_owned(),
        ),
        ("route", &in_a, "ip route del default".to_owned()),
        ("address", &in_a, "ip addr del 10.0.1.2/24 dev eth0".to_owned()),
        ("nftables", &in_a, "nft flush ruleset".to_owned()),
        ("nftables", &host, "nft flush ruleset".to_owned()),
        ("link", &in_a, "ip link set eth0 mtu 1280".to_owned()),
        ("link", &overlay, "ip link set vxlan0 down".to_owned()),
    ];
    let controller = &pair.controllers[0];
    let mut took = Vec::new();
    for (kind, netns, damage) in damages {
        let whole = contents(netns);
        let repairs = || controller.audit_counters().repairs.get(kind).copied().unwrap_or_default();
        let before = repairs();
        let said = shell(netns, &damage);
        assert!(said.is_empty(), "{damage}: {said}");
        let damaged = std::time::Instant::now();
        eventually(&damage, || repairs() > before && contents(netns) == whole).await;
        took.push((damaged.elapsed(), damage));
    }
    took.sort();
    println!("{took:#?}");
    // Each in a second; the machine may do other things for one of them.
    assert!(took[took.len() - 2].0 < Duration::from_secs(1), "{took:?}");
    // Each damage is looked at, and the repair; nothing goes on and on.
    assert!(controller.audit_counters().looks < 60, "{:?}", controller.audit_counters());
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_the_managers_are_passed_on() {
    let pair = Pair::new().await;
    pair.tell(None).await;
    let id = container();
    pair.controllers[0].create_sandbox(sandbox(&id, "a")).await.unwrap();
    let refused = pair.controllers[0].connect(&id, "ov4", EndpointSpec::default()).await.unwrap_err();
    let words = NOT_ATTACHABLE.replace("{}", "ov4");
    assert_eq!(refused.to_string(), format!("Could not attach to network ov4: {words}"));
    let unknown = pair.controllers[0].connect(&id, "ov5", EndpointSpec::default()).await.unwrap_err();
    assert!(unknown.to_string().ends_with("code = NotFound desc = network ov5 not found"), "{unknown}");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_in_the_swarm_comes_before_the_beginning_of_an_id_here() {
    let pair = Pair::new().await;
    pair.tell(None).await;
    let controller = &pair.controllers[0];
    pair.run(0, "a").await;
    let (id, spec) = (container(), EndpointSpec::default());
    controller.create_sandbox(sandbox(&id, "b")).await.unwrap();
    // "o" begins the id of the network that is here; in the swarm it is the name of another.
    let refused = controller.connect(&id, "o", spec.clone()).await.unwrap_err().to_string();
    assert!(refused.ends_with(&NOT_ATTACHABLE.replace("{}", "o")), "{refused}");
    // What names nothing in the swarm is the beginning of an id.
    let joined = controller.connect(&id, &NETWORK[..8], spec.clone()).await.unwrap();
    assert_eq!(joined.network_id.as_str(), NETWORK);
    assert!(controller.connect(&id, &NETWORK[..8], spec).await.unwrap_err().to_string().contains("already"));
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_alone_is_enough_and_survives_its_sources() {
    let pair = Pair::new().await;
    pair.tell_by_gossip().await;
    let (_, in_a, _) = pair.run(0, "a").await;
    let (b, in_b, at_b) = pair.run(1, "b").await;
    serve(&in_b, at(at_b.address.unwrap().ip(), 80), "b");
    eventually("the endpoint is told by gossip", || {
        ask(&in_a, at(at_b.address.unwrap().ip(), 80)).is_ok_and(|text| text == "b 10.0.1.2")
    })
    .await;
    let named = |netns: &Netns| {
        dns(netns, "127.0.0.11:53", "b", 1).is_ok_and(|answer| !dns_result(&answer, "b").1.is_empty())
    };
    eventually("its name too", || named(&in_a)).await;

    // The helper dies: its successor comes back under the same name, and nothing was taken away meanwhile.
    let pid = common::helper_pid(&pair.hosts[1]).unwrap();
    tokio::time::timeout(Duration::from_secs(10), async {
        while !pair.hosts[1].dir.path().join("run/helper/gossip.json").exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    common::kill(pid);
    eventually("a new helper", || common::helper_pid(&pair.hosts[1]).is_some_and(|new| new != pid)).await;
    assert_eq!(ask(&in_a, at(at_b.address.unwrap().ip(), 80)).unwrap(), "b 10.0.1.2");

    // A deletion by the owner acts at once.
    pair.controllers[1].remove_sandbox(&b).await.unwrap();
    eventually("the name is gone", || !named(&in_a)).await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_cannot_inject() {
    let pair = Pair::new().await;
    pair.tell(None).await;
    let (_, in_a, at_a) = pair.run(0, "a").await;
    pair.tell(None).await;
    // A tunnel of a node that is no member: the second host under another address.
    let out = shell(
        &pair.hosts[1].netns,
        "ip addr add 192.0.2.66/24 dev u0; \
         ip link add vx type vxlan id 4097 local 192.0.2.66 remote 192.0.2.1 dstport 4789 && \
         ip addr add 10.0.1.99/24 dev vx && ip link set vx up && \
         ip neigh add 10.0.1.2 lladdr 02:42:0a:00:01:02 dev vx; \
         ping -c 2 -i 0.2 -W 1 10.0.1.2",
    );
    assert!(out.contains("100% packet loss"), "{out}");
    let dropped = pair.hosts[0].shell("nft list counters");
    assert!(!dropped.contains("stranger {\n\t\tpackets 0"), "{dropped}");
    drop((in_a, at_a));
    pair.end().await;
}

#[test]
fn the_overlay_survives_the_daemon_and_its_restart() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let first = runtime();
    let (pair, a, in_a, far, in_b) = first.block_on(async {
        let pair = Pair::new().await;
        pair.tell(None).await;
        let (a, in_a, _) = pair.run(0, "a").await;
        let (_, in_b, at_b) = pair.run(1, "b").await;
        pair.tell(None).await;
        (pair, a, in_a, at(at_b.address.unwrap().ip(), 80), in_b)
    });
    serve(&in_b, far, "b");
    assert_eq!(ask(&in_a, far).unwrap(), "b 10.0.1.2");
    // Both daemons are gone from one moment to the next; without managers the last word stands.
    first.shutdown_background();
    assert_eq!(ask(&in_a, far).unwrap(), "b 10.0.1.2");
    let second = runtime();
    second.block_on(async {
        let before = shell(&in_a, "ip -o link show eth0; ip -o addr show eth0");
        let controller = pair.hosts[0].controller().await;
        controller.adopt(std::slice::from_ref(&a)).await.unwrap();
        assert_eq!(shell(&in_a, "ip -o link show eth0; ip -o addr show eth0"), before);
        assert_eq!(controller.audit().await.unwrap(), 0);
        assert_eq!(ask(&in_a, far).unwrap(), "b 10.0.1.2");
        assert_eq!(controller.local_endpoints().borrow().len(), 1);
        let found = dns_result(&dns(&in_a, "127.0.0.11:53", "b", 1).unwrap(), "b");
        assert_eq!(found.1[0].to_string(), "10.0.1.3");
        // Leaving the swarm takes the guard away.
        controller.remove_sandbox(&a).await.unwrap();
        controller.set_swarm_state(None).await.unwrap();
        assert!(!pair.hosts[0].shell("nft list tables").contains("vxlan"));
        controller.shutdown(false).await;
        let other = pair.hosts[1].controller().await;
        other.adopt(&[]).await.unwrap();
        other.shutdown(false).await;
    });
}

/// Row D6: the user's bridge takes the place of the one that an earlier swarm left behind, and stays the user's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_users_gateway_bridge_is_used() {
    let pair = Pair::new().await;
    let controller = &pair.controllers[0];
    let spec = || {
        let mut spec = NetworkSpec::bridge("docker_gwbridge");
        spec.ipam = vec![IpamConfig { subnet: Some("10.11.0.0/16".into()), ..IpamConfig::default() }];
        spec.options = [
            ("com.docker.network.bridge.name", "docker_gwbridge"),
            ("com.docker.network.bridge.enable_icc", "true"),
            ("com.docker.network.bridge.enable_ip_masquerade", "false"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        spec
    };
    controller.set_swarm_state(Some(pair.state(0))).await.unwrap();
    let automatic = controller.find("docker_gwbridge").unwrap();
    let refused = controller.create_network(spec()).await.unwrap_err();
    assert_eq!(refused.to_string(), "network with name docker_gwbridge already exists");
    controller.set_swarm_state(None).await.unwrap();
    assert_eq!(controller.find("docker_gwbridge").unwrap().id, automatic.id);

    let made = controller.create_network(spec()).await.unwrap();
    assert!(made.id != automatic.id);
    assert!(controller.create_network(spec()).await.is_err(), "the user's own does not give way");
    let addresses = pair.hosts[0].shell("ip -o -4 addr show docker_gwbridge");
    assert!(addresses.contains("10.11.0.1/16") && addresses.lines().count() == 1, "{addresses}");
    for _ in 0..2 {
        pair.tell(None).await;
        let (a, in_a, _) = pair.run(0, "a").await;
        let routes = shell(&in_a, "ip route");
        assert!(routes.contains("default via 10.11.0.1 dev eth1"), "{routes}");
        assert_eq!(controller.find("docker_gwbridge").unwrap().id, made.id);
        controller.remove_sandbox(&a).await.unwrap();
        controller.set_swarm_state(None).await.unwrap();
    }
    pair.end().await;
}

/// Rows E1 and E2 without daemons: the whole life of an encrypted network, and what is on the wire meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_network_talks_and_never_in_the_clear() {
    let mut pair = Pair::encrypted().await;
    let wire = Recording::start(&pair.hosts[0].netns, pair.hosts[0].dir.path().join("wire.pcap")).await;
    pair.tell(None).await;
    let (_, in_a, at_a) = pair.run(0, "a").await;
    // Alone on the network.
    shell(&in_a, "ping -c 1 -W 1 -p a7 10.0.1.77");
    let (_, in_b, at_b) = pair.run(1, "b").await;
    pair.tell(None).await;
    let far = at(at_b.address.unwrap().ip(), 80);
    serve(&in_b, far, SECRET);
    let expected = format!("{SECRET} 10.0.1.2");
    eventually("the containers talk", || ask(&in_a, far).is_ok_and(|text| text == expected)).await;
    let link = shell(&in_a, "ip -d -o link show eth0");
    assert!(link.contains("mtu 1408") && link.contains("gso_max_segs 44"), "{link}");
    let full = shell(&in_a, "ping -c 2 -i 0.2 -W 2 -s 1380 -M do -p a7 10.0.1.3");
    assert!(full.contains(" 0% packet loss"), "{full}");
    let six = shell(&in_a, "ping -c 2 -i 0.2 -W 2 -p a7 fd00:1::3");
    assert!(six.contains(" 0% packet loss"), "{six}");

    // Each from another port, so by another queue.
    for _ in 0..24 {
        assert_eq!(ask(&in_a, far).unwrap(), expected);
    }

    // Bulk, so that the kernel hands out large frames; keys rotate meanwhile, on one node before the other.
    let _server = serve_bytes(&in_b, at(far.ip(), 81));
    let (client, server) = (in_a.clone(), at(far.ip(), 81));
    let bulk = std::thread::spawn(move || fetch(&client, server));
    while !bulk.is_finished() {
        pair.keys += 1;
        pair.tell(None).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(bulk.join().unwrap(), BULK, "bytes that came whole");
    for _ in 0..4 {
        pair.keys += 1;
        pair.tell(None).await;
        let through = shell(&in_a, "ping -c 20 -i 0.05 -W 2 -p a7 10.0.1.3");
        assert!(through.contains(" 0% packet loss"), "keys rotate: {through}");
    }

    // All rules are flushed: nothing changes.
    for host in &pair.hosts {
        host.shell("nft flush ruleset");
    }
    assert_eq!(ask(&in_a, far).unwrap(), expected);
    // A helper dies: its successor has no keys and gets some.
    let pid = common::helper_pid(&pair.hosts[1]).unwrap();
    common::kill(pid);
    eventually("a new helper", || common::helper_pid(&pair.hosts[1]).is_some_and(|new| new != pid)).await;
    eventually("new keys", || ask(&in_a, far).is_ok_and(|text| text == expected)).await;

    let seen = wire.bytes().await;
    let contains = |words: &[u8]| {
        seen.iter().enumerate().any(|(at, byte)| *byte == words[0] && seen[at..].starts_with(words))
    };
    assert!(!contains(SECRET.as_bytes()) && !contains(&[0xa7; 16]), "readable on the wire");
    let packets = datagrams(&seen);
    assert!(packets.iter().all(|(port, _)| *port == 4500), "only ESP in UDP between the hosts");
    assert!(packets.len() > 100, "{}", packets.len());
    injected(&pair, &in_a, at_a.address.unwrap().ip()).await;
    assert_eq!(ask(&in_a, far).unwrap(), expected);
    pair.end().await;
}

/// Cleartext, replays and altered packets reach no container and are counted.
async fn injected(pair: &Pair, in_a: &Netns, a: IpAddr) {
    for host in &pair.controllers {
        host.audit().await.unwrap();
    }
    let came = || shell(in_a, "grep ^Icmp: /proc/net/snmp | tail -1 | cut -d' ' -f2");
    let before = came();
    // Past this host's own rules, which would drop it here.
    let out = pair.hosts[1].shell(&format!(
        "ip link add vx type vxlan id 4097 local 192.0.2.2 remote 192.0.2.1 dstport 4789 && \
         ip addr add 10.0.1.99/24 dev vx && ip link set vx up && ip neigh add {a} lladdr 02:42:0a:00:01:02 dev vx; \
         ping -c 2 -i 0.2 -W 1 {a}; nft delete table inet weft-vxlan; ping -c 2 -i 0.2 -W 1 {a}; ip link del vx"
    ));
    assert!(out.matches("100% packet loss").count() == 2, "{out}");
    let counters = pair.hosts[0].shell("nft list counters");
    assert!(counters.contains("cleartext") && !counters.contains("cleartext {\n\t\tpackets 0"), "{counters}");

    assert_eq!(came(), before, "cleartext reached the container");
    // Fresh ones: old keys are forgotten soon.
    let wire = Recording::start(&pair.hosts[0].netns, pair.hosts[0].dir.path().join("fresh.pcap")).await;
    assert!(shell(in_a, "ping -c 3 -i 0.2 -W 2 10.0.1.3").contains(" 0% packet loss"));
    let packets = datagrams(&wire.bytes().await);
    let before = came();
    let socket = pair.hosts[1].netns.run_in(|| std::net::UdpSocket::bind("192.0.2.2:0").unwrap()).unwrap();
    for (_, packet) in packets.iter().rev().filter(|(_, packet)| packet.len() > 60).take(20) {
        let mut flipped = packet.clone();
        // Another sequence number, so that it is not taken for a replay.
        (flipped[5], flipped[40]) = (flipped[5] ^ 0x40, flipped[40] ^ 1);
        let mut foreign = packet.clone();
        foreign[0] ^= 0xff;
        for datagram in [&packet[..], &flipped, &foreign, &packet[..20], &[0; 3]] {
            socket.send_to(datagram, "192.0.2.1:4500").unwrap();
        }
    }
    let log = || std::fs::read_to_string(pair.hosts[0].dir.path().join("run/helper/log")).unwrap_or_default();
    for kind in ["replayed", "not_authentic", "unknown_spi", "malformed"] {
        eventually(kind, || log().contains(&format!("(\"{kind}\", "))).await;
    }
    assert_eq!(came(), before, "something forged reached the container");
}

/// As in a swarm of Docker's managers: keys by its scheme, ESP alone on the wire.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dockers_scheme_carries_an_encrypted_network() {
    let mut pair = Pair::encrypted().await;
    let wire = Recording::start(&pair.hosts[0].netns, pair.hosts[0].dir.path().join("wire.pcap")).await;
    pair.tell_by_gossip().await;
    let (_, in_a, _) = pair.run(0, "a").await;
    let (_, in_b, at_b) = pair.run(1, "b").await;
    let far = at(at_b.address.unwrap().ip(), 80);
    serve(&in_b, far, SECRET);
    eventually("the containers talk", || ask(&in_a, far).is_ok_and(|text| text.starts_with(SECRET))).await;
    assert!(shell(&in_a, "ip -o link show eth0").contains("mtu 1424"));
    let full = shell(&in_a, "ping -c 2 -i 0.2 -W 2 -s 1396 -M do -p a7 10.0.1.3");
    assert!(full.contains(" 0% packet loss"), "{full}");

    let _server = serve_bytes(&in_b, at(far.ip(), 81));
    assert_eq!(fetch(&in_a, at(far.ip(), 81)), BULK, "bytes that came whole");
    for _ in 0..4 {
        pair.keys += 1;
        pair.tell_by_gossip().await;
        let through = shell(&in_a, "ping -c 20 -i 0.05 -W 2 -p a7 10.0.1.3");
        assert!(through.contains(" 0% packet loss"), "keys rotate: {through}");
    }
    let seen = wire.bytes().await;
    let contains = |words: &[u8]| seen.windows(words.len()).any(|window| window == words);
    assert!(!contains(SECRET.as_bytes()) && !contains(&[0xa7; 16]), "readable on the wire");
    let ports: BTreeSet<u16> = datagrams(&seen).iter().map(|(port, _)| *port).collect();
    assert!(
        !ports.contains(&4789) && !ports.contains(&4500),
        "only ESP and gossip between the hosts: {ports:?}"
    );
    pair.end().await;
}

/// Row E3: a node that does not encrypt says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_encrypt_refuses() {
    let pair = Pair::encrypted().await;
    let mut alone = Host::new();
    alone.config.encryption_port = None;
    let controller = alone.controller().await;
    controller.set_swarm(Some(pair.managers.clone()));
    controller.set_swarm_state(Some(pair.state(0))).await.unwrap();
    let id = container();
    controller.create_sandbox(sandbox(&id, "a")).await.unwrap();
    let refused = controller.connect(&id, "ov1", EndpointSpec::default()).await.unwrap_err().to_string();
    assert!(refused.contains("this node cannot encrypt overlay networks"), "{refused}");
    assert_eq!(pair.managers.detached.lock().unwrap().len(), 1, "the place is given back");
    controller.shutdown(false).await;
    pair.end().await;
}

const SECRET: &str = "may-nobody-read-this";
const BULK: usize = 4_000_000;

fn serve_bytes(netns: &Netns, address: std::net::SocketAddr) -> std::thread::JoinHandle<()> {
    let listener = netns.run_in(|| std::net::TcpListener::bind(address).unwrap()).unwrap();
    std::thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let bytes: Vec<u8> = SECRET.bytes().cycle().take(BULK).collect();
        let _ = std::io::Write::write_all(&mut stream, &bytes);
    })
}

/// How many of the right bytes come.
fn fetch(netns: &Netns, address: std::net::SocketAddr) -> usize {
    let run = || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut bytes).unwrap();
        bytes
    };
    let bytes = netns.run_in(run).unwrap();
    bytes.iter().zip(SECRET.bytes().cycle()).filter(|(got, sent)| **got == *sent).count()
}

/// Everything that passes the underlay, in a file.
struct Recording {
    child: std::process::Child,
    file: std::path::PathBuf,
}

impl Recording {
    async fn start(netns: &Netns, file: std::path::PathBuf) -> Self {
        let mut command = std::process::Command::new("tcpdump");
        command
            .args(["-Z", "root", "--immediate-mode", "-U", "-s", "0", "-B", "65536", "-i", "u0", "-w"])
            .arg(&file);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let child = netns.run_in(|| command.spawn().unwrap()).unwrap();
        eventually("the recording", || file.metadata().is_ok_and(|file| file.len() > 0)).await;
        Self { child, file }
    }

    async fn bytes(mut self) -> Vec<u8> {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        self.child.wait().unwrap();
        std::fs::read(&self.file).unwrap()
    }
}

/// Destination port and payload of every UDP datagram from the second host to the first.
fn datagrams(pcap: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    let mut rest = &pcap[24..];
    while let Some((head, after)) = rest.split_first_chunk::<16>() {
        let len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let Some(frame) = after.get(..len) else { break };
        // Ethernet 14, IPv4 20 with protocol at 9 and source at 12, UDP 8.
        let is_udp = len > 42 && frame[12..14] == [8, 0] && frame[23] == 17;
        if is_udp && frame[26..30] == [192, 0, 2, 2] {
            found.push((u16::from_be_bytes([frame[36], frame[37]]), frame[42..].to_vec()));
        }
        rest = &after[len..];
    }
    found
}
