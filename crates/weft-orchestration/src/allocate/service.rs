//! Virtual addresses and published ports of a service.

use std::collections::BTreeSet;

use weft_wire::swarmkit::{
    Endpoint, EndpointSpec, Network, Service, endpoint::VirtualIp, endpoint_spec::ResolutionMode,
};

use super::networks::{find, has_addresses, ingress, needs_ingress, published, service_networks};
use super::{AllocateError, Allocated, ports};
use crate::address::Family;
use crate::{Allocator, Claim, Snapshot, Taken};

/// Gives a service what its spec asks for, and takes what it no longer asks for.
///
/// `taken` must include what was claimed before in the same transaction.
pub fn allocate_service(
    snapshot: &dyn Snapshot,
    allocator: &mut Allocator,
    taken: &dyn Taken,
    service: &mut Service,
) -> Result<Allocated, AllocateError> {
    if !needs_endpoint(service) {
        return Ok(Allocated::default());
    }
    let endpoint = Endpoint {
        spec: endpoint_spec(service).cloned(),
        ports: ports::allocate(snapshot, allocator, taken, service)?,
        virtual_ips: virtual_ips(snapshot, allocator, taken, service)?,
    };
    if service.endpoint.as_ref() == Some(&endpoint) {
        return Ok(Allocated::default());
    }
    let before: BTreeSet<Claim> = service_claims(service).into_iter().collect();
    service.endpoint = Some(endpoint);
    let after: BTreeSet<Claim> = service_claims(service).into_iter().collect();
    let releases: Vec<Claim> = before.difference(&after).cloned().collect();
    allocator.rest(&releases);
    Ok(Allocated { is_changed: true, claims: after.difference(&before).cloned().collect(), releases })
}

/// All that a service holds.
pub fn service_claims(service: &Service) -> Vec<Claim> {
    let Some(endpoint) = service.endpoint.as_ref() else { return Vec::new() };
    let addresses = endpoint.virtual_ips.iter().filter_map(|ip| super::task::claim(&ip.network_id, &ip.addr));
    addresses.chain(endpoint.ports.iter().filter_map(ports::claim)).collect()
}

fn endpoint_spec(service: &Service) -> Option<&EndpointSpec> {
    service.spec.as_ref().and_then(|spec| spec.endpoint.as_ref())
}

/// Tasks are found by their own addresses, the service has none.
fn is_dnsrr(service: &Service) -> bool {
    endpoint_spec(service).is_some_and(|spec| spec.mode() == ResolutionMode::Dnsrr)
}

/// A service that asks for nothing has no endpoint, as in SwarmKit; one that had something keeps an empty one.
fn needs_endpoint(service: &Service) -> bool {
    service.endpoint.is_some()
        || !published(service).is_empty()
        || !(is_dnsrr(service) || service_networks(service).is_empty())
}

/// One per network and family: those it has in their order, then what is new.
///
/// Of a network's, IPv4 comes first: Docker's nodes take the first that they find and know of no other
/// (`containerConfig.virtualIP`). A service made when networks gave one only gets the other behind all that it has.
fn virtual_ips(
    snapshot: &dyn Snapshot,
    allocator: &mut Allocator,
    taken: &dyn Taken,
    service: &Service,
) -> Result<Vec<VirtualIp>, AllocateError> {
    if is_dnsrr(service) {
        return Ok(Vec::new());
    }
    let mut wanted = Vec::new();
    if needs_ingress(service) {
        wanted.push(ingress(snapshot)?);
    }
    for config in service_networks(service) {
        let network = find(snapshot, &config.target)?;
        if wanted.iter().all(|other| other.id != network.id) {
            wanted.push(network);
        }
    }
    let had = service.endpoint.as_ref().map_or(&[][..], |endpoint| &endpoint.virtual_ips);
    let mut ips: Vec<VirtualIp> =
        had.iter().filter(|ip| wanted.iter().any(|network| network.id == ip.network_id)).cloned().collect();
    for network in wanted {
        let missing = missing(allocator, taken, &network, &ips)?;
        ips.extend(missing);
    }
    Ok(ips)
}

/// What a service lacks on a network. One that the nodes have of their own is named without an address.
fn missing(
    allocator: &mut Allocator,
    taken: &dyn Taken,
    network: &Network,
    ips: &[VirtualIp],
) -> Result<Vec<VirtualIp>, AllocateError> {
    let own: Vec<&VirtualIp> = ips.iter().filter(|ip| ip.network_id == network.id).collect();
    let with = |addr: String| VirtualIp { network_id: network.id.clone(), addr };
    if !has_addresses(network) {
        return Ok(if own.is_empty() { vec![with(String::new())] } else { Vec::new() });
    }
    let has: Vec<Family> =
        own.iter().filter_map(|ip| super::task::address(&ip.addr)).map(Family::of).collect();
    let given = allocator.virtual_addresses(network, &has, taken)?;
    Ok(given.into_iter().map(|address| with(address.to_string())).collect())
}
