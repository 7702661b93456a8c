//! The pools that networks without a subnet of their own take one from.

use std::fmt;

use ipnet::{IpNet, Ipv4Net};
use weft_types::{Classified, ErrorKind};
use weft_wire::swarmkit::Cluster;

use crate::subnet::span;

/// Docker's default: 10.0.0.0/8 in subnets of 256 addresses.
const DEFAULT_POOL: &str = "10.0.0.0/8";
const DEFAULT_SUBNET_SIZE: u32 = 24;
/// The longest prefix that still leaves two addresses besides network and broadcast (Docker's bound).
const LONGEST_SUBNET_SIZE: u32 = 29;

/// Pools that were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Not a prefix length that leaves room for hosts.
    #[error("subnet size is out of range: {0}")]
    SubnetSize(u32),
    /// Not a subnet.
    #[error("invalid CIDR address: {0}")]
    Syntax(String),
    /// The pool is smaller than the subnets it shall be split into, or not an IPv4 pool.
    #[error("invalid CIDR: {:?}. Subnet size is too small for pool: {size}", pool.to_string())]
    SmallerThanSubnets {
        /// The pool.
        pool: IpNet,
        /// Prefix length of the subnets.
        size: u32,
    },
}

impl Classified for PoolError {
    fn kind(&self) -> ErrorKind {
        // Docker answers 500 to all of these on swarm init.
        ErrorKind::System
    }
}

/// Pools of IPv4 addresses and the size of the subnets they are split into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressPools {
    pools: Vec<Ipv4Net>,
    subnet_size: u8,
}

impl AddressPools {
    /// Checks `pools` and `subnet_size`; empty and 0 stand for Docker's defaults.
    pub fn new(pools: &[IpNet], subnet_size: u32) -> Result<Self, PoolError> {
        let size = if subnet_size == 0 { DEFAULT_SUBNET_SIZE } else { subnet_size };
        let subnet_size = u8::try_from(size)
            .ok()
            .filter(|_| size <= LONGEST_SUBNET_SIZE)
            .ok_or(PoolError::SubnetSize(size))?;
        let default = [DEFAULT_POOL.parse().expect("the default pool is a subnet")];
        let pools = if pools.is_empty() { &default[..] } else { pools };
        let checked = pools.iter().map(|pool| match pool {
            IpNet::V4(v4) if v4.prefix_len() <= subnet_size => Ok(v4.trunc()),
            _ => Err(PoolError::SmallerThanSubnets { pool: *pool, size }),
        });
        Ok(Self { pools: checked.collect::<Result<_, _>>()?, subnet_size })
    }

    /// The pools of a swarm.
    pub fn of_cluster(cluster: &Cluster) -> Result<Self, PoolError> {
        let parse = |text: &String| text.parse().map_err(|_| PoolError::Syntax(text.clone()));
        let pools = cluster.default_address_pool.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        Self::new(&pools, cluster.subnet_size)
    }

    /// Prefix length of the subnets.
    pub fn subnet_size(&self) -> u8 {
        self.subnet_size
    }

    /// How many subnets the pools have in all.
    pub fn subnet_count(&self) -> u128 {
        self.pools.iter().map(|pool| 1u128 << (self.subnet_size - pool.prefix_len())).sum()
    }

    /// The first subnet that overlaps none of `taken`. A freed subnet is thus used again at once, as with Docker.
    pub(crate) fn first_free(&self, taken: &[IpNet]) -> Option<IpNet> {
        self.pools.iter().find_map(|pool| first_free_in(IpNet::V4(*pool), self.subnet_size, taken))
    }
}

impl Default for AddressPools {
    fn default() -> Self {
        Self::new(&[], 0).expect("Docker's defaults are valid")
    }
}

impl fmt::Display for AddressPools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pool) in self.pools.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{pool}")?;
        }
        Ok(())
    }
}

/// The first subnet of `size` in `pool` that overlaps none of `taken`.
pub(crate) fn first_free_in(pool: IpNet, size: u8, taken: &[IpNet]) -> Option<IpNet> {
    let (start, end) = span(pool);
    let step = 1u128 << (pool.max_prefix_len() - size);
    let mut in_pool: Vec<_> = taken
        .iter()
        .filter(|net| net.addr().is_ipv4() == pool.addr().is_ipv4())
        .map(|net| span(*net))
        .collect();
    in_pool.sort_unstable();
    let mut candidate = start;
    for (first, last) in in_pool {
        // Taken subnets come in ascending order: once one begins behind the candidate, so do the others.
        if first > candidate + (step - 1) {
            break;
        }
        if last >= candidate {
            candidate = (last / step + 1).checked_mul(step)?;
        }
    }
    let fits = candidate >= start && candidate.checked_add(step - 1)? <= end;
    fits.then(|| crate::subnet::net_from_bits(pool, candidate, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn takes_the_first_gap() {
        let pools = AddressPools::default();
        assert_eq!(pools.first_free(&[]), Some("10.0.0.0/24".parse().unwrap()));
        let taken = nets(&["10.0.0.0/24", "10.0.2.0/24", "192.168.0.0/16"]);
        assert_eq!(pools.first_free(&taken), Some("10.0.1.0/24".parse().unwrap()));
    }

    #[test]
    fn steps_over_larger_and_smaller_subnets() {
        let pools = AddressPools::default();
        let taken = nets(&["10.0.0.128/25", "10.0.1.0/24", "10.0.2.0/23", "10.1.0.0/16"]);
        assert_eq!(pools.first_free(&taken), Some("10.0.4.0/24".parse().unwrap()));
        assert_eq!(pools.first_free(&nets(&["10.0.0.0/9"])), Some("10.128.0.0/24".parse().unwrap()));
        assert_eq!(pools.first_free(&nets(&["0.0.0.0/0"])), None);
    }

    #[test]
    fn goes_on_to_the_next_pool() {
        let pools = AddressPools::new(&nets(&["10.1.0.0/24", "255.255.255.0/24"]), 25).unwrap();
        assert_eq!(pools.subnet_count(), 4);
        let mut taken = Vec::new();
        while let Some(subnet) = pools.first_free(&taken) {
            taken.push(subnet);
        }
        assert_eq!(taken, nets(&["10.1.0.0/25", "10.1.0.128/25", "255.255.255.0/25", "255.255.255.128/25"]));
    }

    /// The texts that a dockerd answered.
    #[test]
    fn refuses_in_dockers_words() {
        let refusal = |pool: &str, size| AddressPools::new(&nets(&[pool]), size).unwrap_err().to_string();
        assert_eq!(refusal("10.97.0.0/16", 33), "subnet size is out of range: 33");
        assert_eq!(
            refusal("10.97.0.0/24", 20),
            "invalid CIDR: \"10.97.0.0/24\". Subnet size is too small for pool: 20"
        );
        assert_eq!(
            refusal("fd00:77::/48", 0),
            "invalid CIDR: \"fd00:77::/48\". Subnet size is too small for pool: 24"
        );
    }
}
