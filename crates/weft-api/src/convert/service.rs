//! Services.

use serde_json::{Map, Value, json};
use weft_wire::swarmkit::endpoint_spec::ResolutionMode;
use weft_wire::swarmkit::port_config::{Protocol, PublishMode};
use weft_wire::swarmkit::service_spec::Mode;
use weft_wire::swarmkit::update_config::{FailureAction, UpdateOrder};
use weft_wire::swarmkit::update_status::UpdateState;
use weft_wire::swarmkit::{
    Annotations, Endpoint, EndpointSpec, GlobalJob, GlobalService, JobStatus, PortConfig, ReplicatedJob,
    ReplicatedService, Service, ServiceSpec, UpdateConfig, UpdateStatus, task_spec,
};

use super::fields::Fields;
use super::{
    annotations, object_head, put_filled, put_number, put_text, rfc3339_proto, task_spec as task, time,
};
use crate::error::ApiError;

/// `GET /services/{id}`.
pub(crate) fn service(service: &Service) -> Value {
    let mut map = object_head(&service.id, service.meta.as_ref());
    let empty = ServiceSpec::default();
    map.insert("Spec".to_owned(), spec_json(service.spec.as_ref().unwrap_or(&empty)));
    if let Some(previous) = &service.previous_spec {
        map.insert("PreviousSpec".to_owned(), spec_json(previous));
    }
    map.insert("Endpoint".to_owned(), endpoint_json(service.endpoint.as_ref()));
    if let Some(status) = &service.update_status {
        map.insert("UpdateStatus".to_owned(), update_status_json(status));
    }
    if let Some(status) = &service.job_status {
        map.insert("JobStatus".to_owned(), job_status_json(status));
    }
    map.into()
}

fn spec_json(spec: &ServiceSpec) -> Value {
    let mut map = annotations(spec.annotations.as_ref());
    let template = spec.task.clone().unwrap_or_default();
    let mut template_map = task::to_json(&template);
    if matches!(template.runtime, Some(task_spec::Runtime::Container(_))) {
        template_map.insert("Runtime".to_owned(), "container".into());
    }
    map.insert("TaskTemplate".to_owned(), template_map.into());
    map.insert("Mode".to_owned(), mode_json(spec.mode.as_ref()));
    if let Some(update) = &spec.update {
        map.insert("UpdateConfig".to_owned(), update_config_json(update));
    }
    if let Some(rollback) = &spec.rollback {
        map.insert("RollbackConfig".to_owned(), update_config_json(rollback));
    }
    put_filled(&mut map, "Networks", spec.networks.iter().map(task::network_json).collect());
    if let Some(endpoint) = &spec.endpoint {
        map.insert("EndpointSpec".to_owned(), endpoint_spec_json(endpoint));
    }
    map.into()
}

fn mode_json(mode: Option<&Mode>) -> Value {
    match mode {
        Some(Mode::Replicated(replicated)) => json!({ "Replicated": { "Replicas": replicated.replicas } }),
        Some(Mode::Global(_)) => json!({ "Global": {} }),
        Some(Mode::ReplicatedJob(job)) => json!({
            "ReplicatedJob": { "MaxConcurrent": job.max_concurrent, "TotalCompletions": job.total_completions },
        }),
        Some(Mode::GlobalJob(_)) => json!({ "GlobalJob": {} }),
        None => json!({}),
    }
}

fn update_config_json(config: &UpdateConfig) -> Value {
    let mut map = Map::new();
    map.insert("Parallelism".to_owned(), config.parallelism.into());
    put_number(&mut map, "Delay", time::nanos(config.delay.as_ref()));
    let action = match config.failure_action() {
        FailureAction::Pause => "pause",
        FailureAction::Continue => "continue",
        FailureAction::Rollback => "rollback",
    };
    map.insert("FailureAction".to_owned(), action.into());
    put_number(&mut map, "Monitor", time::nanos(config.monitor.as_ref()));
    map.insert("MaxFailureRatio".to_owned(), ratio(config.max_failure_ratio));
    let order = match config.order() {
        UpdateOrder::StopFirst => "stop-first",
        UpdateOrder::StartFirst => "start-first",
    };
    map.insert("Order".to_owned(), order.into());
    map.into()
}

/// Go writes a single-precision number with as few digits as tell it from its neighbours.
fn ratio(ratio: f32) -> Value {
    if ratio == 0.0 {
        return 0.into();
    }
    ratio.to_string().parse::<f64>().unwrap_or_default().into()
}

pub(super) fn port_json(port: &PortConfig) -> Value {
    let mut map = Map::new();
    put_text(&mut map, "Name", &port.name);
    let protocol = match port.protocol() {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    map.insert("Protocol".to_owned(), protocol.into());
    put_number(&mut map, "TargetPort", port.target_port);
    put_number(&mut map, "PublishedPort", port.published_port);
    let mode = match port.publish_mode() {
        PublishMode::Ingress => "ingress",
        PublishMode::Host => "host",
    };
    map.insert("PublishMode".to_owned(), mode.into());
    map.into()
}

fn endpoint_spec_json(spec: &EndpointSpec) -> Value {
    let mut map = Map::new();
    let mode = match spec.mode() {
        ResolutionMode::Vip => "vip",
        ResolutionMode::Dnsrr => "dnsrr",
    };
    map.insert("Mode".to_owned(), mode.into());
    put_filled(&mut map, "Ports", spec.ports.iter().map(port_json).collect());
    map.into()
}

fn endpoint_json(endpoint: Option<&Endpoint>) -> Value {
    let mut map = Map::new();
    let spec = endpoint.and_then(|e| e.spec.as_ref()).map_or_else(|| json!({}), endpoint_spec_json);
    map.insert("Spec".to_owned(), spec);
    if let Some(endpoint) = endpoint {
        put_filled(&mut map, "Ports", endpoint.ports.iter().map(port_json).collect());
        let addresses = endpoint.virtual_ips.iter().map(|vip| {
            let mut map = Map::new();
            put_text(&mut map, "NetworkID", &vip.network_id);
            put_text(&mut map, "Addr", &vip.addr);
            Value::from(map)
        });
        put_filled(&mut map, "VirtualIPs", addresses.collect());
    }
    map.into()
}

/// Docker's word.
pub(crate) fn update_state_word(state: UpdateState) -> &'static str {
    match state {
        UpdateState::Unknown => "",
        UpdateState::Updating => "updating",
        UpdateState::Paused => "paused",
        UpdateState::Completed => "completed",
        UpdateState::RollbackStarted => "rollback_started",
        UpdateState::RollbackPaused => "rollback_paused",
        UpdateState::RollbackCompleted => "rollback_completed",
    }
}

fn update_status_json(status: &UpdateStatus) -> Value {
    let mut map = Map::new();
    put_text(&mut map, "State", update_state_word(status.state()));
    if let Some(started) = &status.started_at {
        map.insert("StartedAt".to_owned(), rfc3339_proto(Some(started)).into());
    }
    if let Some(completed) = &status.completed_at {
        map.insert("CompletedAt".to_owned(), rfc3339_proto(Some(completed)).into());
    }
    put_text(&mut map, "Message", &status.message);
    map.into()
}

fn job_status_json(status: &JobStatus) -> Value {
    let mut map = Map::new();
    map.insert("JobIteration".to_owned(), super::version_json(status.job_iteration.as_ref()));
    map.insert("LastExecution".to_owned(), rfc3339_proto(status.last_execution.as_ref()).into());
    map.into()
}

/// The spec of a create or update request.
pub(crate) fn service_spec(request: &Value) -> Result<ServiceSpec, ApiError> {
    let fields = Fields::of("ServiceSpec", request)?;
    let spec = ServiceSpec {
        annotations: Some(Annotations {
            name: fields.text("Name")?,
            labels: fields.get("Labels")?,
            indices: Vec::new(),
        }),
        task: Some(task::from_fields(&fields.object_or_empty("TaskTemplate")?)?),
        mode: Some(mode(&fields.object_or_empty("Mode")?)?),
        update: fields.object("UpdateConfig")?.map(|f| update_config(&f)).transpose()?,
        rollback: fields.object("RollbackConfig")?.map(|f| update_config(&f)).transpose()?,
        networks: fields.objects("Networks", task::network)?,
        endpoint: fields.object("EndpointSpec")?.map(|f| endpoint_spec(&f)).transpose()?,
    };
    Ok(spec)
}

fn mode(fields: &Fields<'_>) -> Result<Mode, ApiError> {
    let replicated = fields.object("Replicated")?;
    let global = fields.object("Global")?;
    let replicated_job = fields.object("ReplicatedJob")?;
    let global_job = fields.object("GlobalJob")?;
    let given = [&replicated, &global, &replicated_job, &global_job];
    if given.into_iter().filter(|mode| mode.is_some()).count() > 1 {
        return Err(ApiError::invalid("must specify only one service mode"));
    }
    if global.is_some() {
        return Ok(Mode::Global(GlobalService {}));
    }
    if global_job.is_some() {
        return Ok(Mode::GlobalJob(GlobalJob {}));
    }
    if let Some(job) = replicated_job {
        let max_concurrent = job.some("MaxConcurrent")?.unwrap_or(1);
        let total_completions = job.some("TotalCompletions")?.unwrap_or(max_concurrent);
        return Ok(Mode::ReplicatedJob(ReplicatedJob { max_concurrent, total_completions }));
    }
    let replicas = replicated.map(|f| f.some("Replicas")).transpose()?.flatten().unwrap_or(1);
    Ok(Mode::Replicated(ReplicatedService { replicas }))
}

fn update_config(fields: &Fields<'_>) -> Result<UpdateConfig, ApiError> {
    let action = fields.text("FailureAction")?;
    let failure_action = match action.as_str() {
        "" | "pause" => FailureAction::Pause,
        "continue" => FailureAction::Continue,
        "rollback" => FailureAction::Rollback,
        _ => return Err(ApiError::invalid(format!("unrecognized update failure action {action}"))),
    };
    let word = fields.text("Order")?;
    let order = match word.as_str() {
        "" | "stop-first" => UpdateOrder::StopFirst,
        "start-first" => UpdateOrder::StartFirst,
        _ => return Err(ApiError::invalid(format!("unrecognized update order {word}"))),
    };
    Ok(UpdateConfig {
        parallelism: fields.get("Parallelism")?,
        delay: Some(fields.duration("Delay")?.unwrap_or_default()),
        failure_action: failure_action.into(),
        monitor: fields.duration("Monitor")?.filter(|d| d.seconds != 0 || d.nanos != 0),
        max_failure_ratio: fields.get("MaxFailureRatio")?,
        order: order.into(),
    })
}

fn endpoint_spec(fields: &Fields<'_>) -> Result<EndpointSpec, ApiError> {
    let word = fields.text("Mode")?;
    let mode = match word.as_str() {
        "" | "vip" => ResolutionMode::Vip,
        "dnsrr" => ResolutionMode::Dnsrr,
        _ => return Err(ApiError::invalid(format!("invalid resolution mode: {word:?}"))),
    };
    Ok(EndpointSpec { mode: mode.into(), ports: fields.objects("Ports", port)? })
}

fn port(fields: &Fields<'_>) -> Result<PortConfig, ApiError> {
    // Docker looks words up in a table and takes what is not there as its first entry.
    let protocol = match fields.text("Protocol")?.to_ascii_lowercase().as_str() {
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    let publish_mode = match fields.text("PublishMode")?.to_ascii_lowercase().as_str() {
        "host" => PublishMode::Host,
        _ => PublishMode::Ingress,
    };
    Ok(PortConfig {
        name: fields.text("Name")?,
        protocol: protocol.into(),
        target_port: fields.get("TargetPort")?,
        published_port: fields.get("PublishedPort")?,
        publish_mode: publish_mode.into(),
    })
}
