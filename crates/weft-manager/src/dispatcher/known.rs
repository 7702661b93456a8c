//! What a node knows of its tasks and of the files they need, and what it does not know yet.
//!
//! Invariants: applied in order, what was sent equals the node's tasks as of some view; a secret or config reaches a
//! node before the first task that needs it, and is taken away when no task there does. A task that ended needs none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_wire::swarmkit::assignment::Item;
use weft_wire::swarmkit::assignment_change::AssignmentAction;
use weft_wire::swarmkit::task_spec::Runtime;
use weft_wire::swarmkit::{
    Annotations, Assignment, AssignmentChange, Config, ConfigSpec, Meta, ResourceType, Secret, SecretSpec,
    Task, TaskSpec, TaskState, TaskStatus, Version,
};

use crate::store::View;

/// Everything sent so far.
#[derive(Default)]
pub(super) struct Known {
    tasks: BTreeMap<String, Arc<Task>>,
    secrets: BTreeSet<String>,
    configs: BTreeSet<String>,
}

/// The files of tasks, by id.
#[derive(Default)]
struct Needs {
    secrets: BTreeSet<String>,
    configs: BTreeSet<String>,
}

impl Known {
    /// What the node does not know yet, at most `limit` of it; counts as sent.
    pub(super) fn changes(&mut self, view: &View, node_id: &str, limit: usize) -> Vec<AssignmentChange> {
        let wanted: BTreeMap<&str, &Arc<Task>> = view
            .tasks_of_node(node_id)
            .filter(|task| is_for_node(task))
            .map(|task| (task.id.as_str(), task))
            .collect();
        let needs = Needs::of(wanted.values().map(|task| task.as_ref()));
        let mut changes = Vec::new();
        self.add_files(view, &needs, limit, &mut changes);
        self.add_tasks(&wanted, limit, &mut changes);
        self.drop_files(&needs, limit, &mut changes);
        changes
    }

    fn add_files(&mut self, view: &View, needs: &Needs, limit: usize, changes: &mut Vec<AssignmentChange>) {
        for id in needs.secrets.difference(&self.secrets.clone()).take(room(limit, changes)) {
            // One that is gone is missed by the task, which says so.
            if let Some(secret) = view.secret(id) {
                changes.push(change(Item::Secret(Secret::clone(secret)), AssignmentAction::Update));
                self.secrets.insert(id.clone());
            }
        }
        for id in needs.configs.difference(&self.configs.clone()).take(room(limit, changes)) {
            if let Some(config) = view.config(id) {
                changes.push(change(Item::Config(Config::clone(config)), AssignmentAction::Update));
                self.configs.insert(id.clone());
            }
        }
    }

    fn add_tasks(
        &mut self,
        wanted: &BTreeMap<&str, &Arc<Task>>,
        limit: usize,
        changes: &mut Vec<AssignmentChange>,
    ) {
        for (id, task) in wanted {
            if changes.len() >= limit {
                return;
            }
            let sent = self.tasks.get(*id);
            if sent.is_some_and(|sent| Arc::ptr_eq(sent, task)) {
                continue;
            }
            if sent.is_none_or(|sent| differs(sent, task)) {
                changes.push(change(Item::Task(Task::clone(task)), AssignmentAction::Update));
            }
            self.tasks.insert((*id).to_owned(), Arc::clone(task));
        }
        let gone: Vec<String> =
            self.tasks.keys().filter(|id| !wanted.contains_key(id.as_str())).cloned().collect();
        for id in gone.into_iter().take(room(limit, changes)) {
            self.tasks.remove(&id);
            changes.push(change(Item::Task(id_only(id)), AssignmentAction::Remove));
        }
    }

    fn drop_files(&mut self, needs: &Needs, limit: usize, changes: &mut Vec<AssignmentChange>) {
        let gone: Vec<String> = self.secrets.difference(&needs.secrets).cloned().collect();
        for id in gone.into_iter().take(room(limit, changes)) {
            self.secrets.remove(&id);
            let secret =
                Secret { id, meta: empty_meta(), spec: Some(SecretSpec::default()), ..Default::default() };
            changes.push(change(Item::Secret(secret), AssignmentAction::Remove));
        }
        let gone: Vec<String> = self.configs.difference(&needs.configs).cloned().collect();
        for id in gone.into_iter().take(room(limit, changes)) {
            self.configs.remove(&id);
            let config = Config { id, meta: empty_meta(), spec: Some(ConfigSpec::default()) };
            changes.push(change(Item::Config(config), AssignmentAction::Remove));
        }
    }
}

impl Needs {
    fn of<'a>(tasks: impl Iterator<Item = &'a Task>) -> Self {
        let mut needs = Self::default();
        for task in tasks.filter(|task| state(task) <= TaskState::Running) {
            let Some(spec) = &task.spec else { continue };
            for reference in &spec.resource_references {
                match reference.resource_type() {
                    ResourceType::Secret => drop(needs.secrets.insert(reference.resource_id.clone())),
                    ResourceType::Config => drop(needs.configs.insert(reference.resource_id.clone())),
                    _ => {}
                }
            }
            let Some(Runtime::Container(container)) = &spec.runtime else { continue };
            needs.secrets.extend(container.secrets.iter().map(|reference| reference.secret_id.clone()));
            needs.configs.extend(container.configs.iter().map(|reference| reference.config_id.clone()));
        }
        needs
    }
}

fn room(limit: usize, changes: &[AssignmentChange]) -> usize {
    limit.saturating_sub(changes.len())
}

fn state(task: &Task) -> TaskState {
    task.status.as_ref().map_or(TaskState::New, TaskStatus::state)
}

/// Nodes hear of a task once it is theirs.
fn is_for_node(task: &Task) -> bool {
    (TaskState::Assigned..TaskState::Orphaned).contains(&state(task))
}

/// Whether a node needs to hear of a change: its own words are not repeated to it.
fn differs(sent: &Task, now: &Task) -> bool {
    let stable = |task: &Task| Task { status: None, meta: None, ..task.clone() };
    stable(sent) != stable(now)
}

fn change(item: Item, action: AssignmentAction) -> AssignmentChange {
    AssignmentChange { assignment: Some(Assignment { item: Some(item) }), action: action.into() }
}

fn empty_meta() -> Option<Meta> {
    Some(Meta { version: Some(Version::default()), ..Default::default() })
}

/// A removal names the task only; the parts that SwarmKit always writes are there and empty.
fn id_only(id: String) -> Task {
    Task {
        id,
        meta: empty_meta(),
        spec: Some(TaskSpec::default()),
        annotations: Some(Annotations::default()),
        service_annotations: Some(Annotations::default()),
        status: Some(TaskStatus::default()),
        ..Default::default()
    }
}
