use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::{
    BridgeOptions, BridgePort, FdbEntry, Neighbour, PolicyRule, Route, RuleSelector, SeenNeighbour,
    SourcePorts, Vxlan, VxlanGuard, model,
};

/// Few names, so that states overlap.
fn name() -> impl Strategy<Value = LinkName> {
    prop_oneof![Just("br0"), Just("br1"), Just("vxlan0"), Just("veth1"), Just("eth0")]
        .prop_map(|name| name.parse().unwrap())
}

fn mac() -> impl Strategy<Value = MacAddr> {
    (1u8..4).prop_map(|n| MacAddr([2, 0x42, 10, 0, 0, n]))
}

fn ip() -> impl Strategy<Value = std::net::IpAddr> {
    (1u8..4).prop_map(|n| std::net::Ipv4Addr::new(10, 0, 0, n).into())
}

fn kind() -> impl Strategy<Value = LinkKind> {
    let vxlan = (1u32..3).prop_map(|vni| {
        let underlay = crate::NamespaceRef::host();
        let local = std::net::Ipv4Addr::LOCALHOST.into();
        LinkKind::Vxlan(Vxlan {
            vni: vni.try_into().unwrap(),
            local,
            port: 4789,
            underlay,
            sources: SourcePorts::Open,
        })
    });
    let bridge =
        any::<bool>().prop_map(|multicast_snooping| LinkKind::Bridge(BridgeOptions { multicast_snooping }));
    prop_oneof![bridge, vxlan, Just(LinkKind::VethEnd), Just(LinkKind::Veth(None))]
}

fn link() -> impl Strategy<Value = Link> {
    (kind(), option::of(mac()), option::of(1400u32..1403), any::<bool>(), any::<bool>(), any::<bool>())
        .prop_map(|(kind, mac, mtu, master, isolated, up)| {
            let port_of = |name: &str| name.parse().ok().filter(|_| master);
            let master = match kind {
                LinkKind::Bridge(_) => None,
                _ => port_of("br0"),
            };
            let port = master.is_some().then_some(BridgePort { isolated, ..BridgePort::ENDPOINT });
            Link { kind, mac, mtu: mtu.map(|mtu| mtu.try_into().unwrap()), master, port, up }
        })
}

/// Only states that make sense: entries on links that are there, ports of a bridge that is there.
fn state() -> impl Strategy<Value = NamespaceState> {
    let links = btree_map(name(), link(), 0..5);
    let addresses = btree_set((name(), ip()), 0..4);
    let fdb = btree_map((name(), mac(), any::<bool>()), ip(), 0..4);
    let neighbours = btree_map((name(), ip()), mac(), 0..4);
    let routes = btree_map(0u32..3, (name(), ip()), 0..3);
    let rules = btree_set((any::<bool>(), 1u32..3), 0..3);
    let members = option::of(vec(ip(), 0..3));
    (links, addresses, fdb, neighbours, routes, rules, members).prop_map(
        |(links, addresses, fdb, neighbours, routes, rules, members)| {
            let mut state = NamespaceState { links, ..NamespaceState::empty() };
            let bridge: LinkName = "br0".parse().unwrap();
            let has_bridge = matches!(state.links.get(&bridge), Some(Link { kind: LinkKind::Bridge(_), .. }));
            for link in state.links.values_mut().filter(|_| !has_bridge) {
                (link.master, link.port) = (None, None);
            }
            for (link, ip) in addresses {
                let address = format!("{ip}/24").parse().unwrap();
                state.addresses.insert(Address { link, address });
            }
            let mut in_bridge = BTreeSet::new();
            for ((link, mac, port), ip) in fdb {
                if port && !in_bridge.insert(mac) {
                    continue;
                }
                let target = if port { FdbTarget::Port } else { FdbTarget::Vtep(ip) };
                state.fdb.insert(FdbEntry { link, mac, target });
            }
            state.neighbours =
                neighbours.into_iter().map(|((link, ip), mac)| Neighbour { link, ip, mac }).collect();
            for (metric, (link, gateway)) in routes {
                state.routes.insert(Route { metric, ..Route::default_via(gateway, link) });
            }
            for (ipv6, fwmark) in rules {
                state.rules.insert(PolicyRule {
                    ipv6,
                    priority: 100,
                    selector: RuleSelector::Mark(fwmark),
                    table: 100,
                });
            }
            state.sysctls.insert("net/ipv4/ip_forward".to_owned(), "1".to_owned());
            if let Some(members) = members {
                let address = std::net::Ipv4Addr::new(192, 0, 2, 1).into();
                state.merge(
                    VxlanGuard { address, port: 4789, interface: None, members, encryption: None }.plan(),
                );
            }
            prune(&mut state);
            state
        },
    )
}

fn prune(state: &mut NamespaceState) {
    let links = state.links.clone();
    state.addresses.retain(|a| links.contains_key(&a.link));
    state.fdb.retain(|e| links.contains_key(&e.link));
    state.neighbours.retain(|n| links.contains_key(&n.link));
    state.routes.retain(|r| r.link().is_none_or(|link| links.contains_key(link)));
}

fn after(observed: &Observed, desired: &NamespaceState) -> Observed {
    let mut observed = observed.clone();
    for op in diff(&observed.clone(), desired) {
        model::apply(&mut observed, &op);
    }
    observed
}

proptest! {
    #[test]
    fn applying_the_difference_gives_the_desired_state(have in state(), want in state()) {
        let reached = after(&model::observed(&have), &want);
        prop_assert_eq!(diff(&reached, &want), vec![]);
        for (name, link) in &want.links {
            prop_assert_eq!(reached.links[name].link.kind.name(), link.kind.name(), "{}", name);
            prop_assert_eq!(reached.links[name].link.up, link.up, "{}", name);
        }
        prop_assert_eq!(reached.links.len(), want.links.len());
        prop_assert_eq!(reached.addresses.keys().cloned().collect::<BTreeSet<_>>(), want.addresses);
        prop_assert_eq!(&reached.fdb, &want.fdb);
        prop_assert_eq!(reached.routes.keys().cloned().collect::<BTreeSet<_>>(), want.routes);
        prop_assert_eq!(reached.rules.keys().cloned().collect::<BTreeSet<_>>(), want.rules);
        prop_assert_eq!(reached.neighbours.len(), want.neighbours.len());
        prop_assert_eq!(&reached.tables, &want.tables);
    }

    #[test]
    fn equal_states_need_nothing(state in state()) {
        prop_assert_eq!(diff(&model::observed(&state), &state), vec![]);
    }

    #[test]
    fn applying_twice_changes_nothing(have in state(), want in state()) {
        let ops = diff(&model::observed(&have), &want);
        let mut once = model::observed(&have);
        ops.iter().for_each(|op| model::apply(&mut once, op));
        let mut twice = once.clone();
        let made_anew = |op: &Op| matches!(op, Op::DeleteLink { .. } | Op::CreateLink { .. } | Op::AwaitLink { .. });
        // Deleting and making a link anew is not the same twice, all else is.
        ops.iter().filter(|op| !made_anew(op)).for_each(|op| model::apply(&mut twice, op));
        prop_assert_eq!(diff(&twice, &want), vec![]);
    }

    #[test]
    fn foreign_objects_stay(have in state(), want in state()) {
        let mut observed = model::observed(&have);
        observed.links.values_mut().for_each(|seen| seen.owner = Owner::Foreign);
        observed.addresses.values_mut().for_each(|owner| *owner = Owner::Foreign);
        observed.routes.values_mut().for_each(|owner| *owner = Owner::Foreign);
        observed.rules.values_mut().for_each(|owner| *owner = Owner::Foreign);
        observed.neighbours.values_mut().for_each(|seen| seen.owner = Owner::Foreign);
        observed.fdb.clear();
        for op in diff(&observed, &want) {
            let touched = match &op {
                Op::ChangeLink { name, .. } | Op::DeleteLink { name } => observed.links.contains_key(name),
                Op::DeleteAddress(_) | Op::DeleteRoute(_) | Op::DeleteRule(_) | Op::DeleteNeighbour(_) => true,
                Op::SetRoute(route) => observed.routes.keys().any(|seen| seen.key() == route.key()),
                Op::AddAddress(address) => observed.links.contains_key(&address.link),
                _ => false,
            };
            prop_assert!(!touched, "{}", op);
        }
    }
}

#[test]
fn a_poisoned_neighbour_is_replaced_even_when_it_lost_its_mark() {
    let link: LinkName = "br0".parse().unwrap();
    let ip = "10.0.0.1".parse().unwrap();
    let mut want = NamespaceState::empty();
    want.links.insert(link.clone(), Link::new(LinkKind::Bridge(BridgeOptions { multicast_snooping: false })));
    want.neighbours.insert(Neighbour { link: link.clone(), ip, mac: MacAddr([2, 0, 0, 0, 0, 1]) });
    let mut have = model::observed(&want);
    let poison =
        SeenNeighbour { mac: Some(MacAddr([2, 0, 0, 0, 0, 9])), permanent: true, owner: Owner::Foreign };
    have.neighbours.insert((link, ip), poison);
    assert!(matches!(diff(&have, &want).as_slice(), [Op::SetNeighbour(_)]));
}

#[test]
fn a_tunnel_of_another_network_is_made_anew_with_all_its_entries() {
    let link: LinkName = "vxlan0".parse().unwrap();
    let vxlan = |vni: u32| {
        let local = std::net::Ipv4Addr::LOCALHOST.into();
        let underlay = crate::NamespaceRef::host();
        Link::new(LinkKind::Vxlan(Vxlan {
            vni: vni.try_into().unwrap(),
            local,
            port: 4789,
            underlay,
            sources: SourcePorts::Open,
        }))
    };
    let mut want = NamespaceState::empty();
    want.links.insert(link.clone(), vxlan(1));
    let target = FdbTarget::Vtep("192.0.2.2".parse().unwrap());
    want.fdb.insert(FdbEntry { link: link.clone(), mac: MacAddr([2, 0, 0, 0, 0, 1]), target });
    let mut have = model::observed(&want);
    have.links.get_mut(&link).unwrap().link = vxlan(2);
    let words: Vec<String> = diff(&have, &want).iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "delete link vxlan0",
            "create vxlan vxlan0 vni 1 local 127.0.0.1 port 4789",
            "set vxlan0 up",
            "set fdb 02:00:00:00:00:01 dev vxlan0 dst 192.0.2.2 self permanent",
        ]
    );
}

#[test]
fn bridges_that_docker_left_behind_are_taken_over() {
    let name: LinkName = "docker0".parse().unwrap();
    let bridge = |multicast_snooping| Link {
        up: true,
        ..Link::new(LinkKind::Bridge(BridgeOptions { multicast_snooping }))
    };
    let mut want = NamespaceState::empty();
    want.links.insert(name.clone(), bridge(false));
    let mut observed = Observed::default();
    observed.links.insert(name.clone(), SeenLink { link: bridge(true), owner: Owner::Foreign });
    let ops = diff(&observed, &want);
    assert_eq!(ops[0], Op::ChangeLink { name: name.clone(), change: LinkChange::Adopt });
    ops.iter().for_each(|op| model::apply(&mut observed, op));
    assert!(diff(&observed, &want).is_empty() && observed.links[&name].owner == Owner::Weft);

    // One that is in use is in the way.
    let mut observed = Observed::default();
    observed.links.insert(name.clone(), SeenLink { link: bridge(true), owner: Owner::Foreign });
    let port = Link { master: Some(name.clone()), ..Link::new(LinkKind::VethEnd) };
    observed.links.insert("veth1".parse().unwrap(), SeenLink { link: port, owner: Owner::Foreign });
    assert!(matches!(diff(&observed, &want)[..], [Op::CreateLink { .. }]));
}
