//! Tasks of services, and attachments of containers.

use std::sync::Arc;

use weft_wire::swarmkit::Task;

use super::Control;
use super::find::{self, Named};
use crate::error::ControlError;
use crate::store::{ObjectKind, version_of};

impl Control {
    /// All tasks, attachments included.
    pub fn tasks(&self) -> Vec<Arc<Task>> {
        self.view().tasks().cloned().collect()
    }

    /// The tasks of a service.
    pub fn tasks_of_service(&self, service: &str) -> Vec<Arc<Task>> {
        self.view().tasks_of_service(service).cloned().collect()
    }

    /// A task by id or unique prefix of its id.
    pub fn task(&self, term: &str) -> Result<Arc<Task>, ControlError> {
        let view = self.view();
        find::object(view.task(term), view.tasks(), term, ControlError::NoSuchTask)
    }

    /// Removes a task from the store: its node stops it, and the service replaces it.
    pub async fn remove_task(&self, id: &str) -> Result<(), ControlError> {
        (self.brain.core)
            .change(|view, transaction| {
                let task = view.task(id).ok_or_else(|| ControlError::NoSuchTask(id.to_owned()))?;
                transaction.remove(ObjectKind::Task, id, version_of(task.meta.as_ref()));
                Ok(())
            })
            .await
    }
}

impl Named for Task {
    const KIND: &'static str = "task";
    fn id(&self) -> &str {
        &self.id
    }
}
