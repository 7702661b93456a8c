//! The whole state at one moment: cheap to clone, never changed in place once shared.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use weft_orchestration::is_waiting;
use weft_wire::swarmkit::{Cluster, Config, Network, Node, Resource, Secret, Service, Task};

use super::claim::{Claim, Claims};
use super::ordered::Ordered;
use super::{Object, ObjectKind};

type Table<T> = Ordered<Arc<str>, Arc<T>>;
type Pairs = Ordered<(Arc<str>, Arc<str>), ()>;

/// All objects as of one Raft index.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    index: u64,
    clusters: Table<Cluster>,
    nodes: Table<Node>,
    networks: Table<Network>,
    tasks: Table<Task>,
    resources: Table<Resource>,
    services: Table<Service>,
    secrets: Table<Secret>,
    configs: Table<Config>,
    tasks_by_service: Pairs,
    tasks_by_node: Pairs,
    tasks_by_network: Pairs,
    /// Ids of those that wait for addresses or for a node.
    waiting: Ordered<Arc<str>, ()>,
    claims: Claims,
}

impl View {
    /// Raft index of the last transaction that changed something.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The swarm itself; there is one once `init` is through.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.clusters.values().next()
    }

    /// A node by id.
    pub fn node(&self, id: &str) -> Option<&Arc<Node>> {
        self.nodes.get(id)
    }

    /// All nodes by id.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// A network by id.
    pub fn network(&self, id: &str) -> Option<&Arc<Network>> {
        self.networks.get(id)
    }

    /// All networks by id.
    pub fn networks(&self) -> impl Iterator<Item = &Arc<Network>> {
        self.networks.values()
    }

    /// The network of this name.
    pub fn network_named(&self, name: &str) -> Option<&Arc<Network>> {
        self.networks.get(self.claims.holder(&Claim::network_name(name))?)
    }

    /// A task by id.
    pub fn task(&self, id: &str) -> Option<&Arc<Task>> {
        self.tasks.get(id)
    }

    /// All tasks by id.
    pub fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    /// The tasks that wait for addresses or for a node.
    pub fn waiting_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.waiting.iter().filter_map(|(id, ())| self.tasks.get(id))
    }

    /// The tasks given to a node.
    pub fn tasks_of_node<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Arc<Task>> + 'a {
        second_of(&self.tasks_by_node, node).filter_map(|id| self.tasks.get(id))
    }

    /// The tasks that use a network.
    pub fn tasks_of_network<'a>(&'a self, network: &'a str) -> impl Iterator<Item = &'a Arc<Task>> + 'a {
        second_of(&self.tasks_by_network, network).filter_map(|id| self.tasks.get(id))
    }

    /// The tasks of a service.
    pub fn tasks_of_service<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a Arc<Task>> + 'a {
        second_of(&self.tasks_by_service, service).filter_map(|id| self.tasks.get(id))
    }

    /// A service by id.
    pub fn service(&self, id: &str) -> Option<&Arc<Service>> {
        self.services.get(id)
    }

    /// All services by id.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// The service of this name.
    pub fn service_named(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(self.claims.holder(&Claim::name(ObjectKind::Service, name))?)
    }

    /// A secret by id.
    pub fn secret(&self, id: &str) -> Option<&Arc<Secret>> {
        self.secrets.get(id)
    }

    /// All secrets by id.
    pub fn secrets(&self) -> impl Iterator<Item = &Arc<Secret>> {
        self.secrets.values()
    }

    /// The secret of this name.
    pub fn secret_named(&self, name: &str) -> Option<&Arc<Secret>> {
        self.secrets.get(self.claims.holder(&Claim::name(ObjectKind::Secret, name))?)
    }

    /// A config by id.
    pub fn config(&self, id: &str) -> Option<&Arc<Config>> {
        self.configs.get(id)
    }

    /// All configs by id.
    pub fn configs(&self) -> impl Iterator<Item = &Arc<Config>> {
        self.configs.values()
    }

    /// The config of this name.
    pub fn config_named(&self, name: &str) -> Option<&Arc<Config>> {
        self.configs.get(self.claims.holder(&Claim::name(ObjectKind::Config, name))?)
    }

    /// A resource by id.
    pub fn resource(&self, id: &str) -> Option<&Arc<Resource>> {
        self.resources.get(id)
    }

    /// All resources by id.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// Any object by kind and id.
    pub fn object(&self, kind: ObjectKind, id: &str) -> Option<Object> {
        match kind {
            ObjectKind::Cluster => self.clusters.get(id).cloned().map(Object::Cluster),
            ObjectKind::Node => self.nodes.get(id).cloned().map(Object::Node),
            ObjectKind::Network => self.networks.get(id).cloned().map(Object::Network),
            ObjectKind::Task => self.tasks.get(id).cloned().map(Object::Task),
            ObjectKind::Resource => self.resources.get(id).cloned().map(Object::Resource),
            ObjectKind::Service => self.services.get(id).cloned().map(Object::Service),
            ObjectKind::Secret => self.secrets.get(id).cloned().map(Object::Secret),
            ObjectKind::Config => self.configs.get(id).cloned().map(Object::Config),
        }
    }

    /// All objects, kind by kind.
    pub fn objects(&self) -> impl Iterator<Item = Object> + '_ {
        (self.clusters.values().cloned().map(Object::Cluster))
            .chain(self.nodes.values().cloned().map(Object::Node))
            .chain(self.networks.values().cloned().map(Object::Network))
            .chain(self.tasks.values().cloned().map(Object::Task))
            .chain(self.resources.values().cloned().map(Object::Resource))
            .chain(self.services.values().cloned().map(Object::Service))
            .chain(self.secrets.values().cloned().map(Object::Secret))
            .chain(self.configs.values().cloned().map(Object::Config))
    }

    /// Addresses in use on a network, with the object that holds each.
    pub fn addresses<'a>(&'a self, network: &'a str) -> impl Iterator<Item = (IpAddr, &'a str)> + 'a {
        self.claims.addresses(network)
    }

    /// Subnets in use, with the network that holds each.
    pub fn subnets(&self) -> impl Iterator<Item = (&IpNet, &str)> {
        self.claims.subnets()
    }

    /// The largest VNI in use.
    pub fn highest_vni(&self) -> Option<u32> {
        self.claims.highest_vni()
    }

    /// Published ports in use: SwarmKit's number of the protocol, the port, and the service that holds it.
    pub fn ports(&self) -> impl Iterator<Item = (i32, u16, &str)> {
        self.claims.ports()
    }

    /// Whether any object holds this.
    pub fn is_held(&self, claim: &Claim) -> bool {
        self.claims.holder(claim).is_some()
    }

    /// Who holds this.
    pub fn holder_of(&self, claim: &Claim) -> Option<&str> {
        self.claims.holder(claim)
    }

    /// What an object holds.
    pub fn held_by<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Claim> + 'a {
        self.claims.held_by(id)
    }

    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
    }

    pub(crate) fn claims_mut(&mut self) -> &mut Claims {
        &mut self.claims
    }

    pub(crate) fn set_index(&mut self, index: u64) {
        self.index = index;
    }

    pub(crate) fn put(&mut self, object: Object) {
        match object {
            Object::Cluster(o) => put(&mut self.clusters, &o.id.clone(), o),
            Object::Node(o) => put(&mut self.nodes, &o.id.clone(), o),
            Object::Network(o) => put(&mut self.networks, &o.id.clone(), o),
            Object::Resource(o) => put(&mut self.resources, &o.id.clone(), o),
            Object::Service(o) => put(&mut self.services, &o.id.clone(), o),
            Object::Secret(o) => put(&mut self.secrets, &o.id.clone(), o),
            Object::Config(o) => put(&mut self.configs, &o.id.clone(), o),
            Object::Task(o) => {
                self.unindex(&o.id);
                self.index_task(&o);
                put(&mut self.tasks, &o.id.clone(), o);
            }
        }
    }

    pub(crate) fn delete(&mut self, kind: ObjectKind, id: &str) {
        match kind {
            ObjectKind::Cluster => drop(self.clusters.remove(id)),
            ObjectKind::Node => drop(self.nodes.remove(id)),
            ObjectKind::Network => drop(self.networks.remove(id)),
            ObjectKind::Resource => drop(self.resources.remove(id)),
            ObjectKind::Service => drop(self.services.remove(id)),
            ObjectKind::Secret => drop(self.secrets.remove(id)),
            ObjectKind::Config => drop(self.configs.remove(id)),
            ObjectKind::Task => {
                self.unindex(id);
                drop(self.tasks.remove(id));
            }
        }
    }

    fn index_task(&mut self, task: &Task) {
        if !task.node_id.is_empty() {
            self.tasks_by_node.insert(pair(&task.node_id, &task.id), ());
        }
        if !task.service_id.is_empty() {
            self.tasks_by_service.insert(pair(&task.service_id, &task.id), ());
        }
        for network in networks_of(task) {
            self.tasks_by_network.insert(pair(network, &task.id), ());
        }
        if is_waiting(task) {
            self.waiting.insert(Arc::from(task.id.as_str()), ());
        }
    }

    fn unindex(&mut self, id: &str) {
        let Some(old) = self.tasks.get(id).cloned() else { return };
        self.tasks_by_node.remove(&pair(&old.node_id, &old.id));
        self.tasks_by_service.remove(&pair(&old.service_id, &old.id));
        for network in networks_of(&old) {
            self.tasks_by_network.remove(&pair(network, &old.id));
        }
        self.waiting.remove(id);
    }
}

/// Ids of the networks that a task is attached to.
pub(crate) fn networks_of(task: &Task) -> impl Iterator<Item = &str> {
    task.networks
        .iter()
        .filter_map(|attachment| attachment.network.as_ref())
        .map(|network| network.id.as_str())
}

fn put<T>(table: &mut Table<T>, id: &str, object: Arc<T>) {
    table.insert(Arc::from(id), object);
}

fn pair(first: &str, second: &str) -> (Arc<str>, Arc<str>) {
    (Arc::from(first), Arc::from(second))
}

fn second_of<'a>(pairs: &'a Pairs, first: &'a str) -> impl Iterator<Item = &'a str> + 'a {
    pairs
        .from(&pair(first, ""))
        .take_while(move |((of, _), ())| of.as_ref() == first)
        .map(|((_, second), ())| second.as_ref())
}
