//! What secrets and configs have in common: names, and services that use them.

use weft_wire::swarmkit::{Annotations, ContainerSpec, Service, ServiceSpec, task_spec::Runtime};

use crate::error::{ControlError, SpecProblem};
use crate::store::View;

/// SwarmKit's limit.
const MAX_NAME: usize = 64;

pub(super) fn check_name(annotations: Option<&Annotations>) -> Result<(), ControlError> {
    let name = annotations.map_or("", |annotations| annotations.name.as_str());
    let problem = if name.is_empty() {
        SpecProblem::FileNameMissing
    } else if name.len() > MAX_NAME || !is_well_formed(name) {
        SpecProblem::FileName
    } else {
        return Ok(());
    };
    Err(ControlError::InvalidSpec(problem))
}

fn is_well_formed(name: &str) -> bool {
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    ends(name.bytes().next()) && ends(name.bytes().next_back()) && name.bytes().all(inner)
}

/// The contents must be there and smaller than `limit` bytes.
pub(super) fn check_size(kind: &'static str, data: &[u8], limit: usize) -> Result<(), ControlError> {
    if data.is_empty() || data.len() >= limit {
        return Err(ControlError::InvalidSpec(SpecProblem::FileSize { kind, limit }));
    }
    Ok(())
}

/// Refuses while services use it by their container's spec.
pub(super) fn check_unused(
    view: &View,
    kind: &'static str,
    name: &str,
    uses: impl Fn(&ContainerSpec) -> bool,
) -> Result<(), ControlError> {
    let services: Vec<String> = view
        .services()
        .filter(|service| container_of(service).is_some_and(&uses))
        .map(|service| service_name(service).to_owned())
        .collect();
    if services.is_empty() {
        return Ok(());
    }
    Err(ControlError::FileInUse { kind, name: name.to_owned(), services })
}

fn container_of(service: &Service) -> Option<&ContainerSpec> {
    container(service.spec.as_ref()?)
}

/// The container that a service's tasks run.
pub(super) fn container(spec: &ServiceSpec) -> Option<&ContainerSpec> {
    match spec.task.as_ref()?.runtime.as_ref()? {
        Runtime::Container(container) => Some(container),
        _ => None,
    }
}

fn service_name(service: &Service) -> &str {
    let annotations = service.spec.as_ref().and_then(|spec| spec.annotations.as_ref());
    annotations.map_or("", |annotations| annotations.name.as_str())
}
