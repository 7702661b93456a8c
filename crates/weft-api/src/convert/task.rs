//! Tasks, those of services and those of attachments.

use serde_json::{Map, Value, json};
use weft_wire::swarmkit::{
    ContainerSpec, NetworkAttachment, NetworkAttachmentConfig, Task, TaskSpec, TaskState, TaskStatus,
    task_spec, task_status,
};

use super::{annotations, network, node, object_head, put_filled, put_number, put_text, rfc3339_proto};

/// `GET /tasks/{id}`.
pub(crate) fn task(task: &Task) -> Value {
    let mut map = object_head(&task.id, task.meta.as_ref());
    map.extend(annotations(task.annotations.as_ref()));
    map.insert("Spec".to_owned(), spec(&task.spec.clone().unwrap_or_default()));
    put_text(&mut map, "ServiceID", &task.service_id);
    put_number(&mut map, "Slot", task.slot);
    put_text(&mut map, "NodeID", &task.node_id);
    map.insert("Status".to_owned(), status(task.status.as_ref()));
    put_text(&mut map, "DesiredState", state_word(task.desired_state()));
    put_filled(
        &mut map,
        "NetworksAttachments",
        task.networks.iter().map(attachment).collect::<Vec<_>>().into(),
    );
    map.insert("Volumes".to_owned(), Value::Null);
    map.into()
}

fn spec(spec: &TaskSpec) -> Value {
    let mut map = Map::new();
    match &spec.runtime {
        Some(task_spec::Runtime::Container(container)) => {
            map.insert("ContainerSpec".to_owned(), container_spec(container));
        }
        Some(task_spec::Runtime::Attachment(attachment)) => {
            map.insert("NetworkAttachmentSpec".to_owned(), json!({ "ContainerID": attachment.container_id }));
        }
        Some(task_spec::Runtime::Generic(_)) | None => {}
    }
    if let Some(resources) = &spec.resources {
        map.insert(
            "Resources".to_owned(),
            json!({
                "Limits": node::resources(resources.limits.as_ref()),
                "Reservations": node::resources(resources.reservations.as_ref()),
            }),
        );
    }
    map.insert("Placement".to_owned(), placement(spec));
    put_filled(&mut map, "Networks", spec.networks.iter().map(network_config).collect::<Vec<_>>().into());
    map.insert("ForceUpdate".to_owned(), spec.force_update.into());
    if matches!(spec.runtime, Some(task_spec::Runtime::Attachment(_))) {
        map.insert("Runtime".to_owned(), "attachment".into());
    }
    map.into()
}

fn placement(spec: &TaskSpec) -> Value {
    let placement = spec.placement.clone().unwrap_or_default();
    let mut map = Map::new();
    put_filled(&mut map, "Constraints", json!(placement.constraints));
    let platforms: Vec<Value> = placement.platforms.iter().map(|p| node::platform(Some(p))).collect();
    put_filled(&mut map, "Platforms", platforms.into());
    put_number(&mut map, "MaxReplicas", placement.max_replicas);
    map.into()
}

fn container_spec(spec: &ContainerSpec) -> Value {
    let mut map = Map::new();
    put_text(&mut map, "Image", &spec.image);
    put_filled(&mut map, "Labels", json!(spec.labels));
    put_filled(&mut map, "Command", json!(spec.command));
    put_filled(&mut map, "Args", json!(spec.args));
    put_text(&mut map, "Hostname", &spec.hostname);
    put_filled(&mut map, "Env", json!(spec.env));
    put_text(&mut map, "Dir", &spec.dir);
    put_text(&mut map, "User", &spec.user);
    put_text(&mut map, "Isolation", "default");
    map.into()
}

fn network_config(config: &NetworkAttachmentConfig) -> Value {
    let mut map = Map::new();
    put_text(&mut map, "Target", &config.target);
    put_filled(&mut map, "Aliases", json!(config.aliases));
    put_filled(&mut map, "DriverOpts", json!(config.driver_attachment_opts));
    map.into()
}

fn attachment(attachment: &NetworkAttachment) -> Value {
    let mut map = Map::new();
    map.insert(
        "Network".to_owned(),
        network::attached_network(&attachment.network.clone().unwrap_or_default()),
    );
    put_filled(&mut map, "Addresses", json!(attachment.addresses));
    map.into()
}

fn status(status: Option<&TaskStatus>) -> Value {
    let status = status.cloned().unwrap_or_default();
    let mut map = Map::new();
    map.insert("Timestamp".to_owned(), rfc3339_proto(status.timestamp.as_ref()).into());
    put_text(&mut map, "State", state_word(status.state()));
    put_text(&mut map, "Message", &status.message);
    put_text(&mut map, "Err", &status.err);
    if let Some(task_status::RuntimeStatus::Container(container)) = &status.runtime_status {
        map.insert(
            "ContainerStatus".to_owned(),
            json!({
                "ContainerID": container.container_id,
                "PID": container.pid,
                "ExitCode": container.exit_code,
            }),
        );
    }
    map.insert("PortStatus".to_owned(), json!({}));
    map.into()
}

pub(crate) fn state_word(state: TaskState) -> &'static str {
    match state {
        TaskState::New => "new",
        TaskState::Pending => "pending",
        TaskState::Assigned => "assigned",
        TaskState::Accepted => "accepted",
        TaskState::Preparing => "preparing",
        TaskState::Ready => "ready",
        TaskState::Starting => "starting",
        TaskState::Running => "running",
        TaskState::Complete => "complete",
        TaskState::Shutdown => "shutdown",
        TaskState::Failed => "failed",
        TaskState::Rejected => "rejected",
        TaskState::Remove => "remove",
        TaskState::Orphaned => "orphaned",
    }
}

/// The states a user may filter desired states by.
pub(crate) fn desired_state(word: &str) -> Option<TaskState> {
    match word {
        "running" => Some(TaskState::Running),
        "ready" => Some(TaskState::Ready),
        "shutdown" => Some(TaskState::Shutdown),
        "accepted" => Some(TaskState::Accepted),
        "remove" => Some(TaskState::Remove),
        _ => None,
    }
}
