//! A service's next task.

use std::time::SystemTime;

use rand::RngCore;
use weft_types::TaskId;
use weft_wire::swarmkit::{
    Annotations, Cluster, Driver, Endpoint, JobStatus, Service, Task, TaskState, TaskStatus, Version,
};

use super::slot::{Slot, is_job};

/// A task of the service's present spec that nobody has written yet.
pub(super) fn new_task(
    service: &Service,
    cluster: Option<&Cluster>,
    slot: &Slot,
    desired: TaskState,
    now: SystemTime,
    mut rng: &mut dyn RngCore,
) -> Task {
    let id = String::from(TaskId::random(&mut rng));
    let spec = service.spec.clone().unwrap_or_default();
    let service_annotations = spec.annotations.unwrap_or_default();
    let name = format!("{}.{slot}.{id}", service_annotations.name);
    let (number, node_id) = match slot {
        Slot::Number(number) => (*number, String::new()),
        Slot::Node(node) => (0, node.clone()),
    };
    let log_driver = spec.task.as_ref().and_then(|task| task.log_driver.clone());
    Task {
        id,
        service_id: service.id.clone(),
        slot: number,
        node_id,
        annotations: Some(Annotations { name, ..Annotations::default() }),
        service_annotations: Some(service_annotations),
        status: Some(TaskStatus {
            timestamp: Some(now.into()),
            state: TaskState::New.into(),
            message: "created".to_owned(),
            ..TaskStatus::default()
        }),
        desired_state: desired.into(),
        endpoint: Some(Endpoint { spec: spec.endpoint, ..Endpoint::default() }),
        log_driver: log_driver.or_else(|| default_log_driver(cluster)),
        spec: spec.task,
        spec_version: service.spec_version,
        job_iteration: is_job(service).then(|| job_iteration(service)),
        ..Task::default()
    }
}

/// Which run of a job the service wants.
pub(super) fn job_iteration(service: &Service) -> Version {
    let status: Option<&JobStatus> = service.job_status.as_ref();
    status.and_then(|status| status.job_iteration).unwrap_or_default()
}

fn default_log_driver(cluster: Option<&Cluster>) -> Option<Driver> {
    cluster?.spec.as_ref()?.task_defaults.as_ref()?.log_driver.clone()
}
