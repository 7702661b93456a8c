//! Rows C3, D2 and B4 with services: virtual IPs.

use std::path::Path;
use std::time::Duration;

use weft_e2e::balance::Balanced;
use weft_e2e::{Hosts, weft_exe};
use weft_lab::{DaemonSpec, LabSpec, eventually};

const ECHO: &str = env!("CARGO_BIN_EXE_peer-echo");

fn swarm(name: &str, nodes: usize) -> Hosts {
    let hosts = Hosts::up(LabSpec::bridged(name, nodes));
    hosts.swarm();
    hosts
}

#[test]
fn c3_virtual_ips_spread_stay_move_and_refuse() {
    let hosts = swarm("c3", 3);
    Balanced::new(&hosts, Path::new(ECHO)).check("bpf");
}

#[test]
fn c3_a_network_of_both_families_gives_a_service_an_address_of_each() {
    let hosts = swarm("c3six", 2);
    Balanced::new(&hosts, Path::new(ECHO)).check_families();
}

#[test]
fn b4_services_are_reached_only_on_common_networks() {
    let hosts = swarm("b4s", 2);
    Balanced::new(&hosts, Path::new(ECHO)).check_networks();
}

/// Virtual IPs by an engine of one's choice.
fn swarm_by(engine: &str, name: &str, nodes: usize) -> Hosts {
    let hosts = Hosts::up_with(LabSpec::bridged(name, nodes), |_| {
        DaemonSpec::weft(&weft_exe()).arg(format!("--weft-service-balancer={engine}")).arg("--live-restore")
    });
    hosts.swarm();
    hosts
}

#[test]
fn c3_the_same_without_programs_at_sockets() {
    let hosts = swarm_by("nftables", "c3nft", 3);
    Balanced::new(&hosts, Path::new(ECHO)).check("nftables");
}

#[test]
fn c3_both_families_without_programs_at_sockets() {
    let hosts = swarm_by("nftables", "c3nft6", 2);
    Balanced::new(&hosts, Path::new(ECHO)).check_families();
}

/// Connections that a container's namespace tracks.
const TRACKED: &str = "cat /proc/sys/net/netfilter/nf_conntrack_count";
/// Where programs are pinned on a node.
const PINS: &str = "/run/weft/network/connect/attached";

#[test]
fn c3_programs_at_sockets_go_on_without_the_daemon_and_are_put_back() {
    let mut hosts = swarm_by("bpf", "c3alone", 2);
    let programs = Balanced::new(&hosts, Path::new(ECHO));
    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    programs.serve("api", "web", "--replicas 3");
    programs.client("cli", "web");
    let vip = programs.virtual_ips("api").remove(0);
    programs.answers("cli", &vip, 3);
    assert_eq!(hosts.exec("h1", "cli", TRACKED).unwrap().trim(), "0", "rules have translated");
    let asking =
        format!("while true; do /peer-echo ask tcp {vip}:80 || echo failed; sleep 0.05; done >/asked 2>&1");
    hosts.docker("h1", ["exec", "-d", "cli", "sh", "-c", &asking]).unwrap();
    let pid = hosts.inspect("h1", "cli", "{{.State.Pid}}").unwrap().trim().to_owned();

    hosts.daemon("h1").kill().unwrap();
    let asked = |hosts: &Hosts| hosts.host("h1").sh(&format!("cat /proc/{pid}/root/asked")).unwrap();
    let before = asked(&hosts).lines().count();
    eventually("connections without the daemon", Duration::from_secs(30), || {
        let more = asked(&hosts).lines().count() - before;
        if more >= 40 { Ok(()) } else { Err(format!("{more}")) }
    });
    hosts.start("h1");
    hosts.wait_ready(2);
    let programs = Balanced::new(&hosts, Path::new(ECHO));
    programs.answers("cli", &vip, 3);
    assert!(!asked(&hosts).contains("failed"), "{}", asked(&hosts));
    assert_eq!(hosts.exec("h1", "cli", TRACKED).unwrap().trim(), "0", "rules have translated");

    let pins = format!("ls {PINS} | wc -l");
    assert_eq!(hosts.host("h1").sh(&pins).unwrap().trim(), "4");
    hosts.host("h1").sh(&format!("rm {PINS}/*")).unwrap();
    eventually("programs are put back", Duration::from_secs(30), || {
        let found = hosts.host("h1").sh(&pins).map_err(|error| error.to_string())?;
        if found.trim() == "4" { Ok(()) } else { Err(found) }
    });
    hosts.docker("h1", "service scale -d api=1").unwrap();
    programs.answers("cli", &vip, 1);
    // Another engine: the rules go on, and programs are taken away.
    let nftables =
        DaemonSpec::weft(&weft_exe()).arg("--weft-service-balancer=nftables").arg("--live-restore");
    hosts.replace("h1", nftables);
    hosts.wait_ready(2);
    eventually("programs are taken away", Duration::from_secs(30), || {
        hosts.host("h1").sh(&format!("ls {PINS}")).map_or(Ok(()), Err)
    });
    Balanced::new(&hosts, Path::new(ECHO)).answers("cli", &vip, 1);
    assert_ne!(hosts.exec("h1", "cli", TRACKED).unwrap().trim(), "0", "rules have not translated");
}

#[test]
fn d2_an_engine_by_name_or_a_word_of_why_not() {
    let mut hosts = Hosts::up(LabSpec::bridged("d2", 1));
    let spec = DaemonSpec::weft(&weft_exe()).arg("--weft-service-balancer=nftables");
    hosts.replace("h1", spec);
    let info = hosts.docker("h1", "info").unwrap();
    assert!(info.contains("weft.service-balancer=nftables"), "{info}");
    let words = hosts
        .host("h1")
        .sh(&format!("{} daemon --weft-service-balancer=iptables 2>&1; true", weft_exe().display()));
    let words = words.unwrap();
    assert!(words.contains("\"iptables\" is not auto, nftables, ipvs or bpf"), "{words}");
}
