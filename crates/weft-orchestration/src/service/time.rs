//! Times and durations of stored messages.

use std::time::{Duration, SystemTime};

use weft_wire::swarmkit::Task;

/// A stored time; none if absent or not representable.
pub(super) fn time_of(stamp: Option<&prost_types::Timestamp>) -> Option<SystemTime> {
    SystemTime::try_from(*stamp?).ok()
}

/// A stored duration; none if absent or negative.
pub(super) fn duration_of(stored: Option<&prost_types::Duration>) -> Option<Duration> {
    Duration::try_from(*stored?).ok()
}

/// When the task was written first; the beginning of time if nobody noted it.
pub(super) fn created_at(task: &Task) -> SystemTime {
    let by_store = time_of(task.meta.as_ref().and_then(|meta| meta.created_at.as_ref()));
    let by_status = || time_of(task.status.as_ref().and_then(|status| status.timestamp.as_ref()));
    by_store.or_else(by_status).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// When the task got into its state, by the manager's clock before the node's, and never before it was created.
///
/// A time in the future is a clock that was set back, or a node's that is wrong: nobody is to wait for it.
pub(super) fn state_since(task: &Task, now: SystemTime) -> SystemTime {
    let status = task.status.as_ref();
    let by_manager = time_of(status.and_then(|status| status.applied_at.as_ref()));
    let by_node = || time_of(status.and_then(|status| status.timestamp.as_ref()));
    let not_future = |time: &SystemTime| *time <= now;
    let created = Some(created_at(task)).filter(not_future).unwrap_or(SystemTime::UNIX_EPOCH);
    by_manager.or_else(by_node).filter(not_future).unwrap_or(created).max(created)
}

/// The earlier of two times, either of which may be missing.
pub(super) fn earlier(one: Option<SystemTime>, other: Option<SystemTime>) -> Option<SystemTime> {
    one.into_iter().chain(other).min()
}
