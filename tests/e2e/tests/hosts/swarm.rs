//! Rows A1, A2, A4, A5, A6, A7 and leaving.

use weft_e2e::{Hosts, refusal};
use weft_lab::{Capture, LabSpec, eventually};

use crate::{SOON, answers, swarm_with_pair};

#[test]
fn a1_a2_hosts_behind_a_router_form_a_swarm() {
    let hosts = Hosts::up(LabSpec::routed("a1", 2));
    let text =
        hosts.docker("h1", "swarm init --advertise-addr 10.99.1.2 --listen-addr 10.99.1.2:2377").unwrap();
    let id = text.split(['(', ')']).nth(1).unwrap().to_owned();
    assert_eq!(id.len(), 25, "{text}");
    assert!(text.contains(&format!("Swarm initialized: current node ({id}) is now a manager.")), "{text}");
    let join =
        text.lines().map(str::trim).find(|l| l.starts_with("docker swarm join --token SWMTKN-1-")).unwrap();
    assert!(join.ends_with(" 10.99.1.2:2377"), "{join}");

    let joined = hosts.docker("h2", join.trim_start_matches("docker ")).unwrap();
    assert_eq!(joined, "This node joined a swarm as a worker.");
    hosts.wait_ready(2);
    let list =
        hosts.docker("h1", ["node", "ls", "--format", "{{.Hostname}}|{{.Self}}|{{.ManagerStatus}}"]).unwrap();
    let mut nodes: Vec<&str> = list.lines().collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["h1|true|Leader", "h2|false|"]);

    let info =
        ["info", "--format", "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} {{.Swarm.NodeAddr}}"];
    assert_eq!(hosts.docker("h1", info).unwrap(), "active true 10.99.1.2");
    assert_eq!(hosts.docker("h2", info).unwrap(), "active false 10.99.2.2");
    let role = ["node", "inspect", "h2", "--format", "{{.Spec.Role}} {{.Status.State}} {{.Status.Addr}}"];
    assert_eq!(hosts.docker("h1", role).unwrap(), "worker ready 10.99.2.2");
}

#[test]
fn a4_joining_brings_ingress_and_the_gateway_bridge() {
    let hosts = Hosts::up(LabSpec::bridged("a4", 2));
    let list = |host: &str| {
        let text =
            hosts.docker(host, ["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"]).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let before = ["bridge bridge local", "host host local", "none null local"];
    assert_eq!(list("h1"), before);
    hosts.swarm();
    let after = [
        "bridge bridge local",
        "docker_gwbridge bridge local",
        "host host local",
        "ingress overlay swarm",
        "none null local",
    ];
    for host in ["h1", "h2"] {
        eventually("the two networks", SOON, || {
            let have = list(host);
            if have == after { Ok(()) } else { Err(format!("{host} has {have:?}")) }
        });
    }
    let ingress = "{{.Ingress}} {{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).Gateway}}";
    let ingress = hosts.docker("h1", ["network", "inspect", "ingress", "--format", ingress]).unwrap();
    assert_eq!(ingress, "true 10.0.0.0/24 10.0.0.1");
}

#[test]
fn a5_a6_hosts_talk_at_three_ports_and_gossip_is_sealed() {
    let hosts = Hosts::up(LabSpec::routed("a5", 2));
    let known = "(tcp port 2377 or port 7946 or udp port 4789)";
    let watch = |filter: &str| Capture::start(hosts.host("h1"), "eth0", filter).unwrap();
    let other = watch(&format!("((ip and not icmp) or (ip6 and (tcp or udp))) and not {known}"));
    let management = watch("tcp port 2377");
    let gossip = watch("udp port 7946");
    let data = watch("udp port 4789");
    // memberlist's sealed packets start with the version of the sealing, 1; plain ones with their type or a checksum.
    let plain_gossip = watch("udp port 7946 and udp[8] != 1");

    hosts.swarm();
    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    hosts.run_idle("h1", "ann", "--network web").unwrap();
    hosts.run_idle("h2", "bob", "--network web").unwrap();
    answers(&hosts, "h1", "ann", "bob");
    answers(&hosts, "h2", "bob", "ann");
    hosts.docker("h2", "rm -f bob").unwrap();
    for (name, capture) in [("management", &management), ("gossip", &gossip), ("data", &data)] {
        eventually(name, SOON, || if capture.count() > 0 { Ok(()) } else { Err("no packet") });
    }
    assert_eq!(other.lines(), Vec::<String>::new());
    assert_eq!(plain_gossip.lines(), Vec::<String>::new());
}

#[test]
fn a7_control_and_data_take_different_interfaces() {
    let hosts = Hosts::up(LabSpec::bridged("a7", 2));
    link_directly(&hosts);
    hosts.docker("h1", "swarm init --advertise-addr 10.99.0.1 --data-path-addr 10.77.0.1").unwrap();
    let token = hosts.docker("h1", "swarm join-token -q worker").unwrap();
    let control = Capture::start(hosts.host("h1"), "data0", "tcp port 2377 or port 7946").unwrap();
    let data = Capture::start(hosts.host("h1"), "eth0", "udp port 4789").unwrap();
    let right = Capture::start(hosts.host("h1"), "data0", "udp port 4789").unwrap();
    hosts.docker("h2", format!("swarm join --token {token} --data-path-addr data0 10.99.0.1:2377")).unwrap();
    hosts.wait_ready(2);
    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    hosts.run_idle("h1", "ann", "--network web").unwrap();
    hosts.run_idle("h2", "bob", "--network web").unwrap();
    assert!(answers(&hosts, "h1", "ann", "bob").is_lossless());
    eventually("VXLAN on the data interface", SOON, || if right.count() > 0 { Ok(()) } else { Err("none") });
    assert_eq!(data.lines(), Vec::<String>::new(), "VXLAN on the control interface");
    assert_eq!(control.lines(), Vec::<String>::new(), "control packets on the data interface");
}

/// A second link between the two hosts: 10.77.0.1 and 10.77.0.2 on `data0`.
fn link_directly(hosts: &Hosts) {
    let [h1, h2] = ["h1", "h2"].map(|h| hosts.host(h));
    let ip = |words: String| {
        let status = std::process::Command::new("ip").args(words.split_whitespace()).status().unwrap();
        assert!(status.success(), "ip {words}");
    };
    ip(format!("-n {} link add data0 type veth peer name data0 netns {}", h1.netns, h2.netns));
    for (host, n) in [(h1, 1), (h2, 2)] {
        ip(format!("-n {} addr add 10.77.0.{n}/24 dev data0", host.netns));
        ip(format!("-n {} link set data0 up", host.netns));
    }
}

/// Docker's nodes look for gossip when they join, and once more only after a minute.
#[test]
fn gossip_listens_when_a_swarm_begins() {
    let hosts = Hosts::up(LabSpec::bridged("early", 1));
    let address = hosts.host("h1").ipv4;
    for _ in 0..3 {
        hosts.docker("h1", format!("swarm init --advertise-addr {address}")).unwrap();
        hosts.host("h1").sh(&format!("busybox nc -w 1 {address} 7946 </dev/null")).unwrap();
        hosts.docker("h1", "swarm leave --force").unwrap();
    }
}

#[test]
fn a_node_that_left_is_down_and_can_be_removed_and_join_again() {
    let hosts = swarm_with_pair(LabSpec::bridged("leave", 2));
    let text = refusal(hosts.docker("h1", "node rm h2"));
    assert!(text.contains("is not down and can't be removed"), "{text}");
    hosts.docker("h2", "rm -f bob").unwrap();
    assert_eq!(hosts.docker("h2", "swarm leave").unwrap(), "Node left the swarm.");
    assert_eq!(hosts.docker("h2", ["info", "--format", "{{.Swarm.LocalNodeState}}"]).unwrap(), "inactive");
    let state = ["node", "inspect", "h2", "--format", "{{.Status.State}}"];
    assert_eq!(
        hosts.docker("h1", state).unwrap(),
        "down",
        "at once: nobody waits for heartbeats of a node that left"
    );
    hosts.docker("h1", "node rm h2").unwrap();
    hosts.join("h2", "h1").unwrap();
    hosts.wait_ready(2);
    hosts.run_idle("h2", "bob", "--network web").unwrap();
    assert!(answers(&hosts, "h2", "bob", "ann").is_lossless());

    let text = refusal(hosts.docker("h1", "swarm leave"));
    assert!(
        text.contains("You are attempting to leave the swarm on a node that is participating as a manager."),
        "{text}"
    );
    hosts.docker("h1", "rm -f ann").unwrap();
    assert_eq!(hosts.docker("h1", "swarm leave --force").unwrap(), "Node left the swarm.");
    hosts.docker("h1", "swarm init --advertise-addr 10.99.0.1").unwrap();
}
