//! `docker network create -d macvlan`: containers beside their host on its own segment.

use weft_e2e::{Hosts, refusal, weft_exe};
use weft_lab::{DaemonSpec, LabSpec, eventually};

use crate::{SOON, docker};

/// Two hosts on one segment whose containers run on without the daemon.
fn beside(name: &str) -> Hosts {
    Hosts::up_with(LabSpec::bridged(name, 2), |_| DaemonSpec::weft(&weft_exe()).arg("--live-restore"))
}

/// What a container or host says to one ping.
fn reaches(hosts: &Hosts, container: &str, target: &str) -> bool {
    hosts.exec("h1", container, &format!("ping -c 1 -W 1 {target}")).is_ok()
}

fn links(hosts: &Hosts) -> String {
    let shown = hosts.host("h1").sh("ip -o link | cut -d: -f2 | cut -d@ -f1 | sort").unwrap();
    // The default bridge's ports are another matter.
    shown.lines().filter(|line| !line.trim().starts_with("veth")).map(str::trim).collect::<Vec<_>>().join(" ")
}

#[test]
fn macvlan_containers_are_on_the_hosts_own_segment() {
    let mut hosts = beside("macvlan");
    let before = links(&hosts);
    let create = "network create -d macvlan --subnet 10.99.0.0/24 --gateway 10.99.0.2 --ip-range 10.99.0.128/25 --aux-address used=10.99.0.128 --subnet fd99::/64 --ipv6 -o parent=eth0 lan";
    hosts.docker("h1", create).unwrap();
    let shown = hosts
        .inspect("h1", "lan", "{{.Driver}} {{.Scope}} {{json .Options}} {{(index .IPAM.Config 0).Gateway}}")
        .unwrap();
    assert_eq!(shown, r#"macvlan local {"parent":"eth0"} 10.99.0.2"#);
    hosts.run_idle("h1", "c1", "--network lan").unwrap();
    hosts
        .run_idle(
            "h1",
            "c2",
            "--network lan --ip 10.99.0.200 --mac-address 02:00:00:00:77:01 --network-alias other",
        )
        .unwrap();
    assert_eq!(hosts.address("h1", "c1", "lan").unwrap(), "10.99.0.129", "the one before is used elsewhere");
    assert_eq!(
        hosts.inspect("h1", "c2", "{{.NetworkSettings.Networks.lan.MacAddress}}").unwrap(),
        "02:00:00:00:77:01"
    );
    // Another host, each other by name and alias, both families.
    eventually("the other host", SOON, || {
        if reaches(&hosts, "c1", "10.99.0.2") { Ok(()) } else { Err("no answer") }
    });
    assert!(reaches(&hosts, "c1", "c2") && reaches(&hosts, "c2", "c1") && reaches(&hosts, "c1", "other"));
    let six = hosts.inspect("h1", "c2", "{{.NetworkSettings.Networks.lan.GlobalIPv6Address}}").unwrap();
    assert!(hosts.exec("h1", "c1", &format!("ping -6 -c 1 -W 2 {six}")).is_ok());
    assert!(
        hosts.host("h2").sh("ping -c 1 -W 2 10.99.0.200").is_ok(),
        "the other host reaches it as any machine"
    );
    assert!(hosts.host("h2").sh("ip neigh show 10.99.0.200").unwrap().contains("02:00:00:00:77:01"));
    let way = hosts.exec("h1", "c1", "ip route | grep default || true").unwrap();
    assert!(way.contains("via 10.99.0.2 dev eth0"), "{way}");
    // Runs on without the daemon, is the same interface after it, and is made again when somebody takes it away.
    let index = |hosts: &Hosts| hosts.exec("h1", "c1", "cat /sys/class/net/eth0/ifindex").unwrap();
    let first = index(&hosts);
    hosts.daemon("h1").kill().unwrap();
    hosts.start("h1");
    assert_eq!(index(&hosts), first);
    assert!(reaches(&hosts, "c1", "10.99.0.2") && reaches(&hosts, "c1", "c2"));
    let pid = hosts.inspect("h1", "c1", "{{.State.Pid}}").unwrap();
    hosts.host("h1").sh(&format!("nsenter -t {pid} -n ip link del eth0")).unwrap();
    eventually("the interface again", SOON, || {
        if reaches(&hosts, "c1", "c2") { Ok(()) } else { Err("no answer") }
    });
    // At run time, and with another network beside it.
    docker(&hosts, ["network", "disconnect", "lan", "c1"]);
    assert!(!reaches(&hosts, "c1", "10.99.0.200"));
    docker(&hosts, ["network", "connect", "--ip", "10.99.0.201", "lan", "c1"]);
    assert!(reaches(&hosts, "c1", "10.99.0.200"));
    assert!(refusal(hosts.docker("h1", "network rm lan")).contains("has active endpoints"));
    docker(&hosts, ["rm", "-f", "c1", "c2"]);
    docker(&hosts, ["network", "rm", "lan"]);
    assert_eq!(links(&hosts), before, "nothing is left");
}

#[test]
fn macvlan_modes_keep_apart_or_join() {
    let hosts = beside("mvmodes");
    let before = links(&hosts);
    hosts.docker("h1", "network create -d macvlan --subnet 10.99.0.0/24 --ip-range 10.99.0.64/26 -o parent=eth0 -o macvlan_mode=private apart").unwrap();
    hosts.run_idle("h1", "a1", "--network apart").unwrap();
    hosts.run_idle("h1", "a2", "--network apart").unwrap();
    eventually("the other host", SOON, || {
        if reaches(&hosts, "a1", "10.99.0.2") { Ok(()) } else { Err("no answer") }
    });
    let other = hosts.address("h1", "a2", "apart").unwrap();
    assert!(!reaches(&hosts, "a1", &other), "private interfaces do not talk to each other");
    let text = refusal(
        hosts.docker("h1", "network create -d macvlan -o parent=eth0 -o macvlan_mode=passthru alone"),
    );
    assert!(text.contains("parent interface eth0 is in use by network apart"), "{text}");
    for (options, words) in [
        ("-o parent=lo", "loopback interface is not a valid macvlan parent link"),
        ("-o parent=eth9", "invalid subinterface vlan name eth9, example formatting is eth0.10"),
        ("-o parent=eth0.4095", "vlan id must be between 1-4094, received: 4095"),
        (
            "-o parent=eth0 -o macvlan_mode=x",
            "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default",
        ),
    ] {
        let text = refusal(hosts.docker("h1", format!("network create -d macvlan {options} bad")));
        assert!(text.contains(words), "{options}: {text}");
    }
    docker(&hosts, ["rm", "-f", "a1", "a2"]);
    docker(&hosts, ["network", "rm", "apart"]);
    // Without a parent: containers among themselves.
    hosts.docker("h1", "network create -d macvlan --subnet 10.77.0.0/24 inner").unwrap();
    hosts.run_idle("h1", "i1", "--network inner").unwrap();
    hosts.run_idle("h1", "i2", "--network inner").unwrap();
    assert!(reaches(&hosts, "i1", "i2"));
    assert_eq!(hosts.exec("h1", "i1", "ip route | grep default || true").unwrap(), "");
    assert!(links(&hosts).contains("dm-"), "{}", links(&hosts));
    docker(&hosts, ["rm", "-f", "i1", "i2"]);
    docker(&hosts, ["network", "rm", "inner"]);
    // One container with the interface to itself, and no way out although there is a router.
    hosts.docker("h1", "network create -d macvlan --internal --subnet 10.99.0.0/24 --ip-range 10.99.0.64/26 -o parent=eth0 shut").unwrap();
    hosts.run_idle("h1", "s1", "--network shut").unwrap();
    assert_eq!(hosts.exec("h1", "s1", "ip route | grep default || true").unwrap(), "");
    docker(&hosts, ["rm", "-f", "s1"]);
    docker(&hosts, ["network", "rm", "shut"]);
    assert_eq!(links(&hosts), before, "nothing is left");
}
