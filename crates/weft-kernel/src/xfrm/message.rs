//! What messages about ESP are made of (linux/xfrm.h). Ports, SPIs and addresses are big endian, all else is the machine's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const XFRM_MSG_NEWSA: u16 = 0x10;
pub(super) const XFRM_MSG_DELSA: u16 = 0x11;
pub(super) const XFRM_MSG_GETSA: u16 = 0x12;
pub(super) const XFRM_MSG_DELPOLICY: u16 = 0x14;
pub(super) const XFRM_MSG_GETPOLICY: u16 = 0x15;
pub(super) const XFRM_MSG_UPDPOLICY: u16 = 0x19;

pub(super) const XFRMA_ENCAP: u16 = 4;
pub(super) const XFRMA_TMPL: u16 = 5;
pub(super) const XFRMA_REPLAY_VAL: u16 = 10;
pub(super) const XFRMA_ALG_AEAD: u16 = 18;
pub(super) const XFRMA_REPLAY_ESN_VAL: u16 = 23;

pub(super) const IPPROTO_UDP: u8 = 17;
pub(super) const IPPROTO_ESP: u8 = 50;
pub(super) const XFRM_MODE_TRANSPORT: u8 = 0;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// No limit (`XFRM_INF`).
const UNLIMITED: u64 = u64::MAX;
/// Length of `struct xfrm_lifetime_cur`.
const LIFETIME_NOW: usize = 32;

/// A structure being filled, field after field.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub(super) fn be16(&mut self, value: u16) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn be32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn zeros(&mut self, count: usize) -> &mut Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    /// `xfrm_address_t`: one of IPv4 stands at its begin.
    pub(super) fn address(&mut self, ip: IpAddr) -> &mut Self {
        match ip {
            IpAddr::V4(ip) => {
                self.0.extend(ip.octets());
                self.zeros(12)
            }
            IpAddr::V6(ip) => {
                self.0.extend(ip.octets());
                self
            }
        }
    }

    /// `struct xfrm_id`.
    pub(super) fn id(&mut self, to: IpAddr, spi: u32) -> &mut Self {
        self.address(to).be32(spi).u8(IPPROTO_ESP).zeros(3)
    }

    /// `struct xfrm_lifetime_cfg` without any limit, and `struct xfrm_lifetime_cur`, which the kernel fills. Of time zero
    /// is no limit.
    pub(super) fn lifetimes(&mut self) -> &mut Self {
        for limit in [UNLIMITED, UNLIMITED, UNLIMITED, UNLIMITED, 0, 0, 0, 0] {
            self.0.extend(limit.to_ne_bytes());
        }
        self.zeros(LIFETIME_NOW)
    }
}

pub(super) fn family(ip: IpAddr) -> u16 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// Fields of a structure, by their places in it; `None` where it is shorter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    fn at<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    pub(super) fn u8(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    pub(super) fn u16(&self, at: usize) -> Option<u16> {
        self.at(at).map(u16::from_ne_bytes)
    }

    pub(super) fn u32(&self, at: usize) -> Option<u32> {
        self.at(at).map(u32::from_ne_bytes)
    }

    pub(super) fn u64(&self, at: usize) -> Option<u64> {
        self.at(at).map(u64::from_ne_bytes)
    }

    pub(super) fn be16(&self, at: usize) -> Option<u16> {
        self.at(at).map(u16::from_be_bytes)
    }

    pub(super) fn be32(&self, at: usize) -> Option<u32> {
        self.at(at).map(u32::from_be_bytes)
    }

    pub(super) fn address(&self, at: usize, family: u16) -> Option<IpAddr> {
        match family {
            AF_INET => Some(Ipv4Addr::from(self.at::<4>(at)?).into()),
            AF_INET6 => Some(Ipv6Addr::from(self.at::<16>(at)?).into()),
            _ => None,
        }
    }
}
