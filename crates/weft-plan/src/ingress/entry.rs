//! A node as the place where connections enter.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use weft_types::MacAddr;

/// First octets of entries' Ethernet addresses: locally administered, and not those of containers (`02:42`).
const MAC_OF_V4: [u8; 2] = [0x0e, 0x77];
const MAC_OF_V6: u8 = 0x0a;

/// A Weft node, by its data-path address. All that others need to send to it follows from that, so it is written the
/// same on every node without being told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntryNode(pub IpAddr);

impl EntryNode {
    /// Its Ethernet address on the ingress network.
    pub fn mac(self) -> MacAddr {
        match self.0 {
            IpAddr::V4(v4) => {
                let ([x, y], [a, b, c, d]) = (MAC_OF_V4, v4.octets());
                MacAddr([x, y, a, b, c, d])
            }
            IpAddr::V6(v6) => {
                let [.., a, b, c, d, e] = hash(&v6.octets()).to_be_bytes();
                MacAddr([MAC_OF_V6, a, b, c, d, e])
            }
        }
    }

    /// The mark of its connections in a task's namespace, and the number of the routing table for their answers. It does
    /// not change when other nodes come and go, because connections keep it. Never a number of the kernel's own tables.
    pub fn mark(self) -> u32 {
        match self.0 {
            IpAddr::V4(v4) => v4.to_bits(),
            IpAddr::V6(v6) => 0x8000_0000 | fold(hash(&v6.octets())),
        }
    }

    /// The address that stands for it as a next hop in a task's namespace, never asked for and in no packet: for IPv4 the
    /// data-path address itself, or one of the reserved range 240.0.0.0/4 (RFC 1112) where that is IPv6; for IPv6 a
    /// link-local address made of the Ethernet address.
    pub fn next_hop(self, ipv6: bool) -> IpAddr {
        match (ipv6, self.0) {
            (false, IpAddr::V4(v4)) => v4.into(),
            (false, IpAddr::V6(v6)) => {
                // Not the broadcast address, 255.255.255.255.
                Ipv4Addr::from_bits(0xf000_0000 | (fold(hash(&v6.octets())) & 0x0eff_ffff)).into()
            }
            (true, _) => {
                let [a, b, c, d, e, f] = self.mac().0.map(u16::from);
                let high = (a ^ 2) << 8 | b;
                Ipv6Addr::new(0xfe80, 0, 0, 0, high, c << 8 | 0xff, 0xfe00 | d, e << 8 | f).into()
            }
        }
    }

    /// The source address for connections whose own means nothing to other nodes: the data-path address where the family
    /// fits, else one that only this mesh uses. It need not be the node's: answers are translated back before
    /// they are routed.
    pub fn source(self, ipv6: bool) -> IpAddr {
        match (ipv6, self.0) {
            (false, IpAddr::V4(v4)) => v4.into(),
            (false, IpAddr::V6(v6)) => {
                let [.., a, b] = hash(&v6.octets()).to_be_bytes();
                Ipv4Addr::new(169, 254, 1 + a % 254, b).into()
            }
            (true, IpAddr::V6(v6)) => v6.into(),
            (true, IpAddr::V4(v4)) => {
                // A unique local prefix (RFC 4193) with the letters `weft` in its identifier.
                let [a, b, c, d] = v4.octets().map(u16::from);
                Ipv6Addr::new(0xfd77, 0x6566, 0x7400, 0, 0, 0, a << 8 | b, c << 8 | d).into()
            }
        }
    }
}

/// FNV-1a, 64 bits.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn fold(hash: u64) -> u32 {
    let [a, b, c, d, e, f, g, h] = hash.to_be_bytes();
    u32::from_be_bytes([a ^ e, b ^ f, c ^ g, d ^ h])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn node(ip: &str) -> EntryNode {
        EntryNode(ip.parse().unwrap())
    }

    #[test]
    fn what_follows_from_an_ipv4_address() {
        let node = node("192.0.2.1");
        assert_eq!(node.mac().to_string(), "0e:77:c0:00:02:01");
        assert_eq!(node.mark(), 0xc000_0201);
        assert_eq!(node.next_hop(false).to_string(), "192.0.2.1");
        assert_eq!(node.next_hop(true).to_string(), "fe80::c77:c0ff:fe00:201");
        assert_eq!(node.source(false).to_string(), "192.0.2.1");
        assert_eq!(node.source(true).to_string(), "fd77:6566:7400::c000:201");
    }

    #[test]
    fn ipv6_nodes_are_told_apart() {
        let nodes: Vec<EntryNode> =
            (1..=500).map(|n| EntryNode(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n).into())).collect();
        let different = |count: usize| assert_eq!(count, nodes.len());
        different(nodes.iter().map(|n| n.mac()).collect::<BTreeSet<_>>().len());
        different(nodes.iter().map(|n| n.mark()).collect::<BTreeSet<_>>().len());
        different(nodes.iter().map(|n| n.next_hop(false)).collect::<BTreeSet<_>>().len());
        for node in nodes {
            assert!(node.mac().is_unicast());
            assert_ne!(node.next_hop(false), IpAddr::from(Ipv4Addr::BROADCAST));
            assert!(node.next_hop(true).to_string().starts_with("fe80::"));
            assert!(matches!(node.source(false), IpAddr::V4(v4) if v4.is_link_local()));
        }
    }
}
