//! MTU arithmetic: what is left of an underlay packet for an overlay packet.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A maximum transmission unit in bytes, counted from the first byte of the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Mtu(u32);

/// A number that no IP link can have as its MTU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("MTU {0} is out of range: want 68 to 65535 bytes")]
pub struct MtuError(pub u32);

/// The address family that carries the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Underlay {
    /// Tunnel over IPv4.
    V4,
    /// Tunnel over IPv6.
    V6,
}

impl Underlay {
    /// The family of a tunnel endpoint address.
    pub fn of(vtep: IpAddr) -> Self {
        if vtep.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Bytes that VXLAN adds: outer IP header, UDP 8, VXLAN 8, inner Ethernet 14 (RFC 7348 section 5).
    pub fn vxlan_overhead(self) -> u32 {
        match self {
            Self::V4 => 20 + 8 + 8 + 14,
            Self::V6 => 40 + 8 + 8 + 14,
        }
    }
}

impl Mtu {
    /// Ethernet's default, and what Docker assumes of every underlay.
    pub const ETHERNET: Mtu = Mtu(1500);
    /// The least an IPv4 link may have (RFC 791).
    pub const MIN: Mtu = Mtu(68);
    /// The most an IP header can describe.
    pub const MAX: Mtu = Mtu(65535);

    /// The value in bytes.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The MTU of a VXLAN overlay over a path of this MTU; `None` when nothing useful is left.
    pub fn over_vxlan(self, underlay: Underlay) -> Option<Mtu> {
        Mtu::try_from(self.0.checked_sub(underlay.vxlan_overhead())?).ok()
    }
}

impl TryFrom<u32> for Mtu {
    type Error = MtuError;
    fn try_from(value: u32) -> Result<Self, MtuError> {
        if (Self::MIN.0..=Self::MAX.0).contains(&value) { Ok(Self(value)) } else { Err(MtuError(value)) }
    }
}

impl From<Mtu> for u32 {
    fn from(mtu: Mtu) -> u32 {
        mtu.0
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vxlan_takes_50_bytes_over_ipv4_and_70_over_ipv6() {
        assert_eq!(Mtu::ETHERNET.over_vxlan(Underlay::V4), Some(Mtu(1450)));
        assert_eq!(Mtu::ETHERNET.over_vxlan(Underlay::V6), Some(Mtu(1430)));
        assert_eq!(Mtu(100).over_vxlan(Underlay::V4), None);
    }
}
