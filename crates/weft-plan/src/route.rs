//! Routes and routing rules.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::LinkName;

/// The kernel's main routing table.
pub(crate) const MAIN_TABLE: u32 = 254;

/// One route. Unicast, unless the target says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Route {
    /// Routing table.
    pub table: u32,
    /// Destination; the zero-length prefix is the default route.
    pub destination: IpNet,
    /// Preference among routes to the same destination, least first. The kernel's default for IPv6 is 1024.
    pub metric: u32,
    /// Where the packets go.
    pub target: RouteTarget,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RouteTarget {
    /// To a router.
    Via {
        /// Its address.
        gateway: IpAddr,
        /// The interface it is reached through.
        link: LinkName,
    },
    /// To a router that is a neighbour on this interface, whatever the other routes say.
    OnLink {
        /// Its address.
        gateway: IpAddr,
        /// The interface.
        link: LinkName,
    },
    /// Directly.
    Link(LinkName),
    /// To this host itself, by this interface.
    Local(LinkName),
    /// Nowhere: the sender gets an error at once.
    Unreachable,
    /// A kind Weft never makes; only ever observed.
    Other,
}

impl Route {
    /// The default route of `gateway`'s family in the main table.
    pub fn default_via(gateway: IpAddr, link: LinkName) -> Self {
        let destination = match gateway {
            IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
            IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
        };
        Self { target: RouteTarget::Via { gateway, link }, ..Self::unreachable(destination) }
    }

    /// A route without a router, in the main table.
    pub fn on_link(destination: IpNet, link: LinkName) -> Self {
        Self { target: RouteTarget::Link(link), ..Self::unreachable(destination) }
    }

    /// A refusal for `destination`, in the main table.
    pub fn unreachable(destination: IpNet) -> Self {
        let metric = if destination.addr().is_ipv4() { 0 } else { 1024 };
        Self { table: MAIN_TABLE, destination: destination.trunc(), metric, target: RouteTarget::Unreachable }
    }

    /// The interface that the route needs.
    pub fn link(&self) -> Option<&LinkName> {
        match &self.target {
            RouteTarget::Via { link, .. }
            | RouteTarget::OnLink { link, .. }
            | RouteTarget::Link(link)
            | RouteTarget::Local(link) => Some(link),
            RouteTarget::Unreachable | RouteTarget::Other => None,
        }
    }

    /// What the kernel tells routes apart by: two routes with equal keys cannot both be there.
    pub(crate) fn key(&self) -> (u32, IpNet, u32) {
        (self.table, self.destination, self.metric)
    }
}

/// A rule of the routing policy: selected packets use that table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyRule {
    /// For IPv6 packets, else for IPv4.
    pub ipv6: bool,
    /// Place among the rules, least first.
    pub priority: u32,
    /// Which packets.
    pub selector: RuleSelector,
    /// The table then used.
    pub table: u32,
}

/// What a routing rule asks of a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RuleSelector {
    /// This mark.
    Mark(u32),
    /// All these bits in its mark, whatever the others.
    Bits(u32),
    /// That it came in by this interface.
    Incoming(LinkName),
    /// That it is a datagram of UDP from this port here.
    DatagramFrom(u16),
}
