//! Bridge networks and published ports in the host's namespace.
//!
//! One bridge per network, and for all networks together one table of nftables per IP family. Published ports are
//! elements of maps and networks elements of sets, so the number of rules that a packet meets does not grow with ports.
//!
//! Behaviour, after Docker's packet filtering documentation: a container reaches the outside through masquerading;
//! from the outside, from other networks and from the host itself it is reached by published ports only (the host
//! may also use its address); internal networks have no way in or out; without inter-container communication only
//! published ports work between neighbours.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use weft_types::{EndpointAddress, EndpointId, MacAddr, Mtu, NetworkId, PortMapping};

use crate::mark::USER_TABLE;
use crate::{
    Address, BridgeOptions, BridgePort, Chain, Family, FdbEntry, FdbTarget, Hook, HookKind, IngressHost,
    Link, LinkKind, LinkName, NamespaceRef, NamespaceState, Neighbour, NftRule, NftSet, ParentLink,
    PolicyRule, Route, RouteTarget, RuleSelector, Table, TableId, VethPeer, VxlanGuard, port_name,
};

/// Priorities of netfilter's hooks (`NF_IP_PRI_*`).
const RAW: i32 = -300;
const DSTNAT: i32 = -100;
const BEFORE_FILTER: i32 = -10;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

/// Place of the rules for answers to ::1: after the table of local addresses (0), before everything that routes.
const LOOPBACK_RULE: u32 = 5;

/// The routing table for a bridge's answers to ::1. Derived from its name, so that it stays the same whatever else there
/// is; two names that share one would only cost one of the bridges this convenience.
fn loopback_table(bridge: &LinkName) -> u32 {
    let hash = bridge
        .as_str()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    0x7765_0000 | (hash >> 16) ^ (hash & 0xffff)
}

/// The table for the user's own rules on what is forwarded to and from containers: after destinations are translated,
/// before Weft's rules. It is made once and never changed.
pub fn user_table() -> Table {
    let mut table = Table::new(TableId { family: Family::Inet, name: USER_TABLE.to_owned() });
    let hook = Some(Hook::new(HookKind::Filter, "forward", BEFORE_FILTER));
    table.chains.insert("forward".to_owned(), Chain { hook, rules: Vec::new() });
    table
}

/// A bridge network as this host sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeNetwork {
    /// Its id.
    pub id: NetworkId,
    /// Name of the bridge (`docker0`, `br-…`, `docker_gwbridge`).
    pub bridge: LinkName,
    /// The gateway's address in each subnet.
    pub gateways: Vec<EndpointAddress>,
    /// MTU of its interfaces.
    pub mtu: Mtu,
    /// Containers on it may talk to each other (`com.docker.network.bridge.enable_icc`).
    pub inter_container: bool,
    /// Its containers reach the outside under the host's address (`…enable_ip_masquerade`).
    pub masquerade: bool,
    /// No way in or out.
    pub internal: bool,
    /// Its endpoints.
    pub endpoints: Vec<BridgeEndpoint>,
}

/// One container's place on a bridge network. Its interface is set up by the plan of its [`crate::Sandbox`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeEndpoint {
    /// Its id; names the port.
    pub id: EndpointId,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its addresses: the host knows whose they are, whatever it remembers of containers that had them before.
    pub ips: Vec<IpAddr>,
    /// The container's namespace.
    pub sandbox: NamespaceRef,
    /// The interface's name there.
    pub interface: LinkName,
    /// Ports made reachable at the host.
    pub published: Vec<Published>,
}

/// A published port: connections to the mapping's host side go to `target`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// What is asked for; `host_port` is known here. An unspecified `host_ip` means all addresses of its family.
    pub mapping: PortMapping,
    /// The container's address, of the same family as `host_ip`.
    pub target: IpAddr,
}

/// All that Weft wants in the host's namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPlan {
    /// Bridge networks, the default one and `docker_gwbridge` included.
    pub bridges: Vec<BridgeNetwork>,
    /// Whether bridged packets pass the IP hooks of this namespace (`br_netfilter` is there and on). The plan does not
    /// turn it on or off, others may depend on it, but it keeps it as it was found: isolation is done differently.
    pub bridge_netfilter: bool,
    /// The data path's guard while this node is in a swarm.
    pub guard: Option<VxlanGuard>,
    /// The routing mesh while this node is in a swarm that has an ingress network.
    pub ingress: Option<IngressHost>,
    /// Interfaces that containers share.
    pub parents: Vec<ParentLink>,
    /// Ends of overlay networks' uplinks, see [`crate::OverlayNetwork::uplinks`].
    pub uplinks: BTreeSet<LinkName>,
}

impl HostPlan {
    /// What the host's namespace shall hold.
    pub fn plan(&self) -> NamespaceState {
        let mut state = NamespaceState::default();
        for network in &self.bridges {
            network.plan(self.bridge_netfilter, &mut state);
        }
        if !self.bridges.is_empty() {
            state.set("net/ipv4/ip_forward", "1");
            for kind in ["iptables", "ip6tables"] {
                let value = if self.bridge_netfilter { "1" } else { "0" };
                state.set(format!("net/bridge/bridge-nf-call-{kind}"), value);
            }
            state.add_table(self.table(Stack::V4));
        }
        if self.bridges.iter().any(|network| network.has(Stack::V6)) {
            state.set("net/ipv6/conf/all/forwarding", "1");
            state.add_table(self.table(Stack::V6));
        }
        self.parents.iter().for_each(|parent| parent.plan(&mut state));
        for uplink in &self.uplinks {
            state.links.insert(uplink.clone(), Link::new(LinkKind::VethEnd));
            // Programs' alone: the host says nothing of its own there.
            state.set(format!("net/ipv6/conf/{uplink}/disable_ipv6"), "1");
        }
        if let Some(guard) = &self.guard {
            state.merge(guard.plan());
        }
        if let Some(ingress) = &self.ingress {
            state.merge(ingress.plan(&self.container_subnets()));
        }
        if !self.bridges.is_empty() || self.ingress.is_some() {
            state.add_table(user_table());
        }
        state
    }

    fn container_subnets(&self) -> Vec<ipnet::IpNet> {
        self.bridges.iter().flat_map(|bridge| &bridge.gateways).map(EndpointAddress::subnet).collect()
    }

    /// The table of one family; named so that `nft list ruleset` explains itself.
    fn table(&self, stack: Stack) -> Table {
        let mut table = Table::new(TableId::new(stack.family(), "bridge"));
        self.add_sets(stack, &mut table);
        let hooked =
            |kind, hook, priority, rules| Chain { hook: Some(Hook::new(kind, hook, priority)), rules };
        let chains = [
            ("raw", hooked(HookKind::Filter, "prerouting", RAW, guard_loopback(stack))),
            ("prerouting", hooked(HookKind::Nat, "prerouting", DSTNAT, to_local_addresses())),
            ("output", hooked(HookKind::Nat, "output", DSTNAT, self.host_connections(stack))),
            ("publish", Chain { hook: None, rules: publish(stack) }),
            ("forward", hooked(HookKind::Filter, "forward", FILTER, forward())),
            ("into", Chain { hook: None, rules: into_bridges() }),
            ("postrouting", hooked(HookKind::Nat, "postrouting", SRCNAT, self.source_translation(stack))),
        ];
        table.chains = chains.into_iter().map(|(name, chain)| (name.to_owned(), chain)).collect();
        if self.loopback_is_closed(stack) {
            self.close_loopback(&mut table);
        }
        table
    }

    fn add_sets(&self, stack: Stack, table: &mut Table) {
        let quoted = |network: &&BridgeNetwork| format!("\"{}\"", network.bridge);
        let mut bridges = NftSet::set(&["ifname"]);
        bridges.elements = self.bridges.iter().map(|n| quoted(&n)).collect();
        let mut internal = NftSet::set(&["ifname"]);
        internal.elements = self.bridges.iter().filter(|n| n.internal).map(|n| quoted(&n)).collect();
        let mut neighbours = NftSet::set(&["ifname", "ifname"]);
        let open = self.bridges.iter().filter(|n| n.inter_container);
        neighbours.elements = open.map(|n| format!("{0} . {0}", quoted(&n))).collect();
        let address = stack.address_type();
        let mut at_any = NftSet::map(&["inet_proto", "inet_service"], &[address, "inet_service"]);
        let mut at_one = NftSet::map(&[address, "inet_proto", "inet_service"], &[address, "inet_service"]);
        for Published { mapping, target } in self.published(stack) {
            let side = format!("{} . {}", mapping.protocol, mapping.host_port);
            let goal = format!("{target} . {}", mapping.container_port);
            if mapping.host_ip.is_unspecified() {
                at_any.elements.insert(format!("{side} : {goal}"));
            } else {
                at_one.elements.insert(format!("{} . {side} : {goal}", mapping.host_ip));
            }
        }
        let sets = [
            ("bridges", bridges),
            ("internal", internal),
            ("neighbours", neighbours),
            ("published_any", at_any),
            ("published_one", at_one),
        ];
        table.sets.extend(sets.map(|(name, set)| (name.to_owned(), set)));
    }

    fn published(&self, stack: Stack) -> impl Iterator<Item = &Published> {
        let reachable = self.bridges.iter().filter(|network| !network.internal);
        let all = reachable.flat_map(|network| &network.endpoints).flat_map(|endpoint| &endpoint.published);
        all.filter(move |p| stack.is(p.mapping.host_ip) && stack.is(p.target))
    }

    /// With bridged packets passing the IP hooks, answers to ::1 are turned back into the bridge and lost.
    fn loopback_is_closed(&self, stack: Stack) -> bool {
        stack == Stack::V6 && self.bridge_netfilter
    }

    /// Then ports are refused there, so that who tries `localhost` goes on to 127.0.0.1 at once instead of waiting: for an
    /// answer, or on the socket that only holds the port.
    fn close_loopback(&self, table: &mut Table) {
        let mut closed = NftSet::set(&["inet_proto", "inet_service"]);
        let ports = self.published(Stack::V6).map(|published| &published.mapping);
        let at_loopback =
            ports.filter(|mapping| mapping.host_ip.is_unspecified() || mapping.host_ip.is_loopback());
        closed.elements = at_loopback.map(|m| format!("{} . {}", m.protocol, m.host_port)).collect();
        table.sets.insert("closed".to_owned(), closed);
        let port = "ip6 daddr ::1 meta l4proto . th dport @closed";
        let rules = vec![
            NftRule::new("no way back", format!("{port} meta l4proto tcp reject with tcp reset")),
            NftRule::new("no way back", format!("{port} reject")),
        ];
        let hook = Some(Hook::new(HookKind::Filter, "output", FILTER));
        table.chains.insert("refuse".to_owned(), Chain { hook, rules });
    }

    fn host_connections(&self, stack: Stack) -> Vec<NftRule> {
        let mut rules = to_local_addresses();
        if self.loopback_is_closed(stack) {
            rules.insert(0, NftRule::new("no way back", "ip6 daddr ::1 return"));
        }
        rules
    }

    fn source_translation(&self, stack: Stack) -> Vec<NftRule> {
        let mut rules = Vec::new();
        for network in &self.bridges {
            for subnet in network.gateways.iter().map(EndpointAddress::subnet).filter(|s| stack.is(s.addr()))
            {
                let (ip, bridge) = (stack.word(), &network.bridge);
                if network.masquerade && !network.internal {
                    let text = format!("{ip} saddr {subnet} oifname != \"{bridge}\" masquerade");
                    rules.push(NftRule::new("to the outside", text));
                }
                // The answer must come back through the host, not straight over the bridge.
                let text = format!("{ip} saddr {subnet} oifname \"{bridge}\" ct status dnat masquerade");
                rules.push(NftRule::new("published port of a neighbour", text));
            }
        }
        let text =
            format!("{} saddr {} oifname @bridges ct status dnat masquerade", stack.word(), stack.loopback());
        rules.push(NftRule::new("published port from loopback", text));
        rules
    }
}

/// 127.0.0.0/8 is routable on bridges so that the host reaches published ports there; containers must not use that to
/// reach services that listen on the host's loopback.
fn guard_loopback(stack: Stack) -> Vec<NftRule> {
    let text = format!("iifname @bridges {} daddr {} drop", stack.word(), stack.loopback());
    vec![NftRule::new("loopback is the host's own", text)]
}

fn to_local_addresses() -> Vec<NftRule> {
    vec![NftRule::new("published ports", "fib daddr type local jump publish")]
}

fn publish(stack: Stack) -> Vec<NftRule> {
    let ip = stack.word();
    let one = format!("dnat {ip} to {ip} daddr . meta l4proto . th dport map @published_one");
    let any = format!("dnat {ip} to meta l4proto . th dport map @published_any");
    vec![NftRule::new("at one address", one), NftRule::new("at any address", any)]
}

fn forward() -> Vec<NftRule> {
    vec![
        NftRule::new("to containers", "oifname @bridges jump into"),
        NftRule::new("internal networks", "iifname @internal drop"),
    ]
}

fn into_bridges() -> Vec<NftRule> {
    vec![
        NftRule::new("same network", "iifname . oifname @neighbours accept"),
        NftRule::new("internal networks", "oifname @internal drop"),
        NftRule::new("internal networks out", "iifname @internal drop"),
        NftRule::new("answers", "ct state established,related accept"),
        NftRule::new("published ports", "ct status dnat accept"),
        NftRule::new("nothing else", "drop"),
    ]
}

/// IPv6 has no `route_localnet`: answers to what the host sent from ::1 come in by the bridge, and ::1 is only local to
/// `lo`. A table of its own makes it local to the bridge for packets from there. Nobody else can use that: the kernel
/// drops packets to ::1 from outside before it looks at routes, and only translated answers change after that.
pub(crate) fn plan_ipv6_loopback(link: &LinkName, state: &mut NamespaceState) {
    let table = loopback_table(link);
    let destination = ipnet::IpNet::from(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST));
    let target = RouteTarget::Local(link.clone());
    state.routes.insert(Route { table, target, ..Route::unreachable(destination) });
    let selector = RuleSelector::Incoming(link.clone());
    state.rules.insert(PolicyRule { ipv6: true, priority: LOOPBACK_RULE, selector, table });
}

impl BridgeNetwork {
    fn has(&self, stack: Stack) -> bool {
        self.gateways.iter().any(|gateway| stack.is(gateway.ip()))
    }

    fn plan(&self, bridge_netfilter: bool, state: &mut NamespaceState) {
        let bridge = &self.bridge;
        let mac = self.gateways.first().map(|gateway| MacAddr::from_ip(gateway.ip()));
        let options = BridgeOptions { multicast_snooping: false };
        let link = Link { mac, mtu: Some(self.mtu), ..Link::new(LinkKind::Bridge(options)) };
        state.links.insert(bridge.clone(), link);
        for gateway in &self.gateways {
            state.addresses.insert(Address { link: bridge.clone(), address: *gateway });
        }
        let with_ipv6 = self.has(Stack::V6);
        state.set(format!("net/ipv6/conf/{bridge}/disable_ipv6"), if with_ipv6 { "0" } else { "1" });
        // While duplicate address detection runs the bridge asks for no neighbours: the first second of every connection.
        state.set(format!("net/ipv6/conf/{bridge}/accept_dad"), "0");
        state.set(format!("net/ipv4/conf/{bridge}/route_localnet"), "1");
        if with_ipv6 && !bridge_netfilter {
            plan_ipv6_loopback(bridge, state);
        }
        for endpoint in &self.endpoints {
            self.plan_endpoint(endpoint, bridge_netfilter, state);
        }
    }

    fn plan_endpoint(&self, endpoint: &BridgeEndpoint, bridge_netfilter: bool, state: &mut NamespaceState) {
        let peer = VethPeer {
            namespace: endpoint.sandbox.clone(),
            name: endpoint.interface.clone(),
            mac: Some(endpoint.mac),
            mtu: Some(self.mtu),
            gso_max_segments: None,
            handed_on: false,
        };
        // With the IP hooks the `into` chain keeps neighbours apart, and lets published ports through inside the bridge.
        let flags = match (bridge_netfilter, self.inter_container) {
            (true, _) => BridgePort::HAIRPIN,
            (false, true) => BridgePort::ENDPOINT,
            (false, false) => BridgePort::ISOLATED,
        };
        let link = Link {
            mtu: Some(self.mtu),
            master: Some(self.bridge.clone()),
            port: Some(flags),
            ..Link::new(LinkKind::Veth(Some(peer)))
        };
        let port = port_name(&endpoint.id);
        state.set(format!("net/ipv6/conf/{port}/disable_ipv6"), "1");
        state.links.insert(port.clone(), link);
        state.fdb.insert(FdbEntry { link: port, mac: endpoint.mac, target: FdbTarget::Port });
        for ip in &endpoint.ips {
            state.neighbours.insert(Neighbour { link: self.bridge.clone(), ip: *ip, mac: endpoint.mac });
        }
    }
}

/// One of the two IP stacks, with its words in nft's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stack {
    V4,
    V6,
}

impl Stack {
    pub(crate) fn is(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == (self == Self::V4)
    }

    pub(crate) fn family(self) -> Family {
        match self {
            Self::V4 => Family::Ip,
            Self::V6 => Family::Ip6,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    pub(crate) fn address_type(self) -> &'static str {
        match self {
            Self::V4 => "ipv4_addr",
            Self::V6 => "ipv6_addr",
        }
    }

    pub(crate) fn loopback(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.0/8",
            Self::V6 => "::1",
        }
    }
}

#[cfg(test)]
#[path = "bridge_tests.rs"]
mod tests;
