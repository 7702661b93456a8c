//! What the loops read and what they ask for.
//!
//! A loop sees one moment of the store ([`Snapshot`]) and answers with [`Change`]s computed from it. Each change
//! carries the version of the object that it was computed from, so the store refuses what is out of date and the
//! loop computes again from the newer moment.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_wire::swarmkit::{Cluster, Network, Node, Service, Task, TaskState};

/// Objects of one kind.
pub type Objects<'a, T> = Box<dyn Iterator<Item = &'a Arc<T>> + 'a>;

/// The store at one moment.
///
/// The orders are the implementation's but must be the same for equal contents.
pub trait Snapshot {
    /// The swarm itself.
    fn cluster(&self) -> Option<&Arc<Cluster>>;
    /// A service by id.
    fn service(&self, id: &str) -> Option<&Arc<Service>>;
    /// All services.
    fn services(&self) -> Objects<'_, Service>;
    /// A node by id.
    fn node(&self, id: &str) -> Option<&Arc<Node>>;
    /// All nodes.
    fn nodes(&self) -> Objects<'_, Node>;
    /// A task by id.
    fn task(&self, id: &str) -> Option<&Arc<Task>>;
    /// All tasks.
    fn tasks(&self) -> Objects<'_, Task>;
    /// The tasks that wait for something: NEW and PENDING ones. Asked at each commit, so an implementation keeps them
    /// apart if it has many tasks.
    fn waiting_tasks(&self) -> Objects<'_, Task> {
        Box::new(self.tasks().filter(|task| is_waiting(task)))
    }
    /// The tasks of a service, also of one that is gone.
    fn tasks_of_service<'a>(&'a self, service: &'a str) -> Objects<'a, Task>;
    /// The tasks given to a node, also to one that is gone.
    fn tasks_of_node<'a>(&'a self, node: &'a str) -> Objects<'a, Task>;
    /// A network by id.
    fn network(&self, id: &str) -> Option<&Arc<Network>>;
    /// All networks.
    fn networks(&self) -> Objects<'_, Network>;
}

/// Whether a task waits for addresses or for a node.
pub fn is_waiting(task: &Task) -> bool {
    task.status.as_ref().is_none_or(|status| status.state() <= TaskState::Pending)
}

/// One write. Updates and removals are only right for the version that they name.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "both large variants are of one order, and changes live for a proposal"
)]
pub enum Change {
    /// A task that does not exist yet; without `meta`.
    CreateTask(Task),
    /// `meta.version` is the one it was computed from.
    UpdateTask(Task),
    /// Removes a task.
    RemoveTask {
        /// Which.
        id: String,
        /// The version it was computed from.
        version: u64,
    },
    /// `meta.version` is the one it was computed from.
    UpdateService(Service),
    /// Removes a service.
    RemoveService {
        /// Which.
        id: String,
        /// The version it was computed from.
        version: u64,
    },
}

impl Change {
    /// Id of the object that is written.
    pub fn id(&self) -> &str {
        match self {
            Self::CreateTask(task) | Self::UpdateTask(task) => &task.id,
            Self::UpdateService(service) => &service.id,
            Self::RemoveTask { id, .. } | Self::RemoveService { id, .. } => id,
        }
    }
}

/// What commits touched since the loops last looked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Services that changed, or one of whose tasks did.
    pub services: BTreeSet<String>,
    /// Nodes that changed: appeared, vanished, went down or up, got another availability, role or labels.
    pub nodes: BTreeSet<String>,
    /// Look at everything: the swarm's own settings changed, or what changed is not known.
    pub all: bool,
}

impl Dirty {
    /// Everything.
    pub fn everything() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// One service.
    pub fn service(id: impl Into<String>) -> Self {
        Self { services: BTreeSet::from([id.into()]), ..Self::default() }
    }

    /// One node.
    pub fn node(id: impl Into<String>) -> Self {
        Self { nodes: BTreeSet::from([id.into()]), ..Self::default() }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        !self.all && self.services.is_empty() && self.nodes.is_empty()
    }

    /// Adds what `other` names.
    pub fn merge(&mut self, other: Self) {
        self.services.extend(other.services);
        self.nodes.extend(other.nodes);
        self.all |= other.all;
    }
}
