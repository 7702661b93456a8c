//! Whether a task must be replaced to follow its service.

use weft_wire::swarmkit::task_spec::Runtime;
use weft_wire::swarmkit::{Node, Service, Task, TaskSpec, TaskState, TaskStatus};

use super::placement::{constraints_of, meets};

/// Changes of scale, labels or update rules need no new task, nor do new constraints that the task's node meets,
/// nor new credentials for an image that is there already (SwarmKit `orchestrator.IsTaskDirty`).
pub(super) fn is_task_dirty(service: &Service, task: &Task, desired: TaskState, node: Option<&Node>) -> bool {
    if service.spec_version.is_some() && service.spec_version == task.spec_version {
        return false;
    }
    let spec = service.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.task.as_ref());
    let endpoint = task.endpoint.as_ref();
    let endpoint_differs =
        endpoint.is_some_and(|had| had.spec.as_ref() != spec.and_then(|spec| spec.endpoint.as_ref()));
    let (Some(wanted), Some(had)) = (wanted, task.spec.as_ref()) else {
        return wanted != task.spec.as_ref() || endpoint_differs;
    };
    if wanted == had {
        return endpoint_differs;
    }
    let node_fits = || node.is_some_and(|node| meets(&constraints_of(service), node));
    if wanted.placement != had.placement && differs_in_placement_only(wanted, had) && node_fits() {
        return false;
    }
    let has_image =
        desired <= TaskState::Running && (TaskState::Ready..=TaskState::Running).contains(&observed(task));
    !(has_image && differs_in_pull_options_only(wanted, had)) || endpoint_differs
}

fn observed(task: &Task) -> TaskState {
    task.status.as_ref().map_or(TaskState::New, TaskStatus::state)
}

fn differs_in_placement_only(wanted: &TaskSpec, had: &TaskSpec) -> bool {
    let same = TaskSpec { placement: had.placement.clone(), ..wanted.clone() };
    same == *had
}

fn differs_in_pull_options_only(wanted: &TaskSpec, had: &TaskSpec) -> bool {
    let Some(Runtime::Container(had_container)) = &had.runtime else { return false };
    let mut same = wanted.clone();
    let Some(Runtime::Container(container)) = &mut same.runtime else { return false };
    container.pull_options.clone_from(&had_container.pull_options);
    same == *had
}
