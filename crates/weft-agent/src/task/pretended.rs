//! Containers that are only pretended, for tests of the agent.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use weft_wire::swarmkit::{LogStream, LogSubscriptionOptions, Task};

use super::runtime::{Adopted, ContainerEvent, LogLine, StepFailed, TaskRuntime, Work};
use super::words::{Exit, Running};

/// Containers by id, which is the task's with a `c-` in front.
#[derive(Default)]
pub(crate) struct PretendedRuntime {
    watchers: Mutex<BTreeMap<String, mpsc::UnboundedSender<ContainerEvent>>>,
    pub(crate) removed: Mutex<Vec<String>>,
}

impl PretendedRuntime {
    /// The container of `task` ends.
    pub(crate) fn end(&self, task: &str, code: i32) {
        let exit = ContainerEvent::Exited(Exit { code, error: String::new() });
        let watchers = self.watchers.lock().unwrap();
        watchers[&format!("c-{task}")].send(exit).unwrap();
    }
}

#[async_trait]
impl TaskRuntime for PretendedRuntime {
    async fn found(&self) -> Vec<Adopted> {
        Vec::new()
    }

    async fn prepare(&self, work: &Work, _: oneshot::Receiver<()>) -> Result<String, StepFailed> {
        Ok(format!("c-{}", work.task.id))
    }

    async fn start(&self, _: &Work, _: &str) -> Result<Running, Exit> {
        Ok(Running { pid: 7, ..Running::default() })
    }

    async fn stop(&self, _: &Task, _: &str) -> Result<Exit, StepFailed> {
        Ok(Exit { code: 143, error: String::new() })
    }

    async fn remove(&self, task_id: &str, _: &str) -> Result<(), StepFailed> {
        self.removed.lock().unwrap().push(task_id.to_owned());
        Ok(())
    }

    fn release(&self, _: &str) {}

    fn watch(&self, container: &str) -> mpsc::UnboundedReceiver<ContainerEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.watchers.lock().unwrap().insert(container.to_owned(), sender);
        receiver
    }

    async fn logs(
        &self,
        container: &str,
        options: &LogSubscriptionOptions,
    ) -> Result<mpsc::Receiver<LogLine>, StepFailed> {
        let (sender, receiver) = mpsc::channel(1);
        let (text, follow) = (format!("hello of {container}\n"), options.follow);
        tokio::spawn(async move {
            let data = Bytes::from(text);
            let line = LogLine { stream: LogStream::Stdout, time: None, data };
            let _ = sender.send(line).await;
            if follow {
                sender.closed().await;
            }
        });
        Ok(receiver)
    }
}
