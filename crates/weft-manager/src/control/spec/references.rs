//! What a service spec refers to: ports of all services, secrets, configs and networks.

use std::collections::BTreeMap;

use weft_wire::swarmkit::{
    Network, PortConfig, Service, ServiceSpec, endpoint_spec::ResolutionMode, port_config::PublishMode,
};

use super::{ServiceProblem, ports};
use crate::control::files::container;
use crate::error::ControlError;
use crate::store::{ObjectKind, Transaction, View, version_of};

/// Refuses references to what is not there and ports that others hold, and makes the transaction depend on what is.
pub(in crate::control) fn check(
    view: &View,
    transaction: &mut Transaction,
    spec: &ServiceSpec,
    before: Option<&Service>,
) -> Result<(), ControlError> {
    let same_endpoint = |before: &Service| before.spec.as_ref().is_some_and(|it| it.endpoint == spec.endpoint);
    if !before.is_some_and(same_endpoint) {
        check_ports(view, spec, before.map_or("", |service| service.id.as_str()))
            .map_err(ControlError::InvalidService)?;
    }
    if needs_ingress(spec) {
        let ingress = view.networks().find(|network| is_ingress(network)).ok_or(ControlError::NoIngress)?;
        transaction.require(ObjectKind::Network, &ingress.id, version_of(ingress.meta.as_ref()));
    }
    let networks = spec.task.iter().flat_map(|task| &task.networks).chain(&spec.networks);
    for network in networks.filter_map(|attachment| view.network(&attachment.target)) {
        transaction.require(ObjectKind::Network, &network.id, version_of(network.meta.as_ref()));
    }
    check_files(view, transaction, spec).map_err(ControlError::InvalidService)
}

fn check_files(view: &View, transaction: &mut Transaction, spec: &ServiceSpec) -> Result<(), ServiceProblem> {
    let Some(container) = container(spec) else { return Ok(()) };
    let mut names = Vec::new();
    for reference in &container.secrets {
        let named = |name: &str| name == reference.secret_name;
        match view.secret(&reference.secret_id).filter(|secret| {
            secret.spec.as_ref().and_then(|spec| spec.annotations.as_ref()).is_some_and(|it| named(&it.name))
        }) {
            Some(secret) => {
                transaction.require(ObjectKind::Secret, &secret.id, version_of(secret.meta.as_ref()));
            }
            None => names.push(reference.secret_name.clone()),
        }
    }
    if !names.is_empty() {
        return Err(ServiceProblem::Unknown { kind: "secret", names });
    }
    for reference in &container.configs {
        let named = |name: &str| name == reference.config_name;
        match view.config(&reference.config_id).filter(|config| {
            config.spec.as_ref().and_then(|spec| spec.annotations.as_ref()).is_some_and(|it| named(&it.name))
        }) {
            Some(config) => {
                transaction.require(ObjectKind::Config, &config.id, version_of(config.meta.as_ref()));
            }
            None => names.push(reference.config_name.clone()),
        }
    }
    match names.is_empty() {
        true => Ok(()),
        false => Err(ServiceProblem::Unknown { kind: "config", names }),
    }
}

/// A port published on all nodes excludes every other use of it; on hosts it may be published by many services, and
/// the scheduler keeps them apart.
fn check_ports(view: &View, spec: &ServiceSpec, own_id: &str) -> Result<(), ServiceProblem> {
    let wanted: BTreeMap<(i32, u32), PublishMode> = ports(spec)
        .filter(|port| port.published_port != 0)
        .map(|port| ((port.protocol, port.published_port), port.publish_mode()))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    for service in view.services().filter(|service| service.id != own_id) {
        if let Some((port, host)) = conflicting(&wanted, service) {
            let annotations = service.spec.as_ref().and_then(|spec| spec.annotations.as_ref());
            let name = annotations.map(|it| it.name.clone()).unwrap_or_default();
            return Err(ServiceProblem::PortInUse { port, name, id: service.id.clone(), host });
        }
    }
    Ok(())
}

/// A port of the other service that excludes a wanted one, and whether it is published on hosts only.
fn conflicting(wanted: &BTreeMap<(i32, u32), PublishMode>, service: &Service) -> Option<(u32, bool)> {
    let specified = service.spec.iter().flat_map(ports);
    let given = service.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
    let conflicts = |port: &&PortConfig| {
        port.published_port != 0
            && wanted.get(&(port.protocol, port.published_port)).is_some_and(|mode| {
                port.publish_mode() == PublishMode::Ingress || *mode == PublishMode::Ingress
            })
    };
    specified
        .chain(given)
        .find(conflicts)
        .map(|port| (port.published_port, port.publish_mode() == PublishMode::Host))
}

/// Whether the service publishes a port on all nodes.
fn needs_ingress(spec: &ServiceSpec) -> bool {
    let balanced = spec.endpoint.as_ref().is_some_and(|endpoint| endpoint.mode() == ResolutionMode::Vip);
    balanced && ports(spec).any(|port| port.publish_mode() == PublishMode::Ingress)
}

/// Whether a network is the one that ports are published on.
pub(crate) fn is_ingress(network: &Network) -> bool {
    network.spec.as_ref().is_some_and(|spec| spec.ingress)
}

/// Whether a service's spec uses a network.
pub(crate) fn network_uses(service: &Service, network: &Network) -> bool {
    let Some(spec) = &service.spec else { return false };
    let attachments = spec.task.iter().flat_map(|task| &task.networks).chain(&spec.networks);
    { attachments }.any(|attachment| attachment.target == network.id) || (is_ingress(network) && needs_ingress(spec))
}
