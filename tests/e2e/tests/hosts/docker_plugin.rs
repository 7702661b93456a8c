//! Docker's plugin protocol: a real dockerd beside each weftd, whose containers are on Weft's overlay.

use weft_e2e::{Hosts, refusal, weft_exe};
use weft_lab::{Daemon, DaemonSpec, Host, LabError, LabSpec, eventually};

use crate::{SOON, answers};

/// Where dockerd looks for plugins.
const PLUGIN: &str = "/run/docker/plugins/weft.sock";
const CREATE: &str = "network create -d weft --ipam-driver weft --ipam-opt weft.network=web";

/// A dockerd on a host that has a weftd already.
struct Dockerd {
    host: Host,
    daemon: Daemon,
}

impl Dockerd {
    fn start(hosts: &Hosts, name: &str) -> Self {
        let host = hosts.host(name).clone();
        // docker0 is weftd's.
        let bridge = "ip link add dockerd0 type bridge && ip addr add 172.31.7.1/24 dev dockerd0 && ip link set dockerd0 up";
        host.sh(bridge).unwrap();
        let daemon = host.start_daemon(&Self::spec()).unwrap();
        let dockerd = Self { host, daemon };
        let image = hosts.lab().busybox_tar().unwrap().display().to_string();
        dockerd.run(&format!("import {image} busybox")).unwrap();
        dockerd
    }

    fn spec() -> DaemonSpec {
        DaemonSpec::docker().arg("--bridge=dockerd0")
    }

    fn run(&self, line: &str) -> Result<String, LabError> {
        self.words(&line.split_whitespace().collect::<Vec<_>>())
    }

    fn words(&self, words: &[&str]) -> Result<String, LabError> {
        let url = self.daemon.url();
        let client = ["-s", "KILL", "90", "docker", "-H", &url];
        Ok(self.host.run("timeout", client.iter().chain(words))?.trim().to_owned())
    }

    fn refused(&self, line: &str) -> String {
        match self.run(line) {
            Ok(text) => panic!("{line} must be refused; it printed {text}"),
            Err(error) => error.to_string(),
        }
    }

    fn address(&self, container: &str) -> String {
        let template = "{{.NetworkSettings.Networks.mynet.IPAddress}}";
        self.words(&["inspect", container, "--format", template]).unwrap()
    }

    fn pings(&self, from: &str, address: &str) {
        let ask = || self.run(&format!("exec {from} ping -c 1 -W 1 {address}"));
        eventually(&format!("{address} answers {from}"), SOON, ask);
        let three = self.run(&format!("exec {from} ping -c 3 -W 2 {address}")).unwrap();
        assert!(three.contains(" 0% packet loss"), "{three}");
    }

    /// Interfaces of Weft's that wait for a container in the host's namespace.
    fn waiting(&self) -> usize {
        let links = self.host.sh("ip -o link show type veth").unwrap();
        links.lines().filter(|link| link.contains(": weft") && !link.contains(": weft-")).count()
    }
}

/// Two hosts with both daemons, an overlay `web`, and dockerd's network `mynet` for it.
fn both() -> (Hosts, Dockerd, Dockerd) {
    let hosts = Hosts::up_with(LabSpec::bridged("dkplugin", 2), |_| {
        DaemonSpec::weft(&weft_exe()).arg(format!("--weft-docker-plugin={PLUGIN}"))
    });
    for host in ["h1", "h2"] {
        // The bridge that dockerd makes for the way out has the name that Weft's would have.
        let own = "network create --opt com.docker.network.bridge.name=weft_gwbridge docker_gwbridge";
        hosts.docker(host, own).unwrap();
    }
    hosts.swarm();
    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    let [one, two] = ["h1", "h2"].map(|host| Dockerd::start(&hosts, host));
    (hosts, one, two)
}

#[test]
fn docker_plugin_gives_a_real_dockerd_wefts_overlays() {
    let (mut hosts, mut one, two) = both();
    refusals(&hosts, &one);
    for dockerd in [&one, &two] {
        dockerd.run(&format!("{CREATE} mynet")).unwrap();
    }
    hosts.run_idle("h1", "own", "--network web").unwrap();
    one.run("run -d --name ann --network name=mynet,driver-opt=weft.name=ann busybox sleep 100000").unwrap();
    two.run("run -d --name bob --network mynet -p 8080:80 busybox httpd -f -p 80 -h /etc").unwrap();
    let [ann, bob] = [one.address("ann"), two.address("bob")];
    assert!(ann.starts_with("10.0.1.") && bob.starts_with("10.0.1.") && ann != bob, "{ann} {bob}");
    assert_eq!(one.run("exec ann cat /sys/class/net/eth0/mtu").unwrap(), "1450");

    everybody_answers(&hosts, &one, &two);
    let served = || hosts.host("h1").sh("curl -sf http://10.99.0.2:8080/hostname");
    eventually("a port that dockerd publishes answers", SOON, served);

    for stop in [Daemon::kill as fn(&Daemon) -> Result<(), LabError>, Daemon::stop] {
        stop(hosts.daemon("h1")).unwrap();
        one.pings("ann", &bob);
        hosts.start("h1");
        one.pings("ann", &bob);
    }
    hosts.wait_ready(2);
    hosts.docker("h1", "start own").unwrap();
    everybody_answers(&hosts, &one, &two);
    assert_eq!(one.waiting(), 0, "what dockerd took is not made again");

    // A container that starts again, and a dockerd that crashes: nothing is left behind, everything is found again.
    one.run("restart -t 0 ann").unwrap();
    everybody_answers(&hosts, &one, &two);
    one.daemon.kill().unwrap();
    // Its containerd ended with it; where nobody collects the dead, the next dockerd would wait for that one.
    one.host.sh("rm -f /run/docker/containerd/containerd.pid").unwrap();
    one.daemon = one.host.start_daemon(&Dockerd::spec()).unwrap();
    one.run("start ann").unwrap();
    everybody_answers(&hosts, &one, &two);
    assert_eq!(known(&hosts, "h1"), 2, "own and ann");
    removed(&hosts, &one, &two);
}

fn everybody_answers(hosts: &Hosts, one: &Dockerd, two: &Dockerd) {
    let [ann, bob] = [one.address("ann"), two.address("bob")];
    one.pings("ann", &bob);
    two.pings("bob", &ann);
    two.pings("bob", &hosts.address("h1", "own", "web").unwrap());
    assert!(answers(hosts, "h1", "own", &bob).is_lossless());
    let by_name = answers(hosts, "h1", "own", "ann");
    assert!(by_name.is_lossless() && by_name.address == ann, "{by_name:?}");
    // The way out is dockerd's.
    one.pings("ann", "10.99.0.2");
}

fn refusals(hosts: &Hosts, dockerd: &Dockerd) {
    hosts.docker("h1", "network create -d overlay closed").unwrap();
    for (line, words) in [
        ("network create -d weft plain", "add --ipam-driver weft --ipam-opt weft.network=NAME"),
        ("network create -d weft --ipam-driver weft plain", "add --ipam-opt weft.network=NAME"),
        (
            "network create -d weft --ipam-driver weft --ipam-opt weft.network=nosuch plain",
            "network nosuch not found",
        ),
        (
            "network create -d weft --ipam-driver weft --ipam-opt weft.network=closed plain",
            "not manually attachable",
        ),
        (
            "network create -d weft --ipam-driver weft --ipam-opt weft.network=bridge plain",
            "is no overlay network",
        ),
        (&format!("{CREATE} --subnet 10.77.0.0/24 plain"), "leave out --subnet"),
        (&format!("{CREATE} --subnet 10.0.1.0/24 --gateway 10.0.1.9 plain"), "leave out --gateway"),
    ] {
        let text = dockerd.refused(line);
        assert!(text.contains(words), "{line}: {text}");
    }
    assert_eq!(known(hosts, "h1"), 0, "nothing is left of what was refused");
}

fn removed(hosts: &Hosts, one: &Dockerd, two: &Dockerd) {
    let text = one.refused("network rm mynet");
    assert!(text.contains("active endpoints"), "{text}");
    let in_use = refusal(hosts.docker("h1", "network rm web"));
    assert!(in_use.contains("is in use by task"), "{in_use}");
    for (dockerd, name) in [(one, "ann"), (two, "bob")] {
        dockerd.run(&format!("rm -f {name}")).unwrap();
        dockerd.run("network rm mynet").unwrap();
        assert_eq!(dockerd.waiting(), 0);
    }
    assert_eq!((known(hosts, "h1"), known(hosts, "h2")), (1, 0), "own is left");
    for dockerd in [one, two] {
        dockerd.daemon.stop().unwrap();
    }
}

/// Containers that a host's weftd knows on the overlay.
fn known(hosts: &Hosts, host: &str) -> usize {
    let listed = hosts.docker(host, ["network", "inspect", "web", "--format", "{{len .Containers}}"]);
    listed.ok().and_then(|count| count.parse().ok()).unwrap_or(0)
}
