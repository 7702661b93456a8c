//! Unique local IPv6 prefixes of a swarm (RFC 4193), for networks with IPv6 but without an IPv6 subnet.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};

use crate::pools::first_free_in;

/// Prefix length of a site, RFC 4193 section 3.1.
const SITE_LEN: u8 = 48;
/// Prefix length of a network.
const SUBNET_LEN: u8 = 64;

/// The /48 that all automatic IPv6 subnets of a swarm lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UlaPrefix(Ipv6Net);

impl UlaPrefix {
    /// The prefix of a swarm. Its id is random, so 40 bits mixed from it serve as the random global id that
    /// RFC 4193 section 3.2.2 asks for, and stay the same for the swarm's life.
    pub fn of_swarm(cluster_id: &str) -> Self {
        // FNV-1a, 64 bits, folded: a mixing function, not a secret.
        let hash = cluster_id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let global_id = u128::from((hash ^ hash >> 40) & 0xff_ffff_ffff);
        let bits = 0xfd_u128 << 120 | global_id << 80;
        Self(Ipv6Net::new_assert(Ipv6Addr::from(bits), SITE_LEN))
    }

    /// The first /64 that overlaps none of `taken`.
    pub(crate) fn first_free(self, taken: &[IpNet]) -> Option<IpNet> {
        first_free_in(IpNet::V6(self.0), SUBNET_LEN, taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_stable_local_and_different_for_each_swarm() {
        let a = UlaPrefix::of_swarm("ujoueewgehgohd8dfa0hy7254");
        assert_eq!(a, UlaPrefix::of_swarm("ujoueewgehgohd8dfa0hy7254"));
        assert_ne!(a, UlaPrefix::of_swarm("ujoueewgehgohd8dfa0hy7255"));
        let first = a.first_free(&[]).unwrap();
        assert_eq!((first.prefix_len(), first.addr().to_string().starts_with("fd")), (64, true));
        let second = a.first_free(&[first]).unwrap();
        assert!(first != second && !first.contains(&second));
    }
}
