//! The routing mesh on real namespaces: two nodes with a task on the second, and a client outside.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use common::*;
use weft_kernel::Netns;
use weft_plan::*;
use weft_types::{MacAddr, Mtu, PortProtocol};

const PUBLISHED: u16 = 8080;
const TARGET: u16 = 80;
const TASK: u8 = 2;

struct Mesh {
    nodes: Vec<MeshNode>,
    client: Host,
    task: Place,
    task_plan: Sandbox,
    _switch: Place,
}

struct MeshNode {
    host: Host,
    network: Place,
    overlay: OverlayNetwork,
    plan: HostPlan,
    /// A container on the node's own bridge.
    container: Place,
}

impl MeshNode {
    fn desired(&self) -> NamespaceState {
        let mut state = self.plan.plan();
        let eth0 = Link::new(LinkKind::VethEnd);
        state.links.insert(name("eth0"), eth0);
        let n = last(self.host.address);
        for address in [format!("192.0.2.{n}/24"), format!("2001:db8::{n}/64")] {
            state.addresses.insert(Address { link: name("eth0"), address: net(&address) });
        }
        state
    }

    fn converge(&self) {
        clean(&self.network.kernel, &self.overlay.plan());
        clean(&self.host.kernel, &self.desired());
    }
}

fn last(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    }
}

fn strict(netns: &Netns) {
    ok(netns, "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1");
}

fn gateway_bridge(n: u8, containers: Vec<(u8, &Place, &str)>) -> BridgeNetwork {
    let endpoints = containers.into_iter().map(|(number, place, interface)| BridgeEndpoint {
        id: endpoint_id(number),
        mac: MacAddr([2, 0x42, 172, 18, n, number]),
        ips: Vec::new(),
        sandbox: place.netns.reference(),
        interface: name(interface),
        published: Vec::new(),
    });
    BridgeNetwork {
        id: format!("gatewaygatewaygatewayga{n:02}").parse().unwrap(),
        bridge: name("docker_gwbridge"),
        gateways: vec![net("172.18.0.1/16"), net("fd00:18::1/64")],
        mtu: Mtu::ETHERNET,
        inter_container: false,
        masquerade: true,
        internal: false,
        endpoints: endpoints.collect(),
    }
}

fn gateway_interface(interface: &str, n: u8, number: u8) -> SandboxInterface {
    SandboxInterface {
        name: name(interface),
        mac: MacAddr([2, 0x42, 172, 18, n, number]),
        mtu: Some(Mtu::ETHERNET),
        device: SandboxDevice::VethEnd,
        addresses: vec![net(&format!("172.18.0.{number}/16")), net(&format!("fd00:18::{number:x}/64"))],
    }
}

fn port(protocol: PortProtocol) -> MeshPort {
    let backend = |ip: &str| IngressBackend {
        ip: ip.parse().unwrap(),
        mac: MacAddr::from_ipv4(v4(TASK)),
        port: TARGET,
        ready: true,
        source_nat: false,
    };
    MeshPort { protocol, published: PUBLISHED, backends: vec![backend("10.0.1.2"), backend("fd00:1::2")] }
}

fn mesh() -> Mesh {
    let (mut hosts, switch) = hosts(3);
    let client = hosts.pop().unwrap();
    ok(&client.netns, "ip -6 addr add 2001:db8::3/64 dev eth0 nodad");
    let task = Place::new();
    strict(&task.netns);
    let vteps: Vec<IpAddr> = hosts.iter().map(|host| host.address).collect();
    let task_plan = task_sandbox(&vteps);
    let mut nodes = Vec::new();
    for (index, host) in hosts.into_iter().enumerate() {
        strict(&host.netns);
        let n = index as u8 + 1;
        let network = Place::new();
        let container = Place::new();
        let overlay = ingress_network(&host, n, &vteps, &task);
        let ingress = IngressHost {
            node: EntryNode(host.address),
            mtu: overlay.mtu,
            ipv6: true,
            load_balancer: Vec::new(),
            ports: vec![port(PortProtocol::Tcp), port(PortProtocol::Udp)],
        };
        let mut on_bridge = vec![(100 + n, &container, "eth0")];
        on_bridge.extend((n == 2).then_some((5, &task, "eth1")));
        let bridges = vec![gateway_bridge(n, on_bridge)];
        let plan = HostPlan {
            bridges,
            bridge_netfilter: false,
            guard: None,
            ingress: Some(ingress),
            parents: Vec::new(),
            uplinks: Default::default(),
        };
        let node = MeshNode { host, network, overlay, plan, container };
        node.converge();
        let inside = Sandbox {
            interfaces: vec![gateway_interface("eth0", n, 100 + n)],
            gateways: vec![(ip("172.18.0.1"), name("eth0")), (ip("fd00:18::1"), name("eth0"))],
            ..Sandbox::default()
        };
        clean(&node.container.kernel, &inside.plan());
        nodes.push(node);
    }
    clean(&task.kernel, &task_plan.plan());
    serve_peers(&task.netns);
    Mesh { nodes, client, task, task_plan, _switch: switch }
}

fn task_sandbox(vteps: &[IpAddr]) -> Sandbox {
    let interface = SandboxInterface {
        name: name("eth0"),
        mac: MacAddr::from_ipv4(v4(TASK)),
        mtu: Some(Mtu::try_from(1450).unwrap()),
        device: SandboxDevice::VethEnd,
        addresses: vec![net("10.0.1.2/24"), net("fd00:1::2/64")],
    };
    let ports = [PortProtocol::Tcp, PortProtocol::Udp].map(|protocol| TaskPort {
        protocol,
        published: PUBLISHED,
        target: TARGET,
    });
    Sandbox {
        interfaces: vec![interface, gateway_interface("eth1", 2, 5)],
        gateways: vec![(ip("172.18.0.1"), name("eth1")), (ip("fd00:18::1"), name("eth1"))],
        ingress: Some(IngressTask {
            interface: name("eth0"),
            addresses: vec![ip("10.0.1.2"), ip("fd00:1::2")],
            entries: vteps.iter().copied().map(EntryNode).collect(),
            ports: ports.to_vec(),
        }),
        ..Sandbox::default()
    }
}

fn ingress_network(host: &Host, n: u8, vteps: &[IpAddr], task: &Place) -> OverlayNetwork {
    let here = n == 2;
    let local = LocalEndpoint {
        id: endpoint_id(TASK),
        ip: v4(TASK).into(),
        mac: MacAddr::from_ipv4(v4(TASK)),
        sandbox: task.netns.reference(),
        interface: name("eth0"),
    };
    let remote = RemoteEndpoint {
        ips: vec![v4(TASK).into(), ip("fd00:1::2")],
        mac: MacAddr::from_ipv4(v4(TASK)),
        vtep: vteps[1],
    };
    OverlayNetwork {
        id: network_id(),
        mtu: Mtu::try_from(1450).unwrap(),
        vtep: host.address,
        port: PORT,
        host: host.netns.reference(),
        segments: vec![Segment {
            vni: 4096.try_into().unwrap(),
            gateways: vec![net("10.0.1.1/24"), net("fd00:1::1/64")],
        }],
        local: if here { vec![local] } else { vec![] },
        remote: if here { vec![] } else { vec![remote] },
        entries: Some(Entries { others: vteps.iter().copied().map(EntryNode).collect() }),
        encryption: None,
        fast: false,
    }
}

/// Servers on all addresses that tell each client its address.
fn serve_peers(netns: &Netns) {
    let at: SocketAddr = format!("[::]:{TARGET}").parse().unwrap();
    let (tcp, udp) = netns.run_in(|| (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap())).unwrap();
    std::thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            std::thread::spawn(move || answer(&stream));
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(peer.ip().to_canonical().to_string().as_bytes(), peer);
        }
    });
}

/// Tells the peer its address for every byte it sends.
fn answer(mut stream: &TcpStream) {
    let peer = stream.peer_addr().unwrap().ip().to_canonical();
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() && writeln!(stream, "{peer}").is_ok() {}
}

fn over_tcp(netns: &Netns, to: &str) -> Option<String> {
    let to: SocketAddr = to.parse().unwrap();
    netns
        .run_in(|| {
            let stream = TcpStream::connect_timeout(&to, Duration::from_secs(2)).ok()?;
            ask(&stream)
        })
        .unwrap()
}

fn ask(mut stream: &TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.write_all(b"?").ok()?;
    let mut line = String::new();
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() && byte != *b"\n" {
        line.push(char::from(byte[0]));
    }
    (!line.is_empty()).then_some(line)
}

fn over_udp(netns: &Netns, to: &str) -> Option<String> {
    let to: SocketAddr = to.parse().unwrap();
    let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = netns.run_in(|| UdpSocket::bind((any, 0)).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    netns.run_in(|| socket.connect(to)).unwrap().ok()?;
    // Twice: the second datagram is one of a known connection.
    let ask = || {
        socket.send(b"?").ok()?;
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).ok()?;
        String::from_utf8(buffer[..length].to_vec()).ok()
    };
    ask()?;
    ask()
}

#[test]
fn the_task_sees_the_client_from_every_node() {
    let mesh = mesh();
    let client = &mesh.client.netns;
    for (n, node) in (1..).zip(&mesh.nodes) {
        let dump = || ok(&node.host.netns, "nft list ruleset");
        for (to, from) in
            [(format!("192.0.2.{n}:8080"), "192.0.2.3"), (format!("[2001:db8::{n}]:8080"), "2001:db8::3")]
        {
            assert_eq!(over_tcp(client, &to).as_deref(), Some(from), "TCP {to}\n{}", dump());
            assert_eq!(over_udp(client, &to).as_deref(), Some(from), "UDP {to}");
        }
    }
}

#[test]
fn nodes_their_containers_and_the_task_itself_are_clients_too() {
    let mesh = mesh();
    for (n, node) in (1..).zip(&mesh.nodes) {
        let (own, own6) = (format!("192.0.2.{n}"), format!("2001:db8::{n}"));
        let mesh6 = format!("fd77:6566:7400::c000:20{n}");
        let mut cases = vec![
            (&node.host.netns, "127.0.0.1", &own),
            (&node.host.netns, own.as_str(), &own),
            (&node.host.netns, "172.18.0.1", &own),
            (&node.container.netns, own.as_str(), &own),
            (&node.container.netns, "172.18.0.1", &own),
            (&node.host.netns, "[::1]", &mesh6),
            (&node.container.netns, "[fd00:18::1]", &mesh6),
        ];
        if n == 2 {
            cases.push((&mesh.task.netns, own.as_str(), &own));
            cases.push((&mesh.task.netns, "172.18.0.1", &own));
            cases.push((&mesh.task.netns, "[fd00:18::1]", &mesh6));
        }
        for (netns, to, from) in cases {
            let to = format!("{to}:{PUBLISHED}");
            assert_eq!(over_tcp(netns, &to).as_ref(), Some(from), "TCP {to} of node {n}");
            assert_eq!(over_udp(netns, &to).as_ref(), Some(from), "UDP {to} of node {n}");
        }
        let to = format!("[{own6}]:{PUBLISHED}");
        assert_eq!(over_tcp(&node.host.netns, &to).as_ref(), Some(&own6), "TCP {to} of node {n}");
    }
    // A task that is reached from another node by its own bridge's address there: the same as its own here.
    let far = over_tcp(&mesh.task.netns, "192.0.2.1:8080");
    assert_eq!(far.as_deref(), Some("192.0.2.2"));
}

#[test]
fn connections_last_while_backends_leave_and_rules_are_set_anew() {
    let mut mesh = mesh();
    let client = &mesh.client.netns;
    let stream = client.run_in(|| TcpStream::connect("192.0.2.1:8080").unwrap()).unwrap();
    assert_eq!(ask(&stream).as_deref(), Some("192.0.2.3"));
    for node in &mut mesh.nodes {
        for port in &mut node.plan.ingress.as_mut().unwrap().ports {
            port.backends.iter_mut().for_each(|backend| backend.ready = false);
        }
        node.converge();
    }
    assert_eq!(ask(&stream).as_deref(), Some("192.0.2.3"), "leaving");
    let begin = Instant::now();
    assert_eq!(over_tcp(client, "192.0.2.1:8080"), None, "no backend takes new connections");
    assert!(begin.elapsed() < Duration::from_millis(500), "refused at once");
    for node in &mesh.nodes {
        ok(&node.host.netns, "nft flush ruleset");
        ok(&mesh.task.netns, "nft flush ruleset");
        clean(&node.host.kernel, &node.desired());
        clean(&mesh.task.kernel, &mesh.task_plan.plan());
    }
    assert_eq!(ask(&stream).as_deref(), Some("192.0.2.3"), "after the rules were gone");
}

#[test]
fn without_addresses_of_the_family_connections_are_refused_at_once() {
    let mut mesh = mesh();
    for node in &mut mesh.nodes {
        node.plan.ingress.as_mut().unwrap().ipv6 = false;
        node.converge();
    }
    let begin = Instant::now();
    assert_eq!(over_tcp(&mesh.client.netns, "[2001:db8::1]:8080"), None);
    assert_eq!(over_udp(&mesh.client.netns, "[2001:db8::1]:8080"), None);
    assert!(begin.elapsed() < Duration::from_millis(500));
    assert_eq!(over_tcp(&mesh.client.netns, "192.0.2.1:8080").as_deref(), Some("192.0.2.3"));
}

#[test]
fn what_was_deleted_or_poisoned_is_repaired() {
    let mesh = mesh();
    let client = &mesh.client.netns;
    let reached = |n: u8| over_tcp(client, &format!("192.0.2.{n}:8080")).as_deref() == Some("192.0.2.3");
    let node = &mesh.nodes[0];
    for damage in [
        "nft flush ruleset",
        "nft delete table ip weft-ingress",
        "nft flush map ip weft-ingress slots",
        "nft delete element ip weft-ingress ports { tcp . 8080 }",
        "nft add element ip weft-ingress source_nat { 10.0.1.2 . tcp . 80 }",
        "ip rule del fwmark 0x8000000/0x8000000",
        "ip route flush table 2003238913",
        "ip neigh del 10.0.1.2 dev weft-ingress",
        "ip neigh replace 10.0.1.2 lladdr 02:00:00:00:00:01 nud permanent dev weft-ingress",
        "ip link set weft-ingress down",
        "ip link set weft-ingress address 02:00:00:00:00:01",
        "ip link del weft-ingress",
        "sysctl -qw net.ipv4.conf.weft-ingress.src_valid_mark=0",
    ] {
        ok(&node.host.netns, damage);
        node.converge();
        assert!(reached(1), "after {damage}");
    }
    for damage in [
        "nft flush ruleset",
        "nft flush map ip weft-ingress entries",
        "nft delete element ip weft-ingress targets { tcp . 80 }",
        "ip rule del fwmark 0xc0000201",
        "ip route flush table 3221225985",
        "ip neigh replace 192.0.2.1 lladdr 02:00:00:00:00:01 nud permanent dev eth0",
    ] {
        ok(&mesh.task.netns, damage);
        let repairs = clean(&mesh.task.kernel, &mesh.task_plan.plan());
        assert!(!repairs.is_empty() && reached(1), "after {damage}: {}", show(&repairs));
    }
    // Somebody's own rules stay, and so do other tables.
    ok(&node.host.netns, "nft add rule inet weft-user forward tcp dport 9999 drop");
    ok(&node.host.netns, "nft add table inet theirs");
    node.converge();
    let rules = ok(&node.host.netns, "nft list ruleset");
    assert!(rules.contains("tcp dport 9999 drop") && rules.contains("table inet theirs"), "{rules}");
}

#[test]
fn the_users_chain_decides_first() {
    let mesh = mesh();
    let node = &mesh.nodes[0];
    ok(
        &node.host.netns,
        "nft add rule inet weft-user forward ip saddr 192.0.2.3 meta l4proto tcp ct original proto-dst 8080 drop",
    );
    node.converge();
    assert_eq!(over_tcp(&mesh.client.netns, "192.0.2.1:8080"), None);
    assert_eq!(over_tcp(&mesh.client.netns, "192.0.2.2:8080").as_deref(), Some("192.0.2.3"));
}

#[test]
fn nothing_but_answers_comes_through_the_door() {
    let mesh = mesh();
    let (task, node) = (&mesh.task.netns, &mesh.nodes[0].host);
    let _service = serve(&node.netns, "0.0.0.0:22", "the host's");
    let _local = serve(&node.netns, "127.0.0.1:23", "the host's own");
    assert!(fetch(&mesh.client.netns, "192.0.2.1:22").is_some());
    // A task that may change its own routes and rules sends to the node's Ethernet address what it likes.
    ok(task, "nft flush ruleset");
    ok(task, "sysctl -qw net.ipv4.conf.all.route_localnet=1");
    ok(task, "ip route add 192.0.2.1 via 192.0.2.1 dev eth0 onlink");
    ok(task, "ip route add 192.0.2.3 via 192.0.2.1 dev eth0 onlink");
    assert_eq!(fetch(task, "192.0.2.1:22"), None, "services of the host");
    assert!(!pings(task, "192.0.2.1"), "the host");
    assert!(!pings(task, "192.0.2.3"), "others through the host");
}

#[test]
fn nodes_of_docker_reach_the_published_port_from_an_address_of_the_network() {
    let mesh = mesh();
    // As Docker's: a station on the network, not one of the entries.
    let station = Place::new();
    let network = &mesh.nodes[1].network.netns;
    ok(network, "ip link add docker0p type veth peer name docker0c");
    let there = station.netns.reference().0;
    ok(network, &format!("ip link set docker0c netns {there}"));
    ok(network, "ip link set docker0p master br0 up");
    ok(&station.netns, "ip addr add 10.0.1.77/24 dev docker0c");
    ok(&station.netns, "ip link set docker0c up");
    eventually("the station is connected", || pings(&station.netns, "10.0.1.2"));
    assert_eq!(over_tcp(&station.netns, "10.0.1.2:8080").as_deref(), Some("10.0.1.77"));
    assert_eq!(over_udp(&station.netns, "10.0.1.2:8080").as_deref(), Some("10.0.1.77"));
    assert_eq!(over_tcp(&station.netns, "10.0.1.2:81"), None, "no other port");
}

#[test]
fn where_asked_for_the_task_sees_the_balancers_address() {
    let mut mesh = mesh();
    for (n, node) in (1u8..).zip(&mut mesh.nodes) {
        let ingress = node.plan.ingress.as_mut().unwrap();
        ingress.load_balancer = vec![ip(&format!("10.0.1.20{n}"))];
        for port in &mut ingress.ports {
            port.backends.iter_mut().for_each(|backend| backend.source_nat = true);
        }
        node.converge();
    }
    for n in 1..=2 {
        let seen = over_tcp(&mesh.client.netns, &format!("192.0.2.{n}:8080"));
        assert_eq!(seen, Some(format!("10.0.1.20{n}")));
        let seen = over_udp(&mesh.client.netns, &format!("192.0.2.{n}:8080"));
        assert_eq!(seen, Some(format!("10.0.1.20{n}")));
    }
}
