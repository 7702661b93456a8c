//! What the agent needs of whoever runs containers. The trait is the agent's; `engine/` implements it.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use weft_wire::swarmkit::{ConfigReference, LogStream, LogSubscriptionOptions, SecretReference, Task};

use super::words::{Exit, Found, Running};

/// This node, for names, labels and templates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    pub(crate) id: String,
    pub(crate) hostname: String,
    pub(crate) architecture: String,
    pub(crate) os: String,
}

/// The content of a secret or config. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) data: Bytes,
    /// Its content is a template, to be expanded for each task.
    pub(crate) is_template: bool,
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Payload").field("len", &self.data.len()).finish_non_exhaustive()
    }
}

/// Secrets and configs of a task, as it refers to them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dependencies {
    pub(crate) secrets: Vec<(SecretReference, Payload)>,
    pub(crate) configs: Vec<(ConfigReference, Payload)>,
}

/// All that is needed to carry a task out.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) task: Arc<Task>,
    pub(crate) node: Arc<NodeFacts>,
    pub(crate) dependencies: Dependencies,
}

/// A step failed; the text is what `docker service ps` shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct StepFailed(pub(crate) String);

/// What happens to a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContainerEvent {
    /// It ended; the last event.
    Exited(Exit),
    /// Its health check passed, or failed for good.
    Health(bool),
}

/// A container of a task, found at the start.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Adopted {
    pub(crate) task_id: String,
    pub(crate) container_id: String,
    pub(crate) found: Found,
}

/// A line of a container's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLine {
    pub(crate) stream: LogStream,
    pub(crate) time: Option<SystemTime>,
    pub(crate) data: Bytes,
}

/// Runs containers of tasks. Every step may be repeated: what is done already is no error.
#[async_trait]
pub(crate) trait TaskRuntime: Send + Sync {
    /// All containers of tasks on this machine.
    async fn found(&self) -> Vec<Adopted>;

    /// Gets the image and makes the container; answers its id. `cancelled` resolves when nobody wants it any more.
    async fn prepare(
        &self,
        work: &Work,
        cancelled: tokio::sync::oneshot::Receiver<()>,
    ) -> Result<String, StepFailed>;

    /// Starts it. What could not be started has an exit code and a reason.
    async fn start(&self, work: &Work, container: &str) -> Result<Running, Exit>;

    /// Stops it with the task's grace period.
    async fn stop(&self, task: &Task, container: &str) -> Result<Exit, StepFailed>;

    /// Removes it, with the files of its secrets.
    async fn remove(&self, task_id: &str, container: &str) -> Result<(), StepFailed>;

    /// The container ended for good: what only a running one needs goes.
    fn release(&self, task_id: &str);

    /// Listens to a container from now on; to be called before it is started.
    fn watch(&self, container: &str) -> mpsc::UnboundedReceiver<ContainerEvent>;

    /// Its log.
    async fn logs(
        &self,
        container: &str,
        options: &LogSubscriptionOptions,
    ) -> Result<mpsc::Receiver<LogLine>, StepFailed>;
}
