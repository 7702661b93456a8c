//! What a task's [`Machine`](super::machine::Machine) is told, and what it asks for.

use std::time::SystemTime;

use weft_wire::swarmkit::{PortConfig, TaskState, TaskStatus};

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    /// The engine's own error, empty if the program simply ended.
    pub(crate) error: String,
}

/// A container that runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Running {
    pub(crate) pid: i32,
    /// Ports published by the host, as bound.
    pub(crate) ports: Vec<PortConfig>,
    /// It has a health check: the task runs only once that has passed.
    pub(crate) health_checked: bool,
}

/// A task's container as it was found after a start of the daemon.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    /// Made, never started.
    Created,
    /// Running, and healthy as far as known.
    Running(Running, bool),
    /// It ran and ended while nobody looked.
    Exited(Exit),
}

/// What happens to a task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    /// The managers' wish, and whether all secrets and configs of the task are here.
    Assigned { desired: TaskState, dependencies: bool },
    /// The managers no longer know the task.
    Gone,
    /// The step [`Effect::Prepare`] ended: the container's id, or why there is none.
    Prepared(Result<String, String>),
    /// The step [`Effect::Start`] ended; a container that could not be started has an exit code, too.
    Started(Result<Running, Exit>),
    /// The container ended.
    Exited(Exit),
    /// The health check passed or failed for good.
    Health(bool),
    /// The step [`Effect::Settle`] ended.
    Settled,
    /// The step [`Effect::Leave`] ended.
    Left,
    /// The step [`Effect::Stop`] ended.
    Stopped(Result<Exit, String>),
    /// The step [`Effect::Remove`] ended.
    Removed(Result<(), String>),
    /// Time has passed.
    Tick,
}

impl Input {
    /// A word for logs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Assigned { .. } => "assigned",
            Self::Gone => "gone",
            Self::Prepared(_) => "prepare",
            Self::Started(_) => "start",
            Self::Exited(_) => "exited",
            Self::Health(_) => "health",
            Self::Settled => "settle",
            Self::Left => "leave",
            Self::Stopped(_) => "stop",
            Self::Removed(_) => "remove",
            Self::Tick => "tick",
        }
    }
}

/// What is to be done for a task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Get the image and make the container.
    Prepare,
    /// Give the preparation up; it still answers.
    CancelPrepare,
    /// Start the container.
    Start,
    /// Wait until traffic finds the task. It takes traffic from here on.
    Settle,
    /// Wait until no new traffic comes. It takes none from here on.
    Leave,
    /// Stop the container with its grace period.
    Stop,
    /// Remove the container with all that was made for it.
    Remove,
    /// Tell the managers.
    Report(TaskStatus),
    /// Give [`Input::Tick`] at this time.
    Wake(SystemTime),
    /// Nothing of the task is left.
    Forget,
}
