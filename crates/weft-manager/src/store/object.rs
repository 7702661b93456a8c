//! Any stored object, shared and immutable.

use std::sync::Arc;

use prost::Message as _;
use weft_wire::swarmkit::{
    Cluster, Config, Meta, Network, Node, Resource, Secret, Service, StoreAction, StoreActionKind, Task,
    store_action::Target,
};

/// The kinds of object the store keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// The swarm itself.
    Cluster,
    /// A member.
    Node,
    /// A network of the swarm.
    Network,
    /// A task or attachment.
    Task,
    /// What a node reported of itself (`weft.v1`), one per node, under the node's id.
    Resource,
    /// What users want to run.
    Service,
    /// A file that only the nodes of its tasks see.
    Secret,
    /// A file for tasks.
    Config,
}

impl ObjectKind {
    /// All kinds, in the order of storage.
    pub const ALL: [Self; 8] = [
        Self::Cluster,
        Self::Node,
        Self::Network,
        Self::Task,
        Self::Resource,
        Self::Service,
        Self::Secret,
        Self::Config,
    ];

    /// The name used in storage and errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Node => "node",
            Self::Network => "network",
            Self::Task => "task",
            Self::Resource => "resource",
            Self::Service => "service",
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }
}

impl std::str::FromStr for ObjectKind {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

impl std::fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One object of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// The swarm itself.
    Cluster(Arc<Cluster>),
    /// A member.
    Node(Arc<Node>),
    /// A network of the swarm.
    Network(Arc<Network>),
    /// A task or attachment.
    Task(Arc<Task>),
    /// What a node reported of itself.
    Resource(Arc<Resource>),
    /// What users want to run.
    Service(Arc<Service>),
    /// A file that only the nodes of its tasks see.
    Secret(Arc<Secret>),
    /// A file for tasks.
    Config(Arc<Config>),
}

macro_rules! each {
    ($object:expr, $bound:ident => $body:expr) => {
        match $object {
            Object::Cluster($bound) => $body,
            Object::Node($bound) => $body,
            Object::Network($bound) => $body,
            Object::Task($bound) => $body,
            Object::Resource($bound) => $body,
            Object::Service($bound) => $body,
            Object::Secret($bound) => $body,
            Object::Config($bound) => $body,
        }
    };
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Self::Cluster(_) => ObjectKind::Cluster,
            Self::Node(_) => ObjectKind::Node,
            Self::Network(_) => ObjectKind::Network,
            Self::Task(_) => ObjectKind::Task,
            Self::Resource(_) => ObjectKind::Resource,
            Self::Service(_) => ObjectKind::Service,
            Self::Secret(_) => ObjectKind::Secret,
            Self::Config(_) => ObjectKind::Config,
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        each!(self, o => &o.id)
    }

    /// Raft index of its last change; 0 before it was ever stored.
    pub fn version(&self) -> u64 {
        version_of(each!(self, o => o.meta.as_ref()))
    }

    pub(crate) fn with_meta(mut self, meta: Meta) -> Self {
        let slot = each!(&mut self, o => &mut Arc::make_mut(o).meta);
        *slot = Some(meta);
        self
    }

    pub(crate) fn meta(&self) -> Option<&Meta> {
        each!(self, o => o.meta.as_ref())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        each!(self, o => o.encode_to_vec())
    }

    pub(crate) fn decode(kind: ObjectKind, bytes: &[u8]) -> Result<Self, prost::DecodeError> {
        Ok(match kind {
            ObjectKind::Cluster => Self::Cluster(Arc::new(Cluster::decode(bytes)?)),
            ObjectKind::Node => Self::Node(Arc::new(Node::decode(bytes)?)),
            ObjectKind::Network => Self::Network(Arc::new(Network::decode(bytes)?)),
            ObjectKind::Task => Self::Task(Arc::new(Task::decode(bytes)?)),
            ObjectKind::Resource => Self::Resource(Arc::new(Resource::decode(bytes)?)),
            ObjectKind::Service => Self::Service(Arc::new(Service::decode(bytes)?)),
            ObjectKind::Secret => Self::Secret(Arc::new(Secret::decode(bytes)?)),
            ObjectKind::Config => Self::Config(Arc::new(Config::decode(bytes)?)),
        })
    }

    /// Only its id: what a removal carries.
    pub(crate) fn id_only(kind: ObjectKind, id: &str) -> Self {
        let id = id.to_owned();
        match kind {
            ObjectKind::Cluster => Self::Cluster(Arc::new(Cluster { id, ..Default::default() })),
            ObjectKind::Node => Self::Node(Arc::new(Node { id, ..Default::default() })),
            ObjectKind::Network => Self::Network(Arc::new(Network { id, ..Default::default() })),
            ObjectKind::Task => Self::Task(Arc::new(Task { id, ..Default::default() })),
            ObjectKind::Resource => Self::Resource(Arc::new(Resource { id, ..Default::default() })),
            ObjectKind::Service => Self::Service(Arc::new(Service { id, ..Default::default() })),
            ObjectKind::Secret => Self::Secret(Arc::new(Secret { id, ..Default::default() })),
            ObjectKind::Config => Self::Config(Arc::new(Config { id, ..Default::default() })),
        }
    }

    pub(crate) fn into_action(self, kind: StoreActionKind) -> StoreAction {
        let target = match self {
            Self::Cluster(o) => Target::Cluster(Arc::unwrap_or_clone(o)),
            Self::Node(o) => Target::Node(Arc::unwrap_or_clone(o)),
            Self::Network(o) => Target::Network(Arc::unwrap_or_clone(o)),
            Self::Task(o) => Target::Task(Arc::unwrap_or_clone(o)),
            Self::Resource(o) => Target::Resource(Arc::unwrap_or_clone(o)),
            Self::Service(o) => Target::Service(Arc::unwrap_or_clone(o)),
            Self::Secret(o) => Target::Secret(Arc::unwrap_or_clone(o)),
            Self::Config(o) => Target::Config(Arc::unwrap_or_clone(o)),
        };
        StoreAction { action: kind as i32, target: Some(target) }
    }

    pub(crate) fn from_target(target: Target) -> Option<Self> {
        match target {
            Target::Cluster(o) => Some(Self::Cluster(Arc::new(o))),
            Target::Node(o) => Some(Self::Node(Arc::new(o))),
            Target::Network(o) => Some(Self::Network(Arc::new(o))),
            Target::Task(o) => Some(Self::Task(Arc::new(o))),
            Target::Resource(o) => Some(Self::Resource(Arc::new(o))),
            Target::Service(o) => Some(Self::Service(Arc::new(o))),
            Target::Secret(o) => Some(Self::Secret(Arc::new(o))),
            Target::Config(o) => Some(Self::Config(Arc::new(o))),
            _ => None,
        }
    }
}

pub(crate) fn version_of(meta: Option<&Meta>) -> u64 {
    meta.and_then(|meta| meta.version.as_ref()).map_or(0, |version| version.index)
}

macro_rules! from_object {
    ($($kind:ident),*) => {
        $(impl From<$kind> for Object {
            fn from(object: $kind) -> Self {
                Self::$kind(Arc::new(object))
            }
        })*
    };
}

from_object!(Cluster, Node, Network, Task, Resource, Service, Secret, Config);
