//! What a lab is to be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::LabError;

/// How the hosts are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Topology {
    /// All on one segment: `10.99.0.N/24` and `fd99::N/64`.
    Bridged,
    /// Each in its own subnet behind one router: `10.99.N.2/24` and `fd99:N::2/64`, the router has `.1`.
    Routed,
}

/// Name, size and shape of a lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LabSpec {
    /// 1 to 8 letters, digits or dashes; part of namespace names.
    pub name: String,
    /// Number of hosts; they are called `h1`, `h2` …
    pub hosts: usize,
    /// How they are connected.
    pub topology: Topology,
}

const MAX_HOSTS: usize = 100;
const MAX_NAME: usize = 8;

impl LabSpec {
    /// A lab with all hosts on one segment.
    pub fn bridged(name: &str, hosts: usize) -> Self {
        Self { name: name.to_owned(), hosts, topology: Topology::Bridged }
    }

    /// A lab with each host in its own subnet.
    pub fn routed(name: &str, hosts: usize) -> Self {
        Self { name: name.to_owned(), hosts, topology: Topology::Routed }
    }

    pub(crate) fn check(&self) -> Result<(), LabError> {
        let valid = (1..=MAX_NAME).contains(&self.name.len())
            && self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !valid {
            return Err(LabError::Name(self.name.clone()));
        }
        if !(1..=MAX_HOSTS).contains(&self.hosts) {
            return Err(LabError::Hosts(self.hosts));
        }
        Ok(())
    }

    /// Names of the hosts with their number, from 1.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = (u8, String)> {
        (1..=self.hosts as u8).map(|n| (n, format!("h{n}")))
    }

    pub(crate) fn ipv4(&self, n: u8) -> Ipv4Addr {
        match self.topology {
            Topology::Bridged => Ipv4Addr::new(10, 99, 0, n),
            Topology::Routed => Ipv4Addr::new(10, 99, n, 2),
        }
    }

    pub(crate) fn ipv6(&self, n: u8) -> Ipv6Addr {
        match self.topology {
            Topology::Bridged => Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, n.into()),
            Topology::Routed => Ipv6Addr::new(0xfd99, n.into(), 0, 0, 0, 0, 0, 2),
        }
    }

    /// The router's addresses in a host's subnet.
    pub(crate) fn router(&self, n: u8) -> [IpAddr; 2] {
        [
            IpAddr::V4(Ipv4Addr::new(10, 99, n, 1)),
            IpAddr::V6(Ipv6Addr::new(0xfd99, n.into(), 0, 0, 0, 0, 0, 1)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_must_fit_interface_names() {
        assert!(LabSpec::bridged("demo", 2).check().is_ok());
        for bad in ["", "much-too-long", "a/b", "a b"] {
            assert!(LabSpec::bridged(bad, 2).check().is_err(), "{bad}");
        }
        assert!(LabSpec::bridged("a", 0).check().is_err());
    }
}
