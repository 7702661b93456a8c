//! The nftables engine: destination translation by maps, on the way out of the container.
//!
//! ```text
//! output, nat   daddr in even-3 (3 slots) | pick-16 (9..16 slots) | refuse (none) -> goto the chain of that name
//! even-N        daddr . random(N) --slots--> task
//! pick-N        the same in draw-N, again and again while the number has no slot; N is a power of two
//! ```
//!
//! A module of random numbers is fixed in a rule, so there is a chain for each small number of slots, where every draw
//! hits, and one for each power of two, where more than half of them do. The source address is kept: tasks see who
//! asks, and answers come straight back.
//!
//! Services are in plain sets, one a chain, though one map of verdicts would say the same: with every change of such a
//! map the kernel looks through all of it for loops. And `slots` is asked in few rules, because for each new element the
//! kernel looks at each of them.
//!
//! Tracking costs a flow about as much as the tunnel does, so only flows that need it have it:
//! - to a virtual IP, and their answers: those come from a task's address, not from the virtual one;
//! - begun here towards a task's own address: such a flow has the same answers as one through the virtual IP, and
//!   tracking is what keeps their port numbers apart;
//! - within this namespace towards a task that is the container itself, where a task reaches its own service.
//!
//! Left alone is everything else, above all connections from outside to a server here. They come from addresses of
//! tasks too, but to ports that no client draws, and there is a socket for them; an answer to a virtual IP has none,
//! because the client's socket knows only the virtual address. UDP sockets take packets from anyone, so of flows from
//! tasks only those of TCP are sorted out that way.
//!
//! Where programs take TCP's sockets to a task (`BalanceEngine::Bpf`), a socket's peer is the task itself, also of one that
//! asked for the virtual IP. Then no TCP towards a task's own address is tracked, and what comes from a task is not where
//! there is a socket for it, whatever the ports. What is still translated here is TCP of raw sockets, of MPTCP, of
//! sockets that began before the programs, and of what these had no room for. Ports do not collide, because
//! - among all sockets with a task as their peer the kernel itself keeps ports apart: it knows the addresses that are on
//!   the wire, and does not use a port twice towards the same task;
//! - among flows that are translated here tracking does, as ever;
//! - between the two nobody would: to the kernel a socket with a virtual IP as its peer has another peer, so both could
//!   have one port, and the answers of one would be the other's. So flows that are translated here leave from ports that
//!   the kernel gives to no socket ([`TRANSLATED_PORTS`]). A client that binds such a port itself, towards the same task
//!   and at the same time, is left.
//!
//! Connections by the virtual IP that are older than the programs, because the engine was another one, have kept a
//! client's port: until they end, a new socket towards the same task and port may draw theirs (one of 28,232 at a time),
//! and its first packet would be taken for theirs and both be reset. A port that a task remembers of one that has ended
//! (`TIME_WAIT`) costs a new connection a second, as ever where both addresses are in use.

use std::collections::BTreeMap;

use super::{Balancer, MAX_SLOTS, Words, words};
use crate::{Chain, Hook, HookKind, NamespaceState, NftRule, NftSet, Table};

/// Priorities: before connection tracking (`NF_IP_PRI_RAW`), after what the routing mesh does there to source addresses;
/// and of destination translation (`NF_IP_PRI_NAT_DST`).
const RAW: i32 = -299;
const NAT_DST: i32 = -100;
/// Of source translation (`NF_IP_PRI_NAT_SRC`).
const NAT_SRC: i32 = 100;
/// Up to this many slots there is a chain for exactly that number.
const EXACT: usize = 8;
/// Draws before settling for the lower half of the numbers, which has no gaps. More than half of all draws hit, so that
/// less than one flow of a thousand gets there.
const DRAWS: usize = 10;
/// So many of them are in one chain, to which the rules of another jump.
const DRAWS_EACH: usize = 2;
/// Ports that the kernel gives to clients unless told otherwise (`ip_local_port_range`). Where it was, more is tracked
/// than has to be, or a client's own choice of a port is looked up among the sockets; flows work all the same.
const CLIENT_PORTS: &str = "32768-60999";

/// Source ports of TCP that is translated here beside programs: above those that the kernel gives to clients.
const TRANSLATED_PORTS: &str = "61000-65535";

const REFUSE: &str = "refuse";

/// Settings of connection tracking that hold for all flows of the namespace.
pub(super) fn timeouts(state: &mut NamespaceState) {
    // A client that has sent all it had may wait for the answer this long; the kernel would forget it after a minute.
    state.set("net/netfilter/nf_conntrack_tcp_timeout_close_wait", "43200");
    // As IPVS has it; the kernel's two minutes cut answers that take longer.
    state.set("net/netfilter/nf_conntrack_udp_timeout_stream", "300");
    // A segment outside the window is the socket's business. Left untranslated it would be answered with a reset.
    state.set("net/netfilter/nf_conntrack_tcp_be_liberal", "1");
}

/// The table of one family.
pub(super) fn table(balancer: &Balancer, ipv6: bool) -> Table {
    let w = words(ipv6);
    let mut table = Table::new(Balancer::table_id(ipv6));
    let mut chain = |name: &str, hook: Option<(HookKind, &str, i32)>, rules: Vec<NftRule>| {
        let hook = hook.map(|(kind, hook, priority)| Hook::new(kind, hook, priority));
        table.chains.insert(name.to_owned(), Chain { hook, rules });
    };
    chain("before-input", Some((HookKind::Filter, "prerouting", RAW)), incoming(balancer, ipv6));
    chain("before-output", Some((HookKind::Filter, "output", RAW)), outgoing(balancer, ipv6));
    chain("output", Some((HookKind::Nat, "output", NAT_DST)), translate(w));
    if balancer.sockets_tell() {
        chain("leaving", Some((HookKind::Nat, "postrouting", NAT_SRC)), vec![apart()]);
    }
    chain(REFUSE, None, refuse(w));
    for slots in 1..=EXACT {
        chain(&chain_of(slots), None, vec![draw(w, slots)]);
    }
    for power in powers() {
        chain(&draw_chain(power), None, vec![draw(w, power); DRAWS_EACH]);
        let jump = |below| NftRule::new("draw a task", format!("jump {}", draw_chain(below)));
        let mut draws = vec![jump(power); DRAWS / DRAWS_EACH];
        draws.push(jump(power / 2));
        chain(&chain_of(power), None, draws);
    }
    table.sets = sets(balancer, ipv6, w);
    table
}

fn powers() -> impl Iterator<Item = usize> {
    std::iter::successors(Some(EXACT * 2), |power| Some(power * 2)).take_while(|power| *power <= MAX_SLOTS)
}

/// The chain for a service with so many slots.
fn chain_of(slots: usize) -> String {
    match slots {
        0 => REFUSE.to_owned(),
        1..=EXACT => format!("even-{slots}"),
        _ => format!("pick-{}", slots.next_power_of_two()),
    }
}

/// The chain for a few draws below a number.
fn draw_chain(below: usize) -> String {
    if below <= EXACT { chain_of(below) } else { format!("draw-{below}") }
}

/// The chains that services may lead to, each with a set of its name.
fn targets() -> impl Iterator<Item = String> {
    (0..=EXACT).chain(powers()).map(chain_of)
}

fn sets(balancer: &Balancer, ipv6: bool, w: &Words) -> BTreeMap<String, NftSet> {
    let mut vips = NftSet::set(&[w.address]);
    let mut backends = NftSet::set(&[w.address]);
    let mut services: BTreeMap<String, NftSet> =
        targets().map(|chain| (chain, NftSet::set(&[w.address]))).collect();
    let mut slots = NftSet::map(&[w.address, "integer"], &[w.address]);
    for (vip, service) in balancer.of(ipv6) {
        vips.elements.insert(vip.to_string());
        backends.elements.extend(service.backends().keys().map(ToString::to_string));
        let of_chain = services.entry(chain_of(service.slots().len()));
        of_chain.or_insert_with(|| NftSet::set(&[w.address])).elements.insert(vip.to_string());
        let numbered = service.slots().iter().enumerate();
        slots.elements.extend(numbered.map(|(number, task)| format!("{vip} . {number} : {task}")));
    }
    let others = [("vips", vips), ("backends", backends), ("slots", slots)];
    services.extend(others.map(|(name, set)| (name.to_owned(), set)));
    services
}

fn incoming(balancer: &Balancer, ipv6: bool) -> Vec<NftRule> {
    let ip = words(ipv6).ip;
    let mut rules: Vec<NftRule> = balancer.mesh(ipv6, "daddr").into_iter().collect();
    rules.push(NftRule::new("not from a task", format!("{ip} saddr != @backends notrack accept")));
    if balancer.sockets_tell() {
        let text = "meta l4proto tcp socket transparent { 0, 1 } notrack";
        rules.push(NftRule::new("a socket's own", text));
    } else if balancer.sockets {
        let text = format!("tcp dport != {CLIENT_PORTS} socket transparent {{ 0, 1 }} notrack");
        rules.push(NftRule::new("a connection from outside", text));
    }
    rules
}

fn outgoing(balancer: &Balancer, ipv6: bool) -> Vec<NftRule> {
    let Words { ip, icmp, .. } = words(ipv6);
    let mut rules: Vec<NftRule> = balancer.mesh(ipv6, "saddr").into_iter().collect();
    rules.extend([
        NftRule::new("to a service", format!("{ip} daddr @vips accept")),
        NftRule::new("echo and errors of this host", format!("oifname \"lo\" meta l4proto {icmp} accept")),
        NftRule::new("to itself", format!("oifname \"lo\" {ip} daddr @backends accept")),
        NftRule::new("not to a task", format!("{ip} daddr != @backends notrack accept")),
    ]);
    if balancer.sockets_tell() {
        rules.push(NftRule::new("a socket's own", "meta l4proto tcp notrack"));
    } else if balancer.sockets {
        let text = format!("tcp sport != {CLIENT_PORTS} notrack");
        rules.push(NftRule::new("a connection from outside", text));
    }
    rules
}

fn translate(w: &Words) -> Vec<NftRule> {
    let Words { ip, echo, .. } = w;
    let mut rules = vec![
        NftRule::new("not to a service", format!("{ip} daddr != @vips accept")),
        NftRule::new("a virtual IP answers pings", format!("{echo} redirect")),
    ];
    let service = |chain| NftRule::new("services", format!("{ip} daddr @{chain} goto {chain}"));
    rules.extend(targets().map(service));
    rules
}

/// Keeps what is translated here apart from sockets that know their task.
fn apart() -> NftRule {
    let text = format!("ct status dnat meta l4proto tcp snat to :{TRANSLATED_PORTS}");
    NftRule::new("from ports that no socket gets", text)
}

/// A rule that drops what is sent from here fails the sender's call as not permitted. So datagrams go to a port of this
/// namespace that nobody can listen at, and the sender hears what it would of a closed port anywhere.
fn refuse(w: &Words) -> Vec<NftRule> {
    vec![
        NftRule::new("no task takes flows", "meta l4proto tcp reject with tcp reset"),
        NftRule::new("no task takes flows", "meta l4proto udp redirect to :0"),
        NftRule::new("no task takes flows", w.unreachable),
    ]
}

fn draw(w: &Words, below: usize) -> NftRule {
    let ip = w.ip;
    NftRule::new("draw a task", format!("dnat to {ip} daddr . numgen random mod {below} map @slots"))
}
