//! The node's own part: published ports at its addresses, and the way into the ingress network.
//!
//! The table is the same for any number of ports and backends; these are elements of maps. Packets of connections that
//! entered here carry [`INGRESS_BIT`], by which a routing rule sends them to a table of single backends: the main table
//! is not touched, and a network of this host with the same addresses stays reachable.
//!
//! The interface into the network is a door: what comes through it must answer a connection that this node let in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weft_types::{MacAddr, Mtu, PortProtocol};

use super::{EntryNode, spread};
use crate::bridge::Stack;
use crate::mark::{INGRESS_BIT, INGRESS_TABLE};
use crate::{
    Chain, Hook, HookKind, Link, LinkKind, LinkName, NamespaceState, Neighbour, NftRule, NftSet, PolicyRule,
    Route, RouteTarget, RuleSelector, Table, TableId,
};

/// The host's end of the way into the ingress network.
pub const INGRESS_LINK: &str = "weft-ingress";

/// Priorities of netfilter's hooks: before connection tracking (`NF_IP_PRI_RAW`); after it, before destinations are
/// translated (`NF_IP_PRI_MANGLE`); just before the published ports of single containers (`NF_IP_PRI_NAT_DST`); filters;
/// before anyone's masquerading (`NF_IP_PRI_NAT_SRC`).
const RAW: i32 = -300;
const MANGLE: i32 = -150;
const BEFORE_DSTNAT: i32 = -101;
const FILTER: i32 = 0;
const BEFORE_SRCNAT: i32 = 90;

/// Place of the routing rule: before anything that routes by destination.
const RULE: u32 = 100;

/// The mesh as one node's host has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngressHost {
    /// This node.
    pub node: EntryNode,
    /// MTU of the ingress network.
    pub mtu: Mtu,
    /// Whether the network has IPv6 addresses. Without, connections to published ports over IPv6 are refused at once, so
    /// that clients go on with IPv4.
    pub ipv6: bool,
    /// This node's load-balancer addresses, at most one a family.
    pub load_balancer: Vec<IpAddr>,
    /// The published ports of all services.
    pub ports: Vec<MeshPort>,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshPort {
    /// Transport protocol.
    pub protocol: PortProtocol,
    /// Its number at the nodes.
    pub published: u16,
    /// Who answers, in a steady order.
    pub backends: Vec<IngressBackend>,
}

/// One address of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngressBackend {
    /// The address on the ingress network.
    pub ip: IpAddr,
    /// Its Ethernet address there.
    pub mac: MacAddr,
    /// The port to send to: the target port, for tasks on Docker's nodes the published one.
    pub port: u16,
    /// Takes new connections. One that does not keeps those it has.
    pub ready: bool,
    /// Sees the node's load-balancer address instead of the client's.
    pub source_nat: bool,
}

impl IngressHost {
    /// Name of the interface into the network.
    pub fn link() -> LinkName {
        LinkName::built(INGRESS_LINK.to_owned())
    }

    /// What the host's namespace shall hold. `containers` are the subnets of this host's own bridge networks.
    pub fn plan(&self, containers: &[IpNet]) -> NamespaceState {
        let mut state = NamespaceState::default();
        self.plan_link(&mut state);
        for stack in [Stack::V4, Stack::V6] {
            state.add_table(self.table(stack, containers));
            if self.carries(stack) {
                self.plan_routes(stack, &mut state);
            }
        }
        state
    }

    fn carries(&self, stack: Stack) -> bool {
        stack == Stack::V4 || self.ipv6
    }

    fn plan_link(&self, state: &mut NamespaceState) {
        let name = Self::link();
        let link = Link { mac: Some(self.node.mac()), mtu: Some(self.mtu), ..Link::new(LinkKind::VethEnd) };
        state.links.insert(name.clone(), link);
        state.set("net/ipv4/ip_forward", "1");
        // Answers come from addresses that only the mark's table knows: with strict reverse path filtering it must count.
        state.set(format!("net/ipv4/conf/{name}/src_valid_mark"), "1");
        // The node's own 127.0.0.1 is a client too; from the other side the table's first chain refuses it.
        state.set(format!("net/ipv4/conf/{name}/route_localnet"), "1");
        // The host's addresses are not to be asked for here: whoever sends to it has its Ethernet address.
        state.set(format!("net/ipv4/conf/{name}/arp_ignore"), "8");
        state.set(format!("net/ipv6/conf/{name}/disable_ipv6"), if self.ipv6 { "0" } else { "1" });
        if self.ipv6 {
            state.set("net/ipv6/conf/all/forwarding", "1");
            state.set(format!("net/ipv6/conf/{name}/accept_dad"), "0");
            state.set(format!("net/ipv6/conf/{name}/accept_ra"), "0");
        }
    }

    fn plan_routes(&self, stack: Stack, state: &mut NamespaceState) {
        let ipv6 = stack == Stack::V6;
        let selector = RuleSelector::Bits(INGRESS_BIT);
        state.rules.insert(PolicyRule { ipv6, priority: RULE, selector, table: INGRESS_TABLE });
        for backend in self.backends(stack) {
            let target = RouteTarget::Link(Self::link());
            let route = Route { table: INGRESS_TABLE, target, ..Route::unreachable(backend.ip.into()) };
            state.routes.insert(route);
            state.neighbours.insert(Neighbour { link: Self::link(), ip: backend.ip, mac: backend.mac });
        }
        if ipv6 {
            crate::bridge::plan_ipv6_loopback(&Self::link(), state);
        }
    }

    fn backends(&self, stack: Stack) -> impl Iterator<Item = &IngressBackend> {
        self.ports.iter().flat_map(|port| &port.backends).filter(move |backend| stack.is(backend.ip))
    }

    /// The table of one family.
    fn table(&self, stack: Stack, containers: &[IpNet]) -> Table {
        let mut table = Table::new(TableId::new(stack.family(), "ingress"));
        let mut published = NftSet::set(&["inet_proto", "inet_service"]);
        published.elements = self.ports.iter().map(|p| format!("{} . {}", p.protocol, p.published)).collect();
        table.sets.insert("published".to_owned(), published);
        let hooked =
            |kind, hook, priority, rules| Chain { hook: Some(Hook::new(kind, hook, priority)), rules };
        let mut input = self.door(stack);
        input.push(NftRule::new("not sent to a backend", "meta l4proto . th dport @published jump refuse"));
        let mut chains = BTreeMap::from([
            ("input".to_owned(), hooked(HookKind::Filter, "input", FILTER, input)),
            ("refuse".to_owned(), Chain { hook: None, rules: refuse() }),
        ]);
        if self.carries(stack) {
            self.add_backends(stack, &mut table);
            chains.extend(spread::classes().map(|slots| (spread::chain(slots), draw(stack, slots))));
            let further = [
                ("raw", hooked(HookKind::Filter, "prerouting", RAW, guard_loopback(stack))),
                ("mark_in", hooked(HookKind::Filter, "prerouting", MANGLE, mark_packets())),
                ("mark_out", hooked(HookKind::Route, "output", MANGLE, mark_packets())),
                ("prerouting", hooked(HookKind::Nat, "prerouting", BEFORE_DSTNAT, enter(true))),
                ("output", hooked(HookKind::Nat, "output", BEFORE_DSTNAT, enter(false))),
                ("forward", hooked(HookKind::Filter, "forward", FILTER, self.door(stack))),
                (
                    "postrouting",
                    hooked(HookKind::Nat, "postrouting", BEFORE_SRCNAT, self.sources(stack, containers)),
                ),
            ];
            chains.extend(further.map(|(name, chain)| (name.to_owned(), chain)));
        }
        table.chains = chains;
        table
    }

    fn add_backends(&self, stack: Stack, table: &mut Table) {
        let address = stack.address_type();
        let mut ports = NftSet::map(&["inet_proto", "inet_service"], &["verdict"]);
        let mut slots = NftSet::map(&["inet_proto", "inet_service", "mark"], &[address, "inet_service"]);
        let mut source_nat = NftSet::set(&[address, "inet_proto", "inet_service"]);
        let mut taken = BTreeSet::new();
        for port in &self.ports {
            let key = format!("{} . {}", port.protocol, port.published);
            let all = port.backends.iter().filter(|backend| stack.is(backend.ip));
            for backend in all.clone().filter(|backend| backend.source_nat) {
                source_nat.elements.insert(format!("{} . {} . {}", backend.ip, port.protocol, backend.port));
            }
            let ready: Vec<&IngressBackend> = all.filter(|backend| backend.ready).collect();
            // Two services cannot have one port by the managers' rules; a map cannot either.
            let Some(count) = spread::slots(ready.len()).filter(|_| taken.insert(key.clone())) else {
                continue;
            };
            ports.elements.insert(format!("{key} : goto {}", spread::chain(count)));
            slots.elements.extend((0..count).zip(ready.iter().cycle()).map(|(slot, backend)| {
                format!("{key} . {} : {} . {}", spread::mark(slot), backend.ip, backend.port)
            }));
        }
        let sets = [("ports", ports), ("slots", slots), ("source_nat", source_nat)];
        table.sets.extend(sets.map(|(name, set)| (name.to_owned(), set)));
    }

    /// Through the interface comes nothing but answers to connections that entered here.
    fn door(&self, stack: Stack) -> Vec<NftRule> {
        if !self.carries(stack) {
            return Vec::new();
        }
        let answers = format!(
            "iifname \"{INGRESS_LINK}\" ct mark and {INGRESS_BIT:#x} == {INGRESS_BIT:#x} ct state established,related accept"
        );
        let mut rules = vec![NftRule::new("answers", answers)];
        if stack == Stack::V6 {
            let text = format!(
                "iifname \"{INGRESS_LINK}\" icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept"
            );
            rules.push(NftRule::new("neighbours", text));
        }
        rules.push(NftRule::new("nothing else", format!("iifname \"{INGRESS_LINK}\" drop")));
        rules
    }

    fn sources(&self, stack: Stack, containers: &[IpNet]) -> Vec<NftRule> {
        let ip = stack.word();
        let node = self.node.source(stack == Stack::V6);
        let balancer = self.load_balancer.iter().find(|ip| stack.is(**ip)).copied().unwrap_or(node);
        let to = format!("oifname \"{INGRESS_LINK}\"");
        let asked = format!("{to} {ip} daddr . meta l4proto . th dport @source_nat snat to {balancer}");
        let loopback = format!("{to} {ip} saddr {} snat to {node}", stack.loopback());
        let mut rules =
            vec![NftRule::new("as the load balancer", asked), NftRule::new("the host's loopback", loopback)];
        let subnets = containers.iter().filter(|subnet| stack.is(subnet.addr()));
        rules.extend(subnets.map(|subnet| {
            NftRule::new("this host's containers", format!("{to} {ip} saddr {subnet} snat to {node}"))
        }));
        rules
    }
}

/// Draws one of `slots` for the connection's first packet and sends it to the backend there. Only this packet's mark is
/// overwritten; the connection's other bits stay.
fn draw(stack: Stack, slots: u16) -> Chain {
    let ip = stack.word();
    let text = format!(
        "ct mark set ct mark or {INGRESS_BIT:#x} meta mark set numgen random mod {slots} offset {} \
         dnat {ip} to meta l4proto . th dport . meta mark map @slots",
        spread::mark(0)
    );
    Chain { hook: None, rules: vec![NftRule::new("a backend by chance", text)] }
}

/// The loopback is routable on the interface so that the host's own connections get out; nobody comes in by it.
fn guard_loopback(stack: Stack) -> Vec<NftRule> {
    let text = format!("iifname \"{INGRESS_LINK}\" {} daddr {} drop", stack.word(), stack.loopback());
    vec![NftRule::new("loopback is the host's own", text)]
}

fn mark_packets() -> Vec<NftRule> {
    let bit = format!("{INGRESS_BIT:#x}");
    let text = format!("ct mark and {bit} == {bit} meta mark set meta mark or {bit}");
    vec![NftRule::new("connections that entered here", text)]
}

fn enter(from_outside: bool) -> Vec<NftRule> {
    let mut text = "fib daddr type local meta l4proto . th dport vmap @ports".to_owned();
    if from_outside {
        text = format!("iifname != \"{INGRESS_LINK}\" {text}");
    }
    vec![NftRule::new("published ports", text)]
}

/// What comes to the host itself at a published port was not sent to a backend: there is none. Packets that tracking
/// takes for no part of a connection are let fall instead, because refusing them would end connections that are fine.
fn refuse() -> Vec<NftRule> {
    vec![
        NftRule::new("part of nothing", "ct state invalid drop"),
        NftRule::new("no backend", "meta l4proto tcp ct state new reject with tcp reset"),
        NftRule::new("no backend", "ct state new reject"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(ip: &str, port: u16) -> IngressBackend {
        let ip: IpAddr = ip.parse().unwrap();
        IngressBackend { ip, mac: MacAddr::from_ip(ip), port, ready: true, source_nat: false }
    }

    fn host() -> IngressHost {
        let docker = IngressBackend { source_nat: true, ..backend("10.0.0.7", 8080) };
        let leaving = IngressBackend { ready: false, ..backend("10.0.0.8", 80) };
        let backends = vec![backend("10.0.0.5", 80), backend("10.0.0.6", 80), docker, leaving];
        IngressHost {
            node: EntryNode("192.0.2.1".parse().unwrap()),
            mtu: 1450.try_into().unwrap(),
            ipv6: false,
            load_balancer: vec!["10.0.0.3".parse().unwrap()],
            ports: vec![
                MeshPort { protocol: PortProtocol::Tcp, published: 8080, backends },
                MeshPort {
                    protocol: PortProtocol::Udp,
                    published: 53,
                    backends: vec![backend("10.0.0.5", 5353)],
                },
                MeshPort { protocol: PortProtocol::Sctp, published: 9, backends: Vec::new() },
            ],
        }
    }

    fn both() -> IngressHost {
        let mut host = IngressHost { ipv6: true, ..host() };
        host.ports[0].backends.push(backend("fd00::5", 80));
        host
    }

    fn text(host: &IngressHost) -> String {
        let state = host.plan(&["172.18.0.0/16".parse().unwrap()]);
        let ops = crate::diff(&crate::Observed::default(), &state);
        let ops: String = ops.iter().map(|op| format!("{op}\n")).collect();
        let tables: String = state.tables.values().map(ToString::to_string).collect();
        format!("{ops}\n{tables}")
    }

    #[test]
    fn golden_ipv4() {
        crate::golden::assert_golden("ingress_host.nft", &text(&host()));
    }

    #[test]
    fn golden_both_families() {
        crate::golden::assert_golden("ingress_host_ipv6.nft", &text(&both()));
    }

    #[test]
    fn ports_and_backends_change_only_elements_and_routes() {
        let containers = ["172.18.0.0/16".parse().unwrap()];
        let before = crate::model::observed(&host().plan(&containers));
        let mut more = host();
        for n in 10..40 {
            more.ports[0].backends.push(backend(&format!("10.0.0.{n}"), 80));
        }
        more.ports.remove(1);
        let ops = crate::diff(&before, &more.plan(&containers));
        let fine = |op: &crate::Op| {
            matches!(
                op,
                crate::Op::ChangeElements { .. } | crate::Op::SetRoute(_) | crate::Op::SetNeighbour(_)
            )
        };
        assert!(!ops.is_empty() && ops.iter().all(fine), "{ops:?}");
    }

    #[test]
    fn who_leaves_gets_nothing_new_and_keeps_the_way() {
        let state = host().plan(&[]);
        let leaving = "10.0.0.8";
        let slots = &state.tables[&TableId::new(crate::Family::Ip, "ingress")].sets["slots"];
        assert!(slots.elements.iter().all(|element| !element.contains(leaving)));
        assert!(state.neighbours.iter().any(|neighbour| neighbour.ip.to_string() == leaving));
        assert!(state.routes.iter().any(|route| route.destination.addr().to_string() == leaving));
    }
}
