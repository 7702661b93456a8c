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

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// In the order in which addresses are shown: nodes that know of one family only look for the first.
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
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
        for family in Family::ALL {
            let has = |address: &EndpointAddress| Family::of(address.ip()) == family;
            let of_family = of_family(&subnets, family);
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

    /// For a service: one of each family that the network has, but for those that it has one of already.
    pub(crate) fn virtual_addresses(
        &mut self,
        network: &Network,
        has: &[Family],
        taken: &(impl Taken + ?Sized),
    ) -> Result<Vec<EndpointAddress>, AllocationError> {
        let subnets = subnets_of(network)?;
        if subnets.is_empty() {
            return Err(AllocationError::NotAllocated(name_of(network.spec.as_ref())));
        }
        let mut addresses = Vec::new();
        for family in Family::ALL.into_iter().filter(|family| !has.contains(family)) {
            let of_family = of_family(&subnets, family);
            if !of_family.is_empty() {
                addresses.push(self.next_address(network, family, &of_family, taken)?);
            }
        }
        Ok(addresses)
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

fn of_family(subnets: &[Subnet], family: Family) -> Vec<&Subnet> {
    subnets.iter().filter(|subnet| subnet.is_ipv4() == (family == Family::V4)).collect()
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
