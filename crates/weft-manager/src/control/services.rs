//! Services of the swarm.

use std::sync::Arc;
use std::time::SystemTime;

use weft_orchestration::{AllocateError, Allocator, allocate_service};
use weft_types::ServiceId;
use weft_wire::swarmkit::{
    JobStatus, Service, ServiceSpec, TaskState, TaskStatus, UpdateStatus, Version, service_spec::Mode,
    update_status::UpdateState,
};

use super::Control;
use super::find::{self, Named};
use super::spec::{self, ServiceProblem};
use crate::error::ControlError;
use crate::store::{Claim, ObjectKind, Transaction, View, version_of};
use crate::taken::{ViewTaken, to_store};

/// How far a service is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServiceStatus {
    /// Tasks that run.
    pub running: u64,
    /// Tasks that shall run.
    pub desired: u64,
    /// Tasks of the current iteration of a job that are done.
    pub completed: u64,
}

impl Control {
    /// All services.
    pub fn services(&self) -> Vec<Arc<Service>> {
        self.view().services().cloned().collect()
    }

    /// A service by full id, exact name, or unique prefix of its id.
    pub fn service(&self, term: &str) -> Result<Arc<Service>, ControlError> {
        find(&self.view(), term)
    }

    /// How many tasks of a service run and how many shall.
    pub fn service_status(&self, id: &str) -> ServiceStatus {
        status(&self.view(), id)
    }

    /// Makes a service: checked and stored; its tasks follow at once.
    pub async fn create_service(&self, spec: ServiceSpec) -> Result<Arc<Service>, ControlError> {
        spec::check(&spec)?;
        let id = ServiceId::random(&mut rand::rng()).to_string();
        (self.brain.core)
            .allocate(|view, allocator, transaction| {
                let spec = spec::resolve(view, &spec)?;
                if view.service_named(name_of(&spec)).is_some() {
                    return Err(ControlError::ServiceExists(name_of(&spec).to_owned()));
                }
                spec::check_references(view, transaction, &spec, None)?;
                let job_status = is_job(&spec).then(|| JobStatus {
                    job_iteration: Some(Version::default()),
                    last_execution: Some(SystemTime::now().into()),
                });
                transaction.claim(&Claim::name(ObjectKind::Service, name_of(&spec)), &id);
                let mut service = Service {
                    id: id.clone(),
                    spec: Some(spec),
                    spec_version: Some(Version::default()),
                    job_status,
                    ..Default::default()
                };
                allocate(view, allocator, transaction, &mut service)?;
                transaction.create(service);
                Ok(())
            })
            .await?;
        tracing::info!(service = id, "created a service");
        find(&self.view(), &id)
    }

    /// Changes a service's spec, if the service still is at `version`; with `rollback`, to the spec before instead.
    pub async fn update_service(
        &self,
        id: &str,
        version: u64,
        spec: ServiceSpec,
        rollback: bool,
    ) -> Result<Arc<Service>, ControlError> {
        spec::check(&spec)?;
        (self.brain.core)
            .allocate(|view, allocator, transaction| {
                let service = view.service(id).ok_or_else(|| ControlError::NoSuchService(id.to_owned()))?;
                let spec = spec::resolve(view, &spec)?;
                spec::check_references(view, transaction, &spec, Some(service))?;
                spec::check_update(service, &spec)?;
                if version_of(service.meta.as_ref()) != version {
                    return Err(ControlError::OutOfSequence);
                }
                let mut changed = if rollback { rolled_back(service)? } else { updated(service, spec) };
                allocate(view, allocator, transaction, &mut changed)?;
                transaction.update(changed);
                Ok(())
            })
            .await?;
        tracing::info!(service = id, rollback, "updated a service");
        find(&self.view(), id)
    }

    /// Removes a service; its tasks are stopped and removed after it.
    pub async fn remove_service(&self, term: &str) -> Result<(), ControlError> {
        (self.brain.core)
            .change(|view, transaction| {
                let service = find(view, term)?;
                transaction.remove(ObjectKind::Service, &service.id, version_of(service.meta.as_ref()));
                Ok::<_, ControlError>(())
            })
            .await?;
        tracing::info!(service = term, "removed a service");
        Ok(())
    }
}

fn find(view: &View, term: &str) -> Result<Arc<Service>, ControlError> {
    let named = view.service(term).or_else(|| view.service_named(term));
    find::object(named, view.services(), term, ControlError::NoSuchService)
}

impl Named for Service {
    const KIND: &'static str = "service";
    fn id(&self) -> &str {
        &self.id
    }
}

fn name_of(spec: &ServiceSpec) -> &str {
    spec.annotations.as_ref().map_or("", |annotations| annotations.name.as_str())
}

pub(super) fn is_job(spec: &ServiceSpec) -> bool {
    matches!(spec.mode, Some(Mode::ReplicatedJob(_) | Mode::GlobalJob(_)))
}

/// Addresses and ports are the service's with the transaction that stores it. What cannot be had now is no reason to
/// refuse the service, save a port that another one has: it is tried again, and its tasks say why they wait.
fn allocate(
    view: &View,
    allocator: &mut Allocator,
    transaction: &mut Transaction,
    service: &mut Service,
) -> Result<(), ControlError> {
    let mut taken = ViewTaken::new(view);
    match allocate_service(view, allocator, &taken, service) {
        Ok(allocated) => {
            for claim in &allocated.releases {
                transaction.release(&to_store(claim));
            }
            taken.claim(transaction, allocated.claims, &service.id);
            Ok(())
        }
        Err(
            error @ (AllocateError::PortInUse { .. }
            | AllocateError::NotAPort(_)
            | AllocateError::NotAProtocol(_)),
        ) => Err(ServiceProblem::from(error).into()),
        Err(error) => {
            tracing::warn!(service = service.id, %error, "the service waits for what it asks for");
            Ok(())
        }
    }
}

/// SwarmKit's version of a spec is the version of the service that it replaced the spec of.
fn updated(service: &Service, spec: ServiceSpec) -> Service {
    Service {
        previous_spec: service.spec.clone(),
        previous_spec_version: service.spec_version,
        spec: Some(spec),
        spec_version: service.meta.as_ref().and_then(|meta| meta.version),
        update_status: None,
        job_status: service.job_status.map(next_iteration),
        ..service.clone()
    }
}

fn rolled_back(service: &Service) -> Result<Service, ControlError> {
    let previous =
        service.previous_spec.clone().ok_or_else(|| ControlError::NoPreviousSpec(service.id.clone()))?;
    Ok(Service {
        previous_spec: service.spec.clone(),
        previous_spec_version: service.spec_version,
        spec: Some(previous),
        spec_version: service.previous_spec_version,
        update_status: Some(UpdateStatus {
            state: UpdateState::RollbackStarted.into(),
            message: "manually requested rollback".to_owned(),
            started_at: Some(SystemTime::now().into()),
            ..Default::default()
        }),
        job_status: service.job_status.map(next_iteration),
        ..service.clone()
    })
}

fn next_iteration(status: JobStatus) -> JobStatus {
    let index = status.job_iteration.map_or(0, |iteration| iteration.index) + 1;
    JobStatus { job_iteration: Some(Version { index }), last_execution: Some(SystemTime::now().into()) }
}

/// SwarmKit's way of counting.
fn status(view: &View, id: &str) -> ServiceStatus {
    let service = view.service(id);
    let mode = service.and_then(|service| service.spec.as_ref()?.mode.as_ref());
    let mut status = ServiceStatus::default();
    match mode {
        Some(Mode::Replicated(replicated)) => status.desired = replicated.replicas,
        Some(Mode::ReplicatedJob(job)) => status.desired = job.max_concurrent,
        _ => {}
    }
    let global = matches!(mode, Some(Mode::Global(_) | Mode::GlobalJob(_)));
    let iteration = service.and_then(|service| service.job_status.as_ref()?.job_iteration);
    for task in view.tasks_of_service(id) {
        if iteration.is_some() && task.job_iteration != iteration {
            continue;
        }
        let state = task.status.as_ref().map_or(TaskState::New, TaskStatus::state);
        status.running += u64::from(state == TaskState::Running);
        status.completed += u64::from(iteration.is_some() && state == TaskState::Complete);
        let wanted = match task.desired_state() {
            TaskState::Running => true,
            TaskState::Complete => state != TaskState::Complete,
            _ => false,
        };
        status.desired += u64::from(global && wanted);
    }
    status
}
