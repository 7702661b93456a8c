//! The fast path on real namespaces: two hosts, containers on each, the bridges below.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;

use common::*;
use weft_kernel::{Attachment, FastPathCounters, FastPathEngine, FastPathReport};
use weft_plan::*;
use weft_types::{MacAddr, Vni};

/// A node with its part of the fast path.
struct Fast {
    node: Node,
    engine: Option<FastPathEngine>,
    folder: Folder,
    wish: FastPath,
}

/// Where objects are pinned. What is mounted there would outlive the test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("bpf")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-lq").arg(self.path()).status();
    }
}

fn vni() -> Vni {
    4097.try_into().unwrap()
}

impl Fast {
    fn new(node: Node, attachment: Attachment) -> Self {
        uplink(&node);
        let folder = Folder::new();
        let engine = FastPathEngine::open_with_blocking(&folder.path(), attachment).unwrap();
        let wish = wish(&node);
        let mut fast = Self { node, engine: Some(engine), folder, wish };
        let report = fast.reconcile();
        assert!(report.absent.is_empty() && report.failed.is_empty(), "{report:?}");
        let again = fast.reconcile();
        assert!(again.is_unchanged(), "{again:?}");
        fast
    }

    fn reconcile(&mut self) -> FastPathReport {
        let (engine, wish) = (self.engine.as_mut().unwrap(), &self.wish);
        engine.reconcile_blocking(Some(wish)).unwrap()
    }

    fn counters(&self) -> FastPathCounters {
        self.engine.as_ref().unwrap().counters_blocking().unwrap()
    }

    /// As a daemon that ends and one that begins.
    fn restart(&mut self) {
        let attachment = self.engine.take().unwrap().attachment();
        self.engine = Some(FastPathEngine::open_with_blocking(&self.folder.path(), attachment).unwrap());
    }

    fn container(&self) -> &weft_kernel::Netns {
        &self.node.container.netns
    }

    /// What was carried since.
    fn carried(&self, before: &FastPathCounters) -> FastPathCounters {
        let now = self.counters();
        FastPathCounters {
            delivered: now.delivered - before.delivered,
            encapsulated: now.encapsulated - before.encapsulated,
            decapsulated: now.decapsulated - before.decapsulated,
            received: now.received - before.received,
            slow_path: now.slow_path - before.slow_path,
            wrong_sender: now.wrong_sender - before.wrong_sender,
            unroutable: now.unroutable - before.unroutable,
            errors: now.errors - before.errors,
            ..FastPathCounters::default()
        }
    }
}

/// Two nodes, the first with two containers (10.0.1.2, 10.0.1.9).
fn two(attachment: Attachment) -> (Fast, Fast, Place, Place) {
    let (nodes, neighbour, switch) = prepared();
    let mut nodes = nodes.into_iter().map(|node| Fast::new(node, attachment));
    (nodes.next().unwrap(), nodes.next().unwrap(), neighbour, switch)
}

fn prepared() -> (Vec<Node>, Place, Place) {
    let (hosts, switch) = hosts(2);
    let mut nodes = overlay(hosts);
    let neighbour = Place::new();
    let node = &mut nodes[0];
    node.overlay.local.push(LocalEndpoint {
        id: endpoint_id(9),
        ip: ip("10.0.1.9"),
        mac: MacAddr::from_ipv4(v4(9)),
        sandbox: neighbour.netns.reference(),
        interface: name("eth0"),
    });
    clean(&node.network.kernel, &node.overlay.plan());
    let mut sandbox = node.sandbox.clone();
    sandbox.interfaces[0].mac = MacAddr::from_ipv4(v4(9));
    sandbox.interfaces[0].addresses = vec![net("10.0.1.9/24"), net("fd00:1::9/64")];
    clean(&neighbour.kernel, &sandbox.plan());
    let far = RemoteEndpoint {
        ips: vec![ip("10.0.1.9"), ip("fd00:1::9")],
        mac: MacAddr::from_ipv4(v4(9)),
        vtep: node.host.address,
    };
    nodes[1].overlay.remote.push(far);
    clean(&nodes[1].network.kernel, &nodes[1].overlay.plan());
    (nodes, neighbour, switch)
}

/// The pair between the network's namespace and the host's, as the plan has it.
fn uplink_state(node: &Node) -> NamespaceState {
    let mut state = node.overlay.plan();
    let peer = VethPeer {
        namespace: node.host.netns.reference(),
        name: name("up-out"),
        mac: None,
        mtu: None,
        gso_max_segments: None,
        handed_on: false,
    };
    state.links.insert(name("up-in"), Link::new(LinkKind::Veth(Some(peer))));
    state
}

fn host_with_uplink(node: &Node) -> NamespaceState {
    let members: Vec<_> = node.overlay.remote.iter().map(|remote| remote.vtep).collect();
    let mut state = host_state(node.host.address, &members);
    state.links.insert(name("up-out"), Link::new(LinkKind::VethEnd));
    state.set_sysctl("net/ipv6/conf/up-out/addr_gen_mode", "1");
    state
}

trait SetSysctl {
    fn set_sysctl(&mut self, key: &str, value: &str);
}

impl SetSysctl for NamespaceState {
    fn set_sysctl(&mut self, key: &str, value: &str) {
        self.sysctls.insert(key.to_owned(), value.to_owned());
    }
}

fn uplink(node: &Node) {
    clean(&node.network.kernel, &uplink_state(node));
    clean(&node.host.kernel, &host_with_uplink(node));
}

fn wish(node: &Node) -> FastPath {
    let overlay = &node.overlay;
    let segment = FastSegment {
        namespace: node.network.netns.reference(),
        way_out: WayOut::Uplink { inside: name("up-in"), outside: name("up-out") },
        ports: overlay.local.iter().map(|local| (port_name(&local.id), local.mac)).collect(),
        remote: overlay.forwarding().map(|(_, mac, vtep)| (mac, vtep)).collect(),
    };
    FastPath {
        vtep: overlay.vtep,
        port: PORT,
        host: node.host.netns.reference(),
        underlay: [name("eth0")].into(),
        segments: BTreeMap::from([(vni(), segment)]),
    }
}

/// Pings so often without a loss.
fn floods(from: &weft_kernel::Netns, to: &str, count: u32) {
    let words = ok(from, &format!("ping -n -q -c {count} -i 0.01 -W 2 {to}"));
    assert!(words.contains(" 0% packet loss"), "{words}");
}

/// So many bytes by TCP, counted at the other end.
fn transfer(from: &weft_kernel::Netns, to: &weft_kernel::Netns, address: &str, bytes: usize) {
    use std::io::{Read, Write};
    let address: std::net::SocketAddr = address.parse().unwrap();
    let listener = to.run_in(|| std::net::TcpListener::bind(address).unwrap()).unwrap();
    let sender = from
        .run_in(|| std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(5)).unwrap())
        .unwrap();
    let reader = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let (mut buffer, mut sum) = (vec![0; 1 << 16], 0usize);
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => return sum,
                read => {
                    assert!(buffer[..read].iter().all(|byte| *byte == 0x5a));
                    sum += read;
                }
            }
        }
    });
    let block = vec![0x5a; 1 << 16];
    let mut left = bytes;
    while left > 0 {
        let part = left.min(block.len());
        (&sender).write_all(&block[..part]).unwrap();
        left -= part;
    }
    drop(sender);
    assert_eq!(reader.join().unwrap(), bytes);
}

fn everything_flows(a: &Fast, b: &Fast) {
    let (from, to) = (a.container(), b.container());
    // Neighbours are known, and all that comes now is known stations' unicast.
    for address in ["10.0.1.3", "fd00:1::3"] {
        assert!(pings(from, address), "{address}");
    }
    let (at_a, at_b) = (a.counters(), b.counters());
    floods(from, "10.0.1.3", 50);
    floods(from, "fd00:1::3", 50);
    assert!(run(from, "ping -n -c 1 -W 1 -M do -s 1422 10.0.1.3").0, "a packet of the full MTU");
    transfer(from, to, "10.0.1.3:9001", 20 << 20);
    transfer(from, to, "[fd00:1::3]:9002", 20 << 20);
    transfer(to, from, "10.0.1.2:9003", 20 << 20);
    let (by_a, by_b) = (a.carried(&at_a), b.carried(&at_b));
    for by in [by_a, by_b] {
        assert!(by.encapsulated > 400 && by.decapsulated > 400, "{by:?}");
        assert_eq!(by.received, by.decapsulated, "{by:?}");
        assert_eq!((by.errors, by.unroutable, by.wrong_sender), (0, 0, 0), "{by:?}");
        assert!(by.slow_path < 40, "{by:?}");
    }
}

#[test]
fn containers_reach_each_other_past_the_bridges() {
    let (a, b, _neighbour, _switch) = two(Attachment::Tcx);
    everything_flows(&a, &b);
}

#[test]
fn filters_do_the_same_where_there_is_no_tcx() {
    let (a, b, _neighbour, _switch) = two(Attachment::Filter);
    everything_flows(&a, &b);
}

#[test]
fn neighbours_on_a_host_are_served_directly() {
    let (a, _b, neighbour, _switch) = two(Attachment::Tcx);
    assert!(pings(a.container(), "10.0.1.9"));
    let before = a.counters();
    floods(a.container(), "10.0.1.9", 30);
    floods(a.container(), "fd00:1::9", 30);
    transfer(a.container(), &neighbour.netns, "10.0.1.9:9001", 20 << 20);
    let by = a.carried(&before);
    assert!(by.delivered > 200 && by.encapsulated == 0 && by.errors == 0, "{by:?}");
    // Not on the fast path: the gateway, broadcast.
    assert!(pings(a.container(), "10.0.1.1"));
}

#[test]
fn a_restarted_daemon_finds_all_as_it_was() {
    let (mut a, b, _neighbour, _switch) = two(Attachment::Tcx);
    assert!(pings(a.container(), "10.0.1.3"));
    let before = a.counters();
    drop(a.engine.take());
    floods(a.container(), "10.0.1.3", 20);
    a.engine = Some(FastPathEngine::open_blocking(&a.folder.path()).unwrap());
    assert!(a.carried(&before).encapsulated >= 20);
    let report = a.reconcile();
    assert!(report.is_unchanged(), "{report:?}");
    a.restart();
    assert!(a.reconcile().is_unchanged());
    drop(b);
}
