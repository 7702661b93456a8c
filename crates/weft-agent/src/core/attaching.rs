//! Attachments: which container waits for one, which holds one, which are nobody's.

use std::sync::Arc;

use weft_wire::swarmkit::{Network, Task};

use super::Core;
use crate::tasks::attached_container;

impl Core {
    /// A container begins to wait for an attachment.
    pub(crate) fn begin_attaching(&self, container: &str) {
        self.lock().attaching.insert(container.to_owned());
    }

    pub(crate) fn end_attaching(&self, container: &str) {
        self.lock().attaching.remove(container);
    }

    /// The task `id`, once the managers gave it a network with addresses.
    pub(crate) fn granted(&self, id: &str) -> Option<Task> {
        let model = self.lock();
        let task = model.assignments.tasks().get(id)?;
        given_place(task).map(|_| Task::clone(task))
    }

    /// A place that the container had before on the network of this name or id, with these addresses if there are any.
    /// It is the container's from now on; should the managers have taken it back, their next word says so.
    pub(crate) fn take_again(&self, target: &str, container: &str, addresses: &[String]) -> Option<Task> {
        let model = self.lock();
        let fits = |task: &&Arc<Task>| {
            attached_container(task) == Some(container)
                && !model.connected.contains(&task.id)
                && is_place_on(task, target, addresses)
        };
        let task = model.assignments.tasks().values().find(fits).cloned()?;
        drop(model);
        self.set_connected(&task.id, true);
        Some(Task::clone(&task))
    }

    /// The container of attachment `id` holds its addresses from now on, or no longer.
    pub(crate) fn set_connected(&self, id: &str, connected: bool) {
        let mut model = self.lock();
        if connected {
            model.connected.insert(id.to_owned());
        } else {
            model.connected.remove(id);
        }
        if let Some(task) = model.assignments.tasks().get(id).cloned() {
            model.advance(&task);
        }
        self.publish(&model);
        drop(model);
        self.unsent.notify_one();
    }

    /// Attachments of this node that no container uses or waits for: left by a crash, to be given back.
    pub(crate) fn orphaned_attachments(&self) -> Vec<String> {
        let model = self.lock();
        let orphaned = |task: &&Arc<Task>| {
            attached_container(task).is_some_and(|container| !model.attaching.contains(container))
                && !model.connected.contains(&task.id)
        };
        model.assignments.tasks().values().filter(orphaned).map(|task| task.id.clone()).collect()
    }
}

/// The place of an attachment, once there is one.
fn given_place(task: &Task) -> Option<(&Network, &[String])> {
    let place = task.networks.first()?;
    let network = place.network.as_ref()?;
    (!place.addresses.is_empty()).then_some((network, &place.addresses))
}

/// Whether an attachment has a place on that network, with all these addresses.
fn is_place_on(task: &Task, target: &str, addresses: &[String]) -> bool {
    let Some((network, given)) = given_place(task) else { return false };
    let name = network.spec.as_ref().and_then(|spec| Some(spec.annotations.as_ref()?.name.as_str()));
    let has = |wanted: &String| given.iter().any(|given| given.split('/').next() == Some(wanted));
    (network.id == target || name == Some(target)) && addresses.iter().all(has)
}
