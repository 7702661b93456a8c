//! The task's part: who let a connection in is remembered, and answers go back there.
//!
//! Frames of a node carry its Ethernet address; a map turns that into the connection's mark, and a routing rule for each
//! mark leads answers to the next hop with that address. The client's address is then valid on the interface also with
//! strict reverse path filtering, because the same mark counts for it (`src_valid_mark`).
//!
//! A UDP server that listens on all addresses answers from the address that the ordinary route to the client has, which
//! is another network's. Who sent datagrams by the mesh is therefore remembered for a while, and datagrams to them from
//! that port leave with the address that they were sent to, before connection tracking looks at them. Where there is no
//! ordinary route, because a container's way out is IPv4 alone, datagrams from such a port have one of their own: without
//! any, the server's call would fail before a rule sees the answer.
//!
//! Nodes of Docker send to the published port, from an address of the network itself: for them the port is redirected.
//! As Docker, nothing else than the published targets is reachable on the interface, and no connection begins there.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use weft_types::PortProtocol;

use super::EntryNode;
use crate::bridge::Stack;
use crate::{
    Chain, Hook, HookKind, Learnt, LinkName, NamespaceState, Neighbour, NftRule, NftSet, PolicyRule, Route,
    RouteTarget, RuleSelector, Table, TableId,
};

/// Priorities of netfilter's hooks, as in the host's part.
const RAW: i32 = -300;
const MANGLE: i32 = -150;
const DSTNAT: i32 = -100;
const FILTER: i32 = 0;

/// Place of the routing rules.
const RULE: u32 = 100;
/// Place of those that count where the ordinary ones (32766, `main`) have no route.
const LAST_RULE: u32 = 32_800;

/// Senders of datagrams are remembered longer than connection tracking remembers a stream of them
/// (`nf_conntrack_udp_timeout_stream`, 120 s): an answer after that has no connection any more.
const CLIENTS: Learnt = Learnt { timeout_s: 180, size: 65_536 };

/// Protocols whose sockets may answer from another address than they were asked at.
const UNBOUND: &str = "meta l4proto { udp, sctp }";
const ALL: &str = "meta l4proto { tcp, udp, sctp }";

/// A task with published ports, as its namespace has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngressTask {
    /// The interface on the ingress network.
    pub interface: LinkName,
    /// Its addresses, at most one a family.
    pub addresses: Vec<IpAddr>,
    /// Weft's nodes, its own included.
    pub entries: Vec<EntryNode>,
    /// Its service's ports.
    pub ports: Vec<TaskPort>,
}

/// A published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskPort {
    /// Transport protocol.
    pub protocol: PortProtocol,
    /// Its number at the nodes.
    pub published: u16,
    /// Its number here.
    pub target: u16,
}

impl IngressTask {
    /// What the task's namespace holds beside its interfaces.
    pub fn plan(&self) -> NamespaceState {
        let mut state = NamespaceState::default();
        for address in &self.addresses {
            let stack = if address.is_ipv4() { Stack::V4 } else { Stack::V6 };
            state.add_table(self.table(stack, *address));
            for entry in &self.entries {
                self.plan_way_back(stack, *entry, &mut state);
            }
            if stack == Stack::V6 {
                self.plan_answers(&mut state);
            }
        }
        state.set(format!("net/ipv4/conf/{}/src_valid_mark", self.interface), "1");
        // Accepted sockets have the mark from the start: their packets need not be routed a second time.
        state.set("net/ipv4/tcp_fwmark_accept", "1");
        state
    }

    fn plan_way_back(&self, stack: Stack, entry: EntryNode, state: &mut NamespaceState) {
        let ipv6 = stack == Stack::V6;
        let (table, gateway, link) = (entry.mark(), entry.next_hop(ipv6), self.interface.clone());
        let target = RouteTarget::OnLink { gateway, link: link.clone() };
        let route = Route { table, target, ..Route::default_via(gateway, link.clone()) };
        state.routes.insert(route);
        let selector = RuleSelector::Mark(entry.mark());
        state.rules.insert(PolicyRule { ipv6, priority: RULE, selector, table });
        state.neighbours.insert(Neighbour { link, ip: gateway, mac: entry.mac() });
    }

    /// A route over IPv6 for what answers datagrams; which node it then goes to, its mark says.
    fn plan_answers(&self, state: &mut NamespaceState) {
        let Some(entry) = self.entries.first() else { return };
        for port in self.ports.iter().filter(|port| port.protocol == PortProtocol::Udp) {
            let selector = RuleSelector::DatagramFrom(port.target);
            state.rules.insert(PolicyRule { ipv6: true, priority: LAST_RULE, selector, table: entry.mark() });
        }
    }

    fn table(&self, stack: Stack, address: IpAddr) -> Table {
        let mut table = Table::new(TableId::new(stack.family(), "ingress"));
        self.add_sets(stack, address, &mut table);
        let hooked =
            |kind, hook, priority, rules| Chain { hook: Some(Hook::new(kind, hook, priority)), rules };
        let chains = [
            ("answer", hooked(HookKind::Filter, "output", RAW, answer(stack, address))),
            ("mark_in", hooked(HookKind::Filter, "prerouting", MANGLE, self.remember(stack))),
            ("mark_out", hooked(HookKind::Route, "output", MANGLE, back())),
            ("published", hooked(HookKind::Nat, "prerouting", DSTNAT, self.redirect(stack, address))),
            ("input", hooked(HookKind::Filter, "input", FILTER, self.only_targets())),
            ("output", hooked(HookKind::Filter, "output", FILTER, self.only_answers())),
        ];
        table.chains = chains.into_iter().map(|(name, chain)| (name.to_owned(), chain)).collect();
        table
    }

    fn add_sets(&self, stack: Stack, address: IpAddr, table: &mut Table) {
        let mut entries = NftSet::map(&["ether_addr"], &["mark"]);
        entries.elements = self.entries.iter().map(|e| format!("{} : {}", e.mac(), e.mark())).collect();
        let mut marks = NftSet::set(&["mark"]);
        marks.elements = self.entries.iter().map(|e| e.mark().to_string()).collect();
        let mut targets = NftSet::set(&["inet_proto", "inet_service"]);
        targets.elements = self.ports.iter().map(|p| format!("{} . {}", p.protocol, p.target)).collect();
        let mut redirects =
            NftSet::map(&["inet_proto", "inet_service"], &[stack.address_type(), "inet_service"]);
        let elsewhere = self.ports.iter().filter(|port| port.published != port.target);
        redirects.elements = elsewhere
            .map(|p| format!("{} . {} : {address} . {}", p.protocol, p.published, p.target))
            .collect();
        let key = ["inet_proto", stack.address_type(), "inet_service", "inet_service"];
        let sets = [
            ("entries", entries),
            ("marks", marks),
            ("targets", targets),
            ("redirects", redirects),
            ("clients", NftSet::learnt(&key, CLIENTS)),
        ];
        table.sets.extend(sets.map(|(name, set)| (name.to_owned(), set)));
    }

    fn remember(&self, stack: Stack) -> Vec<NftRule> {
        let (here, ip) = (format!("iifname \"{}\"", self.interface), stack.word());
        let clients = format!(
            "{here} {UNBOUND} ct mark @marks update @clients {{ meta l4proto . {ip} saddr . th sport . th dport }}"
        );
        vec![
            NftRule::new(
                "who let it in",
                format!("{here} ct direction original ct mark set ether saddr map @entries"),
            ),
            NftRule::new("valid by that node", format!("{here} ct mark @marks meta mark set ct mark")),
            NftRule::new("senders of datagrams", clients),
        ]
    }

    fn redirect(&self, stack: Stack, address: IpAddr) -> Vec<NftRule> {
        let ip = stack.word();
        let text = format!(
            "iifname \"{}\" {ip} daddr {address} ct mark != @marks dnat {ip} to meta l4proto . th dport map @redirects",
            self.interface,
        );
        vec![NftRule::new("published ports of nodes of Docker", text)]
    }

    fn only_targets(&self) -> Vec<NftRule> {
        let here = format!("iifname \"{}\"", self.interface);
        vec![
            NftRule::new("published ports", format!("{here} meta l4proto . th dport @targets accept")),
            NftRule::new("nothing else", format!("{here} {ALL} drop")),
        ]
    }

    fn only_answers(&self) -> Vec<NftRule> {
        let here = format!("oifname \"{}\"", self.interface);
        let answers = format!("{here} meta l4proto . th sport @targets ct direction reply accept");
        vec![NftRule::new("answers", answers), NftRule::new("nothing else", format!("{here} {ALL} drop"))]
    }
}

fn answer(stack: Stack, address: IpAddr) -> Vec<NftRule> {
    let ip = stack.word();
    let client = format!("{UNBOUND} meta l4proto . {ip} daddr . th dport . th sport @clients");
    vec![NftRule::new("from where it was asked", format!("{client} {ip} saddr set {address}"))]
}

fn back() -> Vec<NftRule> {
    let text = "ct direction reply ct mark @marks meta mark set ct mark";
    vec![NftRule::new("back through who let it in", text)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> IngressTask {
        let port = |protocol, published, target| TaskPort { protocol, published, target };
        IngressTask {
            interface: "eth0".parse().unwrap(),
            addresses: vec!["10.0.0.5".parse().unwrap()],
            entries: ["192.0.2.1", "192.0.2.2"].map(|ip| EntryNode(ip.parse().unwrap())).to_vec(),
            ports: vec![
                port(PortProtocol::Tcp, 8080, 80),
                port(PortProtocol::Tcp, 443, 443),
                port(PortProtocol::Udp, 53, 5353),
            ],
        }
    }

    fn text(task: &IngressTask) -> String {
        let state = task.plan();
        let neighbours = state.neighbours.iter().map(|neighbour| format!("{neighbour}\n"));
        let routes = state.routes.iter().map(|route| format!("{route}\n"));
        let rules = state.rules.iter().map(|rule| format!("{rule}\n"));
        let settings = state.sysctls.iter().map(|(key, value)| format!("{key} = {value}\n"));
        let tables = state.tables.values().map(ToString::to_string);
        neighbours.chain(routes).chain(rules).chain(settings).chain(tables).collect()
    }

    #[test]
    fn golden_ipv4() {
        crate::golden::assert_golden("ingress_task.nft", &text(&task()));
    }

    #[test]
    fn golden_both_families() {
        let mut task = task();
        task.addresses.push("fd00::5".parse().unwrap());
        crate::golden::assert_golden("ingress_task_ipv6.nft", &text(&task));
    }

    #[test]
    fn another_node_changes_only_elements_and_its_way_back() {
        let before = crate::model::observed(&task().plan());
        let mut more = task();
        more.entries.push(EntryNode("192.0.2.3".parse().unwrap()));
        let ops = crate::diff(&before, &more.plan());
        let fine = |op: &crate::Op| !matches!(op, crate::Op::SetTable(_));
        assert!(ops.len() == 5 && ops.iter().all(fine), "{ops:?}");
    }
}
