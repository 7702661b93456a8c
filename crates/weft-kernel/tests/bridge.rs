//! Bridge networks and published ports on real namespaces.
//!
//! ```text
//! outside (192.0.2.2) --- host (192.0.2.1) --- docker0: one .2, two .3
//!                                          `-- br-other: three .2     br-inner (internal): four .2
//! ```
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::net::IpAddr;

use common::*;
use weft_kernel::ConntrackFilter;
use weft_plan::*;
use weft_types::{Mtu, PortMapping, PortProtocol};

struct World {
    host: Host,
    outside: Host,
    one: Place,
    two: Place,
    three: Place,
    four: Place,
    plan: HostPlan,
    _switch: Place,
}

fn network(bridge: &str, gateways: &[&str]) -> BridgeNetwork {
    BridgeNetwork {
        id: network_id(),
        bridge: name(bridge),
        gateways: gateways.iter().map(|gateway| net(gateway)).collect(),
        mtu: Mtu::ETHERNET,
        inter_container: true,
        masquerade: true,
        internal: false,
        endpoints: vec![],
    }
}

fn publish(
    protocol: PortProtocol,
    host_ip: &str,
    host_port: u16,
    target: &str,
    container_port: u16,
) -> Published {
    let mapping = PortMapping { protocol, container_port, host_ip: ip(host_ip), host_port };
    Published { mapping, target: ip(target) }
}

fn join(network: &mut BridgeNetwork, place: &Place, n: u8, published: Vec<Published>) {
    network.endpoints.push(BridgeEndpoint {
        id: endpoint_id(n),
        mac: weft_types::MacAddr([2, 0x42, 0, 0, 0, n]),
        ips: Vec::new(),
        sandbox: place.netns.reference(),
        interface: name("eth0"),
        published,
    });
}

fn sandbox(network: &BridgeNetwork, place: &Place, n: u8, host_part: u8) {
    let addresses = network.gateways.iter().map(|gateway| {
        let text = match gateway.ip() {
            IpAddr::V4(ip) => format!("{}.{host_part}/{}", &ip.to_string().rsplit_once('.').unwrap().0, 16),
            IpAddr::V6(ip) => format!("{}:{host_part}/64", ip.to_string().rsplit_once(':').unwrap().0),
        };
        net(&text)
    });
    let gateways = network.gateways.iter().filter(|_| !network.internal);
    let plan = Sandbox {
        interfaces: vec![SandboxInterface {
            name: name("eth0"),
            mac: weft_types::MacAddr([2, 0x42, 0, 0, 0, n]),
            mtu: Some(Mtu::ETHERNET),
            addresses: addresses.collect(),
            device: SandboxDevice::VethEnd,
        }],
        gateways: gateways.map(|gateway| (gateway.ip(), name("eth0"))).collect(),
        ..Sandbox::default()
    };
    clean(&place.kernel, &plan.plan());
}

fn world() -> World {
    world_with(true)
}

/// With or without bridged packets passing the IP hooks: distributions differ.
fn world_with(bridge_netfilter: bool) -> World {
    let (mut hosts, switch) = hosts(2);
    let (outside, host) = (hosts.pop().unwrap(), hosts.pop().unwrap());
    for (place, address) in [(&host, "2001:db8::1/64"), (&outside, "2001:db8::2/64")] {
        ok(&place.netns, &format!("ip addr add {address} dev eth0 nodad"));
    }
    let [one, two, three, four] = [(); 4].map(|()| Place::new());
    let mut docker0 = network("docker0", &["172.17.0.1/16", "fd00:17::1/64"]);
    let mut other = network("br-other", &["172.18.0.1/16"]);
    let mut inner = network("br-inner", &["172.19.0.1/16"]);
    inner.internal = true;
    let tcp = PortProtocol::Tcp;
    let ports = vec![
        publish(tcp, "0.0.0.0", 8080, "172.17.0.2", 80),
        publish(tcp, "::", 8080, "fd00:17::2", 80),
        publish(tcp, "127.0.0.1", 8081, "172.17.0.2", 80),
        publish(PortProtocol::Udp, "0.0.0.0", 5353, "172.17.0.2", 53),
    ];
    join(&mut docker0, &one, 1, ports);
    join(&mut docker0, &two, 2, vec![]);
    join(&mut other, &three, 3, vec![]);
    join(&mut inner, &four, 4, vec![]);
    let plan = HostPlan {
        bridges: vec![docker0, other, inner],
        bridge_netfilter,
        guard: None,
        ingress: None,
        parents: Vec::new(),
        uplinks: Default::default(),
    };
    let world = World { host, outside, one, two, three, four, plan, _switch: switch };
    world.reconcile();
    let bridges = &world.plan.bridges;
    sandbox(&bridges[0], &world.one, 1, 2);
    sandbox(&bridges[0], &world.two, 2, 3);
    sandbox(&bridges[1], &world.three, 3, 2);
    sandbox(&bridges[2], &world.four, 4, 2);
    world
}

impl World {
    /// The plan with the host's own interface, which is Weft's only because the test made it so.
    fn state(&self) -> NamespaceState {
        let mut state = host_state(self.host.address, &[]);
        state.tables.clear();
        state.merge(self.plan.plan());
        state
    }

    fn reconcile(&self) -> Vec<Op> {
        clean(&self.host.kernel, &self.state())
    }
}

#[test]
fn containers_reach_the_outside_under_the_hosts_address() {
    let w = world();
    assert!(pings(&w.one.netns, "192.0.2.2"));
    assert!(pings(&w.one.netns, "2001:db8::2"));
    assert!(pings(&w.three.netns, "192.0.2.2"));
    // Their own addresses are not reachable from there, though there is a way.
    ok(&w.outside.netns, "ip route add 172.16.0.0/12 via 192.0.2.1");
    assert!(!pings(&w.outside.netns, "172.17.0.2"));
    serve(&w.one.netns, "172.17.0.2:9999", "secret");
    assert_eq!(fetch(&w.outside.netns, "172.17.0.2:9999"), None);
}

#[test]
fn published_ports_answer_everyone() {
    published_ports_answer(&world_with(true));
}

#[test]
fn published_ports_answer_everyone_without_bridge_netfilter() {
    published_ports_answer(&world_with(false));
}

fn published_ports_answer(w: &World) {
    serve(&w.one.netns, "172.17.0.2:80", "four");
    serve(&w.one.netns, "[fd00:17::2]:80", "six");
    for (place, address, what) in [
        (&w.outside.netns, "192.0.2.1:8080", "from outside"),
        (&w.host.netns, "192.0.2.1:8080", "from the host by its own address"),
        (&w.host.netns, "127.0.0.1:8080", "from the host by loopback"),
        (&w.host.netns, "127.0.0.1:8081", "loopback only, from the host"),
        (&w.host.netns, "172.17.0.1:8080", "from the host by the gateway"),
        (&w.two.netns, "192.0.2.1:8080", "from a neighbour by the host's address"),
        (&w.two.netns, "172.17.0.1:8080", "from a neighbour by the gateway"),
        (&w.one.netns, "192.0.2.1:8080", "from itself by the host's address"),
        (&w.three.netns, "192.0.2.1:8080", "from another network by the host's address"),
    ] {
        assert_eq!(fetch(place, address).as_deref(), Some("four"), "{what}");
    }
    for (place, address, what) in [
        (&w.outside.netns, "[2001:db8::1]:8080", "from outside"),
        (&w.host.netns, "[2001:db8::1]:8080", "from the host by its own address"),
        (&w.two.netns, "[2001:db8::1]:8080", "from a neighbour by the host's address"),
        (&w.one.netns, "[2001:db8::1]:8080", "from itself by the host's address"),
    ] {
        assert_eq!(fetch(place, address).as_deref(), Some("six"), "{what}");
    }
    assert_eq!(fetch(&w.outside.netns, "192.0.2.1:8081"), None, "loopback only");
    if w.plan.bridge_netfilter {
        // A socket that holds the port, as the controller keeps one, must not catch the connection.
        let _held = w.host.netns.tcp_listener("[::]:8080".parse().unwrap()).unwrap();
        let refused =
            w.host.netns.run_in(|| std::net::TcpStream::connect("[::1]:8080").unwrap_err()).unwrap();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    } else {
        assert_eq!(fetch(&w.host.netns, "[::1]:8080").as_deref(), Some("six"), "from the host by loopback");
    }
}

#[test]
fn published_udp_ports_answer() {
    let w = world();
    let server = w.one.netns.run_in(|| std::net::UdpSocket::bind("172.17.0.2:53").unwrap()).unwrap();
    std::thread::spawn(move || {
        let mut words = [0; 64];
        while let Ok((length, from)) = server.recv_from(&mut words) {
            server.send_to(&words[..length], from).unwrap();
        }
    });
    for (place, to) in [
        (&w.outside.netns, "192.0.2.1:5353"),
        (&w.host.netns, "127.0.0.1:5353"),
        (&w.two.netns, "172.17.0.1:5353"),
    ] {
        let client = place.run_in(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        client.connect(to).unwrap();
        client.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
        client.send(b"hello").unwrap();
        let mut words = [0; 64];
        assert_eq!(client.recv(&mut words).ok(), Some(5), "{to}");
    }
}

#[test]
fn networks_are_apart() {
    let w = world();
    assert!(pings(&w.one.netns, "172.17.0.3"), "neighbours talk");
    assert!(pings(&w.host.netns, "172.17.0.2"), "the host reaches containers");
    assert!(!pings(&w.three.netns, "172.17.0.2") && !pings(&w.one.netns, "172.18.0.2"), "networks do not");
    assert!(pings(&w.four.netns, "172.19.0.1"), "internal: the gateway only");
    ok(&w.four.netns, "ip route add default via 172.19.0.1");
    for far in ["192.0.2.2", "172.17.0.2", "172.18.0.2"] {
        assert!(!pings(&w.four.netns, far), "internal to {far}");
    }
    assert!(!pings(&w.one.netns, "172.19.0.2"));
    // The host's loopback is its own, although published ports are reachable through it.
    serve(&w.host.netns, "127.0.0.1:7000", "private");
    ok(&w.one.netns, "ip route add 127.0.0.1/32 via 172.17.0.1");
    ok(&w.one.netns, "ip addr del 127.0.0.1/8 dev lo");
    ok(&w.one.netns, "sysctl -qw net.ipv4.conf.all.route_localnet=1");
    assert_eq!(fetch(&w.one.netns, "127.0.0.1:7000"), None);
}

#[test]
fn without_inter_container_communication_only_published_ports_work() {
    isolated(world_with(true));
}

#[test]
fn without_inter_container_communication_nor_bridge_netfilter() {
    isolated(world_with(false));
}

fn isolated(mut w: World) {
    w.plan.bridges[0].inter_container = false;
    w.reconcile();
    serve(&w.one.netns, "172.17.0.2:80", "four");
    assert!(!pings(&w.two.netns, "172.17.0.2"));
    assert_eq!(fetch(&w.two.netns, "172.17.0.2:80"), None);
    assert_eq!(fetch(&w.two.netns, "172.17.0.1:8080").as_deref(), Some("four"));
    assert!(pings(&w.two.netns, "192.0.2.2"), "the outside is reachable still");
}

#[test]
fn a_port_that_is_no_longer_published_is_closed_at_once() {
    let mut w = world();
    serve(&w.one.netns, "172.17.0.2:80", "four");
    assert!(fetch(&w.outside.netns, "192.0.2.1:8080").is_some());
    let ports = std::mem::take(&mut w.plan.bridges[0].endpoints[0].published);
    let ops = w.reconcile();
    assert!(ops.iter().all(|op| matches!(op, Op::ChangeElements { .. })), "{}", show(&ops));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let filter = ConntrackFilter {
        protocol: Some(PortProtocol::Tcp),
        original_port: Some(8080),
        reply_source: Some(ip("172.17.0.2")),
        ..ConntrackFilter::default()
    };
    let forgotten = runtime.block_on(w.host.kernel.forget_connections(&filter)).unwrap();
    assert!(forgotten >= 1, "the connection just made");
    assert_eq!(runtime.block_on(w.host.kernel.forget_connections(&filter)).unwrap(), 0);
    assert_eq!(fetch(&w.outside.netns, "192.0.2.1:8080"), None);
    w.plan.bridges[0].endpoints[0].published = ports;
    w.reconcile();
    assert!(fetch(&w.outside.netns, "192.0.2.1:8080").is_some());
}

#[test]
fn everything_goes_when_nothing_is_wanted() {
    let w = world();
    clean(&w.host.kernel, &NamespaceState::empty());
    let left = ok(&w.host.netns, "nft list tables") + &ok(&w.host.netns, "ip -o link");
    // The user's own rules stay.
    let left = left.replace(mark::USER_TABLE, "");
    assert!(!left.contains("weft") && !left.contains("docker0") && !left.contains("veth"), "{left}");
}

#[test]
fn a_damaged_bridge_is_repaired() {
    let w = world();
    serve(&w.one.netns, "172.17.0.2:80", "four");
    for damage in [
        "nft flush ruleset",
        "nft flush map ip weft-bridge published_any",
        "nft insert rule ip weft-bridge into drop",
        "ip link set docker0 down",
        "ip addr flush dev docker0",
        "sysctl -qw net.ipv4.ip_forward=0",
    ] {
        ok(&w.host.netns, damage);
        assert!(!w.reconcile().is_empty(), "not seen: {damage}");
        assert!(fetch(&w.outside.netns, "192.0.2.1:8080").is_some(), "after {damage}");
    }
}
