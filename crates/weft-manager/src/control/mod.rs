//! What the API of this process asks of the swarm.

mod cluster;
mod networks;
mod nodes;

use std::sync::Arc;

use tokio::sync::broadcast;
use weft_wire::swarmkit::{Cluster, Task};

use crate::brain::Brain;
use crate::error::ControlError;
use crate::network_state::Acknowledged;
use crate::store::{Commit, View};

pub(crate) use cluster::{check as check_cluster_spec, with_defaults as cluster_defaults};
pub(crate) use nodes::give_up_tasks;

/// Which secrets to make anew.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rotation {
    /// The token that workers join with.
    pub worker_join_token: bool,
    /// The token that managers join with.
    pub manager_join_token: bool,
}

/// The control interface. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    brain: Arc<Brain>,
}

impl Control {
    pub(crate) fn new(brain: Arc<Brain>) -> Self {
        Self { brain }
    }

    /// The state as of now.
    pub fn view(&self) -> Arc<View> {
        self.brain.core.view()
    }

    /// Changes of the store from now on; [`Control::view`] taken after this call misses nothing.
    pub fn events(&self) -> broadcast::Receiver<Arc<Commit>> {
        self.brain.core.store.watch()
    }

    /// The swarm: join tokens are in `root_ca.join_tokens`.
    pub fn cluster(&self) -> Arc<Cluster> {
        self.brain.core.cluster()
    }

    /// All tasks, attachments included.
    pub fn tasks(&self) -> Vec<Arc<Task>> {
        self.view().tasks().cloned().collect()
    }

    /// A task by id or unique prefix of its id.
    pub fn task(&self, term: &str) -> Result<Arc<Task>, ControlError> {
        let view = self.view();
        if let Some(task) = view.task(term) {
            return Ok(Arc::clone(task));
        }
        let mut found = view.tasks().filter(|task| !term.is_empty() && task.id.starts_with(term));
        match (found.next(), found.next()) {
            (Some(task), None) => Ok(Arc::clone(task)),
            _ => Err(ControlError::NoSuchTask(term.to_owned())),
        }
    }

    /// Up to which index a node has programmed a network, by its last word.
    pub fn programmed(&self, node: &str, network: &str) -> Option<Acknowledged> {
        self.brain.progress.of(node, network)
    }
}
