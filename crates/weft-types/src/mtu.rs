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

    /// The MTU of an encrypted VXLAN overlay of Weft's managers: ESP inside UDP (RFC 3948) with a check value of 16 bytes,
    /// the largest of what encrypts.
    pub fn over_encrypted_vxlan(self, underlay: Underlay) -> Option<Mtu> {
        const UDP: u32 = 8;
        const ICV: u32 = 16;
        self.inside_esp(underlay, UDP, ICV)
    }

    /// The same where Docker's nodes compute it: ESP without UDP, with a check value of 8 bytes.
    pub fn over_dockers_encrypted_vxlan(self, underlay: Underlay) -> Option<Mtu> {
        const ICV: u32 = 8;
        self.inside_esp(underlay, 0, ICV)
    }

    /// The inside of ESP with its two last bytes fills words of four (RFC 4303, section 2.4).
    fn inside_esp(self, underlay: Underlay, framing: u32, icv: u32) -> Option<Mtu> {
        const ESP_HEADER_AND_IV: u32 = 8 + 8;
        const TRAILER: u32 = 2;
        let vxlan = Underlay::V4.vxlan_overhead() - 20;
        let ip = underlay.vxlan_overhead() - vxlan;
        let inside = self.0.checked_sub(ip + framing + ESP_HEADER_AND_IV + icv)? / 4 * 4;
        Mtu::try_from(inside.checked_sub(TRAILER + vxlan)?).ok()
    }

    /// The data path for which Docker's nodes compute this MTU of an encrypted overlay: they subtract 76 bytes whatever
    /// the underlay, and what does not fill a word.
    pub fn dockers_encrypted_path(self) -> Option<Mtu> {
        Mtu::try_from(self.0.checked_add(76)?).ok()
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

    #[test]
    fn encryption_takes_42_more_and_what_does_not_fill_a_word() {
        assert_eq!(Mtu::ETHERNET.over_encrypted_vxlan(Underlay::V4), Some(Mtu(1408)));
        assert_eq!(Mtu::ETHERNET.over_encrypted_vxlan(Underlay::V6), Some(Mtu(1388)));
        assert_eq!(Mtu(150).over_encrypted_vxlan(Underlay::V4), None);
        for path in 1400..1520 {
            let inner = Mtu(path).over_encrypted_vxlan(Underlay::V4).unwrap();
            let on_the_wire = |inner: u32| 20 + 8 + 16 + (inner + 30 + 2).next_multiple_of(4) + 16;
            assert!(on_the_wire(inner.get()) <= path && on_the_wire(inner.get() + 1) > path, "{path}");
            // Docker's nodes come to the same by what they are told.
            let told = inner.dockers_encrypted_path().unwrap();
            assert_eq!((told.get() - 76) / 4 * 4, inner.get() / 4 * 4, "{path}");
            assert_eq!(told.over_dockers_encrypted_vxlan(Underlay::V4), Some(inner), "{path}");
        }
    }

    #[test]
    fn under_dockers_managers_it_is_1424() {
        assert_eq!(Mtu::ETHERNET.over_dockers_encrypted_vxlan(Underlay::V4), Some(Mtu(1424)));
        assert_eq!(Mtu(1476).over_dockers_encrypted_vxlan(Underlay::V4), Some(Mtu(1400)));
    }
}
