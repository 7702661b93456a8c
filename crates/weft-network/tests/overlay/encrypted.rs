//! Encrypted networks.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use weft_kernel::Netns;
use weft_network::EndpointSpec;
use weft_plan::EncryptionEngine;

use crate::common::{self, Host, ask, at, container, eventually, sandbox, serve, shell};
use crate::pair::Pair;

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
    let socket = pair.hosts[1].netns.run_in(|| UdpSocket::bind("192.0.2.2:0").unwrap()).unwrap();
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

/// Datagrams that travel joined, cut where they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_come_as_they_were_sent() {
    let pair = Pair::encrypted().await;
    pair.tell(None).await;
    let (_, in_a, _) = pair.run(0, "a").await;
    let (_, in_b, at_b) = pair.run(1, "b").await;
    pair.tell(None).await;
    let ips = [at_b.address.unwrap().ip(), at_b.address6.unwrap().ip()];
    serve(&in_b, at(ips[0], 80), SECRET);
    eventually("the containers talk", || ask(&in_a, at(ips[0], 80)).is_ok()).await;
    for ip in ips {
        let receiver = in_b.run_in(|| UdpSocket::bind(at(ip, 81)).unwrap()).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        setsockopt(&receiver, sockopt::RcvBufForce, &(8 << 20)).unwrap();
        let unspecified = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let sender = in_a.run_in(|| UdpSocket::bind(unspecified).unwrap()).unwrap();
        sender.connect(at(ip, 81)).unwrap();
        // A path is known before many are sent at once.
        exchange(&sender, &receiver, &[1]);
        for sizes in [vec![64; 200], vec![1360; 100], vec![300, 300, 299, 300, 1, 0, 0, 7, 7, 8]] {
            exchange(&sender, &receiver, &sizes);
        }
        // The sender's kernel gets many in one call.
        let bytes: Vec<u8> = (0..30_500u32).map(|n| (n % 251) as u8).collect();
        setsockopt(&sender, sockopt::UdpGsoSegment, &1000).unwrap();
        sender.send(&bytes).unwrap();
        for part in bytes.chunks(1000) {
            assert_eq!(received(&receiver), part, "one of many");
        }
        // Nothing but the engine joins on this way, so this shows that it does.
        setsockopt(&receiver, sockopt::UdpGroSegment, &true).unwrap();
        sender.send(&bytes).unwrap();
        let mut joined = Vec::new();
        let mut calls = 0;
        while joined.len() < bytes.len() {
            let mut buffer = vec![0; 65_536];
            let len = receiver.recv(&mut buffer).unwrap();
            joined.extend_from_slice(&buffer[..len]);
            calls += 1;
        }
        assert_eq!(joined, bytes);
        let by_us = pair.controllers[1].encryption_engine() == Some(EncryptionEngine::Userspace);
        assert!(!by_us || kernel() < (6, 2) || calls < 10, "{calls} calls for 31 datagrams");
    }
    pair.end().await;
}

/// Version and patch level.
fn kernel() -> (u32, u32) {
    let name = rustix::system::uname();
    let mut numbers = name.release().to_str().unwrap().split(['.', '-']).map(|part| part.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Sends datagrams of these sizes, each with bytes of its own, which come in order.
fn exchange(sender: &UdpSocket, receiver: &UdpSocket, sizes: &[usize]) {
    let datagram = |(number, size): (usize, &usize)| vec![number as u8; *size];
    for bytes in sizes.iter().enumerate().map(datagram) {
        sender.send(&bytes).unwrap();
    }
    for bytes in sizes.iter().enumerate().map(datagram) {
        assert_eq!(received(receiver), bytes, "of {}", sizes.len());
    }
}

fn received(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let len = socket.recv(&mut buffer).unwrap();
    buffer[..len].to_vec()
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

fn serve_bytes(netns: &Netns, address: SocketAddr) -> std::thread::JoinHandle<()> {
    let listener = netns.run_in(|| TcpListener::bind(address).unwrap()).unwrap();
    std::thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let bytes: Vec<u8> = SECRET.bytes().cycle().take(BULK).collect();
        let _ = stream.write_all(&bytes);
    })
}

/// How many of the right bytes come.
fn fetch(netns: &Netns, address: SocketAddr) -> usize {
    let run = || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
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
