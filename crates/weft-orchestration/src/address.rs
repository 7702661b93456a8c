//! Addresses of endpoints on a network.

use std::net::IpAddr;

use weft_types::EndpointAddress;
use weft_wire::swarmkit::Network;

use crate::network::{name_of, subnets_of};
use crate::subnet::Subnet;
use crate::{AllocationError, Allocator, Claim, Taken};

/// Addresses to write into an attachment, and what they need to hold alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressAllocation {
    /// IPv4 first; one per family that the network has.
    pub addresses: Vec<EndpointAddress>,
    /// To be claimed in the same transaction.
    pub claims: Vec<Claim>,
}

impl AddressAllocation {
    /// With prefix length, as `NetworkAttachment.addresses` wants them.
    pub fn to_texts(&self) -> Vec<String> {
        self.addresses.iter().map(EndpointAddress::to_string).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Allocator {
    /// One address of each family that the network has; `wanted` ones (with or without prefix length) as given.
    pub fn addresses(
        &mut self,
        network: &Network,
        wanted: &[String],
        taken: &(impl Taken + ?Sized),
    ) -> Result<AddressAllocation, AllocationError> {
        let subnets = subnets_of(network)?;
        if subnets.is_empty() {
            return Err(AllocationError::NotAllocated(name_of(network.spec.as_ref())));
        }
        let wanted = wanted.iter().filter(|text| !text.is_empty()).map(|text| parse_address(text));
        let wanted = wanted.collect::<Result<Vec<_>, _>>()?;
        let mut addresses = Vec::new();
        for address in &wanted {
            addresses.push(check_wanted(network, &subnets, *address, taken)?);
        }
        for family in [Family::V4, Family::V6] {
            let has = |address: &EndpointAddress| address.ip().is_ipv4() == (family == Family::V4);
            let of_family: Vec<&Subnet> =
                subnets.iter().filter(|subnet| subnet.is_ipv4() == (family == Family::V4)).collect();
            if of_family.is_empty() || addresses.iter().any(has) {
                continue;
            }
            addresses.push(self.next_address(network, family, &of_family, taken)?);
        }
        addresses.sort_by_key(|address| !address.ip().is_ipv4());
        let claim =
            |address: &EndpointAddress| Claim::Address { network: network.id.clone(), address: address.ip() };
        Ok(AddressAllocation { claims: addresses.iter().map(claim).collect(), addresses })
    }

    /// One address, IPv4 if the network has it: a service has one per network, and tools that show it know no more.
    pub(crate) fn virtual_address(
        &mut self,
        network: &Network,
        taken: &(impl Taken + ?Sized),
    ) -> Result<EndpointAddress, AllocationError> {
        let subnets = subnets_of(network)?;
        let has_v4 = subnets.iter().any(Subnet::is_ipv4);
        let of_family: Vec<&Subnet> = subnets.iter().filter(|subnet| subnet.is_ipv4() == has_v4).collect();
        if of_family.is_empty() {
            return Err(AllocationError::NotAllocated(name_of(network.spec.as_ref())));
        }
        let family = if has_v4 { Family::V4 } else { Family::V6 };
        self.next_address(network, family, &of_family, taken)
    }

    fn next_address(
        &mut self,
        network: &Network,
        family: Family,
        subnets: &[&Subnet],
        taken: &(impl Taken + ?Sized),
    ) -> Result<EndpointAddress, AllocationError> {
        let rotation = self.rotation(network, taken);
        for subnet in subnets {
            let next = rotation.next(subnet, |address| taken.is_address_taken(&network.id, address));
            if let Some(address) = next {
                return Ok(EndpointAddress::new(address, subnet.subnet));
            }
        }
        Err(exhausted(network, family, subnets))
    }
}

fn parse_address(text: &str) -> Result<IpAddr, AllocationError> {
    let address = text.split_once('/').map_or(text, |(address, _)| address);
    address.parse().map_err(|_| AllocationError::AddressSyntax(text.to_owned()))
}

fn check_wanted(
    network: &Network,
    subnets: &[Subnet],
    address: IpAddr,
    taken: &(impl Taken + ?Sized),
) -> Result<EndpointAddress, AllocationError> {
    let refused = || AllocationError::AddressTaken { address, network: name_of(network.spec.as_ref()) };
    if subnets.iter().any(|subnet| subnet.is_kept(address)) {
        return Err(refused());
    }
    let subnet = subnets
        .iter()
        .find(|subnet| subnet.gives(address))
        .ok_or_else(|| AllocationError::NoSubnetContains(address.to_string()))?;
    if taken.is_address_taken(&network.id, address) {
        return Err(refused());
    }
    Ok(EndpointAddress::new(address, subnet.subnet))
}

fn exhausted(network: &Network, family: Family, subnets: &[&Subnet]) -> AllocationError {
    let texts: Vec<String> =
        subnets.iter().map(|subnet| subnet.range.unwrap_or(subnet.subnet).to_string()).collect();
    AllocationError::AddressesExhausted {
        network: name_of(network.spec.as_ref()),
        id: network.id.clone(),
        family: if family == Family::V4 { "IPv4" } else { "IPv6" },
        total: subnets.iter().map(|subnet| subnet.capacity()).sum(),
        subnets: texts.join(", "),
    }
}
