//! Which networks a service and its tasks are on.

use std::borrow::Cow;
use std::collections::BTreeMap;

use weft_wire::swarmkit::{
    Annotations, Driver, IpamOptions, Network, NetworkAttachmentConfig, NetworkSpec, PortConfig, Service,
    Task, port_config::PublishMode,
};

use super::AllocateError;
use crate::Snapshot;
use crate::network::{is_node_local, name_of};

/// Marks networks that every node has of its own.
const PREDEFINED_LABEL: &str = "com.docker.swarm.predefined";
/// How the ingress network was marked before specs said so.
const INTERNAL_LABEL: &str = "com.docker.swarm.internal";
const INGRESS: &str = "ingress";
/// Names and drivers of the networks that every node has of its own.
const PREDEFINED: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];

/// The network that every node has of its own under this name, as a network of the swarm; its name is its id.
///
/// Services may name it although the swarm stores none. Tasks on it get no address from the managers.
pub fn predefined_network(name: &str) -> Option<Network> {
    let (_, driver) = PREDEFINED.into_iter().find(|(known, _)| *known == name)?;
    let driver = Driver { name: driver.to_owned(), ..Driver::default() };
    let labels = BTreeMap::from([(PREDEFINED_LABEL.to_owned(), "true".to_owned())]);
    Some(Network {
        id: name.to_owned(),
        spec: Some(NetworkSpec {
            annotations: Some(Annotations { name: name.to_owned(), labels, ..Annotations::default() }),
            driver_config: Some(driver.clone()),
            ..NetworkSpec::default()
        }),
        driver_state: Some(driver),
        // Docker's nodes read it without asking whether it is there.
        ipam: Some(IpamOptions { driver: Some(Driver::default()), ..IpamOptions::default() }),
        ..Network::default()
    })
}

/// By id, else by name: SwarmKit's order.
pub(super) fn find<'a>(snapshot: &'a dyn Snapshot, target: &str) -> Result<Cow<'a, Network>, AllocateError> {
    if let Some(network) = snapshot.network(target) {
        return Ok(Cow::Borrowed(network));
    }
    if let Some(network) = snapshot.networks().find(|network| name_of(network.spec.as_ref()) == target) {
        return Ok(Cow::Borrowed(network));
    }
    let predefined = predefined_network(target).map(Cow::Owned);
    predefined.ok_or_else(|| AllocateError::NoSuchNetwork(target.to_owned()))
}

/// The network that carries ports published on all nodes.
pub(super) fn ingress(snapshot: &dyn Snapshot) -> Result<Cow<'_, Network>, AllocateError> {
    let found = snapshot.networks().find(|network| is_ingress(network));
    found.map(|network| Cow::Borrowed(network.as_ref())).ok_or(AllocateError::NoIngressNetwork)
}

fn is_ingress(network: &Network) -> bool {
    let Some(spec) = network.spec.as_ref() else { return false };
    let is_marked = |annotations: &Annotations| {
        annotations.name == INGRESS && annotations.labels.contains_key(INTERNAL_LABEL)
    };
    spec.ingress || spec.annotations.as_ref().is_some_and(is_marked)
}

/// Whether a service publishes ports on all nodes.
pub(super) fn needs_ingress(service: &Service) -> bool {
    published(service).iter().any(|port| port.publish_mode() == PublishMode::Ingress)
}

/// The ports that a service's spec publishes.
pub(super) fn published(service: &Service) -> &[PortConfig] {
    let endpoint = service.spec.as_ref().and_then(|spec| spec.endpoint.as_ref());
    endpoint.map_or(&[], |endpoint| &endpoint.ports)
}

/// Where a service's spec says which networks its tasks are on: with the task, or in the place that was before.
pub(super) fn service_networks(service: &Service) -> &[NetworkAttachmentConfig] {
    let Some(spec) = service.spec.as_ref() else { return &[] };
    match spec.task.as_ref().map(|task| task.networks.as_slice()) {
        Some(networks) if !networks.is_empty() => networks,
        _ => &spec.networks,
    }
}

/// Which networks a task is on by its own spec, else by its service's.
pub(super) fn task_networks<'a>(
    task: &'a Task,
    service: Option<&'a Service>,
) -> &'a [NetworkAttachmentConfig] {
    match task.spec.as_ref().map(|spec| spec.networks.as_slice()) {
        Some(networks) if !networks.is_empty() => networks,
        _ => service.and_then(|service| service.spec.as_ref()).map_or(&[], |spec| &spec.networks),
    }
}

/// Whether the managers give addresses on this network.
pub(super) fn has_addresses(network: &Network) -> bool {
    !is_node_local(network)
}
