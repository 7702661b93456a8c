//! Rows C3, D2 and B4 with services: virtual IPs.

use std::path::Path;

use weft_e2e::balance::Balanced;
use weft_e2e::{Hosts, weft_exe};
use weft_lab::{DaemonSpec, LabSpec};

const ECHO: &str = env!("CARGO_BIN_EXE_peer-echo");

fn swarm(name: &str, nodes: usize) -> Hosts {
    let hosts = Hosts::up(LabSpec::bridged(name, nodes));
    hosts.swarm();
    hosts
}

#[test]
fn c3_virtual_ips_spread_stay_move_and_refuse() {
    let hosts = swarm("c3", 3);
    Balanced::new(&hosts, Path::new(ECHO)).check("nftables");
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

#[test]
fn d2_an_engine_by_name_or_a_word_of_why_not() {
    let mut hosts = Hosts::up(LabSpec::bridged("d2", 1));
    let spec = DaemonSpec::weft(&weft_exe()).arg("--weft-service-balancer=nftables");
    hosts.replace("h1", spec);
    let info = hosts.docker("h1", "info").unwrap();
    assert!(info.contains("weft.service-balancer=nftables"), "{info}");
    let words = hosts
        .host("h1")
        .sh(&format!("{} daemon --weft-service-balancer=bpf 2>&1; true", weft_exe().display()));
    let words = words.unwrap();
    assert!(words.contains("\"bpf\" is not auto, nftables or ipvs"), "{words}");
}
