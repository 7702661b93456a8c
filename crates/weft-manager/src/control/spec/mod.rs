//! The rules of service specs: first those of the spec alone, then those that the store decides.

mod image;
mod problem;
mod references;
mod task;

use std::collections::BTreeSet;

use weft_wire::swarmkit::{
    EndpointSpec, NetworkAttachmentConfig, PortConfig, Service, ServiceSpec, UpdateConfig,
    endpoint_spec::ResolutionMode, port_config::PublishMode, service_spec::Mode,
};

pub use problem::ServiceProblem;
pub(super) use references::check as check_references;
pub(crate) use references::{is_ingress, network_uses};

use super::services::is_job;
use crate::error::ControlError;
use crate::network;
use crate::store::View;

/// Networks that every node has of its own.
const NODE_LOCAL: [&str; 3] = ["host", "bridge", "none"];

/// The rules that need nothing but the spec, in SwarmKit's order.
pub(super) fn check(spec: &ServiceSpec) -> Result<(), ControlError> {
    check_spec(spec).map_err(ControlError::from)
}

fn check_spec(spec: &ServiceSpec) -> Result<(), ServiceProblem> {
    let name = spec.annotations.as_ref().map_or("", |annotations| annotations.name.as_str());
    network::check_name(name).map_err(ServiceProblem::Name)?;
    task::check(spec.task.as_ref().ok_or(ServiceProblem::MissingRuntime)?)?;
    check_mode(spec)?;
    if is_job(spec) {
        if spec.update.is_some() {
            return Err(ServiceProblem::JobUpdate);
        }
    } else {
        spec.update.as_ref().map_or(Ok(()), check_update_config)?;
    }
    spec.endpoint.as_ref().map_or(Ok(()), check_endpoint)
}

fn check_mode(spec: &ServiceSpec) -> Result<(), ServiceProblem> {
    // Clients send numbers that may have been negative once.
    let count = |number: u64, text| match i64::try_from(number) {
        Ok(_) => Ok(()),
        Err(_) => Err(ServiceProblem::NegativeCount(text)),
    };
    match spec.mode.as_ref().ok_or(ServiceProblem::Mode)? {
        Mode::Replicated(replicated) => count(replicated.replicas, "Number of replicas must be non-negative"),
        Mode::ReplicatedJob(job) => {
            count(job.max_concurrent, "Maximum concurrent jobs must not be negative")?;
            count(job.total_completions, "Total completed jobs must not be negative")
        }
        Mode::Global(_) | Mode::GlobalJob(_) => Ok(()),
    }
}

fn check_update_config(update: &UpdateConfig) -> Result<(), ServiceProblem> {
    task::not_negative(update.delay.as_ref(), "update-delay")?;
    task::not_negative(update.monitor.as_ref(), "update-monitor")?;
    match (0.0..=1.0).contains(&update.max_failure_ratio) {
        true => Ok(()),
        false => Err(ServiceProblem::FailureRatio),
    }
}

fn check_endpoint(endpoint: &EndpointSpec) -> Result<(), ServiceProblem> {
    let mut published = BTreeSet::new();
    for port in &endpoint.ports {
        // What is no port would reach the nodes and be refused there, one task after another.
        if u16::try_from(port.target_port).ok().is_none_or(|target| target == 0) {
            return Err(ServiceProblem::TargetPort(port.target_port));
        }
        if endpoint.mode() == ResolutionMode::Dnsrr && port.publish_mode() == PublishMode::Ingress {
            return Err(ServiceProblem::IngressPortWithoutVip);
        }
        if port.published_port != 0 && !published.insert((port.protocol, port.published_port)) {
            return Err(ServiceProblem::DuplicatePorts);
        }
    }
    Ok(())
}

/// What an update may not change.
pub(super) fn check_update(service: &Service, spec: &ServiceSpec) -> Result<(), ControlError> {
    let before = service.spec.clone().unwrap_or_default();
    let task_networks = |spec: &ServiceSpec| spec.task.clone().unwrap_or_default().networks;
    let name = |spec: &ServiceSpec| spec.annotations.clone().unwrap_or_default().name;
    let same_mode = match (&before.mode, &spec.mode) {
        (Some(before), Some(after)) => std::mem::discriminant(before) == std::mem::discriminant(after),
        (before, after) => before.is_none() == after.is_none(),
    };
    let problem = if before.networks != spec.networks && task_networks(&before) == task_networks(spec) {
        ServiceProblem::NetworkUpdate
    } else if !same_mode {
        ServiceProblem::ModeChange
    } else if name(&before) != name(spec) {
        ServiceProblem::Rename
    } else {
        return Ok(());
    };
    Err(problem.into())
}

/// The spec with its networks named by id.
pub(super) fn resolve(view: &View, spec: &ServiceSpec) -> Result<ServiceSpec, ControlError> {
    let mut spec = spec.clone();
    let task = spec.task.iter_mut().flat_map(|task| &mut task.networks);
    for attachment in task.chain(&mut spec.networks) {
        attachment.target = resolve_network(view, attachment)?;
    }
    Ok(spec)
}

fn resolve_network(view: &View, attachment: &NetworkAttachmentConfig) -> Result<String, ControlError> {
    let target = attachment.target.as_str();
    let network = view.network(target).or_else(|| view.network_named(target));
    match network {
        Some(network) if is_ingress(network) => {
            let name = network::network_name(network).to_owned();
            Err(ServiceProblem::OnIngress(name).into())
        }
        Some(network) => Ok(network.id.clone()),
        None if NODE_LOCAL.contains(&target) => Ok(target.to_owned()),
        None => Err(ControlError::NoSuchNetwork(target.to_owned())),
    }
}

fn ports(spec: &ServiceSpec) -> impl Iterator<Item = &PortConfig> {
    spec.endpoint.iter().flat_map(|endpoint| &endpoint.ports)
}
