//! Any order of creating, attaching, freeing and changing leaders keeps the invariants of the crate.
//!
//! Cases per property: `WEFT_PROPTEST_CASES` (default 64).

#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use weft_orchestration::{AllocationError, Allocator, AllocatorConfig, Claim, InUse};
use weft_wire::swarmkit::{Cluster, IpamConfig, IpamOptions, Network, NetworkSpec};

fn cases() -> ProptestConfig {
    let cases = std::env::var("WEFT_PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

#[derive(Debug, Clone)]
enum Step {
    Attach,
    AttachWanted(Index),
    Free(Index),
    NewLeader,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Attach),
        1 => any::<Index>().prop_map(Step::AttachWanted),
        4 => any::<Index>().prop_map(Step::Free),
        1 => Just(Step::NewLeader),
    ]
}

fn config() -> AllocatorConfig {
    AllocatorConfig::of_cluster(&Cluster { id: "c".into(), ..Cluster::default() }).unwrap()
}

/// A network of one IPv4 subnet of this prefix length, with a reserved address, and perhaps an IPv6 subnet.
fn network(prefix_len: u8, ipv6: bool) -> (Network, InUse) {
    let reserved = BTreeMap::from([("r".to_owned(), "10.7.0.3".to_owned())]);
    let v4 = IpamConfig { subnet: format!("10.7.0.0/{prefix_len}"), reserved, ..IpamConfig::default() };
    let spec = NetworkSpec {
        ipam: Some(IpamOptions { driver: None, configs: vec![v4] }),
        ipv6_enabled: ipv6,
        ..NetworkSpec::default()
    };
    let mut taken = InUse::default();
    let allocation = Allocator::rebuild(config(), [], &taken).network("n", &spec, &taken).unwrap();
    for claim in &allocation.claims {
        assert!(taken.insert(claim.clone(), "n"));
    }
    let mut network = Network { id: "n".into(), spec: Some(spec), ..Network::default() };
    allocation.write_to(&mut network);
    (network, taken)
}

fn is_usable(address: IpAddr, subnet: IpNet) -> bool {
    let gateway = subnet.hosts().next().unwrap();
    let reserved: IpAddr = "10.7.0.3".parse().unwrap();
    let edge = subnet.addr().is_ipv4() && (address == subnet.network() || address == subnet.broadcast());
    subnet.contains(&address) && !edge && address != gateway && address != reserved
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_address_twice_all_within_never_kept_and_all_freed_comes_back(
        prefix_len in 26_u8..=29, ipv6 in any::<bool>(), steps in vec(step(), 1..200)
    ) {
        let (network, mut taken) = network(prefix_len, ipv6);
        let subnets: Vec<IpNet> =
            network.ipam.as_ref().unwrap().configs.iter().map(|config| config.subnet.parse().unwrap()).collect();
        // Network, broadcast, gateway, reserved.
        let capacity = (1_usize << (32 - prefix_len)) - 4;
        let mut allocator = Allocator::rebuild(config(), [&network], &taken);
        let mut held: Vec<Vec<IpAddr>> = Vec::new();
        for step in steps {
            let wanted = match &step {
                Step::AttachWanted(index) => {
                    vec![format!("10.7.0.{}", index.index(1 << (32 - prefix_len)))]
                }
                _ => vec![],
            };
            match step {
                Step::Attach | Step::AttachWanted(_) => {
                    match allocator.addresses(&network, &wanted, &taken) {
                        Ok(allocation) => {
                            prop_assert_eq!(allocation.addresses.len(), subnets.len());
                            for claim in &allocation.claims {
                                prop_assert!(taken.insert(claim.clone(), "task"), "given twice: {:?}", claim);
                            }
                            for address in &allocation.addresses {
                                prop_assert!(subnets.contains(&address.subnet()));
                                prop_assert!(is_usable(address.ip(), address.subnet()), "{}", address);
                            }
                            held.push(allocation.addresses.iter().map(|address| address.ip()).collect());
                        }
                        Err(AllocationError::AddressesExhausted { total, .. }) => {
                            prop_assert_eq!(total, capacity as u128);
                            prop_assert_eq!(held.len(), capacity, "refused although there is room");
                        }
                        Err(error) => prop_assert!(!wanted.is_empty(), "{}", error),
                    }
                }
                Step::Free(index) if !held.is_empty() => {
                    for address in held.swap_remove(index.index(held.len())) {
                        let claim = Claim::Address { network: "n".into(), address };
                        prop_assert!(taken.remove(&claim));
                        allocator.released("n", address);
                    }
                }
                Step::Free(_) => {}
                Step::NewLeader => allocator = Allocator::rebuild(config(), [&network], &taken),
            }
        }
        // Whatever happened: exactly what is free can still be given.
        for _ in held.len()..capacity {
            let allocation = allocator.addresses(&network, &[], &taken).unwrap();
            for claim in allocation.claims {
                prop_assert!(taken.insert(claim, "task"));
            }
        }
        prop_assert!(allocator.addresses(&network, &[], &taken).is_err());
    }

    #[test]
    fn networks_never_share_subnet_or_identifier(
        wanted in vec(proptest::option::of((any::<[u8; 2]>(), 9_u8..=28)), 1..40), removals in vec(any::<Index>(), 0..10)
    ) {
        let mut taken = InUse::default();
        let mut allocator = Allocator::rebuild(config(), [], &taken);
        let mut live = Vec::new();
        let (mut nets, mut vnis): (Vec<IpNet>, BTreeSet<String>) = Default::default();
        let mut removals = removals.into_iter();
        for (number, wanted) in wanted.into_iter().enumerate() {
            let configs = wanted.map(|([a, b], len)| {
                let net: IpNet = format!("10.{a}.{b}.0/{len}").parse().unwrap();
                IpamConfig { subnet: net.trunc().to_string(), ..IpamConfig::default() }
            });
            let ipam = Some(IpamOptions { driver: None, configs: configs.into_iter().collect() });
            let spec = NetworkSpec { ipam, ..NetworkSpec::default() };
            let id = format!("n{number}");
            match allocator.network(&id, &spec, &taken) {
                Ok(allocation) => {
                    for claim in &allocation.claims {
                        prop_assert!(taken.insert(claim.clone(), &id), "given twice: {:?}", claim);
                    }
                    let net: IpNet = allocation.ipam.configs[0].subnet.parse().unwrap();
                    prop_assert!(nets.iter().all(|other| !other.contains(&net) && !net.contains(other)));
                    let list = allocation.driver_state.options.values().next().unwrap().clone();
                    prop_assert!(vnis.insert(list), "an identifier came back at once");
                    nets.push(net);
                    live.push((net, allocation.claims));
                }
                Err(AllocationError::Overlap { wanted, taken, .. }) => {
                    prop_assert!(nets.contains(&taken));
                    prop_assert!(wanted.contains(&taken) || taken.contains(&wanted));
                }
                // A large subnet of the user's may leave no room in the pool.
                Err(error) => prop_assert!(matches!(error, AllocationError::PoolsExhausted { .. }), "{}", error),
            }
            if let Some(index) = removals.next()
                && !live.is_empty()
            {
                let (net, claims) = live.swap_remove(index.index(live.len()));
                nets.retain(|other| *other != net);
                for claim in claims {
                    prop_assert!(taken.remove(&claim));
                }
            }
        }
    }
}
