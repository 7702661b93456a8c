//! What the API of this process asks of the swarm.

use std::sync::Arc;

use tokio::sync::broadcast;
use weft_wire::swarmkit::{Cluster, ClusterSpec, Network, NetworkSpec, Node, NodeSpec, Task};

use crate::error::ControlError;
use crate::store::{Commit, View};

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
pub struct Control {}

impl Control {
    /// The state as of now.
    pub fn view(&self) -> Arc<View> {
        todo!()
    }

    /// Changes of the store from now on; [`Control::view`] taken after this call misses nothing.
    pub fn events(&self) -> broadcast::Receiver<Arc<Commit>> {
        todo!()
    }

    /// The swarm: join tokens are in `root_ca.join_tokens`.
    pub fn cluster(&self) -> Arc<Cluster> {
        todo!()
    }

    /// All nodes.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        todo!()
    }

    /// A node by id, exact host name, or unique prefix of its id.
    pub fn node(&self, term: &str) -> Result<Arc<Node>, ControlError> {
        Err(ControlError::NoSuchNode(term.to_owned()))
    }

    /// Changes a node's spec, if the node still is at `version`.
    pub async fn update_node(&self, id: &str, version: u64, spec: NodeSpec) -> Result<Arc<Node>, ControlError> {
        let _ = (version, spec);
        self.node(id)
    }

    /// Removes a node that is down, or any with `force`: its certificate is refused from then on.
    pub async fn remove_node(&self, term: &str, force: bool) -> Result<(), ControlError> {
        let _ = force;
        self.node(term).map(drop)
    }

    /// All networks of the swarm.
    pub fn networks(&self) -> Vec<Arc<Network>> {
        todo!()
    }

    /// A network by full id, exact name, or unique prefix of its id.
    pub fn network(&self, term: &str) -> Result<Arc<Network>, ControlError> {
        Err(ControlError::NoSuchNetwork(term.to_owned()))
    }

    /// Makes a network: checked, then allocated and stored at once.
    pub async fn create_network(&self, spec: NetworkSpec) -> Result<Arc<Network>, ControlError> {
        let _ = spec;
        todo!()
    }

    /// Removes a network that nobody uses.
    pub async fn remove_network(&self, term: &str) -> Result<(), ControlError> {
        self.network(term).map(drop)
    }

    /// What users should know of a network, for example a node whose underlay is too small for its MTU.
    pub fn network_warnings(&self, id: &str) -> Vec<String> {
        let _ = id;
        Vec::new()
    }

    /// All tasks, attachments included.
    pub fn tasks(&self) -> Vec<Arc<Task>> {
        todo!()
    }

    /// A task by id or unique prefix of its id.
    pub fn task(&self, term: &str) -> Result<Arc<Task>, ControlError> {
        Err(ControlError::NoSuchTask(term.to_owned()))
    }

    /// Changes the cluster's spec, if it still is at `version`, and rotates secrets.
    pub async fn update_cluster(
        &self,
        version: u64,
        spec: ClusterSpec,
        rotation: Rotation,
    ) -> Result<Arc<Cluster>, ControlError> {
        let _ = (version, spec, rotation);
        todo!()
    }
}
