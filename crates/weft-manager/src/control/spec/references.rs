//! What a service spec refers to: ports of all services, secrets, configs and networks.

use weft_orchestration::check_ports;
use weft_wire::swarmkit::{
    Annotations, Network, Service, ServiceSpec, endpoint_spec::ResolutionMode, port_config::PublishMode,
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
    let same_endpoint =
        |before: &Service| before.spec.as_ref().is_some_and(|it| it.endpoint == spec.endpoint);
    if !before.is_some_and(same_endpoint) {
        check_ports(view, before.map_or("", |service| service.id.as_str()), spec)
            .map_err(ServiceProblem::from)?;
    }
    if needs_ingress(spec) {
        let ingress = view.networks().find(|network| is_ingress(network)).ok_or(ControlError::NoIngress)?;
        transaction.require(ObjectKind::Network, &ingress.id, version_of(ingress.meta.as_ref()));
    }
    let networks = spec.task.iter().flat_map(|task| &task.networks).chain(&spec.networks);
    for network in networks.filter_map(|attachment| view.network(&attachment.target)) {
        transaction.require(ObjectKind::Network, &network.id, version_of(network.meta.as_ref()));
    }
    check_files(view, transaction, spec).map_err(ControlError::from)
}

fn check_files(view: &View, transaction: &mut Transaction, spec: &ServiceSpec) -> Result<(), ServiceProblem> {
    let Some(container) = container(spec) else { return Ok(()) };
    let mut missing = Vec::new();
    for reference in &container.secrets {
        let secret = view.secret(&reference.secret_id);
        let annotations = secret.and_then(|secret| secret.spec.as_ref()?.annotations.as_ref());
        match secret.filter(|_| is_named(annotations, &reference.secret_name)) {
            Some(secret) => {
                transaction.require(ObjectKind::Secret, &secret.id, version_of(secret.meta.as_ref()));
            }
            None => missing.push(reference.secret_name.clone()),
        }
    }
    if !missing.is_empty() {
        return Err(ServiceProblem::Unknown { kind: "secret", names: missing });
    }
    for reference in &container.configs {
        let config = view.config(&reference.config_id);
        let annotations = config.and_then(|config| config.spec.as_ref()?.annotations.as_ref());
        match config.filter(|_| is_named(annotations, &reference.config_name)) {
            Some(config) => {
                transaction.require(ObjectKind::Config, &config.id, version_of(config.meta.as_ref()));
            }
            None => missing.push(reference.config_name.clone()),
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(ServiceProblem::Unknown { kind: "config", names: missing }) }
}

fn is_named(annotations: Option<&Annotations>, name: &str) -> bool {
    annotations.is_some_and(|annotations| annotations.name == name)
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
    { attachments }.any(|attachment| attachment.target == network.id)
        || (is_ingress(network) && needs_ingress(spec))
}
