//! What the API of this process asks of the swarm.

mod cluster;
mod configs;
mod files;
mod find;
mod logs;
mod networks;
mod nodes;
mod secrets;
mod services;
mod spec;
mod tasks;

use std::sync::Arc;

use tokio::sync::broadcast;
use weft_wire::swarmkit::Cluster;

use crate::brain::Brain;
use crate::error::ControlError;
use crate::network_state::Acknowledged;
use crate::notice::Notice;
use crate::store::{Commit, View};

pub use logs::LogStream;
pub use services::ServiceStatus;
pub use spec::ServiceProblem;

pub(crate) use cluster::{check as check_cluster_spec, with_defaults as cluster_defaults};
pub(crate) use nodes::give_up_tasks;
pub(crate) use spec::{is_ingress, network_uses};

/// Which secrets to make anew.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rotation {
    /// The token that workers join with.
    pub worker_join_token: bool,
    /// The token that managers join with.
    pub manager_join_token: bool,
    /// The key that opens a locked manager's store.
    pub manager_unlock_key: bool,
    /// The keys of gossip and of encrypted networks, one step on.
    pub network_keys: bool,
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

    /// Waits until [`Control::view`] has everything that any manager answered before this call. Fails without a leader.
    pub async fn barrier(&self) -> Result<(), ControlError> {
        Ok(self.brain.core.barrier().await?)
    }

    /// The state as of now.
    pub fn view(&self) -> Arc<View> {
        self.brain.core.view()
    }

    /// Changes of the store from now on; [`Control::view`] taken after this call misses nothing.
    pub fn events(&self) -> broadcast::Receiver<Arc<Commit>> {
        self.brain.core.store.watch()
    }

    /// What users shall hear of beside that, from now on. Only the manager that leads has any.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.brain.notices.listen()
    }

    /// The swarm: join tokens are in `root_ca.join_tokens`.
    pub fn cluster(&self) -> Arc<Cluster> {
        self.brain.core.cluster()
    }

    /// Up to which index a node has programmed a network, by its last word.
    pub fn programmed(&self, node: &str, network: &str) -> Option<Acknowledged> {
        self.brain.progress.of(node, network)
    }
}
