use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::{Op, Table, diff, model};

fn backends(weights: &[(&str, u16)]) -> BTreeMap<IpAddr, u16> {
    weights.iter().map(|(ip, weight)| (ip.parse().unwrap(), *weight)).collect()
}

fn balancer(engine: BalanceEngine) -> Balancer {
    let service = |weights| BalancedService::new(backends(weights), None);
    let services = [
        ("10.0.1.2", service(&[("10.0.1.3", 1), ("10.0.1.4", 1), ("10.0.1.5", 1)])),
        ("10.0.1.9", service(&[("10.0.1.10", 0)])),
        ("fd00:1::2", service(&[("fd00:1::3", 2), ("fd00:1::4", 1)])),
    ];
    let services = services.map(|(vip, service)| (vip.parse().unwrap(), service)).into();
    Balancer { engine, sockets: true, tracked: vec!["10.0.0.0/24".parse().unwrap()], services }
}

fn text(balancer: &Balancer) -> String {
    let state = balancer.plan();
    let mut text: String = state.tables.values().map(|table| format!("{table}\n")).collect();
    for (key, value) in &state.sysctls {
        text += &format!("{key} = {value}\n");
    }
    let mut have = model::observed(&state);
    have.ipvs = crate::Ipvs::default();
    for op in diff(&have, &state) {
        text += &format!("{op}\n");
    }
    text
}

#[test]
fn golden_nft() {
    crate::golden::assert_golden("balance.nft", &text(&balancer(BalanceEngine::Nft)));
}

#[test]
fn golden_ipvs() {
    crate::golden::assert_golden("balance_ipvs.nft", &text(&balancer(BalanceEngine::Ipvs)));
}

#[test]
fn golden_bpf() {
    crate::golden::assert_golden("balance_bpf.nft", &text(&balancer(BalanceEngine::Bpf)));
}

#[test]
fn without_the_kernels_word_on_sockets_programs_change_no_rule() {
    let tables = |engine| Balancer { sockets: false, ..balancer(engine) }.plan().tables;
    assert_eq!(tables(BalanceEngine::Bpf), tables(BalanceEngine::Nft));
}

#[test]
fn without_services_there_is_nothing() {
    assert_eq!(Balancer::default().plan(), NamespaceState::default());
}

#[test]
fn the_number_of_rules_does_not_depend_on_the_services() {
    let rules = |balancer: &Balancer| -> usize {
        let table = &balancer.plan().tables[&Balancer::table_id(false)];
        table.chains.values().map(|chain| chain.rules.len()).sum()
    };
    let mut many = balancer(BalanceEngine::Nft);
    for number in 0..1000u32 {
        let vip = Ipv4Addr::from_bits(0x0a02_0000 + number).into();
        many.services.insert(vip, BalancedService::new(numbered(number % 40), None));
    }
    assert_eq!(rules(&many), rules(&balancer(BalanceEngine::Nft)));
    assert!(rules(&many) < 128, "{}", rules(&many));
}

#[test]
fn one_service_more_changes_only_elements() {
    let before = model::observed(&balancer(BalanceEngine::Nft).plan());
    let mut more = balancer(BalanceEngine::Nft);
    let vip = "10.0.1.20".parse().unwrap();
    more.services.insert(vip, BalancedService::new(backends(&[("10.0.1.21", 1)]), None));
    let ops = diff(&before, &more.plan());
    assert!(ops.iter().all(
        |op| matches!(op, Op::ChangeElements { add, remove, .. } if add.len() == 1 && remove.is_empty())
    ));
    assert_eq!(ops.len(), 4);
}

#[test]
fn a_task_that_drains_keeps_its_flows_and_gets_no_new_ones() {
    let before = BalancedService::new(backends(&[("10.0.1.3", 1), ("10.0.1.4", 1)]), None);
    let after = BalancedService::new(backends(&[("10.0.1.3", 0), ("10.0.1.4", 1)]), Some(&before));
    assert_eq!(after.slots(), ["10.0.1.4".parse::<IpAddr>().unwrap()]);
    let mut balancer = balancer(BalanceEngine::Nft);
    balancer.services = [("10.0.1.2".parse().unwrap(), after)].into();
    let table = &balancer.plan().tables[&Balancer::table_id(false)];
    assert!(table.sets["backends"].elements.contains("10.0.1.3"), "its flows stay tracked");
}

#[test]
fn two_ipv6_addresses_of_one_digest_have_marks_of_their_own() {
    let mut balancer = Balancer { engine: BalanceEngine::Ipvs, ..Balancer::default() };
    for number in 0..50_000u128 {
        let vip = std::net::Ipv6Addr::from_bits((0xfd00 << 112) + number).into();
        balancer.services.insert(vip, BalancedService::default());
    }
    assert_eq!(balancer.plan().ipvs.unwrap().services.len(), 50_000);
}

fn numbered(count: u32) -> BTreeMap<IpAddr, u16> {
    (0..count).map(|n| (IpAddr::from(Ipv4Addr::from_bits(0x0a01_0000 + n)), 1)).collect()
}

/// How likely each task is, by the rules of the chain for so many slots.
fn chances(slots: &[IpAddr]) -> BTreeMap<IpAddr, f64> {
    let mut chances = BTreeMap::new();
    let mut rest = 1.0;
    let vip: IpAddr = "10.0.1.2".parse().unwrap();
    let mut balancer = Balancer::default();
    balancer.services.insert(vip, BalancedService { backends: BTreeMap::new(), slots: slots.to_vec() });
    let table = nft::table(&balancer, false);
    let (chain, _) =
        table.sets.iter().find(|(name, set)| *name != "vips" && set.elements.contains("10.0.1.2")).unwrap();
    for below in draws(&table, chain) {
        let each = rest / below as f64;
        for slot in slots.iter().take(below) {
            *chances.entry(*slot).or_default() += each;
            rest -= each;
        }
    }
    assert!(rest.abs() < 1e-9, "{rest} of all flows go nowhere");
    chances
}

/// The numbers below which a chain draws, one after the other.
fn draws(table: &Table, chain: &str) -> Vec<usize> {
    let of_rule = |rule: &NftRule| match rule.text.strip_prefix("jump ") {
        Some(chain) => draws(table, chain),
        None => {
            let mut words = rule.text.split(' ').skip_while(|word| *word != "mod");
            vec![words.nth(1).unwrap().parse().unwrap()]
        }
    };
    table.chains[chain].rules.iter().flat_map(of_rule).collect()
}

proptest! {
    // Adding up thousands of chances takes its time.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn equal_weights_spread_evenly(count in 1u32..4096, weight in 1u16..5) {
        let equal = numbered(count).into_keys().map(|ip| (ip, weight)).collect();
        let service = BalancedService::new(equal, None);
        let fair = 1.0 / f64::from(count);
        for chance in chances(service.slots()).values() {
            prop_assert!((chance / fair - 1.0).abs() <= 0.01, "{chance} instead of {fair}");
        }
    }

}

proptest! {
    #[test]
    fn weights_are_shares(weights in prop::collection::vec(0u16..6, 1..40)) {
        let all: BTreeMap<IpAddr, u16> = numbered(weights.len() as u32).into_keys().zip(weights.clone()).collect();
        let service = BalancedService::new(all.clone(), None);
        let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        if total == 0.0 {
            prop_assert!(service.slots().is_empty());
        } else {
            let chances = chances(service.slots());
            for (ip, weight) in &all {
                let due = f64::from(*weight) / total;
                let chance = chances.get(ip).copied().unwrap_or_default();
                prop_assert!((chance - due).abs() <= 0.01 * due, "{chance} instead of {due}");
            }
        }
    }

    #[test]
    fn a_change_rewrites_as_few_slots_as_can_be(
        before in prop::collection::btree_set(0u32..60, 0..60),
        after in prop::collection::btree_set(0u32..60, 0..60),
    ) {
        let of = |numbers: &std::collections::BTreeSet<u32>| -> BTreeMap<IpAddr, u16> {
            numbers.iter().map(|n| (IpAddr::from(Ipv4Addr::from_bits(0x0a01_0000 + n)), 1)).collect()
        };
        let old = BalancedService::new(of(&before), None);
        let new = BalancedService::new(of(&after), Some(&old));
        let kept = new.slots().iter().zip(old.slots()).filter(|(a, b)| a == b).count();
        // Who stays and was below the new number of slots keeps its place.
        let could = old.slots().iter().take(after.len()).filter(|ip| new.backends().contains_key(ip)).count();
        prop_assert_eq!(kept, could);
        let mut all = new.slots().to_vec();
        all.sort();
        prop_assert_eq!(all, new.backends().keys().copied().collect::<Vec<_>>());
    }

    #[test]
    fn any_weights_fit(weights in prop::collection::vec(any::<u16>(), 0..200)) {
        let all: BTreeMap<IpAddr, u16> = numbered(weights.len() as u32).into_keys().zip(weights).collect();
        let service = BalancedService::new(all.clone(), None);
        prop_assert!(service.slots().len() <= MAX_SLOTS);
        for (ip, weight) in all {
            prop_assert_eq!(service.slots().contains(&ip), weight > 0);
        }
    }
}
