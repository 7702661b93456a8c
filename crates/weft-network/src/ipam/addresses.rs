//! Choosing addresses in a subnet.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::network::Pool;

/// How full a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolUse {
    /// Addresses in use, the router's and auxiliary ones included.
    pub used: usize,
    /// Addresses that can be given out.
    pub total: u128,
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn address(number: u128, ipv6: bool) -> Option<IpAddr> {
    if ipv6 {
        Some(IpAddr::V6(Ipv6Addr::from(number)))
    } else {
        u32::try_from(number).ok().map(|n| IpAddr::V4(Ipv4Addr::from(n)))
    }
}

/// First and last address that can be given out of `range`, a part of `subnet`. Without network and broadcast
/// addresses of the subnet (IPv6: without the subnet-router anycast address, RFC 4291 section 2.6.1); both ends of a
/// /31 can be used (RFC 3021).
fn span(subnet: IpNet, range: IpNet) -> (u128, u128) {
    let (mut first, mut last) = (number(range.network()), number(range.broadcast()));
    let small = subnet.prefix_len() + 1 >= subnet.max_prefix_len();
    if !small && first == number(subnet.network()) {
        first += 1;
    }
    if !small && subnet.addr().is_ipv4() && last == number(subnet.broadcast()) {
        last -= 1;
    }
    (first, last)
}

/// The least address of the pool that is not in `used`.
pub(crate) fn first_free(pool: &Pool, used: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let (first, last) = span(pool.subnet, pool.range.unwrap_or(pool.subnet));
    let ipv6 = pool.subnet.addr().is_ipv6();
    let taken =
        |ip: &IpAddr| *ip == pool.gateway || used.contains(ip) || pool.auxiliary.values().any(|a| a == ip);
    // At most as many steps as there are taken addresses, and one.
    (first..=last).filter_map(|n| address(n, ipv6)).find(|ip| !taken(ip))
}

/// Whether the pool may give out this very address, free or not.
pub(crate) fn takes(pool: &Pool, ip: IpAddr) -> bool {
    let (first, last) = span(pool.subnet, pool.range.unwrap_or(pool.subnet));
    pool.subnet.contains(&ip) && (first..=last).contains(&number(ip))
}

/// How full the pool is.
pub(crate) fn pool_use(pool: &Pool, used: &BTreeSet<IpAddr>) -> PoolUse {
    let (first, last) = span(pool.subnet, pool.range.unwrap_or(pool.subnet));
    let mut all: BTreeSet<IpAddr> = used.clone();
    all.insert(pool.gateway);
    all.extend(pool.auxiliary.values());
    let used = all.iter().filter(|ip| takes(pool, **ip)).count();
    PoolUse { used, total: (last + 1).saturating_sub(first) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn pool(subnet: &str, range: Option<&str>) -> Pool {
        let subnet: IpNet = subnet.parse().unwrap();
        let gateway = subnet.hosts().find(|ip| *ip != subnet.network()).unwrap();
        Pool {
            subnet,
            range: range.map(|r| r.parse().unwrap()),
            gateway,
            user_subnet: true,
            show_gateway: true,
            auxiliary: BTreeMap::new(),
        }
    }

    #[test]
    fn first_free_fills_gaps() {
        let pool = pool("10.0.0.0/29", None);
        let mut used = BTreeSet::new();
        for last in 2..=6 {
            let ip = first_free(&pool, &used).unwrap();
            assert_eq!(ip.to_string(), format!("10.0.0.{last}"));
            used.insert(ip);
        }
        assert_eq!(first_free(&pool, &used), None);
        assert_eq!(pool_use(&pool, &used), PoolUse { used: 6, total: 6 });
        used.remove(&"10.0.0.4".parse().unwrap());
        assert_eq!(first_free(&pool, &used).unwrap().to_string(), "10.0.0.4");
    }

    #[test]
    fn a_range_limits_and_auxiliary_addresses_are_left_out() {
        let mut pool = pool("10.99.1.0/24", Some("10.99.1.128/25"));
        pool.auxiliary.insert("h1".into(), "10.99.1.128".parse().unwrap());
        assert_eq!(first_free(&pool, &BTreeSet::new()).unwrap().to_string(), "10.99.1.129");
        assert!(takes(&pool, "10.99.1.254".parse().unwrap()));
        assert!(!takes(&pool, "10.99.1.255".parse().unwrap()));
        assert!(!takes(&pool, "10.99.1.3".parse().unwrap()));
    }

    #[test]
    fn ipv6_starts_behind_the_router() {
        let pool = pool("fd00::/64", None);
        assert_eq!(first_free(&pool, &BTreeSet::new()).unwrap().to_string(), "fd00::2");
    }
}
