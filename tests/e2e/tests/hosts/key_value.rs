//! Key-value mode: hosts that find each other in Consul or etcd, as in the session of document 2.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use weft_e2e::{Hosts, refusal, weft_exe};
use weft_lab::{DaemonSpec, Host, LabSpec, eventually};

use crate::SOON;
use crate::global_networks::containers_outlive_the_data;

/// A store that was started answers within this time.
pub(crate) const UP: Duration = Duration::from_secs(30);
/// Consul's shortest lease is 20 seconds, and it looks for ended ones now and then.
const ENDED: Duration = Duration::from_secs(40);
const INCOMPATIBLE: &str =
    "--cluster-store and --cluster-advertise daemon configurations are incompatible with swarm mode";

/// A store on a host, which answers; it ends with the value.
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn consul(host: &Host) -> Self {
        let mut command = host.command("consul");
        command.args([
            "agent",
            "-dev",
            "-node",
            "test",
            "-bind",
            &host.ipv4.to_string(),
            "-client",
            "0.0.0.0",
        ]);
        Self::spawn(host, command, "8500/v1/status/leader | grep -q :")
    }

    fn etcd(host: &Host) -> Self {
        let mut command = host.command("etcd");
        let (clients, data) = (format!("http://{}:2379", host.ipv4), host.dir.join("etcd"));
        command.arg("--data-dir").arg(data).args(["--listen-client-urls", &clients]);
        command.args(["--advertise-client-urls", &clients]);
        Self::spawn(host, command, "2379/health | grep -q true")
    }

    /// A group of three on one host, at the ports 2379, 2381 and 2383.
    pub(crate) fn three_etcds(host: &Host) -> Vec<Self> {
        let at = |port: u16| format!("http://{}:{port}", host.ipv4);
        let ports = [2379, 2381, 2383];
        let group: Vec<String> = ports.iter().map(|port| format!("e{port}={}", at(port + 1))).collect();
        let start = |port: u16| {
            let mut command = host.command("etcd");
            command.args(["--name", &format!("e{port}"), "--initial-cluster", &group.join(",")]);
            command.arg("--data-dir").arg(host.dir.join(format!("etcd-{port}")));
            command.args(["--listen-client-urls", &at(port), "--advertise-client-urls", &at(port)]);
            command.args(["--listen-peer-urls", &at(port + 1)]);
            command.args(["--initial-advertise-peer-urls", &at(port + 1)]);
            Self::start(command)
        };
        let servers = ports.map(start).into();
        for port in ports {
            wait_ready(host, &format!("{port}/health | grep -q true"));
        }
        servers
    }

    /// Starts it and waits until it is ready by this port, path and check.
    fn spawn(host: &Host, command: Command, ready: &str) -> Self {
        let server = Self::start(command);
        wait_ready(host, ready);
        server
    }

    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("start the store: `cargo xtask test e2e` puts it on the PATH"))
    }

    /// It neither answers nor hangs up, until `CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([&format!("-{signal}"), &self.0.id().to_string()]).status();
        assert!(done.expect("kill").success());
    }
}

fn wait_ready(host: &Host, ready: &str) {
    let ask = format!("curl -s http://{}:{ready}", host.ipv4);
    eventually("the store answers", UP, || host.sh(&ask));
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until Consul on `h1` has exactly these nodes, each with its own name as value.
pub(crate) fn wait_nodes(hosts: &Hosts, want: &[&str], limit: Duration) {
    let ask = format!("curl -s 'http://{}:8500/v1/kv/docker/nodes/?recurse'", hosts.host("h1").ipv4);
    eventually(&format!("nodes {want:?} in Consul"), limit, || {
        let text = hosts.host("h1").sh(&ask).map_err(|e| e.to_string())?;
        let pairs: Vec<serde_json::Value> = if text.trim().is_empty() {
            Vec::new()
        } else {
            serde_json::from_str(&text).map_err(|_| text.clone())?
        };
        let keys: Vec<&str> =
            pairs.iter().filter_map(|p| p["Key"].as_str()?.strip_prefix("docker/nodes/")).collect();
        if keys == want { Ok(()) } else { Err(text) }
    });
}

fn info(hosts: &Hosts, host: &str) -> serde_json::Value {
    let socket = hosts.daemon(host).socket.display().to_string();
    let text =
        hosts.host(host).sh(&format!("curl -s --unix-socket {socket} http://weft/v1.40/info")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// `h1` by its `daemon.json`, `h2` by flags.
fn daemon(host: &str, file: &std::path::Path) -> DaemonSpec {
    let spec = DaemonSpec::weft(&weft_exe());
    match host {
        "h1" => spec.arg(format!("--config-file={}", file.display())),
        _ => spec
            .arg("--cluster-store=consul://10.99.0.1:8500")
            .arg("--cluster-advertise=10.99.0.2:2375")
            .arg("--cluster-store-opt=discovery.heartbeat=1")
            .arg("--cluster-store-opt=discovery.ttl=3"),
    }
}

#[test]
fn f1_hosts_find_each_other_in_consul() {
    let file = std::env::temp_dir().join(format!("weft-key-value-{}.json", std::process::id()));
    let text = r#"{"cluster-store": "consul://10.99.0.1:8500", "cluster-advertise": "10.99.0.1:2375",
        "cluster-store-opts": {"discovery.heartbeat": "1", "discovery.ttl": "3"}}"#;
    std::fs::write(&file, text).unwrap();
    let servers = std::cell::RefCell::new(Vec::new());
    let prepare = |host: &Host| {
        if host.name == "h1" {
            servers.borrow_mut().push(Server::consul(host));
        }
    };
    let mut hosts = Hosts::up_prepared(LabSpec::bridged("kvcons", 2), |host| daemon(host, &file), prepare);
    wait_nodes(&hosts, &["10.99.0.1:2375", "10.99.0.2:2375"], UP);
    about_the_daemon(&hosts);

    hosts.daemon("h2").kill().unwrap();
    wait_nodes(&hosts, &["10.99.0.1:2375"], ENDED);
    hosts.start("h2");
    wait_nodes(&hosts, &["10.99.0.1:2375", "10.99.0.2:2375"], SOON);
    let seen = std::fs::read_to_string(&hosts.daemon("h1").log).unwrap();
    assert!(seen.contains("a node is no longer in the key-value store"), "{seen}");
    hosts.daemon("h2").stop().unwrap();
    // At once: the lease would have lasted much longer.
    wait_nodes(&hosts, &["10.99.0.1:2375"], Duration::from_secs(1));

    containers_outlive_the_data(&mut hosts, &servers);
    // Without the store a daemon starts and works; it registers as soon as the store is there, empty as it is.
    servers.borrow_mut().clear();
    let before = std::fs::read_to_string(&hosts.daemon("h2").log).unwrap().len();
    hosts.start("h2");
    hosts.docker("h2", "run --rm busybox true").unwrap();
    servers.borrow_mut().push(Server::consul(hosts.host("h1")));
    wait_nodes(&hosts, &["10.99.0.1:2375", "10.99.0.2:2375"], UP);
    let log = std::fs::read_to_string(&hosts.daemon("h2").log).unwrap();
    let told = log[before..].matches("not registered in the key-value store").count();
    assert_eq!(told, 1, "one line for the time without it: {log}");
    std::fs::remove_file(&file).unwrap();
}

/// What users see of the mode, and what it excludes.
fn about_the_daemon(hosts: &Hosts) {
    let info = info(hosts, "h1");
    assert_eq!(info["ClusterStore"], "consul://10.99.0.1:8500");
    assert_eq!(info["ClusterAdvertise"], "10.99.0.1:2375");
    assert!(info["Warnings"][0].as_str().unwrap().contains("without TLS"), "{}", info["Warnings"]);
    let open = hosts.host("h1").sh("ss -Hltn sport = 2375").unwrap();
    assert_eq!(open.trim(), "", "the advertised port is not opened");
    for command in ["swarm init --advertise-addr 10.99.0.1", "swarm join --token SWMTKN-1-x-y 10.99.0.2:2377"]
    {
        let text = refusal(hosts.docker("h1", command));
        assert!(text.contains(INCOMPATIBLE), "{command}: {text}");
    }
}

#[test]
fn f1_hosts_find_each_other_in_etcd() {
    let servers = std::cell::RefCell::new(Vec::new());
    let daemon = |_: &str| {
        DaemonSpec::weft(&weft_exe())
            .arg("--cluster-store=etcd://10.99.0.7:2379,10.99.0.1:2379/my")
            .arg("--cluster-advertise=eth0:2375")
            .arg("--cluster-store-opt=discovery.heartbeat=1")
            .arg("--cluster-store-opt=discovery.ttl=3")
    };
    let prepare = |host: &Host| {
        if host.name == "h1" {
            servers.borrow_mut().push(Server::etcd(host));
        }
    };
    let hosts = Hosts::up_prepared(LabSpec::bridged("kvetcd", 2), daemon, prepare);
    // Keys from `my/docker/nodes/` to `my/docker/nodes0`, in base64.
    let ask = r#"curl -s -d '{"key": "bXkvZG9ja2VyL25vZGVzLw==", "range_end": "bXkvZG9ja2VyL25vZGVzMA=="}' http://10.99.0.1:2379/v3/kv/range"#;
    let wait_count = |want: &str, limit: Duration| {
        eventually(&format!("{want} nodes in etcd"), limit, || {
            let text = hosts.host("h1").sh(ask).map_err(|e| e.to_string())?;
            let answer: serde_json::Value = serde_json::from_str(&text).map_err(|_| text.clone())?;
            if answer["count"].as_str().unwrap_or("0") == want { Ok(()) } else { Err(text) }
        });
    };
    wait_count("2", UP);
    assert_eq!(info(&hosts, "h2")["ClusterAdvertise"], "10.99.0.2:2375");
    hosts.daemon("h2").kill().unwrap();
    wait_count("1", ENDED);
    hosts.daemon("h1").stop().unwrap();
    wait_count("0", Duration::from_secs(1));
}

#[test]
fn a_member_of_a_swarm_starts_without_a_store_only() {
    let mut hosts = Hosts::up(LabSpec::bridged("kvswarm", 1));
    hosts.docker("h1", "swarm init --advertise-addr 10.99.0.1").unwrap();
    hosts.daemon("h1").stop().unwrap();
    let with_store = DaemonSpec::weft(&weft_exe()).arg("--cluster-store=consul://10.99.0.1:8500");
    let text = hosts.host("h1").start_daemon(&with_store).unwrap_err().to_string();
    assert!(text.contains(INCOMPATIBLE), "{text}");
    hosts.start("h1");
    hosts.wait_ready(1);
}
