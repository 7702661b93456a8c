//! Rows B5, B6, IPv6, and who may send VXLAN: what is on the wire.

use weft_e2e::{Hosts, ping};
use weft_lab::{Capture, Host, LabSpec, eventually};

use crate::{SOON, answers, swarm_with_network, swarm_with_pair};

#[test]
fn b5_containers_of_two_subnets_are_neighbours() {
    let hosts = swarm_with_pair(LabSpec::routed("b5", 2));
    for (host, from, to) in [("h1", "ann", "bob"), ("h2", "bob", "ann")] {
        answers(&hosts, host, from, to);
        let pinged = ping(&hosts, host, from, to, 20).unwrap();
        assert!(pinged.is_lossless(), "{pinged:?}");
        // One hop at layer 2: nobody lowered the time to live, though the underlay has a router.
        assert_eq!(pinged.ttl, Some(64));
    }
    // A full-size frame passes whole, one more byte does not.
    let fits = hosts.exec("h1", "ann", "ping -c 1 -W 2 -s 1422 bob").unwrap();
    assert!(fits.contains(" 0% packet loss"), "{fits}");

    hosts
        .docker(
            "h2",
            [
                "exec",
                "-d",
                "bob",
                "sh",
                "-c",
                "mkdir -p /www; echo hello > /www/index.html; httpd -p 80 -h /www",
            ],
        )
        .unwrap();
    eventually("HTTP by name", SOON, || {
        match hosts.exec("h1", "ann", "timeout 3 wget -q -O - http://bob/") {
            Ok(page) if page == "hello" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    // Bulk, in both directions: checksums and segmentation.
    let sum = "head -c 20000000 /dev/zero | tr '\\0' 'w' > /www/bulk; md5sum < /www/bulk";
    let sum = hosts.exec("h2", "bob", sum).unwrap();
    assert_eq!(hosts.exec("h1", "ann", "timeout 20 wget -q -O - http://bob/bulk | md5sum").unwrap(), sum);
}

#[test]
fn b6_requests_are_answered_locally_and_nothing_floods() {
    let hosts = swarm_with_pair(LabSpec::bridged("b6", 2));
    answers(&hosts, "h1", "ann", "bob");
    let watch = |filter: &str| Capture::start(hosts.host("h1"), "eth0", filter).unwrap();
    // Bytes of the inner frame: after 8 of UDP and 8 of VXLAN come the destination and, at 12, the EtherType.
    let arp = watch("udp port 4789 and udp[28:2] == 0x0806");
    let broadcast = watch("udp port 4789 and udp[16:4] == 0xffffffff");
    let unknown = watch("udp port 4789 and udp[16:2] == 0x0242 and udp[18:4] == 0x0a0001c8");
    let any = watch("udp port 4789");

    hosts.exec("h1", "ann", "ip neigh flush dev eth0").ok();
    assert_eq!(ping(&hosts, "h1", "ann", "10.0.1.200", 2).unwrap().received, 0);
    hosts.exec("h1", "ann", "ping -b -c 2 -W 1 10.0.1.255 || true").ok();
    hosts.exec("h1", "ann", "arping -c 2 -w 2 -I eth0 10.0.1.200 || true").unwrap();
    assert!(ping(&hosts, "h1", "ann", "bob", 3).unwrap().is_lossless());
    let b = hosts.address("h2", "bob", "web").unwrap();
    let local = hosts.exec("h1", "ann", &format!("arping -c 1 -w 2 -I eth0 {b}")).unwrap();
    assert!(local.contains("Received 1 response"), "asked for b's address, its own bridge answers: {local}");
    eventually("the pings to b", SOON, || if any.count() >= 6 { Ok(()) } else { Err("too few") });
    for (what, capture) in [("ARP", &arp), ("broadcast", &broadcast), ("unknown unicast", &unknown)] {
        assert_eq!(capture.lines(), Vec::<String>::new(), "{what} on the underlay");
    }
}

#[test]
fn ipv6_subnets_work_end_to_end() {
    let hosts = Hosts::up(LabSpec::routed("six", 2));
    hosts.swarm();
    let create = "network create -d overlay --attachable --ipv6 --subnet 10.60.0.0/24 --subnet fd60::/64 six";
    hosts.docker("h1", create).unwrap();
    hosts.run_idle("h1", "ann", "--network six").unwrap();
    hosts.run_idle("h2", "bob", "--network six").unwrap();
    let b = hosts.inspect("h2", "bob", "{{.NetworkSettings.Networks.six.GlobalIPv6Address}}").unwrap();
    assert!(b.starts_with("fd60::"), "{b}");
    assert!(answers(&hosts, "h1", "ann", &b).is_lossless());
    let by_name = hosts.exec("h1", "ann", "ping -6 -c 3 -i 0.1 -W 2 bob").unwrap();
    assert!(by_name.contains(" 0% packet loss") && by_name.contains(&b), "{by_name}");
    assert!(answers(&hosts, "h1", "ann", "bob").is_lossless());
}

#[test]
fn vxlan_of_a_stranger_is_dropped_and_counted() {
    let hosts = Hosts::up(LabSpec::bridged("strange", 3));
    hosts.docker("h1", "swarm init --advertise-addr 10.99.0.1").unwrap();
    hosts.join("h2", "h1").unwrap();
    hosts.wait_ready(2);
    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    hosts.run_idle("h1", "ann", "--network web").unwrap();
    hosts.run_idle("h2", "bob", "--network web").unwrap();
    answers(&hosts, "h2", "bob", "ann");
    let address = hosts.address("h1", "ann", "web").unwrap();
    let mac = hosts.exec("h1", "ann", "cat /sys/class/net/eth0/address").unwrap();
    let stranger = hosts.host("h3");
    let setup = format!(
        "ip link add vx type vxlan id 4097 remote 10.99.0.1 dstport 4789 && ip addr add 10.0.1.250/24 dev vx && \
         ip link set vx up && ip neigh replace {address} lladdr {mac} dev vx"
    );
    stranger.sh(&setup).unwrap();
    let (before, echos) = (stranger_count(hosts.host("h1")), echo_requests(&hosts, "h1", "ann"));
    let wire = Capture::start(hosts.host("h1"), "eth0", "udp port 4789 and src host 10.99.0.3").unwrap();
    eventually("the drops are counted", SOON, || {
        stranger.sh(&format!("ping -c 2 -i 0.2 -W 1 {address} || true")).map_err(|e| e.to_string())?;
        let now = stranger_count(hosts.host("h1"));
        if now >= before + 2 { Ok(()) } else { Err(format!("{before} before, {now} now")) }
    });
    eventually("the frames arrive at the host", SOON, || if wire.count() > 0 { Ok(()) } else { Err("none") });
    assert_eq!(echo_requests(&hosts, "h1", "ann"), echos, "the stranger's frames reached the container");
    // A member's do.
    assert!(ping(&hosts, "h2", "bob", "ann", 2).unwrap().is_lossless());
    assert_eq!(echo_requests(&hosts, "h1", "ann"), echos + 2);
}

/// Echo requests that a container has received.
fn echo_requests(hosts: &Hosts, host: &str, container: &str) -> u64 {
    let counters = hosts.exec(host, container, "grep ^Icmp: /proc/net/snmp").unwrap();
    let mut lines = counters.lines().map(|line| line.split_whitespace());
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let (_, value) = names.zip(values).find(|(name, _)| *name == "InEchos").unwrap();
    value.parse().unwrap()
}

/// Packets that the host's guard dropped because their sender is no member.
fn stranger_count(host: &Host) -> u64 {
    let counters = host.sh("nft list counters").unwrap();
    let mut words =
        counters.split_whitespace().skip_while(|w| *w != "stranger").skip_while(|w| *w != "packets");
    words.nth(1).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no such counter:\n{counters}"))
}

#[test]
fn the_least_mtu_of_all_hosts_holds_everywhere() {
    let hosts = Hosts::up(LabSpec::routed("mtu", 2));
    hosts.lab().set_mtu("h2", 1400).unwrap();
    hosts.swarm();
    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    hosts.run_idle("h1", "ann", "--network web").unwrap();
    hosts.run_idle("h2", "bob", "--network web").unwrap();
    for (host, container) in [("h1", "ann"), ("h2", "bob")] {
        eventually("an MTU that fits", SOON, || {
            match hosts.exec(host, container, "cat /sys/class/net/eth0/mtu") {
                Ok(mtu) if mtu == "1350" => Ok(()),
                other => Err(format!("{container}: {other:?}")),
            }
        });
    }
    answers(&hosts, "h1", "ann", "bob");
    let whole = hosts.exec("h1", "ann", "ping -c 1 -W 2 -s 1322 bob").unwrap();
    assert!(whole.contains(" 0% packet loss"), "{whole}");
}

#[test]
fn what_someone_deleted_is_repaired() {
    let hosts = swarm_with_pair(LabSpec::bridged("repair", 2));
    answers(&hosts, "h1", "ann", "bob");
    // Find the namespace with the VXLAN device wherever it is kept, and take away what forwards to h2.
    let wipe = "for ns in $(find /run /var/run -path '*netns*' -type f 2>/dev/null); do \
                nsenter --net=$ns sh -c 'for d in $(ip -o link show type vxlan | cut -d: -f2 | cut -d@ -f1); do \
                bridge fdb show dev $d | grep -v -e permanent -e self.permanent | head -0; \
                bridge fdb show dev $d | while read mac rest; do bridge fdb del $mac dev $d dst 10.99.0.2 self; done; \
                echo wiped; done' 2>/dev/null; done";
    let output = hosts.host("h1").sh(wipe).unwrap();
    assert!(output.contains("wiped"), "the overlay's namespace was not found");
    assert!(answers(&hosts, "h1", "ann", "bob").is_lossless());
}

#[test]
fn two_networks_have_nothing_in_common_on_the_wire() {
    let hosts = swarm_with_network(LabSpec::bridged("vnis", 2));
    hosts.docker("h1", "network create -d overlay --attachable other").unwrap();
    for (host, name, network) in
        [("h1", "ann", "web"), ("h2", "bob", "web"), ("h1", "cat", "other"), ("h2", "dan", "other")]
    {
        hosts.run_idle(host, name, &format!("--network {network}")).unwrap();
    }
    // The VNI is the 24 bits at offset 4 of VXLAN's header (RFC 7348, section 5).
    let watch = |vni: u32| {
        let filter = format!("udp port 4789 and udp[12:4] == {}", vni << 8);
        Capture::start(hosts.host("h1"), "eth0", &filter).unwrap()
    };
    let (web, other) = (watch(4097), watch(4098));
    answers(&hosts, "h1", "ann", "bob");
    eventually("packets of web", SOON, || if web.count() > 0 { Ok(()) } else { Err("none") });
    assert_eq!(other.count(), 0);
    answers(&hosts, "h2", "dan", "cat");
    eventually("packets of other", SOON, || if other.count() > 0 { Ok(()) } else { Err("none") });
}
