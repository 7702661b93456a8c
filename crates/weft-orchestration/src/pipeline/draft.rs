//! A snapshot with changes on top that can still be changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_wire::swarmkit::{Cluster, Network, Node, Service, Task, TaskState};

use crate::snapshot::{Objects, is_waiting};
use crate::{Change, Snapshot};

#[derive(Debug)]
enum TaskWrite {
    Create(Arc<Task>),
    Update(Arc<Task>),
    Remove { version: u64 },
}

impl TaskWrite {
    fn task(&self) -> Option<&Arc<Task>> {
        match self {
            Self::Create(task) | Self::Update(task) => Some(task),
            Self::Remove { .. } => None,
        }
    }
}

#[derive(Debug)]
enum ServiceWrite {
    Update(Arc<Service>),
    Remove { version: u64 },
}

impl ServiceWrite {
    fn service(&self) -> Option<&Arc<Service>> {
        match self {
            Self::Update(service) => Some(service),
            Self::Remove { .. } => None,
        }
    }
}

/// A snapshot as it will be. Each object has at most one write.
pub(super) struct Draft<'a> {
    base: &'a dyn Snapshot,
    tasks: BTreeMap<String, TaskWrite>,
    services: BTreeMap<String, ServiceWrite>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(base: &'a dyn Snapshot, changes: Vec<Change>) -> Self {
        let mut draft = Self { base, tasks: BTreeMap::new(), services: BTreeMap::new() };
        for change in changes {
            match change {
                Change::CreateTask(task) => {
                    draft.tasks.insert(task.id.clone(), TaskWrite::Create(Arc::new(task)));
                }
                Change::UpdateTask(task) => draft.put_task(task),
                Change::RemoveTask { id, version } => {
                    draft.tasks.insert(id, TaskWrite::Remove { version });
                }
                Change::UpdateService(service) => draft.put_service(service),
                Change::RemoveService { id, version } => {
                    draft.services.insert(id, ServiceWrite::Remove { version });
                }
            }
        }
        draft
    }

    pub(super) fn put_service(&mut self, service: Service) {
        self.services.insert(service.id.clone(), ServiceWrite::Update(Arc::new(service)));
    }

    /// Replaces a task as it is here.
    pub(super) fn put_task(&mut self, task: Task) {
        let id = task.id.clone();
        let write = match self.tasks.get(&id) {
            Some(TaskWrite::Create(_)) => TaskWrite::Create(Arc::new(task)),
            _ => TaskWrite::Update(Arc::new(task)),
        };
        self.tasks.insert(id, write);
    }

    /// [`Self::put_task`], unless that would be a write for nothing.
    pub(super) fn put_task_if_changed(&mut self, task: Task) {
        if self.task(&task.id).is_none_or(|old| **old != task) {
            self.put_task(task);
        }
    }

    /// Tasks that end with these changes, as they were: they held something until now. One that is taken off its node
    /// is not among them: its container still stops, and what it holds is free when the node says that it has.
    pub(super) fn ended_tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter_map(|(id, write)| {
            let before = self.base.task(id)?;
            let after = write.task()?;
            (!has_ended(before) && has_ended(after) && !is_taken_off(after)).then_some(before.as_ref())
        })
    }

    pub(super) fn into_changes(self) -> Vec<Change> {
        let services = self.services.into_iter().map(|(id, write)| match write {
            ServiceWrite::Update(service) => Change::UpdateService(Arc::unwrap_or_clone(service)),
            ServiceWrite::Remove { version } => Change::RemoveService { id, version },
        });
        let tasks = self.tasks.into_iter().map(|(id, write)| match write {
            TaskWrite::Create(task) => Change::CreateTask(Arc::unwrap_or_clone(task)),
            TaskWrite::Update(task) => Change::UpdateTask(Arc::unwrap_or_clone(task)),
            TaskWrite::Remove { version } => Change::RemoveTask { id, version },
        });
        services.chain(tasks).collect()
    }

    /// The base's tasks where nothing is written, then the written ones that `keep` lets through.
    fn merged<'b>(&'b self, base: Objects<'b, Task>, keep: impl Fn(&Task) -> bool + 'b) -> Objects<'b, Task> {
        let unwritten = base.filter(|task| !self.tasks.contains_key(&task.id));
        let written = self.tasks.values().filter_map(TaskWrite::task).filter(move |task| keep(task));
        Box::new(unwritten.chain(written))
    }
}

fn has_ended(task: &Task) -> bool {
    task.status.as_ref().is_some_and(|status| status.state() > TaskState::Running)
}

/// Only managers that take a task off its node write this state here; a node's own refusal comes as its report.
fn is_taken_off(task: &Task) -> bool {
    !task.node_id.is_empty()
        && task.status.as_ref().is_some_and(|status| status.state() == TaskState::Rejected)
}

impl Snapshot for Draft<'_> {
    fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.base.cluster()
    }

    fn service(&self, id: &str) -> Option<&Arc<Service>> {
        match self.services.get(id) {
            Some(write) => write.service(),
            None => self.base.service(id),
        }
    }

    fn services(&self) -> Objects<'_, Service> {
        let unwritten = self.base.services().filter(|service| !self.services.contains_key(&service.id));
        Box::new(unwritten.chain(self.services.values().filter_map(ServiceWrite::service)))
    }

    fn node(&self, id: &str) -> Option<&Arc<Node>> {
        self.base.node(id)
    }

    fn nodes(&self) -> Objects<'_, Node> {
        self.base.nodes()
    }

    fn task(&self, id: &str) -> Option<&Arc<Task>> {
        match self.tasks.get(id) {
            Some(write) => write.task(),
            None => self.base.task(id),
        }
    }

    fn tasks(&self) -> Objects<'_, Task> {
        self.merged(self.base.tasks(), |_| true)
    }

    fn waiting_tasks(&self) -> Objects<'_, Task> {
        self.merged(self.base.waiting_tasks(), is_waiting)
    }

    fn tasks_of_service<'a>(&'a self, service: &'a str) -> Objects<'a, Task> {
        self.merged(self.base.tasks_of_service(service), move |task| task.service_id == service)
    }

    fn tasks_of_node<'a>(&'a self, node: &'a str) -> Objects<'a, Task> {
        self.merged(self.base.tasks_of_node(node), move |task| task.node_id == node)
    }

    fn network(&self, id: &str) -> Option<&Arc<Network>> {
        self.base.network(id)
    }

    fn networks(&self) -> Objects<'_, Network> {
        self.base.networks()
    }
}
