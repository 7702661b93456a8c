//! The IPVS engine: nftables marks packets to virtual IPs, IPVS takes what is marked to a task.
//!
//! A mark stands for all protocols and ports of one virtual IP, as Docker does it, but here in the namespace of the
//! client: nothing is masqueraded. IPVS has its own tracking, so the kernel's is kept out of everything but pings,
//! which IPVS does not carry, and datagrams that no task takes: IPVS would fail the sender's call as not permitted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::{BalancedService, Balancer, words};
use crate::{
    Chain, Hook, HookKind, Ipvs, IpvsScheduler, IpvsService, IpvsServiceId, IpvsTimeouts, NamespaceState,
    NftRule, NftSet, Table,
};

/// Priorities: before connection tracking as in the other engine, of marks (`NF_IP_PRI_MANGLE`), and of destination
/// translation. IPVS takes what leaves right after the last (`NF_IP_PRI_NAT_DST + 2`), and `AFTER` sees what it made.
const RAW: i32 = -299;
const MANGLE: i32 = -150;
const NAT_DST: i32 = -100;
const AFTER: i32 = -90;

/// As connection tracking has it for open connections: five days. IPVS alone forgets them after 15 minutes, and the
/// client then waits for ever.
const TIMEOUTS: IpvsTimeouts = IpvsTimeouts { tcp: 432_000, tcp_fin: 120, udp: 300 };

/// The table of one family.
pub(super) fn table(balancer: &Balancer, ipv6: bool) -> Table {
    let w = words(ipv6);
    let (ip, icmp, echo) = (w.ip, w.icmp, w.echo);
    let mut table = Table::new(Balancer::table_id(ipv6));
    let mut chain = |name: &str, kind, hook: &str, priority, rules: Vec<NftRule>| {
        let hook = Some(Hook::new(kind, hook, priority));
        table.chains.insert(name.to_owned(), Chain { hook, rules });
    };
    let mut incoming: Vec<NftRule> = balancer.mesh(ipv6, "daddr").into_iter().collect();
    incoming.push(NftRule::new("IPVS tracks", "notrack"));
    chain("before-input", HookKind::Filter, "prerouting", RAW, incoming);
    let mut outgoing: Vec<NftRule> = balancer.mesh(ipv6, "saddr").into_iter().collect();
    let refused = format!("{ip} daddr @empty meta l4proto udp");
    outgoing.extend([
        NftRule::new("to be refused", format!("{refused} accept")),
        NftRule::new("pings of services", format!("{ip} daddr @vips {echo} accept")),
        NftRule::new("echo and errors of this host", format!("oifname \"lo\" meta l4proto {icmp} accept")),
        NftRule::new("IPVS tracks", "notrack"),
    ]);
    chain("before-output", HookKind::Filter, "output", RAW, outgoing);
    let marking = vec![
        NftRule::new("to be refused", format!("{refused} accept")),
        NftRule::new("services", format!("meta mark set {ip} daddr map @marks")),
    ];
    chain("services", HookKind::Filter, "output", MANGLE, marking);
    let answer = NftRule::new("a virtual IP answers pings", format!("{ip} daddr @vips {echo} redirect"));
    let refuse = NftRule::new("no task takes flows", format!("{refused} redirect to :0"));
    chain("output", HookKind::Nat, "output", NAT_DST, vec![answer, refuse]);
    chain("itself", HookKind::Route, "output", AFTER, vec![itself()]);
    let mut vips = NftSet::set(&[w.address]);
    let mut marked = NftSet::map(&[w.address], &["mark"]);
    for (vip, mark) in marks(balancer, ipv6) {
        vips.elements.insert(vip.to_string());
        marked.elements.insert(format!("{vip} : {mark}"));
    }
    let mut empty = NftSet::set(&[w.address]);
    let without = balancer.of(ipv6).filter(|(_, service)| service.slots().is_empty());
    empty.elements.extend(without.map(|(vip, _)| vip.to_string()));
    table.sets = [("vips", vips), ("empty", empty), ("marks", marked)]
        .map(|(name, set)| (name.to_owned(), set))
        .into();
    table
}

/// Where a task reaches its own service and the turn is its own, IPVS puts the container's own address into the packet
/// and lets it go on by the route to the virtual one (`ip_vs_nat_xmit`): out by the network, where no neighbour has that
/// address. A changed mark in a chain of this kind has the route looked up anew.
fn itself() -> NftRule {
    NftRule::new("a task reaches itself", "oifname != \"lo\" fib daddr type local meta mark set 0")
}

/// The virtual services of both families.
pub(super) fn services(balancer: &Balancer, state: &mut NamespaceState) {
    let mut ipvs = Ipvs::default();
    for ipv6 in [false, true] {
        for (vip, mark) in marks(balancer, ipv6) {
            let Some(service) = balancer.services.get(&vip) else { continue };
            ipvs.services.insert(IpvsServiceId { ipv6, mark }, virtual_service(service));
        }
    }
    if !ipvs.services.is_empty() {
        ipvs.timeouts = Some(TIMEOUTS);
        // A flow whose task is gone goes to another one with its next packet, instead of being dropped for minutes.
        state.set("net/ipv4/vs/expire_nodest_conn", "1");
        // A client's port that comes round again is a new connection, without a second's wait for it.
        state.set("net/ipv4/vs/conn_reuse_mode", "0");
    }
    state.ipvs = Some(Arc::new(ipvs));
}

fn virtual_service(service: &BalancedService) -> IpvsService {
    let weights: BTreeSet<u16> = service.backends().values().copied().filter(|weight| *weight > 0).collect();
    let scheduler =
        if weights.len() > 1 { IpvsScheduler::WeightedRoundRobin } else { IpvsScheduler::RoundRobin };
    IpvsService { scheduler, destinations: service.backends().clone() }
}

/// The mark of each virtual IP: for IPv4 the address itself, which is unique and needs no memory; for IPv6 a digest of
/// it, and the next free number where two meet.
fn marks(balancer: &Balancer, ipv6: bool) -> BTreeMap<IpAddr, u32> {
    let mut taken = BTreeSet::new();
    let of = |vip: &IpAddr| match vip {
        IpAddr::V4(ip) => ip.to_bits(),
        IpAddr::V6(ip) => ip.octets().iter().fold(0x811c_9dc5, |hash: u32, byte| {
            // FNV-1a, 32 bits: the same on every node and in every version.
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        }),
    };
    let marked = balancer.of(ipv6).map(|(vip, _)| {
        let mut mark = of(vip).max(1);
        while !taken.insert(mark) {
            mark = mark.wrapping_add(1).max(1);
        }
        (*vip, mark)
    });
    marked.collect()
}
