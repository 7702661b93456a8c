//! The overlay data plane on real namespaces: two hosts, a container on each.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::*;
use weft_plan::*;

fn two_nodes() -> (Vec<Node>, Place) {
    let (hosts, switch) = hosts(2);
    (overlay(hosts), switch)
}

#[test]
fn containers_on_two_hosts_reach_each_other() {
    let (nodes, _switch) = two_nodes();
    let (a, b) = (&nodes[0].container.netns, &nodes[1].container.netns);
    assert!(pings(a, "10.0.1.3"), "{}", ok(&nodes[0].network.netns, "bridge fdb"));
    assert!(pings(b, "10.0.1.2"));
    assert!(pings(a, "fd00:1::3"));
    assert!(pings(b, "fd00:1::2"));
    serve(b, "10.0.1.3:8080", "four");
    serve(b, "[fd00:1::3]:8080", "six");
    assert_eq!(fetch(a, "10.0.1.3:8080").as_deref(), Some("four"));
    assert_eq!(fetch(a, "[fd00:1::3]:8080").as_deref(), Some("six"));
    let full = run(a, "ping -n -c 1 -W 1 -M do -s 1422 10.0.1.3");
    assert!(full.0, "a packet of the full MTU: {}", full.1);
}

#[test]
fn the_gateway_answers_on_every_node() {
    let (nodes, _switch) = two_nodes();
    for node in &nodes {
        assert!(pings(&node.container.netns, "10.0.1.1"));
        assert!(pings(&node.container.netns, "fd00:1::1"));
    }
}

#[test]
fn what_was_deleted_or_poisoned_is_repaired() {
    let (nodes, _switch) = two_nodes();
    let node = &nodes[0];
    let inside = &node.network.netns;
    let far = "02:42:0a:00:01:03";
    for damage in [
        &format!("bridge fdb del {far} dev vxlan0 master") as &str,
        &format!("bridge fdb del {far} dev vxlan0 self"),
        &format!("bridge fdb replace {far} dev vxlan0 self permanent dst 203.0.113.9"),
        &format!("bridge fdb replace {far} dev vethffffffffff0 master static"),
        "bridge fdb append 00:00:00:00:00:00 dev vxlan0 self permanent dst 203.0.113.9",
        "bridge fdb add 02:42:0a:00:01:77 dev vxlan0 self permanent dst 203.0.113.9",
        "ip neigh del 10.0.1.3 dev br0",
        "ip neigh replace 10.0.1.3 lladdr 02:00:00:00:00:01 nud permanent dev br0",
        "ip neigh replace fd00:1::3 lladdr 02:00:00:00:00:01 nud permanent dev br0",
        "ip link del vxlan0",
        "ip link del br0",
        "ip link set vxlan0 nomaster",
        "ip link set vxlan0 down",
        "ip link set vxlan0 mtu 1400",
        "ip link set vxlan0 type vxlan learning",
        "ip link set br0 address 02:00:00:00:00:01",
        "ip link set br0 type bridge mcast_snooping 1",
        "bridge link set dev vxlan0 flood on bcast_flood on mcast_flood on",
        "bridge link set dev vxlan0 neigh_suppress off",
        "bridge link set dev vxlan0 learning on",
        "ip addr del 10.0.1.1/24 dev br0",
        "ip -6 addr del fd00:1::1/64 dev br0",
        "ip link set lo down",
        "sysctl -qw net.bridge.bridge-nf-call-iptables=1",
    ] {
        let damage = damage.replace("vethffffffffff0", port_name(&endpoint_id(2)).as_str());
        ok(inside, &damage);
        let repairs = clean(&node.network.kernel, &node.overlay.plan());
        assert!(!repairs.is_empty(), "not seen: {damage}");
        assert!(pings(&node.container.netns, "10.0.1.3"), "after {damage}: {}", show(&repairs));
    }
    assert!(pings(&node.container.netns, "fd00:1::3"));
}

#[test]
fn a_lost_pair_comes_back_with_the_container_end() {
    let (nodes, _switch) = two_nodes();
    let node = &nodes[0];
    ok(&node.container.netns, "ip link del eth0");
    let early = node.container.kernel.reconcile_blocking(&node.sandbox.plan()).unwrap();
    assert!(early.failed[0].to_string().contains("await eth0"), "{:?}", early.failed);
    clean(&node.network.kernel, &node.overlay.plan());
    clean(&node.container.kernel, &node.sandbox.plan());
    assert!(pings(&node.container.netns, "10.0.1.3"));
}

#[test]
fn foreign_objects_are_left_alone() {
    let (nodes, _switch) = two_nodes();
    let node = &nodes[0];
    for (netns, made) in [
        (&node.network.netns, "ip link add other0 type bridge"),
        (&node.network.netns, "ip addr add 10.9.9.9/24 dev br0"),
        (&node.network.netns, "ip neigh add 10.0.1.99 lladdr 02:00:00:00:00:01 dev br0"),
        (&node.network.netns, "ip route add 10.200.0.0/16 via 10.0.1.3"),
        (&node.network.netns, "nft add table inet admin"),
        (&node.container.netns, "ip route add 10.201.0.0/16 via 10.0.1.1"),
        (&node.container.netns, "ip rule add fwmark 7 table 7"),
    ] {
        ok(netns, made);
    }
    assert!(clean(&node.network.kernel, &node.overlay.plan()).is_empty());
    assert!(clean(&node.container.kernel, &node.sandbox.plan()).is_empty());
    clean(&node.network.kernel, &NamespaceState::empty());
    let links = ok(&node.network.netns, "ip -o link");
    assert!(links.contains("other0") && !links.contains("br0") && !links.contains("vxlan0"), "{links}");
    assert!(ok(&node.network.netns, "nft list tables").contains("inet admin"));
}

#[test]
fn a_foreign_link_of_our_name_is_an_error_and_stays() {
    let place = Place::new();
    ok(&place.netns, "ip link add br0 type bridge");
    let mut state = NamespaceState::empty();
    let bridge = Link::new(LinkKind::Bridge(BridgeOptions { multicast_snooping: false }));
    state.links.insert(name("br0"), bridge);
    state.addresses.insert(Address { link: name("br0"), address: net("10.0.1.1/24") });
    let report = place.kernel.reconcile_blocking(&state).unwrap();
    assert_eq!(report.failed.len(), 1, "{:?}", report.failed);
    let words = std::error::Error::source(&report.failed[0]).unwrap().to_string();
    assert!(words.contains("create bridge br0") && words.contains("not made by Weft"), "{words}");
    assert!(!ok(&place.netns, "ip addr show br0").contains("10.0.1.1"));
}

#[test]
fn a_taken_vni_is_named() {
    let (nodes, _switch) = two_nodes();
    let second = Place::new();
    let report = second
        .kernel
        .reconcile_blocking(&OverlayNetwork { local: vec![], ..nodes[0].overlay.clone() }.plan());
    let report = report.unwrap();
    let words = std::error::Error::source(&report.failed[0]).unwrap().to_string();
    assert!(words.contains("another device of this host uses VNI 4097 at port 4789"), "{words}");
}

#[test]
fn endpoints_come_and_go_without_touching_the_others() {
    let (mut nodes, _switch) = two_nodes();
    let node = &mut nodes[0];
    let gone = node.overlay.remote.remove(0);
    let ops = clean(&node.network.kernel, &node.overlay.plan());
    assert_eq!(ops.len(), 4, "{}", show(&ops));
    assert!(!pings(&node.container.netns, "10.0.1.3"));
    node.overlay.remote.push(gone);
    assert_eq!(clean(&node.network.kernel, &node.overlay.plan()).len(), 4);
    // The container asked in vain a moment ago, and asks again once a second.
    eventually("the endpoint is back", || pings(&node.container.netns, "10.0.1.3"));
}

#[test]
fn a_new_mtu_reaches_running_interfaces() {
    let (mut nodes, _switch) = two_nodes();
    for node in &mut nodes {
        node.overlay.mtu = 1380.try_into().unwrap();
        node.sandbox.interfaces[0].mtu = Some(node.overlay.mtu);
        clean(&node.network.kernel, &node.overlay.plan());
        clean(&node.container.kernel, &node.sandbox.plan());
    }
    let a = &nodes[0].container.netns;
    assert!(run(a, "ping -n -c 1 -W 1 -M do -s 1352 10.0.1.3").0);
    assert!(!run(a, "ping -n -c 1 -W 1 -M do -s 1353 10.0.1.3").0);
}

/// Frames that the guest's own stack would never send: the tunnel's flags keep them in.
#[test]
fn nothing_is_flooded_to_the_underlay() {
    let (nodes, switch) = two_nodes();
    let (a, b) = (&nodes[0], &nodes[1]);
    assert!(pings(&a.container.netns, "10.0.1.3"));
    // What the bridge itself broadcasts reaches the tunnel in spite of the port's flags; there it has nowhere to go and
    // counts as dropped.
    let sent = |place: &Place| place.kernel.link_counters_blocking(&name("vxlan0")).unwrap().tx_packets;
    let before = (sent(&a.network), sent(&b.network));
    // ARP and ND for an address that does not exist, broadcast, multicast, and unicast to an unknown address.
    assert!(!pings(&a.container.netns, "10.0.1.200"));
    assert!(!pings(&a.container.netns, "fd00:1::200"));
    run(&a.container.netns, "ping -n -c 2 -i 0.2 -W 1 -b 10.0.1.255");
    run(&a.container.netns, "ping -n -c 2 -i 0.2 -W 1 -I eth0 224.0.0.1");
    ok(&a.container.netns, "ip neigh add 10.0.1.201 lladdr 02:42:0a:00:01:c9 dev eth0");
    assert!(!pings(&a.container.netns, "10.0.1.201"));
    assert_eq!((sent(&a.network), sent(&b.network)), before);
    // Neighbours that do exist are resolved on the spot.
    ok(&a.container.netns, "ip neigh flush dev eth0");
    let before = sent(&a.network);
    assert!(pings(&a.container.netns, "10.0.1.3") && pings(&a.container.netns, "fd00:1::3"));
    assert_eq!(sent(&a.network), before + 2, "only the two echo requests");
    drop(switch);
}

#[test]
fn strangers_and_wrong_doors_are_dropped_and_counted() {
    let (mut all, switch) = hosts(3);
    let stranger = all.pop().unwrap();
    let nodes = overlay(all);
    let victim = &nodes[1];
    let count = |counter| {
        let found = victim.host.kernel.nft_counter_blocking(&VxlanGuard::table_id(), counter).unwrap();
        found.unwrap().packets
    };
    // A copy of the whole network on a host that is no member: its frames are perfect.
    let forger = Place::new();
    let container = Place::new();
    let mut copy = nodes[0].overlay.clone();
    copy.vtep = stranger.address;
    copy.host = stranger.netns.reference();
    copy.local[0].sandbox = container.netns.reference();
    clean(&forger.kernel, &copy.plan());
    clean(&container.kernel, &nodes[0].sandbox.plan());
    let received = |place: &Place| place.kernel.link_counters_blocking(&name("vxlan0")).unwrap().rx_packets;
    let before = received(&victim.network);
    assert!(!pings(&container.netns, "10.0.1.3"));
    assert!(count(VxlanGuard::STRANGER) >= 1);
    assert_eq!(received(&victim.network), before);
    // A member's address, but another door than the data path's.
    ok(&victim.host.netns, "ip addr add 192.0.2.99/24 dev eth0");
    let frame = [&[8, 0, 0, 0, 0, 0x10, 1, 0][..], &[0xff; 14]].concat();
    let from = nodes[0].host.netns.udp_socket("0.0.0.0:0".parse().unwrap()).unwrap();
    from.send_to(&frame, "192.0.2.99:4789").unwrap();
    eventually("the misdirected frame is counted", || count(VxlanGuard::MISDIRECTED) == 1);
    // Members still get through, and no tunnel packet is tracked.
    assert!(pings(&nodes[0].container.netns, "10.0.1.3"));
    let tracked = std::fs::read_to_string("/proc/net/nf_conntrack").unwrap_or_default();
    assert!(!tracked.contains("dport=4789 src=192.0.2"), "{tracked}");
    drop(switch);
}

#[test]
fn a_damaged_guard_is_repaired() {
    let (nodes, _switch) = two_nodes();
    let node = &nodes[0];
    let members = [node.host.address, nodes[1].host.address];
    let want = host_state(node.host.address, &members);
    for damage in [
        "nft flush chain inet weft-vxlan check",
        "nft insert rule inet weft-vxlan check accept",
        "nft delete table inet weft-vxlan",
        "nft add element inet weft-vxlan members4 { 203.0.113.9 }",
        "nft delete element inet weft-vxlan members4 { 192.0.2.2 }",
        "nft flush ruleset",
        "nft add chain inet weft-vxlan extra",
        "nft chain inet weft-vxlan prerouting { policy drop ; }",
    ] {
        ok(&node.host.netns, damage);
        assert!(!clean(&node.host.kernel, &want).is_empty(), "not seen: {damage}");
        assert!(pings(&node.container.netns, "10.0.1.3"), "after {damage}");
    }
}

#[test]
fn building_is_fast() {
    let (hosts, _switch) = hosts(2);
    let start = std::time::Instant::now();
    let container = Place::new();
    let made = start.elapsed();
    let mut plan = HostPlan::default();
    plan.bridges.push(BridgeNetwork {
        id: network_id(),
        bridge: name("docker0"),
        gateways: vec![net("172.17.0.1/16")],
        mtu: weft_types::Mtu::ETHERNET,
        inter_container: true,
        masquerade: true,
        internal: false,
        endpoints: vec![],
    });
    let kernel = &hosts[0].kernel;
    let mut state = plan.plan();
    state.merge(host_state(hosts[0].address, &[]));
    kernel.reconcile_blocking(&state).unwrap();
    let bridge = start.elapsed();
    plan.bridges[0].endpoints.push(BridgeEndpoint {
        id: endpoint_id(9),
        mac: mac("02:42:ac:11:00:02"),
        ips: vec![],
        sandbox: container.netns.reference(),
        interface: name("eth0"),
        published: vec![],
    });
    let mut state = plan.plan();
    state.merge(host_state(hosts[0].address, &[]));
    kernel.reconcile_blocking(&state).unwrap();
    let sandbox = Sandbox {
        interfaces: vec![SandboxInterface {
            name: name("eth0"),
            mac: mac("02:42:ac:11:00:02"),
            mtu: Some(weft_types::Mtu::ETHERNET),
            addresses: vec![net("172.17.0.2/16")],
            device: SandboxDevice::VethEnd,
        }],
        gateways: vec![(ip("172.17.0.1"), name("eth0"))],
        ..Sandbox::default()
    };
    container.kernel.reconcile_blocking(&sandbox.plan()).unwrap();
    let all = start.elapsed();
    println!("namespace {made:?}, first bridge {:?}, container {:?}", bridge - made, all - bridge);
    assert!(all < std::time::Duration::from_secs(2), "namespace {made:?}, bridge {bridge:?}, all {all:?}");
    assert!(pings(&container.netns, "172.17.0.1"));
}

#[test]
fn subnets_of_one_network_reach_each_other_through_the_gateway() {
    let (mut nodes, _switch) = two_nodes();
    // The second container moves to the second subnet, which has a VNI of its own.
    let second =
        Segment { vni: 4098.try_into().unwrap(), gateways: vec![net("10.0.2.1/24"), net("fd00:2::1/64")] };
    let mac = weft_types::MacAddr([2, 0x42, 10, 0, 2, 3]);
    for node in &mut nodes {
        node.overlay.segments.push(second.clone());
    }
    nodes[1].overlay.local[0].ip = ip("10.0.2.3");
    nodes[1].overlay.local[0].mac = mac;
    nodes[0].overlay.remote[0].ips = vec![ip("10.0.2.3"), ip("fd00:2::3")];
    nodes[0].overlay.remote[0].mac = mac;
    nodes[1].sandbox.interfaces[0].mac = mac;
    nodes[1].sandbox.interfaces[0].addresses = vec![net("10.0.2.3/24"), net("fd00:2::3/64")];
    nodes[0].sandbox.gateways = vec![(ip("10.0.1.1"), name("eth0")), (ip("fd00:1::1"), name("eth0"))];
    nodes[1].sandbox.gateways = vec![(ip("10.0.2.1"), name("eth0")), (ip("fd00:2::1"), name("eth0"))];
    for node in &nodes {
        clean(&node.network.kernel, &node.overlay.plan());
        clean(&node.container.kernel, &node.sandbox.plan());
    }
    let (a, b) = (&nodes[0].container.netns, &nodes[1].container.netns);
    for (from, to) in [(a, "10.0.2.3"), (b, "10.0.1.2"), (a, "fd00:2::3"), (b, "fd00:1::2")] {
        assert!(pings(from, to), "{to}");
    }
}

#[test]
fn the_tunnel_can_run_over_ipv6() {
    let (mut nodes, _switch) = two_nodes();
    for (index, node) in nodes.iter_mut().enumerate() {
        let own = ip(&format!("2001:db8::{}", index + 1));
        let far = ip(&format!("2001:db8::{}", 2 - index));
        ok(&node.host.netns, &format!("ip addr add {own}/64 dev eth0 nodad"));
        node.overlay.vtep = own;
        node.overlay.mtu = 1430.try_into().unwrap();
        node.overlay.remote[0].vtep = far;
        node.sandbox.interfaces[0].mtu = Some(node.overlay.mtu);
        let mut host = host_state(node.host.address, &[]);
        let (interface, members) = (Some(name("eth0")), vec![own, far]);
        let guard = VxlanGuard { address: own, port: PORT, interface, members, encryption: None };
        host.merge(guard.plan());
        clean(&node.host.kernel, &host);
        clean(&node.network.kernel, &node.overlay.plan());
        clean(&node.container.kernel, &node.sandbox.plan());
    }
    assert!(pings(&nodes[0].container.netns, "10.0.1.3"));
    assert!(pings(&nodes[1].container.netns, "fd00:1::2"));
    assert!(run(&nodes[0].container.netns, "ping -n -c 1 -W 1 -M do -s 1402 10.0.1.3").0);
}

#[test]
fn an_endpoint_cannot_take_anothers_address() {
    let (mut nodes, _switch) = two_nodes();
    let thief = Place::new();
    let node = &mut nodes[0];
    node.overlay.local.push(LocalEndpoint {
        id: endpoint_id(9),
        ip: ip("10.0.1.9"),
        mac: weft_types::MacAddr::from_ipv4(v4(9)),
        sandbox: thief.netns.reference(),
        interface: name("eth0"),
    });
    clean(&node.network.kernel, &node.overlay.plan());
    let mut sandbox = node.sandbox.clone();
    sandbox.interfaces[0].mac = weft_types::MacAddr::from_ipv4(v4(9));
    sandbox.interfaces[0].addresses = vec![net("10.0.1.9/24")];
    clean(&thief.kernel, &sandbox.plan());
    assert!(pings(&thief.netns, "10.0.1.2"));
    for victim in ["02:42:0a:00:01:03", "02:42:0a:00:01:01"] {
        ok(&thief.netns, &format!("ip link set eth0 address {victim}"));
        run(&thief.netns, "ping -n -c 2 -i 0.2 -W 1 10.0.1.2");
        // As a gratuitous answer would: everyone should now believe the thief.
        run(&thief.netns, "ping -n -c 2 -i 0.2 -W 1 -b 10.0.1.255");
        assert!(pings(&node.container.netns, "10.0.1.3"), "{victim}");
        assert!(pings(&node.container.netns, "10.0.1.1"), "{victim}");
        assert!(clean(&node.network.kernel, &node.overlay.plan()).is_empty(), "{victim}");
    }
}

#[test]
fn thousands_of_remote_endpoints_are_no_burden() {
    let (mut nodes, _switch) = two_nodes();
    let node = &mut nodes[0];
    node.overlay.segments[0].gateways[0] = net("10.0.0.1/16");
    node.sandbox.interfaces[0].addresses[0] = net("10.0.1.2/16");
    let far = node.overlay.remote[0].vtep;
    for n in 0..3000u16 {
        let address = std::net::Ipv4Addr::from((10 << 24) | (0x1000 + u32::from(n)));
        let mac = weft_types::MacAddr::from_ipv4(address);
        node.overlay.remote.push(RemoteEndpoint { ips: vec![address.into()], mac, vtep: far });
    }
    let start = std::time::Instant::now();
    clean(&node.network.kernel, &node.overlay.plan());
    let made = start.elapsed();
    assert!(node.network.kernel.reconcile_blocking(&node.overlay.plan()).unwrap().done.is_empty());
    println!("3000 endpoints: {made:?} to make and check twice, {:?} an audit", start.elapsed() - made);
    clean(&node.container.kernel, &node.sandbox.plan());
    assert!(pings(&node.container.netns, "10.0.1.3"));
}
