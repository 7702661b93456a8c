//! What to say about a task that is no container of a service (those have `task/machine.rs`). Pure: the task, what is known of it here and the time go in, a status comes out.
//!
//! A status only ever grows (SwarmKit drops smaller ones), so each decision is a step upward or nothing.

use prost_types::Timestamp;
use weft_wire::swarmkit::task_spec::Runtime;
use weft_wire::swarmkit::{Task, TaskState, TaskStatus};

/// What the user reads in `docker service ps` of a plugin's task.
const NOT_BUILT: &str = "tasks of this runtime are not implemented by this engine";

/// The container of an attachment task: a standalone container that waits for, or has, addresses of a swarm network.
pub(crate) fn attached_container(task: &Task) -> Option<&str> {
    match task.spec.as_ref()?.runtime.as_ref()? {
        Runtime::Attachment(attachment) => Some(&attachment.container_id),
        _ => None,
    }
}

/// Whether the managers want the task to end.
pub(crate) fn is_to_end(task: &Task) -> bool {
    task.desired_state() >= TaskState::Shutdown
}

/// The next status of `task`, if there is one. `connected`: its container holds its addresses.
pub(crate) fn next_status(
    task: &Task,
    known: Option<&TaskStatus>,
    connected: bool,
    now: Timestamp,
) -> Option<TaskStatus> {
    let reached = known.map_or(TaskState::New, TaskStatus::state);
    let status = |state: TaskState, message: &str, err: &str| {
        (state > reached).then(|| TaskStatus {
            timestamp: Some(now),
            state: state.into(),
            message: message.to_owned(),
            err: err.to_owned(),
            ..TaskStatus::default()
        })
    };
    if attached_container(task).is_none() {
        // One that is to end and never began has nothing to stop.
        return if is_to_end(task) {
            status(TaskState::Shutdown, "shutdown", "")
        } else {
            status(TaskState::Rejected, "preparing", NOT_BUILT)
        };
    }
    match (is_to_end(task), connected) {
        (_, true) => status(TaskState::Running, "started", ""),
        (true, false) => status(TaskState::Shutdown, "shutdown", ""),
        (false, false) => status(TaskState::Accepted, "accepted", ""),
    }
}

#[cfg(test)]
mod tests {
    use weft_wire::swarmkit::{GenericRuntimeSpec, NetworkAttachmentSpec, TaskSpec};

    use super::*;

    const NOW: Timestamp = Timestamp { seconds: 7, nanos: 0 };

    fn task(runtime: Runtime, desired: TaskState) -> Task {
        let spec = TaskSpec { runtime: Some(runtime), ..TaskSpec::default() };
        Task { id: "t".into(), spec: Some(spec), desired_state: desired.into(), ..Task::default() }
    }

    fn attachment(desired: TaskState) -> Task {
        task(Runtime::Attachment(NetworkAttachmentSpec { container_id: "c".into() }), desired)
    }

    fn state(task: &Task, known: Option<TaskState>, connected: bool) -> Option<TaskState> {
        let known = known.map(|state| TaskStatus { state: state.into(), ..TaskStatus::default() });
        next_status(task, known.as_ref(), connected, NOW).map(|status| status.state())
    }

    #[test]
    fn an_attachment_is_accepted_then_running() {
        let task = attachment(TaskState::Running);
        assert_eq!(attached_container(&task), Some("c"));
        assert_eq!(state(&task, None, false), Some(TaskState::Accepted));
        assert_eq!(state(&task, Some(TaskState::Accepted), false), None);
        assert_eq!(state(&task, Some(TaskState::Accepted), true), Some(TaskState::Running));
        assert_eq!(state(&task, Some(TaskState::Running), false), None, "never backwards");
    }

    #[test]
    fn an_attachment_that_is_to_end_ends_once_its_container_let_go() {
        let task = attachment(TaskState::Remove);
        assert_eq!(state(&task, Some(TaskState::Running), true), None);
        assert_eq!(state(&task, Some(TaskState::Running), false), Some(TaskState::Shutdown));
    }

    #[test]
    fn a_plugin_is_rejected_with_the_reason() {
        let task = task(Runtime::Generic(GenericRuntimeSpec::default()), TaskState::Running);
        let status = next_status(&task, None, false, NOW).unwrap();
        assert_eq!(status.state(), TaskState::Rejected);
        assert_eq!(status.err, NOT_BUILT);
        assert_eq!(status.timestamp, Some(NOW));
        assert!(next_status(&task, Some(&status), false, NOW).is_none(), "said once");
    }

    #[test]
    fn a_plugin_that_is_to_end_is_shut_down() {
        let task = task(Runtime::Generic(GenericRuntimeSpec::default()), TaskState::Shutdown);
        assert_eq!(state(&task, None, false), Some(TaskState::Shutdown));
        assert_eq!(state(&task, Some(TaskState::Rejected), false), None);
    }
}
