//! The address of an endpoint together with the length of its subnet's prefix.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// An interface address such as `10.0.1.3/24`: the host part is kept, unlike in a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EndpointAddress(IpNet);

impl EndpointAddress {
    /// The address `ip` in `subnet`.
    pub fn new(ip: IpAddr, subnet: IpNet) -> Self {
        let prefix = if ip.is_ipv4() == subnet.addr().is_ipv4() { subnet.prefix_len() } else { 0 };
        Self(IpNet::new(ip, prefix).unwrap_or_else(|_| IpNet::from(ip)))
    }

    /// The address without its prefix.
    pub fn ip(&self) -> IpAddr {
        self.0.addr()
    }

    /// Length of the subnet's prefix in bits.
    pub fn prefix_len(&self) -> u8 {
        self.0.prefix_len()
    }

    /// The subnet this address is in.
    pub fn subnet(&self) -> IpNet {
        self.0.trunc()
    }
}

impl FromStr for EndpointAddress {
    type Err = ipnet::AddrParseError;
    fn from_str(text: &str) -> Result<Self, ipnet::AddrParseError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
