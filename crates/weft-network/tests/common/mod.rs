//! A host of its own for each test: a namespace, folders, a controller.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngCore;
use weft_kernel::Netns;
use weft_network::{Controller, ControllerConfig, SandboxKind, SandboxSpec};
use weft_types::ContainerId;

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
        // Pinned namespaces outlive the folder otherwise.
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
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
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
