//! A host of its own for each test: a namespace, folders, a controller.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "helpers of tests; each file uses its part"
)]

pub mod many;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngCore;
use weft_kernel::Netns;
use weft_network::{Controller, ControllerConfig, OverlaySpec, OverlaySubnet, SandboxKind, SandboxSpec};
use weft_types::{ContainerId, Vni};

/// An attachable overlay network with these subnets and their gateways.
pub fn overlay(id: &str, subnets: &[(&str, &str)]) -> OverlaySpec {
    let subnet = |(subnet, gateway): &(&str, &str)| OverlaySubnet {
        subnet: subnet.parse().unwrap(),
        gateway: Some(gateway.parse().unwrap()),
        vni: Some(Vni::try_from(4097).unwrap()),
        range: None,
        auxiliary: BTreeMap::new(),
    };
    OverlaySpec {
        id: id.parse().unwrap(),
        name: "ov1".to_owned(),
        subnets: subnets.iter().map(subnet).collect(),
        mtu: None,
        attachable: true,
        internal: false,
        encrypted: false,
        ingress: false,
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
    }
}

pub struct Host {
    pub netns: Netns,
    pub dir: tempfile::TempDir,
    pub config: ControllerConfig,
}

impl Host {
    pub fn new() -> Self {
        Self::in_namespace(Netns::anonymous().unwrap())
    }

    pub fn in_namespace(netns: Netns) -> Self {
        let dir = tempfile::tempdir().unwrap();
        netns
            .run_in(|| std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap())
            .unwrap();
        let resolv = dir.path().join("resolv.conf");
        std::fs::write(&resolv, "nameserver 192.0.2.53\nsearch example.org\n").unwrap();
        let config = ControllerConfig {
            host: netns.reference(),
            resolv_conf: resolv,
            audit_interval: Duration::from_secs(3600),
            watch_kernel: false,
            ..ControllerConfig::new(dir.path().join("state"), dir.path().join("run"))
        };
        Self { netns, dir, config }
    }

    pub async fn controller(&self) -> Arc<Controller> {
        Controller::open(self.config.clone()).await.unwrap()
    }

    /// Runs a command in the host's namespace and gives what it says.
    pub fn shell(&self, command: &str) -> String {
        shell(&self.netns, command)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("run/helper/log"));
            eprintln!("helper of {}: {}", self.netns.path().display(), log.unwrap_or_default());
        }
        // Programs and pinned namespaces outlive the folder otherwise.
        for programs in ["bpf", "connect"].map(|folder| self.dir.path().join("run").join(folder)) {
            if programs.exists() {
                let _ = std::process::Command::new("umount").arg("-l").arg(programs).output();
            }
        }
        let pins = self.dir.path().join("run/netns");
        for entry in std::fs::read_dir(pins).into_iter().flatten().flatten() {
            let _ = Netns::remove(entry.path());
        }
    }
}

pub fn shell(netns: &Netns, command: &str) -> String {
    let run = || std::process::Command::new("sh").args(["-c", command]).output().unwrap();
    let output = netns.run_in(run).unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

pub fn container() -> ContainerId {
    ContainerId::random(&mut rand::rng())
}

pub fn sandbox(container: &ContainerId, name: &str) -> SandboxSpec {
    SandboxSpec {
        container: container.clone(),
        name: name.to_owned(),
        kind: SandboxKind::Own,
        hostname: container.short().to_owned(),
        domainname: String::new(),
        dns: Vec::new(),
        dns_search: Vec::new(),
        dns_options: Vec::new(),
        extra_hosts: Vec::new(),
        ports: Vec::new(),
    }
}

/// A server in a namespace that answers each connection with `text` and the client's address.
pub fn serve(netns: &Netns, address: SocketAddr, text: &'static str) {
    let listener = netns.run_in(|| TcpListener::bind(address).unwrap()).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let peer = stream.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
            let _ = stream.write_all(format!("{text} {peer}").as_bytes());
        }
    });
}

/// What the server at `address` says to a client in `netns`.
pub fn ask(netns: &Netns, address: SocketAddr) -> std::io::Result<String> {
    let run = || {
        // Long enough for a second SYN, which goes out after a second.
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(2500))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    netns.run_in(run).unwrap()
}

pub fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

/// Waits until `check` is true.
pub async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !check() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn random() -> u64 {
    rand::rng().next_u64()
}

/// Starts the helper as a test of this very program: see [`helper_entry`].
pub fn helper_launch() -> weft_network::HelperLaunch {
    helper_of(&std::env::current_exe().unwrap())
}

/// The same with another program, which is a copy of this one.
pub fn helper_of(exe: &Path) -> weft_network::HelperLaunch {
    let script = format!(
        "WEFT_HELPER_DIR=\"$2\" WEFT_HELPER_HOW=\"$3\" exec {} helper_entry --exact --ignored --nocapture",
        exe.display()
    );
    weft_network::HelperLaunch { exe: "/bin/sh".into(), args: vec!["-c".into(), script.into(), "sh".into()] }
}

/// What a `helper_entry` test does: it is the helper.
pub fn helper_entry() {
    let Some(dir) = std::env::var_os("WEFT_HELPER_DIR") else { return };
    let how = std::env::var("WEFT_HELPER_HOW").unwrap_or_default();
    let args = [String::from("--dir"), dir.into_string().unwrap(), how];
    weft_network::helper_main(args.into_iter().filter(|arg| !arg.is_empty()).collect());
}

/// The helper of a controller, by its log.
pub fn helper_pid(host: &Host) -> Option<i32> {
    let log = std::fs::read_to_string(host.dir.path().join("run/helper/log")).ok()?;
    let line = log.lines().rfind(|line| line.contains("helper serves"))?;
    line.rsplit("pid=").next()?.trim().parse().ok()
}

pub fn is_running(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

pub fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// A DNS query in a namespace; the whole answer.
pub fn dns(netns: &Netns, server: &str, name: &str, kind: u16) -> std::io::Result<Vec<u8>> {
    dns_within(Duration::from_secs(2), netns, server, name, kind)
}

pub fn dns_within(
    limit: Duration,
    netns: &Netns,
    server: &str,
    name: &str,
    kind: u16,
) -> std::io::Result<Vec<u8>> {
    let server: SocketAddr = server.parse().unwrap();
    let query = dns_query(name, kind);
    netns
        .run_in(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(limit))?;
            socket.connect(server)?;
            socket.send(&query)?;
            let mut answer = vec![0; 4096];
            let len = socket.recv(&mut answer)?;
            answer.truncate(len);
            Ok(answer)
        })
        .unwrap()
}

/// The same over TCP.
pub fn dns_tcp(netns: &Netns, server: &str, name: &str, kind: u16) -> std::io::Result<Vec<u8>> {
    let server: SocketAddr = server.parse().unwrap();
    let query = dns_query(name, kind);
    netns
        .run_in(|| {
            let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(2))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(&(query.len() as u16).to_be_bytes())?;
            stream.write_all(&query)?;
            let mut len = [0; 2];
            stream.read_exact(&mut len)?;
            let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
            stream.read_exact(&mut answer)?;
            Ok(answer)
        })
        .unwrap()
}

pub fn dns_query(name: &str, kind: u16) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&kind.to_be_bytes());
    query.extend_from_slice(&[0, 1]);
    query
}

/// Response code and the IPv4 addresses of the answer's records.
pub fn dns_result(answer: &[u8], question: &str) -> (u8, Vec<std::net::Ipv4Addr>) {
    let mut at = 12 + question.len() + 2 + 4;
    let count = u16::from_be_bytes([answer[6], answer[7]]);
    let mut found = Vec::new();
    for _ in 0..count {
        // The owner's name, whole or as a pointer.
        at += if answer[at] & 0xc0 == 0xc0 { 2 } else { question.len() + 2 } + 8;
        let len = usize::from(u16::from_be_bytes([answer[at], answer[at + 1]]));
        at += 2;
        if let Ok(octets) = <[u8; 4]>::try_from(&answer[at..at + len]) {
            found.push(octets.into());
        }
        at += len;
    }
    found.sort();
    (answer[3] & 0x0f, found)
}
