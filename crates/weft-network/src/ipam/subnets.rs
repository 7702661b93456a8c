//! Choosing subnets from pools.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rand::RngCore;
use serde::{Deserialize, Serialize};

/// A range that is cut into subnets of equal size (`--default-address-pool base=…,size=…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPool {
    /// The range.
    pub base: IpNet,
    /// Prefix length of the subnets.
    pub size: u8,
}

impl AddressPool {
    /// How many subnets it has.
    fn count(&self) -> u128 {
        let bits = self.size.saturating_sub(self.base.prefix_len());
        1u128.checked_shl(u32::from(bits)).unwrap_or(u128::MAX)
    }

    fn nth(&self, index: u128) -> Option<IpNet> {
        match self.base.trunc() {
            IpNet::V4(base) => {
                let step = u32::try_from(index.checked_shl(u32::from(32 - self.size.min(32)))?).ok()?;
                let start = u32::from(base.network()).checked_add(step)?;
                Ipv4Net::new(Ipv4Addr::from(start), self.size).ok().map(IpNet::V4)
            }
            IpNet::V6(base) => {
                let shift = u32::from(128 - self.size.min(128));
                let start = u128::from(base.network()).checked_add(index.checked_shl(shift)?)?;
                Ipv6Net::new(Ipv6Addr::from(start), self.size).ok().map(IpNet::V6)
            }
        }
    }
}

/// Docker's pools: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in /20, and for IPv6 the daemon's own prefix
/// in /64.
pub(crate) fn default_pools(unique_local: Ipv6Net) -> Vec<AddressPool> {
    let v4 = |a, b, prefix| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), prefix));
    vec![
        AddressPool { base: v4(172, 17, 16), size: 16 },
        AddressPool { base: v4(172, 18, 16), size: 16 },
        AddressPool { base: v4(172, 19, 16), size: 16 },
        AddressPool { base: v4(172, 20, 14), size: 16 },
        AddressPool { base: v4(172, 24, 14), size: 16 },
        AddressPool { base: v4(172, 28, 14), size: 16 },
        AddressPool { base: v4(192, 168, 16), size: 20 },
        AddressPool { base: IpNet::V6(unique_local), size: 64 },
    ]
}

/// A /48 of unique local addresses: `fd` and 40 random bits (RFC 4193 section 3.2).
pub(crate) fn unique_local_prefix(rng: &mut impl RngCore) -> Ipv6Net {
    let mut octets = [0u8; 16];
    octets[0] = 0xfd;
    rng.fill_bytes(&mut octets[1..6]);
    Ipv6Net::new_assert(Ipv6Addr::from(octets), 48)
}

/// Whether two ranges have an address in common.
fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Whether `subnet` has an address in common with any of `others`.
pub(crate) fn overlaps_any<'a>(subnet: &IpNet, others: impl IntoIterator<Item = &'a IpNet>) -> bool {
    others.into_iter().any(|other| overlap(subnet, other))
}

/// The first subnet of the pools, in order, that is free of `used`. `Err` says how many there are in all.
pub(crate) fn free_subnet(pools: &[AddressPool], ipv6: bool, used: &[IpNet]) -> Result<IpNet, u128> {
    let family = |ip: IpAddr| ip.is_ipv6() == ipv6;
    let pools = pools.iter().filter(|pool| family(pool.base.addr()));
    let mut total = 0u128;
    for pool in pools {
        let count = pool.count();
        // Each used range can stand in the way of many small subnets, so skip behind it instead of counting up.
        let mut index = 0u128;
        while index < count {
            let Some(subnet) = pool.nth(index) else { break };
            match used.iter().find(|other| overlap(&subnet, other)) {
                None => return Ok(subnet),
                Some(other) => index += behind(pool, &subnet, other),
            }
        }
        total = total.saturating_add(count);
    }
    Err(total)
}

/// How many subnets to go on so that `other` lies behind.
fn behind(pool: &AddressPool, subnet: &IpNet, other: &IpNet) -> u128 {
    if other.prefix_len() >= pool.size {
        return 1;
    }
    let number = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    };
    let width = u32::from(if other.addr().is_ipv4() { 32 } else { 128 } - pool.size);
    let rest = number(other.broadcast()).saturating_sub(number(subnet.network()));
    (rest.checked_shr(width).unwrap_or(0)).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools() -> Vec<AddressPool> {
        default_pools("fd00:1:2::/48".parse().unwrap())
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn dockers_order() {
        let free = |used: &[&str]| free_subnet(&pools(), false, &nets(used)).map(|n| n.to_string());
        assert_eq!(free(&[]).unwrap(), "172.17.0.0/16");
        assert_eq!(free(&["172.17.0.0/16", "172.18.5.0/24"]).unwrap(), "172.19.0.0/16");
        assert_eq!(free(&["172.16.0.0/12"]).unwrap(), "192.168.0.0/20");
        assert_eq!(free(&["172.16.0.0/12", "192.168.0.0/20"]).unwrap(), "192.168.16.0/20");
        assert_eq!(free(&["172.16.0.0/12", "192.168.0.0/16"]), Err(31));
        assert_eq!(free(&["0.0.0.0/0"]), Err(31));
    }

    #[test]
    fn ipv6_counts_up_from_the_daemons_prefix() {
        let free = |used: &[&str]| free_subnet(&pools(), true, &nets(used)).unwrap().to_string();
        assert_eq!(free(&[]), "fd00:1:2::/64");
        assert_eq!(free(&["fd00:1:2::/64"]), "fd00:1:2:1::/64");
    }

    #[test]
    fn large_used_ranges_are_skipped_at_once() {
        let pool = AddressPool { base: "fd00::/16".parse().unwrap(), size: 64 };
        let free = free_subnet(&[pool], true, &nets(&["fd00::/17"])).unwrap();
        assert_eq!(free.to_string(), "fd00:8000::/64");
    }

    #[test]
    fn random_prefixes_are_unique_local() {
        let prefix = unique_local_prefix(&mut rand::rng());
        assert!("fd00::/8".parse::<Ipv6Net>().unwrap().contains(&prefix));
    }
}
