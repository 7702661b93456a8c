//! What commits made dirty.

use weft_orchestration::Dirty;
use weft_wire::swarmkit::{Cluster, Node, OrchestrationConfig, TaskDefaults};

use crate::store::{Change, Commit, Object};

/// What to look at.
#[derive(Debug, Default, PartialEq)]
pub(super) struct News {
    pub(super) dirty: Dirty,
    /// Something moved: what waits for room may have it now.
    moved: bool,
}

impl News {
    pub(super) fn everything() -> Self {
        Self { dirty: Dirty::everything(), moved: true }
    }

    /// Whether there is a reason to look.
    pub(super) fn is_due(&self) -> bool {
        self.moved || !self.dirty.is_empty()
    }

    pub(super) fn note(&mut self, commit: &Commit) {
        for change in &commit.changes {
            self.note_change(change);
        }
    }

    fn note_change(&mut self, change: &Change) {
        match (&change.before, &change.after) {
            (Some(Object::Node(before)), Some(Object::Node(after))) => {
                if orchestrated(before) != orchestrated(after) {
                    self.node(&after.id);
                }
            }
            (Some(Object::Cluster(before)), Some(Object::Cluster(after))) => {
                self.dirty.all |= settings(before) != settings(after);
            }
            (before, after) => {
                [before, after].into_iter().flatten().for_each(|object| self.note_object(object))
            }
        }
    }

    fn note_object(&mut self, object: &Object) {
        match object {
            Object::Service(service) => drop(self.dirty.services.insert(service.id.clone())),
            Object::Task(task) => {
                self.moved = true;
                if !task.service_id.is_empty() {
                    self.dirty.services.insert(task.service_id.clone());
                }
            }
            Object::Node(node) => self.node(&node.id),
            Object::Network(_) => self.moved = true,
            Object::Cluster(_) => self.dirty.all = true,
            Object::Resource(_) | Object::Secret(_) | Object::Config(_) => {}
        }
    }

    fn node(&mut self, id: &str) {
        self.moved = true;
        self.dirty.nodes.insert(id.to_owned());
    }
}

/// The parts of a node that decide about tasks.
fn orchestrated(node: &Node) -> impl PartialEq {
    (
        node.spec.clone(),
        node.status.as_ref().map(|status| (status.state, status.addr.clone())),
        node.description.clone(),
        node.role,
    )
}

/// The settings of the swarm that decide about tasks.
fn settings(cluster: &Cluster) -> (Option<OrchestrationConfig>, Option<TaskDefaults>) {
    let spec = cluster.spec.as_ref();
    (spec.and_then(|spec| spec.orchestration), spec.and_then(|spec| spec.task_defaults.clone()))
}
