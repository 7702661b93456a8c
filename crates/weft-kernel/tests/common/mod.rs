//! Two hosts with an underlay between them, and what the tests ask of them.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use weft_kernel::{Kernel, Netns};
use weft_plan::*;
use weft_types::{EndpointAddress, EndpointId, MacAddr, Mtu, NetworkId};

pub(crate) const PORT: u16 = 4789;

pub(crate) struct Host {
    pub(crate) netns: Netns,
    pub(crate) kernel: Kernel,
    pub(crate) address: IpAddr,
}

pub(crate) struct Place {
    pub(crate) netns: Netns,
    pub(crate) kernel: Kernel,
}

impl Place {
    pub(crate) fn new() -> Self {
        let netns = Netns::anonymous().unwrap();
        Self { kernel: Kernel::open_blocking(netns.clone()).unwrap(), netns }
    }
}

pub(crate) fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

pub(crate) fn mac(text: &str) -> MacAddr {
    text.parse().unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn net(text: &str) -> EndpointAddress {
    text.parse().unwrap()
}

pub(crate) fn endpoint_id(n: u8) -> EndpointId {
    format!("{n:02x}").repeat(32).parse().unwrap()
}

/// `count` hosts, 192.0.2.1 and up, on one segment.
pub(crate) fn hosts(count: u8) -> (Vec<Host>, Place) {
    let switch = Place::new();
    let mut state = NamespaceState::empty();
    let bridge = Link::new(LinkKind::Bridge(BridgeOptions { multicast_snooping: false }));
    state.links.insert(name("sw0"), bridge);
    let hosts: Vec<Host> = (1..=count)
        .map(|n| {
            let place = Place::new();
            let address = Ipv4Addr::new(192, 0, 2, n).into();
            let peer = VethPeer {
                mtu: Some(Mtu::ETHERNET),
                ..VethPeer::plain(place.netns.reference(), name("eth0"))
            };
            let link = Link {
                master: Some(name("sw0")),
                mtu: Some(Mtu::ETHERNET),
                ..Link::new(LinkKind::Veth(Some(peer)))
            };
            state.links.insert(name(&format!("h{n}")), link);
            Host { netns: place.netns, kernel: place.kernel, address }
        })
        .collect();
    clean(&switch.kernel, &state);
    for host in &hosts {
        let mut state = NamespaceState::empty();
        state.links.insert(LinkName::lo(), Link::new(LinkKind::Loopback));
        state.links.insert(name("eth0"), Link::new(LinkKind::VethEnd));
        let address = format!("{}/24", host.address).parse().unwrap();
        state.addresses.insert(Address { link: name("eth0"), address });
        clean(&host.kernel, &state);
    }
    (hosts, switch)
}

/// Reconciles, and checks that nothing is left to do.
pub(crate) fn clean(kernel: &Kernel, state: &NamespaceState) -> Vec<Op> {
    let report = kernel.reconcile_blocking(state).unwrap();
    if let Some(error) = report.failed.first() {
        let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        panic!("{error}: {source}");
    }
    // Through another connection, which remembers nothing.
    let fresh = Kernel::open_blocking(kernel.netns().clone()).unwrap();
    let left = diff(&fresh.observe_blocking(state).unwrap(), state);
    assert!(left.is_empty(), "left to do: {}", show(&left));
    let left = diff(&kernel.observe_blocking(state).unwrap(), state);
    assert!(left.is_empty(), "left to do: {}", show(&left));
    report.done
}

pub(crate) fn show(ops: &[Op]) -> String {
    ops.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// One node's part of an overlay network with one container.
pub(crate) struct Node {
    pub(crate) host: Host,
    pub(crate) network: Place,
    pub(crate) container: Place,
    pub(crate) overlay: OverlayNetwork,
    pub(crate) sandbox: Sandbox,
}

pub(crate) fn network_id() -> NetworkId {
    "aaaaabbbbbcccccdddddeeeee".parse().unwrap()
}

/// `hosts` with container `10.0.1.(n+1)` and `fd00:1::(n+1)` on each.
pub(crate) fn overlay(hosts: Vec<Host>) -> Vec<Node> {
    let addresses: Vec<IpAddr> = hosts.iter().map(|host| host.address).collect();
    let containers: Vec<Place> = hosts.iter().map(|_| Place::new()).collect();
    let mut nodes = Vec::new();
    for (index, (host, container)) in hosts.into_iter().zip(containers).enumerate() {
        let n = index as u8 + 2;
        let remote = (2u8..).zip(&addresses).filter(|(other, _)| *other != n);
        let overlay = OverlayNetwork {
            id: network_id(),
            mtu: Mtu::try_from(1450).unwrap(),
            vtep: host.address,
            port: PORT,
            host: host.netns.reference(),
            segments: vec![Segment {
                vni: 4097.try_into().unwrap(),
                gateways: vec![net("10.0.1.1/24"), net("fd00:1::1/64")],
            }],
            local: vec![LocalEndpoint {
                id: endpoint_id(n),
                ip: v4(n).into(),
                mac: MacAddr::from_ipv4(v4(n)),
                sandbox: container.netns.reference(),
                interface: name("eth0"),
            }],
            remote: remote
                .map(|(other, vtep)| RemoteEndpoint {
                    ips: vec![v4(other).into(), ip(&format!("fd00:1::{other:x}"))],
                    mac: MacAddr::from_ipv4(v4(other)),
                    vtep: *vtep,
                })
                .collect(),
            entries: None,
            encryption: None,
            fast: false,
        };
        let sandbox = Sandbox {
            interfaces: vec![SandboxInterface {
                name: name("eth0"),
                mac: MacAddr::from_ipv4(v4(n)),
                mtu: Some(overlay.mtu),
                device: SandboxDevice::VethEnd,
                addresses: vec![net(&format!("{}/24", v4(n))), net(&format!("fd00:1::{n:x}/64"))],
            }],
            ..Sandbox::default()
        };
        let network = Place::new();
        clean(&host.kernel, &host_state(host.address, &addresses));
        clean(&network.kernel, &overlay.plan());
        clean(&container.kernel, &sandbox.plan());
        nodes.push(Node { host, network, container, overlay, sandbox });
    }
    nodes
}

/// The host's own interface, and the guard.
pub(crate) fn host_state(address: IpAddr, members: &[IpAddr]) -> NamespaceState {
    let mut state = NamespaceState::empty();
    state.links.insert(LinkName::lo(), Link::new(LinkKind::Loopback));
    state.links.insert(name("eth0"), Link::new(LinkKind::VethEnd));
    state.addresses.insert(Address { link: name("eth0"), address: net(&format!("{address}/24")) });
    let (interface, members) = (Some(name("eth0")), members.to_vec());
    let guard = VxlanGuard { address, port: PORT, interface, members, encryption: None };
    state.merge(guard.plan());
    state
}

pub(crate) fn v4(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, n)
}

/// Runs a program in a namespace; its output, whether it succeeded or not.
pub(crate) fn run(netns: &Netns, command: &str) -> (bool, String) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let output = netns.run_in(|| Command::new(words[0]).args(&words[1..]).output().unwrap()).unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

pub(crate) fn ok(netns: &Netns, command: &str) -> String {
    let (success, output) = run(netns, command);
    assert!(success, "{command}: {output}");
    output
}

pub(crate) fn pings(netns: &Netns, to: &str) -> bool {
    run(netns, &format!("ping -n -c 1 -W 1 {to}")).0
}

/// Waits for a condition.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A TCP server in the namespace that answers every connection with `words`.
pub(crate) fn serve(netns: &Netns, address: &str, words: &'static str) -> SocketAddr {
    let address: SocketAddr = address.parse().unwrap();
    let listener = netns.run_in(|| TcpListener::bind(address).unwrap()).unwrap();
    let bound = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = (&stream).write_all(words.as_bytes());
        }
    });
    bound
}

/// What a TCP server says, or none.
pub(crate) fn fetch(netns: &Netns, address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().unwrap();
    netns
        .run_in(|| {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let mut words = String::new();
            stream.read_to_string(&mut words).ok()?;
            Some(words)
        })
        .unwrap()
}
