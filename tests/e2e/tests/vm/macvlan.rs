//! Networks beside their host that need modules: ipvlan, and VLANs as parents.

use weft_e2e::{Hosts, weft_exe};
use weft_lab::{DaemonSpec, LabSpec, eventually};

use crate::SOON;

fn up(name: &str) -> Hosts {
    Hosts::up_with(LabSpec::bridged(name, 2), |_| DaemonSpec::weft(&weft_exe()).arg("--live-restore"))
}

fn wait_for(hosts: &Hosts, host: &str, container: &str, target: &str) {
    eventually(&format!("{container} reaches {target}"), SOON, || {
        hosts.exec(host, container, &format!("ping -c 1 -W 2 {target}")).map_err(|failed| failed.to_string())
    });
}

#[test]
#[ignore = "needs the kernel of cargo xtask test vm"]
fn ipvlan_containers_share_the_hosts_ethernet_address() {
    let mut hosts = up("ipvlan");
    let create = "network create -d ipvlan --subnet 10.99.0.0/24 --gateway 10.99.0.2 --ip-range 10.99.0.128/25 -o parent=eth0 lan";
    hosts.docker("h1", create).unwrap();
    hosts.run_idle("h1", "c1", "--network lan").unwrap();
    hosts.run_idle("h1", "c2", "--network lan").unwrap();
    wait_for(&hosts, "h1", "c1", "c2");
    wait_for(&hosts, "h1", "c1", "10.99.0.2");
    let mac = hosts.exec("h1", "c1", "cat /sys/class/net/eth0/address").unwrap();
    let parents = hosts.host("h1").sh("ip -o link show eth0").unwrap();
    assert!(parents.contains(&format!("link/ether {} ", mac.trim())), "{mac} {parents}");
    hosts.daemon("h1").kill().unwrap();
    hosts.start("h1");
    wait_for(&hosts, "h1", "c2", "c1");
    hosts.docker("h1", "rm -f c1 c2").unwrap();
    hosts.docker("h1", "network rm lan").unwrap();
    // Routed: the default route needs no router.
    hosts
        .docker(
            "h1",
            "network create -d ipvlan --subnet 10.98.0.0/24 -o parent=eth0 -o ipvlan_mode=l3 routed",
        )
        .unwrap();
    hosts.run_idle("h1", "r1", "--network routed").unwrap();
    hosts.run_idle("h1", "r2", "--network routed").unwrap();
    wait_for(&hosts, "h1", "r1", "r2");
    let way = hosts.exec("h1", "r1", "ip route | grep default").unwrap();
    assert!(way.contains("default dev eth0"), "{way}");
}

#[test]
#[ignore = "needs the kernel of cargo xtask test vm"]
fn vlans_are_made_for_networks_and_go_with_them() {
    let hosts = up("vlan");
    for (host, name, ip) in [("h1", "v1", "10.97.0.11"), ("h2", "v2", "10.97.0.12")] {
        hosts
            .docker(host, "network create -d macvlan --subnet 10.97.0.0/24 -o parent=eth0.10 tagged")
            .unwrap();
        hosts.run_idle(host, name, &format!("--network tagged --ip {ip}")).unwrap();
        let shown = hosts.host(host).sh("ip -d link show eth0.10").unwrap();
        assert!(shown.contains("vlan") && shown.contains("id 10"), "{shown}");
    }
    wait_for(&hosts, "h1", "v1", "10.97.0.12");
    // A second network on the same VLAN: it goes with the last of them.
    hosts.docker("h1", "network create -d macvlan --subnet 10.96.0.0/24 -o parent=eth0.10 also").unwrap();
    hosts.docker("h1", "rm -f v1").unwrap();
    hosts.docker("h1", "network rm tagged").unwrap();
    assert!(hosts.host("h1").sh("ip link show eth0.10").is_ok());
    hosts.docker("h1", "network rm also").unwrap();
    assert!(hosts.host("h1").sh("ip link show eth0.10").is_err());
}
