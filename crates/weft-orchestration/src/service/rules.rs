//! What a service says about restarts and updates, with SwarmKit's defaults for what it leaves open
//! (`api/defaults/service.go`).

use std::time::Duration;

use weft_wire::swarmkit::restart_policy::RestartCondition;
use weft_wire::swarmkit::update_config::{FailureAction, UpdateOrder};
use weft_wire::swarmkit::update_status::UpdateState;
use weft_wire::swarmkit::{Service, Task, TaskSpec, UpdateConfig};

use super::time::duration_of;

const DEFAULT_RESTART_DELAY: Duration = Duration::from_secs(5);
const DEFAULT_MONITOR: Duration = Duration::from_secs(5);
/// For services that have no update rules at all; a parallelism of 0 in given rules means all at once.
const DEFAULT_PARALLELISM: u64 = 1;

/// When a task that ended is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RestartRules {
    pub(super) condition: RestartCondition,
    pub(super) delay: Duration,
    /// 0 for no limit.
    pub(super) max_attempts: u64,
    /// How far back attempts count; none for all of them.
    pub(super) window: Option<Duration>,
}

impl RestartRules {
    pub(super) fn of_task(task: &Task) -> Self {
        Self::of_spec(task.spec.as_ref())
    }

    pub(super) fn of_spec(spec: Option<&TaskSpec>) -> Self {
        let Some(policy) = spec.and_then(|spec| spec.restart.as_ref()) else {
            return Self {
                condition: RestartCondition::Any,
                delay: DEFAULT_RESTART_DELAY,
                max_attempts: 0,
                window: None,
            };
        };
        Self {
            condition: policy.condition(),
            delay: duration_of(policy.delay.as_ref()).unwrap_or(DEFAULT_RESTART_DELAY),
            max_attempts: policy.max_attempts,
            window: duration_of(policy.window.as_ref()).filter(|window| !window.is_zero()),
        }
    }
}

/// How tasks are replaced by those of a newer spec.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct UpdateRules {
    /// How many slots at once.
    pub(super) parallelism: usize,
    /// Pause after each slot.
    pub(super) delay: Duration,
    pub(super) failure_action: FailureAction,
    /// For how long after its start a task's end counts as failure.
    pub(super) monitor: Duration,
    pub(super) max_failure_ratio: f32,
    pub(super) order: UpdateOrder,
}

impl UpdateRules {
    /// Those for updates, or for rollbacks while one runs.
    pub(super) fn of(service: &Service) -> Self {
        let spec = service.spec.as_ref();
        let rolls_back = is_in(service, UpdateState::RollbackStarted);
        let config = match rolls_back {
            true => spec.and_then(|spec| spec.rollback.as_ref()),
            false => spec.and_then(|spec| spec.update.as_ref()),
        };
        let default = UpdateConfig { parallelism: DEFAULT_PARALLELISM, ..UpdateConfig::default() };
        let config = config.unwrap_or(&default);
        Self {
            parallelism: match config.parallelism {
                0 => usize::MAX,
                some => usize::try_from(some).unwrap_or(usize::MAX),
            },
            delay: duration_of(config.delay.as_ref()).unwrap_or_default(),
            failure_action: config.failure_action(),
            monitor: duration_of(config.monitor.as_ref()).unwrap_or(DEFAULT_MONITOR),
            max_failure_ratio: config.max_failure_ratio,
            order: config.order(),
        }
    }

    /// For how long failures are still looked for when the last slot is done. Longer than the pause between slots,
    /// or the update would be over before the last task could fail.
    pub(super) fn last_watch(&self) -> Duration {
        if self.delay >= self.monitor { self.delay + Duration::from_secs(1) } else { self.monitor }
    }
}

/// Whether the service's update is in this state.
pub(super) fn is_in(service: &Service, state: UpdateState) -> bool {
    service.update_status.as_ref().is_some_and(|status| status.state() == state)
}
