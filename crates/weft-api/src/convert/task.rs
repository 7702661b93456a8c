//! Tasks, those of services and those of attachments.

use serde_json::{Map, Value, json};
use weft_wire::swarmkit::{NetworkAttachment, Task, TaskSpec, TaskState, TaskStatus, task_status};

use super::{
    annotations, network, node, object_head, put_filled, put_number, put_text, rfc3339_proto, service,
    task_spec,
};

/// `GET /tasks/{id}`.
pub(crate) fn task(task: &Task) -> Value {
    let mut map = object_head(&task.id, task.meta.as_ref());
    map.extend(annotations(task.annotations.as_ref()));
    map.insert(
        "Spec".to_owned(),
        task_spec::to_json(task.spec.as_ref().unwrap_or(&TaskSpec::default())).into(),
    );
    put_text(&mut map, "ServiceID", &task.service_id);
    put_number(&mut map, "Slot", task.slot);
    put_text(&mut map, "NodeID", &task.node_id);
    map.insert("Status".to_owned(), status(task.status.as_ref()));
    put_text(&mut map, "DesiredState", state_word(task.desired_state()));
    put_filled(&mut map, "NetworksAttachments", task.networks.iter().map(attachment).collect());
    put_filled(&mut map, "GenericResources", node::generic_resources(&task.assigned_generic_resources));
    if let Some(iteration) = &task.job_iteration {
        map.insert("JobIteration".to_owned(), super::version_json(Some(iteration)));
    }
    map.insert("Volumes".to_owned(), volumes(task));
    map.into()
}

/// The only list that Docker writes as `null` when it is empty.
fn volumes(task: &Task) -> Value {
    if task.volumes.is_empty() {
        return Value::Null;
    }
    task.volumes.iter().map(|v| json!({ "ID": v.id, "Source": v.source, "Target": v.target })).collect()
}

/// The name users know a task by: that of its service, its slot or node, its id (swarmkit `api/naming`).
pub(crate) fn task_name(task: &Task) -> String {
    if let Some(named) = task.annotations.as_ref().filter(|a| !a.name.is_empty()) {
        return named.name.clone();
    }
    let service = task.service_annotations.as_ref().map_or("", |a| a.name.as_str());
    match task.slot {
        0 => format!("{service}.{}.{}", task.node_id, task.id),
        slot => format!("{service}.{slot}.{}", task.id),
    }
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
    let mut ports = Map::new();
    let open = status.port_status.iter().flat_map(|p| &p.ports);
    put_filled(&mut ports, "Ports", open.map(service::port_json).collect());
    map.insert("PortStatus".to_owned(), ports.into());
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

const STATES: [TaskState; 14] = [
    TaskState::New,
    TaskState::Pending,
    TaskState::Assigned,
    TaskState::Accepted,
    TaskState::Preparing,
    TaskState::Ready,
    TaskState::Starting,
    TaskState::Running,
    TaskState::Complete,
    TaskState::Shutdown,
    TaskState::Failed,
    TaskState::Rejected,
    TaskState::Remove,
    TaskState::Orphaned,
];

/// The state of that word, in whatever case.
pub(crate) fn task_state(word: &str) -> Option<TaskState> {
    STATES.into_iter().find(|state| state_word(*state).eq_ignore_ascii_case(word))
}
