//! Nodes with a fast path, and traffic between their containers.

use std::collections::BTreeMap;

use weft_kernel::{Attachment, FastPathCounters, FastPathEngine, FastPathReport, Netns};
use weft_plan::*;
use weft_types::{MacAddr, Vni};

use crate::common::*;

/// A node with its part of the fast path.
pub(crate) struct Fast {
    pub(crate) node: Node,
    pub(crate) engine: Option<FastPathEngine>,
    pub(crate) folder: Folder,
    pub(crate) wish: FastPath,
}

/// Where objects are pinned. What is mounted there would outlive the test.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.0.path().join("bpf")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-lq").arg(self.path()).output();
    }
}

/// What this kernel has, the best one first.
pub(crate) fn attachments() -> Vec<Attachment> {
    use aya::programs::{SchedClassifier, TcAttachType};
    let tcx = SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok();
    if tcx { vec![Attachment::Tcx, Attachment::Filter] } else { vec![Attachment::Filter] }
}

pub(crate) fn best() -> Attachment {
    attachments()[0]
}

pub(crate) fn vni() -> Vni {
    4097.try_into().unwrap()
}

impl Fast {
    pub(crate) fn new(node: Node, attachment: Attachment) -> Self {
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

    pub(crate) fn reconcile(&mut self) -> FastPathReport {
        let (engine, wish) = (self.engine.as_mut().unwrap(), &self.wish);
        engine.reconcile_blocking(Some(wish)).unwrap()
    }

    pub(crate) fn counters(&self) -> FastPathCounters {
        self.engine.as_ref().unwrap().counters_blocking().unwrap()
    }

    /// As a daemon that ends and one that begins.
    pub(crate) fn restart(&mut self) {
        let attachment = self.engine.take().unwrap().attachment();
        self.engine = Some(FastPathEngine::open_with_blocking(&self.folder.path(), attachment).unwrap());
    }

    pub(crate) fn container(&self) -> &Netns {
        &self.node.container.netns
    }

    /// What was carried since.
    pub(crate) fn carried(&self, before: &FastPathCounters) -> FastPathCounters {
        let now = self.counters();
        FastPathCounters {
            delivered: now.delivered - before.delivered,
            encapsulated: now.encapsulated - before.encapsulated,
            decapsulated: now.decapsulated - before.decapsulated,
            received: now.received - before.received,
            handed_over: now.handed_over - before.handed_over,
            slow_path: now.slow_path - before.slow_path,
            wrong_sender: now.wrong_sender - before.wrong_sender,
            unroutable: now.unroutable - before.unroutable,
            errors: now.errors - before.errors,
            ..FastPathCounters::default()
        }
    }
}

/// Two nodes, the first with two containers (10.0.1.2, 10.0.1.9).
pub(crate) fn two(attachment: Attachment) -> (Fast, Fast, Place, Place) {
    let (nodes, neighbour, switch) = prepared();
    let mut nodes = nodes.into_iter().map(|node| Fast::new(node, attachment));
    (nodes.next().unwrap(), nodes.next().unwrap(), neighbour, switch)
}

pub(crate) fn prepared() -> (Vec<Node>, Place, Place) {
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
pub(crate) fn uplink_state(node: &Node) -> NamespaceState {
    let mut state = node.overlay.plan();
    let peer = VethPeer::plain(node.host.netns.reference(), name("up-out"));
    state.links.insert(name("up-in"), Link::new(LinkKind::Veth(Some(peer))));
    state
}

pub(crate) fn host_with_uplink(node: &Node) -> NamespaceState {
    let members: Vec<_> = node.overlay.remote.iter().map(|remote| remote.vtep).collect();
    let mut state = host_state(node.host.address, &members);
    state.links.insert(name("up-out"), Link::new(LinkKind::VethEnd));
    state.sysctls.insert("net/ipv6/conf/up-out/addr_gen_mode".to_owned(), "1".to_owned());
    state
}

pub(crate) fn uplink(node: &Node) {
    clean(&node.network.kernel, &uplink_state(node));
    clean(&node.host.kernel, &host_with_uplink(node));
}

pub(crate) fn wish(node: &Node) -> FastPath {
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
pub(crate) fn floods(from: &Netns, to: &str, count: u32) {
    let words = ok(from, &format!("ping -n -q -c {count} -i 0.01 -W 2 {to}"));
    assert!(words.contains(" 0% packet loss"), "{words}");
}

/// So many bytes by TCP, counted at the other end.
pub(crate) fn transfer(from: &Netns, to: &Netns, address: &str, bytes: usize) {
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
