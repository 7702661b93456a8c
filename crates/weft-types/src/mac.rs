//! Ethernet addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use rand::RngCore;
use serde::{Deserialize, Serialize};

/// A 48-bit Ethernet address in transmission order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

/// A text that is no Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address: want six hexadecimal octets, for example 02:42:0a:00:01:08")]
pub struct MacError(pub String);

impl MacAddr {
    /// The address of an overlay endpoint: `02:42` and the four octets of its IPv4 address, as Docker derives it.
    pub fn from_ipv4(ip: Ipv4Addr) -> Self {
        let [a, b, c, d] = ip.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// As [`MacAddr::from_ipv4`]; for IPv6 `02:42` and the last four octets.
    pub fn from_ip(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::from_ipv4(v4),
            IpAddr::V6(v6) => {
                let o = v6.octets();
                Self([0x02, 0x42, o[12], o[13], o[14], o[15]])
            }
        }
    }

    /// A random unicast, locally administered address (IEEE 802, bits 0 and 1 of the first octet).
    pub fn random(rng: &mut impl RngCore) -> Self {
        let mut octets = [0u8; 6];
        rng.fill_bytes(&mut octets);
        octets[0] = (octets[0] & 0xfc) | 0x02;
        Self(octets)
    }

    /// Whether this can be the address of one station: not a group address and not all zero.
    pub fn is_unicast(&self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = MacError;
    fn from_str(text: &str) -> Result<Self, MacError> {
        let bad = || MacError(text.to_owned());
        let mut octets = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(bad)?;
            *octet = (part.bytes().all(|b| b.is_ascii_hexdigit()))
                .then(|| u8::from_str_radix(part, 16).ok())
                .flatten()
                .ok_or_else(bad)?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Self(octets)) }
    }
}

impl TryFrom<String> for MacAddr {
    type Error = MacError;
    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_ipv4_address() {
        let mac = MacAddr::from_ipv4(Ipv4Addr::new(10, 0, 1, 8));
        assert_eq!(mac.to_string(), "02:42:0a:00:01:08");
        assert_eq!("02:42:0a:00:01:08".parse(), Ok(mac));
    }

    #[test]
    fn refuses_what_is_no_address() {
        for bad in [
            "",
            "02:42",
            "02:42:0a:00:01:08:09",
            "02:42:0a:00:01:zz",
            "2:42:0a:00:01:08",
            "+2:42:0a:00:01:08",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn random_addresses_are_local_unicast() {
        let mut rng = rand::rng();
        for _ in 0..100 {
            let mac = MacAddr::random(&mut rng);
            assert!(mac.is_unicast());
            assert_eq!(mac.0[0] & 2, 2);
        }
    }
}
