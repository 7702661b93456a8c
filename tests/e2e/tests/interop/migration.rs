//! The steps of `docs/migration.md`, as they stand there: a swarm of Docker becomes one of Weft, node by node.

use weft_e2e::{Hosts, weft_exe};
use weft_lab::{DaemonSpec, LabSpec, eventually};

use crate::cell::{SOON, converged, node, node_is, running};

/// What runs in the swarm that moves.
const STACK: &str = "\
services:
  web:
    image: busybox
    command: httpd -f -p 80 -h /etc
    networks: [front]
    stop_grace_period: 0s
    deploy: {replicas: 2, placement: {constraints: [node.role==worker]}}
    secrets: [key]
networks:
  front: {driver: overlay, attachable: true}
secrets: {key: {file: ./key.txt}}
";

fn deploy(hosts: &Hosts, manager: &str) {
    let dir = &hosts.host(manager).dir;
    std::fs::write(dir.join("key.txt"), "hush").unwrap();
    std::fs::write(dir.join("app.yml"), STACK).unwrap();
    let file = dir.join("app.yml").display().to_string();
    let deploy = ["stack", "deploy", "--detach=true", "--resolve-image", "never", "-c", &file, "app"];
    hosts.docker(manager, deploy).unwrap();
}

/// A container beside the service finds it by name.
fn answers(hosts: &Hosts, host: &str) {
    hosts.run_idle(host, "client", "--network app_front").unwrap();
    eventually(&format!("web answers {host}"), SOON, || {
        hosts
            .exec(host, "client", "timeout 3 wget -q -O - http://tasks.app_web/hostname")
            .map_err(|e| e.to_string())
    });
    hosts.docker(host, "rm -f client").unwrap();
}

#[test]
fn a_swarm_of_docker_becomes_one_of_weft() {
    let mut hosts = Hosts::up_with(LabSpec::bridged("migrate", 3), |_| DaemonSpec::docker());
    let weft = || DaemonSpec::weft(&weft_exe());
    hosts.swarm();
    deploy(&hosts, "h1");
    converged(&hosts, "app_web", "2/2");
    answers(&hosts, "h2");

    // 1. Workers, one after the other.
    for worker in ["h3", "h2"] {
        hosts.docker("h1", format!("node update --availability drain {worker}")).unwrap();
        eventually(&format!("{worker} is empty"), SOON, || {
            let nodes = running(&hosts, "app_web", "{{.Node}}");
            if nodes.iter().all(|node| node != worker) { Ok(()) } else { Err(nodes.join(" ")) }
        });
        hosts.docker(worker, "swarm leave").unwrap();
        node_is(&hosts, worker, "down drain");
        hosts.docker("h1", format!("node rm {worker}")).unwrap();
        hosts.replace(worker, weft());
        hosts.join(worker, "h1").unwrap();
        hosts.wait_ready(3);
        assert!(node(&hosts, worker, "{{.Description.Engine.EngineVersion}}").contains("weft"));
        hosts.docker("h1", "service update -d --force app_web").unwrap();
        converged(&hosts, "app_web", "2/2");
    }
    answers(&hosts, "h2");

    // 2. A new swarm on one of them, with the same definitions.
    hosts.docker("h3", "swarm leave").unwrap();
    hosts.docker("h3", format!("swarm init --advertise-addr {}", hosts.host("h3").ipv4)).unwrap();
    deploy(&hosts, "h3");

    // 3. The other workers follow, then the old manager.
    hosts.docker("h2", "swarm leave").unwrap();
    hosts.join("h2", "h3").unwrap();
    hosts.docker("h1", "stack rm app").unwrap();
    hosts.docker("h1", "swarm leave --force").unwrap();
    hosts.replace("h1", weft());
    let token = hosts.docker("h3", "swarm join-token -q manager").unwrap();
    hosts.docker("h1", format!("swarm join --token {token} {}:2377", hosts.host("h3").ipv4)).unwrap();
    hosts.wait_ready(3);
    converged(&hosts, "app_web", "2/2");
    answers(&hosts, "h2");
    let engines = hosts.docker("h1", ["node", "ls", "--format", "{{.EngineVersion}}"]).unwrap();
    assert!(engines.lines().all(|version| version.contains("weft")), "{engines}");
}
