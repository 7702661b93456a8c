use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::BalancedService;

fn task(n: u8) -> Ipv6Addr {
    Ipv4Addr::new(10, 0, 1, n).to_ipv6_mapped()
}

fn vip(n: u8) -> Ipv6Addr {
    Ipv4Addr::new(10, 0, 2, n).to_ipv6_mapped()
}

/// What a program finds: nothing, or the tasks that it draws from; a slot without a task is one that is left to the rules.
fn found(tables: &ConnectTables, cookie: u64, vip: Ipv6Addr) -> Option<Vec<Option<Ipv6Addr>>> {
    let reach = tables.namespaces.get(&cookie)?;
    let service = tables.services.get(&(*reach, vip))?;
    Some((0..service.count).map(|at| tables.slots.get(&(service.number, at)).copied()).collect())
}

fn wished(target: &ConnectTarget, cookie: u64, vip: Ipv6Addr) -> Option<Vec<Option<Ipv6Addr>>> {
    let reach = target.namespaces.get(&cookie)?;
    let slots = target.services.get(&(*reach, vip))?;
    Some(slots.iter().copied().map(Some).collect())
}

fn brought(mut tables: ConnectTables, target: &ConnectTarget, last: &mut u32) -> ConnectTables {
    for change in tables.clone().changes(target, last) {
        tables.apply(&change);
    }
    tables
}

#[test]
fn a_wish_becomes_entries_of_both_families() {
    let service = |tasks: &[&str]| {
        BalancedService::new(tasks.iter().map(|ip| (ip.parse().unwrap(), 1)).collect(), None)
    };
    let services = [
        ("10.0.1.2", service(&["10.0.1.3", "10.0.1.4"])),
        ("10.0.1.9", service(&[])),
        ("fd00:1::2", service(&["fd00:1::3"])),
    ];
    let services = services.map(|(vip, service)| (vip.parse().unwrap(), service)).into();
    let (there, absent) = (NamespaceRef::at("/a"), NamespaceRef::at("/b"));
    let reach = ConnectReach {
        namespaces: [there.clone(), absent].into(),
        balancer: Arc::new(Balancer { services, ..Balancer::default() }),
    };
    let wish = ConnectWish { reaches: [(7, reach)].into() };
    let target = ConnectTarget::new(&wish, &[(there, 4711)].into());
    assert_eq!(target.namespaces, [(4711, 7)].into());
    let slots = |ip: &str| target.services[&(7, ip.parse::<Ipv6Addr>().unwrap())].clone();
    assert_eq!(slots("::ffff:10.0.1.2"), [task(3), task(4)]);
    assert!(slots("::ffff:10.0.1.9").is_empty());
    assert_eq!(slots("fd00:1::2"), ["fd00:1::3".parse::<Ipv6Addr>().unwrap()]);
}

#[test]
fn new_slots_are_complete_before_they_are_used_and_old_ones_go_last() {
    let target = |tasks: &[u8]| ConnectTarget {
        namespaces: [(1, 7)].into(),
        services: [((7, vip(1)), tasks.iter().copied().map(task).collect())].into(),
        left_out: 0,
    };
    let mut last = 0;
    let before = brought(ConnectTables::default(), &target(&[3, 4]), &mut last);
    let changes = before.changes(&target(&[4]), &mut last);
    let expected = [
        ConnectChange::SetSlot((2, 0), task(4)),
        ConnectChange::SetService((7, vip(1)), SlotsOf { number: 2, count: 1 }),
        ConnectChange::RemoveSlot((1, 0)),
        ConnectChange::RemoveSlot((1, 1)),
    ];
    assert_eq!(changes, expected);
    assert_eq!(before.changes(&target(&[3, 4]), &mut last), []);
}

#[test]
fn what_has_no_room_is_left_to_the_rules() {
    let tasks = (0..4000u32).map(|n| (IpAddr::from(Ipv4Addr::from_bits(0x0a01_0000 + n)), 1)).collect();
    let service = BalancedService::new(tasks, None);
    let vips = (0..40u32).map(|n| (IpAddr::from(Ipv4Addr::from_bits(0x0a02_0000 + n)), service.clone()));
    let balancer = Arc::new(Balancer { services: vips.collect(), ..Balancer::default() });
    let reach = ConnectReach { namespaces: BTreeSet::new(), balancer };
    let target = ConnectTarget::new(&ConnectWish { reaches: [(1, reach)].into() }, &BTreeMap::new());
    assert_eq!((target.services.len(), target.left_out), (32, 8));
}

fn targets() -> impl Strategy<Value = ConnectTarget> {
    let slots = prop::collection::vec((0u8..6).prop_map(task), 0..4);
    let services = prop::collection::btree_map((0u64..3, (0u8..3).prop_map(vip)), slots, 0..6);
    let namespaces = prop::collection::btree_map(0u64..4, 0u64..3, 0..4);
    (namespaces, services).prop_map(|(namespaces, services)| ConnectTarget {
        namespaces,
        services,
        left_out: 0,
    })
}

/// Whatever somebody may have written into the maps.
fn damaged() -> impl Strategy<Value = ConnectTables> {
    let address = (0u8..6).prop_map(task);
    let slots_of = (0u32..4, 0u32..4).prop_map(|(number, count)| SlotsOf { number, count });
    (
        prop::collection::btree_map(0u64..4, 0u64..3, 0..4),
        prop::collection::btree_map((0u64..3, (0u8..3).prop_map(vip)), slots_of, 0..6),
        prop::collection::btree_map((0u32..4, 0u32..4), address, 0..8),
    )
        .prop_map(|(namespaces, services, slots)| ConnectTables { namespaces, services, slots })
}

proptest! {
    #[test]
    fn a_program_finds_what_was_or_what_shall_be_at_every_step(all in prop::collection::vec(targets(), 1..6)) {
        let (mut tables, mut last) = (ConnectTables::default(), 0);
        let mut before = ConnectTarget::default();
        for target in all {
            for change in tables.clone().changes(&target, &mut last) {
                tables.apply(&change);
                for cookie in 0..4 {
                    for vip in (0..3).map(vip) {
                        let now = found(&tables, cookie, vip);
                        // The namespace may still have its old reach, or the service its old slots.
                        let reaches = [&before, &target].map(|of| of.namespaces.get(&cookie).copied());
                        let known = reaches.into_iter().flatten().flat_map(|reach| {
                            [&before, &target].map(|of| of.services.get(&(reach, vip)).cloned())
                        });
                        let mut may = known.map(|slots| slots.map(|slots| slots.into_iter().map(Some).collect()));
                        let is_known = now.is_none() || may.any(|may: Option<Vec<_>>| may == now);
                        prop_assert!(is_known, "{now:?} of {vip} after {change:?}");
                    }
                }
            }
            for (cookie, vip) in (0..4).flat_map(|cookie| (0..3).map(move |n| (cookie, vip(n)))) {
                prop_assert_eq!(found(&tables, cookie, vip), wished(&target, cookie, vip));
            }
            prop_assert_eq!(tables.changes(&target, &mut last), []);
            before = target;
        }
    }

    #[test]
    fn a_number_is_given_once(first in targets(), second in targets()) {
        let mut last = 0;
        let number = |change: &ConnectChange| match change {
            ConnectChange::SetService(_, slots) => Some(slots.number),
            _ => None,
        };
        let tables = ConnectTables::default();
        let early: Vec<u32> = tables.changes(&first, &mut last).iter().filter_map(number).collect();
        let tables = brought(tables, &ConnectTarget::default(), &mut last);
        let late: Vec<u32> = tables.changes(&second, &mut last).iter().filter_map(number).collect();
        let all: BTreeSet<u32> = early.iter().chain(&late).copied().collect();
        prop_assert!(all.len() == early.len() + late.len() && !all.contains(&0));
    }

    #[test]
    fn any_damage_is_repaired(tables in damaged(), target in targets()) {
        let mut last = 0;
        let tables = brought(tables, &target, &mut last);
        for (cookie, vip) in (0..4).flat_map(|cookie| (0..3).map(move |n| (cookie, vip(n)))) {
            prop_assert_eq!(found(&tables, cookie, vip), wished(&target, cookie, vip));
        }
        prop_assert_eq!(tables.changes(&target, &mut last), []);
    }
}
