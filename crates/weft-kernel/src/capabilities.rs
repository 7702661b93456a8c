//! What this kernel can do.

use std::net::Ipv4Addr;

use weft_plan::{
    BalanceEngine, BalancedService, Balancer, BridgeOptions, BridgePort, Chain, Family, Hook, HookKind, Link,
    LinkKind, LinkName, NamespaceState, Op, ResolverHook, ResolverRedirect, SourcePorts, Table, TableId,
    Vxlan,
};
use weft_types::Vni;

use crate::ipvs::IpvsSocket;
use crate::kernel::on_pool;
use crate::{Kernel, KernelError, Netns};

/// What this kernel has of what the data plane can use. Found out by trying, in a namespace that is thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// VXLAN devices.
    pub vxlan: bool,
    /// Bridges whose ports can suppress neighbour requests.
    pub neighbour_suppression: bool,
    /// The egress hook of nftables' netdev family.
    pub nft_egress: bool,
    /// Tables of nftables for address translation.
    pub nft_nat: bool,
    /// Rules of nftables that ask for sockets.
    pub nft_sockets: bool,
    /// Virtual IPs by nftables.
    pub nft_balance: bool,
    /// Virtual services of IPVS.
    pub ipvs: bool,
    /// IPv6.
    pub ipv6: bool,
}

impl Capabilities {
    /// Tries everything; takes a few tens of milliseconds, so do it once.
    pub async fn probe() -> Result<Self, KernelError> {
        on_pool(Self::probe_blocking).await
    }

    /// [`Capabilities::probe`], blocking.
    pub fn probe_blocking() -> Result<Self, KernelError> {
        let netns = Netns::anonymous()?;
        let kernel = Kernel::open_blocking(netns.clone())?;
        let works = |state: NamespaceState| kernel.apply_blocking(&ops(&state)).is_clean();
        Ok(Self {
            vxlan: works(with_link("probe-v", vxlan(&netns))),
            neighbour_suppression: works(suppressing(&netns)),
            nft_egress: works(with_table(egress())),
            nft_nat: works(with_table(nat())),
            nft_sockets: works(balance(BalanceEngine::Nft, true)),
            nft_balance: works(balance(BalanceEngine::Nft, false)),
            ipvs: load_ipvs(&netns)? && works(balance(BalanceEngine::Ipvs, false)),
            ipv6: std::path::Path::new("/proc/net/if_inet6").exists(),
        })
    }

    /// What virtual IPs are balanced by without programs: nftables, which every kernel of today has.
    pub fn balance_engine(&self) -> BalanceEngine {
        if self.ipvs && !self.nft_balance { BalanceEngine::Ipvs } else { BalanceEngine::Nft }
    }

    /// The hook for the resolver's redirect.
    pub fn resolver_hook(&self) -> ResolverHook {
        if self.nft_egress { ResolverHook::NetdevEgress } else { ResolverHook::RawOutput }
    }
}

fn ops(state: &NamespaceState) -> Vec<Op> {
    weft_plan::diff(&weft_plan::Observed::default(), state)
}

fn with_link(name: &str, link: Link) -> NamespaceState {
    let mut state = NamespaceState::empty();
    if let Ok(name) = name.parse::<LinkName>() {
        state.links.insert(name, link);
    }
    state
}

fn with_table(table: Table) -> NamespaceState {
    let mut state = NamespaceState::empty();
    state.tables.insert(table.id.clone(), std::sync::Arc::new(table));
    state
}

fn vxlan(netns: &Netns) -> Link {
    let vxlan = Vxlan {
        vni: Vni::MAX,
        local: Ipv4Addr::LOCALHOST.into(),
        port: 4789,
        underlay: netns.reference(),
        sources: SourcePorts::Open,
    };
    Link { up: false, ..Link::new(LinkKind::Vxlan(vxlan)) }
}

fn suppressing(netns: &Netns) -> NamespaceState {
    let bridge =
        Link { up: false, ..Link::new(LinkKind::Bridge(BridgeOptions { multicast_snooping: false })) };
    let mut state = with_link("probe-b", bridge);
    let master = "probe-b".parse().ok();
    state.merge(with_link("probe-v", Link { master, port: Some(BridgePort::TUNNEL), ..vxlan(netns) }));
    state
}

fn egress() -> Table {
    ResolverRedirect { udp: 1, tcp: 1, hook: ResolverHook::NetdevEgress }.table()
}

fn balance(engine: BalanceEngine, sockets: bool) -> NamespaceState {
    let (vip, task) = (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::new(192, 0, 2, 2).into());
    let service = BalancedService::new([(task, 1)].into(), None);
    Balancer { engine, sockets, services: [(vip, service)].into(), ..Balancer::default() }.plan()
}

/// Nothing loads IPVS by itself, so it is asked for, as Docker does. Fails silently where there are no modules.
fn load_ipvs(netns: &Netns) -> Result<bool, KernelError> {
    if IpvsSocket::open(netns)?.is_some() {
        return Ok(true);
    }
    let quiet = || std::process::Stdio::null();
    let loaded = std::path::Path::new("/proc/modules").exists()
        && std::process::Command::new("modprobe")
            .arg("ip_vs")
            .stdin(quiet())
            .stdout(quiet())
            .stderr(quiet())
            .status()
            .is_ok_and(|status| status.success());
    Ok(loaded && IpvsSocket::open(netns)?.is_some())
}

fn nat() -> Table {
    let mut table = Table::new(TableId::new(Family::Ip, "probe"));
    let hook = Some(Hook::new(HookKind::Nat, "prerouting", -100));
    table.chains.insert("prerouting".to_owned(), Chain { hook, rules: Vec::new() });
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probing_leaves_nothing_and_finds_vxlan() {
        let found = Capabilities::probe_blocking().unwrap();
        assert!(found.vxlan && found.neighbour_suppression && found.nft_nat, "{found:?}");
        assert!(found.nft_balance && found.nft_sockets, "{found:?}");
    }
}
