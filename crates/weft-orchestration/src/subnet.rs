//! One subnet of a network: which of its addresses containers may have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weft_wire::swarmkit::{IpamConfig, ipam_config::AddressFamily};

use crate::AllocationError;

/// A subnet whose gateway, range and reserved addresses were checked to lie inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subnet {
    pub(crate) subnet: IpNet,
    pub(crate) range: Option<IpNet>,
    pub(crate) gateway: IpAddr,
    pub(crate) reserved: BTreeMap<String, IpAddr>,
    /// Gateway and reserved addresses.
    kept: BTreeSet<IpAddr>,
}

impl Subnet {
    /// A subnet with nothing but a gateway, its first host address.
    pub(crate) fn plain(subnet: IpNet) -> Self {
        let gateway = from_bits(subnet, hosts(subnet).0);
        Self { subnet, range: None, gateway, reserved: BTreeMap::new(), kept: BTreeSet::from([gateway]) }
    }

    /// Reads and checks one entry of a network's configuration.
    pub(crate) fn parse(config: &IpamConfig) -> Result<Self, AllocationError> {
        let given: IpNet =
            config.subnet.parse().map_err(|_| AllocationError::SubnetSyntax(config.subnet.clone()))?;
        if given != given.trunc() {
            return Err(AllocationError::HostBits { given, network: given.trunc() });
        }
        let mut subnet = Self::plain(given);
        if !config.range.is_empty() {
            subnet.range = Some(parse_range(&config.range, given)?);
        }
        if !config.gateway.is_empty() {
            subnet.gateway = parse_member("gateway", &config.gateway, given)?;
        }
        for (name, address) in &config.reserved {
            let address = parse_member("auxiliary address", address, given)?;
            subnet.reserved.insert(name.clone(), address);
        }
        subnet.kept = subnet.reserved.values().copied().chain([subnet.gateway]).collect();
        Ok(subnet)
    }

    /// As stored in the network.
    pub(crate) fn to_config(&self) -> IpamConfig {
        let family = if self.is_ipv4() { AddressFamily::Ipv4 } else { AddressFamily::Ipv6 };
        IpamConfig {
            family: family.into(),
            subnet: self.subnet.to_string(),
            range: self.range.map(|range| range.to_string()).unwrap_or_default(),
            gateway: self.gateway.to_string(),
            reserved: self
                .reserved
                .iter()
                .map(|(name, address)| (name.clone(), address.to_string()))
                .collect(),
        }
    }

    pub(crate) fn is_ipv4(&self) -> bool {
        self.subnet.addr().is_ipv4()
    }

    /// Gateway and reserved addresses.
    pub(crate) fn kept(&self) -> impl Iterator<Item = IpAddr> {
        self.kept.iter().copied()
    }

    pub(crate) fn is_kept(&self, address: IpAddr) -> bool {
        self.kept.contains(&address)
    }

    /// First and last address for containers, as numbers.
    pub(crate) fn bounds(&self) -> (u128, u128) {
        let (first, last) = hosts(self.subnet);
        match self.range {
            None => (first, last),
            Some(range) => {
                let (range_first, range_last) = span(range);
                (first.max(range_first), last.min(range_last))
            }
        }
    }

    /// Whether containers may have this address: it is in the range and not kept.
    pub(crate) fn gives(&self, address: IpAddr) -> bool {
        let (first, last) = self.bounds();
        let same_family = address.is_ipv4() == self.is_ipv4();
        same_family && (first..=last).contains(&to_bits(address)) && !self.is_kept(address)
    }

    /// How many addresses there are for containers.
    pub(crate) fn capacity(&self) -> u128 {
        let (first, last) = self.bounds();
        if first > last {
            return 0;
        }
        let kept = self.kept().filter(|address| (first..=last).contains(&to_bits(*address))).count();
        // IPv6 /0 has one address more than fits; nobody fills it.
        (last - first).saturating_add(1) - kept as u128
    }

    /// The address with this number.
    pub(crate) fn address(&self, bits: u128) -> IpAddr {
        from_bits(self.subnet, bits)
    }
}

fn parse_member(what: &'static str, text: &str, subnet: IpNet) -> Result<IpAddr, AllocationError> {
    let address = text.parse().ok().filter(|address| subnet.contains(address));
    address.ok_or_else(|| AllocationError::OutsideSubnet { what, given: text.to_owned(), subnet })
}

fn parse_range(text: &str, subnet: IpNet) -> Result<IpNet, AllocationError> {
    let range = text.parse().ok().filter(|range| subnet.contains(range));
    range.ok_or_else(|| AllocationError::RangeOutsideSubnet { given: text.to_owned(), subnet })
}

pub(crate) fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn from_bits(family: IpNet, bits: u128) -> IpAddr {
    match family {
        IpNet::V4(_) => Ipv4Addr::from(bits as u32).into(),
        IpNet::V6(_) => Ipv6Addr::from(bits).into(),
    }
}

/// First and last address of a subnet, as numbers.
pub(crate) fn span(net: IpNet) -> (u128, u128) {
    (to_bits(net.network()), to_bits(net.broadcast()))
}

/// The subnet of `family` that begins at `bits`.
pub(crate) fn net_from_bits(family: IpNet, bits: u128, prefix_len: u8) -> IpNet {
    IpNet::new(from_bits(family, bits), prefix_len).expect("callers stay within the family's prefix lengths")
}

/// First and last address that a host can have: not the network and broadcast address of IPv4, not the
/// subnet-router anycast address of IPv6 (RFC 4291 section 2.6.1). Two-address subnets use both (RFC 3021, 6164).
fn hosts(net: IpNet) -> (u128, u128) {
    let (first, last) = span(net);
    if net.max_prefix_len() - net.prefix_len() < 2 {
        return (first, last);
    }
    (first + 1, if net.addr().is_ipv4() { last - 1 } else { last })
}

/// Whether two subnets share an address.
pub(crate) fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(subnet: &str) -> IpamConfig {
        IpamConfig { subnet: subnet.to_owned(), ..IpamConfig::default() }
    }

    #[test]
    fn the_first_host_is_the_gateway() {
        let subnet = Subnet::parse(&config("10.0.1.0/24")).unwrap();
        assert_eq!(subnet.gateway.to_string(), "10.0.1.1");
        assert_eq!(subnet.capacity(), 253);
        assert!(!subnet.gives("10.0.1.0".parse().unwrap()) && !subnet.gives("10.0.1.255".parse().unwrap()));
        let subnet = Subnet::parse(&config("fd00::/64")).unwrap();
        assert_eq!(subnet.gateway.to_string(), "fd00::1");
        assert!(subnet.gives("fd00::ffff:ffff:ffff:ffff".parse().unwrap()));
    }

    #[test]
    fn range_and_reserved_addresses_are_kept() {
        let subnet = Subnet::parse(&IpamConfig {
            range: "10.50.0.128/25".into(),
            gateway: "10.50.0.9".into(),
            reserved: BTreeMap::from([("h".to_owned(), "10.50.0.200".to_owned())]),
            ..config("10.50.0.0/24")
        })
        .unwrap();
        assert_eq!(subnet.bounds(), (0x0a32_0080, 0x0a32_00fe));
        assert_eq!(subnet.capacity(), 126);
        assert!(!subnet.gives("10.50.0.200".parse().unwrap()));
        assert_eq!(Subnet::parse(&subnet.to_config()), Ok(subnet));
    }

    #[test]
    fn refuses_in_dockers_words() {
        let refusal = |config: &IpamConfig| Subnet::parse(config).unwrap_err().to_string();
        let prefix = "invalid network config:\n";
        for (subnet, text) in [
            ("foo", "invalid subnet foo: invalid CIDR block notation"),
            ("10.99.1.0/33", "invalid subnet 10.99.1.0/33: invalid CIDR block notation"),
            ("", "invalid subnet : invalid CIDR block notation"),
            ("10.99.3.5/24", "invalid subnet 10.99.3.5/24: it should be 10.99.3.0/24"),
        ] {
            assert_eq!(refusal(&config(subnet)), format!("{prefix}{text}"));
        }
        assert_eq!(
            refusal(&IpamConfig { gateway: "10.99.5.1".into(), ..config("10.99.4.0/24") }),
            format!(
                "{prefix}invalid gateway 10.99.5.1: parent subnet 10.99.4.0/24 doesn't contain this address"
            )
        );
        assert_eq!(
            refusal(&IpamConfig { range: "10.88.0.0/24".into(), ..config("10.99.4.0/24") }),
            format!(
                "{prefix}invalid ip-range 10.88.0.0/24: parent subnet 10.99.4.0/24 doesn't contain ip-range"
            )
        );
    }
}
