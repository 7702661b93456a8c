//! Addresses of both families in one form.

use std::net::{IpAddr, Ipv6Addr};

/// An address as IPv6: one of IPv4 is mapped (RFC 4291, section 2.5.5.2).
pub fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}
