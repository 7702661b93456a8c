//! Ports that services publish.

use std::collections::BTreeSet;

use weft_types::PortProtocol;
use weft_wire::swarmkit::{
    PortConfig, Service, ServiceSpec,
    port_config::{Protocol, PublishMode},
};

use super::AllocateError;
use super::networks::published;
use crate::{Allocator, Claim, Snapshot, Taken};

/// What services get that publish a port without saying which (Docker's range).
const DYNAMIC: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// Refuses a spec that publishes what another service has. `id` is empty for a new service.
///
/// Several services may publish one port on the nodes of their tasks: those are placed apart.
pub fn check_ports(snapshot: &dyn Snapshot, id: &str, spec: &ServiceSpec) -> Result<(), AllocateError> {
    let wanted = spec.endpoint.as_ref().map_or(&[][..], |endpoint| &endpoint.ports);
    let wanted: Vec<&PortConfig> = wanted.iter().filter(|port| port.published_port != 0).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    for service in snapshot.services().filter(|service| service.id != id) {
        let allocated = service.endpoint.as_ref().map_or(&[][..], |endpoint| &endpoint.ports);
        for held in published(service).iter().chain(allocated).filter(|port| port.published_port != 0) {
            if wanted.iter().any(|port| conflict(port, held)) {
                return Err(in_use(service, held));
            }
        }
    }
    Ok(())
}

fn conflict(a: &PortConfig, b: &PortConfig) -> bool {
    let is_host = |port: &PortConfig| port.publish_mode() == PublishMode::Host;
    a.protocol == b.protocol && a.published_port == b.published_port && !(is_host(a) && is_host(b))
}

fn in_use(service: &Service, port: &PortConfig) -> AllocateError {
    AllocateError::PortInUse {
        port: port.published_port,
        service: name_of(service),
        id: service.id.clone(),
        is_host_mode: port.publish_mode() == PublishMode::Host,
    }
}

fn name_of(service: &Service) -> String {
    let annotations = service.spec.as_ref().and_then(|spec| spec.annotations.as_ref());
    annotations.map(|annotations| annotations.name.clone()).unwrap_or_default()
}

/// The claim of a port published on all nodes; none for other ports.
pub(super) fn claim(port: &PortConfig) -> Option<Claim> {
    let number = u16::try_from(port.published_port).ok().filter(|number| *number != 0)?;
    (port.publish_mode() == PublishMode::Ingress)
        .then_some(Claim::Port { protocol: port.protocol, port: number })
}

/// A service's published ports as its spec orders them, each with a number.
pub(super) fn allocate(
    snapshot: &dyn Snapshot,
    allocator: &mut Allocator,
    taken: &dyn Taken,
    service: &Service,
) -> Result<Vec<PortConfig>, AllocateError> {
    let mut held: Vec<PortConfig> =
        service.endpoint.as_ref().map_or(&[][..], |endpoint| &endpoint.ports).to_vec();
    let is_held =
        |held: &[PortConfig], port: &PortConfig| held.iter().any(|other| claim(other) == claim(port));
    let mut ports = published(service).to_vec();
    for port in ports.iter().filter(|port| port.publish_mode() == PublishMode::Ingress) {
        protocol_of(port)?;
        let number =
            u16::try_from(port.published_port).map_err(|_| AllocateError::NotAPort(port.published_port))?;
        if number != 0 && !is_held(&held, port) && taken.is_port_taken(port.protocol, number) {
            return Err(holder(snapshot, service, port));
        }
    }
    // What the user now fixed is no longer there to be kept for a port that he left open.
    held.retain(|port| {
        port.publish_mode() == PublishMode::Ingress && !ports.iter().any(|fixed| claim(fixed) == claim(port))
    });
    let mut used: BTreeSet<(i32, u32)> = ports
        .iter()
        .filter(|port| port.published_port != 0)
        .map(|port| (port.protocol, port.published_port))
        .collect();
    let is_open =
        |port: &&mut PortConfig| port.publish_mode() == PublishMode::Ingress && port.published_port == 0;
    for port in ports.iter_mut().filter(is_open) {
        port.published_port = match held.iter().position(|kept| is_same(kept, port)) {
            Some(kept) => held.swap_remove(kept).published_port,
            None => next(snapshot, allocator, taken, service, port, &used)?.into(),
        };
        used.insert((port.protocol, port.published_port));
    }
    Ok(ports)
}

/// Whether two entries mean the same port of the service.
fn is_same(a: &PortConfig, b: &PortConfig) -> bool {
    (&a.name, a.protocol, a.target_port) == (&b.name, b.protocol, b.target_port)
}

/// The next free port behind the last one given, round at the end: a freed one rests as long as it can.
fn next(
    snapshot: &dyn Snapshot,
    allocator: &mut Allocator,
    taken: &dyn Taken,
    service: &Service,
    port: &PortConfig,
    used: &BTreeSet<(i32, u32)>,
) -> Result<u16, AllocateError> {
    let protocol = port.protocol;
    let (first, last) = (*DYNAMIC.start(), *DYNAMIC.end());
    let start = match allocator.last_ports.get(&protocol) {
        Some(given) if (first..last).contains(given) => given + 1,
        _ => first,
    };
    // A node where a task listens on the port itself could not publish it for the swarm.
    let on_hosts = host_mode_ports(snapshot, protocol);
    let is_free = |number: &u16| {
        !taken.is_port_taken(protocol, *number)
            && !used.contains(&(protocol, (*number).into()))
            && !on_hosts.contains(&(*number).into())
    };
    let found = (start..=last).chain(first..start).find(is_free);
    let exhausted = || {
        Ok(AllocateError::PortsExhausted {
            protocol: protocol_of(port)?,
            service: name_of(service),
            first,
            last,
            total: last - first + 1,
        })
    };
    let number = match found {
        Some(number) => number,
        None => return Err(exhausted().unwrap_or_else(|error: AllocateError| error)),
    };
    allocator.last_ports.insert(protocol, number);
    Ok(number)
}

fn host_mode_ports(snapshot: &dyn Snapshot, protocol: i32) -> BTreeSet<u32> {
    let mut ports = BTreeSet::new();
    for service in snapshot.services() {
        let on_hosts = |port: &&PortConfig| {
            port.publish_mode() == PublishMode::Host && port.protocol == protocol && port.published_port != 0
        };
        ports.extend(published(service).iter().filter(on_hosts).map(|port| port.published_port));
    }
    ports
}

/// Who has a port that is taken.
fn holder(snapshot: &dyn Snapshot, service: &Service, port: &PortConfig) -> AllocateError {
    let has = |other: &&std::sync::Arc<Service>| {
        let allocated = other.endpoint.as_ref().map_or(&[][..], |endpoint| &endpoint.ports);
        other.id != service.id && allocated.iter().any(|held| claim(held) == claim(port))
    };
    match snapshot.services().find(has) {
        Some(other) => in_use(other, port),
        // Claimed in this very transaction.
        None => AllocateError::PortInUse {
            port: port.published_port,
            service: String::new(),
            id: String::new(),
            is_host_mode: false,
        },
    }
}

fn protocol_of(port: &PortConfig) -> Result<PortProtocol, AllocateError> {
    match Protocol::try_from(port.protocol) {
        Ok(Protocol::Tcp) => Ok(PortProtocol::Tcp),
        Ok(Protocol::Udp) => Ok(PortProtocol::Udp),
        Ok(Protocol::Sctp) => Ok(PortProtocol::Sctp),
        Err(_) => Err(AllocateError::NotAProtocol(port.protocol)),
    }
}
