//! The wire check: Docker's own daemon and Weft's in one swarm, each as the other's manager.
//!
//! Nothing here looks inside: a node that is `Ready` speaks SwarmKit's join, session and heartbeats; containers that
//! resolve and reach each other across the two engines need attachments, gossip tables and VXLAN of one form.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use weft_e2e::{Hosts, ping, refusal, weft_exe};
use weft_lab::{DaemonSpec, LabSpec, eventually};

/// Time for a name to be known and an address to answer on the other engine: Docker gossips in steps of 0.2 s, and
/// joins the gossip of a swarm only once its first overlay network is there.
const SOON: Duration = Duration::from_secs(20);

/// Hosts of which those named in `docker` run Docker's daemon.
fn mixed(name: &str, count: usize, docker: &[&str]) -> Hosts {
    Hosts::up_with(LabSpec::bridged(name, count), |host| {
        if docker.contains(&host) { DaemonSpec::docker() } else { DaemonSpec::weft(&weft_exe()) }
    })
}

/// Waits until `target` answers `from`, then wants three pings without loss at the address `expected`.
fn reaches(hosts: &Hosts, host: &str, from: &str, target: &str, expected: &str) {
    eventually(&format!("{target} answers {from}"), SOON, || {
        let first = ping(hosts, host, from, target, 1).map_err(|e| e.to_string())?;
        if first.is_lossless() { Ok(()) } else { Err(format!("{first:?}")) }
    });
    let pinged = ping(hosts, host, from, target, 3).unwrap();
    assert!(
        pinged.is_lossless() && pinged.address == expected,
        "{from} to {target}: {pinged:?}, want {expected}"
    );
}

/// Two containers of different engines on one network see each other by address, name and alias, both ways.
fn containers_meet(hosts: &Hosts, one: &str, other: &str) {
    hosts.run_idle(one, "ann", "--network web --network-alias first").unwrap();
    hosts.run_idle(other, "bob", "--network web --network-alias second").unwrap();
    let (ann, bob) = (hosts.address(one, "ann", "web").unwrap(), hosts.address(other, "bob", "web").unwrap());
    assert_ne!(ann, bob);
    for target in [bob.as_str(), "bob", "second"] {
        reaches(hosts, one, "ann", target, &bob);
    }
    for target in [ann.as_str(), "ann", "first"] {
        reaches(hosts, other, "bob", target, &ann);
    }
    // Packets larger than the interface's MTU leave as fragments and arrive.
    for (host, from, target) in [(one, "ann", &bob), (other, "bob", &ann)] {
        hosts.exec(host, from, &format!("ping -c 2 -s 4000 -W 2 {target}")).unwrap();
    }
}

/// Once a container is gone its name is, too, on the other engine.
fn name_goes(hosts: &Hosts, gone_on: &str, gone: &str, seen_on: &str, by: &str) {
    hosts.docker(gone_on, format!("rm -f {gone}")).unwrap();
    eventually(&format!("{by} no longer knows {gone}"), SOON, || {
        match hosts.exec(seen_on, by, &format!("nslookup {gone} 127.0.0.11")) {
            Ok(answer) => Err(answer),
            Err(_) => Ok(()),
        }
    });
}

#[test]
fn dockerd_joins_a_swarm_of_weft() {
    let hosts = mixed("wirew", 2, &["h2"]);
    hosts.swarm();
    let versions =
        hosts.docker("h1", ["node", "ls", "--format", "{{.Hostname}} {{.EngineVersion}}"]).unwrap();
    assert!(versions.lines().any(|l| l.starts_with("h2 ") && !l.contains("weft")), "{versions}");
    assert_eq!(hosts.docker("h2", ["info", "--format", "{{.Swarm.LocalNodeState}}"]).unwrap(), "active");

    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    containers_meet(&hosts, "h1", "h2");
    name_goes(&hosts, "h2", "bob", "h1", "ann");
    hosts.run_idle("h2", "bob", "--network web").unwrap();
    reaches(&hosts, "h2", "bob", "ann", &hosts.address("h1", "ann", "web").unwrap());
    name_goes(&hosts, "h1", "ann", "h2", "bob");

    hosts.docker("h1", "network create -d overlay closed").unwrap();
    let text = refusal(hosts.docker("h2", "run --rm --network closed busybox true"));
    assert!(text.contains("network closed not manually attachable"), "{text}");
}

#[test]
fn weft_joins_a_swarm_of_docker() {
    let hosts = mixed("wired", 2, &["h1"]);
    hosts.swarm();
    let versions =
        hosts.docker("h1", ["node", "ls", "--format", "{{.Hostname}} {{.EngineVersion}}"]).unwrap();
    assert!(versions.lines().any(|l| l.starts_with("h2 ") && l.contains("weft")), "{versions}");
    assert_eq!(hosts.docker("h2", ["info", "--format", "{{.Swarm.LocalNodeState}}"]).unwrap(), "active");

    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    containers_meet(&hosts, "h1", "h2");
    name_goes(&hosts, "h2", "bob", "h1", "ann");
    hosts.run_idle("h2", "bob", "--network web").unwrap();
    reaches(&hosts, "h2", "bob", "ann", &hosts.address("h1", "ann", "web").unwrap());
    name_goes(&hosts, "h1", "ann", "h2", "bob");

    hosts.docker("h1", "network create -d overlay closed").unwrap();
    let text = refusal(hosts.docker("h2", "run --rm --network closed busybox true"));
    assert!(text.contains("network closed not manually attachable"), "{text}");
    let text = refusal(hosts.docker("h2", "run --rm --network nosuch busybox true"));
    assert!(text.contains("network nosuch not found"), "{text}");
}

#[test]
fn a_wrong_token_is_refused_by_either_manager() {
    let hosts = mixed("wirer", 2, &["h1"]);
    hosts.docker("h1", format!("swarm init --advertise-addr {}", hosts.host("h1").ipv4)).unwrap();
    let token = hosts.docker("h1", "swarm join-token -q worker").unwrap();
    let (kept, secret) = token.rsplit_once('-').unwrap();
    let wrong = format!("{kept}-{}", "0".repeat(secret.len()));
    let manager = format!("{}:2377", hosts.host("h1").ipv4);
    let text = refusal(hosts.docker("h2", format!("swarm join --token {wrong} {manager}")));
    assert!(text.contains("A valid join token is necessary to join this cluster"), "{text}");
    let foreign = format!("SWMTKN-1-{}-{secret}", "0".repeat(50));
    let text = refusal(hosts.docker("h2", format!("swarm join --token {foreign} {manager}")));
    assert!(text.contains("remote CA does not match fingerprint"), "{text}");
    // And with the right one it still may.
    hosts.docker("h2", format!("swarm join --token {token} {manager}")).unwrap();
    hosts.wait_ready(2);
}

/// The keys of gossip rotate; twenty times in `cargo xtask soak keys`.
#[test]
fn dockerd_stays_in_gossip_while_keys_rotate() {
    let rotated = weft_e2e::rotations::rotate("wirek", 3, Duration::from_secs(3));
    assert!(rotated.rotations >= 3, "{rotated:?}");
}
