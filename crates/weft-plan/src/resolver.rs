//! The way of a container's DNS queries to its resolver.
//!
//! Containers ask 127.0.0.11:53 (Docker's address). The resolver's sockets are at ports the kernel picked, so that a
//! container can bind 0.0.0.0:53 itself. The ports are rewritten on `lo` without state: no connection tracking, and
//! nothing happens to packets of other interfaces.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::{Chain, Family, Hook, HookKind, LinkName, NftRule, Table, TableId};

/// Where containers send their queries; Docker's choice, and part of its interface.
pub const RESOLVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Priority before connection tracking (`NF_IP_PRI_RAW`).
const RAW: i32 = -300;

/// Where the ports are rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResolverHook {
    /// The egress hook of `lo` (Linux 5.16, `CONFIG_NETFILTER_EGRESS`): costs other interfaces nothing at all.
    NetdevEgress,
    /// The output hook before connection tracking: every packet the container sends passes one rule.
    RawOutput,
}

/// The rewrite between port 53 and the resolver's ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverRedirect {
    /// The resolver's UDP port.
    pub udp: u16,
    /// The resolver's TCP port.
    pub tcp: u16,
    /// The hook this kernel has.
    pub hook: ResolverHook,
}

impl ResolverRedirect {
    /// The table for a container's namespace.
    pub fn table(&self) -> Table {
        let (id, hook) = match self.hook {
            ResolverHook::NetdevEgress => {
                let hook = Hook { device: Some(LinkName::lo()), ..Hook::new(HookKind::Filter, "egress", 0) };
                (TableId::new(Family::Netdev, "resolver"), hook)
            }
            ResolverHook::RawOutput => {
                (TableId::new(Family::Ip, "resolver"), Hook::new(HookKind::Filter, "output", RAW))
            }
        };
        let mut table = Table::new(id);
        let rules = [("udp", self.udp), ("tcp", self.tcp)].into_iter().flat_map(|(protocol, port)| {
            [query(self.hook, protocol, port), answer(self.hook, protocol, port)]
        });
        table.chains.insert("rewrite".to_owned(), Chain { hook: Some(hook), rules: rules.collect() });
        table
    }
}

/// `oifname` is known by the hook's device in the netdev family and must not be asked for there.
fn on_lo(hook: ResolverHook) -> &'static str {
    match hook {
        ResolverHook::NetdevEgress => "",
        ResolverHook::RawOutput => "oifname \"lo\" ",
    }
}

fn query(hook: ResolverHook, protocol: &str, port: u16) -> NftRule {
    let on_lo = on_lo(hook);
    let text = format!("{on_lo}ip daddr {RESOLVER_ADDRESS} {protocol} dport 53 {protocol} dport set {port}");
    NftRule::new(&format!("{protocol} query"), text)
}

fn answer(hook: ResolverHook, protocol: &str, port: u16) -> NftRule {
    let on_lo = on_lo(hook);
    let text = format!("{on_lo}ip saddr {RESOLVER_ADDRESS} {protocol} sport {port} {protocol} sport set 53");
    NftRule::new(&format!("{protocol} answer"), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_egress() {
        let redirect = ResolverRedirect { udp: 40001, tcp: 40002, hook: ResolverHook::NetdevEgress };
        crate::golden::assert_golden("resolver_egress.nft", &redirect.table().to_string());
    }

    #[test]
    fn golden_output() {
        let redirect = ResolverRedirect { udp: 40001, tcp: 40002, hook: ResolverHook::RawOutput };
        crate::golden::assert_golden("resolver_output.nft", &redirect.table().to_string());
    }
}
