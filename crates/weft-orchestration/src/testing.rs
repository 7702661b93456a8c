//! A store in memory for tests and simulations of what reads a [`Snapshot`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use weft_wire::swarmkit::{Cluster, Meta, Network, Node, Service, Task, Version};

use crate::snapshot::Objects;
use crate::{Change, Dirty, Snapshot};

/// Why a transaction was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The object is not what the change was computed from.
    #[error("{id} has version {found:?}, the change wants {expected:?}")]
    Version {
        /// Which object.
        id: String,
        /// What the change was computed from; none if it creates.
        expected: Option<u64>,
        /// What there is; none if there is nothing.
        found: Option<u64>,
    },
}

/// The objects that the loops read, with versions, and a record of what changed.
#[derive(Debug, Clone, Default)]
pub struct TestCluster {
    index: u64,
    now: Option<SystemTime>,
    cluster: Option<Arc<Cluster>>,
    services: BTreeMap<String, Arc<Service>>,
    nodes: BTreeMap<String, Arc<Node>>,
    tasks: BTreeMap<String, Arc<Task>>,
    networks: BTreeMap<String, Arc<Network>>,
    by_service: BTreeSet<(String, String)>,
    by_node: BTreeSet<(String, String)>,
    dirty: Dirty,
}

impl TestCluster {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Time for `created_at` and `updated_at` of what is written from now on.
    pub fn set_now(&mut self, now: SystemTime) {
        self.now = Some(now);
    }

    /// The last index given to a write.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// What was written since this was last asked.
    pub fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
    }

    /// Applies all changes, or none. Returns the index of the transaction.
    pub fn apply(&mut self, changes: &[Change]) -> Result<u64, Conflict> {
        let mut next = self.clone();
        next.index += 1;
        for change in changes {
            next.apply_one(change)?;
        }
        *self = next;
        Ok(self.index)
    }

    /// Writes the swarm, whatever was there.
    pub fn put_cluster(&mut self, mut cluster: Cluster) {
        self.index += 1;
        cluster.meta = Some(self.stamp(self.cluster.as_ref().and_then(|old| old.meta.as_ref())));
        self.cluster = Some(Arc::new(cluster));
        self.dirty.all = true;
    }

    /// Writes a service, whatever was there.
    pub fn put_service(&mut self, service: Service) {
        self.index += 1;
        self.write_service(service);
    }

    /// Writes a node, whatever was there.
    pub fn put_node(&mut self, mut node: Node) {
        self.index += 1;
        node.meta = Some(self.stamp(self.nodes.get(&node.id).and_then(|old| old.meta.as_ref())));
        self.dirty.nodes.insert(node.id.clone());
        self.nodes.insert(node.id.clone(), Arc::new(node));
    }

    /// Writes a task, whatever was there.
    pub fn put_task(&mut self, task: Task) {
        self.index += 1;
        self.write_task(task);
    }

    /// Writes a network, whatever was there.
    pub fn put_network(&mut self, mut network: Network) {
        self.index += 1;
        network.meta = Some(self.stamp(self.networks.get(&network.id).and_then(|old| old.meta.as_ref())));
        self.networks.insert(network.id.clone(), Arc::new(network));
    }

    /// Removes a service but none of its tasks.
    pub fn remove_service(&mut self, id: &str) {
        self.services.remove(id);
        self.dirty.services.insert(id.to_owned());
    }

    /// Removes a node but none of its tasks.
    pub fn remove_node(&mut self, id: &str) {
        self.nodes.remove(id);
        self.dirty.nodes.insert(id.to_owned());
    }

    /// Removes a task.
    pub fn remove_task(&mut self, id: &str) {
        if let Some(old) = self.tasks.remove(id) {
            self.unindex(&old);
        }
    }

    fn apply_one(&mut self, change: &Change) -> Result<(), Conflict> {
        match change {
            Change::CreateTask(task) => {
                expect_version(&task.id, None, self.tasks.get(&task.id).map(|old| old.meta.as_ref()))?;
                self.write_task(task.clone());
            }
            Change::UpdateTask(task) => {
                let base = Some(version_of(task.meta.as_ref()));
                expect_version(&task.id, base, self.tasks.get(&task.id).map(|old| old.meta.as_ref()))?;
                self.write_task(task.clone());
            }
            Change::RemoveTask { id, version } => {
                expect_version(id, Some(*version), self.tasks.get(id).map(|old| old.meta.as_ref()))?;
                self.remove_task(id);
            }
            Change::UpdateService(service) => {
                let base = Some(version_of(service.meta.as_ref()));
                let found = self.services.get(&service.id).map(|old| old.meta.as_ref());
                expect_version(&service.id, base, found)?;
                self.write_service(service.clone());
            }
            Change::RemoveService { id, version } => {
                expect_version(id, Some(*version), self.services.get(id).map(|old| old.meta.as_ref()))?;
                self.remove_service(id);
            }
        }
        Ok(())
    }

    fn write_service(&mut self, mut service: Service) {
        service.meta = Some(self.stamp(self.services.get(&service.id).and_then(|old| old.meta.as_ref())));
        self.dirty.services.insert(service.id.clone());
        self.services.insert(service.id.clone(), Arc::new(service));
    }

    fn write_task(&mut self, mut task: Task) {
        task.meta = Some(self.stamp(self.tasks.get(&task.id).and_then(|old| old.meta.as_ref())));
        if let Some(old) = self.tasks.remove(&task.id) {
            self.unindex(&old);
        }
        self.by_service.insert((task.service_id.clone(), task.id.clone()));
        self.by_node.insert((task.node_id.clone(), task.id.clone()));
        self.dirty.services.insert(task.service_id.clone());
        self.tasks.insert(task.id.clone(), Arc::new(task));
    }

    fn unindex(&mut self, task: &Task) {
        self.by_service.remove(&(task.service_id.clone(), task.id.clone()));
        self.by_node.remove(&(task.node_id.clone(), task.id.clone()));
        self.dirty.services.insert(task.service_id.clone());
    }

    fn stamp(&self, old: Option<&Meta>) -> Meta {
        let now = self.now.map(prost_types::Timestamp::from);
        Meta {
            version: Some(Version { index: self.index }),
            created_at: old.map_or(now, |old| old.created_at),
            updated_at: now,
        }
    }
}

fn version_of(meta: Option<&Meta>) -> u64 {
    meta.and_then(|meta| meta.version).map_or(0, |version| version.index)
}

fn expect_version(id: &str, expected: Option<u64>, found: Option<Option<&Meta>>) -> Result<(), Conflict> {
    let found = found.map(version_of);
    if found == expected {
        return Ok(());
    }
    Err(Conflict::Version { id: id.to_owned(), expected, found })
}

fn of_key<'a>(
    pairs: &'a BTreeSet<(String, String)>,
    tasks: &'a BTreeMap<String, Arc<Task>>,
    key: &'a str,
) -> Objects<'a, Task> {
    let from = (key.to_owned(), String::new());
    let same = pairs.range(from..).take_while(move |(found, _)| found == key);
    Box::new(same.filter_map(|(_, id)| tasks.get(id)))
}

impl Snapshot for TestCluster {
    fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    fn service(&self, id: &str) -> Option<&Arc<Service>> {
        self.services.get(id)
    }

    fn services(&self) -> Objects<'_, Service> {
        Box::new(self.services.values())
    }

    fn node(&self, id: &str) -> Option<&Arc<Node>> {
        self.nodes.get(id)
    }

    fn nodes(&self) -> Objects<'_, Node> {
        Box::new(self.nodes.values())
    }

    fn task(&self, id: &str) -> Option<&Arc<Task>> {
        self.tasks.get(id)
    }

    fn tasks(&self) -> Objects<'_, Task> {
        Box::new(self.tasks.values())
    }

    fn tasks_of_service<'a>(&'a self, service: &'a str) -> Objects<'a, Task> {
        of_key(&self.by_service, &self.tasks, service)
    }

    fn tasks_of_node<'a>(&'a self, node: &'a str) -> Objects<'a, Task> {
        of_key(&self.by_node, &self.tasks, node)
    }

    fn network(&self, id: &str) -> Option<&Arc<Network>> {
        self.networks.get(id)
    }

    fn networks(&self) -> Objects<'_, Network> {
        Box::new(self.networks.values())
    }
}
