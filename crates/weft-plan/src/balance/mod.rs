//! Virtual IPs in the namespace of a client container.
//!
//! Whatever a container sends to a service's virtual IP goes to one of the service's tasks, chosen per flow; the task
//! sees the container's own address. This happens where the flow begins, so there is no balancer to pass through, and
//! nothing to do in the namespaces of tasks.
//!
//! ```text
//! Balancer --plan--> NamespaceState { tables: ip/ip6 weft-balance, ipvs, sysctls }
//! ```
//!
//! What a namespace holds depends only on the services, not on the container: one plan does for all containers that
//! see the same services. Engines do the same; see `nft.rs` and `ipvs.rs`. With programs at the sockets (`connect.rs`,
//! one level up) the tables of nftables stand below, complete, and track less.
//!
//! Invariants: the number of rules does not depend on the services; established flows stay where they are, whatever
//! changes elsewhere; a service none of whose tasks takes flows is refused at once; a virtual IP answers pings, from
//! here, as with Docker.

mod ipvs;
mod nft;
mod slots;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Family, NamespaceState, NftRule, TableId};

pub use slots::MAX_SLOTS;

/// What carries flows to virtual IPs to their tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BalanceEngine {
    /// Maps of nftables and connection tracking: every kernel has them.
    #[default]
    Nft,
    /// Virtual services of IPVS.
    Ipvs,
    /// BPF programs that connect TCP's sockets to a task; the maps of nftables below them for all else. What the
    /// programs know is [`crate::ConnectWish`].
    Bpf,
}

impl BalanceEngine {
    /// The word for it in options and in what `docker info` shows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nft => "nftables",
            Self::Ipvs => "ipvs",
            Self::Bpf => "bpf",
        }
    }
}

impl std::fmt::Display for BalanceEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The services that a container reaches by virtual IP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balancer {
    /// What does it.
    pub engine: BalanceEngine,
    /// Whether this kernel's nftables can ask for sockets, so that connections from outside need not be tracked, nor
    /// those that programs took to a task.
    pub sockets: bool,
    /// Subnets of the ingress network: the routing mesh tracks every flow on them.
    pub tracked: Vec<IpNet>,
    /// The services by virtual IP.
    pub services: BTreeMap<IpAddr, BalancedService>,
}

/// One service under one virtual IP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalancedService {
    backends: BTreeMap<IpAddr, u16>,
    slots: Vec<IpAddr>,
}

impl BalancedService {
    /// A service with these tasks and their weights; weight 0 keeps its flows and gets no new ones. `before` is the
    /// service as it was: as many slots as can be stay as they were.
    pub fn new(backends: BTreeMap<IpAddr, u16>, before: Option<&Self>) -> Self {
        let slots = slots::assign(before.map_or(&[], |before| &before.slots), &backends);
        Self { backends, slots }
    }

    /// Its tasks' addresses and weights.
    pub fn backends(&self) -> &BTreeMap<IpAddr, u16> {
        &self.backends
    }

    /// Which task a flow goes to that draws this number; every number is as likely as any other.
    pub fn slots(&self) -> &[IpAddr] {
        &self.slots
    }
}

impl Balancer {
    /// The table of one family.
    pub fn table_id(ipv6: bool) -> TableId {
        TableId::new(if ipv6 { Family::Ip6 } else { Family::Ip }, "balance")
    }

    /// What a client's namespace shall hold. Nothing at all where there is no service: no rule, no tracking.
    pub fn plan(&self) -> NamespaceState {
        let mut state = NamespaceState::default();
        for ipv6 in [false, true] {
            if self.of(ipv6).next().is_none() {
                continue;
            }
            state.add_table(match self.engine {
                BalanceEngine::Nft | BalanceEngine::Bpf => nft::table(self, ipv6),
                BalanceEngine::Ipvs => ipvs::table(self, ipv6),
            });
            if self.engine != BalanceEngine::Ipvs {
                nft::timeouts(&mut state);
            }
        }
        if self.engine == BalanceEngine::Ipvs {
            ipvs::services(self, &mut state);
        }
        state
    }

    /// Flows of the routing mesh, on the way in and on the way out: they begin with addresses from anywhere.
    fn mesh(&self, ipv6: bool, direction: &str) -> Option<NftRule> {
        let subnets = self.tracked.iter().filter(|subnet| subnet.addr().is_ipv6() == ipv6);
        let subnets: Vec<String> = subnets.map(ToString::to_string).collect();
        let text = format!("{} {direction} {{ {} }} accept", words(ipv6).ip, subnets.join(", "));
        (!subnets.is_empty()).then(|| NftRule::new("the routing mesh tracks", text))
    }

    /// Whether sockets know their tasks, and the kernel its sockets: then those tell which flows are translated here.
    fn sockets_tell(&self) -> bool {
        self.sockets && self.engine == BalanceEngine::Bpf
    }

    fn of(&self, ipv6: bool) -> impl Iterator<Item = (&IpAddr, &BalancedService)> {
        self.services.iter().filter(move |(vip, _)| vip.is_ipv6() == ipv6)
    }
}

/// The words that differ between the families.
struct Words {
    address: &'static str,
    ip: &'static str,
    icmp: &'static str,
    echo: &'static str,
    unreachable: &'static str,
}

const V4: Words = Words {
    address: "ipv4_addr",
    ip: "ip",
    icmp: "icmp",
    echo: "icmp type echo-request",
    unreachable: "reject with icmp port-unreachable",
};

const V6: Words = Words {
    address: "ipv6_addr",
    ip: "ip6",
    icmp: "ipv6-icmp",
    echo: "icmpv6 type echo-request",
    unreachable: "reject with icmpv6 port-unreachable",
};

fn words(ipv6: bool) -> &'static Words {
    if ipv6 { &V6 } else { &V4 }
}

#[cfg(test)]
mod tests;
