//! The operations that change a namespace.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_types::{MacAddr, Mtu};

use crate::{
    Address, BridgeOptions, BridgePort, FdbEntry, FdbTarget, IpvsScheduler, IpvsServiceId, IpvsTimeouts,
    Link, LinkName, Neighbour, PolicyRule, Route, RouteTarget, RuleSelector, Table, TableId,
};

/// One change. Each is safe to run twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Make an interface, down, with MAC and MTU.
    CreateLink {
        /// Its name.
        name: LinkName,
        /// What it shall be.
        link: Link,
    },
    /// The far end of a veth pair is missing; only its near end, in another namespace, can be made.
    AwaitLink {
        /// Its name.
        name: LinkName,
    },
    /// Change an interface.
    ChangeLink {
        /// Its name.
        name: LinkName,
        /// What to change.
        change: LinkChange,
    },
    /// Remove an interface.
    DeleteLink {
        /// Its name.
        name: LinkName,
    },
    /// Add an address.
    AddAddress(Address),
    /// Remove an address.
    DeleteAddress(Address),
    /// Add a route, or replace the one with its destination and metric.
    SetRoute(Route),
    /// Remove a route.
    DeleteRoute(Route),
    /// Add a routing rule.
    AddRule(PolicyRule),
    /// Remove a routing rule.
    DeleteRule(PolicyRule),
    /// Add or replace a forwarding entry.
    SetFdb(FdbEntry),
    /// Remove a forwarding entry.
    DeleteFdb(FdbEntry),
    /// Add or replace a neighbour.
    SetNeighbour(Neighbour),
    /// Remove a neighbour.
    DeleteNeighbour(Neighbour),
    /// Write a setting.
    SetSysctl {
        /// Its name below `/proc/sys`.
        key: String,
        /// Its value.
        value: String,
    },
    /// Replace a whole table, or make it.
    SetTable(Arc<Table>),
    /// Remove a table.
    DeleteTable(TableId),
    /// Change the elements of one set or map, leaving rules and counters alone.
    ChangeElements {
        /// The table.
        table: TableId,
        /// The set or map in it.
        set: String,
        /// Types of its key's parts, as [`crate::NftSet`] has them.
        key: Vec<String>,
        /// Types of its value's parts.
        value: Vec<String>,
        /// Elements to add.
        add: BTreeSet<String>,
        /// Elements to remove.
        remove: BTreeSet<String>,
    },
    /// Set how long IPVS remembers connections.
    SetIpvsTimeouts(IpvsTimeouts),
    /// Make a virtual service, or change how it chooses.
    SetIpvsService {
        /// Which.
        id: IpvsServiceId,
        /// How it chooses.
        scheduler: IpvsScheduler,
    },
    /// Remove a virtual service with its destinations.
    DeleteIpvsService(IpvsServiceId),
    /// Add a destination, or change its weight.
    SetIpvsDestination {
        /// Of which service.
        service: IpvsServiceId,
        /// Its address.
        ip: IpAddr,
        /// Its share; 0 keeps what it has and gives it nothing new.
        weight: u16,
    },
    /// Remove a destination.
    DeleteIpvsDestination {
        /// Of which service.
        service: IpvsServiceId,
        /// Its address.
        ip: IpAddr,
    },
}

/// One property of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkChange {
    /// Its Ethernet address.
    Mac(MacAddr),
    /// Its MTU.
    Mtu(Mtu),
    /// Make it a port of this bridge, or of none.
    Master(Option<LinkName>),
    /// How its bridge treats it.
    Port(BridgePort),
    /// Options of a bridge.
    Bridge(BridgeOptions),
    /// Administratively up or down.
    Up(bool),
    /// Weft's from now on.
    Adopt,
}

impl Op {
    /// Whether IPVS carries this out.
    pub fn is_ipvs(&self) -> bool {
        matches!(
            self,
            Self::SetIpvsTimeouts(_)
                | Self::SetIpvsService { .. }
                | Self::DeleteIpvsService(_)
                | Self::SetIpvsDestination { .. }
                | Self::DeleteIpvsDestination { .. }
        )
    }

    /// Whether nftables carries this out.
    pub fn is_nft(&self) -> bool {
        matches!(self, Self::SetTable(_) | Self::DeleteTable(_) | Self::ChangeElements { .. })
    }
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => write!(f, "address {mac}"),
            Self::Mtu(mtu) => write!(f, "mtu {mtu}"),
            Self::Master(Some(bridge)) => write!(f, "master {bridge}"),
            Self::Master(None) => f.write_str("nomaster"),
            Self::Port(p) => write!(
                f,
                "port learning {} flood {} mcast_flood {} bcast_flood {} neigh_suppress {} isolated {} hairpin {}",
                u8::from(p.learning),
                u8::from(p.unicast_flood),
                u8::from(p.multicast_flood),
                u8::from(p.broadcast_flood),
                u8::from(p.neigh_suppress),
                u8::from(p.isolated),
                u8::from(p.hairpin)
            ),
            Self::Bridge(b) => write!(f, "mcast_snooping {}", u8::from(b.multicast_snooping)),
            Self::Up(true) => f.write_str("up"),
            Self::Up(false) => f.write_str("down"),
            Self::Adopt => f.write_str("adopt"),
        }
    }
}

impl fmt::Display for FdbEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.target {
            FdbTarget::Port => write!(f, "fdb {} dev {} master static sticky", self.mac, self.link),
            FdbTarget::Vtep(vtep) => {
                write!(f, "fdb {} dev {} dst {vtep} self permanent", self.mac, self.link)
            }
        }
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "neighbour {} dev {} lladdr {}", self.ip, self.link, self.mac)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            RouteTarget::Via { gateway, link } => {
                write!(f, "route {} via {gateway} dev {link}", self.destination)?;
            }
            RouteTarget::OnLink { gateway, link } => {
                write!(f, "route {} via {gateway} dev {link} onlink", self.destination)?;
            }
            RouteTarget::Link(link) => write!(f, "route {} dev {link}", self.destination)?,
            RouteTarget::Local(link) => write!(f, "route local {} dev {link}", self.destination)?,
            RouteTarget::Unreachable => write!(f, "route unreachable {}", self.destination)?,
            RouteTarget::Other => write!(f, "route other {}", self.destination)?,
        }
        write!(f, " table {} metric {}", self.table, self.metric)
    }
}

impl fmt::Display for PolicyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.ipv6 { "inet6" } else { "inet" };
        write!(f, "rule {family} priority {} ", self.priority)?;
        match &self.selector {
            RuleSelector::Mark(mark) => write!(f, "fwmark {mark:#x}")?,
            RuleSelector::Bits(bits) => write!(f, "fwmark {bits:#x}/{bits:#x}")?,
            RuleSelector::Incoming(link) => write!(f, "iif {link}")?,
            RuleSelector::DatagramFrom(port) => write!(f, "ipproto udp sport {port}")?,
        }
        write!(f, " table {}", self.table)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateLink { name, link } => {
                write!(f, "create {} {name}", link.kind.name())?;
                if let crate::LinkKind::Vxlan(v) = &link.kind {
                    write!(f, " vni {} local {} port {}", u32::from(v.vni), v.local, v.port)?;
                    if v.sources == crate::SourcePorts::Encrypted {
                        write!(f, " from encrypted ports")?;
                    }
                }
                if let crate::LinkKind::Veth(Some(peer)) = &link.kind {
                    write!(f, " peer {} in {}", peer.name, peer.namespace.0)?;
                }
                Ok(())
            }
            Self::AwaitLink { name } => write!(f, "await {name}"),
            Self::ChangeLink { name, change } => write!(f, "set {name} {change}"),
            Self::DeleteLink { name } => write!(f, "delete link {name}"),
            Self::AddAddress(a) => write!(f, "add address {} dev {}", a.address, a.link),
            Self::DeleteAddress(a) => write!(f, "delete address {} dev {}", a.address, a.link),
            Self::SetRoute(route) => write!(f, "set {route}"),
            Self::DeleteRoute(route) => write!(f, "delete {route}"),
            Self::AddRule(rule) => write!(f, "add {rule}"),
            Self::DeleteRule(rule) => write!(f, "delete {rule}"),
            Self::SetFdb(entry) => write!(f, "set {entry}"),
            Self::DeleteFdb(entry) => write!(f, "delete {entry}"),
            Self::SetNeighbour(entry) => write!(f, "set {entry}"),
            Self::DeleteNeighbour(entry) => write!(f, "delete {entry}"),
            Self::SetSysctl { key, value } => write!(f, "sysctl {key} = {value}"),
            Self::SetTable(table) => write!(f, "set table {}", table.id),
            Self::DeleteTable(id) => write!(f, "delete table {id}"),
            Self::ChangeElements { table, set, add, remove, .. } => {
                write!(f, "change set {table} {set}: +{} -{}", add.len(), remove.len())
            }
            Self::SetIpvsTimeouts(timeouts) => write!(f, "set virtual services' timeouts {timeouts}"),
            Self::SetIpvsService { id, scheduler } => write!(f, "set virtual service {id} {scheduler}"),
            Self::DeleteIpvsService(id) => write!(f, "delete virtual service {id}"),
            Self::SetIpvsDestination { service, ip, weight } => {
                write!(f, "set destination {ip} weight {weight} of virtual service {service}")
            }
            Self::DeleteIpvsDestination { service, ip } => {
                write!(f, "delete destination {ip} of virtual service {service}")
            }
        }
    }
}
