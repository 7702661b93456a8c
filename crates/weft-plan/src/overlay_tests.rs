use std::collections::BTreeSet;

use super::*;

fn network() -> OverlayNetwork {
    OverlayNetwork {
        id: "aaaaabbbbbcccccdddddeeeee".parse().unwrap(),
        mtu: 1450.try_into().unwrap(),
        vtep: "192.0.2.1".parse().unwrap(),
        port: 4789,
        host: NamespaceRef::host(),
        segments: vec![
            Segment {
                vni: 4097.try_into().unwrap(),
                gateways: vec!["10.0.1.1/24".parse().unwrap(), "fd00:1::1/64".parse().unwrap()],
            },
            Segment { vni: 4098.try_into().unwrap(), gateways: vec!["10.0.2.1/24".parse().unwrap()] },
        ],
        local: vec![LocalEndpoint {
            id: "ab".repeat(32).parse().unwrap(),
            ip: "10.0.1.2".parse().unwrap(),
            mac: "02:42:0a:00:01:02".parse().unwrap(),
            sandbox: NamespaceRef("/run/weft/netns/one".to_owned()),
            interface: "eth0".parse().unwrap(),
        }],
        remote: vec![
            remote(&["10.0.1.3", "fd00:1::3"], "02:42:0a:00:01:03", "192.0.2.2"),
            remote(&["10.0.2.4"], "02:42:0a:00:02:04", "192.0.2.3"),
        ],
        entries: None,
        encryption: None,
        fast: false,
    }
}

#[test]
fn an_interface_that_is_handed_on_is_nobodys_in_the_hosts_namespace() {
    let mut network = network();
    network.local[0].sandbox = network.host.clone();
    let port = port_name(&network.local[0].id);
    let handed_on = |network: &OverlayNetwork| match &network.plan().links[&port].kind {
        LinkKind::Veth(Some(peer)) => peer.handed_on,
        other => panic!("{other:?}"),
    };
    assert!(handed_on(&network));
    network.local[0].sandbox = NamespaceRef("/run/weft/netns/one".to_owned());
    assert!(!handed_on(&network));
}

fn remote(ips: &[&str], mac: &str, vtep: &str) -> RemoteEndpoint {
    let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    RemoteEndpoint { ips, mac: mac.parse().unwrap(), vtep: vtep.parse().unwrap() }
}

#[test]
fn golden_operations() {
    let ops = crate::diff(&crate::Observed::default(), &network().plan());
    let text: String = ops.iter().map(|op| format!("{op}\n")).collect();
    crate::golden::assert_golden("overlay.ops", &text);
}

#[test]
fn endpoints_at_ones_own_address_or_outside_the_subnets_are_left_out() {
    let plain = network().plan();
    let mut odd = network();
    odd.remote.push(remote(&["10.0.1.9"], "02:42:0a:00:01:09", "192.0.2.1"));
    odd.remote.push(remote(&["10.9.9.9"], "02:42:0a:09:09:09", "192.0.2.2"));
    assert_eq!(odd.plan(), plain);
}

#[test]
fn nothing_floods_and_nothing_is_learnt_from_the_tunnel() {
    for (name, link) in &network().plan().links {
        if matches!(link.kind, LinkKind::Vxlan(_)) {
            assert_eq!(link.port, Some(BridgePort::TUNNEL), "{name}");
        }
    }
    assert!(network().plan().fdb.iter().all(|entry| entry.mac.is_unicast()));
}

#[test]
fn encrypted_in_user_space_a_network_has_no_device_that_could_send_in_the_clear() {
    let network = OverlayNetwork { encryption: Some(EncryptionEngine::Userspace), ..network() };
    let state = network.plan();
    let kinds: Vec<&str> = state.links.values().map(|link| link.kind.name()).collect();
    assert!(!kinds.contains(&"vxlan") && kinds.contains(&"tun"), "{kinds:?}");
    assert!(state.fdb.iter().all(|entry| entry.target == FdbTarget::Port));
    let plain = OverlayNetwork { encryption: None, ..network.clone() }.plan();
    assert_eq!(state.neighbours, plain.neighbours);
    let forwarding: Vec<_> = network.forwarding().map(|(index, _, vtep)| (index, vtep.to_string())).collect();
    assert_eq!(forwarding, [(0, "192.0.2.2".to_owned()), (1, "192.0.2.3".to_owned())]);
}

#[test]
fn what_tcp_hands_over_in_one_piece_leaves_by_one_call() {
    let largest = |network: &OverlayNetwork| {
        let links = network.plan().links;
        let peers = links.values().filter_map(|link| match &link.kind {
            LinkKind::Veth(Some(peer)) => Some(peer.gso_max_segments),
            _ => None,
        });
        peers.collect::<BTreeSet<_>>()
    };
    let network = OverlayNetwork { mtu: Mtu::try_from(1408).unwrap(), ..network() };
    assert_eq!(largest(&network), [None].into());
    let encrypted = OverlayNetwork { encryption: Some(EncryptionEngine::Userspace), ..network };
    // 64,768 bytes in packets of 1472, as on a wire of 1500.
    assert_eq!(largest(&encrypted), [Some(44)].into());
    let jumbo = OverlayNetwork { mtu: Mtu::MAX, ..encrypted };
    assert_eq!(largest(&jumbo), [Some(1)].into());
}

#[test]
fn golden_operations_where_the_kernel_encrypts() {
    let network = OverlayNetwork { encryption: Some(EncryptionEngine::Kernel), ..network() };
    let ops = crate::diff(&crate::Observed::default(), &network.plan());
    let text: String = ops.iter().map(|op| format!("{op}\n")).collect();
    crate::golden::assert_golden("overlay_encrypted_kernel.ops", &text);
}

#[test]
fn another_engine_means_another_device() {
    let of = |encryption| OverlayNetwork { encryption, ..network() }.plan();
    let engines = [None, Some(EncryptionEngine::Userspace), Some(EncryptionEngine::Kernel)];
    for before in engines {
        for after in engines.into_iter().filter(|after| *after != before) {
            let observed = crate::model::observed(&of(before));
            let ops: Vec<String> =
                crate::diff(&observed, &of(after)).iter().map(ToString::to_string).collect();
            let at = |begin: &str| ops.iter().position(|op| op.starts_with(begin));
            let (gone, made) = (at("delete link vxlan0"), ops.iter().position(|op| is_made(op)));
            assert!(gone.is_some() && gone < made, "{before:?} to {after:?}: {ops:#?}");
        }
    }
}

fn is_made(op: &str) -> bool {
    op.starts_with("create ") && op.contains(" vxlan0")
}

#[test]
fn ports_of_encrypted_packets_are_nobody_elses() {
    let (open, encrypted) = (SourcePorts::Open.range(), SourcePorts::Encrypted.range());
    assert!(open.0 < open.1 && open.1 < encrypted.0);
    for port in [0, open.0, open.1, encrypted.0, encrypted.1] {
        let matches = port & SourcePorts::ENCRYPTED_MASK == SourcePorts::ENCRYPTED_FIRST;
        assert_eq!(matches, (encrypted.0..=encrypted.1).contains(&port), "{port}");
    }
    assert_eq!(SourcePorts::of((0, 0)), SourcePorts::Open);
    assert_eq!([open, encrypted].map(SourcePorts::of), [SourcePorts::Open, SourcePorts::Encrypted]);
}

#[test]
fn programs_carry_what_the_tables_of_the_bridge_say() {
    let place = NamespaceRef("/run/weft/netns/web".to_owned());
    let network = OverlayNetwork { fast: true, entries: Some(Entries { others: Vec::new() }), ..network() };
    let of = |network: &OverlayNetwork| network.fast_segments(&place).collect::<Vec<_>>();
    let [(first, one), (second, two)] = <[_; 2]>::try_from(of(&network)).unwrap();
    assert_eq!((first.get(), second.get()), (4097, 4098));
    let mac = |text: &str| text.parse::<MacAddr>().unwrap();
    let entry = (OverlayNetwork::entry_name(), EntryNode(network.vtep).mac());
    let container = (port_name(&network.local[0].id), network.local[0].mac);
    assert_eq!(one.ports, [container, entry].into());
    assert_eq!(one.remote, [(mac("02:42:0a:00:01:03"), "192.0.2.2".parse().unwrap())].into());
    assert_eq!((two.ports.len(), two.remote.len()), (0, 1));
    // Each way out is a pair that the plan makes.
    let state = network.plan();
    for (segment, outside) in [one, two].iter().zip(["weft-001001", "weft-001002"]) {
        let WayOut::Uplink { inside, outside: named } = &segment.way_out else { panic!("{segment:?}") };
        let LinkKind::Veth(Some(peer)) = &state.links[inside].kind else { panic!("{inside}") };
        assert_eq!((&peer.name, &peer.namespace, named.as_str()), (named, &network.host, outside));
        assert_eq!(state.links[inside].port, Some(BridgePort::UPLINK));
    }
    assert_eq!(network.uplinks().map(String::from).collect::<Vec<_>>(), ["weft-001001", "weft-001002"]);
}

#[test]
fn nothing_of_an_encrypted_network_has_a_way_out_in_the_clear() {
    let place = NamespaceRef::host();
    for (engine, way_out) in [
        (EncryptionEngine::Userspace, WayOut::Device(OverlayNetwork::tunnel_name(0))),
        (EncryptionEngine::Kernel, WayOut::None),
    ] {
        let network = OverlayNetwork { fast: true, encryption: Some(engine), ..network() };
        assert_eq!(network.fast_segments(&place).next().unwrap().1.way_out, way_out);
        assert_eq!(
            (network.uplinks().count(), network.plan().links.contains_key(&OverlayNetwork::uplink_name(0))),
            (0, false)
        );
    }
    let bridged = network();
    assert_eq!((bridged.fast_segments(&place).count(), bridged.uplinks().count()), (0, 0));
}
