//! Which services containers reach by virtual IP, and what their namespaces hold for that. Pure.
//!
//! What a container sees depends only on the overlay networks that it is on, so there is one plan for each set of
//! networks, however many containers are on them. A change is worked out once and carried out in every one of their
//! namespaces (see `controller/balance.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use weft_kernel::{Capabilities, ConntrackFilter};
use weft_plan::{BalanceEngine, BalancedService, Balancer, NamespaceState};
use weft_types::{NetworkId, PortProtocol};

use crate::choice;
use crate::sandbox::Sandbox;
use crate::services::{KnownService, Services};
use crate::state::State;

/// What the option says about balancing virtual IPs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BalancerChoice {
    /// Programs and nftables where this kernel has what both take, else nftables or IPVS.
    #[default]
    Auto,
    /// Rules and maps of nftables.
    Nftables,
    /// Virtual services of IPVS.
    Ipvs,
    /// Programs at the sockets for TCP, and nftables below them.
    Bpf,
}

impl BalancerChoice {
    /// The engine on a kernel with these capabilities; none if it lacks the one that was asked for. What programs need
    /// beside nftables is asked elsewhere (`controller/connect.rs`).
    pub(crate) fn engine(self, found: &Capabilities) -> Option<BalanceEngine> {
        match self {
            Self::Auto if found.nft_balance => Some(BalanceEngine::Bpf),
            Self::Auto => Some(found.balance_engine()),
            Self::Nftables => found.nft_balance.then_some(BalanceEngine::Nft),
            Self::Ipvs => found.ipvs.then_some(BalanceEngine::Ipvs),
            Self::Bpf => found.nft_balance.then_some(BalanceEngine::Bpf),
        }
    }
}

impl fmt::Display for BalancerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Nftables => "nftables",
            Self::Ipvs => "ipvs",
            Self::Bpf => "bpf",
        })
    }
}

impl FromStr for BalancerChoice {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        choice::parse(text, &[Self::Auto, Self::Nftables, Self::Ipvs, Self::Bpf])
    }
}

/// The networks whose services a container reaches.
pub(crate) type Reach = BTreeSet<NetworkId>;

/// What containers of one reach hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Balanced {
    pub(crate) balancer: Arc<Balancer>,
    pub(crate) state: Arc<NamespaceState>,
}

/// Overlay networks of a container, but for the ingress network: its virtual IPs are nobody's to ask for.
pub(crate) fn reach(state: &State, sandbox: &Sandbox) -> Reach {
    let ingress = state.ingress().map(|network| &network.id);
    let networks = sandbox.endpoints.iter().map(|endpoint| &endpoint.network);
    let overlay = |id: &NetworkId| state.network(id).is_some_and(|network| network.overlay().is_some());
    networks.filter(|id| Some(*id) != ingress && overlay(id)).cloned().collect()
}

/// Every reach that a container here has.
pub(crate) fn reaches(state: &State) -> BTreeSet<Reach> {
    let sandboxes = state.sandboxes.values().filter(|sandbox| sandbox.has_namespace());
    sandboxes.map(|sandbox| reach(state, sandbox)).filter(|reach| !reach.is_empty()).collect()
}

/// What programs know reaches by: a number that a reach has today and after a restart (FNV-1a, 64 bits, of its
/// networks), and the next free one where two meet.
pub(crate) fn numbered<T>(reaches: BTreeMap<Reach, T>) -> BTreeMap<u64, T> {
    let mut numbered = BTreeMap::new();
    for (reach, of_reach) in reaches {
        let bytes = reach.iter().flat_map(|network| network.as_str().bytes().chain([0]));
        let mut number = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        while numbered.contains_key(&number) {
            number = number.wrapping_add(1);
        }
        numbered.insert(number, of_reach);
    }
    numbered
}

/// What containers of a reach shall hold. `before` is what they held: as many slots as can be stay.
pub(crate) fn balanced(
    state: &State,
    services: &Services,
    reach: &Reach,
    before: Option<&Balanced>,
    engine: BalanceEngine,
    sockets: bool,
) -> Balanced {
    let known = reach.iter().filter_map(|id| services.get(id)).flat_map(|services| services.iter());
    let mut balancer = Balancer { engine, sockets, tracked: mesh(state), services: BTreeMap::new() };
    for service in known {
        for vip in &service.virtual_ips {
            let was = before.and_then(|before| before.balancer.services.get(vip));
            balancer.services.insert(*vip, BalancedService::new(backends(service, *vip), was));
        }
    }
    match before {
        Some(before) if *before.balancer == balancer => before.clone(),
        _ => Balanced { state: Arc::new(balancer.plan()), balancer: Arc::new(balancer) },
    }
}

/// Subnets of the ingress network.
pub(crate) fn mesh(state: &State) -> Vec<IpNet> {
    let overlay = state.ingress().and_then(|network| network.overlay());
    overlay.into_iter().flat_map(|spec| spec.subnets.iter().map(|subnet| subnet.subnet)).collect()
}

/// The tasks with an address of the virtual one's family; those that take no new flows have no weight.
fn backends(service: &KnownService, vip: IpAddr) -> BTreeMap<IpAddr, u16> {
    let tasks = service.backends.iter().flat_map(|backend| {
        let weight = u16::from(backend.ready);
        backend.ips.iter().map(move |ip| (*ip, weight))
    });
    tasks.filter(|(ip, _)| ip.is_ipv6() == vip.is_ipv6()).collect()
}

/// The connections that have to be forgotten: all of tasks that are gone, and UDP's of those that take no new flows, also
/// where none took any. Datagrams have no end that one could wait for.
pub(crate) fn left_behind(before: &Balancer, after: &Balancer) -> Vec<ConntrackFilter> {
    let nothing = BTreeMap::new();
    let mut filters = Vec::new();
    for (vip, service) in &before.services {
        let now = after.services.get(vip);
        if service.slots().is_empty() && now.is_none_or(|now| !now.slots().is_empty()) {
            filters.push(ConntrackFilter {
                protocol: Some(PortProtocol::Udp),
                original_destination: Some(*vip),
                ..ConntrackFilter::default()
            });
        }
        let now = now.map_or(&nothing, BalancedService::backends);
        for (task, weight) in service.backends() {
            let protocol = match now.get(task) {
                None => None,
                Some(0) if *weight > 0 => Some(PortProtocol::Udp),
                Some(_) => continue,
            };
            filters.push(ConntrackFilter {
                protocol,
                original_destination: Some(*vip),
                reply_source: Some(*task),
                ..ConntrackFilter::default()
            });
        }
    }
    filters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balancer(tasks: &[(&str, u16)]) -> Balancer {
        let tasks = tasks.iter().map(|(ip, weight)| (ip.parse().unwrap(), *weight)).collect();
        let service = BalancedService::new(tasks, None);
        Balancer { services: [("10.0.1.2".parse().unwrap(), service)].into(), ..Balancer::default() }
    }

    #[test]
    fn flows_of_tasks_that_stay_are_left_alone() {
        let before = balancer(&[("10.0.1.3", 1), ("10.0.1.4", 1), ("10.0.1.5", 0), ("10.0.1.6", 1)]);
        let after = balancer(&[("10.0.1.3", 1), ("10.0.1.4", 0), ("10.0.1.7", 1)]);
        let left: Vec<_> = left_behind(&before, &after)
            .into_iter()
            .map(|filter| (filter.reply_source.unwrap().to_string(), filter.protocol))
            .collect();
        let expected = [("10.0.1.4", Some(PortProtocol::Udp)), ("10.0.1.5", None), ("10.0.1.6", None)];
        assert_eq!(left, expected.map(|(ip, protocol)| (ip.to_owned(), protocol)));
        assert_eq!(left_behind(&after, &after), []);
    }

    #[test]
    fn datagrams_that_were_refused_are_taken_once_there_is_a_task() {
        let (none, one) = (balancer(&[("10.0.1.3", 0)]), balancer(&[("10.0.1.3", 1)]));
        let refused = ConntrackFilter {
            protocol: Some(PortProtocol::Udp),
            original_destination: Some("10.0.1.2".parse().unwrap()),
            ..ConntrackFilter::default()
        };
        assert_eq!(left_behind(&none, &one), [refused]);
        assert_eq!(left_behind(&none, &none), []);
    }

    #[test]
    fn a_reach_has_the_same_number_whatever_others_there_are() {
        let reach = |networks: &[&str]| -> Reach { networks.iter().map(|id| id.parse().unwrap()).collect() };
        let (web, db) = ("vbxxkhyqi5vfmzpkpnnqbm6zv", "3mhcmz0uyhnydbwpcpn1kc0ha");
        let all = numbered([(reach(&[web]), 1), (reach(&[web, db]), 2), (reach(&[db]), 3)].into());
        assert_eq!(all.len(), 3);
        let one = numbered([(reach(&[db]), 3)].into());
        assert!(one.iter().all(|(number, of)| all.get(number) == Some(of)));
    }

    #[test]
    fn the_option_says_what_may_be_written() {
        for choice in ["auto", "nftables", "ipvs", "bpf"] {
            assert_eq!(choice.parse::<BalancerChoice>().unwrap().to_string(), choice);
        }
        assert!("iptables".parse::<BalancerChoice>().is_err());
    }
}
